"""How the records of a run become rows of the journal, the same for live and replay, and back."""

from __future__ import annotations

import json
import sqlite3
from typing import NamedTuple

from smm_bt.analytics.journal_schema import insert
from smm_bt.analytics.run_info import RunInfo
from smm_bt.model import (
    DecisionRecord,
    Fill,
    LedgerEntry,
    OpenPosition,
    PendingSignal,
    SkippedEntry,
    Trade,
    side_name,
)

Row = tuple[object, ...]


class Progress(NamedTuple):
    """How far a live run has come with one symbol.

    ``first_ms`` and ``last_ms`` are open times of the first and the newest candle it has dealt with, ``candles`` how
    many; ``gaps`` counts holes and ``missing_candles`` what is absent in them; ``venue_ms`` was the venue's time.
    """

    symbol: str
    first_ms: int
    last_ms: int
    candles: int
    gaps: int
    missing_candles: int
    venue_ms: int


EventRow = tuple[int, str, str, str, str]

ENTRY_SKIPPED = "entry_skipped"
CONFLICTING_SIGNALS = "conflicting_signals"
PENDING_SIGNAL = "pending_signal"
#: The state of a run that failed, and the event that says why.
FAILED = "failed"
RESUMED_RUN = "resumed_run"

#: What kinds of orders there are; a liquidation is the venue's own.
MARKET, STOP_MARKET, LIQUIDATION = "market", "stop_market", "liquidation"

RUN_COLUMNS = (
    *("run_id", "mode", "market_source", "symbols", "timeframe", "initial_balance_usdt", "strategy_file"),
    *("strategy_sha256", "strategy_is_reference", "engine", "started_ms", "finished_ms", "state", "wallet_usdt"),
    "info",
)
ORDER_COLUMNS = (
    *("order_id", "symbol", "kind", "side", "qty", "price", "reduce_only", "reason"),
    *("created_ms", "state", "changed_ms"),
)
STATE_COLUMNS = ("order_id", "state", "time_ms", "detail")
TRADE_COLUMNS = (
    *("symbol", "side", "entry_ms", "entry_price", "qty", "exit_ms", "exit_price", "pnl_usdt", "pnl_percent", "fees"),
    *("close_reason", "gross_pnl_usdt", "funding_usdt", "margin_usdt", "entry_order_id", "exit_order_id", "run_id"),
)

INSERT_RUN = insert("run", RUN_COLUMNS)
INSERT_SETTING = insert("settings", ("name", "value"), repeated="REPLACE")
INSERT_DECISION = insert("decisions", DecisionRecord._fields, repeated="IGNORE")
INSERT_ORDER = insert("orders", ORDER_COLUMNS)
INSERT_STATE = insert("order_states", STATE_COLUMNS)
INSERT_FILL = insert("fills", ("fill_id", *Fill._fields), repeated="IGNORE")
INSERT_LEDGER = insert("ledger", LedgerEntry._fields)
INSERT_TRADE = insert("trades", TRADE_COLUMNS, repeated="IGNORE")
CHANGE_TRADE = (
    "UPDATE trades SET pnl_usdt = ?, pnl_percent = ?, funding_usdt = ? "
    "WHERE symbol = ? AND entry_order_id = ? AND exit_order_id = ?"
)
INSERT_POSITION = insert("open_positions", OpenPosition._fields)
INSERT_EQUITY = insert("equity", ("time_ms", "equity_usdt", "wallet_usdt"), repeated="REPLACE")
INSERT_PROGRESS = insert("progress", Progress._fields, repeated="REPLACE")
INSERT_EVENT = insert("events", ("time_ms", "kind", "symbol", "message", "data"))


def run_row(info: RunInfo, initial_balance_usdt: float, state: str, wallet_usdt: float | None) -> Row:
    """Return the one row of table run; ``info`` is kept whole beside the columns people search by."""
    return (
        info.run_id,
        str(info.mode),
        info.market_source,
        ",".join(info.symbols),
        info.timeframe,
        initial_balance_usdt,
        info.strategy_file,
        info.strategy_sha256,
        int(info.strategy_is_reference),
        info.engine,
        info.started_ms,
        info.finished_ms,
        state,
        wallet_usdt,
        info_text(info),
    )


def info_text(info: RunInfo) -> str:
    """Return the run's circumstances as JSON."""
    plain = {name: value for name, value in _fields(info).items() if name not in ("settings", "candles_by_symbol")}
    plain["settings"], plain["candles_by_symbol"] = dict(info.settings), dict(info.candles_by_symbol)
    return json.dumps(plain, ensure_ascii=False, default=str)


