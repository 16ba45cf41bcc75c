"""The venue's own Python SDK reads every answer of the embedded exchange and finds no field it does not know."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from binance_common import utils
from binance_common.configuration import ConfigurationRestAPI
from binance_sdk_derivatives_trading_usds_futures.rest_api import DerivativesTradingUsdsFuturesRestAPI
from emulator_kit import NO_LIMITS

from smm_bt.emulator import EmulatorConfig, EmulatorThread

# Fields the venue sends and documents, which its generated models of version 18.0.1 leave out.
KNOWN_TO_THE_VENUE_ONLY = {
    "NewOrderResponse": {"avgPrice", "cumQuote"},
    "CancelOrderResponse": {"avgPrice", "cumQuote"},
}


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorThread]:
    with EmulatorThread(EmulatorConfig(made_candles=2000, **NO_LIMITS)) as running:
        yield running


@pytest.fixture(scope="module")
def sdk(emulator: EmulatorThread) -> DerivativesTradingUsdsFuturesRestAPI:
    configuration = ConfigurationRestAPI(
        api_key=emulator.api_key, api_secret=emulator.api_secret, base_path=emulator.url, retries=0
    )
    return DerivativesTradingUsdsFuturesRestAPI(configuration)


@pytest.fixture(scope="module", autouse=True)
def traded(sdk: DerivativesTradingUsdsFuturesRestAPI, emulator: EmulatorThread) -> dict[str, Any]:
    """An account with history: a closed trade, an open position, a resting and a conditional order."""
    sdk.change_margin_type(symbol="BTCUSDT", margin_type="ISOLATED")
    sdk.new_order(symbol="BTCUSDT", side="BUY", type="MARKET", quantity=0.02)
    emulator.step()
    sdk.new_order(symbol="BTCUSDT", side="SELL", type="MARKET", quantity=0.01, reduce_only="true")
    price = round(float(sdk.symbol_price_ticker(symbol="BTCUSDT").data().actual_instance.price) * 0.97, 1)
    limit = sdk.new_order(
        symbol="BTCUSDT", side="BUY", type="LIMIT", quantity=0.01, price=price, time_in_force="GTC"
    ).data()
    algo = sdk.new_algo_order(
        algo_type="CONDITIONAL",
        symbol="BTCUSDT",
        side="SELL",
        type="STOP_MARKET",
        quantity=0.01,
        trigger_price=price,
        reduce_only="true",
    ).data()
    return {"order_id": limit.order_id, "algo_id": algo.algo_id}


def unknown_fields(model: Any) -> list[str]:
    """List additional properties in a model and everything inside it, as Model.field."""
    if isinstance(model, list):
        return [name for item in model for name in unknown_fields(item)]
    if getattr(model, "actual_instance", None) is not None:
        return unknown_fields(model.actual_instance)
    if not hasattr(model, "model_fields_set"):
        return []
    kind = type(model).__name__
    extra = set(getattr(model, "additional_properties", {})) - KNOWN_TO_THE_VENUE_ONLY.get(kind, set())
    nested = [getattr(model, name) for name in type(model).model_fields if name != "additional_properties"]
    return [f"{kind}.{name}" for name in sorted(extra)] + [name for value in nested for name in unknown_fields(value)]


Call = Callable[[DerivativesTradingUsdsFuturesRestAPI, dict[str, Any]], Any]
CALLS: dict[str, Call] = {
    "time": lambda sdk, _: sdk.check_server_time(),
    "exchangeInfo": lambda sdk, _: sdk.exchange_information(),
    "ticker/24hr": lambda sdk, _: sdk.ticker24hr_price_change_statistics(symbol="BTCUSDT"),
    "ticker/24hr of all": lambda sdk, _: sdk.ticker24hr_price_change_statistics(),
    "ticker/price": lambda sdk, _: sdk.symbol_price_ticker(symbol="BTCUSDT"),
    "v2/ticker/price": lambda sdk, _: sdk.symbol_price_ticker_v2(),
    "bookTicker": lambda sdk, _: sdk.symbol_order_book_ticker(symbol="BTCUSDT"),
    "bookTicker of all": lambda sdk, _: sdk.symbol_order_book_ticker(),
    "depth": lambda sdk, _: sdk.order_book(symbol="BTCUSDT", limit=5),
    "premiumIndex": lambda sdk, _: sdk.mark_price(symbol="BTCUSDT"),
    "premiumIndex of all": lambda sdk, _: sdk.mark_price(),
    "fundingInfo": lambda sdk, _: sdk.get_funding_rate_info(),
    "trades": lambda sdk, _: sdk.recent_trades_list(symbol="BTCUSDT", limit=5),
    "aggTrades": lambda sdk, _: sdk.compressed_aggregate_trades_list(symbol="BTCUSDT", limit=5),
    "v3/account": lambda sdk, _: sdk.account_information_v3(),
    "v2/account": lambda sdk, _: sdk.account_information_v2(),
    "v3/balance": lambda sdk, _: sdk.futures_account_balance_v3(),
    "v2/balance": lambda sdk, _: sdk.futures_account_balance_v2(),
    "v3/positionRisk": lambda sdk, _: sdk.position_information_v3(),
    "v2/positionRisk": lambda sdk, _: sdk.position_information_v2(symbol="BTCUSDT"),
    "leverageBracket": lambda sdk, _: sdk.notional_and_leverage_brackets(symbol="BTCUSDT"),
    "leverage": lambda sdk, _: sdk.change_initial_leverage(symbol="ETHUSDT", leverage=20),
    "marginType": lambda sdk, _: sdk.change_margin_type(symbol="ETHUSDT", margin_type="ISOLATED"),
    "positionSide/dual": lambda sdk, _: sdk.get_current_position_mode(),
    "multiAssetsMargin": lambda sdk, _: sdk.get_current_multi_assets_mode(),
    "symbolConfig": lambda sdk, _: sdk.symbol_configuration(symbol="BTCUSDT"),
    "accountConfig": lambda sdk, _: sdk.futures_account_configuration(),
    "order": lambda sdk, _: sdk.new_order(symbol="BTCUSDT", side="BUY", type="MARKET", quantity=0.01),
    "order as RESULT": lambda sdk, _: sdk.new_order(
        symbol="BTCUSDT", side="BUY", type="MARKET", quantity=0.01, new_order_resp_type="RESULT"
    ),
    "order/test": lambda sdk, _: sdk.test_order(symbol="BTCUSDT", side="BUY", type="MARKET", quantity=0.01),
    "query order": lambda sdk, ids: sdk.query_order(symbol="BTCUSDT", order_id=ids["order_id"]),
    "openOrder": lambda sdk, ids: sdk.query_current_open_order(symbol="BTCUSDT", order_id=ids["order_id"]),
    "openOrders": lambda sdk, _: sdk.current_all_open_orders(symbol="BTCUSDT"),
    "allOrders": lambda sdk, _: sdk.all_orders(symbol="BTCUSDT"),
    "cancel order": lambda sdk, ids: sdk.cancel_order(symbol="BTCUSDT", order_id=ids["order_id"]),
    "allOpenOrders": lambda sdk, _: sdk.cancel_all_open_orders(symbol="BTCUSDT"),
    "query algoOrder": lambda sdk, ids: sdk.query_algo_order(algo_id=ids["algo_id"]),
    "openAlgoOrders": lambda sdk, _: sdk.current_all_algo_open_orders(),
    "allAlgoOrders": lambda sdk, _: sdk.query_all_algo_orders(symbol="BTCUSDT"),
    "cancel algoOrder": lambda sdk, ids: sdk.cancel_algo_order(algo_id=ids["algo_id"]),
    "algoOpenOrders": lambda sdk, _: sdk.cancel_all_algo_open_orders(symbol="BTCUSDT"),
    "userTrades": lambda sdk, _: sdk.account_trade_list(symbol="BTCUSDT"),
    "income": lambda sdk, _: sdk.get_income_history(),
    "forceOrders": lambda sdk, _: sdk.users_force_orders(),
    "commissionRate": lambda sdk, _: sdk.user_commission_rate(symbol="BTCUSDT"),
    "listenKey": lambda sdk, _: sdk.start_user_data_stream(),
    "keep listenKey": lambda sdk, _: sdk.keepalive_user_data_stream(),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_sdk_reads_the_answer_and_finds_no_field_it_does_not_know(
    name: str, sdk: DerivativesTradingUsdsFuturesRestAPI, traded: dict[str, Any]
) -> None:
    answer = CALLS[name](sdk, traded).data()
    assert answer is not None
    assert unknown_fields(answer) == []
    # the SDK falls back to looser types without a word when a field has the wrong one
    assert not utils._relaxed_models


@pytest.mark.parametrize(
    "method", ["kline_candlestick_data", "mark_price_kline_candlestick_data", "premium_index_kline_data"]
)
def test_candle_rows_have_the_twelve_columns_of_the_venue(
    method: str, sdk: DerivativesTradingUsdsFuturesRestAPI
) -> None:
    rows = getattr(sdk, method)(symbol="BTCUSDT", interval="15m", limit=3).data()
    assert [len(row) for row in rows] == [12, 12, 12]


def test_index_candles_are_asked_for_by_pair(sdk: DerivativesTradingUsdsFuturesRestAPI) -> None:
    rows = sdk.index_price_kline_candlestick_data(pair="BTCUSDT", interval="5m", limit=2).data()
    assert len(rows) == 2


def test_a_wrong_symbol_raises_the_sdks_bad_request(sdk: DerivativesTradingUsdsFuturesRestAPI) -> None:
    from binance_common.errors import BadRequestError

    with pytest.raises(BadRequestError, match="Invalid symbol"):
        sdk.mark_price(symbol="NOSUCHUSDT")
