"""Backtrader's orders: made the same way for every broker, and filled in memory exactly as a venue's books were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import backtrader as bt

from smm_bt.model import LEVERAGE

if TYPE_CHECKING:
    from smm_bt.execution.venue_ledger import Booked, VenueLedger

Order = Any  # backtrader.Order; backtrader ships no types
Data = Any  # a backtrader data feed


def venue_symbol(name: str) -> str:
    """Return the venue's name of a symbol: ``BTC/USDT`` and ``BTC/USDT:USDT`` are ``BTCUSDT``."""
    return name.partition(":")[0].replace("/", "").upper()


def make_order(
    broker: Any,
    order_class: Any,
    owner: Any,
    data: Data,
    size: float,
    price: float | None = None,
    plimit: float | None = None,
    exectype: int | None = None,
    valid: Any = None,
    tradeid: int = 0,
    oco: Order = None,
    trailamount: float | None = None,
    trailpercent: float | None = None,
    parent: Order = None,
    transmit: bool = True,
    **info: Any,
) -> Order:
    """Return an order of ``order_class`` with the keywords ``Strategy.buy()`` gives a broker; others go to its info."""
    order = order_class(
        owner=owner,
        data=data,
        size=size,
        price=price,
        pricelimit=plimit,
        exectype=exectype,
        valid=valid,
        tradeid=tradeid,
        oco=oco,
        trailamount=trailamount,
        trailpercent=trailpercent,
        parent=parent,
        transmit=transmit,
    )
    order.addinfo(**info)
    order.addcomminfo(broker.getcommissioninfo(data))
    return order


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
