"""What a simulated venue sees of each feed's bars: their prices, and what the market's history says happened inside.

Which candles of the history a bar holds is settled once per feed. Where bar n is candle n, as in every replay, that is
all there is to it, and the history can be searched ahead. A bar of a resampled feed holds several: the worst of their
prices liquidates, all of their settlements are due. Candles a filter left out lie between two bars: a position that
was open then has lived through them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from math import isclose
from typing import Any, Protocol

import numpy as np

from feeds.bt_time import from_backtrader
from feeds.candles import iso_utc
from feeds.smm import SmmFeed
from smm_bt.errors import UsageError
from smm_bt.execution.bars import Bar
from smm_bt.execution.intrabar import next_event
from smm_bt.execution.ledger import Position
from smm_bt.execution.live_market import LiveMarket
from smm_bt.execution.market_history import MarketHistory

Data = Any  # a backtrader data feed

#: How many candles are searched at once for what may happen to a position.
_LOOK_AHEAD = 1_024


class BarReader(Protocol):
    """Reads the bars of one feed."""

    def read(self) -> Bar:
        """Return the current bar."""
        ...

    def passed(self) -> Iterable[Bar]:
        """Return the candles between the bar read before and the one read last that no bar has shown."""
        ...

    def quiet_until(self, position: Position) -> int:
        """Return the number of bars until which nothing happens to the position by itself."""
        ...


class FeedBars:
    """The bars of every feed that is traded, each read once.

    Args:
        histories: mark prices and funding by the name of the feed.
        market: a running one, which then tells what happened inside a bar.
    """

    def __init__(self, histories: Mapping[str, MarketHistory], market: LiveMarket | None) -> None:
        self._histories = histories
        self._market = market
        self._seen: dict[str, int] = {}
        self._readers: dict[int, BarReader] = {}

    def note(self, data: Data) -> None:
        """Take the current bar of ``data`` as seen: what is ordered now works from the next one on."""
        self._seen[data._name] = len(data)

    def new(self, datas: Iterable[Data]) -> dict[str, Bar]:
        """Return the current bars of ``datas`` that were not seen yet, by name.

        Raises:
            UsageError, ValueError: the bars and the history of a feed do not belong together.
        """
        bars: dict[str, Bar] = {}
        for data in datas:
            name = data._name
            if len(data) > self._seen.get(name, 0):
                self._seen[name] = len(data)
                bars[name] = self._market.bar(data) if self._market is not None else self._reader(data).read()
        return bars

    def passed(self, data: Data) -> Iterable[Bar]:
        """Return the candles before the newest bar of ``data`` that no bar has shown."""
        return self._reader(data).passed()

    def quiet_until(self, data: Data, position: Position) -> int:
        """Return the number of bars of ``data`` until which nothing happens to ``position`` by itself."""
        return self._reader(data).quiet_until(position)

    def _reader(self, data: Data) -> BarReader:
        reader = self._readers.get(data._id)
        if reader is None:
            reader = self._readers[data._id] = _reader_of(data, self._histories.get(data._name))
        return reader


def _reader_of(data: Data, history: MarketHistory | None) -> BarReader:
    if data.replaying:
        raise UsageError(
            f"{data._name} is a replayed feed, whose bars change after they have begun, and PaperBroker looks at a bar "
            "once; trade the feed it is replayed from, or a resampled one."
        )
    if history is None:
        return _OwnPrices(data)
    if not isinstance(data, SmmFeed):
        return _Matched(data, history)
    same = history.candles is data.candles or (
        history.candles.timeframe == data.candles.timeframe
        and np.array_equal(history.candles.open_ms, data.candles.open_ms)
    )
    return _RowByRow(data, history) if same and data.untouched else _SeveralRows(data, history)


class _OwnPrices:
    """A feed without a history: its own high and low liquidate.

    It may be none of ours and says only when its bar is stamped; that moment then stands for the open and the end.
    """

    def __init__(self, data: Data) -> None:
        self._data = data

    def read(self) -> Bar:
        data = self._data
        stamp, high, low = from_backtrader(data.datetime[0]), data.high[0], data.low[0]
        return Bar(stamp, stamp, data.open[0], high, low, high, low, ())

    def passed(self) -> Iterable[Bar]:
        return ()

    def quiet_until(self, position: Position) -> int:
        return len(self._data)


class _RowByRow:
    """A feed whose bar n is candle n of its history."""

    def __init__(self, data: Data, history: MarketHistory) -> None:
        self._data = data
        self._history = history

    def read(self) -> Bar:
        data = self._data
        return _bar(self._history, len(data) - 1, data.open[0], data.high[0], data.low[0])

    def passed(self) -> Iterable[Bar]:
        return ()

    def quiet_until(self, position: Position) -> int:
        count, history = len(self._data), self._history
        last = min(count - 1 + _LOOK_AHEAD, len(history.candles) - 1)
        event = next_event(position, history, count, last)
        return last + 1 if event is None else event


class _Matched(_RowByRow):
    """A feed that is none of ours: each bar must have the prices of its candle, and its open or close time as stamp."""

    def read(self) -> Bar:
        row = len(self._data) - 1
        if not self._is_candle(row):
            stamp = iso_utc(from_backtrader(self._data.datetime[0]))
            raise UsageError(
                f"Bar {row + 1} of {self._data._name}, stamped {stamp}, is not candle {row + 1} of the history "
                "PaperBroker was given; give it the history of the very candles of the feed, or trade an SmmFeed, "
                "whose bars can be traced back to their candles."
            )
        return super().read()

    def quiet_until(self, position: Position) -> int:
        return len(self._data)

    def _is_candle(self, row: int) -> bool:
        candles = self._history.candles
        if row >= len(candles):
            return False
        data, opened = self._data, int(candles.open_ms[row])
        pairs = ((data.open, candles.open), (data.high, candles.high), (data.low, candles.low))
        same = all(isclose(line[0], column[row]) for line, column in pairs)
        return same and from_backtrader(data.datetime[0]) in (opened, opened + candles.timeframe_ms)


class _SeveralRows:
    """A resampled, filtered or cut SmmFeed, or one whose history is finer: the rows of a bar are found by time."""

    def __init__(self, data: SmmFeed, history: MarketHistory) -> None:
        self._data: Any = data
        self._history = history
        self._rows = range(0)
        self._passed = range(0)
        known = np.isin(data.candles.open_ms, history.candles.open_ms).all()
        if not known or history.candles.timeframe_ms > data.candles.timeframe_ms:
            raise UsageError(
                f"The history PaperBroker was given for {self._data._name} does not cover its candles; give it one "
                "that holds a candle at the open time of each, of the same or a shorter timeframe."
            )

    def read(self) -> Bar:
        data, before = self._data, self._rows
        self._rows = self._rows_of(*data.candle_rows())
        if self._rows.start < before.stop:
            raise UsageError(
                f"A filter makes several bars of one candle of {data._name}; its funding and mark price cannot be told "
                "apart, so give PaperBroker no history of it or take the filter off."
            )
        self._passed = range(before.stop if before else self._rows.start, self._rows.start)
        return self._joined(data.open[0], data.high[0], data.low[0])

    def passed(self) -> Iterable[Bar]:
        history, candles = self._history, self._history.candles
        for row in self._passed:
            yield _bar(history, row, float(candles.open[row]), float(candles.high[row]), float(candles.low[row]))

    def quiet_until(self, position: Position) -> int:
        return len(self._data)

    def _rows_of(self, first: int, last: int) -> range:
        """Return the rows of the history that lie in the candles ``first`` to ``last`` of the feed."""
        candles, opens = self._data.candles, self._history.candles.open_ms
        bounds = (candles.open_ms[first], candles.open_ms[last] + candles.timeframe_ms)
        return range(*(int(place) for place in np.searchsorted(opens, bounds)))

    def _joined(self, opened: float, high: float, low: float) -> Bar:
        """Return one bar of all the current rows."""
        history, rows = self._history, self._rows
        inside = slice(rows.start, rows.stop)
        settled = history.settlement_rows
        due = settled[bisect_left(settled, rows.start) : bisect_left(settled, rows.stop)]
        return Bar(
            int(history.candles.open_ms[rows.start]),
            int(history.candles.open_ms[rows[-1]]) + history.candles.timeframe_ms - 1,
            opened,
            high,
            low,
            float(history.liquidation_high[inside].max()),
            float(history.liquidation_low[inside].min()),
            tuple(settlement for row in due for settlement in history.settlements[row]),
        )


def _bar(history: MarketHistory, row: int, opened: float, high: float, low: float) -> Bar:
    """Return candle ``row`` of a history as a bar with these prices."""
    open_ms = int(history.candles.open_ms[row])
    return Bar(
        open_ms,
        open_ms + history.candles.timeframe_ms - 1,
        opened,
        high,
        low,
        float(history.liquidation_high[row]),
        float(history.liquidation_low[row]),
        history.settlements.get(row, ()),
    )
