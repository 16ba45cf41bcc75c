"""The embedded exchange in a thread of its own, for synchronous code and tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from smm_bt.emulator.config import EmulatorConfig
from smm_bt.emulator.faults import FaultRule
from smm_bt.emulator.server import EmulatorServer

Result = TypeVar("Result")


class EmulatorThread:
    """Serves one embedded exchange from a background thread; a context manager.

    Every method may be called from any other thread: it is carried out on the server's own loop,
    between two requests, so what it sees is never half done.
    """

    def __init__(self, config: EmulatorConfig) -> None:
        self._server = EmulatorServer(config)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="embedded-exchange", daemon=True)

    def __enter__(self) -> EmulatorThread:
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._server.__aenter__(), self._loop).result(30)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            asyncio.run_coroutine_threadsafe(self._server.__aexit__(None, None, None), self._loop).result(30)
        finally:
            self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def _call(self, function: Callable[[], Result]) -> Result:
        async def carry_out() -> Result:
            return function()

        return asyncio.run_coroutine_threadsafe(carry_out(), self._loop).result(60)

    @property
    def url(self) -> str:
        """Where it listens, such as ``http://127.0.0.1:40123``."""
        return self._server.url

    @property
    def config(self) -> EmulatorConfig:
        """The configuration in force, keys included."""
        return self._server.config

    @property
    def api_key(self) -> str:
        """The key it accepts."""
        return self._server.config.api_key

    @property
    def api_secret(self) -> str:
        """The secret of that key."""
        return self._server.config.api_secret

    def step(self, candles: int = 1) -> bool:
        """Advance the stepped clock by whole candles; False when the stored candles ran out."""
        return self._call(lambda: self._server.step(candles))

    def status(self) -> dict[str, Any]:
        """Return clock, symbols and whether the candles are used up."""
        return self._call(self._server.status)

    def ledger(self) -> dict[str, Any]:
        """Return orders, trades, income, positions and balances as the venue knows them."""
        return self._call(self._server.ledger)

    def requests(self, *, clear: bool = False) -> list[dict[str, Any]]:
        """Return the request log, oldest first; ``clear`` empties it."""

        def read() -> list[dict[str, Any]]:
            rows = list(self._server.request_log)
            if clear:
                self._server.request_log.clear()
            return rows

        return self._call(read)

    def add_fault(self, rule: FaultRule) -> None:
        """Put a fault rule in force."""
        self._call(lambda: self._server.faults.add(rule))

    def faults(self) -> list[FaultRule]:
        """Return the fault rules still in force; one that has struck as often as it may is not among them."""
        return self._call(lambda: list(self._server.faults.rules))

    def clear_faults(self) -> None:
        """Drop every fault rule."""
        self._call(self._server.faults.clear)

    def disconnect_websockets(self) -> None:
        """End every websocket."""
        self._call(self._server.disconnect_websockets)

    def set_clock_offset(self, offset_ms: int) -> None:
        """Set the venue's clock ahead of its market."""
        self._call(lambda: self._server.set_clock_offset(offset_ms))
