"""Money on the embedded exchange: fills, fees, margin, funding, stops and liquidation, each figure worked by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import ccxt
import pytest
from emulator_kit import FIVE_MINUTES_MS, NO_LIMITS, START_MS, ccxt_client, flat, write_candles

from smm_bt.emulator import EmulatorConfig, EmulatorThread

BTC = "BTC/USDT:USDT"
Venue = tuple[EmulatorThread, ccxt.binanceusdm]
OpenVenue = Callable[..., Venue]


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[OpenVenue]:
    """Open an emulator on the given candles, standing at the second one, BTC isolated at 20x."""
    with ExitStack() as stack:

        def start(rows: list[Any], *, isolated: bool = True, **config: Any) -> Venue:
            files = (write_candles(tmp_path, rows),)
            settings = {"candles": files, "history_candles": 1} | NO_LIMITS | config
            emulator = stack.enter_context(EmulatorThread(EmulatorConfig(**settings)))
            client = ccxt_client(emulator)
            client.load_markets()
            if isolated:
                client.set_margin_mode("isolated", BTC)
            client.set_leverage(20, BTC)
            return emulator, client

        yield start


def wallet(emulator: EmulatorThread) -> Decimal:
    return Decimal(emulator.ledger()["wallet"])


def test_a_market_order_fills_entirely_at_the_open_of_the_candle_the_clock_stands_at(
    venue: OpenVenue,
) -> None:
    _emulator, client = venue([(50000, 50500, 49500, 50200), (50210, 50900, 50100, 50800), *flat(50800, 2)])
    order = client.create_order(BTC, "market", "buy", 0.8)
    assert (order["status"], order["average"], order["filled"]) == ("closed", 50210.0, 0.8)
    assert order["timestamp"] == START_MS + FIVE_MINUTES_MS


def test_margin_fee_and_free_balance_follow_the_rules_of_a_20x_isolated_position(venue: OpenVenue) -> None:
    _emulator, client = venue(flat(50000, 4))
    client.create_order(BTC, "market", "buy", 0.8)
    # notional 40,000: fee 0.0005 × 40,000 = 20, margin 40,000 / 20 = 2,000, free 10,000 − 20 − 2,000
    account = client.fapiPrivateV3GetAccount()
    assert account["totalWalletBalance"] == "9980"
    assert account["availableBalance"] == "7980"
    assert account["totalPositionInitialMargin"] == "2000"


def test_profit_and_fees_of_a_round_trip_reach_the_wallet_exactly(venue: OpenVenue) -> None:
    emulator, client = venue([*flat(50000, 2), (50000, 50700, 49900, 50600), (50654.3, 50700, 50600, 50610)])
    client.create_order(BTC, "market", "sell", 0.123)
    emulator.step(2)
    client.create_order(BTC, "market", "buy", 0.123, None, {"reduceOnly": True})
    # gross −0.123 × 654.3 = −80.4789; fees 0.0005 × 0.123 × (50,000 + 50,654.3) = 6.19023945
    assert wallet(emulator) == Decimal("10000") - Decimal("80.4789") - Decimal("6.19023945")
    opening, closing = client.fetch_my_trades(BTC)
    assert Decimal(closing["info"]["realizedPnl"]) == Decimal("-80.4789")
    assert Decimal(opening["info"]["commission"]) + Decimal(closing["info"]["commission"]) == Decimal("6.19023945")


@pytest.mark.parametrize(
    ("side", "low", "high", "price"),
    [
        # (40,000 − 2,000) / (0.8 × 0.996)
        ("buy", 47690.7, 50000, Decimal("47690.763052208835")),
        # (40,000 + 2,000) / (0.8 × 1.004)
        ("sell", 50000, 52290.9, Decimal("52290.836653386454")),
    ],
)
def test_an_isolated_position_is_liquidated_at_the_formulas_price_and_loses_its_whole_margin(
    venue: OpenVenue, side: str, low: float, high: float, price: Decimal
) -> None:
    emulator, client = venue([*flat(50000, 2), (50000, high, low, 50000), *flat(50000, 1)])
    client.create_order(BTC, "market", side, 0.8)
    shown = Decimal(client.fetch_positions([BTC])[0]["info"]["liquidationPrice"])
    assert abs(shown - price) < Decimal("1e-11")
    emulator.step(1)
    assert client.fetch_positions([BTC]) != []
    emulator.step(1)
    assert client.fetch_positions([BTC]) == []
    # 10,000 − 20 entry fee − 2,000 margin
    assert abs(wallet(emulator) - Decimal(7980)) < Decimal("1e-12")
    last = client.fetch_my_trades(BTC)[-1]
    assert last["price"] == pytest.approx(float(price), abs=1e-9)
    assert last["timestamp"] == START_MS + 3 * FIVE_MINUTES_MS - 1
    assert Decimal(last["info"]["realizedPnl"]) - Decimal(last["info"]["commission"]) == pytest.approx(-2000)
    order = client.fetch_order(last["order"], BTC)
    assert order["clientOrderId"].startswith("autoclose-")
    assert client.fetch_my_liquidations(BTC)[0]["price"] == pytest.approx(float(price), abs=1e-9)


def test_touching_the_liquidation_price_is_enough_and_a_tick_short_of_it_is_not(venue: OpenVenue) -> None:
    # 0.1 BTC at 49,800 → (4,980 − 249) / (0.1 × 0.996) = 47,500 exactly
    short = (49800, 49800, 47500.1, 49800)
    touch = (49800, 49800, 47500, 49800)
    emulator, client = venue([*flat(49800, 1), short, touch, *flat(49800, 1)])
    client.create_order(BTC, "market", "buy", 0.1)
    emulator.step()
    assert len(client.fetch_positions([BTC])) == 1
    emulator.step()
    assert client.fetch_positions([BTC]) == []


def test_liquidation_watches_mark_candles_where_they_are_given(venue: OpenVenue, tmp_path: Path) -> None:
    marks = write_candles(tmp_path, flat(50000, 4), "BTCUSDT-mark-5m.csv")
    rows = [*flat(50000, 1), (50000, 50000, 40000, 50000), *flat(50000, 2)]
    emulator, client = venue(rows, mark=(marks,))
    client.create_order(BTC, "market", "buy", 0.8)
    emulator.step()
    assert len(client.fetch_positions([BTC])) == 1


def test_funding_is_paid_by_longs_at_the_candles_open_on_the_quantity_held(venue: OpenVenue, tmp_path: Path) -> None:
    funding = tmp_path / "BTCUSDT-funding.csv"
    settlement = START_MS + 2 * FIVE_MINUTES_MS + 7
    funding.write_text(f"timestamp,funding_rate\n{START_MS},0.5\n{settlement},0.0001\n")
    rows = [*flat(50000, 2), (51000, 51500, 50900, 51200), *flat(51200, 2)]
    emulator, client = venue(rows, funding=(funding,))
    client.create_order(BTC, "market", "buy", 0.8)
    emulator.step(1)
    before = wallet(emulator)
    emulator.step(1)
    # −0.8 × 51,000 × 0.0001
    assert wallet(emulator) - before == Decimal("-4.08")
    income = client.fapiPrivateGetIncome({"incomeType": "FUNDING_FEE"})
    assert [(row["income"], int(row["time"])) for row in income] == [("-4.08", settlement)]


def test_a_position_opened_at_the_candles_open_takes_part_in_a_settlement_at_that_moment(
    venue: OpenVenue, tmp_path: Path
) -> None:
    funding = tmp_path / "BTCUSDT-funding.csv"
    funding.write_text(f"timestamp,funding_rate\n{START_MS + FIVE_MINUTES_MS},-0.001\n")
    emulator, client = venue(flat(50000, 3), funding=(funding,))
    client.create_order(BTC, "market", "buy", 0.1)
    emulator.step()
    # 10,000 − fee 2.5 + received 0.1 × 50,000 × 0.001
    assert wallet(emulator) == Decimal("10002.5")


STOPS = [
    # (entry side, trigger, candle, fill)
    ("buy", 49000, (50000, 50100, 48900, 49500), 49000.0),
    ("buy", 49000, (48500, 48700, 48000, 48600), 48500.0),
    ("sell", 51000, (50000, 51100, 49900, 50500), 51000.0),
    ("sell", 51000, (51500, 51900, 51200, 51600), 51500.0),
]


@pytest.mark.parametrize(("side", "trigger", "candle", "fill"), STOPS)
def test_a_stop_fills_at_its_trigger_or_at_a_worse_open(
    venue: OpenVenue, side: str, trigger: float, candle: tuple[float, ...], fill: float
) -> None:
    emulator, client = venue([*flat(50000, 2), candle, *flat(50000, 1)])
    exit_side = "sell" if side == "buy" else "buy"
    client.create_order(BTC, "market", side, 0.1)
    stop = client.create_order(BTC, "market", exit_side, 0.1, None, {"stopLossPrice": trigger, "reduceOnly": True})
    emulator.step()
    assert len(client.fetch_open_orders(BTC, params={"trigger": True})) == 1
    emulator.step()
    assert client.fetch_positions([BTC]) == []
    last = client.fetch_my_trades(BTC)[-1]
    assert (last["price"], last["timestamp"]) == (fill, START_MS + 3 * FIVE_MINUTES_MS - 1)
    fired = client.fetch_order(stop["id"], BTC, {"trigger": True})
    assert (fired["info"]["algoStatus"], fired["info"]["actualOrderId"]) == ("FINISHED", last["order"])


def test_the_stop_comes_before_the_liquidation_in_one_candle(venue: OpenVenue) -> None:
    emulator, client = venue([*flat(50000, 1), (50000, 50000, 40000, 45000), *flat(45000, 1)])
    client.create_order(BTC, "market", "buy", 0.1)
    client.create_order(BTC, "market", "sell", 0.1, None, {"stopLossPrice": 48000, "reduceOnly": True})
    emulator.step()
    assert client.fetch_my_trades(BTC)[-1]["price"] == 48000.0


def test_of_a_stop_and_a_take_profit_in_one_candle_the_stop_wins_as_the_pessimistic_choice(
    venue: OpenVenue,
) -> None:
    emulator, client = venue([*flat(50000, 1), (50000, 51000, 49000, 50000), *flat(50000, 1)])
    client.create_order(BTC, "market", "buy", 0.1)
    for name, price in (("takeProfitPrice", 50500), ("stopLossPrice", 49500)):
        client.create_order(BTC, "market", "sell", 0.1, None, {name: price, "reduceOnly": True})
    emulator.step()
    assert client.fetch_my_trades(BTC)[-1]["price"] == 49500.0
    states = [row["status"] for row in emulator.ledger()["algo_orders"]]
    assert states == ["REJECTED", "FINISHED"]


def test_a_take_profit_fills_at_its_trigger(venue: OpenVenue) -> None:
    emulator, client = venue([*flat(50000, 1), (50000, 51000, 49900, 50900), *flat(50900, 1)])
    client.create_order(BTC, "market", "buy", 0.1)
    client.create_order(BTC, "market", "sell", 0.1, None, {"takeProfitPrice": 50500, "reduceOnly": True})
    emulator.step()
    assert client.fetch_my_trades(BTC)[-1]["price"] == 50500.0


def test_a_close_all_stop_closes_whatever_is_held(venue: OpenVenue) -> None:
    emulator, client = venue([*flat(50000, 1), (50000, 50000, 49000, 49500), *flat(49500, 1)])
    client.create_order(BTC, "market", "buy", 0.3)
    client.create_order(BTC, "STOP_MARKET", "sell", None, None, {"stopPrice": 49500, "closePosition": True})
    emulator.step()
    assert client.fetch_positions([BTC]) == []


def test_a_resting_limit_order_fills_at_its_own_price_as_maker(venue: OpenVenue) -> None:
    emulator, client = venue([*flat(50000, 1), (50000, 50100, 49400, 49900), *flat(49900, 1)])
    order = client.create_order(BTC, "limit", "buy", 0.1, 49500)
    # the order reserves 4,950 / 20
    assert client.fetch_balance()["USDT"]["free"] == 10000 - 247.5
    emulator.step()
    filled = client.fetch_order(order["id"], BTC)
    assert (filled["status"], filled["average"]) == ("closed", 49500.0)
    # maker fee 0.0002 × 4,950
    assert wallet(emulator) == Decimal("9999.01")


def test_an_opposite_order_larger_than_the_position_closes_it_and_opens_the_rest(venue: OpenVenue) -> None:
    emulator, client = venue([*flat(50000, 2), *flat(50500, 2)])
    client.create_order(BTC, "market", "buy", 0.1)
    emulator.step()
    client.create_order(BTC, "market", "sell", 0.3)
    position = client.fetch_positions([BTC])[0]
    assert (position["side"], position["contracts"], position["entryPrice"]) == ("short", 0.2, 50500.0)
    # +50 gross, fees 2.5 and 7.575
    assert wallet(emulator) == Decimal("10039.925")


def test_adding_to_a_position_averages_its_entry_price(venue: OpenVenue) -> None:
    emulator, client = venue([*flat(50000, 2), *flat(50600, 2)])
    client.create_order(BTC, "market", "buy", 0.1)
    emulator.step()
    client.create_order(BTC, "market", "buy", 0.2)
    assert client.fetch_positions([BTC])[0]["entryPrice"] == 50400.0


def test_hedge_mode_holds_a_long_and_a_short_of_one_symbol(venue: OpenVenue) -> None:
    emulator, client = venue([*flat(50000, 2), *flat(50600, 2)])
    client.set_position_mode(True)
    client.create_order(BTC, "market", "buy", 0.1, None, {"positionSide": "LONG"})
    client.create_order(BTC, "market", "sell", 0.2, None, {"positionSide": "SHORT"})
    held = {row["side"]: row["contracts"] for row in client.fetch_positions([BTC])}
    assert held == {"long": 0.1, "short": 0.2}
    emulator.step()
    client.create_order(BTC, "market", "sell", 0.1, None, {"positionSide": "LONG"})
    # fees 2.5 + 5 + 2.53, gross 60
    assert wallet(emulator) == Decimal("10049.97")


def test_a_cross_position_is_liquidated_when_the_whole_wallet_is_used_up(venue: OpenVenue) -> None:
    rows = [*flat(50000, 2), (50000, 50000, 41000, 41000), *flat(41000, 1)]
    emulator, client = venue(rows, isolated=False)
    client.create_order(BTC, "market", "buy", 1.2)
    # backing 10,000 − 30: (60,000 − 9,970) / (1.2 × 0.996)
    shown = float(client.fetch_positions([BTC])[0]["info"]["liquidationPrice"])
    assert shown == pytest.approx(50030 / (1.2 * 0.996), rel=1e-12)
    emulator.step(2)
    assert client.fetch_positions([BTC]) == []
    assert 0 <= wallet(emulator) < 300


def test_a_balance_never_goes_below_zero_when_a_gap_costs_more_than_the_account_has(venue: OpenVenue) -> None:
    emulator, client = venue([*flat(50000, 2), *flat(20000, 2)])
    client.create_order(BTC, "market", "buy", 3.9)
    emulator.step()
    client.create_order(BTC, "market", "sell", 3.9, None, {"reduceOnly": True})
    assert wallet(emulator) == 0
    assert client.fetch_positions([BTC]) == []


def test_the_wallet_is_the_start_plus_every_income_row(venue: OpenVenue) -> None:
    emulator, client = venue([*flat(50000, 2), (50300, 51000, 47000, 50000), *flat(50000, 2)])
    client.create_order(BTC, "market", "buy", 0.4)
    emulator.step()
    client.create_order(BTC, "market", "sell", 0.1)
    emulator.step()
    booked = sum(Decimal(row["amount"]) for row in emulator.ledger()["income"])
    assert wallet(emulator) == 10000 + booked


def test_several_symbols_share_one_balance_and_move_in_the_order_they_were_given(tmp_path: Path) -> None:
    files = (
        write_candles(tmp_path, flat(3000, 4), "ETHUSDT-5m.csv.gz"),
        write_candles(tmp_path, flat(50000, 4), "BTCUSDT-5m.csv"),
    )
    with EmulatorThread(EmulatorConfig(candles=files, history_candles=1, **NO_LIMITS)) as emulator:
        assert emulator.status()["symbols"] == ["ETHUSDT", "BTCUSDT"]
        client = ccxt_client(emulator)
        for symbol, amount in (("ETH/USDT:USDT", 1), (BTC, 0.1)):
            client.set_margin_mode("isolated", symbol)
            client.create_order(symbol, "market", "buy", amount)
        # margins 150 + 250, fees 1.5 + 2.5
        assert client.fetch_balance()["USDT"]["free"] == 10000 - 400 - 4
