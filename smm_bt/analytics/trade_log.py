"""trades.csv: one line per closed trade, written so that reading it back loses nothing."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

from smm_bt.analytics.atomic_file import write_text
from smm_bt.analytics.timestamps import iso_utc, milliseconds
from smm_bt.errors import RunFailed
from smm_bt.model import Trade

TRADE_COLUMNS = (
    "symbol",
    "side",
    "entry_time",
    "entry_price",
    "qty",
    "exit_time",
    "exit_price",
    "pnl_usdt",
    "pnl_percent",
    "fees",
    "close_reason",
    "gross_pnl_usdt",
    "funding_usdt",
    "margin_usdt",
    "entry_order_id",
    "exit_order_id",
    "run_id",
)


def write_trades_csv(path: Path, trades: Iterable[Trade], run_id: str) -> None:
    """Write the closed trades with the columns of TRADE_COLUMNS, completely or not at all.

    Times are ISO-8601 UTC, ``qty`` is a plain decimal, other numbers have every digit that tells them apart.

    Raises:
        OutputError: the file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(TRADE_COLUMNS)
    writer.writerows(trade_row(trade, run_id) for trade in trades)
    write_text(path, text.getvalue())


def read_trades_csv(path: Path) -> list[Trade]:
    """Return the trades of a file that write_trades_csv wrote; further columns to the right are ignored.

    Raises:
        RunFailed: the file is missing, has other columns, or a line cannot be understood.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise RunFailed(f"Cannot read the trade log {path}: {error}.") from error
    header = tuple(rows[0][: len(TRADE_COLUMNS)]) if rows else ()
    if header != TRADE_COLUMNS:
        raise RunFailed(f"{path} is not a trade log: its first line must be {','.join(TRADE_COLUMNS)}.")
    trades = []
    for number, row in enumerate(rows[1:], start=2):
        try:
            trades.append(_trade(dict(zip(TRADE_COLUMNS, row[: len(TRADE_COLUMNS)], strict=True))))
        except ValueError as error:
            raise RunFailed(f"{path}, line {number}: {error}.") from error
    return trades


def trade_row(trade: Trade, run_id: str) -> tuple[str, ...]:
    """Return one line of the trade log as text, in the order of TRADE_COLUMNS."""
    return (
        trade.symbol,
        trade.side,
        iso_utc(trade.entry_ms),
        repr(float(trade.entry_price)),
        plain_decimal(trade.qty),
        iso_utc(trade.exit_ms),
        repr(float(trade.exit_price)),
        repr(float(trade.pnl_usdt)),
        repr(float(trade.pnl_percent)),
        repr(float(trade.fees_usdt)),
        str(trade.close_reason),
        repr(float(trade.gross_pnl_usdt)),
        repr(float(trade.funding_usdt)),
        repr(float(trade.margin_usdt)),
        trade.entry_order_id,
        trade.exit_order_id,
        run_id,
    )


def plain_decimal(number: float) -> str:
    """Return the shortest text that reads back as ``number``, without an exponent: 0.00001, 1000000000."""
    text = repr(float(number))
    if "e" in text:
        text = f"{Decimal(text):f}"
    return text.removesuffix(".0")


def _trade(cell: dict[str, str]) -> Trade:
    return Trade(
        symbol=cell["symbol"],
        side=cell["side"],
        entry_ms=milliseconds(cell["entry_time"]),
        entry_price=float(cell["entry_price"]),
        qty=float(cell["qty"]),
        exit_ms=milliseconds(cell["exit_time"]),
        exit_price=float(cell["exit_price"]),
        gross_pnl_usdt=float(cell["gross_pnl_usdt"]),
        fees_usdt=float(cell["fees"]),
        funding_usdt=float(cell["funding_usdt"]),
        margin_usdt=float(cell["margin_usdt"]),
        close_reason=cell["close_reason"],
        entry_order_id=cell["entry_order_id"],
        exit_order_id=cell["exit_order_id"],
    )
