"""Timeframe names of the venue, their length, and the grid their candles open on."""

from __future__ import annotations

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

#: Length in milliseconds of every supported candle interval. The venue's 3d and 1M have no fixed grid and are left out.
TIMEFRAMES_MS = {
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "2h": 2 * HOUR_MS,
    "4h": 4 * HOUR_MS,
    "6h": 6 * HOUR_MS,
    "8h": 8 * HOUR_MS,
    "12h": 12 * HOUR_MS,
    "1d": DAY_MS,
    "1w": 7 * DAY_MS,
}

#: 1970-01-05 was the first Monday of the epoch: weekly candles open on Mondays, others on multiples of their length.
_FIRST_MONDAY_MS = 4 * DAY_MS


def timeframe_ms(timeframe: str) -> int:
    """Return the length of ``timeframe`` in milliseconds.

    Raises:
        KeyError: the timeframe is not one of :data:`TIMEFRAMES_MS`.
    """
    return TIMEFRAMES_MS[timeframe]


def grid_offset_ms(timeframe: str) -> int:
    """Return where, modulo its length, candles of ``timeframe`` open."""
    return _FIRST_MONDAY_MS if timeframe == "1w" else 0


def candle_open_ms(time_ms: int, timeframe: str) -> int:
    """Return the open time of the candle that holds ``time_ms``."""
    return time_ms - (time_ms - grid_offset_ms(timeframe)) % timeframe_ms(timeframe)
