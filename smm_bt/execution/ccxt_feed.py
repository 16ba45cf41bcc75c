"""CcxtFeed: closed candles of one symbol as a Backtrader feed, history first, then live; polled by the venue's time."""

from __future__ import annotations

from collections import deque
from datetime import UTC
from typing import Any

import backtrader as bt

from feeds.bt_time import to_backtrader
from feeds.timeframes import timeframe_ms
from smm_bt.execution.broker_orders import venue_symbol
from smm_bt.execution.venue_client import MarketDataClient
from smm_bt.execution.venue_errors import VenueSilent
from smm_bt.execution.venue_rows import Kline


class CcxtFeed(bt.feed.DataBase):
    """OHLCV of closed candles, stamped with their close time.

    Params beyond Backtrader's: ``client`` and ``clock`` come from the store; ``ohlcv_limit`` is how many candles of
    history are read when there is no ``fromdate``; ``historical`` ends the feed after the history. ``drop_newest``,
    ``fetch_ohlcv_params``, ``backfill_start`` and ``debug`` are accepted for ccxtbt's users and change nothing: an
    open candle is never delivered.
    """

    params = (
        ("client", None),
        ("clock", None),
        ("historical", False),
        ("ohlcv_limit", 500),
        ("drop_newest", True),
        ("backfill_start", False),
        ("fetch_ohlcv_params", None),
        ("debug", False),
        ("qcheck", 0.2),
    )

    def __init__(self) -> None:
        super().__init__()
        self._client: MarketDataClient = self.p.client
        self._queue: deque[Kline] = deque()
        self._open_times: list[int] = []
        self._next_ms: int | None = None
        self._due_s = 0.0

    def setenvironment(self, env: Any) -> None:
        """Make the store known to Cerebro, which then stops it at the end."""
        super().setenvironment(env)
        env.addstore(self._store)

    def islive(self) -> bool:
        """Live feeds are neither preloaded nor run once."""
        return not self.p.historical

    def start(self) -> None:
        """Read the history."""
        super().start()
        self._frame = _timeframe(self.p.timeframe, self.p.compression)
        self._length_ms = timeframe_ms(self._frame)
        since = None
        if self.p.fromdate is not None:
            since = int(self.p.fromdate.replace(tzinfo=self.p.fromdate.tzinfo or UTC).timestamp() * 1000)
            since -= since % self._length_ms
        limit = self.p.ohlcv_limit if since is None else 1_000_000
        self._take(self._client.fetch_closed_candles(venue_symbol(self.p.dataname), self._frame, since, limit))
        self.put_notification(self.DELAYED)

    def open_ms(self) -> int:
        """Return the open time of the current bar's candle, UTC milliseconds."""
        return self._open_times[len(self) - 1]

    def haslivedata(self) -> bool:
        """Whether a candle waits to be delivered."""
        return bool(self._queue)

    def _take(self, klines: list[Kline]) -> None:
        for kline in klines:
            if self._next_ms is None or kline.open_ms >= self._next_ms:
                self._queue.append(kline)
                self._next_ms = kline.open_ms + self._length_ms

    def _load(self) -> bool | None:
        if not self._queue:
            if self.p.historical:
                self.put_notification(self.DISCONNECTED)
                return False
            self._poll()
        if not self._queue:
            return None
        self._deliver(self._queue.popleft())
        return True

    def _poll(self) -> None:
        """Read new candles, at most once per half second, and say when the feed has caught up."""
        clock = self.p.clock
        wait = self._due_s - clock.seconds()
        if wait > 0:
            clock.sleep(min(wait, self._qcheck))
            return
        self._due_s = clock.seconds() + 0.5
        try:
            self._take(
                self._client.fetch_closed_candles(venue_symbol(self.p.dataname), self._frame, self._next_ms, 1000)
            )
        except VenueSilent:
            self.put_notification(self.CONNBROKEN)
            return
        self.put_notification(self.LIVE)

    def _deliver(self, kline: Kline) -> None:
        self._open_times.append(kline.open_ms)
        lines: Any = self.lines
        lines.open[0], lines.high[0], lines.low[0] = kline.open, kline.high, kline.low
        lines.close[0], lines.volume[0], lines.openinterest[0] = kline.close, kline.volume, 0.0
        lines.datetime[0] = to_backtrader(kline.open_ms + self._length_ms)


def _timeframe(unit: int, compression: int) -> str:
    frames = {bt.TimeFrame.Minutes: "m", bt.TimeFrame.Days: "d", bt.TimeFrame.Weeks: "w"}
    if unit == bt.TimeFrame.Minutes and compression % 60 == 0:
        return f"{compression // 60}h"
    if unit not in frames:
        raise ValueError(f"timeframe {bt.TimeFrame.getname(unit)} is not served; use minutes, days or weeks")
    return f"{compression}{frames[unit]}"
