"""The journal of a running bot: each thing that happens is on disk before the next one is done.

SQLite in WAL mode with full synchronisation: a process killed at any instant finds on its next start exactly what
it had recorded. Things that belong together (a fill, the wallet it changed, the trade it closed) go into one
``with journal.together():`` block. Saying the same thing twice is harmless: orders, fills, trades and decisions
carry their own identity. The clock is the caller's; every time is UTC milliseconds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from smm_bt.analytics import journal_rows as rows
from smm_bt.analytics.atomic_file import atomic_path
from smm_bt.analytics.journal_reader import JournalReader
from smm_bt.analytics.journal_schema import check_version, create_tables, open_connection, sentences
from smm_bt.analytics.run_info import RunInfo
from smm_bt.errors import OutputError, RunFailed
from smm_bt.model import (
    ORDER_TRANSITIONS,
    DecisionRecord,
    Fill,
    LedgerEntry,
    OpenPosition,
    OrderState,
    PendingSignal,
    SkippedEntry,
    Trade,
)


class JournalConflict(RunFailed):
    """The journal was told something that contradicts what it holds; the run must stop and be looked at."""


class NewOrder(NamedTuple):
    """An order before it is sent. ``side`` is +1 buy, −1 sell; ``price`` is a stop's trigger, else None."""

    order_id: str
    symbol: str
    kind: str
    side: int
    qty: float
    price: float | None
    reduce_only: bool
    reason: str


