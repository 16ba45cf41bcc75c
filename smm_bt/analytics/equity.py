"""The equity curve of a run, rebuilt in one sweep from the account's changes and the candles' closes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from smm_bt.analytics.atomic_file import atomic_path
from smm_bt.model import LedgerEntry

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
#: Per symbol: candle open times (UTC ms, increasing) and closes, of equal length.
Closes = Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]]
#: Rows handled at once: temporaries of this size are reused instead of being fetched from the system each time.
_BLOCK = 32_768


class EquityCurve(NamedTuple):
    """One row per candle of the timeline: its open time (UTC ms), and equity and wallet at its close (USDT)."""

    open_ms: IntArray
    equity: FloatArray
    wallet: FloatArray


class _Changes(NamedTuple):
    """Account changes as columns; ``step`` is the row of the timeline each one belongs to."""

    step: IntArray
    symbol: Sequence[str]
    wallet: FloatArray
    signed_qty: FloatArray
    entry_price: FloatArray


class _Segments(NamedTuple):
    """A state that holds from ``start`` for ``length`` rows; ``change`` is the row in _Changes that set it."""

    change: IntArray
    start: IntArray
    length: IntArray


def equity_curve(
    open_ms: npt.ArrayLike | None,
    closes: Closes,
    ledger_entries: Sequence[LedgerEntry],
    initial_balance: float,
    timeframe_ms: int,
) -> EquityCurve:
    """Return wallet and equity at every candle close.

    A change at time t belongs to the candle with open ≤ t < open + timeframe. Equity is the wallet after that
    candle's last change plus Σ signed_qty × (close − entry_price) over the symbols.

    Args:
        open_ms: the timeline, or None for the union of the symbols' candle times.
        closes: candle opens and closes of each symbol; a symbol without a candle at a step keeps its last close.
        ledger_entries: in the order they happened.
        initial_balance: the wallet before the first change, USDT.
        timeframe_ms: the candles' length.

    Raises:
        ValueError: a change lies outside every candle, or its symbol has no closes.
    """
    times = timeline(closes) if open_ms is None else np.asarray(open_ms, dtype=np.int64)
    changes = _changes(times, ledger_entries, timeframe_ms)
    unknown = set(changes.symbol) - set(closes)
    if unknown:
        raise ValueError(f"no closes for {', '.join(sorted(unknown))}, which the account traded")
    wallet = _wallet(changes, times.size, initial_balance)
    equity = wallet.copy()
    for symbol, (symbol_open_ms, symbol_close) in closes.items():
        at = _changes_of(symbol, changes)
        if at.size:
            close = _closes_on(times, np.asarray(symbol_open_ms, np.int64), np.asarray(symbol_close, np.float64))
            _add_unrealized(equity, close, changes, _segments(changes.step, at, times.size))
    return EquityCurve(times, equity, wallet)


def timeline(closes: Closes) -> IntArray:
    """Return the union of the symbols' candle open times, increasing."""
    times = np.empty(0, np.int64)
    for position, (symbol_open_ms, _) in enumerate(closes.values()):
        own = np.asarray(symbol_open_ms, dtype=np.int64)
        if position == 0:
            times = own
        elif not np.array_equal(times, own):
            times = np.union1d(times, own)
    return times


def steps_held(open_ms: npt.ArrayLike, ledger_entries: Sequence[LedgerEntry], timeframe_ms: int) -> int:
    """Return at how many closes of the timeline any symbol had a position.

    A live run also trades between recorded candles; such a change is first seen at the next recorded close.
    """
    times = np.asarray(open_ms, dtype=np.int64)
    changes = _changes(times, ledger_entries, timeframe_ms, strict=False)
    at_step: list[IntArray] = []
    flips: list[IntArray] = []
    for symbol in dict.fromkeys(changes.symbol):
        own = _changes_of(symbol, changes)
        segments = _segments(changes.step, own, times.size)
        held = (changes.signed_qty[segments.change] != 0.0).astype(np.int64)
        at_step.append(segments.start)
        flips.append(np.diff(held, prepend=0))
    if not at_step:
        return 0
    step, flip = np.concatenate(at_step), np.concatenate(flips)
    order = np.argsort(step, kind="stable")
    lengths = np.diff(step[order], append=times.size)
    return int(lengths[np.cumsum(flip[order]) > 0].sum())


