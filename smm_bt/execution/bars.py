"""The candle a simulated venue is looking at: prices, what liquidates, what is settled, and its times."""

from __future__ import annotations

from typing import Any, NamedTuple

from feeds.bt_time import from_backtrader
from smm_bt.execution.market_history import MarketHistory, Settlement


class Bar(NamedTuple):
    """One candle of one symbol; ``last_ms`` is its last millisecond, stamped on what happens inside it."""

    open_ms: int
    last_ms: int
    open: float
    high: float
    low: float
    liquidation_high: float
    liquidation_low: float
    settlements: tuple[Settlement, ...]


def current_bar(data: Any, history: MarketHistory | None) -> Bar:
    """Return the current candle of a Backtrader feed, with mark prices and funding when a history is known.

    A feed that is not ours says only when its bar is stamped; that moment then stands for the open and the end.
    """
    opened, high, low = data.open[0], data.high[0], data.low[0]
    if history is None:
        stamp = from_backtrader(data.datetime[0])
        return Bar(stamp, stamp, opened, high, low, high, low, ())
    row = len(data) - 1
    open_ms = int(history.candles.open_ms[row])
    return Bar(
        open_ms,
        open_ms + history.candles.timeframe_ms - 1,
        opened,
        high,
        low,
        float(history.liquidation_high[row]),
        float(history.liquidation_low[row]),
        history.settlements.get(row, ()),
    )
