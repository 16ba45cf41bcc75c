"""A live run killed with SIGKILL at any instant goes on from its journal: nothing doubled, nothing lost.

``SMM_BT_KILLS=100`` kills a hundred times in each mode; a few are enough for every day.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from live_kit import (
    IN_AND_OUT,
    START_MS,
    files_of,
    live_process,
    quiet,
    report_of,
    rows_of,
    run_live,
    run_replay,
    strategy_file,
    trades_of,
    wait_for,
)

from smm_bt.analytics.journal import Journal
from smm_bt.app.live_finish import mark_failed
from smm_bt.app.live_folder import latest_live_run
from smm_bt.app.rebuild import RebuildRequest, rebuild
from smm_bt.app.settings import load_settings
from smm_bt.emulator import EmulatorConfig, EmulatorThread
from smm_bt.emulator.faults import FaultRule
from smm_bt.errors import RunFailed, UsageError
from strategy.contract import StrategyRefused

#: Every kill costs a few seconds.
pytestmark = pytest.mark.timeout(300 + 20 * int(os.environ.get("SMM_BT_KILLS", "2")))

KILLS = int(os.environ.get("SMM_BT_KILLS", "2"))
STEPS = "SELECT count(*) FROM equity"
#: An order's id without the number it has when it was made again.
PLAIN_ID = re.compile(r"[A-Z]+-\d+-[a-z]+")
NUMBER = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?")


def kill_often(folder: Path, run: Path, arguments: list[Any], kills: int, **environment: str) -> int:
    """Start the run, kill it after a random time, resume it, and so on; return how often it was killed.

    One kill in four falls into the start, the others into the trading.
    """
    chance = random.Random(kills)
    killed = 0
    while True:
        more = ["--resume"] if run.exists() else []
        with live_process(*arguments, *more, "--out", run, "--no-pages", cwd=folder, **environment) as process:
            if killed < kills:
                if chance.random() < 0.25:
                    time.sleep(chance.uniform(0.3, 2.5))
                else:
                    wait_or_end(run, process, steps_of(run) + chance.randrange(1, 10))
                    time.sleep(chance.random() * 0.03)
                if process.poll() is None:
                    os.kill(process.pid, signal.SIGKILL)
                    process.wait(30)
                    killed += 1
            else:
                process.wait(240)
            if process.returncode != -signal.SIGKILL:
                output = process.communicate()
                assert process.returncode == 0, output
                return killed


def steps_of(run: Path) -> int:
    """Return how many steps a run's journal has, 0 where there is none yet."""
    try:
        return int(rows_of(run, STEPS)[0][0])
    except sqlite3.OperationalError:
        return 0


def wait_or_end(run: Path, process: subprocess.Popen[str], steps: int) -> None:
    end = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < end and steps_of(run) < steps:
        time.sleep(0.005)


def test_paper_killed_at_random_instants_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    count = max(50, KILLS * 14)
    strategy, candles = strategy_file(tmp_path), files_of(tmp_path, ("BTCUSDT", "ETHUSDT"), count=count, seed=6)
    expected = run_replay(tmp_path / "replay", strategy, candles)
    files = [part for path in candles for part in ("--candles", path)]
    run = tmp_path / "run"
    arguments = ["--strategy", strategy, "--market", "embedded", "--speed", "max", *files]
    assert kill_often(tmp_path, run, arguments, KILLS) == KILLS
    assert trades_of(run) == expected
    assert report_of(run)["final_equity"] == report_of(tmp_path / "replay")["final_equity"]
    assert report_of(run)["max_drawdown"] == report_of(tmp_path / "replay")["max_drawdown"]