class Journal(JournalReader):
    """The one writer of a run's journal. Create it for a new run, open it to resume one."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        super().__init__(path, connection)
        self._within = False

    @classmethod
    def create(cls, path: Path, info: RunInfo, initial_balance_usdt: float) -> Self:
        """Start the journal of a new run; OutputError when the file exists or cannot be written.

        The file appears with the run in it or not at all, so that a journal that is there can always be resumed.
        """
        if path.exists():
            raise OutputError(f"{path} exists already; resume that run or choose another folder with --out.")
        with sentences(path), atomic_path(path) as made:
            _first_rows(made, info, initial_balance_usdt)
        return cls(path, _writable(path))

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the journal of an earlier run for writing; RunFailed when it is absent or of another version."""
        if not path.is_file():
            raise RunFailed(f"There is no journal at {path}.")
        with sentences(path):
            connection = open_connection(path)
            check_version(connection, path)
            connection.close()
            return cls(path, _writable(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make everything recorded inside one durable commit, or none of it. Blocks may be nested."""
        if self._within:
            yield
            return
        with sentences(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            self._within = True
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._within = False

    def record_decision(self, decision: DecisionRecord) -> bool:
        """Record what the rules said about a candle; False when that candle already has a decision."""
        with self.together():
            added = self._do(rows.INSERT_DECISION, rows.decision_row(decision)) == 1
            if added and decision.conflicting_signals:
                self._do(rows.INSERT_EVENT, rows.conflict_row(decision))
        return added

    def record_order(self, order: NewOrder, time_ms: int) -> bool:
        """Record an order before it is sent, in state ``created``.

        Returns False when the same order is there already; JournalConflict when its id belongs to another one.
        """
        created = OrderState.CREATED.value
        with self.together():
            known = self._one("SELECT * FROM orders WHERE order_id = ?", order.order_id)
            if known is not None:
                if tuple(known[name] for name in NewOrder._fields) != tuple(order):
                    raise JournalConflict(f"Order id {order.order_id} is already in the journal for another order.")
                return False
            self._do(rows.INSERT_ORDER, (*order, time_ms, created, time_ms))
            self._do(rows.INSERT_STATE, (order.order_id, created, time_ms, ""))
        return True

    def change_order(self, order_id: str, state: OrderState, time_ms: int, detail: str = "") -> bool:
        """Move an order to ``state``; False when it is there already (a further partial fill is recorded).

        Raises:
            JournalConflict: the order is unknown, or model.ORDER_TRANSITIONS does not allow the step.
        """
        with self.together():
            row = self._one("SELECT state FROM orders WHERE order_id = ?", order_id)
            if row is None:
                raise JournalConflict(f"Order {order_id} is not in the journal; record it before it is sent.")
            before = OrderState(row["state"])
            if state not in ORDER_TRANSITIONS[before]:
                if state == before:
                    return False
                raise JournalConflict(f"Order {order_id} is {before.value} and cannot become {state.value}.")
            self._do("UPDATE orders SET state = ?, changed_ms = ? WHERE order_id = ?", (state.value, time_ms, order_id))
            self._do(rows.INSERT_STATE, (order_id, state.value, time_ms, detail))
        return True

    def record_fill(self, fill: Fill, fill_id: str) -> bool:
        """Record one execution under the venue's (or simulator's) own id; False when it is there already."""
        with self.together():
            if self._one("SELECT 1 FROM orders WHERE order_id = ?", fill.order_id) is None:
                raise JournalConflict(f"Fill {fill_id} belongs to order {fill.order_id}, which is not in the journal.")
            return self._do(rows.INSERT_FILL, rows.fill_row(fill, fill_id)) == 1

    def record_ledger_entry(self, entry: LedgerEntry) -> None:
        """Record one change of the account; it has no identity, so put it together with what caused it."""
        with self.together():
            self._do(rows.INSERT_LEDGER, entry)
            self._do("UPDATE run SET wallet_usdt = ?", (entry.wallet_usdt,))

    def record_trade(self, trade: Trade) -> bool:
        """Record a closed trade; False when the same entry and exit orders already make one."""
        with self.together():
            return self._do(rows.INSERT_TRADE, rows.trade_row(trade, self.run_id())) == 1

    def change_trade(self, trade: Trade) -> bool:
        """Replace the money of a closed trade, of which a settlement came to light later; False when it is unknown."""
        money = (trade.pnl_usdt, trade.pnl_percent, trade.funding_usdt)
        with self.together():
            return self._do(rows.CHANGE_TRADE, (*money, trade.symbol, trade.entry_order_id, trade.exit_order_id)) == 1

    def record_open_positions(self, positions: list[OpenPosition]) -> None:
        """Replace the picture of what is open now."""
        with self.together():
            self._do("DELETE FROM open_positions", ())
            self._connection.executemany(rows.INSERT_POSITION, positions)

    def record_equity(self, time_ms: int, equity_usdt: float, wallet_usdt: float) -> None:
        """Record the account at one candle close, named by the candle's open time; a second one replaces the first."""
        with self.together():
            self._do(rows.INSERT_EQUITY, (time_ms, equity_usdt, wallet_usdt))

    def record_progress(self, progress: rows.Progress) -> None:
        """Replace how far the run has come with one symbol; put it together with what happened on the candle."""
        with self.together():
            self._do(rows.INSERT_PROGRESS, progress)

    def record_heartbeat(self, process: int, time_ms: int, line: str) -> None:
        """Say that the process is alive, and what its status line shows."""
        with self.together():
            self._do("INSERT OR REPLACE INTO heartbeat VALUES (1, ?, ?, ?)", (process, time_ms, line))

    def record_event(self, time_ms: int, kind: str, message: str, symbol: str = "", data: object = None) -> None:
        """Record anything else worth knowing; ``data`` must fit into JSON."""
        with self.together():
            self._do(rows.INSERT_EVENT, rows.event_row(time_ms, kind, symbol, message, {} if data is None else data))

    def record_skipped_entry(self, skipped: SkippedEntry) -> None:
        """Record an entry the sizing refused, as event entry_skipped."""
        with self.together():
            self._do(rows.INSERT_EVENT, rows.skipped_row(skipped))

    def record_pending_signal(self, signal: PendingSignal) -> None:
        """Record a decision that could not be executed any more, as event pending_signal."""
        with self.together():
            self._do(rows.INSERT_EVENT, rows.pending_row(signal))

    def request_control(self, request: str, time_ms: int, symbol: str = "") -> int:
        """Leave a request (close, pause, resume …) for the running bot and return its number."""
        with self.together():
            self._do(
                "INSERT INTO controls (request, symbol, requested_ms) VALUES (?, ?, ?)", (request, symbol, time_ms)
            )
            return int(self._connection.execute("SELECT last_insert_rowid()").fetchone()[0])

    def answer_control(self, number: int, answer: str, time_ms: int) -> bool:
        """Say what became of a request; False when it was answered before or does not exist."""
        sql = "UPDATE controls SET answer = ?, answered_ms = ? WHERE id = ? AND answered_ms IS NULL"
        with self.together():
            return self._do(sql, (answer, time_ms, number)) == 1

    def update_run(self, info: RunInfo, state: str) -> None:
        """Replace what is known about the run itself (last candle, counts) and its state (``running`` or another)."""
        with self.together():
            self._do(
                "UPDATE run SET info = ?, engine = ?, finished_ms = ?, state = ? WHERE run_id = ?",
                (rows.info_text(info), info.engine, info.finished_ms, state, info.run_id),
            )

    def _do(self, sql: str, values: tuple[object, ...]) -> int:
        with sentences(self.path):
            return self._connection.execute(sql, values).rowcount


def _first_rows(path: Path, info: RunInfo, initial_balance_usdt: float) -> None:
    connection = open_connection(path)
    try:
        connection.execute("BEGIN")
        create_tables(connection)
        connection.execute(rows.INSERT_RUN, rows.run_row(info, initial_balance_usdt, "running", None))
        connection.executemany(rows.INSERT_SETTING, rows.setting_rows(info))
        connection.execute("COMMIT")
    finally:
        connection.close()


def _writable(path: Path) -> sqlite3.Connection:
    connection = open_connection(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection
