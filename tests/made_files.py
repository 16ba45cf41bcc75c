"""Makes candle, mark, funding and market-rule files for tests, and calls ``python -m smm_bt`` on them."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]

#: 2025-01-01T00:00:00Z, a Wednesday.
NEW_YEAR_MS = 1_735_689_600_000
MINUTE_MS = 60_000
FIVE_MINUTES_MS = 300_000
DAY_MS = 86_400_000

Row = tuple[Any, ...]
HEADER = ("timestamp", "open", "high", "low", "close", "volume")


def made_rows(
    count: int, start_ms: int = NEW_YEAR_MS, step_ms: int = FIVE_MINUTES_MS, price: float = 100.0
) -> list[Row]:
    """Candles of a slow wave round ``price``: timestamp, open, high, low, close, volume."""
    wave = price * (1 + 0.02 * np.sin(np.arange(count + 1) / 7.0)).round(6)
    rows = []
    for number in range(count):
        opened, closed = float(wave[number]), float(wave[number + 1])
        high, low = max(opened, closed) * 1.001, min(opened, closed) * 0.999
        rows.append((start_ms + number * step_ms, opened, high, low, closed, 10.0 + number % 5))
    return rows


def flat_rows(*prices: float, start_ms: int = NEW_YEAR_MS, step_ms: int = FIVE_MINUTES_MS) -> list[Row]:
    """One candle per price, with open, high, low and close all at that price."""
    return [(start_ms + number * step_ms, price, price, price, price, 1.0) for number, price in enumerate(prices)]


def csv_text(rows: Sequence[Row], header: Sequence[str] = HEADER) -> str:
    return "\n".join([",".join(header), *(",".join(map(str, row)) for row in rows)]) + "\n"


def write_csv(path: Path, rows: Sequence[Row], header: Sequence[str] = HEADER) -> Path:
    """Write a CSV, gzipped when the name ends so."""
    text = csv_text(rows, header).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def write_parquet(path: Path, columns: Mapping[str, Any]) -> Path:
    """Write named columns (numpy arrays, lists or pyarrow arrays) as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(dict(columns)), path)
    return path


def columns_of(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """The rows as columns by name."""
    return {name: list(values) for name, values in zip(HEADER, zip(*rows, strict=True), strict=True)}


def bracket_body(symbol: str, tiers: Sequence[tuple[float, float, int, float, float]]) -> list[dict[str, Any]]:
    """A leverageBracket answer: tiers of floor, cap, leverage, maintenance rate, cum."""
    names = ("notionalFloor", "notionalCap", "initialLeverage", "maintMarginRatio", "cum")
    rows = [{"bracket": n, **dict(zip(names, tier, strict=True))} for n, tier in enumerate(tiers, 1)]
    return [{"symbol": symbol, "brackets": rows}]


def write_json(path: Path, body: Any) -> Path:
    text = json.dumps(body).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


#: A strategy that flips every 20 candles and takes its profit 10 candles after each flip.
FLIPPING_STRATEGY = """
import numpy as np

def compute_smm(df, period=20):
    row = np.arange(len(df))
    df["buy_signal"] = row % (2 * period) == 5
    df["sell_signal"] = row % (2 * period) == 5 + period
    df["profit_target_hit"] = row % (2 * period) == 15
    df["chop"] = 50.0
    return df
"""


def write_strategy(path: Path, source: str = FLIPPING_STRATEGY) -> Path:
    path.write_text(source, encoding="utf-8")
    return path


def child_environment(**more: str) -> dict[str, str]:
    """The environment of a child: this one without any setting of ours, able to import the packages under test."""
    from smm_bt.app.settings import Settings

    kept = {name: value for name, value in os.environ.items() if name not in Settings.model_fields}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", **more}


def smm_bt(
    *arguments: str | Path, cwd: Path, timeout: float = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m smm_bt`` with ``arguments`` in ``cwd`` and return what it said."""
    command = [sys.executable, "-m", "smm_bt", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=child_environment(**environment), capture_output=True, text=True, timeout=timeout
    )


#: Loads the program once and forks a process for each command: real exit codes without a second of imports each.
_FORKING = """
import importlib, json, os, sys, traceback
for name in ("smm_bt.app.replay", "smm_bt.app.settings", "pandas", "pyarrow.csv", "pyarrow.parquet", "dotenv"):
    importlib.import_module(name)
from smm_bt.app.cli import main
for line in sys.stdin:
    case = json.loads(line)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.chdir(case["cwd"])
            os.environ.update(case["environment"])
            for number, name in ((1, "out"), (2, "err")):
                os.dup2(os.open(case[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            code = main(case["arguments"])
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class ForkedCommands:
    """Runs many commands of the program, each in its own process and folder."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._parent = subprocess.Popen(
            [sys.executable, "-c", _FORKING],
            cwd=scratch,
            env=child_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> ForkedCommands:
        return self

    def __exit__(self, *_: object) -> None:
        self._parent.communicate(timeout=30)

    def run(self, *arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run one command in ``cwd`` and return what it said."""
        said = {name: str(self._scratch / name) for name in ("out", "err")}
        case = {"arguments": [*map(str, arguments)], "cwd": str(cwd.absolute()), "environment": environment, **said}
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(json.dumps(case) + "\n")
        self._parent.stdin.flush()
        code = int(self._parent.stdout.readline())
        out, err = (Path(said[name]).read_text("utf-8") for name in ("out", "err"))
        return subprocess.CompletedProcess(case["arguments"], code, out, err)
