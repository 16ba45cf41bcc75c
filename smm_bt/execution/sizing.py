"""How much to buy or sell: 20 % of the free balance at 20x, rounded down to what the venue accepts."""

from __future__ import annotations

from decimal import Context, Decimal
from typing import NamedTuple

from smm_bt.execution.instrument import Instrument
from smm_bt.model import LEVERAGE, RISK_FRACTION

#: Wide enough that products of balances, prices and steps stay exact and a floor is a floor.
_EXACT = Context(prec=100)


class Skip(NamedTuple):
    """No order is to be sent; ``why`` says so in a sentence with figures."""

    why: str


def position_size(
    free_balance: Decimal | float,
    price: Decimal | float,
    market: Instrument,
    *,
    leverage: int = LEVERAGE,
    risk_fraction: Decimal | float = RISK_FRACTION,
) -> Decimal | Skip:
    """Return the quantity of a market entry, or :class:`Skip` when the venue would not take it.

    ``qty = risk_fraction × free_balance × leverage / price``, floored to the market-order step, capped at the
    market-order maximum and at the notional the leverage brackets allow. Floats are taken at their shortest decimal
    form, so 0.1 is one tenth; the arithmetic is exact.

    Args:
        free_balance: free USDT.
        price: expected fill price in USDT; must be positive and finite to size anything.
        market: the symbol's filters and brackets.
        leverage: fixed at 20 by the product.
        risk_fraction: share of the free balance used as margin, 0.20 by the product.
    """
    free, at = _exact(free_balance), _exact(price)
    if not at.is_finite() or at <= 0 or not free.is_finite():
        return Skip(f"{market.symbol}: price {price} and free balance {free_balance} USDT cannot be sized")
    cap = market.notional_cap(leverage)
    if cap <= 0:
        return Skip(f"{market.symbol}: the venue allows at most {market.max_leverage}x, below {leverage}x")
    wanted = _EXACT.multiply(_EXACT.multiply(free, _exact(risk_fraction)), leverage)
    steps = _EXACT.divide_int(min(wanted, cap), _EXACT.multiply(at, market.step))
    qty = min(_EXACT.multiply(steps, market.step), market.floored_max_qty)
    return _checked(qty, at, free, market)


def _exact(value: Decimal | float) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(repr(float(value)))


def _checked(qty: Decimal, price: Decimal, free: Decimal, market: Instrument) -> Decimal | Skip:
    if qty < market.min_qty or qty <= 0:
        return Skip(
            f"{market.symbol}: quantity {qty:f} at {price:f} from {free:f} USDT free is below the minimum quantity "
            f"{market.min_qty:f}"
        )
    notional = _EXACT.multiply(qty, price)
    if notional < market.min_notional:
        return Skip(
            f"{market.symbol}: notional {notional:f} USDT ({qty:f} at {price:f} from {free:f} USDT free) is below the "
            f"minimum notional {market.min_notional:f} USDT"
        )
    return qty
