"""Funding of a simulated position that is changed or ends inside a candle: what the venue has settled by then."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from smm_bt.execution.intrabar import settle_funding
from smm_bt.execution.ledger import FuturesLedger
from smm_bt.execution.venue_errors import VenueFault, VenueSilent

if TYPE_CHECKING:
    from smm_bt.execution.live_market import VenueTime
    from smm_bt.execution.market_history import Settlement

#: A settlement younger than this may not be in the venue's public history yet.
_PUBLISHED_AFTER_MS = 60_000


class FundingHistory(Protocol):
    """What a venue has settled and published; times are UTC milliseconds, ends exclusive."""

    def may_settle(self, since_ms: int, end_ms: int) -> bool:
        """Return whether settlements can lie there, without asking the venue."""
        ...

    def settlements(self, symbol: str, since_ms: int, end_ms: int) -> tuple[Settlement, ...]:
        """Return the settlements there; asks nobody where none can lie."""
        ...


class NoRunningFunding:
    """For a venue whose clock stands while orders are filled: nothing is settled between its candles."""

    def settle(self, ledger: FuturesLedger, symbol: str, now_ms: int) -> bool:
        """Book what was settled on the symbol's position before ``now_ms``; False while that cannot be learned."""
        return True

    def settle_late(self, ledger: FuturesLedger, *, at_end: bool = False) -> None:
        """Book what was too young to be known when its position was changed or closed."""


class _Untold(NamedTuple):
    """A stretch of time whose settlements may have been too young, and the signed quantity held in it."""

    symbol: str
    signed_qty: float
    since_ms: int
    end_ms: int


class RunningFunding(NoRunningFunding):
    """Reads the venue's public funding history, and that only when a settlement can lie in the stretch.

    Args:
        history: what the venue has published.
        time: the venue's time.
    """

    def __init__(self, history: FundingHistory, time: VenueTime) -> None:
        self._history, self._time = history, time
        self._untold: list[_Untold] = []
        self._ask_at_ms = 0

    def settle(self, ledger: FuturesLedger, symbol: str, now_ms: int) -> bool:
        """Book what was settled on the symbol's position since its last closed candle; False while nobody answers."""
        position = ledger.positions.get(symbol)
        if position is None:
            return True
        since_ms, published_ms = position.settled_ms + 1, now_ms - _PUBLISHED_AFTER_MS
        try:
            found = self._history.settlements(symbol, since_ms, published_ms)
        except (VenueSilent, VenueFault):
            return False
        settle_funding(ledger, symbol, found)
        young_ms = max(since_ms, published_ms)
        if self._history.may_settle(young_ms, now_ms):
            self._untold.append(_Untold(symbol, position.signed_qty, young_ms, now_ms))
            self._ask_at_ms = now_ms + _PUBLISHED_AFTER_MS
        return True

    def settle_late(self, ledger: FuturesLedger, *, at_end: bool = False) -> None:
        """Ask once more, a minute later or at the end of the run, and book on whatever the position has become."""
        if not self._untold or (self._time.now_ms() < self._ask_at_ms and not at_end):
            return
        self._ask_at_ms = self._time.now_ms() + _PUBLISHED_AFTER_MS
        try:
            while self._untold:
                self._book(ledger, self._untold[0])
                self._untold.pop(0)
        except (VenueSilent, VenueFault):
            return  # the same question again in a minute

    def _book(self, ledger: FuturesLedger, untold: _Untold) -> None:
        symbol, signed_qty, since_ms, end_ms = untold
        for time_ms, rate, price in self._history.settlements(symbol, since_ms, end_ms):
            position = ledger.positions.get(symbol)
            is_booked = position is not None and position.entry_ms <= time_ms <= position.settled_ms
            if not is_booked:
                ledger.settle_told(symbol, -signed_qty * price * rate, time_ms)
