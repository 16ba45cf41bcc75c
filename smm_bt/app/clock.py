"""The wall clock: the only place that asks what time it is."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Return the current UTC time in milliseconds."""
    return time.time_ns() // 1_000_000
