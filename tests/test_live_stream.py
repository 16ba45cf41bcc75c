"""Candles told by the venue's websocket: taken at once, held against REST, and never the reason for another trade."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_kit import FIVE_MINUTES_MS, START_MS, rows_of, run_live, run_replay, trades_of

from feeds.candles import check_candles
from feeds.made import write_candles
from smm_bt.app.live_market_source import MarketSource
from smm_bt.app.streamed_candles import NoStream, StreamedCandles
from smm_bt.emulator import EmulatorConfig, EmulatorThread
from smm_bt.emulator.faults import FaultRule
from smm_bt.execution.host_clock import SystemClock
from smm_bt.execution.kline_stream import StreamedKline, StreamNews, closed_kline
from smm_bt.execution.live_candles import NewCandles
from smm_bt.execution.venue_rows import Kline

#: A candle takes a second and a half; the strategy is silent at first, while the runs start, and where one is resumed.
SPEED, COUNT, SILENT = 200.0, 24, (*range(10), 15, 16, 17, 18, 23)
LIE_AT = 13
STREAM, MESSAGES, KLINES = "/market/stream", "/market/kline", "/fapi/v1/klines"
WIDE: dict[str, Any] = {"control": True, "weight_limit_1m": 0, "order_limit_10s": 0, "order_limit_1m": 0}

#: Signals by the last two closes; what it is given, the newest three candles, is written down.
STRATEGY = f"""
import json

def compute_smm(df):
    number = (df.index.as_unit("ms").asi8 - {START_MS}) // {FIVE_MINUTES_MS}
    with open(__file__ + ".seen", "a") as file:
        file.write(json.dumps([number[-3:].tolist(), df.tail(3).to_numpy().tolist()]) + "\\n")
    awake = ~df.index.isin(df.index[[n in {SILENT} for n in number]])
    change = df["close"].diff()
    df["buy_signal"], df["sell_signal"] = awake & (change > 0), awake & (change < 0)
    df["profit_target_hit"] = awake & (change.abs() > 150)
    return df
"""


@dataclass(frozen=True)
class Variant:
    """One way the stream can be, and how the run goes with it."""

    faults: tuple[FaultRule, ...] = ()
    lies: bool = False
    pause_at: int | None = None
    rest_is_down: tuple[float, float] | None = None


VARIANTS = {
    "as it should be": Variant(),
    "refused by the venue": Variant((FaultRule("http", "GET", STREAM, status=404, count=None),)),
    "cut now and then": Variant(tuple(FaultRule("drop", "WS", MESSAGES, skip=30 + 37 * n) for n in range(3))),
    "every second message lost": Variant((FaultRule("lose", "WS", MESSAGES, count=None, probability=0.5),)),
    "every message twice": Variant((FaultRule("repeat", "WS", MESSAGES, count=None),)),
    "beside a REST that is slow": Variant((FaultRule("delay", "GET", KLINES, count=None, delay_ms=600),)),
    "stopped and resumed": Variant(pause_at=16),
    "going on while REST is down": Variant(rest_is_down=(15.3, 16.6)),
    "wrong once": Variant(lies=True),
}


def flat_candles(path: Path) -> Path:
    """Within each candle the price stands, so that a fill does not depend on the millisecond it happens in."""
    close = 60_000 + np.cumsum(np.random.default_rng(7).integers(-20, 21, COUNT) * 10.0)
    times = START_MS + FIVE_MINUTES_MS * np.arange(COUNT)
    values = dict.fromkeys(("open", "high", "low", "close"), close)
    write_candles(check_candles("BTCUSDT", "5m", {"open_ms": times, **values, "volume": np.arange(COUNT) + 1.0}), path)
    return path


def lie(venue: EmulatorThread) -> None:
    """Let the venue's stream give one candle another close."""
    hub: Any = venue._server._hub
    tell = hub._market_messages

    def told(name: str, event: Any) -> Iterator[Any]:
        for message in tell(name, event):
            if message["k"]["t"] == START_MS + LIE_AT * FIVE_MINUTES_MS:
                message["k"]["c"] = "61234.5"
            yield message

    hub._market_messages = told


def take_rest_down(venue: EmulatorThread, numbers: tuple[float, float]) -> None:
    """Let no request through between two moments, counted in candles; the websocket stays."""
    for number, act in zip(
        numbers,
        (lambda: venue.add_fault(FaultRule("reset", "GET", "/fapi/*", count=None)), venue.clear_faults),
        strict=True,
    ):
        while venue.status()["now_ms"] < START_MS + number * FIVE_MINUTES_MS:
            time.sleep(0.05)
        act()


