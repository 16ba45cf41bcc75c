"""What the embedded exchange refuses, by the venue's own numeric codes."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from emulator_kit import NO_LIMITS, BareClient, flat, write_candles

from smm_bt.emulator import EmulatorConfig, EmulatorThread

ORDER = "/fapi/v1/order"
ALGO = "/fapi/v1/algoOrder"
MARKET = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.1"}
LIMIT = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "quantity": "0.1", "timeInForce": "GTC"}
STOP = {
    "algoType": "CONDITIONAL",
    "symbol": "BTCUSDT",
    "side": "SELL",
    "type": "STOP_MARKET",
    "quantity": "0.1",
    "triggerPrice": "49000",
}


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[EmulatorThread]:
    config = EmulatorConfig(candles=(write_candles(tmp_path, flat(50000, 5)),), history_candles=1, **NO_LIMITS)
    with EmulatorThread(config) as running:
        yield running


@pytest.fixture
def client(emulator: EmulatorThread) -> Iterator[BareClient]:
    with BareClient(emulator) as bare:
        yield bare


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        (-4003, {"quantity": "0"}),
        (-4003, {"quantity": "-0.1"}),
        (-1111, {"quantity": "0.1234"}),
        (-4005, {"quantity": "120.001"}),
        (-4164, {"quantity": "0.001"}),
        (-1121, {"symbol": "NOSUCHUSDT"}),
        (-4108, {"symbol": "ETHUSDT"}),
        (-1117, {"side": "HOLD"}),
        (-1116, {"type": "ICEBERG"}),
        (-4120, {"type": "STOP_MARKET", "stopPrice": "49000"}),
        (-4120, {"type": "TAKE_PROFIT", "stopPrice": "49000", "price": "49000"}),
        (-1102, {"quantity": ""}),
        (-1102, {"quantity": "much"}),
        (-1102, {"quantity": "NaN"}),
        (-1106, {"price": "50000"}),
        (-1106, {"timeInForce": "GTC"}),
        (-4061, {"positionSide": "LONG"}),
        (-1130, {"reduceOnly": "maybe"}),
        (-2022, {"reduceOnly": "true"}),
        (-4015, {"newClientOrderId": "a" * 37}),
        (-1100, {"newClientOrderId": "no spaces"}),
        # 4.1 BTC × 50,000 / 20 = 10,250 > 10,000
        (-2019, {"quantity": "4.1"}),
    ],
)
def test_a_market_order_that_breaks_a_rule_is_refused_by_its_code(
    client: BareClient, code: int, changes: dict[str, str]
) -> None:
    assert client.code("POST", ORDER, **(MARKET | changes)) == code


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        (-4014, {"price": "49000.05"}),
        (-4002, {"price": "4529765"}),
        (-4013, {"price": "100"}),
        (-4016, {"price": "52500.1"}),
        (-4024, {"price": "47499.9", "side": "SELL"}),
        (-1102, {"price": "49000", "timeInForce": ""}),
        (-1115, {"price": "49000", "timeInForce": "WEEK"}),
        (-5022, {"price": "50100", "timeInForce": "GTX"}),
        (-5021, {"price": "49000", "timeInForce": "FOK"}),
        (-4005, {"price": "49000", "quantity": "1000.001"}),
    ],
)
def test_a_limit_order_that_breaks_a_rule_is_refused_by_its_code(
    client: BareClient, code: int, changes: dict[str, str]
) -> None:
    assert client.code("POST", ORDER, **(LIMIT | changes)) == code


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        (-2021, {"triggerPrice": "50000"}),
        (-2021, {"side": "BUY"}),
        (-2021, {"type": "TAKE_PROFIT_MARKET"}),
        (-4014, {"triggerPrice": "49000.01"}),
        (-1102, {"triggerPrice": ""}),
        (-1130, {"algoType": "VP"}),
        (-1116, {"type": "TRAILING_STOP_MARKET"}),
        (-4136, {"closePosition": "true"}),
        (-4061, {"positionSide": "SHORT"}),
        (-4015, {"clientAlgoId": "a" * 37}),
    ],
)
def test_a_conditional_order_that_breaks_a_rule_is_refused_by_its_code(
    client: BareClient, code: int, changes: dict[str, str]
) -> None:
    assert client.code("POST", ALGO, **(STOP | changes)) == code


def test_a_refused_order_leaves_no_trace(client: BareClient, emulator: EmulatorThread) -> None:
    client.code("POST", ORDER, **(MARKET | {"quantity": "4.1"}))
    client.code("POST", ORDER, **(LIMIT | {"price": "50100", "timeInForce": "GTX"}))
    ledger = emulator.ledger()
    assert (ledger["orders"], ledger["trades"], ledger["income"]) == ([], [], [])


def test_a_client_id_is_unique_among_open_orders_and_free_again_after_the_fill(client: BareClient) -> None:
    limit = LIMIT | {"price": "49000", "newClientOrderId": "mine"}
    assert client.send("POST", ORDER, **limit).status_code == 200
    assert client.code("POST", ORDER, **limit) == -4116
    assert client.send("DELETE", ORDER, symbol="BTCUSDT", origClientOrderId="mine").json()["status"] == "CANCELED"
    assert client.order("BUY", "0.01", newClientOrderId="mine").json()["status"] == "FILLED"
    assert client.order("SELL", "0.01", newClientOrderId="mine").json()["status"] == "FILLED"


def test_a_reduce_only_order_is_cut_to_the_position_and_needs_no_minimum_notional(client: BareClient) -> None:
    client.order("BUY", "0.002")
    first = client.order("SELL", "0.001", reduceOnly="true").json()
    second = client.order("SELL", "0.5", reduceOnly="true").json()
    assert (first["status"], second["status"], second["executedQty"]) == ("FILLED", "FILLED", "0.001")


@pytest.mark.parametrize(
    ("code", "method", "path", "parameters"),
    [
        (-2013, "GET", ORDER, {"symbol": "BTCUSDT", "orderId": "99"}),
        (-2013, "GET", ORDER, {"symbol": "BTCUSDT", "origClientOrderId": "never"}),
        (-2011, "DELETE", ORDER, {"symbol": "BTCUSDT", "orderId": "99"}),
        (-1102, "GET", ORDER, {"symbol": "BTCUSDT"}),
        (-2013, "GET", ALGO, {"algoId": "99"}),
        (-2011, "DELETE", ALGO, {"algoId": "99"}),
        (-4028, "POST", "/fapi/v1/leverage", {"symbol": "BTCUSDT", "leverage": "126"}),
        (-4028, "POST", "/fapi/v1/leverage", {"symbol": "BTCUSDT", "leverage": "0"}),
        (-4046, "POST", "/fapi/v1/marginType", {"symbol": "BTCUSDT", "marginType": "CROSSED"}),
        (-4059, "POST", "/fapi/v1/positionSide/dual", {"dualSidePosition": "false"}),
        (-4171, "POST", "/fapi/v1/multiAssetsMargin", {"multiAssetsMargin": "false"}),
        (-1120, "GET", "/fapi/v1/klines", {"symbol": "BTCUSDT", "interval": "1m"}),
        (-1130, "GET", "/fapi/v1/klines", {"symbol": "BTCUSDT", "interval": "5m", "limit": "1501"}),
        (-5000, "GET", "/fapi/v1/nothing", {}),
        (-5000, "GET", "/sapi/v1/capital/config/getall", {}),
    ],
)
def test_a_request_that_cannot_be_served_is_refused_by_its_code(
    client: BareClient, code: int, method: str, path: str, parameters: dict[str, Any]
) -> None:
    assert client.code(method, path, **parameters) == code


def test_modes_cannot_change_under_orders_or_positions(client: BareClient) -> None:
    isolate = ("POST", "/fapi/v1/marginType")
    hedge = ("POST", "/fapi/v1/positionSide/dual")
    client.send("POST", ORDER, **(LIMIT | {"price": "49000"}))
    assert client.code(*isolate, symbol="BTCUSDT", marginType="ISOLATED") == -4047
    assert client.code(*hedge, dualSidePosition="true") == -4067
    client.send("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")
    client.order("BUY", "0.1")
    assert client.code(*isolate, symbol="BTCUSDT", marginType="ISOLATED") == -4048
    assert client.code(*hedge, dualSidePosition="true") == -4068


def test_isolated_leverage_cannot_be_lowered_and_brackets_cap_the_notional(client: BareClient) -> None:
    client.send("POST", "/fapi/v1/marginType", symbol="BTCUSDT", marginType="ISOLATED")
    assert client.send("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=125).status_code == 200
    # 125x is allowed up to 300,000 USDT of notional
    assert client.code("POST", ORDER, **(MARKET | {"quantity": "6.001"})) == -2027
    client.order("BUY", "0.1")
    assert client.code("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=20) == -4161


def test_hedge_mode_asks_for_a_position_side_and_knows_no_reduce_only(client: BareClient) -> None:
    client.send("POST", "/fapi/v1/positionSide/dual", dualSidePosition="true")
    assert client.code("POST", ORDER, **MARKET) == -4061
    assert client.code("POST", ORDER, **(MARKET | {"positionSide": "LONG", "reduceOnly": "true"})) == -1106
    assert client.code("POST", ORDER, **(MARKET | {"positionSide": "SHORT"})) == -2022


def test_open_orders_are_limited_per_symbol(client: BareClient) -> None:
    for index in range(200):
        price = f"{49000 - index}"
        answer = client.send("POST", ORDER, **(LIMIT | {"price": price, "quantity": "0.003"}))
        assert answer.status_code == 200, answer.text
    assert client.code("POST", ORDER, **(LIMIT | {"price": "48000", "quantity": "0.003"})) == -2025


def test_a_market_order_into_a_book_far_from_the_mark_is_refused(tmp_path: Path) -> None:
    files = (write_candles(tmp_path, flat(50000, 3)),)
    # half of 1,200 basis points puts the ask six per cent above the mark; the band ends at five
    config = EmulatorConfig(candles=files, history_candles=1, spread_bps=Decimal(1200), **NO_LIMITS)
    with EmulatorThread(config) as running, BareClient(running) as bare:
        assert bare.code("POST", ORDER, **MARKET) == -4131
