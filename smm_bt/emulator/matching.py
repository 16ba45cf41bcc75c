"""Order placing, matching and cancelling: every check before, every booking after a fill."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from smm_bt.emulator import filters
from smm_bt.emulator.account import Account
from smm_bt.emulator.booking import Booking
from smm_bt.emulator.events import Emit, OrderEvent
from smm_bt.emulator.exact import ZERO
from smm_bt.emulator.instruments import Instrument
from smm_bt.emulator.market import Market, Piece
from smm_bt.emulator.records import Archive, Order
from smm_bt.emulator.refusals import VenueError

_CLIENT_ID = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """What a client asks for; an empty client order id lets the venue make one."""

    symbol: str
    side: str
    position_side: str
    order_type: str
    time_in_force: str
    qty: Decimal
    price: Decimal
    reduce_only: bool = False
    client_order_id: str = ""
    good_till_date: int = 0

    @property
    def sign(self) -> int:
        """+1 for a buy, −1 for a sell."""
        return 1 if self.side == "BUY" else -1


@dataclass(frozen=True, slots=True)
class PartialFill:
    """A fault: fill only this share of the next taker order; the rest comes ``later`` or will ``expire``."""

    share: Decimal
    rest: str = "later"


class Matching:
    """Takes orders for one account on one market."""

    def __init__(
        self,
        instruments: Mapping[str, Instrument],
        market: Market,
        account: Account,
        archive: Archive,
        booking: Booking,
        emit: Emit,
    ) -> None:
        self._instruments = instruments
        self._market = market
        self._account = account
        self._archive = archive
        self._booking = booking
        self._emit = emit
        self.partial_fill: PartialFill | None = None

    def place(self, request: OrderRequest) -> Order:
        """Accept or refuse an order; a marketable one is filled before this returns."""
        qty = self.check(request)
        order = self._new_order(request, qty)
        price = self._taker_price(order)
        if order.time_in_force == "GTX" and price is not None:
            raise VenueError(-5022)
        if order.time_in_force == "FOK" and price is None:
            raise VenueError(-5021)
        if price is None and order.time_in_force != "IOC":
            self._check_open_order_count(request.symbol)
        self._archive.keep_order(order)
        self._emit(OrderEvent(order, "NEW", None, order.time))
        if price is not None:
            self._take(order, price)
        elif order.time_in_force == "IOC":
            self._expire(order, self._market.now_ms)
        return order

    def check(self, request: OrderRequest) -> Decimal:
        """Run every check of an order and return the quantity it would be accepted with."""
        instrument = self._instruments[request.symbol]
        if request.symbol not in self._market.symbols:
            raise VenueError(-4108)
        self.check_client_id(request.client_order_id)
        self.check_position_side(request.position_side)
        reduces = request.reduce_only or self._closes_by_side(request)
        reference = self._check_filters(instrument, request, reduces)
        closable = self._closable(request)
        if not reduces:
            self._check_risk(request, max(ZERO, request.qty - closable), reference)
            return request.qty
        if closable <= 0:
            raise VenueError(-2022)
        return min(request.qty, closable)

    def _check_filters(self, instrument: Instrument, request: OrderRequest, reduces: bool) -> Decimal:
        market_order = request.order_type == "MARKET"
        filters.check_quantity(instrument, request.qty, market_order=market_order)
        mark = self._market.mark(request.symbol)
        best = self.best_price(request.symbol, request.side)
        if market_order:
            filters.check_market_band(instrument, request.side, best, mark)
        else:
            filters.check_price(instrument, request.price)
            filters.check_price_band(instrument, request.side, request.price, mark)
        reference = best if market_order else request.price
        filters.check_notional(instrument, request.qty, reference, reduce_only=reduces)
        return reference

    def check_client_id(self, client_order_id: str) -> None:
        """Refuse malformed client order ids and those an open order uses."""
        if not client_order_id:
            return
        if len(client_order_id) > 36:
            raise VenueError(-4015)
        if not _CLIENT_ID.fullmatch(client_order_id):
            raise VenueError(-1100, "newClientOrderId")
        if any(order.client_order_id == client_order_id for order in self._archive.open_orders.values()):
            raise VenueError(-4116)

    def check_position_side(self, position_side: str) -> None:
        """Hold LONG/SHORT/BOTH against the account's position mode."""
        if (position_side == "BOTH") == self._account.dual_side:
            raise VenueError(-4061)

    def _closes_by_side(self, request: OrderRequest) -> bool:
        return (request.position_side, request.side) in {("LONG", "SELL"), ("SHORT", "BUY")}

    def _closable(self, request: OrderRequest) -> Decimal:
        position = self._account.position(request.symbol, request.position_side)
        return abs(position.qty) if position.sign == -request.sign else ZERO

    def _check_risk(self, request: OrderRequest, opening: Decimal, price: Decimal) -> None:
        """Refuse what the leverage bracket or the free balance does not carry."""
        if not opening:
            return
        symbol, leverage = request.symbol, self._account.leverage(request.symbol)
        position = self._account.position(symbol, request.position_side)
        held = abs(position.qty) if position.sign == request.sign else ZERO
        if (held + opening) * price > self._instruments[symbol].max_notional(leverage):
            raise VenueError(-2027)
        needed = opening * price * (1 / Decimal(leverage) + self._booking.taker_rate)
        free = self._account.available(self._market.mark, self.order_margin())
        closing = min(request.qty, abs(position.qty)) if position.sign == -request.sign else ZERO
        if closing:
            # a reversal pays with what its closing part sets free
            share = closing / abs(position.qty)
            free += self._account.position_margin(position, self._market.mark) * share
            free += closing * (price - position.entry_price) * position.sign
        if needed > free:
            raise VenueError(-2019)

    def order_margin(self, symbol: str | None = None) -> Decimal:
        """Margin bound by open orders that would open a position."""
        total = ZERO
        for order in self._archive.open_of(symbol):
            if not order.reduce_only and order.order_type == "LIMIT":
                total += order.remaining * order.price / self._account.leverage(order.symbol)
        return total

    def _check_open_order_count(self, symbol: str) -> None:
        if len(self._archive.open_of(symbol)) >= self._instruments[symbol].max_open_orders:
            raise VenueError(-2025)

    def best_price(self, symbol: str, side: str) -> Decimal:
        """Price a taker of that side gets now."""
        return self._market.ask(symbol) if side == "BUY" else self._market.bid(symbol)

    def _taker_price(self, order: Order) -> Decimal | None:
        """Return the price an order trades at now, or None when it has to wait."""
        best = self.best_price(order.symbol, order.side)
        if order.order_type == "MARKET" or (order.price - best) * order.sign >= 0:
            return best
        return None

    def _new_order(self, request: OrderRequest, qty: Decimal) -> Order:
        order_id, now = self._archive.next_id(), self._market.now_ms
        return Order(
            order_id=order_id,
            client_order_id=request.client_order_id or f"web_{order_id:020d}",
            symbol=request.symbol,
            side=request.side,
            position_side=request.position_side,
            order_type=request.order_type,
            time_in_force=request.time_in_force,
            qty=qty,
            price=request.price,
            reduce_only=request.reduce_only,
            close_position=False,
            time=now,
            update_time=now,
            orig_type=request.order_type,
            good_till_date=request.good_till_date,
        )

    def _take(self, order: Order, price: Decimal) -> None:
        plan, self.partial_fill = self.partial_fill, None
        step = self._instruments[order.symbol].lot.step or Decimal(1)
        now = self._market.now_ms
        if plan is None:
            self._booking.fill(order, order.qty, price, now, maker=False)
            return
        qty = max(step, order.qty * plan.share // step * step)
        self._booking.fill(order, min(qty, order.qty), price, now, maker=False)
        if plan.rest == "expire" and order.is_open:
            self._expire(order, now)

    def _expire(self, order: Order, time_ms: int) -> None:
        order.status = "EXPIRED"
        order.update_time = time_ms
        self._archive.keep_order(order)
        self._emit(OrderEvent(order, "EXPIRED", None, time_ms))

    def cancel(self, order: Order) -> Order:
        """Cancel an open order; anything else is unknown to the venue."""
        if not order.is_open:
            raise VenueError(-2011)
        order.status = "CANCELED"
        order.update_time = self._market.now_ms
        self._archive.keep_order(order)
        self._emit(OrderEvent(order, "CANCELED", None, order.update_time))
        return order

    def finish_partial_fills(self) -> None:
        """Fill what a partial-fill fault left open, at the present price."""
        for order in self._archive.open_of(None):
            if order.order_type == "MARKET":
                price = self.best_price(order.symbol, order.side)
                self._fill_within_position(order, price, self._market.now_ms, maker=False)

    def meet_resting(self, piece: Piece) -> None:
        """Fill resting limit orders the price has reached, at their own price; expire GTD orders in time."""
        for order in self._archive.open_of(piece.symbol):
            reached = piece.low <= order.price if order.side == "BUY" else piece.high >= order.price
            # what a trigger placed inside this piece waits for the next one: nothing tells what came after it
            if order.order_type == "LIMIT" and reached and order.time < piece.time_ms:
                self._fill_within_position(order, order.price, piece.time_ms, maker=True)
            elif order.time_in_force == "GTD" and 0 < order.good_till_date <= piece.time_ms:
                self._expire(order, piece.time_ms)

    def _fill_within_position(self, order: Order, price: Decimal, time_ms: int, *, maker: bool) -> None:
        qty = order.remaining
        if order.reduce_only:
            position = self._account.position(order.symbol, order.position_side)
            qty = min(qty, abs(position.qty)) if position.sign == -order.sign else ZERO
        if qty:
            self._booking.fill(order, qty, price, time_ms, maker=maker)
        if order.is_open:
            self._expire(order, time_ms)
