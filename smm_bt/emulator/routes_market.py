"""Public endpoints: time, exchange information, candles, tickers, book, marks and funding."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import Any

from smm_bt.emulator.candles import INTERVALS
from smm_bt.emulator.exact import ZERO, exact, plain
from smm_bt.emulator.exchange import Exchange
from smm_bt.emulator.market import EIGHT_HOURS_MS, SymbolMarket
from smm_bt.emulator.parameters import Parameters
from smm_bt.emulator.refusals import VenueError
from smm_bt.emulator.routes import Endpoint, Routes, in_time_range, known_symbol, optional_symbol, traded_symbols
from smm_bt.emulator.tape import Candle, Tape

Row = tuple[Any, ...]
_DAY_MS = 86_400_000
_UNLIMITED = 1_000_000


def ping(_exchange: Exchange, _parameters: Parameters) -> dict[str, Any]:
    """Answer with an empty body."""
    return {}


def server_time(exchange: Exchange, _parameters: Parameters) -> dict[str, int]:
    """Tell the venue's time, clock offset included."""
    return {"serverTime": exchange.server_ms}


def exchange_info(exchange: Exchange, _parameters: Parameters) -> dict[str, Any]:
    """List every instrument; those without candles here are shown as not trading."""
    config, market = exchange.config, exchange.market
    limits = [
        ("REQUEST_WEIGHT", "MINUTE", 1, config.weight_limit_1m),
        ("ORDERS", "MINUTE", 1, config.order_limit_1m),
        ("ORDERS", "SECOND", 10, config.order_limit_10s),
    ]
    return {
        "timezone": "UTC",
        "serverTime": exchange.server_ms,
        "rateLimits": [
            {"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": limit or _UNLIMITED}
            for kind, interval, number, limit in limits
        ],
        "exchangeFilters": [],
        "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
        "symbols": [
            dict(instrument.description)
            if symbol in market.symbols
            else dict(instrument.description) | {"status": "PENDING_TRADING"}
            for symbol, instrument in exchange.instruments.items()
        ],
    }


def _market_of(exchange: Exchange, symbol: str) -> SymbolMarket:
    if symbol not in exchange.market.symbols:
        raise VenueError(-4108)
    return exchange.market.symbols[symbol]


def _interval(exchange: Exchange, parameters: Parameters) -> int:
    interval_ms = INTERVALS.get(parameters.text("interval"))
    if interval_ms is None or interval_ms % exchange.market.timeframe_ms:
        raise VenueError(-1120)
    return interval_ms


def _candles(exchange: Exchange, tape: Tape, parameters: Parameters) -> list[Candle]:
    return tape.klines(
        _interval(exchange, parameters),
        parameters.optional_integer("startTime"),
        parameters.optional_integer("endTime"),
        parameters.limit(500, 1500),
    )


def klines(exchange: Exchange, parameters: Parameters) -> list[Row]:
    """Candles of the last price; the newest row is the candle that is still forming."""
    tape = _market_of(exchange, known_symbol(exchange, parameters)).last
    return [_kline_row(candle, parameters.text("interval")) for candle in _candles(exchange, tape, parameters)]


def mark_klines(exchange: Exchange, parameters: Parameters) -> list[Row]:
    """Candles of the mark price, without volume."""
    tape = _market_of(exchange, known_symbol(exchange, parameters)).mark
    rows = (candle._replace(volume=0.0) for candle in _candles(exchange, tape, parameters))
    return [_kline_row(candle, parameters.text("interval")) for candle in rows]


def index_klines(exchange: Exchange, parameters: Parameters) -> list[Row]:
    """Candles of the index price, which here equals the mark price."""
    symbol = exchange.instrument(parameters.text("pair").upper()).symbol
    rows = (candle._replace(volume=0.0) for candle in _candles(exchange, _market_of(exchange, symbol).mark, parameters))
    return [_kline_row(candle, parameters.text("interval")) for candle in rows]


def premium_klines(exchange: Exchange, parameters: Parameters) -> list[Row]:
    """Candles of the premium, which is zero as mark and index are one."""
    rows = mark_klines(exchange, parameters)
    return [(row[0], "0", "0", "0", "0", *row[5:]) for row in rows]


@lru_cache(maxsize=100_000)
def _kline_row(candle: Candle, interval: str) -> Row:
    first, high, low, last, volume = (plain(exact(value)) for value in candle[1:])
    quote = plain(exact(candle.volume) * exact(candle.close))
    half = exact(candle.volume) / 2
    return (
        candle.open_time,
        first,
        high,
        low,
        last,
        volume,
        candle.open_time + INTERVALS[interval] - 1,
        quote,
        int(candle.volume) + 1 if candle.volume else 0,
        plain(half),
        plain(half * exact(candle.close)),
        "0",
    )


def _kline_weight(parameters: Parameters) -> int:
    return _weight_by_limit(parameters, ((99, 1), (499, 2), (1000, 5)), 10)


