"""The HTTP and websocket server of the embedded exchange, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from smm_bt.emulator import control, routes_account, routes_algo, routes_market, routes_trade
from smm_bt.emulator.clock import host_ms
from smm_bt.emulator.config import EmulatorConfig
from smm_bt.emulator.exchange import Exchange
from smm_bt.emulator.faults import FaultPlan, FaultRule, spoil_candles
from smm_bt.emulator.gate import Limited, RateLimits, SignatureCheck, TimestampCheck
from smm_bt.emulator.matching import PartialFill
from smm_bt.emulator.parameters import Parameters
from smm_bt.emulator.refusals import VenueError
from smm_bt.emulator.routes import KEY, OPEN, SIGNED, Endpoint, Routes
from smm_bt.emulator.streams import StreamHub

_TICK_SECONDS = 0.2
_LOG_LENGTH = 200_000
_PAGE = "<html><head><title>Error</title></head><body><h1>{0}</h1><p>Please try again later.</p></body></html>"


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it came in; ``values`` holds query and body parameters together."""

    method: str
    path: str
    raw_query: str
    raw_body: str
    values: dict[str, str]
    headers: Mapping[str, str]


class EmulatorServer:
    """One embedded exchange being served; an async context manager.

    ``url`` is known once it is entered. Everything runs on the event loop that entered it: use
    :class:`smm_bt.emulator.thread.EmulatorThread` from synchronous code.
    """

    def __init__(self, config: EmulatorConfig) -> None:
        self.exchange = Exchange(config)
        self.config = self.exchange.config
        self.faults = FaultPlan(config.faults, config.seed)
        self.request_log: deque[dict[str, Any]] = deque(maxlen=_LOG_LENGTH)
        self.url = ""
        self._signatures = SignatureCheck(self.config.api_key, self.config.api_secret)
        self._timestamps = TimestampCheck()
        self._timestamps.host_line = not config.clock_offset_ms
        self._limits = RateLimits(config)
        self._hub = StreamHub(self.exchange, self.faults)
        self._routes: Routes = self._all_routes()
        self._runner: web.ServerRunner | None = None
        self._ticker: asyncio.Task[None] | None = None

    def _all_routes(self) -> Routes:
        listen_key: Routes = {
            ("POST", "/fapi/v1/listenKey"): Endpoint(lambda _e, _p: self._hub.open_key(), 1, KEY),
            ("PUT", "/fapi/v1/listenKey"): Endpoint(lambda _e, _p: self._hub.keep_key(), 1, KEY),
            ("DELETE", "/fapi/v1/listenKey"): Endpoint(lambda _e, _p: self._hub.close_key(), 1, KEY),
        }
        tables = (routes_market.ROUTES, routes_account.ROUTES, routes_trade.ROUTES, routes_algo.ROUTES)
        merged: Routes = dict(listen_key)
        for table in tables:
            merged.update(table)
        return merged

    async def __aenter__(self) -> EmulatorServer:
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.config.host, self.config.port).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        if not self.config.stepped:
            self._ticker = asyncio.create_task(self._tick())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticker
        await self._hub.close()
        if self._runner is not None:
            await self._runner.cleanup()
        self.exchange.close()

    async def _tick(self) -> None:
        """Keep a running market moving for websocket listeners between requests."""
        while True:
            await asyncio.sleep(min(_TICK_SECONDS, self.exchange.seconds_to_next_candle()))
            self.exchange.catch_up()
            self.exchange.save()

    # -- what tests and the control endpoint ask for ------------------------------------------------

    def step(self, candles: int = 1) -> bool:
        """Advance a stepped clock; False when the stored candles ran out."""
        if not self.config.stepped:
            raise control.ControlError("the clock runs by itself; only a stepped clock can be stepped")
        return self.exchange.step(candles)

    def status(self) -> dict[str, Any]:
        """Return clock, symbols and whether the candles are used up."""
        exchange = self.exchange
        return {
            "name": "embedded exchange",
            "url": self.url,
            "now_ms": exchange.now_ms,
            "server_ms": exchange.server_ms,
            "finished": exchange.finished,
            "symbols": list(exchange.market.symbols),
            "timeframe_ms": exchange.market.timeframe_ms,
            "stepped": self.config.stepped,
        }

    def ledger(self) -> dict[str, Any]:
        """Return everything the venue knows about the account."""
        return control.ledger(self)

    def disconnect_websockets(self) -> None:
        """End every websocket."""
        self._hub.disconnect_all()

    def set_clock_offset(self, offset_ms: int) -> None:
        """Set the venue's clock ahead of its market; clients have to read it again."""
        self.exchange.clock_offset_ms = offset_ms
        self._timestamps.forget()
        self._timestamps.host_line = not offset_ms

    # -- one request --------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.rel_url.path
        if self._hub.serves(path):
            for rule in self.faults.take(request.method, path, dict(request.rel_url.query)):
                if (refusal := await self._strike(rule, request)) is not None:
                    return refusal
            return await self._hub.handle(request)
        try:
            call = await _read(request)
        except ConnectionError:
            return web.Response(status=400)  # nobody is there to read it
        if self.config.control and path.startswith(control.PREFIX):
            return self._control(call)
        rules = self.faults.take(call.method, path, call.values) if self.faults.rules else []
        for rule in rules:
            if rule.is_before and (early := await self._strike(rule, request)) is not None:
                self._log(call, early.status)
                return early
        self._arm(rules)
        response = self._respond(call, rules)
        self._log(call, response.status)
        for rule in rules:
            if not rule.is_before and (late := await self._strike(rule, request)) is not None:
                return late
        return response

    def _control(self, call: Call) -> web.Response:
        action = call.path.removeprefix(control.PREFIX)
        try:
            return web.json_response(control.carry_out(self, call.method, action, call.raw_body))
        except (ValueError, KeyError, TypeError) as error:
            return web.json_response({"error": str(error)}, status=400)

    def _respond(self, call: Call, rules: list[FaultRule]) -> web.Response:
        """Carry a request out; refusals become the venue's answers."""
        try:
            answer = self._carry_out(call)
        except Limited as limited:
            refusal, after = limited.refusal, {"Retry-After": str(limited.retry_after)}
            return self._json(refusal.body, refusal.status, after)
        except VenueError as refusal:
            return self._json(refusal.body, refusal.status)
        if call.path == "/fapi/v1/time":
            self._timestamps.served(self.exchange.server_ms)
        if rules and call.path.lower().endswith("klines"):
            closed = sum(row[6] < self.exchange.now_ms for row in answer)
            for rule in rules:
                answer = spoil_candles(rule, answer, closed)
        return self._json(answer, 200, malformed=any(rule.kind == "malformed" for rule in rules))

    def _carry_out(self, call: Call) -> Any:
        """Let the request through the gate, call its endpoint and save what changed."""
        endpoint = self._routes.get((call.method, call.path))
        if endpoint is None:
            raise VenueError(-5000, call.path, call.method)
        parameters = Parameters(call.values)
        self._limits.count(endpoint.cost(parameters))
        self.exchange.catch_up()
        self._admit(endpoint, call, parameters)
        try:
            return endpoint.handler(self.exchange, parameters)
        finally:
            self.exchange.save()

    def _admit(self, endpoint: Endpoint, call: Call, parameters: Parameters) -> None:
        """Check key, signature and timestamp as far as the endpoint asks for them, then count an order."""
        if endpoint.security == OPEN:
            return
        self._signatures.check_key(call.headers)
        if endpoint.security == SIGNED:
            timestamp = parameters.integer("timestamp")
            self._signatures.check_signature(call.raw_query, call.raw_body)
            if self.config.check_timestamps:
                window = parameters.optional_integer("recvWindow")
                self._timestamps.check(timestamp, window, self.exchange.server_ms)
        if endpoint.is_order:
            self._limits.count_order()

    def _json(
        self, answer: Any, status: int, extra: dict[str, str] | None = None, *, malformed: bool = False
    ) -> web.Response:
        text = json.dumps(answer, separators=(",", ":"))
        if malformed:
            text = text[: len(text) // 2]
        headers = self._limits.headers() | (extra or {})
        return web.Response(text=text, status=status, content_type="application/json", headers=headers)

    def _log(self, call: Call, status: int) -> None:
        endpoint = self._routes.get((call.method, call.path))
        self.request_log.append(
            {
                "method": call.method,
                "path": call.path,
                "host_ms": host_ms(),
                "weight": endpoint.cost(Parameters(call.values)) if endpoint else 1,
                "status": status,
                "parameters": {name: value for name, value in call.values.items() if name != "signature"},
            }
        )

    # -- faults -------------------------------------------------------------------------------------

    def _arm(self, rules: list[FaultRule]) -> None:
        """Tell matching and the clock about faults that change how a request is carried out."""
        for rule in rules:
            if rule.kind == "partial_fill":
                self.exchange.matching.partial_fill = PartialFill(Decimal(rule.share), rule.rest)
            elif rule.kind == "clock":
                self.set_clock_offset(rule.offset_ms)

    async def _strike(self, rule: FaultRule, request: web.BaseRequest) -> web.Response | None:
        """Carry out a fault on the wire; None lets the request go on."""
        if rule.kind == "delay":
            await asyncio.sleep(rule.delay_ms / 1000)
        elif rule.kind == "reset":
            _reset(request)
            return web.Response(status=499)
        elif rule.kind == "http":
            status = rule.status or 503
            page = "" if rule.empty else _PAGE.format(status)
            headers = _retry_after(status, rule)
            return web.Response(text=page, status=status, content_type="text/html", headers=headers)
        elif rule.kind == "html":
            return web.Response(text=_PAGE.format(200), content_type="text/html")
        elif rule.kind == "error":
            refusal = VenueError(rule.code, text=rule.text, status=rule.status)
            return self._json(refusal.body, refusal.status, _retry_after(refusal.status, rule))
        return None


def _retry_after(status: int, rule: FaultRule) -> dict[str, str]:
    return {"Retry-After": str(rule.retry_after)} if status in (418, 429) else {}


async def _read(request: web.BaseRequest) -> Call:
    raw_query = request.rel_url.raw_query_string
    raw_body = (await request.read()).decode("utf-8", "replace")
    values = dict(parse_qsl(raw_query)) | dict(parse_qsl(raw_body))
    return Call(request.method, request.rel_url.path, raw_query, raw_body, values, request.headers)


def _reset(request: web.BaseRequest) -> None:
    """Drop the connection with a TCP reset instead of an orderly end."""
    transport = request.transport
    if transport is None:
        return
    handle = transport.get_extra_info("socket")
    if handle is not None:
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
