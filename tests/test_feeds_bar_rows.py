"""Bars of a filtered, cut or resampled SmmFeed are traced back to the candles they are made of, or it is refused."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import backtrader as bt
import numpy as np
import pytest
from feed_filters import WithoutTheNight
from made_files import FIVE_MINUTES_MS, NEW_YEAR_MS

from feeds.candles import Candles
from feeds.lines import FLAG_LINES
from feeds.made import made_candles
from feeds.smm import SmmFeed, smm_feed

HOUR = {"timeframe": bt.TimeFrame.Minutes, "compression": 60}
Rows = list[tuple[int, int]]


def feed_of(candles: Candles) -> SmmFeed:
    return smm_feed(candles, {name: np.zeros(len(candles), dtype=bool) for name in FLAG_LINES})


def candles_with_holes(count: int = 4_000) -> Candles:
    return made_candles("BTCUSDT", "5m", count=count, gaps=200, start_ms=NEW_YEAR_MS)


class Tracing(bt.Strategy):
    """Writes down what each bar shows and the rows it says it is made of."""

    def __init__(self) -> None:
        self.rows: Rows = []
        self.opened: list[int] = []
        self.prices: list[tuple[float, float, float, float]] = []

    def next(self) -> None:
        data = self.data
        self.rows.append(data.candle_rows())
        self.opened.append(data.open_ms())
        self.prices.append((data.open[0], data.high[0], data.low[0], data.close[0]))


def traced(cerebro: bt.Cerebro, **options: Any) -> Any:
    cerebro.addstrategy(Tracing)
    (strategy,) = cerebro.run(stdstats=False, **options)
    return strategy


def assert_made_of_their_candles(strategy: Any, candles: Candles) -> None:
    assert strategy.rows
    for (first, last), opened, prices in zip(strategy.rows, strategy.opened, strategy.prices, strict=True):
        inside = slice(first, last + 1)
        expected = (candles.open[first], candles.high[inside].max(), candles.low[inside].min(), candles.close[last])
        assert prices == expected
        assert opened == candles.open_ms[first]


class HalfAMinuteLater:
    """A filter that moves each bar half a minute on."""

    def __init__(self, data: Any) -> None:
        pass

    def __call__(self, data: Any) -> bool:
        data.lines.datetime[0] += 0.5 / 1_440
        return False


@pytest.mark.parametrize("options", [{}, {"preload": False}, {"runonce": False}, {"exactbars": 1}, {"exactbars": -2}])
@pytest.mark.parametrize(
    ("unit", "compression"),
    [
        (bt.TimeFrame.Minutes, 60),
        (bt.TimeFrame.Minutes, 7),
        (bt.TimeFrame.Minutes, 720),
        (bt.TimeFrame.Days, 1),
        (bt.TimeFrame.Weeks, 1),
    ],
)
def test_a_resampled_bar_is_made_of_the_candles_it_was_resampled_from(
    unit: int, compression: int, options: dict[str, Any]
) -> None:
    candles, cerebro = candles_with_holes(), bt.Cerebro()
    cerebro.resampledata(feed_of(candles), timeframe=unit, compression=compression)
    strategy = traced(cerebro, **options)
    assert_made_of_their_candles(strategy, candles)
    assert [row for first, last in strategy.rows for row in range(first, last + 1)] == list(range(len(candles)))


@pytest.mark.parametrize("style", [{"bar2edge": False}, {"adjbartime": False}])
def test_other_ways_of_resampling_that_keep_the_order_are_traced_too(style: dict[str, bool]) -> None:
    candles, cerebro = candles_with_holes(), bt.Cerebro()
    cerebro.resampledata(feed_of(candles), **HOUR, **style)
    assert_made_of_their_candles(traced(cerebro), candles)


@pytest.mark.parametrize("options", [{}, {"preload": False}, {"exactbars": 1}])
def test_a_filtered_bar_is_its_own_candle_whatever_was_left_out(options: dict[str, Any]) -> None:
    candles, cerebro = candles_with_holes(1_000), bt.Cerebro()
    feed = feed_of(candles)
    feed.addfilter(WithoutTheNight)
    cerebro.adddata(feed)
    strategy = traced(cerebro, **options)
    assert_made_of_their_candles(strategy, candles)
    assert len(strategy.rows) < len(candles)
    closes_ms = candles.open_ms + candles.timeframe_ms
    assert strategy.rows[0][0] == np.argmax(closes_ms >= NEW_YEAR_MS + 6 * 12 * FIVE_MINUTES_MS)


@pytest.mark.parametrize("resampled", [False, True])
def test_a_feed_with_a_first_and_a_last_date_tells_its_candles_rightly(resampled: bool) -> None:
    candles, cerebro = made_candles("BTCUSDT", "5m", count=100, start_ms=NEW_YEAR_MS), bt.Cerebro()
    feed = feed_of(candles)
    feed.p.fromdate, feed.p.todate = datetime(2025, 1, 1, 0, 30), datetime(2025, 1, 1, 4, 0)
    cerebro.resampledata(feed, **HOUR) if resampled else cerebro.adddata(feed)
    strategy = traced(cerebro)
    assert_made_of_their_candles(strategy, candles)
    assert strategy.opened[0] == NEW_YEAR_MS + 5 * FIVE_MINUTES_MS  # the candle that closes at 00:30


@pytest.mark.parametrize("style", [{"rightedge": False}, {"boundoff": 10}])
def test_a_resampling_that_does_not_tell_its_candles_is_refused(style: dict[str, Any]) -> None:
    cerebro = bt.Cerebro()
    cerebro.resampledata(feed_of(candles_with_holes(300)), **HOUR, **style)
    with pytest.raises(ValueError, match="BTCUSDT is resampled in a way that does not tell"):
        traced(cerebro)


def test_a_resampling_behind_another_filter_is_refused() -> None:
    cerebro, feed = bt.Cerebro(), feed_of(candles_with_holes(300))
    feed.addfilter(WithoutTheNight)
    cerebro.resampledata(feed, **HOUR)
    with pytest.raises(ValueError, match="without other filters"):
        traced(cerebro)


def test_a_replayed_feed_is_refused() -> None:
    cerebro = bt.Cerebro()
    cerebro.replaydata(feed_of(candles_with_holes(300)), **HOUR)
    with pytest.raises(ValueError, match="BTCUSDT is replayed: a bar of it changes"):
        traced(cerebro)


def test_a_bar_that_a_filter_made_up_is_refused() -> None:
    cerebro, feed = bt.Cerebro(), feed_of(candles_with_holes(300))
    feed.addfilter(HalfAMinuteLater)
    cerebro.adddata(feed)
    with pytest.raises(ValueError, match="made of none of its candles"):
        traced(cerebro)
