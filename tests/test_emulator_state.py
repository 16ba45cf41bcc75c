"""The state file: an account survives a clean restart and a SIGKILL, with its keys, clock and open orders."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from emulator_kit import NO_LIMITS, BareClient, flat, write_candles

from smm_bt.emulator import EmulatorConfig, EmulatorThread
from smm_bt.emulator.state_file import StateFileError

ROOT = Path(__file__).parents[1]


def configuration(tmp_path: Path) -> EmulatorConfig:
    rows = [*flat(50000, 2), *flat(50500, 6)]
    return EmulatorConfig(
        candles=(write_candles(tmp_path, rows),),
        history_candles=1,
        state=tmp_path / "account.sqlite",
        **NO_LIMITS,
    )


def test_a_restarted_exchange_goes_on_where_it_was(tmp_path: Path) -> None:
    with EmulatorThread(configuration(tmp_path)) as first, BareClient(first) as client:
        client.send("POST", "/fapi/v1/marginType", symbol="BTCUSDT", marginType="ISOLATED")
        client.send("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=10)
        client.order("BUY", "0.1")
        limit = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "price": "49000"}
        client.send("POST", "/fapi/v1/order", quantity="0.1", newClientOrderId="rests", **limit)
        first.step()
        before, key = first.ledger(), first.api_key
    with EmulatorThread(configuration(tmp_path)) as second, BareClient(second) as client:
        assert second.ledger() == before
        assert second.api_key == key
        assert client.order("SELL", "0.1", reduceOnly="true").json()["avgPrice"] == "50500"
        open_orders = client.send("GET", "/fapi/v1/openOrders", symbol="BTCUSDT").json()
        assert [row["clientOrderId"] for row in open_orders] == ["rests"]
        numbers = [row["order_id"] for row in second.ledger()["orders"]]
        assert numbers == sorted(set(numbers))


def launch(tmp_path: Path, *options: str) -> tuple[subprocess.Popen[str], SimpleNamespace]:
    command = [sys.executable, "-W", "error", "-m", "smm_bt.emulator", "--control", "--no-limits", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    line = json.loads(process.stdout.readline())
    return process, SimpleNamespace(**line)


def stop(process: subprocess.Popen[str], number: signal.Signals) -> int:
    os.kill(process.pid, number)
    code = process.wait(10)
    assert process.stdout is not None
    process.stdout.close()
    return code


def control(venue: SimpleNamespace, action: str, **body: Any) -> Any:
    return requests.post(f"{venue.url}/emulator/{action}", json=body, timeout=10).json()


def test_an_account_survives_a_sigkill_with_every_answered_order(tmp_path: Path) -> None:
    candles = write_candles(tmp_path, flat(50000, 50))
    options = ["--candles", str(candles), "--history", "1", "--speed", "step"]
    options += ["--state", str(tmp_path / "account.sqlite")]
    process, venue = launch(tmp_path, *options)
    with BareClient(venue) as client:  # type: ignore[arg-type]
        answered = [client.order("BUY", "0.01").json()["orderId"] for _ in range(20)]
        control(venue, "step", candles=3)
        answered += [client.order("SELL", "0.01").json()["orderId"] for _ in range(5)]
    assert stop(process, signal.SIGKILL) == -signal.SIGKILL

    process, venue = launch(tmp_path, *options)
    ledger = requests.get(f"{venue.url}/emulator/ledger", timeout=10).json()
    assert [row["order_id"] for row in ledger["orders"]] == answered
    assert {row["status"] for row in ledger["orders"]} == {"FILLED"}
    assert Decimal(ledger["wallet"]) == 10000 + sum(Decimal(row["amount"]) for row in ledger["income"])
    assert Decimal(ledger["positions"][0]["positionAmt"]) == Decimal("0.15")
    with BareClient(venue) as client:  # type: ignore[arg-type]
        assert client.order("SELL", "0.15", reduceOnly="true").status_code == 200
    assert stop(process, signal.SIGTERM) == 0


def test_a_running_clock_runs_on_while_the_exchange_is_down(tmp_path: Path) -> None:
    options = ["--speed", "100", "--state", str(tmp_path / "account.sqlite"), "--symbols", "BTCUSDT"]
    process, venue = launch(tmp_path, *options)
    first = requests.get(f"{venue.url}/fapi/v1/time", timeout=10).json()["serverTime"]
    candles = requests.get(f"{venue.url}/fapi/v1/klines?symbol=BTCUSDT&interval=5m&limit=9", timeout=10).json()
    stop(process, signal.SIGKILL)
    time.sleep(0.2)
    process, venue = launch(tmp_path, *options)
    second = requests.get(f"{venue.url}/fapi/v1/time", timeout=10).json()["serverTime"]
    again = requests.get(f"{venue.url}/fapi/v1/klines?symbol=BTCUSDT&interval=5m&limit=99", timeout=10).json()
    stop(process, signal.SIGTERM)
    assert second - first > 20_000
    assert all(row in again for row in candles[:-1])


def test_a_state_file_of_another_market_or_of_another_program_is_refused(tmp_path: Path) -> None:
    with EmulatorThread(configuration(tmp_path)):
        pass
    write_candles(tmp_path, flat(40000, 5))
    with pytest.raises(StateFileError, match="another market"):
        EmulatorThread(replace(configuration(tmp_path), candles=(write_candles(tmp_path, flat(40000, 5)),)))
    (tmp_path / "account.sqlite").unlink()
    (tmp_path / "account.sqlite").write_text("not a database at all" * 100)
    with pytest.raises(StateFileError, match="not a state file"):
        EmulatorThread(configuration(tmp_path))


def test_another_speed_after_a_restart_goes_on_from_the_time_reached(tmp_path: Path) -> None:
    stepped = configuration(tmp_path)
    with EmulatorThread(stepped) as first:
        first.step(2)
        reached = first.status()["now_ms"]
    with EmulatorThread(replace(stepped, speed=10.0)) as second:
        assert 0 <= second.status()["now_ms"] - reached < 60_000


@pytest.mark.parametrize("wrong", [{"host": "0.0.0.0"}, {"speed": 0.0}, {"history_candles": -1}])
def test_a_configuration_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"loopback|speed|negative"):
        EmulatorConfig(**wrong)


def test_a_port_in_use_is_said_and_exits_with_1() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "smm_bt.emulator", "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=20)
    assert done.returncode == 1
    assert f"cannot listen on port {port}" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--candles", "README.md"], "does not say symbol and timeframe"),
        (["--candles", "BTCUSDT-5m.csv"], "there is no such file"),
        (["--symbols", "NOSUCHUSDT"], "is not in the exchange information"),
    ],
)
def test_the_command_says_what_it_cannot_use_and_exits_with_2(options: list[str], message: str) -> None:
    command = [sys.executable, "-m", "smm_bt.emulator", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=20)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
