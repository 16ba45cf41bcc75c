"""How many signed orders a second the embedded exchange answers, beside a bare aiohttp handler in the same run.

    python benchmarks/emulator_rate.py [--seconds 5] [--rate 500] [--json]

Both servers run as processes of their own and answer the same requests from the same client. Printed: the p50 and p99
latency at a steady rate, the highest rate of eight connections in a closed loop, and each figure's ratio to the bare
handler, which reads the request and answers a body of the same size. Exit code 1 when the steady rate was not held or
its p99 is above 50 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import hmac
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

ROOT = Path(__file__).parents[1]
HEADROOM_MS = 50.0
CONNECTIONS = 8


async def serve_bare() -> None:
    """Serve the yardstick: read the request, answer some 600 bytes of JSON."""
    text = json.dumps({"filler": "x" * 580})

    async def answer(request: web.BaseRequest) -> web.Response:
        await request.read()
        return web.Response(text=text, content_type="application/json")

    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    print(json.dumps({"url": f"http://{host}:{port}", "api_key": "k", "api_secret": "s"}), flush=True)
    await asyncio.Event().wait()


@contextlib.contextmanager
def served(command: list[str]) -> Iterator[dict[str, str]]:
    """Run a server as a process and yield the line it introduces itself with."""
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


class Orders:
    """Sends signed market orders, buys and sells in turn, and keeps each latency in ms."""

    def __init__(self, venue: dict[str, str], session: aiohttp.ClientSession) -> None:
        self._venue = venue
        self._session = session
        self._count = 0
        self.latencies: list[float] = []

    async def send(self) -> None:
        """Send one order and keep its latency; a refusal ends the run."""
        self._count += 1
        side = "BUY" if self._count % 2 else "SELL"
        body = f"symbol=BTCUSDT&side={side}&type=MARKET&quantity=0.01&newOrderRespType=RESULT"
        body += f"&timestamp={time.time_ns() // 1_000_000}&recvWindow=10000"
        signature = hmac.new(self._venue["api_secret"].encode(), body.encode(), hashlib.sha256).hexdigest()
        headers = {
            "X-MBX-APIKEY": self._venue["api_key"],
            "Content-Type": "application/x-www-form-urlencoded",
        }
        began = time.perf_counter()
        url = f"{self._venue['url']}/fapi/v1/order"
        async with self._session.post(url, data=f"{body}&signature={signature}", headers=headers) as response:
            await response.read()
            if response.status != 200:
                raise RuntimeError(f"an order was refused: {response.status} {await response.text()}")
        self.latencies.append((time.perf_counter() - began) * 1000)


async def steady(orders: Orders, rate: float, seconds: float) -> float:
    """Send at a steady rate and return the rate at which answers came."""
    began = time.perf_counter()
    tasks = []
    for index in range(int(rate * seconds)):
        wait = began + index / rate - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(orders.send()))
    await asyncio.gather(*tasks)
    return len(tasks) / (time.perf_counter() - began)


async def flat_out(orders: Orders, seconds: float) -> float:
    """Send from every connection as fast as answers come and return the rate."""
    end = time.perf_counter() + seconds
    before = len(orders.latencies)

    async def loop() -> None:
        while time.perf_counter() < end:
            await orders.send()

    await asyncio.gather(*(loop() for _ in range(CONNECTIONS)))
    return (len(orders.latencies) - before) / seconds


async def measure(venue: dict[str, str], rate: float, seconds: float) -> dict[str, float]:
    """Measure one server."""
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector) as session:
        orders = Orders(venue, session)
        await steady(orders, rate, 0.5)
        orders.latencies.clear()
        held = await steady(orders, rate, seconds)
        ordered = sorted(orders.latencies)
        highest = await flat_out(orders, seconds)
    return {
        "steady_per_second": held,
        "p50_ms": ordered[len(ordered) // 2],
        "p99_ms": ordered[int(len(ordered) * 0.99)],
        "highest_per_second": highest,
    }


def measure_all(rate: float, seconds: float) -> dict[str, dict[str, float]]:
    """Measure the bare handler, the exchange, and the exchange with a state file."""
    emulator = ["-m", "smm_bt.emulator", "--speed", "step", "--no-limits"]
    with tempfile.TemporaryDirectory() as folder:
        commands = {
            "bare aiohttp handler": [__file__, "--bare"],
            "embedded exchange": emulator,
            "embedded exchange with state": [*emulator, "--state", str(Path(folder) / "account.sqlite")],
        }
        figures = {}
        for name, command in commands.items():
            with served(command) as venue:
                figures[name] = asyncio.run(measure(venue, rate, seconds))
    return figures


def show(figures: dict[str, dict[str, float]]) -> None:
    """Print the figures as a table with ratios to the bare handler."""
    bare = figures["bare aiohttp handler"]
    print(f"{'':30}{'steady/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'ratio':>7}{'highest/s':>11}{'ratio':>7}")
    for name, row in figures.items():
        p99, highest = row["p99_ms"] / bare["p99_ms"], row["highest_per_second"] / bare["highest_per_second"]
        print(
            f"{name:30}{row['steady_per_second']:10.0f}{row['p50_ms']:9.2f}{row['p99_ms']:9.2f}{p99:7.2f}"
            f"{row['highest_per_second']:11.0f}{highest:7.2f}"
        )


def main() -> int:
    """Measure, print, and say whether the promised rate was held."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    arguments: Any = parser.parse_args()
    if arguments.bare:
        asyncio.run(serve_bare())
    figures = measure_all(arguments.rate, arguments.seconds)
    if arguments.json:
        print(json.dumps(figures))
    else:
        show(figures)
    exchange = figures["embedded exchange"]
    held = exchange["steady_per_second"] >= 0.98 * arguments.rate and exchange["p99_ms"] < HEADROOM_MS
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
