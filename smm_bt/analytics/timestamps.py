"""ISO-8601 text back to UTC milliseconds, without losing one; the way there is feeds.candles.iso_utc."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from feeds.candles import iso_utc

__all__ = ["iso_utc", "milliseconds"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def milliseconds(text: str) -> int:
    """Return the UTC milliseconds of an ISO-8601 time; ValueError when it names no time zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"the time {text!r} names no time zone; write it in UTC with a Z at the end")
    return (moment - _EPOCH) // _MILLISECOND