def write_equity_parquet(path: Path, curve: EquityCurve) -> None:
    """Write ``time`` (UTC, candle open), ``equity`` and ``wallet``, one row per candle, atomically.

    Raises:
        OutputError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    def column(values: npt.NDArray[np.generic], kind: object) -> object:
        return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])

    table = pa.table(
        {
            "time": column(curve.open_ms, pa.timestamp("ms", tz="UTC")),
            "equity": column(curve.equity, pa.float64()),
            "wallet": column(curve.wallet, pa.float64()),
        }
    )
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", use_dictionary=False)


def read_equity_parquet(path: Path) -> EquityCurve:
    """Return the curve that write_equity_parquet wrote."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["time", "equity", "wallet"])
    time, equity, wallet = (
        np.concatenate([np.frombuffer(chunk.buffers()[1], kind)[chunk.offset :][: len(chunk)] for chunk in chunks])
        if chunks
        else np.empty(0, kind)
        for chunks, kind in zip(
            (table.column(name).chunks for name in ("time", "equity", "wallet")),
            (np.int64, np.float64, np.float64),
            strict=True,
        )
    )
    return EquityCurve(time, equity, wallet)


def _changes(times: IntArray, entries: Sequence[LedgerEntry], timeframe_ms: int, *, strict: bool = True) -> _Changes:
    if not entries:
        empty = np.empty(0)
        return _Changes(np.empty(0, np.int64), (), empty, empty, empty)
    columns = _columns(entries)
    when = np.asarray(columns["time_ms"], np.int64)
    step = np.searchsorted(times, when, side="right") - 1
    outside = (step < 0) | (when >= times[step] + timeframe_ms) if times.size else np.ones(when.size, bool)
    if outside.any() and strict:
        raise ValueError(f"the account changed at {when[outside][0]} ms, inside no candle of the timeline")
    step[outside] += 1
    # several symbols share a candle, so clock times may step back inside it; candles never do
    step = np.maximum.accumulate(step)
    amounts = (np.asarray(columns[name], np.float64) for name in ("wallet_usdt", "signed_qty", "entry_price"))
    return _Changes(step, columns["symbol"], *amounts)


def _changes_of(symbol: str, changes: _Changes) -> IntArray:
    """Return which changes are of ``symbol``."""
    count = len(changes.symbol)
    if changes.symbol.count(symbol) == count:
        return np.arange(count)
    return np.flatnonzero(np.fromiter(map(symbol.__eq__, changes.symbol), np.bool_, count))


def _columns(entries: Sequence[LedgerEntry]) -> dict[str, list[Any]]:
    """Return the entries' fields as columns: all of them laid end to end and sliced is the cheapest way."""
    names = LedgerEntry._fields
    values = list(chain.from_iterable(entries))
    return {name: values[place :: len(names)] for place, name in enumerate(names)}


def _segments(step: IntArray, at: IntArray, steps: int) -> _Segments:
    """Return the stretches between changes ``at``; of several in one candle only the last one counts."""
    start = step[at]
    last = np.append(start[1:] != start[:-1], True)
    start = start[last]
    return _Segments(at[last], start, np.diff(start, append=steps))


def _wallet(changes: _Changes, steps: int, initial_balance: float) -> FloatArray:
    if not changes.step.size:
        return np.full(steps, float(initial_balance))
    segments = _segments(changes.step, np.arange(changes.step.size), steps)
    levels = np.concatenate(([initial_balance], changes.wallet[segments.change]))
    return np.repeat(levels, np.concatenate((segments.start[:1], segments.length)))


def _closes_on(times: IntArray, open_ms: IntArray, close: FloatArray) -> FloatArray:
    if times is open_ms or np.array_equal(times, open_ms):
        return close
    return close[np.maximum(np.searchsorted(open_ms, times, side="right") - 1, 0)]


def _add_unrealized(equity: FloatArray, close: FloatArray, changes: _Changes, segments: _Segments) -> None:
    """Add signed_qty × (close − entry_price) to ``equity`` in place, block by block to stay in the cache."""
    start = segments.start
    signed_qty, entry_price = changes.signed_qty[segments.change], changes.entry_price[segments.change]
    for begin in range(int(start[0]), equity.size, _BLOCK):
        end = min(begin + _BLOCK, equity.size)
        low, high = np.searchsorted(start, begin, side="right") - 1, np.searchsorted(start, end)
        lengths = np.diff(np.concatenate(([begin], start[low + 1 : high], [end])))
        result = close[begin:end] - np.repeat(entry_price[low:high], lengths)
        result *= np.repeat(signed_qty[low:high], lengths)
        equity[begin:end] += result
