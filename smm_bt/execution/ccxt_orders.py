"""One order from decision to booked executions, on a venue that may answer late, twice, wrongly or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from smm_bt.errors import VenueError
from smm_bt.execution.fill_tracker import FillTracker
from smm_bt.execution.host_clock import HostClock
from smm_bt.execution.instrument import Instrument
from smm_bt.execution.order_ids import OrderName, client_order_id
from smm_bt.execution.run_recorder import RunRecorder, SentOrder
from smm_bt.execution.settle import Patience, Settlement
from smm_bt.execution.venue_client import VenueClient
from smm_bt.execution.venue_errors import Reaction, VenueFault, VenueSilent
from smm_bt.execution.venue_rows import VenueOrder
from smm_bt.model import ORDER_TRANSITIONS, OrderState


class Piece(NamedTuple):
    """A part of an order that is sent by itself: a close and an entry are never one request."""

    qty: Decimal
    reduce_only: bool


class Ticket(NamedTuple):
    """An order to be executed now; ``pieces`` go out one after the other."""

    order_id: str
    name: OrderName
    side: int
    pieces: tuple[Piece, ...]
    reason: str

    @property
    def qty(self) -> Decimal:
        """The whole quantity."""
        return sum((piece.qty for piece in self.pieces), Decimal(0))


class Outcome(NamedTuple):
    """How an order ended; ``margin`` marks a rejection for want of margin. ``rows`` are the venue's own rows."""

    state: OrderState
    why: str
    margin: bool
    rows: list[Mapping[str, object]]


class _Ended(Exception):
    """The venue said no for good."""

    def __init__(self, reaction: Reaction, why: str) -> None:
        super().__init__(why)
        self.reaction = reaction
        self.why = why


