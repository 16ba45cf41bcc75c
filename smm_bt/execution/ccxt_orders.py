"""One order from decision to booked executions, on a venue that may answer late, twice, wrongly or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import NamedTuple

from smm_bt.errors import VenueError
from smm_bt.execution.fill_tracker import FillTracker
from smm_bt.execution.host_clock import HostClock
from smm_bt.execution.instrument import Instrument
from smm_bt.execution.newest import Newest
from smm_bt.execution.order_ids import OrderName, client_order_id
from smm_bt.execution.run_recorder import NEVER_ARRIVED, NEVER_SENT, RunRecorder, SentOrder
from smm_bt.execution.settle import Patience, Settlement
from smm_bt.execution.venue_client import VenueClient
from smm_bt.execution.venue_errors import Reaction, VenueFault, VenueSilent
from smm_bt.execution.venue_rows import VenueOrder
from smm_bt.model import ORDER_TRANSITIONS, OrderState, side_name

#: Of so many orders the state is remembered; an older one has long ended.
_REMEMBERED = 1_000
#: Whether a position may still be opened on the candle with this open time.
IsFresh = Callable[[int], bool]


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


class Flight:
    """An order that was sent: the venue's orders it has become, and what ended it early, if anything did."""

    def __init__(self, ticket: Ticket) -> None:
        self.ticket = ticket
        self.orders: list[VenueOrder] = []
        self.end: _Ended | None = None

    @property
    def executed(self) -> Decimal:
        """What the venue says it has executed."""
        return sum((order.executed_qty for order in self.orders), Decimal(0))

    @property
    def rows(self) -> list[Mapping[str, object]]:
        """The venue's own rows."""
        return [order.raw for order in self.orders]


