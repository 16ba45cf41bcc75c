"""The file an account survives a restart in: SQLite, one transaction per request, safe against SIGKILL."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from smm_bt.emulator.records import AlgoOrder, Income, Order, Record, Trade, from_row, to_row

_KINDS: Final[dict[str, type[Record]]] = {
    "order": Order,
    "algo": AlgoOrder,
    "trade": Trade,
    "income": Income,
}
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS record (
    kind TEXT NOT NULL, number INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, number)
) WITHOUT ROWID;
"""


class StateFileError(ValueError):
    """A state file does not belong to this market or cannot be read; the message says which."""


class StateFile:
    """Reads and writes one account; a write is all or nothing."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        # a killed process loses nothing the system has taken; only a power cut could
        try:
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=OFF")
            self._connection.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise StateFileError(f"{path.name} is not a state file of the embedded exchange: {error}") from None
        self._last_meta = ""

    def load_meta(self) -> dict[str, Any] | None:
        """Return account, clock and keys, or None for a new file."""
        row = self._connection.execute("SELECT body FROM meta").fetchone()
        if row is None:
            return None
        meta: dict[str, Any] = json.loads(row[0])
        return meta

    def load_records(self) -> Iterator[Record]:
        """Yield every record in the order of its number."""
        rows = self._connection.execute("SELECT kind, body FROM record ORDER BY number").fetchall()
        for kind, body in rows:
            yield from_row(_KINDS[kind], json.loads(body))

    def save(self, meta: dict[str, Any], records: Iterable[Record]) -> None:
        """Write the account and the changed records in one transaction; nothing changed writes nothing."""
        body = json.dumps(meta)
        rows = [(_kind(record), _number(record), json.dumps(to_row(record))) for record in records]
        if not rows and body == self._last_meta:
            return
        cursor = self._connection.cursor()
        cursor.execute("BEGIN")
        cursor.executemany("INSERT OR REPLACE INTO record VALUES (?, ?, ?)", rows)
        cursor.execute("INSERT OR REPLACE INTO meta VALUES (1, ?)", (body,))
        cursor.execute("COMMIT")
        self._last_meta = body

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _kind(record: Record) -> str:
    return next(name for name, kind in _KINDS.items() if isinstance(record, kind))


def _number(record: Record) -> int:
    if isinstance(record, Order):
        return record.order_id
    if isinstance(record, AlgoOrder):
        return record.algo_id
    return record.trade_id if isinstance(record, Trade) else record.tran_id
