"""Closed candles as the venue tells them by itself: public websocket streams, listened to in a thread of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import aiohttp
from aiohttp.tracing import Trace
from yarl import URL

from feeds.timeframes import timeframe_ms
from smm_bt.execution.endpoints import ForbiddenRequest, KlineStreams
from smm_bt.execution.venue_rows import Kline

#: The venue pings every three minutes: a connection that is silent for longer is dead.
_DEAD_S = 200.0
#: Candles that form are told several times a second; after this silence nobody waits for the stream.
_SILENT_S = 10.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 60.0
_HANDSHAKE = aiohttp.ClientTimeout(total=10.0)
_LARGEST_MESSAGE = 65_536


class StreamedKline(NamedTuple):
    """A candle the venue called closed, and the number of the connection that brought it."""

    kline: Kline
    connection: int


class StreamNews(NamedTuple):
    """What happened to a connection, as an event's kind and words."""

    kind: str
    message: str


def closed_kline(text: str, timeframe: str) -> tuple[str, Kline] | None:
    """Return symbol and candle of a combined stream's message if it tells of a closed candle of ``timeframe``."""
    if "true" not in text:  # k.x is false in nearly all of them
        return None
    try:
        told = json.loads(text)["data"]
        row = told["k"]
        open_ms, symbol = int(row["t"]), str(row["s"])
        kline = Kline(open_ms, *(float(row[name]) for name in "ohlcv"))
        last_ms = open_ms + timeframe_ms(timeframe) - 1
        named = told["e"] == "kline" and row["i"] == timeframe and int(row["T"]) == last_ms
        closed = row["x"] is True and int(told["E"]) >= last_ms
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return None
    return (symbol, kline) if named and closed and all(map(math.isfinite, kline)) else None


class _GuardedConnector(aiohttp.TCPConnector):
    """Connects only where the rules allow it, a redirect's target included, and never through a proxy."""

    def __init__(self, rules: KlineStreams) -> None:
        super().__init__(ttl_dns_cache=60)
        self._rules = rules

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        """Connect for ``req`` if the rules let it out."""
        self._rules.check(req.method, str(req.url), req.headers, None)
        if req.proxy is not None:
            raise ForbiddenRequest(f"A connection through the proxy {req.proxy.host} was stopped; none is ever used.")
        return await super().connect(req, traces, timeout)


class KlineStream:
    """Keeps for each symbol the newest candle the venue called closed; never sends a message.

    Connections that break are made again after growing pauses; what they missed is for the others to read.

    Args:
        rules: where to listen.
        symbols: the venue's names.
        timeframe: for example ``5m``.
    """

    def __init__(self, rules: KlineStreams, symbols: Sequence[str], timeframe: str) -> None:
        self._rules, self._timeframe = rules, timeframe
        self._lines = rules.urls(symbols, timeframe)
        self._line_of = {symbol: number for number, (_, *names) in enumerate(self._lines) for symbol in names}
        self._heard_s = [-math.inf] * len(self._lines)
        self._connection_of = [0] * len(self._lines)
        self._newest: dict[str, StreamedKline] = {}
        self._changed = threading.Condition()
        self._news: deque[StreamNews] = deque()
        self._connections = 0
        self._complained = False
        self._stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    # ---- asked by the run

    def start(self) -> None:
        """Begin to listen."""
        self._loop = loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, args=(loop,), name="kline-stream", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening; harmless when repeated."""
        if self._thread is None or self._loop is None:
            return
        with contextlib.suppress(RuntimeError):  # it has just ended by itself
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def newest(self, symbol: str) -> StreamedKline | None:
        """Return the newest closed candle told of ``symbol``."""
        return self._newest.get(symbol)

    def hearing(self, symbol: str) -> int:
        """Return the number of the symbol's connection if it stands and has spoken lately, else 0."""
        number = self._line_of.get(symbol)
        heard = number is not None and time.monotonic() - self._heard_s[number] < _SILENT_S
        return self._connection_of[number] if number is not None and heard else 0

    def wait(self, ready: Callable[[], bool], seconds: float) -> bool:
        """Wait until a candle that came makes ``ready`` true, at most ``seconds``; return whether it is."""
        with self._changed:
            return self._changed.wait_for(ready, seconds)

    def news(self) -> list[StreamNews]:
        """Return what has happened to the connections since the last call."""
        found = []
        while self._news:
            found.append(self._news.popleft())
        return found

    # ---- its thread

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.run_until_complete(self._listen())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()

    async def _listen(self) -> None:
        async with aiohttp.ClientSession(
            connector=_GuardedConnector(self._rules),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=_HANDSHAKE,
            trust_env=False,
        ) as session:
            lines = [asyncio.create_task(self._keep(session, number)) for number in range(len(self._lines))]
            await self._stop.wait()
            for line in lines:
                line.cancel()
            await asyncio.gather(*lines, return_exceptions=True)

    async def _keep(self, session: aiohttp.ClientSession, number: int) -> None:
        """Keep one connection alive."""
        pause_s = _FIRST_PAUSE_S
        while True:
            begun = time.monotonic()
            try:
                await self._hear(session, number)
                self._broken(number, "the venue ended the connection")
            except ForbiddenRequest as refused:
                self._broken(number, str(refused))
                return
            except Exception as problem:  # whatever it is: REST goes on, and the connection is tried again
                self._broken(number, str(problem) or type(problem).__name__)
            if time.monotonic() - begun > _LONGEST_PAUSE_S:
                pause_s = _FIRST_PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)

    async def _hear(self, session: aiohttp.ClientSession, number: int) -> None:
        url = URL(self._lines[number][0], encoded=True)
        limits = aiohttp.ClientWSTimeout(ws_receive=_DEAD_S, ws_close=2.0)
        async with session.ws_connect(url, timeout=limits, max_msg_size=_LARGEST_MESSAGE) as socket:
            self._connections += 1
            self._connection_of[number] = connection = self._connections
            self._heard_s[number] = time.monotonic()
            self._complained = False
            self._say("stream_connected", f"closed candles are told by {self._rules.address}")
            async for message in socket:
                self._heard_s[number] = time.monotonic()
                if message.type is aiohttp.WSMsgType.TEXT:
                    self._take(message.data, connection)

    def _take(self, text: Any, connection: int) -> None:
        found = closed_kline(text, self._timeframe)
        if found is None or found[0] not in self._line_of:
            return
        symbol, kline = found
        with self._changed:
            known = self._newest.get(symbol)
            if known is None or known.kline.open_ms < kline.open_ms:
                self._newest[symbol] = StreamedKline(kline, connection)
                self._changed.notify_all()

    def _broken(self, number: int, why: str) -> None:
        """Say so when a connection is lost, and once when none can be made."""
        stood = self._heard_s[number] > -math.inf
        self._heard_s[number] = -math.inf
        if stood:
            self._say("stream_lost", f"{why}; candles are read over REST meanwhile")
        elif not self._complained:
            self._complained = True
            words = f"{self._rules.address} cannot be listened to ({why})"
            self._say("stream_unavailable", f"{words}; candles are read over REST alone until it can")

    def _say(self, kind: str, message: str) -> None:
        self._news.append(StreamNews(kind, message))
