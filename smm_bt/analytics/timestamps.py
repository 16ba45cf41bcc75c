"""UTC milliseconds to ISO-8601 text and back, without losing a millisecond."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def iso_utc(time_ms: int) -> str:
    """Return ``2024-10-01T00:05:00Z``; with milliseconds only where they are not zero."""
    seconds, millis = divmod(time_ms, 1000)
    text = datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
    return f"{text}.{millis:03d}Z" if millis else f"{text}Z"


def milliseconds(text: str) -> int:
    """Return the UTC milliseconds of an ISO-8601 time; ValueError when it names no time zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"the time {text!r} names no time zone; write it in UTC with a Z at the end")
    return (moment - _EPOCH) // _MILLISECOND
