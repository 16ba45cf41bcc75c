"""Every file in examples/ is short and runs as a person would run it: as a process of its own, from anywhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
#: What the program consists of; runs, data and the user's own files stay behind.
PACKAGES = ("examples", "feeds", "strategy", "smm_bt")


#: What a process without internet sees: no name but its own leads anywhere. Python runs this at its start.
OFFLINE = """
import socket

_look_up = socket.getaddrinfo

def getaddrinfo(host, *rest, **options):
    if host not in (None, "localhost", "127.0.0.1", "::1"):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return _look_up(host, *rest, **options)

socket.getaddrinfo = getaddrinfo
"""

Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh copy of the program: no slot file, no settings, no earlier runs."""
    folder = tmp_path_factory.mktemp("examples") / "fresh checkout"
    unwanted = shutil.ignore_patterns("__pycache__", "compute_smm.py")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=unwanted)
    (folder.parent / "offline").mkdir()
    (folder.parent / "offline" / "sitecustomize.py").write_text(OFFLINE, "utf-8")
    return folder


@pytest.fixture(scope="module")
def first_runs(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """Each example run once, two at a time, from a folder that is not the project's."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with ThreadPoolExecutor(2) as pool:
        begun = {each.name: pool.submit(run, checkout / "examples" / each.name, elsewhere) for each in EXAMPLES}
        return {name: done.result() for name, done in begun.items()}


def run(example: Path, cwd: Path, **environment: str) -> Done:
    """Run ``example`` in ``cwd``, offline, with nothing of this test session's environment but what Python needs."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, str(example)],
        cwd=cwd,
        env=kept | {"PYTHONPATH": str(example.parents[2] / "offline")} | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def folder_of(done: Done) -> Path:
    """Return the run folder an example printed, from the line of its trade log."""
    (line,) = [line for line in done.stdout.splitlines() if line.endswith("trades.csv")]
    return Path(line.strip()).parent


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_every_example_fits_on_a_page_and_runs(example: Path, first_runs: dict[str, Done]) -> None:
    assert len(example.read_text("utf-8").splitlines()) < 60
    done = first_runs[example.name]
    assert done.returncode == 0, done.stderr


def test_the_replay_example_says_that_its_market_is_made_and_leaves_a_run_folder(
    checkout: Path, first_runs: dict[str, Done]
) -> None:
    done = first_runs["replay.py"]
    assert done.stdout.count("The market of this run is MADE") == 2
    assert "REFERENCE STRATEGY in use" in done.stdout
    folder = folder_of(done)
    report = json.loads((folder / "report.json").read_text("utf-8"))
    assert folder.parent == checkout / "runs"
    assert (report["candles"], report["symbols"]) == (17_280, ["BTCUSDT"])
    assert report["total_trades"] > 48
    for name in ("trades.csv", "equity.parquet", "journal.sqlite", "run.log", "tearsheet.html", "chart.html"):
        assert (folder / name).stat().st_size > 0
        assert f"{folder / name}\n" in done.stdout
    assert not list((checkout / "data").glob("*.csv.gz")), "--symbol must not find made candles"


@pytest.mark.parametrize(
    ("name", "mode", "candles"), [("paper_live.py", "PAPER", 864), ("testnet_live.py", "TESTNET", 300)]
)
def test_the_live_examples_trade_a_made_market_where_there_is_no_other(
    name: str, mode: str, candles: int, checkout: Path, first_runs: dict[str, Done]
) -> None:
    """Where Binance answers, paper_live.py goes on until Ctrl-C; the processes of these tests are offline."""
    done = first_runs[name]
    assert done.stdout.count("MADE") == (2 if mode == "PAPER" else 1)
    folder = folder_of(done)
    assert folder.parent == checkout / "runs"
    report = json.loads((folder / "report.json").read_text("utf-8"))
    assert report["mode"] == mode
    assert report["market_source"] == "embedded exchange (made market, not real)"
    assert (report["candles"], report["symbols"]) == (candles, ["BTCUSDT"])
    assert report["total_trades"] > 0
    for file in ("trades.csv", "equity.parquet", "journal.sqlite", "run.log", "tearsheet.html", "chart.html"):
        assert (folder / file).stat().st_size > 0
        assert f"{folder / file}\n" in done.stdout


@pytest.mark.parametrize("name", ["paper_live.py", "testnet_live.py"])
def test_the_live_examples_say_what_is_wrong_in_a_sentence(name: str, checkout: Path, tmp_path: Path) -> None:
    done = run(checkout / "examples" / name, tmp_path, WARMUP_CANDLES="many")
    assert done.returncode == 2
    assert "WARMUP_CANDLES" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_replay_example_runs_the_file_in_the_slot_when_there_is_one(checkout: Path, tmp_path: Path) -> None:
    slot = checkout / "strategy" / "compute_smm.py"
    shutil.copy(checkout / "examples" / "your_compute_smm.py", slot)
    try:
        done = run(checkout / "examples" / "replay.py", tmp_path)
    finally:
        slot.unlink()
    assert done.returncode == 0, done.stderr
    assert "REFERENCE" not in done.stdout
    assert json.loads((folder_of(done) / "report.json").read_text("utf-8"))["strategy_file"] == str(slot)


def test_the_replay_example_says_what_is_wrong_in_a_sentence(checkout: Path, tmp_path: Path) -> None:
    done = run(checkout / "examples" / "replay.py", tmp_path, INITIAL_BALANCE_USDT="-5")
    assert done.returncode == 1
    assert "INITIAL_BALANCE_USDT" in done.stderr
    assert "Traceback" not in done.stderr
