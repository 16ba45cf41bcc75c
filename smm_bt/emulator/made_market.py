"""A seeded made market: candles with calm, trending and wild regimes and stretches with next to no trading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from smm_bt.emulator.candles import CandleSeries

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from smm_bt.emulator.instruments import Instrument

_FIRST_PRICES: Final = {
    "BTCUSDT": 60_000.0,
    "ETHUSDT": 3_000.0,
    "SOLUSDT": 150.0,
    "BNBUSDT": 600.0,
    "XRPUSDT": 0.6,
    "DOGEUSDT": 0.15,
    "ADAUSDT": 0.45,
    "AVAXUSDT": 30.0,
    "LINKUSDT": 15.0,
    "LTCUSDT": 80.0,
}
# (drift per candle, volatility per candle, share of normal volume): in units of a 5-minute candle
_REGIMES: Final = [
    (0.0, 0.0008, 1.0),
    (0.00025, 0.0015, 1.6),
    (-0.00025, 0.0015, 1.6),
    (0.0, 0.0040, 3.0),
    (0.0, 0.0001, 0.01),
]
_MEAN_REGIME_CANDLES = 150
#: The logarithm of the price is mirrored here, twenty times above and below the first one: 1500 weeks are 29 years.
_FARTHEST: Final = 3.0


def make_candles(instrument: Instrument, seed: int, count: int, start_ms: int, timeframe_ms: int) -> CandleSeries:
    """Make ``count`` candles from ``start_ms`` on; the same arguments give the same candles."""
    import numpy as np

    random = np.random.default_rng([seed, *instrument.symbol.encode()])
    drift, volatility, liquidity = _regimes(random, count)
    scale = (timeframe_ms / 300_000) ** 0.5
    # a trend lasts as many candles whatever their length: on long ones a drift in proportion would be 50 % a week
    returns = drift * min(scale, scale**2) + volatility * scale * random.standard_normal(count)
    first = _FIRST_PRICES.get(instrument.symbol, 100.0)
    closes = first * np.exp(_mirrored(np.cumsum(returns)))
    opens = np.concatenate(([first], closes[:-1]))
    wick = volatility * scale * np.abs(random.standard_normal((2, count))) * 0.7
    highs = np.maximum(opens, closes) * (1 + wick[0])
    lows = np.minimum(opens, closes) * (1 - wick[1])
    tick = float(instrument.tick) or 0.01
    digits = int(instrument.description.get("pricePrecision", 2))
    begin, high, low, last = (_on_grid(column, tick, digits) for column in (opens, highs, lows, closes))
    volume = np.round(liquidity * random.lognormal(4.0, 0.6, count), instrument.quantity_decimals).tolist()
    times = [start_ms + index * timeframe_ms for index in range(count)]
    return CandleSeries(instrument.symbol, timeframe_ms, times, begin, high, low, last, volume)


def _mirrored(path: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    folded = _FARTHEST - np.abs((path + _FARTHEST) % (4 * _FARTHEST) - 2 * _FARTHEST)
    inside: NDArray[np.float64] = np.where(np.abs(path) <= _FARTHEST, path, folded)
    return inside


def _regimes(random: np.random.Generator, count: int) -> tuple[NDArray[np.float64], ...]:
    import numpy as np

    lengths: list[int] = []
    kinds: list[int] = []
    while sum(lengths) < count:
        lengths.append(int(random.geometric(1 / _MEAN_REGIME_CANDLES)))
        kinds.append(int(random.integers(len(_REGIMES))))
    table = np.array(_REGIMES)[np.repeat(kinds, lengths)[:count]]
    return table[:, 0], table[:, 1], table[:, 2]


def _on_grid(column: NDArray[np.float64], tick: float, digits: int) -> list[float]:
    steps = (column / tick).round().clip(min=1.0)
    return [round(value, digits + 2) for value in (steps * tick).tolist()]
