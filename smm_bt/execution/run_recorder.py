"""What the order path writes down before and after it acts; the app passes the journal in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, Protocol

from smm_bt.model import Fill, LedgerEntry, OrderState, SkippedEntry, Trade

#: Why an order ended of which nothing ever was at the venue, so that it may be made again under another id.
NEVER_SENT = "never sent"
NEVER_ARRIVED = "never reached the venue"
TAKEN_BACK = "taken back: the run ended while it waited"


class SentOrder(NamedTuple):
    """An order before it is sent. ``side`` is +1 buy, −1 sell; ``price`` is a stop's trigger, else None."""

    order_id: str
    symbol: str
    kind: str
    side: int
    qty: float
    price: float | None
    reduce_only: bool
    reason: str


class RunRecorder(Protocol):
    """The part of a run's journal the order path writes; saying the same thing twice must be harmless."""

    def together(self) -> AbstractContextManager[None]:
        """Make everything recorded inside one durable step."""
        ...

    def record_order(self, order: Any, time_ms: int) -> bool:
        """Record a :class:`SentOrder` before it is sent; False when it is there already."""
        ...

    def change_order(self, order_id: str, state: OrderState, time_ms: int, detail: str = "") -> bool:
        """Move an order to ``state``."""
        ...

    def record_fill(self, fill: Fill, fill_id: str) -> bool:
        """Record one execution under the venue's own id; False when it is there already."""
        ...

    def record_ledger_entry(self, entry: LedgerEntry) -> None:
        """Record one change of the account."""
        ...

    def record_trade(self, trade: Trade) -> bool:
        """Record a closed trade."""
        ...

    def change_trade(self, trade: Trade) -> bool:
        """Replace the money of a recorded trade: a settlement made on it was told later."""
        ...

    def record_skipped_entry(self, skipped: SkippedEntry) -> None:
        """Record an entry the sizing refused."""
        ...

    def record_event(self, time_ms: int, kind: str, message: str, symbol: str = "", data: object = None) -> None:
        """Record anything else worth knowing."""
        ...


class NoRecorder:
    """Writes nothing down."""

    @contextmanager
    def together(self) -> Iterator[None]:
        """Do nothing around the block."""
        yield

    def record_order(self, order: Any, time_ms: int) -> bool:
        """Do nothing."""
        return True

    def change_order(self, order_id: str, state: OrderState, time_ms: int, detail: str = "") -> bool:
        """Do nothing."""
        return True

    def record_fill(self, fill: Fill, fill_id: str) -> bool:
        """Do nothing."""
        return True

    def record_ledger_entry(self, entry: LedgerEntry) -> None:
        """Do nothing."""

    def record_trade(self, trade: Trade) -> bool:
        """Do nothing."""
        return True

    def change_trade(self, trade: Trade) -> bool:
        """Do nothing."""
        return True

    def record_skipped_entry(self, skipped: SkippedEntry) -> None:
        """Do nothing."""

    def record_event(self, time_ms: int, kind: str, message: str, symbol: str = "", data: object = None) -> None:
        """Do nothing."""
