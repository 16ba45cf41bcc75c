"""The machine's clock for the order path, in one place, so that tests can put another one there."""

from __future__ import annotations

import time
from typing import NamedTuple, Protocol


class HostClock(Protocol):
    """What the order path needs to know about time."""

    def now_ms(self) -> int:
        """Return UTC milliseconds by the machine's clock."""
        ...

    def seconds(self) -> float:
        """Return a steady count of seconds that never goes backwards."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class ClockReading(NamedTuple):
    """What a venue's clock told (UTC milliseconds), and where this machine's two clocks stood just then."""

    venue_ms: int
    wall_ms: int
    steady_s: float


class SystemClock:
    """The machine's own clock."""

    def now_ms(self) -> int:
        """Return UTC milliseconds."""
        return time.time_ns() // 1_000_000

    def seconds(self) -> float:
        """Return steady seconds."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait ``seconds``, if any."""
        if seconds > 0:
            time.sleep(seconds)
