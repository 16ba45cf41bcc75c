"""How much to buy or sell: 20 % of the free balance at 20x, rounded down to what the venue accepts."""

from __future__ import annotations

from decimal import Context, Decimal
from math import inf
from typing import NamedTuple

from smm_bt.execution.instrument import Instrument
from smm_bt.model import LEVERAGE, RISK_FRACTION

#: Wide enough that products of balances, prices and steps stay exact and a floor is a floor.
_EXACT = Context(prec=100)

#: Far above the error of the few float operations in simulated_size, far below one step of any order.
_ROUNDING = 1e-12
_CLEARLY = 1.0 + _ROUNDING

#: Notional per free USDT of every entry the product makes.
_USUAL_SHARE = float(RISK_FRACTION * LEVERAGE)


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
    cap = market.notional_cap(leverage)
    if cap <= 0:
        return Skip(f"{market.symbol}: the venue allows at most {market.max_leverage}x, below {leverage}x")
    free, at = _exact(free_balance), _exact(price)
    if not (at.is_finite() and at > 0 and free.is_finite()):
        return Skip(f"{market.symbol}: price {price} and free balance {free_balance} USDT cannot be sized")
    wanted = _EXACT.multiply(_EXACT.multiply(free, _exact(risk_fraction)), Decimal(leverage))
    steps = int(_EXACT.divide_int(min(wanted, cap), _EXACT.multiply(at, market.step)))
    qty = _EXACT.multiply(Decimal(min(steps, market.max_steps)), market.step)
    return _refused(qty, price, free_balance, market) or qty


def simulated_size(free_balance: float, price: float, market: Instrument) -> float | Skip:
    """Return what :func:`position_size` says to the product's leverage and risk fraction, as a float.

    Floats settle nearly every case: where no rounding could carry the quotient over a whole number of steps, and the
    venue's limits are clearly kept, the exact division would say the same. It is asked in all other cases.
    """
    if 0.0 < price < inf and 0.0 < free_balance < inf:
        wanted, cap = free_balance * _USUAL_SHARE, market.float_cap
        quotient = (wanted if wanted < cap else cap) / (price * market.float_step)
        steps, rounding = int(quotient), _ROUNDING * quotient
        if (
            rounding < quotient - steps < 1.0 - rounding
            and market.min_steps <= steps <= market.max_steps
            and steps * market.float_step * price > market.float_min_notional * _CLEARLY
        ):
            return market.qty_of(steps)
    size = position_size(free_balance, price, market)
    return size if isinstance(size, Skip) else float(size)


def _exact(value: Decimal | float) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(repr(float(value)))


def _refused(qty: Decimal, price: Decimal | float, free: Decimal | float, market: Instrument) -> Skip | None:
    """Return why the venue would not take ``qty``, or None."""
    if qty < market.min_qty or qty <= 0:
        return Skip(
            f"{market.symbol}: quantity {qty} at {price} from {free} USDT free is below the minimum quantity "
            f"{market.min_qty}"
        )
    notional = _EXACT.multiply(qty, _exact(price))
    if notional >= market.min_notional:
        return None
    return Skip(
        f"{market.symbol}: notional {notional} USDT ({qty} at {price} from {free} USDT free) is below the minimum "
        f"notional {market.min_notional} USDT"
    )
