"""Reading a journal, of a finished run or of one still running in another process."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Self

import numpy as np

from smm_bt.analytics import journal_rows as rows
from smm_bt.analytics.equity import EquityCurve
from smm_bt.analytics.journal_schema import check_version, open_connection
from smm_bt.analytics.run_info import RunInfo
from smm_bt.errors import RunFailed
from smm_bt.model import (
    ORDER_TRANSITIONS,
    DecisionRecord,
    Fill,
    LedgerEntry,
    OpenPosition,
    OrderState,
    PendingSignal,
    RunRecord,
    SkippedEntry,
    Trade,
)

_ENDED = [state.value for state, following in ORDER_TRANSITIONS.items() if not following]


class JournalReader:
    """What a journal holds, as the records of smm_bt.model; rows come back in the order they were written."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    @classmethod
    def read(cls, path: Path) -> Self:
        """Open for reading only; RunFailed when the file is absent, foreign or of another version."""
        if not path.is_file():
            raise RunFailed(f"There is no journal at {path}.")
        try:
            connection = open_connection(path, read_only=True)
            check_version(connection, path)
        except sqlite3.Error as error:
            raise RunFailed(f"Cannot read the journal {path}: {error}.") from error
        return cls(path, connection)

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()

    def run_id(self) -> str:
        """Return the id of the run."""
        return str(self._run()["run_id"])

    def run_state(self) -> str:
        """Return ``running``, ``finished`` or what update_run said last."""
        return str(self._run()["state"])

    def why_failed(self) -> str:
        """Return why the run failed, nothing if it has not."""
        told = self.events(rows.FAILED) if self.run_state() == rows.FAILED else []
        return str(told[-1]["message"]) if told else ""

    def run_info(self) -> RunInfo:
        """Return the circumstances of the run."""
        return rows.info_from_text(self._run()["info"])

    def settings(self) -> dict[str, object]:
        """Return the masked settings of the run."""
        return {row["name"]: json.loads(row["value"]) for row in self._all("SELECT * FROM settings ORDER BY rowid")}

    def decisions(self) -> list[DecisionRecord]:
        """Return what the rules said."""
        return [rows.decision_from(row) for row in self._all("SELECT * FROM decisions ORDER BY id")]

    def last_decided_candle(self, symbol: str) -> int | None:
        """Return the open time of the newest candle with a decision, None without any."""
        row = self._one("SELECT max(candle_ms) AS last FROM decisions WHERE symbol = ?", symbol)
        return None if row is None or row["last"] is None else int(row["last"])

    def orders(self, *, unfinished_only: bool = False) -> list[sqlite3.Row]:
        """Return the orders with their present state, by column name."""
        where = f"WHERE state NOT IN ({','.join('?' * len(_ENDED))})" if unfinished_only else ""
        return self._all(f"SELECT * FROM orders {where} ORDER BY id", *(_ENDED if unfinished_only else ()))

    def has_order(self, order_id: str) -> bool:
        """Return whether an order of this id was recorded."""
        return self._one("SELECT 1 FROM orders WHERE order_id = ?", order_id) is not None

    def order_states(self, order_id: str) -> list[tuple[OrderState, int, str]]:
        """Return every state of one order with its time and detail."""
        found = self._all("SELECT * FROM order_states WHERE order_id = ? ORDER BY id", order_id)
        return [(OrderState(row["state"]), row["time_ms"], row["detail"]) for row in found]

    def fills(self) -> list[Fill]:
        """Return all executions."""
        return [rows.fill_from(row) for row in self._all("SELECT * FROM fills ORDER BY id")]

    def ledger_entries(self) -> list[LedgerEntry]:
        """Return all changes of the account."""
        columns = ",".join(LedgerEntry._fields)
        return [LedgerEntry(*row) for row in self._all(f"SELECT {columns} FROM ledger ORDER BY id")]

    def trades(self) -> list[Trade]:
        """Return all closed trades."""
        return [rows.trade_from(row) for row in self._all("SELECT * FROM trades ORDER BY id")]

    def open_positions(self) -> list[OpenPosition]:
        """Return the positions open when the journal was last told."""
        columns = ",".join(OpenPosition._fields)
        return [OpenPosition(*row) for row in self._all(f"SELECT {columns} FROM open_positions ORDER BY rowid")]

    def equity(self) -> EquityCurve:
        """Return the recorded points of the equity curve; a replay keeps the full curve in equity.parquet."""
        found = self._all("SELECT time_ms, equity_usdt, wallet_usdt FROM equity ORDER BY time_ms")
        times = np.array([row[0] for row in found], dtype=np.int64)
        return EquityCurve(
            times, np.array([row[1] for row in found], float), np.array([row[2] for row in found], float)
        )

    def events(self, kind: str | None = None) -> list[sqlite3.Row]:
        """Return all events, or those of one kind, by column name (``data`` is JSON)."""
        return self._all("SELECT * FROM events WHERE ?1 IS NULL OR kind = ?1 ORDER BY id", kind)

    def skipped_entries(self) -> list[SkippedEntry]:
        """Return the entries the sizing refused."""
        return [rows.skipped_from(row) for row in self.events(rows.ENTRY_SKIPPED)]

    def pending_signals(self) -> list[PendingSignal]:
        """Return the decisions that were never executed; a run that goes on takes up those from before anew."""
        since = "SELECT coalesce(max(id), 0) FROM events WHERE kind = ?"
        sql = f"SELECT * FROM events WHERE kind = ? AND id > ({since}) ORDER BY id"
        return [rows.pending_from(row) for row in self._all(sql, rows.PENDING_SIGNAL, rows.RESUMED_RUN)]

    def progress(self) -> dict[str, rows.Progress]:
        """Return how far a live run has come, by symbol."""
        columns = ",".join(rows.Progress._fields)
        found = self._all(f"SELECT {columns} FROM progress ORDER BY rowid")
        return {row["symbol"]: rows.Progress(*row) for row in found}

    def heartbeat(self) -> tuple[int, int, str] | None:
        """Return process, time (UTC ms) and status line of the last sign of life, None without any."""
        row = self._one("SELECT process, time_ms, line FROM heartbeat")
        return None if row is None else (row["process"], row["time_ms"], row["line"])

    def answered_controls(self) -> list[sqlite3.Row]:
        """Return the requests that were answered, in the order they were made."""
        return self._all("SELECT * FROM controls WHERE answered_ms IS NOT NULL ORDER BY id")

    def fill_ids(self) -> list[str]:
        """Return the ids of the executions, in the order of fills()."""
        return [row["fill_id"] for row in self._all("SELECT fill_id FROM fills ORDER BY id")]

    def waiting_controls(self) -> list[sqlite3.Row]:
        """Return the requests nobody has answered yet, oldest first."""
        return self._all("SELECT * FROM controls WHERE answered_ms IS NULL ORDER BY id")

    def control_answer(self, number: int) -> str | None:
        """Return what became of a request, None while it waits."""
        row = self._one("SELECT answer FROM controls WHERE id = ?", number)
        return None if row is None else row["answer"]

    def record(self) -> RunRecord:
        """Return everything the report needs, as the run itself would have handed it over."""
        run = self._run()
        initial, wallet = run["initial_balance_usdt"], run["wallet_usdt"]
        return RunRecord(
            initial_balance_usdt=initial,
            wallet_usdt=initial if wallet is None else wallet,
            trades=self.trades(),
            fills=self.fills(),
            ledger_entries=self.ledger_entries(),
            decisions=self.decisions(),
            skipped_entries=self.skipped_entries(),
            open_positions=self.open_positions(),
            pending_signals=self.pending_signals(),
        )

    def _run(self) -> sqlite3.Row:
        row = self._one("SELECT * FROM run")
        if row is None:
            raise RunFailed(f"The journal {self.path} holds no run.")
        return row

    def _one(self, sql: str, *values: object) -> sqlite3.Row | None:
        found: sqlite3.Row | None = self._connection.execute(sql, values).fetchone()
        return found

    def _all(self, sql: str, *values: object) -> list[sqlite3.Row]:
        return self._connection.execute(sql, values).fetchall()
