"""The gate: keys, signatures, timestamps, request weight, order counts and bans."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterator
from urllib.parse import urlencode

import ccxt
import pytest
import requests
from emulator_kit import NO_LIMITS, BareClient, ccxt_client

from smm_bt.emulator import EmulatorConfig, EmulatorThread


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorThread]:
    with EmulatorThread(EmulatorConfig(made_candles=50, history_candles=10, **NO_LIMITS)) as running:
        yield running


def sign(secret: str, payload: str) -> str:
    return hmac.new(secret.encode(), payload.encode(), hashlib.sha256).hexdigest()


def now() -> int:
    return int(time.time() * 1000)


def balance(emulator: EmulatorThread, query: str, key: str | None = None) -> tuple[int, int]:
    headers = {"X-MBX-APIKEY": emulator.api_key if key is None else key}
    response = requests.get(f"{emulator.url}/fapi/v3/balance?{query}", headers=headers, timeout=5)
    return response.status_code, response.json()["code"] if response.status_code >= 400 else 0


def test_a_signed_request_passes(emulator: EmulatorThread) -> None:
    query = f"timestamp={now()}"
    assert balance(emulator, f"{query}&signature={sign(emulator.api_secret, query)}") == (200, 0)


def test_a_wrong_or_missing_signature_is_refused(emulator: EmulatorThread) -> None:
    query = f"timestamp={now()}"
    assert balance(emulator, f"{query}&signature={sign('other', query)}") == (400, -1022)
    assert balance(emulator, f"{query}&signature=") == (400, -1022)
    assert balance(emulator, query) == (400, -1102)


def test_a_signature_does_not_cover_a_changed_parameter(emulator: EmulatorThread) -> None:
    query = f"timestamp={now()}"
    signature = sign(emulator.api_secret, query)
    assert balance(emulator, f"{query}&recvWindow=60000&signature={signature}") == (400, -1022)


def test_missing_and_unknown_keys_are_refused(emulator: EmulatorThread) -> None:
    query = f"timestamp={now()}"
    signed = f"{query}&signature={sign(emulator.api_secret, query)}"
    assert balance(emulator, signed, key="") == (401, -2014)
    assert balance(emulator, signed, key="not-the-key") == (401, -2015)


def test_parameters_may_be_split_over_query_and_body(emulator: EmulatorThread) -> None:
    query, body = "symbol=BTCUSDT", f"leverage=10&timestamp={now()}"
    signature = sign(emulator.api_secret, query + body)
    response = requests.post(
        f"{emulator.url}/fapi/v1/leverage?{query}",
        data=f"{body}&signature={signature}",
        headers={"X-MBX-APIKEY": emulator.api_key, "Content-Type": "application/x-www-form-urlencoded"},
        timeout=5,
    )
    assert response.json()["leverage"] == 10


@pytest.mark.parametrize(
    ("shift_ms", "window", "code"),
    [(-4000, 5000, 0), (-6000, 5000, -1021), (900, 5000, 0), (1900, 5000, -1021), (-20000, 30000, 0)],
)
def test_a_timestamp_outside_its_window_is_refused(
    emulator: EmulatorThread, shift_ms: int, window: int, code: int
) -> None:
    query = urlencode({"timestamp": now() + shift_ms, "recvWindow": window})
    assert balance(emulator, f"{query}&signature={sign(emulator.api_secret, query)}")[1] == code


def test_a_missing_timestamp_is_named(emulator: EmulatorThread) -> None:
    query = "recvWindow=5000"
    assert balance(emulator, f"{query}&signature={sign(emulator.api_secret, query)}") == (400, -1102)


def test_a_client_that_read_a_stepped_clock_keeps_passing_after_the_clock_moved_on() -> None:
    with EmulatorThread(EmulatorConfig(made_candles=50, history_candles=10, **NO_LIMITS)) as emulator:
        client = ccxt_client(emulator)
        client.load_markets()
        assert client.options["timeDifference"] > 1_000_000
        emulator.step(20)
        assert client.fetch_balance()["USDT"]["total"] == 10000


def test_a_clock_set_off_is_noticed_until_the_client_reads_it_again() -> None:
    with EmulatorThread(EmulatorConfig(made_candles=50, history_candles=10, **NO_LIMITS)) as emulator:
        client = ccxt_client(emulator)
        client.load_markets()
        emulator.set_clock_offset(90_000)
        with pytest.raises(ccxt.InvalidNonce):
            client.fetch_balance()
        client.load_time_difference()
        assert client.fetch_balance()["USDT"]["total"] == 10000


def test_answers_carry_the_usage_headers() -> None:
    with EmulatorThread(EmulatorConfig(made_candles=50, history_candles=10)) as emulator:
        first = requests.get(f"{emulator.url}/fapi/v1/time", timeout=5).headers
        url = f"{emulator.url}/fapi/v1/klines?symbol=BTCUSDT&interval=5m&limit=1000"
        second = requests.get(url, timeout=5).headers
        assert (first["X-MBX-USED-WEIGHT-1M"], second["X-MBX-USED-WEIGHT-1M"]) == ("1", "6")
        assert second["X-MBX-ORDER-COUNT-10S"] == "0"


def test_too_much_weight_is_refused_with_429_and_stubbornness_with_418() -> None:
    config = EmulatorConfig(weight_limit_1m=3, ban_seconds=0.3, made_candles=50, history_candles=10)
    with EmulatorThread(config) as emulator:
        url = f"{emulator.url}/fapi/v1/time"
        answers = [requests.get(url, timeout=5) for _ in range(15)]
        assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 10 + [418] * 2
        assert {answer.json()["code"] for answer in answers[3:]} == {-1003}
        assert 1 <= int(answers[3].headers["Retry-After"]) <= 60
        assert "banned until" in answers[-1].json()["msg"]
        time.sleep(0.35)
        assert requests.get(url, timeout=5).status_code == 429


def test_too_many_orders_are_refused_with_their_own_code() -> None:
    config = EmulatorConfig(order_limit_10s=2, made_candles=50, history_candles=10)
    with EmulatorThread(config) as emulator, BareClient(emulator) as client:
        answers = [client.order("BUY", "0.01") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[2].json()["code"] == -1015
        assert len(emulator.ledger()["orders"]) == 2


def test_the_request_log_counts_orders_by_client_id(emulator: EmulatorThread) -> None:
    emulator.requests(clear=True)
    with BareClient(emulator) as client:
        client.order("BUY", "0.01", newClientOrderId="counted")
    rows = emulator.requests()
    assert [(row["method"], row["path"], row["status"]) for row in rows] == [("POST", "/fapi/v1/order", 200)]
    assert rows[0]["parameters"]["newClientOrderId"] == "counted"
    assert "signature" not in rows[0]["parameters"]
