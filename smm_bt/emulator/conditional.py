"""Conditional orders of the Algo service: stop and take-profit, market or limit, and their triggers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from smm_bt.emulator import filters
from smm_bt.emulator.account import Account
from smm_bt.emulator.booking import Booking
from smm_bt.emulator.events import AlgoEvent, Emit, OrderEvent
from smm_bt.emulator.exact import ZERO
from smm_bt.emulator.instruments import Instrument
from smm_bt.emulator.market import Market, Piece
from smm_bt.emulator.matching import Matching
from smm_bt.emulator.records import AlgoOrder, Archive, Order
from smm_bt.emulator.refusals import VenueError

MODELLED_TYPES = frozenset({"STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET"})
MAX_OPEN_ALGO_ORDERS = 200


@dataclass(frozen=True, slots=True)
class AlgoRequest:
    """What a client asks for; ``qty`` is zero with ``close_position``."""

    symbol: str
    side: str
    position_side: str
    order_type: str
    time_in_force: str
    qty: Decimal
    price: Decimal
    trigger_price: Decimal
    working_type: str = "CONTRACT_PRICE"
    reduce_only: bool = False
    close_position: bool = False
    price_protect: bool = False
    client_algo_id: str = ""
    good_till_date: int = 0


class ConditionalOrders:
    """Keeps conditional orders and fires them when a piece of the market reaches their trigger."""

    def __init__(
        self,
        instruments: Mapping[str, Instrument],
        market: Market,
        account: Account,
        archive: Archive,
        booking: Booking,
        matching: Matching,
        emit: Emit,
    ) -> None:
        self._instruments = instruments
        self._market = market
        self._account = account
        self._archive = archive
        self._booking = booking
        self._matching = matching
        self._emit = emit

    def place(self, request: AlgoRequest) -> AlgoOrder:
        """Accept or refuse a conditional order."""
        self._check(request)
        algo_id, now = self._archive.next_id(), self._market.now_ms
        algo = AlgoOrder(
            algo_id=algo_id,
            client_algo_id=request.client_algo_id or f"algo_{algo_id:020d}",
            symbol=request.symbol,
            side=request.side,
            position_side=request.position_side,
            order_type=request.order_type,
            time_in_force=request.time_in_force,
            qty=request.qty,
            price=request.price,
            trigger_price=request.trigger_price,
            working_type=request.working_type,
            reduce_only=request.reduce_only,
            close_position=request.close_position,
            price_protect=request.price_protect,
            create_time=now,
            update_time=now,
            good_till_date=request.good_till_date,
        )
        self._keep(algo, now)
        return algo

    def _check(self, request: AlgoRequest) -> None:
        instrument = self._instruments[request.symbol]
        if request.symbol not in self._market.symbols:
            raise VenueError(-4108)
        if request.order_type not in MODELLED_TYPES:
            raise VenueError(-1116, text=f"Invalid orderType. {request.order_type} is not modelled.")
        self._check_client_id(request.client_algo_id)
        self._matching.check_position_side(request.position_side)
        if request.close_position and (request.qty or request.reduce_only):
            raise VenueError(-4136, request.order_type, "true")
        if not request.close_position:
            market_order = request.order_type.endswith("_MARKET")
            filters.check_quantity(instrument, request.qty, market_order=market_order)
            price = request.trigger_price if market_order else request.price
            filters.check_notional(instrument, request.qty, price, reduce_only=request.reduce_only)
        filters.check_price(instrument, request.trigger_price)
        if not request.order_type.endswith("_MARKET"):
            filters.check_price(instrument, request.price)
        if len(self._archive.open_algos) >= MAX_OPEN_ALGO_ORDERS:
            raise VenueError(-4045)
        if self._reached(request.order_type, request.side, request.trigger_price, self._reference(request)):
            raise VenueError(-2021)

    def _check_client_id(self, client_algo_id: str) -> None:
        if len(client_algo_id) > 36:
            raise VenueError(-4015)
        open_ids = {algo.client_algo_id for algo in self._archive.open_algos.values()}
        if client_algo_id and client_algo_id in open_ids:
            raise VenueError(-4116)

    def _reference(self, request: AlgoRequest) -> Decimal:
        by_mark = request.working_type == "MARK_PRICE"
        return (self._market.mark if by_mark else self._market.price)(request.symbol)

    def _reached(self, order_type: str, side: str, trigger: Decimal, price: Decimal) -> bool:
        return price >= trigger if _fires_upwards(order_type, side) else price <= trigger

    def cancel(self, algo: AlgoOrder) -> None:
        """Cancel a waiting conditional order."""
        if not algo.is_open:
            raise VenueError(-2011)
        algo.status = "CANCELED"
        self._keep(algo, self._market.now_ms)

    def meet_triggers(self, piece: Piece) -> None:
        """Fire what the piece reaches; stops before take-profits, as one candle cannot tell which came first."""
        waiting = self._archive.open_algos_of(piece.symbol)
        for algo in sorted(waiting, key=lambda algo: algo.order_type.startswith("TAKE_PROFIT")):
            by_mark = algo.working_type == "MARK_PRICE"
            high = piece.mark_high if by_mark else piece.high
            low = piece.mark_low if by_mark else piece.low
            extreme = high if _fires_upwards(algo.order_type, algo.side) else low
            if algo.is_open and self._reached(algo.order_type, algo.side, algo.trigger_price, extreme):
                self._fire(algo, piece)

    def _fire(self, algo: AlgoOrder, piece: Piece) -> None:
        """Turn the conditional order into a market fill or a resting limit order."""
        qty = self._quantity(algo)
        algo.trigger_time = piece.time_ms
        if not qty:
            algo.status, algo.reject_reason = "REJECTED", "ReduceOnly Order is rejected."
            self._keep(algo, piece.time_ms)
            return
        algo.status = "TRIGGERED"
        self._keep(algo, piece.time_ms)
        order = self._child(algo, qty, piece.time_ms)
        algo.actual_order_id = order.order_id
        price = _trigger_fill_price(algo, piece)
        if order.order_type == "MARKET" or (order.price - price) * order.sign >= 0:
            self._booking.fill(order, qty, price, piece.time_ms, maker=False)
            algo.actual_price, algo.actual_qty = order.average_price, order.executed_qty
        algo.status = "FINISHED"
        self._keep(algo, piece.time_ms)
        if algo.reduce_only or algo.close_position:
            self._expire_pointless(algo, piece.time_ms)

    def _quantity(self, algo: AlgoOrder) -> Decimal:
        position = self._account.position(algo.symbol, algo.position_side)
        closable = abs(position.qty) if position.sign == -algo.sign else ZERO
        if algo.close_position:
            return closable
        reduces = algo.reduce_only or algo.position_side != "BOTH"
        return min(algo.qty, closable) if reduces else algo.qty

    def _child(self, algo: AlgoOrder, qty: Decimal, time_ms: int) -> Order:
        market_order = algo.order_type.endswith("_MARKET")
        order = Order(
            order_id=self._archive.next_id(),
            client_order_id=algo.client_algo_id,
            symbol=algo.symbol,
            side=algo.side,
            position_side=algo.position_side,
            order_type="MARKET" if market_order else "LIMIT",
            time_in_force=algo.time_in_force,
            qty=qty,
            price=algo.price,
            reduce_only=algo.reduce_only or algo.close_position,
            close_position=algo.close_position,
            time=time_ms,
            update_time=time_ms,
            working_type=algo.working_type,
            orig_type=algo.order_type,
            stop_price=algo.trigger_price,
        )
        self._archive.keep_order(order)
        self._emit(OrderEvent(order, "NEW", None, time_ms))
        return order

    def _expire_pointless(self, fired: AlgoOrder, time_ms: int) -> None:
        """A close-all order lapses with the position it was to close."""
        position = self._account.position(fired.symbol, fired.position_side)
        for algo in self._archive.open_algos_of(fired.symbol):
            if not position.qty and algo.close_position and algo.position_side == fired.position_side:
                algo.status = "EXPIRED"
                self._keep(algo, time_ms)

    def _keep(self, algo: AlgoOrder, time_ms: int) -> None:
        algo.update_time = time_ms
        self._archive.keep_algo(algo)
        self._emit(AlgoEvent(algo, time_ms))


def _fires_upwards(order_type: str, side: str) -> bool:
    """Buy stops and sell take-profits fire on a rise, the others on a fall."""
    return order_type.startswith("STOP") == (side == "BUY")


def _trigger_fill_price(algo: AlgoOrder, piece: Piece) -> Decimal:
    """Fill at the trigger, or at the piece's first price when that already lies beyond it."""
    if _fires_upwards(algo.order_type, algo.side):
        price = max(piece.start, algo.trigger_price)
    else:
        price = min(piece.start, algo.trigger_price)
    # a mark-price trigger may lie outside what was traded: a fill cannot
    return min(max(price, piece.low), piece.high)
