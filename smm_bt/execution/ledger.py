"""The money of a USDT futures account in one-way mode with isolated margin, once, for every simulated venue.

    wallet  = initial + Σ gross PnL − Σ fees + Σ funding
    margin  = qty × entry price / leverage, per position
    free    = wallet − Σ margins
    equity  = wallet + Σ unrealised PnL

The ledger knows nothing of Backtrader, candles or signals: it is told what was filled, at which price and when.

Two choices a spreadsheet would not show. A closing order is never refused, even when its loss exceeds the position's
margin (a gap at the open); but neither wallet nor free balance is ever below zero: what the account cannot pay is not
booked, and the trade's gross PnL says what was. On liquidation the whole margin is lost: the exit is booked at the
liquidation price and the rest of the margin as a fee.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import NamedTuple

from smm_bt.execution.costs import Costs
from smm_bt.execution.instrument import Instrument, liquidation_price
from smm_bt.model import LEVERAGE, CloseReason, Fill, LedgerEntry, OpenPosition, Trade, side_name

_STOPPED, _LIQUIDATED = CloseReason.STOP_LOSS.value, CloseReason.LIQUIDATION.value

#: Makes a record without checking its fields by name: three times as fast, in the one place that makes thousands.
_new = tuple.__new__


class FillResult(NamedTuple):
    """What a closing fill did: the signed quantity closed, its fee, and the gross PnL it realised."""

    closed_qty: float
    close_fee_usdt: float
    gross_pnl_usdt: float


class Position:
    """One open position; ``qty`` is positive, ``side`` is +1 long or −1 short, money in USDT.

    ``settled_ms`` is the last millisecond whose funding is dealt with: the one before the entry at first.
    """

    __slots__ = (
        "closed_notional",
        "entry_ms",
        "entry_order_id",
        "entry_price",
        "fees_usdt",
        "funding_usdt",
        "gross_pnl_usdt",
        "liquidation_price",
        "margin_usdt",
        "opened_margin_usdt",
        "opened_notional",
        "opened_qty",
        "qty",
        "settled_ms",
        "side",
        "stop_price",
        "symbol",
    )

    def __init__(self, symbol: str, side: int, qty: float, price: float, time_ms: int, order_id: str) -> None:
        notional = qty * price
        self.symbol = symbol
        self.side = side
        self.qty = self.opened_qty = qty
        self.entry_price = price
        self.entry_ms = time_ms
        self.settled_ms = time_ms - 1
        self.entry_order_id = order_id
        self.margin_usdt = self.opened_margin_usdt = notional / LEVERAGE
        self.opened_notional = notional
        self.closed_notional = 0.0
        self.liquidation_price: float | None = None
        self.stop_price: float | None = None
        self.fees_usdt = 0.0
        self.funding_usdt = 0.0
        self.gross_pnl_usdt = 0.0

    @property
    def signed_qty(self) -> float:
        """Quantity with the side's sign."""
        return self.side * self.qty

    def unrealized_pnl(self, price: float) -> float:
        """Gross PnL if the position were closed at ``price``."""
        return self.side * self.qty * (price - self.entry_price)


class LedgerSnapshot(NamedTuple):
    """A ledger as it was at one moment."""

    wallet_usdt: float
    positions: dict[str, Position]
    trades: list[Trade]
    fills: list[Fill]
    entries: list[LedgerEntry]


