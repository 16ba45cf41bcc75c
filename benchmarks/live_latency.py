"""Candle close to order on the wire, and the cost of waiting: a TESTNET run on the embedded exchange in real time.

``python benchmarks/live_latency.py [--minutes 5] [--symbols 1 50]`` trades 1m candles, all symbols at once on every
second one (more would be held back by the venue's weight limit), asks the exchange when each symbol's order arrived,
and prints median and worst beside the limits (250 ms for
one symbol, 2 s for 50) and the CPU used between candles (limit 3 % of a core). Exit 1 when one is missed.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from smm_bt.app.embedded import EmbeddedChild

ROOT = Path(__file__).resolve().parents[1]
MINUTE_MS = 60_000
LIMITS_MS = {1: 250.0, 50: 2000.0}
STRATEGY = """
def compute_smm(df):
    minute = df.index.as_unit("ms").asi8 // 60_000
    df["buy_signal"], df["sell_signal"] = minute % 4 == 0, False
    df["profit_target_hit"] = minute % 4 == 2
    return df
"""


def market_rules(folder: Path, names: list[str]) -> tuple[Path, Path]:
    """Write exchangeInfo and brackets in which every name has the rules of SOLUSDT."""
    table = json.loads((ROOT / "smm_bt" / "execution" / "market_rules.json").read_text("utf-8"))
    (info,) = [row for row in table["symbols"] if row["symbol"] == "SOLUSDT"]
    (tiers,) = [row for row in table["brackets"] if row["symbol"] == "SOLUSDT"]
    paths = folder / "exchangeInfo.json", folder / "brackets.json"
    paths[0].write_text(json.dumps({"symbols": [info | {"symbol": name, "pair": name} for name in names]}), "utf-8")
    paths[1].write_text(json.dumps([tiers | {"symbol": name} for name in names]), "utf-8")
    return paths


class Exchange:
    """The embedded exchange and what it has received."""

    def __init__(self, names: list[str], rules: tuple[Path, Path]) -> None:
        options: dict[str, object] = {
            "symbols": names,
            "timeframe": "1m",
            "speed": 1.0,
            "history_candles": 320,
            "made_candles": 400,
            "exchange_info": str(rules[0]),
            "brackets": str(rules[1]),
            "balance_usdt": "100000000",
            "control": True,
        }
        self.child = EmbeddedChild(options)

    def ask(self, path: str) -> Any:
        """Send a request."""
        parts = urlsplit(self.child.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        connection.request("GET", path)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer

    def ahead_ms(self) -> float:
        """How far the venue's time is ahead of this machine's."""
        readings = []
        for _ in range(5):
            before = time.time() * 1000
            now = self.ask("/fapi/v1/time")["serverTime"]
            readings.append((time.time() * 1000 - before, now - (before + time.time() * 1000) / 2))
        return float(min(readings)[1])


def cpu_seconds(process: int) -> float:
    """CPU time a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_between_candles(exchange: Exchange, process: subprocess.Popen[str], minutes: int) -> list[float]:
    """Let candles pass; return the share of a core used in the quiet part of each minute."""
    shares = []
    ahead = exchange.ahead_ms()
    for _ in range(minutes):
        into = (time.time() * 1000 + ahead) % MINUTE_MS
        time.sleep((MINUTE_MS - into) / 1000 + 15)
        begin = (cpu_seconds(process.pid), time.monotonic())
        time.sleep(35)
        shares.append((cpu_seconds(process.pid) - begin[0]) / (time.monotonic() - begin[1]))
    return shares


def measure(count: int, minutes: int) -> tuple[list[float], list[float]]:
    """Return the delay of each symbol's first order per candle (ms) and the CPU shares."""
    names = [f"S{number:02d}USDT" for number in range(count)]
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        rules = market_rules(folder, names)
        (folder / "every_minute.py").write_text(STRATEGY, "utf-8")
        exchange = Exchange(names, rules)
        command = [sys.executable, "-m", "smm_bt", "live", "--mode", "TESTNET", "--address", exchange.child.url]
        command += ["--symbols", ",".join(names), "--timeframe", "1m", "--strategy", str(folder / "every_minute.py")]
        command += ["--set", "WARMUP_CANDLES=300", "--out", str(folder / "run"), "--no-pages"]
        keys = {"BINANCE_TESTNET_API_KEY": exchange.child.api_key, "RUNS_DIR": str(folder)}
        keys["BINANCE_TESTNET_API_SECRET"] = exchange.child.api_secret
        environment = dict(os.environ) | keys | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, cwd=folder, env=environment, text=True, stdout=subprocess.DEVNULL)
        try:
            shares = wait_between_candles(exchange, process, minutes)
            ahead, requests = exchange.ahead_ms(), exchange.ask("/emulator/requests")
        finally:
            process.terminate()
            process.wait(90)
            exchange.child.close()
    return first_delays(requests, ahead), shares


def first_delays(requests: list[dict[str, Any]], ahead_ms: float) -> list[float]:
    """Return for each symbol and candle how long after the close its first order arrived, in ms."""
    first: dict[tuple[str, int], float] = {}
    for row in requests:
        if row["method"] == "POST" and row["path"] == "/fapi/v1/order":
            venue_ms = row["host_ms"] + ahead_ms
            key = row["parameters"]["symbol"], int(venue_ms // MINUTE_MS)
            first.setdefault(key, venue_ms % MINUTE_MS)
    return list(first.values())


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=int, default=5)
    options.add_argument("--symbols", type=int, nargs="+", default=[1, 50])
    given = options.parse_args()
    missed = False
    for count in given.symbols:
        delays, shares = measure(count, given.minutes)
        limit = LIMITS_MS.get(count, 2000.0)
        median, share = statistics.median(delays), statistics.median(shares)
        print(
            f"{count} symbols, {len(delays)} first orders: median {median:.0f} ms, worst {max(delays):.0f} ms "
            f"(limit {limit:.0f}); CPU between candles {share:.1%} of a core (limit 3 %)",
            flush=True,
        )
        missed = missed or median > limit or share > 0.03
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main())
