"""report.json: the figures of a run by name, and what a reader must know before believing them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from smm_bt.analytics import metrics
from smm_bt.analytics.atomic_file import write_text
from smm_bt.analytics.equity import EquityCurve, steps_held
from smm_bt.analytics.run_info import RunInfo
from smm_bt.analytics.timestamps import iso_utc
from smm_bt.errors import RunFailed
from smm_bt.model import CloseReason, OpenPosition, PendingSignal, RunRecord, Trade, side_name

Report = dict[str, object]


def build_report(record: RunRecord, equity: EquityCurve, info: RunInfo) -> Report:
    """Return everything report.json says, its keys in reading order, every value ready for JSON.

    Undefined figures are None. ``fees_usdt`` and ``funding_usdt`` include what an open position has paid so far, so
    initial_balance + gross results − fees_usdt + funding_usdt + unrealised = final_equity. ``open_position`` and
    ``pending_signal`` are None, one object, or a list of objects when several symbols have one.
    """
    figures = metrics.trade_figures(trade.pnl_usdt for trade in record.trades)
    fall = metrics.drawdown(equity.equity, record.initial_balance_usdt)
    return {
        **figures._asdict(),
        "max_drawdown": fall.fraction,
        "max_drawdown_usdt": fall.usdt,
        **_account_part(record, equity, info),
        "open_position": _one_or_many([_open_position(position) for position in record.open_positions]),
        "pending_signal": _one_or_many([_pending_signal(signal) for signal in record.pending_signals]),
        **_circumstances(record, info),
        "notes": _notes(record, info),
    }


def write_report(path: Path, report: Mapping[str, object]) -> None:
    """Write the report as JSON, completely or not at all; OutputError when that fails, ValueError on NaN."""
    write_text(path, json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_report(path: Path) -> Report:
    """Return a report that write_report wrote; RunFailed when it is missing or damaged."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFailed(f"Cannot read the report {path}: {error}.") from error
    if not isinstance(report, dict) or "total_trades" not in report:
        raise RunFailed(f"{path} is not a report of SMM-BT: it holds no total_trades.")
    return report


def _account_part(record: RunRecord, equity: EquityCurve, info: RunInfo) -> Report:
    daily = metrics.daily_returns(equity.open_ms, equity.equity, record.initial_balance_usdt).returns
    held = steps_held(equity.open_ms, record.ledger_entries, info.timeframe_ms)
    paid: Sequence[Trade | OpenPosition] = [*record.trades, *record.open_positions]
    reasons = Counter(str(trade.close_reason) for trade in record.trades)
    return {
        "initial_balance": float(record.initial_balance_usdt),
        "final_equity": float(equity.equity[-1]) if equity.equity.size else float(record.wallet_usdt),
        "fees_usdt": metrics.total_pnl(each.fees_usdt for each in paid),
        "funding_usdt": metrics.total_pnl(each.funding_usdt for each in paid),
        "liquidations": reasons[CloseReason.LIQUIDATION.value],
        "skipped_entries": len(record.skipped_entries),
        "conflicting_signals": info.conflicting_signals,
        "trades_by_reason": {reason.value: reasons[reason.value] for reason in CloseReason if reasons[reason.value]},
        "long": _side_figures(record.trades, side_name(+1)),
        "short": _side_figures(record.trades, side_name(-1)),
        "exposure": metrics.exposure(held, equity.open_ms.size),
        "sharpe": metrics.sharpe(daily),
        "sortino": metrics.sortino(daily),
    }


def _side_figures(trades: Sequence[Trade], side: str) -> Report:
    own = [trade for trade in trades if trade.side == side]
    return {
        **metrics.trade_figures(trade.pnl_usdt for trade in own)._asdict(),
        "fees_usdt": metrics.total_pnl(trade.fees_usdt for trade in own),
        "funding_usdt": metrics.total_pnl(trade.funding_usdt for trade in own),
        "liquidations": sum(trade.close_reason == CloseReason.LIQUIDATION for trade in own),
    }


def _open_position(position: OpenPosition) -> Report:
    return _with_time(position, "entry_ms", "entry_time")


def _pending_signal(signal: PendingSignal) -> Report:
    values = _with_time(signal, "candle_ms", "candle_time")
    values["close_reason"] = signal.close_reason or None
    values["entry_side"] = side_name(signal.entry_side) if signal.entry_side else None
    return values


