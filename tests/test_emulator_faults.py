"""Faults on request: what the client sees, and whether the order was executed all the same."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ccxt
import pytest
import requests
from emulator_kit import NO_LIMITS, BareClient, ccxt_client, flat, write_candles

from smm_bt.emulator import EmulatorConfig, EmulatorThread, FaultRule
from smm_bt.emulator.faults import KINDS, FaultPlan

BTC = "BTC/USDT:USDT"
ORDER = {"method": "POST", "path": "/fapi/v1/order"}


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[EmulatorThread]:
    rows = [(price, price + 10, price - 10, price + 5) for price in range(50000, 50100, 10)]
    config = EmulatorConfig(candles=(write_candles(tmp_path, rows),), history_candles=6, **NO_LIMITS)
    with EmulatorThread(config) as running:
        yield running


@pytest.fixture
def client(emulator: EmulatorThread) -> Iterator[BareClient]:
    with BareClient(emulator) as bare:
        yield bare


def executed(emulator: EmulatorThread) -> int:
    return len(emulator.ledger()["trades"])


@pytest.mark.parametrize(
    "code",
    [-1001, -1003, -1006, -1007, -1008, -1021, -1109, -2019, -2022, -4061, -4067, -4116, -4131, -4164],
)
@pytest.mark.parametrize(("when", "trades"), [("before", 0), ("after", 1)])
def test_an_error_code_is_answered_before_or_after_the_order_took_effect(
    emulator: EmulatorThread, client: BareClient, code: int, when: str, trades: int
) -> None:
    emulator.add_fault(FaultRule("error", **ORDER, code=code, when=when))
    answer = client.order("BUY", "0.01")
    assert answer.status_code >= 400
    assert answer.json()["code"] == code
    assert executed(emulator) == trades
    assert client.order("BUY", "0.01").status_code == 200


def test_a_client_that_vanishes_in_the_middle_of_a_request_leaves_no_traceback(
    emulator: EmulatorThread, client: BareClient, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(("127.0.0.1", int(emulator.url.rpartition(":")[2]))) as vanishing:
        vanishing.sendall(b"POST /fapi/v1/order HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nsymbol=")
        time.sleep(0.2)
        vanishing.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    time.sleep(0.2)
    assert requests.get(f"{emulator.url}/fapi/v1/time", timeout=5).ok
    assert not caplog.records
    assert executed(emulator) == 0


@pytest.mark.parametrize(("when", "trades"), [("before", 0), ("after", 1)])
def test_a_connection_reset_leaves_the_client_without_an_answer(
    emulator: EmulatorThread, client: BareClient, when: str, trades: int
) -> None:
    emulator.add_fault(FaultRule("reset", **ORDER, when=when))
    with pytest.raises(requests.exceptions.ConnectionError):
        client.order("BUY", "0.01")
    assert executed(emulator) == trades


@pytest.mark.parametrize(("when", "trades"), [("before", 0), ("after", 1)])
@pytest.mark.parametrize(
    ("fault", "status", "body"),
    [
        ({"kind": "http", "status": 502}, 502, "<html>"),
        ({"kind": "http", "status": 503, "empty": True}, 503, ""),
        ({"kind": "http", "status": 403}, 403, "<html>"),
        ({"kind": "html"}, 200, "<html>"),
    ],
)
def test_pages_instead_of_json_come_before_or_after_the_order_took_effect(
    emulator: EmulatorThread,
    client: BareClient,
    fault: dict[str, Any],
    status: int,
    body: str,
    when: str,
    trades: int,
) -> None:
    emulator.add_fault(FaultRule(**fault, **ORDER, when=when))
    answer = client.order("BUY", "0.01")
    assert (answer.status_code, answer.text[: len(body)]) == (status, body)
    assert executed(emulator) == trades


def test_a_ban_on_request_says_how_long_to_wait(emulator: EmulatorThread, client: BareClient) -> None:
    emulator.add_fault(FaultRule("error", **ORDER, code=-1003, status=418, retry_after=7, text="banned"))
    answer = client.order("BUY", "0.01")
    assert (answer.status_code, answer.headers["Retry-After"], answer.json()["msg"]) == (418, "7", "banned")


def test_malformed_json_hides_an_executed_order(emulator: EmulatorThread, client: BareClient) -> None:
    emulator.add_fault(FaultRule("malformed", **ORDER))
    with pytest.raises(requests.exceptions.JSONDecodeError):
        client.order("BUY", "0.01").json()
    assert executed(emulator) == 1


def test_a_delay_after_execution_outlasts_the_clients_patience(emulator: EmulatorThread) -> None:
    exchange = ccxt_client(emulator)
    exchange.load_markets()
    exchange.timeout = 200
    emulator.add_fault(FaultRule("delay", **ORDER, delay_ms=600, when="after"))
    with pytest.raises(ccxt.RequestTimeout):
        exchange.create_order(BTC, "market", "buy", 0.01)
    deadline = time.monotonic() + 5
    while not executed(emulator) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert executed(emulator) == 1


def test_a_delay_before_execution_holds_the_order_back(emulator: EmulatorThread, client: BareClient) -> None:
    emulator.add_fault(FaultRule("delay", **ORDER, delay_ms=150))
    began = time.monotonic()
    assert client.order("BUY", "0.01").status_code == 200
    assert time.monotonic() - began > 0.14


def test_an_order_is_unknown_just_after_placing_when_asked_to(emulator: EmulatorThread, client: BareClient) -> None:
    emulator.add_fault(FaultRule("error", "GET", "/fapi/v1/order", code=-2013, count=2))
    number = client.order("BUY", "0.01").json()["orderId"]
    answers = [client.send("GET", "/fapi/v1/order", symbol="BTCUSDT", orderId=number) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [400, 400, 200]


def test_a_partial_fill_is_completed_by_the_next_step(emulator: EmulatorThread, client: BareClient) -> None:
    emulator.add_fault(FaultRule("partial_fill", **ORDER, share="0.25"))
    order = client.order("BUY", "0.04").json()
    assert (order["status"], order["executedQty"]) == ("PARTIALLY_FILLED", "0.01")
    emulator.step()
    done = client.send("GET", "/fapi/v1/order", symbol="BTCUSDT", orderId=order["orderId"]).json()
    assert (done["status"], done["executedQty"], executed(emulator)) == ("FILLED", "0.04", 2)


def test_a_partial_fill_is_completed_after_a_few_requests_too(emulator: EmulatorThread, client: BareClient) -> None:
    emulator.add_fault(FaultRule("partial_fill", **ORDER))
    number = client.order("BUY", "0.04").json()["orderId"]
    ask = {"symbol": "BTCUSDT", "orderId": number}
    states = [client.send("GET", "/fapi/v1/order", **ask).json()["status"] for _ in range(3)]
    assert states == ["PARTIALLY_FILLED", "PARTIALLY_FILLED", "FILLED"]


def test_the_rest_of_a_partial_fill_may_expire(emulator: EmulatorThread, client: BareClient) -> None:
    emulator.add_fault(FaultRule("partial_fill", **ORDER, share="0.5", rest="expire"))
    order = client.order("BUY", "0.04").json()
    assert (order["status"], order["executedQty"], executed(emulator)) == ("EXPIRED", "0.02", 1)


def kline_times(emulator: EmulatorThread) -> list[int]:
    url = f"{emulator.url}/fapi/v1/klines?symbol=BTCUSDT&interval=5m&limit=4"
    return [row[0] // 300_000 % 1000 for row in requests.get(url, timeout=5).json()]


def test_candles_come_late_twice_or_out_of_order(emulator: EmulatorThread) -> None:
    first, second, third, forming = kline_times(emulator)
    for kind in ("late_candles", "duplicate_candles", "shuffled_candles"):
        emulator.add_fault(FaultRule(kind, "GET", "/fapi/v1/klines"))
        spoiled = {
            "late_candles": [first, second],
            "duplicate_candles": [first, second, third, third, forming],
            "shuffled_candles": [first, third, second, forming],
        }
        assert kline_times(emulator) == spoiled[kind]
        assert kline_times(emulator) == [first, second, third, forming]


def test_a_rule_names_parameters_skips_and_counts(emulator: EmulatorThread, client: BareClient) -> None:
    rule = FaultRule("error", **ORDER, where={"reduceOnly": "true"}, skip=1, count=2, code=-1001)
    emulator.add_fault(rule)
    client.order("BUY", "0.05")
    closes = [client.order("SELL", "0.01", reduceOnly="true").status_code for _ in range(4)]
    assert closes == [200, 503, 503, 200]
    assert client.order("SELL", "0.01").status_code == 200


def test_a_probability_hits_about_its_share_and_repeats_with_its_seed() -> None:
    def hits(seed: int) -> list[int]:
        plan = FaultPlan([FaultRule("error", probability=0.3, count=None)], seed)
        return [len(plan.take("GET", "/fapi/v1/time", {})) for _ in range(1000)]

    assert 230 < sum(hits(1)) < 370
    assert hits(1) == hits(1) != hits(2)


def test_the_control_endpoint_adds_lists_and_drops_rules(tmp_path: Path) -> None:
    files = (write_candles(tmp_path, flat(50000, 9)),)
    config = EmulatorConfig(candles=files, history_candles=2, control=True, **NO_LIMITS)
    with EmulatorThread(config) as emulator:
        control = f"{emulator.url}/emulator"
        rule = {"kind": "error", "path": "/fapi/v1/time", "code": -1008, "count": 1}
        added = requests.post(f"{control}/faults", json=[rule], timeout=5).json()
        assert added[0]["code"] == -1008
        assert requests.get(f"{emulator.url}/fapi/v1/time", timeout=5).status_code == 503
        assert requests.get(f"{control}/faults", timeout=5).json() == []
        assert requests.post(f"{control}/faults", json={"kind": "flood"}, timeout=5).status_code == 400
        before = requests.get(f"{control}/status", timeout=5).json()
        after = requests.post(f"{control}/step", json={"candles": 3}, timeout=5).json()
        assert after["now_ms"] - before["now_ms"] == 900_000
        assert requests.get(f"{control}/ledger", timeout=5).json()["wallet"] == "10000"
        assert len(requests.get(f"{control}/requests", timeout=5).json()) == 1
        assert requests.post(f"{control}/clock", json={"offset_ms": 5}, timeout=5).status_code == 200
        assert requests.get(f"{control}/nothing", timeout=5).status_code == 400


def test_the_control_endpoint_does_not_exist_unless_asked_for(emulator: EmulatorThread) -> None:
    assert requests.get(f"{emulator.url}/emulator/status", timeout=5).status_code == 404


def test_stepping_past_the_last_candle_says_so(emulator: EmulatorThread) -> None:
    assert emulator.step(4) is True
    assert emulator.status()["finished"] is True
    assert emulator.step() is False


@pytest.mark.parametrize(
    "wrong",
    [{"kind": "flood"}, {"kind": "error", "when": "during"}, {"kind": "partial_fill", "share": "1.5"}],
)
def test_a_rule_that_makes_no_sense_is_refused_with_what_was_found(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"found|unknown"):
        FaultRule.from_row(wrong)


def test_an_unknown_field_of_a_rule_is_named() -> None:
    with pytest.raises(ValueError, match="'tomorrow' is unknown"):
        FaultRule.from_row({"kind": "error", "tomorrow": 1})


def test_every_kind_of_fault_is_in_the_documents_table() -> None:
    page = (Path(__file__).parents[1] / "docs" / "embedded_exchange.md").read_text(encoding="utf-8")
    assert [kind for kind in KINDS if f"| `{kind}` |" not in page] == []
