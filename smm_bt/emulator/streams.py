"""Websocket side of the embedded exchange: connections, subscriptions, listen keys and what is sent to whom."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from smm_bt.emulator import stream_bodies
from smm_bt.emulator.candles import INTERVALS, candle_open_ms
from smm_bt.emulator.clock import host_seconds
from smm_bt.emulator.events import AccountEvent, AlgoEvent, Event, LeverageEvent, MarketEvent, OrderEvent
from smm_bt.emulator.exchange import Exchange
from smm_bt.emulator.faults import FaultPlan
from smm_bt.emulator.refusals import VenueError

_ROUTES = ("", "/public", "/market", "/private")
#: A candle that still forms is told this often, as on the venue, however often the market moves.
_FORMING_S = 0.25


@dataclass(eq=False)
class Connection:
    """One open websocket: what it listens to and what waits to be sent; None ends it."""

    socket: web.WebSocketResponse
    combined: bool
    names: set[str] = field(default_factory=set)
    queue: asyncio.Queue[str | None] = field(default_factory=asyncio.Queue)


class StreamHub:
    """Turns exchange events into websocket messages for those who listen."""

    def __init__(self, exchange: Exchange, faults: FaultPlan) -> None:
        self._exchange = exchange
        self._faults = faults
        self._connections: set[Connection] = set()
        self._listen_key = ""
        self._told_s: dict[str, float] = {}
        exchange.listeners.append(self._on_event)

    def open_key(self) -> dict[str, str]:
        """Make the listen key, or return the one in use."""
        self._listen_key = self._listen_key or secrets.token_hex(32)
        return {"listenKey": self._listen_key}

    def keep_key(self) -> dict[str, str]:
        """Prolong the listen key; without one the venue's -1125."""
        if not self._listen_key:
            raise VenueError(-1125)
        return {"listenKey": self._listen_key}

    def close_key(self) -> dict[str, str]:
        """Forget the listen key."""
        self._listen_key = ""
        return {}

    @staticmethod
    def serves(path: str) -> bool:
        """Say whether a path belongs to a websocket."""
        return any(path.startswith((f"{route}/ws", f"{route}/stream")) for route in _ROUTES)

    async def handle(self, request: web.BaseRequest) -> web.WebSocketResponse:
        """Serve one websocket until either side ends it."""
        socket = web.WebSocketResponse(autoping=True)
        await socket.prepare(request)
        path, query = request.rel_url.path, request.rel_url.query
        connection = Connection(socket, combined="/stream" in path)
        named = [*query.get("streams", "").split("/"), query.get("listenKey", "")]
        if "/ws/" in path:
            named += path.partition("/ws/")[2].split("/")
        # a plain number at the end of the path only keeps a client's connections apart
        connection.names.update(name for name in named if name and not name.isdigit())
        self._connections.add(connection)
        writer = asyncio.create_task(self._write(connection))
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    connection.queue.put_nowait(self._answer(connection, message.data))
        finally:
            self._connections.discard(connection)
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writer
        return socket

    async def _write(self, connection: Connection) -> None:
        while (text := await connection.queue.get()) is not None:
            try:
                await connection.socket.send_str(text)
            except ConnectionError:
                return
        await connection.socket.close()

    def _answer(self, connection: Connection, text: str) -> str:
        """Carry out SUBSCRIBE, UNSUBSCRIBE or LIST_SUBSCRIPTIONS."""
        try:
            request = json.loads(text)
            method, names, number = request["method"], request.get("params", []), request.get("id")
        except (ValueError, KeyError, TypeError, AttributeError):
            return json.dumps({"error": {"code": 2, "msg": "Invalid request"}})
        if method == "SUBSCRIBE":
            connection.names.update(names)
        elif method == "UNSUBSCRIBE":
            connection.names.difference_update(names)
        result = sorted(connection.names) if method == "LIST_SUBSCRIPTIONS" else None
        return json.dumps({"result": result, "id": number})

    def disconnect_all(self) -> None:
        """End every websocket."""
        for connection in list(self._connections):
            connection.queue.put_nowait(None)

    async def close(self) -> None:
        """End every websocket and wait until they are gone."""
        self.disconnect_all()
        for _ in range(100):
            if not self._connections:
                return
            await asyncio.sleep(0.01)

    def _on_event(self, event: Event) -> None:
        if not self._connections:
            return
        if isinstance(event, MarketEvent):
            for name in self._names():
                for message in self._market_messages(name, event):
                    self._send(name, message, _market_path(name))
        elif self._listen_key:
            self._send(self._listen_key, self._user_message(event), "/private/user")

    def _names(self) -> set[str]:
        return {name for connection in self._connections for name in connection.names}

    def _user_message(self, event: OrderEvent | AccountEvent | AlgoEvent | LeverageEvent) -> dict[str, Any]:
        if isinstance(event, OrderEvent):
            return stream_bodies.order_message(event)
        if isinstance(event, AccountEvent):
            return stream_bodies.account_message(self._exchange, event)
        if isinstance(event, AlgoEvent):
            return stream_bodies.algo_message(event)
        return stream_bodies.leverage_message(event)

    def _market_messages(self, name: str, event: MarketEvent) -> Iterator[Any]:
        exchange = self._exchange
        head, _, topic = name.partition("@")
        symbols = list(exchange.market.symbols)
        if head == "!markPrice":
            yield [stream_bodies.mark_message(exchange, symbol) for symbol in symbols]
        elif head == "!bookTicker":
            yield from (stream_bodies.book_message(exchange, symbol) for symbol in symbols)
        elif (symbol := head.upper()) in exchange.market.symbols:
            if topic.startswith("kline_") and topic[6:] in INTERVALS:
                if not self._is_too_soon(name, INTERVALS[topic[6:]], event):
                    yield from stream_bodies.kline_messages(exchange, symbol, topic[6:], event.before_ms)
            elif topic == "bookTicker":
                yield stream_bodies.book_message(exchange, symbol)
            elif topic.partition("@")[0] == "markPrice":
                yield stream_bodies.mark_message(exchange, symbol)

    def _is_too_soon(self, name: str, interval_ms: int, event: MarketEvent) -> bool:
        """Whether nothing has closed and the forming candle was told a moment ago."""
        now_s = host_seconds()
        forming = candle_open_ms(event.before_ms, interval_ms) == candle_open_ms(event.time_ms, interval_ms)
        if forming and not self._exchange.config.stepped and now_s - self._told_s.get(name, 0.0) < _FORMING_S:
            return True
        self._told_s[name] = now_s
        return False

    def _send(self, name: str, message: Any, path: str) -> None:
        copies = 1
        for rule in self._faults.take("WS", path, {}):
            if rule.kind == "drop":
                self.disconnect_all()
                return
            copies = {"repeat": 2, "lose": 0}.get(rule.kind, copies)
        plain_text = json.dumps(message)
        combined_text = json.dumps({"stream": name, "data": message})
        for connection in self._listening(name):
            for _ in range(copies):
                connection.queue.put_nowait(combined_text if connection.combined else plain_text)

    def _listening(self, name: str) -> Iterable[Connection]:
        return [connection for connection in self._connections if name in connection.names]


def _market_path(name: str) -> str:
    topic = name.partition("@")[2] or name.removeprefix("!")
    if topic.startswith("kline"):
        return "/market/kline"
    return "/public/bookTicker" if "bookTicker" in name else "/market/markPrice"
