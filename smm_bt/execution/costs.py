"""What trading costs on the simulated venue: fee, slippage, the optional stop. Each has a do-nothing member."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class TakerFee:
    """A fee proportional to the fill's notional; ``TakerFee(0.0)`` charges nothing."""

    rate: float = 0.0005

    def of(self, notional_usdt: float) -> float:
        """Return the fee in USDT for a fill of ``notional_usdt``."""
        return notional_usdt * self.rate


@dataclass(frozen=True)
class Slippage:
    """Fills worse than the price seen, by a fixed number of basis points; ``Slippage(0.0)`` leaves prices alone."""

    bps: float = 0.0

    def fill_price(self, price: float, order_side: int) -> float:
        """Return the fill price of an order on ``order_side`` (+1 buy pays more, −1 sell gets less)."""
        return price * (1.0 + order_side * self.bps / 10_000.0) if self.bps else price


@dataclass(frozen=True)
class NoStopLoss:
    """The default: a position is closed by the rules or by liquidation, never by a stop."""

    def price(self, entry_price: float, side: int) -> float | None:
        """Return None: there is no stop."""
        return None


@dataclass(frozen=True)
class StopLoss(NoStopLoss):
    """A stop ``percent`` away from the entry price, in per cent of that price, on the losing side."""

    percent: float = 0.0

    def price(self, entry_price: float, side: int) -> float | None:
        """Return the stop price: entry × (1 − percent/100) for a long, × (1 + percent/100) for a short."""
        return entry_price * (1.0 - side * self.percent / 100.0)


@dataclass(frozen=True)
class Costs:
    """The three policies of one simulated venue."""

    fee: TakerFee = field(default_factory=TakerFee)
    slippage: Slippage = field(default_factory=Slippage)
    stop_loss: NoStopLoss = field(default_factory=NoStopLoss)