def test_testnet_killed_at_random_instants_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """The exchange keeps running and stands still meanwhile: no candle is missed, so no trade may be."""
    count = max(45, KILLS * 14)
    strategy, candles = strategy_file(tmp_path), files_of(tmp_path, ("BTCUSDT", "ETHUSDT"), count=count, seed=7)
    wide = {"weight_limit_1m": 0, "order_limit_10s": 0, "order_limit_1m": 0}
    config = EmulatorConfig(candles=tuple(candles), start_ms=START_MS, control=True, **wide)
    with EmulatorThread(config) as exchange:
        run_live(
            tmp_path / "whole",
            strategy,
            candles,
            address=exchange.url,
            settings={"TRADING_MODE": "TESTNET", **keys_of(exchange)},
        )
    files = [part for path in candles for part in ("--candles", path)]
    run = tmp_path / "run"
    with EmulatorThread(config) as exchange:
        arguments = ["--mode", "TESTNET", "--strategy", strategy, "--address", exchange.url, "--speed", "max", *files]
        assert kill_often(tmp_path, run, arguments, KILLS, **keys_of(exchange), RUNS_DIR=str(tmp_path)) == KILLS
        venue = exchange.ledger()
    agree_with_venue(run, venue)
    mine, theirs = ([as_traded(trade) for trade in trades_of(tmp_path / name)] for name in ("run", "whole"))
    assert mine == theirs
    assert len(theirs) > count / 10
    assert report_of(run)["final_equity"] == pytest.approx(report_of(tmp_path / "whole")["final_equity"], abs=1e-6)


def keys_of(exchange: EmulatorThread) -> dict[str, str]:
    return {"BINANCE_TESTNET_API_KEY": exchange.api_key, "BINANCE_TESTNET_API_SECRET": exchange.api_secret}


def as_traded(trade: dict[str, str]) -> dict[str, Any]:
    """A trade by its candles, times and money: an order that was made again has a number, a sum another last bit."""
    ids = {name: PLAIN_ID.match(trade[name])[0] for name in ("entry_order_id", "exit_order_id")}  # type: ignore[index]
    words = {name: value for name, value in trade.items() if name not in ids and not NUMBER.fullmatch(value)}
    numbers = {name: round(float(value), 6) for name, value in trade.items() if NUMBER.fullmatch(value)}
    return words | numbers | ids


def agree_with_venue(run: Path, venue: dict[str, Any]) -> None:
    """Every execution of the venue is booked once, the wallet is the venue's, no candle has two entries."""
    ids = Counter(row[0] for row in rows_of(run, "SELECT fill_id FROM fills"))
    assert set(ids.values()) <= {1}
    assert len(ids) == len(venue["trades"])
    bought = sum(row[0] for row in rows_of(run, "SELECT side * qty FROM fills"))
    there = sum(float(trade["qty"]) * (1 if trade["side"] == "BUY" else -1) for trade in venue["trades"])
    assert bought == pytest.approx(there, abs=1e-9)
    wallet = rows_of(run, "SELECT wallet_usdt FROM run")[0][0]
    assert wallet == pytest.approx(float(venue["wallet"]), abs=1e-6)
    filled = rows_of(run, "SELECT DISTINCT order_id FROM fills WHERE reduce_only = 0")
    entries = Counter(PLAIN_ID.match(order_id)[0] for (order_id,) in filled)  # type: ignore[index]
    assert set(entries.values()) <= {1}


def test_a_run_stopped_by_its_limit_goes_on_and_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    strategy, candles = strategy_file(tmp_path), files_of(tmp_path, count=90)
    expected = run_replay(tmp_path / "replay", strategy, candles)
    run_live(tmp_path / "run", strategy, candles, max_candles=41)
    assert len(trades_of(tmp_path / "run")) < len(expected)
    assert latest_live_run(tmp_path) == tmp_path / "run"
    result = run_live(tmp_path / "run", strategy, candles, resume=True)
    assert trades_of(tmp_path / "run") == expected
    assert result.record.decisions == sorted(result.record.decisions, key=lambda decision: decision.candle_ms)
    assert result.report["final_equity"] == report_of(tmp_path / "replay")["final_equity"]


