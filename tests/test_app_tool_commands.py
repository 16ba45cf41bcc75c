"""``smm-bt report`` and ``smm-bt emulator`` as a person meets them, and how light the command line stays."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import urllib.request
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from made_files import NEW_YEAR_MS, child_environment, made_rows, smm_bt, write_csv, write_strategy
from rich.console import Console

from smm_bt.app.cli import main
from smm_bt.app.rebuild import RebuildRequest, find_run, rebuild
from smm_bt.app.settings import Settings
from smm_bt.errors import UsageError

FILES = ("chart.html", "equity.parquet", "report.json", "tearsheet.html", "trades.csv")
FIVE_MINUTES = 300_000

#: A run that is killed: two trades, then a position is open, then SIGKILL while its journal is in use.
KILLED_RUN = """
import os, signal, sys
from pathlib import Path
from smm_bt.analytics.journal import Journal, NewOrder
from smm_bt.analytics.run_info import RunInfo
from smm_bt.model import Fill, LedgerEntry, OpenPosition, OrderState, Trade

T, STEP = 1735689600000, 300000
info = RunInfo(run_id="killed", mode="PAPER", market_source="the embedded exchange", symbols=("BTCUSDT",),
    timeframe="5m", timeframe_ms=STEP, first_candle_ms=None, last_candle_ms=None, candles=0, strategy_file="mine.py",
    strategy_sha256="0" * 64, strategy_is_reference=False, engine="live")
journal = Journal.create(Path(sys.argv[1]) / "journal.sqlite", info, 10000.0)
wallet, state = 10000.0, OrderState
def order(name, side, reduce_only, reason, at, price):
    journal.record_order(NewOrder(name, "BTCUSDT", "market", side, 0.4, None, reduce_only, reason), at)
    journal.change_order(name, state.SUBMITTED, at)
    journal.change_order(name, state.FILLED, at)
    journal.record_fill(Fill(name, "BTCUSDT", at, side, 0.4, price, 5.0, reduce_only, reason), name)
for n, gain in enumerate((200.0, -50.0)):
    at = T + n * 2 * STEP
    order(f"in{n}", 1, False, "buy_signal", at, 100.0)
    order(f"out{n}", -1, True, "profit_target", at + STEP, 100.0 + gain)
    wallet += gain - 10.0
    journal.record_trade(Trade("BTCUSDT", "long", at, 100.0, 0.4, at + STEP, 100.0 + gain, gain, 10.0, 0.0, 2000.0,
        "profit_target", f"in{n}", f"out{n}"))
    journal.record_ledger_entry(LedgerEntry(at + STEP, "exit", "BTCUSDT", gain - 10.0, wallet, 0.0, 0.0))
    journal.record_equity(at, wallet - 100.0, wallet)
    journal.record_equity(at + STEP, wallet, wallet)
order("in2", 1, False, "buy_signal", T + 4 * STEP, 100.0)
journal.record_ledger_entry(LedgerEntry(T + 4 * STEP, "entry", "BTCUSDT", -5.0, wallet - 5.0, 0.4, 100.0))
held = OpenPosition("BTCUSDT", "long", T + 4 * STEP, 100.0, 0.4, 2000.0, 5.0, 0.0, 3.0, 95.9, "in2")
journal.record_open_positions([held])
journal.record_equity(T + 4 * STEP, wallet - 2.0, wallet - 5.0)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and one finished replay; its tearsheet, slow to draw, is only said to be there."""
    folder = tmp_path_factory.mktemp("replayed")
    (folder / "data").mkdir()
    write_csv(folder / "data/BTCUSDT-5m.csv", made_rows(900, price=50_000.0))
    write_strategy(folder / "mine.py")
    options = ("--symbol", "BTCUSDT", "--strategy", "mine.py", "--out", "runs/first", "--no-tearsheet")
    done = smm_bt("replay", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "runs/first/tearsheet.html").write_text("there")
    return folder


@pytest.fixture
def run(replayed: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may damage."""
    return Path(shutil.copytree(replayed / "runs/first", tmp_path / "runs/first"))


