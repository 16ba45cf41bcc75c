"""``smm-bt report RUN``: the figures and pages of a run made again from its journal, finished or killed."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from feeds.candles import CandleError, Candles
from feeds.files import name_parts, read_candles
from smm_bt.analytics.equity import EquityCurve, equity_curve, read_equity_parquet, write_equity_parquet
from smm_bt.analytics.journal_reader import JournalReader
from smm_bt.analytics.journal_rows import CONFLICTING_SIGNALS
from smm_bt.analytics.metrics import TradeFigures
from smm_bt.analytics.report import Report, build_report, read_report, write_report
from smm_bt.analytics.run_info import MARKET, RunInfo
from smm_bt.analytics.summary import print_summary
from smm_bt.analytics.trade_log import write_trades_csv
from smm_bt.app.settings import Settings
from smm_bt.errors import RunFailed, UsageError
from smm_bt.model import RunRecord

if TYPE_CHECKING:
    from rich.console import Console

_JOURNAL = "journal.sqlite"
_RUNNING = "running"
_REPLAY = "replay"
#: A fill after the last candle, or with slippage, may lie this far outside.
_BETWEEN_CANDLES = 0.01
_ENDINGS = (".parquet", ".csv.gz", ".csv")


@dataclass(frozen=True)
class RebuildRequest:
    """What one ``smm-bt report`` asks for; ``candles`` names the run's candle files where they are not found."""

    settings: Settings
    run: str
    candles: Sequence[Path] = ()
    force: bool = False


@dataclass(frozen=True, eq=False)
class _Run:
    """What a journal holds; ``played`` are the candle files a live run's market was played from."""

    record: RunRecord
    info: RunInfo
    state: str
    points: EquityCurve
    played: Sequence[Path] = ()
    failed: str = ""


def find_run(run: str, runs_dir: Path) -> Path:
    """Return the folder of a run named by path, by name, or by the beginning of a name that no other has.

    Raises:
        UsageError: there is none, or there are several.
    """
    for folder in (Path(run), runs_dir / run):
        if (folder / _JOURNAL).is_file():
            return folder
        if folder.name == _JOURNAL and folder.is_file():
            return folder.parent
    begun = sorted(path.parent for path in runs_dir.glob(f"*/{_JOURNAL}") if path.parent.name.startswith(run))
    if len(begun) == 1 and run:
        return begun[0]
    if begun and run:
        raise UsageError(f"{len(begun)} runs begin with {run} ({begun[0].name}, {begun[1].name}, …); name one in full.")
    newest = sorted(path.parent.name for path in runs_dir.glob(f"*/{_JOURNAL}"))[-1:]
    hint = f"the newest in {runs_dir} is {newest[0]}." if newest else f"there are no runs in {runs_dir}."
    raise UsageError(f"There is no run {run} with a journal; {hint}")


def rebuild(request: RebuildRequest, console: Console) -> Report:
    """Print the summary of a run, and write those of its files that are missing (all of them with ``force``).

    Raises:
        UsageError: no such run, or candles that are not the run's.
        RunFailed: the journal cannot be read.
        OutputError: a file cannot be written.
    """
    folder = find_run(request.run, request.settings.RUNS_DIR)
    run = _read(folder / _JOURNAL)
    candles = _candles_of(run, request, folder)
    curve, whole = _curve(run, folder, candles, request.force)
    report = build_report(run.record, curve, run.info)
    notes = report["notes"]
    assert isinstance(notes, list)
    notes += _more_notes(run, curve, whole=whole)
    print_summary(report, console=console)
    _write_files(_Outcome(folder, run, curve, whole, candles, report), request, console)
    return report


def _read(path: Path) -> _Run:
    reader = JournalReader.read(path)
    try:
        points = reader.equity()
        info = reader.run_info()
        if info.mode != _REPLAY:
            info = _completed(info, reader, points)
        return _Run(reader.record(), info, reader.run_state(), points, _played(reader), reader.why_failed())
    finally:
        reader.close()


def _played(reader: JournalReader) -> list[Path]:
    market = reader.settings().get(MARKET)
    return [Path(name) for name in market["candles"]] if isinstance(market, dict) else []


