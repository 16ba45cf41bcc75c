"""RiskSizer: 20 % of the free balance at 20x, as a Backtrader sizer."""

from __future__ import annotations

from typing import Any

import backtrader as bt

from smm_bt.execution.sizing import Skip, simulated_size


class RiskSizer(bt.Sizer):
    """Sizes an entry with :func:`simulated_size` on the free balance and the last close.

    An order marked ``sized_at_fill=True`` is sized again by :class:`PaperBroker` at its fill, on the balance a close
    just before it has freed; what is returned here is then an estimate. Where nothing can be bought now the smallest
    step is returned, so that the order exists and the broker can say with figures why it is not filled.
    """

    def _getsizing(self, comminfo: Any, cash: float, data: Any, isbuy: bool) -> float:
        instrument = self.broker.ledger.instruments[data._name]
        size = simulated_size(cash, data.close[0], instrument)
        return float(instrument.step if isinstance(size, Skip) else size)