def rebuilt(run: Path | str, data: Path, **changes: Any) -> str:
    text = StringIO()
    runs = run.parent if isinstance(run, Path) else data
    settings = Settings.model_validate({"DATA_DIR": data, "RUNS_DIR": runs})
    rebuild(RebuildRequest(settings, str(run), **changes), Console(file=text, width=200))
    return text.getvalue()


# ---- report


def test_every_file_of_a_replay_comes_back_as_it_was(run: Path, replayed: Path) -> None:
    before = {name: (run / name).read_bytes() for name in FILES}
    for name in FILES:
        (run / name).unlink()
    said = rebuilt(run, replayed / "data")
    assert "Written: trades.csv, equity.parquet, report.json, tearsheet.html, chart.html." in said
    for name in ("report.json", "trades.csv", "chart.html"):
        assert (run / name).read_bytes() == before[name], name
    assert pq.read_table(run / "equity.parquet").equals(pq.read_table(replayed / "runs/first/equity.parquet"))


def test_what_is_there_is_kept_unless_forced(run: Path, replayed: Path) -> None:
    (run / "trades.csv").write_text("mine")
    (run / "report.json").unlink()
    said = rebuilt(run, replayed / "data")
    assert "Written: report.json." in said
    assert "Kept as they were (--force writes them anew): trades.csv" in said
    assert (run / "trades.csv").read_text() == "mine"
    rebuilt(run, replayed / "data", force=True)
    assert (run / "trades.csv").read_bytes() == (replayed / "runs/first/trades.csv").read_bytes()


def test_a_report_that_says_something_else_than_the_journal_is_pointed_out(run: Path, replayed: Path) -> None:
    report = json.loads((run / "report.json").read_text())
    (run / "report.json").write_text(json.dumps(report | {"total_pnl": 1e6}))
    assert "report.json is older than the journal and says something else" in rebuilt(run, replayed / "data")


def test_without_candles_and_curve_the_figures_say_how_little_they_rest_on(run: Path, tmp_path: Path) -> None:
    for name in set(FILES) - {"tearsheet.html"}:
        (run / name).unlink()
    said = rebuilt(run, tmp_path)
    assert "are too kind" in said
    assert "chart.html: not drawn" in said
    assert not (run / "equity.parquet").exists()
    notes = json.loads((run / "report.json").read_text())["notes"]
    assert any("points where the account changed" in note for note in notes)


def test_candles_of_another_market_are_not_taken(run: Path, tmp_path: Path) -> None:
    other = write_csv(tmp_path / "BTCUSDT-5m.csv", made_rows(900, price=40_000.0))
    (run / "chart.html").unlink()
    assert "chart.html: not drawn" in rebuilt(run, tmp_path)
    with pytest.raises(UsageError, match="are not the candles of this run"):
        rebuilt(run, tmp_path, candles=(other,))


def test_the_runs_candles_may_be_named(run: Path, replayed: Path, tmp_path: Path) -> None:
    (run / "chart.html").unlink()
    moved = tmp_path / "elsewhere/BTCUSDT-5m_moved.csv"
    moved.parent.mkdir()
    shutil.copy(replayed / "data/BTCUSDT-5m.csv", moved)
    assert "Written: chart.html." in rebuilt(run, tmp_path, candles=(moved,))
    assert (run / "chart.html").read_bytes() == (replayed / "runs/first/chart.html").read_bytes()


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    folder = tmp_path / "runs/killed"
    folder.mkdir(parents=True)
    done = subprocess.run([sys.executable, "-c", KILLED_RUN, str(folder)], env=child_environment(), cwd=tmp_path)
    assert done.returncode == -signal.SIGKILL
    return folder


def test_a_run_that_was_killed_has_a_report_of_what_it_did(killed: Path, tmp_path: Path) -> None:
    said = rebuilt(killed, tmp_path)
    report = json.loads((killed / "report.json").read_text())
    assert (report["total_trades"], report["total_pnl"], report["win_rate"]) == (2, 130.0, 0.5)
    assert (report["final_equity"], report["max_drawdown_usdt"]) == (10_128.0, 160.0)
    assert report["open_position"]["entry_time"] == "2025-01-01T00:20:00Z"
    assert (report["candles"], report["first_candle"]) == (5, "2025-01-01T00:00:00Z")
    assert "The run had not ended when this was made" in said
    assert len((killed / "trades.csv").read_text().splitlines()) == 3
    assert pq.read_table(killed / "equity.parquet").num_rows == 5
    assert (killed / "tearsheet.html").exists()
    assert "chart.html: not drawn" in said


