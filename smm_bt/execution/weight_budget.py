"""Request weight and order counts: requests wait here so that the venue never has to say "too many"."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Final

from smm_bt.execution.host_clock import HostClock, SystemClock

WEIGHT_PER_MINUTE: Final = 2400
ORDERS_PER_10_SECONDS: Final = 300
ORDERS_PER_MINUTE: Final = 1200
#: Reads stop here, so that an order never waits behind them; the rest is also for other programs on this address.
_READ_SHARE: Final = 0.75
_ORDER_SHARE: Final = 0.95


class _Window:
    """What was spent in the last ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.spent = 0
        self._entries: deque[tuple[float, int]] = deque()

    def spend(self, amount: int, now: float) -> None:
        self._entries.append((now, amount))
        self.spent += amount

    def wait_for(self, amount: int, limit: float, now: float) -> float:
        """Return after how many seconds ``amount`` more fits under ``limit``; 0.0 means now."""
        self._forget(now)
        over = self.spent + amount - limit
        for time, weight in self._entries:
            if over <= 0:
                return 0.0
            over -= weight
            if over <= 0:
                return max(0.0, time + self.seconds - now)
        return 0.0

    def _forget(self, now: float) -> None:
        while self._entries and self._entries[0][0] <= now - self.seconds:
            self.spent -= self._entries.popleft()[1]


class WeightBudget:
    """Shared by all clients of one address; safe to use from several threads.

    Args:
        clock: where time comes from.
        weight_per_minute: the venue's request-weight limit.
    """

    def __init__(self, clock: HostClock | None = None, weight_per_minute: int = WEIGHT_PER_MINUTE) -> None:
        self._clock = clock or SystemClock()
        self._limit = weight_per_minute
        self._weight = _Window(60.0)
        self._orders = ((_Window(10.0), ORDERS_PER_10_SECONDS), (_Window(60.0), ORDERS_PER_MINUTE))
        self._paused_until = 0.0
        self._lock = threading.Lock()
        self.waited_seconds = 0.0

    def take(self, weight: int, *, order: bool = False) -> None:
        """Wait until a request of ``weight`` may be sent, and count it; orders come before reads."""
        while True:
            with self._lock:
                wait = self._wait(weight, order)
                if wait <= 0:
                    self._spend(weight, order)
                    return
            self.waited_seconds += wait
            self._clock.sleep(wait)

    def await_turn(self, weight: int, *, order: bool = False) -> None:
        """Wait until a request of ``weight`` could be sent, without counting it; it may turn out to be too late."""
        while True:
            with self._lock:
                wait = self._wait(weight, order)
            if wait <= 0:
                return
            self.waited_seconds += wait
            self._clock.sleep(wait)

    def _wait(self, weight: int, order: bool) -> float:
        now = self._clock.seconds()
        share = _ORDER_SHARE if order else _READ_SHARE
        waits = [self._paused_until - now, self._weight.wait_for(weight, self._limit * share, now)]
        if order:
            waits += [window.wait_for(1, limit * share, now) for window, limit in self._orders]
        return max(waits)

    def _spend(self, weight: int, order: bool) -> None:
        now = self._clock.seconds()
        self._weight.spend(weight, now)
        if order:
            for window, _ in self._orders:
                window.spend(1, now)

    def pause(self, seconds: float) -> None:
        """Let nothing through for ``seconds``: the venue has asked for quiet or has banned the address."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._clock.seconds() + seconds)

    def learn(self, headers: Mapping[str, str]) -> None:
        """Take over the venue's own count where it is higher: other programs may use the same address."""
        told = {name.lower(): value for name, value in headers.items()}.get("x-mbx-used-weight-1m", "")
        if not told.isdigit():
            return
        with self._lock:
            now = self._clock.seconds()
            self._weight.wait_for(0, self._limit, now)
            unseen = int(told) - self._weight.spent
            if unseen > 0:
                self._weight.spend(unseen, now)

    @property
    def spent(self) -> int:
        """Weight counted in the last minute."""
        with self._lock:
            self._weight.wait_for(0, self._limit, self._clock.seconds())
            return self._weight.spent
