"""CcxtBroker: a Backtrader broker on a practice venue, with the contract of PaperBroker."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import Any

import backtrader as bt

from feeds.bt_time import from_backtrader
from smm_bt.errors import VenueError
from smm_bt.execution.broker_orders import (
    BrokerPositions,
    Data,
    Order,
    set_size,
    venue_made_order,
    venue_symbol,
)
from smm_bt.execution.ccxt_orders import Outcome, Piece, Ticket
from smm_bt.execution.commission import FuturesCommission
from smm_bt.execution.order_book import OrderBook
from smm_bt.execution.order_ids import OrderName, order_name
from smm_bt.execution.sizing import Skip
from smm_bt.execution.venue_account import VenueAccount
from smm_bt.execution.venue_errors import VenueSilent
from smm_bt.execution.venue_ledger import Booked
from smm_bt.model import CloseReason, OrderState, SkippedEntry, side_name

_KNOWN_MAPPINGS = {"order_types", "mappings"}


class CcxtBroker(OrderBook):
    """Trades on a :class:`VenueAccount`; made by :meth:`CcxtStore.getbroker`.

    ``buy()`` and ``sell()`` take an order in (Submitted, Accepted); it is sent at the broker's next turn, closes
    before entries, and is then filled, or ends as Canceled, Rejected or Margin with ``order.info.why``. Orders that
    wait together are sent back to back and booked afterwards. Nothing raises through Cerebro: what must stop the run
    stops it through :attr:`halted`.

    Order keywords are those of PaperBroker: ``reduce_only``, ``sized_at_fill``, ``reason``, ``order_id``.
    """

    def __init__(
        self, account: VenueAccount, broker_mapping: Mapping[str, Any] | None = None, poll_s: float = 30.0
    ) -> None:
        """Trade on ``account``; ``poll_s`` is how often the venue is read between candles."""
        super().__init__()
        unknown = set(broker_mapping or {}) - _KNOWN_MAPPINGS
        if unknown:
            raise ValueError(f"broker_mapping holds {', '.join(sorted(unknown))}; known: order_types, mappings")
        self.account = account
        self.halted: VenueError | None = None
        self.silent = False
        self.skipped_entries: list[SkippedEntry] = []
        self.startingcash = self.startingvalue = self.cash = 0.0
        self._positions = BrokerPositions()
        self._clear_orders()
        self._sending: dict[str, Order] = {}
        self._openers: dict[str, Order] = {}
        self._unprotected: dict[str, None] = dict.fromkeys(account.symbols)
        self._poll_s = poll_s
        self._read_at_s = float("-inf")
        self._bars_seen = -1
        self.addcommissioninfo(FuturesCommission())

    # ---- what strategies, observers and analyzers ask

    @property
    def ledger(self) -> Any:
        """The books."""
        return self.account.ledger

    def start(self) -> None:
        """Remember what there is at the start."""
        super().start()
        self.startingcash = self.cash = self.getcash()
        self.startingvalue = self.getvalue()

    def stop(self) -> None:
        """Leave complete books behind."""
        super().stop()
        if self.halted is None and not self.silent:
            self.account.finish()

    def getcash(self) -> float:
        """Return the venue's free balance in USDT, as last read."""
        return float(self.account.available_usdt)

    get_cash = getcash

    def getvalue(self, datas: list[Data] | None = None) -> float:
        """Return the equity in USDT at the last closes, or the value of the positions in ``datas`` alone."""
        prices = self.last_prices()
        if datas is not None:
            symbols = {venue_symbol(data._name) for data in datas}
            held = [p for s, p in self.ledger.positions.items() if s in symbols]
            return float(sum(p.margin_usdt + p.unrealized_pnl(prices.get(p.symbol, p.entry_price)) for p in held))
        return float(self.ledger.equity_usdt(prices))

    get_value = getvalue

    def last_prices(self) -> dict[str, float]:
        """Return the last close of every symbol with an open position and a feed."""
        datas = {venue_symbol(data._name): data for data in self._datas()}
        held = [symbol for symbol in self.ledger.positions if symbol in datas and len(datas[symbol])]
        return {symbol: datas[symbol].close[0] for symbol in held}

    def _datas(self) -> list[Data]:
        return list(self.cerebro.datas) if getattr(self, "cerebro", None) is not None else []

    def getposition(self, data: Data, clone: bool = True) -> bt.Position:
        """Return the position of ``data``: signed size and average entry price."""
        position = self._positions.of(data)
        return position.clone() if clone else position

    def get_balance(self) -> tuple[float, float]:
        """Return (free balance, equity) in USDT."""
        return self.getcash(), self.getvalue()

    def get_wallet_balance(self, currency: str, params: Mapping[str, Any] | None = None) -> tuple[float, float]:
        """Return (free balance, wallet) of ``currency``; the account holds USDT."""
        return (self.getcash(), float(self.ledger.wallet_usdt)) if currency == "USDT" else (0.0, 0.0)

    @property
    def has_work(self) -> bool:
        """Whether orders wait to be sent or booked: a feed should then not make Cerebro wait for candles."""
        return bool(self._pending or self.account.in_flight) and self.halted is None

    # ---- orders in

    def _new(self, order: Order) -> Order:
        order.ccxt_order = None
        return order

    def submit(self, order: Order) -> Order:
        """Submit and accept ``order``, or reject what cannot be sent from here."""
        order.submit(self)
        self.notify(order)
        symbol = venue_symbol(order.data._name)
        if self.halted is not None:
            return self._end(order, order.reject, f"the run is stopped: {self.halted}")
        if order.exectype not in (None, bt.Order.Market):
            return self._end(order, order.reject, f"order type {order.getordername()} is not sent to the venue")
        if symbol not in self.account.symbols:
            return self._end(order, order.reject, f"no market rules are known for {order.data._name!r}")
        order.accept(self)
        self.notify(order)
        self._pending.append(order)
        return order

    # ---- one turn of Cerebro

    def next(self) -> None:
        """Read what happened at the venue, then send what waits; a failure that matters stops the run."""
        if self.halted is not None:
            return
        try:
            self._settle()  # what a turn that was cut short has left
            self._read_venue()
            self._hand_out()
            self._protect_all()
            self._send_pending()
            self._settle()
            self.account.look()
            self.silent = False
        except VenueSilent as silent:
            self._read_at_s = float("-inf")
            if not self.silent:  # said once, however long it lasts
                self.account.recorder.record_event(self.account.clock.now_ms(), "venue_silent", str(silent))
            self.silent = True
        except VenueError as problem:
            self.halt(problem)

    def halt(self, problem: VenueError) -> None:
        """Stop the run: nothing more is sent, waiting orders end as Rejected, Cerebro ends its loop."""
        self.halted = problem
        self.land()
        self.account.recorder.record_event(self.account.clock.now_ms(), "halted", str(problem))
        sent, self._sending = self._sending, {}
        for order in [*sent.values(), *self._pending]:
            if order.status == order.Completed:
                self._forget(order)
            else:
                self._end(order, order.reject, f"the run is stopped: {problem}")
        if getattr(self, "cerebro", None) is not None:
            self.cerebro.runstop()

    def land(self) -> None:
        """Book what is in flight as far as the venue tells at once; the rest stays unfinished in the journal."""
        with suppress(VenueError):
            self._land(self.account.settle(patient=False))
        self._hand_out()

    @property
    def unsettled(self) -> list[str]:
        """The ids of orders that may have been executed and are not booked."""
        return list(self._sending)

    def _read_venue(self) -> None:
        """Read the account when a candle has come or the time is up."""
        bars = sum(len(data) for data in self._datas())
        now = self.account.clock.seconds()
        if bars == self._bars_seen and now < self._read_at_s + self._poll_s:
            return
        self.account.refresh()
        self._bars_seen, self._read_at_s = bars, now

    def _send_pending(self) -> None:
        """Send closes first, then by feed, then by age; all closes have ended before an entry is sized."""
        waiting = sorted(self._pending, key=lambda o: (not o.info.get("reduce_only"), o.data._id, o.ref))
        for order in waiting:
            if order in self._pending and order.active() and order.alive():
                self._send(order)

    def _send(self, order: Order) -> None:
        symbol, side = venue_symbol(order.data._name), 1 if order.isbuy() else -1
        if symbol in self.account.in_flight and not order.info.get("sized_at_fill"):
            self._settle()  # how much of it closes is asked of the books
            if order not in self._pending:
                return  # what was booked has ended it
        pieces = self._pieces(order, symbol, side)
        if isinstance(pieces, str):
            self._end(order, order.cancel, pieces)
            return
        order_id = order.info.get("order_id") or f"order-{order.ref}"
        candle_ms = from_backtrader(order.data.datetime[0])
        reason = str(order.info.get("reason") or CloseReason.MANUAL)
        ticket = Ticket(order_id, order_name(symbol, order_id, candle_ms), side, pieces, reason)
        self._pending.remove(order)  # from here on it may be at the venue: it is never sent from the list again
        self._sending[order_id] = order
        self.account.send(ticket)
        if not self._may_be_booked_later(order):
            self._settle()

    def _may_be_booked_later(self, order: Order) -> bool:
        """Whether nothing hangs on the order's end: no other order, and no stop that is to protect its position."""
        plain = not self.account.has_stops if order.info.get("sized_at_fill") else order.info.get("reduce_only")
        return bool(plain) and not any(self._groups.ended_with(order))

    def _settle(self) -> None:
        """Book what is in flight, tell the strategy, and bring the stops in step."""
        if self.account.in_flight:
            self._land(self.account.settle())
            self._protect_all()

    def _land(self, landed: list[tuple[str, Outcome]]) -> None:
        self._hand_out()
        for order_id, outcome in landed:
            if order_id in self._sending:
                self._finish(self._sending.pop(order_id), outcome)

    def _pieces(self, order: Order, symbol: str, side: int) -> tuple[Piece, ...] | str:
        """Return what is to be sent for ``order``, or why nothing is."""
        instrument = self.account.instruments[symbol]
        held = self.ledger.positions.get(symbol)
        closable = Decimal(repr(held.qty)) if held is not None and held.side == -side else Decimal(0)
        if order.info.get("sized_at_fill"):
            waiting = sum(bool(other.info.get("sized_at_fill")) for other in self._pending)
            size = self.account.size_entry(symbol, side, waiting)
            if isinstance(size, Skip):
                skipped = SkippedEntry(self.account.server_ms, symbol, side_name(side), size.why)
                self.skipped_entries.append(skipped)
                self.account.recorder.record_skipped_entry(skipped)
                return size.why
            set_size(order, float(size))
            return (Piece(size, False),)
        wanted = abs(Decimal(repr(order.created.size)))
        if order.info.get("reduce_only") or wanted <= closable:
            wanted = min(wanted, closable)
            set_size(order, float(wanted))
            return (Piece(wanted, True),) if wanted else "there is no position left to reduce"
        opening = instrument.floor_qty(wanted - closable)
        if opening < instrument.min_qty:
            return f"quantity {wanted:f} of {symbol} is below the venue's {instrument.min_qty:f}"
        set_size(order, float(closable + opening))
        return (*([Piece(closable, True)] if closable else []), Piece(opening, False))

    def _finish(self, order: Order, outcome: Outcome) -> None:
        """Let the order end as the venue ended it."""
        if outcome.rows:  # ccxt's unified dict of its last part, as ccxtbt gives it
            order.ccxt_order = self.account.client.wire.unified_order(outcome.rows[-1])
        if outcome.state is OrderState.FILLED:
            order.completed()
            self._forget(order)
            return
        endings = {OrderState.CANCELED: order.cancel, OrderState.EXPIRED: partial(bt.order.OrderBase.expire, order)}
        ending = order.margin if outcome.margin else endings.get(outcome.state, order.reject)
        self._end(order, ending, outcome.why)

    # ---- executions out

    def _hand_out(self) -> None:
        """Give every booked execution to its order, or make one for it; all of it in memory."""
        while self.account.tracker.booked:
            booked = self.account.tracker.booked.popleft()
            self._unprotected[booked.fill.symbol] = None
            order = self._sending.get(booked.order_id)
            if order is None:
                self._venue_made(booked)
                continue
            self._positions.execute(order, booked, self.ledger)
            self._remember_opener(order, booked)
            if order.executed.remsize:
                self.notify(order)

    def _remember_opener(self, order: Order, booked: Booked) -> None:
        if booked.opened_qty:
            self._openers[booked.fill.symbol] = order

    def _venue_made(self, booked: Booked) -> None:
        """Tell the strategy about an execution it did not order: a stop, a liquidation, another hand."""
        symbol = booked.fill.symbol
        data = next((d for d in self._datas() if venue_symbol(d._name) == symbol), None)
        if data is None or not len(data):
            return
        opener = self._openers.get(symbol)
        owner, tradeid = (opener.owner, opener.tradeid) if opener is not None else (None, 0)
        order = venue_made_order(booked, data, self, owner=owner, tradeid=tradeid)
        self._positions.execute(order, booked, self.ledger)
        self._remember_opener(order, booked)
        order.completed()
        self.notify(order)
        if symbol not in self.ledger.positions:
            for left in [o for o in self._pending if venue_symbol(o.data._name) == symbol]:
                self._end(left, left.cancel, f"the position was closed: {booked.reason}")

    def _protect_all(self) -> None:
        """Bring the venue's stops in step with the positions that changed; what fails is tried at the next turn."""
        for symbol in list(self._unprotected):
            if not self.account.stops.sync(symbol):
                self._close_beyond_stop(symbol)
            self._unprotected.pop(symbol)

    def _close_beyond_stop(self, symbol: str) -> None:
        """The price is beyond the stop before it could be placed: close at once, for the same reason."""
        position = self.ledger.positions[symbol]
        name = OrderName(symbol, position.entry_ms, "stop")
        pieces = (Piece(Decimal(repr(position.qty)), True),)
        order_id = f"{symbol}-{position.entry_ms}-stop"
        self.account.execute(Ticket(order_id, name, -position.side, pieces, str(CloseReason.STOP_LOSS)))
        self._hand_out()
