"""Client order ids: the same order has the same id in every process, so it can be asked for after a crash.

``s<run>-<symbol>-<candle>-<intent><attempt>[.<part>]``, at most 36 characters of the venue's alphabet: ``run`` is six
characters of the run's hash, ``candle`` the open time in seconds in base 36, ``part`` counts the pieces of an order
that is larger than the venue takes at once.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, NamedTuple

ALPHABET: Final = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_PLAIN_SYMBOL: Final = re.compile(r"[A-Z0-9_]{1,14}")
_STRATEGY_ID: Final = re.compile(r".+-(\d{12,14})-(entry|close|stop)")
_INTENTS: Final = {"entry": "e", "close": "c", "stop": "s"}


class OrderName(NamedTuple):
    """What identifies an order: its symbol, the open time of the candle that caused it, and what it is for.

    ``intent`` is ``entry``, ``close`` or ``stop``, or for orders of other strategies any short text.
    """

    symbol: str
    candle_ms: int
    intent: str


def order_name(symbol: str, order_id: str, candle_ms: int) -> OrderName:
    """Read an order name out of the id the strategy gave the order; other ids become the intent themselves."""
    match = _STRATEGY_ID.fullmatch(order_id)
    if match is not None and order_id.startswith(f"{symbol}-"):
        return OrderName(symbol, int(match[1]), match[2])
    return OrderName(symbol, candle_ms, order_id)


def run_prefix(run_id: str) -> str:
    """Return what every client order id of a run begins with."""
    return f"s{_hashed(run_id, 6)}-"


def client_order_id(run_id: str, name: OrderName, attempt: int, part: int = 0) -> str:
    """Return the id under which one attempt at one part of an order is sent.

    Raises:
        ValueError: attempt or part is not within 0 to 35 and 0 to 1295.
    """
    if not 0 <= attempt < 36 or not 0 <= part < 36 * 36:
        raise ValueError(f"attempt {attempt} or part {part} is out of range")
    symbol = name.symbol if _PLAIN_SYMBOL.fullmatch(name.symbol) else "h" + _hashed(name.symbol, 8)
    intent = _INTENTS.get(name.intent) or "x" + _hashed(name.intent, 2)
    suffix = f".{_base36(part)}" if part else ""
    made = f"{run_prefix(run_id)}{symbol}-{_base36(name.candle_ms // 1000)}-{intent}{_base36(attempt)}{suffix}"
    if not ALPHABET.fullmatch(made):
        raise ValueError(f"{made!r} is not a client order id")
    return made


def _hashed(text: str, length: int) -> str:
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return _base36(number % 36**length).rjust(length, "0")


def _base36(number: int) -> str:
    digits = ""
    while True:
        number, rest = divmod(number, 36)
        digits = _DIGITS[rest] + digits
        if not number:
            return digits
