"""One run's account on a practice venue: start-up and recovery in one path, orders, and keeping in step."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal

from smm_bt.errors import VenueError
from smm_bt.execution.ccxt_orders import OrderDesk, Outcome, Ticket
from smm_bt.execution.costs import NoStopLoss
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
    ) -> None:
        self.client = client
        self.symbols = tuple(symbols)
        self.run_id = run_id
        self.recorder = recorder or NoRecorder()
        self.clock = client.wire.clock
        self.adopt = adopt
        self.patience = patience or Patience()
        self.available_usdt = Decimal(0)
        self.server_ms = 0
        self._stop_loss = stop_loss or NoStopLoss()

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
        client, ledger, patience, clock = self.client, self.ledger, self.patience, self.clock
        self.tracker = FillTracker(client, ledger, self.recorder, self.run_id)
        settlement = Settlement(client, ledger, self.tracker, patience, clock)
        self.desk = OrderDesk(
            client, self.instruments, self.tracker, settlement, self.recorder, self.run_id, patience, clock
        )
        self.stops = VenueStops(client, ledger, settlement, self.recorder, self.run_id, patience, clock)

    def _begin(self, latest: dict[str, int], resume: ResumeState | None) -> None:
        known = resume.first_trade_ids if resume is not None else {}
        for symbol in self.symbols:
            if symbol in latest:
                self.tracker.begin_at(symbol, latest[symbol] + 1)
            elif symbol in known:
                self.tracker.begin_at(symbol, known[symbol])
            else:
                self.tracker.begin_after_latest(symbol)
        if resume is None:
            first = self.tracker.next_ids()
            self.recorder.record_event(self.clock.now_ms(), "fills_begin", "first trade numbers", data=first)
        times = [entry.time_ms for entry in self.ledger.entries]
        self.tracker.begin_income(max(times) + 1 if times else self.server_ms)

    def _recover(self, resume: ResumeState) -> None:
        for position in self.ledger.positions.values():
            self.tracker.booked.append(_as_opened(self.ledger, position.symbol))
        for ticket, state in resume.unfinished:
            self.desk.recover(ticket, state)
        self.tracker.collect_all(self.server_ms, income=True)

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

        Raises:
            VenueSilent: the venue could not be read; nothing has changed.
            VenueError: the venue's position or a foreign trade cannot be explained.
        """
        self.server_ms = self.client.server_time_ms()
        self.tracker.collect_all(self.server_ms)
        state = self._agreeing_state()
        self._follow_wallet(state)
        self.available_usdt = state.available_usdt

    def _agreeing_state(self) -> AccountState:
        """Return the account once its quantities equal the booked ones; a fill may fall between two reads."""
        for number in range(self.patience.attempts):
            state = self.client.account()
            wrong = [symbol for symbol in self.symbols if not self._agrees(symbol, state)]
            if not wrong:
                return state
            self.clock.sleep(self.patience.wait_s(number))
            self.tracker.collect_all(self.server_ms)
        symbol = wrong[0]
        held = self.ledger.positions.get(symbol)
        raise VenueError(
            f"The venue holds {state.quantities.get(symbol, 0):f} {symbol} where the run has booked "
            f"{held.signed_qty if held else 0:g}, and no trade explains it; look at the account before going on."
        )

    def _agrees(self, symbol: str, state: AccountState) -> bool:
        held = self.ledger.positions.get(symbol)
        there, booked = float(state.quantities.get(symbol, 0)), held.signed_qty if held is not None else 0.0
        return abs(there - booked) < float(self.instruments[symbol].step) / 2

    def _follow_wallet(self, state: AccountState) -> None:
        """Explain a wallet that is not what was booked by funding not yet read; else follow it and say so."""
        tolerance = 1e-6 * max(1.0, float(state.wallet_usdt))
        if abs(float(state.wallet_usdt) - self.ledger.wallet_usdt) <= tolerance:
            return
        self.tracker.collect_all(self.server_ms, income=True)
        wallet = float(self.client.account().wallet_usdt)
        difference = wallet - self.ledger.wallet_usdt
        if abs(difference) <= tolerance:
            return
        self.ledger.adjust(difference, self.server_ms)
        with self.recorder.together():
            self.tracker.record_ledger()
            message = f"the wallet changed by {difference:+.8f} USDT that no trade or funding explains"
            self.recorder.record_event(self.clock.now_ms(), "wallet_adjusted", message)

    def size_entry(self, symbol: str, side: int) -> Decimal | Skip:
        """Return the quantity of an entry now, on the fresh free balance and the price it would meet."""
        self.available_usdt = self.client.account().available_usdt
        ticker = self.client.fetch_book_ticker(symbol)
        price = ticker.ask if side > 0 else ticker.bid
        return position_size(self.available_usdt, price, self.instruments[symbol])

    def execute(self, ticket: Ticket) -> Outcome:
        """Carry out an order to its end and read the free balance it leaves."""
        outcome = self.desk.execute(ticket)
        with suppress(VenueSilent):  # the order is done; its result must not be lost to a failed read
            self.available_usdt = self.client.account().available_usdt
        return outcome


def _as_opened(ledger: VenueLedger, symbol: str) -> Booked:
    """Return the one execution that stands for a position of an earlier process."""
    position = ledger.positions[symbol]
    qty, price = Decimal(repr(position.qty)), Decimal(repr(position.entry_price))
    fill = adopted_fill(VenuePosition(symbol, "BOTH", position.side * qty, price, position.entry_ms))
    return Booked(fill, position.entry_order_id, "", None, position.signed_qty, position.fees_usdt, 0.0)
