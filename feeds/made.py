"""Made candles: a seeded, invented market for first runs, examples and measurements, and a writer of candle files.

Nothing here comes from a real market, and a result on it says nothing about one. The made price wanders through
trends, ranges and short bursts, so that strategies of every kind find something to do. The arithmetic is vectorised.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from feeds.candles import CandleError, Candles, FloatArray, IntArray, check_candles
from feeds.lines import CANDLE_COLUMNS
from feeds.timeframes import TIMEFRAMES_MS, timeframe_ms

if TYPE_CHECKING:
    import pyarrow as pa

#: Monday, 2024-01-01 00:00 UTC: on the grid of every timeframe.
START_MS = 1_704_067_200_000

ENDINGS = (".csv", ".csv.gz", ".parquet")


class MadeMarket(NamedTuple):
    """Where the made price of a symbol starts, its tick, and a usual 5m volume in the base asset."""

    first_price: float
    price_tick: float
    volume: float


MADE_MARKETS = {
    "BTCUSDT": MadeMarket(60_000.0, 0.1, 300.0),
    "ETHUSDT": MadeMarket(3_000.0, 0.01, 4_000.0),
    "SOLUSDT": MadeMarket(150.0, 0.01, 30_000.0),
    "BNBUSDT": MadeMarket(600.0, 0.01, 2_000.0),
    "XRPUSDT": MadeMarket(0.6, 0.0001, 5_000_000.0),
    "DOGEUSDT": MadeMarket(0.15, 0.00001, 40_000_000.0),
}
_ANY_OTHER = MadeMarket(100.0, 0.01, 10_000.0)


class _Regime(NamedTuple):
    """One mood of the market: drift in volatilities per candle, volatility of a 5m candle, length, volume, a bridge.

    A ``bridged`` stretch comes back to where it began: a range.
    """

    drift: float
    volatility: float
    mean_candles: float
    volume: float
    bridged: bool


#: Drawn at random, each as often as the others. Volatilities are near those of BTCUSDT in 2024.
_REGIMES = (
    _Regime(+0.12, 0.0011, 180.0, 1.2, bridged=False),
    _Regime(-0.12, 0.0011, 180.0, 1.2, bridged=False),
    _Regime(0.0, 0.0008, 260.0, 0.7, bridged=True),
    _Regime(0.0, 0.0008, 260.0, 0.7, bridged=True),
    _Regime(0.0, 0.0030, 18.0, 4.0, bridged=False),
)

#: The price is mirrored at this factor above and below its first price, however many years are made.
_FARTHEST_FACTOR = 2.5
_FIVE_MINUTES_MS = 300_000
_LONGEST_GAP = 12


def made_candles(
    symbol: str = "BTCUSDT",
    timeframe: str = "5m",
    count: int = 17_280,
    seed: int = 1,
    *,
    start_ms: int = START_MS,
    first_price: float | None = None,
    price_tick: float | None = None,
    gaps: int = 0,
) -> Candles:
    """Return ``count`` made candles; the same arguments give the same candles.

    Each candle opens where the one before closed. Symbols of one seed go their own ways.

    Args:
        symbol: any name; well-known ones start at a price and have a tick one knows them by.
        timeframe: one of :data:`feeds.timeframes.TIMEFRAMES_MS`; longer candles move more.
        count: how many candles, at least 2; 17,280 are 60 days of 5m.
        seed: another seed, another market.
        start_ms: open time of the first candle, UTC milliseconds, on the timeframe's grid.
        first_price: the first open; None takes the symbol's.
        price_tick: prices are whole multiples of it; None takes the symbol's.
        gaps: how many holes of 1 to 12 candles to leave; fewer than ``count``.

    Raises:
        CandleError: a timeframe that is not known, a start off its grid, fewer than two candles.
        ValueError: more gaps than there are places between candles, or a negative number of them.
    """
    if timeframe not in TIMEFRAMES_MS:
        raise CandleError(f"made candles: timeframe {timeframe!r} is not known; use one of {', '.join(TIMEFRAMES_MS)}.")
    market = MADE_MARKETS.get(symbol, _ANY_OTHER)
    random = np.random.default_rng([seed, zlib.crc32(symbol.encode())])
    slots = _slots(random, count, gaps)
    total = int(slots[-1]) + 1 if count > 0 else 0
    columns = _prices(random, total, timeframe_ms(timeframe), first_price or market.first_price)
    tick = price_tick or market.price_tick
    kept: dict[str, NDArray[np.float64] | NDArray[np.int64]] = {
        name: columns[name][slots] if name == "volume" else _on_ticks(columns[name][slots], tick)
        for name in CANDLE_COLUMNS
    }
    kept["volume"] = np.round(kept["volume"] * market.volume, 3)
    kept["open_ms"] = start_ms + slots * timeframe_ms(timeframe)
    return check_candles(symbol, timeframe, kept, source="made candles")


def write_candles(candles: Candles, path: Path) -> None:
    """Write a candle file that :func:`feeds.files.read_candles` reads back bit for bit, completely or not at all.

    Name it like ``BTCUSDT-5m_made.csv.gz``: readers take symbol and timeframe from there. The folder is made.

    Raises:
        CandleError: the ending is none of ``.csv``, ``.csv.gz`` and ``.parquet``.
        OSError: the file cannot be written; what stood there before still stands.
    """
    if not path.name.endswith(ENDINGS):
        raise CandleError(f"{path.name}: candles are written as {', '.join(ENDINGS)}; give it one of these endings.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        _write(candles, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write(candles: Candles, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import csv, parquet

    if path.suffix == ".parquet":
        parquet.write_table(_table(candles, pa.array(candles.open_ms, pa.timestamp("ms", tz="UTC"))), path)
        return
    table = _table(candles, pa.array(candles.open_ms))
    compression = "gzip" if path.suffix == ".gz" else None
    with pa.output_stream(path, compression=compression) as stream:
        stream.write((",".join(table.column_names) + "\n").encode())  # pyarrow would put quotes around the names
        csv.write_csv(table, stream, csv.WriteOptions(include_header=False))


def _table(candles: Candles, timestamps: pa.Array) -> pa.Table:
    import pyarrow as pa

    return pa.table({"timestamp": timestamps} | {name: getattr(candles, name) for name in CANDLE_COLUMNS})


def _slots(random: np.random.Generator, count: int, gaps: int) -> IntArray:
    """Return on which place of the unbroken timeline each kept candle stands."""
    if not 0 <= gaps < max(count, 1):
        raise ValueError(f"{gaps} gaps do not fit between {count} candles; ask for 0 to {max(count, 1) - 1}")
    missing = np.zeros(max(count, 0), dtype=np.int64)
    after = random.choice(np.arange(1, max(count, 1)), size=gaps, replace=False)
    missing[after] = random.integers(1, _LONGEST_GAP + 1, size=gaps)
    return np.arange(len(missing)) + np.cumsum(missing)


def _prices(random: np.random.Generator, total: int, length_ms: int, first_price: float) -> dict[str, FloatArray]:
    """Return open, high, low and close of an unbroken timeline before rounding, and volume as a share of the usual."""
    regime, stretch = _regimes(random, total)
    table = np.array(_REGIMES, dtype=np.float64)
    scale = np.sqrt(length_ms / _FIVE_MINUTES_MS)
    volatility = table[regime, 1] * scale
    moves = random.standard_t(5, total) * np.sqrt(3 / 5)  # fat tails, variance 1
    steps = (table[regime, 0] + moves) * volatility
    steps -= np.where(table[regime, 4] > 0, _mean_by(stretch, steps), 0.0)
    path = np.concatenate(([0.0], np.cumsum(steps)))
    path = np.log(first_price) + _mirrored(path, np.log(_FARTHEST_FACTOR))
    begin, end = path[:-1], path[1:]
    busy = 0.5 + 0.5 * np.abs(moves)
    return {
        "open": np.exp(begin),
        "high": np.exp(_highest(random, begin, end, volatility)),
        "low": np.exp(-_highest(random, -begin, -end, volatility)),
        "close": np.exp(end),
        "volume": table[regime, 3] * scale**2 * busy * random.lognormal(0.0, 0.4, total),
    }


def _regimes(random: np.random.Generator, total: int) -> tuple[IntArray, IntArray]:
    """Return the regime of each candle and the number of the stretch it belongs to."""
    shortest = min(regime.mean_candles for regime in _REGIMES)
    stretches = int(total / shortest) + 64  # more than are needed; lengths are at least 1 and mostly far above
    kinds = random.integers(0, len(_REGIMES), stretches)
    lengths = random.geometric(1.0 / np.array([regime.mean_candles for regime in _REGIMES])[kinds])
    lengths[-1] += total  # so that the stretches always reach the end
    last = int(np.searchsorted(np.cumsum(lengths), total)) + 1
    stretch = np.repeat(np.arange(last), lengths[:last])[:total]
    return kinds[stretch], stretch


def _mean_by(stretch: IntArray, values: FloatArray) -> FloatArray:
    """Return for each candle the mean of ``values`` over its stretch."""
    counts = np.bincount(stretch)
    means: FloatArray = np.bincount(stretch, weights=values) / np.maximum(counts, 1)
    return means[stretch]


def _mirrored(path: FloatArray, farthest: float) -> FloatArray:
    """Fold a path that starts at 0 into [−farthest, farthest], as a ray between two mirrors."""
    folded: FloatArray = farthest - np.abs((path + farthest) % (4 * farthest) - 2 * farthest)
    return folded


def _highest(random: np.random.Generator, begin: FloatArray, end: FloatArray, volatility: FloatArray) -> FloatArray:
    """Draw the highest point of a Brownian path from ``begin`` to ``end``: the known law of its maximum, inverted."""
    luck = -2.0 * volatility**2 * np.log(1.0 - random.random(len(begin)))
    highest: FloatArray = (begin + end + np.sqrt((end - begin) ** 2 + luck)) / 2.0
    return highest


def _on_ticks(prices: FloatArray, tick: float) -> FloatArray:
    """Round to whole ticks, at least one, without the dust of binary fractions."""
    decimals = max(0, -int(np.floor(np.log10(tick))) + 3)
    rounded: FloatArray = np.round(np.maximum(np.round(prices / tick), 1.0) * tick, decimals)
    return rounded