class OrderDesk:
    """Executes tickets one at a time; every step is recorded before the next one is taken."""

    def __init__(
        self,
        client: VenueClient,
        instruments: Mapping[str, Instrument],
        tracker: FillTracker,
        settlement: Settlement,
        recorder: RunRecorder,
        run_id: str,
        patience: Patience,
        clock: HostClock,
    ) -> None:
        self._client = client
        self._instruments = instruments
        self._tracker = tracker
        self._settlement = settlement
        self._recorder = recorder
        self._run_id = run_id
        self._patience = patience
        self._clock = clock
        self._states: dict[str, OrderState] = {}

    def execute(self, ticket: Ticket) -> Outcome:
        """Send ``ticket``, follow it to its end and book its executions.

        Raises:
            VenueError: the run must stop; what is unknown stays recorded as unknown. Never VenueSilent, which would
                invite to try again.
        """
        kind, reduce_only = "market", all(piece.reduce_only for piece in ticket.pieces)
        sent = SentOrder(
            ticket.order_id, ticket.name.symbol, kind, ticket.side, float(ticket.qty), None, reduce_only, ticket.reason
        )
        self._recorder.record_order(sent, self._clock.now_ms())
        self._states.setdefault(ticket.order_id, OrderState.CREATED)
        rows: list[Mapping[str, object]] = []
        wanted, executed, part = ticket.qty, Decimal(0), 0
        try:
            for piece in ticket.pieces:
                for qty in self._split(ticket.name.symbol, piece.qty):
                    executed += self._send_part(ticket, Piece(qty, piece.reduce_only), part, rows)
                    part += 1
        except _Ended as end:
            return self._ended(ticket, end, executed, rows)
        except VenueSilent as silent:
            raise VenueError(
                f"Order {ticket.order_id} may be at the venue, which does not answer any more ({silent}); nothing was "
                "sent again. Start with --resume: it is looked up first."
            ) from silent
        if executed < wanted:
            why = f"the venue filled {executed:f} of {wanted:f}"
            return self._outcome(ticket, OrderState.EXPIRED, why, rows)
        return self._outcome(ticket, OrderState.FILLED, "", rows)

    def recover(self, ticket: Ticket, state: OrderState) -> Outcome | None:
        """Find out what became of an order an earlier process recorded and did not see the end of.

        Nothing is sent. Returns None when it never reached the venue.

        Raises:
            VenueError: it cannot be known.
        """
        self._states[ticket.order_id] = state
        rows: list[Mapping[str, object]] = []
        executed = Decimal(0)
        for order in self._placed_before(ticket, state):
            self._tracker.recount(order.symbol, order.venue_id)
            executed += self._follow(ticket, order, rows)
        if not rows:
            if state is OrderState.CREATED:
                self._move(ticket.order_id, OrderState.CANCELED, "never sent")
            else:
                self._move(ticket.order_id, OrderState.REJECTED, "never reached the venue")
            return None
        complete = executed >= ticket.qty
        why = "" if complete else f"the venue filled {executed:f} of {ticket.qty:f} before the restart"
        return self._outcome(ticket, OrderState.FILLED if complete else OrderState.EXPIRED, why, rows)

    def _placed_before(self, ticket: Ticket, state: OrderState) -> list[VenueOrder]:
        """Return the orders an earlier process placed for ``ticket``; waits where one may still arrive."""
        symbol = ticket.name.symbol
        # one more than the quantity needs: an order that closed and then opened was cut once more
        parts = range(1 + sum(len(self._split(symbol, piece.qty)) for piece in ticket.pieces))
        ids = [client_order_id(self._run_id, ticket.name, a, p) for p in parts for a in range(self._patience.attempts)]
        for client_id in ids:
            self._tracker.expect(client_id, ticket.order_id, ticket.reason)
        if state in (OrderState.SUBMITTED, OrderState.UNKNOWN):
            self._settlement.find(symbol, ids[0], self._clock.seconds())
        orders = [self._settlement.lookup(symbol, client_id) for client_id in ids]
        return [order for order in orders if order is not None]

    def _split(self, symbol: str, qty: Decimal) -> list[Decimal]:
        """Cut what is larger than the venue takes at once into steps of its maximum."""
        instrument = self._instruments[symbol]
        largest = instrument.floor_qty(instrument.max_qty)
        pieces = [largest] * int(qty // largest)
        return pieces + ([qty % largest] if qty % largest else [])

    def _send_part(self, ticket: Ticket, piece: Piece, part: int, rows: list[Mapping[str, object]]) -> Decimal:
        """Send one part, again only when the attempt before is proven not to have been placed."""
        executed, begun_s = Decimal(0), self._clock.seconds()
        last = "no attempt was made"
        for attempt in range(self._patience.attempts):
            waited_s = self._clock.seconds() - begun_s
            if attempt and not piece.reduce_only and waited_s > self._patience.fresh_s:
                raise _Ended(Reaction.REFUSED, f"too late for an entry after {waited_s:.0f} s: {last}")
            client_id = client_order_id(self._run_id, ticket.name, attempt, part)
            rest = Piece(piece.qty - executed, piece.reduce_only)
            order, problem = self._attempt(ticket, rest, client_id, attempt)
            if order is None:
                last = problem
                continue
            executed += self._follow(ticket, order, rows)
            if executed >= piece.qty or not piece.reduce_only:
                return executed
            last = f"{executed:f} of {piece.qty:f} were filled"
        raise _Ended(Reaction.REFUSED, f"given up after {self._patience.attempts} attempts: {last}")

    def _attempt(self, ticket: Ticket, piece: Piece, client_id: str, attempt: int) -> tuple[VenueOrder | None, str]:
        """Send once; return the order, or None and why there is none."""
        self._tracker.expect(client_id, ticket.order_id, ticket.reason)
        self._move(ticket.order_id, OrderState.SUBMITTED, client_id)
        self._signed_at_s = self._clock.seconds()
        symbol, qty, reduce_only = ticket.name.symbol, piece.qty, piece.reduce_only
        try:
            return self._client.send_market_order(symbol, ticket.side, qty, client_id, reduce_only=reduce_only), ""
        except VenueFault as fault:
            return self._after_fault(ticket, client_id, fault, attempt), str(fault.failure)

    def _after_fault(self, ticket: Ticket, client_id: str, fault: VenueFault, attempt: int) -> VenueOrder | None:
        """Return the order the fault was hiding, or None when there is none and it may be sent again."""
        reaction = fault.rule.order
        if reaction in (Reaction.WAIT, Reaction.RESYNC):
            self._client.wire.prepare_retry(fault)
            return None
        if reaction is Reaction.AGAIN:
            self._clock.sleep(self._patience.wait_s(attempt))
            return None
        if reaction in (Reaction.ASK, Reaction.EXISTS):
            self._move(ticket.order_id, OrderState.UNKNOWN, f"{client_id}: {fault.failure}")
            return self._settlement.find(ticket.name.symbol, client_id, self._signed_at_s)
        if reaction is Reaction.STOP:
            self._move(ticket.order_id, OrderState.REJECTED, str(fault.failure))
            raise fault
        raise _Ended(reaction, str(fault.failure))

    def _follow(self, ticket: Ticket, order: VenueOrder, rows: list[Mapping[str, object]]) -> Decimal:
        """Wait for the order's end and for all its executions; return what was executed."""
        self._move(ticket.order_id, OrderState.ACCEPTED, f"venue order {order.venue_id}")
        give_up = self._clock.seconds() + self._patience.silence_s
        number = 0
        while True:
            try:
                order = order if order.ended else self._again(order)
                if order.executed_qty:
                    self._move(ticket.order_id, OrderState.PARTIALLY_FILLED, "")
                if order.ended and self._all_booked(order):
                    rows.append(order.raw)
                    return order.executed_qty
            except VenueSilent:
                pass
            if self._clock.seconds() > give_up:
                break
            self._clock.sleep(self._patience.wait_s(number))
            number += 1
        raise VenueError(
            f"Order {order.client_id} is {order.status} at the venue and its executions are not all reported after "
            f"{self._patience.silence_s:.0f} s; start with --resume once the venue has caught up."
        )

    def _again(self, order: VenueOrder) -> VenueOrder:
        return self._client.order_by_venue_id(order.symbol, order.venue_id) or order

    def _all_booked(self, order: VenueOrder) -> bool:
        missing = float(order.executed_qty) - self._tracker.executed_qty(order.symbol, order.venue_id)
        tolerance = float(self._instruments[order.symbol].step) / 2
        if missing > tolerance:
            self._tracker.collect(order.symbol)
            missing = float(order.executed_qty) - self._tracker.executed_qty(order.symbol, order.venue_id)
        return missing <= tolerance

    def _ended(self, ticket: Ticket, end: _Ended, executed: Decimal, rows: list[Mapping[str, object]]) -> Outcome:
        if executed or end.reaction is Reaction.GONE:
            return self._outcome(ticket, OrderState.CANCELED, end.why, rows)
        return self._outcome(ticket, OrderState.REJECTED, end.why, rows, margin=end.reaction is Reaction.MARGIN)

    def _outcome(
        self,
        ticket: Ticket,
        state: OrderState,
        why: str,
        rows: list[Mapping[str, object]],
        *,
        margin: bool = False,
    ) -> Outcome:
        self._move(ticket.order_id, state, why)
        return Outcome(state, why, margin, rows)

    def _move(self, order_id: str, state: OrderState, detail: str) -> None:
        """Record a step of the order's life; what the transition table has no room for becomes an event."""
        before = self._states.get(order_id, OrderState.CREATED)
        if state in ORDER_TRANSITIONS[before]:
            self._states[order_id] = state
            self._recorder.change_order(order_id, state, self._clock.now_ms(), detail)
        elif state is not before or detail:
            message = f"{order_id} stays {before.value}: {state.value} {detail}".rstrip()
            self._recorder.record_event(self._clock.now_ms(), "order_detail", message)