class OrderDesk:
    """Sends tickets one at a time, and books their executions afterwards, for many tickets at once.

    Every request is recorded before it is sent. What the venue answered is recorded with the next step, in the same
    commit: a process killed before that finds the order by its client id, which is recorded already.
    """

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
        is_fresh: IsFresh | None = None,
    ) -> None:
        self._client = client
        self._instruments = instruments
        self._tracker = tracker
        self._settlement = settlement
        self._recorder = recorder
        self._run_id = run_id
        self._patience = patience
        self._clock = clock
        self._is_fresh = is_fresh
        self._states = Newest[str, OrderState](_REMEMBERED)
        self._steps: list[Callable[[], object]] = []

    def send(self, ticket: Ticket) -> Flight:
        """Send ``ticket`` and follow it to its end at the venue; its executions are booked by :meth:`settle`.

        Raises:
            VenueError: the run must stop; what is unknown stays recorded as unknown. Never VenueSilent, which would
                invite to try again.
        """
        kind, reduce_only = "market", all(piece.reduce_only for piece in ticket.pieces)
        sent = SentOrder(
            ticket.order_id, ticket.name.symbol, kind, ticket.side, float(ticket.qty), None, reduce_only, ticket.reason
        )
        self._steps.append(partial(self._recorder.record_order, sent, self._clock.now_ms()))
        self._states.setdefault(ticket.order_id, OrderState.CREATED)
        flight, part = Flight(ticket), 0
        try:
            for piece in ticket.pieces:
                for qty in self._split(ticket.name.symbol, piece.qty):
                    self._send_part(flight, Piece(qty, piece.reduce_only), part)
                    part += 1
        except _Ended as end:
            flight.end = end
        except VenueSilent as silent:
            self._write_down()
            raise VenueError(
                f"Order {ticket.order_id} may be at the venue, which does not answer any more ({silent}); nothing was "
                "sent again. Start with --resume: it is looked up first."
            ) from silent
        except VenueError:
            self._write_down()
            raise
        return flight

    def settle(self, flights: Sequence[Flight], *, patient: bool = True) -> list[Outcome]:
        """Book all executions of ``flights``, in the order they happened, and record how each order ended.

        Args:
            flights: what :meth:`send` returned.
            patient: whether to wait for a venue that is silent or reports executions late.

        Raises:
            VenueError: the executions could not be read; the orders stay recorded as unfinished.
        """
        self._book(flights, self._patience.silence_s if patient else 0.0)
        outcomes = [self._landed(flight) for flight in flights]
        self._write_down()
        return outcomes

    def expect(self, ticket: Ticket) -> None:
        """Say whose orders an earlier process may have placed, before executions are read."""
        for client_id in self._client_ids(ticket):
            self._tracker.expect(client_id, ticket.order_id, ticket.reason)

    def recover(self, ticket: Ticket, state: OrderState) -> Outcome | None:
        """Find out what became of an order an earlier process recorded and did not see the end of.

        Nothing is sent. Every ticket to recover must be expected first: executions are read symbol by symbol.
        Returns None when it never reached the venue: it is recorded as ended, and may be made again under another id.

        Raises:
            VenueError: it cannot be known.
        """
        self._states[ticket.order_id] = state
        flight = Flight(ticket)
        for order in self._placed_before(ticket, state):
            self._tracker.recount(order.symbol, order.venue_id)
            flight.orders.append(self._to_its_end(ticket, order))
        if not flight.orders:
            if state is OrderState.CREATED:
                self._move(ticket.order_id, OrderState.CANCELED, NEVER_SENT)
            else:
                self._move(ticket.order_id, OrderState.REJECTED, NEVER_ARRIVED)
            self._write_down()
            return None
        self._book([flight], self._patience.silence_s)
        outcome = self._landed(flight, " before the restart")
        self._write_down()
        return outcome

    def _client_ids(self, ticket: Ticket) -> list[str]:
        # one more part than the quantity needs: an order that closed and then opened was cut once more
        parts = range(1 + sum(len(self._split(ticket.name.symbol, piece.qty)) for piece in ticket.pieces))
        attempts = range(self._patience.attempts)
        return [client_order_id(self._run_id, ticket.name, a, p) for p in parts for a in attempts]

    def _placed_before(self, ticket: Ticket, state: OrderState) -> list[VenueOrder]:
        """Return the orders an earlier process placed for ``ticket``; waits where one may still arrive."""
        symbol, ids = ticket.name.symbol, self._client_ids(ticket)
        if state in (OrderState.SUBMITTED, OrderState.UNKNOWN):
            self._settlement.find(symbol, ids[0], self._clock.seconds())
        orders: list[VenueOrder] = []
        for client_id in ids:
            if sum(order.executed_qty for order in orders) >= ticket.qty:
                break  # nothing was sent after the whole quantity had been filled
            order = self._settlement.lookup(symbol, client_id)
            orders += [order] if order is not None else []
        return orders

    def _split(self, symbol: str, qty: Decimal) -> list[Decimal]:
        """Cut what is larger than the venue takes at once into steps of its maximum."""
        instrument = self._instruments[symbol]
        largest = instrument.floor_qty(instrument.max_qty)
        pieces = [largest] * int(qty // largest)
        return pieces + ([qty % largest] if qty % largest else [])

    def _send_part(self, flight: Flight, piece: Piece, part: int) -> None:
        """Send one part, again only when the attempt before is proven not to have been placed."""
        ticket, executed, begun_s = flight.ticket, Decimal(0), self._clock.seconds()
        last = "no attempt was made"
        for attempt in range(self._patience.attempts):
            if not piece.reduce_only:
                self._stop_if_late(flight, begun_s, last)
            client_id = client_order_id(self._run_id, ticket.name, attempt, part)
            rest = Piece(piece.qty - executed, piece.reduce_only)
            order, problem = self._attempt(ticket, rest, client_id, attempt)
            if order is None:
                last = problem
                continue
            flight.orders.append(self._to_its_end(ticket, order))
            executed += flight.orders[-1].executed_qty
            if executed >= piece.qty or not piece.reduce_only:
                return
            last = f"{executed:f} of {piece.qty:f} were filled"
        raise _Ended(Reaction.REFUSED, f"given up after {self._patience.attempts} attempts: {last}")

    def _stop_if_late(self, flight: Flight, begun_s: float, last: str) -> None:
        """Give an entry up that the venue's wish for quiet, or what came before, has made too old to be sent."""
        self._client.wire.budget.await_turn(1, order=True)  # asked after the wait: it may be longer than a candle
        ticket, waited_s = flight.ticket, self._clock.seconds() - begun_s
        if self._is_fresh is None:
            late = waited_s > self._patience.fresh_s
        else:
            late = not self._is_fresh(ticket.name.candle_ms)
        if not late:
            return
        if self._is_fresh is not None and not flight.executed:
            message = f"entry {side_name(ticket.side)} dropped: it could not be carried out while its candle was fresh"
            data = {"candle_ms": ticket.name.candle_ms}
            record = partial(self._recorder.record_event, self._clock.now_ms(), "entry_dropped", message)
            self._steps.append(partial(record, ticket.name.symbol, data))
        raise _Ended(Reaction.REFUSED, f"too late for an entry after {waited_s:.0f} s: {last}")

    def _attempt(self, ticket: Ticket, piece: Piece, client_id: str, attempt: int) -> tuple[VenueOrder | None, str]:
        """Send once; return the order, or None and why there is none."""
        self._tracker.expect(client_id, ticket.order_id, ticket.reason)
        self._move(ticket.order_id, OrderState.SUBMITTED, client_id)
        self._write_down()
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
            self._write_down()
            return self._settlement.find(ticket.name.symbol, client_id, self._signed_at_s)
        if reaction is Reaction.STOP:
            self._move(ticket.order_id, OrderState.REJECTED, str(fault.failure))
            raise fault
        raise _Ended(reaction, str(fault.failure))

    def _to_its_end(self, ticket: Ticket, order: VenueOrder) -> VenueOrder:
        """Wait until nothing more of the order will be filled; return it as it ended."""
        self._move(ticket.order_id, OrderState.ACCEPTED, f"venue order {order.venue_id}")
        give_up, number = self._clock.seconds() + self._patience.silence_s, 0
        while True:
            with suppress(VenueSilent):
                order = order if order.ended else self._again(order)
            self._tracker.tell(order)
            if order.ended:
                break
            if self._clock.seconds() > give_up:
                raise _unreported(order, self._patience.silence_s)
            self._clock.sleep(self._patience.wait_s(number))
            number += 1
        if order.executed_qty:
            self._move(ticket.order_id, OrderState.PARTIALLY_FILLED, "")
        return order

    def _again(self, order: VenueOrder) -> VenueOrder:
        return self._client.order_by_venue_id(order.symbol, order.venue_id) or order

    def _book(self, flights: Sequence[Flight], silence_s: float) -> None:
        """Read own trades until every execution the venue told of is booked."""
        self._write_down()
        orders = [order for flight in flights for order in flight.orders]
        give_up, number = self._clock.seconds() + silence_s, 0
        while missing := [order for order in orders if self._is_missing(order)]:
            with suppress(VenueSilent):
                self._tracker.collect(dict.fromkeys(order.symbol for order in missing))
                missing = [order for order in missing if self._is_missing(order)]
            if not missing:
                break
            if self._clock.seconds() >= give_up:
                raise _unreported(missing[0], silence_s)
            self._clock.sleep(self._patience.wait_s(number))
            number += 1
        for order in orders:
            self._tracker.forget(order)

    def _is_missing(self, order: VenueOrder) -> bool:
        return self._tracker.missing_qty(order) > float(self._instruments[order.symbol].step) / 2

    def _landed(self, flight: Flight, when: str = "") -> Outcome:
        """Record how an order ended whose executions are booked."""
        ticket, end, executed, rows = flight.ticket, flight.end, flight.executed, flight.rows
        state, why, margin = OrderState.FILLED, "", False
        if end is not None:
            cancelled = executed or end.reaction is Reaction.GONE
            state, why = (OrderState.CANCELED if cancelled else OrderState.REJECTED), end.why
            margin = not cancelled and end.reaction is Reaction.MARGIN
        elif executed < ticket.qty:
            state, why = OrderState.EXPIRED, f"the venue filled {executed:f} of {ticket.qty:f}{when}"
        self._move(ticket.order_id, state, why)
        return Outcome(state, why, margin, rows)

    def _move(self, order_id: str, state: OrderState, detail: str) -> None:
        """Take a step of the order's life; what the transition table has no room for becomes an event."""
        before, now_ms = self._states.get(order_id, OrderState.CREATED), self._clock.now_ms()
        if state in ORDER_TRANSITIONS[before]:
            self._states[order_id] = state
            self._steps.append(partial(self._recorder.change_order, order_id, state, now_ms, detail))
        elif state is not before or detail:
            message = f"{order_id} stays {before.value}: {state.value} {detail}".rstrip()
            self._steps.append(partial(self._recorder.record_event, now_ms, "order_detail", message))

    def _write_down(self) -> None:
        """Record the steps taken since the last time, in one durable commit."""
        if not self._steps:
            return
        with self._recorder.together():
            for step in self._steps:
                step()
        self._steps.clear()


def _unreported(order: VenueOrder, after_s: float) -> VenueError:
    return VenueError(
        f"Order {order.client_id} is {order.status} at the venue and its executions are not all reported after "
        f"{after_s:.0f} s; start with --resume once the venue has caught up."
    )
