"""position_size() against the venue's own filters, read from its JSON a second time and checked by other code."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from decimal import ROUND_CEILING, Decimal, localcontext
from math import inf, nan, nextafter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smm_bt.execution.instrument import Instrument, LeverageBracket, instrument_from_venue
from smm_bt.execution.sizing import Skip, position_size, simulated_size

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "exchange"
MADE_TIERS = [{"notionalFloor": 0, "notionalCap": 50_000, "initialLeverage": 50, "maintMarginRatio": 0.01, "cum": 0}]
MADE_TIERS += [
    {"notionalFloor": 50_000, "notionalCap": 1_000_000, "initialLeverage": 20, "maintMarginRatio": 0.025, "cum": 750},
    {"notionalFloor": 10**6, "notionalCap": 10**7, "initialLeverage": 10, "maintMarginRatio": 0.05, "cum": 25_750},
]

prices = st.one_of(
    st.floats(1e-8, 1e6),
    st.decimals(Decimal("1e-8"), Decimal("1e6"), places=8),
    st.sampled_from([1e-8, 0.1, 1 / 3, 5.0, 100.0, 1e6]),
)
balances = st.one_of(
    st.floats(0.0, 1e9),
    st.decimals(Decimal(0), Decimal("1e9"), places=8),
    st.sampled_from([0.0, 1.25, 5.0, 25.0, 100.0, 500.0, 10_000.0, 12_345.67890123]),
)


class Market(NamedTuple):
    """One symbol as the venue tells it, and what the program makes of it."""

    info: Mapping[str, Any]
    tiers: list[Mapping[str, Any]]
    instrument: Instrument


def exact(value: Decimal | float) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(repr(value))


def venue_objections(market: Market, qty: Decimal, price: Decimal) -> list[str]:
    """What the venue would answer to a market order of ``qty`` at ``price`` with 20x set; empty when it takes it."""
    filters = {entry["filterType"]: entry for entry in market.info["filters"]}
    objections = []
    for kind in ("LOT_SIZE", "MARKET_LOT_SIZE"):
        lot = {name: Decimal(filters[kind][name]) for name in ("minQty", "maxQty", "stepSize")}
        if qty < lot["minQty"]:
            objections.append(f"{kind}: below minQty")
        if qty > lot["maxQty"]:
            objections.append(f"{kind}: above maxQty")
        if lot["stepSize"] and (qty - lot["minQty"]) % lot["stepSize"]:
            objections.append(f"{kind}: not on the step")
    if "quantityPrecision" in market.info and -qty.normalize().as_tuple().exponent > market.info["quantityPrecision"]:
        objections.append("-1111: too many decimals")
    if qty * price < Decimal(str(filters["MIN_NOTIONAL"]["notional"])):
        objections.append("-4164: below the minimum notional")
    caps = [Decimal(str(tier["notionalCap"])) for tier in market.tiers if tier["initialLeverage"] >= 20]
    if not caps or qty * price > max(caps):
        objections.append("-2027: above the notional allowed at 20x")
    return objections


def check(market: Market, free: Decimal | float, price: Decimal | float) -> None:
    """Every quantity is taken, costs at most a fifth of the balance and could not be a step larger."""
    answer = position_size(free, price, market.instrument)
    check_floats(float(free), float(price), market.instrument)
    with localcontext(prec=100):
        balance, at, step = exact(free), exact(price), max(steps_of(market))
        if isinstance(answer, Skip):
            smallest = smallest_accepted(market, at, step)
            if smallest is not None:
                assert smallest * at > balance * 4, f"{answer.why}: but {smallest} would have been taken"
            return
        assert isinstance(answer, Decimal)
        assert venue_objections(market, answer, at) == []
        assert answer * at / 20 <= balance / 5
        larger = answer + step
        limits = venue_objections(market, larger, at)
        assert larger * at > balance * 4 or any("above" in objection for objection in limits)


def check_floats(free: float, price: float, instrument: Instrument) -> None:
    """The simulated venue's floats say what exact arithmetic says to the same numbers, to the last bit."""
    exactly = position_size(free, price, instrument)
    assert simulated_size(free, price, instrument) == (exactly if isinstance(exactly, Skip) else float(exactly))


