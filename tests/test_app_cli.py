"""``python -m smm_bt`` as a person meets it: exit codes, sentences, nothing left behind, and a whole run folder."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
from made_files import (
    DAY_MS,
    FIVE_MINUTES_MS,
    FLIPPING_STRATEGY,
    HEADER,
    NEW_YEAR_MS,
    ForkedCommands,
    bracket_body,
    child_environment,
    csv_text,
    made_rows,
    smm_bt,
    write_csv,
    write_json,
    write_strategy,
)

CANDLES = 600
FIGURES = {"trades.csv", "report.json", "journal.sqlite", "equity.parquet", "run.log"}
QUICK = ("--no-tearsheet", "--no-chart")


def furnish(folder: Path, count: int = CANDLES) -> Path:
    """A folder with candles of BTCUSDT and a strategy file in it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "BTCUSDT-5m.csv", made_rows(count, price=50_000.0))
    write_strategy(folder / "mine.py")
    return folder


def everything_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if "__pycache__" not in path.parts)


# every refusal of the command line, run side by side


class Refused(NamedTuple):
    """How a folder is spoilt, how the command is called, and what must come of it."""

    code: int
    says: str
    spoil: Callable[[Path], Any] = lambda folder: None
    arguments: tuple[str, ...] = ("--candles", "BTCUSDT-5m.csv", "--strategy", "mine.py")
    environment: tuple[tuple[str, str], ...] = ()


def rows(change: Callable[[list[Any]], list[Any]]) -> Callable[[Path], Any]:
    return lambda folder: write_csv(folder / "BTCUSDT-5m.csv", change(made_rows(50, price=50_000.0)))


