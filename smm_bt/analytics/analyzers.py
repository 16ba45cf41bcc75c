"""Backtrader analyzers: thin shells that collect what Backtrader tells them and hand it to the pure figures."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import backtrader as bt

from smm_bt.analytics import metrics

#: What max_drawdown in an analysis was measured on.
CLOSED_TRADES, EQUITY = "closed trades", "equity"


class SmmTrades(bt.Analyzer):
    """The seven named figures of the report, from the closed trades Backtrader announces.

    It listens to trades only, so a clock that skips idle bars may carry it. Its ``max_drawdown`` is therefore that
    of the balance after each closed trade, as ``max_drawdown_basis`` says, unless the engine hands over the equity
    curve with :meth:`take_equity`. For a drawdown sampled at every bar use :class:`SmmPerformance`.
    """

    def start(self) -> None:
        """Begin with an empty list and the broker's value."""
        self.initial_balance = float(self.strategy.broker.getvalue())
        self.pnl_usdt: list[float] = []
        self._equity: list[float] | None = None

    def notify_trade(self, trade: Any) -> None:
        """Keep the net result of a trade that was closed."""
        if trade.isclosed:
            self.pnl_usdt.append(float(trade.pnlcomm))

    def take_equity(self, equity: Any) -> None:
        """Take equity values, one per bar close, to measure the drawdown on."""
        self._equity = [float(value) for value in equity]

    def get_analysis(self) -> dict[str, object]:
        """Return the seven named figures; undefined ones are None."""
        basis = EQUITY if self._equity is not None else CLOSED_TRADES
        curve = self._equity if self._equity is not None else self._balances()
        return {
            **metrics.trade_figures(self.pnl_usdt)._asdict(),
            "max_drawdown": metrics.drawdown(curve, self.initial_balance).fraction,
            "max_drawdown_basis": basis,
        }

    def _balances(self) -> list[float]:
        return [self.initial_balance + earned for earned in accumulate(self.pnl_usdt)]


class SmmPerformance(SmmTrades):
    """SmmTrades with the account's value sampled at every bar; it needs an engine that visits every bar."""

    def start(self) -> None:
        """Begin with an empty curve."""
        super().start()
        self._equity = []

    def notify_cashvalue(self, cash: float, value: float) -> None:
        """Keep the account's value at this bar."""
        assert self._equity is not None
        self._equity.append(float(value))
