"""The venue's time for a live run: running beside the machine's steady clock, or stepped candle by candle."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from smm_bt.execution.host_clock import ClockReading, HostClock

#: The machine's two clocks may differ by this much before it counts as a jump or a pause of the machine.
_JUMP_MS = 2_000


#: On a just closed candle positions are opened this long, in real time, and never after the next one has closed.
_FRESH_MS = 300_000


class Stepped(NamedTuple):
    """Where a stepped market stands: its time, and whether its candles are used up."""

    now_ms: int
    finished: bool


class ClockJump(NamedTuple):
    """The machine's wall clock and steady clock went apart by ``by_ms``: the clock was set, or the machine slept."""

    by_ms: int


class MarketClock(Protocol):
    """The venue's time, how to wait for it, and how fast it runs."""

    speed: float
    stepped: bool
    finished: bool

    def now_ms(self) -> int:
        """Return the venue's time as well as it is known without asking."""
        ...

    def sync(self) -> int:
        """Ask the venue for its time and return it."""
        ...

    def look_for_end(self) -> None:
        """Learn whether the market is over, without asking for its time."""
        ...

    def jump(self) -> ClockJump | None:
        """Return how far the machine's clocks went apart since the last reading, if they did."""
        ...

    def advance(self, due_ms: int, longest_s: float) -> bool:
        """Move or wait towards ``due_ms``, at most ``longest_s``; return whether the venue may have reached it."""
        ...


class Freshness:
    """Says whether a position may still be opened on a candle, by the venue's time; on a stepped market always."""

    def __init__(self, clock: MarketClock, length_ms: int) -> None:
        self._clock, self._length_ms = clock, length_ms
        self._longest_ms = float("inf") if clock.stepped else min(length_ms, _FRESH_MS * max(1.0, clock.speed))

    def __call__(self, open_ms: int) -> bool:
        """Return whether the candle that opened then has closed only just."""
        return self._clock.now_ms() - open_ms - self._length_ms <= self._longest_ms


class RunningClock:
    """Follows a venue whose time runs by itself.

    Between two readings the machine's steady clock is used, so a wall clock that is set changes nothing.

    Args:
        read: asks the venue for its time, and says when that was by the machine's clocks.
        host: the machine's clocks.
        speed: how many times faster than the machine's clock the venue's runs.
        has_finished: tells whether the market is over; real ones never are.
    """

    stepped = False

    def __init__(
        self,
        read: Callable[[], ClockReading],
        host: HostClock,
        speed: float = 1.0,
        has_finished: Callable[[], bool] = lambda: False,
    ) -> None:
        self._read, self._host, self.speed = read, host, speed
        self._has_finished = has_finished
        self.finished = False
        self._venue_ms, self._at_s, self._wall_ms = 0, 0.0, 0

    def sync(self) -> int:
        """Ask the venue for its time and return it."""
        self._venue_ms, self._wall_ms, self._at_s = self._read()
        self.finished = self._has_finished()
        return self._venue_ms

    def look_for_end(self) -> None:
        """Learn whether the market is over, without asking for its time."""
        self.finished = self._has_finished()

    def now_ms(self) -> int:
        """Return the last reading plus the steady time since."""
        return self._venue_ms + int((self._host.seconds() - self._at_s) * 1000 * self.speed)

    def advance(self, due_ms: int, longest_s: float) -> bool:
        """Sleep until ``due_ms`` of the venue's time, at most ``longest_s``."""
        left_s = (due_ms - self.now_ms()) / 1000 / self.speed
        if left_s > longest_s:
            self._host.sleep(longest_s)
            return False
        self._host.sleep(left_s)
        return True

    def jump(self) -> ClockJump | None:
        """Return how far the machine's clocks went apart since the last reading, if they did."""
        steady_ms = (self._host.seconds() - self._at_s) * 1000
        by_ms = round(self._host.now_ms() - self._wall_ms - steady_ms)
        return ClockJump(by_ms) if abs(by_ms) > _JUMP_MS else None


class SteppedClock:
    """Stands still until the run is done with a candle, then moves a stepped market to its next one.

    Args:
        step: moves the market by one candle.
        start: where it stands.
    """

    stepped = True
    speed = float("inf")

    def __init__(self, step: Callable[[], Stepped], start: Stepped) -> None:
        self._step = step
        self._now_ms, self.finished = start

    def sync(self) -> int:
        """Return the time the market stands at."""
        return self._now_ms

    def look_for_end(self) -> None:
        """Every step tells."""

    def now_ms(self) -> int:
        """Return the time the market stands at."""
        return self._now_ms

    def advance(self, due_ms: int, longest_s: float) -> bool:
        """Move to the next candle, unless the market stands at or beyond ``due_ms`` already."""
        if self._now_ms < due_ms and not self.finished:
            self._now_ms, self.finished = self._step()
        return self._now_ms >= due_ms or self.finished

    def jump(self) -> ClockJump | None:
        """Nothing runs, nothing jumps."""
        return None