def _curve(run: _Run, folder: Path, candles: Sequence[Candles], force: bool) -> tuple[EquityCurve, bool]:
    """Return the equity curve and whether it has a row for every candle: a replay's journal holds only changes."""
    if run.info.mode != _REPLAY:
        return run.points, True
    stored = folder / "equity.parquet"
    if candles and (force or not stored.is_file()):
        return _recomputed(run, candles), True
    if stored.is_file():
        return read_equity_parquet(stored), True
    return run.points, False


def _recomputed(run: _Run, candles: Sequence[Candles]) -> EquityCurve:
    closes = {series.symbol: (series.open_ms, series.close) for series in candles}
    record = run.record
    return equity_curve(None, closes, record.ledger_entries, record.initial_balance_usdt, run.info.timeframe_ms)


def _completed(info: RunInfo, reader: JournalReader, points: EquityCurve) -> RunInfo:
    """Fill in what a run says about its candles when it ends: one that was killed has not."""
    conflicts = len(reader.events(CONFLICTING_SIGNALS))
    info = replace(info, conflicting_signals=max(conflicts, info.conflicting_signals))
    progress = {}
    with suppress(sqlite3.OperationalError):  # a journal from before there was such a table
        progress = reader.progress()
    if progress:
        return replace(
            info,
            first_candle_ms=min(each.first_ms for each in progress.values()),
            last_candle_ms=max(each.last_ms for each in progress.values()),
            candles=sum(each.candles for each in progress.values()),
            candles_by_symbol={symbol: each.candles for symbol, each in progress.items()},
            gaps=sum(each.gaps for each in progress.values()),
            missing_candles=sum(each.missing_candles for each in progress.values()),
        )
    if info.candles or not points.open_ms.size:
        return info
    first, last = int(points.open_ms[0]), int(points.open_ms[-1])
    candles = points.open_ms.size * len(info.symbols)
    return replace(info, first_candle_ms=first, last_candle_ms=last, candles=candles)


def _more_notes(run: _Run, curve: EquityCurve, *, whole: bool) -> list[str]:
    notes = []
    if run.state == _RUNNING:
        notes.append(
            "The run had not ended when this was made: it was killed, or it is still running. The figures are those of "
            "its journal so far."
        )
    if run.failed:
        notes.append(f"The run failed: {run.failed} The figures are those of its journal.")
    if not whole:
        notes.append(
            f"equity.parquet is missing and the candles were not at hand: drawdown, ratios and time in the market come "
            f"from {curve.open_ms.size:,} points where the account changed, and are too kind."
        )
    return notes


# ---- the candles of the run


def _candles_of(run: _Run, request: RebuildRequest, folder: Path) -> list[Candles]:
    """Return the candles of every symbol, or none: named ones must be the run's, others are taken if they are."""
    if request.candles:
        named = [_cut(read_candles(path, None, run.info.timeframe), run.info) for path in request.candles]
        by_symbol = {series.symbol: series for series in named}
        if set(by_symbol) != set(run.info.symbols) or not _are_the_runs(run, list(by_symbol.values())):
            raise UsageError(
                f"The files named with --candles are not the candles of this run ({', '.join(run.info.symbols)} "
                f"{run.info.timeframe}): the account's worth or its fills do not fit them."
            )
        return [by_symbol[symbol] for symbol in run.info.symbols]
    found = []
    for symbol in run.info.symbols:
        played = [path for path in run.played if name_parts(path)[0] == symbol]
        paths = [*played, *_stored(symbol, run.info, (folder, request.settings.DATA_DIR))]
        series = [each for each in map(_readable(run.info), paths) if each is not None and len(each) > 1]
        fitting = [each for each in series if len(each) == run.info.candles_by_symbol.get(symbol, len(each))]
        if not fitting:
            return []
        found.append(fitting[0])
    return found if _are_the_runs(run, found) else []


def _stored(symbol: str, info: RunInfo, folders: Sequence[Path]) -> list[Path]:
    """Return candle files that may be the run's: those it named first, then those of its symbol and timeframe."""
    named = re.findall(r"[^\s(),]+", info.market_source)
    places = [path for folder in folders for path in sorted(folder.glob(f"{symbol}-*")) if path.name.endswith(_ENDINGS)]
    fitting = [
        path for path in places if name_parts(path) == (symbol, info.timeframe) and f"{symbol}-mark-" not in path.name
    ]
    return sorted(fitting, key=lambda path: path.name not in named)


