"""Candles of one symbol, checked once at the door: UTC, ordered, on the grid, finite; gaps counted, never filled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from feeds.lines import CANDLE_COLUMNS
from feeds.timeframes import TIMEFRAMES_MS, grid_offset_ms, timeframe_ms

if TYPE_CHECKING:
    import pandas as pd

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

#: Earlier stamps are seconds mistaken for milliseconds, later ones micro- or nanoseconds (2001 and 2100).
_EARLIEST_MS = 1_000_000_000_000
_LATEST_MS = 4_102_444_800_000


class CandleError(Exception):
    """Candles cannot be used; the message says which rule, what was found and what to do."""


class OtherTimeframe(CandleError):
    """The candles are of another timeframe than the one asked for; ``found`` is theirs."""

    def __init__(self, message: str, found: str) -> None:
        super().__init__(message)
        self.found = found


class Gap(NamedTuple):
    """A hole in the candles: the open time of the candle before it and how many candles are missing."""

    after_ms: int
    missing: int


def iso_utc(time_ms: int) -> str:
    """Return ``time_ms`` as ISO-8601 UTC with ``Z``, milliseconds only where there are any."""
    moment = datetime.fromtimestamp(time_ms / 1000, UTC).replace(tzinfo=None)
    return moment.isoformat(timespec="milliseconds" if time_ms % 1000 else "seconds") + "Z"


@dataclass(frozen=True, eq=False)
class Candles:
    """Closed candles of one symbol; build it with :func:`check_candles`.

    Arrays all have length n. ``open_ms`` are open times in UTC milliseconds, prices are in the quote currency,
    volume in the base asset. ``fingerprint`` identifies their content where it is known: a hash of their file, the
    symbol, the timeframe and the range taken.
    """

    symbol: str
    timeframe: str
    open_ms: IntArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    gaps: tuple[Gap, ...] = ()
    fingerprint: str = ""

    def __len__(self) -> int:
        return len(self.open_ms)

    @property
    def timeframe_ms(self) -> int:
        """Length of one candle in milliseconds."""
        return timeframe_ms(self.timeframe)

    @property
    def missing(self) -> int:
        """How many candles the gaps hold in all."""
        return sum(gap.missing for gap in self.gaps)

    def frame(self) -> pd.DataFrame:
        """Return what ``compute_smm`` is given: a UTC index of open times and float columns ``open … volume``."""
        import pandas as pd

        index = pd.DatetimeIndex(self.open_ms.astype("datetime64[ms]"), tz="UTC", name="timestamp")
        return pd.DataFrame({name: getattr(self, name).copy() for name in CANDLE_COLUMNS}, index=index)

    def between(self, since_ms: int | None, until_ms: int | None) -> Candles:
        """Return the candles whose open time is in ``[since_ms, until_ms)``; None leaves an end open."""
        first = 0 if since_ms is None else int(np.searchsorted(self.open_ms, since_ms))
        last = len(self) if until_ms is None else int(np.searchsorted(self.open_ms, until_ms))
        arrays: dict[str, Any] = {name: getattr(self, name)[first:last] for name in ("open_ms", *CANDLE_COLUMNS)}
        gaps = _find_gaps(arrays["open_ms"], self.timeframe_ms)
        fingerprint = f"{self.fingerprint} {first}:{last}" if self.fingerprint else ""
        return Candles(self.symbol, self.timeframe, gaps=gaps, fingerprint=fingerprint, **arrays)


def check_candles(
    symbol: str, timeframe: str, columns: Mapping[str, NDArray[Any]], *, source: str = "candles"
) -> Candles:
    """Return :class:`Candles` from raw columns, or refuse them.

    Args:
        symbol: the venue's name, for example ``BTCUSDT``.
        timeframe: one of :data:`feeds.timeframes.TIMEFRAMES_MS`.
        columns: ``open_ms`` (integers) and ``open high low close volume`` (floats), all of one length.
        source: what messages call the place they came from, usually the file's name.

    Raises:
        OtherTimeframe: the candles are of another known timeframe than ``timeframe``.
        CandleError: a timeframe that is not known; fewer than two candles; times that are not milliseconds, not
            strictly increasing or off the timeframe's grid; values that are not finite; a high below or a low above
            another price of its candle; a price that is not positive; a negative volume.
    """
    if timeframe not in TIMEFRAMES_MS:
        raise CandleError(f"{source}: timeframe {timeframe!r} is not known; use one of {', '.join(TIMEFRAMES_MS)}.")
    open_ms = np.ascontiguousarray(columns["open_ms"], dtype=np.int64)
    values: dict[str, Any] = {n: np.ascontiguousarray(columns[n], dtype=np.float64) for n in CANDLE_COLUMNS}
    _check_count(open_ms, source)
    _check_times(open_ms, timeframe, source)
    _check_values(open_ms, values, source)
    gaps = _find_gaps(open_ms, timeframe_ms(timeframe))
    return Candles(symbol, timeframe, open_ms, gaps=gaps, **values)


def _check_count(open_ms: IntArray, source: str) -> None:
    if len(open_ms) == 0:
        raise CandleError(f"{source}: there are no candles in it; give a file with at least two.")
    if len(open_ms) == 1:
        raise CandleError(
            f"{source}: there is only one candle ({iso_utc(int(open_ms[0]))}); a signal at a candle's close is "
            "executed at the next open, so at least two are needed."
        )


def refuse_unlikely_times(time_ms: IntArray, source: str) -> None:
    """Raise CandleError where a time lies outside 2001 to 2100: seconds or microseconds taken for milliseconds."""
    outside = (time_ms < _EARLIEST_MS) | (time_ms > _LATEST_MS)
    if outside.any():
        row = int(np.argmax(outside))
        raise CandleError(
            f"{source}: timestamp {time_ms[row]} in row {row + 1} is no date of this century in milliseconds UTC; "
            "give milliseconds since 1970 or ISO-8601 times."
        )


def _check_times(open_ms: IntArray, timeframe: str, source: str) -> None:
    refuse_unlikely_times(open_ms, source)
    steps = np.diff(open_ms)
    if (steps <= 0).any():
        row = int(np.argmax(steps <= 0)) + 1
        word = "twice" if steps[row - 1] == 0 else "after a later candle"
        raise CandleError(
            f"{source}: candle {iso_utc(int(open_ms[row]))} in row {row + 1} stands {word}; "
            "sort the candles by time and remove duplicates."
        )
    length = timeframe_ms(timeframe)
    if int(steps.min()) > length and len(steps) > 1:
        _refuse_other_timeframe(int(steps.min()), timeframe, source)
    off_grid = (open_ms - grid_offset_ms(timeframe)) % length != 0
    if off_grid.any():
        if int(np.median(steps)) < length:  # a single candle astray is no other timeframe
            _refuse_other_timeframe(int(np.median(steps)), timeframe, source)
        row = int(np.argmax(off_grid))
        raise CandleError(
            f"{source}: candle {iso_utc(int(open_ms[row]))} in row {row + 1} does not open on the {timeframe} grid; "
            "the file may be of another timeframe or time zone (times must be UTC open times)."
        )


def _refuse_other_timeframe(spacing_ms: int, timeframe: str, source: str) -> None:
    found = {ms: name for name, ms in TIMEFRAMES_MS.items()}.get(spacing_ms)
    if found is not None:
        raise OtherTimeframe(
            f"{source}: its candles are {found} apart, but the timeframe asked for is {timeframe}; "
            "name the timeframe these candles have.",
            found,
        )


def _check_values(open_ms: IntArray, values: Mapping[str, FloatArray], source: str) -> None:
    for name, column in values.items():
        _refuse_rows(~np.isfinite(column), f"{name} is not a finite number", open_ms, column, source)
    for name in ("open", "high", "low", "close"):
        _refuse_rows(values[name] <= 0, f"{name} is not positive", open_ms, values[name], source)
    _refuse_rows(values["volume"] < 0, "volume is negative", open_ms, values["volume"], source)
    highest = np.maximum(np.maximum(values["open"], values["close"]), values["low"])
    lowest = np.minimum(values["open"], values["close"])
    _refuse_rows(values["high"] < highest, "high is below open, low or close", open_ms, values["high"], source)
    _refuse_rows(values["low"] > lowest, "low is above open or close", open_ms, values["low"], source)


def _refuse_rows(bad: NDArray[np.bool_], what: str, open_ms: IntArray, column: FloatArray, source: str) -> None:
    if not bad.any():
        return
    row = int(np.argmax(bad))
    count = int(bad.sum())
    more = f" (and {count - 1} more)" if count > 1 else ""
    raise CandleError(
        f"{source}: {what} ({column[row]!s}) at candle {iso_utc(int(open_ms[row]))}, row {row + 1}{more}; "
        "repair the file or download it again."
    )


def _find_gaps(open_ms: IntArray, length: int) -> tuple[Gap, ...]:
    steps = np.diff(open_ms)
    places = np.flatnonzero(steps > length)
    return tuple(Gap(int(open_ms[place]), int(steps[place]) // length - 1) for place in places)
