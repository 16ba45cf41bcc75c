"""The gate of every request: API key, signature, timestamp, request weight, order counts and bans."""

from __future__ import annotations

import hashlib
import hmac
import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from smm_bt.emulator.clock import host_ms, host_seconds
from smm_bt.emulator.config import EmulatorConfig
from smm_bt.emulator.refusals import VenueError

_AHEAD_MS = 1_000
_DEFAULT_WINDOW_MS = 5_000
_LONGEST_WINDOW_MS = 60_000
# a client that goes on this many times after a 429 is banned
_STUBBORN_REQUESTS = 10


class SignatureCheck:
    """Verifies key and HMAC-SHA256 signature over the raw query string plus the raw body."""

    def __init__(self, api_key: str, api_secret: str) -> None:
        self._key = api_key
        self._secret = api_secret.encode()

    def check_key(self, headers: Mapping[str, str]) -> None:
        """Refuse a missing, malformed or unknown API key."""
        key = headers.get("X-MBX-APIKEY", "")
        if not key:
            raise VenueError(-2014)
        if not hmac.compare_digest(key.encode(), self._key.encode()):
            raise VenueError(-2015)

    def check_signature(self, raw_query: str, raw_body: str) -> None:
        """Refuse a request whose trailing signature does not belong to what precedes it."""
        if "signature=" not in raw_query and "signature=" not in raw_body:
            raise VenueError(-1102, "signature")
        # the venue's own client repeats body parameters in a fully signed query
        candidates = [raw_query + raw_body, raw_query]
        if not any(self._is_signed(total) for total in candidates):
            raise VenueError(-1022)

    def _is_signed(self, total: str) -> bool:
        payload, _, signature = total.rpartition("signature=")
        payload = payload.removesuffix("&")
        expected = hmac.new(self._secret, payload.encode(), hashlib.sha256).hexdigest()
        return hmac.compare_digest(expected.encode(), signature.encode())


class TimestampCheck:
    """Holds request timestamps against the venue's clock.

    A stepped or fast clock does not run with the client's. A client that once read the server time goes
    on counting real time from it, so each served time opens a line on which its timestamps may lie; the
    machine's own clock is one more such line unless the venue's clock was set off on purpose.
    """

    def __init__(self) -> None:
        self._lines: list[int] = []
        self.host_line = True

    def served(self, server_ms: int) -> None:
        """Remember that a client was told this server time now."""
        line = server_ms - host_ms()
        index = bisect_left(self._lines, line - 50)
        if index == len(self._lines) or self._lines[index] > line + 50:
            insort(self._lines, line)

    def forget(self) -> None:
        """Drop every line: the venue's clock was set off, clients have to read it again."""
        self._lines.clear()

    def check(self, timestamp_ms: int, window_ms: int | None, server_ms: int) -> None:
        """Refuse a timestamp outside the window, or more than a second ahead, on every line."""
        window = _DEFAULT_WINDOW_MS if window_ms is None else window_ms
        if window > _LONGEST_WINDOW_MS or window < 0:
            raise VenueError(-1131, text="recvWindow must be less than 60000")
        now = host_ms()
        drift = timestamp_ms - now
        lines = [server_ms - now, *([0] if self.host_line else []), *self._near(drift, window)]
        if any(line - window <= drift <= line + _AHEAD_MS for line in lines):
            return
        if all(drift > line + _AHEAD_MS for line in lines):
            raise VenueError(-1021, text="Timestamp for this request was 1000ms ahead of the server's time.")
        raise VenueError(-1021)

    def _near(self, drift: int, window: int) -> list[int]:
        index = bisect_left(self._lines, drift - _AHEAD_MS)
        found = self._lines[index : index + 1]
        return [line for line in found if line <= drift + window]


@dataclass
class Window:
    """A sliding count over the last ``seconds`` of host time; a limit of zero allows everything."""

    seconds: float
    limit: int
    used: int = 0
    _entries: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, amount: int, now: float) -> int:
        """Count ``amount`` and return the total in the window."""
        while self._entries and self._entries[0][0] <= now - self.seconds:
            self.used -= self._entries.popleft()[1]
        if amount:
            self._entries.append((now, amount))
            self.used += amount
        return self.used

    @property
    def exceeded(self) -> bool:
        """Whether the window holds more than the limit."""
        return bool(self.limit) and self.used > self.limit

    def retry_after(self, now: float) -> int:
        """Seconds until something leaves the window, at least one."""
        oldest = self._entries[0][0] if self._entries else now
        return max(1, math.ceil(oldest + self.seconds - now))


class RateLimits:
    """Request weight per minute with 429 and 418, and the two order counts."""

    def __init__(self, config: EmulatorConfig) -> None:
        self.weight = Window(60, config.weight_limit_1m)
        self.orders_10s = Window(10, config.order_limit_10s)
        self.orders_1m = Window(60, config.order_limit_1m)
        self._ban_seconds = config.ban_seconds
        self._banned_until = 0.0
        self._refused = 0

    def count(self, weight: int) -> None:
        """Count a request, or refuse it with 429, or with 418 when the client would not listen."""
        now = host_seconds()
        if now < self._banned_until:
            raise self._ban(now)
        self.weight.add(weight, now)
        if not self.weight.exceeded:
            self._refused = 0
            return
        self._refused += 1
        if self._refused > _STUBBORN_REQUESTS:
            self._banned_until = now + self._ban_seconds
            self._refused = 0
            raise self._ban(now)
        raise Limited(VenueError(-1003, self.weight.limit), self.weight.retry_after(now))

    def _ban(self, now: float) -> Limited:
        until = host_ms() + int((self._banned_until - now) * 1000)
        text = f"Way too many requests; IP banned until {until}. Please use the websocket for live updates."
        refusal = VenueError(-1003, text=text, status=418)
        return Limited(refusal, max(1, math.ceil(self._banned_until - now)))

    def count_order(self) -> None:
        """Count an order, or refuse it with -1015."""
        now = host_seconds()
        for window, name in ((self.orders_10s, "10 SECOND"), (self.orders_1m, "1 MINUTE")):
            window.add(1, now)
            if window.exceeded:
                raise Limited(VenueError(-1015, window.limit, name), window.retry_after(now))

    def headers(self) -> dict[str, str]:
        """Return the venue's usage headers."""
        now = host_seconds()
        return {
            "X-MBX-USED-WEIGHT-1M": str(self.weight.add(0, now)),
            "X-MBX-ORDER-COUNT-10S": str(self.orders_10s.add(0, now)),
            "X-MBX-ORDER-COUNT-1M": str(self.orders_1m.add(0, now)),
        }


class Limited(Exception):
    """A request was refused for a rate limit; ``retry_after`` is in seconds."""

    def __init__(self, refusal: VenueError, retry_after: int) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal
        self.retry_after = retry_after
