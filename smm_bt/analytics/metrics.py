"""Pure figures: arrays in, numbers out. What is undefined is None, never NaN and never infinite.

Trade figures take the net results of closed trades in USDT; a NaN or infinite result among them is a fault of the
caller and raises ValueError. Daily figures take simple returns per UTC day (0.01 = 1 %), 365 days a year.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

DAYS_PER_YEAR = 365
DAY_MS = 86_400_000
#: A standard deviation this small beside the mean is rounding noise of a constant series.
_NOISE = 1e-12
#: Rows handled at once, so that temporaries stay in the processor's cache.
_BLOCK = 32_768


class TradeFigures(NamedTuple):
    """The six named figures that come from closed trades alone."""

    total_trades: int
    win_rate: float | None
    avg_win: float | None
    avg_loss: float | None
    total_pnl: float
    profit_factor: float | None


class Drawdown(NamedTuple):
    """The deepest falls below a running peak: as a fraction of that peak (0..1) and in USDT, each on its own."""

    fraction: float
    usdt: float


class DailyReturns(NamedTuple):
    """``day_ms`` is the UTC midnight a day begins with, ``returns`` the simple return of that day."""

    day_ms: IntArray
    returns: FloatArray


def _results(pnl_usdt: Iterable[float]) -> Sequence[float]:
    results = [float(value) for value in pnl_usdt]
    if not all(map(math.isfinite, results)):
        raise ValueError("a trade result is NaN or infinite; every closed trade must have a finite pnl_usdt")
    return results


def win_rate(pnl_usdt: Iterable[float]) -> float | None:
    """Return wins / trades (0..1), a win being > 0; None without trades; NaN raises ValueError."""
    results = _results(pnl_usdt)
    return sum(value > 0 for value in results) / len(results) if results else None


def avg_win(pnl_usdt: Iterable[float]) -> float | None:
    """Return the mean of results > 0; None without any; NaN raises ValueError."""
    wins = [value for value in _results(pnl_usdt) if value > 0]
    return math.fsum(wins) / len(wins) if wins else None


def avg_loss(pnl_usdt: Iterable[float]) -> float | None:
    """Return the mean of results < 0, a negative number; None without any; NaN raises ValueError."""
    losses = [value for value in _results(pnl_usdt) if value < 0]
    return math.fsum(losses) / len(losses) if losses else None


def total_pnl(pnl_usdt: Iterable[float]) -> float:
    """Return the sum of the results; 0.0 without trades; NaN raises ValueError."""
    return math.fsum(_results(pnl_usdt))


def profit_factor(pnl_usdt: Iterable[float]) -> float | None:
    """Return Σ wins / |Σ losses|; None without a loss, so also when empty; 0.0 with losses only; NaN raises."""
    results = _results(pnl_usdt)
    lost = math.fsum(value for value in results if value < 0)
    return math.fsum(value for value in results if value > 0) / -lost if lost < 0 else None


def trade_figures(pnl_usdt: Iterable[float]) -> TradeFigures:
    """Return all figures of closed trades at once; empty and NaN as in the single functions."""
    results = _results(pnl_usdt)
    wins = [value for value in results if value > 0]
    losses = [value for value in results if value < 0]
    won, lost = math.fsum(wins), math.fsum(losses)
    return TradeFigures(
        total_trades=len(results),
        win_rate=len(wins) / len(results) if results else None,
        avg_win=won / len(wins) if wins else None,
        avg_loss=lost / len(losses) if losses else None,
        total_pnl=math.fsum(results),
        profit_factor=won / -lost if lost < 0 else None,
    )


def drawdown(equity: npt.ArrayLike, initial_balance: float) -> Drawdown:
    """Return the deepest falls of a curve that starts at ``initial_balance`` and continues with ``equity``.

    Empty equity gives (0.0, 0.0). The fraction is measured on the peak it fell from and is never above 1; the USDT
    figure is the largest fall in money, which may be another one. NaN raises ValueError.
    """
    curve = np.asarray(equity, dtype=np.float64)
    if curve.size and not initial_balance > 0:
        raise ValueError(f"a drawdown needs a positive initial balance, found {initial_balance!r}")
    highest, fraction, usdt = float(initial_balance), 0.0, 0.0
    for begin in range(0, curve.size, _BLOCK):
        block = curve[begin : begin + _BLOCK]
        if not np.isfinite(block).all():
            raise ValueError("the equity curve holds NaN or infinite values")
        peak = np.maximum(np.maximum.accumulate(block), highest)
        usdt = max(usdt, float(np.max(peak - block)))
        fraction = max(fraction, 1.0 - float(np.min(block / peak)))
        highest = float(peak[-1])
    return Drawdown(min(fraction, 1.0), usdt)


def daily_returns(open_ms: npt.ArrayLike, equity: npt.ArrayLike, initial_balance: float) -> DailyReturns:
    """Return the equity's simple return per UTC day, the first day measured from ``initial_balance``.

    A candle belongs to the day it opens in; a day's equity is that of its last candle. A day without a candle changed
    nothing and returns 0.0: the year these returns are scaled to has 365 days. After a day that ends at or below zero
    there is nothing left to earn on: 0.0 from there on. Empty input gives empty arrays.
    """
    times = np.asarray(open_ms, dtype=np.int64)
    curve = np.asarray(equity, dtype=np.float64)
    if times.size == 0:
        return DailyReturns(np.empty(0, np.int64), np.empty(0, np.float64))
    days = np.arange(times[0] // DAY_MS, times[-1] // DAY_MS + 1, dtype=np.int64)
    last = np.searchsorted(times, (days + 1) * DAY_MS) - 1
    closing = curve[last]
    base = np.concatenate(([initial_balance], closing[:-1]))
    returns = np.divide(closing - base, base, out=np.zeros_like(closing), where=base > 0)
    return DailyReturns(days * DAY_MS, returns)


def sharpe(returns: npt.ArrayLike, periods_per_year: int = DAYS_PER_YEAR) -> float | None:
    """Return mean / standard deviation (n − 1) × √periods, risk-free rate 0.

    None with fewer than two returns, when they do not vary, or when one is NaN.
    """
    values = np.asarray(returns, dtype=np.float64)
    if values.size < 2 or not np.all(np.isfinite(values)):
        return None
    mean, deviation = float(values.mean()), float(values.std(ddof=1))
    if deviation <= _NOISE * abs(mean):
        return None
    return mean / deviation * math.sqrt(periods_per_year)


def sortino(returns: npt.ArrayLike, periods_per_year: int = DAYS_PER_YEAR) -> float | None:
    """Return mean / downside deviation × √periods; the downside is √(Σ min(r, 0)² / n) over all n days.

    None with fewer than two returns, without a losing day, or when one is NaN.
    """
    values = np.asarray(returns, dtype=np.float64)
    if values.size < 2 or not np.all(np.isfinite(values)):
        return None
    downside = math.sqrt(float(np.mean(np.square(np.minimum(values, 0.0)))))
    return float(values.mean()) / downside * math.sqrt(periods_per_year) if downside > 0 else None


def exposure(steps_held: int, steps: int) -> float | None:
    """Return the share of candle closes (0..1) at which a position was held; None without candles."""
    return steps_held / steps if steps else None