@dataclass
class Outcome:
    """What a run left behind."""

    folder: Path
    seen: list[tuple[list[int], list[list[float]]]]
    requests: list[dict[str, Any]] = field(default_factory=list)

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [json.loads(row[0]) for row in rows_of(self.folder, f"SELECT data FROM events WHERE kind = '{kind}'")]


def play(name: str, folder: Path, candles: Path) -> Outcome:
    variant = VARIANTS[name]
    folder.mkdir()
    strategy = folder / "last_two.py"
    strategy.write_text(STRATEGY, "utf-8")
    config = EmulatorConfig(candles=(candles,), start_ms=START_MS, speed=SPEED, faults=variant.faults, **WIDE)
    with EmulatorThread(config) as venue:
        if variant.lies:
            lie(venue)
        options: dict[str, Any] = {"speed": SPEED, "address": venue.url}
        if variant.pause_at is not None:
            until_ms = START_MS + variant.pause_at * FIVE_MINUTES_MS
            run_live(folder / "run", strategy, [candles], until_ms=until_ms, **options)
            options["resume"] = True
        outage = threading.Thread(target=take_rest_down, args=(venue, variant.rest_is_down))
        if variant.rest_is_down is not None:
            outage.start()
        run_live(folder / "run", strategy, [candles], **options)
        requests = list(venue._server.request_log)
    seen = [json.loads(line) for line in Path(f"{strategy}.seen").read_text().splitlines()]
    return Outcome(folder / "run", seen, requests)


def without_milliseconds(trades: list[dict[str, str]]) -> list[dict[str, str]]:
    """Trades with times cut to the candle they happened in: replay fills at its first moment, live a bit later."""
    import pandas as pd

    def cut(text: str) -> str:
        return str(pd.Timestamp(text).floor("5min"))

    return [row | {"entry_time": cut(row["entry_time"]), "exit_time": cut(row["exit_time"])} for row in trades]


def delays_ms(outcome: Outcome) -> list[float]:
    """How long after the close, by the machine's clock, each fill happened."""
    times = [row[0] for row in rows_of(outcome.folder, "SELECT time_ms FROM fills")]
    return [time_ms % FIVE_MINUTES_MS / SPEED for time_ms in times]


@pytest.mark.slow
def test_the_stream_changes_no_trade_whatever_happens_to_it(tmp_path: Path) -> None:
    candles = flat_candles(tmp_path / "BTCUSDT-5m.csv")
    reference = tmp_path / "last_two.py"
    reference.write_text(STRATEGY, "utf-8")
    expected = without_milliseconds(run_replay(tmp_path / "replay", reference, [candles]))
    assert len(expected) >= 4
    with ThreadPoolExecutor(len(VARIANTS)) as pool:
        runs = {name: pool.submit(play, name, tmp_path / f"v{n}", candles) for n, name in enumerate(VARIANTS)}
        outcomes = {name: run.result() for name, run in runs.items()}
    told_wrong = outcomes.pop("wrong once")
    for name, outcome in outcomes.items():
        assert without_milliseconds(trades_of(outcome.folder)) == expected, name
        check_columns(outcome, candles, name)
        assert outcome.events("candle_differs") == [], name
    check_what_was_said(outcomes)
    check_speed_and_weight(outcomes)
    check_the_lie(told_wrong, candles)


def check_columns(outcome: Outcome, candles: Path, name: str) -> None:
    """What compute_smm() was given are the file's candles, all of them and in order."""
    stored = np.loadtxt(candles, delimiter=",", skiprows=1)[:, 1:6]
    for numbers, rows in outcome.seen:
        assert numbers == list(range(numbers[0], numbers[-1] + 1)), name
        assert rows == stored[numbers].tolist(), name
    last = [numbers[-1] for numbers, _ in outcome.seen]
    assert last == sorted(last), name
    assert {number for numbers, _ in outcome.seen for number in numbers} == set(range(COUNT)), name


def check_what_was_said(outcomes: dict[str, Outcome]) -> None:
    refused, cut = outcomes["refused by the venue"], outcomes["cut now and then"]
    assert len(refused.events("stream_unavailable")) == 1
    assert refused.events("stream_connected") == []
    assert len(cut.events("stream_lost")) == 3
    assert len(cut.events("stream_connected")) == 4
    for name, outcome in outcomes.items():
        lost = int(VARIANTS[name].rest_is_down is not None)
        assert len(outcome.events("connection_lost")) == len(outcome.events("connection_restored")) == lost, name


