"""Faults on request: which requests go wrong, how often, and whether before or after they took effect."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any, Final

KINDS: Final[dict[str, str]] = {
    "delay": "wait `delay_ms` before or after the request takes effect",
    "reset": "reset the connection before or after the request takes effect",
    "http": "answer HTTP `status` (default 503) with an HTML page, or with nothing when `empty` is true",
    "html": "answer HTTP 200 with an HTML page",
    "malformed": "answer HTTP 200 with JSON cut off in the middle",
    "error": "answer the venue's error `code`",
    "partial_fill": "fill only `share` of a taker order; the `rest` comes later or will expire",
    "late_candles": "leave the newest `candles` candles out of a kline answer",
    "duplicate_candles": "repeat the newest closed candle in a kline answer",
    "shuffled_candles": "swap the two newest closed candles in a kline answer",
    "drop": "close the websocket instead of sending the message (method WS)",
    "repeat": "send the websocket message twice (method WS)",
    "lose": "do not send the websocket message (method WS)",
    "clock": "set the venue's clock `offset_ms` ahead of its market from now on",
}
_ALWAYS_BEFORE = frozenset({"partial_fill", "clock"})
_ALWAYS_AFTER = frozenset({"malformed", "late_candles", "duplicate_candles", "shuffled_candles"})


@dataclass(frozen=True)
class FaultRule:
    """One rule: which requests, what goes wrong, when and how often.

    Args:
        kind: one of :data:`KINDS`.
        method: HTTP method, WS for a websocket message, or ``*``.
        path: path with ``*`` wildcards, such as ``/fapi/v1/order``.
        where: parameters the request must carry, such as ``{"reduceOnly": "true"}``.
        when: ``before`` the request takes effect (it then does not) or ``after`` it did.
        count: how many times; None for always.
        skip: how many matching requests pass unharmed first.
        probability: chance that a matching request is hit.
        delay_ms: for ``delay``.
        code: for ``error``.
        text: for ``error``: replaces the code's usual text.
        status: for ``http`` (default 503) and, to replace the code's usual status, for ``error``.
        retry_after: seconds told with a status 418 or 429.
        empty: for ``http``: no body instead of an HTML page.
        share: for ``partial_fill``: the share filled at once.
        rest: for ``partial_fill``: ``later`` or ``expire``.
        candles: for ``late_candles``.
        offset_ms: for ``clock``.
    """

    kind: str
    method: str = "*"
    path: str = "*"
    where: Mapping[str, str] = field(default_factory=dict)
    when: str = "before"
    count: int | None = 1
    skip: int = 0
    probability: float = 1.0
    delay_ms: int = 0
    code: int = -1001
    text: str | None = None
    status: int | None = None
    retry_after: int = 1
    empty: bool = False
    share: str = "0.5"
    rest: str = "later"
    candles: int = 1
    offset_ms: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"fault kind {self.kind!r} is unknown; choose one of {', '.join(KINDS)}")
        if self.when not in {"before", "after"}:
            raise ValueError(f"a fault happens 'before' or 'after', found {self.when!r}")
        if self.rest not in {"later", "expire"}:
            raise ValueError(f"the rest comes 'later' or will 'expire', found {self.rest!r}")
        if not 0 < Decimal(self.share) < 1:
            raise ValueError(f"share must lie between 0 and 1, found {self.share}")

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> FaultRule:
        """Build a rule from JSON, naming unknown fields."""
        unknown = set(row) - {item.name for item in fields(cls)}
        if unknown:
            raise ValueError(f"fault field {sorted(unknown)[0]!r} is unknown")
        return cls(**row)

    def to_row(self) -> dict[str, Any]:
        """Return the rule as JSON values."""
        return asdict(self) | {"where": dict(self.where)}

    @property
    def is_before(self) -> bool:
        """Whether it strikes before the request takes effect."""
        return self.kind in _ALWAYS_BEFORE or (self.when == "before" and self.kind not in _ALWAYS_AFTER)

    def matches(self, method: str, path: str, parameters: Mapping[str, str]) -> bool:
        """Say whether the rule is about this request."""
        return (
            self.method in ("*", method)
            and (self.method == "WS") == (method == "WS")
            and fnmatchcase(path, self.path)
            and all(parameters.get(name) == value for name, value in self.where.items())
        )


class FaultPlan:
    """The rules in force; each use is counted, used-up rules drop out."""

    def __init__(self, rules: Iterable[FaultRule], seed: int) -> None:
        self.rules = list(rules)
        self._random = random.Random(seed)

    def add(self, rule: FaultRule) -> None:
        """Put a rule in force."""
        self.rules.append(rule)

    def clear(self) -> None:
        """Drop every rule."""
        self.rules.clear()

    def take(self, method: str, path: str, parameters: Mapping[str, str]) -> list[FaultRule]:
        """Return the rules that strike this request and count their use."""
        struck = []
        for index, rule in enumerate(self.rules):
            if not rule.matches(method, path, parameters):
                continue
            if rule.skip:
                self.rules[index] = replace(rule, skip=rule.skip - 1)
            elif self._random.random() < rule.probability:
                struck.append(rule)
                if rule.count is not None:
                    self.rules[index] = replace(rule, count=rule.count - 1)
        self.rules = [rule for rule in self.rules if rule.count is None or rule.count > 0]
        return struck


def spoil_candles(rule: FaultRule, rows: list[Any], closed: int) -> list[Any]:
    """Return kline rows the way ``rule`` spoils them; ``closed`` of them are closed candles."""
    if rule.kind == "late_candles":
        return rows[: max(0, closed - rule.candles)]
    if rule.kind == "duplicate_candles" and closed:
        return [*rows[:closed], rows[closed - 1], *rows[closed:]]
    if rule.kind == "shuffled_candles" and closed > 1:
        return [*rows[: closed - 2], rows[closed - 1], rows[closed - 2], *rows[closed:]]
    return rows
