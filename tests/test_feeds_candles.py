"""Candles at the door: what is let in, what is refused and in which words, and how gaps are counted."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_files import DAY_MS, FIVE_MINUTES_MS, HEADER, MINUTE_MS, NEW_YEAR_MS, Row, flat_rows, made_rows

from feeds.candles import CandleError, Candles, Gap, check_candles, iso_utc
from feeds.timeframes import TIMEFRAMES_MS, grid_offset_ms, timeframe_ms

HOUR_MS = 60 * MINUTE_MS


def checked(rows: list[Row], timeframe: str = "5m") -> Candles:
    table = np.array([row[1:] for row in rows], dtype=float).reshape(len(rows), 5)
    columns: dict[str, Any] = dict(zip(HEADER[1:], table.T, strict=True))
    columns["open_ms"] = np.array([row[0] for row in rows], dtype=np.int64)
    return check_candles("BTCUSDT", timeframe, columns, source="made.csv")


def refusal(rows: list[Row], timeframe: str = "5m") -> str:
    with pytest.raises(CandleError) as caught:
        checked(rows, timeframe)
    return str(caught.value)


def changed(row: int, column: str, value: float) -> list[Row]:
    """Four flat candles at 100 with one cell replaced."""
    rows = [list(r) for r in flat_rows(100, 100, 100, 100)]
    rows[row][HEADER.index(column)] = value
    return [tuple(r) for r in rows]


# what is let in


def test_good_candles_are_kept_as_they_are() -> None:
    rows = made_rows(5)
    candles = checked(rows)
    assert len(candles) == 5
    assert candles.open_ms.tolist() == [NEW_YEAR_MS + n * FIVE_MINUTES_MS for n in range(5)]
    assert candles.close.tolist() == [row[4] for row in rows]
    assert candles.volume.tolist() == [10.0, 11.0, 12.0, 13.0, 14.0]
    assert candles.gaps == ()
    assert candles.missing == 0
    assert candles.timeframe_ms == 300_000


def test_two_candles_are_enough() -> None:
    assert len(checked(flat_rows(100, 101))) == 2


def test_a_candle_without_volume_or_movement_is_good() -> None:
    assert checked(changed(1, "volume", 0.0)).volume[1] == 0.0


def test_candles_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        checked(flat_rows(1, 1)).symbol = "ETHUSDT"  # type: ignore[misc]


def test_the_frame_for_compute_smm_has_a_utc_index_of_open_times_and_five_float_columns() -> None:
    frame = checked(made_rows(3)).frame()
    assert list(frame.columns) == ["open", "high", "low", "close", "volume"]
    assert str(frame.index.tz) == "UTC"
    assert frame.index[0] == pd.Timestamp("2025-01-01T00:00:00Z")
    assert frame.index[2] == pd.Timestamp("2025-01-01T00:10:00Z")
    assert set(frame.dtypes) == {np.dtype("float64")}


def test_the_frame_is_a_copy_that_may_be_written_on() -> None:
    candles = checked(made_rows(3))
    before = candles.close.copy()
    frame = candles.frame()
    frame.loc[:, "close"] *= 2
    assert candles.close.tolist() == before.tolist()


# how many


def test_no_candles_are_refused() -> None:
    assert "there are no candles in it" in refusal([])


def test_one_candle_is_refused_and_the_message_says_why() -> None:
    message = refusal(flat_rows(100))
    assert "only one candle (2025-01-01T00:00:00Z)" in message
    assert "at least two" in message


# times


def test_a_duplicate_candle_is_refused_with_its_time_and_row() -> None:
    rows = flat_rows(1, 2, 3)
    message = refusal([rows[0], rows[1], rows[1], rows[2]])
    assert "candle 2025-01-01T00:05:00Z in row 3 stands twice" in message
    assert "remove duplicates" in message


def test_unordered_candles_are_refused_with_the_first_that_is_late() -> None:
    rows = flat_rows(1, 2, 3)
    message = refusal([rows[0], rows[2], rows[1]])
    assert "candle 2025-01-01T00:05:00Z in row 3 stands after a later candle; sort" in message


def test_newest_first_is_refused() -> None:
    assert "sort the candles" in refusal(flat_rows(1, 2, 3)[::-1])


def test_a_candle_off_the_grid_is_refused() -> None:
    rows = [(row[0] + (1_000 if n == 1 else 0), *row[1:]) for n, row in enumerate(flat_rows(1, 2, 3))]
    assert "candle 2025-01-01T00:05:01Z in row 2 does not open on the 5m grid" in refusal(rows)


@pytest.mark.parametrize(("divisor", "unit"), [(1_000, "seconds"), (0.001, "microseconds"), (1e-6, "nanoseconds")])
def test_other_units_than_milliseconds_are_refused(divisor: float, unit: str) -> None:
    rows = [(int(row[0] / divisor), *row[1:]) for row in flat_rows(1, 2, 3)]
    assert "is no date of this century in milliseconds UTC" in refusal(rows), unit


def test_candles_of_a_shorter_timeframe_than_asked_are_refused() -> None:
    message = refusal(made_rows(20), "1h")
    assert "its candles are 5m apart, but the timeframe asked for is 1h" in message


def test_candles_of_a_longer_timeframe_than_asked_are_refused_and_not_taken_for_gaps() -> None:
    message = refusal(made_rows(5, step_ms=HOUR_MS), "5m")
    assert "its candles are 1h apart, but the timeframe asked for is 5m" in message


def test_two_candles_far_apart_may_be_a_gap() -> None:
    assert checked(made_rows(2, step_ms=HOUR_MS)).gaps == (Gap(NEW_YEAR_MS, 11),)


def test_a_spacing_that_is_no_timeframe_is_a_row_of_gaps() -> None:
    assert checked(made_rows(3, step_ms=2 * FIVE_MINUTES_MS)).missing == 2


@pytest.mark.parametrize("timeframe", ["7m", "5M", "3d", "1M", "", "5"])
def test_an_unknown_timeframe_is_refused_with_the_known_ones(timeframe: str) -> None:
    message = refusal(flat_rows(1, 2), timeframe)
    assert f"timeframe {timeframe!r} is not known" in message
    assert "1m, 3m, 5m, 15m, 30m, 1h, 2h, 4h, 6h, 8h, 12h, 1d, 1w" in message


def test_weekly_candles_open_on_mondays() -> None:
    monday = NEW_YEAR_MS + 5 * DAY_MS  # 2025-01-06
    assert pd.Timestamp(monday, unit="ms").day_name() == "Monday"
    assert len(checked(made_rows(3, monday, 7 * DAY_MS), "1w")) == 3
    assert "does not open on the 1w grid" in refusal(made_rows(3, monday + DAY_MS, 7 * DAY_MS), "1w")


@pytest.mark.parametrize("timeframe", [name for name in TIMEFRAMES_MS if name != "1w"])
def test_every_other_timeframe_opens_on_multiples_of_its_length_from_midnight_utc(timeframe: str) -> None:
    assert grid_offset_ms(timeframe) == 0
    assert len(checked(made_rows(3, NEW_YEAR_MS, TIMEFRAMES_MS[timeframe]), timeframe)) == 3


def test_timeframe_lengths_are_what_their_names_say() -> None:
    units = {"m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS, "w": 7 * DAY_MS}
    for name in TIMEFRAMES_MS:
        assert timeframe_ms(name) == int(name[:-1]) * units[name[-1]]


def test_an_unknown_timeframe_has_no_length() -> None:
    with pytest.raises(KeyError):
        timeframe_ms("7m")


# values


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", HEADER[1:])
def test_a_value_that_is_not_finite_is_refused(column: str, value: float) -> None:
    message = refusal(changed(2, column, value))
    assert f"{column} is not a finite number ({value!s}) at candle 2025-01-01T00:10:00Z, row 3" in message


def test_further_bad_rows_are_counted() -> None:
    rows = [(*row[:4], float("nan"), row[5]) if n else row for n, row in enumerate(flat_rows(1, 1, 1, 1))]
    assert "row 2 (and 2 more)" in refusal(rows)


@pytest.mark.parametrize("value", [0.0, -1.0])
@pytest.mark.parametrize("column", ["open", "high", "low", "close"])
def test_a_price_that_is_not_positive_is_refused(column: str, value: float) -> None:
    assert f"{column} is not positive" in refusal(changed(1, column, value))


def test_a_negative_volume_is_refused() -> None:
    assert "volume is negative (-1.0)" in refusal(changed(1, "volume", -1.0))


@pytest.mark.parametrize("column", ["open", "close"])
def test_a_high_below_another_price_is_refused(column: str) -> None:
    assert "high is below open, low or close (100.0)" in refusal(changed(1, column, 100.5))


@pytest.mark.parametrize("column", ["open", "close"])
def test_a_low_above_another_price_is_refused(column: str) -> None:
    assert "low is above open or close (100.0)" in refusal(changed(1, column, 99.5))


def test_a_low_above_the_high_is_refused() -> None:
    assert "high is below open, low or close" in refusal(changed(1, "low", 101.0))


def test_every_message_names_the_source_and_is_at_most_two_sentences() -> None:
    for rows in ([], flat_rows(1), flat_rows(1, 2)[::-1], changed(1, "open", -1.0), changed(1, "volume", np.nan)):
        message = refusal(rows)
        assert message.startswith("made.csv: ")
        assert message.endswith((".", "needed."))
        assert "\n" not in message


# gaps


def test_gaps_are_counted_and_never_filled() -> None:
    rows = made_rows(20)
    kept = [row for n, row in enumerate(rows) if n not in (3, 10, 11, 12)]
    candles = checked(kept)
    assert len(candles) == 16
    assert candles.gaps == (Gap(rows[2][0], 1), Gap(rows[9][0], 3))
    assert candles.missing == 4


@given(st.sets(st.integers(0, 60), min_size=2))
def test_candles_and_missing_ones_together_fill_the_range(places: set[int]) -> None:
    first, last = min(places), max(places)
    # One step of one candle keeps the smallest spacing at the timeframe itself.
    rows = [row for n, row in enumerate(made_rows(last + 2)) if n in places or n == last + 1]
    candles = checked(rows)
    assert len(candles) + candles.missing == last + 2 - first


# parts


def test_between_takes_the_start_and_leaves_out_the_end() -> None:
    candles = checked(made_rows(10))
    part = candles.between(NEW_YEAR_MS + 2 * FIVE_MINUTES_MS, NEW_YEAR_MS + 5 * FIVE_MINUTES_MS)
    assert part.open_ms.tolist() == [NEW_YEAR_MS + n * FIVE_MINUTES_MS for n in (2, 3, 4)]
    assert part.close.tolist() == candles.close[2:5].tolist()


def test_between_rounds_up_to_the_next_candle_and_an_open_end_keeps_all() -> None:
    candles = checked(made_rows(10))
    assert len(candles.between(NEW_YEAR_MS + 1, None)) == 9
    assert len(candles.between(None, NEW_YEAR_MS + 1)) == 1
    assert len(candles.between(None, None)) == 10
    assert len(candles.between(NEW_YEAR_MS + DAY_MS, None)) == 0


def test_between_counts_only_the_gaps_inside() -> None:
    candles = checked([row for n, row in enumerate(made_rows(20)) if n not in (3, 15)])
    assert candles.between(NEW_YEAR_MS + 5 * FIVE_MINUTES_MS, None).missing == 1


# times for people


def test_times_for_people_are_utc_with_z_and_milliseconds_only_where_there_are_any() -> None:
    assert iso_utc(NEW_YEAR_MS) == "2025-01-01T00:00:00Z"
    assert iso_utc(NEW_YEAR_MS + 299_999) == "2025-01-01T00:04:59.999Z"


@given(st.integers(1_000_000_000_000, 4_102_444_800_000))
def test_times_for_people_read_back_exactly(time_ms: int) -> None:
    assert pd.Timestamp(iso_utc(time_ms)).value == time_ms * 1_000_000
