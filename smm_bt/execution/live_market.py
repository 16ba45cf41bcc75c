"""What PaperBroker needs of a running market: the price an order meets now, and what happened inside a candle."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from smm_bt.execution.bars import Bar
from smm_bt.execution.venue_errors import VenueFault, VenueSilent

if TYPE_CHECKING:  # a replay has no venue to talk to and does not pay for the client library
    from smm_bt.execution.venue_client import MarketDataClient

Data = Any  # a feed whose ``row`` holds its current candle and what happened inside it


class VenueTime(Protocol):
    """Tells the venue's time."""

    def now_ms(self) -> int:
        """Return the venue's time, UTC milliseconds."""
        ...


class LiveMarket:
    """Prices of this moment, from a keyless reader.

    Args:
        client: where prices are asked for.
        time: the venue's time, stamped on what is filled now.
        length_ms: of one candle.
        is_fresh: whether a position may still be opened on the candle that opened then.
    """

    def __init__(
        self, client: MarketDataClient, time: VenueTime, length_ms: int, is_fresh: Callable[[int], bool]
    ) -> None:
        self._client = client
        self._time = time
        self._length_ms = length_ms
        self._is_fresh = is_fresh
        self.silent = False

    def is_late(self, decided_ms: int) -> bool:
        """Return whether it is too late to open a position on what was decided then; asking for a price takes time."""
        return not self._is_fresh(decided_ms - self._length_ms)

    def now_ms(self) -> int:
        """Return the venue's time."""
        return self._time.now_ms()

    def price(self, symbol: str, side: int, since_ms: int) -> float | None:
        """Return the ask for a buy (side +1), the bid for a sell (−1).

        None while the venue does not answer (``silent``), or while the symbol has not traded since ``since_ms``: a
        price from before a decision cannot be had after it.
        """
        try:
            ticker = self._client.fetch_book_ticker(symbol)
        except (VenueSilent, VenueFault):
            self.silent = True
            return None
        self.silent = False
        if ticker.time_ms < since_ms:
            return None
        return float(ticker.ask if side > 0 else ticker.bid)

    def mark_now(self, symbol: str) -> Bar | None:
        """Return this moment's mark price as a candle without extent, None while the venue does not answer."""
        try:
            mark = float(self._client.fetch_mark_price(symbol))
        except (VenueSilent, VenueFault):
            return None
        now = self.now_ms()
        return Bar(now, now, mark, mark, mark, mark, mark, ())

    def bar(self, data: Data) -> Bar:
        """Return the current candle of a live feed; what is not known about its inside is told by its own prices."""
        open_ms, opened, high, low = data.row.candle[:4]
        from smm_bt.execution.live_candles import Inside

        inside = data.row.inside or Inside(high, low)
        last_ms = open_ms + self._length_ms - 1
        return Bar(open_ms, last_ms, opened, high, low, *inside)
