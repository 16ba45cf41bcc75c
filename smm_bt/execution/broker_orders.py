"""The Backtrader side of a venue's executions: orders are filled in memory exactly as the books were."""

from __future__ import annotations

from typing import Any

import backtrader as bt

from smm_bt.execution.venue_ledger import Booked, VenueLedger
from smm_bt.model import LEVERAGE

Order = Any  # backtrader.Order; backtrader ships no types
Data = Any  # a backtrader data feed


def venue_symbol(name: str) -> str:
    """Return the venue's name of a symbol: ``BTC/USDT`` and ``BTC/USDT:USDT`` are ``BTCUSDT``."""
    return name.partition(":")[0].replace("/", "").upper()


class BrokerPositions:
    """Backtrader's view of each position, kept equal to the ledger's."""

    def __init__(self) -> None:
        self._positions: dict[str, bt.Position] = {}

    def of(self, data: Data) -> bt.Position:
        """Return the position of a feed; the same object every time."""
        return self._positions.setdefault(venue_symbol(data._name), bt.Position())

    def execute(self, order: Order, booked: Booked, ledger: VenueLedger) -> None:
        """Fill ``order`` with one execution."""
        fill = booked.fill
        self.of(order.data).set(booked.size, booked.average)
        closed = booked.closed.closed_qty if booked.closed is not None else 0.0
        order.execute(
            order.data.datetime[0],
            closed + booked.opened_qty,
            float(fill.price),
            closed,
            abs(closed) * booked.entry_price / LEVERAGE,
            booked.closed.close_fee_usdt if booked.closed is not None else 0.0,
            booked.opened_qty,
            abs(booked.opened_qty) * float(fill.price) / LEVERAGE,
            booked.open_fee_usdt,
            booked.margin_usdt,
            booked.closed.gross_pnl_usdt if booked.closed is not None else 0.0,
            booked.size,
            booked.average,
        )
        if abs(order.executed.remsize) < float(ledger.instruments[fill.symbol].step) / 2:
            order.executed.remsize = 0.0  # float subtraction leaves dust, and dust would be Partial for ever
            order.completed()


def venue_made_order(booked: Booked, data: Data, broker: Any, *, owner: Any = None, tradeid: int = 0) -> Order:
    """Return a submitted and accepted order that stands for an execution nobody ordered through this broker."""
    fill = booked.fill
    order_class = bt.BuyOrder if fill.side > 0 else bt.SellOrder
    order = order_class(
        owner=owner,
        data=data,
        size=float(fill.qty),
        price=float(fill.price),
        exectype=bt.Order.Market,
        tradeid=tradeid,
        simulated=booked.closed is None,
    )
    order.addinfo(reason=booked.reason, reduce_only=booked.closed is not None, order_id=booked.order_id)
    order.addcomminfo(broker.getcommissioninfo(data))
    order.submit(broker)
    order.accept(broker)
    return order


def set_size(order: Order, qty: float) -> None:
    """Give an order the quantity it is going to be sent with."""
    signed = qty if order.isbuy() else -qty
    order.size = order.created.size = order.created.remsize = signed
    order.executed.remsize = signed
