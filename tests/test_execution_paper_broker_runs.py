"""One PaperBroker through several runs: each begins where the first one began, in one process and in several."""

from __future__ import annotations

from typing import Any

import backtrader as bt
import pytest
from feed_filters import WithoutTheNight
from made_replays import BTC, T, candles, costs, flags, flat, instrument, plan

from feeds.lines import FLAG_LINES
from feeds.made import made_candles
from feeds.smm import smm_feed
from smm_bt.app.engines import ENGINES, build_cerebro
from smm_bt.errors import UsageError
from smm_bt.execution.ledger import FuturesLedger
from smm_bt.execution.market_history import market_history
from smm_bt.execution.market_rules import load_instruments
from smm_bt.execution.paper_broker import PaperBroker
from smm_bt.execution.risk_sizer import RiskSizer
from strategy.contract import compute_columns
from strategy.reference import compute_smm

Result = tuple[int, float, float, int]


class Account(bt.Analyzer):
    """The account at the start and at the end of a run, and its trades."""

    def start(self) -> None:
        broker = self.strategy.broker
        self.first = (broker.getvalue(), broker.getposition(self.data).size, len(broker.ledger.trades))

    def stop(self) -> None:
        broker = self.strategy.broker
        self.last = (broker.getvalue(), broker.getposition(self.data).size)
        self.trades = [trade[:-2] for trade in broker.ledger.trades]  # order ids count on through a process

    def get_analysis(self) -> dict[str, Any]:
        return {"first": self.first, "last": self.last, "trades": self.trades}


class Averaging(bt.Strategy):
    """Takes entry signals above an average, lets go after a while, and leaves orders behind at the end."""

    params = (("period", 20),)

    def __init__(self) -> None:
        self.above = self.data.close > bt.indicators.SMA(self.data.close, period=self.p.period)
        self.entered = 0

    def next(self) -> None:
        if not self.position and (self.data.buy_signal[0] or self.data.sell_signal[0]):
            order = self.buy if self.above[0] else self.sell
            order(sized_at_fill=True)
            self.entered = len(self)
            self.sell(size=1, exectype=bt.Order.Limit, price=1e9)
        elif self.position and len(self) - self.entered > self.p.period:
            self.close()


def averaging_cerebro(**columns: Any) -> Any:
    series = made_candles(BTC, "5m", count=1_500)
    lines = compute_columns(compute_smm, series.frame(), {}).lines()
    ledger = FuturesLedger(10_000.0, load_instruments([BTC]))
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(smm_feed(series, lines if columns.get("extras", True) else {n: lines[n] for n in FLAG_LINES}))
    cerebro.setbroker(PaperBroker(ledger, {BTC: market_history(series)}))
    cerebro.addsizer(RiskSizer)
    cerebro.addanalyzer(Account)
    return cerebro


def alone(period: int) -> dict[str, Any]:
    cerebro = averaging_cerebro()
    cerebro.addstrategy(Averaging, period=period)
    (strategy,) = cerebro.run()
    found: dict[str, Any] = strategy.analyzers[0].get_analysis()
    return found


def optimised(cerebro: Any, periods: list[int], **options: Any) -> list[tuple[int, dict[str, Any]]]:
    cerebro.optstrategy(Averaging, period=periods)
    return [(run.params.period, run.analyzers[0].get_analysis()) for (run,) in cerebro.run(**options)]


def test_each_run_of_a_cerebro_begins_with_a_fresh_account() -> None:
    cerebro = averaging_cerebro()
    cerebro.addstrategy(Averaging)
    expected = alone(20)
    assert expected["trades"]
    assert expected["first"] == (10_000.0, 0, 0)
    for _ in range(3):
        (strategy,) = cerebro.run()
        assert strategy.analyzers[0].get_analysis() == expected


def test_an_optimisation_in_one_process_gives_each_run_its_own_account() -> None:
    found = optimised(averaging_cerebro(), [20, 21, 20], maxcpus=1)
    assert found == [(period, alone(period)) for period in (20, 21, 20)]
    assert alone(20) != alone(21)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_replay_that_is_run_twice_gives_the_same_record_twice(engine: str) -> None:
    rows = [flat(100.0 + place % 7) for place in range(40)]
    cerebro = build_cerebro(plan({BTC: (rows, "b...t.s..t" * 4)}), engine)
    first = cerebro.run()[0].broker.ledger
    before = (first.wallet_usdt, first.trades, first.fills, first.entries)
    assert len(first.trades) > 4
    again = cerebro.run()[0].broker.ledger
    assert (again.wallet_usdt, again.trades, again.fills, again.entries) == before


def test_lists_of_an_earlier_run_are_left_as_they_are() -> None:
    cerebro = build_cerebro(plan({BTC: ([flat(100.0)] * 10, "b...t.s..t")}), "stock")
    trades = cerebro.run()[0].broker.ledger.trades
    kept = list(trades)
    cerebro.run()
    assert trades == kept
    assert trades is not cerebro.broker.ledger.trades


