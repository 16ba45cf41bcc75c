"""Exact numbers: decimals in, plain decimal text out (never an exponent, never a rounding surprise)."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal

ZERO = Decimal(0)
_TWELVE_PLACES = Decimal("1e-12")
# Balances of a made account stay far below this; the width keeps every product of a fill exact.
_WIDE = Context(prec=60, rounding=ROUND_HALF_EVEN)


def exact(value: str | int | float | Decimal) -> Decimal:
    """Return ``value`` as the decimal a person would read: a float by its shortest round-trip text."""
    if isinstance(value, Decimal):
        return value
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


def plain(value: Decimal) -> str:
    """Return ``value`` without exponent and trailing zeros, at most twelve decimals."""
    if not value:
        return "0"
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -12:
        value = value.quantize(_TWELVE_PLACES, context=_WIDE)
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def is_multiple(value: Decimal, step: Decimal) -> bool:
    """Say whether ``value`` lies on the grid of ``step`` (a step of zero allows everything)."""
    return not step or not _WIDE.remainder(value, step)


def decimals_of(value: Decimal) -> int:
    """Count the digits after the point that carry something."""
    exponent = value.normalize(_WIDE).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
