"""What the venue's errors mean and what is done about each: one table, by numeric code first.

The HTTP status decides only where the body carries no code, because the venue sends the same status for a bad
signature and for a full order book. An answer that is not JSON is no answer, whatever its status says.
``docs/venue_errors.md`` is printed from here: ``python -m smm_bt.execution.venue_errors``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from smm_bt.errors import VenueError


class Reaction(StrEnum):
    """What happens next."""

    FINE = "taken as done"
    AGAIN = "tried again"
    RESYNC = "clock read again, then tried again"
    WAIT = "waited out as told, then tried again"
    ASK = "outcome unknown: asked for by client id, then trades and position"
    EXISTS = "the order with this id is looked up"
    ABSENT = "nothing there"
    GONE = "order cancelled: no position left to close"
    MARGIN = "order ends as Margin"
    REFUSED = "order ends as Rejected"
    STOP = "the run stops with this message"


class Kind(StrEnum):
    """How a request failed."""

    CODE = "code"
    STATUS = "status"
    GARBLED = "garbled"
    SILENCE = "silence"
    LOCAL = "local"


class Failure(NamedTuple):
    """A request that did not get what it asked for; ``retry_after_s`` is the venue's wish, if it had one."""

    kind: Kind
    text: str
    code: int = 0
    status: int = 0
    retry_after_s: float | None = None

    def __str__(self) -> str:
        if self.kind is Kind.CODE:
            return f"{self.code} {self.text}"
        if self.kind is Kind.STATUS:
            return f"HTTP {self.status}"
        return self.text


class Rule(NamedTuple):
    """One row of the table: what is done when a read or a setting fails so, and when a new order does."""

    meaning: str
    read: Reaction
    order: Reaction


_R = Reaction
_UNKNOWN_CODE: Final = Rule("any other code", _R.STOP, _R.ASK)

CODES: Final[dict[int, Rule]] = {
    -1000: Rule("unknown error at the venue", _R.AGAIN, _R.ASK),
    -1001: Rule("internal error", _R.AGAIN, _R.ASK),
    -1003: Rule("too many requests, or banned for them", _R.WAIT, _R.WAIT),
    -1006: Rule("unexpected answer on the message bus, execution unknown", _R.AGAIN, _R.ASK),
    -1007: Rule("timeout at the venue, execution unknown", _R.AGAIN, _R.ASK),
    -1008: Rule("venue overloaded", _R.AGAIN, _R.ASK),
    -1013: Rule("a filter failed", _R.STOP, _R.REFUSED),
    -1015: Rule("too many orders", _R.WAIT, _R.WAIT),
    -1021: Rule("timestamp outside recvWindow", _R.RESYNC, _R.RESYNC),
    -1022: Rule("signature not valid", _R.STOP, _R.STOP),
    -1100: Rule("illegal characters in a parameter", _R.STOP, _R.REFUSED),
    -1102: Rule("a parameter is missing or malformed", _R.STOP, _R.REFUSED),
    -1104: Rule("not all parameters were read", _R.STOP, _R.REFUSED),
    -1106: Rule("a parameter was sent that is not wanted", _R.STOP, _R.REFUSED),
    -1109: Rule("invalid account (the demo venue says it now and then for no reason)", _R.AGAIN, _R.ASK),
    -1111: Rule("precision too high", _R.STOP, _R.REFUSED),
    -1116: Rule("order type not known", _R.STOP, _R.REFUSED),
    -1121: Rule("symbol not known", _R.STOP, _R.REFUSED),
    -1130: Rule("a parameter's value is not valid", _R.STOP, _R.REFUSED),
    -2008: Rule("API key not known at this venue", _R.STOP, _R.STOP),
    -2010: Rule("order rejected", _R.STOP, _R.REFUSED),
    -2011: Rule("nothing to cancel", _R.ABSENT, _R.ASK),
    -2013: Rule("order does not exist (also for a moment after placing)", _R.ABSENT, _R.ASK),
    -2014: Rule("API key malformed", _R.STOP, _R.STOP),
    -2015: Rule("API key, address or permission refused", _R.STOP, _R.STOP),
    -2018: Rule("balance insufficient", _R.STOP, _R.MARGIN),
    -2019: Rule("margin insufficient", _R.STOP, _R.MARGIN),
    -2020: Rule("unable to fill", _R.STOP, _R.AGAIN),
    -2021: Rule("stop order would trigger at once", _R.STOP, _R.REFUSED),
    -2022: Rule("reduce-only order rejected", _R.STOP, _R.GONE),
    -2023: Rule("account is being liquidated", _R.STOP, _R.REFUSED),
    -2024: Rule("position not sufficient", _R.STOP, _R.MARGIN),
    -2025: Rule("too many open orders", _R.STOP, _R.REFUSED),
    -2027: Rule("position too large for the leverage", _R.STOP, _R.REFUSED),
    -2028: Rule("leverage too small for the position", _R.STOP, _R.REFUSED),
    -4003: Rule("quantity not above zero", _R.STOP, _R.REFUSED),
    -4004: Rule("quantity below the minimum", _R.STOP, _R.REFUSED),
    -4005: Rule("quantity above the maximum", _R.STOP, _R.REFUSED),
    -4014: Rule("price off the tick", _R.STOP, _R.REFUSED),
    -4015: Rule("client order id too long", _R.STOP, _R.REFUSED),
    -4023: Rule("quantity off the step", _R.STOP, _R.REFUSED),
    -4028: Rule("leverage not valid", _R.STOP, _R.REFUSED),
    -4045: Rule("too many stop orders", _R.STOP, _R.REFUSED),
    -4046: Rule("no need to change the margin mode", _R.FINE, _R.FINE),
    -4047: Rule("margin mode fixed by open orders", _R.STOP, _R.REFUSED),
    -4048: Rule("margin mode fixed by a position", _R.STOP, _R.REFUSED),
    -4050: Rule("cross balance insufficient", _R.STOP, _R.MARGIN),
    -4051: Rule("isolated balance insufficient", _R.STOP, _R.MARGIN),
    -4059: Rule("no need to change the position mode", _R.FINE, _R.FINE),
    -4061: Rule("position side does not match the account's mode", _R.STOP, _R.STOP),
    -4067: Rule("position mode fixed by open orders", _R.STOP, _R.REFUSED),
    -4068: Rule("position mode fixed by a position", _R.STOP, _R.REFUSED),
    -4108: Rule("symbol is not trading", _R.STOP, _R.REFUSED),
    -4116: Rule("client order id in use", _R.STOP, _R.EXISTS),
    -4118: Rule("reduce-only orders would exceed the position", _R.STOP, _R.REFUSED),
    -4120: Rule("order type belongs to the Algo service", _R.STOP, _R.REFUSED),
    -4131: Rule("best price outside PERCENT_PRICE", _R.STOP, _R.AGAIN),
    -4161: Rule("leverage cannot be lowered with an isolated position", _R.STOP, _R.REFUSED),
    -4164: Rule("notional below the minimum", _R.STOP, _R.REFUSED),
    -4168: Rule("no isolated margin in multi-assets mode", _R.STOP, _R.STOP),
    -4192: Rule("trading forbidden (cooling-off)", _R.STOP, _R.STOP),
    -4202: Rule("leverage restricted for this account", _R.STOP, _R.STOP),
    -4203: Rule("leverage restricted for this account", _R.STOP, _R.STOP),
    -4400: Rule("trading restricted to reduce-only", _R.STOP, _R.STOP),
    -4401: Rule("trading restricted to reduce-only", _R.STOP, _R.STOP),
    -4402: Rule("trading restricted by region", _R.STOP, _R.STOP),
    -4403: Rule("leverage restricted by region", _R.STOP, _R.STOP),
    -5021: Rule("fill-or-kill not filled", _R.STOP, _R.REFUSED),
    -5022: Rule("post-only would have traded", _R.STOP, _R.REFUSED),
}