def _readable(info: RunInfo) -> Callable[[Path], Candles | None]:
    def read(path: Path) -> Candles | None:
        try:
            return _cut(read_candles(path, None, info.timeframe), info)
        except CandleError:
            return None

    return read


def _cut(candles: Candles, info: RunInfo) -> Candles:
    last = info.last_candle_ms
    return candles.between(info.first_candle_ms, None if last is None else last + 1)


def _are_the_runs(run: _Run, candles: Sequence[Candles]) -> bool:
    """Say whether the journal could have come about on these candles.

    A replay's account, valued on them, must be worth what the journal says wherever it says so; a live run's fills
    must lie in their candles, for there prices between two candles count. Without a fill only the files it was
    played from are believed.
    """
    if run.info.mode != _REPLAY:
        return bool(run.record.fills or run.played) and all(_holds_fills(run, series) for series in candles)
    try:
        curve = _recomputed(run, candles)
    except (ValueError, IndexError):
        return False
    rows = np.searchsorted(curve.open_ms, run.points.open_ms)
    if (rows >= curve.open_ms.size).any() or (curve.open_ms[rows] != run.points.open_ms).any():
        return False
    return bool(np.allclose(curve.equity[rows], run.points.equity, rtol=1e-9, atol=1e-6))


def _holds_fills(run: _Run, candles: Candles) -> bool:
    fills = [fill for fill in run.record.fills if fill.symbol == candles.symbol]
    times, prices = np.array([fill.time_ms for fill in fills]), np.array([fill.price for fill in fills])
    rows = np.clip(np.searchsorted(candles.open_ms, times, side="right") - 1, 0, len(candles) - 1)
    low, high = candles.low[rows] * (1 - _BETWEEN_CANDLES), candles.high[rows] * (1 + _BETWEEN_CANDLES)
    return bool(((prices >= low) & (prices <= high)).all())


# ---- the files


@dataclass(frozen=True, eq=False)
class _Outcome:
    folder: Path
    run: _Run
    curve: EquityCurve
    whole: bool
    candles: Sequence[Candles]
    report: Report


def _write_files(outcome: _Outcome, request: RebuildRequest, console: Console) -> None:
    written, kept = [], []
    for name, write in _writers(outcome).items():
        path = outcome.folder / name
        if path.exists() and not request.force:
            kept.append(name)
        else:
            write(path)
            written.append(name)
    lines = [f"Written: {', '.join(written)}."] if written else []
    lines += [f"Kept as they were (--force writes them anew): {', '.join(kept)}."] if kept else []
    if "report.json" in kept and _differs(outcome):
        lines.append("! report.json is older than the journal and says something else; --force writes it anew.")
    if not outcome.candles and not (outcome.folder / "chart.html").exists():
        lines.append("chart.html: not drawn, for the run's candles were not found; name them with --candles FILE.")
    for line in [*lines, f"Files: {outcome.folder}"]:
        console.print(line, soft_wrap=True, markup=False)


def _writers(outcome: _Outcome) -> Mapping[str, Callable[[Path], None]]:
    """Return how each file is written; those that cannot be made from what is at hand are left out."""

    def tearsheet(path: Path) -> None:
        from smm_bt.analytics.tearsheet import write_tearsheet

        write_tearsheet(path, outcome.report, outcome.curve)

    def chart(path: Path) -> None:
        from smm_bt.analytics.charts import write_chart

        write_chart(path, outcome.candles, outcome.run.record, outcome.curve, outcome.report)

    record, run_id = outcome.run.record, outcome.run.info.run_id
    writers: dict[str, Callable[[Path], None]] = {"trades.csv": lambda at: write_trades_csv(at, record.trades, run_id)}
    if outcome.whole:
        writers["equity.parquet"] = lambda at: write_equity_parquet(at, outcome.curve)
    writers["report.json"] = lambda at: write_report(at, outcome.report)
    writers["tearsheet.html"] = tearsheet
    if outcome.candles:
        writers["chart.html"] = chart
    return writers


def _differs(outcome: _Outcome) -> bool:
    try:
        before = read_report(outcome.folder / "report.json")
    except RunFailed:
        return True
    names = [*TradeFigures._fields, *(("max_drawdown", "final_equity") if outcome.whole else ())]
    return any(before.get(name) != outcome.report[name] for name in names)
