"""LiveSmmFeed: closed candles and their SMM lines as they come, history first (DELAYED), then LIVE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

import backtrader as bt

from feeds.bt_time import to_backtrader
from feeds.lines import FLAG_LINES
from feeds.live_window import CandleRow
from feeds.timeframes import timeframe_ms


class Standing(StrEnum):
    """What may be done on a candle."""

    WARMUP = "warm-up"  # judged before, or before this run began: nothing is done
    PASSED = "passed"  # missed, and younger candles are there: the account follows, exits are remembered
    STALE = "stale"  # the newest one, but too old to open anything on: exits only
    FRESH = "fresh"  # just closed


class LiveRow(NamedTuple):
    """One closed candle with the strategy's columns; ``inside`` is what a simulated venue wants to know about it."""

    candle: CandleRow
    columns: Mapping[str, Any]
    standing: Standing
    inside: Any = None


class Release(Protocol):
    """Gives candles out to several feeds, all of one candle time together."""

    #: Whether there will be no more candles.
    ended: bool

    def turn(self) -> bool | None:
        """Prepare one turn of Cerebro: True when candles are released, None to go round again, False at the end."""
        ...

    def take(self, symbol: str) -> LiveRow | None:
        """Return the symbol's released candle, once."""
        ...


class LiveSmmFeed(bt.feed.DataBase):
    """Closed candles of one symbol, stamped with their close time (naive UTC), delivered when they are released.

    The feed that was added first (``leads``) asks the release for the next turn; the others follow it, so that
    candles of one time reach the strategy in one step. Filters (resampling, replaying) are not applied. Build one
    with :func:`live_feed`.
    """

    lines: Any = FLAG_LINES
    params: Any = (("release", None), ("leads", False), ("length_ms", 60_000))

    def __init__(self) -> None:
        super().__init__()
        self.row: LiveRow | None = None
        self._carried = frozenset(self.lines.getlinealiases())

    @property
    def standing(self) -> Standing:
        """What may be done on the current candle."""
        return Standing.WARMUP if self.row is None else self.row.standing

    def open_ms(self) -> int:
        """Return the open time of the current bar's candle, UTC milliseconds."""
        return 0 if self.row is None else self.row.candle[0]

    def islive(self) -> bool:
        """Live feeds are neither preloaded nor run once."""
        return True

    def haslivedata(self) -> bool:
        """Candles wait in the release, never here."""
        return False

    def start(self) -> None:
        """Say that history comes first."""
        super().start()
        self.put_notification(self.DELAYED)

    def connection_lost(self) -> None:
        """Say that no candles can be read at present."""
        self.put_notification(self.CONNBROKEN)

    def next(self, datamaster: Any = None, ticks: bool = True) -> bool | None:
        """Deliver a bar; a second question within one turn of Cerebro gets nothing new."""
        if datamaster is not None:
            return False
        result: bool | None = super().next(datamaster, ticks)
        return result

    def load(self) -> bool | None:
        """Take the released candle; the lines move only when there is one, so that nothing is lost while waiting."""
        if self.p.leads:
            state: bool | None = self.p.release.turn()
            if state is not True:
                return state
        row = self.p.release.take(self._name)
        if row is None:
            return False if self.p.release.ended else None
        self.forward()
        self._deliver(row)
        return True

    def _deliver(self, row: LiveRow) -> None:
        self.row = row
        current = self.LIVE if row.standing is Standing.FRESH else self.DELAYED
        if current != self._laststatus:
            self.put_notification(current)
        lines: Any = self.lines
        open_ms, lines.open[0], lines.high[0], lines.low[0], lines.close[0], lines.volume[0] = row.candle
        for name, value in row.columns.items():
            if name in self._carried:
                getattr(lines, name)[0] = float(value)
        lines.openinterest[0] = 0.0
        lines.datetime[0] = to_backtrader(open_ms + self.p.length_ms)


_UNITS = {"m": (bt.TimeFrame.Minutes, 1), "h": (bt.TimeFrame.Minutes, 60), "d": (bt.TimeFrame.Days, 1)}
_UNITS |= {"w": (bt.TimeFrame.Weeks, 1)}


def live_feed(symbol: str, timeframe: str, release: Release, extras: Sequence[str], *, leads: bool) -> LiveSmmFeed:
    """Return a feed of ``symbol`` with ``extras`` as further lines.

    Args:
        symbol: the venue's name.
        timeframe: one of :data:`feeds.timeframes.TIMEFRAMES_MS`.
        release: where its candles come from.
        extras: names of the strategy's further columns, as far as they are known before the first candle.
        leads: whether this is the feed added first.
    """
    own = {"lines": tuple(extras), "__doc__": LiveSmmFeed.__doc__}
    feed_class = type("LiveSmmFeed", (LiveSmmFeed,), own) if extras else LiveSmmFeed
    unit, factor = _UNITS[timeframe[-1]]
    feed: LiveSmmFeed = feed_class(
        name=symbol,
        release=release,
        leads=leads,
        length_ms=timeframe_ms(timeframe),
        timeframe=unit,
        compression=factor * int(timeframe[:-1]),
    )
    return feed
