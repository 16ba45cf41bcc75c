"""Each fault at each kind of request: no doubled order, no lost fill, books equal to the venue's, or a clear stop.

One run enters, is closed by an opposite signal and reversed, and is closed again. A fault strikes one of its requests.
Afterwards the venue's own ledger is compared with what was booked and journalled, execution by execution. The table
in ``docs/faults.md`` is written by these tests: run them with ``SMM_BT_WRITE_DOCS=1``.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from venue_bench import journal_at, run_on_venue, store_of, write_candles

from feeds.candles import Candles, check_candles
from smm_bt.analytics.journal import Journal
from smm_bt.app.live_resume import venue_state
from smm_bt.emulator.config import EmulatorConfig
from smm_bt.emulator.faults import FaultRule
from smm_bt.emulator.thread import EmulatorThread
from smm_bt.errors import SmmBtError
from smm_bt.execution.ccxt_store import CcxtStore
from smm_bt.execution.costs import StopLoss
from smm_bt.execution.venue_ledger import VenueLedger

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "faults.md"
START_MS, FRAME_MS, COUNT = 1_735_689_600_000, 300_000, 12

INTRODUCTION = """\
# Faults at the venue and what becomes of a run

Written by `tests/test_execution_ccxt_faults.py` on the embedded exchange. The run makes two trades: an entry, a close
with a reversal, a close at the target; a stop waits at the venue while a position is open. *Before* means that the
request did not take effect, *after* that it did and only the answer was lost. In every cell the books and the journal
were compared with the venue's own ledger: no doubled order, no lost fill. *Stops, resumes*: the run stopped with a
message, and a second start of the same run booked exactly what the venue has. An order is looked up only when its
answer was lost, so for *order lookup* the answer to the entry is lost first. Every fault has struck.
"""

REQUESTS: dict[str, dict[str, Any]] = {
    "entry order": {"method": "POST", "path": "/fapi/v1/order", "skip": 0},
    "closing order": {"method": "POST", "path": "/fapi/v1/order", "where": {"reduceOnly": "true"}},
    "entry of a reversal": {"method": "POST", "path": "/fapi/v1/order", "skip": 2},
    "order lookup": {"method": "GET", "path": "/fapi/v1/order"},
    "own trades": {"method": "GET", "path": "/fapi/v1/userTrades", "skip": 3},
    "account": {"method": "GET", "path": "/fapi/v3/account", "skip": 4},
    "server time": {"method": "GET", "path": "/fapi/v1/time", "skip": 4},
    "book ticker": {"method": "GET", "path": "/fapi/v1/ticker/bookTicker"},
    "stop order": {"method": "POST", "path": "/fapi/v1/algoOrder"},
    "stop cancel": {"method": "DELETE", "path": "/fapi/v1/algoOrder"},
    "start: leverage": {"method": "POST", "path": "/fapi/v1/leverage"},
    "start: positions": {"method": "GET", "path": "/fapi/v3/positionRisk"},
    "start: exchangeInfo": {"method": "GET", "path": "/fapi/v1/exchangeInfo"},
}
#: What must go wrong before so that the request is made at all: an order is looked up when its answer was lost.
PROVOKED: dict[str, FaultRule] = {
    "order lookup": FaultRule(kind="reset", method="POST", path="/fapi/v1/order", when="after"),
}
_SENDING = ("entry order", "closing order", "entry of a reversal", "stop order")

FAULTS: dict[str, dict[str, Any]] = {
    "slow answer (after)": {"kind": "delay", "when": "after", "delay_ms": 500},
    "slow request (before)": {"kind": "delay", "when": "before", "delay_ms": 500},
    "reset before": {"kind": "reset", "when": "before"},
    "reset after": {"kind": "reset", "when": "after"},
    "503 page before": {"kind": "http", "status": 503, "when": "before"},
    "502 empty after": {"kind": "http", "status": 502, "when": "after", "empty": True},
    "504 page after": {"kind": "http", "status": 504, "when": "after"},
    "429": {"kind": "http", "status": 429, "when": "before", "empty": True, "retry_after": 0},
    "403 page": {"kind": "http", "status": 403, "when": "before"},
    "200 with HTML before": {"kind": "html", "when": "before"},
    "200 with HTML after": {"kind": "html", "when": "after"},
    "broken JSON": {"kind": "malformed"},
    "-1000": {"kind": "error", "code": -1000, "when": "after"},
    "-1001 before": {"kind": "error", "code": -1001, "when": "before"},
    "-1001 after": {"kind": "error", "code": -1001, "when": "after"},
    "-1003": {"kind": "error", "code": -1003, "when": "before", "retry_after": 0},
    "-1006 after": {"kind": "error", "code": -1006, "when": "after"},
    "-1007 before": {"kind": "error", "code": -1007, "when": "before"},
    "-1007 after": {"kind": "error", "code": -1007, "when": "after"},
    "-1008": {"kind": "error", "code": -1008, "when": "before"},
    "-1021": {"kind": "error", "code": -1021, "when": "before"},
    "-1109": {"kind": "error", "code": -1109, "when": "before"},
    "-2013 twice": {"kind": "error", "code": -2013, "when": "before", "count": 2},
    "-2015": {"kind": "error", "code": -2015, "when": "before"},
    "-2019": {"kind": "error", "code": -2019, "when": "before"},
    "-2022": {"kind": "error", "code": -2022, "when": "before"},
    "-4061": {"kind": "error", "code": -4061, "when": "before"},
    "-4116 after": {"kind": "error", "code": -4116, "when": "after"},
    "-4131": {"kind": "error", "code": -4131, "when": "before"},
    "-4164": {"kind": "error", "code": -4164, "when": "before"},
    "-9999 (unknown) before": {"kind": "error", "code": -9999, "when": "before"},
    "-9999 (unknown) after": {"kind": "error", "code": -9999, "when": "after"},
    "partial fill, rest later": {"kind": "partial_fill", "rest": "later"},
    "partial fill, rest expires": {"kind": "partial_fill", "rest": "expire"},
    "clock set off": {"kind": "clock", "offset_ms": 90_000},
}
#: A read has no outcome to lose: before and after are the same, and these stand for the rest.
_READ_FAULTS = ("slow answer", "reset before", "503", "429", "403", "200 with HTML before", "broken JSON")
_READ_FAULTS += ("-1021", "-2015", "clock")
_ONLY_MARKET_ORDERS = ("-2019", "-2022", "-4061", "-4116 after", "-4131", "-4164", "partial fill")
CELLS = [
    (fault, request)
    for request in REQUESTS
    for fault in FAULTS
    if request in _SENDING[:3]
    or (request == "stop order" and not fault.startswith(_ONLY_MARKET_ORDERS))
    or fault.startswith(_READ_FAULTS)
]


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Candles]:
    close = 60_000.0 + 30.0 * np.arange(COUNT)
    opened = np.concatenate([[60_000.0], close[:-1]])
    rows = {"open": opened, "high": np.maximum(opened, close) + 5, "low": np.minimum(opened, close) - 5, "close": close}
    stamps = START_MS + FRAME_MS * np.arange(COUNT)
    candles = check_candles("BTCUSDT", "5m", {"open_ms": stamps, "volume": np.ones(COUNT), **rows})
    return write_candles(tmp_path_factory.mktemp("market"), candles), candles


def flags(**rows: int) -> dict[str, np.ndarray]:
    made = {name: np.zeros(COUNT, dtype=bool) for name in ("buy_signal", "sell_signal", "profit_target_hit")}
    made["buy_signal"][1], made["sell_signal"][4], made["profit_target_hit"][8] = True, True, True
    return made


@pytest.fixture(scope="module")
def results() -> Iterator[dict[tuple[str, str], str]]:
    found: dict[tuple[str, str], str] = {}
    yield found
    if len(found) == len(CELLS):
        _check_document(found)


@pytest.mark.parametrize(("fault", "request_kind"), CELLS, ids=[f"{r} / {f}" for f, r in CELLS])
def test_a_fault_doubles_no_order_and_loses_no_fill(
    fault: str,
    request_kind: str,
    market: tuple[Path, Candles],
    results: dict[tuple[str, str], str],
    tmp_path: Path,
) -> None:
    path, candles = market
    first = [PROVOKED[request_kind]] if request_kind in PROVOKED else []
    rules = (*first, FaultRule(**(REQUESTS[request_kind] | FAULTS[fault])))
    config = EmulatorConfig(
        candles=(path,), start_ms=START_MS, faults=rules, weight_limit_1m=0, order_limit_1m=0, order_limit_10s=0
    )
    journal = journal_at(tmp_path)
    broker, stopped = None, ""
    with EmulatorThread(config) as exchange:
        store = quick_store(exchange, recorder=journal)
        try:
            _, broker = run_on_venue(exchange, store, {"BTCUSDT": candles}, {"BTCUSDT": flags()})
        except SmmBtError as problem:
            stopped = str(problem)
        assert exchange.faults() == [], "the fault has not struck"
        exchange.clear_faults()
        if broker is not None and broker.halted is not None:
            stopped = str(broker.halted)
            judge(exchange.ledger(), broker.ledger, journal, resumed=False)
            again = quick_store(exchange, recorder=journal, resume=venue_state(journal))
            judge(exchange.ledger(), again.open_account().ledger, journal, resumed=True)
            again.open_account().stops.sync("BTCUSDT")
            assert_stops_fit(exchange.ledger(), again.open_account().ledger)
        elif broker is not None:
            judge(exchange.ledger(), broker.ledger, journal, resumed=True)
            assert_stops_fit(exchange.ledger(), broker.ledger)
        venue = exchange.ledger()
    journal.close()
    if stopped:
        assert len(stopped) > 30
        assert broker is not None or not venue["trades"]
        results[fault, request_kind] = "stops, resumes" if broker is not None else "does not start"
    else:
        assert broker is not None
        trades = len(broker.ledger.trades)
        assert trades >= 1
        results[fault, request_kind] = f"goes on, {trades} {'trade' if trades == 1 else 'trades'}"


def quick_store(exchange: EmulatorThread, **options: Any) -> CcxtStore:
    return store_of(exchange, stop_loss=StopLoss(20.0), timeout=300, wire_options={"recv_window_ms": 200}, **options)


def judge(venue: Mapping[str, Any], ledger: VenueLedger, journal: Journal, *, resumed: bool) -> None:
    """Hold the promises against the venue's own books; a run that stopped may lag until it is resumed."""
    executed = [order["client_order_id"] for order in venue["orders"] if Decimal(order["executed_qty"])]
    assert len(executed) == len(set(executed)), "one client id was executed twice"
    entries = [name[:-1] for name in executed if name[-2:-1] == "e"]
    assert len(entries) == len(set(entries)), "an entry was executed under two attempts"
    booked = sorted((fill.time_ms, fill.side, fill.qty, fill.price) for fill in ledger.fills)
    sides = {"BUY": 1, "SELL": -1}
    there = sorted((t["time"], sides[t["side"]], float(t["qty"]), float(t["price"])) for t in venue["trades"])
    with sqlite3.connect(journal.path) as connection:
        rows = connection.execute("SELECT time_ms, side, qty, price FROM fills").fetchall()
    assert sorted(rows) == booked, "the journal holds other fills than the books"
    if not resumed:
        assert set(booked) <= set(there), "booked what never happened"
        return
    assert booked == there, "an execution was lost or booked twice"
    held = ledger.positions.get("BTCUSDT")
    position = sum((Decimal(t["qty"]) * sides[t["side"]] for t in venue["trades"]), Decimal(0))
    assert float(position) == (held.signed_qty if held else 0.0)
    assert ledger.wallet_usdt == pytest.approx(float(venue["wallet"]), abs=1e-8)
    assert [trade[:10] for trade in journal.trades()] == [trade[:10] for trade in ledger.trades]
    assert not journal.orders(unfinished_only=True), "an order's end is not recorded"


def assert_stops_fit(venue: Mapping[str, Any], ledger: VenueLedger) -> None:
    waiting = [algo for algo in venue["algo_orders"] if algo["status"] == "NEW"]
    assert len(waiting) == len(ledger.positions), "stops do not fit the position"


def _check_document(found: Mapping[tuple[str, str], str]) -> None:
    text = document(found)
    if os.environ.get("SMM_BT_WRITE_DOCS"):
        DOCUMENT.write_text(text, "utf-8")
    assert DOCUMENT.read_text("utf-8") == text, "docs/faults.md is not what the tests found; SMM_BT_WRITE_DOCS=1"


def document(found: Mapping[tuple[str, str], str]) -> str:
    lines = [
        INTRODUCTION,
        "| fault | " + " | ".join(REQUESTS) + " |",
        "|---" * (len(REQUESTS) + 1) + "|",
    ]
    for fault in FAULTS:
        cells = [found.get((fault, request), "·") for request in REQUESTS]
        lines.append(f"| {fault} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", "· not tried: a read has no outcome to lose, and the venue does not answer so", ""])