def check_speed_and_weight(outcomes: dict[str, Outcome]) -> None:
    """A slow REST does not delay what the stream tells, and the stream costs no further requests."""
    assert statistics.median(delays_ms(outcomes["beside a REST that is slow"])) < 350
    for name in ("as it should be", "refused by the venue"):
        paths = [row["path"] for row in before_the_last_candle(outcomes[name].requests)]
        assert paths.count(KLINES) <= COUNT + 4, name
        assert paths.count("/fapi/v1/time") <= COUNT + 6, name


def before_the_last_candle(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The candle after the last one never comes, so that the last one is asked for until patience ends."""
    last = [str(START_MS + number * FIVE_MINUTES_MS) for number in (COUNT - 2, COUNT - 1)]
    asked = [row["host_ms"] for row in requests if row["parameters"].get("startTime") == last[1]]
    return [row for row in requests if row["host_ms"] < asked[0]]


def check_the_lie(outcome: Outcome, candles: Path) -> None:
    """The candle is told to be different, with both values; afterwards REST's is in the window."""
    stored = np.loadtxt(candles, delimiter=",", skiprows=1)[:, 1:6]
    (event,) = outcome.events("candle_differs")
    assert event["open_ms"] == START_MS + LIE_AT * FIVE_MINUTES_MS
    assert event["rest"] == stored[LIE_AT].tolist()
    assert event["stream"] == [*stored[LIE_AT][:3].tolist(), 61234.5, stored[LIE_AT][4]]
    by_last = {numbers[-1]: dict(zip(numbers, rows, strict=True)) for numbers, rows in outcome.seen}
    assert by_last[LIE_AT][LIE_AT][3] == 61234.5
    for later in (LIE_AT + 1, LIE_AT + 2):
        assert by_last[later][LIE_AT] == stored[LIE_AT].tolist()
        assert by_last[later][later] == stored[later].tolist()


# ---- one message


def message(**changes: Any) -> str:
    """What the venue's documentation shows of a combined candle stream, the candle closed."""
    k = {"t": 1638747660000, "T": 1638747719999, "s": "BTCUSDT", "i": "1m", "f": 100, "L": 200, "o": "0.0010"}
    k |= {"c": "0.0020", "h": "0.0025", "l": "0.0015", "v": "1000", "n": 100, "x": True, "q": "1.0000", "B": "123456"}
    data = {"e": "kline", "E": 1638747720012, "s": "BTCUSDT", "k": k}
    for name, value in changes.items():
        (data if name in ("e", "E") else k)[name] = value
    return json.dumps({"stream": "btcusdt@kline_1m", "data": data})


def test_a_closed_candle_is_read_with_all_its_values() -> None:
    assert closed_kline(message(), "1m") == ("BTCUSDT", Kline(1638747660000, 0.001, 0.0025, 0.0015, 0.002, 1000.0))


@pytest.mark.parametrize(
    "text",
    [
        message(x=False),
        message(x="true"),
        message(x=1),
        message(i="5m"),
        message(e="continuous_kline"),
        message(T=1638747720000),
        message(E=1638747719998),  # called closed before it could be
        message(c="abc", n=True),
        message(c="NaN"),
        message(h="inf"),
        message(o=None),
        message(t="x"),
        '{"result":true,"id":1}',
        "[true]",
        "true",
        '{"stream":"x","data":{"k":true}}',
        "true" + "[" * 5000,
        message()[:-3],
    ],
)
def test_what_is_not_a_closed_candle_is_passed_over(text: str) -> None:
    assert closed_kline(text, "1m") is None


# ---- when a candle of the stream may be taken


class Told:
    """A stream that tells what it is given, on the connection it is said to be."""

    def __init__(self) -> None:
        self.candles: dict[str, StreamedKline] = {}
        self.connection = 1
        self.waits: list[float] = []

    def start(self) -> None: ...

    def close(self) -> None: ...

    def newest(self, symbol: str) -> StreamedKline | None:
        return self.candles.get(symbol)

    def hearing(self, symbol: str) -> int:
        return self.connection

    def wait(self, ready: Any, seconds: float) -> bool:
        self.waits.append(seconds)
        return bool(ready())

    def news(self) -> list[StreamNews]:
        return []

    def tell(self, number: int, close: float = 100.0) -> Kline:
        kline = candle(number, close)
        self.candles["BTCUSDT"] = StreamedKline(kline, self.connection)
        return kline


def candle(number: int, close: float = 100.0) -> Kline:
    return Kline(START_MS + number * FIVE_MINUTES_MS, 100.0, 110.0, 90.0, close, 1.0)


def closed_at(number: int) -> int:
    return START_MS + (number + 1) * FIVE_MINUTES_MS


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def said() -> list[tuple[Any, ...]]:
    return []


@pytest.fixture
def streamed(told: Told, said: list[Any]) -> StreamedCandles:
    return StreamedCandles(
        told, SystemClock(), FIVE_MINUTES_MS, 1.0, lambda kind, message, symbol="", **data: said.append((kind, symbol))
    )


def may_be_taken(streamed: StreamedCandles, number: int) -> bool:
    due = {"BTCUSDT": START_MS + number * FIVE_MINUTES_MS}
    return streamed.wait(due, closed_at(number)) and "BTCUSDT" in streamed.ready(due, closed_at(number))


def read(streamed: StreamedCandles, *klines: Kline) -> Any:
    correction = streamed.learn("BTCUSDT", NewCandles(list(klines), settled=True))
    streamed.acquaint()
    return correction


def test_a_stream_is_believed_once_it_has_told_what_rest_tells(told: Told, streamed: StreamedCandles) -> None:
    first = told.tell(0)
    assert not may_be_taken(streamed, 0)
    read(streamed, first)
    told.tell(1)
    assert may_be_taken(streamed, 1)
    assert not may_be_taken(streamed, 2)  # it has not told that one


def test_a_stream_of_another_market_is_never_believed_and_spoken_of_once(
    told: Told, streamed: StreamedCandles, said: list[Any]
) -> None:
    for number in range(5):
        told.tell(number, close=105.0)
        assert not may_be_taken(streamed, number)
        assert read(streamed, candle(number)) is None
    assert said == [("candle_differs", "BTCUSDT")]


def test_nothing_is_taken_while_an_earlier_candle_is_unconfirmed(told: Told, streamed: StreamedCandles) -> None:
    read(streamed, told.tell(0))
    one = told.tell(1)
    streamed.taken({"BTCUSDT": one})
    two = told.tell(2)
    assert not may_be_taken(streamed, 2)
    assert streamed.asked_ms("BTCUSDT", two.open_ms) == one.open_ms
    assert read(streamed, one, two) is None
    told.tell(3)
    assert may_be_taken(streamed, 3)


def test_a_symbol_that_came_late_is_not_waited_for_until_it_has_agreed_with_rest_again(
    told: Told, streamed: StreamedCandles
) -> None:
    read(streamed, told.tell(0))
    assert not may_be_taken(streamed, 1)
    told.waits.clear()
    assert not may_be_taken(streamed, 2)
    assert told.waits == []
    read(streamed, told.tell(2))
    assert not may_be_taken(streamed, 3)
    assert told.waits == [0.5]


def test_a_new_connection_has_to_agree_with_rest_first(told: Told, streamed: StreamedCandles) -> None:
    read(streamed, told.tell(0))
    told.connection = 2
    one = told.tell(1)
    assert not may_be_taken(streamed, 1)
    read(streamed, one)
    told.tell(2)
    assert may_be_taken(streamed, 2)


def test_a_candle_is_not_taken_when_more_than_one_is_missing(told: Told, streamed: StreamedCandles) -> None:
    read(streamed, told.tell(0))
    told.tell(1)
    due = {"BTCUSDT": candle(1).open_ms}
    assert not streamed.ready(due, closed_at(2))
    told.tell(2)
    assert not streamed.ready(due, closed_at(2))


def test_a_candle_rest_does_not_know_is_taken_out_again(told: Told, streamed: StreamedCandles, said: list[Any]) -> None:
    read(streamed, told.tell(0))
    streamed.taken({"BTCUSDT": told.tell(1)})
    assert read(streamed, candle(2)) == (candle(1).open_ms, None)
    assert said == [("candle_differs", "BTCUSDT")]


def test_stepped_and_very_fast_markets_are_read_only() -> None:
    for speed in (float("inf"), 1500.0):
        source = MarketSource("made", None, speed, SystemClock())
        assert isinstance(source.stream(["BTCUSDT"], "5m"), NoStream)
