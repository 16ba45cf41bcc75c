"""Booking of fills: position, fee, realised profit, income rows and events; the only place money moves for a trade."""

from __future__ import annotations

from decimal import Decimal

from smm_bt.emulator.account import Account
from smm_bt.emulator.events import AccountEvent, Emit, OrderEvent
from smm_bt.emulator.exact import ZERO
from smm_bt.emulator.records import Archive, Income, Order, Trade


class Booking:
    """Books fills and other wallet changes of one account; fee rates are fractions of the notional."""

    def __init__(
        self, account: Account, archive: Archive, emit: Emit, taker_rate: Decimal, maker_rate: Decimal
    ) -> None:
        self._account = account
        self._archive = archive
        self._emit = emit
        self.taker_rate = taker_rate
        self.maker_rate = maker_rate

    def fill(self, order: Order, qty: Decimal, price: Decimal, time_ms: int, *, maker: bool) -> Trade:
        """Fill ``qty`` of the order at ``price``: change the position, take the fee, book the profit."""
        rate = self.maker_rate if maker else self.taker_rate
        signed = qty * order.sign
        result = self._account.apply_fill(order.symbol, order.position_side, signed, price, time_ms)
        commission = qty * price * rate
        trade = self._record(order, qty, price, commission, result.realized_pnl, time_ms, maker=maker)
        if result.closed_qty:
            self.book(order.symbol, "REALIZED_PNL", result.realized_pnl, time_ms, trade.trade_id)
        if commission:
            self.book(order.symbol, "COMMISSION", -commission, time_ms, trade.trade_id)
        self.cover_deficit(order.symbol, time_ms)
        self._announce(order, trade, "TRADE", "ORDER")
        return trade

    def liquidate(self, order: Order, price: Decimal, charge: Decimal, time_ms: int) -> Trade:
        """Close the whole position at the liquidation price and take ``charge`` as liquidation fee."""
        signed = order.qty * order.sign
        result = self._account.apply_fill(order.symbol, order.position_side, signed, price, time_ms)
        trade = self._record(order, order.qty, price, charge, result.realized_pnl, time_ms, maker=False)
        self.book(order.symbol, "REALIZED_PNL", result.realized_pnl, time_ms, trade.trade_id)
        if charge:
            self.book(order.symbol, "INSURANCE_CLEAR", -charge, time_ms, trade.trade_id)
        self.cover_deficit(order.symbol, time_ms)
        self._announce(order, trade, "CALCULATED", "ORDER")
        return trade

    def book(self, symbol: str, income_type: str, amount: Decimal, time_ms: int, trade_id: int = 0) -> None:
        """Change the wallet and write the income row."""
        self._account.wallet += amount
        self._account.update_time = time_ms
        row = Income(self._archive.next_id(), symbol, income_type, amount, time_ms, trade_id)
        self._archive.keep_income(row)

    def cover_deficit(self, symbol: str, time_ms: int) -> None:
        """The insurance fund covers what a wallet cannot pay: a balance never goes below zero."""
        if self._account.wallet < 0:
            self.book(symbol, "INSURANCE_CLEAR", -self._account.wallet, time_ms)

    def _record(
        self,
        order: Order,
        qty: Decimal,
        price: Decimal,
        commission: Decimal,
        realized: Decimal,
        time_ms: int,
        *,
        maker: bool,
    ) -> Trade:
        order.executed_qty += qty
        order.cum_quote += qty * price
        order.update_time = time_ms
        order.status = "FILLED" if order.remaining == ZERO else "PARTIALLY_FILLED"
        self._archive.keep_order(order)
        trade = Trade(
            trade_id=self._archive.next_id(),
            order_id=order.order_id,
            symbol=order.symbol,
            side=order.side,
            position_side=order.position_side,
            price=price,
            qty=qty,
            commission=commission,
            realized_pnl=realized,
            maker=maker,
            time=time_ms,
        )
        self._archive.keep_trade(trade)
        return trade

    def _announce(self, order: Order, trade: Trade, execution: str, reason: str) -> None:
        self._emit(OrderEvent(order, execution, trade, trade.time))
        self._emit(AccountEvent(reason, order.symbol, trade.time))
