"""What became of an order nobody answered for: ask until it is known, and never send again before it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from smm_bt.errors import VenueError
from smm_bt.execution.fill_tracker import FillTracker
from smm_bt.execution.host_clock import HostClock
from smm_bt.execution.venue_client import VenueClient
from smm_bt.execution.venue_errors import VenueSilent
from smm_bt.execution.venue_ledger import VenueLedger
from smm_bt.execution.venue_rows import VenueOrder, WaitingStop


@dataclass(frozen=True)
class Patience:
    """How long the order path waits before it believes or gives up, in seconds.

    A signed request carries its time, and the venue refuses it once ``recvWindow`` has passed. Until then, and
    ``grace_s`` longer for what it may have admitted in the last moment, "not found" proves nothing. An entry whose
    signal is older than ``fresh_s`` by then is given up.
    """

    first_wait_s: float = 0.25
    longest_wait_s: float = 2.0
    grace_s: float = 5.0
    silence_s: float = 600.0
    fresh_s: float = 300.0
    attempts: int = 5

    def wait_s(self, number: int) -> float:
        """Return how long to wait before question ``number``, counted from 0."""
        return float(min(self.longest_wait_s, self.first_wait_s * 2 ** min(number, 10)))


class Settlement:
    """Finds out whether an order exists."""

    def __init__(
        self, client: VenueClient, ledger: VenueLedger, tracker: FillTracker, patience: Patience, clock: HostClock
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._tracker = tracker
        self._patience = patience
        self._clock = clock

    def find(self, symbol: str, client_id: str, signed_at_s: float) -> VenueOrder | None:
        """Return the order with this client id, or None when it is proven that it was not and will not be placed.

        Args:
            symbol: its symbol.
            client_id: the id it was sent with.
            signed_at_s: the steady clock just before it was sent.

        Raises:
            VenueError: the venue stayed silent for too long, or its books contradict each other.
        """
        deadline = signed_at_s + self._client.wire.recv_window_ms / 1000 + self._patience.grace_s
        number = 0
        while True:
            late = self._clock.seconds() > deadline
            order = self.lookup(symbol, client_id)
            if order is not None:
                return order
            if late:
                return self._insist(lambda: self._last_word(symbol, client_id), client_id)
            self._clock.sleep(self._patience.wait_s(number))
            number += 1

    def find_stop(self, client_id: str, signed_at_s: float) -> WaitingStop | None:
        """Return the conditional order with this client id, or None when it is proven that there is none."""
        deadline = signed_at_s + self._client.wire.recv_window_ms / 1000 + self._patience.grace_s
        number = 0
        while True:
            late = self._clock.seconds() > deadline
            stop = self._client.stop_by_client_id(client_id)
            if stop is not None or late:
                return stop
            self._clock.sleep(self._patience.wait_s(number))
            number += 1

    def lookup(self, symbol: str, client_id: str) -> VenueOrder | None:
        """Ask once for an order, for as long as it takes the venue to answer at all."""
        return self._insist(lambda: self._client.order_by_client_id(symbol, client_id), client_id)

    def _insist(self, ask: Callable[[], VenueOrder | None], client_id: str) -> VenueOrder | None:
        give_up = self._clock.seconds() + self._patience.silence_s
        while True:
            try:
                return ask()
            except VenueSilent as silent:
                if self._clock.seconds() > give_up:
                    raise VenueError(
                        f"It is not known whether order {client_id} was placed: the venue has been silent for "
                        f"{self._patience.silence_s:.0f} s. Nothing was sent again; start with --resume once the "
                        "venue answers, the order will be looked up first."
                    ) from silent
                self._clock.sleep(self._patience.longest_wait_s)

    def _last_word(self, symbol: str, client_id: str) -> VenueOrder | None:
        """Not found after its time: trades and position must agree with what is booked before that is believed."""
        self._tracker.collect([symbol])
        order = self._client.order_by_client_id(symbol, client_id)
        if order is not None:
            return order
        held = self._ledger.positions.get(symbol)
        booked = (held.signed_qty if held is not None else 0.0) + self._tracker.unbooked_qty(symbol)
        there = float(self._client.account().quantities.get(symbol, 0))
        if abs(there - booked) > float(self._ledger.instruments[symbol].step) / 2:
            raise VenueError(
                f"Order {client_id} cannot be found, yet the venue holds {there:g} {symbol} where {booked:g} is "
                "booked; nothing more is sent. Look at the account, then start with --resume."
            )
        return None
