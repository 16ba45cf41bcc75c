"""PaperBroker: a Backtrader broker that trades on the simulated USDT futures account; a shell around the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import backtrader as bt

from feeds.bt_time import from_backtrader
from smm_bt.errors import UsageError
from smm_bt.execution.bars import Bar
from smm_bt.execution.commission import FuturesCommission
from smm_bt.execution.feed_bars import FeedBars
from smm_bt.execution.intrabar import fill_stop, is_ended, liquidation_touched, settle_funding, stop_touched
from smm_bt.execution.ledger import FillResult, FuturesLedger, LedgerSnapshot, Position
from smm_bt.execution.live_market import LiveMarket
from smm_bt.execution.market_history import MarketHistory
from smm_bt.execution.order_book import OrderBook
from smm_bt.execution.order_filler import OrderFiller
from smm_bt.execution.order_triggers import closes_first, price_at_open, price_inside
from smm_bt.execution.position_watch import PositionWatch
from smm_bt.execution.running_funding import NoRunningFunding
from smm_bt.model import CloseReason, SkippedEntry

Order = Any  # backtrader.Order; backtrader ships no types
Data = Any  # a backtrader data feed

#: Later than any bar.
NEVER = 1 << 62

_SUPPORTED = (bt.Order.Market, bt.Order.Limit, bt.Order.Stop, bt.Order.StopLimit)


class PaperBroker(OrderBook):
    """Simulates one isolated-margin account at fixed leverage for any Backtrader strategy.

    ``getcash()`` is the free balance, ``getvalue()`` the equity at the last closes. Orders made at a candle's close
    are filled from the next candle on: market orders at its open, resting orders by
    :mod:`smm_bt.execution.order_prices`. Inside a candle the order is: closes, entries, funding, stop loss, stop
    orders, liquidation, limit orders; each over the data feeds in the order they were added.

    Order keywords beyond Backtrader's own: ``reduce_only=True`` never opens, ``sized_at_fill=True`` is sized by
    ``position_size()`` at its fill, ``reason`` becomes the trade's close reason (``manual`` otherwise), ``order_id``
    names the order in the trade log.

    With ``market``, a running one, market orders are filled at its price of the moment instead of the next open;
    ``funding`` then books what was settled inside a candle before such a fill.
    """

    def __init__(
        self,
        ledger: FuturesLedger,
        histories: Mapping[str, MarketHistory] | None = None,
        market: LiveMarket | None = None,
        funding: NoRunningFunding | None = None,
    ) -> None:
        """Trade on ``ledger``; ``histories`` give mark prices and funding for feeds of that name.

        A history holds the candles of the feed, also where its bars are resampled or filtered; one that cannot be
        matched with the bars stops the run with UsageError or ValueError.
        """
        super().__init__()
        self.ledger = ledger
        self.histories = histories or {}
        self.market = market
        self._funding = funding or NoRunningFunding()
        self.startingcash = self.startingvalue = self.cash = ledger.initial_balance_usdt
        self._at_start: LedgerSnapshot | None = None
        self._begin_anew()
        self.addcommissioninfo(FuturesCommission(commission=ledger.costs.fee.rate))

    def _begin_anew(self) -> None:
        self._filler = OrderFiller(self.ledger)
        self._clear_orders()
        self._untraded: set[int] = set()
        self._bars = FeedBars(self.histories, self.market)
        self._watch = PositionWatch(self._bars)

    def start(self) -> None:
        """Begin a run: the first one on the ledger as it is, each later one on the ledger as it was then.

        Raises:
            UsageError: a second run on a running market, which cannot be gone back to.
        """
        super().start()
        if self._at_start is None:
            self._at_start = self.ledger.snapshot()
            return
        if self.market is not None:
            raise UsageError("A PaperBroker on a running market cannot begin again; make a new one for another run.")
        self.ledger.restore(self._at_start)
        self._begin_anew()

    # ---- what strategies, observers and analyzers ask

    def getcash(self) -> float:
        """Return the free balance in USDT."""
        return self.ledger.free_balance_usdt

    get_cash = getcash

    def getvalue(self, datas: list[Data] | None = None) -> float:
        """Return the equity in USDT at the last closes, or the value of the positions in ``datas`` alone."""
        if datas is not None:
            symbols = {data._name for data in datas}
            held = [p for s, p in self.ledger.positions.items() if s in symbols]
            return sum(p.margin_usdt + p.unrealized_pnl(self._filler.openers[p.symbol].data.close[0]) for p in held)
        if not self.ledger.positions:
            return self.ledger.wallet_usdt
        return self.ledger.equity_usdt(self.last_prices())

    get_value = getvalue

    def last_prices(self) -> dict[str, float]:
        """Return the last close of every symbol with an open position."""
        return {symbol: self._filler.openers[symbol].data.close[0] for symbol in self.ledger.positions}

    def getposition(self, data: Data, clone: bool = True) -> bt.Position:
        """Return the position of ``data``: signed size and average entry price."""
        position = self._filler.positions.setdefault(data._name, bt.Position())
        return position.clone() if clone else position

    @property
    def skipped_entries(self) -> list[SkippedEntry]:
        """Entries that were wanted and could not be sized, with figures."""
        return self._filler.skipped_entries

    def add_order_history(self, orders: Any, notify: bool = False) -> None:
        """Refuse: past orders cannot be replayed into a margin account."""
        raise NotImplementedError("order history is not supported by PaperBroker; make the orders in a strategy")

    def set_fund_history(self, fund: Any) -> None:
        """Refuse: the account is not a fund."""
        raise NotImplementedError("fund history is not supported by PaperBroker")

    # ---- orders in

    def submit(self, order: Order) -> Order:
        """Submit and accept ``order``, or reject what this venue does not know."""
        order.submit(self)
        self.notify(order)
        if order.exectype not in _SUPPORTED:
            return self._end(order, order.reject, f"order type {order.getordername()} is not supported")
        if order.data._name not in self.ledger.instruments:
            return self._end(order, order.reject, f"no market rules are known for {order.data._name!r}")
        order.accept(self)
        self.notify(order)
        if self.market is not None and not self._market_orders():
            self.market.silent = False  # what could not be asked for an order before says nothing about this one
        self._pending.append(order)
        self._bars.note(order.data)
        return order

    # ---- one step of the clock

    def next(self) -> None:
        """Let the candles that are new in this step act on pending orders and positions."""
        if self.market is not None:
            self._funding.settle_late(self.ledger)
        if not self._pending and self._watch.is_quiet():
            return
        if self.market is not None:
            self._fill_now(self.market)
        bars = self._new_bars()
        if not bars:
            return
        if self.market is None:
            self._live_through(bars)
        self._expire(bars)
        self._fill_at_open(bars)
        self._settle_funding(bars)
        self._check_stop_losses(bars)
        filled = self._fill_inside(bars, bt.Order.Stop, bt.Order.StopLimit)
        self._check_liquidations(bars)
        filled |= self._fill_inside(bars, bt.Order.Limit)
        if filled:  # the candle of an entry counts, also when it was made inside the candle
            self._check_stop_losses(bars)
            self._fill_inside(bars, bt.Order.Stop)
            self._check_liquidations(bars)
        self._watch_positions()

    def stop(self) -> None:
        """Book at the end of a run what was settled shortly before."""
        self._funding.settle_late(self.ledger, at_end=True)

    @property
    def has_work(self) -> bool:
        """Whether market orders wait for a running market's price: nothing may move on before they are filled."""
        return self.market is not None and any(o.ref not in self._untraded for o in self._market_orders())

    def _market_orders(self) -> list[Order]:
        return [order for order in self._pending if order.exectype == bt.Order.Market]

    @property
    def untraded(self) -> bool:
        """Whether orders wait for their symbol to trade again."""
        return bool(self._untraded)

    def fill_untraded(self) -> None:
        """Try again the orders whose symbol had not traded since they were made, as in a hole of its candles.

        To be called when nothing else is to be decided at this moment: closes come before entries, whichever symbol
        they are of, and a new order brings the waiting ones along.
        """
        if self.market is not None and self._untraded:
            self._untraded.clear()
            self._fill_now(self.market)

    @property
    def silent(self) -> bool:
        """Whether a running market gave no price when orders last asked for one."""
        return self.market is not None and self.market.silent

    def _fill_now(self, market: LiveMarket) -> None:
        if not self.has_work:
            return
        self._untraded.clear()
        resting: set[str] = set()
        for order in sorted(self._market_orders(), key=closes_first):
            symbol = order.data._name
            side, made_ms = 1 if order.isbuy() else -1, from_backtrader(order.created.dt)
            price = market.price(symbol, side, made_ms) if symbol not in resting else None
            late = market.is_late(made_ms) and not order.info.get("reduce_only")
            now_ms, fits = market.now_ms(), price is not None and not late
            if fits and not self._funding.settle(self.ledger, symbol, now_ms):
                market.silent = True
            if market.silent:
                break
            if price is not None and fits:
                self._execute(order, price, now_ms)
            else:
                resting.add(symbol)  # its other orders wait as well: an entry never goes before its close
                self._untraded.add(order.ref)
        self._watch_positions()

    def look(self, bars: Mapping[str, Bar]) -> None:
        """Between candles: let the mark prices of this moment act on stops and liquidations."""
        ending = {symbol: bar for symbol, bar in bars.items() if self._ends_now(symbol, bar)}
        self._check_stop_losses(ending)
        self._check_liquidations(ending)
        self._watch_positions()

    def _ends_now(self, symbol: str, now: Bar) -> bool:
        """Return whether this moment ends the position, and all that was settled on it before could be booked."""
        position = self._held_in(symbol, now)
        ends = position is not None and is_ended(position, now)
        return ends and self._funding.settle(self.ledger, symbol, now.last_ms)

    def next_row(self, data: Data) -> int:
        """Return the first bar of ``data`` not yet seen in which this broker may act or has something to say."""
        if self._notifications or any(order.data is data for order in self._pending):
            return len(data)
        quiet_until = self._watch.quiet_until(data._name)
        return NEVER if quiet_until is None else quiet_until

    def adopt_ledger(self, datas: Mapping[str, Data], owner: Any) -> None:
        """Take over what was traded on the ledger without orders: positions as a strategy would find them."""
        self._filler.adopt(datas, owner, self.getcommissioninfo)
        self._watch_positions()

    def _watch_positions(self) -> None:
        openers = self._filler.openers
        self._watch.look_ahead((p, openers[symbol].data) for symbol, p in self.ledger.positions.items())

    def _new_bars(self) -> dict[str, Bar]:
        datas = {order.data._name: order.data for order in self._pending}
        datas |= {symbol: self._filler.openers[symbol].data for symbol in self.ledger.positions}
        return self._bars.new(sorted(datas.values(), key=lambda data: data._id))

    def _live_through(self, bars: Mapping[str, Bar]) -> None:
        """Let candles that no bar has shown act on the positions that were open in them."""
        for symbol in [symbol for symbol in self.ledger.positions if symbol in bars]:
            for passed in self._bars.passed(self._filler.openers[symbol].data):
                self._settle_funding({symbol: passed})
                self.look({symbol: passed})

    def _expire(self, bars: Mapping[str, Bar]) -> None:
        for order in [o for o in self._pending if o.data._name in bars and o.expire()]:
            self._end(order, order.expire, "its validity ended")

    def _fill_at_open(self, bars: Mapping[str, Bar]) -> None:
        for order in self._working(bars):
            candle = bars[order.data._name]
            price = price_at_open(order, candle.open)
            if price is not None:
                self._execute(order, price, candle.open_ms)

    def _fill_inside(self, bars: Mapping[str, Bar], *kinds: int) -> bool:
        """Fill resting orders of these kinds; return whether any was.

        A limit order that becomes active by one of these fills waits for the next candle: this one does not tell
        whether its price came before or after.
        """
        filled = False
        orders = [order for order in self._working(bars) if order.exectype in kinds]
        for order in [o for o in orders if o.active() or o.exectype != bt.Order.Limit]:
            candle = bars[order.data._name]
            price = price_inside(order, candle.high, candle.low)
            if price is not None:
                self._execute(order, price, candle.last_ms)
                filled = True
        return filled

    def _working(self, bars: Mapping[str, Bar]) -> list[Order]:
        """Pending orders of the new bars: reduce-only first, then by feed, then by age."""
        orders = [order for order in self._pending if order.data._name in bars]
        return sorted(orders, key=closes_first)

    def _settle_funding(self, bars: Mapping[str, Bar]) -> None:
        for symbol, candle in bars.items():
            position = self._held_in(symbol, candle)
            if position is not None:
                settle_funding(self.ledger, symbol, candle.settlements)
                position.settled_ms = max(position.settled_ms, candle.last_ms)

    def _held_in(self, symbol: str, candle: Bar) -> Position | None:
        """Return the position a candle can act on: a missed one that is read late was over before it was opened."""
        position = self.ledger.positions.get(symbol)
        return position if position is not None and position.entry_ms <= candle.last_ms else None

    def _check_stop_losses(self, bars: Mapping[str, Bar]) -> None:
        for symbol, candle in bars.items():
            position = self._held_in(symbol, candle)
            if position and stop_touched(position.side, position.stop_price, candle.high, candle.low):
                order_id = f"{symbol}-{candle.open_ms}-stop"
                result = fill_stop(self.ledger, symbol, candle.open, candle.last_ms, order_id)
                self._venue_closed(symbol, CloseReason.STOP_LOSS, result)

    def _check_liquidations(self, bars: Mapping[str, Bar]) -> None:
        for symbol, candle in bars.items():
            position = self._held_in(symbol, candle)
            if position and liquidation_touched(
                position.side, position.liquidation_price, candle.liquidation_high, candle.liquidation_low
            ):
                result = self.ledger.liquidate(symbol, candle.last_ms, f"{symbol}-{candle.open_ms}-liquidation")
                self._venue_closed(symbol, CloseReason.LIQUIDATION, result)

    # ---- fills out

    def _execute(self, order: Order, price: float, time_ms: int) -> None:
        if not order.active() or not order.alive():
            return
        refusal = self._filler.fill(order, price, time_ms)
        if refusal is not None:
            if order.executed.size:
                self.notify(order)
            self._end(order, getattr(order, refusal.ending), refusal.why)
            return
        order.completed()
        self._forget(order)

    def _venue_closed(self, symbol: str, reason: CloseReason, result: FillResult) -> None:
        order = self._filler.venue_closed(symbol, reason, result)
        self.notify(order)
        for left in [o for o in self._pending if o.data._name == symbol]:
            self._end(left, left.cancel, f"the position was closed: {reason}")
