"""Soak: days of 1m candles of several symbols through a live PAPER run at full speed; memory, books, requests.

``python benchmarks/live_soak.py [--days 7] [--symbols 5]`` prints the figures and exits 1 when memory grew by 10 MB
or more after the first fifth, when journal and account differ, or when a candle was missed.
"""

from __future__ import annotations

import argparse
import io
import math
import resource
import sqlite3
import sys
import tempfile
import threading
import time
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from feeds.made import made_candles, write_candles
from smm_bt.app.live import LiveRequest, live
from smm_bt.app.live_finish import LiveResult
from smm_bt.app.live_market_source import MarketChoice
from smm_bt.app.settings import load_settings

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT")
PAGE = resource.getpagesize()


def resident_mb() -> float:
    """Memory this process has resident, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6


class Watch(threading.Thread):
    """Samples memory beside the number of candle times dealt with."""

    def __init__(self, journal: Path) -> None:
        super().__init__(daemon=True)
        self._journal, self.ended = journal, threading.Event()
        self.samples: list[tuple[int, float]] = []

    def run(self) -> None:
        """Sample every second."""
        while not self.ended.wait(1.0):
            if self._journal.exists():
                self.samples.append((self._steps(), resident_mb()))

    def _steps(self) -> int:
        try:
            connection = sqlite3.connect(f"{self._journal.as_uri()}?mode=ro", uri=True)
            try:
                return int(connection.execute("SELECT count(*) FROM equity").fetchone()[0])
            finally:
                connection.close()
        except sqlite3.Error:
            return 0


def soak(folder: Path, days: int, symbols: int) -> tuple[LiveResult, Watch, float]:
    """Run ``days`` of candles; return the result, the samples and the seconds it took."""
    files = []
    for number, symbol in enumerate(SYMBOLS[:symbols]):
        files.append(folder / f"{symbol}-1m.csv")
        write_candles(made_candles(symbol, "1m", count=days * 1440, seed=number + 1), files[-1])
    settings = load_settings({"RUNS_DIR": folder}, folder=folder, environment={})
    choice = MarketChoice("embedded", speed=math.inf, candles=tuple(files))
    watch, begin = Watch(folder / "run" / "journal.sqlite"), time.monotonic()
    watch.start()
    try:
        request = LiveRequest(settings, choice, folder / "run", pages=False)
        result = live(request, Console(file=io.StringIO()))
    finally:
        watch.ended.set()
        watch.join()
    return result, watch, time.monotonic() - begin


def main() -> int:
    """Soak and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--days", type=int, default=7)
    options.add_argument("--symbols", type=int, default=5)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        result, watch, seconds = soak(Path(name), given.days, given.symbols)
    steps = given.days * 1440
    settled = [memory for step, memory in watch.samples if step > steps / 5]
    growth = max(settled[len(settled) // 2 :], default=0.0) - (settled[0] if settled else 0.0)
    record, wallet = result.record, result.record.initial_balance_usdt
    for entry in record.ledger_entries:
        wallet += entry.amount_usdt
    drift = abs(wallet - record.wallet_usdt)
    print(f"{result.info.candles:,} candles in {seconds:,.0f} s ({result.info.candles / seconds:,.0f} per second)")
    print(f"memory: {settled[0] if settled else 0:.1f} MB after a fifth, grown by {growth:+.1f} MB")
    print(f"trades {len(record.trades)}, wallet {record.wallet_usdt:.8f}, journal adds up to {drift:.1e} USDT of it")
    print(f"candles missed: {result.info.missing_candles}; curve points: {len(result.equity.open_ms):,}")
    whole = result.info.candles == steps * given.symbols and len(result.equity.open_ms) == steps
    return 0 if whole and growth < 10 and drift < 1e-6 else 1


if __name__ == "__main__":
    raise SystemExit(main())
