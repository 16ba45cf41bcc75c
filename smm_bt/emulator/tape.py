"""One row of candles being played: what is closed, what is forming, and klines of any coarser interval."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import NamedTuple

from smm_bt.emulator.candles import CandleSeries, candle_open_ms


class Candle(NamedTuple):
    """One candle as served: open time in ms, prices, volume in the base asset."""

    open_time: int
    open: float
    high: float
    low: float
    close: float
    volume: float


@dataclass(frozen=True, slots=True)
class Stretch:
    """The part of one candle between two moments: its first price and the extremes reached."""

    start: float
    high: float
    low: float
    end: float


class Tape:
    """Plays one series of candles; :meth:`move` sets the moment everything else refers to.

    Inside a candle the price walks open → nearer extreme → farther extreme → close in three equal
    legs (up candles dip first, down candles rise first): a modelling choice, as a candle does not tell.
    """

    def __init__(self, series: CandleSeries) -> None:
        self.series = series
        self.now_ms = series.open_time[0]
        self.closed = 0
        self._coarse: dict[int, list[tuple[int, int]]] = {}

    def move(self, now_ms: int) -> None:
        """Stand at ``now_ms``."""
        self.now_ms = now_ms
        self.closed = bisect_right(self.series.open_time, now_ms - self.series.timeframe_ms)

    @property
    def price(self) -> float:
        """Last price: inside a candle its path, in a gap or at the end the last close."""
        forming = self.forming()
        if forming is not None:
            return forming.close
        return self.series.close[self.closed - 1] if self.closed else self.series.open[0]

    def forming(self) -> Candle | None:
        """Return the candle that has opened and not closed, as far as it has gone."""
        index = self.closed
        if index >= len(self.series) or self.series.open_time[index] > self.now_ms:
            return None
        fraction = (self.now_ms - self.series.open_time[index]) / self.series.timeframe_ms
        part = self.stretch(index, 0.0, fraction)
        return Candle(
            self.series.open_time[index],
            part.start,
            part.high,
            part.low,
            part.end,
            self.series.volume[index] * fraction,
        )

    def stretch(self, index: int, begin: float, end: float) -> Stretch:
        """Return the part of candle ``index`` between two fractions of its span."""
        nodes = self._nodes(index)
        if begin <= 0.0 and end >= 1.0:
            return Stretch(nodes[0], self.series.high[index], self.series.low[index], nodes[3])
        first, last = _on_path(nodes, begin), _on_path(nodes, end)
        passed = [nodes[leg] for leg in (1, 2) if begin < leg / 3 < end]
        return Stretch(first, max(first, last, *passed), min(first, last, *passed), last)

    def _nodes(self, index: int) -> tuple[float, float, float, float]:
        series = self.series
        first, last = series.open[index], series.close[index]
        high, low = series.high[index], series.low[index]
        return (first, low, high, last) if last >= first else (first, high, low, last)

    def klines(self, interval_ms: int, start_ms: int | None, end_ms: int | None, limit: int) -> list[Candle]:
        """Return candles opened so far with start ≤ open time ≤ end: from the start if given, else the latest.

        The last one may be forming. ``interval_ms`` is a multiple of the series' own timeframe.
        """
        if interval_ms == self.series.timeframe_ms:
            return self._fine_klines(start_ms, end_ms, limit)
        buckets = self._buckets(interval_ms)
        opened = self.closed + (self.forming() is not None)
        visible = bisect_left(buckets, (opened, -1))
        times = [self._bucket_time(bucket, interval_ms) for bucket in buckets[:visible]]
        first, last = _span(times, start_ms, end_ms, limit)
        return [self._merge(bucket, interval_ms) for bucket in buckets[first:last]]

    def _fine_klines(self, start_ms: int | None, end_ms: int | None, limit: int) -> list[Candle]:
        series, forming = self.series, self.forming()
        opened = self.closed + (forming is not None)
        first, last = _span(series.open_time, start_ms, end_ms, limit, opened)
        rows = [self._closed_candle(index) for index in range(first, min(last, self.closed))]
        return [*rows, forming] if forming is not None and first <= self.closed < last else rows

    def _closed_candle(self, index: int) -> Candle:
        series = self.series
        return Candle(
            series.open_time[index],
            series.open[index],
            series.high[index],
            series.low[index],
            series.close[index],
            series.volume[index],
        )

    def _buckets(self, interval_ms: int) -> list[tuple[int, int]]:
        """Return (first index, one past the last index) of each coarse candle of the whole series."""
        if interval_ms not in self._coarse:
            times = [candle_open_ms(time, interval_ms) for time in self.series.open_time]
            starts = [index for index, time in enumerate(times) if index == 0 or time != times[index - 1]]
            self._coarse[interval_ms] = list(zip(starts, [*starts[1:], len(times)], strict=True))
        return self._coarse[interval_ms]

    def _bucket_time(self, bucket: tuple[int, int], interval_ms: int) -> int:
        return candle_open_ms(self.series.open_time[bucket[0]], interval_ms)

    def _merge(self, bucket: tuple[int, int], interval_ms: int) -> Candle:
        rows = [self._closed_candle(index) for index in range(bucket[0], min(bucket[1], self.closed))]
        forming = self.forming()
        if forming is not None and bucket[0] <= self.closed < bucket[1]:
            rows.append(forming)
        return Candle(
            self._bucket_time(bucket, interval_ms),
            rows[0].open,
            max(row.high for row in rows),
            min(row.low for row in rows),
            rows[-1].close,
            sum(row.volume for row in rows),
        )


def _on_path(nodes: tuple[float, float, float, float], fraction: float) -> float:
    if fraction <= 0.0:
        return nodes[0]
    if fraction >= 1.0:
        return nodes[3]
    leg = min(2, int(fraction * 3))
    share = fraction * 3 - leg
    return nodes[leg] + (nodes[leg + 1] - nodes[leg]) * share


def _span(
    times: list[int], start_ms: int | None, end_ms: int | None, limit: int, count: int | None = None
) -> tuple[int, int]:
    """Return the index range that answers a kline request over the first ``count`` open times."""
    count = len(times) if count is None else count
    last = count if end_ms is None else min(count, bisect_right(times, end_ms, 0, count))
    if start_ms is None:
        return max(0, last - limit), last
    first = bisect_left(times, start_ms, 0, count)
    return first, min(last, first + limit)
