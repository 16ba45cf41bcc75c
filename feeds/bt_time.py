"""The one crossing between UTC milliseconds and Backtrader's naive-UTC day numbers."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from feeds.timeframes import DAY_MS, MINUTE_MS

#: Backtrader counts days from year 1; this is 1970-01-01.
_EPOCH_DAY = 719_163
_MINUTES_PER_DAY = 1_440


def to_backtrader(time_ms: int) -> float:
    """Return the day number ``backtrader.date2num`` gives the same UTC moment, bit for bit."""
    day, rest = divmod(time_ms, DAY_MS)
    minutes, rest = divmod(rest, MINUTE_MS)
    hours, minutes = divmod(minutes, 60)
    seconds, millis = divmod(rest, 1_000)
    parts = (hours / 24.0, minutes / 1_440.0, seconds / 86_400.0, millis * 1_000 / 86_400e6)
    return math.fsum((float(day + _EPOCH_DAY), *parts))


def to_backtrader_array(time_ms: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return :func:`to_backtrader` for ascending whole minutes, n → n; candles open and close on whole minutes.

    A day number and the minute's share of a day are both floats, and their sum is rounded once, as ``fsum`` does.
    Evenly spaced times that divide a day, which candles without gaps are, are laid out day by day.
    """
    step = int(time_ms[1] - time_ms[0]) if len(time_ms) > 1 else 0
    aligned = step > 0 and DAY_MS % step == 0 and int(time_ms[0]) % step == 0
    if aligned and bool((np.diff(time_ms) == step).all()):
        return _even_stamps(int(time_ms[0]), step, len(time_ms))
    days, minute_of_day = np.divmod(time_ms // MINUTE_MS, _MINUTES_PER_DAY)
    stamps: NDArray[np.float64] = (days + _EPOCH_DAY).astype(np.float64) + _MINUTE_SHARES[minute_of_day]
    return stamps


def _even_stamps(first_ms: int, step: int, count: int) -> NDArray[np.float64]:
    first_day, before = divmod(first_ms, DAY_MS)
    skipped, per_day = before // step, DAY_MS // step
    days = np.arange(-(-(skipped + count) // per_day), dtype=np.float64) + float(first_day + _EPOCH_DAY)
    stamps: NDArray[np.float64] = np.add.outer(days, _MINUTE_SHARES[:: step // MINUTE_MS]).ravel()
    return stamps[skipped : skipped + count]


def from_backtrader(number: float) -> int:
    """Return the UTC millisecond nearest to a Backtrader day number."""
    return round((number - _EPOCH_DAY) * DAY_MS)


_MINUTE_SHARES = np.array([math.fsum((m // 60 / 24.0, m % 60 / 1_440.0)) for m in range(_MINUTES_PER_DAY)])
