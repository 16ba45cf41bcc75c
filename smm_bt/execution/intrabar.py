"""What happens to an open position inside one candle, in order: funding, stop, liquidation (SPEC §5, rules 7 to 9).

A candle does not tell in which order its prices came. The choices are pessimistic: the entry candle counts in full;
touching a price is enough; a stop that the candle opens beyond is filled at that worse open; the stop is looked at
before the liquidation, so a stop farther away than the liquidation price costs more than the margin.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

import numpy as np

from feeds.candles import FloatArray
from smm_bt.execution.bars import Bar
from smm_bt.execution.ledger import FillResult, FuturesLedger, Position
from smm_bt.execution.market_history import MarketHistory, Settlement
from smm_bt.model import CloseReason

#: Up to this many prices Python's own min and max are quicker than a call of numpy's.
_FEW = 24


def settle_funding(ledger: FuturesLedger, symbol: str, settlements: Iterable[Settlement]) -> None:
    """Charge or credit each settlement to the symbol's open position: none from before its entry, none twice."""
    position = ledger.positions[symbol]
    for settlement in settlements:
        if settlement.time_ms > position.settled_ms:
            ledger.settle_funding(symbol, settlement.price, settlement.rate, settlement.time_ms)


def stop_touched(side: int, stop_price: float | None, high: float, low: float) -> bool:
    """Return whether a candle's range reaches the stop of a position on ``side``."""
    return stop_price is not None and (low <= stop_price if side > 0 else high >= stop_price)


def liquidation_touched(side: int, price: float | None, high: float, low: float) -> bool:
    """Return whether the range that liquidates reaches the liquidation price of a position on ``side``."""
    return price is not None and (low <= price if side > 0 else high >= price)


def is_ended(position: Position, candle: Bar) -> bool:
    """Return whether a candle reaches the position's stop or its liquidation price."""
    return stop_touched(position.side, position.stop_price, candle.high, candle.low) or liquidation_touched(
        position.side, position.liquidation_price, candle.liquidation_high, candle.liquidation_low
    )


def fill_stop(ledger: FuturesLedger, symbol: str, candle_open: float, time_ms: int, order_id: str) -> FillResult:
    """Close the position at its stop, or at a worse open, with slippage."""
    position = ledger.positions[symbol]
    stop = position.stop_price
    if stop is None:
        raise ValueError(f"{symbol}: this position has no stop")
    reached = min(candle_open, stop) if position.side > 0 else max(candle_open, stop)
    price = ledger.costs.slippage.fill_price(reached, -position.side)
    return ledger.close(symbol, price, time_ms, CloseReason.STOP_LOSS, order_id)


def next_event(position: Position, history: MarketHistory, first: int, last: int) -> int | None:
    """Return the first candle from row ``first`` to ``last`` in which something happens to an open position by itself.

    That is a funding settlement or a touch of its stop or liquidation price; None when it is left alone.
    """
    if first > last:
        return None
    rows = history.settlement_rows
    if not rows:
        return first_touch(position, history, first, last)
    place = bisect_left(rows, first)
    settlement = rows[place] if place < len(rows) else last + 1
    touch = first_touch(position, history, first, settlement if settlement < last else last)
    if touch is not None:
        return touch
    return settlement if settlement <= last else None


def first_touch(position: Position, history: MarketHistory, first: int, last: int) -> int | None:
    """Return the first candle from row ``first`` to ``last`` that reaches the position's stop or liquidation price.

    None when no candle does. A search over the whole stretch at once; what the touch then costs is decided candle by
    candle by the functions above.
    """
    until, stop, liquidation = last + 1, position.stop_price, position.liquidation_price
    side, prices = position.side, history.adverse[position.side]
    if stop is None and liquidation is not None:  # as nearly always: one search, one answer
        return _first_reaching(liquidation, side, prices.liquidation, prices.liquidation_view, first, until)
    touch = None
    if stop is not None:
        touch = _first_reaching(stop, side, prices.stop, prices.stop_view, first, until)
        until = until if touch is None else touch + 1
    if liquidation is not None:
        liquidated = _first_reaching(liquidation, side, prices.liquidation, prices.liquidation_view, first, until)
        touch = touch if liquidated is None else liquidated
    return touch


def _first_reaching(level: float, side: int, prices: FloatArray, view: Any, first: int, until: int) -> int | None:
    """Return the first row before ``until`` whose price comes down (``side`` +1) or up (−1) to ``level``."""
    if until - first <= _FEW:  # dense signals: most positions are held for a few candles
        few = view[first:until]
        if min(few) > level if side > 0 else max(few) < level:
            return None
    stretch = prices[first:until]
    if side > 0:
        return first + int((stretch <= level).argmax()) if np.minimum.reduce(stretch) <= level else None
    return first + int((stretch >= level).argmax()) if np.maximum.reduce(stretch) >= level else None
