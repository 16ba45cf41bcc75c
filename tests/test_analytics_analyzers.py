"""The analyzers on a real Cerebro, against sums worked by hand."""

from __future__ import annotations

import datetime
from decimal import Decimal

import backtrader as bt
import pytest
from broker_contract import FRAME_MS, START_MS, Scripted, rising_candles
from made_replays import BTC, ETH, TF, T, flat, funding_rates, plan
from venue_bench import run_on_venue, store_of, write_candles

from feeds.lines import FLAG_LINES
from smm_bt.analytics import metrics
from smm_bt.analytics.analyzers import SmmPerformance, SmmTrades
from smm_bt.analytics.equity import equity_curve
from smm_bt.app.engines import ENGINES, build_cerebro, run_replay
from smm_bt.emulator.config import EmulatorConfig
from smm_bt.emulator.thread import EmulatorThread

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


# money that Backtrader's Trade does not know of


def costly_plan():
    """Funding is paid, and a gap in the open costs more than the account has; a second symbol earns before it."""
    rows = [flat(100)] * 8 + [flat(40)] * 4
    earning = [flat(100), flat(100), flat(103), *[flat(103)] * 9]
    return plan(
        {BTC: (rows, "..b....t...."), ETH: (earning, "b.t.........")},
        fee=0.0005,
        funding={BTC: funding_rates((T[4], 0.001)), ETH: funding_rates((T[1], -0.002))},
    )


def report_figures(made, record):
    """The seven figures as report.json has them."""
    closes = {symbol: (h.candles.open_ms, h.candles.close) for symbol, h in made.histories.items()}
    curve = equity_curve(None, closes, record.ledger_entries, made.initial_balance_usdt, TF)
    figures = metrics.trade_figures(trade.pnl_usdt for trade in record.trades)._asdict()
    return figures | {"max_drawdown": metrics.drawdown(curve.equity, made.initial_balance_usdt).fraction}


@pytest.mark.parametrize("engine", ENGINES)
def test_the_figures_are_those_of_the_report_also_with_funding_and_a_loss_the_wallet_could_not_pay(engine):
    made = costly_plan()
    run = run_replay(made, engine, [(SmmTrades, {})])
    assert run.engine == engine
    expected = report_figures(made, run.record)
    assert expected["total_trades"] == 2
    assert expected["total_pnl"] == pytest.approx(run.record.wallet_usdt - 10_000.0)
    figures = run.strategy.analyzers[0].get_analysis()
    assert {name: figures[name] for name in expected if name != "max_drawdown"} == {
        name: value for name, value in expected.items() if name != "max_drawdown"
    }
    assert figures["max_drawdown"] == 1.0


def test_the_performance_analyzer_gives_all_seven_figures_of_the_report():
    made = costly_plan()
    run = run_replay(made, "stock", [(SmmPerformance, {})])
    expected = report_figures(made, run.record)
    figures = run.strategy.analyzers[0].get_analysis()
    assert {name: figures[name] for name in expected} == pytest.approx(expected)


def test_figures_can_be_asked_for_while_the_run_goes_on():
    class Asking(SmmTrades):
        def notify_trade(self, trade):
            super().notify_trade(trade)
            if trade.isclosed:
                asked.append((self.get_analysis()["total_trades"], self.strategy.broker.ledger.wallet_usdt - 10_000.0))

    asked = []
    run = run_replay(costly_plan(), "stock", [(Asking, {})])
    assert [count for count, _ in asked] == [1, 2]
    assert asked[-1][1] == pytest.approx(run.strategy.analyzers[0].get_analysis()["total_pnl"])


def test_a_second_run_counts_its_own_trades_only():
    cerebro = build_cerebro(costly_plan(), "stock")
    cerebro.addanalyzer(SmmTrades)
    first, again = (cerebro.run()[0].analyzers[0].get_analysis() for _ in range(2))
    assert first == again
    assert first["total_trades"] == 2


def test_trades_that_were_closed_before_the_run_are_not_counted():
    made = costly_plan()
    cerebro = build_cerebro(made, "stock")
    cerebro.broker.ledger.open(BTC, 1, 1.0, 100.0, T[0], "a")
    cerebro.broker.ledger.close(BTC, 101.0, T[0], "manual", "b")
    cerebro.addanalyzer(SmmTrades)
    (strategy,) = cerebro.run()
    assert len(strategy.broker.ledger.trades) == 3
    assert strategy.analyzers[0].get_analysis()["total_trades"] == 2


@pytest.mark.forks
@pytest.mark.parametrize("processes", [1, 2])
def test_the_figures_come_back_from_an_optimisation(processes):
    expected = run_replay(costly_plan(), "stock", [(SmmTrades, {})]).strategy.analyzers[0].get_analysis()
    cerebro = build_cerebro(costly_plan(), "stock")
    ((strategy, _, _),) = cerebro.strats.pop()
    cerebro.addanalyzer(SmmTrades)
    cerebro.optstrategy(strategy, close_on_opposite_signal=[True, True])
    assert [run.analyzers[0].get_analysis() for (run,) in cerebro.run(maxcpus=processes)] == [expected] * 2


def test_on_a_venue_the_figures_are_those_of_the_books(tmp_path):
    candles = rising_candles()
    funding = tmp_path / "BTCUSDT-funding.csv"
    funding.write_text(f"timestamp,funding_rate\n{START_MS + 5 * FRAME_MS},0.001\n", "utf-8")
    config = EmulatorConfig(
        candles=(write_candles(tmp_path, candles),), funding=(funding,), start_ms=START_MS, balance_usdt=Decimal(10_000)
    )
    script = {1: lambda s: s.buy(size=0.1), 8: lambda s: s.close()}
    columns = {"BTCUSDT": {name: [False] * len(candles) for name in FLAG_LINES}}
    with EmulatorThread(config) as exchange:
        strategy, broker = run_on_venue(
            exchange,
            store_of(exchange),
            {"BTCUSDT": candles},
            columns,
            strategy=Scripted,
            analyzers=[SmmTrades],
            script=script,
        )
    (trade,) = broker.ledger.trades
    assert trade.funding_usdt < -5
    assert strategy.analyzers[0].get_analysis()["total_pnl"] == trade.pnl_usdt
    assert strategy.seen.trades[-1].pnlcomm == pytest.approx(trade.pnl_usdt - trade.funding_usdt)
