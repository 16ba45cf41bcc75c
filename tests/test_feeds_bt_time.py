"""The crossing between UTC milliseconds and Backtrader's day numbers, against Backtrader's own functions."""

from __future__ import annotations

from datetime import datetime, timedelta

import backtrader as bt
import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from made_files import MINUTE_MS, NEW_YEAR_MS

from feeds.bt_time import from_backtrader, to_backtrader, to_backtrader_array

EPOCH = datetime(1970, 1, 1)  # naive, as Backtrader's own clock
times = st.integers(0, 4_102_444_800_000)  # 1970 to 2100
minutes = st.integers(0, 4_102_444_800_000 // MINUTE_MS).map(lambda count: count * MINUTE_MS)


@given(times)
@example(NEW_YEAR_MS)
@example(NEW_YEAR_MS + 299_999)
def test_a_day_number_is_the_one_backtrader_gives_bit_for_bit(time_ms: int) -> None:
    assert to_backtrader(time_ms) == bt.date2num(EPOCH + timedelta(milliseconds=time_ms))


@given(times)
def test_a_day_number_comes_back_as_the_same_millisecond(time_ms: int) -> None:
    assert from_backtrader(to_backtrader(time_ms)) == time_ms


@given(st.lists(minutes, max_size=20))
def test_an_array_of_whole_minutes_converts_like_each_of_them(values: list[int]) -> None:
    assert to_backtrader_array(np.array(values, dtype=np.int64)).tolist() == [to_backtrader(v) for v in values]


@given(st.integers(0, 30_000_000), st.sampled_from([1, 5, 60, 1_440]), st.sets(st.integers(0, 12), min_size=1))
@example(0, 5, {1, 3, 4, 7})  # its first step and its span are those of evenly spaced times
def test_candles_with_holes_convert_like_each_of_them(start: int, length: int, places: set[int]) -> None:
    values = [MINUTE_MS * length * (start + place) for place in sorted(places)]
    assert to_backtrader_array(np.array(values, dtype=np.int64)).tolist() == [to_backtrader(v) for v in values]


def test_every_minute_of_a_day_converts_like_backtrader() -> None:
    day = NEW_YEAR_MS + MINUTE_MS * np.arange(1_440)
    expected = [bt.date2num(datetime(2025, 1, 1) + timedelta(minutes=minute)) for minute in range(1_440)]
    assert to_backtrader_array(day).tolist() == expected


def test_backtrader_reads_the_number_as_naive_utc() -> None:
    assert bt.num2date(to_backtrader(NEW_YEAR_MS)) == datetime(2025, 1, 1)