def content(name: str, data: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(data)


def strategy(source: str) -> Callable[[Path], Any]:
    return lambda folder: write_strategy(folder / "mine.py", source)


def column(**columns: str) -> str:
    """A strategy that returns these columns, each given as an expression."""
    given = {"buy_signal": "df.close > 0", "sell_signal": "df.close < 0"} | columns
    body = ", ".join(f"{name!r}: {expression}" for name, expression in given.items() if expression)
    return f"def compute_smm(df):\n    return {{{body}}}\n"


WITH = ("--candles", "BTCUSDT-5m.csv", "--strategy", "mine.py")
CSV = "BTCUSDT-5m.csv"
REFUSED: dict[str, Refused] = {
    # candles
    "missing file": Refused(2, "there is no such file; check the path", arguments=("--candles", "ETHUSDT-5m.csv")),
    "a folder": Refused(2, "this is a folder", arguments=("--candles", ".", "--symbol", "A", "--timeframe", "5m")),
    "garbage csv": Refused(1, "cannot be read", content(CSV, bytes(range(256)) * 20)),
    "garbage gz": Refused(
        1, "cannot be read", content("BTCUSDT-5m.csv.gz", bytes(range(256))), ("BTCUSDT-5m.csv.gz", *WITH[2:])
    ),
    "garbage parquet": Refused(
        1, "cannot be read", content("BTCUSDT-5m.parquet", b"PAR1" * 99), ("BTCUSDT-5m.parquet", *WITH[2:])
    ),
    "wrong columns": Refused(1, "column close, volume is missing", content(CSV, b"timestamp,open,high,low\n1,2,3,4\n")),
    "duplicate candle": Refused(1, "stands twice", rows(lambda r: [*r[:3], r[2], *r[3:]])),
    "unordered candles": Refused(1, "stands after a later candle", rows(lambda r: [r[1], r[0], *r[2:]])),
    "off the grid": Refused(1, "on the 5m grid", rows(lambda r: [r[0], (r[1][0] + 1000, *r[1][1:]), *r[2:]])),
    "not finite": Refused(1, "is not a finite number", rows(lambda r: [r[0], (*r[1][:4], "nan", 1), *r[2:]])),
    "high below low": Refused(1, "high is below", rows(lambda r: [(r[0][0], 5, 4, 6, 5, 1), *r[1:]])),
    "empty file": Refused(1, "the file is empty", content(CSV, b"")),
    "only a header": Refused(1, "there are no candles in it", rows(lambda r: [])),
    "one candle": Refused(1, "there is only one candle", rows(lambda r: r[:1])),
    "another timeframe": Refused(
        2, "its candles are 5m apart, but the timeframe asked for is 1h", arguments=(*WITH, "--timeframe", "1h")
    ),
    "a shorter timeframe": Refused(2, "its candles are 5m apart", arguments=(*WITH, "--timeframe", "1m")),
    "a name of another timeframe": Refused(
        1, "its candles are 5m apart", lambda f: (f / CSV).rename(f / "BTCUSDT-1h.csv"), ("BTCUSDT-1h.csv", *WITH[2:])
    ),
    "another symbol": Refused(
        2, "BTCUSDT-5m.csv holds another symbol than --symbol ETHUSDT", arguments=(*WITH, "--symbol", "ETHUSDT")
    ),
    "a name that tells nothing": Refused(
        2,
        "candles.csv: the name does not tell the symbol",
        lambda f: (f / CSV).rename(f / "candles.csv"),
        ("candles.csv",),
    ),
    "a name without timeframe": Refused(
        2,
        "candles.csv: the name does not tell the timeframe",
        lambda f: (f / CSV).rename(f / "candles.csv"),
        ("candles.csv", "--symbol", "BTCUSDT"),
    ),
    "unknown ending": Refused(
        2,
        "the ending .txt is not known",
        lambda f: (f / CSV).rename(f / "BTCUSDT-5m.txt"),
        ("BTCUSDT-5m.txt",),
    ),
    "no number": Refused(
        1, "column close holds 'abc' in line 17", rows(lambda r: [*r[:15], (*r[15][:4], "abc", 1), *r[16:]])
    ),
    "unknown timeframe": Refused(
        2, "TIMEFRAME='7m' (command line): use one of", arguments=(*WITH, "--timeframe", "7m")
    ),
    "seconds": Refused(1, "no date of this century", rows(lambda r: [(x[0] // 1000, *x[1:]) for x in r])),
    "nothing to replay": Refused(2, "There is nothing to replay", arguments=()),
    "no stored candles": Refused(2, "There are no SOLUSDT candles in data", arguments=("--symbol", "SOLUSDT")),
    "a symbol twice": Refused(2, "BTCUSDT is named twice", arguments=(*WITH, CSV)),
    "an empty range": Refused(1, "0 of its 600 candles", arguments=(*WITH, "--since", "2030-01-01")),
    "since after until": Refused(
        2,
        "--since 2025-02-01 is after --until 2025-01-01",
        arguments=(*WITH, "--since", "2025-02-01", "--until", "2025-01-01"),
    ),
    "since is until": Refused(
        2, "is the same as --until", arguments=(*WITH, "--since", "2025-02-01", "--until", "2025-02-01")
    ),
    "no date": Refused(2, "--since soon: this is no date", arguments=(*WITH, "--since", "soon")),
    # strategy files
    "strategy missing": Refused(2, "there is no such file", arguments=(*WITH[:3], "none.py")),
    "strategy not python": Refused(3, "does not parse", strategy("def compute_smm(df:\n")),
    "strategy with a missing package": Refused(3, "no_such_package", strategy("import no_such_package\n")),
    "strategy that raises on import": Refused(3, "ZeroDivisionError", strategy("1 / 0\n")),
    "strategy without compute_smm": Refused(3, "must define the function compute_smm", strategy("x = 1\n")),
    "strategy that raises": Refused(3, "KeyError", strategy("def compute_smm(df):\n    return df['nope']\n")),
    "strategy that exits": Refused(3, "SystemExit", strategy("import sys\ndef compute_smm(df):\n    sys.exit(0)\n")),
    "strategy that exits on import": Refused(3, "SystemExit", strategy("raise SystemExit(0)\n")),
    "strategy of wrong length": Refused(3, "buy_signal", strategy(column(buy_signal="[True]"))),
    "strategy without sell_signal": Refused(3, "sell_signal", strategy(column(sell_signal=""))),
    "strategy with words": Refused(3, "sell_signal", strategy(column(sell_signal="['yes'] * len(df)"))),
    "strategy parameters unknown": Refused(
        3, "'periods'", lambda folder: (folder / "smm.toml").write_text("[strategy.parameters]\nperiods = 1\n")
    ),
    # settings
    "mode LIVE": Refused(2, "TRADING_MODE='LIVE' (environment): there are", environment=(("TRADING_MODE", "LIVE"),)),
    "mode real": Refused(2, "there are two modes", arguments=(*WITH, "--set", "TRADING_MODE=real")),
    "mode live in .env": Refused(2, "TRADING_MODE='live' (.env)", content(".env", b"TRADING_MODE=live\n")),
    "unknown setting": Refused(
        2,
        "smm.toml: there is no setting TRADING_MOD; did you mean TRADING_MODE?",
        content("smm.toml", b"TRADING_MOD=1"),
    ),
    "unknown --set": Refused(2, "did you mean SLIPPAGE_BPS?", arguments=(*WITH, "--set", "SLIPAGE_BPS=1")),
    "--set without a value": Refused(2, "write it as KEY=VALUE", arguments=(*WITH, "--set", "SLIPPAGE_BPS")),
    "negative balance": Refused(2, "must be greater than 0", environment=(("INITIAL_BALANCE_USDT", "-1"),)),
    "negative fee": Refused(2, "must be at least 0", arguments=(*WITH, "--set", "TAKER_FEE_RATE=-0.1")),
    "negative stop": Refused(2, "must be greater than 0", arguments=(*WITH, "--set", "STOP_LOSS_PERCENT=-1")),
    "broken smm.toml": Refused(2, "smm.toml: cannot be read", content("smm.toml", b"= =")),
    # market rules, mark and funding
    "leverage below 20": Refused(
        2,
        "BTCUSDT allows at most 15x, below the fixed 20x",
        lambda folder: write_json(folder / "low.json", bracket_body("BTCUSDT", [(0, 10**6, 15, 0.02, 0)])),
        (*WITH, "--brackets", "low.json"),
    ),
    "unknown symbol": Refused(
        2,
        "market rules of NOSUCHUSDT are not known offline",
        lambda folder: shutil.copy(folder / CSV, folder / "NOSUCHUSDT-5m.csv"),
        ("--candles", "NOSUCHUSDT-5m.csv", "--strategy", "mine.py"),
    ),
    "exchange info missing": Refused(2, "there is no such file", arguments=(*WITH, "--exchange-info", "none.json")),
    "exchange info broken": Refused(1, "cannot be read as JSON", arguments=(*WITH, "--exchange-info", CSV)),
    "mark candles too few": Refused(
        2,
        "do not cover BTCUSDT",
        lambda folder: write_csv(folder / "mark.csv", [r[:5] for r in made_rows(9)], HEADER[:5]),
        (*WITH, "--mark", "mark.csv"),
    ),
    "mark candles of another timeframe": Refused(
        2,
        "--mark mark.csv: its candles are 1m apart, and BTCUSDT is replayed on 5m",
        lambda folder: write_csv(folder / "mark.csv", [r[:5] for r in made_rows(99, step_ms=60_000)], HEADER[:5]),
        (*WITH, "--mark", "mark.csv"),
    ),
    "mark candles named of another timeframe": Refused(
        2,
        "--mark BTCUSDT-mark-1h.csv: these are 1h candles by the file's name",
        lambda folder: write_csv(folder / "BTCUSDT-mark-1h.csv", [r[:5] for r in made_rows(9)], HEADER[:5]),
        (*WITH, "--mark", "BTCUSDT-mark-1h.csv"),
    ),
    "funding of another year": Refused(
        2,
        "--funding rates.csv: its rates are from 2025-12-31",
        lambda folder: write_csv(
            folder / "rates.csv", [(NEW_YEAR_MS + 364 * DAY_MS, 0.0001)], ("timestamp", "funding_rate")
        ),
        (*WITH, "--funding", "rates.csv"),
    ),
    "funding broken": Refused(1, "column funding_rate is missing", arguments=(*WITH, "--funding", CSV)),
    # the output and the command itself
    "output exists": Refused(
        2, "The output folder done exists already", lambda f: (f / "done").mkdir(), (*WITH, "--out", "done")
    ),
    "output inside a file": Refused(1, "Cannot write", arguments=(*WITH, "--out", f"{CSV}/run")),
    "unknown engine": Refused(2, "engine", arguments=(*WITH, "--engine", "warp")),
}


Attempt = tuple["subprocess.CompletedProcess[str]", list[str], list[str]]


def attempt(name: str, place: Path, run: Callable[..., Any] = smm_bt) -> Attempt:
    """Run one case of REFUSED: the finished process, and the folder's content before and after."""
    case, folder = REFUSED[name], furnish(place / name.replace(" ", "_"))
    case.spoil(folder)
    before = everything_in(folder)
    done = run("replay", *case.arguments, *QUICK, cwd=folder, **dict(case.environment))
    return done, before, everything_in(folder)


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Attempt]:
    place = tmp_path_factory.mktemp("refused")
    with ForkedCommands(place) as commands:
        return {name: attempt(name, place, commands.run) for name in REFUSED}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_ends_with_its_exit_code_and_a_sentence_and_leaves_nothing(
    name: str, refusals: dict[str, Attempt]
) -> None:
    assert_refused(name, refusals[name])


@pytest.mark.parametrize("name", ["missing file", "not finite", "strategy that raises", "mode LIVE", "output exists"])
def test_a_fresh_process_refuses_like_a_forked_one(name: str, refusals: dict[str, Attempt], tmp_path: Path) -> None:
    tried = attempt(name, tmp_path)
    assert_refused(name, tried)
    assert tried[0].stderr.split(":")[:2] == refusals[name][0].stderr.split(":")[:2]


def assert_refused(name: str, tried: Attempt) -> None:
    done, before, after = tried
    assert REFUSED[name].says in done.stderr
    assert done.returncode == REFUSED[name].code
    assert done.stderr.startswith("smm-bt: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert "unexpected problem" not in done.stderr
    assert done.stdout == ""
    assert after == before


def sentences(message: str) -> int:
    text = re.sub(r"'[^']*'|\([^)]*\)|[\w.~/\-]+\.\w+", "x", message.removeprefix("smm-bt: ").strip())
    return len(re.findall(r"[.!?](?=\s|$)", text)) or 1


@pytest.mark.parametrize("name", REFUSED)
def test_every_message_is_one_or_two_sentences(name: str, refusals: dict[str, Attempt]) -> None:
    done, _, _ = refusals[name]
    assert 1 <= sentences(done.stderr) <= 2, done.stderr
    assert len(done.stderr) < 600


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nonsense",), "No such command 'nonsense'"),
        (("replay", "--nonsense"), "No such option: --nonsense"),
        (("replay", "--candles"), "requires an argument"),
        (("replay", "--symbol", "A", "--tearsheet=1"), "does not take a value"),
    ],
)
def test_wrong_usage_is_told_with_code_2_and_without_a_traceback(
    arguments: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    done = smm_bt(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert everything_in(tmp_path) == []


def test_debug_shows_the_traceback_and_the_sentence(tmp_path: Path) -> None:
    folder = furnish(tmp_path)
    write_strategy(folder / "mine.py", "def compute_smm(df):\n    return 1 / 0\n")
    for place in (("--debug", "replay"), ("replay", "--debug")):
        done = smm_bt(*place, *WITH, cwd=folder)
        assert done.returncode == 3
        assert "Traceback (most recent call last)" in done.stderr
        assert "ZeroDivisionError" in done.stderr
        assert done.stderr.splitlines()[-1].startswith("smm-bt: ")


def test_secrets_are_not_shown_even_with_debug(tmp_path: Path) -> None:
    folder = furnish(tmp_path)
    keys = {"BINANCE_TESTNET_API_KEY": "kkkk-secret", "BINANCE_TESTNET_API_SECRET": "ssss-secret"}
    done = smm_bt("--debug", "replay", *WITH, "--set", "TAKER_FEE_RATE=9", cwd=folder, TRADING_MODE="TESTNET", **keys)
    assert done.returncode == 2
    assert "kkkk-secret" not in done.stderr + done.stdout
    assert "ssss-secret" not in done.stderr + done.stdout


# start


def test_help_names_the_commands_and_version_tells_the_version(tmp_path: Path) -> None:
    from smm_bt import __version__

    shown = smm_bt("--help", cwd=tmp_path)
    assert shown.returncode == 0
    assert "replay" in shown.stdout
    version = smm_bt("--version", cwd=tmp_path)
    assert (version.returncode, version.stdout.strip()) == (0, f"smm-bt {__version__}")


def test_without_a_command_the_help_is_shown(tmp_path: Path) -> None:
    done = smm_bt(cwd=tmp_path)
    assert "Usage: smm-bt" in done.stdout + done.stderr
    assert "unexpected" not in done.stderr


def test_help_starts_without_the_heavy_libraries(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom smm_bt.app.cli import main\nmain(['--help'])\n"
        "heavy = {'pandas', 'numpy', 'backtrader', 'pyarrow', 'ccxt', 'quantstats', 'plotly', 'matplotlib', 'talib',"
        " 'pydantic', 'aiohttp', 'scipy'}\nprint('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=child_environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "HEAVY []" in done.stdout


# interruptions


SLOW = """
import pathlib, time
def compute_smm(df):
    pathlib.Path("computing").touch()
    time.sleep(60)
"""


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_with_130_and_leaves_nothing(kind: signal.Signals, tmp_path: Path) -> None:
    folder = furnish(tmp_path)
    write_strategy(folder / "mine.py", SLOW)
    before = everything_in(folder)
    child = subprocess.Popen(
        [sys.executable, "-m", "smm_bt", "replay", *WITH, "--out", "deep/run"],
        cwd=folder,
        env=child_environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(folder / "computing")
    child.send_signal(kind)
    _, said = child.communicate(timeout=30)
    (folder / "computing").unlink()
    assert child.returncode == 130
    assert said == "smm-bt: Interrupted: the run was stopped and nothing half-written is left.\n"
    assert everything_in(folder) == before


def wait_for(path: Path, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)


#: Interrupts its own process some time after the columns are computed: in the engine or while files are written.
TIMED = """
import os, signal, threading
def compute_smm(df, after=0.0):
    df["buy_signal"] = df.index.minute % 15 == 0
    df["sell_signal"] = df.index.minute % 15 == 10
    timer = threading.Timer(after, os.kill, (os.getpid(), signal.SIGINT))
    timer.daemon = True
    timer.start()
"""


@pytest.mark.parametrize("after", [0.0, 0.05, 0.15, 0.4])
def test_whenever_the_interrupt_comes_the_run_folder_is_whole_or_absent(after: float, tmp_path: Path) -> None:
    folder = furnish(tmp_path, 20_000)
    write_strategy(folder / "mine.py", TIMED)
    (folder / "smm.toml").write_text(f"[strategy.parameters]\nafter = {after}\n")
    done = smm_bt("replay", *WITH, *QUICK, "--out", "run", cwd=folder)
    assert done.returncode in (0, 130), done.stderr
    assert [name for name in everything_in(folder) if ".part" in name] == []
    if (folder / "run").exists():
        assert {"trades.csv", "report.json", "journal.sqlite", "equity.parquet", "run.log"} <= set(
            os.listdir(folder / "run")
        )
        with sqlite3.connect(folder / "run" / "journal.sqlite") as journal:
            assert journal.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    else:
        assert done.returncode == 130


# full disks and forbidden places


def limited(limit: int) -> str:
    """Source of the program on a machine where no file may be larger than ``limit`` bytes."""
    return (
        "import resource, runpy, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "sys.argv[0] = 'smm-bt'\nrunpy.run_module('smm_bt', run_name='__main__')"
    )


@pytest.mark.parametrize("limit", [500, 20_000])
def test_a_disk_that_takes_no_more_is_told_and_leaves_nothing(limit: int, tmp_path: Path) -> None:
    folder = furnish(tmp_path)
    before = everything_in(folder)
    done = subprocess.run(
        [sys.executable, "-c", limited(limit), "replay", *WITH, "--out", "deep/run", "--no-cache"],
        cwd=folder,
        env=child_environment(PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("smm-bt: Cannot write ")
    assert "Nothing half-written is left" in done.stderr
    assert "Traceback" not in done.stderr
    assert everything_in(folder) == before


def test_a_page_that_cannot_be_drawn_leaves_the_figures_and_the_command_that_draws_it(tmp_path: Path) -> None:
    folder = furnish(tmp_path)
    # a chart is above the limit, the figures of 600 candles and the tearsheet of their two days are below it
    done = subprocess.run(
        [sys.executable, "-c", limited(300_000), "replay", *WITH, "--out", "run", "--no-tearsheet", "--no-cache"],
        cwd=folder,
        env=child_environment(PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr == (
        "smm-bt: The figures are complete in run, but chart.html could not be drawn (File too large); draw what is "
        f"missing with: smm-bt report run --candles {CSV}\n"
    )
    assert sorted(os.listdir(folder / "run")) == sorted(FIGURES)
    assert "Final equity" in done.stdout
    drawn = smm_bt("report", "run", "--candles", CSV, cwd=folder)
    assert drawn.returncode == 0, drawn.stderr
    assert (folder / "run" / "chart.html").stat().st_size > 300_000


def test_an_interrupt_while_a_page_is_drawn_says_what_is_there(tmp_path: Path) -> None:
    folder = furnish(tmp_path)
    source = (
        "import sys\nfrom smm_bt.app import replay\nfrom smm_bt.app.cli import main\n"
        "def interrupted(result, path):\n    raise KeyboardInterrupt\n"
        "replay._draw_tearsheet = interrupted\nsys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", source, "replay", *WITH, "--out", "run"],
        cwd=folder,
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 130, done.stderr
    assert "Interrupted: the figures are complete in run, but tearsheet.html and chart.html could not" in done.stderr
    assert sorted(os.listdir(folder / "run")) == sorted(FIGURES)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KB, where the machine lets tests mount one."""
    place = tmp_path / "tiny"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True)
    if made.returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_told_by_its_name_and_left_empty(tiny_disk: Path, tmp_path: Path) -> None:
    folder = furnish(tmp_path / "work")
    done = smm_bt("replay", *WITH, *QUICK, "--out", tiny_disk / "run", cwd=folder)
    assert done.returncode == 1
    assert re.match(r"smm-bt: Cannot write .*(No space left on device|disk is full)", done.stderr)
    assert everything_in(tiny_disk) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_told(tmp_path: Path) -> None:
    folder = furnish(tmp_path / "work")
    (tmp_path / "locked").mkdir(mode=0o500)
    done = smm_bt("replay", *WITH, *QUICK, "--out", tmp_path / "locked" / "run", cwd=folder)
    assert (done.returncode, "Permission denied" in done.stderr) == (1, True)


# runs that work


def test_a_balance_too_small_completes_with_every_entry_skipped_and_figures(tmp_path: Path) -> None:
    folder = furnish(tmp_path)
    done = smm_bt("replay", *WITH, *QUICK, "--set", "INITIAL_BALANCE_USDT=1", "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "run" / "report.json").read_text())
    assert report["total_trades"] == 0
    assert report["skipped_entries"] == CANDLES // 20  # the flipping strategy enters every 20 candles
    assert report["final_equity"] == 1.0
    log = [json.loads(line) for line in (folder / "run" / "run.log").read_text().splitlines()]
    skipped = [line for line in log if line["event"] == "entry_skipped"]
    assert len(skipped) == CANDLES // 20
    assert all("below the minimum" in line["why"] and "1.0 USDT free" in line["why"] for line in skipped)


def test_without_out_the_run_gets_its_own_folder_under_runs(tmp_path: Path) -> None:
    folder = furnish(tmp_path)
    for _ in range(2):
        assert smm_bt("replay", *WITH, *QUICK, cwd=folder).returncode == 0
    names = sorted(path.name for path in (folder / "runs").iterdir())
    assert len(names) == 2
    assert all(re.fullmatch(r"\d{8}T\d{6}Z-BTCUSDT-[0-9a-f]{6}", name) for name in names)


def test_several_symbols_share_one_balance_in_one_replay(tmp_path: Path) -> None:
    folder = furnish(tmp_path)
    write_csv(folder / "ETHUSDT-5m.csv.gz", made_rows(300, NEW_YEAR_MS + 100 * FIVE_MINUTES_MS, price=3_000.0))
    done = smm_bt(
        "replay",
        *WITH,
        "--candles",
        "ETHUSDT-5m.csv.gz",
        *QUICK,
        "--out",
        "run",
        "--set",
        "TAKER_FEE_RATE=0",
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "run" / "report.json").read_text())
    assert report["symbols"] == ["BTCUSDT", "ETHUSDT"]
    assert report["candles"] == 900
    assert pq.read_table(folder / "run" / "equity.parquet").num_rows == 600


def test_the_reference_is_used_without_a_strategy_and_says_so(tmp_path: Path) -> None:
    from strategy.loader import SLOT

    if SLOT.exists():
        pytest.skip("a file of the user's own is in the slot")
    folder = furnish(tmp_path)
    done = smm_bt("replay", CSV, *QUICK, "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "reference" in done.stdout.lower()
    assert json.loads((folder / "run" / "report.json").read_text())["strategy_is_reference"] is True


# one finished run, looked at from all sides


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run with everything: pages, mark candles, funding, a stop; its folder and what it printed."""
    folder = furnish(tmp_path_factory.mktemp("finished"))
    price = made_rows(CANDLES, price=50_000.0)
    write_csv(folder / "BTCUSDT-mark-5m.csv", [row[:5] for row in price], HEADER[:5])
    settlements = [(NEW_YEAR_MS + n * 8 * 3_600_000, 0.0001 * (n - 2)) for n in range(7)]
    write_csv(folder / "BTCUSDT-funding.csv", settlements, ("timestamp", "funding_rate"))
    done = smm_bt(
        *("replay", *WITH, "--mark", "BTCUSDT-mark-5m.csv", "--funding", "BTCUSDT-funding.csv", "--out", "run"),
        *("--set", "STOP_LOSS_PERCENT=1.5", "--set", "SLIPPAGE_BPS=1"),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return folder / "run", done.stdout


@pytest.fixture(scope="module")
def report(finished: tuple[Path, str]) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((finished[0] / "report.json").read_text("utf-8"))
    return body


@pytest.fixture(scope="module")
def trades(finished: tuple[Path, str]) -> list[dict[str, str]]:
    with (finished[0] / "trades.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_folder_holds_exactly_the_files_of_the_specification(finished: tuple[Path, str]) -> None:
    assert sorted(os.listdir(finished[0])) == [
        "chart.html",
        "equity.parquet",
        "journal.sqlite",
        "report.json",
        "run.log",
        "tearsheet.html",
        "trades.csv",
    ]


def test_nothing_else_is_left_beside_the_run_folder(finished: tuple[Path, str]) -> None:
    here = finished[0].parent
    assert [name for name in everything_in(here) if name.endswith((".part", "-wal", "-shm", ".tmp"))] == []


def test_the_trade_log_has_the_columns_of_the_specification_in_their_order(finished: tuple[Path, str]) -> None:
    header = (finished[0] / "trades.csv").read_text().split("\n")[0]
    assert header == (
        "symbol,side,entry_time,entry_price,qty,exit_time,exit_price,pnl_usdt,pnl_percent,fees,close_reason,"
        "gross_pnl_usdt,funding_usdt,margin_usdt,entry_order_id,exit_order_id,run_id"
    )


def test_every_trade_adds_up(trades: list[dict[str, str]], finished: tuple[Path, str]) -> None:
    assert len(trades) > 10
    for row in trades:
        net = float(row["gross_pnl_usdt"]) - float(row["fees"]) + float(row["funding_usdt"])
        assert float(row["pnl_usdt"]) == pytest.approx(net)
        assert float(row["pnl_percent"]) == pytest.approx(100 * net / float(row["margin_usdt"]))
        assert row["side"] in ("long", "short")
        assert row["close_reason"] in ("profit_target", "opposite_signal", "stop_loss", "liquidation")
        assert re.fullmatch(r"2025-01-0\dT\d\d:\d\d:\d\dZ", row["entry_time"])
        assert re.fullmatch(r"2025-01-0\dT\d\d:\d\d:\d\d(\.\d+)?Z", row["exit_time"])
        assert row["run_id"] == finished[0].name


def test_the_report_has_the_keys_of_the_specification(report: dict[str, Any]) -> None:
    named = "total_trades, win_rate, avg_win, avg_loss, total_pnl, profit_factor, max_drawdown, max_drawdown_usdt"
    further = (
        "initial_balance, final_equity, fees_usdt, funding_usdt, liquidations, skipped_entries, conflicting_signals, "
        "trades_by_reason, long, short, exposure, sharpe, sortino, open_position, pending_signal, first_candle, "
        "last_candle, candles, gaps, symbols, timeframe, mode, market_source, strategy_file, strategy_sha256, "
        "strategy_is_reference, engine, funding_modelled, settings"
    )
    assert set(f"{named}, {further}".split(", ")) <= set(report)


def test_the_report_says_what_was_run(report: dict[str, Any], finished: tuple[Path, str]) -> None:
    assert (report["symbols"], report["timeframe"], report["candles"], report["gaps"]) == (["BTCUSDT"], "5m", 600, 0)
    assert (report["first_candle"], report["last_candle"]) == ("2025-01-01T00:00:00Z", "2025-01-03T01:55:00Z")
    assert report["mode"] == "replay"
    assert report["strategy_is_reference"] is False
    assert report["strategy_sha256"] == hashlib.sha256(FLIPPING_STRATEGY.encode()).hexdigest()
    assert report["strategy_file"].endswith("mine.py")
    assert report["funding_modelled"] is True
    assert report["settings"]["STOP_LOSS_PERCENT"] == 1.5
    assert report["settings"]["BINANCE_TESTNET_API_SECRET"] is None


def test_report_and_trade_log_agree(report: dict[str, Any], trades: list[dict[str, str]]) -> None:
    nets = [float(row["pnl_usdt"]) for row in trades]
    wins, losses = [n for n in nets if n > 0], [n for n in nets if n < 0]
    assert report["total_trades"] == len(trades)
    assert report["total_pnl"] == pytest.approx(sum(nets))
    assert report["win_rate"] == pytest.approx(len(wins) / len(nets))
    assert report["avg_win"] == pytest.approx(sum(wins) / len(wins))
    assert report["avg_loss"] == pytest.approx(sum(losses) / len(losses))
    assert report["profit_factor"] == pytest.approx(sum(wins) / -sum(losses))
    counted = {row["close_reason"]: 0 for row in trades}
    for row in trades:
        counted[row["close_reason"]] += 1
    assert report["trades_by_reason"] == counted
    assert report["long"]["total_trades"] + report["short"]["total_trades"] == len(trades)


def test_equity_has_one_row_per_candle_and_agrees_with_the_report(
    report: dict[str, Any], finished: tuple[Path, str], trades: list[dict[str, str]]
) -> None:
    table = pq.read_table(finished[0] / "equity.parquet")
    assert table.column_names == ["time", "equity", "wallet"]
    assert str(table.schema.field("time").type).startswith("timestamp[")
    assert str(table.schema.field("time").type.tz) == "UTC"
    assert table.num_rows == CANDLES
    equity, wallet = (table.column(name).to_pylist() for name in ("equity", "wallet"))
    assert report["final_equity"] == equity[-1]
    held = report["open_position"]
    unrealised = held["unrealized_pnl_usdt"] if held else 0.0
    paid = held["fees_usdt"] - held["funding_usdt"] if held else 0.0
    assert wallet[-1] == pytest.approx(10_000 + sum(float(row["pnl_usdt"]) for row in trades) - paid)
    assert equity[-1] == pytest.approx(wallet[-1] + unrealised)
    peak, fall = 10_000.0, 0.0
    for value in equity:
        peak = max(peak, value)
        fall = max(fall, (peak - value) / peak)
    assert report["max_drawdown"] == pytest.approx(fall)


def test_the_journal_holds_the_same_trades_and_every_table(
    finished: tuple[Path, str], trades: list[dict[str, str]], report: dict[str, Any]
) -> None:
    with sqlite3.connect(f"file:{finished[0] / 'journal.sqlite'}?mode=ro", uri=True) as journal:
        tables = {name for (name,) in journal.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert {
            "run",
            "settings",
            "decisions",
            "orders",
            "order_states",
            "fills",
            "trades",
            "equity",
            "events",
        } <= tables
        rows = journal.execute(
            "SELECT pnl_usdt, close_reason, entry_order_id, run_id FROM trades ORDER BY id"
        ).fetchall()
        assert [(repr(pnl), *rest) for pnl, *rest in rows] == [
            (row["pnl_usdt"], row["close_reason"], row["entry_order_id"], row["run_id"]) for row in trades
        ]
        last = journal.execute("SELECT equity_usdt FROM equity ORDER BY time_ms DESC LIMIT 1").fetchone()
        assert last == (report["final_equity"],)
        run = journal.execute("SELECT run_id, mode, strategy_sha256 FROM run").fetchall()
        assert run == [(finished[0].name, "replay", report["strategy_sha256"])]
        open_fills = 2 * len(trades) + bool(report["open_position"])
        assert journal.execute("SELECT count(*) FROM fills").fetchone() == (open_fills,)


def test_the_log_is_lines_of_json_that_begin_and_end(finished: tuple[Path, str]) -> None:
    events = [json.loads(line)["event"] for line in (finished[0] / "run.log").read_text().splitlines()]
    assert events[0] == "replay_started"
    assert events[-1] == "replay_finished"


def test_the_pages_work_offline(finished: tuple[Path, str]) -> None:
    for name in ("tearsheet.html", "chart.html"):
        page = (finished[0] / name).read_text("utf-8")
        assert not re.search(r"<(script|link|img)[^>]+(src|href)=[\"']?(https?:)?//", page), name


def test_the_summary_shows_the_seven_figures_and_where_the_files_are(
    finished: tuple[Path, str], report: dict[str, Any]
) -> None:
    printed = finished[1]
    for word in (
        "Total PnL",
        "Win rate",
        "Average win",
        "Average loss",
        "Profit factor",
        "Max drawdown",
        "Final equity",
    ):
        assert word in printed
    assert f"over {report['total_trades']} closed trades" in printed
    *lines, last = printed.rstrip().splitlines()
    assert (finished[0].parent / last.removeprefix("Files: ")).resolve() == finished[0].resolve()
    assert all(len(line) <= 80 for line in lines)


def test_the_same_run_again_gives_the_same_figures(finished: tuple[Path, str], report: dict[str, Any]) -> None:
    folder = finished[0].parent
    done = smm_bt(
        *("replay", *WITH, "--mark", "BTCUSDT-mark-5m.csv", "--funding", "BTCUSDT-funding.csv", "--out", "again"),
        *("--set", "STOP_LOSS_PERCENT=1.5", "--set", "SLIPPAGE_BPS=1", "--engine", "stock", *QUICK),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    again = json.loads((folder / "again" / "report.json").read_text("utf-8"))
    different = {key for key in report if report[key] != again[key]}
    assert different <= {"run_id", "engine", "engine_reason"}
    equity = (finished[0] / "equity.parquet").read_bytes()
    assert equity == (folder / "again" / "equity.parquet").read_bytes()


def test_csv_text_and_the_candles_of_these_tests_are_what_they_say() -> None:
    assert csv_text(made_rows(1)).startswith("timestamp,open,high,low,close,volume\n1735689600000,")
