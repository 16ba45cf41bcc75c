"""The figures of a run on the terminal: what happened, and loudly what must not be overlooked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_PLAIN_WIDTH = 80
Rows = list[tuple[str, str]]


def print_summary(
    report: Mapping[str, Any], *, files: Iterable[Path] = (), console: Console | None = None, notes: bool = True
) -> None:
    """Print a report made by build_report (or read back) as a table, warnings below it, then where the files are.

    Without a terminal the table is 80 columns wide and free of colour.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = console or Console(highlight=False)
    if console is None and not out.is_terminal:
        out = Console(highlight=False, width=_PLAIN_WIDTH, color_system=None)
    table = Table(title=_title(report), title_justify="left", show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in summary_rows(report):
        table.add_row(Text(name), Text(value))
    out.print(table)
    for line in loud_lines(report):
        out.print(Text(f"! {line}", style="bold yellow"))
    if notes:
        for note in quiet_notes(report):
            out.print(Text(f"- {note}", style="dim"))
    for path in files:
        out.print(Text(str(path)), soft_wrap=True)


def summary_rows(report: Mapping[str, Any]) -> Rows:
    """Return name and text of each line of the table; an undefined figure says why it is."""
    start, end = report["initial_balance"], report["final_equity"]
    fall = f"{report['max_drawdown']:.2%}  ({report['max_drawdown_usdt']:,.2f} USDT)"
    return [
        ("Strategy", f"{report['strategy_file']}{'  (REFERENCE)' if report['strategy_is_reference'] else ''}"),
        ("Market", str(report["market_source"])),
        ("Candles", _candles(report)),
        ("Gaps", _gaps(report)),
        ("Initial balance", f"{start:,.2f} USDT"),
        ("Final equity", f"{end:,.2f} USDT  ({(end - start) / start:+.2%})"),
        ("Total PnL, net", f"{report['total_pnl']:+,.2f} USDT over {_plural(report['total_trades'], 'closed trade')}"),
        ("Win rate", _figure(report["win_rate"], "{:.2%}", "0 trades")),
        ("Average win", _figure(report["avg_win"], "{:+,.2f} USDT", "no winning trade")),
        ("Average loss", _figure(report["avg_loss"], "{:+,.2f} USDT", "no losing trade")),
        ("Profit factor", _figure(report["profit_factor"], "{:.3f}", "no losing trade")),
        ("Max drawdown", fall),
        ("Sharpe, daily", _figure(report["sharpe"], "{:.2f}", "fewer than 2 days or equity never moved")),
        ("Sortino, daily", _figure(report["sortino"], "{:.2f}", "fewer than 2 days or no losing day")),
        ("Long / short", f"{_side(report['long'])} / {_side(report['short'])}"),
        ("In the market", _figure(report["exposure"], "{:.1%} of the candles", "no candles")),
        ("Fees / funding", f"{report['fees_usdt']:,.2f} paid / {_funding(report)}"),
        ("Closed by", ", ".join(f"{why} {n}" for why, n in report["trades_by_reason"].items()) or "n/a (0 trades)"),
        ("Engine", report["engine"] + (f" ({report['engine_reason']})" if report["engine_reason"] else "")),
    ]


def loud_lines(report: Mapping[str, Any]) -> list[str]:
    """Return what must not be overlooked, most important first."""
    lines = []
    if report["strategy_is_reference"]:
        lines.append("REFERENCE STRATEGY in use: a stand-in, not SMM v4.1. Put your compute_smm.py into the slot.")
    if report["liquidations"]:
        lines.append(f"{_plural(report['liquidations'], 'LIQUIDATION')}: the whole margin of each was lost.")
    if report["stop_loss_percent"] is None:
        lines.append(
            f"NO STOP LOSS: compute_smm carries none; at {report['leverage']}x a move of roughly 4.5-5 % "
            "against a position liquidates it."
        )
    if not report["has_profit_target"]:
        lines.append(
            "NO PROFIT TARGET: compute_smm returned no profit_target_hit column; positions are closed by signals, "
            "stops and liquidations only."
        )
    if report["skipped_entries"]:
        lines.append(
            f"{_plural(report['skipped_entries'], 'ENTRY', 'ENTRIES')} SKIPPED; the journal holds the figures."
        )
    if report["conflicting_signals"]:
        lines.append(
            f"{_plural(report['conflicting_signals'], 'candle')} with buy and sell signal at once: no entry there."
        )
    lines.extend(
        f"OPEN POSITION at the end: {position['side']} {position['qty']:g} {position['symbol']} "
        f"at {position['entry_price']:g}, unrealised {position['unrealized_pnl_usdt']:+,.2f} USDT (not a trade)."
        for position in _each(report["open_position"])
    )
    for signal in _each(report["pending_signal"]):
        wanted = [f"close ({signal['close_reason']})"] if signal["close_reason"] else []
        wanted += [f"open {signal['entry_side']}"] if signal["entry_side"] else []
        lines.append(f"PENDING SIGNAL on the last candle of {signal['symbol']}: {', '.join(wanted)}; not executed.")
    return lines


def quiet_notes(report: Mapping[str, Any]) -> list[str]:
    """Return the report's notes that no loud line says already."""
    said = (
        "The reference strategy",
        "compute_smm carries no explicit stop loss and",
        "The strategy returned no profit_target_hit",
        "The candles have",
        "A position was",
        "A signal on",
    )
    return [note for note in report["notes"] if not note.startswith(said)]


def _title(report: Mapping[str, Any]) -> str:
    return f"{report['run_id']} · {report['mode']} · {', '.join(report['symbols'])} {report['timeframe']}"


def _candles(report: Mapping[str, Any]) -> str:
    text = f"{report['candles']:,}"
    if report["first_candle"]:
        text += f"  {_short_time(report['first_candle'])} to {_short_time(report['last_candle'])} UTC"
    return text


def _gaps(report: Mapping[str, Any]) -> str:
    if not report["missing_candles"]:
        return "none"
    return f"{_plural(report['missing_candles'], 'candle')} missing in {_plural(report['gaps'], 'hole')}"


def _short_time(iso: str) -> str:
    return iso[:16].replace("T", " ")


def _figure(value: float | None, form: str, why_undefined: str) -> str:
    return f"n/a ({why_undefined})" if value is None else form.format(value)


def _side(figures: Mapping[str, Any]) -> str:
    return f"{_plural(figures['total_trades'], 'trade')} {figures['total_pnl']:+,.2f}"


def _funding(report: Mapping[str, Any]) -> str:
    without, amount = report["symbols_without_funding"], report["funding_usdt"]
    if without and len(without) == len(report["symbols"]):
        return "not modelled"
    text = f"{-amount:,.2f} paid" if amount < 0 else f"{amount:,.2f} received"
    return f"{text} ({', '.join(without)}: not modelled)" if without else text


def _plural(number: int, noun: str, many: str | None = None) -> str:
    return f"{number:,} {noun if number == 1 else many or noun + ('S' if noun.isupper() else 's')}"


def _each(value: Any) -> list[Mapping[str, Any]]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
