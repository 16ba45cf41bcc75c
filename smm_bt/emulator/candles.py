"""Candle and funding files the embedded exchange replays: CSV, CSV.gz or Parquet, checked at the door."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import math
import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from smm_bt.emulator.exact import exact

INTERVALS: Final[dict[str, int]] = {
    "1m": 60_000,
    "3m": 180_000,
    "5m": 300_000,
    "15m": 900_000,
    "30m": 1_800_000,
    "1h": 3_600_000,
    "2h": 7_200_000,
    "4h": 14_400_000,
    "6h": 21_600_000,
    "8h": 28_800_000,
    "12h": 43_200_000,
    "1d": 86_400_000,
    "3d": 259_200_000,
    "1w": 604_800_000,
}
#: Weekly candles open on Mondays; 1970-01-05 was the first one.
_FIRST_MONDAY_MS: Final = 345_600_000
_NAME = re.compile(r"^(?P<symbol>[A-Z0-9]+(?:_\d{6})?)-(?:mark-)?(?P<timeframe>\d+[mhdw])(?![a-z])")


class CandleFileError(ValueError):
    """A candle or funding file cannot be replayed; the message says which rule and what was found."""


class CandleContentError(CandleFileError):
    """What is in a file cannot be used; the message says in which line and column where there is one."""


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file whose symbol, and timeframe where it has one, are told and not read out of its name."""

    path: Path
    symbol: str
    timeframe: str = ""

    @property
    def name(self) -> str:
        """The file's own name, for messages."""
        return self.path.name


@dataclass(frozen=True, slots=True)
class CandleSeries:
    """Candles of one symbol: open times in ms UTC ascending, prices and volume as columns."""

    symbol: str
    timeframe_ms: int
    open_time: list[int]
    open: list[float]
    high: list[float]
    low: list[float]
    close: list[float]
    volume: list[float]

    def __len__(self) -> int:
        return len(self.open_time)

    def index_at(self, time_ms: int) -> int | None:
        """Return the index of the candle whose span holds ``time_ms``, or None in a gap."""
        index = bisect_right(self.open_time, time_ms) - 1
        if index < 0 or time_ms >= self.open_time[index] + self.timeframe_ms:
            return None
        return index


@dataclass(frozen=True, slots=True)
class FundingSeries:
    """Funding settlements of one symbol: times in ms UTC ascending and the rate paid by longs."""

    time: list[int]
    rate: list[Decimal]

    def between(self, start_ms: int, end_ms: int) -> list[tuple[int, Decimal]]:
        """Return the settlements with start ≤ time < end."""
        first, last = bisect_left(self.time, start_ms), bisect_left(self.time, end_ms)
        return list(zip(self.time[first:last], self.rate[first:last], strict=True))


NO_FUNDING: Final = FundingSeries([], [])


def candle_open_ms(time_ms: int, interval_ms: int) -> int:
    """Return the open time of the candle of ``interval_ms`` that holds ``time_ms``."""
    return time_ms - (time_ms - (_FIRST_MONDAY_MS if interval_ms == INTERVALS["1w"] else 0)) % interval_ms


def name_of(file: Path | NamedFile) -> tuple[str, int]:
    """Return symbol and timeframe (ms), as told or out of a file name such as ``BTCUSDT-5m_2024.csv.gz``."""
    if isinstance(file, NamedFile):
        return file.symbol, INTERVALS[file.timeframe]
    found = _NAME.match(file.name)
    if found is None or found["timeframe"] not in INTERVALS:
        raise CandleFileError(
            f"the name {file.name!r} does not say symbol and timeframe; name it like BTCUSDT-5m.csv.gz"
        )
    return found["symbol"], INTERVALS[found["timeframe"]]


def symbol_of(file: Path | NamedFile) -> str:
    """Return the symbol, as told or out of a funding file name such as ``BTCUSDT-funding.csv``."""
    return file.symbol if isinstance(file, NamedFile) else file.name.partition("-")[0]


