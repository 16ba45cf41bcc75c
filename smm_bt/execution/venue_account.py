"""One run's account on a practice venue: start-up and recovery in one path, orders, and keeping in step."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal

from smm_bt.errors import VenueError
from smm_bt.execution.ccxt_orders import Flight, IsFresh, OrderDesk, Outcome, Ticket
from smm_bt.execution.costs import NoStopLoss
from smm_bt.execution.entry_prices import EntryPrices
from smm_bt.execution.fill_tracker import FillTracker
from smm_bt.execution.run_recorder import NoRecorder, RunRecorder, SentOrder
from smm_bt.execution.settle import Patience, Settlement
from smm_bt.execution.sizing import Skip, position_size
from smm_bt.execution.venue_client import VenueClient
from smm_bt.execution.venue_errors import VenueSilent
from smm_bt.execution.venue_ledger import Booked, VenueLedger
from smm_bt.execution.venue_rows import AccountState, VenuePosition
from smm_bt.execution.venue_startup import (
    ResumeState,
    adopted_fill,
    check_foreign,
    check_leverage_limits,
    rebuild,
    set_account_modes,
    set_symbol_modes,
)
from smm_bt.execution.venue_stops import VenueStops
from smm_bt.model import OrderState

#: The least that happens to a wallet costs more than this, and rounding makes less.
_ROUNDING_USDT = 1e-4
#: How long the account may be behind the answer to an order before anything else is suspected.
_LAG_S = 0.05


class VenueAccount:
    """What :class:`CcxtBroker` trades on; knows nothing of Backtrader.

    Args:
        client: the venue.
        symbols: what this run trades, in order.
        run_id: names the run in every client order id.
        recorder: what is written down, before and after each step.
        stop_loss: the optional stop.
        patience: how long to wait for the venue.
        adopt: take over positions this run did not open, and leave foreign orders alone.
        is_fresh: whether a position may still be opened on the candle with this open time; without it an entry is
            given up ``patience.fresh_s`` after it was to be sent.
    """

    def __init__(
        self,
        client: VenueClient,
        symbols: Sequence[str],
        run_id: str,
        recorder: RunRecorder | None = None,
        *,
        stop_loss: NoStopLoss | None = None,
        patience: Patience | None = None,
        adopt: bool = False,
        is_fresh: IsFresh | None = None,
    ) -> None:
        self.client = client
        self.symbols = tuple(symbols)
        self.run_id = run_id
        self.recorder = recorder or NoRecorder()
        self.clock = client.wire.clock
        self.adopt = adopt
        self.patience = patience or Patience()
        self._is_fresh = is_fresh
        self.available_usdt = Decimal(0)
        self.server_ms = 0
        self._stop_loss = stop_loss or NoStopLoss()
        self._prices = EntryPrices(client, self.clock)
        self._flights: list[Flight] = []
        self._has_news = False
        self._ahead_usdt: float | None = 0.0  # venue's wallet less ours when both were last found in step

    # ---- start-up and recovery

    def start(self, resume: ResumeState | None = None) -> None:
        """Bring the account and the books to the point where trading may go on.

        Raises:
            VenueError: something at the venue cannot be adopted; the message says what and what to do.
        """
        offset_ms = self.client.wire.sync_clock()
        self.server_ms = self.client.server_time_ms()
        self.instruments = self.client.instruments(self.symbols)
        check_leverage_limits(self.instruments.values())
        positions = self.client.positions()
        set_account_modes(self.client, positions)
        state = self.client.account()
        initial = resume.initial_balance_usdt if resume is not None else float(state.wallet_usdt)
        self.ledger = VenueLedger(initial, self.instruments, self._stop_loss)
        latest = rebuild(self.ledger, resume) if resume is not None else {}
        self._wire_parts()
        self._begin(latest, resume)
        if resume is not None:
            self._recover(resume)
        stops = check_foreign(self.client, self.ledger, positions, self.run_id, adopt=self.adopt)
        if self.adopt:
            self._adopt([p for p in self.client.positions() if p.symbol in self.symbols])
        for symbol in self.symbols:
            set_symbol_modes(self.client, symbol, held=symbol in self.ledger.positions)
        self.stops.take_over(stops)
        self.refresh()
        self.recorder.record_event(
            self.clock.now_ms(), "venue_ready", f"{self.client.wire.venue.address}, clock offset {offset_ms} ms"
        )

    def _wire_parts(self) -> None:
        client, ledger, recorder, patience, clock = self.client, self.ledger, self.recorder, self.patience, self.clock
        self.tracker = FillTracker(client, ledger, recorder, self.run_id)
        settlement = Settlement(client, ledger, self.tracker, patience, clock)
        parts = (client, self.instruments, self.tracker, settlement, recorder)
        self.desk = OrderDesk(*parts, self.run_id, patience, clock, self._is_fresh)
        self.stops = VenueStops(client, ledger, settlement, recorder, self.run_id, patience, clock)

    def _begin(self, latest: dict[str, int], resume: ResumeState | None) -> None:
        known = resume.first_trade_ids if resume is not None else {}
        for symbol in self.symbols:
            if symbol in latest or symbol in known:  # a position taken over was booked as trade 0
                self.tracker.begin_at(symbol, max(latest.get(symbol, -1) + 1, known.get(symbol, 0)))
            else:
                self.tracker.begin_after_latest(symbol)
        if not known:  # before any order is sent: an order this run has not booked is found by these numbers
            first = self.tracker.next_ids()
            self.recorder.record_event(self.clock.now_ms(), "fills_begin", "first trade numbers", data=first)
        self.tracker.begin_income(self._funding_begins(resume))

    def _funding_begins(self, resume: ResumeState | None) -> int:
        """Return from when on funding is asked for: what was settled while nobody looked is booked later."""
        if resume is None:
            return self.server_ms
        settled = [entry.time_ms for entry in resume.changes if entry.symbol]
        traded = [fill.time_ms for fill, fill_id in resume.fills if not fill_id.endswith(":0")]  # not those taken over
        return max(settled) if settled else min(traded, default=self.server_ms)

    def _recover(self, resume: ResumeState) -> None:
        for position in self.ledger.positions.values():
            self.tracker.booked.append(_as_opened(self.ledger, position.symbol))
        for ticket, _ in resume.unfinished:
            self.desk.expect(ticket)
        for ticket, state in resume.unfinished:
            self.desk.recover(ticket, state)
        self.tracker.collect_all(self.symbols, self.server_ms)

    def _adopt(self, positions: Sequence[VenuePosition]) -> None:
        for position in positions:
            if position.symbol in self.ledger.positions:
                continue
            fill, order_id = adopted_fill(position), f"adopted-{position.symbol}"
            booked = self.ledger.book(fill, order_id, "")
            with self.recorder.together():
                sent = SentOrder(order_id, fill.symbol, "adopted", fill.side, float(fill.qty), None, False, "")
                if self.recorder.record_order(sent, fill.time_ms):
                    self.recorder.change_order(order_id, OrderState.SUBMITTED, fill.time_ms, "found at the venue")
                    self.recorder.change_order(order_id, OrderState.FILLED, fill.time_ms, "found at the venue")
                self.recorder.record_fill(self.ledger.fills[-1], f"{fill.symbol}:0")
                self.tracker.record_ledger()
            self.tracker.booked.append(booked)

    # ---- while running

    def refresh(self) -> None:
        """Read what happened at the venue, book it, and check that both sides hold the same.

        One read of the account tells whether anything happened that is not booked; trades and funding are read only
        then, and funding after each full hour.

        Raises:
            VenueSilent: the venue could not be read; nothing has changed.
            VenueError: the venue's position or a foreign trade cannot be explained.
        """
        self._prices.forget()
        self.server_ms = self.client.server_time_ms()
        state = self.client.account()
        due = bool(self.ledger.positions) and self.tracker.income_is_due(self.server_ms)
        if due or not self._is_explained(state):
            state = self._catch_up(state, due=due)
        self._take(state)

    def _catch_up(self, state: AccountState, *, due: bool) -> AccountState:
        """Book what is new, first where the quantities say so, then wherever it may be; return the account after it."""
        changed = self._changed(state)
        if due:
            self.tracker.collect_all(changed, self.server_ms)
        elif changed:
            self.tracker.collect(changed)
        state = self._agreeing_state()
        if not self._is_explained(state):
            self.tracker.collect_all(self.symbols, self.server_ms)
            state = self._agreeing_state()
            self._follow_wallet(state)
        return state

    def _take(self, state: AccountState) -> None:
        self.available_usdt, self._has_news = state.available_usdt, False
        self._ahead_usdt = float(state.wallet_usdt) - self.ledger.wallet_usdt

    def _is_explained(self, state: AccountState) -> bool:
        """Whether quantities and wallet are what is booked; the wallet's rounding may differ from ours."""
        if self._ahead_usdt is None or self._changed(state):
            return False
        difference = float(state.wallet_usdt) - self.ledger.wallet_usdt
        return abs(difference - self._ahead_usdt) <= _ROUNDING_USDT and self._is_followed(state)

    def _is_followed(self, state: AccountState) -> bool:
        tolerance = 1e-6 * max(1.0, float(state.wallet_usdt))
        return abs(float(state.wallet_usdt) - self.ledger.wallet_usdt) <= tolerance

    def _agreeing_state(self) -> AccountState:
        """Return the account once it holds what our orders have done to it; a fill may fall between two reads."""
        waits = [self.patience.wait_s(number) for number in range(self.patience.attempts - 1)]
        for number, wait_s in enumerate([min(_LAG_S, self.patience.first_wait_s), *waits]):
            state = self.client.account()
            wrong = self._changed(state)
            if not wrong:
                return state
            self.clock.sleep(wait_s)
            if number:
                self.tracker.collect(wrong)
        symbol = wrong[0]
        raise VenueError(
            f"The venue holds {state.quantities.get(symbol, 0):f} {symbol} where the run has booked "
            f"{self._expected_qty(symbol):g}, and no trade explains it; look at the account before going on."
        )

    def _changed(self, state: AccountState) -> list[str]:
        """Return the symbols of which the venue holds another quantity than the run knows of."""
        return [symbol for symbol in self.symbols if not self._agrees(symbol, state)]

    def _agrees(self, symbol: str, state: AccountState) -> bool:
        there = float(state.quantities.get(symbol, 0))
        return abs(there - self._expected_qty(symbol)) < float(self.instruments[symbol].step) / 2

    def _expected_qty(self, symbol: str) -> float:
        return self.ledger.standing(symbol)[0] + self.tracker.unbooked_qty(symbol)

    def _follow_wallet(self, state: AccountState) -> None:
        """Follow a wallet that neither trades nor funding explain, and say so."""
        if self._is_followed(state):
            return
        difference = float(state.wallet_usdt) - self.ledger.wallet_usdt
        self.ledger.adjust(difference, self.server_ms)
        with self.recorder.together():
            self.tracker.record_ledger()
            message = f"the wallet changed by {difference:+.8f} USDT that no trade or funding explains"
            self.recorder.record_event(self.clock.now_ms(), "wallet_adjusted", message)

    def size_entry(self, symbol: str, side: int, waiting: int = 1) -> Decimal | Skip:
        """Return the quantity of an entry now, on the free balance all orders before it have left.

        Args:
            symbol: what to enter.
            side: +1 long, −1 short.
            waiting: how many entries wait to be sized, this one included; many share a read of the prices.
        """
        self.available_usdt = self._agreeing_state().available_usdt
        ticker = self._prices.of(symbol, waiting)
        price = ticker.ask if side > 0 else ticker.bid
        return position_size(self.available_usdt, price, self.instruments[symbol])

    # ---- orders

    @property
    def has_stops(self) -> bool:
        """Whether positions are protected by a stop at the venue."""
        return type(self._stop_loss) is not NoStopLoss

    @property
    def in_flight(self) -> set[str]:
        """The symbols with orders that were sent and are not settled."""
        return {flight.ticket.name.symbol for flight in self._flights}

    def send(self, ticket: Ticket) -> None:
        """Send an order and follow it to its end at the venue; :meth:`settle` books it."""
        self._flights.append(self.desk.send(ticket))

    def settle(self, *, patient: bool = True) -> list[tuple[str, Outcome]]:
        """Book what was sent and return each order's id and outcome; :meth:`look` then reads what it leaves."""
        outcomes = self.desk.settle(self._flights, patient=patient)
        landed = [(flight.ticket.order_id, outcome) for flight, outcome in zip(self._flights, outcomes, strict=True)]
        self._flights.clear()
        self._has_news = self._has_news or bool(landed)
        return landed

    def look(self) -> None:
        """Read the free balance that the settled orders have left; with the venue silent it stays as last read."""
        if not self._has_news:
            return
        with suppress(VenueSilent):  # the orders are done; their results must not be lost to a failed read
            state = self.client.account()
            self.available_usdt, self._has_news = state.available_usdt, False
            if not self._is_explained(state):
                self._ahead_usdt = None  # something else happened, too: the next refresh looks everywhere

    def finish(self) -> None:
        """Book at the end what the last look showed and nobody has come to, such as funding before a last close."""
        if self._ahead_usdt is not None:
            return
        try:
            self.refresh()
        except VenueError as problem:  # all orders are done; the run's end must not be lost to a failed read
            self.recorder.record_event(self.clock.now_ms(), "wallet_not_read", str(problem))

    def let_go(self) -> None:
        """Forget what the recorder has written down; without one the ledger's own lists are all there is."""
        self.tracker.let_go()

    def execute(self, ticket: Ticket) -> Outcome:
        """Carry out one order to its end and book it, with nothing else in flight."""
        self.send(ticket)
        ((_, outcome),) = self.settle()
        self.look()
        return outcome


def _as_opened(ledger: VenueLedger, symbol: str) -> Booked:
    """Return the one execution that stands for a position of an earlier process."""
    position = ledger.positions[symbol]
    qty, price = Decimal(repr(position.qty)), Decimal(repr(position.entry_price))
    fill = adopted_fill(VenuePosition(symbol, "BOTH", position.side * qty, price, position.entry_ms))
    return Booked(
        fill, position.entry_order_id, "", None, position.signed_qty, position.fees_usdt, 0.0, *ledger.standing(symbol)
    )
