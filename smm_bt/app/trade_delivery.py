"""Hands the plan kernel's fills to a Backtrader strategy and its analyzers as the Trades they would have seen."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import groupby
from types import SimpleNamespace
from typing import Any

import backtrader as bt

from feeds.bt_time import to_backtrader
from feeds.timeframes import grid_offset_ms
from smm_bt.app.event_clock import EventClock
from smm_bt.execution.ledger import FuturesLedger
from smm_bt.execution.market_history import MarketHistory
from smm_bt.model import Fill

_NO_ORDER = SimpleNamespace(p=SimpleNamespace(simulated=False))


def deliver_trades(
    cerebro: Any, strategy: Any, clock: EventClock, ledger: FuturesLedger, histories: Mapping[str, MarketHistory]
) -> None:
    """Walk the feeds over the candles with fills and announce each opened and closed trade there, in order.

    Feeds and strategy stand at the bar of the fill; the broker stands where the whole run has left it.
    """
    datas = {data._name: data for data in cerebro.datas}
    candles = next(iter(histories.values())).candles
    length, offset = candles.timeframe_ms, grid_offset_ms(candles.timeframe)
    trades: dict[str, bt.Trade] = {}
    for number, fills in groupby(ledger.fills, key=lambda fill: (fill.time_ms - offset) // length):
        clock.arrive_at(to_backtrader((number + 1) * length + offset))
        for fill in fills:
            trade = _updated(trades, datas[fill.symbol], fill, cerebro.broker)
            for analyzer in strategy.analyzers:
                analyzer._notify_trade(trade)


def _updated(trades: dict[str, bt.Trade], data: Any, fill: Fill, broker: Any) -> bt.Trade:
    """Book the fill in the symbol's open Trade, or in a new one, and return a copy of it as it is then."""
    trade = trades.get(fill.symbol)
    if trade is None or trade.isclosed:
        trade = trades[fill.symbol] = bt.Trade(data=data)
    commission = broker.getcommissioninfo(data)
    trade.update(_NO_ORDER, fill.side * fill.qty, fill.price, 0.0, fill.fee_usdt, 0.0, commission)
    return copy.copy(trade)
