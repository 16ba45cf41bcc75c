"""The end of a live run, also of one that was killed: journal in; trades, equity, report and pages out."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from feeds.candles import CandleError, Candles, check_candles
from feeds.lines import CANDLE_COLUMNS
from smm_bt.analytics.equity import EquityCurve, write_equity_parquet
from smm_bt.analytics.journal import Journal
from smm_bt.analytics.journal_rows import FAILED
from smm_bt.analytics.report import Report, build_report, write_report
from smm_bt.analytics.run_info import RunInfo
from smm_bt.analytics.trade_log import write_trades_csv
from smm_bt.app.clock import now_ms
from smm_bt.errors import SmmBtError, VenueError
from smm_bt.execution.live_candles import LiveCandles
from smm_bt.model import RunRecord

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, eq=False)
class LiveResult:
    """A live run that has ended: where it is and what it did."""

    folder: Path
    record: RunRecord
    equity: EquityCurve
    info: RunInfo
    report: Report
    why_ended: str


def finish(journal: Journal, folder: Path, why_ended: str, *, has_profit_target: bool) -> LiveResult:
    """Write what the journal holds as files; each appears whole or not at all."""
    record, equity = journal.record(), journal.equity()
    info = info_of(journal, record, has_profit_target)
    journal.update_run(info, "stopped" if why_ended.startswith("stopped") or not why_ended else "finished")
    report = build_report(record, equity, info)
    write_trades_csv(folder / "trades.csv", record.trades, info.run_id)
    write_equity_parquet(folder / "equity.parquet", equity)
    write_report(folder / "report.json", report)
    return LiveResult(folder, record, equity, info, report, why_ended)


def mark_failed(journal: Journal, problem: Exception) -> None:
    """Leave in the journal that, and why, the run failed, so that ``status`` need not guess."""
    with suppress(SmmBtError), journal.together():  # the disk may be full, and the first problem is the one to tell
        journal.record_event(now_ms(), FAILED, str(problem) or type(problem).__name__)
        mark_ended(journal, FAILED)


def mark_ended(journal: Journal, state: str) -> None:
    """Leave in the journal how a run ended that has not come to its orderly end."""
    with suppress(SmmBtError):
        journal.update_run(replace(journal.run_info(), finished_ms=now_ms()), state)


def info_of(journal: Journal, record: RunRecord, has_profit_target: bool) -> RunInfo:
    """Return the circumstances of the run as far as it has come."""
    progress = journal.progress()
    return replace(
        journal.run_info(),
        first_candle_ms=min((each.first_ms for each in progress.values()), default=None),
        last_candle_ms=max((each.last_ms for each in progress.values()), default=None),
        candles=sum(each.candles for each in progress.values()),
        candles_by_symbol={symbol: each.candles for symbol, each in progress.items()},
        gaps=sum(each.gaps for each in progress.values()),
        missing_candles=sum(each.missing_candles for each in progress.values()),
        conflicting_signals=sum(decision.conflicting_signals for decision in record.decisions),
        has_profit_target=has_profit_target,
        finished_ms=now_ms(),
    )


def draw_pages(result: LiveResult, journal: Journal, source: LiveCandles, console: Console) -> None:
    """Write ``tearsheet.html`` and ``chart.html``; the chart needs the candles once more and is left out without."""
    from smm_bt.analytics.charts import write_chart
    from smm_bt.analytics.tearsheet import write_tearsheet

    with console.status("drawing the tearsheet …"):
        write_tearsheet(result.folder / "tearsheet.html", result.report, result.equity)
    try:
        candles = _candles(journal, source)
    except (VenueError, CandleError) as problem:
        console.print(f"No chart: the candles could not be read again ({problem}).", soft_wrap=True, markup=False)
        return
    with console.status("drawing the chart …"):
        write_chart(result.folder / "chart.html", candles, result.record, result.equity, result.report)


def _candles(journal: Journal, source: LiveCandles) -> list[Candles]:
    found = []
    for symbol, progress in journal.progress().items():
        klines = source.history(symbol, progress.first_ms, progress.last_ms + source.length_ms)
        columns = {name: [getattr(kline, name) for kline in klines] for name in ("open_ms", *CANDLE_COLUMNS)}
        found.append(check_candles(symbol, source.timeframe, columns, source="the venue's candles"))  # type: ignore[arg-type]
    return found
