"""Whether funding rates cover the candles they are given for: refused where they cover none, said where they end."""

from __future__ import annotations

import numpy as np

from feeds.candles import Candles, iso_utc
from feeds.files import FundingRates
from feeds.timeframes import DAY_MS
from smm_bt.errors import UsageError


def uncovered_sentences(candles: Candles, rates: FundingRates, file_name: str) -> list[str]:
    """Return a sentence for each part of the candles' range, longer than a day, that has no funding rate.

    Settlements are one to eight hours apart, so a day without one is a hole in the file.

    Raises:
        UsageError: the rates begin after the last candle or end before the first.
    """
    begin, end = int(candles.open_ms[0]), int(candles.open_ms[-1]) + candles.timeframe_ms
    first, last = int(rates.time_ms[0]), int(rates.time_ms[-1])
    if first >= end or last < begin:
        raise UsageError(
            f"--funding {file_name}: its rates are from {iso_utc(first)} to {iso_utc(last)}, and the candles of "
            f"{candles.symbol} from {iso_utc(begin)} to {iso_utc(end)}; give rates of that range, or leave it out."
        )
    inside = rates.time_ms[(rates.time_ms >= begin) & (rates.time_ms < end)]
    points = [begin, *inside.tolist(), end]
    holes = np.flatnonzero(np.diff(points) > DAY_MS).tolist()
    return [_sentence(candles.symbol, file_name, points[hole], points[hole + 1]) for hole in holes]


def _sentence(symbol: str, file_name: str, begin_ms: int, end_ms: int) -> str:
    days = (end_ms - begin_ms) / DAY_MS
    return (
        f"{file_name} has no funding rate between {iso_utc(begin_ms)} and {iso_utc(end_ms)} ({days:.1f} days): holding "
        f"a position in {symbol} cost and earned nothing there."
    )
