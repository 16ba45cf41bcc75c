"""Properties of filters, liquidation prices and booking, over generated values; and the package's independence."""

from __future__ import annotations

import ast
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import smm_bt.emulator
from smm_bt.emulator import filters
from smm_bt.emulator.account import Account, Position
from smm_bt.emulator.exact import decimals_of, exact, plain
from smm_bt.emulator.instruments import load_instruments
from smm_bt.emulator.refusals import TEXTS, VenueError, text_of

INSTRUMENTS = load_instruments(None, None)
SYMBOLS = st.sampled_from(sorted(INSTRUMENTS))
amounts = st.decimals("0.0001", "100000", places=4, allow_nan=False, allow_infinity=False)


@given(symbol=SYMBOLS, steps=st.integers(0, 10_000_000))
def test_a_quantity_on_the_grid_and_within_the_limits_passes_and_no_other_does(symbol: str, steps: int) -> None:
    instrument = INSTRUMENTS[symbol]
    rule = instrument.market_lot
    qty = rule.step * steps
    allowed = rule.smallest <= qty <= rule.largest and qty > 0
    if allowed:
        filters.check_quantity(instrument, qty, market_order=True)
        with pytest.raises(VenueError):
            filters.check_quantity(instrument, qty + rule.step / 2, market_order=True)
    else:
        with pytest.raises(VenueError):
            filters.check_quantity(instrument, qty, market_order=True)


@given(symbol=SYMBOLS, steps=st.integers(1, 1_000_000))
def test_a_price_on_the_tick_grid_passes_and_half_a_tick_beside_it_does_not(symbol: str, steps: int) -> None:
    instrument = INSTRUMENTS[symbol]
    lowest, highest = instrument.price_range
    price = instrument.tick * steps
    if lowest <= price <= highest:
        filters.check_price(instrument, price)
        with pytest.raises(VenueError):
            filters.check_price(instrument, price + instrument.tick / 2)


@given(
    symbol=SYMBOLS,
    side=st.sampled_from([1, -1]),
    qty=amounts,
    entry=amounts,
    backing=st.decimals("0.01", "0.9", places=3),
)
def test_at_the_liquidation_price_what_is_left_equals_the_maintenance_margin(
    symbol: str, side: int, qty: Decimal, entry: Decimal, backing: Decimal
) -> None:
    account = Account(INSTRUMENTS, Decimal(10**12), 20)
    position = Position(symbol, "BOTH", side * qty, entry)
    margin = qty * entry * backing
    price = account.zero_equity_price(position, margin)
    if price:
        left = margin + position.unrealized(price)
        notional = qty * price
        last = INSTRUMENTS[symbol].brackets[-1]
        assert notional > last.cap or abs(left - account.maintenance(position, price)) <= Decimal("1e-9") * notional


@given(fills=st.lists(st.tuples(st.integers(-50, 50).filter(bool), st.integers(1, 1000)), max_size=20))
def test_fills_in_any_order_realise_what_cash_flows_say(fills: list[tuple[int, int]]) -> None:
    account = Account(INSTRUMENTS, Decimal(0), 20)
    realized = sum(
        account.apply_fill("BTCUSDT", "BOTH", Decimal(qty), Decimal(price), 0).realized_pnl for qty, price in fills
    )
    position = account.position("BTCUSDT", "BOTH")
    cash = sum(-qty * price for qty, price in fills)
    assert position.qty == sum(qty for qty, _ in fills)
    assert abs(realized - (cash + position.qty * position.entry_price)) < Decimal("1e-15")


@given(value=st.floats(1e-9, 1e12, allow_nan=False))
def test_a_float_becomes_the_decimal_it_prints_as(value: float) -> None:
    assert float(exact(value)) == value


@given(value=st.decimals(-(10**9), 10**9, places=9, allow_nan=False))
def test_plain_text_has_no_exponent_and_loses_nothing(value: Decimal) -> None:
    text = plain(value)
    assert "E" not in text.upper()
    assert Decimal(text) == value
    assert decimals_of(Decimal(text)) <= 9


def test_numbers_beyond_twelve_decimals_are_rounded_in_text_only() -> None:
    assert plain(Decimal(2) / Decimal(3)) == "0.666666666667"
    assert plain(Decimal("1E+3")) == "1000"


@pytest.mark.parametrize("code", sorted(TEXTS))
def test_every_refusal_can_be_worded_without_details(code: int) -> None:
    assert "{" not in text_of(code)


def test_the_embedded_exchange_imports_nothing_of_ours_but_itself() -> None:
    package = Path(smm_bt.emulator.__file__).parent
    foreign = set()
    for path in package.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            foreign |= {name for name in names if name.split(".")[0] in {"smm_bt", "feeds", "strategy"}}
    assert {name for name in foreign if not name.startswith("smm_bt.emulator")} == set()


def test_the_host_clock_is_read_in_one_file_only() -> None:
    package = Path(smm_bt.emulator.__file__).parent
    readers = {
        path.name
        for path in package.glob("*.py")
        if any(call in path.read_text(encoding="utf-8") for call in ("time.time", "time.monotonic", "datetime.now"))
    }
    assert readers == {"clock.py"}
