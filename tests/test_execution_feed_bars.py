"""PaperBroker on feeds whose bars are not the candles of the history one by one: resampled, filtered, cut, foreign.

Unless a case says otherwise: 10 000 USDT, no fee; an entry of 400 at 100 is liquidated at 95.9596 (see made_replays).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from feed_filters import WithoutTheNight
from made_files import NEW_YEAR_MS
from made_replays import BTC, TF, T, candles, costs, flat, funding_rates, instrument

from feeds.candles import Candles, check_candles
from feeds.files import FundingRates
from feeds.lines import FLAG_LINES
from feeds.smm import SmmFeed, smm_feed
from smm_bt.errors import UsageError
from smm_bt.execution.ledger import FuturesLedger
from smm_bt.execution.market_history import MarketHistory, market_history
from smm_bt.execution.paper_broker import PaperBroker
from smm_bt.model import Trade

HOUR = {"timeframe": bt.TimeFrame.Minutes, "compression": 60}
HOUR_MS = 12 * TF
DAY = 288

Script = Mapping[int, Callable[[Any], Any]]


class Scripted(bt.Strategy):
    """Runs ``script[n]`` at the close of bar n (from 0)."""

    params = (("script", None),)

    def next(self) -> None:
        action = self.p.script.get(len(self) - 1)
        if action:
            action(self)


class EachBarTwice:
    """A filter that delivers each bar a second time."""

    def __init__(self, data: Any) -> None:
        pass

    def __call__(self, data: Any) -> bool:
        data._save2stack()
        return False


def feed_of(rows: Candles) -> SmmFeed:
    return smm_feed(rows, {name: np.zeros(len(rows), dtype=bool) for name in FLAG_LINES})


def traded(
    add: Callable[[bt.Cerebro], Any],
    history: MarketHistory | None,
    script: Script,
    *,
    stop: float | None = None,
    **options: Any,
) -> FuturesLedger:
    """Run ``script`` on the feed that ``add`` adds; return the ledger."""
    ledger = FuturesLedger(10_000.0, {BTC: instrument()}, costs=costs(stop=stop))
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.setbroker(PaperBroker(ledger, {BTC: history} if history is not None else None))
    add(cerebro)
    cerebro.addstrategy(Scripted, script=script)
    cerebro.run(**options)
    return ledger


def resampled(rows: Candles) -> Callable[[bt.Cerebro], Any]:
    return lambda cerebro: cerebro.resampledata(feed_of(rows), **HOUR)


def filtered(rows: Candles, by: type = WithoutTheNight) -> Callable[[bt.Cerebro], Any]:
    def add(cerebro: bt.Cerebro) -> None:
        feed = feed_of(rows)
        feed.addfilter(by)
        cerebro.adddata(feed)

    return add


def held(first: int, last: int | None = None, size: float = 400) -> Script:
    """A script that orders a long at the close of bar ``first`` and its end at that of bar ``last``."""
    script: dict[int, Callable[[Any], Any]] = {first: lambda s: s.buy(size=size)}
    if last is not None:
        script[last] = lambda s: s.close() if s.position else None
    return script


def at_100(count: int, **others: float) -> Candles:
    """Candles at 100, but for those named: ``_20=90`` is candle 20 with a low of 90."""
    rows = [flat(100.0)] * count
    for name, low in others.items():
        rows[int(name[1:])] = (100.0, 100.0, low, 100.0)
    return candles(rows)


# resampled


@pytest.mark.parametrize("options", [{}, {"preload": False}, {"exactbars": 1}])
def test_a_resampled_position_is_not_liquidated_by_candles_from_before_its_entry(options: dict[str, Any]) -> None:
    rows = at_100(DAY, _20=90.0)  # long over at hour 12, and the row hour 20 of the bars would be mistaken for
    (trade,) = traded(resampled(rows), market_history(rows), held(11, 20), **options).trades
    assert (trade.close_reason, trade.entry_ms, trade.exit_ms) == ("manual", T[0] + 12 * HOUR_MS, T[0] + 21 * HOUR_MS)


def test_a_resampled_position_is_liquidated_by_the_worst_mark_price_of_its_hour() -> None:
    rows = at_100(DAY)
    mark = at_100(DAY, _211=95.0)  # inside hour 17
    (trade,) = traded(resampled(rows), market_history(rows, mark), held(11, 20)).trades
    assert (trade.close_reason, trade.exit_ms) == ("liquidation", T[0] + 18 * HOUR_MS - 1)


def test_all_settlements_of_a_resampled_bar_are_charged_and_none_of_the_hours_before() -> None:
    rows = at_100(DAY)
    times = [T[0] + 11 * HOUR_MS, *(T[0] + 12 * HOUR_MS + ms for ms in (0, TF, HOUR_MS - 1)), T[0] + 13 * HOUR_MS]
    history = market_history(rows, funding=funding_rates(*((time, 0.001) for time in times)))
    (trade,) = traded(resampled(rows), history, held(11, 12, size=10)).trades
    assert (trade.entry_ms, trade.exit_ms) == (times[1], times[-1])
    assert trade.funding_usdt == pytest.approx(-3 * 10 * 100 * 0.001)


def walked(seed: int, places: int) -> tuple[Candles, Candles, FundingRates]:
    """Random five-minute candles, their mark candles, and funding at every eighth hour."""
    rng = np.random.default_rng(seed)

    def around(close: np.ndarray) -> Candles:
        opened = np.concatenate([[100.0], close[:-1]])
        spread = 1 + np.abs(rng.normal(0, 0.002, places))
        table = {"open": opened, "high": np.maximum(opened, close) * spread, "low": np.minimum(opened, close) / spread}
        times = T[0] + TF * np.arange(places)
        return check_candles(BTC, "5m", table | {"open_ms": times, "close": close, "volume": np.ones(places)})

    close = 100.0 * np.exp(np.cumsum(rng.normal(0, 0.004, places)))
    settled = [(T[0] + hour * HOUR_MS, float(rng.normal(0, 0.001))) for hour in range(0, places // 12, 8)]
    return around(close), around(close * (1 + rng.normal(0, 0.002, places))), funding_rates(*settled)


def by_hour(rows: Candles) -> Candles:
    """The hours of whole five-minute candles."""
    shape = (-1, 12)
    table = {
        "open_ms": rows.open_ms.reshape(shape)[:, 0],
        "open": rows.open.reshape(shape)[:, 0],
        "high": rows.high.reshape(shape).max(axis=1),
        "low": rows.low.reshape(shape).min(axis=1),
        "close": rows.close.reshape(shape)[:, -1],
        "volume": rows.volume.reshape(shape).sum(axis=1),
    }
    return check_candles(BTC, "1h", table)


def random_orders(seed: int, bars: int) -> Script:
    rng = np.random.default_rng(seed)

    def act(strategy: Any) -> None:
        if strategy.position:
            strategy.close()
        else:
            order = strategy.buy if rng.random() < 0.5 else strategy.sell
            order(size=strategy.broker.getcash() * 4 / strategy.data.close[0])

    return {int(bar): act for bar in np.flatnonzero(rng.random(bars) < 0.1)}


@pytest.mark.parametrize("stop", [None, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_resampled_feed_is_traded_as_native_candles_of_its_timeframe_would_be(seed: int, stop: float | None) -> None:
    rows, mark, funding = walked(seed, 40 * DAY)
    native = by_hour(rows)
    wanted = traded(
        lambda cerebro: cerebro.adddata(feed_of(native)),
        market_history(native, by_hour(mark), funding),
        random_orders(seed, len(native)),
        stop=stop,
    )
    got = traded(resampled(rows), market_history(rows, mark, funding), random_orders(seed, len(native)), stop=stop)
    assert {trade.close_reason for trade in wanted.trades} >= {"manual", "stop_loss" if stop else "liquidation"}

    def told(ledger: FuturesLedger) -> list[Trade]:
        return [trade._replace(entry_order_id="", exit_order_id="") for trade in ledger.trades]

    assert told(got) == told(wanted)
    assert got.wallet_usdt == wanted.wallet_usdt


# filtered and cut


def test_a_filtered_position_is_not_liquidated_by_candles_from_before_its_entry() -> None:
    rows = at_100(DAY, _20=90.0)
    (trade,) = traded(filtered(rows), market_history(rows), held(11, 30)).trades
    # The first bar is candle 71, which closes at six.
    assert (trade.close_reason, trade.entry_ms, trade.exit_ms) == ("manual", T[0] + 83 * TF, T[0] + 102 * TF)


def test_a_position_lives_through_the_candles_a_filter_left_out() -> None:
    rows = at_100(2 * DAY)
    night_ms = T[0] + 24 * HOUR_MS
    rates = funding_rates((night_ms - HOUR_MS, 0.001), (night_ms, 0.001), (night_ms + 8 * HOUR_MS, 0.001))
    bars_of_a_day = DAY - 71
    ledger = traded(filtered(rows), market_history(rows, funding=rates), held(bars_of_a_day - 5, bars_of_a_day + 3, 10))
    (trade,) = ledger.trades
    assert trade.funding_usdt == pytest.approx(-10 * 100 * 0.001)
    assert [entry.time_ms for entry in ledger.entries if entry.kind == "funding"] == [night_ms]


def test_a_crash_in_the_candles_a_filter_left_out_liquidates_at_its_own_time() -> None:
    crash = DAY + 24
    rows = at_100(2 * DAY, **{f"_{crash}": 90.0})
    (trade,) = traded(filtered(rows), market_history(rows), held(DAY - 71 - 5)).trades
    assert (trade.close_reason, trade.exit_ms) == ("liquidation", T[0] + (crash + 1) * TF - 1)


def test_an_entry_after_left_out_candles_has_not_lived_through_them() -> None:
    crash = DAY + 24
    rows = at_100(2 * DAY, **{f"_{crash}": 90.0})
    rates = funding_rates((T[0] + crash * TF, 0.001))
    last_of_the_day = DAY - 71 - 1
    (trade,) = traded(
        filtered(rows), market_history(rows, funding=rates), held(last_of_the_day, last_of_the_day + 9)
    ).trades
    assert (trade.close_reason, trade.funding_usdt) == ("manual", 0.0)


def test_a_feed_that_begins_later_than_its_history_is_traded_on_its_own_candles() -> None:
    rows = at_100(50, _6=90.0)

    def add(cerebro: bt.Cerebro) -> None:
        feed = feed_of(rows)
        feed.p.fromdate = datetime(2025, 1, 1, 2, 0)
        cerebro.adddata(feed)

    (trade,) = traded(add, market_history(rows), held(2, 9)).trades
    assert (trade.close_reason, trade.entry_ms) == ("manual", T[26])


def test_a_finer_history_is_found_by_time() -> None:
    fine = at_100(DAY, _20=90.0, _211=95.0)
    native = by_hour(at_100(DAY))
    (trade,) = traded(lambda cerebro: cerebro.adddata(feed_of(native)), market_history(fine), held(11, 20)).trades
    assert (trade.close_reason, trade.exit_ms) == ("liquidation", T[0] + 18 * HOUR_MS - 1)


# refused


def test_a_history_that_does_not_cover_the_feed_is_refused() -> None:
    short = market_history(at_100(40))
    with pytest.raises(UsageError, match="history PaperBroker was given for BTCUSDT does not cover its candles"):
        traded(lambda cerebro: cerebro.adddata(feed_of(at_100(50))), short, held(2))


def test_a_replayed_feed_is_refused_with_or_without_a_history() -> None:
    rows = at_100(DAY)
    for history in (None, market_history(rows)):
        with pytest.raises(UsageError, match="BTCUSDT is a replayed feed"):
            traded(lambda cerebro: cerebro.replaydata(feed_of(rows), **HOUR), history, held(2))


def test_a_filter_that_makes_several_bars_of_one_candle_is_refused() -> None:
    rows = at_100(50)
    with pytest.raises(UsageError, match="makes several bars of one candle of BTCUSDT"):
        traded(filtered(rows, EachBarTwice), market_history(rows), held(2))


def test_a_resampled_copy_of_a_feed_that_is_there_already_is_refused() -> None:
    rows = at_100(DAY)

    def add(cerebro: bt.Cerebro) -> None:
        feed = feed_of(rows)
        cerebro.adddata(feed, name="five minutes")
        cerebro.resampledata(feed, name=BTC, **HOUR)

    script = {36: lambda s: s.buy(s.data1, size=1)}
    with pytest.raises(UsageError, match="not candle 4 of the history PaperBroker was given"):
        traded(add, market_history(rows), script)


def pandas_feed(rows: Candles, shift_ms: int) -> Callable[[bt.Cerebro], Any]:
    frame = rows.frame().tz_localize(None)
    frame.index = frame.index + pd.Timedelta(milliseconds=shift_ms)
    return lambda cerebro: cerebro.adddata(bt.feeds.PandasData(dataname=frame, name=BTC))


@pytest.mark.parametrize("shift_ms", [0, TF])
def test_a_foreign_feed_is_traded_on_a_history_of_its_own_candles(shift_ms: int) -> None:
    rows = at_100(50)
    history = market_history(rows, at_100(50, _20=95.0), funding_rates((T[10], 0.001)))
    (trade,) = traded(pandas_feed(rows, shift_ms), history, held(5)).trades
    assert (trade.close_reason, trade.exit_ms) == ("liquidation", T[21] - 1)
    assert trade.funding_usdt == pytest.approx(-400 * 100 * 0.001)


@pytest.mark.parametrize("late", [1, 2, 12])
def test_a_foreign_feed_of_other_candles_than_its_history_is_refused(late: int) -> None:
    rows = candles([flat(100.0 + place) for place in range(50)])
    later = rows.between(NEW_YEAR_MS + late * TF, None)
    with pytest.raises(UsageError, match=r"Bar 4 of BTCUSDT, stamped .*, is not candle 4 of the history"):
        traded(pandas_feed(later, 0), market_history(rows), held(2))


def test_a_foreign_feed_that_outlives_its_history_is_refused() -> None:
    with pytest.raises(UsageError, match="not candle 41 of the history PaperBroker was given"):
        traded(pandas_feed(at_100(50), 0), market_history(at_100(40)), held(2))