def _weight_by_limit(parameters: Parameters, steps: tuple[tuple[int, int], ...], highest: int) -> int:
    text = parameters.optional_text("limit", "500")
    limit = int(text) if text.isdigit() else 500
    return next((weight for ceiling, weight in steps if limit <= ceiling), highest)


def _one_or_all(exchange: Exchange, parameters: Parameters, rows: list[dict[str, Any]]) -> Any:
    if optional_symbol(exchange, parameters) is None:
        return rows
    if not rows:
        raise VenueError(-4108)
    return rows[0]


def _depth_weight(parameters: Parameters) -> int:
    return _weight_by_limit(parameters, ((50, 2), (100, 5), (500, 10)), 20)


def ticker_24h(exchange: Exchange, parameters: Parameters) -> Any:
    """Change, range and volume of the last 24 hours."""
    symbols = traded_symbols(exchange, parameters)
    return _one_or_all(exchange, parameters, [_day_row(exchange, symbol) for symbol in symbols])


def _day_row(exchange: Exchange, symbol: str) -> dict[str, Any]:
    market, now = exchange.market.symbols[symbol], exchange.now_ms
    rows = market.last.klines(exchange.market.timeframe_ms, now - _DAY_MS, None, 2000)
    opened, last = exact(rows[0].open), market.price
    volume = sum((exact(row.volume) for row in rows), ZERO)
    quote = sum((exact(row.volume) * exact(row.close) for row in rows), ZERO)
    return {
        "symbol": symbol,
        "priceChange": plain(last - opened),
        "priceChangePercent": plain((last / opened - 1) * 100),
        "weightedAvgPrice": plain(quote / volume if volume else last),
        "lastPrice": plain(last),
        "lastQty": plain(exchange.instruments[symbol].lot.smallest),
        "openPrice": plain(opened),
        "highPrice": plain(max(exact(row.high) for row in rows)),
        "lowPrice": plain(min(exact(row.low) for row in rows)),
        "volume": plain(volume),
        "quoteVolume": plain(quote),
        "openTime": now - _DAY_MS,
        "closeTime": now,
        "firstId": 1,
        "lastId": len(rows),
        "count": len(rows),
    }


def price_ticker(exchange: Exchange, parameters: Parameters) -> Any:
    """Last price."""
    rows = [
        {"symbol": symbol, "price": plain(exchange.market.price(symbol)), "time": exchange.now_ms}
        for symbol in traded_symbols(exchange, parameters)
    ]
    return _one_or_all(exchange, parameters, rows)


def book_ticker(exchange: Exchange, parameters: Parameters) -> Any:
    """Best bid and ask; their quantity is the largest market order, as depth is not modelled."""
    rows = [
        {
            "symbol": symbol,
            "bidPrice": plain(exchange.market.bid(symbol)),
            "bidQty": plain(exchange.instruments[symbol].market_lot.largest),
            "askPrice": plain(exchange.market.ask(symbol)),
            "askQty": plain(exchange.instruments[symbol].market_lot.largest),
            "time": exchange.market.traded_ms(symbol),
        }
        for symbol in traded_symbols(exchange, parameters)
    ]
    return _one_or_all(exchange, parameters, rows)


def depth(exchange: Exchange, parameters: Parameters) -> dict[str, Any]:
    """A made ladder of ticks around the best prices; orders do not eat into it."""
    symbol = known_symbol(exchange, parameters)
    _market_of(exchange, symbol)
    instrument, market = exchange.instruments[symbol], exchange.market
    tick = instrument.tick or Decimal("0.01")
    qty = plain(instrument.market_lot.largest)
    levels = parameters.limit(500, 1000)
    # with no spread bid and ask are equal; the ladder shows them one tick apart so that it never crosses
    bid = market.bid(symbol)
    ask = max(market.ask(symbol), bid + tick)
    count = min(levels, 20)
    return {
        "lastUpdateId": exchange.now_ms,
        "E": exchange.now_ms,
        "T": exchange.now_ms,
        "bids": [[plain(bid - tick * step), qty] for step in range(count) if bid > tick * step],
        "asks": [[plain(ask + tick * step), qty] for step in range(count)],
    }


def premium_index(exchange: Exchange, parameters: Parameters) -> Any:
    """Mark price, index price and the coming funding."""
    rows = [_premium_row(exchange, symbol) for symbol in traded_symbols(exchange, parameters)]
    return _one_or_all(exchange, parameters, rows)


