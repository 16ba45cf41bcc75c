"""The virtual clock: stepped by a test, or running at real time or a multiple of it. Host time is read only here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol


def host_ms() -> int:
    """Return the machine's own time in ms since 1970 UTC."""
    return time.time_ns() // 1_000_000


def host_seconds() -> float:
    """Return a steady time in seconds, for measuring windows; it never goes backwards."""
    return time.monotonic()


class Clock(Protocol):
    """Where the virtual time comes from."""

    def now_ms(self) -> int:
        """Return the virtual time in ms since 1970 UTC."""
        ...


@dataclass
class SteppedClock:
    """Stands still until it is moved."""

    time_ms: int

    def now_ms(self) -> int:
        """Return the time it was last moved to."""
        return self.time_ms


@dataclass(frozen=True)
class RunningClock:
    """Runs ``speed`` times as fast as the machine's clock, from an anchor pair."""

    virtual_anchor_ms: int
    host_anchor_ms: int
    speed: float

    def now_ms(self) -> int:
        """Return the virtual time that belongs to the machine's present."""
        return self.virtual_anchor_ms + int((host_ms() - self.host_anchor_ms) * self.speed)
