"""Turns a Backtrader order and a price into ledger fills, or into a refusal with its reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import backtrader as bt

from smm_bt.execution.instrument import Instrument
from smm_bt.execution.ledger import FillResult, FuturesLedger
from smm_bt.execution.sizing import Skip, simulated_size
from smm_bt.model import LEVERAGE, CloseReason, SkippedEntry, side_name

Order = Any  # backtrader.Order; backtrader ships no types

_SLIPPING = (bt.Order.Market, bt.Order.Stop)


class Refusal(NamedTuple):
    """How an order ends without (all of) its fill: the order method to call, and why."""

    ending: str
    why: str


class OrderFiller:
    """Fills orders all or nothing; keeps Backtrader's view of each position beside the ledger's."""

    def __init__(self, ledger: FuturesLedger) -> None:
        self.ledger = ledger
        self.positions: dict[str, bt.Position] = {}
        self.openers: dict[str, Order] = {}
        self.skipped_entries: list[SkippedEntry] = []
        # What Backtrader's Trade makes of each position by adding up floats, dust and all.
        self._summed: dict[str, float] = {}

    def fill(self, order: Order, price: float, time_ms: int) -> Refusal | None:
        """Fill ``order`` at ``price`` (before slippage) and update it; return a refusal when it ends otherwise."""
        symbol, side = order.data._name, 1 if order.isbuy() else -1
        if order.exectype in _SLIPPING:
            price = self.ledger.costs.slippage.fill_price(price, side)
        held = self.ledger.positions.get(symbol)
        closable = held.qty if held is not None and held.side == -side else 0.0
        qty = self._quantity(order, symbol, side, price, closable, time_ms)
        if isinstance(qty, Refusal):
            return qty
        order.executed.remsize = side * qty
        closing = min(qty, closable)
        opening = self.ledger.instruments[symbol].clean_qty(qty - closing)
        entry_price = held.entry_price if held is not None else 0.0
        closed = self._close(order, symbol, closing, price, time_ms) if closing else None
        sized = order.info.get("sized_at_fill")  # position_size() has asked every question there is
        refusal = self._refuse_opening(symbol, opening, price) if opening and not sized else None
        open_fee = self._open(order, symbol, side, opening, price, time_ms) if opening and not refusal else 0.0
        opened = 0.0 if refusal else side * opening
        if closed is not None or opened:
            self._execute(order, price, closed, opened, open_fee, entry_price)
        return refusal

    def venue_closed(self, symbol: str, reason: CloseReason, result: FillResult) -> Order:
        """Return a completed order for a close the venue made by itself (stop loss, liquidation)."""
        opener = self.openers[symbol]
        trade, price = self.ledger.trades[-1], self.ledger.fills[-1].price  # the trade's exit price is an average
        order_class = bt.SellOrder if result.closed_qty < 0 else bt.BuyOrder
        order = order_class(
            owner=opener.owner,
            data=opener.data,
            size=abs(result.closed_qty),
            price=price,
            exectype=bt.Order.Market,
            tradeid=opener.tradeid,
        )
        order.addinfo(reason=str(reason), reduce_only=True, order_id=trade.exit_order_id)
        order.addcomminfo(opener.comminfo)
        order.submit(opener.broker)
        order.accept(opener.broker)
        self._execute(order, price, result, 0.0, 0.0, trade.entry_price)
        return order

    def adopt(self, datas: Mapping[str, Any], owner: Any, commission_of: Callable[[Any], Any]) -> None:
        """Show the ledger's open positions to Backtrader, each as opened by a completed order of ``owner``."""
        for symbol, held in self.ledger.positions.items():
            order_class = bt.BuyOrder if held.side > 0 else bt.SellOrder
            order = order_class(owner=owner, data=datas[symbol], size=held.qty, price=held.entry_price, simulated=True)
            order.addinfo(order_id=held.entry_order_id)
            order.addcomminfo(commission_of(datas[symbol]))
            order.completed()
            self.openers[symbol] = order
            self.positions.setdefault(symbol, bt.Position()).set(held.signed_qty, held.entry_price)
            self._summed[symbol] = held.signed_qty

    def _quantity(
        self, order: Order, symbol: str, side: int, price: float, closable: float, time_ms: int
    ) -> float | Refusal:
        if order.info.get("sized_at_fill"):
            return self._risk_quantity(order, symbol, side, price, time_ms)
        wanted = abs(order.executed.remsize)
        if order.info.get("reduce_only") and not closable:
            return Refusal("cancel", "there is no position left to reduce")
        if wanted == closable or (order.info.get("reduce_only") and wanted > closable):
            return closable
        return _venue_quantity(wanted, closable, self.ledger.instruments[symbol])

    def _risk_quantity(self, order: Order, symbol: str, side: int, price: float, time_ms: int) -> float | Refusal:
        size = simulated_size(self.ledger.free_balance_usdt, price, self.ledger.instruments[symbol])
        if isinstance(size, Skip):
            self.skipped_entries.append(SkippedEntry(time_ms, symbol, side_name(side), size.why))
            return Refusal("cancel", size.why)
        order.size = order.created.size = side * size
        return size

    def _refuse_opening(self, symbol: str, qty: float, price: float) -> Refusal | None:
        instrument, notional = self.ledger.instruments[symbol], qty * price
        if notional < float(instrument.min_notional):
            return Refusal("reject", f"notional {notional:.8g} USDT is below {instrument.min_notional:f} USDT")
        needed = notional / LEVERAGE + self.ledger.costs.fee.of(notional)
        free = self.ledger.free_balance_usdt
        if needed > free:
            return Refusal("margin", f"{needed:.8g} USDT of margin and fee are needed, {free:.8g} USDT are free")
        return None

    def _close(self, order: Order, symbol: str, qty: float, price: float, time_ms: int) -> FillResult:
        reason = order.info.get("reason") or CloseReason.MANUAL
        return self.ledger.close(symbol, price, time_ms, reason, order_id(order), qty)

    def _open(self, order: Order, symbol: str, side: int, qty: float, price: float, time_ms: int) -> float:
        fee = self.ledger.open(symbol, side, qty, price, time_ms, order_id(order))
        self.openers[symbol] = order
        return fee

    def _execute(
        self,
        order: Order,
        price: float,
        closed: FillResult | None,
        opened: float,
        open_fee: float,
        entry_price: float,
    ) -> None:
        symbol = order.data._name
        after = self.ledger.positions.get(symbol)
        size, average = (after.signed_qty, after.entry_price) if after is not None else (0.0, 0.0)
        self.positions.setdefault(symbol, bt.Position()).set(size, average)
        done = closed.closed_qty if closed is not None else 0.0
        summed = self._summed.get(symbol, 0.0)
        ended = done and (after is None or after.side * done > 0)
        reduced = -summed if ended else done  # the Trade of a position that ended must come to exactly zero
        self._summed[symbol] = summed + reduced + opened
        order.execute(
            order.data.datetime[0],
            done + opened,
            price,
            reduced,
            abs(done) * entry_price / LEVERAGE,
            closed.close_fee_usdt if closed is not None else 0.0,
            opened,
            abs(opened) * price / LEVERAGE,
            open_fee,
            after.margin_usdt if after is not None else 0.0,
            closed.gross_pnl_usdt if closed is not None else 0.0,
            size,
            average,
        )


def order_id(order: Order) -> str:
    """Return the id the order carries in the trade log: its own, or one from Backtrader's reference number."""
    return order.info.get("order_id") or f"order-{order.ref}"


def _venue_quantity(wanted: float, closable: float, instrument: Instrument) -> float | Refusal:
    """Round an order down to the venue's step, float dust aside; refuse what its quantity filters would refuse."""
    without_dust = round(wanted, instrument.qty_decimals + 8)
    qty = float(instrument.floor_qty(Decimal(repr(without_dust))))
    if qty < float(instrument.min_qty) or qty - closable > float(instrument.max_qty):
        bounds = f"{instrument.min_qty:f} to {instrument.max_qty:f}"
        return Refusal("reject", f"quantity {wanted:g} of {instrument.symbol} is outside the venue's {bounds}")
    return qty