def test_a_killed_run_is_drawn_on_candles_that_hold_its_fills(killed: Path, tmp_path: Path) -> None:
    rows = [(NEW_YEAR_MS + n * FIVE_MINUTES, 100.0, 320.0, 40.0, 100.0, 1.0) for n in range(8)]
    (killed / "tearsheet.html").write_text("there")
    fitting = write_csv(tmp_path / "BTCUSDT-5m.csv", rows)
    assert "chart.html" in rebuilt(killed, tmp_path, candles=(fitting,)).split("Written: ")[1]
    narrow = write_csv(tmp_path / "BTCUSDT-5m_b.csv", [(*row[:2], 101.0, 99.0, 100.0, 1.0) for row in rows])
    with pytest.raises(UsageError, match="are not the candles of this run"):
        rebuilt(killed, tmp_path, candles=(narrow,))


def test_a_run_is_found_by_path_name_and_beginning(tmp_path: Path, replayed: Path) -> None:
    runs = tmp_path / "runs"
    for name in ("alpha-1", "alpha-2", "beta"):
        shutil.copytree(replayed / "runs/first", runs / name)
    assert find_run(str(runs / "beta"), runs) == runs / "beta"
    assert find_run(str(runs / "beta/journal.sqlite"), runs) == runs / "beta"
    assert find_run("alpha-2", runs) == runs / "alpha-2"
    assert find_run("be", runs) == runs / "beta"
    with pytest.raises(UsageError, match="2 runs begin with alpha"):
        find_run("alpha", runs)
    with pytest.raises(UsageError, match=r"There is no run gamma.*the newest in .* is beta"):
        find_run("gamma", runs)


def test_the_report_command_prints_the_summary_and_exits_0(replayed: Path) -> None:
    done = smm_bt("report", "first", cwd=replayed)
    assert done.returncode == 0, done.stderr
    assert "Profit factor" in done.stdout
    assert "Written" not in done.stdout
    missing = smm_bt("report", "nothing", cwd=replayed)
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr.startswith("smm-bt: There is no run nothing with a journal")


# ---- emulator


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_emulator_command_serves_and_ends_cleanly(tmp_path: Path, ending: signal.Signals) -> None:
    command = [sys.executable, "-m", "smm_bt", "emulator", "--symbols", "BTCUSDT", "--speed", "step", "--port", "0"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=child_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = json.loads(process.stdout.readline())
    with urllib.request.urlopen(f"{line['url']}/fapi/v1/time", timeout=10) as answer:
        assert json.load(answer)["serverTime"] > 0
    process.send_signal(ending)
    out, error = process.communicate(timeout=20)
    assert (process.returncode, out, error) == (0, "", "")


def test_the_emulators_own_help_and_refusals_come_through(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as left:
        main(["emulator", "--help"])
    assert left.value.code == 0
    assert "--taker-rate" in capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        main(["emulator", "--speed", "fast"])
    assert left.value.code == 2
    assert "give 'step' or a number above zero" in capsys.readouterr().err
    assert main(["emulator", "--candles", "absent-5m.csv"]) == 2
    assert "absent-5m.csv" in capsys.readouterr().err


# ---- the command line stays light


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom smm_bt.app.cli import main\ncode = main(['--help'])\n"
        "heavy = {'pandas', 'numpy', 'backtrader', 'ccxt', 'pyarrow', 'aiohttp', 'requests', 'quantstats', 'talib'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)), code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=child_environment(), capture_output=True, text=True
    )
    assert "LOADED [] 0" in done.stdout, done.stdout + done.stderr
    for name in ("audit", "report", "emulator", "download", "doctor"):
        assert f"  {name} " in done.stdout


@pytest.mark.parametrize("command", ["audit", "report", "download", "doctor"])
def test_every_tool_has_a_help_that_hides_the_loopback_option(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--debug" in shown
    assert "--venue" not in shown
