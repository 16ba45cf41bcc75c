"""What the live tests share: made candle files, strategies that signal often, runs in this process and in others."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from made_files import child_environment
from rich.console import Console

from feeds.candles import Candles, check_candles
from feeds.made import write_candles
from smm_bt.app.inputs import ReplayFiles
from smm_bt.app.live import LiveRequest, live
from smm_bt.app.live_finish import LiveResult
from smm_bt.app.live_market_source import MarketChoice
from smm_bt.app.replay import ReplayRequest, replay
from smm_bt.app.settings import load_settings

START_MS, FIVE_MINUTES_MS = 1_735_689_600_000, 300_000
PRICES = {"BTCUSDT": (60_000.0, 0.1), "ETHUSDT": (3_000.0, 0.01), "SOLUSDT": (150.0, 0.01)}

#: Signals by a hash of the candle's time: often, on any window the same, and nothing to warm up.
HASHED = """
import numpy as np

def compute_smm(df, density=0.15, seed=1):
    minutes = df.index.as_unit("ms").asi8 // 60_000 + round(float(seed) * 7919)
    def chance(salt):
        mixed = (minutes.astype(np.uint64) + np.uint64(salt)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        return (mixed >> np.uint64(40)).astype(float) / 2**24
    df["buy_signal"] = chance(1) < density
    df["sell_signal"] = chance(2) < density
    df["profit_target_hit"] = chance(3) < density
    df["noise"] = chance(4)
    return df
"""

#: A breakout with a trailing target, from rolling windows.
BREAKOUT = """
def compute_smm(df, length=12):
    high, low = df["high"].rolling(length).max().shift(1), df["low"].rolling(length).min().shift(1)
    middle = df["close"].rolling(length * 2).mean()
    return {
        "buy_signal": df["close"] > high,
        "sell_signal": df["close"] < low,
        "profit_target_hit": (df["close"] / middle - 1).abs() > 0.012,
    }
"""

#: No profit target, and not content with fewer than 30 candles.
CROSSING = """
def compute_smm(df):
    if len(df) < 30:
        raise ValueError("too few candles")
    fast, slow = df["close"].rolling(5).mean(), df["close"].rolling(20).mean()
    above = fast > slow
    df["buy_signal"] = above & ~above.shift(1, fill_value=True) & (df["close"].expanding().count() > 30)
    df["sell_signal"] = ~above & above.shift(1, fill_value=False) & (df["close"].expanding().count() > 30)
    return df
"""

#: In on every candle with an even number, out on every other one.
IN_AND_OUT = """
def compute_smm(df):
    number = df.index.as_unit("ms").asi8 // 300_000
    df["buy_signal"], df["sell_signal"], df["profit_target_hit"] = number % 2 == 0, False, number % 2 == 1
    return df
"""

#: The same with a decision on nearly every candle.
BUSY = HASHED.replace("density=0.15", "density=0.45")

STRATEGIES = {"hashed": HASHED, "busy": BUSY, "breakout": BREAKOUT, "crossing": CROSSING}


def made(symbol: str, seed: int, count: int, volatility: float = 0.004, gaps: Sequence[int] = ()) -> Candles:
    """A random walk on the symbol's tick; the candles at ``gaps`` are left out."""
    rng = np.random.default_rng(seed)
    start, tick = PRICES[symbol]
    close = start * np.exp(np.cumsum(rng.normal(0, volatility, count)))
    opened = np.concatenate([[start], close[:-1]]) * np.exp(rng.normal(0, volatility / 5, count))
    spread = 1 + np.abs(rng.normal(0, volatility / 2, count))
    high, low = np.maximum(opened, close) * spread, np.minimum(opened, close) / spread
    decimals = len(str(tick)) - 2
    rows = {"open": opened, "high": high, "low": low, "close": close}
    rounded = {name: np.round(np.round(values / tick) * tick, decimals) for name, values in rows.items()}
    columns: dict[str, Any] = {"open_ms": START_MS + FIVE_MINUTES_MS * np.arange(count), "volume": np.ones(count)}
    kept = np.setdiff1d(np.arange(count), np.array(gaps, dtype=int))
    return check_candles(symbol, "5m", {name: values[kept] for name, values in (columns | rounded).items()})


def files_of(folder: Path, symbols: Sequence[str] = ("BTCUSDT",), count: int = 250, **options: Any) -> list[Path]:
    """Write one made candle file per symbol; ``gaps_of`` gives single symbols holes of their own."""
    paths, own_gaps = [], options.pop("gaps_of", {})
    for number, symbol in enumerate(symbols):
        own = {"gaps": own_gaps[symbol]} if symbol in own_gaps else {}
        paths.append(folder / f"{symbol}-5m.csv")
        write_candles(made(symbol, options.get("seed", 1) * 10 + number, count, **_walk(options | own)), paths[-1])
    return paths


def _walk(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in ("volatility", "gaps") if name in options}


def strategy_file(folder: Path, name: str = "hashed") -> Path:
    path = folder / f"{name}.py"
    path.write_text(STRATEGIES[name], "utf-8")
    return path


def quiet() -> Console:
    return Console(file=io.StringIO(), width=100, color_system=None)


def run_live(out: Path, strategy: Path, candles: Sequence[Path], *, speed: float = math.inf, **more: Any) -> LiveResult:
    """Run live in this process; ``settings`` are settings, the rest is for LiveRequest or the market."""
    settings = load_settings(
        {"STRATEGY_FILE": strategy, "RUNS_DIR": out.parent, **more.pop("settings", {})},
        folder=out.parent,
        environment={},
    )
    market = {name: more.pop(name) for name in ("mark", "funding", "address", "seed") if name in more}
    choice = MarketChoice(name="embedded", speed=speed, candles=tuple(candles), **market)
    request = LiveRequest(settings=settings, market=choice, out=out, pages=more.pop("pages", False), **more)
    return live(request, quiet())


def run_replay(out: Path, strategy: Path, candles: Sequence[Path], **more: Any) -> list[dict[str, str]]:
    settings = load_settings(
        {"STRATEGY_FILE": strategy, "RUNS_DIR": out.parent, **more.pop("settings", {})},
        folder=out.parent,
        environment={},
    )
    files = ReplayFiles(candles=list(candles), **more)
    result = replay(ReplayRequest(files, settings, out, tearsheet=False, chart=False), quiet())
    return trades_of(result.folder)


def trades_of(folder: Path) -> list[dict[str, str]]:
    """The rows of trades.csv without the run's own id."""
    with (folder / "trades.csv").open(newline="", encoding="utf-8") as file:
        return [{name: value for name, value in row.items() if name != "run_id"} for row in csv.DictReader(file)]


def report_of(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "report.json").read_text("utf-8"))
    return report


def rows_of(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    """Ask a journal, also one that is being written."""
    address = f"{(folder / 'journal.sqlite').absolute().as_uri()}?mode=rw"  # must not make the file
    with contextlib.closing(sqlite3.connect(address, uri=True, timeout=10)) as connection:
        return connection.execute(sql).fetchall()


def live_command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "smm_bt", "live", *map(str, arguments)]


@contextlib.contextmanager
def live_process(*arguments: str | Path, cwd: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Start ``smm-bt live`` as a process of its own; it is killed at the end if it still runs."""
    process = subprocess.Popen(
        live_command(*arguments),
        cwd=cwd,
        env=child_environment(**environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)


def wait_for(
    folder: Path, sql: str, *, at_least: int = 1, seconds: float = 60.0, alive: Callable[[], bool] = lambda: True
) -> int:
    """Wait until a question to a journal counts ``at_least``, while its writer is ``alive``; return the count."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and alive():
        with contextlib.suppress(sqlite3.OperationalError):
            count = int(rows_of(folder, sql)[0][0] or 0)
            if count >= at_least:
                return count
        time.sleep(0.02)
    raise AssertionError(f"{sql} did not come to {at_least} in {seconds} s")