def info_from_text(text: str) -> RunInfo:
    """Return what info_text wrote."""
    values = json.loads(text)
    for name in ("symbols", "without_funding", "remarks", "columns_from_cache"):
        if name in values:  # a journal of an older version has only the first
            values[name] = tuple(values[name])
    return RunInfo(**values)


def setting_rows(info: RunInfo) -> list[Row]:
    """Return the masked settings as name and JSON value."""
    return [(name, json.dumps(value, ensure_ascii=False, default=str)) for name, value in info.settings.items()]


def decision_row(decision: DecisionRecord) -> Row:
    """Return a decision as plain numbers and text: SQLite takes those several times faster than bools."""
    candle_ms, symbol, buy, sell, target, position_side, close_reason, entry_side, conflicting = decision
    why = str(close_reason) if close_reason else ""
    return (candle_ms, symbol, int(buy), int(sell), int(target), position_side, why, entry_side, int(conflicting))


def fill_row(fill: Fill, fill_id: str) -> Row:
    """Return a fill under its id, as plain numbers and text."""
    return (fill_id, *fill[:7], int(fill.reduce_only), str(fill.reason))


def trade_row(trade: Trade, run_id: str) -> Row:
    """Return a trade in the order of TRADE_COLUMNS."""
    return (
        *trade[:7],
        trade.pnl_usdt,
        trade.pnl_percent,
        trade.fees_usdt,
        str(trade.close_reason),
        trade.gross_pnl_usdt,
        trade.funding_usdt,
        trade.margin_usdt,
        trade.entry_order_id,
        trade.exit_order_id,
        run_id,
    )


def event_row(time_ms: int, kind: str, symbol: str, message: str, data: object) -> EventRow:
    """Return an event; ``data`` becomes JSON."""
    return (time_ms, kind, symbol, message, json.dumps(data, ensure_ascii=False))


def skipped_row(skipped: SkippedEntry) -> EventRow:
    """Return the event of an entry the sizing refused."""
    return event_row(skipped.time_ms, ENTRY_SKIPPED, skipped.symbol, skipped.why, {"side": skipped.side})


def conflict_row(decision: DecisionRecord) -> EventRow:
    """Return the event of a row on which both entry flags were up."""
    message = "buy_signal and sell_signal are both True: no entry and no opposite-signal close on this row"
    return event_row(decision.candle_ms, CONFLICTING_SIGNALS, decision.symbol, message, {})


def pending_row(signal: PendingSignal) -> EventRow:
    """Return the event of a decision that had no next candle."""
    wanted = [f"close ({signal.close_reason})"] if signal.close_reason else []
    wanted += [f"open {side_name(signal.entry_side)}"] if signal.entry_side else []
    data = {"close_reason": signal.close_reason, "entry_side": signal.entry_side}
    message = f"decided on the last candle and not executed: {' and '.join(wanted)}"
    return event_row(signal.candle_ms, PENDING_SIGNAL, signal.symbol, message, data)


def trade_from(row: sqlite3.Row) -> Trade:
    """Return the trade a row of table trades holds."""
    names = {"fees_usdt": "fees"}
    return Trade(*(row[names.get(name, name)] for name in Trade._fields))


def fill_from(row: sqlite3.Row) -> Fill:
    """Return the fill a row of table fills holds."""
    values = {name: row[name] for name in Fill._fields}
    values["reduce_only"] = bool(values["reduce_only"])
    return Fill(**values)


def decision_from(row: sqlite3.Row) -> DecisionRecord:
    """Return the decision a row of table decisions holds."""
    return DecisionRecord(
        candle_ms=row["candle_ms"],
        symbol=row["symbol"],
        buy_signal=bool(row["buy_signal"]),
        sell_signal=bool(row["sell_signal"]),
        profit_target_hit=bool(row["profit_target_hit"]),
        position_side=row["position_side"],
        close_reason=row["close_reason"],
        entry_side=row["entry_side"],
        conflicting_signals=bool(row["conflicting_signals"]),
    )


def skipped_from(row: sqlite3.Row) -> SkippedEntry:
    """Return the skipped entry an event row holds."""
    return SkippedEntry(row["time_ms"], row["symbol"], json.loads(row["data"])["side"], row["message"])


def pending_from(row: sqlite3.Row) -> PendingSignal:
    """Return the pending signal an event row holds."""
    data = json.loads(row["data"])
    return PendingSignal(row["symbol"], row["time_ms"], data["close_reason"], data["entry_side"])


def _fields(info: RunInfo) -> dict[str, object]:
    return {name: getattr(info, name) for name in RunInfo.__dataclass_fields__}
