"""What chart.html shows, cut down to a bounded size: a coarse overview of everything, full candles around trades."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from feeds.candles import Candles
from smm_bt.analytics.equity import EquityCurve
from smm_bt.model import CloseReason, OpenPosition, RunRecord, Trade

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Json = dict[str, object]

#: Limits of the whole page, shared by its symbols; together they keep the data under about 3 MB.
OVERVIEW_CANDLES = 3_000
OVERVIEW_CANDLES_ALL = 15_000
WINDOW_CANDLES_ALL = 120_000
WINDOW_CANDLES = 1_500
MARKED_TRADES_ALL = 4_000
_BEFORE, _AFTER = 60, 40
#: Closes that come before any other when there is no room for all.
_SERIOUS = (CloseReason.LIQUIDATION, CloseReason.STOP_LOSS, CloseReason.ERROR, CloseReason.MANUAL)


class Span(NamedTuple):
    """Candles ``begin`` up to, not including, ``end``."""

    begin: int
    end: int


def symbol_data(candles: Candles, record: RunRecord, equity: EquityCurve, falls: FloatArray, symbols: int) -> Json:
    """Return overview, windows and trades of one symbol; ``falls`` is the drawdown at each row of ``equity``."""
    own = [trade for trade in record.trades if trade.symbol == candles.symbol]
    marked = _most_telling(own, MARKED_TRADES_ALL // symbols)
    limit = min(OVERVIEW_CANDLES, max(300, OVERVIEW_CANDLES_ALL // symbols))
    per_bar = -(-candles.open_ms.size // limit) if candles.open_ms.size else 1
    spans = list(window_spans(candles.open_ms, marked, WINDOW_CANDLES_ALL // symbols)) if per_bar > 1 else []
    opened = [position for position in record.open_positions if position.symbol == candles.symbol]
    return {
        "name": candles.symbol,
        "candles": candles.open_ms.size,
        "perBar": per_bar,
        "overview": _part(candles, Span(0, candles.open_ms.size), equity, falls, per_bar),
        "windows": [_part(candles, span, equity, falls, 1) for span in spans],
        "trades": _trades(marked),
        "allTrades": len(own),
        "inWindows": _covered(candles.open_ms, marked, spans) if per_bar > 1 else len(marked),
        "open": [_open_position(position) for position in opened],
    }


def drawdowns(equity: FloatArray, initial_balance: float) -> FloatArray:
    """Return the fall below the running peak at each row, 0 or negative, as a fraction."""
    if equity.size == 0:
        return equity
    return equity / np.maximum(np.maximum.accumulate(equity), initial_balance) - 1.0


def window_spans(open_ms: IntArray, trades: Sequence[Trade], budget: int) -> Iterator[Span]:
    """Yield stretches of full candles around trades, given in order of importance, until ``budget`` is used."""
    shown = np.zeros(open_ms.size, dtype=bool)
    used = 0
    for trade in trades:
        for span in _around(open_ms, trade):
            fresh = int(np.count_nonzero(~shown[span.begin : span.end]))
            if used + fresh <= budget:
                shown[span.begin : span.end] = True
                used += fresh
    edges = np.flatnonzero(np.diff(shown.astype(np.int8), prepend=0, append=0))
    for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        pieces = -(-(end - begin) // WINDOW_CANDLES)
        cuts = [begin + (end - begin) * piece // pieces for piece in range(pieces + 1)]
        yield from map(Span, cuts[:-1], cuts[1:])


def packed(values: FloatArray) -> Json:
    """Return numbers as base64: whole multiples of a power of ten where nothing is lost, else doubles."""
    for decimals in range(9):
        scaled = np.round(values * 10.0**decimals)
        if values.size and np.abs(scaled).max() >= 2**31:
            break
        if not np.array_equal(scaled / 10.0**decimals, values):
            continue
        base = int(scaled.min()) if values.size else 0
        if values.size and scaled.max() - base < 2**16:
            return {"u": _base64((scaled - base).astype("<u2")), "from": base, "by": 10**decimals}
        return {"i": _base64(scaled.astype("<i4")), "by": 10**decimals}
    return {"f": _base64(values.astype("<f8"))}


def packed_times(times: IntArray) -> Json:
    """Return times as start, step and count where they are evenly spaced, else as numbers."""
    steps = np.diff(times)
    if times.size > 1 and (steps == steps[0]).all():
        return {"start": int(times[0]), "step": int(steps[0]), "count": times.size}
    return {"f": _base64(times.astype("<f8"))}


def _part(candles: Candles, span: Span, equity: EquityCurve, falls: FloatArray, per_bar: int) -> Json:
    cut = slice(span.begin, span.end)
    times = candles.open_ms[cut]
    starts = np.arange(0, times.size, per_bar)
    low, high = _rows(equity.open_ms, times)
    every = max(1, -(-(high - low) // max(1, starts.size)))
    points = np.arange(low, high, every)
    last = np.minimum(points + every, high) - 1
    return {
        "t": packed_times(times[starts]),
        "o": packed(candles.open[cut][starts]),
        "h": packed(_reduced(np.maximum, candles.high[cut], starts)),
        "l": packed(_reduced(np.minimum, candles.low[cut], starts)),
        "c": packed(candles.close[cut][np.append(starts[1:], times.size) - 1] if times.size else times.astype(float)),
        "et": packed_times(equity.open_ms[last]),
        "e": packed(np.round(equity.equity[last], 2)),
        "d": packed(np.round(100.0 * _reduced(np.minimum, falls[low:high], points - low), 2)),
    }


def _rows(timeline: IntArray, times: IntArray) -> tuple[int, int]:
    if not times.size:
        return 0, 0
    return int(np.searchsorted(timeline, times[0])), int(np.searchsorted(timeline, times[-1], side="right"))


def _reduced(choose: np.ufunc, values: FloatArray, starts: IntArray) -> FloatArray:
    return np.asarray(choose.reduceat(values, starts)) if values.size else values


def _most_telling(trades: Sequence[Trade], limit: int) -> list[Trade]:
    """Return at most ``limit`` trades: forced and manual closes first, then by the size of their result."""
    return sorted(trades, key=lambda trade: (trade.close_reason not in _SERIOUS, -abs(trade.pnl_usdt)))[:limit]


def _around(open_ms: IntArray, trade: Trade) -> list[Span]:
    """Return one stretch around a short trade, two around the ends of a long one."""
    entry, leave = (int(at) for at in np.searchsorted(open_ms, (trade.entry_ms, trade.exit_ms), side="right") - 1)
    ends = [(entry, leave)] if leave - entry + _BEFORE + _AFTER <= WINDOW_CANDLES else [(entry, entry), (leave, leave)]
    return [Span(max(0, begin - _BEFORE), min(open_ms.size, end + _AFTER)) for begin, end in ends]


def _covered(open_ms: IntArray, trades: Iterable[Trade], spans: Sequence[Span]) -> int:
    shown = np.zeros(open_ms.size + 1, dtype=bool)
    for span in spans:
        shown[span.begin : span.end] = True
    ends = np.array([(trade.entry_ms, trade.exit_ms) for trade in trades], dtype=np.int64).reshape(-1, 2)
    return int(np.count_nonzero(shown[np.searchsorted(open_ms, ends, side="right") - 1].all(axis=1)))


def _trades(trades: Sequence[Trade]) -> Json:
    ordered = sorted(trades, key=lambda trade: (trade.entry_ms, trade.exit_ms))
    return {
        "long": [int(trade.side == "long") for trade in ordered],
        "t0": [trade.entry_ms for trade in ordered],
        "t1": [trade.exit_ms for trade in ordered],
        "p0": [trade.entry_price for trade in ordered],
        "p1": [trade.exit_price for trade in ordered],
        "qty": [trade.qty for trade in ordered],
        "pnl": [round(trade.pnl_usdt, 2) for trade in ordered],
        "pct": [round(trade.pnl_percent, 2) for trade in ordered],
        "why": [str(trade.close_reason) for trade in ordered],
    }


def _open_position(position: OpenPosition) -> Json:
    return {
        "long": int(position.side == "long"),
        "t0": position.entry_ms,
        "p0": position.entry_price,
        "qty": position.qty,
        "pnl": round(position.unrealized_pnl_usdt, 2),
        "liquidation": position.liquidation_price,
    }


def _base64(values: npt.NDArray[np.generic]) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")
