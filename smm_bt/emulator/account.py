"""The account: wallet, positions, leverage, margin modes, and every figure the venue derives from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from smm_bt.emulator.exact import ZERO
from smm_bt.emulator.instruments import Instrument

PriceOf = Callable[[str], Decimal]


@dataclass(slots=True)
class Position:
    """A position of one symbol and side; ``qty`` is signed, prices in USDT, times in ms UTC."""

    symbol: str
    side: str
    qty: Decimal = ZERO
    entry_price: Decimal = ZERO
    update_time: int = 0

    @property
    def sign(self) -> int:
        """+1 long, −1 short, 0 flat."""
        return (self.qty > 0) - (self.qty < 0)

    def unrealized(self, price: Decimal) -> Decimal:
        """Profit if closed at ``price``, before fees."""
        return (price - self.entry_price) * self.qty


@dataclass(frozen=True, slots=True)
class FillResult:
    """What a fill did to a position: profit realised and quantity closed and opened."""

    realized_pnl: Decimal
    closed_qty: Decimal
    opened_qty: Decimal


@dataclass
class Account:
    """One USDT account. Margin rules: a position's margin is quantity × entry price / leverage."""

    instruments: Mapping[str, Instrument]
    wallet: Decimal
    default_leverage: int
    dual_side: bool = False
    multi_assets: bool = False
    leverages: dict[str, int] = field(default_factory=dict)
    isolated: set[str] = field(default_factory=set)
    positions: dict[tuple[str, str], Position] = field(default_factory=dict)
    update_time: int = 0

    def leverage(self, symbol: str) -> int:
        """Leverage in force for ``symbol``, never above what its smallest bracket allows."""
        wanted = self.leverages.get(symbol, self.default_leverage)
        return min(wanted, self.instruments[symbol].max_leverage)

    def is_isolated(self, symbol: str) -> bool:
        """Whether ``symbol`` is in isolated margin mode."""
        return symbol in self.isolated

    def position(self, symbol: str, side: str) -> Position:
        """Return the position of that symbol and side, made flat if there is none."""
        key = (symbol, side)
        if key not in self.positions:
            self.positions[key] = Position(symbol, side)
        return self.positions[key]

    def open_positions(self, symbol: str | None = None) -> Iterator[Position]:
        """Yield positions that are not flat."""
        for position in list(self.positions.values()):
            if position.qty and symbol in (None, position.symbol):
                yield position

    def apply_fill(self, symbol: str, side: str, signed_qty: Decimal, price: Decimal, time_ms: int) -> FillResult:
        """Change the position by a fill; the wallet is the caller's business."""
        position = self.position(symbol, side)
        against = position.sign * signed_qty < 0
        closed = min(abs(signed_qty), abs(position.qty)) if against else ZERO
        opened = abs(signed_qty) - closed
        realized = closed * (price - position.entry_price) * position.sign
        direction = 1 if signed_qty > 0 else -1
        if closed:
            position.qty += direction * closed
        if opened:
            held = abs(position.qty)
            total = held + opened
            position.entry_price = (held * position.entry_price + opened * price) / total if held else price
            position.qty += direction * opened
        if not position.qty:
            position.entry_price = ZERO
        position.update_time = self.update_time = time_ms
        return FillResult(realized, closed, opened)

    def margin(self, position: Position) -> Decimal:
        """Margin bound by a position: quantity × entry price / leverage."""
        return abs(position.qty) * position.entry_price / self.leverage(position.symbol)

    def maintenance(self, position: Position, price: Decimal) -> Decimal:
        """Maintenance margin of a position at a mark price."""
        notional = abs(position.qty) * price
        bracket = self.instruments[position.symbol].bracket_of(notional)
        return max(ZERO, notional * bracket.maintenance_rate - bracket.maintenance_amount)

    def liquidation_price(self, position: Position, price_of: PriceOf) -> Decimal:
        """Return the mark price at which the position is liquidated; zero when there is none."""
        if not position.qty:
            return ZERO
        if self.is_isolated(position.symbol):
            return self.zero_equity_price(position, self.margin(position))
        return self.zero_equity_price(position, self.cross_pool(position, price_of))

    def cross_pool(self, position: Position, price_of: PriceOf) -> Decimal:
        """Return what stands behind a cross position: the free wallet, the other cross positions' results."""
        pool = self.cross_wallet()
        for other in self.open_positions():
            if other is not position and not self.is_isolated(other.symbol):
                price = price_of(other.symbol)
                pool += other.unrealized(price) - self.maintenance(other, price)
        return pool

    def zero_equity_price(self, position: Position, backing: Decimal) -> Decimal:
        """Solve backing + profit = maintenance margin for the mark price.

        Long (entry·q − backing − cum)/(q·(1−mmr)), short (entry·q + backing + cum)/(q·(1+mmr)), with the
        bracket that holds the notional at the price found; zero when no price above zero solves it.
        """
        qty = abs(position.qty)
        cost = qty * position.entry_price
        price = ZERO
        for bracket in self.instruments[position.symbol].brackets:
            shift = position.sign * (backing + bracket.maintenance_amount)
            price = (cost - shift) / (qty * (1 - position.sign * bracket.maintenance_rate))
            if qty * price <= bracket.cap:
                break
        return max(price, ZERO)

    def isolated_margin(self) -> Decimal:
        """Sum of the margins of isolated positions."""
        return sum((self.margin(p) for p in self.open_positions() if self.is_isolated(p.symbol)), ZERO)

    def cross_wallet(self) -> Decimal:
        """Wallet less what isolated positions hold."""
        return self.wallet - self.isolated_margin()

    def cross_unrealized(self, price_of: PriceOf) -> Decimal:
        """Unrealised profit of cross positions."""
        rows = (p for p in self.open_positions() if not self.is_isolated(p.symbol))
        return sum((p.unrealized(price_of(p.symbol)) for p in rows), ZERO)

    def position_margin(self, position: Position, price_of: PriceOf) -> Decimal:
        """Initial margin of a position: at entry when isolated, at the mark price when cross."""
        if self.is_isolated(position.symbol):
            return self.margin(position)
        return abs(position.qty) * price_of(position.symbol) / self.leverage(position.symbol)

    def available(self, price_of: PriceOf, order_margin: Decimal) -> Decimal:
        """Free balance: cross wallet plus cross profit less cross margins and margin of open orders."""
        cross = (p for p in self.open_positions() if not self.is_isolated(p.symbol))
        bound = sum((self.position_margin(p, price_of) for p in cross), ZERO)
        return max(ZERO, self.cross_wallet() + self.cross_unrealized(price_of) - bound - order_margin)
