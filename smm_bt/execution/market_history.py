"""What a stored market did inside each candle, beyond OHLC: mark prices and funding settlements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from feeds.candles import Candles, FloatArray, iso_utc
from feeds.files import FundingRates
from smm_bt.errors import UsageError


class Settlement(NamedTuple):
    """One funding settlement: UTC milliseconds, the rate, and the price it is charged at."""

    time_ms: int
    rate: float
    price: float


class AdversePrices(NamedTuple):
    """What a position on one side has to fear: a long the lows, a short the highs.

    The views are of the same memory; reading a few numbers through them is cheaper than any call of numpy.
    """

    stop: FloatArray
    stop_view: Any
    liquidation: FloatArray
    liquidation_view: Any


@dataclass(frozen=True, eq=False)
class MarketHistory:
    """Candles with the highs and lows that liquidate, and the settlements of each candle by its index.

    Without mark candles the candle's own high and low liquidate: the pessimistic side, since a mark price moves less.
    """

    candles: Candles
    liquidation_high: FloatArray
    liquidation_low: FloatArray
    settlements: Mapping[int, tuple[Settlement, ...]] = field(default_factory=dict)
    funding_modelled: bool = False

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields alone: the views that were made of them do not go from one process to another."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @cached_property
    def settlement_rows(self) -> list[int]:
        """Rows of the candles with a settlement, ascending."""
        return sorted(self.settlements)

    @cached_property
    def adverse(self) -> dict[int, AdversePrices]:
        """The prices that end a position, by its side."""
        return {
            1: _adverse(self.candles.low, self.liquidation_low),
            -1: _adverse(self.candles.high, self.liquidation_high),
        }


def view(column: NDArray[Any]) -> Any:
    """Return a memoryview of a column: one element of it is a Python number, at a third of the price of numpy's."""
    return memoryview(np.ascontiguousarray(column))  # type: ignore[arg-type]  # numpy 2.4's stubs do not say Buffer


def _adverse(stop: FloatArray, liquidation: FloatArray) -> AdversePrices:
    return AdversePrices(stop, view(stop), liquidation, view(liquidation))


def market_history(candles: Candles, mark: Candles | None = None, funding: FundingRates | None = None) -> MarketHistory:
    """Join candles with their mark candles and funding rates.

    A settlement belongs to the candle with ``open ≤ time < open + timeframe``; one that falls into a gap of the candles
    is not charged, because no price is known there. Its price is the open of the mark candle, else of the candle.

    Raises:
        UsageError: a candle has no mark candle at its open time.
    """
    rows = _mark_rows(candles, mark) if mark is not None else slice(None)
    prices = mark if mark is not None else candles
    price_open = prices.open[rows]
    settlements = {} if funding is None else _settlements(candles, price_open, funding)
    return MarketHistory(candles, prices.high[rows], prices.low[rows], settlements, funding is not None)


def _mark_rows(candles: Candles, mark: Candles) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    rows = np.searchsorted(mark.open_ms, candles.open_ms)
    found = mark.open_ms[np.minimum(rows, len(mark) - 1)] == candles.open_ms
    if not found.all():
        lacking = int(np.argmin(found))
        raise UsageError(
            f"The mark candles do not cover {candles.symbol}: {int((~found).sum())} candles have none, the first is "
            f"{iso_utc(int(candles.open_ms[lacking]))}; give mark candles of the same timeframe for the whole range."
        )
    return rows


def _settlements(candles: Candles, price_open: FloatArray, funding: FundingRates) -> dict[int, tuple[Settlement, ...]]:
    rows = np.searchsorted(candles.open_ms, funding.time_ms, side="right") - 1
    inside = (rows >= 0) & (funding.time_ms < candles.open_ms[rows] + candles.timeframe_ms)
    by_candle: dict[int, tuple[Settlement, ...]] = {}
    times, rates = funding.time_ms[inside].tolist(), funding.rate[inside].tolist()
    for row, time_ms, rate in zip(rows[inside].tolist(), times, rates, strict=True):
        by_candle[row] = (*by_candle.get(row, ()), Settlement(time_ms, rate, float(price_open[row])))
    return by_candle
