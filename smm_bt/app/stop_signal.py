"""How a person stops a live run: the first signal ends it after the step in hand, the second at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from smm_bt.execution.host_clock import SystemClock

_SLICE_S = 0.25


class StopRequested(Exception):
    """A long wait was given up because the run is to end."""


class StopSignal:
    """Whether, and by what, the run was asked to end."""

    def __init__(self) -> None:
        self.requested = ""

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen for SIGINT and SIGTERM; signals reach the main thread only."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._received) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class WatchfulClock(SystemClock):
    """The machine's clock; a long sleep ends with StopRequested when the run is to end."""

    def __init__(self, stop: StopSignal) -> None:
        self._stop = stop

    def sleep(self, seconds: float) -> None:
        """Wait ``seconds``, looking up now and then."""
        end = self.seconds() + seconds
        while (left := end - self.seconds()) > 0:
            if self._stop.requested and left > 2 * _SLICE_S:
                raise StopRequested
            super().sleep(min(left, _SLICE_S))
