"""Public market data of a running market: closed candles, what happened inside them, and prices of this moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from feeds.timeframes import HOUR_MS, timeframe_ms
from smm_bt.execution import venue_rows as rows
from smm_bt.execution.market_history import Settlement
from smm_bt.execution.venue_client import MarketDataClient
from smm_bt.execution.venue_rows import Kline

Answer = TypeVar("Answer")
_MOST_KLINES = 1000
#: A venue may send a page shorter than asked for and have older candles all the same: so many pages more than needed.
_SPARE_PAGES = 8


class Inside(NamedTuple):
    """What liquidates inside a candle, and the funding settled there."""

    liquidation_high: float
    liquidation_low: float
    settlements: tuple[Settlement, ...] = ()


class InsideCandles(NamedTuple):
    """What happened inside candles, by open time; ``settled`` once the venue shows the mark candle after them."""

    by_open_ms: dict[int, Inside]
    settled: bool


class NewCandles(NamedTuple):
    """Candles closed by the venue's time, oldest first; ``settled`` once the venue shows the candle after them."""

    closed: list[Kline]
    settled: bool


class LiveCandles:
    """Reads one timeframe of any number of symbols; one request per symbol and candle.

    Args:
        clients: keyless readers; with several of them symbols are read side by side.
        timeframe: for example ``5m``.
        hourly_funding: settlements fall on full hours only, as on the real venue; other candles are not asked about.
    """

    def __init__(self, clients: Sequence[MarketDataClient], timeframe: str, *, hourly_funding: bool = True) -> None:
        self._clients = clients
        self.timeframe = timeframe
        self.length_ms = timeframe_ms(timeframe)
        self._hourly_funding = hourly_funding
        self._pool = ThreadPoolExecutor(len(clients), "candles") if len(clients) > 1 else None

    def close(self) -> None:
        """End the reading threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def history(self, symbol: str, first_ms: int, now_ms: int) -> list[Kline]:
        """Return the candles that opened at or after ``first_ms`` and are closed at ``now_ms``, in pages."""
        client, found, since = self._clients[0], list[Kline](), first_ms
        while True:
            page = self._klines(client, "fapiPublicGetKlines", symbol, since, _MOST_KLINES)
            found += [kline for kline in page if kline.open_ms + self.length_ms <= now_ms]
            if len(page) < _MOST_KLINES or found[-1] is not page[-1]:
                return found
            since = found[-1].open_ms + self.length_ms

    def latest(self, symbol: str, last_ms: int, count: int) -> list[Kline]:
        """Return the newest ``count`` candles that opened at or before ``last_ms``, oldest first, paged backwards.

        Counted, not measured in time: holes make the stretch longer. Fewer where the venue has no more.
        """
        found: list[Kline] = []
        for _ in range(-(-count // _MOST_KLINES) + _SPARE_PAGES):
            wanted = min(_MOST_KLINES, count - len(found))
            if not wanted:
                break
            page = self._read_klines(self._clients[0], "fapiPublicGetKlines", symbol, wanted, endTime=last_ms)
            page = [kline for kline in page if kline.open_ms <= last_ms]
            if not page:
                break
            found = page + found
            last_ms = page[0].open_ms - 1
        return found

    def newest(self, since_ms: Mapping[str, int], now_ms: int) -> dict[str, NewCandles]:
        """Return for each symbol what has closed by ``now_ms`` and opened at or after ``since_ms``."""

        def read(client: MarketDataClient, symbol: str) -> NewCandles:
            since = since_ms[symbol]
            expected = (now_ms - since) // self.length_ms
            if expected + 2 > _MOST_KLINES:
                return NewCandles(self.history(symbol, since, now_ms), True)
            page = self._klines(client, "fapiPublicGetKlines", symbol, since, max(3, expected + 2))
            closed = [k for k in page if since <= k.open_ms and k.open_ms + self.length_ms <= now_ms]
            return NewCandles(closed, len(closed) < len(page))

        return self._side_by_side(read, since_ms)

    def inside(self, candles: Mapping[str, Sequence[Kline]]) -> dict[str, InsideCandles]:
        """Return mark-price extremes and settlements inside ``candles``, by symbol."""

        def read(client: MarketDataClient, symbol: str) -> InsideCandles:
            wanted = candles[symbol]
            first, last = wanted[0].open_ms, wanted[-1].open_ms
            marks: dict[int, Kline] = {}
            since = first
            while since <= last:
                count = min(_MOST_KLINES, (last - since) // self.length_ms + 2)
                page = self._klines(client, "fapiPublicGetMarkPriceKlines", symbol, since, count)
                marks |= {kline.open_ms: kline for kline in page}
                since += count * self.length_ms
            rates = self._funding(client, symbol, first, last + self.length_ms)
            found = {kline.open_ms: self._inside(kline, marks.get(kline.open_ms, kline), rates) for kline in wanted}
            return InsideCandles(found, max(marks, default=0) > last)

        return self._side_by_side(read, {symbol: found for symbol, found in candles.items() if found})

    def _inside(self, candle: Kline, mark: Kline, rates: Iterable[tuple[int, float]]) -> Inside:
        end_ms = candle.open_ms + self.length_ms
        settled = tuple(Settlement(t, rate, mark.open) for t, rate in rates if candle.open_ms <= t < end_ms)
        return Inside(mark.high, mark.low, settled)

    def may_settle(self, since_ms: int, end_ms: int) -> bool:
        """Return whether funding can have been settled from ``since_ms`` on and before ``end_ms``."""
        return (-(-since_ms // HOUR_MS) * HOUR_MS if self._hourly_funding else since_ms) < end_ms

    def settlements(self, symbol: str, since_ms: int, end_ms: int) -> tuple[Settlement, ...]:
        """Return the published settlements from ``since_ms`` on and before ``end_ms``, at prices as in a candle.

        One at whose time there is neither a mark candle nor a candle has no price and is left out.
        """
        client = self._clients[0]
        rates = self._funding(client, symbol, since_ms, end_ms)
        priced = [(time_ms, rate, self._price_at(client, symbol, time_ms)) for time_ms, rate in rates]
        return tuple(Settlement(time_ms, rate, price) for time_ms, rate, price in priced if price is not None)

    def _price_at(self, client: MarketDataClient, symbol: str, time_ms: int) -> float | None:
        """Return the open of the mark candle that holds ``time_ms``, else of the candle."""
        for endpoint in ("fapiPublicGetMarkPriceKlines", "fapiPublicGetKlines"):
            page = self._klines(client, endpoint, symbol, time_ms - self.length_ms + 1, 1)
            if page and page[0].open_ms <= time_ms:
                return page[0].open
        return None

    def _funding(self, client: MarketDataClient, symbol: str, first_ms: int, end_ms: int) -> list[tuple[int, float]]:
        if not self.may_settle(first_ms, end_ms):
            return []
        params: dict[str, object] = {"symbol": symbol, "startTime": first_ms, "endTime": end_ms - 1, "limit": 1000}
        answer = client.wire.read("fapiPublicGetFundingRate", params, 1)
        return rows.parsed(
            "fundingRate", lambda body: [(int(r["fundingTime"]), float(r["fundingRate"])) for r in body], answer
        )

    def _klines(self, client: MarketDataClient, endpoint: str, symbol: str, since_ms: int, limit: int) -> list[Kline]:
        return self._read_klines(client, endpoint, symbol, limit, startTime=since_ms)

    def _read_klines(
        self, client: MarketDataClient, endpoint: str, symbol: str, limit: int, **bounds: int
    ) -> list[Kline]:
        params: dict[str, object] = {"symbol": symbol, "interval": self.timeframe, "limit": limit, **bounds}
        weight = 1 if limit < 100 else 2 if limit < 500 else 5
        return rows.parsed(endpoint, rows.kline_rows, client.wire.read(endpoint, params, weight))

    def _side_by_side(
        self, read: Callable[[MarketDataClient, str], Answer], symbols: Iterable[str]
    ) -> dict[str, Answer]:
        """Ask for each symbol, shared out over the clients; the first failure is raised once all have answered."""
        names = list(symbols)
        if self._pool is None or len(names) == 1:
            return {symbol: read(self._clients[0], symbol) for symbol in names}
        count = len(self._clients)

        def share(number: int) -> dict[str, Answer]:
            return {symbol: read(self._clients[number], symbol) for symbol in names[number::count]}

        shares = [self._pool.submit(share, number) for number in range(min(count, len(names)))]
        found: dict[str, Answer] = {}
        for each in shares:
            found |= each.result()
        return {symbol: found[symbol] for symbol in names}
