"""Candle and funding files the embedded exchange replays: CSV, CSV.gz or Parquet, checked at the door."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

from smm_bt.emulator.exact import exact

if TYPE_CHECKING:
    import pandas as pd

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
_NAME = re.compile(r"^(?P<symbol>[A-Z0-9]+(?:_\d{6})?)-(?:mark-)?(?P<timeframe>\d+[mhdw])(?![a-z])")


class CandleFileError(ValueError):
    """A candle or funding file cannot be replayed; the message says which rule and what was found."""


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


def name_of(path: Path) -> tuple[str, int]:
    """Read symbol and timeframe (ms) out of a file name such as ``BTCUSDT-5m_2024.csv.gz``."""
    found = _NAME.match(path.name)
    if found is None or found["timeframe"] not in INTERVALS:
        raise CandleFileError(
            f"the name {path.name!r} does not say symbol and timeframe; name it like BTCUSDT-5m.csv.gz"
        )
    return found["symbol"], INTERVALS[found["timeframe"]]


def symbol_of(path: Path) -> str:
    """Read the symbol out of a funding file name such as ``BTCUSDT-funding.csv``."""
    return path.name.partition("-")[0]


def read_candles(path: Path) -> CandleSeries:
    """Read one candle file; a file without volume (mark prices) gets zero volume."""
    symbol, timeframe_ms = name_of(path)
    frame = _read_frame(path)
    missing = {"timestamp", "open", "high", "low", "close"} - set(frame.columns)
    if missing:
        raise CandleFileError(f"{path.name}: column {sorted(missing)[0]!r} is missing")
    times = _times(frame)
    if not times or any(later <= earlier for earlier, later in pairwise(times)):
        raise CandleFileError(f"{path.name}: open times must be present, unique and ascending")
    prices = frame[["open", "high", "low", "close"]].astype(float)
    if prices.isna().any(axis=None) or (prices <= 0).any(axis=None):
        raise CandleFileError(f"{path.name}: every price must be a number above zero")
    volume = frame["volume"].astype(float).tolist() if "volume" in frame.columns else [0.0] * len(times)
    first, high, low, last = (prices[name].tolist() for name in ("open", "high", "low", "close"))
    return CandleSeries(symbol, timeframe_ms, times, first, high, low, last, volume)


def read_funding(path: Path) -> FundingSeries:
    """Read ``timestamp,funding_rate`` rows; times are ms or ISO, the rate is a fraction per settlement."""
    frame = _read_frame(path)
    missing = {"timestamp", "funding_rate"} - set(frame.columns)
    if missing:
        raise CandleFileError(f"{path.name}: column {sorted(missing)[0]!r} is missing")
    rows = sorted(zip(_times(frame), frame["funding_rate"].astype(float).tolist(), strict=True))
    return FundingSeries([time for time, _ in rows], [exact(rate) for _, rate in rows])


def _read_frame(path: Path) -> pd.DataFrame:
    # pandas is heavy: a server on a made market starts without it
    import pandas as pd

    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    # round_trip: the default parser may miss the written decimal by one unit in the last place
    return pd.read_csv(path, float_precision="round_trip")


def _times(frame: pd.DataFrame) -> list[int]:
    import pandas as pd

    column = frame["timestamp"]
    if pd.api.types.is_numeric_dtype(column):
        return [int(value) for value in column.tolist()]
    stamps = pd.to_datetime(column, utc=True).dt.tz_localize(None).astype("datetime64[ms]")
    return [int(value) for value in stamps.astype("int64").tolist()]