class FuturesLedger:
    """Wallet, positions, trades and every change of the account, for any number of symbols.

    Args:
        initial_balance_usdt: the wallet at the start, at least 0.
        instruments: filters and brackets by symbol; a symbol must be here before it is traded.
        costs: fee, slippage and stop policies; the ledger charges the fee and sets the stop, drivers apply slippage.
    """

    def __init__(
        self, initial_balance_usdt: float, instruments: Mapping[str, Instrument], costs: Costs | None = None
    ) -> None:
        self.initial_balance_usdt = float(initial_balance_usdt)
        self.wallet_usdt = self.initial_balance_usdt
        self.instruments = instruments
        self.costs = costs or Costs()
        self._fee_of = self.costs.fee.of
        self._stop_price = self.costs.stop_loss.price
        self.positions: dict[str, Position] = {}
        self.trades: list[Trade] = []
        self.fills: list[Fill] = []
        self.entries: list[LedgerEntry] = []
        #: Closed trades that a settlement told later has changed, until somebody has written them down.
        self.amended: list[Trade] = []
        self._last_trades: dict[str, Trade] = {}

    def snapshot(self) -> LedgerSnapshot:
        """Return the ledger as it is now, for :meth:`restore`."""
        held = {symbol: copy.copy(position) for symbol, position in self.positions.items()}
        return LedgerSnapshot(self.wallet_usdt, held, [*self.trades], [*self.fills], [*self.entries])

    def restore(self, snapshot: LedgerSnapshot) -> None:
        """Go back to ``snapshot``; lists that were handed out before stay as they are."""
        self.wallet_usdt = snapshot.wallet_usdt
        self.positions = {symbol: copy.copy(position) for symbol, position in snapshot.positions.items()}
        self.trades, self.fills, self.entries = [*snapshot.trades], [*snapshot.fills], [*snapshot.entries]

    @property
    def free_balance_usdt(self) -> float:
        """Wallet less the margins of all open positions, never below zero."""
        free = self.wallet_usdt
        if self.positions:
            locked = 0.0
            for position in self.positions.values():
                locked += position.margin_usdt
            free -= locked
        return free if free > 0.0 else 0.0

    def equity_usdt(self, prices: Mapping[str, float]) -> float:
        """Return the wallet plus unrealised PnL at ``prices``; a position without a price counts at its entry.

        Added up in the order of the instruments, not of the openings, so that the last bit does not tell the story.
        """
        equity = self.wallet_usdt
        for symbol in self.instruments:
            if symbol in prices and symbol in self.positions:
                equity += self.positions[symbol].unrealized_pnl(prices[symbol])
        return equity

    def open(self, symbol: str, side: int, qty: float, price: float, time_ms: int, order_id: str) -> float:
        """Open a position or add to one of the same side; return the fee.

        An addition moves the entry price to the quantity-weighted average; stop and liquidation price follow it.
        """
        position = self.positions.get(symbol)
        if position is None:
            position = self.positions[symbol] = Position(symbol, side, qty, price, time_ms, order_id)
        elif position.side == side:
            self._add(position, qty, price)
        else:
            raise ValueError(f"{symbol}: a {side_name(side)} fill cannot add to a {side_name(position.side)} position")
        self._set_exits(position)
        fee = self._fee_of(qty * price)
        if fee > self.wallet_usdt:
            fee = self.wallet_usdt
        self.wallet_usdt -= fee
        position.fees_usdt += fee
        self.fills.append(_new(Fill, (order_id, symbol, time_ms, side, qty, price, fee, False, "")))
        record = (time_ms, "entry", symbol, -fee, self.wallet_usdt, side * position.qty, position.entry_price)
        self.entries.append(_new(LedgerEntry, record))
        return fee

    def close(
        self, symbol: str, price: float, time_ms: int, reason: str, order_id: str, qty: float | None = None
    ) -> FillResult:
        """Close ``qty`` of the symbol's position, all of it by default, with a taker fee; never refused."""
        position = self.positions[symbol]
        closing = position.qty if qty is None else qty
        fee = self._fee_of(closing * price)
        # a plain word in the records, whichever enumeration it came from
        why = reason if type(reason) is str else str(reason)
        kind = "stop_loss" if why == _STOPPED else "exit"
        return self._reduce(position, closing, price, fee, time_ms, why, order_id, kind)

    def liquidate(self, symbol: str, time_ms: int, order_id: str) -> FillResult:
        """Close the position at its liquidation price; the rest of its margin is booked as the liquidation fee."""
        position = self.positions[symbol]
        price = position.liquidation_price
        if price is None:
            raise ValueError(f"{symbol}: this position has no liquidation price")
        fee = position.margin_usdt + position.unrealized_pnl(price)
        return self._reduce(position, position.qty, price, fee, time_ms, _LIQUIDATED, order_id, _LIQUIDATED)

    def settle_funding(self, symbol: str, price: float, rate: float, time_ms: int) -> float:
        """Book one funding settlement, −side × qty × price × rate, and return it (positive = received)."""
        position = self.positions[symbol]
        amount = max(-position.side * position.qty * price * rate, -self.wallet_usdt)
        self.wallet_usdt += amount
        position.funding_usdt += amount
        position.settled_ms = time_ms
        self._note(time_ms, "funding", position, amount)
        return amount

    def settle_told(self, symbol: str, amount_usdt: float, time_ms: int) -> bool:
        """Book a settlement somebody else has worked out, on the position that was open at ``time_ms``.

        It may be told after that position's end: then it changes the wallet, and the trade the position has become.
        Returns False, and books nothing, when no position is known.
        """
        position, closed = self.positions.get(symbol), self._last_trades.get(symbol)
        amount = max(amount_usdt, -self.wallet_usdt)
        if position is not None and (closed is None or time_ms >= position.entry_ms):
            position.funding_usdt += amount
            position.settled_ms = max(position.settled_ms, time_ms)
        elif closed is not None:
            self._amend(closed, closed._replace(funding_usdt=closed.funding_usdt + amount))
        else:
            return False
        self.wallet_usdt += amount
        after = (self.wallet_usdt, 0.0, 0.0)
        if position is not None:
            after = (self.wallet_usdt, position.signed_qty, position.entry_price)
        self.entries.append(LedgerEntry(time_ms, "funding", symbol, amount, *after))
        return True

    def _amend(self, before: Trade, after: Trade) -> None:
        self._last_trades[before.symbol] = after
        self.amended.append(after)
        self.trades[:] = [after if trade is before else trade for trade in self.trades]

    def open_positions(self, prices: Mapping[str, float]) -> list[OpenPosition]:
        """Return what is open, valued at ``prices``, in the order it was opened."""
        return [self._open_position(p, prices.get(p.symbol, p.entry_price)) for p in self.positions.values()]

    def _open_position(self, position: Position, price: float) -> OpenPosition:
        return OpenPosition(
            symbol=position.symbol,
            side=side_name(position.side),
            entry_ms=position.entry_ms,
            entry_price=position.entry_price,
            qty=position.qty,
            margin_usdt=position.margin_usdt,
            fees_usdt=position.fees_usdt,
            funding_usdt=position.funding_usdt,
            unrealized_pnl_usdt=position.unrealized_pnl(price),
            liquidation_price=position.liquidation_price,
            entry_order_id=position.entry_order_id,
        )

    def _add(self, position: Position, qty: float, price: float) -> None:
        before = position.qty
        position.qty = self.instruments[position.symbol].clean_qty(before + qty)
        position.entry_price = (before * position.entry_price + qty * price) / position.qty
        margin = position.qty * position.entry_price / LEVERAGE
        position.opened_margin_usdt += margin - position.margin_usdt
        position.margin_usdt = margin
        position.opened_qty += qty
        position.opened_notional += qty * price

    def _set_exits(self, position: Position) -> None:
        position.stop_price = self._stop_price(position.entry_price, position.side)
        tiers = self.instruments[position.symbol].float_brackets
        position.liquidation_price = liquidation_price(
            position.side, position.qty, position.entry_price, position.margin_usdt, tiers
        )

    def _reduce(
        self,
        position: Position,
        qty: float,
        price: float,
        fee: float,
        time_ms: int,
        reason: str,
        order_id: str,
        kind: str,
    ) -> FillResult:
        gross = position.side * qty * (price - position.entry_price)
        paid = fee - gross
        if paid > self.wallet_usdt:
            gross, fee = _what_was_paid(gross, fee, paid - self.wallet_usdt)
            paid = self.wallet_usdt
        self.wallet_usdt -= paid
        position.gross_pnl_usdt += gross
        position.fees_usdt += fee
        position.closed_notional += qty * price
        remaining = 0.0 if qty == position.qty else self.instruments[position.symbol].clean_qty(position.qty - qty)
        symbol, order_side = position.symbol, -position.side
        self.fills.append(_new(Fill, (order_id, symbol, time_ms, order_side, qty, price, fee, True, reason)))
        if remaining > 0.0:
            position.qty = remaining
            position.margin_usdt = remaining * position.entry_price / LEVERAGE
            self._set_exits(position)
        else:
            self._finish(position, price, time_ms, reason, order_id)
        after = (time_ms, kind, symbol, -paid, self.wallet_usdt, position.side * position.qty, position.entry_price)
        self.entries.append(_new(LedgerEntry, after))
        return _new(FillResult, (order_side * qty, fee, gross))

    def _finish(self, position: Position, price: float, time_ms: int, reason: str, order_id: str) -> None:
        del self.positions[position.symbol]
        whole = position.qty == position.opened_qty  # one entry, one exit: prices as filled, not averages
        qty = position.qty if whole else self.instruments[position.symbol].clean_qty(position.opened_qty)
        record = (
            position.symbol,
            side_name(position.side),
            position.entry_ms,
            position.entry_price if whole else position.opened_notional / qty,
            qty,
            time_ms,
            price if whole else position.closed_notional / qty,
            position.gross_pnl_usdt,
            position.fees_usdt,
            position.funding_usdt,
            position.opened_margin_usdt,
            reason,
            position.entry_order_id,
            order_id,
        )
        trade = _new(Trade, record)
        self.trades.append(trade)
        self._last_trades[position.symbol] = trade
        position.qty = 0.0
        position.entry_price = 0.0

    def _note(self, time_ms: int, kind: str, position: Position, amount: float) -> None:
        signed_qty = position.side * position.qty
        record = (time_ms, kind, position.symbol, amount, self.wallet_usdt, signed_qty, position.entry_price)
        self.entries.append(_new(LedgerEntry, record))


def _what_was_paid(gross: float, fee: float, shortfall: float) -> tuple[float, float]:
    """Take what the wallet could not pay off the loss first, then off the fee, so that the books still add up."""
    forgiven_loss = min(shortfall, max(0.0, -gross))
    return gross + forgiven_loss, fee - (shortfall - forgiven_loss)
