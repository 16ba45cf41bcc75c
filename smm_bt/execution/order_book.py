"""OrderBook: what both brokers do alike with Backtrader's orders; where they are executed is each one's own."""

from __future__ import annotations

from collections import deque
from typing import Any

import backtrader as bt

from smm_bt.execution.broker_orders import make_order
from smm_bt.execution.order_groups import OrderGroups

Order = Any  # backtrader.Order; backtrader ships no types
Data = Any  # a backtrader data feed


class OrderBook(bt.BrokerBase):
    """Takes orders in, keeps those that work, and announces what becomes of them.

    A broker derived from it says in ``submit()`` which orders it takes, and lets orders end through ``_end()`` or,
    once they are filled, ``_forget()``.
    """

    def _clear_orders(self) -> None:
        self._groups = OrderGroups()
        self._pending: list[Order] = []
        self._notifications: deque[Order] = deque()

    def buy(self, owner: Any, data: Data, size: float, **kwargs: Any) -> Order:
        """Take a buy order in; it works from the broker's next turn on."""
        return self._make(bt.BuyOrder, owner, data, size, **kwargs)

    def sell(self, owner: Any, data: Data, size: float, **kwargs: Any) -> Order:
        """Take a sell order in; it works from the broker's next turn on."""
        return self._make(bt.SellOrder, owner, data, size, **kwargs)

    def cancel(self, order: Order) -> bool:
        """Cancel ``order`` if it still works here; return whether it did."""
        if order not in self._pending:
            return False
        self._end(order, order.cancel, "cancelled by the strategy")
        return True

    def get_orders_open(self, safe: bool = False) -> list[Order]:
        """Return the orders still working."""
        return [order.clone() if safe else order for order in self._pending]

    def orderstatus(self, order: Order) -> int:
        """Return the order's status."""
        return int(order.status)

    def get_notification(self) -> Order | None:
        """Return the next order notification, or None."""
        return self._notifications.popleft() if self._notifications else None

    def notify(self, order: Order) -> None:
        """Queue a snapshot of ``order`` for the strategy."""
        self._notifications.append(order.clone())

    def _make(self, order_class: Any, *placed: Any, **keywords: Any) -> Order:
        order = self._new(make_order(self, order_class, *placed, **keywords))
        for ready in self._groups.register(order):
            self.submit(ready)
        return order

    def _new(self, order: Order) -> Order:
        """Add what a broker's users expect on every order of it; here nothing."""
        return order

    def _end(self, order: Order, ending: Any, why: str) -> Order:
        """Let ``order`` end without (all of) its fill; ``order.info.why`` says why."""
        order.addinfo(why=why)
        ending()
        self._forget(order)
        return order

    def _forget(self, order: Order) -> None:
        """Announce the end of ``order`` and end what depends on it."""
        if order in self._pending:
            self._pending.remove(order)
        self.notify(order)
        if order.status == order.Completed:
            self._groups.activate_children(order)
        for other in self._groups.ended_with(order):
            self._end(other, other.cancel, f"order {order.ref} of its group ended")