def steps_of(market: Market) -> Iterator[Decimal]:
    for entry in market.info["filters"]:
        if entry["filterType"] in {"LOT_SIZE", "MARKET_LOT_SIZE"}:
            yield Decimal(entry["stepSize"])


def smallest_accepted(market: Market, price: Decimal, step: Decimal) -> Decimal | None:
    """The least quantity the venue takes at ``price``, or None when it takes none."""
    filters = {entry["filterType"]: entry for entry in market.info["filters"]}
    least = max(Decimal(filters[kind]["minQty"]) for kind in ("LOT_SIZE", "MARKET_LOT_SIZE"))
    notional = Decimal(str(filters["MIN_NOTIONAL"]["notional"]))
    least = max(least, (notional / (price * step)).to_integral_value(ROUND_CEILING) * step)
    return None if venue_objections(market, least, price) else least


# made instruments


def made_market(step: str, low: str, high: str, market_high: str, notional: str, market_step: str = "") -> Market:
    filters = [
        {"filterType": "PRICE_FILTER", "tickSize": "0.01", "minPrice": "0.01", "maxPrice": "1000000"},
        {"filterType": "LOT_SIZE", "stepSize": step, "minQty": low, "maxQty": high},
        {"filterType": "MARKET_LOT_SIZE", "stepSize": market_step or step, "minQty": low, "maxQty": market_high},
        {"filterType": "MIN_NOTIONAL", "notional": notional},
    ]
    info = {"symbol": "MADEUSDT", "marginAsset": "USDT", "filters": filters}
    return Market(info, MADE_TIERS, instrument_from_venue(info, MADE_TIERS))


MADE = {
    "like BTCUSDT": made_market("0.001", "0.001", "1000", "120", "100"),
    "whole coins": made_market("1", "1", "10000000", "590119", "5"),
    "a tenth, large minimum": made_market("0.1", "5", "50000", "777.77", "5"),
    "steps of five": made_market("5", "5", "1000003", "1000003", "20"),
    "a step of a quarter": made_market("0.25", "0.5", "1000", "1000", "0"),
    "a coarser market step": made_market("0.001", "0.01", "1000", "100", "5", market_step="0.01"),
    "a step of 1E-8": made_market("0.00000001", "0.00000001", "9000", "9000", "5"),
}


@pytest.mark.parametrize("name", MADE)
@given(free=balances, price=prices)
@settings(max_examples=150, deadline=None)
@example(free=10_000.0, price=0.1)
@example(free=25.0, price=100.0)
@example(free=1e9, price=1e-8)
def test_every_quantity_passes_the_filters_of_made_instruments_and_is_the_largest_that_does(
    name: str, free: Decimal | float, price: Decimal | float
) -> None:
    check(MADE[name], free, price)


# the venue's own instruments


def recorded(name: str) -> Any:
    return json.loads(gzip.decompress((DATA / name).read_bytes()))


def recorded_markets(source: str) -> list[Market]:
    """All USDT symbols of a recorded answer; symbols without recorded brackets get made ones."""
    bodies = {
        "mainnet": lambda: recorded("exchangeInfo_mainnet_2025-08-11.json.gz"),
        "testnet": lambda: recorded("exchangeInfo_testnet_2025-11-26.json.gz"),
        "sample": lambda: recorded("usdm_sample_responses.json.gz")["ExchangeData/GetExchangeInfo"]["body"],
    }
    tiers = {row["symbol"]: row["brackets"] for row in recorded("leverageBracket_2025-07.json.gz")}
    markets = []
    for info in bodies[source]()["symbols"]:
        own = tiers.get(info["symbol"], MADE_TIERS)
        markets.append(Market(info, own, instrument_from_venue(info, own)))
    return markets


