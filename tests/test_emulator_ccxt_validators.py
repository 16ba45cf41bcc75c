"""The validators ccxt ships in its own package pass against the embedded exchange, exceptions named with reasons."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import ccxt
import pytest
from emulator_kit import NO_LIMITS, ccxt_client

from smm_bt.emulator import EmulatorConfig, EmulatorThread

SYMBOL = "BTC/USDT:USDT"
VALIDATORS = "ccxt.test.exchange.sync.test_"

# name → arguments after (exchange, skipped properties)
WITH_SYMBOL = [
    "fetch_ticker",
    "fetch_tickers",
    "fetch_last_prices",
    "fetch_order_book",
    "fetch_l2_order_book",
    "fetch_trades",
    "fetch_funding_rate_history",
    "fetch_my_trades",
    "fetch_open_orders",
    "fetch_closed_orders",
    "fetch_orders",
    "fetch_trading_fee",
    "fetch_market_leverage_tiers",
    "fetch_leverage_tiers",
    "fetch_margin_mode",
    "fetch_positions",
    "fetch_my_liquidations",
]
WITHOUT_SYMBOL = ["features"]
AT_REAL_TIME = ["fetch_ohlcv", "fetch_balance"]

SKIPPED_PROPERTIES: dict[str, dict[str, Any]] = {
    # /fapi/v3/positionRisk carries no leverage, on the venue neither
    "fetch_positions": {"leverage": True},
}

NOT_APPLICABLE = {
    "fetch_markets": "wants a dict where ccxt's fetch_markets returns a list, on every venue",
    "fetch_margin_modes": "wants a list where ccxt's fetch_margin_modes returns a dict, on every venue",
    "create_order": "its debug lines join text and numbers, which Python refuses; its steps are a test below",
    "load_markets": "wants spot and option markets where ccxt says it has them; binanceusdm loads linear ones",
    "fetch_ledger": "ccxt hands the income type COMMISSION on as 'commission', which its validator does not list",
    "fetch_status": "asks the spot system-status host",
    "fetch_currencies": "asks the spot wallet host",
    "fetch_accounts": "not a futures endpoint of the venue",
    "fetch_liquidations": "the venue withdrew the public endpoint",
    "fetch_open_interest_history": "asks /futures/data statistics, which are not modelled",
    "fetch_order_books": "not offered by ccxt for this venue",
    "fetch_trading_fees": "asks one fee table of all symbols, which /fapi/v2/account no longer carries",
    "fetch_transaction_fees": "asks the spot wallet host",
    "fetch_deposit_withdrawals": "asks the spot wallet host",
    "fetch_deposits": "asks the spot wallet host",
    "fetch_withdrawals": "asks the spot wallet host",
    "fetch_transfers": "asks the spot wallet host",
    "fetch_ledger_entry": "options only",
    "fetch_borrow_interest": "spot margin only",
    "sign_in": "nothing to sign in to",
    "proxies": "goes to a public host",
    "after_construct": "checks ccxt, not a venue",
}


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorThread]:
    config = EmulatorConfig(made_candles=3000, made_funding_rate=Decimal("0.0001"), **NO_LIMITS)
    with EmulatorThread(config) as running:
        yield running


@pytest.fixture(scope="module")
def client(emulator: EmulatorThread) -> ccxt.binanceusdm:
    exchange = ccxt_client(
        emulator, fetchOpenOrders={"warnWithoutSymbol": False}, setMarginMode={"throwMarginModeAlreadySet": False}
    )
    exchange.load_markets()
    exchange.set_margin_mode("isolated", SYMBOL)
    exchange.create_order(SYMBOL, "market", "buy", 0.02)
    emulator.step()
    exchange.create_order(SYMBOL, "market", "sell", 0.01, None, {"reduceOnly": True})
    exchange.create_order(SYMBOL, "limit", "buy", 0.01, exchange.fetch_ticker(SYMBOL)["last"] * 0.97)
    return exchange


def validate(name: str, client: ccxt.binanceusdm, *arguments: Any) -> None:
    module = importlib.import_module(VALIDATORS + name)
    validator = getattr(module, f"test_{name}")
    assert validator(client, SKIPPED_PROPERTIES.get(name, {}), *arguments) is not False


@pytest.mark.parametrize("name", WITH_SYMBOL)
def test_ccxts_own_validator_of_a_symbol_passes(name: str, client: ccxt.binanceusdm) -> None:
    validate(name, client, SYMBOL)


@pytest.mark.parametrize("name", WITHOUT_SYMBOL)
def test_ccxts_own_validator_passes(name: str, client: ccxt.binanceusdm) -> None:
    validate(name, client)


def test_ccxts_validators_that_look_at_the_present_pass_at_real_time() -> None:
    with EmulatorThread(EmulatorConfig(speed=1.0, timeframe="1m", **NO_LIMITS)) as running:
        exchange = ccxt_client(running)
        exchange.load_markets()
        validate("fetch_ohlcv", exchange, SYMBOL)
        # a cross position: ccxt's total counts unrealised profit, which an isolated one keeps to itself
        exchange.create_order(SYMBOL, "market", "buy", 0.02)
        validate("fetch_balance", exchange)


def test_every_validator_ccxt_ships_is_run_or_excused() -> None:
    module = importlib.import_module(VALIDATORS + "fetch_ohlcv")
    folder = Path(str(module.__file__)).parent
    shipped = {path.stem.removeprefix("test_") for path in folder.glob("test_*.py")}
    covered = {*WITH_SYMBOL, *WITHOUT_SYMBOL, *AT_REAL_TIME, *NOT_APPLICABLE}
    assert shipped - covered == set()


def test_the_markets_ccxt_loads_hold_swaps_and_a_dated_future(client: ccxt.binanceusdm) -> None:
    kinds = {market["type"] for market in client.markets.values()}
    assert kinds == {"swap", "future"}


def test_limit_orders_out_of_reach_rest_and_those_in_reach_fill_as_ccxts_order_validator_wants(
    client: ccxt.binanceusdm,
) -> None:
    from ccxt.test.exchange.base import test_order

    last = client.fetch_ticker(SYMBOL)["last"]
    for side, price in (("buy", last / 1.045), ("sell", last * 1.045)):
        created = client.create_order(SYMBOL, "limit", side, 0.01, price)
        fetched = client.fetch_order(created["id"], SYMBOL)
        test_order(client, {}, "createOrder", created, SYMBOL, client.milliseconds())
        test_order(client, {}, "fetchOrder", fetched, SYMBOL, client.milliseconds())
        assert (created["status"], fetched["status"]) == ("open", "open")
        assert client.cancel_order(created["id"], SYMBOL)["status"] == "canceled"
    for side, price in (("buy", last * 1.045), ("sell", last / 1.045)):
        created = client.create_order(SYMBOL, "limit", side, 0.01, price)
        test_order(client, {}, "createOrder", created, SYMBOL, client.milliseconds())
        assert (created["status"], created["filled"], created["average"]) == ("closed", 0.01, last)
