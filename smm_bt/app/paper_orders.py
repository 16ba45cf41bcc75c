"""What the simulated venue did, into the journal: orders before they are carried out, fills and money after."""

from __future__ import annotations

from typing import Any

import backtrader as bt

from smm_bt.analytics.journal import Journal, NewOrder
from smm_bt.analytics.journal_rows import LIQUIDATION, MARKET, STOP_MARKET
from smm_bt.execution.order_filler import order_id
from smm_bt.execution.paper_broker import PaperBroker
from smm_bt.model import CloseReason, Fill, OrderState

Order = Any  # backtrader.Order; backtrader ships no types

_ENDINGS = {
    bt.Order.Completed: OrderState.FILLED,
    bt.Order.Canceled: OrderState.CANCELED,
    bt.Order.Expired: OrderState.EXPIRED,
    bt.Order.Margin: OrderState.REJECTED,
    bt.Order.Rejected: OrderState.REJECTED,
}
_KINDS = {CloseReason.STOP_LOSS.value: STOP_MARKET, CloseReason.LIQUIDATION.value: LIQUIDATION}


class PaperOrders:
    """Follows a PaperBroker and its ledger; :meth:`write` records what is new since the last call."""

    def __init__(self, journal: Journal, broker: PaperBroker) -> None:
        self._journal, self._broker = journal, broker
        self._working: dict[str, Order] = {}
        self._forget()

    def has_news(self) -> bool:
        """Return whether there is anything to record."""
        pending = self._broker.get_orders_open()
        return (
            len(self._broker.ledger.entries) != self._entries
            or bool(self._broker.skipped_entries)
            or bool(self._working)
            or any(order_id(order) not in self._working for order in pending)
        )

    def write(self, now_ms: int) -> None:
        """Record new orders, then what became of them, the fills, the account and the trades."""
        self._write_orders(now_ms)
        self._write_fills()
        self._write_ends(now_ms)
        ledger, journal = self._broker.ledger, self._journal
        for entry in ledger.entries[self._entries :]:
            journal.record_ledger_entry(entry)
        for trade in ledger.trades[self._trades :]:
            journal.record_trade(trade)
        for trade in ledger.amended:
            journal.change_trade(trade)
        for skipped in self._broker.skipped_entries:
            journal.record_skipped_entry(skipped)
        self._forget()

    def _forget(self) -> None:
        """Let go of what the journal holds; the account itself looks back at its last row only."""
        ledger = self._broker.ledger
        for recorded in (ledger.fills, ledger.entries, ledger.trades):
            del recorded[:-1]
        ledger.amended.clear()
        self._fills, self._entries, self._trades = len(ledger.fills), len(ledger.entries), len(ledger.trades)
        self._broker.skipped_entries.clear()

    def _write_orders(self, now_ms: int) -> None:
        for order in self._broker.get_orders_open():
            name = order_id(order)
            if name in self._working:
                continue
            self._working[name] = order
            side, reason = (1 if order.isbuy() else -1), str(order.info.get("reason") or "")
            reduce_only = bool(order.info.get("reduce_only"))
            size = abs(float(order.created.size))
            self._record(NewOrder(name, order.data._name, MARKET, side, size, None, reduce_only, reason), now_ms)

    def _record(self, order: NewOrder, time_ms: int) -> None:
        if self._journal.has_order(order.order_id):  # from before a restart
            return
        self._journal.record_order(order, time_ms)
        self._journal.change_order(order.order_id, OrderState.SUBMITTED, time_ms)

    def _write_fills(self) -> None:
        fills = self._broker.ledger.fills
        for fill in fills[self._fills :]:
            if not self._journal.has_order(fill.order_id):
                self._record(_order_of(fill), fill.time_ms)
            if fill.order_id not in self._working:
                self._journal.change_order(fill.order_id, OrderState.FILLED, fill.time_ms)
            self._journal.record_fill(fill, f"{fill.order_id}:{'close' if fill.reduce_only else 'open'}")

    def _write_ends(self, now_ms: int) -> None:
        for name, order in list(self._working.items()):
            state = _ENDINGS.get(order.status)
            if state is not None:
                self._journal.change_order(name, state, now_ms, str(order.info.get("why") or ""))
                del self._working[name]


def _order_of(fill: Fill) -> NewOrder:
    kind = _KINDS.get(fill.reason, MARKET)
    return NewOrder(fill.order_id, fill.symbol, kind, fill.side, fill.qty, None, fill.reduce_only, fill.reason)
