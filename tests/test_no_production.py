"""A real account is unreachable: by type, by URL table, at the transport. Each way there we could think of is tried."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import ccxt
import pytest
import requests
from requests.adapters import HTTPAdapter

from smm_bt import model
from smm_bt.errors import SettingsError
from smm_bt.execution import ccxt_client, endpoints
from smm_bt.execution.ccxt_client import ApiKeys, PublicWire, TradingWire
from smm_bt.execution.endpoints import (
    ForbiddenRequest,
    KlineStreams,
    PracticeVenue,
    PublicDataRules,
    practice_venue,
)
from smm_bt.execution.kline_stream import KlineStream
from smm_bt.execution.transport import GuardedSession
from smm_bt.execution.venue_errors import Kind, VenueFault

KEYS = ApiKeys("K" * 64, "S" * 64)
PRODUCTION = (
    "https://fapi.binance.com",
    "https://api.binance.com",
    "https://dapi.binance.com",
    "https://papi.binance.com",
    "https://fapi1.binance.com",
    "https://api1.binance.com",
    "https://api-gcp.binance.com",
    "https://eapi.binance.com",
    "https://www.binance.com",
    "https://fapi.binance.us",
)
DISGUISES = (
    "http://demo-fapi.binance.com",
    "https://demo-fapi.binance.com:8443",
    "https://demo-fapi.binance.com.evil.example",
    "https://demo-fapi.binance.com@fapi.binance.com",
    "https://demo-fapi.binance.com\\@fapi.binance.com",
    "https://fapi.binance.com#demo-fapi.binance.com",
    "https://fapi.binance.com/demo-fapi.binance.com",
    "https://fapi.binance.com?x=demo-fapi.binance.com",
    "https://xdemo-fapi.binance.com",
    "https://demo-fapi.binance.com\n.fapi.binance.com",
    "https://demo-fapi.bіnance.com",  # its i is a Cyrillic letter
    "https://127.0.0.1.nip.io",
    "http://127.0.0.1:80:443",
    "http://10.0.0.1",
    "http://169.254.169.254",
    "http://0.0.0.0",
    "ftp://127.0.0.1",
    "file:///etc/hosts",
    "",
    "demo-fapi.binance.com",
)


class _Recorder(BaseHTTPRequestHandler):
    """Answers everything and remembers who came; ``redirect`` sends them on."""

    def _answer(self) -> None:
        server: Any = self.server
        server.seen.append(f"{self.command} {self.path}")
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(server.status)
        if server.redirect:
            self.send_header("Location", server.redirect)
        self.send_header("Content-Length", "2")
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST = do_PUT = do_DELETE = do_CONNECT = _answer  # noqa: N815 -- the names the base class calls

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class's name
        """Say nothing."""


@pytest.fixture
def recorder() -> Iterator[Any]:
    server: Any = HTTPServer(("127.0.0.1", 0), _Recorder)
    server.seen, server.redirect, server.status = [], "", 200
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def wire(recorder: Any) -> TradingWire:
    return TradingWire(PracticeVenue(recorder.url), KEYS, retries=0)


def place(wire: TradingWire) -> Any:
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "1"}
    return wire.once("fapiPrivatePostOrder", order, 1, order=True)


# ---- by type


def test_there_are_two_modes_and_neither_is_live() -> None:
    assert [mode.value for mode in model.TradingMode] == ["PAPER", "TESTNET"]
    for word in ("LIVE", "REAL", "PRODUCTION", "live", "paper ", ""):
        with pytest.raises(ValueError, match="is not a valid TradingMode"):
            model.TradingMode(word)


def test_no_name_of_the_endpoints_holds_a_production_address_but_the_keyless_one() -> None:
    texts = [value for value in vars(endpoints).values() if isinstance(value, str)]
    assert [text for text in texts if "//" in text and "Where requests" not in text] == ["https://fapi.binance.com"]
    assert all(kind == "fapiPublic" for kind in PublicDataRules().url_table())


def test_every_address_of_a_stream_is_a_keyless_one_for_market_data() -> None:
    assert set(endpoints._STREAM_ORIGINS.values()) == {"wss://fstream.binance.com", "wss://fstream.binancefuture.com"}
    for table in (value for value in vars(endpoints).values() if isinstance(value, dict)):
        assert all("ws-fapi" not in str(text) and "/private" not in str(text) for text in table.values())
    assert endpoints._STREAM_PATH.startswith("/market/")


@pytest.mark.parametrize("address", PRODUCTION + DISGUISES)
def test_no_other_address_makes_a_practice_venue(address: str) -> None:
    with pytest.raises(SettingsError, match="only practice venues are reachable"):
        PracticeVenue(address)


@pytest.mark.parametrize(
    ("address", "normal"),
    [
        ("https://demo-fapi.binance.com", "https://demo-fapi.binance.com"),
        ("https://DEMO-FAPI.binance.com/", "https://demo-fapi.binance.com"),
        ("https://testnet.binancefuture.com:443", "https://testnet.binancefuture.com"),
        ("http://localhost:8765", "http://127.0.0.1:8765"),
        ("http://[::1]:8765", "http://[::1]:8765"),
    ],
)
def test_the_practice_venues_are_reachable(address: str, normal: str) -> None:
    assert PracticeVenue(address).address == normal


def test_paper_has_no_venue_at_all() -> None:
    with pytest.raises(SettingsError, match="sends no orders"):
        practice_venue(model.TradingMode.PAPER)
    assert practice_venue(model.TradingMode.TESTNET).address == "https://demo-fapi.binance.com"


def test_a_practice_venue_cannot_be_changed_or_subclassed() -> None:
    venue = PracticeVenue()
    with pytest.raises(AttributeError):
        venue._origin = endpoints.origin_of("https://fapi.binance.com")  # type: ignore[misc]
    with pytest.raises(AttributeError):
        venue.address = "https://fapi.binance.com"  # type: ignore[misc]
    with pytest.raises(TypeError, match="cannot be subclassed"):
        type("Real", (PracticeVenue,), {})


def test_a_venue_bent_by_force_still_sends_nothing(recorder: Any) -> None:
    venue = PracticeVenue(recorder.url)
    object.__setattr__(venue, "_origin", endpoints.origin_of("https://fapi.binance.com"))
    with pytest.raises(ForbiddenRequest):
        place(TradingWire(venue, KEYS, retries=0))


class _Forged:
    def __reduce__(self) -> Any:
        return PracticeVenue, ("https://fapi.binance.com",)


def test_a_venue_is_checked_again_when_it_is_unpickled() -> None:
    venue = PracticeVenue("https://testnet.binancefuture.com")
    assert pickle.loads(pickle.dumps(venue)) == copy.deepcopy(venue) == venue
    with pytest.raises(SettingsError):
        pickle.loads(pickle.dumps(_Forged()))


def test_only_a_practice_venue_is_accepted_by_the_trading_client() -> None:
    class Lookalike:
        address = "https://fapi.binance.com"

        def url_table(self) -> dict[str, str]:
            return {"fapiPrivate": self.address}

        def check(self, *request: object) -> None:
            return None

    for venue in (Lookalike(), "https://fapi.binance.com", PublicDataRules(), None):
        with pytest.raises(TypeError, match="PracticeVenue and nowhere else"):
            TradingWire(venue, KEYS)  # type: ignore[arg-type]


def test_clients_with_keys_cannot_be_pickled_copied_or_subclassed(wire: TradingWire) -> None:
    for thing in (wire.exchange, wire.exchange.session):
        with pytest.raises(TypeError, match="pickled"):
            pickle.dumps(thing)
        with pytest.raises(TypeError, match="pickled"):
            copy.copy(thing)
    for kind in (type(wire.exchange), GuardedSession):
        with pytest.raises(TypeError, match="subclassed"):
            type("Real", (kind,), {})


def test_keys_never_appear_in_texts(wire: TradingWire, recorder: Any) -> None:
    recorder.status = 500
    with pytest.raises(VenueFault) as caught:
        wire.once("fapiPrivateGetOrder", {"symbol": "BTCUSDT"}, 1)
    shown = f"{KEYS} {KEYS!r} {wire.exchange!r} {caught.value} {caught.value.__cause__}"
    assert "KKKK" not in shown
    assert "SSSS" not in shown
    assert "signature" not in shown


# ---- by URL table


def test_the_whole_url_table_is_the_practice_venue_and_ccxt_agrees_about_the_demo_hosts() -> None:
    exchange = TradingWire(PracticeVenue(), KEYS).exchange
    for name, table in exchange.urls.items():
        assert set(table.values()) <= set(PracticeVenue().url_table().values()), name
    theirs = {name: url for name, url in ccxt.binanceusdm().urls["demo"].items() if name.startswith("fapi")}
    assert theirs.items() == exchange.urls["api"].items()


@pytest.mark.parametrize(
    "endpoint",
    [
        "sapiGetCapitalConfigGetall",
        "sapiPostCapitalWithdrawApply",
        "privateGetAccount",
        "privatePostOrder",
        "dapiPrivatePostOrder",
        "papiPostUmOrder",
        "eapiPrivatePostOrder",
        "publicGetPing",
        "fapiDataGetOpenInterestHist",
    ],
)
def test_families_outside_usdm_futures_do_not_exist(wire: TradingWire, recorder: Any, endpoint: str) -> None:
    with pytest.raises(VenueFault) as caught:
        wire.once(endpoint, {}, 1)
    assert caught.value.failure.kind is Kind.LOCAL
    assert recorder.seen == []


def test_unified_calls_that_would_touch_spot_do_not_exist_either(wire: TradingWire, recorder: Any) -> None:
    exchange = wire.exchange
    for call in (exchange.fetch_status, lambda: exchange.withdraw("USDT", 1, "0x0"), exchange.fetch_deposits):
        with pytest.raises((ccxt.ExchangeError, ForbiddenRequest)):
            call()
    assert not [line for line in recorder.seen if "/fapi/" not in line]


@pytest.mark.parametrize("table", [{"fapiPrivate": f"{host}/fapi/v1"} for host in PRODUCTION])
def test_a_patched_url_table_is_stopped_before_sending(wire: TradingWire, table: dict[str, str]) -> None:
    wire.exchange.urls["api"] = table
    with pytest.raises(ForbiddenRequest, match="may talk to"):
        place(wire)


def test_neighbouring_paths_of_the_practice_host_are_stopped(recorder: Any) -> None:
    for path in ("sapi/v1", "fapi/../sapi/v1", "fapi/%2e%2e/sapi/v1"):
        wire = TradingWire(PracticeVenue(recorder.url), KEYS, retries=0)
        wire.exchange.urls["api"] = {"fapiPrivate": f"{recorder.url}/{path}"}
        with pytest.raises(ForbiddenRequest):
            place(wire)
    assert recorder.seen == []


@pytest.mark.parametrize("address", DISGUISES)
def test_a_disguised_address_is_stopped_before_sending(wire: TradingWire, address: str) -> None:
    wire.exchange.urls["api"] = {"fapiPrivate": address + "/fapi/v1"}
    with pytest.raises(ForbiddenRequest):
        place(wire)


def test_ccxts_own_switches_do_not_lead_out(wire: TradingWire, recorder: Any) -> None:
    exchange = wire.exchange
    for switch in (
        lambda: exchange.set_sandbox_mode(True),
        lambda: exchange.set_sandbox_mode(False),
        lambda: exchange.setSandboxMode(False),
        lambda: exchange.enable_demo_trading(False),
        lambda: exchange.enableDemoTrading(False),
    ):
        with pytest.raises(ForbiddenRequest):
            switch()
    ccxt.binanceusdm.set_sandbox_mode(exchange, True)
    ccxt.binanceusdm.set_sandbox_mode(exchange, False)
    ccxt.binanceusdm.enable_demo_trading(exchange, False)
    exchange.urls["api"] = ccxt.binanceusdm().urls["api"]
    with pytest.raises(ForbiddenRequest):
        place(wire)
    assert recorder.seen == []


@pytest.mark.parametrize("option", ["sandboxMode", "enableDemoTrading", "test", "demo", "disableFuturesSandboxWarning"])
@pytest.mark.parametrize("value", [True, False])
def test_options_change_nothing_about_where_orders_go(
    wire: TradingWire, recorder: Any, option: str, value: bool
) -> None:
    wire.exchange.options[option] = value
    wire.exchange.hostname = "binance.com"
    wire.exchange.isSandboxModeEnabled = value
    place(wire)
    assert len(recorder.seen) == 1


# ---- at the transport


@pytest.mark.parametrize("host", PRODUCTION)
def test_the_session_itself_sends_nothing_elsewhere(wire: TradingWire, host: str) -> None:
    for call in (wire.exchange.session.get, wire.exchange.session.post):
        with pytest.raises(ForbiddenRequest):
            call(f"{host}/fapi/v1/order")
    with pytest.raises(ForbiddenRequest):
        wire.exchange.fetch(f"{host}/fapi/v1/order", "POST", {"X-MBX-APIKEY": "x"}, "a=1")
    prepared = requests.Request("POST", f"{host}/fapi/v1/order").prepare()
    with pytest.raises(ForbiddenRequest):
        wire.exchange.session.get_adapter(host).send(prepared)


def test_the_session_and_its_adapter_cannot_be_exchanged(wire: TradingWire, recorder: Any) -> None:
    with pytest.raises(ForbiddenRequest):
        wire.exchange.session = requests.Session()
    with pytest.raises(ForbiddenRequest):
        wire.exchange.session.mount("https://", HTTPAdapter())
    wire.exchange.session.adapters["https://"] = HTTPAdapter()
    wire.exchange.urls["api"] = {"fapiPrivate": "https://fapi.binance.com/fapi/v1"}
    with pytest.raises(ForbiddenRequest):
        place(wire)
    assert recorder.seen == []


def test_a_session_smuggled_in_is_noticed(wire: TradingWire, recorder: Any) -> None:
    rules, _ = wire.exchange._guard
    wire.exchange._guard = (rules, requests.Session())
    with pytest.raises(ForbiddenRequest, match="session was exchanged"):
        place(wire)
    assert recorder.seen == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 200, 201])
@pytest.mark.parametrize("target", ["https://fapi.binance.com/fapi/v1/order", "http://127.0.0.1:1/fapi/v1/order", "/x"])
def test_redirects_are_never_followed(wire: TradingWire, recorder: Any, status: int, target: str) -> None:
    recorder.status, recorder.redirect = status, target
    with pytest.raises(ForbiddenRequest, match="redirects are never followed"):
        place(wire)
    assert len(recorder.seen) == 1


PROXY_NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


def test_proxies_in_the_environment_are_ignored(recorder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_NAMES:
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    place(TradingWire(PracticeVenue(recorder.url), KEYS, retries=0))
    assert [line.split("?")[0] for line in recorder.seen] == ["POST /fapi/v1/order"]


def test_proxies_of_the_session_and_trust_in_the_environment_are_ignored(
    wire: TradingWire, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    session = wire.exchange.session
    session.trust_env = True
    session.verify = False
    session.proxies = {"http": "http://127.0.0.1:9", "https": "http://127.0.0.1:9"}
    place(wire)
    assert len(recorder.seen) == 1


@pytest.mark.parametrize("setting", ["httpProxy", "httpsProxy", "socksProxy", "proxyUrl", "proxies", "proxy"])
def test_proxies_set_on_the_exchange_object_are_refused(wire: TradingWire, recorder: Any, setting: str) -> None:
    setattr(wire.exchange, setting, {"http": "http://127.0.0.1:9"} if setting == "proxies" else "http://127.0.0.1:9")
    with pytest.raises(ForbiddenRequest, match="proxy"):
        place(wire)
    assert recorder.seen == []


def test_the_environment_names_no_host_that_is_listened_to(recorder: Any) -> None:
    """A hostile environment in a fresh process: nothing there changes where a client may go."""
    code = (
        "from smm_bt.execution.endpoints import practice_venue, PublicDataRules\n"
        "from smm_bt.model import TradingMode\n"
        "print(practice_venue(TradingMode.TESTNET).address, PublicDataRules().address)"
    )
    names = ("BINANCE_URL", "TESTNET_URL", "CCXT_URL", "BASE_URL", "VENUE", "BINANCE_HOST", "SMM_BT_VENUE")
    environment = dict.fromkeys((*names, *PROXY_NAMES), "https://fapi.binance.com") | {"PYTHONPATH": str(_root())}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["https://demo-fapi.binance.com", "https://fapi.binance.com"]


def _root() -> Path:
    return Path(__file__).resolve().parents[1]


# ---- the keyless client


@pytest.mark.parametrize("endpoint", ["fapiPublicGetTime", "fapiPublicGetKlines", "fapiPublicGetExchangeInfo"])
def test_the_market_data_client_reads(recorder: Any, endpoint: str) -> None:
    PublicWire(PracticeVenue(recorder.url)).once(endpoint, {"symbol": "BTCUSDT"}, 1)
    assert len(recorder.seen) == 1


@pytest.mark.parametrize(
    "endpoint",
    [
        "fapiPrivateGetAccount",
        "fapiPrivatePostOrder",
        "fapiPrivateV3GetAccount",
        "fapiPublicGetHistoricalTrades",
        "fapiPrivatePostListenKey",
        "fapiPublicGetDepth",
        "sapiGetSystemStatus",
        "privateGetAccount",
    ],
)
@pytest.mark.parametrize("smuggled", [False, True])
def test_the_market_data_client_cannot_do_anything_else(recorder: Any, endpoint: str, smuggled: bool) -> None:
    wire = PublicWire(PracticeVenue(recorder.url))
    if smuggled:
        wire.exchange.apiKey, wire.exchange.secret = KEYS.key, KEYS.secret
        wire.exchange.urls["api"] |= {"fapiPrivate": recorder.url, "fapiPrivateV3": recorder.url}
    with pytest.raises((ForbiddenRequest, VenueFault)):
        wire.once(endpoint, {"symbol": "BTCUSDT"}, 1)
    assert recorder.seen == []


def test_the_market_data_rules_refuse_keys_signatures_bodies_and_other_methods() -> None:
    rules = PublicDataRules()
    url = "https://fapi.binance.com/fapi/v1/klines"
    rules.check("GET", url + "?symbol=BTCUSDT", {}, None)
    for method, address, headers, body in (
        ("POST", url, {}, None),
        ("GET", url, {"X-MBX-APIKEY": "k"}, None),
        ("GET", url + "?signature=00", {}, None),
        ("GET", url, {}, "a=1"),
        ("GET", "https://fapi.binance.com/fapi/v1/order", {}, None),
        ("GET", "https://api.binance.com/fapi/v1/klines", {}, None),
        ("GET", "http://fapi.binance.com/fapi/v1/klines", {}, None),
    ):
        with pytest.raises(ForbiddenRequest):
            rules.check(method, address, headers, body)


# ---- the streams

STREAM = "wss://fstream.binance.com/market/stream?streams="


def test_streams_are_those_of_the_venue_whose_candles_are_read() -> None:
    assert KlineStreams().urls(["BTCUSDT", "1000PEPEUSDT"], "5m") == [
        [f"{STREAM}btcusdt@kline_5m/1000pepeusdt@kline_5m", "BTCUSDT", "1000PEPEUSDT"]
    ]
    for host in ("demo-fapi.binance.com", "testnet.binancefuture.com"):
        assert KlineStreams(PracticeVenue(f"https://{host}")).address == "wss://fstream.binancefuture.com"
    assert KlineStreams(PracticeVenue("http://127.0.0.1:8765")).address == "ws://127.0.0.1:8765"
    assert KlineStreams(PracticeVenue("http://[::1]:8765")).address == "ws://[::1]:8765"


def test_many_symbols_share_connections_within_the_venues_limits() -> None:
    symbols = [f"LONGNAME{number:03d}USDT" for number in range(450)]
    lines = KlineStreams().urls(symbols, "15m")
    assert [symbol for line in lines for symbol in line[1:]] == symbols
    assert all(len(line) <= 201 and len(line[0]) < 4000 for line in lines)


@pytest.mark.parametrize(
    "url",
    [
        "wss://fstream.binance.com/ws/btcusdt@kline_1m",
        "wss://fstream.binance.com/private/ws?listenKey=abc",
        "wss://fstream.binance.com/market/ws/btcusdt@kline_1m",
        "wss://fstream.binance.com/market/../private/stream?streams=btcusdt@kline_1m",
        "wss://fstream.binance.com/market/stream",
        "wss://ws-fapi.binance.com/ws-fapi/v1",
        "wss://testnet.binancefuture.com/ws-fapi/v1",
        "wss://fstream.binancefuture.com/market/stream?streams=btcusdt@kline_1m",
        "ws://fstream.binance.com/market/stream?streams=btcusdt@kline_1m",
        "https://fstream.binance.com/market/stream?streams=btcusdt@kline_1m",
        "wss://fstream.binance.com:443@evil.example/market/stream?streams=btcusdt@kline_1m",
        "wss://user:secret@fstream.binance.com/market/stream?streams=btcusdt@kline_1m",
        "wss://fstream.binance.com.evil.example/market/stream?streams=btcusdt@kline_1m",
        "wss://evil.example/market/stream?streams=btcusdt@kline_1m",
        "wss://FSTREAM.binance.com/market/stream?streams=btcusdt@kline_1m",
        STREAM,
        STREAM + "btcusdt@kline_1m/",
        STREAM + "btcusdt@kline_1m&listenKey=abc",
        STREAM + "btcusdt@kline_1m#x",
        STREAM + "btcusdt@kline_1m\n",
        STREAM + "btcusdt@kline_7m",
        STREAM + "btcusdt@kline_1m?x=1",
        STREAM + "btcusdt@aggTrade",
        STREAM + "btcusdt@kline_1m/!bookTicker",
        STREAM + "pqia91ma19a5s61cv6a81va65sdf19v8a65a1a5s61cv6a81va65sdf19v8a65a1",
        STREAM + "btcusdt%40kline_1m",
        STREAM + "../private@kline_1m",
        STREAM + "BTCUSDT@kline_1m",
        STREAM + "btcusdt@kline_१m",
        STREAM + "btсusdt@kline_1m",  # its с is a Cyrillic letter
        "",
        None,
        b"wss://fstream.binance.com/market/stream?streams=btcusdt@kline_1m",
    ],
)
def test_nothing_but_public_candle_streams_may_be_listened_to(url: Any) -> None:
    with pytest.raises(ForbiddenRequest):
        KlineStreams().check("GET", url, {}, None)


def test_streams_are_listened_to_without_a_key_and_with_nothing_sent() -> None:
    url = STREAM + "btcusdt@kline_1m"
    KlineStreams().check("GET", url, {"Upgrade": "websocket"}, None)
    for method, headers, body in (
        ("POST", {}, None),
        ("CONNECT", {}, None),
        ("GET", {"X-MBX-APIKEY": "k"}, None),
        ("GET", {"authorization": "Basic eDp5"}, None),
        ("GET", {"Cookie": "a=b"}, None),
        ("GET", {}, b"a=1"),
    ):
        with pytest.raises(ForbiddenRequest):
            KlineStreams().check(method, url, headers, body)


@pytest.mark.parametrize(
    "symbol", ["BTC/USDT", "BTCUSDT@depth", "", "A" * 41, "BTC USDT", "币安人生USDT", "..", "BTC&X=1"]
)
def test_a_symbol_that_is_no_plain_name_gets_into_no_address(symbol: str) -> None:
    assert not KlineStreams.can_name(symbol)
    with pytest.raises(ForbiddenRequest):
        KlineStreams().urls(["BTCUSDT", symbol], "1m")


def test_what_decides_about_streams_cannot_be_changed_or_derived_from() -> None:
    streams = KlineStreams()
    with pytest.raises(AttributeError):
        streams._practice = PracticeVenue("http://127.0.0.1:1")
    with pytest.raises(TypeError):
        type("Loose", (KlineStreams,), {})
    forged = PracticeVenue("http://127.0.0.1:1")
    object.__setattr__(forged, "_origin", endpoints.origin_of("https://ws-fapi.binance.com"))
    with pytest.raises(ForbiddenRequest):
        KlineStreams(forged)


def listen_to(url: str) -> str:
    """Try to listen until something was asked for or refused; return what was said."""
    stream = KlineStream(KlineStreams(PracticeVenue(url)), ["BTCUSDT"], "1m")
    stream.start()
    try:
        for _ in range(200):
            news = stream.news()
            if news:
                return news[0].message
            stream.wait(lambda: False, 0.02)
    finally:
        stream.close()
    raise AssertionError("nothing was said")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("scheme", ["http", "ws"])
def test_a_stream_follows_no_redirect(recorder: Any, status: int, scheme: str) -> None:
    port = recorder.url.rpartition(":")[2]
    recorder.status, recorder.redirect = status, f"{scheme}://127.0.0.1:{port}/private/ws?listenKey=abc"
    said = listen_to(recorder.url)
    assert "cannot be listened to" in said
    assert scheme == "ws" or "was stopped" in said  # the other kind the library refuses by itself
    assert recorder.seen == ["GET /market/stream?streams=btcusdt@kline_1m"]


def test_a_stream_uses_no_proxy_of_the_environment(recorder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXY_NAMES, "WS_PROXY", "WSS_PROXY", "ws_proxy", "wss_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    assert "cannot be listened to" in listen_to(recorder.url)  # it answers, and is no websocket
    assert recorder.seen == ["GET /market/stream?streams=btcusdt@kline_1m"]


def test_ccxt_is_imported_in_one_file_only() -> None:
    package = Path(ccxt_client.__file__).parent
    importers = {path.name for path in package.glob("*.py") if "import ccxt" in path.read_text("utf-8")}
    assert importers == {"ccxt_client.py"}
