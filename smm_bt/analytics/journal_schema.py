"""The journal's tables and their version, and how its file is opened."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smm_bt.analytics.atomic_file import output_error
from smm_bt.errors import RunFailed

SCHEMA_VERSION = 1
#: Marks the file as ours ("SMMB"), see PRAGMA application_id.
APPLICATION_ID = 0x534D4D42

#: Times are UTC milliseconds, money USDT, flags 0 or 1. STRICT refuses a value of another type.
TABLES = """
CREATE TABLE run (
    run_id TEXT PRIMARY KEY, mode TEXT NOT NULL, market_source TEXT NOT NULL, symbols TEXT NOT NULL,
    timeframe TEXT NOT NULL, initial_balance_usdt REAL NOT NULL, strategy_file TEXT NOT NULL,
    strategy_sha256 TEXT NOT NULL, strategy_is_reference INTEGER NOT NULL, engine TEXT NOT NULL,
    started_ms INTEGER, finished_ms INTEGER, state TEXT NOT NULL, wallet_usdt REAL, info TEXT NOT NULL
) STRICT;
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE decisions (
    id INTEGER PRIMARY KEY, candle_ms INTEGER NOT NULL, symbol TEXT NOT NULL, buy_signal INTEGER NOT NULL,
    sell_signal INTEGER NOT NULL, profit_target_hit INTEGER NOT NULL, position_side INTEGER NOT NULL,
    close_reason TEXT NOT NULL, entry_side INTEGER NOT NULL, conflicting_signals INTEGER NOT NULL,
    UNIQUE (symbol, candle_ms)
) STRICT;
CREATE TABLE orders (
    id INTEGER PRIMARY KEY, order_id TEXT NOT NULL UNIQUE, symbol TEXT NOT NULL, kind TEXT NOT NULL,
    side INTEGER NOT NULL, qty REAL NOT NULL, price REAL, reduce_only INTEGER NOT NULL, reason TEXT NOT NULL,
    created_ms INTEGER NOT NULL, state TEXT NOT NULL, changed_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE order_states (
    id INTEGER PRIMARY KEY, order_id TEXT NOT NULL REFERENCES orders (order_id), state TEXT NOT NULL,
    time_ms INTEGER NOT NULL, detail TEXT NOT NULL
) STRICT;
CREATE TABLE fills (
    id INTEGER PRIMARY KEY, fill_id TEXT NOT NULL UNIQUE, order_id TEXT NOT NULL REFERENCES orders (order_id),
    symbol TEXT NOT NULL, time_ms INTEGER NOT NULL, side INTEGER NOT NULL, qty REAL NOT NULL, price REAL NOT NULL,
    fee_usdt REAL NOT NULL, reduce_only INTEGER NOT NULL, reason TEXT NOT NULL
) STRICT;
CREATE TABLE ledger (
    id INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, kind TEXT NOT NULL, symbol TEXT NOT NULL,
    amount_usdt REAL NOT NULL, wallet_usdt REAL NOT NULL, signed_qty REAL NOT NULL, entry_price REAL NOT NULL
) STRICT;
CREATE TABLE trades (
    id INTEGER PRIMARY KEY, symbol TEXT NOT NULL, side TEXT NOT NULL, entry_ms INTEGER NOT NULL,
    entry_price REAL NOT NULL, qty REAL NOT NULL, exit_ms INTEGER NOT NULL, exit_price REAL NOT NULL,
    pnl_usdt REAL NOT NULL, pnl_percent REAL NOT NULL, fees REAL NOT NULL, close_reason TEXT NOT NULL,
    gross_pnl_usdt REAL NOT NULL, funding_usdt REAL NOT NULL, margin_usdt REAL NOT NULL,
    entry_order_id TEXT NOT NULL, exit_order_id TEXT NOT NULL, run_id TEXT NOT NULL,
    UNIQUE (symbol, entry_order_id, exit_order_id)
) STRICT;
CREATE TABLE open_positions (
    symbol TEXT PRIMARY KEY, side TEXT NOT NULL, entry_ms INTEGER NOT NULL, entry_price REAL NOT NULL,
    qty REAL NOT NULL, margin_usdt REAL NOT NULL, fees_usdt REAL NOT NULL, funding_usdt REAL NOT NULL,
    unrealized_pnl_usdt REAL NOT NULL, liquidation_price REAL, entry_order_id TEXT NOT NULL
) STRICT;
CREATE TABLE equity (time_ms INTEGER PRIMARY KEY, equity_usdt REAL NOT NULL, wallet_usdt REAL NOT NULL) STRICT;
CREATE TABLE events (
    id INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, kind TEXT NOT NULL, symbol TEXT NOT NULL,
    message TEXT NOT NULL, data TEXT NOT NULL
) STRICT;
CREATE TABLE controls (
    id INTEGER PRIMARY KEY, request TEXT NOT NULL, symbol TEXT NOT NULL, requested_ms INTEGER NOT NULL,
    answered_ms INTEGER, answer TEXT
) STRICT;
CREATE TABLE progress (
    symbol TEXT PRIMARY KEY, first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, candles INTEGER NOT NULL,
    gaps INTEGER NOT NULL, missing_candles INTEGER NOT NULL, venue_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE heartbeat (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1), process INTEGER NOT NULL, time_ms INTEGER NOT NULL,
    line TEXT NOT NULL
) STRICT;
"""


def open_connection(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the file in autocommit; the caller begins transactions. A busy file is waited for, ten seconds.

    A reader changes no row, but it may tidy up: a connection opened with mode=ro would leave the -wal and -shm
    files of SQLite beside a finished journal.
    """
    uri = f"{path.absolute().as_uri()}?mode={'rw' if read_only else 'rwc'}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10.0)
    connection.row_factory = sqlite3.Row
    if read_only:
        connection.execute("PRAGMA query_only = ON")
    return connection


def create_tables(connection: sqlite3.Connection) -> None:
    """Create all tables; part of the transaction in progress, if there is one."""
    for statement in TABLES.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def check_version(connection: sqlite3.Connection, path: Path) -> None:
    """Raise RunFailed, and close the connection, unless the file is a journal of this schema version."""
    try:
        _check(connection, path)
    except RunFailed:
        connection.close()
        raise


def _check(connection: sqlite3.Connection, path: Path) -> None:
    try:
        (owner,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError as error:
        raise RunFailed(f"{path} cannot be read as a journal: {error}.") from error
    if owner != APPLICATION_ID:
        raise RunFailed(f"{path} is not a journal of SMM-BT.")
    if version != SCHEMA_VERSION:
        raise RunFailed(
            f"{path} has journal version {version}, this program reads version {SCHEMA_VERSION}; "
            "use the program version that wrote it."
        )


def remove_side_files(path: Path) -> None:
    """Remove what SQLite keeps beside a database, once nobody has it open."""
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


@contextmanager
def sentences(path: Path, *, kept: str = "") -> Iterator[None]:
    """Turn what SQLite says about a file it cannot write into an OutputError; ``kept`` is what is left of the file."""
    try:
        yield
    except (sqlite3.OperationalError, sqlite3.InternalError) as error:
        raise output_error(path, error, kept=kept) from error


def insert(table: str, columns: tuple[str, ...], *, repeated: str = "ABORT") -> str:
    """Return an INSERT with one placeholder per column; ``repeated`` says what a key already there does."""
    marks = ",".join("?" * len(columns))
    return f"INSERT OR {repeated} INTO {table} ({','.join(columns)}) VALUES ({marks})"
