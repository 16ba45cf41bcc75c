"""A live run that fails: before its first candle it leaves nothing behind, later it says why in its journal."""

from __future__ import annotations

import io
import math
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from live_kit import FIVE_MINUTES_MS, START_MS, files_of, live_process, rows_of, run_live, strategy_file, wait_for
from made_files import child_environment, smm_bt
from rich.console import Console
from venue_bench import client_of

from smm_bt.app.live_folder import latest_live_run, removed_unless_begun
from smm_bt.app.live_remote import show_status
from smm_bt.emulator import EmulatorConfig, EmulatorThread
from smm_bt.errors import RunFailed, UsageError, VenueError
from strategy.contract import StrategyRefused

NO_SELL = "def compute_smm(df):\n    df['buy_signal'] = False\n    return df\n"
#: Breaks on the first window that has this many candles.
BREAKS_LATER = """
def compute_smm(df):
    if len(df) >= 12:
        raise ValueError("twelve are too many")
    df["buy_signal"], df["sell_signal"] = True, False
    return df
"""


def status_of(run: Path) -> str:
    told = io.StringIO()
    show_status(run, Console(file=told, width=200, color_system=None))
    return told.getvalue()


def written(folder: Path, source: str) -> Path:
    (folder / "own.py").write_text(source, "utf-8")
    return folder / "own.py"


@pytest.mark.parametrize("mode", ["PAPER", "TESTNET"])
def test_a_strategy_refused_on_the_history_leaves_no_run_and_the_folder_can_be_used_again(
    mode: str, tmp_path: Path
) -> None:
    candles, run = files_of(tmp_path, count=30), tmp_path / "deep" / "run"
    with pytest.raises(StrategyRefused, match="sell_signal"):
        run_live(run, written(tmp_path, NO_SELL), candles, settings={"TRADING_MODE": mode, "RUNS_DIR": tmp_path})
    assert not run.parent.exists()
    with pytest.raises(UsageError, match="no live run"):
        latest_live_run(tmp_path / "deep")
    run_live(run, strategy_file(tmp_path), candles, max_candles=3)


def test_the_command_leaves_nothing_either(tmp_path: Path) -> None:
    strategy = written(tmp_path, NO_SELL)
    done = smm_bt("live", "--market", "embedded", "--strategy", strategy, "--out", "run", cwd=tmp_path)
    assert (done.returncode, "sell_signal" in done.stderr) == (3, True)
    assert [path.name for path in tmp_path.iterdir()] == ["own.py"]


@pytest.mark.parametrize("mode", ["PAPER", "TESTNET"])
def test_an_address_where_nobody_answers_is_named_with_what_to_do(mode: str, tmp_path: Path) -> None:
    keys = {"BINANCE_TESTNET_API_KEY": "k", "BINANCE_TESTNET_API_SECRET": "s"}
    settings = {"TRADING_MODE": mode, **keys}
    nobody = "http://127.0.0.1:9"
    with pytest.raises(VenueError, match=rf"{nobody}.*smm-bt emulator"):
        run_live(tmp_path / "run", strategy_file(tmp_path), (), address=nobody, settings=settings, speed=1.0)
    assert not (tmp_path / "run").exists()


def test_an_end_before_the_markets_present_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    strategy, candles, run = strategy_file(tmp_path), files_of(tmp_path, count=30), tmp_path / "run"
    for played, speed in ((candles, math.inf), (candles, 60.0), ((), math.inf), ((), 1.0)):
        with pytest.raises(UsageError, match="--until 2020-01-01T00:00:00Z is not later than the present"):
            run_live(run, strategy, played, speed=speed, until_ms=1_577_836_800_000)
    assert not run.exists()
    until_ms = START_MS + 10 * FIVE_MINUTES_MS
    assert run_live(run, strategy, candles, until_ms=until_ms).info.candles == 10
    with pytest.raises(UsageError, match="2025-01-01T00:50:00Z: nothing would be traded"):
        run_live(run, strategy, candles, until_ms=until_ms, resume=True)
    assert rows_of(run, "SELECT state FROM run") == [("finished",)]


def test_on_binance_the_wall_clock_says_what_is_past(tmp_path: Path) -> None:
    done = smm_bt("live", "--until", "2020-01-01", cwd=tmp_path)
    assert (done.returncode, "is not later than the present" in done.stderr) == (2, True)
    assert not list(tmp_path.iterdir())


def test_a_run_that_failed_later_is_kept_and_says_why(tmp_path: Path) -> None:
    candles, run = files_of(tmp_path, count=30), tmp_path / "run"
    with pytest.raises(StrategyRefused, match="twelve are too many"):
        run_live(run, written(tmp_path, BREAKS_LATER), candles)
    assert rows_of(run, "SELECT state FROM run") == [("failed",)]
    assert "state: failed: " in status_of(run)
    assert "twelve are too many" in status_of(run)
    assert rows_of(run, "SELECT finished_ms IS NOT NULL FROM run") == [(1,)]


def test_a_failure_nobody_thought_of_before_the_first_candle_is_booked_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from smm_bt.app.live_books import LiveBooks

    written_steps = LiveBooks._write_step

    def breaks(books: LiveBooks) -> None:
        written_steps(books)
        raise ZeroDivisionError("on the first step")

    monkeypatch.setattr(LiveBooks, "_write_step", breaks)
    with pytest.raises(ZeroDivisionError):
        run_live(tmp_path / "before", strategy_file(tmp_path), files_of(tmp_path, count=30))
    assert not (tmp_path / "before").exists()


def test_a_failure_to_go_on_is_told_and_the_run_goes_on_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from smm_bt.app.live_session import LiveSession

    candles, run, strategy = files_of(tmp_path, count=30), tmp_path / "run", strategy_file(tmp_path)
    run_live(run, strategy, candles, max_candles=5)
    with monkeypatch.context() as patched:
        patched.setattr(LiveSession, "_loop", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            run_live(run, strategy, candles, resume=True)
    assert "state: failed: integer" in status_of(run)
    run_live(run, strategy, candles, resume=True)
    assert "state: finished" in status_of(run)


def test_a_position_taken_over_before_the_first_candle_keeps_the_run(tmp_path: Path) -> None:
    candles, run = files_of(tmp_path, count=40), tmp_path / "run"
    config = EmulatorConfig(candles=tuple(candles), start_ms=None, history_candles=20, control=True)
    with EmulatorThread(config) as exchange:
        client = client_of(exchange)
        client.set_isolated_margin("BTCUSDT")
        client.send_market_order("BTCUSDT", 1, Decimal("0.01"), "by-hand", reduce_only=False)
        settings = {
            "TRADING_MODE": "TESTNET",
            "BINANCE_TESTNET_API_KEY": exchange.api_key,
            "BINANCE_TESTNET_API_SECRET": exchange.api_secret,
        }
        with pytest.raises(StrategyRefused):
            run_live(run, written(tmp_path, NO_SELL), candles, address=exchange.url, settings=settings, adopt=True)
    assert "state: failed: " in status_of(run)


@pytest.mark.parametrize("wanted", [True, False])
def test_only_a_journal_with_nothing_in_it_is_removed(wanted: bool, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_live(run, strategy_file(tmp_path), files_of(tmp_path, count=20), max_candles=3)
    if not wanted:
        (run / "journal.sqlite").write_bytes(b"not a journal")
    with pytest.raises(RunFailed), removed_unless_begun(run):
        raise RunFailed("later")
    assert (run / "journal.sqlite").exists()


def test_a_second_signal_before_the_first_candle_leaves_nothing(tmp_path: Path) -> None:
    run, strategy = tmp_path / "run", strategy_file(tmp_path)
    with live_process("--market", "embedded", "--strategy", strategy, "--out", run, cwd=tmp_path) as process:
        wait_for(run, "SELECT count(*) FROM heartbeat")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=60)
    if process.returncode == 130:  # the first one may have been enough
        assert "before the first candle" in complaints
        assert not run.exists()


@pytest.mark.parametrize("limit", [30_000, 500_000])
def test_a_full_disk_is_told_truly_before_the_first_candle_and_later(limit: int, tmp_path: Path) -> None:
    full = (
        "import resource, runpy, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "sys.argv[0] = 'smm-bt'\nrunpy.run_module('smm_bt', run_name='__main__')"
    )
    arguments = ["live", "--candles", *files_of(tmp_path, count=250), "--strategy", strategy_file(tmp_path)]
    command = [sys.executable, "-c", full, *map(str, arguments), "--speed", "max", "--out", "deep/run"]
    environment = child_environment(PYTHONDONTWRITEBYTECODE="1")
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.startswith("smm-bt: Cannot write ")) == (1, True), done.stderr
    has_begun = limit > 100_000
    assert ("The run is kept up to its last step; go on with: smm-bt live --resume" in done.stderr) == has_begun
    assert (tmp_path / "deep" / "run" / "journal.sqlite").exists() == has_begun
    assert (tmp_path / "deep").exists() == has_begun