@pytest.mark.parametrize("density", [0.0, 0.5])
def test_the_report_of_a_killed_run_finds_the_candle_files_it_was_played_from(density: float, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    strategy, candles = strategy_file(tmp_path), files_of(tmp_path / "files", ("BTCUSDT", "ETHUSDT"), count=60)
    settings = {"STRATEGY_PARAMETERS": {"density": density}}
    run = run_live(tmp_path / "run", strategy, candles, max_candles=20, settings=settings).folder
    with Journal.open(run / "journal.sqlite") as journal:  # as a killed process leaves it
        journal.update_run(replace(journal.run_info(), first_candle_ms=None, last_candle_ms=None, candles=0), "running")
    made = rebuild(RebuildRequest(load_settings({}, folder=tmp_path, environment={}), str(run), force=True), quiet())
    assert made["candles"] == 40
    assert bool(made["total_trades"]) == bool(density)
    assert (run / "chart.html").exists()


def test_the_report_of_a_run_that_failed_says_why(tmp_path: Path) -> None:
    strategy, candles = strategy_file(tmp_path), files_of(tmp_path, count=60)
    run = run_live(tmp_path / "run", strategy, candles, max_candles=20).folder
    with Journal.open(run / "journal.sqlite") as journal:
        mark_failed(journal, RunFailed("The venue has left."))
    made = rebuild(RebuildRequest(load_settings({}, folder=tmp_path, environment={}), str(run)), quiet())
    assert "The run failed: The venue has left. The figures are those of its journal." in str(made["notes"])


def test_a_run_stopped_after_a_hole_goes_on_with_as_many_candles_as_one_that_never_stopped(tmp_path: Path) -> None:
    strategy = tmp_path / "long_memory.py"
    strategy.write_text(
        "def compute_smm(df, n=30):\n"
        "    filled, up = df['close'].rolling(n).mean().notna(), df['close'] > df['open']\n"
        "    return {'buy_signal': filled & up, 'sell_signal': filled & ~up}\n",
        "utf-8",
    )
    candles, window = files_of(tmp_path, count=200, gaps=range(60, 160)), {"WARMUP_CANDLES": 50}
    expected = run_replay(tmp_path / "replay", strategy, candles)
    run_live(tmp_path / "run", strategy, candles, settings=window, max_candles=65)
    run_live(tmp_path / "run", strategy, candles, settings=window, resume=True)
    assert trades_of(tmp_path / "run") == expected
    assert len(expected) > 20
    figures = [report_of(tmp_path / name) for name in ("run", "replay")]
    assert [(each["gaps"], each["missing_candles"]) for each in figures] == [(1, 100)] * 2


def test_a_symbol_that_begins_after_a_stop_is_counted_as_if_there_had_been_none(tmp_path: Path) -> None:
    holes = {"BTCUSDT": (), "ETHUSDT": (*range(30), 40, 41)}
    strategy, candles = strategy_file(tmp_path), files_of(tmp_path, tuple(holes), count=70, seed=3, gaps_of=holes)
    expected = run_replay(tmp_path / "replay", strategy, candles)
    for number, more in enumerate([{}, {"resume": True}, {"resume": True}, {"resume": True}]):
        run_live(tmp_path / "run", strategy, candles, **more, max_candles=20 if number < 3 else None)
    assert trades_of(tmp_path / "run") == expected
    mine, theirs = report_of(tmp_path / "run"), report_of(tmp_path / "replay")
    names = ("candles", "gaps", "missing_candles", "first_candle", "last_candle")
    assert [mine[name] for name in names] == [theirs[name] for name in names]
    assert theirs["missing_candles"] == 2


@pytest.mark.parametrize("left", [(".held",), (".held", "exchange.sqlite", ".journal.sqlite.77.part")])
def test_a_run_killed_before_it_had_begun_begins_when_it_is_resumed(left: tuple[str, ...], tmp_path: Path) -> None:
    strategy, candles = strategy_file(tmp_path), files_of(tmp_path, count=60)
    (tmp_path / "run").mkdir()
    for name in left:
        (tmp_path / "run" / name).write_bytes(b"half of something")
    run_live(tmp_path / "run", strategy, candles, resume=True)
    assert trades_of(tmp_path / "run") == run_replay(tmp_path / "replay", strategy, candles)
    assert not (tmp_path / "run" / ".journal.sqlite.77.part").exists()


def test_a_folder_with_anything_else_in_it_is_neither_resumed_nor_begun_in(tmp_path: Path) -> None:
    strategy, candles = strategy_file(tmp_path), files_of(tmp_path, count=60)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "diary.txt").write_text("mine", "utf-8")
    for resume in (True, False):
        with pytest.raises(UsageError, match="run"):
            run_live(tmp_path / "run", strategy, candles, resume=resume)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["diary.txt"]


