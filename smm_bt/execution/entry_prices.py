"""Bid and ask for entries that are sized one after the other on one row: one read serves several of them."""

from __future__ import annotations

from smm_bt.execution.host_clock import HostClock
from smm_bt.execution.venue_client import MarketDataClient
from smm_bt.execution.venue_rows import BookTicker

#: How old a price may be that an entry is sized at.
_OLDEST_S = 0.5
#: All symbols at once weigh as much as two and a half of them alone.
_FEW = 2


class EntryPrices:
    """The prices entries would meet, at most half a second old."""

    def __init__(self, client: MarketDataClient, clock: HostClock) -> None:
        self._client = client
        self._clock = clock
        self._read: dict[str, BookTicker] = {}
        self._read_at_s = float("-inf")

    def forget(self) -> None:
        """Drop what was read: a candle has closed since, or may have."""
        self._read_at_s = float("-inf")

    def of(self, symbol: str, waiting: int) -> BookTicker:
        """Return bid and ask of ``symbol``; ``waiting`` is how many entries are going to ask, this one included."""
        if self._clock.seconds() < self._read_at_s + _OLDEST_S and symbol in self._read:
            return self._read[symbol]
        if waiting <= _FEW:
            return self._client.fetch_book_ticker(symbol)
        asked_at_s = self._clock.seconds()
        self._read = self._client.fetch_book_tickers()
        self._read_at_s = asked_at_s
        return self._read[symbol] if symbol in self._read else self._client.fetch_book_ticker(symbol)