class Resuming(bt.Strategy):
    """Takes over what is open and lets go of it after three candles."""

    def start(self) -> None:
        self.broker.adopt_ledger({BTC: self.data}, self)
        self.found = (self.broker.ledger.wallet_usdt, self.position.size, self.position.price)

    def next(self) -> None:
        if len(self) == 3:
            self.close()


def test_a_ledger_that_was_handed_in_with_a_past_keeps_it_in_the_first_run_and_has_it_again_in_the_next() -> None:
    ledger = FuturesLedger(10_000.0, {BTC: instrument()}, costs=costs())
    ledger.open(BTC, 1, 10.0, 90.0, T[0], "a")
    ledger.close(BTC, 95.0, T[1], "manual", "b")
    ledger.open(BTC, -1, 20.0, 100.0, T[2], "c")
    rows = candles([flat(98.0)] * 6, at=list(range(3, 9)))
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.setbroker(PaperBroker(ledger, {BTC: market_history(rows)}))
    cerebro.adddata(smm_feed(rows, flags("." * 6)))
    cerebro.addstrategy(Resuming)
    for _ in range(2):
        (strategy,) = cerebro.run()
        assert strategy.found == (10_050.0, -20.0, 100.0)
        assert [trade.gross_pnl_usdt for trade in ledger.trades] == [50.0, 40.0]
        assert ledger.wallet_usdt == 10_090.0


def test_an_account_changed_before_its_first_run_begins_as_it_was_changed() -> None:
    rows = candles([flat(100.0)] * 3)
    ledger = FuturesLedger(10_000.0, {BTC: instrument()}, costs=costs())
    broker = PaperBroker(ledger, {BTC: market_history(rows)})
    ledger.wallet_usdt += 500.0
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.setbroker(broker)
    cerebro.adddata(smm_feed(rows, flags("...")))
    for _ in range(2):
        cerebro.run()
        assert broker.getcash() == 10_500.0


def test_a_second_run_on_a_running_market_is_refused() -> None:
    market: Any = object()
    broker = PaperBroker(FuturesLedger(10_000.0, {}), market=market)
    broker.start()
    with pytest.raises(UsageError, match="a running market cannot begin again"):
        broker.start()


# several processes


@pytest.mark.forks
@pytest.mark.parametrize("options", [{}, {"optdatas": False}, {"runonce": False}, {"preload": False}, {"exactbars": 1}])
def test_an_optimisation_in_two_processes_gives_what_each_run_gives_alone(options: dict[str, Any]) -> None:
    found = optimised(averaging_cerebro(), [20, 21, 20], maxcpus=2, **options)
    assert found == [(period, alone(period)) for period in (20, 21, 20)]


@pytest.mark.forks
def test_an_optimisation_of_a_feed_without_further_lines_works_too() -> None:
    found = optimised(averaging_cerebro(extras=False), [20, 21], maxcpus=2)
    assert found == [(period, alone(period)) for period in (20, 21)]


@pytest.mark.forks
def test_an_optimisation_may_return_whole_strategies_with_their_feeds() -> None:
    cerebro = averaging_cerebro()
    cerebro.optstrategy(Averaging, period=[20, 21])
    runs = cerebro.run(maxcpus=2, optreturn=False)
    assert [run.analyzers[0].get_analysis() for (run,) in runs] == [alone(20), alone(21)]
    for (strategy,) in runs:
        assert strategy.data.close[0] == strategy.data.candles.close[-1]
        assert strategy.broker.getvalue() == strategy.analyzers[0].get_analysis()["last"][0]


@pytest.mark.forks
def test_a_cerebro_that_has_run_already_can_be_optimised() -> None:
    cerebro = averaging_cerebro()
    cerebro.addstrategy(Averaging, period=20)
    cerebro.run()
    cerebro.strats.clear()
    assert optimised(cerebro, [20, 21], maxcpus=2) == [(20, alone(20)), (21, alone(21))]


@pytest.mark.forks
@pytest.mark.parametrize("where", ["resampled", "beside", "filtered"])
def test_an_optimisation_of_resampled_and_filtered_feeds_gives_what_one_run_gives(where: str) -> None:
    def cerebro() -> Any:
        made = averaging_cerebro()
        feed = made.datas.pop()
        hour = {"timeframe": bt.TimeFrame.Minutes, "compression": 60}
        if where == "filtered":
            feed.addfilter(WithoutTheNight)
        made.resampledata(feed, **hour) if where == "resampled" else made.adddata(feed)
        if where == "beside":
            made.resampledata(feed, name="hours", **hour)
        return made

    expected = optimised(cerebro(), [5, 6], maxcpus=1)
    assert all(result["trades"] for _, result in expected)
    assert optimised(cerebro(), [5, 6], maxcpus=2) == expected
