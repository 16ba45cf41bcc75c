"""At which price a resting order is filled by a candle: pure functions for limit, stop and stop-limit orders.

The order is described by its side (+1 buy, −1 sell), its trigger and its limit. What one candle cannot tell is decided
against the order: a limit that is touched intrabar fills at the limit, not better; a stop passed by the open fills at
the open; a stop-limit triggered inside a candle works as a limit from the next candle on.
"""

from __future__ import annotations


def limit_at_open(side: int, limit: float, candle_open: float) -> float | None:
    """Return the open when a limit order is marketable there, else None."""
    return candle_open if side * (limit - candle_open) >= 0 else None


def limit_inside(side: int, limit: float, high: float, low: float) -> float | None:
    """Return the limit when the candle's range reaches it, else None."""
    reached = low <= limit if side > 0 else high >= limit
    return limit if reached else None


def stop_at_open(side: int, trigger: float, candle_open: float) -> float | None:
    """Return the open when it lies at or beyond the trigger, else None."""
    return candle_open if side * (candle_open - trigger) >= 0 else None


def stop_inside(side: int, trigger: float, high: float, low: float) -> float | None:
    """Return the trigger when the candle's range reaches it, else None."""
    reached = high >= trigger if side > 0 else low <= trigger
    return trigger if reached else None
