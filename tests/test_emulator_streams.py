"""Websocket streams: candles, book, mark price and user data, as raw messages, through the SDK and through ccxt.pro."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import ccxt.pro
import pytest
from binance_common.configuration import ConfigurationWebSocketStreams
from binance_sdk_derivatives_trading_usds_futures.derivatives_trading_usds_futures import (
    DerivativesTradingUsdsFutures,
)
from emulator_kit import NO_LIMITS, BareClient
from test_emulator_sdk import unknown_fields

from smm_bt.emulator import EmulatorConfig, EmulatorThread, FaultRule

CONFIG = {"made_candles": 500, "history_candles": 100} | NO_LIMITS


def listen(emulator: EmulatorThread, path: str, streams: list[str], act: Callable[[], None], count: int) -> list[Any]:
    """Subscribe on ``path``, act, and return the next ``count`` messages."""

    async def run() -> list[Any]:
        url = emulator.url.replace("http", "ws") + path
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
            if streams:
                await socket.send_json({"method": "SUBSCRIBE", "params": streams, "id": 7})
                assert await socket.receive_json(timeout=5) == {"result": None, "id": 7}
            await asyncio.get_running_loop().run_in_executor(None, act)
            return [await socket.receive_json(timeout=5) for _ in range(count)]

    return asyncio.run(run())


def test_a_candle_stream_tells_the_closed_candle_then_the_forming_one() -> None:
    with EmulatorThread(EmulatorConfig(**CONFIG)) as emulator:
        now = emulator.status()["now_ms"]
        closed, forming = listen(emulator, "/market/ws/0", ["btcusdt@kline_5m"], emulator.step, 2)
        assert (closed["k"]["t"], closed["k"]["x"]) == (now, True)
        assert (forming["k"]["t"], forming["k"]["x"]) == (now + 300_000, False)
        assert forming["k"]["o"] == forming["k"]["c"] == forming["k"]["h"]


def test_a_combined_stream_wraps_messages_with_the_streams_name() -> None:
    with EmulatorThread(EmulatorConfig(**CONFIG)) as emulator:
        path = "/stream?streams=ethusdt@bookTicker/btcusdt@markPrice@1s"
        messages = listen(emulator, path, [], emulator.step, 2)
        assert {message["stream"] for message in messages} == {"ethusdt@bookTicker", "btcusdt@markPrice@1s"}
        assert {message["data"]["e"] for message in messages} == {"bookTicker", "markPriceUpdate"}


def user_messages(emulator: EmulatorThread, act: Callable[[BareClient], None], count: int) -> list[Any]:
    with BareClient(emulator) as client:
        key = client.send("POST", "/fapi/v1/listenKey").json()["listenKey"]
        return listen(emulator, f"/private/ws?listenKey={key}", [], lambda: act(client), count)


def test_an_order_is_told_as_new_then_filled_then_as_a_changed_account() -> None:
    with EmulatorThread(EmulatorConfig(**CONFIG)) as emulator:
        told = user_messages(emulator, lambda client: client.order("BUY", "0.01") and None, 3)
        assert [message["e"] for message in told] == ["ORDER_TRADE_UPDATE"] * 2 + ["ACCOUNT_UPDATE"]
        assert [(m["o"]["x"], m["o"]["X"]) for m in told[:2]] == [("NEW", "NEW"), ("TRADE", "FILLED")]
        assert told[2]["a"]["P"][0]["pa"] == "0.01"


def test_a_conditional_order_is_told_through_algo_updates() -> None:
    with EmulatorThread(EmulatorConfig(**CONFIG)) as emulator:

        def place_and_cancel(client: BareClient) -> None:
            stop = {"algoType": "CONDITIONAL", "symbol": "BTCUSDT", "side": "SELL", "type": "STOP_MARKET"}
            parameters = stop | {"quantity": "1", "triggerPrice": "1000", "clientAlgoId": "a"}
            answer = client.send("POST", "/fapi/v1/algoOrder", **parameters)
            assert answer.status_code == 200, answer.text
            client.send("DELETE", "/fapi/v1/algoOrder", clientAlgoId="a")

        told = user_messages(emulator, place_and_cancel, 2)
        assert [(m["e"], m["o"]["X"]) for m in told] == [("ALGO_UPDATE", "NEW"), ("ALGO_UPDATE", "CANCELED")]


def test_a_running_clock_pushes_without_being_asked() -> None:
    # the first close is five seconds away: it would be told as well
    with EmulatorThread(EmulatorConfig(speed=60.0, start_ms=1_735_689_600_000, **CONFIG)) as emulator:
        messages = listen(emulator, "/public/ws", ["btcusdt@bookTicker"], lambda: None, 3)
        times = [message["E"] for message in messages]
        assert times == sorted(times)
        assert times[2] - times[0] > 5_000


def test_a_forming_candle_is_told_every_250_ms_and_a_close_at_once_however_often_the_market_moves() -> None:
    with EmulatorThread(EmulatorConfig(speed=300.0, **CONFIG)) as emulator, BareClient(emulator) as client:

        def ask_often() -> None:
            end = time.monotonic() + 2.2
            while time.monotonic() < end:
                client.send("GET", "/fapi/v1/time")

        told = [m["k"] for m in listen(emulator, "/market/ws", ["btcusdt@kline_5m"], ask_often, 6)]
    closed = [k["t"] for k in told if k["x"]]
    assert len(closed) >= 1
    assert closed == sorted(set(closed))
    # a candle lasts a second: at most the one told at its opening and three later ones before it closes
    assert max(sum(k["t"] == open_ms and not k["x"] for k in told) for open_ms in {k["t"] for k in told}) <= 5


async def watch_with_sdk(emulator: EmulatorThread, key: str, act: Callable[[], None], count: int) -> list[Any]:
    """Subscribe to user data, candles, marks and book through the SDK, act, and return ``count`` messages."""
    url = emulator.url.replace("http", "ws") + "/stream"
    configuration = ConfigurationWebSocketStreams(stream_url=url)
    streams = DerivativesTradingUsdsFutures(config_ws_streams=configuration).websocket_streams
    await streams.create_connection()
    received: list[Any] = []
    for handle in (
        await streams.user_data(key),
        await streams.kline_candlestick_streams(symbol="btcusdt", interval="5m"),
        await streams.mark_price_stream(symbol="btcusdt"),
        await streams.individual_symbol_book_ticker_streams(symbol="btcusdt"),
    ):
        handle.on("message", received.append)
    await asyncio.get_running_loop().run_in_executor(None, act)
    for _ in range(100):
        if len(received) >= count:
            break
        await asyncio.sleep(0.05)
    await streams.close_connection(close_session=True)
    return received


def test_the_venues_sdk_reads_user_data_and_candles_without_unknown_fields() -> None:
    with EmulatorThread(EmulatorConfig(**CONFIG)) as emulator, BareClient(emulator) as client:
        key = client.send("POST", "/fapi/v1/listenKey").json()["listenKey"]

        def act() -> None:
            client.order("BUY", "0.01")
            emulator.step()

        received = asyncio.run(watch_with_sdk(emulator, key, act, 7))
    kinds = {type(getattr(message, "actual_instance", None) or message).__name__ for message in received}
    assert kinds == {
        "OrderTradeUpdate",
        "AccountUpdate",
        "KlineCandlestickStreamsResponse",
        "MarkPriceStreamResponse",
        "IndividualSymbolBookTickerStreamsResponse",
    }
    # the event's own name is left out of the SDK's user-data models
    assert {name for name in unknown_fields(received) if not name.endswith(".e")} == set()


Watch = Callable[[Any], Awaitable[Any]]


async def watch_with_ccxt(emulator: EmulatorThread, watch: Watch, act: Callable[[], None]) -> Any:
    client = ccxt.pro.binanceusdm(
        {
            "apiKey": emulator.api_key,
            "secret": emulator.api_secret,
            "options": {"fetchCurrencies": False, "adjustForTimeDifference": True},
        }
    )
    base = emulator.url
    client.urls["api"] = {
        "fapiPublic": f"{base}/fapi/v1",
        "fapiPrivate": f"{base}/fapi/v1",
        "fapiPrivateV2": f"{base}/fapi/v2",
        "fapiPrivateV3": f"{base}/fapi/v3",
        "ws": {"linear": base.replace("http", "ws") + "/ws"},
    }
    try:
        await client.load_markets()
        waiting = asyncio.ensure_future(watch(client))
        await asyncio.sleep(0.5)
        await asyncio.get_running_loop().run_in_executor(None, act)
        return await asyncio.wait_for(waiting, 10)
    finally:
        await client.close()


def test_ccxt_pro_watches_candles_and_own_orders() -> None:
    with EmulatorThread(EmulatorConfig(**CONFIG)) as emulator, BareClient(emulator) as client:
        candles = asyncio.run(watch_with_ccxt(emulator, lambda c: c.watch_ohlcv("BTC/USDT:USDT", "5m"), emulator.step))
        assert len(candles[-1]) == 6
        orders = asyncio.run(
            watch_with_ccxt(emulator, lambda c: c.watch_orders(), lambda: client.order("BUY", "0.01") and None)
        )
        assert orders[0]["symbol"] == "BTC/USDT:USDT"


@pytest.mark.parametrize("kind", ["repeat", "lose", "drop"])
def test_stream_faults_repeat_lose_or_cut_messages(kind: str) -> None:
    async def run(emulator: EmulatorThread) -> list[str]:
        url = emulator.url.replace("http", "ws") + "/market/ws/btcusdt@markPrice"
        seen = []
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
            await asyncio.sleep(0.05)
            for _ in range(2):
                await asyncio.get_running_loop().run_in_executor(None, emulator.step)
            while len(seen) < {"repeat": 3, "lose": 1, "drop": 1}[kind]:
                message = await socket.receive(timeout=5)
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return [*seen, "closed"]
                seen.append(json.loads(message.data)["e"])
        return seen

    with EmulatorThread(EmulatorConfig(**CONFIG)) as emulator:
        emulator.add_fault(FaultRule(kind, "WS", "/market/*"))
        seen = asyncio.run(run(emulator))
    update = "markPriceUpdate"
    assert seen == {"repeat": [update] * 3, "lose": [update], "drop": ["closed"]}[kind]


def test_every_websocket_can_be_ended_at_once() -> None:
    async def run(emulator: EmulatorThread) -> aiohttp.WSMsgType:
        url = emulator.url.replace("http", "ws") + "/ws"
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
            await asyncio.sleep(0.05)
            await asyncio.get_running_loop().run_in_executor(None, emulator.disconnect_websockets)
            return (await socket.receive(timeout=5)).type

    with EmulatorThread(EmulatorConfig(**CONFIG)) as emulator:
        assert asyncio.run(run(emulator)) in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
