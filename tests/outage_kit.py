"""Live runs behind a gate that can be cut, and what their trades must then be, worked out from the venue's own log."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from changed_host import PROGRAM
from live_kit import HASHED, rows_of, trades_of, wait_for
from made_files import child_environment
from tcp_gate import TcpGate

from feeds.candles import Candles
from feeds.made import made_candles, write_candles
from smm_bt.emulator import EmulatorConfig, EmulatorThread
from smm_bt.emulator.faults import FaultRule

MINUTE_MS, WARM_UP = 60_000, 100
#: A candle a second, and so long it is fresh.
SPEED = 60.0
FRESH_S = 1.0
PAPER, TESTNET = "PAPER", "TESTNET"
BOTH = {"paper": PAPER, "testnet": TESTNET}
STREAMED = "streamed"
NO_STREAM = FaultRule("http", "GET", "/market/stream", status=404, count=None)
#: Something on most candles, so that a run of a minute has trades before, in and after a cut.
STRATEGY = HASHED.replace("density=0.15", "density=0.5")


class Deal(NamedTuple):
    """A trade without its prices, which follow from the instant an order arrives."""

    side: str
    entry_candle_ms: int
    exit_candle_ms: int
    reason: str


class LiveRun:
    """One ``smm-bt live`` process, its exchange, and the gate between them."""

    def __init__(self, folder: Path, mode: str, speed: float, candles: Candles, venue: EmulatorThread, gate: TcpGate):
        self.mode, self.speed, self.candles, self.venue, self.gate = mode, speed, candles, venue, gate
        self.folder, self.out, self._host_file = folder, folder / "run", folder / "host.json"
        self.process: subprocess.Popen[str] | None = None
        self.said = self.complaints = ""

    # ---- the process

    def start(self, *arguments: str) -> None:
        self.change_host()
        command = [sys.executable, str(PROGRAM), "live", "--mode", self.mode, "--address", self.gate.url]
        command += ["--speed", f"{self.speed:g}", "--strategy", str(self.folder / "hashed.py"), "--no-pages"]
        command += ["--timeframe", "1m", "--symbols", self.candles.symbol, "--out", str(self.out)]
        keys = {
            "BINANCE_TESTNET_API_KEY": self.venue.api_key,
            "BINANCE_TESTNET_API_SECRET": self.venue.api_secret,
            "HOST_FILE": str(self._host_file),
            "WARMUP_CANDLES": str(WARM_UP),
        }
        self.process = subprocess.Popen(
            [*command, *arguments],
            cwd=self.folder,
            env=child_environment(**keys),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def change_host(self, *, wall_s: float = 0.0, steady_s: float = 0.0, resolves: bool = True) -> None:
        """Set how far the process's clocks are off, and whether it finds names."""
        self._host_file.write_text(json.dumps({"wall_s": wall_s, "steady_s": steady_s, "resolves": resolves}))
        if self.process is not None:
            self.signal(signal.SIGUSR1)

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def end(self, expected: int = 0) -> None:
        """Let it end as a person does."""
        self.signal(signal.SIGINT)
        self.wait_for_exit(expected)

    def wait_for_exit(self, expected: int) -> None:
        assert self.process is not None
        self.said, self.complaints = self.process.communicate(timeout=60)
        assert self.process.returncode == expected, self.complaints
        self.process = None

    def kill(self) -> None:
        if self.process is not None and self.process.stdout is not None and not self.process.stdout.closed:
            self.process.kill()
            self.said, self.complaints = self.process.communicate(timeout=30)

    # ---- its way

    def steps(self) -> int:
        with contextlib.suppress(Exception):
            return int(rows_of(self.out, "SELECT count(*) FROM equity")[0][0])
        return 0

    def wait_for_candles(self, more: int, seconds: float = 60.0) -> None:
        self._wait("SELECT count(*) FROM equity", self.steps() + more, seconds)

    def wait_for_event(self, kind: str, count: int = 1, seconds: float = 60.0) -> None:
        self._wait(f"SELECT count(*) FROM events WHERE kind = '{kind}'", count, seconds)

    def _wait(self, sql: str, at_least: int, seconds: float) -> None:
        try:
            wait_for(self.out, sql, at_least=at_least, seconds=seconds, alive=self._alive)
        except AssertionError as late:
            self.kill()
            raise AssertionError(f"{late}; it said: {self.said[-500:]} {self.complaints[-500:]}") from late

    def _alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def wait_until_caught_up(self, seconds: float = 60.0) -> None:
        """Wait until the newest closed candle has been dealt with, in the middle of the next one."""
        end = time.monotonic() + seconds
        self.wait_for_middle()
        while int(self.venue.status()["now_ms"]) - self.last_candle() > 2 * MINUTE_MS:
            assert self._alive(), "the run has ended"
            assert time.monotonic() < end, "the run does not catch up"
            self.wait_for_middle()
            time.sleep(0.1)

    def last_candle(self) -> int:
        return int(rows_of(self.out, "SELECT last_ms FROM progress")[0][0])

    def cut_in_the_middle(self, how: str) -> None:
        self.wait_for_middle()
        self.gate.cut(how)

    def wait_for_middle(self) -> None:
        """Wait for the middle of a candle, where no order is on its way."""
        past_ms = int(self.venue.status()["now_ms"]) % MINUTE_MS
        rest_ms = (MINUTE_MS // 2 - past_ms) % MINUTE_MS
        time.sleep(rest_ms / 1000 / self.speed)

    # ---- what must be true of it

    def kinds(self) -> Counter[str]:
        return Counter(row[0] for row in rows_of(self.out, "SELECT kind FROM events"))

    def batches(self) -> list[list[int]]:
        """The open times of the candles the run took in together, from the venue's log of what it was asked for."""
        first, last, _ = rows_of(self.out, "SELECT first_ms, last_ms, candles FROM progress")[0]
        asked = {int(row["parameters"]["startTime"]) for row in self._kline_requests()}
        starts = sorted({first, *(each for each in asked if first <= each <= last)})
        ends = [*starts[1:], last + MINUTE_MS]
        return [list(range(start, end, MINUTE_MS)) for start, end in zip(starts, ends, strict=True)]

    def _kline_requests(self) -> list[dict[str, Any]]:
        """The venue's log of reads of new candles; a history is read backwards from its end."""
        rows = [row for row in self.venue.requests() if row["path"] == "/fapi/v1/klines"]
        return [row for row in rows if "startTime" in row["parameters"] and int(row["parameters"]["limit"]) < 1000]

    def deals(self) -> list[Deal]:
        return [
            Deal(row["side"], _candle(row["entry_order_id"]), _candle(row["exit_order_id"]), row["close_reason"])
            for row in trades_of(self.out)
        ]

    def check_candles(self) -> None:
        """Every candle once, in order, none missing."""
        first, last, count = rows_of(self.out, "SELECT first_ms, last_ms, candles FROM progress")[0]
        assert count == (last - first) // MINUTE_MS + 1
        assert [row[0] for row in rows_of(self.out, "SELECT time_ms FROM equity")] == list(
            range(first, last + 1, MINUTE_MS)
        )
        assert self.kinds()["gap"] == 0

    def check_trades(self, too_late: Collection[int] = ()) -> None:
        """The trades are those of the rules: missed candles open nothing, and their exits come on the newest one.

        ``too_late`` are candles whose orders could be carried out only when they were stale. The first candle after
        an outage may be at the very end of its freshness, a second of real time; the run is asked which ones were:
        they must be few, and the venue's log must agree that they were read late.
        """
        stale, late, batches = self.dropped("candle was stale"), self.dropped("was fresh"), self.batches()
        assert len(stale | late) <= len(batches) // 4
        assert all(self.read_after_s(candle) > FRESH_S / 2 for candle in stale)
        expected, dropped = deals_by_the_rules(self.candles, batches, {*too_late, *stale, *late})
        deals = self.deals()
        assert deals == expected[: len(deals)], (deals, expected, batches, stale, late)
        assert len(expected) - len(deals) <= 1  # decided on the last candle, not filled any more
        told = rows_of(self.out, "SELECT data FROM events WHERE kind = 'entry_dropped' ORDER BY id")
        assert [json.loads(row[0])["candle_ms"] for row in told] == dropped
        assert deals

    def dropped(self, why: str) -> set[int]:
        """Candles whose entries the run says it did not make, for a reason that has these words."""
        sql = f"SELECT data FROM events WHERE kind = 'entry_dropped' AND message LIKE '%{why}%'"
        return {int(json.loads(row[0])["candle_ms"]) for row in rows_of(self.out, sql)}

    def read_after_s(self, candle_ms: int) -> float:
        """How long after its close a candle was asked for last, in seconds of the machine."""
        batch = next(batch for batch in self.batches() if batch[-1] == candle_ms)
        asked = [row["host_ms"] for row in self._kline_requests() if int(row["parameters"]["startTime"]) == batch[0]]
        venue_ms, host_ms = int(self.venue.status()["now_ms"]), time.time() * 1000
        closed_host_ms = host_ms - (venue_ms - candle_ms - MINUTE_MS) / self.speed
        return float(max(asked) - closed_host_ms) / 1000

    def check_venue(self) -> None:
        """The journal holds the venue's orders, each once, with what was executed."""
        ledger = self.venue.ledger()
        theirs = Counter(
            (order["side"], float(order["executed_qty"])) for order in ledger["orders"] if float(order["executed_qty"])
        )
        ours = Counter(
            ("BUY" if side > 0 else "SELL", qty)
            for side, qty in rows_of(self.out, "SELECT side, qty FROM fills ORDER BY id")
        )
        assert ours == theirs
        assert len({order["client_order_id"] for order in ledger["orders"]}) == len(ledger["orders"])
        states = {row[0] for row in rows_of(self.out, "SELECT DISTINCT state FROM orders")}
        assert states <= {"filled", "canceled", "rejected"}
        held = [float(position["positionAmt"]) for position in ledger["positions"]]
        booked = rows_of(self.out, "SELECT CASE side WHEN 'long' THEN qty ELSE -qty END FROM open_positions")
        assert held == [row[0] for row in booked]

    def check(self, too_late: Collection[int] = ()) -> None:
        self.check_candles()
        if not self.streamed:
            self.check_trades(too_late)
        if self.mode == TESTNET:
            self.check_venue()

    @property
    def streamed(self) -> bool:
        """Whether it may take candles from the stream; the venue's log then does not tell when each one was taken."""
        return self.folder.name.startswith(STREAMED)


def _candle(order_id: str) -> int:
    return int(order_id.split("-")[1])


def deals_by_the_rules(
    candles: Candles, batches: Sequence[Sequence[int]], too_late: Collection[int] = ()
) -> tuple[list[Deal], list[int]]:
    """Trade the hashed signals by the rules of the page on live runs; return deals and candles of dropped entries."""
    flags = hashed_flags(candles)
    deals: list[Deal] = []
    dropped: list[int] = []
    side, entered, due = 0, 0, ""
    for batch in batches:
        for candle in batch:
            buy, sell, target = flags[candle]
            wanted = 0 if buy and sell else int(buy) - int(sell)
            reason = ""
            if side:
                reason = "profit_target" if target else "opposite_signal" if wanted == -side else ""
            entry = wanted if not side or reason or due else 0
            if candle != batch[-1]:
                dropped += [candle] if entry else []
                due = due or reason
                continue
            reason, due = reason or due, ""
            if reason:
                deals.append(Deal("long" if side > 0 else "short", entered, candle, reason))
                side = 0
            if entry and candle in too_late:
                dropped.append(candle)
            elif entry:
                side, entered = entry, candle
    return deals, dropped


def hashed_flags(candles: Candles) -> dict[int, tuple[bool, bool, bool]]:
    """What the hashed strategy says about each candle."""
    scope: dict[str, Any] = {}
    exec(STRATEGY, scope)  # the strategy file of the run itself
    index = pd.DatetimeIndex(candles.open_ms.astype("datetime64[ms]"), tz="UTC")
    frame = scope["compute_smm"](pd.DataFrame(index=index))
    rows = zip(frame["buy_signal"], frame["sell_signal"], frame["profit_target_hit"], strict=True)
    return {int(time): (bool(b), bool(s), bool(t)) for time, (b, s, t) in zip(candles.open_ms, rows, strict=True)}


@contextlib.contextmanager
def live_runs(
    folder: Path, modes: Mapping[str, str] = BOTH, *, candles: int = 1_000, **config: Any
) -> Iterator[list[LiveRun]]:
    """Start live runs side by side, each with an exchange that plays 1m candles and a gate of its own.

    ``modes`` names the runs; one whose name begins with ``streamed`` has the venue's stream as well. ``candles`` is how
    many there are; the rest is for the exchanges.
    """
    with contextlib.ExitStack() as stack:
        runs = []
        for name, mode in modes.items():
            runs.append(_prepare(stack, folder / name, mode, candles, config))
        for run in runs:
            run.start()
        for run in runs:
            run.wait_for_candles(3)
        yield runs


def _prepare(stack: contextlib.ExitStack, folder: Path, mode: str, count: int, config: Mapping[str, Any]) -> LiveRun:
    folder.mkdir()
    (folder / "hashed.py").write_text(STRATEGY, "utf-8")
    candles = made_candles("BTCUSDT", "1m", count=count, seed=5)
    write_candles(candles, folder / "BTCUSDT-1m.csv")
    faults = config.get("faults", ()) if folder.name.startswith(STREAMED) else (*config.get("faults", ()), NO_STREAM)
    options: dict[str, Any] = {"weight_limit_1m": 0, "order_limit_10s": 0, "order_limit_1m": 0, "speed": SPEED}
    exchange = EmulatorConfig(
        candles=(folder / "BTCUSDT-1m.csv",),
        start_ms=int(candles.open_ms[WARM_UP]),
        control=True,
        **options | config | {"faults": faults},
    )
    venue = stack.enter_context(EmulatorThread(exchange))
    gate = stack.enter_context(TcpGate(venue.url))
    run = LiveRun(folder, mode, exchange.speed or SPEED, candles, venue, gate)
    stack.callback(run.kill)
    return run
