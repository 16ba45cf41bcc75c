"""Websocket messages: candles, book and mark ticks, and the user-data events, field for field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from smm_bt.emulator.candles import INTERVALS, candle_open_ms
from smm_bt.emulator.events import AccountEvent, AlgoEvent, LeverageEvent, OrderEvent
from smm_bt.emulator.exact import exact, plain
from smm_bt.emulator.exchange import Exchange
from smm_bt.emulator.records import Trade
from smm_bt.emulator.routes_market import next_funding
from smm_bt.emulator.tape import Candle

Message = dict[str, Any]


def kline_messages(exchange: Exchange, symbol: str, interval: str, before_ms: int) -> Iterator[Message]:
    """Yield the candle that closed since ``before_ms``, if one did, and the one now forming."""
    interval_ms, now = INTERVALS[interval], exchange.now_ms
    if interval_ms % exchange.market.timeframe_ms:
        return
    tape = exchange.market.symbols[symbol].last
    previous, present = candle_open_ms(before_ms, interval_ms), candle_open_ms(now, interval_ms)
    if previous != present:
        for candle in tape.klines(interval_ms, previous, previous, 1):
            yield _kline(exchange, symbol, interval, candle, closed=True)
    for candle in tape.klines(interval_ms, present, present, 1):
        yield _kline(exchange, symbol, interval, candle, closed=False)


def _kline(exchange: Exchange, symbol: str, interval: str, candle: Candle, *, closed: bool) -> Message:
    quote = plain(exact(candle.volume) * exact(candle.close))
    return {
        "e": "kline",
        "E": exchange.now_ms,
        "s": symbol,
        "k": {
            "t": candle.open_time,
            "T": candle.open_time + INTERVALS[interval] - 1,
            "s": symbol,
            "i": interval,
            "f": 1,
            "L": 1,
            "o": plain(exact(candle.open)),
            "c": plain(exact(candle.close)),
            "h": plain(exact(candle.high)),
            "l": plain(exact(candle.low)),
            "v": plain(exact(candle.volume)),
            "n": int(candle.volume),
            "x": closed,
            "q": quote,
            "V": plain(exact(candle.volume) / 2),
            "Q": plain(exact(candle.volume) * exact(candle.close) / 2),
            "B": "0",
        },
    }


def book_message(exchange: Exchange, symbol: str) -> Message:
    """Best bid and ask now."""
    market, qty = exchange.market, plain(exchange.instruments[symbol].market_lot.largest)
    return {
        "e": "bookTicker",
        "u": exchange.now_ms,
        "E": exchange.now_ms,
        "T": exchange.now_ms,
        "s": symbol,
        "b": plain(market.bid(symbol)),
        "B": qty,
        "a": plain(market.ask(symbol)),
        "A": qty,
    }


def mark_message(exchange: Exchange, symbol: str) -> Message:
    """Mark price and coming funding now."""
    mark = plain(exchange.market.mark(symbol))
    time_ms, rate = next_funding(exchange, symbol)
    return {
        "e": "markPriceUpdate",
        "E": exchange.now_ms,
        "s": symbol,
        "p": mark,
        "i": mark,
        "P": mark,
        "r": plain(rate),
        "T": time_ms,
    }


def order_message(event: OrderEvent) -> Message:
    """ORDER_TRADE_UPDATE."""
    order = event.order
    body = {
        "s": order.symbol,
        "c": order.client_order_id,
        "S": order.side,
        "o": "LIQUIDATION" if event.execution == "CALCULATED" else order.order_type,
        "f": order.time_in_force,
        "q": plain(order.qty),
        "p": plain(order.price),
        "ap": plain(order.average_price),
        "sp": plain(order.stop_price),
        "x": event.execution,
        "X": order.status,
        "i": order.order_id,
        "z": plain(order.executed_qty),
        "T": event.time_ms,
        "b": "0",
        "a": "0",
        "R": order.reduce_only,
        "wt": order.working_type,
        "ot": order.orig_type,
        "ps": order.position_side,
        "cp": order.close_position,
        "pP": False,
        "si": 0,
        "ss": 0,
        "V": "EXPIRE_MAKER",
        "pm": "NONE",
        "gtd": order.good_till_date,
    }
    return {"e": "ORDER_TRADE_UPDATE", "E": event.time_ms, "T": event.time_ms, "o": body | _fill_part(event.trade)}


def _fill_part(trade: Trade | None) -> Message:
    return {
        "l": plain(trade.qty) if trade else "0",
        "L": plain(trade.price) if trade else "0",
        "N": "USDT",
        "n": plain(trade.commission) if trade else "0",
        "t": trade.trade_id if trade else 0,
        "m": trade.maker if trade else False,
        "rp": plain(trade.realized_pnl) if trade else "0",
    }


def account_message(exchange: Exchange, event: AccountEvent) -> Message:
    """ACCOUNT_UPDATE with the balance and the positions of the symbol that changed."""
    account, mark = exchange.account, exchange.market.mark
    positions = [p for p in account.positions.values() if p.symbol == event.symbol]
    balance = {
        "a": "USDT",
        "wb": plain(account.wallet),
        "cw": plain(account.cross_wallet()),
        "bc": "0",
    }
    rows = [
        {
            "s": p.symbol,
            "pa": plain(p.qty),
            "ep": plain(p.entry_price),
            "bep": plain(p.entry_price),
            "cr": "0",
            "up": plain(p.unrealized(mark(p.symbol))),
            "mt": "isolated" if account.is_isolated(p.symbol) else "cross",
            "iw": plain(account.margin(p)) if account.is_isolated(p.symbol) else "0",
            "ps": p.side,
        }
        for p in positions
    ]
    body = {"m": event.reason, "B": [balance], "P": rows}
    return {"e": "ACCOUNT_UPDATE", "E": event.time_ms, "T": event.time_ms, "a": body}


def algo_message(event: AlgoEvent) -> Message:
    """ALGO_UPDATE."""
    algo = event.algo
    body = {
        "caid": algo.client_algo_id,
        "aid": algo.algo_id,
        "at": "CONDITIONAL",
        "o": algo.order_type,
        "s": algo.symbol,
        "S": algo.side,
        "ps": algo.position_side,
        "f": algo.time_in_force,
        "q": plain(algo.qty),
        "X": algo.status,
        "ai": str(algo.actual_order_id) if algo.actual_order_id else "",
        "ap": plain(algo.actual_price),
        "aq": plain(algo.actual_qty),
        "act": "MARKET" if algo.order_type.endswith("_MARKET") else "LIMIT",
        "tp": plain(algo.trigger_price),
        "p": plain(algo.price),
        "V": "EXPIRE_MAKER",
        "wt": algo.working_type,
        "pm": "NONE",
        "cp": algo.close_position,
        "pP": algo.price_protect,
        "R": algo.reduce_only,
        "tt": algo.trigger_time,
        "gtd": algo.good_till_date,
    }
    if algo.reject_reason:
        body["rm"] = algo.reject_reason
    return {"e": "ALGO_UPDATE", "T": event.time_ms, "E": event.time_ms, "o": body}


def leverage_message(event: LeverageEvent) -> Message:
    """ACCOUNT_CONFIG_UPDATE."""
    change = {"s": event.symbol, "l": event.leverage}
    return {"e": "ACCOUNT_CONFIG_UPDATE", "E": event.time_ms, "T": event.time_ms, "ac": change}
