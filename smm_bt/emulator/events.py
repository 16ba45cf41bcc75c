"""What the exchange tells its listeners: order, account, algo and market events, as plain values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from smm_bt.emulator.records import AlgoOrder, Order, Trade


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """An order was accepted, filled, cancelled or expired."""

    order: Order
    execution: str
    trade: Trade | None
    time_ms: int


@dataclass(frozen=True, slots=True)
class AccountEvent:
    """Wallet or positions changed; ``reason`` is the venue's word (ORDER, FUNDING_FEE …)."""

    reason: str
    symbol: str
    time_ms: int


@dataclass(frozen=True, slots=True)
class AlgoEvent:
    """A conditional order changed its state."""

    algo: AlgoOrder
    time_ms: int


@dataclass(frozen=True, slots=True)
class LeverageEvent:
    """The leverage of a symbol was set."""

    symbol: str
    leverage: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class MarketEvent:
    """The market moved from one moment to another."""

    before_ms: int
    time_ms: int


Event = OrderEvent | AccountEvent | AlgoEvent | LeverageEvent | MarketEvent
Emit = Callable[[Event], None]