@pytest.fixture(scope="module", params=["mainnet", "testnet", "sample"])
def markets(request: pytest.FixtureRequest) -> list[Market]:
    if not DATA.is_dir():
        pytest.skip("recorded exchangeInfo files are not on this machine")
    return recorded_markets(request.param)


def test_every_recorded_symbol_can_be_read(markets: list[Market]) -> None:
    for market in markets:
        steps = list(steps_of(market))
        assert market.instrument.step == max(steps) > 0
        assert market.instrument.min_qty <= market.instrument.max_qty


@given(free=balances, price=prices)
@settings(max_examples=80, deadline=None)
@example(free=10_000.0, price=1e-8)
@example(free=10_000.0, price=1e6)
@example(free=6.0, price=0.12345)
def test_every_quantity_passes_the_filters_of_every_recorded_symbol_and_is_the_largest_that_does(
    markets: list[Market], free: Decimal | float, price: Decimal | float
) -> None:
    for market in markets:
        check(market, free, price)


# by hand


def by_hand(**changes: Any) -> Instrument:
    tiers = (LeverageBracket(Decimal(0), Decimal(40_000), 20, Decimal("0.01"), Decimal(0)),)
    values = {
        "symbol": "BTCUSDT",
        "price_tick": Decimal("0.1"),
        "step": Decimal("0.001"),
        "min_qty": Decimal("0.001"),
        "max_qty": Decimal(120),
        "min_notional": Decimal(100),
        "brackets": tiers,
    }
    return Instrument(**(values | changes))


def test_r5_an_entry_is_20_percent_of_the_free_balance_at_20x() -> None:
    # 10 000 × 0.2 × 20 = 40 000 USDT; at 65 432.1 that is 0.61132… rounded down to 0.611.
    assert position_size(10_000.0, 65_432.1, by_hand()) == Decimal("0.611")


def test_r10_the_quantity_is_floored_and_never_rounded_up() -> None:
    assert position_size(10_000.0, 40_000 / 0.9999, by_hand()) == Decimal("0.999")


def test_floats_are_taken_at_their_shortest_decimal_so_that_a_floor_is_a_floor() -> None:
    # 0.3 / 0.1 is 2.9999999999999996 in floats; 0.075 × 4 = 0.3 USDT at 0.1 are exactly three.
    cheap = by_hand(step=Decimal(1), min_qty=Decimal(1), min_notional=Decimal(0))
    assert position_size(0.075, 0.1, cheap) == Decimal(3)


def test_r10_the_market_order_maximum_caps_the_quantity_on_the_step() -> None:
    market = by_hand(max_qty=Decimal("0.5005"))
    assert position_size(10_000.0, 65_432.1, market) == Decimal("0.500")


def test_the_notional_cap_of_the_bracket_that_allows_20x_caps_the_quantity() -> None:
    tiers = (
        LeverageBracket(Decimal(0), Decimal(5_000), 50, Decimal("0.01"), Decimal(0)),
        LeverageBracket(Decimal(5_000), Decimal(10_000), 20, Decimal("0.02"), Decimal(50)),
        LeverageBracket(Decimal(10_000), Decimal(10**9), 10, Decimal("0.05"), Decimal(350)),
    )
    assert position_size(10_000.0, 100.0, by_hand(brackets=tiers)) == Decimal(100)  # 10 000 USDT, not 40 000


def test_exactly_the_minimum_notional_is_taken_and_a_step_less_is_not() -> None:
    assert position_size(25.0, 1_000.0, by_hand()) == Decimal("0.1")
    assert isinstance(position_size(24.99, 1_000.0, by_hand()), Skip)


def test_exactly_the_minimum_quantity_is_taken() -> None:
    assert position_size(250.0, 1_000_000.0, by_hand()) == Decimal("0.001")


