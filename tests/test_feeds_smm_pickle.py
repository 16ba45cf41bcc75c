"""SmmFeed goes from one process to another: before a run, preloaded, in the middle of one, with lines of its own."""

from __future__ import annotations

import pickle
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import backtrader as bt
import numpy as np
import pytest
from made_files import ROOT, child_environment

from feeds.candles import Candles
from feeds.lines import FLAG_LINES
from feeds.made import made_candles
from feeds.smm import SmmFeed, smm_feed


def candles(symbol: str = "BTCUSDT") -> Candles:
    return made_candles(symbol, "5m", count=60)


def columns(**extras: np.ndarray) -> dict[str, np.ndarray]:
    flags = {name: np.arange(60) % (place + 2) == 0 for place, name in enumerate(FLAG_LINES)}
    return flags | extras


class Named(SmmFeed):
    """A feed of the user's own."""

    lines: Any = ("mine",)
    params: Any = (("note", ""),)


def plain() -> SmmFeed:
    return smm_feed(candles(), columns())


def with_extras() -> SmmFeed:
    return smm_feed(candles(), columns(chop=np.arange(60.0), ha_open=np.full(60, np.nan)))


def named() -> SmmFeed:
    feed: SmmFeed = Named(candles=candles(), columns=columns(mine=np.ones(60)), name="BTCUSDT", note="kept")
    return feed


class Recorder(bt.Strategy):
    """Writes down every line at every step."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, ...]] = []

    def next(self) -> None:
        self.rows.append(tuple(line[0] for line in self.data.lines))


def recorded(feed: Any, **options: Any) -> np.ndarray:
    cerebro = bt.Cerebro(stdstats=False, **options)
    cerebro.adddata(feed)
    cerebro.addstrategy(Recorder)
    (strategy,) = cerebro.run()
    return np.array(strategy.rows)


def preloaded() -> Any:
    """A feed as an optimisation sends it, moved to its last bar."""
    feed: Any = with_extras()
    bt.Cerebro(stdstats=False).adddata(feed)
    feed._start()
    feed.preload()
    feed.advance(60)
    return feed


def sent(feed: Any) -> Any:
    return pickle.loads(pickle.dumps(feed))


@pytest.mark.parametrize("make", [plain, with_extras, named])
@pytest.mark.parametrize("options", [{}, {"preload": False}])
def test_a_feed_that_was_sent_delivers_the_same_bars(make: Any, options: dict[str, Any]) -> None:
    feed = make()
    expected = recorded(make(), **options)
    assert len(expected) == 60
    np.testing.assert_array_equal(recorded(sent(feed), **options), expected)
    np.testing.assert_array_equal(recorded(sent(sent(feed)), **options), expected)
    np.testing.assert_array_equal(recorded(feed, **options), expected)


def test_feeds_with_different_lines_are_sent_side_by_side() -> None:
    first, second = smm_feed(candles(), columns(chop=np.ones(60))), smm_feed(candles(), columns(mfi=np.zeros(60)))
    one, two = sent([first, second])
    assert (one.getlinealiases(), two.getlinealiases()) == (first.getlinealiases(), second.getlinealiases())
    assert [recorded(one)[0, -1], recorded(two)[0, -1]] == [1.0, 0.0]


def test_what_was_set_on_a_feed_is_sent_along() -> None:
    feed = named()
    feed.p.fromdate, feed._name, feed.plotinfo.plot = datetime(2024, 1, 1, 2, 0), "renamed", False
    there = sent(feed)
    assert (there.p.fromdate, there.p.note, there._name, there.plotinfo.plot) == (feed.p.fromdate, "kept", "renamed", 0)
    assert type(there) is Named
    assert len(recorded(there)) < 60


def test_a_preloaded_feed_is_sent_with_its_bars_and_where_it_stands() -> None:
    feed = preloaded()
    there = sent(feed)
    assert len(there) == len(feed) == 60
    assert there.close[0] == feed.close[0] == there.candles.close[-1]
    assert there.open_ms() == feed.open_ms()
    assert there.lines.close is there.close is there.lines[there.getlinealiases().index("close")]
    there.home()
    there.advance()
    assert (len(there), there.chop[0]) == (1, 0.0)


def test_the_candles_are_sent_once_however_many_share_them() -> None:
    feed = preloaded()
    candles_there, there = sent((feed.candles, feed))
    assert there.candles is candles_there
    assert there.lines.close.array.obj is there.candles.close
    assert there.lines.chop.array.obj is there.columns["chop"]


READER = """
import pickle, sys
import backtrader as bt
feed = pickle.load(open(sys.argv[1], "rb"))
class Last(bt.Strategy):
    def stop(self):
        print(len(self), self.data.close[0], self.data.chop[0])
cerebro = bt.Cerebro(stdstats=False)
cerebro.adddata(feed)
cerebro.addstrategy(Last)
cerebro.run()
"""


def test_a_process_that_knows_nothing_of_the_lines_can_read_the_feed(tmp_path: Path) -> None:
    feed = with_extras()
    (tmp_path / "feed").write_bytes(pickle.dumps(feed))
    command = [sys.executable, "-c", READER, str(tmp_path / "feed")]
    done = subprocess.run(command, cwd=ROOT, env=child_environment(), capture_output=True, text=True)
    assert done.stdout.split() == ["60", str(feed.candles.close[-1]), "59.0"], done.stderr
