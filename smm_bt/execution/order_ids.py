"""Client order ids: the same order has the same id in every process, so it can be asked for after a crash.

``s<run>-<symbol>-<candle>-<intent><attempt>[.<part>]``, at most 36 characters of the venue's alphabet: ``run`` is six
characters of the run's hash, ``candle`` the open time in seconds in base 36, ``intent`` a letter with the numbers
that follow it in the order's name (``e`` entry, ``e2`` entry-2, ``m7:2`` manual-7-2), ``attempt`` one character,
``part`` counts the pieces of an order that is larger than the venue takes at once.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, NamedTuple

ALPHABET: Final = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_PLAIN_SYMBOL: Final = re.compile(r"[A-Z0-9_]{1,14}")
_LETTERS: Final = {"entry": "e", "close": "c", "stop": "s", "manual": "m", "exit": "o"}
_INTENT: Final = re.compile(rf"({'|'.join(_LETTERS)})((?:-\d{{1,6}}){{0,2}})")
_OWN_ID: Final = re.compile(rf"(\d{{12,14}})-({_INTENT.pattern})")
_LONGEST: Final = 36


class OrderName(NamedTuple):
    """What identifies an order: its symbol, the open time of the candle that caused it, and what it is for.

    ``intent`` is ``entry``, ``close``, ``stop``, ``manual-N`` or ``exit-N``, with a further number when it is made
    again, or for orders of other strategies any short text.
    """

    symbol: str
    candle_ms: int
    intent: str


def order_name(symbol: str, order_id: str, candle_ms: int) -> OrderName:
    """Read an order name out of the id the run gave the order; other ids become the intent themselves.

    The candle of a run's own order is in its id, so that a later process, on another candle, makes the same name.
    """
    match = _OWN_ID.fullmatch(order_id.removeprefix(f"{symbol}-"))
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
    hashed_symbol, hashed_intent = "h" + _hashed(name.symbol, 8), "x" + _hashed(name.intent, 2)
    symbol = name.symbol if _PLAIN_SYMBOL.fullmatch(name.symbol) else hashed_symbol
    intent = _short(name.intent) or hashed_intent
    suffix = f"{_base36(attempt)}{f'.{_base36(part)}' if part else ''}"
    begun, candle = run_prefix(run_id), _base36(name.candle_ms // 1000)
    made = f"{begun}{symbol}-{candle}-{intent}{suffix}"
    if len(made) > _LONGEST:
        made = f"{begun}{hashed_symbol}-{candle}-{intent}{suffix}"
    if len(made) > _LONGEST:
        made = f"{begun}{hashed_symbol}-{candle}-{hashed_intent}{suffix}"
    if not ALPHABET.fullmatch(made):
        raise ValueError(f"{made!r} is not a client order id")
    return made


def _short(intent: str) -> str:
    """Return the letter and the numbers of one of the run's own intents, or nothing for another."""
    match = _INTENT.fullmatch(intent)
    if match is None:
        return ""
    return _LETTERS[match[1]] + ":".join(_base36(int(number)) for number in match[2].split("-")[1:])


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
