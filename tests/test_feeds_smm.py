"""SmmFeed inside Backtrader: the same lines however they are filled, close stamps, extras, and no look-ahead."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import backtrader as bt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_files import FIVE_MINUTES_MS, HEADER, MINUTE_MS, NEW_YEAR_MS, Row, made_rows

from feeds.bt_time import to_backtrader
from feeds.candles import Candles, check_candles
from feeds.smm import SmmFeed, smm_feed
from strategy.smm_strategy import SmmStrategy

FLAGS = ("buy_signal", "sell_signal", "profit_target_hit")
HOUR_MS = 60 * MINUTE_MS


def candles_of(rows: list[Row], timeframe: str = "5m", symbol: str = "BTCUSDT") -> Candles:
    table = np.array([row[1:] for row in rows], dtype=float).T
    columns: dict[str, Any] = dict(zip(HEADER[1:], table, strict=True))
    return check_candles(symbol, timeframe, columns | {"open_ms": np.array([row[0] for row in rows])})


def flags(count: int, **at: list[int]) -> dict[str, np.ndarray]:
    columns = {name: np.zeros(count, dtype=bool) for name in FLAGS}
    for name, places in at.items():
        columns[name][places] = True
    return columns


class Recorder(bt.Strategy):
    """Writes down every line of every feed at every step."""

    def __init__(self) -> None:
        self.rows: list[list[tuple[float, ...] | None]] = []

    def prenext(self) -> None:
        self.next()

    def next(self) -> None:
        self.rows.append([tuple(line[0] for line in data.lines) if len(data) else None for data in self.datas])


def recorded(*feeds: Any, **run_options: Any) -> Any:
    cerebro = bt.Cerebro(stdstats=False, **run_options)
    for feed in feeds:
        cerebro.adddata(feed)
    cerebro.addstrategy(Recorder)
    (strategy,) = cerebro.run()
    return strategy


def single(strategy: Any, line: str) -> list[float]:
    place = strategy.data.getlinealiases().index(line)
    return [row[0][place] for row in strategy.rows]


# lines


def test_every_candle_column_and_flag_is_a_line() -> None:
    rows = made_rows(6)
    strategy = recorded(smm_feed(candles_of(rows), flags(6, buy_signal=[1], sell_signal=[4], profit_target_hit=[2, 3])))
    for place, name in enumerate(HEADER[1:], start=1):
        assert single(strategy, name) == [row[place] for row in rows]
    assert single(strategy, "buy_signal") == [0, 1, 0, 0, 0, 0]
    assert single(strategy, "sell_signal") == [0, 0, 0, 0, 1, 0]
    assert single(strategy, "profit_target_hit") == [0, 0, 1, 1, 0, 0]
    assert single(strategy, "openinterest") == [0.0] * 6


def test_further_columns_become_lines_of_their_names() -> None:
    extras = {"chop": np.array([1.5, np.nan, 3.5]), "ha_open": np.array([9.0, 8.0, 7.0])}
    strategy = recorded(smm_feed(candles_of(made_rows(3)), flags(3) | extras))
    assert single(strategy, "ha_open") == [9.0, 8.0, 7.0]
    assert single(strategy, "chop") == pytest.approx([1.5, np.nan, 3.5], nan_ok=True)
    assert strategy.data.lines.chop is strategy.data.chop


def test_feeds_with_different_extras_live_side_by_side() -> None:
    one = smm_feed(candles_of(made_rows(3), symbol="AAAUSDT"), flags(3) | {"chop": np.ones(3)})
    two = smm_feed(candles_of(made_rows(3), symbol="BBBUSDT"), flags(3) | {"mfi": np.full(3, 2.0)})
    plain = smm_feed(candles_of(made_rows(3), symbol="CCCUSDT"), flags(3))
    recorded(one, two, plain)
    assert one.lines.chop[0] == 1.0
    assert two.lines.mfi[0] == 2.0
    assert not hasattr(one.lines, "mfi")
    assert not hasattr(plain.lines, "chop")


def test_a_feed_is_named_after_its_symbol_and_knows_its_timeframe() -> None:
    expected = {
        "5m": (bt.TimeFrame.Minutes, 5),
        "1h": (bt.TimeFrame.Minutes, 60),
        "12h": (bt.TimeFrame.Minutes, 720),
        "1d": (bt.TimeFrame.Days, 1),
    }
    for timeframe, (unit, compression) in expected.items():
        step = {"5m": 5, "1h": 60, "12h": 720, "1d": 1440}[timeframe] * MINUTE_MS
        feed = smm_feed(candles_of(made_rows(3, step_ms=step), timeframe), flags(3))
        assert feed._name == "BTCUSDT"
        assert (feed._timeframe, feed._compression) == (unit, compression)


def test_a_weekly_feed_is_one_week() -> None:
    monday = NEW_YEAR_MS + 5 * 24 * HOUR_MS
    feed = smm_feed(candles_of(made_rows(3, monday, 7 * 24 * HOUR_MS), "1w"), flags(3))
    assert (feed._timeframe, feed._compression) == (bt.TimeFrame.Weeks, 1)
    assert len(recorded(feed).rows) == 3


@pytest.mark.parametrize("name", FLAGS)
def test_a_feed_without_one_of_the_flags_is_refused(name: str) -> None:
    columns = {key: value for key, value in flags(3).items() if key != name}
    with pytest.raises(ValueError, match=f"column {name} is missing"):
        smm_feed(candles_of(made_rows(3)), columns)


def test_a_column_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="column chop has 2 rows for 3 candles"):
        smm_feed(candles_of(made_rows(3)), flags(3) | {"chop": np.ones(2)})


# times


def test_bars_are_stamped_with_the_close_time_bit_for_bit_as_backtrader_would() -> None:
    strategy = recorded(smm_feed(candles_of(made_rows(4)), flags(4)))
    expected = [bt.date2num(datetime(2025, 1, 1, 0, 5 * n)) for n in (1, 2, 3, 4)]
    assert single(strategy, "datetime") == expected


def test_a_bar_tells_the_open_time_of_its_candle() -> None:
    class Asking(bt.Strategy):
        def __init__(self) -> None:
            self.asked: list[int] = []

        def next(self) -> None:
            self.asked.append(self.data.open_ms())

    cerebro = bt.Cerebro(stdstats=False)
    rows = [row for n, row in enumerate(made_rows(6)) if n != 3]
    cerebro.adddata(smm_feed(candles_of(rows), flags(5)))
    cerebro.addstrategy(Asking)
    (strategy,) = cerebro.run()
    assert strategy.asked == [row[0] for row in rows]


# however they are filled


@given(
    count=st.integers(2, 60),
    holes=st.sets(st.integers(1, 58)),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_preloaded_and_bar_by_bar_lines_are_the_same_bit_for_bit(count: int, holes: set[int], seed: int) -> None:
    rows = [row for n, row in enumerate(made_rows(count)) if n not in holes or n == count - 1]
    rng = np.random.default_rng(seed)
    columns = {name: rng.random(len(rows)) < 0.3 for name in FLAGS} | {"chop": rng.random(len(rows))}

    def feed() -> SmmFeed:
        return smm_feed(candles_of(rows), columns)

    bulk = recorded(feed()).rows
    assert len(bulk) == len(rows)
    assert recorded(feed(), preload=False).rows == bulk
    assert recorded(feed(), exactbars=1).rows == bulk


def test_the_same_candles_and_columns_serve_several_runs_unchanged() -> None:
    candles, columns = candles_of(made_rows(20)), flags(20, buy_signal=[3])
    before = candles.close.copy()
    first = recorded(smm_feed(candles, columns)).rows
    again = recorded(smm_feed(candles, columns)).rows
    assert first == again
    assert candles.close.tolist() == before.tolist()
    assert columns["buy_signal"].tolist() == [n == 3 for n in range(20)]


def test_indicators_run_on_the_lines() -> None:
    class Averaging(bt.Strategy):
        def __init__(self) -> None:
            self.average = bt.indicators.SMA(self.data.close, period=3)
            self.seen: list[float] = []

        def next(self) -> None:
            self.seen.append(self.average[0])

    rows = made_rows(6)
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(smm_feed(candles_of(rows), flags(6)))
    cerebro.addstrategy(Averaging)
    (strategy,) = cerebro.run()
    closes = [row[4] for row in rows]
    assert strategy.seen == pytest.approx([sum(closes[n : n + 3]) / 3 for n in range(4)])


def test_fromdate_and_todate_cut_the_feed_as_backtrader_users_expect() -> None:
    feed = smm_feed(candles_of(made_rows(12)), flags(12, buy_signal=[6]))
    feed.p.fromdate, feed.p.todate = datetime(2025, 1, 1, 0, 30), datetime(2025, 1, 1, 0, 45)
    strategy = recorded(feed)
    stamps = [bt.num2date(number) for number in single(strategy, "datetime")]
    assert stamps == [datetime(2025, 1, 1, 0, minute) for minute in (30, 35, 40, 45)]
    assert single(strategy, "buy_signal") == [0, 1, 0, 0]


# timeframes


def test_resampling_to_an_hour_gives_the_hour_of_the_candles() -> None:
    rows = made_rows(36)
    cerebro = bt.Cerebro(stdstats=False)
    data = smm_feed(candles_of(rows), flags(36))
    cerebro.resampledata(data, timeframe=bt.TimeFrame.Minutes, compression=60)
    cerebro.addstrategy(Recorder)
    (strategy,) = cerebro.run()
    hours = [rows[n : n + 12] for n in (0, 12, 24)]
    got = [dict(zip(strategy.data.getlinealiases(), row[0], strict=True)) for row in strategy.rows]
    assert [bar["open"] for bar in got] == [hour[0][1] for hour in hours]
    assert [bar["high"] for bar in got] == [max(row[2] for row in hour) for hour in hours]
    assert [bar["low"] for bar in got] == [min(row[3] for row in hour) for hour in hours]
    assert [bar["close"] for bar in got] == [hour[-1][4] for hour in hours]
    assert [bar["volume"] for bar in got] == [sum(row[5] for row in hour) for hour in hours]
    assert [bt.num2date(bar["datetime"]) for bar in got] == [datetime(2025, 1, 1, hour) for hour in (1, 2, 3)]


def test_a_feed_beside_its_own_resampling_keeps_its_lines() -> None:
    rows = made_rows(24)
    cerebro = bt.Cerebro(stdstats=False)
    data = smm_feed(candles_of(rows), flags(24, buy_signal=[7]))
    cerebro.adddata(data)
    cerebro.resampledata(data, timeframe=bt.TimeFrame.Minutes, compression=60)
    cerebro.addstrategy(Recorder)
    (strategy,) = cerebro.run()
    close, buy = (strategy.data.getlinealiases().index(name) for name in ("close", "buy_signal"))
    fine = [row[0] for row in strategy.rows]
    assert [bar[close] for bar in fine] == [row[4] for row in rows]
    assert [bar[buy] for bar in fine] == [float(n == 7) for n in range(24)]


@pytest.mark.parametrize("preload", [True, False])
def test_two_timeframes_do_not_look_ahead(preload: bool) -> None:
    fast = made_rows(48)
    slow = made_rows(4, step_ms=HOUR_MS, price=1_000.0)
    strategy = recorded(
        smm_feed(candles_of(fast, symbol="FAST"), flags(48)),
        smm_feed(candles_of(slow, "1h", symbol="SLOW"), flags(4, buy_signal=[0])),
        preload=preload,
    )
    stamp, close, buy = (strategy.data1.getlinealiases().index(n) for n in ("datetime", "close", "buy_signal"))
    seen_first: dict[float, float] = {}
    for now, hourly in strategy.rows:
        if hourly is None:
            assert now[stamp] < to_backtrader(NEW_YEAR_MS + HOUR_MS)
            continue
        assert hourly[stamp] <= now[stamp]
        seen_first.setdefault(hourly[close], now[stamp])
        assert hourly[buy] == (hourly[close] == slow[0][4])
    # Each hour is seen first at the five-minute candle that closes with it, and at no other.
    assert seen_first == {row[4]: to_backtrader(row[0] + HOUR_MS) for row in slow}
    assert len(strategy.rows) == 48


def test_feeds_that_begin_at_different_times_are_stepped_together() -> None:
    early = made_rows(6)
    late = made_rows(4, start_ms=NEW_YEAR_MS + 2 * FIVE_MINUTES_MS)
    strategy = recorded(
        smm_feed(candles_of(early, symbol="AAAUSDT"), flags(6)), smm_feed(candles_of(late, symbol="BBBUSDT"), flags(4))
    )
    assert [second is not None for _, second in strategy.rows] == [False, False, True, True, True, True]
    stamp = strategy.data.getlinealiases().index("datetime")
    assert all(second is None or first[stamp] == second[stamp] for first, second in strategy.rows)


@pytest.mark.parametrize("options", [{"runonce": False}, {"exactbars": -1}, {"exactbars": -2}])
def test_a_preloaded_feed_ends_cleanly_when_cerebro_asks_it_for_one_bar_more(options: dict[str, Any]) -> None:
    rows = made_rows(5)
    strategy = recorded(smm_feed(candles_of(rows), flags(5)), **options)
    assert single(strategy, "close") == [row[4] for row in rows]


def test_a_resampled_feed_of_signals_is_refused_by_the_strategy_that_would_trade_it() -> None:
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.resampledata(smm_feed(candles_of(made_rows(24)), flags(24)), timeframe=bt.TimeFrame.Minutes, compression=60)
    cerebro.addstrategy(SmmStrategy)
    with pytest.raises(ValueError, match="is resampled; give compute_smm"):
        cerebro.run()
