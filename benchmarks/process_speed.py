"""The whole ``smm-bt replay`` process as a ratio to importing backtrader and pandas, measured side by side.

    python benchmarks/process_speed.py            one year of minutes, five rounds
    python benchmarks/process_speed.py --guard    exit 1 when a ratio or the memory exceeds its ceiling

"cold" has no column cache, "warm" has one. Both start Python, load the candles, run a cheap strategy, write trade log,
report, equity and journal; tearsheet and chart are left out. The reference strategy is timed beside the same formulas
in pandas.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from replay_speed import YEAR, made_market

from feeds.candles import check_candles
from feeds.made import write_candles
from strategy.reference import compute_smm

CHEAP = """
import numpy as np

def compute_smm(df):
    rng = np.random.default_rng(11)
    for name in ("buy_signal", "sell_signal", "profit_target_hit"):
        df[name] = rng.random(len(df)) < 1 / 400
"""

#: Largest wanted ratio to the import, and peak memory in MiB of a warm run.
CEILINGS = {"warm": 1.8, "cold": 3.0, "MiB": 350.0}

#: The guard fails only this far beyond them: machines that run it are noisy.
MARGIN = 1.35


def measured(command: list[str], folder: Path) -> tuple[float, float]:
    """Run a command to its end; return wall seconds and peak memory in MiB of that process alone."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return time.perf_counter() - begin, usage.ru_maxrss / 1024


def replay_command(folder: Path) -> list[str]:
    """Return the command that replays the year."""
    shutil.rmtree(folder / "run", ignore_errors=True)
    options = ("--candles", "BTCUSDT-1m.parquet", "--strategy", "cheap.py", "--no-tearsheet", "--no-chart")
    balance = ("--set", "INITIAL_BALANCE_USDT=1000000", "--out", "run")
    return [sys.executable, "-m", "smm_bt", "replay", *options, *balance]


def processes(folder: Path, rounds: int) -> dict[str, float]:
    """Print import, cold and warm runs; return the median ratios and the warm run's memory."""
    runs: dict[str, list[tuple[float, float]]] = {"import": [], "cold": [], "warm": []}
    for _ in range(rounds):
        runs["import"].append(measured([sys.executable, "-c", "import backtrader, pandas"], folder))
        shutil.rmtree(folder / ".smm-cache", ignore_errors=True)
        runs["cold"].append(measured(replay_command(folder), folder))
        runs["warm"].append(measured(replay_command(folder), folder))
    print(f"{'process':<8}{'seconds':>9}{'x import':>10}{'peak MiB':>10}")
    found = {}
    for name, done in runs.items():
        ratios = [run[0] / base[0] for run, base in zip(done, runs["import"], strict=True)]
        found[name] = statistics.median(ratios)
        memory = statistics.median(run[1] for run in done)
        print(f"{name:<8}{statistics.median(r[0] for r in done):>9.2f}{found[name]:>10.2f}{memory:>10.0f}")
    return found | {"MiB": statistics.median(run[1] for run in runs["warm"])}


def pandas_version(df: pd.DataFrame) -> pd.DataFrame:
    """The reference strategy's columns with pandas' own operations, profit target left out."""
    previous = df["close"].shift(1)
    spans = pd.concat([df["high"] - df["low"], (df["high"] - previous).abs(), (df["low"] - previous).abs()], axis=1)
    true_range = spans.max(axis=1)
    highest, lowest = df["high"].rolling(14).max(), df["low"].rolling(14).min()
    typical = (df["high"] + df["low"] + df["close"]) / 3
    flow = typical * df["volume"]
    rising = flow.where(typical.diff() > 0, 0.0).rolling(14).sum()
    falling = flow.where(typical.diff() < 0, 0.0).rolling(14).sum()
    ha_close = (df["open"] + df["high"] + df["low"] + df["close"]) / 4
    return pd.DataFrame(
        {
            "chop": (true_range.rolling(14).sum() / (highest - lowest)).apply("log10") / 1.146128,
            "mfi": 100 * rising / (rising + falling),
            "ha_open": ha_close.shift(1).ewm(alpha=0.5, adjust=False).mean(),
            "atr": true_range.ewm(alpha=1 / 14, adjust=False).mean(),
        }
    )


def reference(frame: pd.DataFrame, rounds: int) -> None:
    """Print how long the reference strategy takes, beside pandas on most of the same formulas."""
    seconds: dict[str, list[float]] = {"reference": [], "pandas": []}
    for _ in range(rounds):
        for name, compute in (("reference", compute_smm), ("pandas", pandas_version)):
            given = frame.copy()
            begin = time.perf_counter()
            compute(given)
            seconds[name].append(time.perf_counter() - begin)
    ours, theirs = (statistics.median(seconds[name]) for name in ("reference", "pandas"))
    print(f"\nreference compute_smm: {ours * 1e3:.0f} ms for {len(frame):,} candles; pandas takes {theirs / ours:.1f}x")


def main() -> int:
    """Make the year, measure, judge."""
    parser = argparse.ArgumentParser(description="whole-process replay speed")
    parser.add_argument("--guard", action="store_true")
    given = parser.parse_args()
    columns, _ = made_market(YEAR, 400)
    candles = check_candles("BTCUSDT", "1m", columns)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_candles(candles, folder / "BTCUSDT-1m.parquet")
        (folder / "cheap.py").write_text(CHEAP)
        found = processes(folder, 3 if given.guard else 5)
    reference(candles.frame(), 5)
    high = [name for name, ceiling in CEILINGS.items() if found[name] > ceiling * MARGIN]
    if high and given.guard:
        print("above the ceiling: " + ", ".join(f"{name} {found[name]:.2f}" for name in high))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