def test_a_changed_strategy_file_does_not_take_over_a_run(tmp_path: Path) -> None:
    strategy, candles = strategy_file(tmp_path), files_of(tmp_path, count=30)
    run_live(tmp_path / "run", strategy, candles, max_candles=10)
    strategy.write_text(strategy.read_text("utf-8") + "\n# changed\n", "utf-8")
    with pytest.raises(StrategyRefused, match="has changed since"):
        run_live(tmp_path / "run", strategy, candles, resume=True)


def test_a_running_run_is_not_resumed_a_second_time(tmp_path: Path) -> None:
    strategy, candles = strategy_file(tmp_path), files_of(tmp_path, count=40)
    arguments = ["--strategy", strategy, "--candles", candles[0], "--speed", "60", "--out", tmp_path / "run"]
    with live_process(*arguments, cwd=tmp_path):
        wait_for(tmp_path / "run", "SELECT count(*) FROM heartbeat")
        with pytest.raises(RunFailed, match="running already"):
            run_live(tmp_path / "run", strategy, candles, resume=True)


def test_a_journal_that_was_changed_is_noticed(tmp_path: Path) -> None:
    strategy, candles = strategy_file(tmp_path), files_of(tmp_path, count=60)
    run_live(tmp_path / "run", strategy, candles, max_candles=40)
    connection = sqlite3.connect(tmp_path / "run" / "journal.sqlite")
    connection.execute("UPDATE fills SET price = price * 1.01 WHERE id = 2")
    connection.commit()
    connection.close()
    with pytest.raises(RunFailed, match="the journal was changed"):
        run_live(tmp_path / "run", strategy, candles, resume=True)


def test_a_testnet_run_and_the_embedded_exchange_of_its_own_go_on_together(tmp_path: Path) -> None:
    strategy, candles = strategy_file(tmp_path), files_of(tmp_path, count=60, seed=8)
    expected = run_replay(tmp_path / "replay", strategy, candles)
    run_live(tmp_path / "run", strategy, candles, settings={"TRADING_MODE": "TESTNET"}, max_candles=25)
    result = run_live(tmp_path / "run", strategy, candles, resume=True)  # the mode is the run's own
    assert result.report["mode"] == "TESTNET"
    names = ("symbol", "side", "entry_time", "entry_price", "qty", "exit_time", "exit_price", "close_reason")
    got = trades_of(tmp_path / "run")
    assert [[row[name] for name in names] for row in got] == [[row[name] for name in names] for row in expected]
    assert len(got) > 3


def test_a_close_that_the_end_of_a_run_took_back_is_ordered_again_when_it_goes_on(tmp_path: Path) -> None:
    (tmp_path / "in_and_out.py").write_text(IN_AND_OUT, "utf-8")
    candles = files_of(tmp_path, count=20)
    no_price = FaultRule("reset", path="/fapi/v1/ticker/bookTicker", skip=1, count=None)  # but for the first entry
    config = EmulatorConfig(candles=tuple(candles), start_ms=START_MS, control=True, faults=(no_price,))
    with EmulatorThread(config) as exchange:
        market = {"address": exchange.url, "strategy": tmp_path / "in_and_out.py", "candles": candles}
        left = run_live(tmp_path / "run", max_candles=2, **market)
        assert left.report["open_position"]["side"] == "long"
        assert left.report["pending_signal"]["close_reason"] == "profit_target"
        exchange.clear_faults()
        run_live(tmp_path / "run", resume=True, max_candles=2, **market)
    first = trades_of(tmp_path / "run")[0]
    decided_ms = START_MS + 300_000
    assert (first["close_reason"], first["exit_order_id"]) == ("profit_target", f"BTCUSDT-{decided_ms}-close-2")
    assert first["entry_order_id"] == f"BTCUSDT-{START_MS}-entry"
