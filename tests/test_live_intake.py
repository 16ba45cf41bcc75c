"""What is read at the start of a live run, when candles are due, and which holes are counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest
from live_kit import FIVE_MINUTES_MS, START_MS

from feeds.live_window import CandleWindow, silent_columns
from smm_bt.app.candle_intake import Barrier, CandleIntake
from smm_bt.execution.live_candles import LiveCandles
from smm_bt.execution.venue_rows import Kline


class Venue:
    """Answers kline requests out of the open times it has, as the venue does; remembers what was asked."""

    def __init__(self, open_ms: list[int], length_ms: int = FIVE_MINUTES_MS, most: int = 1000) -> None:
        self._open_ms, self._length_ms, self._most = open_ms, length_ms, most
        self.wire = self
        self.asked: list[Mapping[str, Any]] = []

    def read(self, endpoint: str, params: Mapping[str, Any], weight: int) -> list[list[Any]]:
        self.asked.append(params)
        limit = min(params["limit"], self._most)
        known = [t for t in self._open_ms if t <= params.get("endTime", t) and t >= params.get("startTime", 0)]
        page = known[:limit] if "startTime" in params else known[-limit:]
        return [[time, "1", "1", "1", "1", "1", time + self._length_ms - 1] for time in page]


def at(*numbers: int) -> list[int]:
    return [START_MS + number * FIVE_MINUTES_MS for number in numbers]


def intake(
    venue: Venue, symbols: tuple[str, ...] = ("BTCUSDT",), timeframe: str = "5m", said: list[str] | None = None
) -> CandleIntake:
    windows = {symbol: CandleWindow(50, lambda frame: silent_columns(len(frame))) for symbol in symbols}
    source, unused = LiveCandles([venue], timeframe), cast("Any", None)  # type: ignore[list-item]
    told = said if said is not None else []

    def tell(kind: str, message: str, symbol: str = "", **more: object) -> None:
        told.append(f"{kind} {message}")

    return CandleIntake(source, unused, windows, unused, Barrier(tries=3), lambda open_ms: True, tell)


def standings(of: CandleIntake, symbol: str = "BTCUSDT") -> list[tuple[int, str]]:
    return [((row.candle[0] - START_MS) // FIVE_MINUTES_MS, str(row.standing)) for row in of.queues[symbol]]


def test_the_history_is_as_many_candles_as_wanted_however_many_holes_it_has() -> None:
    venue = Venue(at(*range(30), *range(500, 520)))
    begun = intake(venue)
    begun.begin(at(520)[0], {}, 45, ())
    assert [number for number, _ in standings(begun)] == [*range(5, 30), *range(500, 520)]
    assert len(venue.asked) == 1


@pytest.mark.parametrize(("most", "requests"), [(1000, 2), (400, 4)])
def test_a_long_history_is_read_in_few_pages_and_ends_where_the_venue_has_no_more(most: int, requests: int) -> None:
    venue = Venue(at(*range(2000)), most=most)
    source = LiveCandles([venue], "5m")  # type: ignore[list-item]
    assert [kline.open_ms for kline in source.latest("BTCUSDT", at(1998)[0], 1500)] == at(*range(499, 1999))
    assert len(venue.asked) == requests
    young = Venue(at(*range(20)))
    assert len(LiveCandles([young], "5m").latest("BTCUSDT", at(30)[0], 1500)) == 20  # type: ignore[list-item]
    assert len(young.asked) == 2


def test_a_run_that_goes_on_has_its_history_before_the_last_candle_it_dealt_with() -> None:
    begun = intake(Venue(at(*range(30), *range(40, 61))))
    begun.begin(at(60)[0], {"BTCUSDT": at(41)[0]}, 5, ())
    expected = [*((number, "warm-up") for number in (27, 28, 29, 40, 41)), *((n, "passed") for n in range(42, 59))]
    assert standings(begun) == [*expected, (59, "fresh")]


def test_a_symbol_without_a_candle_so_far_goes_on_where_the_others_do() -> None:
    begun = intake(Venue(at(*range(11))), ("BTCUSDT", "ETHUSDT"))
    begun.begin(at(10)[0], {"BTCUSDT": at(7)[0]}, 50, ())
    assert standings(begun, "ETHUSDT")[-3:] == [(7, "warm-up"), (8, "passed"), (9, "fresh")]


def released(of: CandleIntake, numbers: list[int]) -> tuple[int, int]:
    count = of.counts["BTCUSDT"]
    for open_ms in at(*numbers):
        count = of.goes_out("BTCUSDT", open_ms)
    return count.gaps, count.missing


def test_holes_are_counted_between_the_candles_of_a_run_wherever_it_was_killed() -> None:
    numbers, said = [10, 11, 15, 16, 20], list[str]()
    whole = intake(Venue(at(*range(5), *numbers)), said=said)
    whole.begin(at(8)[0], {}, 50, ())
    assert released(whole, numbers) == (2, 6)
    assert [line.split()[:2] for line in said] == [["gap", "3"], ["gap", "3"]]
    for killed in range(1, len(numbers)):
        first, second = intake(Venue(at(*numbers))), intake(Venue(at(*numbers)))
        first.begin(at(8)[0], {}, 50, ())
        before = released(first, numbers[:killed])
        second.begin(at(21)[0], {"BTCUSDT": at(numbers[killed - 1])[0]}, 50, ())
        after = released(second, numbers[killed:])
        assert (before[0] + after[0], before[1] + after[1]) == (2, 6)


def test_weekly_candles_are_due_on_mondays() -> None:
    monday, week = 1_735_516_800_000, 604_800_000
    begun = intake(Venue([monday - week, monday], week), timeframe="1w")
    begun.begin(monday + 1000, {}, 10, ())
    assert [row.candle[0] for row in begun.queues["BTCUSDT"]] == [monday - week]
    assert begun.due_ms(monday + week - 1) == monday + week


def test_a_kline_answer_that_ignores_its_end_ends_the_reading() -> None:
    class Deaf(Venue):
        def read(self, endpoint: str, params: Mapping[str, Any], weight: int) -> list[list[Any]]:
            return super().read(endpoint, {**params, "endTime": START_MS * 2}, weight)

    found: list[Kline] = LiveCandles([Deaf(at(*range(2000)))], "5m").latest("BTCUSDT", at(5)[0], 1500)  # type: ignore[list-item]
    assert found == []
