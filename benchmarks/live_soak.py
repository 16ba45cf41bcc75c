"""Soak: days of 1m candles of several symbols through a live run at full speed; memory, books, requests.

``python benchmarks/live_soak.py [--days 7] [--symbols 5] [--mode PAPER|TESTNET] [--strategy FILE]`` prints the
figures and exits 1 when memory grew by 10 MB or more after the first fifth, when the journal does not add up to the
account or to the venue's wallet, when a candle was missed, or when a market minute took more request weight than the
budget allows.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import math
import resource
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from feeds.made import START_MS, made_candles, write_candles
from smm_bt.app.build import build_costs
from smm_bt.app.embedded import EmbeddedChild
from smm_bt.app.live import LiveRequest, live
from smm_bt.app.live_finish import LiveResult
from smm_bt.app.live_market_source import MarketChoice
from smm_bt.app.settings import Settings, load_settings
from smm_bt.execution.ledger import FuturesLedger
from smm_bt.execution.ledger_rebuild import rebuild_ledger
from smm_bt.execution.market_rules import load_instruments
from smm_bt.execution.weight_budget import WEIGHT_PER_MINUTE
from smm_bt.model import TradingMode

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


class Soaked(NamedTuple):
    """What a soak left: the run's result, memory samples by candle time, seconds, and the venue's own account."""

    result: LiveResult
    samples: list[tuple[int, float]]
    seconds: float
    settings: Settings
    requests: list[dict[str, Any]]
    venue_wallet_usdt: float


def soak(folder: Path, days: int, symbols: int, mode: str, strategy: Path | None) -> Soaked:
    """Run ``days`` of candles on an exchange in a child process."""
    files = []
    for number, symbol in enumerate(SYMBOLS[:symbols]):
        files.append(folder / f"{symbol}-1m.csv")
        write_candles(made_candles(symbol, "1m", count=days * 1440, seed=number + 1), files[-1])
    unlimited = {"weight_limit_1m": 0, "order_limit_10s": 0, "order_limit_1m": 0}
    options = {"candles": [str(path) for path in files], "start_ms": START_MS, "speed": None, "control": True}
    with EmbeddedChild(options | unlimited) as venue:
        chosen: dict[str, object] = {"RUNS_DIR": folder, "TRADING_MODE": mode}
        chosen |= {"STRATEGY_FILE": strategy} if strategy is not None else {}
        keys = {"BINANCE_TESTNET_API_KEY": venue.api_key, "BINANCE_TESTNET_API_SECRET": venue.api_secret}
        settings = load_settings(chosen, folder=folder, environment=keys)
        choice = MarketChoice("embedded", speed=math.inf, candles=tuple(files), address=venue.url)
        watch, begin = Watch(folder / "run" / "journal.sqlite"), time.monotonic()
        watch.start()
        try:
            request = LiveRequest(settings, choice, folder / "run", pages=False)
            result = live(request, Console(file=io.StringIO()))
        finally:
            watch.ended.set()
            watch.join()
        seconds = time.monotonic() - begin
        told = asked(venue.url, "requests")
        return Soaked(result, watch.samples, seconds, settings, told, float(asked(venue.url, "ledger")["wallet"]))


def asked(url: str, action: str) -> Any:
    """Return what the exchange says about itself."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    connection.request("GET", f"/emulator/{action}")
    try:
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def drift(soaked: Soaked) -> float:
    """Return by how many USDT journal and account differ; a simulated account is booked again from its fills."""
    record = soaked.result.record
    added = record.initial_balance_usdt + sum(entry.amount_usdt for entry in record.ledger_entries)
    if soaked.settings.TRADING_MODE is TradingMode.TESTNET:
        return max(abs(added - record.wallet_usdt), abs(added - soaked.venue_wallet_usdt))
    instruments = load_instruments(soaked.result.info.symbols)
    ledger = FuturesLedger(record.initial_balance_usdt, instruments, costs=build_costs(soaked.settings))
    rebuild_ledger(ledger, record.fills, record.ledger_entries)
    return max(abs(added - record.wallet_usdt), abs(added - ledger.wallet_usdt))


def heaviest_minute(requests: list[dict[str, Any]]) -> tuple[int, float]:
    """Return the largest and the mean request weight of a market minute, told apart by the candles asked for."""
    weights: Counter[int] = Counter()
    minute = 0
    for row in requests:
        if row["path"].endswith("/klines") and "startTime" in row["parameters"]:  # a history is read backwards
            minute = max(minute, int(row["parameters"]["startTime"]))
        if minute:
            weights[minute] += row["weight"]
    return max(weights.values(), default=0), sum(weights.values()) / max(1, len(weights))


def main() -> int:
    """Soak and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--days", type=int, default=7)
    options.add_argument("--symbols", type=int, default=5)
    options.add_argument("--mode", default="PAPER")
    options.add_argument("--strategy", type=Path)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        soaked = soak(Path(name), given.days, given.symbols, given.mode, given.strategy)
    steps, result = given.days * 1440, soaked.result
    settled = [memory for step, memory in soaked.samples if step > steps / 5]
    begin, end = (settled[0], settled[-1]) if settled else (0.0, 0.0)
    growth = max(settled[len(settled) // 2 :], default=0.0) - begin
    apart, (most, mean) = drift(soaked), heaviest_minute(soaked.requests)
    print(f"{given.mode}, {result.info.candles:,} candles in {soaked.seconds:,.0f} s")
    print(f"memory: {begin:.1f} MB after a fifth, {end:.1f} MB at the end, at most {growth:+.1f} MB more")
    print(f"        {growth / (given.days * 0.8):+.2f} MB per day")
    print(f"trades {len(result.record.trades)}, wallet {result.record.wallet_usdt:.8f}, books {apart:.1e} USDT apart")
    print(f"request weight of a market minute: {mean:.1f}, at most {most} of {WEIGHT_PER_MINUTE}")
    print(f"candles missed: {result.info.missing_candles}; curve points: {len(result.equity.open_ms):,}")
    whole = result.info.candles == steps * given.symbols and len(result.equity.open_ms) == steps
    return 0 if whole and growth < 10 and apart < 1e-6 and most <= 0.75 * WEIGHT_PER_MINUTE else 1


if __name__ == "__main__":
    raise SystemExit(main())
