"""Backtrader analyzers: thin shells that collect what Backtrader tells them and hand it to the pure figures."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import backtrader as bt

from smm_bt.analytics import metrics

#: What max_drawdown in an analysis was measured on.
CLOSED_TRADES, EQUITY = "closed trades", "equity"


class SmmTrades(bt.Analyzer):
    """The seven named figures of the report, from the trades closed in this run.

    Their net results are those of the account's ledger where the broker has one, as PaperBroker and CcxtBroker have:
    Backtrader's own Trade knows neither funding nor what an empty wallet could not pay. With any other broker they
    are what Backtrader announces. A ledger is one account's: several strategies on it see the trades of all.

    It listens to trades only, so a clock that skips idle bars may carry it. Its ``max_drawdown`` is therefore that
    of the balance after each closed trade, as ``max_drawdown_basis`` says, unless the engine hands over the equity
    curve with :meth:`take_equity`. For a drawdown sampled at every bar use :class:`SmmPerformance`.
    """

    def start(self) -> None:
        """Begin with an empty list and the broker's value."""
        broker = self.strategy.broker
        self.initial_balance = float(broker.getvalue())
        self._ledger: Any = getattr(broker, "ledger", None)
        self._past_trades = len(self._ledger.trades) if self._ledger is not None else 0
        self._pnl_usdt: list[float] = []
        self._equity: list[float] | None = None

    def notify_trade(self, trade: Any) -> None:
        """Keep the net result of a trade that was closed, where no ledger tells it."""
        if trade.isclosed and self._ledger is None:
            self._pnl_usdt.append(float(trade.pnlcomm))

    def stop(self) -> None:
        """Take the results from the ledger and let go of it: an optimisation sends analyzers between processes."""
        self._pnl_usdt, self._ledger = self.pnl_usdt, None

    @property
    def pnl_usdt(self) -> list[float]:
        """The net result of each trade closed so far, in order."""
        if self._ledger is None:
            return self._pnl_usdt
        return [trade.pnl_usdt for trade in self._ledger.trades[self._past_trades :]]

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
