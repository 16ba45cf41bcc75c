"""Candle, mark-candle and funding files (CSV, CSV.gz, Parquet) read into plain columns."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from feeds.candles import CandleError, Candles, check_candles, refuse_unlikely_times
from feeds.csv_cells import first_bad_cell
from feeds.lines import CANDLE_COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

_NAME = re.compile(r"(?P<symbol>[^\s\-_./]+(?:_\d{6})?)-(?:mark-)?(?P<timeframe>\d+[mhdw])(?=[^0-9A-Za-z]|$)")
_ENDINGS = (".parquet", ".csv", ".csv.gz")
_PRICE_COLUMNS = ("open", "high", "low", "close")


class CandleUsageError(CandleError):
    """A file was named in a way that cannot work, whatever is in it."""


class CandleFileMissing(CandleUsageError):
    """The file named on the command line does not exist."""


class FundingRates(NamedTuple):
    """Funding settlements of one symbol: times in UTC milliseconds, strictly increasing, and the rate of each."""

    time_ms: NDArray[np.int64]
    rate: NDArray[np.float64]


def name_parts(path: Path) -> tuple[str | None, str | None]:
    """Return symbol and timeframe read from a name such as ``BTCUSDT-5m_2024.csv.gz``; None where it does not say."""
    match = _NAME.match(path.name)
    return (match["symbol"], match["timeframe"]) if match else (None, None)


def read_candles(path: Path, symbol: str | None = None, timeframe: str | None = None) -> Candles:
    """Read a candle file and check it.

    Args:
        path: ``.csv``, ``.csv.gz`` or ``.parquet`` with ``timestamp open high low close volume``.
        symbol: the symbol, when the file's name does not begin with it.
        timeframe: the timeframe asked for; None takes the one in the file's name.

    Raises:
        CandleFileMissing: there is no such file.
        CandleUsageError: its ending is not known, or neither name nor arguments tell symbol and timeframe.
        OtherTimeframe: its candles are of another timeframe than the one asked for.
        CandleError: anything else that is wrong with it.
    """
    _require_file(path)
    named_symbol, named_timeframe = name_parts(path)
    symbol, timeframe = symbol or named_symbol, timeframe or named_timeframe
    if symbol is None or timeframe is None:
        missing = "symbol" if symbol is None else "timeframe"
        raise CandleUsageError(
            f"{path.name}: the name does not tell the {missing}; name the file like BTCUSDT-5m.csv or give --{missing}."
        )
    columns = _read_columns(path, CANDLE_COLUMNS, symbol)
    return check_candles(symbol, timeframe, columns, source=path.name)


def read_mark_candles(path: Path, symbol: str, timeframe: str) -> Candles:
    """Read mark-price candles (no volume needed) and check them like any candle file."""
    columns = _read_columns(path, _PRICE_COLUMNS, symbol)
    columns["volume"] = np.zeros(len(columns["open_ms"]))
    return check_candles(symbol, timeframe, columns, source=path.name)


def read_funding(path: Path) -> FundingRates:
    """Read a funding file: ``timestamp,funding_rate``, one row per settlement.

    Raises:
        CandleFileMissing: there is no such file.
        CandleError: wrong columns, times that are not milliseconds or out of order, or a rate that is no finite number.
    """
    columns = _read_columns(path, ("funding_rate",))
    time_ms, rate = columns["open_ms"], columns["funding_rate"]
    if len(time_ms) == 0:
        raise CandleError(f"{path.name}: there are no funding rates in it; leave --funding out to replay without.")
    refuse_unlikely_times(time_ms, path.name)
    if not np.isfinite(rate).all():
        row = int(np.argmin(np.isfinite(rate))) + 1
        raise CandleError(f"{path.name}: the funding rate in row {row} is not a finite number; repair the file.")
    if (np.diff(time_ms) <= 0).any():
        row = int(np.argmax(np.diff(time_ms) <= 0)) + 2
        raise CandleError(f"{path.name}: row {row} is not later than the row before it; sort the file by time.")
    return FundingRates(time_ms, rate)


def _read_columns(path: Path, wanted: tuple[str, ...], symbol: str | None = None) -> dict[str, NDArray[Any]]:
    table = _read_table(path, ("timestamp", *wanted))
    found = table.column_names
    lacking = [name for name in ("timestamp", *wanted) if name not in found]
    if lacking:
        raise CandleError(
            f"{path.name}: column {', '.join(lacking)} is missing (found: {', '.join(found) or 'none'}); "
            f"the file needs timestamp, {', '.join(wanted)}."
        )
    twice = [name for name in ("timestamp", *wanted) if found.count(name) > 1]
    if twice:
        raise CandleError(f"{path.name}: column {', '.join(twice)} stands there more than once; keep one of them.")
    if table.num_rows == 0:  # a CSV without rows tells no types
        return dict.fromkeys(wanted, np.empty(0)) | {"open_ms": np.empty(0, dtype=np.int64)}
    _refuse_other_symbols(path, table, symbol)
    columns: dict[str, NDArray[Any]] = {name: _floats(path, table, name) for name in wanted}
    columns["open_ms"] = _milliseconds(path, table)
    return columns


def _read_table(path: Path, wanted: tuple[str, ...]) -> pa.Table:
    import pyarrow as pa

    _require_file(path)
    _require_known_ending(path)
    try:
        return _parse(path)
    except (OSError, EOFError, ValueError, pa.ArrowException) as problem:
        bad = None if path.suffix == ".parquet" else first_bad_cell(path, wanted)
        if bad is not None:
            raise CandleError(f"{path.name}: {bad}; repair that line.") from problem
        # pyarrow's own first line names the row or the format; the rest is a dump of internals.
        detail = str(problem).strip().splitlines()[0][:160] if str(problem).strip() else type(problem).__name__
        raise CandleError(f"{path.name}: cannot be read ({detail}); give a CSV, CSV.gz or Parquet file.") from problem


def _require_file(path: Path) -> None:
    try:
        there = path.exists()
    except OSError as problem:  # a name no file can have
        raise CandleError(f"{path.name}: cannot be read ({problem.strerror}); check the path.") from problem
    if not there:
        raise CandleFileMissing(f"{path}: there is no such file; check the path.")
    if path.is_dir():
        raise CandleFileMissing(f"{path}: this is a folder; name a candle file in it.")


def _require_known_ending(path: Path) -> None:
    if not path.name.endswith(_ENDINGS):
        raise CandleUsageError(
            f"{path.name}: the ending {path.suffix or 'nothing'} is not known; give a CSV, CSV.gz or Parquet file."
        )


def _parse(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.read_table(path, memory_map=True, partitioning=None)
    import pyarrow as pa
    from pyarrow import csv

    if path.stat().st_size == 0:
        raise ValueError("the file is empty")
    compression = "gzip" if path.suffix == ".gz" else None
    options = csv.ConvertOptions(strings_can_be_null=True, null_values=["", "NaN", "nan", "NA", "null"])
    with pa.OSFile(str(path)) as raw, pa.input_stream(raw, compression=compression) as stream:
        return csv.read_csv(stream, convert_options=options)


def _refuse_other_symbols(path: Path, table: pa.Table, symbol: str | None) -> None:
    if "symbol" not in table.column_names:
        return
    symbols = [str(value) for value in table.column("symbol").unique().to_pylist()]
    if len(symbols) > 1:
        raise CandleError(
            f"{path.name}: holds {len(symbols)} symbols ({', '.join(symbols[:3])}, …); "
            "split it into one file per symbol."
        )
    if symbol is not None and symbols and symbols[0] != symbol:
        raise CandleError(f"{path.name}: its rows are of {symbols[0]}, not of {symbol}; name the right file or symbol.")


def _floats(path: Path, table: pa.Table, name: str) -> NDArray[np.float64]:
    import pyarrow as pa

    try:
        column = table.column(name).cast(pa.float64())
    except pa.ArrowException as problem:
        bad = None if path.suffix == ".parquet" else first_bad_cell(path, (name,))
        found = f"{bad}, not a number" if bad else f"column {name} holds {table.column(name).type} values, not numbers"
        raise CandleError(f"{path.name}: {found}; repair the file.") from problem
    values: NDArray[np.float64] = column.to_numpy()
    return values


def _milliseconds(path: Path, table: pa.Table) -> NDArray[np.int64]:
    import pyarrow as pa

    column = table.column("timestamp")
    if column.null_count:
        raise CandleError(f"{path.name}: {column.null_count} timestamps are empty; repair the file.")
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return _exact_cast(path, column)
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        values: NDArray[Any] = column.to_numpy()
        if not np.all(np.isfinite(values)) or np.any(values != np.floor(values)):
            raise CandleError(f"{path.name}: timestamps are not whole milliseconds; repair the file.")
        return np.asarray(values, dtype=np.int64)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return _parse_iso(path, column)
    raise CandleError(f"{path.name}: timestamps are of type {column.type}; give milliseconds UTC or ISO-8601 times.")


def _parse_iso(path: Path, column: pa.ChunkedArray) -> NDArray[np.int64]:
    # Mixed forms the CSV reader did not recognise; numpy's parser knows no offsets, so Python's does each row.
    from datetime import UTC, datetime

    stamps = np.empty(len(column), dtype=np.int64)
    for row, text in enumerate(column.to_pylist()):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            # a single bad cell turns a column of milliseconds into text: then this row is not the one to blame
            bad = None if path.suffix == ".parquet" else first_bad_cell(path, ("timestamp",))
            found = f"{bad}, which" if bad else f"timestamp {text!r} in row {row + 1}"
            raise CandleError(f"{path.name}: {found} is no time; give milliseconds UTC or ISO-8601.") from None
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        stamps[row] = round(aware.timestamp() * 1000)
    return stamps


def _exact_cast(path: Path, column: pa.ChunkedArray) -> NDArray[np.int64]:
    import pyarrow as pa

    try:
        whole = column.cast(pa.timestamp("ms", tz=getattr(column.type, "tz", None)))
    except pa.ArrowInvalid:
        raise CandleError(f"{path.name}: timestamps are finer than milliseconds; give candle open times.") from None
    values: NDArray[np.int64] = whole.cast(pa.int64()).to_numpy()
    return values
