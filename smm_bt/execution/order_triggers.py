"""Which Backtrader order is filled by a candle's open or inside it, at which price, and which one first."""

from __future__ import annotations

from typing import Any

import backtrader as bt

from smm_bt.execution import order_prices as prices

Order = Any  # backtrader.Order; backtrader ships no types


def closes_first(order: Order) -> tuple[bool, int, int]:
    """Return the place of an order among those of one moment: reduce-only first, then by feed, then by age."""
    return not order.info.get("reduce_only"), order.data._id, order.ref


def price_at_open(order: Order, candle_open: float) -> float | None:
    """Return the price at which the order is filled by the open of its first or a later candle."""
    side = 1 if order.isbuy() else -1
    if order.exectype == bt.Order.Market:
        return candle_open
    if order.exectype == bt.Order.Limit or order.triggered:
        limit = order.created.pricelimit if order.triggered else order.created.price
        return prices.limit_at_open(side, limit, candle_open)
    price = prices.stop_at_open(side, order.created.price, candle_open)
    if order.exectype == bt.Order.StopLimit:
        order.triggered = price is not None
        return prices.limit_at_open(side, order.created.pricelimit, candle_open) if order.triggered else None
    return price


def price_inside(order: Order, high: float, low: float) -> float | None:
    """Return the price at which the order is filled inside the candle; a stop-limit is only triggered there."""
    side = 1 if order.isbuy() else -1
    if order.exectype == bt.Order.Limit:
        return prices.limit_inside(side, order.created.price, high, low)
    if order.triggered:
        return prices.limit_inside(side, order.created.pricelimit, high, low)
    price = prices.stop_inside(side, order.created.price, high, low)
    if order.exectype == bt.Order.StopLimit:
        order.triggered = price is not None
        return None
    return price
