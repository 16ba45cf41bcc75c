"""Every execution on the account is read once, booked once and given to the order it belongs to."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from smm_bt.errors import VenueError
from smm_bt.execution.newest import Newest
from smm_bt.execution.order_ids import run_prefix
from smm_bt.execution.run_recorder import RunRecorder, SentOrder
from smm_bt.execution.venue_client import VenueClient
from smm_bt.execution.venue_ledger import Booked, VenueLedger
from smm_bt.execution.venue_rows import IncomeRow, VenueFill, VenueOrder
from smm_bt.model import CloseReason, OrderState

HOUR_MS = 3_600_000
#: How the venue names the orders it makes itself: liquidation, automatic deleveraging, settlement of a contract.
_VENUE_MADE = ("autoclose-", "adl_autoclose", "settlement_autoclose-")
#: Of so many orders it is remembered whose they were; more are never on their way at once, and the executions of
#: older ones are behind the trade numbers from which reading goes on.
_REMEMBERED = 1_000
_STOP_ID = re.compile(r"-s[0-9a-z](\.[0-9a-z]+)?$")


class Owner(NamedTuple):
    """Whose execution it is: our order's id, the reason if it closes, and whether we sent and recorded the order."""

    order_id: str
    reason: str
    is_sent: bool = False


class FillTracker:
    """Reads own trades symbol by symbol from where it stopped, in the order they happened.

    ``booked`` holds what has been booked and not yet been fetched by the broker. Each execution is known by the
    venue's trade number, so reading twice books once.
    """

    def __init__(self, client: VenueClient, ledger: VenueLedger, recorder: RunRecorder, run_id: str) -> None:
        self.booked: deque[Booked] = deque()
        self._client = client
        self._ledger = ledger
        self._recorder = recorder
        self._prefix = run_prefix(run_id)
        self._next_id: dict[str, int] = {}
        self._owners = Newest[tuple[str, int], Owner](_REMEMBERED)
        self._by_client_id = Newest[str, Owner](_REMEMBERED)
        self._told: dict[str, dict[int, VenueOrder]] = {}
        self._executed = Newest[tuple[str, int], float](_REMEMBERED)
        self._recorded_trades = len(ledger.trades)
        self._recorded_entries = len(ledger.entries)
        self._income_since_ms = 0
        self._income_hour = 0
        self._income_seen: set[tuple[str, int]] = set()

    # ---- where to begin

    def begin_after_latest(self, symbol: str) -> None:
        """Count only what happens from now on."""
        latest = self._client.fills(symbol)
        self._next_id[symbol] = latest[-1].trade_id + 1 if latest else 0

    def begin_at(self, symbol: str, trade_id: int) -> None:
        """Go on at a trade number."""
        self._next_id[symbol] = trade_id

    def next_ids(self) -> dict[str, int]:
        """Return the next trade number of every symbol."""
        return dict(self._next_id)

    def begin_income(self, since_ms: int) -> None:
        """Count funding from ``since_ms`` on, except what the ledger has by then: it may be booked only in part."""
        self._income_since_ms, self._income_hour = since_ms, since_ms // HOUR_MS
        booked = (entry for entry in self._ledger.entries if entry.kind in ("funding", "adjustment"))
        self._income_seen = {(entry.symbol, entry.time_ms) for entry in booked if entry.time_ms >= since_ms}

    @property
    def symbols(self) -> Iterable[str]:
        """The symbols that are followed."""
        return self._next_id.keys()

    # ---- whose order is it

    def expect(self, client_id: str, order_id: str, reason: str) -> None:
        """Say, before it is sent, whose order will carry this client id."""
        self._by_client_id[client_id] = Owner(order_id, reason, is_sent=True)

    def tell(self, order: VenueOrder) -> None:
        """Take note of what the venue said about one of our orders: its executions are ours and are to be booked."""
        if order.client_id in self._by_client_id:
            self._owners[order.symbol, order.venue_id] = self._by_client_id[order.client_id]
        self._told.setdefault(order.symbol, {})[order.venue_id] = order

    def missing_qty(self, order: VenueOrder) -> float:
        """Return how much of what the venue has executed of ``order`` is not booked yet."""
        return float(order.executed_qty) - self._executed.get((order.symbol, order.venue_id), 0.0)

    def unbooked_qty(self, symbol: str) -> float:
        """Return what our orders have, by the venue's answers, done to the position beyond what is booked, signed."""
        return sum(order.side * self.missing_qty(order) for order in self._told.get(symbol, {}).values())

    def forget(self, order: VenueOrder) -> None:
        """All of the order's executions are booked."""
        self._told.get(order.symbol, {}).pop(order.venue_id, None)

    def recount(self, symbol: str, venue_id: int) -> None:
        """Count what an earlier process has booked of the venue's order."""
        fills = self._client.fills_of_order(symbol, venue_id)
        done = sum(float(fill.qty) for fill in fills if fill.trade_id < self._next_id[symbol])
        self._executed[symbol, venue_id] = done

    def _owner(self, fill: VenueFill) -> Owner:
        key = (fill.symbol, fill.venue_id)
        if key not in self._owners:
            self._owners[key] = self._find_owner(fill)
        return self._owners[key]

    def _find_owner(self, fill: VenueFill) -> Owner:
        order = self._client.order_by_venue_id(fill.symbol, fill.venue_id)
        client_id = order.client_id if order is not None else ""
        if client_id in self._by_client_id:
            return self._by_client_id[client_id]
        foreign = f"venue-{fill.venue_id}"
        if client_id.startswith(_VENUE_MADE):
            return Owner(foreign, CloseReason.LIQUIDATION)
        if client_id.startswith(self._prefix) and _STOP_ID.search(client_id):
            return Owner(client_id, CloseReason.STOP_LOSS)
        if client_id.startswith(self._prefix):
            return Owner(client_id, CloseReason.ERROR)
        return Owner(foreign, CloseReason.MANUAL)

    # ---- reading

    def collect(self, symbols: Iterable[str]) -> None:
        """Read and book the executions of ``symbols`` that are new."""
        self._book_all([fill for symbol in symbols for fill in self._new_fills(symbol)], [])

    def collect_all(self, symbols: Iterable[str], now_ms: int) -> None:
        """Read and book the executions of ``symbols`` and the funding that are new."""
        fills = [fill for symbol in symbols for fill in self._new_fills(symbol)]
        self._book_all(fills, self._new_funding())
        self._income_hour = now_ms // HOUR_MS

    def income_is_due(self, now_ms: int) -> bool:
        """Whether an hour has begun since funding was last read."""
        return now_ms // HOUR_MS != self._income_hour

    def _new_fills(self, symbol: str) -> list[VenueFill]:
        start = self._next_id[symbol]
        return [fill for fill in self._client.fills(symbol, start) if fill.trade_id >= start]

    def _new_funding(self) -> list[IncomeRow]:
        found = self._client.funding(self._income_since_ms)
        rows = [row for row in found if (row.symbol, row.time_ms) not in self._income_seen]
        self._income_since_ms = max((row.time_ms for row in rows), default=self._income_since_ms)
        seen = self._income_seen | {(row.symbol, row.time_ms) for row in rows}
        self._income_seen = {each for each in seen if each[1] >= self._income_since_ms}
        return rows

    def _book_all(self, fills: list[VenueFill], fundings: list[IncomeRow]) -> None:
        """Book in the order of time; at one and the same millisecond an execution comes before a settlement."""
        events: list[tuple[int, int, int, VenueFill | IncomeRow]] = []
        events += [(fill.time_ms, 0, fill.trade_id, fill) for fill in fills]
        events += [(row.time_ms, 1, number, row) for number, row in enumerate(fundings)]
        for event in sorted(events, key=lambda item: item[:3]):
            entry = event[3]
            if isinstance(entry, VenueFill):
                self._book_fill(entry)
            else:
                with self._recorder.together():
                    self._ledger.book_funding(entry.symbol, float(entry.amount_usdt), entry.time_ms)
                    self.record_ledger()

    def _book_fill(self, fill: VenueFill) -> None:
        owner = self._owner(fill)
        before = self._ledger.positions.get(fill.symbol)
        booked = self._ledger.book(fill, owner.order_id, owner.reason)
        with self._recorder.together():
            self._record_foreign_order(fill, owner)
            for part in self._ledger.fills[-((booked.closed is not None) + (booked.opened_qty != 0)) :]:
                side = "" if part.reduce_only or booked.closed is None else ":opened"
                self._recorder.record_fill(part, f"{fill.symbol}:{fill.trade_id}{side}")
            self.record_ledger()
        self._next_id[fill.symbol] = fill.trade_id + 1
        key = (fill.symbol, fill.venue_id)
        self._executed[key] = self._executed.get(key, 0.0) + float(fill.qty)
        self.booked.append(booked)
        if booked.opened_qty and owner.order_id.startswith("venue-") and before is None:
            raise VenueError(
                f"Somebody else opened a position in {fill.symbol} on this account ({booked.opened_qty:+g} at "
                f"{fill.price:f}); the run stops rather than trade it. Close it by hand and start again."
            )

    def _record_foreign_order(self, fill: VenueFill, owner: Owner) -> None:
        """An execution nobody ordered here still needs its order in the record."""
        if owner.is_sent:
            return
        qty, reason = float(fill.qty), owner.reason
        sent = SentOrder(owner.order_id, fill.symbol, "market", fill.side, qty, None, True, reason)
        if (fill.symbol, fill.venue_id) not in self._executed and self._recorder.record_order(sent, fill.time_ms):
            self._recorder.change_order(owner.order_id, OrderState.SUBMITTED, fill.time_ms, "made at the venue")
            self._recorder.change_order(owner.order_id, OrderState.FILLED, fill.time_ms, "made at the venue")

    def record_ledger(self) -> None:
        """Write down what the ledger has and the record has not."""
        for entry in self._ledger.entries[self._recorded_entries :]:
            self._recorder.record_ledger_entry(entry)
        for trade in self._ledger.trades[self._recorded_trades :]:
            self._recorder.record_trade(trade)
        for trade in self._ledger.amended:
            self._recorder.change_trade(trade)
        self._ledger.amended.clear()
        self._recorded_entries, self._recorded_trades = len(self._ledger.entries), len(self._ledger.trades)

    def let_go(self) -> None:
        """Forget what is written down; the account itself looks back at its last row only."""
        ledger = self._ledger
        for recorded in (ledger.fills, ledger.entries, ledger.trades):
            del recorded[:-1]
        self._recorded_entries, self._recorded_trades = len(ledger.entries), len(ledger.trades)
