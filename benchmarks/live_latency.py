"""Candle close to order on the wire, and the cost of waiting: a TESTNET run on the embedded exchange in real time.

``python benchmarks/live_latency.py [--minutes 5] [--symbols 1 50] [--every-minute] [--stop-loss 10]`` trades 1m
candles, all symbols at once: an entry or a close on every second candle, or, with ``--every-minute``, a close and an
entry of each symbol on every candle. It asks the exchange when each order arrived and prints median and worst beside
the limits (250 ms for one symbol, 2 s for 50), the CPU used between candles (limit 3 % of a core), and what the
requests of the busiest minute weigh beside the venue's 2400. Exit 1 when a limit is missed, or when the journal holds
other executions than the exchange.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from smm_bt.app.embedded import EmbeddedChild

ROOT = Path(__file__).resolve().parents[1]
MINUTE_MS = 60_000
LIMITS_MS = {1: 250.0, 50: 2000.0}
WEIGHT_LIMIT = 2400
Request = Mapping[str, Any]  # a row of the exchange's /emulator/requests
ON_AND_OFF = """
def compute_smm(df):
    minute = df.index.as_unit("ms").asi8 // 60_000
    df["buy_signal"], df["sell_signal"] = minute % 4 == 0, False
    df["profit_target_hit"] = minute % 4 == 2
    return df
"""
REVERSING = """
def compute_smm(df):
    even = df.index.as_unit("ms").asi8 // 60_000 % 2 == 0
    df["buy_signal"], df["sell_signal"], df["profit_target_hit"] = even, ~even, False
    return df
"""


class Measured(NamedTuple):
    """What one run has shown: delays after the close in ms, requests by minute of the venue, shares of a core."""

    first: list[float]
    every: list[float]
    minutes: list[list[Request]]
    shares: list[float]
    booked: list[tuple[str, str]]
    executed: list[tuple[str, str]]


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


def measure(count: int, minutes: int, strategy: str, stop_percent: float | None) -> Measured:
    """Run ``count`` symbols for ``minutes`` and return what the exchange has received."""
    names = [f"S{number:02d}USDT" for number in range(count)]
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        rules = market_rules(folder, names)
        (folder / "signals.py").write_text(strategy, "utf-8")
        exchange = Exchange(names, rules)
        command = [sys.executable, "-m", "smm_bt", "live", "--mode", "TESTNET", "--address", exchange.child.url]
        command += ["--symbols", ",".join(names), "--timeframe", "1m", "--strategy", str(folder / "signals.py")]
        command += ["--set", "WARMUP_CANDLES=300", "--out", str(folder / "run"), "--no-pages"]
        command += ["--set", f"STOP_LOSS_PERCENT={stop_percent}"] if stop_percent is not None else []
        keys = {"BINANCE_TESTNET_API_KEY": exchange.child.api_key, "RUNS_DIR": str(folder)}
        keys["BINANCE_TESTNET_API_SECRET"] = exchange.child.api_secret
        environment = dict(os.environ) | keys | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, cwd=folder, env=environment, text=True, stdout=subprocess.DEVNULL)
        try:
            shares = wait_between_candles(exchange, process, minutes)
            ahead, requests = exchange.ahead_ms(), exchange.ask("/emulator/requests")
            process.terminate()
            process.wait(90)
            executions = executions_of(folder / "run" / "journal.sqlite"), executed_on(exchange)
        finally:
            process.kill()
            process.wait(90)
            exchange.child.close()
    return measured(requests, ahead)._replace(shares=shares, booked=executions[0], executed=executions[1])


def executions_of(journal: Path) -> list[tuple[str, str]]:
    """Return symbol and trade number of every execution a journal holds."""
    with sqlite3.connect(journal) as connection:
        rows = connection.execute("SELECT fill_id FROM fills").fetchall()
    return sorted((fill_id.split(":")[0], fill_id.split(":")[1]) for (fill_id,) in rows)


def executed_on(exchange: Exchange) -> list[tuple[str, str]]:
    """Return symbol and trade number of every execution of the exchange."""
    return sorted((row["symbol"], str(row["trade_id"])) for row in exchange.ask("/emulator/ledger")["trades"])


def measured(requests: list[Request], ahead_ms: float) -> Measured:
    """Sort the requests by the venue's minute; a symbol's first order on a candle is told apart from the rest."""
    minutes: dict[int, list[Request]] = {}
    first: dict[tuple[str, int], float] = {}
    every: list[float] = []
    for row in requests:
        minute, into_ms = divmod(row["host_ms"] + ahead_ms, MINUTE_MS)
        minutes.setdefault(int(minute), []).append(row)
        if (row["method"], row["path"]) == ("POST", "/fapi/v1/order"):
            every.append(into_ms)
            first.setdefault((row["parameters"]["symbol"], int(minute)), into_ms)
    traded = [rows for rows in minutes.values() if any(row["method"] == "POST" for row in rows)]
    return Measured(list(first.values()), every, traded[1:], [], [], [])  # in the first one the account was set up, too


def told_requests(minutes: list[list[Request]]) -> str:
    """Return how often each path was asked for in the minute that weighed most, and what it weighed."""
    busiest = max(minutes, key=lambda rows: sum(row["weight"] for row in rows))
    calls, weights = Counter[str](), Counter[str]()
    for row in busiest:
        name = f"{row['method']} {row['path']}"
        calls[name] += 1
        weights[name] += row["weight"]
    lines = [f"  {calls[name]:5d} x {name}, weight {weight}" for name, weight in weights.most_common()]
    total = f"  busiest minute: {len(busiest)} requests, weight {sum(weights.values())} of {WEIGHT_LIMIT}"
    refused = sum(row["status"] in (418, 429) for rows in minutes for row in rows)
    return "\n".join([f"{total}; {refused} refused for weight", *lines])


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=int, default=5)
    options.add_argument("--symbols", type=int, nargs="+", default=[1, 50])
    options.add_argument("--every-minute", action="store_true", help="close and enter on every candle")
    options.add_argument("--stop-loss", type=float, metavar="PERCENT", help="keep a stop at the venue, too")
    given = options.parse_args()
    missed = False
    for count in given.symbols:
        seen = measure(count, given.minutes, REVERSING if given.every_minute else ON_AND_OFF, given.stop_loss)
        limit, share = LIMITS_MS.get(count, 2000.0), statistics.median(seen.shares)
        medians = []
        for name, delays in (("first orders", seen.first), ("orders", seen.every)):
            medians.append(statistics.median(delays))
            print(
                f"{count} symbols, {len(delays)} {name}: median {medians[-1]:.0f} ms, worst {max(delays):.0f} ms "
                f"(limit of the median {limit:.0f})"
            )
        print(f"  CPU between candles {share:.1%} of a core (limit 3 %)")
        print(f"  {len(seen.booked)} executions booked, {len(seen.executed)} on the exchange")
        print(told_requests(seen.minutes), flush=True)
        missed = missed or max(medians) > limit or share > 0.03 or seen.booked != seen.executed
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main())
