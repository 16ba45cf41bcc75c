"""The control endpoint tests drive the embedded exchange with; bound only when asked for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from smm_bt.emulator import bodies
from smm_bt.emulator.faults import FaultRule
from smm_bt.emulator.records import to_row

if TYPE_CHECKING:
    from smm_bt.emulator.server import EmulatorServer

PREFIX = "/emulator/"


class ControlError(ValueError):
    """A control request cannot be carried out; the message says why."""


def carry_out(server: EmulatorServer, method: str, action: str, raw_body: str) -> Any:
    """Carry out one control request and return its JSON answer.

    ``status`` · ``step`` {"candles": n} · ``ledger`` · ``requests`` (DELETE empties the log) ·
    ``faults`` (GET, POST a rule or a list of rules, DELETE) · ``disconnect`` · ``clock`` {"offset_ms": n}.
    """
    body = json.loads(raw_body) if raw_body else {}
    if action == "status":
        return server.status()
    if action == "step" and method == "POST":
        return {"stepped": server.step(int(body.get("candles", 1)))} | server.status()
    if action == "ledger":
        return ledger(server)
    if action == "requests":
        return _requests(server, method)
    if action == "faults":
        return _faults(server, method, body)
    if action == "disconnect" and method == "POST":
        server.disconnect_websockets()
        return server.status()
    if action == "clock" and method == "POST":
        server.set_clock_offset(int(body["offset_ms"]))
        return server.status()
    raise ControlError(f"{method} {PREFIX}{action} is unknown")


def _requests(server: EmulatorServer, method: str) -> list[dict[str, Any]]:
    rows = list(server.request_log)
    if method == "DELETE":
        server.request_log.clear()
    return rows


def _faults(server: EmulatorServer, method: str, body: Any) -> list[dict[str, Any]]:
    if method == "DELETE":
        server.faults.clear()
    if method == "POST":
        for row in body if isinstance(body, list) else [body]:
            server.faults.add(FaultRule.from_row(row))
    return [rule.to_row() for rule in server.faults.rules]


def ledger(server: EmulatorServer) -> dict[str, Any]:
    """Return everything the venue knows about the account; numbers are exact text."""
    exchange = server.exchange
    archive = exchange.archive
    return {
        "now_ms": exchange.now_ms,
        "wallet": str(exchange.account.wallet),
        "available": str(exchange.available()),
        "dual_side": exchange.account.dual_side,
        "isolated": sorted(exchange.account.isolated),
        "leverages": dict(exchange.account.leverages),
        "positions": [bodies.position_risk_v2(exchange, position) for position in exchange.account.open_positions()],
        "orders": [to_row(order) for order in archive.orders.values()],
        "algo_orders": [to_row(algo) for algo in archive.algos.values()],
        "trades": [to_row(trade) for trade in archive.trades],
        "income": [to_row(income) for income in archive.incomes],
    }
