"""Does compute_smm() look ahead, and how much history does it need? The pure part of ``smm-bt audit`` (SPEC §4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from feeds.lines import FLAG_LINES
from strategy.contract import ComputeSmm, SmmColumns, StrategyRefused, compute_columns

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd

#: Called after each recomputation with how many are done and how many there are at most.
Progress = Callable[[int, int], None]

#: Extras count as equal within this relative error; flags must be equal.
LOOK_AHEAD_TOLERANCE = 1e-9

#: And on the last row of a window within this one: averages with endless memory fade below it, running totals never.
WARM_UP_TOLERANCE = 1e-6

Column = NDArray[np.bool_] | NDArray[np.float64]

_SPREAD_SHARE = 0.1


def no_progress(done: int, of: int) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Difference:
    """One value that changed once later candles were known (or, for a repeat, for no reason at all).

    ``bar`` is the row, ``open_time`` its candle, ``known_candles`` how many candles the earlier computation saw;
    ``value_then`` is what it said and ``value_full`` what the whole history says. A column the earlier computation
    did not return reads NaN.
    """

    bar: int
    open_time: datetime
    column: str
    known_candles: int
    value_then: float | bool
    value_full: float | bool


@dataclass(frozen=True)
class LookAheadAudit:
    """What recomputing on the past alone showed.

    ``cuts`` is the number of cut points recomputed, ``signal_rows`` the number of rows with any flag and
    ``signal_rows_checked`` how many of them were cut points. ``differences`` holds the first difference of each
    column, by bar. ``repeat_difference`` is set when two runs on the same candles disagree: then nothing else here
    means much. ``refused_rows`` are cut points at which the function could not run at all, ``refusal`` the first
    reason; early ones only say that it needs more history, one on a signal row means that live never sees the signal.
    """

    candles: int
    cuts: int
    signal_rows: int
    signal_rows_checked: int
    differences: tuple[Difference, ...]
    repeat_difference: Difference | None
    refused_rows: tuple[int, ...]
    refused_signal_rows: tuple[int, ...]
    refusal: str | None

    @property
    def first(self) -> Difference | None:
        """The first differing bar, None when there is none."""
        return self.differences[0] if self.differences else None

    @property
    def flags_affected(self) -> bool:
        """Whether a column that trades is among the differences, not only one that is drawn."""
        return any(difference.column in FLAG_LINES for difference in self.differences)

    @property
    def covers_every_signal(self) -> bool:
        """Whether the budget reached for every row with a flag."""
        return self.signal_rows_checked == self.signal_rows

    @property
    def passed(self) -> bool:
        """Whether every cut point gave what the whole history gives, and every signal could be computed in its time."""
        return not (self.differences or self.repeat_difference or self.refused_signal_rows) and self.cuts > 0


def choose_cut_points(signal_rows: NDArray[np.int64], candles: int, budget: int) -> NDArray[np.int64]:
    """Return at most ``budget`` rows to cut at, ascending: every signal row if they fit, and rows spread evenly.

    A tenth of the budget goes to rows spread over the history, where a signal may have vanished; more signals than
    the rest are thinned evenly. The last row is never a cut: its past is the whole history.
    """
    signals = signal_rows[signal_rows < candles - 1]
    spread = min(candles - 1, max(1, int(budget * _SPREAD_SHARE)))
    if len(signals) > budget - spread:
        signals = signals[_evenly(len(signals), budget - spread)]
    return np.union1d(signals, _evenly(candles - 1, max(spread, min(budget - len(signals), 2 * spread))))


def audit_look_ahead(
    compute: ComputeSmm,
    frame: pd.DataFrame,
    parameters: Mapping[str, object],
    *,
    budget: int = 400,
    progress: Progress = no_progress,
) -> LookAheadAudit:
    """Recompute on the history up to each cut point and compare every row of it with the whole history.

    Args:
        compute: the user's function.
        frame: n candles as for :func:`strategy.contract.compute_columns`.
        parameters: its keyword arguments.
        budget: how many recomputations at most; each costs a run on half the history on average.
        progress: told after each recomputation.

    Raises:
        StrategyRefused: the function breaks the contract on the whole history.
        ValueError: ``budget`` is below 2.
    """
    _check_budget(budget)
    full = compute_columns(compute, frame, parameters)
    repeat = _differences(compute_columns(compute, frame, parameters), full, frame.index)
    signal_rows = _signal_rows(full)
    cuts = choose_cut_points(signal_rows, len(full), budget)
    first_of: dict[str, Difference] = {}
    refusals: dict[int, str] = {}
    for done, row in enumerate(cuts.tolist(), start=1):
        try:
            past = compute_columns(compute, frame.iloc[: row + 1], parameters)
        except StrategyRefused as refusal:
            refusals[row] = str(refusal)
        else:
            for difference in _differences(past, full, frame.index):
                first_of.setdefault(difference.column, difference)
        progress(done, len(cuts))
    checked = np.intersect1d(signal_rows, np.append(cuts, len(full) - 1))
    signals = set(signal_rows.tolist())
    return LookAheadAudit(
        candles=len(full),
        cuts=len(cuts) - len(refusals),
        signal_rows=len(signal_rows),
        signal_rows_checked=len(checked) - len(signals.intersection(refusals)),
        differences=tuple(sorted(first_of.values(), key=lambda difference: difference.bar)),
        repeat_difference=repeat[0] if repeat else None,
        refused_rows=tuple(refusals),
        refused_signal_rows=tuple(row for row in refusals if row in signals),
        refusal=next(iter(refusals.values()), None),
    )


def _check_budget(budget: int) -> None:
    if budget < 2:
        raise ValueError(f"budget is {budget}; an audit recomputes at least twice")


def _signal_rows(columns: SmmColumns) -> NDArray[np.int64]:
    return np.flatnonzero(columns.buy_signal | columns.sell_signal | columns.profit_target_hit)


def _evenly(size: int, count: int) -> NDArray[np.int64]:
    """Return ``count`` of the numbers below ``size``, spread evenly, the last one among them."""
    return np.unique(np.linspace(size - 1, 0, min(size, count)).round().astype(np.int64))


def _differences(past: SmmColumns, full: SmmColumns, index: pd.Index) -> list[Difference]:
    """Return the first row of each column on which ``past`` and the same rows of ``full`` differ, by bar."""
    then, known = past.lines(), len(past)
    found = []
    for name, values in full.lines().items():
        before = then.get(name)
        if before is None:
            before = np.full(known, np.nan)
        row = first_unequal(before, values[:known])
        if row is not None:
            found.append(
                Difference(row, index[row].to_pydatetime(), name, known, before[row].item(), values[row].item())
            )
    return sorted(found, key=lambda difference: difference.bar)


def first_unequal(left: Column, right: Column, tolerance: float = LOOK_AHEAD_TOLERANCE) -> int | None:
    """Return the first row where two columns of one length differ, or None; NaN equals NaN.

    Flags must be equal. Floats may differ by ``tolerance`` × the larger of the value and the column's median size.
    """
    if left.dtype == np.bool_ and right.dtype == np.bool_:
        unequal = left != right
    elif np.array_equal(left, right, equal_nan=True):
        return None
    else:
        unequal = ~np.isclose(left, right, rtol=tolerance, atol=tolerance * _median_size(right), equal_nan=True)
    return int(unequal.argmax()) if unequal.any() else None


def _median_size(column: Column) -> float:
    finite = np.abs(column[np.isfinite(column)].astype(np.float64))
    return float(np.median(finite)) if finite.size else 0.0


@dataclass(frozen=True)
class WarmUpAudit:
    """How short a window still gives the rows of the whole history; the answer holds for the rows that were checked.

    ``window_candles`` is the smallest number of candles whose last row carries the right flags at each checked row:
    what live trading needs. ``window_all_columns`` is the same with every extra within 1e-6, which is the cautious
    figure. None: not even ``longest_tried`` candles were enough, or nothing could be checked. ``unsettled_columns``
    are the extras to blame for a missing ``window_all_columns``, such as running totals.
    """

    candles: int
    rows_checked: int
    longest_tried: int
    window_candles: int | None
    window_all_columns: int | None
    unsettled_columns: tuple[str, ...]


def audit_warm_up(
    compute: ComputeSmm,
    frame: pd.DataFrame,
    parameters: Mapping[str, object],
    *,
    budget: int = 200,
    progress: Progress = no_progress,
) -> WarmUpAudit:
    """Find the smallest window that reproduces full-history rows, on rows of the history's second half.

    Rows with signals come first and others are spread between them; windows reach up to half the history, so that
    each is truly shorter than the history behind its row. Windows the function refuses to run on are too short.

    Args:
        compute: the user's function.
        frame: n candles as for :func:`strategy.contract.compute_columns`.
        parameters: its keyword arguments.
        budget: how many rows to check at most; most cost one or two short recomputations each.
        progress: told after each row, over two passes.

    Raises:
        StrategyRefused: the function breaks the contract on the whole history.
        ValueError: ``budget`` is below 2.
    """
    _check_budget(budget)
    full = compute_columns(compute, frame, parameters)
    half = len(full) // 2
    signals = _signal_rows(full)
    rows = (half + choose_cut_points(signals[signals >= half] - half, len(full) - half, budget)).tolist()
    windows = _Windows(compute, frame, parameters, full)
    if not rows or not half:
        return WarmUpAudit(len(full), 0, half, None, None, ())
    for_flags = _smallest_window(
        rows, 1, half, lambda row, window: windows.unequal(row, window).isdisjoint(FLAG_LINES), progress, 0
    )
    for_all = for_flags and _smallest_window(
        rows, for_flags, half, lambda row, window: not windows.unequal(row, window), progress, len(rows)
    )
    blamed = set() if for_all else set().union(*(windows.unequal(row, half) for row in rows))
    unsettled = tuple(name for name in full.extras if name in blamed)
    return WarmUpAudit(len(full), len(rows), half, for_flags, for_all, unsettled)


class _Windows:
    """Recomputes on windows and remembers which columns of the last row were not those of the whole history."""

    def __init__(
        self, compute: ComputeSmm, frame: pd.DataFrame, parameters: Mapping[str, object], full: SmmColumns
    ) -> None:
        self._compute, self._frame, self._parameters = compute, frame, parameters
        self._full = full.lines()
        self._sizes = {name: _median_size(column) for name, column in self._full.items()}
        self._known: dict[tuple[int, int], frozenset[str]] = {}

    def unequal(self, row: int, window: int) -> frozenset[str]:
        """Return the columns that ``window`` candles up to ``row`` get wrong on that row; all when refused."""
        key = (row, window)
        if key not in self._known:
            self._known[key] = self._look(row, window)
        return self._known[key]

    def _look(self, row: int, window: int) -> frozenset[str]:
        try:
            columns = compute_columns(self._compute, self._frame.iloc[row + 1 - window : row + 1], self._parameters)
        except StrategyRefused:
            return frozenset(self._full)
        lines = columns.lines()
        return frozenset(
            name
            for name, column in self._full.items()
            if not self._close(name, float(lines[name][-1]) if name in lines else math.nan, float(column[row]))
        )

    def _close(self, name: str, value: float, wanted: float) -> bool:
        if value == wanted or (math.isnan(value) and math.isnan(wanted)):
            return True
        within = WARM_UP_TOLERANCE * max(abs(wanted), self._sizes[name])
        return name not in FLAG_LINES and math.isfinite(within) and abs(value - wanted) <= within


def _smallest_window(
    rows: list[int], start: int, longest: int, enough: Callable[[int, int], bool], progress: Progress, done: int
) -> int | None:
    """Return the smallest window found from ``start`` up that is enough for every row, or None."""
    window = start
    for number, row in enumerate(rows, start=1):
        grown = _grown(row, window, longest, enough)
        if grown is None:
            return None
        window = grown
        progress(done + number, 2 * len(rows))
    settled = False
    while not settled:  # a longer window may, rarely, be wrong where a shorter one was right by luck
        settled = True
        for row in rows:
            grown = _grown(row, window, longest, enough)
            if grown is None:
                return None
            settled = settled and grown == window
            window = grown
    return window


def _grown(row: int, window: int, longest: int, enough: Callable[[int, int], bool]) -> int | None:
    """Return ``window`` if it is enough for ``row``, else the smallest longer one found by doubling and halving."""
    if enough(row, window):
        return window
    too_short, fits = window, min(2 * window, longest)
    while not enough(row, fits):
        if fits >= longest:
            return None
        too_short, fits = fits, min(2 * fits, longest)
    while fits - too_short > 1:
        middle = (too_short + fits) // 2
        if enough(row, middle):
            fits = middle
        else:
            too_short = middle
    return fits
