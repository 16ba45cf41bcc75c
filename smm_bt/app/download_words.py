"""What ``smm-bt download`` says: how far it is, what a file holds now, what is missing, what to do with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from feeds.candles import iso_utc

if TYPE_CHECKING:
    from smm_bt.app.download import DownloadRequest
    from smm_bt.app.download_series import SeriesReport

#: Told the time reached (UTC ms) and how many rows have come.
Bar = Callable[[int, int], None]

_HOLES_NAMED = 5
_LONGEST_FUNDING_STEP_MS = 8 * 3_600_000 + 60_000


def no_bar(time_ms: int, rows: int) -> None:
    """Show nothing."""


def series_sentences(report: SeriesReport) -> list[str]:
    """Return what one series holds now, and everything about it a person must know."""
    rows, name, noun = report.rows, report.path.name, report.series.noun
    if not len(rows):
        return [
            f"{name}: the venue has no {noun}s from {_day(report.wanted.begin_ms)} to {_day(report.wanted.end_ms)}."
        ]
    first_ms, last_ms = int(rows.time_ms[0]), int(rows.time_ms[-1])
    holes = "" if report.series.step_ms is None else f", {_holes(report)}"
    lines = [
        f"{name}: {_count(len(rows), noun)}, {_day(first_ms)} to {_day(last_ms)} UTC{holes} ({report.new_rows:,} new)."
    ]
    if report.replaced:
        lines.append("  The newest stored row was not final when it was stored; the venue's own took its place.")
    return lines + _edges(report, first_ms, last_ms)


def _holes(report: SeriesReport) -> str:
    step = report.series.step_ms or 1
    if not report.holes:
        return "no gaps"
    sizes = [(hole.end_ms - hole.begin_ms) // step for hole in report.holes]
    named = [f"{size} from {_day(hole.begin_ms)}" for size, hole in zip(sizes, report.holes, strict=True)]
    more = f", and {len(named) - _HOLES_NAMED} more" if len(named) > _HOLES_NAMED else ""
    what = f"{_count(len(sizes), 'gap')} with {_count(sum(sizes), report.series.noun)} missing"
    return f"{what} that the venue, asked twice, does not have ({', '.join(named[:_HOLES_NAMED])}{more})"


def _edges(report: SeriesReport, first_ms: int, last_ms: int) -> list[str]:
    step = report.series.step_ms
    if step is None:
        longest = int(np.diff(report.rows.time_ms).max(initial=0))
        if longest > _LONGEST_FUNDING_STEP_MS:
            return [f"  Two settlements are {longest / 3_600_000:.0f} hours apart: the venue lists none in between."]
        return []
    lines = []
    if first_ms > report.wanted.begin_ms:
        lines.append(f"  It begins on {_day(first_ms)} UTC; the venue has nothing earlier.")
    if last_ms + step < report.wanted.end_ms:
        lines.append(f"  It ends on {_day(last_ms)} UTC; the venue has nothing later.")
    return lines


def what_next(folder: Path, reports: Sequence[SeriesReport], request: DownloadRequest) -> list[str]:
    """Return what the files are good for, and what stands in the way."""
    lines = []
    for report in reports:
        if report.series.kind == "candles" and len(report.rows):
            lines += _rivals(report) + _uncovered(report, reports)
    candles = [report for report in reports if report.series.kind == "candles" and len(report.rows) > 1]
    if candles:
        lines.append(f"Replay: smm-bt replay {_replay_options(folder, candles, reports, request)}")
    return lines


def _rivals(report: SeriesReport) -> list[str]:
    """Name other files that ``replay --symbol`` would take for the same candles."""
    stem = report.path.name.removesuffix(".parquet")
    others = [
        path.name
        for path in sorted(report.path.parent.glob(f"{stem}*"))
        if path != report.path and path.name.endswith((".csv", ".csv.gz", ".parquet"))
    ]
    if not others:
        return []
    return [f"Beside {report.path.name} there is {', '.join(others)}: name the one you mean with replay --candles."]


def _uncovered(report: SeriesReport, reports: Sequence[SeriesReport]) -> list[str]:
    """Say which candles have no mark candle: a replay with the mark file refuses those."""
    symbol = report.series.params["symbol"]
    marks = [other for other in reports if other.series.kind == "mark" and other.series.params["symbol"] == symbol]
    if not marks:
        return []
    lacking = np.setdiff1d(report.rows.time_ms, marks[0].rows.time_ms)
    if not lacking.size:
        return []
    return [
        f"{_count(lacking.size, 'candle')} of {symbol} have no mark candle, the last of them {_day(int(lacking[-1]))} "
        "UTC: replay without --mark, or from later on."
    ]


def _replay_options(
    folder: Path, candles: Sequence[SeriesReport], reports: Sequence[SeriesReport], request: DownloadRequest
) -> str:
    words = [f"--symbol {report.series.params['symbol']}" for report in candles] + [f"--timeframe {request.timeframe}"]
    for kind in ("mark", "funding"):
        words += [f"--{kind} {each.path}" for each in reports if each.series.kind == kind and len(each.rows)]
    if request.exchange_info:
        words.append(f"--exchange-info {folder / 'exchangeInfo.json'}")
    if request.brackets:
        words.append(f"--brackets {folder / 'leverageBracket.json'}")
    return " ".join(words)


def _day(time_ms: int) -> str:
    return iso_utc(time_ms // 1000 * 1000)[:16].replace("T", " ")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