STATUSES: Final[dict[int, Rule]] = {
    401: Rule("not authorised", _R.STOP, _R.STOP),
    403: Rule("stopped by the venue's firewall", _R.STOP, _R.STOP),
    404: Rule("no such path", _R.STOP, _R.STOP),
    408: Rule("timeout at the venue", _R.AGAIN, _R.ASK),
    418: Rule("address banned for too many requests", _R.WAIT, _R.WAIT),
    429: Rule("too many requests", _R.WAIT, _R.WAIT),
    451: Rule("not offered in this country", _R.STOP, _R.STOP),
}
_SERVER_FAULT: Final = Rule("5xx: fault at the venue", _R.AGAIN, _R.ASK)
_OTHER_STATUS: Final = Rule("any other status", _R.STOP, _R.ASK)

KINDS: Final[dict[Kind, Rule]] = {
    Kind.GARBLED: Rule("the answer is not JSON or lacks what was asked for", _R.AGAIN, _R.ASK),
    Kind.SILENCE: Rule("no answer: timeout, connection refused or reset", _R.AGAIN, _R.ASK),
    Kind.LOCAL: Rule("refused on this machine before sending", _R.STOP, _R.STOP),
}


def rule_for(failure: Failure) -> Rule:
    """Return the table's row for ``failure``."""
    if failure.kind is Kind.CODE:
        # 403 and 451 come from what stands before the venue's own service, whatever their body says
        return STATUSES[failure.status] if failure.status in (403, 451) else CODES.get(failure.code, _UNKNOWN_CODE)
    if failure.kind is Kind.STATUS:
        return STATUSES.get(failure.status) or (_SERVER_FAULT if failure.status >= 500 else _OTHER_STATUS)
    return KINDS[failure.kind]


class VenueFault(VenueError):
    """The venue did not do what one request asked for; :attr:`rule` says what follows."""

    def __init__(self, request: str, failure: Failure) -> None:
        self.request = request
        self.failure = failure
        self.rule = rule_for(failure)
        super().__init__(f"{request}: {failure} ({self.rule.meaning}).")


class VenueSilent(VenueError):
    """The venue could not be read after several tries; nothing is known to be wrong but the connection."""


def error_tables() -> str:
    """Return the page ``docs/venue_errors.md``."""
    lines = [
        "# Errors of the venue and what is done about them",
        "",
        "Printed by `python -m smm_bt.execution.venue_errors`; the table is the one the program uses.",
        "",
        "## By numeric code",
        "",
        "| code | meaning | on a read or a setting | on a new order |",
        "|---|---|---|---|",
    ]
    lines += [_row(str(code), rule) for code, rule in sorted(CODES.items(), reverse=True)]
    lines += [_row("other", _UNKNOWN_CODE), "", "## By HTTP status, when the body carries no code", ""]
    lines += ["| status | meaning | on a read or a setting | on a new order |", "|---|---|---|---|"]
    lines += [_row(str(status), rule) for status, rule in sorted(STATUSES.items())]
    lines += [_row("5xx", _SERVER_FAULT), _row("other", _OTHER_STATUS), "", "## Without a usable answer", ""]
    lines += ["| what | meaning | on a read or a setting | on a new order |", "|---|---|---|---|"]
    lines += [_row(kind.value, rule) for kind, rule in KINDS.items()]
    return "\n".join(lines) + "\n"


def _row(key: str, rule: Rule) -> str:
    return f"| {key} | {rule.meaning} | {rule.read} | {rule.order} |"


if __name__ == "__main__":
    print(error_tables(), end="")
