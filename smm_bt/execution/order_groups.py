"""Orders that belong together in Backtrader: brackets (a parent and its children) and one-cancels-other groups."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Order = Any  # backtrader.Order; backtrader ships no types


class OrderGroups:
    """Remembers which orders wait for which, and whom an ended order takes with it."""

    def __init__(self) -> None:
        self._untransmitted: dict[int, list[Order]] = {}
        self._children: dict[int, list[Order]] = {}
        self._oco: dict[int, list[Order]] = {}

    def register(self, order: Order) -> list[Order]:
        """Take note of a new order; return the orders to submit now, in order.

        An order with ``transmit=False`` and the children of an untransmitted parent are held until the last of them
        arrives with ``transmit=True``.
        """
        self._register_oco(order)
        root = order.parent if order.parent is not None else order
        if order.parent is not None:
            self._children.setdefault(root.ref, []).append(order)
        held = self._untransmitted.setdefault(root.ref, [])
        held.append(order)
        if not order.transmit:
            return []
        return self._untransmitted.pop(root.ref)

    def _register_oco(self, order: Order) -> None:
        if order.oco is None:
            return
        group = self._oco.setdefault(order.oco.ref, [order.oco])
        group.append(order)
        self._oco[order.ref] = group

    def activate_children(self, parent: Order) -> None:
        """A filled parent lets its children work."""
        for child in self._children.get(parent.ref, ()):
            child.activate()

    def ended_with(self, order: Order) -> Iterable[Order]:
        """Return the live orders that end because ``order`` ended.

        A filled order ends its one-cancels-other group; a filled child ends its siblings; a parent that ended
        unfilled ends its children.
        """
        filled = order.status == order.Completed
        others = list(self._oco.get(order.ref, ()))
        if order.parent is not None:
            others += self._children.get(order.parent.ref, ())
        elif not filled:
            others += self._children.get(order.ref, ())
        return [other for other in others if other is not order and other.alive()]
