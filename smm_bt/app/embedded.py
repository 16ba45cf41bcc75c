"""The embedded exchange beside a live run: started as a child, or found running; stepped over loopback."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from smm_bt.app.market_clock import Stepped
from smm_bt.errors import RunFailed
from smm_bt.execution.endpoints import PracticeVenue

_TIMEOUT_S = 60.0
#: From here the child finds the packages, also in a checkout that is not installed.
_ROOT = Path(__file__).resolve().parents[2]


class EmbeddedExchange:
    """Where an embedded exchange listens, the keys it takes, and its control requests."""

    def __init__(self, url: str, api_key: str = "", api_secret: str = "") -> None:
        self.venue = PracticeVenue(url)
        if not self.venue.is_loopback:
            raise RunFailed(f"{url} is not on this machine; an embedded exchange listens on loopback only.")
        self.url, self.api_key, self.api_secret = url, api_key, api_secret
        self._connection: http.client.HTTPConnection | None = None
        self._controlled = True

    def __repr__(self) -> str:
        return f"<EmbeddedExchange {self.url}>"

    def status(self) -> dict[str, Any]:
        """Return clock, symbols, timeframe and whether the candles are used up."""
        return self._control("GET", "status")

    def step(self) -> Stepped:
        """Move a stepped clock to the next candle."""
        status = self._control("POST", "step", {"candles": 1})
        return Stepped(int(status["now_ms"]), bool(status["finished"]))

    def is_stepped(self) -> bool:
        """Return whether its clock stands until it is stepped; one without control requests runs by itself."""
        try:
            return bool(self.status()["stepped"])
        except RunFailed:
            self._controlled = False
            return False

    def has_finished(self) -> bool:
        """Return whether the candles are used up, as far as it tells; one that cannot be reached has not said so."""
        try:
            return self._controlled and bool(self.status()["finished"])
        except RunFailed:  # a cut connection; the next question makes a new one
            return False

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _control(self, method: str, action: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        if self._connection is None:
            parts = urlsplit(self.url)
            self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
        text = json.dumps(body) if body is not None else None
        try:
            self._connection.request(method, f"/emulator/{action}", text)
            answer: dict[str, Any] = json.loads(self._connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError) as problem:
            self.close()
            raise RunFailed(f"The embedded exchange at {self.url} does not answer ({problem}).") from problem
        if "error" in answer or "code" in answer:
            raise RunFailed(
                f"The embedded exchange refused {action}: {answer.get('error') or answer.get('msg')}; it must be "
                "started with its control requests switched on."
            )
        return answer


class EmbeddedChild(EmbeddedExchange):
    """An embedded exchange in a child process that ends with this one, however this one ends.

    Args:
        options: fields of EmulatorConfig as plain JSON values.

    Raises:
        RunFailed: it cannot serve that; the message is its own.
    """

    def __init__(self, options: Mapping[str, object]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "smm_bt.app.embedded_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            cwd=_ROOT,
        )
        try:
            told = self._greet(options)
            super().__init__(told["url"], told["api_key"], told["api_secret"])
        except BaseException:
            self._end()
            raise

    def _greet(self, options: Mapping[str, object]) -> dict[str, str]:
        if self._process.stdin is None or self._process.stdout is None:
            raise RunFailed("The embedded exchange could not be started.")
        try:
            self._process.stdin.write(json.dumps(options) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError as problem:
            raise RunFailed(f"The embedded exchange could not be started ({problem}).") from problem
        told: dict[str, str] = json.loads(line) if line else {"error": "it ended at once"}
        if "error" in told:
            raise RunFailed(f"The embedded exchange cannot serve this: {told['error']}.")
        return told

    def close(self) -> None:
        """End the child."""
        super().close()
        self._end()

    def _end(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
