"""The analyzers on a real Cerebro, against sums worked by hand."""

from __future__ import annotations

import datetime

import backtrader as bt
import pytest

from smm_bt.analytics.analyzers import SmmPerformance, SmmTrades

#: opens; the close of each bar is the next bar's open. Buy at bar 1, sell at bar 3, buy at 4, sell at 6.
OPENS = [100.0, 100.0, 60.0, 130.0, 130.0, 120.0, 110.0, 110.0]


class Prices(bt.feed.DataBase):
    """The eight bars of OPENS."""

    def start(self):
        super().start()
        self.at = 0

    def _load(self):
        if self.at == len(OPENS):
            return False
        first, last = OPENS[self.at], OPENS[min(self.at + 1, len(OPENS) - 1)]
        moment = datetime.datetime(2024, 1, 1) + datetime.timedelta(hours=self.at + 1)
        self.lines.datetime[0] = bt.date2num(moment)
        self.lines.open[0], self.lines.close[0] = first, last
        self.lines.high[0], self.lines.low[0] = max(first, last), min(first, last)
        self.lines.volume[0] = self.lines.openinterest[0] = 0.0
        self.at += 1
        return True


class TwoTrades(bt.Strategy):
    """One winner of +30 and one loser of −20."""

    def next(self):
        bar = len(self)
        if bar in (1, 4):
            self.buy(size=1)
        elif bar in (3, 6):
            self.sell(size=1)


def run(*analyzers, strategy=TwoTrades):
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(Prices())
    cerebro.addstrategy(strategy)
    cerebro.broker.setcash(1000.0)
    for analyzer in analyzers:
        cerebro.addanalyzer(analyzer)
    return list(cerebro.run()[0].analyzers)


def test_the_trade_analyzer_gives_the_seven_named_figures():
    (analyzer,) = run(SmmTrades)
    assert analyzer.get_analysis() == {
        "total_trades": 2,
        "win_rate": 0.5,
        "avg_win": 30.0,
        "avg_loss": -20.0,
        "total_pnl": 10.0,
        "profit_factor": 1.5,
        "max_drawdown": pytest.approx(20.0 / 1030.0),
        "max_drawdown_basis": "closed trades",
    }


def test_the_performance_analyzer_sees_the_fall_inside_a_trade():
    (analyzer,) = run(SmmPerformance)
    # bought at 100 with 1000 USDT, the second bar closes at 60
    assert analyzer.get_analysis()["max_drawdown"] == pytest.approx(0.04)
    assert analyzer.get_analysis()["max_drawdown_basis"] == "equity"


def test_an_engine_can_hand_the_equity_over():
    (analyzer,) = run(SmmTrades)
    analyzer.take_equity([1000.0, 800.0, 1100.0])
    assert analyzer.get_analysis()["max_drawdown"] == pytest.approx(0.2)


def test_without_trades_figures_are_none_not_an_error():
    (analyzer,) = run(SmmTrades, strategy=bt.Strategy)
    analysis = analyzer.get_analysis()
    assert analysis["total_trades"] == 0
    assert analysis["win_rate"] is analysis["profit_factor"] is None
    assert analysis["max_drawdown"] == 0.0
