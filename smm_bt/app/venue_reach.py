"""Is the venue there? One question to its clock, and a sentence with a way out when no answer comes."""

from __future__ import annotations

import socket
import threading
from typing import NamedTuple
from urllib.parse import urlsplit

from smm_bt.errors import VenueError
from smm_bt.execution.ccxt_client import PublicWire
from smm_bt.execution.endpoints import PracticeVenue, PublicDataRules
from smm_bt.execution.venue_errors import Kind, Reaction, VenueFault

_WITHOUT_IT = (
    "Replays of files you have need no connection, `smm-bt live --market embedded` runs on a made market, and candle "
    "files from another machine can be put into DATA_DIR."
)


class VenueClock(NamedTuple):
    """What the venue's clock said: its UTC milliseconds, and how far it is ahead of this machine's."""

    server_ms: int
    ahead_ms: int


def public_address(practice: PracticeVenue | None) -> str:
    """Return where public data is read."""
    return PublicDataRules(practice).address


def source_name(practice: PracticeVenue | None) -> str:
    """Return what files and texts call the place public data is read from."""
    return "the embedded exchange" if practice is not None and practice.is_loopback else public_address(practice)


def ask_clock(practice: PracticeVenue | None, *, tries: int = 3, timeout_s: float = 5.0) -> VenueClock:
    """Return the venue's time.

    Raises:
        VenueError: it cannot be reached, said in a sentence that names what to do.
    """
    wire = PublicWire(practice, retries=0, timeout_s=timeout_s)
    for left in reversed(range(tries)):
        before = wire.clock.now_ms()
        try:
            server_ms = int(wire.once("fapiPublicGetTime", {}, 1)["serverTime"])
        except VenueFault as fault:
            if left and fault.rule.read is Reaction.AGAIN:
                wire.clock.sleep(0.5)
                continue
            raise VenueError(why_unreachable(fault, public_address(practice))) from None
        except (KeyError, TypeError, ValueError):
            raise VenueError(_strange(public_address(practice))) from None
        after = wire.clock.now_ms()
        return VenueClock(server_ms, server_ms - (before + after) // 2)
    raise AssertionError("unreachable")


def why_unreachable(fault: VenueFault, address: str) -> str:
    """Return what kept a request from being answered, and what to do about it."""
    failure = fault.failure
    if failure.status == 451:
        return f"{address} does not serve the country this machine is in (HTTP 451). {_WITHOUT_IT}"
    if failure.status == 403:
        return f"{address} refuses this machine (HTTP 403): its firewall, a proxy, or a blocked region. {_WITHOUT_IT}"
    if failure.kind is Kind.SILENCE and not has_an_address(urlsplit(address).hostname or ""):
        return (
            f"{address} cannot be reached: its name is not found, so this machine is offline or its DNS fails. "
            f"Check the connection. {_WITHOUT_IT}"
        )
    if failure.kind is Kind.SILENCE:
        return f"{address} cannot be reached ({failure.text}). Check connection and firewall. {_WITHOUT_IT}"
    if failure.kind is Kind.GARBLED:
        return _strange(address)
    return f"{address} refuses to answer ({failure}: {fault.rule.meaning}). Try again later."


def _strange(address: str) -> str:
    return (
        f"{address} answers with something that is not the venue's: a login page or a proxy may stand in between. "
        f"Open it in a browser to see. {_WITHOUT_IT}"
    )


def has_an_address(host: str, *, within_s: float = 3.0) -> bool:
    """Say whether a host's name leads to an address; a resolver that says nothing for ``within_s`` counts as no."""
    found: list[bool] = []

    def look_up() -> None:
        try:
            found.append(bool(socket.getaddrinfo(host, 443)))
        except OSError:
            found.append(False)

    looking = threading.Thread(target=look_up, name="look up a host", daemon=True)
    looking.start()
    looking.join(within_s)
    return bool(found and found[0])
