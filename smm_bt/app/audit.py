"""``smm-bt audit``: does compute_smm() look ahead, and how many candles does it need? Run, and said in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from feeds.candles import Candles, iso_utc
from feeds.files import read_candles
from feeds.made import made_candles
from smm_bt.app.audit_memory import remember_warm_up
from smm_bt.app.settings import Settings
from smm_bt.errors import RunFailed, SmmBtError, UsageError
from strategy.audit import (
    Difference,
    LookAheadAudit,
    Progress,
    WarmUpAudit,
    audit_look_ahead,
    audit_warm_up,
    no_progress,
)
from strategy.loader import StrategyFile, load_strategy

if TYPE_CHECKING:
    from rich.console import Console

_MADE_CANDLES = 3_000
_MADE_TIMEFRAME = "5m"
_COLUMNS_NAMED = 5


@dataclass(frozen=True)
class AuditRequest:
    """What one ``smm-bt audit`` asks for; without ``files`` candles are made."""

    settings: Settings
    files: Sequence[Path] = ()
    budget: int = 400


@dataclass(frozen=True, eq=False)
class Audited:
    """Both audits of one series of candles."""

    candles: Candles
    look_ahead: LookAheadAudit
    warm_up: WarmUpAudit


class LooksAhead(SmmBtError):
    """The strategy file says something else about a candle once later candles are known."""

    exit_code = 3


def audit(request: AuditRequest, console: Console) -> list[Audited]:
    """Audit the strategy file on each series of candles and print what was found.

    Raises:
        LooksAhead: it looks ahead, or contradicts itself, on one of them.
        StrategyRefused: it breaks the contract of ``compute_smm``.
        RunFailed: the candles were too few to check anything.
    """
    if request.budget < 2:
        raise UsageError(f"--budget {request.budget}: an audit recomputes at least twice; give 2 or more.")
    strategy = load_strategy(request.settings.STRATEGY_FILE)
    series = _series(request, console)
    console.print(
        f"Strategy: {strategy.path}{' (REFERENCE, not SMM v4.1)' if strategy.is_reference else ''}",
        soft_wrap=True,
        markup=False,
    )
    results = [_audit_one(strategy, candles, request, console) for candles in series]
    for result in results:
        remember_warm_up(request.settings, strategy, result.warm_up.window_candles)
    _raise_worst(results)
    return results


def _series(request: AuditRequest, console: Console) -> list[Candles]:
    timeframe = request.settings.TIMEFRAME
    if request.files:
        return [read_candles(path, None, timeframe) for path in request.files]
    console.print(
        f"No candle file was named, so {_MADE_CANDLES:,} made {timeframe or _MADE_TIMEFRAME} candles are used: an "
        "invented market. Name your own with --candles FILE.",
        soft_wrap=True,
        markup=False,
    )
    return [made_candles(timeframe=timeframe or _MADE_TIMEFRAME, count=_MADE_CANDLES)]


def _audit_one(strategy: StrategyFile, candles: Candles, request: AuditRequest, console: Console) -> Audited:
    frame, parameters = candles.frame(), request.settings.STRATEGY_PARAMETERS
    console.print(
        f"{candles.symbol} {candles.timeframe}: {len(candles):,} candles, "
        f"{iso_utc(int(candles.open_ms[0]))} to {iso_utc(int(candles.open_ms[-1]))}",
        soft_wrap=True,
        markup=False,
    )
    with _bar(console, "Looking for look-ahead") as progress:
        ahead = audit_look_ahead(strategy.compute, frame, parameters, budget=request.budget, progress=progress)
    for line in look_ahead_sentences(ahead):
        console.print(f"  {line}", soft_wrap=True, markup=False)
    with _bar(console, "Measuring the warm-up") as progress:
        budget = max(2, request.budget // 2)
        warm_up = audit_warm_up(strategy.compute, frame, parameters, budget=budget, progress=progress)
    for line in warm_up_sentences(warm_up, request.settings.WARMUP_CANDLES):
        console.print(f"  {line}", soft_wrap=True, markup=False)
    return Audited(candles, ahead, warm_up)


@contextmanager
def _bar(console: Console, what: str) -> Iterator[Progress]:
    """Show how many recomputations are done, on a terminal."""
    if not console.is_terminal:
        yield no_progress
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def look_ahead_sentences(found: LookAheadAudit) -> list[str]:
    """Return what the look-ahead audit found, the verdict first."""
    if found.repeat_difference is not None:
        return [
            "NOT REPEATABLE: two runs on the same candles disagree. "
            + _difference(found.repeat_difference, repeat=True),
            "Take chance, clock and memory of earlier calls out of compute_smm(); until then nothing can be checked.",
        ]
    if found.differences:
        return _looks_ahead(found)
    if found.refused_signal_rows:
        return [
            "LOOKS AHEAD: compute_smm() cannot run on the candles up to "
            f"{_count(len(found.refused_signal_rows), 'row')} with a signal, so in live trading they "
            f"never come. Its first reason: {found.refusal}"
        ]
    if not found.cuts:
        return [f"Nothing could be checked: compute_smm() ran on no part of the candles. It said: {found.refusal}"]
    return ["Look-ahead: none found. " + _coverage(found)]


def _looks_ahead(found: LookAheadAudit) -> list[str]:
    assert found.first is not None
    lines = ["LOOKS AHEAD. " + _difference(found.first)]
    if not found.flags_affected:
        lines.append("No column that trades is affected, only columns that are drawn and logged.")
    others = [difference for difference in found.differences[1:] if difference.column != found.first.column]
    if others:
        named = ", ".join(f"{each.column} (bar {each.bar:,})" for each in others[:_COLUMNS_NAMED])
        more = f" and {len(others) - _COLUMNS_NAMED} more" if len(others) > _COLUMNS_NAMED else ""
        lines.append(f"The first differences of other columns: {named}{more}.")
    lines.append(
        "Results on history are not to be had in trading; look for shift(-1), centred windows, values filled backwards "
        "and figures taken over the whole frame."
    )
    return lines


def _difference(difference: Difference, *, repeat: bool = False) -> str:
    opened = f"{difference.open_time:%Y-%m-%dT%H:%M:%SZ}"
    value, full = _value(difference.value_then), _value(difference.value_full)
    where = f"bar {difference.bar:,}, the candle of {opened}"
    if repeat:
        return f"First at {where}: {difference.column} is {full} once and {value} the next time."
    return (
        f"First at {where}: {difference.column} is {value} when {difference.known_candles:,} candles are known, and "
        f"{full} on the whole history."
    )


def _value(value: float | bool) -> str:
    return str(value) if isinstance(value, bool) else f"{value:.10g}"


def _coverage(found: LookAheadAudit) -> str:
    text = f"{_count(found.cuts, 'cut point')} recomputed; "
    if found.covers_every_signal:
        text += (
            f"all {_count(found.signal_rows, 'row')} with a signal covered."
            if found.signal_rows
            else "no row has a signal."
        )
    else:
        text += (
            f"{found.signal_rows_checked:,} of {_count(found.signal_rows, 'row')} with a signal covered; a larger "
            "--budget covers more."
        )
    if found.refused_rows:
        text += f" On {_count(len(found.refused_rows), 'early cut')} it asked for more history, which is no fault."
    return text


def warm_up_sentences(found: WarmUpAudit, warmup_candles: int) -> list[str]:
    """Return how much history the function needs, and whether the setting gives it."""
    if not found.rows_checked:
        return ["Warm-up: nothing could be checked; give more candles."]
    if found.window_candles is None:
        return [
            f"Warm-up: even {found.longest_tried:,} candles do not give the signals of the whole history. Give a "
            "longer file; if it stays so, compute_smm() never forgets, and live trading will differ from a replay."
        ]
    lines = [f"Warm-up: {_count(found.window_candles, 'candle')} give the right signals ({_checked(found)})."]
    if found.window_all_columns is not None:
        lines.append(f"Every further column is right with {_count(found.window_all_columns, 'candle')}, too.")
    elif found.unsettled_columns:
        lines.append(f"Never settled, but trading nothing: {', '.join(found.unsettled_columns)}.")
    if warmup_candles < found.window_candles:
        lines.append(
            f"WARMUP_CANDLES is {warmup_candles:,}, which is too few: live trading is refused until it is at least "
            f"{found.window_candles:,}."
        )
    elif found.window_all_columns is not None and warmup_candles < found.window_all_columns:
        lines.append(
            f"WARMUP_CANDLES is {warmup_candles:,}: enough for the signals seen here; {found.window_all_columns:,} is "
            "the cautious choice."
        )
    else:
        lines.append(f"WARMUP_CANDLES is {warmup_candles:,}: enough.")
    return lines


def _checked(found: WarmUpAudit) -> str:
    return f"{_count(found.rows_checked, 'row')} checked, windows up to {found.longest_tried:,}"


def _raise_worst(results: Sequence[Audited]) -> None:
    failed = [result for result in results if not result.look_ahead.passed]
    if not failed:
        return
    checked = [result for result in failed if result.look_ahead.cuts or result.look_ahead.refused_signal_rows]
    if not checked:
        raise RunFailed("The audit could check nothing on these candles; give a longer file with --candles.")
    first = checked[0].look_ahead
    names = ", ".join(f"{result.candles.symbol} {result.candles.timeframe}" for result in checked)
    what = "does not repeat itself" if first.repeat_difference is not None else "looks ahead"
    raise LooksAhead(f"The strategy {what} on {names}; see above.")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