def _with_time(row: NamedTuple, milliseconds_field: str, time_field: str) -> Report:
    """Return the row's fields, its UTC milliseconds replaced by ISO-8601 text under another name."""
    return {
        time_field if name == milliseconds_field else name: iso_utc(value) if name == milliseconds_field else value
        for name, value in row._asdict().items()
    }


def _one_or_many(objects: list[Report]) -> object:
    if not objects:
        return None
    return objects[0] if len(objects) == 1 else objects


def _circumstances(record: RunRecord, info: RunInfo) -> Report:
    without = _without_funding(record, info)
    return {
        "run_id": info.run_id,
        "mode": str(info.mode),
        "market_source": info.market_source,
        "symbols": list(info.symbols),
        "timeframe": info.timeframe,
        "first_candle": None if info.first_candle_ms is None else iso_utc(info.first_candle_ms),
        "last_candle": None if info.last_candle_ms is None else iso_utc(info.last_candle_ms),
        "candles": info.candles,
        "candles_by_symbol": dict(info.candles_by_symbol),
        "gaps": info.gaps,
        "missing_candles": info.missing_candles,
        "strategy_file": info.strategy_file,
        "strategy_sha256": info.strategy_sha256,
        "strategy_is_reference": info.strategy_is_reference,
        "columns_from_cache": list(info.columns_from_cache),
        "has_profit_target": info.has_profit_target,
        "engine": info.engine,
        "engine_reason": info.engine_reason,
        "leverage": info.leverage,
        "risk_fraction": info.risk_fraction,
        "stop_loss_percent": info.stop_loss_percent,
        "funding_modelled": not without,
        "symbols_without_funding": without,
        "settings": dict(info.settings),
    }


def _notes(record: RunRecord, info: RunInfo) -> list[str]:
    notes = []
    if info.strategy_is_reference:
        notes.append(
            "The reference strategy was used: a stand-in built from published indicators, not SMM v4.1. "
            "Its results say nothing about your compute_smm file."
        )
    notes.append(_stop_sentence(info))
    if not info.has_profit_target:
        notes.append(
            "The strategy returned no profit_target_hit column: positions were closed by signals only, "
            "apart from stops and liquidations."
        )
    if info.columns_from_cache:
        notes.append(_cache_sentence(info))
    notes.extend(_funding_sentences(_without_funding(record, info), info))
    notes.extend(info.remarks)
    if info.missing_candles:
        notes.append(
            f"The candles have {_count(info.gaps, 'gap')} with {_count(info.missing_candles, 'candle')} missing; "
            "nothing was filled in, and nothing could be traded inside."
        )
    if record.open_positions:
        notes.append("A position was still open at the end: it is in the equity, but it is not a trade.")
    if record.pending_signals:
        notes.append("A signal on the last candle is pending: there was no next candle to execute it at.")
    return notes


def _without_funding(record: RunRecord, info: RunInfo) -> list[str]:
    """Return the symbols whose positions neither paid nor received funding because no rates were known.

    A symbol the account has funding of has rates, whatever was known about its market at the start.
    """
    if info.funding_modelled:
        return []
    settled = {entry.symbol for entry in record.ledger_entries if entry.kind == "funding"}
    return [symbol for symbol in info.without_funding or info.symbols if symbol not in settled]


def _funding_sentences(without: Sequence[str], info: RunInfo) -> list[str]:
    if not without:
        return []
    if len(without) == len(info.symbols):
        return ["Funding not modelled: no funding rates were given, so holding a position cost and earned nothing."]
    return [
        f"Funding not modelled for {', '.join(without)}: no funding rates were given, so holding a position there cost "
        "and earned nothing. The other symbols paid and received funding."
    ]


def _stop_sentence(info: RunInfo) -> str:
    liquidated = (
        f"at {info.leverage}x a position is liquidated, and its whole margin lost, "
        "after an adverse move of roughly 4.5-5 %"
    )
    if info.stop_loss_percent is None:
        return f"compute_smm carries no explicit stop loss and none was switched on: {liquidated}."
    return (
        f"compute_smm carries no explicit stop loss; the optional one was set to {info.stop_loss_percent:g} % "
        f"of the entry price. Without it, {liquidated}."
    )


def _cache_sentence(info: RunInfo) -> str:
    of_some = "" if info.columns_from_cache == info.symbols else f" of {', '.join(info.columns_from_cache)}"
    return (
        f"The strategy's columns{of_some} were read from the cache beside the candles, compute_smm did not run for "
        "them; --no-cache runs it."
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
