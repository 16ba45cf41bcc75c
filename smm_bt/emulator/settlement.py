"""Funding settlements and liquidations."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from smm_bt.emulator.account import Account, Position
from smm_bt.emulator.booking import Booking
from smm_bt.emulator.events import AccountEvent, Emit, OrderEvent
from smm_bt.emulator.exact import ZERO
from smm_bt.emulator.instruments import Instrument
from smm_bt.emulator.market import Market, Piece
from smm_bt.emulator.matching import Matching
from smm_bt.emulator.records import LIQUIDATION_PREFIX, Archive, Order


class Settlement:
    """Pays funding and closes positions whose margin is used up."""

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

    def pay_funding(self, piece: Piece) -> None:
        """Pay −side × quantity × price × rate at each settlement of the piece, out of or into the wallet."""
        for time_ms, rate, price in piece.funding:
            for position in self._account.open_positions(piece.symbol):
                amount = -position.qty * price * rate
                self._booking.book(piece.symbol, "FUNDING_FEE", amount, time_ms)
                self._booking.cover_deficit(piece.symbol, time_ms)
                self._emit(AccountEvent("FUNDING_FEE", piece.symbol, time_ms))

    def liquidate(self, piece: Piece) -> None:
        """Close positions whose liquidation price the piece's mark price touched."""
        for position in self._account.open_positions(piece.symbol):
            price = self._account.liquidation_price(position, self._market.mark)
            touched = piece.mark_low <= price if position.sign > 0 else piece.mark_high >= price
            if price and touched:
                self._close(position, price, piece.time_ms)

    def _close(self, position: Position, price: Decimal, time_ms: int) -> None:
        """Cancel the symbol's orders, then close the position; an isolated one loses its whole margin."""
        for resting in self._archive.open_of(position.symbol):
            self._matching.cancel(resting)
        charge = self._charge(position, price)
        order = self._autoclose_order(position, price, time_ms)
        self._emit(OrderEvent(order, "NEW", None, time_ms))
        self._booking.liquidate(order, price, charge, time_ms)

    def _charge(self, position: Position, price: Decimal) -> Decimal:
        loss = position.unrealized(price)
        if self._account.is_isolated(position.symbol):
            return max(ZERO, self._account.margin(position) + loss)
        left = self._account.cross_pool(position, self._market.mark) + loss
        fee = abs(position.qty) * price * self._instruments[position.symbol].liquidation_fee_rate
        return max(ZERO, min(fee, left))

    def _autoclose_order(self, position: Position, price: Decimal, time_ms: int) -> Order:
        order_id = self._archive.next_id()
        order = Order(
            order_id=order_id,
            client_order_id=f"{LIQUIDATION_PREFIX}{time_ms}{order_id:06d}",
            symbol=position.symbol,
            side="SELL" if position.sign > 0 else "BUY",
            position_side=position.side,
            order_type="LIMIT",
            time_in_force="IOC",
            qty=abs(position.qty),
            price=price,
            reduce_only=False,
            close_position=False,
            time=time_ms,
            update_time=time_ms,
            orig_type="LIMIT",
        )
        self._archive.keep_order(order)
        return order
