"""The journal of a finished replay, written in one transaction into a file that appears complete or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from operator import itemgetter
from pathlib import Path

import numpy as np

from smm_bt.analytics import journal_rows as rows
from smm_bt.analytics.atomic_file import NOTHING_LEFT, atomic_path
from smm_bt.analytics.equity import EquityCurve
from smm_bt.analytics.journal_schema import create_tables, open_connection, remove_side_files, sentences
from smm_bt.analytics.run_info import RunInfo
from smm_bt.model import CloseReason, OrderState, RunRecord

#: A replay knows only orders that were filled, each at once and whole; SQLite derives them from their fills.
_ORDERS_FROM_FILLS = f"""
INSERT INTO orders ({",".join(rows.ORDER_COLUMNS)})
SELECT order_id, symbol,
       CASE reason WHEN '{CloseReason.STOP_LOSS.value}' THEN '{rows.STOP_MARKET}'
                   WHEN '{CloseReason.LIQUIDATION.value}' THEN '{rows.LIQUIDATION}' ELSE '{rows.MARKET}' END,
       side, qty, NULL, reduce_only, reason, time_ms, '{OrderState.FILLED.value}', time_ms
FROM fills ORDER BY id
"""
_STATES_FROM_ORDERS = f"""
INSERT INTO order_states ({",".join(rows.STATE_COLUMNS)})
SELECT order_id, life.column2, created_ms, '' FROM orders,
       (VALUES (1, '{OrderState.SUBMITTED.value}'), (2, '{OrderState.ACCEPTED.value}'),
               (3, '{OrderState.FILLED.value}')) AS life
ORDER BY orders.id, life.column1
"""


def write_replay(path: Path, record: RunRecord, equity: EquityCurve, info: RunInfo) -> None:
    """Write the whole run to ``path``, replacing what is there.

    Orders are told from their fills: submitted, accepted and filled at the fill's time. Skipped entries, conflicting
    and pending signals are events. Equity has a row where the account changed and the last one; the full curve is
    in equity.parquet.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_path(path) as temporary, sentences(path, kept=NOTHING_LEFT):
        connection = open_connection(temporary)
        try:
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("BEGIN")
            create_tables(connection)
            _write_all(connection, record, equity, info)
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode = WAL")
        finally:
            connection.close()
            remove_side_files(temporary)


def _write_all(connection: sqlite3.Connection, record: RunRecord, equity: EquityCurve, info: RunInfo) -> None:
    many = connection.executemany
    connection.execute(rows.INSERT_RUN, rows.run_row(info, record.initial_balance_usdt, "finished", record.wallet_usdt))
    many(rows.INSERT_SETTING, rows.setting_rows(info))
    many(rows.INSERT_DECISION, map(rows.decision_row, record.decisions))
    many(rows.INSERT_FILL, (rows.fill_row(fill, fill.order_id) for fill in record.fills))
    connection.execute(_ORDERS_FROM_FILLS)
    connection.execute(_STATES_FROM_ORDERS)
    many(rows.INSERT_LEDGER, record.ledger_entries)
    many(rows.INSERT_TRADE, (rows.trade_row(trade, info.run_id) for trade in record.trades))
    many(rows.INSERT_POSITION, record.open_positions)
    many(rows.INSERT_EQUITY, _equity_rows(record, equity))
    many(rows.INSERT_EVENT, sorted(_events(record), key=itemgetter(0)))


def _equity_rows(record: RunRecord, equity: EquityCurve) -> Iterable[rows.Row]:
    if not equity.open_ms.size:
        return ()
    when = np.array([entry.time_ms for entry in record.ledger_entries], dtype=np.int64)
    step = np.maximum(np.searchsorted(equity.open_ms, when, side="right") - 1, 0)
    step = np.unique(np.append(step, equity.open_ms.size - 1))
    columns = (equity.open_ms[step].tolist(), equity.equity[step].tolist(), equity.wallet[step].tolist())
    return zip(*columns, strict=True)


def _events(record: RunRecord) -> Iterator[rows.EventRow]:
    yield from map(rows.skipped_row, record.skipped_entries)
    yield from (rows.conflict_row(decision) for decision in record.decisions if decision.conflicting_signals)
    yield from map(rows.pending_row, record.pending_signals)