def next_funding(exchange: Exchange, symbol: str) -> tuple[int, Decimal]:
    """Return time and rate of the coming settlement; without funding data the next 8-hour mark, zero."""
    now = exchange.now_ms
    coming = exchange.market.symbols[symbol].funding.between(now + 1, now + _DAY_MS)
    return coming[0] if coming else ((now // EIGHT_HOURS_MS + 1) * EIGHT_HOURS_MS, ZERO)


def _premium_row(exchange: Exchange, symbol: str) -> dict[str, Any]:
    mark = plain(exchange.market.mark(symbol))
    time_ms, rate = next_funding(exchange, symbol)
    return {
        "symbol": symbol,
        "markPrice": mark,
        "indexPrice": mark,
        "estimatedSettlePrice": mark,
        "lastFundingRate": plain(rate),
        "interestRate": "0.00010000",
        "nextFundingTime": time_ms,
        "time": exchange.now_ms,
    }


def funding_rate(exchange: Exchange, parameters: Parameters) -> list[dict[str, Any]]:
    """Past settlements."""
    limit = parameters.limit(100, 1000)
    rows = []
    for symbol in traded_symbols(exchange, parameters):
        market = exchange.market.symbols[symbol]
        for time_ms, rate in market.funding.between(0, exchange.now_ms + 1):
            if in_time_range(parameters, time_ms):
                index = market.mark.series.index_at(time_ms)
                price = exact(market.mark.series.open[index]) if index is not None else ZERO
                rows.append((time_ms, symbol, rate, price))
    rows.sort()
    kept = rows[:limit] if "startTime" in parameters else rows[-limit:]
    return [
        {"symbol": symbol, "fundingTime": time_ms, "fundingRate": plain(rate), "markPrice": plain(price)}
        for time_ms, symbol, rate, price in kept
    ]


def funding_info(exchange: Exchange, _parameters: Parameters) -> list[dict[str, Any]]:
    """Settlement intervals."""
    return [
        {
            "symbol": symbol,
            "adjustedFundingRateCap": "0.02000000",
            "adjustedFundingRateFloor": "-0.02000000",
            "fundingIntervalHours": 8,
            "disclaimer": False,
        }
        for symbol in exchange.market.symbols
    ]


def public_trades(exchange: Exchange, parameters: Parameters) -> list[dict[str, Any]]:
    """One made print per closed candle: its close, its volume."""
    candles = _prints(exchange, parameters)
    return [
        {
            "id": candle.open_time // 1000,
            "price": plain(exact(candle.close)),
            "qty": plain(exact(candle.volume)),
            "quoteQty": plain(exact(candle.volume) * exact(candle.close)),
            "time": candle.open_time + exchange.market.timeframe_ms - 1,
            "isBuyerMaker": candle.close < candle.open,
            "isRPITrade": False,
        }
        for candle in candles
    ]


def aggregate_trades(exchange: Exchange, parameters: Parameters) -> list[dict[str, Any]]:
    """The same prints in the aggregate form."""
    return [
        {
            "a": candle.open_time // 1000,
            "p": plain(exact(candle.close)),
            "q": plain(exact(candle.volume)),
            "f": candle.open_time // 1000,
            "l": candle.open_time // 1000,
            "T": candle.open_time + exchange.market.timeframe_ms - 1,
            "m": candle.close < candle.open,
        }
        for candle in _prints(exchange, parameters)
    ]


def _prints(exchange: Exchange, parameters: Parameters) -> list[Candle]:
    tape = _market_of(exchange, known_symbol(exchange, parameters)).last
    rows = tape.klines(exchange.market.timeframe_ms, None, None, parameters.limit(500, 1000) + 1)
    closed = [row for row in rows if row.open_time + exchange.market.timeframe_ms <= exchange.now_ms]
    return [row for row in closed if row.volume]


def _all_or_one(all_symbols: int, one: int) -> Any:
    return lambda parameters: one if "symbol" in parameters else all_symbols


ROUTES: Routes = {
    ("GET", "/fapi/v1/ping"): Endpoint(ping),
    ("GET", "/fapi/v1/time"): Endpoint(server_time),
    ("GET", "/fapi/v1/exchangeInfo"): Endpoint(exchange_info),
    ("GET", "/fapi/v1/klines"): Endpoint(klines, _kline_weight),
    ("GET", "/fapi/v1/markPriceKlines"): Endpoint(mark_klines, _kline_weight),
    ("GET", "/fapi/v1/indexPriceKlines"): Endpoint(index_klines, _kline_weight),
    ("GET", "/fapi/v1/premiumIndexKlines"): Endpoint(premium_klines, _kline_weight),
    ("GET", "/fapi/v1/ticker/24hr"): Endpoint(ticker_24h, _all_or_one(40, 1)),
    ("GET", "/fapi/v1/ticker/price"): Endpoint(price_ticker, _all_or_one(2, 1)),
    ("GET", "/fapi/v2/ticker/price"): Endpoint(price_ticker, _all_or_one(2, 1)),
    ("GET", "/fapi/v1/ticker/bookTicker"): Endpoint(book_ticker, _all_or_one(5, 2)),
    ("GET", "/fapi/v1/depth"): Endpoint(depth, _depth_weight),
    ("GET", "/fapi/v1/premiumIndex"): Endpoint(premium_index, _all_or_one(10, 1)),
    ("GET", "/fapi/v1/fundingRate"): Endpoint(funding_rate),
    ("GET", "/fapi/v1/fundingInfo"): Endpoint(funding_info),
    ("GET", "/fapi/v1/trades"): Endpoint(public_trades, 5),
    ("GET", "/fapi/v1/aggTrades"): Endpoint(aggregate_trades, 20),
}