def test_a_skip_below_the_minimum_quantity_carries_its_figures() -> None:
    answer = position_size(100.0, 1_000_000.0, by_hand())
    assert isinstance(answer, Skip)
    for figure in ("BTCUSDT", "1000000", "100", "minimum quantity", "0.001"):
        assert figure in answer.why


def test_a_skip_below_the_minimum_notional_carries_its_figures() -> None:
    answer = position_size(20.0, 1_000.0, by_hand())
    assert isinstance(answer, Skip)
    for figure in ("notional 80", "0.080 at 1000", "20.0 USDT free", "minimum notional 100 USDT"):
        assert figure in answer.why


def test_a_symbol_below_20x_is_skipped_with_both_leverages() -> None:
    tiers = (LeverageBracket(Decimal(0), Decimal(10**6), 10, Decimal("0.05"), Decimal(0)),)
    answer = position_size(10_000.0, 100.0, by_hand(brackets=tiers))
    assert answer == Skip("BTCUSDT: the venue allows at most 10x, below 20x")


@pytest.mark.parametrize("free", [0.0, -5.0, Decimal(-1), Decimal(0)])
def test_nothing_free_is_skipped(free: float) -> None:
    assert isinstance(position_size(free, 100.0, by_hand(min_notional=Decimal(0))), Skip)


@pytest.mark.parametrize("price", [0.0, -1.0, float("nan"), float("inf")])
def test_a_price_that_is_none_is_skipped(price: float) -> None:
    answer = position_size(10_000.0, price, by_hand())
    assert isinstance(answer, Skip)
    assert "cannot be sized" in answer.why


@pytest.mark.parametrize("free", [float("nan"), float("inf")])
def test_a_balance_that_is_no_number_is_skipped(free: float) -> None:
    assert isinstance(position_size(free, 100.0, by_hand()), Skip)


def test_leverage_and_risk_fraction_are_20_and_a_fifth_unless_a_caller_says_otherwise() -> None:
    tier = LeverageBracket(Decimal(0), Decimal(10**9), 50, Decimal("0.01"), Decimal(0))
    wide = by_hand(brackets=(tier,), max_qty=Decimal(1_000))
    assert position_size(10_000.0, 100.0, wide) == Decimal(400)
    assert position_size(10_000.0, 100.0, wide, leverage=20, risk_fraction=Decimal("0.20")) == Decimal(400)
    assert position_size(10_000.0, 100.0, wide, leverage=10, risk_fraction=0.1) == Decimal(100)


@given(steps=st.integers(1, 10**6), price=st.decimals("0.001", "90000", places=3), nudge=st.integers(-3, 3))
@settings(max_examples=300, deadline=None)
def test_floats_are_sized_exactly_like_their_decimals_even_a_hair_from_a_whole_step(
    steps: int, price: Decimal, nudge: int
) -> None:
    # A balance whose quotient is a whole number of steps, moved by up to three units in the last place of a float.
    market = by_hand()
    free = float(price) * steps * float(market.step) / 4
    for _ in range(abs(nudge)):
        free = nextafter(free, inf if nudge > 0 else 0.0)
    exactly = position_size(Decimal(repr(free)), price, market)
    in_floats = position_size(free, float(price), market)
    assert in_floats == exactly or (isinstance(in_floats, Skip) and isinstance(exactly, Skip))
    check_floats(free, float(price), market)


BAD_NUMBERS = [(0.0, 100.0), (-1.0, 100.0), (inf, 100.0), (-inf, 100.0), (nan, 100.0)]
BAD_NUMBERS += [(10_000.0, 0.0), (10_000.0, -1.0), (10_000.0, inf), (10_000.0, nan)]


@pytest.mark.parametrize(("free", "price"), BAD_NUMBERS)
def test_numbers_that_cannot_be_sized_are_skipped_in_floats_as_well(free: float, price: float) -> None:
    assert isinstance(simulated_size(free, price, by_hand()), Skip)
