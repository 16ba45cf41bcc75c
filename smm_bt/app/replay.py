"""A historical replay from start to finish: parts, engine, run folder, summary, pages."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from smm_bt.analytics.equity import EquityCurve, equity_curve, write_equity_parquet
from smm_bt.analytics.journal_replay import write_replay
from smm_bt.analytics.report import Report, build_report, write_report
from smm_bt.analytics.run_info import RunInfo
from smm_bt.analytics.summary import print_summary
from smm_bt.analytics.trade_log import write_trades_csv
from smm_bt.app.build import ReplayParts, build_replay, describe_replay
from smm_bt.app.collection import no_garbage_collection
from smm_bt.app.engines import run_replay
from smm_bt.app.inputs import ReplayFiles
from smm_bt.app.run_folder import choose_run_folder, whole_or_not_at_all
from smm_bt.app.run_log import RunLog
from smm_bt.app.settings import Settings
from smm_bt.errors import Interrupted, OutputError
from smm_bt.model import RunRecord

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class ReplayRequest:
    """What one ``smm-bt replay`` asks for."""

    files: ReplayFiles
    settings: Settings
    out: Path | None = None
    engine: str = "auto"
    tearsheet: bool = True
    chart: bool = True


@dataclass(frozen=True, eq=False)
class ReplayResult:
    """A finished replay: where it is and what it found."""

    folder: Path
    parts: ReplayParts
    record: RunRecord
    equity: EquityCurve
    info: RunInfo
    report: Report


def replay(request: ReplayRequest, console: Console) -> ReplayResult:
    """Run a replay, print its summary and leave its run folder; the pages are drawn after the figures are printed.

    Raises:
        OutputError, Interrupted: nothing is left behind then, or, once the summary is printed, the figures without
            the pages; the message says which.
        SmmBtError, CandleError, StrategyRefused: what could not be used; nothing is left behind then.
    """
    label = "-".join((*request.files.symbols, *(path.name.split("-")[0] for path in request.files.candles)))[:40]
    folder = choose_run_folder(request.settings.RUNS_DIR, request.out, label or "replay")
    parts = build_replay(request.files, request.settings)
    result = _run(request, parts, folder)
    print_summary(result.report, console=console)
    draw_pages(result, console, tearsheet=request.tearsheet, chart=request.chart, candles=request.files.candles)
    console.print(f"Files: {folder.absolute()}", soft_wrap=True, highlight=False)
    return result


def _run(request: ReplayRequest, parts: ReplayParts, folder: Path) -> ReplayResult:
    with no_garbage_collection():
        return _run_and_write(request, parts, folder)


def _run_and_write(request: ReplayRequest, parts: ReplayParts, folder: Path) -> ReplayResult:
    run = run_replay(parts.plan, request.engine)
    info = describe_replay(parts, run, folder.name)
    closes = {symbol: (h.candles.open_ms, h.candles.close) for symbol, h in parts.plan.histories.items()}
    equity = equity_curve(None, closes, run.record.ledger_entries, parts.plan.initial_balance_usdt, info.timeframe_ms)
    report = build_report(run.record, equity, info)
    result = ReplayResult(folder, parts, run.record, equity, info, report)
    with whole_or_not_at_all(folder) as unfinished:
        _write(result, unfinished)
    return result


def _write(result: ReplayResult, folder: Path) -> None:
    with RunLog(folder / "run.log") as log:
        log.write("replay_started", run_id=result.info.run_id, settings=result.info.settings)
        log.write("engine", engine=result.info.engine, reason=result.info.engine_reason)
        for skipped in result.record.skipped_entries[:1000]:
            log.write("entry_skipped", symbol=skipped.symbol, time_ms=skipped.time_ms, why=skipped.why)
        write_trades_csv(folder / "trades.csv", result.record.trades, result.info.run_id)
        write_equity_parquet(folder / "equity.parquet", result.equity)
        write_replay(folder / "journal.sqlite", result.record, result.equity, result.info)
        write_report(folder / "report.json", result.report)
        log.write("replay_finished", trades=len(result.record.trades), final_equity=result.report["final_equity"])


def draw_pages(
    result: ReplayResult, console: Console, *, tearsheet: bool, chart: bool, candles: Sequence[Path] = ()
) -> None:
    """Write ``tearsheet.html`` and ``chart.html`` into the finished run folder; ``candles`` are for the hint.

    Raises:
        OutputError: a page could not be drawn; the figures stay, and so does the other page.
        Interrupted: the person would not wait; the figures stay.
    """
    pages: dict[str, Callable[[Path], None]] = {}
    if tearsheet:
        pages["tearsheet.html"] = partial(_draw_tearsheet, result)
    if chart:
        pages["chart.html"] = partial(_draw_chart, result)
    problems: dict[str, Exception] = {}
    for name, draw in pages.items():
        try:
            with console.status(f"drawing {name} …"):
                draw(result.folder / name)
        except (OSError, OutputError) as problem:  # the drawing library's own files may be what does not fit
            problems[name] = problem
        except KeyboardInterrupt:
            drawn = _without_pages(result.folder, [page for page in pages if not (result.folder / page).exists()])
            raise Interrupted(f"Interrupted: {drawn}{_report_command(result.folder, candles)}") from None
    if problems:
        first = next(iter(problems.values()))
        why = f"{_without_pages(result.folder, list(problems))} ({_reason(first)})"
        raise OutputError(f"{why[0].upper()}{why[1:]}{_report_command(result.folder, candles)}") from first


def _without_pages(folder: Path, pages: Sequence[str]) -> str:
    return f"the figures are complete in {folder}, but {' and '.join(pages)} could not be drawn"


def _report_command(folder: Path, candles: Sequence[Path]) -> str:
    named = [part for path in candles for part in ("--candles", str(path))]
    return f"; draw what is missing with: {shlex.join(['smm-bt', 'report', str(folder), *named])}"


def _reason(problem: Exception) -> str:
    cause = problem.__cause__ if isinstance(problem, OutputError) else problem
    return (cause.strerror if isinstance(cause, OSError) else None) or str(cause or problem)


def _draw_tearsheet(result: ReplayResult, path: Path) -> None:
    from smm_bt.analytics.tearsheet import write_tearsheet

    write_tearsheet(path, result.report, result.equity)


def _draw_chart(result: ReplayResult, path: Path) -> None:
    from smm_bt.analytics.charts import write_chart

    candles = [history.candles for history in result.parts.plan.histories.values()]
    write_chart(path, candles, result.record, result.equity, result.report)