def read_candles(file: Path | NamedFile) -> CandleSeries:
    """Read one candle file; a file without volume (mark prices) gets zero volume.

    Raises:
        CandleContentError: what is in it cannot be used.
        CandleFileError: there is no such file, or its name does not say symbol and timeframe.
    """
    path = _path(file)
    symbol, timeframe_ms = name_of(file)
    table = _read_columns(path, ("timestamp", "open", "high", "low", "close"))
    times = _times(path, table["timestamp"])
    if not times or any(later <= earlier for earlier, later in pairwise(times)):
        raise CandleContentError(f"{path.name}: open times must be present, unique and ascending")
    first, high, low, last = (_prices(path, name, table[name]) for name in ("open", "high", "low", "close"))
    volume = _numbers(path, "volume", table["volume"]) if "volume" in table else [0.0] * len(times)
    return CandleSeries(symbol, timeframe_ms, times, first, high, low, last, volume)


def read_funding(file: Path | NamedFile) -> FundingSeries:
    """Read ``timestamp,funding_rate`` rows; times are ms or ISO, the rate is a fraction per settlement."""
    path = _path(file)
    table = _read_columns(path, ("timestamp", "funding_rate"))
    rates = _numbers(path, "funding_rate", table["funding_rate"])
    rows = sorted(zip(_times(path, table["timestamp"]), rates, strict=True))
    return FundingSeries([time for time, _ in rows], [exact(rate) for _, rate in rows])


def _path(file: Path | NamedFile) -> Path:
    path = file.path if isinstance(file, NamedFile) else file
    if not path.is_file():
        found = "this is no ordinary file" if path.exists() else "there is no such file"
        raise CandleFileError(f"{path}: {found}; check the path")
    return path


def _read_columns(path: Path, needed: tuple[str, ...]) -> dict[str, list[Any]]:
    try:
        columns = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    except CandleFileError:
        raise
    except (OSError, EOFError, ValueError) as problem:  # pyarrow's errors are ValueErrors
        detail = (str(problem).splitlines() or [type(problem).__name__])[0][:160]
        raise CandleContentError(f"{path.name}: cannot be read ({detail})") from problem
    for name in needed:
        if name not in columns:
            raise CandleContentError(f"{path.name}: column {name!r} is missing; found {', '.join(columns)}")
    return columns


def _read_csv(path: Path) -> dict[str, list[Any]]:
    body = path.read_bytes()
    text = (gzip.decompress(body) if path.suffix == ".gz" else body).decode("utf-8-sig")
    header, *rows = [row for row in csv.reader(io.StringIO(text)) if row] or [[]]
    if not rows:
        raise CandleContentError(f"{path.name}: a header and at least one row are needed")
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise CandleContentError(
                f"{path.name}: {_place(path, number)} has {len(row)} cells, the header {len(header)}"
            )
    return {name.strip(): list(column) for name, column in zip(header, zip(*rows, strict=True), strict=True)}


def _read_parquet(path: Path) -> dict[str, list[Any]]:
    # heavy: a server on CSV files or a made market starts without it
    import pyarrow.parquet

    columns: dict[str, list[Any]] = pyarrow.parquet.read_table(path).to_pydict()
    return columns


def _place(path: Path, row: int) -> str:
    """Name a row as its reader finds it: in a text by its line, below the header."""
    return f"row {row + 1}" if path.suffix == ".parquet" else f"line {row + 2}"


def _prices(path: Path, name: str, values: list[Any]) -> list[float]:
    numbers = _numbers(path, name, values)
    for row, number in enumerate(numbers):
        if number <= 0:
            raise CandleContentError(
                f"{path.name}: column {name} holds {values[row]!r} in {_place(path, row)}; "
                "every price must be a number above zero"
            )
    return numbers


def _numbers(path: Path, name: str, values: list[Any]) -> list[float]:
    numbers = []
    for row, value in enumerate(values):
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise _bad_cell(path, name, row, value, "not a number") from None
        if not math.isfinite(number):
            raise _bad_cell(path, name, row, value, "not a finite number")
        numbers.append(number)
    return numbers


def _times(path: Path, values: list[Any]) -> list[int]:
    times = []
    for row, value in enumerate(values):
        try:
            times.append(_time_ms(value))
        except (TypeError, ValueError, AttributeError, OverflowError):
            raise _bad_cell(path, "timestamp", row, value, "no time in milliseconds or ISO-8601") from None
    return times


def _bad_cell(path: Path, name: str, row: int, value: object, what: str) -> CandleContentError:
    return CandleContentError(f"{path.name}: column {name} holds {value!r} in {_place(path, row)}, {what}")


def _time_ms(value: Any) -> int:
    """Read a time given as ms, as ISO text, as a datetime or a date; without a zone it is UTC."""
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return int(float(value))
    moment = datetime.fromisoformat(str(value))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)
