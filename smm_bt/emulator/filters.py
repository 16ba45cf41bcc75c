"""The venue's order filters as checks that raise: lot sizes, notional, price grid and price band."""

from __future__ import annotations

from decimal import Decimal

from smm_bt.emulator.exact import decimals_of, is_multiple, plain
from smm_bt.emulator.instruments import Instrument
from smm_bt.emulator.refusals import VenueError


def check_quantity(instrument: Instrument, qty: Decimal, *, market_order: bool) -> None:
    """Hold ``qty`` against LOT_SIZE, or MARKET_LOT_SIZE for market orders."""
    if qty <= 0:
        raise VenueError(-4003)
    if decimals_of(qty) > instrument.quantity_decimals:
        raise VenueError(-1111)
    rule = instrument.market_lot if market_order else instrument.lot
    if qty < rule.smallest:
        raise VenueError(-4004)
    if qty > rule.largest:
        raise VenueError(-4005)
    # a market order's grid is the coarser of both steps
    if not is_multiple(qty, rule.step) or not is_multiple(qty, instrument.lot.step):
        raise VenueError(-4023)


def check_notional(instrument: Instrument, qty: Decimal, price: Decimal, *, reduce_only: bool) -> None:
    """Hold the order's value against MIN_NOTIONAL; reduce-only orders are exempt."""
    if not reduce_only and qty * price < instrument.min_notional:
        raise VenueError(-4164, plain(instrument.min_notional))


def check_price(instrument: Instrument, price: Decimal) -> None:
    """Hold a limit or trigger price against PRICE_FILTER."""
    lowest, highest = instrument.price_range
    if price > highest:
        raise VenueError(-4002)
    if price < lowest:
        raise VenueError(-4013)
    if not is_multiple(price, instrument.tick):
        raise VenueError(-4014)


def check_price_band(instrument: Instrument, side: str, price: Decimal, mark: Decimal) -> None:
    """Hold a limit price against PERCENT_PRICE around the mark price."""
    down, up = instrument.percent_price
    if side == "BUY" and price > mark * up:
        raise VenueError(-4016, plain(mark * up))
    if side == "SELL" and price < mark * down:
        raise VenueError(-4024, plain(mark * down))


def check_market_band(instrument: Instrument, side: str, best: Decimal, mark: Decimal) -> None:
    """Refuse a market order whose best opposite price lies outside the PERCENT_PRICE band."""
    down, up = instrument.percent_price
    if (side == "BUY" and best > mark * up) or (side == "SELL" and best < mark * down):
        raise VenueError(-4131)
