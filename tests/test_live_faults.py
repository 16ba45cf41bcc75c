"""What goes wrong at the venue and on the way there: the run goes on by itself, in order, nothing twice."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from live_kit import (
    IN_AND_OUT,
    START_MS,
    files_of,
    live_process,
    rows_of,
    run_live,
    run_replay,
    strategy_file,
    trades_of,
    wait_for,
)
from venue_bench import QUICK, journal_at, stepped, store_of

from smm_bt.emulator import EmulatorConfig, EmulatorThread
from smm_bt.emulator.faults import FaultRule
from smm_bt.execution.ccxt_orders import Outcome, Piece, Ticket
from smm_bt.execution.order_ids import order_name
from smm_bt.execution.venue_account import VenueAccount
from smm_bt.model import OrderState

KLINES = "/fapi/v1/klines"
WIDE: dict[str, Any] = {"control": True, "weight_limit_1m": 0, "order_limit_10s": 0, "order_limit_1m": 0}


def spread(kind: str, times: int = 3, every: int = 17, **options: Any) -> tuple[FaultRule, ...]:
    """The same fault now and then."""
    path = options.pop("path", KLINES)
    return tuple(FaultRule(kind, path=path, skip=5 + every * number, **options) for number in range(times))


FAULTS: dict[str, tuple[FaultRule, ...]] = {
    "candles twice": spread("duplicate_candles", 8, 7),
    "candles out of order": spread("shuffled_candles", 8, 7),
    "candles late": spread("late_candles", 5, 11),
    "answers cut off": spread("malformed"),
    "pages instead of answers": spread("http") + spread("html", 2),
    "connections reset": spread("reset"),
    "too many requests": spread("http", 2, status=429, retry_after=1),
    "banned": spread("http", 1, status=418, retry_after=1),
    "no price for a moment": spread("reset", 6, 2, path="/fapi/v1/ticker/bookTicker"),
    "a venue whose clock is ahead": (FaultRule("clock", path=KLINES, skip=10, offset_ms=120_000),),
    "a venue whose clock is behind": (FaultRule("clock", path=KLINES, skip=10, offset_ms=-120_000),),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_changes_no_trade(name: str, tmp_path: Path) -> None:
    strategy, candles = strategy_file(tmp_path), files_of(tmp_path, count=60, seed=11)
    expected = run_replay(tmp_path / "replay", strategy, candles)
    with EmulatorThread(
        EmulatorConfig(candles=tuple(candles), start_ms=START_MS, faults=FAULTS[name], **WIDE)
    ) as venue:
        run_live(tmp_path / "run", strategy, candles, address=venue.url)
    assert trades_of(tmp_path / "run") == expected
    assert len(expected) > 3


def test_an_entry_that_never_arrived_is_not_sent_once_its_signal_is_old(tmp_path: Path) -> None:
    patience = dataclasses.replace(QUICK, fresh_s=0.2)
    with EmulatorThread(stepped()) as venue:
        account = store_of(venue, patience=patience).open_account()
        venue.add_fault(FaultRule("reset", method="POST", path="/fapi/v1/order", when="before"))
        name = order_name("BTCUSDT", "BTCUSDT-1-entry", START_MS)
        outcome = account.execute(Ticket("BTCUSDT-1-entry", name, 1, (Piece(Decimal("0.1"), False),), "manual"))
        assert outcome.state is OrderState.REJECTED
        assert "too late for an entry" in outcome.why
        assert venue.ledger()["orders"] == []


def send_one(account: VenueAccount, intent: str, side: int, *, closes: bool) -> Outcome:
    name = order_name("BTCUSDT", f"BTCUSDT-{START_MS}-{intent}", START_MS)
    pieces = (Piece(Decimal("0.1"), closes),)
    return account.execute(Ticket(f"BTCUSDT-{START_MS}-{intent}", name, side, pieces, "manual"))


def quiet_wanted(seconds: int) -> FaultRule:
    return FaultRule("error", method="POST", path="/fapi/v1/order", code=-1003, status=418, retry_after=seconds)


def test_an_entry_is_not_sent_again_when_the_venue_wanted_quiet_for_longer_than_its_signal_is_fresh() -> None:
    patience = dataclasses.replace(QUICK, fresh_s=0.5)
    with EmulatorThread(stepped()) as venue:
        account = store_of(venue, patience=patience).open_account()
        venue.add_fault(quiet_wanted(1))
        outcome = send_one(account, "entry", 1, closes=False)
        assert outcome.state is OrderState.REJECTED
        assert "too late for an entry" in outcome.why
        assert venue.ledger()["orders"] == []


def test_a_close_is_sent_however_long_the_venue_wanted_quiet() -> None:
    patience = dataclasses.replace(QUICK, fresh_s=0.5)
    with EmulatorThread(stepped()) as venue:
        account = store_of(venue, patience=patience).open_account()
        send_one(account, "entry", 1, closes=False)
        venue.add_fault(quiet_wanted(1))
        assert send_one(account, "close", -1, closes=True).state is OrderState.FILLED
        assert venue.ledger()["positions"] == []


def test_an_entry_that_had_to_wait_for_quiet_before_it_was_sent_is_dropped_when_its_candle_is_stale(
    tmp_path: Path,
) -> None:
    journal = journal_at(tmp_path)
    with EmulatorThread(stepped()) as venue:
        stale_at_s = time.monotonic() + 0.5
        store = store_of(venue, recorder=journal, is_fresh=lambda open_ms: time.monotonic() < stale_at_s)
        account = store.open_account()
        account.client.wire.budget.pause(1.0)
        outcome = send_one(account, "entry", -1, closes=False)
        assert outcome.state is OrderState.REJECTED
        assert venue.ledger()["orders"] == []
        assert not [row for row in venue.requests() if (row["method"], row["path"]) == ("POST", "/fapi/v1/order")]
    (dropped,) = journal.events("entry_dropped")
    assert json.loads(dropped["data"]) == {"candle_ms": START_MS}
    assert (dropped["symbol"], dropped["message"].split(":")[0]) == ("BTCUSDT", "entry short dropped")
    assert journal.orders(unfinished_only=True) == []
    journal.close()


def test_an_outage_is_said_once_and_waited_out(tmp_path: Path) -> None:
    strategy, candles = strategy_file(tmp_path), files_of(tmp_path, count=50, seed=12)
    expected = run_replay(tmp_path / "replay", strategy, candles)
    outage = (FaultRule("reset", path=KLINES, skip=20, count=5),)
    with EmulatorThread(EmulatorConfig(candles=tuple(candles), start_ms=START_MS, faults=outage, **WIDE)) as venue:
        run_live(tmp_path / "run", strategy, candles, address=venue.url)
    assert trades_of(tmp_path / "run") == expected
    kinds = [row[0] for row in rows_of(tmp_path / "run", "SELECT kind FROM events")]
    assert kinds.count("connection_lost") == kinds.count("connection_restored") == 1


def test_a_candle_that_does_not_come_is_gone_on_without_and_taken_in_later(tmp_path: Path) -> None:
    strategy, candles = strategy_file(tmp_path), files_of(tmp_path, ("BTCUSDT", "ETHUSDT"), count=40, seed=13)
    late = FaultRule("late_candles", path=KLINES, where={"symbol": "ETHUSDT"}, skip=12, count=3)
    with EmulatorThread(EmulatorConfig(candles=tuple(candles), start_ms=START_MS, faults=(late,), **WIDE)) as venue:
        run_live(tmp_path / "run", strategy, candles, address=venue.url)
    progress = rows_of(tmp_path / "run", "SELECT symbol, candles, missing_candles FROM progress ORDER BY symbol")
    assert progress == [("BTCUSDT", 40, 0), ("ETHUSDT", 40, 0)]
    (message,) = [
        row[0] for row in rows_of(tmp_path / "run", "SELECT message FROM events WHERE kind = 'candle_absent'")
    ]
    assert "ETHUSDT" in message
    assert rows_of(tmp_path / "run", "SELECT count(*) FROM equity") == [(40,)]


def test_candles_missed_while_the_bot_was_down_open_nothing_but_are_looked_at(tmp_path: Path) -> None:
    strategy = strategy_file(tmp_path)
    candles = files_of(tmp_path, count=80, seed=14, volatility=0.01)
    settings = {"CLOSE_ON_OPPOSITE_SIGNAL": True, "STRATEGY_PARAMETERS": {"density": 0.4}}
    with EmulatorThread(EmulatorConfig(candles=tuple(candles), start_ms=START_MS, **WIDE)) as venue:
        run_live(tmp_path / "run", strategy, candles, address=venue.url, settings=settings, max_candles=30)
        (before,) = rows_of(tmp_path / "run", "SELECT last_ms FROM progress")[0]
        venue.step(20)
        run_live(tmp_path / "run", strategy, candles, address=venue.url, resume=True)
    newest = before + 20 * 300_000
    assert rows_of(tmp_path / "run", "SELECT candles, missing_candles FROM progress") == [(80, 0)]
    inside = f"candle_ms > {before} AND candle_ms < {newest}"
    assert rows_of(tmp_path / "run", f"SELECT count(*) FROM decisions WHERE entry_side != 0 AND {inside}") == [(0,)]
    assert rows_of(tmp_path / "run", "SELECT count(*) FROM events WHERE kind = 'entry_dropped'")[0][0] > 0
    closed = f"SELECT close_reason, exit_ms FROM trades WHERE exit_ms > {before + 300_000} ORDER BY exit_ms LIMIT 1"
    reason, exit_ms = rows_of(tmp_path / "run", closed)[0]
    assert reason in ("profit_target", "opposite_signal")
    assert exit_ms == newest + 300_000  # when the bot was back, not when it should have happened


@pytest.mark.parametrize("seconds", [1.5])
def test_candles_that_pass_during_an_outage_are_filled_in_in_order(tmp_path: Path, seconds: float) -> None:
    strategy = strategy_file(tmp_path)
    config = EmulatorConfig(symbols=("BTCUSDT",), speed=1500.0, history_candles=200, made_candles=5000, **WIDE)
    with EmulatorThread(config) as venue:
        arguments = ["--strategy", strategy, "--address", venue.url, "--speed", "1500", "--set", "WARMUP_CANDLES=100"]
        run = tmp_path / "run"
        with live_process(*arguments, "--out", run, "--no-pages", cwd=tmp_path) as process:
            wait_for(run, "SELECT count(*) FROM equity", at_least=5)
            venue.add_fault(FaultRule("http", path="/fapi/*", count=None))
            time.sleep(seconds)
            venue.clear_faults()
            passed = rows_of(run, "SELECT count(*) FROM equity")[0][0]
            wait_for(run, "SELECT count(*) FROM equity", at_least=passed + int(seconds * 5) + 5)
            os.kill(process.pid, signal.SIGINT)
            _, complaints = process.communicate(timeout=60)
    assert process.returncode == 0, complaints
    first, last, count = rows_of(run, "SELECT first_ms, last_ms, candles FROM progress")[0]
    assert count == (last - first) // 300_000 + 1
    times = [row[0] for row in rows_of(run, "SELECT time_ms FROM equity")]
    assert times == list(range(first, last + 1, 300_000))
    kinds = [row[0] for row in rows_of(run, "SELECT kind FROM events")]
    assert kinds.count("connection_lost") == kinds.count("connection_restored") >= 1
    assert "gap" not in kinds


def test_a_venue_that_disappears_for_good_is_waited_for_until_a_person_ends_the_run(tmp_path: Path) -> None:
    strategy = strategy_file(tmp_path)
    config = EmulatorConfig(symbols=("BTCUSDT",), speed=1500.0, history_candles=200, made_candles=5000, **WIDE)
    run = tmp_path / "run"
    with EmulatorThread(config) as venue:
        arguments = ["--strategy", strategy, "--address", venue.url, "--speed", "1500", "--set", "WARMUP_CANDLES=100"]
        with live_process(*arguments, "--out", run, "--no-pages", cwd=tmp_path) as process:
            wait_for(run, "SELECT count(*) FROM equity", at_least=5)
            venue.add_fault(FaultRule("reset", path="/fapi/*", count=None))
            wait_for(run, "SELECT count(*) FROM events WHERE kind = 'connection_lost'")
            begin = time.monotonic()
            os.kill(process.pid, signal.SIGINT)
            said, complaints = process.communicate(timeout=60)
    assert process.returncode == 0, complaints
    assert "connection lost" in said
    assert time.monotonic() - begin < 20


def test_where_symbols_stop_trading_an_entry_gets_too_old_and_a_close_waits(tmp_path: Path) -> None:
    (tmp_path / "in_and_out.py").write_text(IN_AND_OUT, "utf-8")
    holes = {"BTCUSDT": (3, 4, 5, 6, 7), "ETHUSDT": (4, 5, 6, 7)}
    candles = files_of(tmp_path, ("BTCUSDT", "ETHUSDT", "SOLUSDT"), count=10, gaps_of=holes)
    run_live(tmp_path / "live", tmp_path / "in_and_out.py", candles, speed=60.0)
    events = rows_of(tmp_path / "live", "SELECT symbol, message, data FROM events WHERE kind = 'entry_dropped'")
    (dropped,) = [row for row in events if row[0] == "BTCUSDT"]  # of the candle before its hole
    assert json.loads(dropped[2])["candle_ms"] == START_MS + 2 * 300_000
    assert "while its candle was fresh" in dropped[1]
    exits = {row["exit_order_id"]: row["exit_time"] for row in trades_of(tmp_path / "live")}
    waited = datetime.fromisoformat(exits[f"ETHUSDT-{START_MS + 3 * 300_000}-close"]).timestamp() * 1000
    assert START_MS + 8 * 300_000 <= waited < START_MS + 9 * 300_000


def test_an_entry_the_venue_made_wait_is_dropped_and_no_candle_from_before_it_touches_a_position(
    tmp_path: Path,
) -> None:
    (tmp_path / "in_and_out.py").write_text(IN_AND_OUT, "utf-8")
    candles = files_of(tmp_path, count=40, volatility=0.004)
    bans = [
        FaultRule("http", path="/fapi/v1/ticker/bookTicker", skip=skip, status=418, retry_after=4) for skip in (4, 9)
    ]
    config = EmulatorConfig(candles=tuple(candles), start_ms=START_MS, speed=300.0, faults=tuple(bans), **WIDE)
    with EmulatorThread(config) as exchange:
        run_live(
            tmp_path / "live",
            tmp_path / "in_and_out.py",
            candles,
            speed=300.0,
            address=exchange.url,
            settings={"STOP_LOSS_PERCENT": 0.1},
        )
    trades = trades_of(tmp_path / "live")
    assert len(trades) > 5
    assert all(row["entry_time"] <= row["exit_time"] for row in trades)
    for row in trades:
        decided_ms = int(row["entry_order_id"].split("-")[1]) + 300_000
        assert datetime.fromisoformat(row["entry_time"]).timestamp() * 1000 - decided_ms <= 300_000, row
    asked = "SELECT message FROM events WHERE kind = 'entry_dropped'"
    assert any("while its candle was fresh" in message for (message,) in rows_of(tmp_path / "live", asked))
