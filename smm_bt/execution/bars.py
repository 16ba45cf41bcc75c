"""The candle a simulated venue is looking at: prices, what liquidates, what is settled, and its times."""

from __future__ import annotations

from typing import NamedTuple

from smm_bt.execution.market_history import Settlement


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
