"""Instruments from the venue's JSON, and the liquidation formula against fractions worked by hand."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smm_bt.execution.instrument import (
    FloatBracket,
    Instrument,
    LeverageBracket,
    instrument_from_venue,
    liquidation_price,
)

ONE_PERCENT = [FloatBracket(0.0, 1e9, 0.01, 0.0)]
#: Floor, cap, rate, cum; cum is continuous: 5 000 × 1 % = 50, + 25 000 × 0.5 % = 175, + 400 000 × 2.5 % = 10 175.
TIERS = [(0, 5_000, 0.01, 0), (5_000, 25_000, 0.02, 50), (25_000, 400_000, 0.025, 175), (400_000, 10**7, 0.05, 10_175)]
FLOAT_TIERS = [FloatBracket(*map(float, tier)) for tier in TIERS]


def body(**changes: Any) -> dict[str, Any]:
    filters = {
        "PRICE_FILTER": {"tickSize": "0.10"},
        "LOT_SIZE": {"stepSize": "0.001", "minQty": "0.001", "maxQty": "1000"},
        "MARKET_LOT_SIZE": {"stepSize": "0.001", "minQty": "0.001", "maxQty": "120"},
        "MIN_NOTIONAL": {"notional": "100"},
    } | changes
    rows = [{"filterType": name, **entry} for name, entry in filters.items() if entry is not None]
    return {"symbol": "BTCUSDT", "filters": rows}


TIER_ROWS = [
    {"notionalFloor": 50_000, "notionalCap": 600_000, "initialLeverage": 20, "maintMarginRatio": 0.01, "cum": 300.0},
    {"notionalFloor": 0, "notionalCap": 50_000, "initialLeverage": 125, "maintMarginRatio": 0.004, "cum": 0},
    {"notionalFloor": 600_000, "notionalCap": 3_000_000, "initialLeverage": 10, "maintMarginRatio": 0.05, "cum": 24300},
]


# from the venue's JSON


def test_an_instrument_is_read_from_the_venues_own_fields() -> None:
    instrument = instrument_from_venue(body(), TIER_ROWS)
    assert instrument.symbol == "BTCUSDT"
    assert instrument.price_tick == Decimal("0.1")
    assert (instrument.step, instrument.min_qty) == (Decimal("0.001"), Decimal("0.001"))
    assert instrument.max_qty == 120
    assert instrument.min_notional == 100
    assert instrument.max_leverage == 125


def test_brackets_are_sorted_by_notional_and_kept_exact() -> None:
    brackets = instrument_from_venue(body(), TIER_ROWS).brackets
    assert [b.floor for b in brackets] == [0, 50_000, 600_000]
    assert brackets[0] == LeverageBracket(Decimal(0), Decimal(50_000), 125, Decimal("0.004"), Decimal(0))


def test_the_notional_cap_is_the_largest_that_still_allows_the_leverage() -> None:
    instrument = instrument_from_venue(body(), TIER_ROWS)
    assert instrument.notional_cap() == 600_000
    assert instrument.notional_cap(100) == 50_000
    assert instrument.notional_cap(10) == 3_000_000
    assert instrument.notional_cap(126) == 0


def test_a_market_order_must_pass_both_lot_filters() -> None:
    coarse = {"stepSize": "0.01", "minQty": "0.05", "maxQty": "5000"}
    instrument = instrument_from_venue(body(MARKET_LOT_SIZE=coarse), TIER_ROWS)
    assert (instrument.step, instrument.min_qty, instrument.max_qty) == (Decimal("0.01"), Decimal("0.05"), 1000)


def test_without_a_market_lot_filter_or_with_a_step_of_zero_the_lot_filter_decides() -> None:
    off = {"stepSize": "0", "minQty": "0", "maxQty": "120"}
    for entry in (None, off):
        instrument = instrument_from_venue(body(MARKET_LOT_SIZE=entry), TIER_ROWS)
        assert (instrument.step, instrument.min_qty) == (Decimal("0.001"), Decimal("0.001"))


def test_the_minimum_notional_may_be_absent_or_called_notional() -> None:
    assert instrument_from_venue(body(MIN_NOTIONAL=None), TIER_ROWS).min_notional == 0
    other = body(MIN_NOTIONAL=None, NOTIONAL={"minNotional": "5"})
    assert instrument_from_venue(other, TIER_ROWS).min_notional == 5


def test_a_missing_filter_or_an_empty_bracket_table_is_an_error() -> None:
    with pytest.raises(KeyError):
        instrument_from_venue(body(LOT_SIZE=None), TIER_ROWS)
    with pytest.raises(ValueError, match="leverage bracket table is empty"):
        instrument_from_venue(body(), [])


# quantities


def of_step(step: str) -> Instrument:
    size = Decimal(step)
    tier = LeverageBracket(Decimal(0), Decimal(10**9), 20, Decimal("0.01"), Decimal(0))
    return Instrument("AAAUSDT", Decimal("0.01"), size, size, Decimal(10**9), Decimal(5), (tier,))


@pytest.mark.parametrize(
    ("step", "qty", "floored"),
    [
        ("0.001", "1.2349", "1.234"),
        ("1", "7.99", "7"),
        ("5", "14", "10"),
        ("0.25", "0.8", "0.75"),
        ("1E+1", "29", "20"),
    ],
)
def test_quantities_are_floored_to_the_step(step: str, qty: str, floored: str) -> None:
    assert of_step(step).floor_qty(Decimal(qty)) == Decimal(floored)


@pytest.mark.parametrize(("step", "decimals"), [("0.001", 3), ("0.00100000", 3), ("1", 0), ("10", 0), ("0.25", 2)])
def test_a_step_tells_its_decimals(step: str, decimals: int) -> None:
    assert of_step(step).qty_decimals == decimals


@given(st.integers(1, 10**7), st.integers(1, 10**7))
def test_float_dust_is_cleaned_from_sums_and_differences(first: int, second: int) -> None:
    a, b = first / 1000, second / 1000
    instrument = of_step("0.001")
    assert instrument.clean_qty(a + b) == (first + second) / 1000
    assert instrument.clean_qty(a + b - b) == a
    assert instrument.clean_qty(a - b + b - a) == 0.0


# liquidation


def test_a_long_at_20x_is_liquidated_by_the_published_formula() -> None:
    # Entry 100, qty 400, margin 2 000: (40 000 − 2 000 − 0) / (400 × 0.99) = 95 / 0.99.
    assert liquidation_price(1, 400.0, 100.0, 2_000.0, ONE_PERCENT) == pytest.approx(float(Fraction(9500, 99)))


def test_a_short_at_20x_is_liquidated_by_the_published_formula() -> None:
    # (40 000 + 2 000 + 0) / (400 × 1.01) = 105 / 1.01.
    assert liquidation_price(-1, 400.0, 100.0, 2_000.0, ONE_PERCENT) == pytest.approx(float(Fraction(10500, 101)))


def test_the_bracket_is_that_of_the_notional_at_the_liquidation_price_not_at_the_entry() -> None:
    # Long 51 at 100: 5 100 at entry is in the second bracket, but at the liquidation price of the first,
    # (5 100 − 255) / (51 × 0.99) = 95.959…, the notional is 4 893.9 and within the first bracket's 5 000.
    assert liquidation_price(1, 51.0, 100.0, 255.0, FLOAT_TIERS) == pytest.approx(float(Fraction(4845 * 100, 51 * 99)))
    # Short 49 at 100: 4 900 at entry is in the first, at its price (4 900 + 245) / (49 × 1.01) = 103.96 it is 5 094:
    # the second bracket decides, (4 900 + 245 + 50) / (49 × 1.02).
    assert liquidation_price(-1, 49.0, 100.0, 245.0, FLOAT_TIERS) == pytest.approx(
        float(Fraction(5195 * 100, 49 * 102))
    )


def test_beyond_the_last_cap_the_last_bracket_is_used() -> None:
    small = FLOAT_TIERS[:2]
    expected = float(Fraction((40_000 + 2_000 + 50) * 100, 400 * 102))
    assert liquidation_price(-1, 400.0, 100.0, 2_000.0, small) == pytest.approx(expected)


def test_a_long_whose_margin_is_its_whole_notional_has_no_liquidation_price() -> None:
    assert liquidation_price(1, 1.0, 100.0, 100.0, ONE_PERCENT) is None
    assert liquidation_price(1, 1.0, 100.0, 150.0, ONE_PERCENT) is None


def test_a_bracket_changes_at_its_cap_and_the_formulas_meet_there() -> None:
    # At a notional of exactly 5 000 both brackets ask for the same margin: 50 = 5 000 × 2 % − 50.
    qty, price = 50.0, 100.0
    entry = (price * qty * (1 - 0.01) + 250.0) / qty
    first = liquidation_price(1, qty, entry, 250.0, FLOAT_TIERS[:1])
    second = liquidation_price(1, qty, entry, 250.0, FLOAT_TIERS[1:2])
    assert first == pytest.approx(100.0)
    assert second == pytest.approx(100.0)


@given(
    side=st.sampled_from([1, -1]),
    qty=st.integers(1, 10**7).map(lambda n: Fraction(n, 1000)),
    entry=st.integers(1, 10**6).map(lambda n: Fraction(n, 100)),
)
def test_at_the_liquidation_price_margin_and_loss_leave_exactly_the_maintenance_margin(
    side: int, qty: Fraction, entry: Fraction
) -> None:
    margin = qty * entry / 20
    price = liquidation_price(side, float(qty), float(entry), float(margin), FLOAT_TIERS)
    assert price is not None
    at = Fraction(price)
    # A second way to the same place: the venue's condition, margin + unrealised = notional × rate − cum.
    notional = qty * at
    rate, cum = maintenance(notional)
    left = margin + side * qty * (at - entry)
    assert float(left) == pytest.approx(float(notional * rate - cum), rel=1e-6, abs=1e-6 * float(notional))
    assert side * (entry - at) > 0


def maintenance(notional: Fraction) -> tuple[Fraction, Fraction]:
    for _, cap, rate, cum in TIERS:
        if notional <= cap:
            return Fraction(str(rate)), Fraction(cum)
    return Fraction(str(TIERS[-1][2])), Fraction(TIERS[-1][3])
