"""What Backtrader asks about commission and margin of a USDT futures position."""

from __future__ import annotations

import backtrader as bt

from smm_bt.model import LEVERAGE


class FuturesCommission(bt.CommInfoBase):
    """Taker fee on notional, margin = price / leverage per unit, future-like (no cash changes hands on entry)."""

    params = (
        ("stocklike", False),
        ("commtype", bt.CommInfoBase.COMM_PERC),
        ("percabs", True),
        ("commission", 0.0005),
    )

    def get_margin(self, price: float) -> float:
        """Return the margin of one unit at ``price`` in USDT."""
        return price / LEVERAGE
