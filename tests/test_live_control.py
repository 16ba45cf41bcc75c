"""A person and a running bot: Ctrl-C, status, close, pause, resume-entries, and what is said when nothing can begin."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from live_kit import (
    files_of,
    live_process,
    report_of,
    rows_of,
    run_live,
    run_replay,
    strategy_file,
    trades_of,
    wait_for,
)
from made_files import smm_bt

from feeds.files import CandleFileMissing
from smm_bt.analytics.journal import Journal
from smm_bt.app.cli import main
from smm_bt.app.live_commands import live as live_arguments
from smm_bt.app.live_market_source import MarketChoice, shape_of
from smm_bt.app.settings import load_settings
from smm_bt.errors import SettingsError, UsageError, VenueError

OPEN = "SELECT count(*) FROM open_positions"
STEPS = "SELECT count(*) FROM equity"
#: A five-minute candle every fifth of a second.
QUICK = ("--market", "embedded", "--speed", "1500")


def quick_run(folder: Path, *more: str | Path, density: float = 0.3) -> Any:
    strategy = strategy_file(folder)
    (folder / "smm.toml").write_text(f"[strategy.parameters]\ndensity = {density}\n", "utf-8")
    return live_process("--strategy", strategy, *QUICK, "--out", folder / "run", *more, cwd=folder)


def test_ctrl_c_ends_a_run_cleanly_and_keeps_the_position(tmp_path: Path) -> None:
    with quick_run(tmp_path) as process:
        wait_for(tmp_path / "run", STEPS, at_least=3)
        wait_for(tmp_path / "run", OPEN)
        os.kill(process.pid, signal.SIGINT)
        said, complaints = process.communicate(timeout=60)
    assert process.returncode == 0, complaints
    assert "Ended: stopped by SIGINT" in said
    assert "live --resume" in said
    for name in ("trades.csv", "report.json", "equity.parquet", "tearsheet.html", "chart.html", "run.log"):
        assert (tmp_path / "run" / name).stat().st_size > 0
    events = [json.loads(line)["event"] for line in (tmp_path / "run" / "run.log").read_text("utf-8").splitlines()]
    assert events[0] == "started"
    assert events[-1] == "ended"
    assert report_of(tmp_path / "run")["open_position"] is not None
    assert rows_of(tmp_path / "run", "SELECT state FROM run") == [("stopped",)]


def test_close_on_exit_leaves_no_position(tmp_path: Path) -> None:
    with quick_run(tmp_path, "--close-on-exit", "--no-pages") as process:
        wait_for(tmp_path / "run", OPEN)
        os.kill(process.pid, signal.SIGTERM)
        _, complaints = process.communicate(timeout=60)
    assert process.returncode == 0, complaints
    assert report_of(tmp_path / "run")["open_position"] is None
    assert trades_of(tmp_path / "run")[-1]["close_reason"] == "manual"


def test_two_signals_end_a_run_at_once_and_it_can_be_resumed(tmp_path: Path) -> None:
    with quick_run(tmp_path, "--no-pages") as process:
        wait_for(tmp_path / "run", STEPS, at_least=3)
        os.kill(process.pid, signal.SIGINT)
        os.kill(process.pid, signal.SIGTERM)
        _, complaints = process.communicate(timeout=60)
    assert process.returncode in (0, 130), complaints
    before = rows_of(tmp_path / "run", STEPS)[0][0]
    done = smm_bt("live", "--resume", "--out", tmp_path / "run", "--max-candles", "3", "--no-pages", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert rows_of(tmp_path / "run", STEPS)[0][0] >= before + 3


def test_a_running_bot_is_looked_at_closed_paused_and_set_going_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with quick_run(tmp_path, "--no-pages") as process:
        wait_for(run, OPEN)
        paused = smm_bt("pause", run, cwd=tmp_path)
        closed = smm_bt("close", run, cwd=tmp_path)
        shown = smm_bt("status", run, cwd=tmp_path)
        entries = "SELECT count(*) FROM orders WHERE reduce_only = 0"
        before = rows_of(run, entries)[0][0]
        wait_for(run, STEPS, at_least=rows_of(run, STEPS)[0][0] + 12)
        while_paused = rows_of(run, entries)[0][0]
        resumed = smm_bt("resume-entries", run, cwd=tmp_path)
        wait_for(run, entries, at_least=before + 1)
        os.kill(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
    assert paused.stdout.strip() == "entries are paused; exits go on"
    assert closed.stdout.strip() in ("closing BTCUSDT", "nothing to close")
    assert while_paused == before
    assert resumed.stdout.strip() == "entries are resumed"
    assert "ENTRIES ARE PAUSED" in shown.stdout
    assert "state: running" in shown.stdout
    assert "embedded exchange (made market, not real)" in shown.stdout
    dropped = "SELECT count(*) FROM events WHERE kind = 'entry_dropped' AND message LIKE '%paused by hand%'"
    assert rows_of(run, dropped)[0][0] > 0


def test_a_request_to_a_stopped_bot_is_kept_and_carried_out_when_it_goes_on(tmp_path: Path) -> None:
    strategy, candles = strategy_file(tmp_path), files_of(tmp_path, count=120)
    taken = 20
    run_live(tmp_path / "run", strategy, candles, max_candles=taken)
    while not rows_of(tmp_path / "run", OPEN)[0][0]:
        run_live(tmp_path / "run", strategy, candles, resume=True, max_candles=1)
    asked = smm_bt("close", tmp_path / "run", "--wait", "0.1", cwd=tmp_path)
    assert "the bot is not running" in asked.stdout
    run_live(tmp_path / "run", strategy, candles, resume=True, max_candles=1)
    assert trades_of(tmp_path / "run")[-1]["close_reason"] == "manual"
    status = smm_bt("status", tmp_path / "run", cwd=tmp_path)
    assert "state: finished" in status.stdout


def test_a_request_nobody_will_ever_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    strategy, candles = strategy_file(tmp_path), files_of(tmp_path, ("BTCUSDT", "ETHUSDT"), count=30)
    run_replay(tmp_path / "replayed", strategy, candles)
    run_live(tmp_path / "run", strategy, candles, max_candles=3)
    monkeypatch.chdir(tmp_path)
    for command in ("close", "pause", "resume-entries"):
        assert main([command, "replayed", "--wait", "0"]) == 2
        assert f"replayed is a replay, which has ended; {command} is for a live run." in capsys.readouterr().err
    assert main(["close", "run", "--symbol", "solusdt", "--wait", "0"]) == 2
    assert "--symbol SOLUSDT: the run trades BTCUSDT, ETHUSDT; name one of them." in capsys.readouterr().err
    assert main(["pause", "run", "--wait", "-1"]) == 2
    assert rows_of(tmp_path / "run", "SELECT count(*) FROM controls") == [(0,)]
    capsys.readouterr()
    assert main(["status", "replayed"]) == 0
    assert "last candle: 2025-01-01T02:25:00Z" in capsys.readouterr().out


def test_a_pause_outlives_a_restart(tmp_path: Path) -> None:
    strategy, candles = strategy_file(tmp_path), files_of(tmp_path, count=100)
    run_live(tmp_path / "run", strategy, candles, max_candles=5)
    with Journal.open(tmp_path / "run" / "journal.sqlite") as journal:
        journal.request_control("pause", 1)
    run_live(tmp_path / "run", strategy, candles, resume=True, max_candles=5)
    entries = rows_of(tmp_path / "run", "SELECT count(*) FROM orders WHERE reduce_only = 0")
    run_live(tmp_path / "run", strategy, candles, resume=True)
    assert rows_of(tmp_path / "run", "SELECT count(*) FROM orders WHERE reduce_only = 0") == entries


def test_when_binance_cannot_be_reached_the_sentence_names_the_embedded_exchange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from live_kit import quiet

    from smm_bt.app.live import LiveRequest, live
    from smm_bt.app.settings import load_settings
    from smm_bt.execution import endpoints

    monkeypatch.setattr(endpoints, "_PUBLIC_DATA_ORIGIN", "http://127.0.0.1:9")  # nobody listens there
    settings = load_settings({"RUNS_DIR": tmp_path / "runs"}, folder=tmp_path, environment={})
    with pytest.raises(VenueError, match="--market embedded"):
        live(LiveRequest(settings, MarketChoice()), quiet())
    assert not list((tmp_path / "runs").glob("*"))


def test_a_window_an_audit_found_too_short_is_refused(tmp_path: Path) -> None:
    from smm_bt.app.audit_memory import remember_warm_up
    from smm_bt.app.settings import load_settings
    from strategy.loader import locate_strategy

    strategy, candles = strategy_file(tmp_path), files_of(tmp_path, count=20)
    given = {"STRATEGY_FILE": strategy, "DATA_DIR": tmp_path / "data", "WARMUP_CANDLES": 50}
    remember_warm_up(load_settings(given, folder=tmp_path, environment={}), locate_strategy(strategy), 120)
    with pytest.raises(SettingsError, match="needs 120 candles"):
        run_live(tmp_path / "run", strategy, candles, settings=given)
    run_live(tmp_path / "run", strategy, candles, settings=given | {"WARMUP_CANDLES": 120})


def test_options_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    for options in ({"name": "moon"}, {"name": "binance", "speed": 2.0}, {"name": "binance", "address": "http://x"}):
        with pytest.raises(UsageError, match="--market"):
            MarketChoice(**options)
    with pytest.raises(UsageError, match="belong to candle files"):
        shape_of(MarketChoice("embedded", funding=(tmp_path / "BTCUSDT-funding.csv",)), load_settings({}))
    assert MarketChoice("embedded", speed=math.inf).stepped
    assert callable(live_arguments)
    wrong = smm_bt("live", "--market", "embedded", "--speed", "fast", cwd=tmp_path)
    assert (wrong.returncode, "--speed fast" in wrong.stderr) == (2, True)
    candles, absent = files_of(tmp_path, count=10), (tmp_path / "BTCUSDT-mark-5m.csv",)
    with pytest.raises(CandleFileMissing, match="no such file"):
        run_live(tmp_path / "out", strategy_file(tmp_path), candles, mark=absent)
    assert not (tmp_path / "out").exists()
