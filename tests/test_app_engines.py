"""Every engine against the oracle, a second implementation of SPEC §5-§9 that shares no code with them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import backtrader as bt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenarios import Scenario, make, oracle_result, plan_of

from smm_bt.analytics.equity import equity_curve
from smm_bt.analytics.metrics import daily_returns, drawdown, sharpe, sortino, trade_figures
from smm_bt.app.engines import ENGINES, run_replay
from smm_bt.errors import UsageError
from smm_bt.model import RunRecord
from strategy.rules import HOLD

#: `make equality` draws 10,000 replays.
EXAMPLES = int(os.environ.get("SMM_BT_EXAMPLES", "150"))

scenarios = st.builds(
    Scenario,
    seed=st.integers(0, 2**32),
    timeframe=st.sampled_from(["5m", "5m", "1h", "1w"]),
    candles=st.integers(4, 250),
    symbols=st.integers(1, 3),
    volatility=st.sampled_from([0.002, 0.01, 0.03]),
    gap_probability=st.sampled_from([0.0, 0.05, 0.6]),
    density=st.sampled_from([0.05, 0.3, 0.9]),
    conflict=st.sampled_from([0.0, 0.2]),
    initial_balance=st.sampled_from([6.0, 30.0, 250.0, 10_000.0, 1_000_000.0]),
    fee_rate=st.sampled_from([0.0, 0.0005, 0.3]),
    slippage_bps=st.sampled_from([0.0, 3.0]),
    stop_loss_percent=st.sampled_from([None, 0.7, 3.0]),
    close_on_opposite=st.booleans(),
    with_mark=st.booleans(),
    with_funding=st.booleans(),
    step=st.sampled_from(["0.001", "0.1", "1"]),
    stagger=st.sampled_from([0, 0, 3]),
)


def assert_equals_oracle(scenario: Scenario, engine: str) -> None:
    made = make(scenario)
    plan = plan_of(scenario, made)
    record = run_replay(plan, engine).record
    expected = oracle_result(scenario, made)
    assert_trades_equal(record, expected.trades)
    closes = {s: (h.candles.open_ms, h.candles.close) for s, h in plan.histories.items()}
    curve = equity_curve(None, closes, record.ledger_entries, scenario.initial_balance, scenario.length_ms)
    assert curve.open_ms.tolist() == expected.steps
    assert curve.equity.tolist() == pytest.approx(expected.equity, rel=1e-9, abs=1e-7)
    assert curve.wallet.tolist() == pytest.approx(expected.wallet, rel=1e-9, abs=1e-7)
    fall = drawdown(curve.equity, scenario.initial_balance)
    returns = daily_returns(curve.open_ms, curve.equity, scenario.initial_balance).returns
    figures = trade_figures(trade.pnl_usdt for trade in record.trades)._asdict()
    figures |= {"max_drawdown": fall.fraction, "max_drawdown_usdt": fall.usdt}
    assert_figures_equal(figures, expected.report)
    if min(expected.equity) > 0 and len(record.trades) > 1:
        assert_figures_equal({"sharpe": sharpe(returns), "sortino": sortino(returns)}, expected.report)
    assert [(s.time_ms, s.symbol) for s in record.skipped_entries] == expected.skipped
    assert sum(d.conflicting_signals for d in record.decisions) == expected.conflicting
    assert {p.symbol: p.qty for p in record.open_positions} == {p["symbol"]: p["qty"] for p in expected.open_positions}
    assert {(p.symbol, p.entry_side, p.close_reason or None) for p in record.pending_signals} == {
        (p["symbol"], p["entry"], p["close_reason"]) for p in expected.pending
    }


def assert_figures_equal(figures: dict[str, float | None], expected: dict[str, float | None]) -> None:
    """Undefined is undefined in both; numbers agree to 1e-6."""
    assert {name for name, value in figures.items() if value is None} == {n for n in figures if expected[n] is None}
    defined = {name: value for name, value in figures.items() if value is not None}
    assert defined == pytest.approx({name: expected[name] for name in defined}, rel=1e-6, abs=1e-7)


def assert_trades_equal(record: RunRecord, expected: list[dict]) -> None:
    exact = ("symbol", "side", "entry_time", "qty", "exit_time", "close_reason")
    got = [(t.symbol, t.side, t.entry_ms, t.qty, t.exit_ms, t.close_reason) for t in record.trades]
    assert got == [tuple(trade[name] for name in exact) for trade in expected]
    for trade, other in zip(record.trades, expected, strict=True):
        money = {
            "entry_price": trade.entry_price,
            "exit_price": trade.exit_price,
            "pnl_usdt": trade.pnl_usdt,
            "pnl_percent": trade.pnl_percent,
            "fees": trade.fees_usdt,
            "gross_pnl_usdt": trade.gross_pnl_usdt,
            "funding_usdt": trade.funding_usdt,
            "margin_usdt": trade.margin_usdt,
        }
        assert money == pytest.approx({name: other[name] for name in money}, rel=1e-9, abs=1e-7)


@pytest.mark.parametrize("engine", ENGINES)
@given(scenario=scenarios)
@settings(max_examples=EXAMPLES, deadline=None)
def test_every_engine_trades_and_books_like_the_oracle(engine: str, scenario: Scenario) -> None:
    assert_equals_oracle(scenario, engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_liquidations_happen_and_equal_the_oracle(engine: str) -> None:
    scenario = Scenario(seed=5, volatility=0.03, density=0.05, close_on_opposite=False)
    record = run_replay(plan_of(scenario, make(scenario)), engine).record
    assert "liquidation" in {trade.close_reason for trade in record.trades}
    assert_equals_oracle(scenario, engine)


class HeardTrades(bt.Analyzer):
    """Notes what a strategy's analyzer hears of trades, and the bar numbers it sees then."""

    def start(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def notify_trade(self, trade: bt.Trade) -> None:
        bars = (trade.baropen, trade.barclose, trade.barlen, len(trade.data), trade.data.close[0])
        bars += (len(self.strategy), self.strategy.datetime[0])
        money = (trade.size, trade.price, trade.value, trade.commission, trade.pnl, trade.pnlcomm)
        when = (trade.dtopen, trade.dtclose, trade.isopen, trade.isclosed, trade.justopened, trade.status)
        self.heard.append((trade.data._name, *bars, *money, *when))

    def get_analysis(self) -> list[tuple[Any, ...]]:
        return self.heard


class HeardOrders(bt.Analyzer):
    """Notes each order notification with the bar it comes in."""

    def start(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def notify_order(self, order: bt.Order) -> None:
        figures = (order.executed.size, order.executed.price, order.executed.comm, order.executed.pnl)
        self.heard.append((order.data._name, len(order.data), len(self.strategy), order.status, *figures))

    def get_analysis(self) -> list[tuple[Any, ...]]:
        return self.heard


def run_with(scenario: Scenario, engine: str, *analyzers: type[bt.Analyzer]) -> tuple[RunRecord, list[Any], Any]:
    run = run_replay(plan_of(scenario, make(scenario)), engine, [(analyzer, {}) for analyzer in analyzers])
    assert run.engine == engine
    return run.record, [analyzer.get_analysis() for analyzer in run.strategy.analyzers], run.strategy


@given(scenario=scenarios)
@settings(max_examples=EXAMPLES, deadline=None)
def test_all_engines_give_the_very_same_record_trades_and_bar_numbers(scenario: Scenario) -> None:
    stock, heard, strategy = run_with(scenario, "stock", HeardTrades)
    for engine in ("event", "plan"):
        record, also_heard, other = run_with(scenario, engine, HeardTrades)
        assert record == stock
        assert also_heard == heard
        assert (len(other), other.datetime[0]) == (len(strategy), strategy.datetime[0])
        assert [len(data) for data in other.datas] == [len(data) for data in strategy.datas]
        positions = [[s.broker.getposition(data).size for data in s.datas] for s in (strategy, other)]
        assert positions[0] == positions[1]
        assert other.broker.getvalue() == strategy.broker.getvalue()
        assert other.broker.getcash() == strategy.broker.getcash()


@given(scenario=scenarios)
@settings(max_examples=max(30, EXAMPLES // 4), deadline=None)
def test_the_event_engine_notifies_the_same_orders_at_the_same_bars_as_stock(scenario: Scenario) -> None:
    assert run_with(scenario, "event", HeardOrders)[1] == run_with(scenario, "stock", HeardOrders)[1]


@pytest.mark.parametrize("engine", ["event", "plan"])
def test_backtraders_trade_analyzers_give_the_same_analysis_as_on_stock(engine: str) -> None:
    scenario = Scenario(seed=3, density=0.3)
    analyzers = (bt.analyzers.TradeAnalyzer, bt.analyzers.SQN)
    assert run_with(scenario, engine, *analyzers)[1] == run_with(scenario, "stock", *analyzers)[1]


@contextmanager
def changed_strategy(monkeypatch: pytest.MonkeyPatch, **members: Any) -> Iterator[None]:
    """Let the engines run a subclass of SmmStrategy with these members."""
    from smm_bt.app import engines

    with monkeypatch.context() as patch:
        patch.setattr(engines, "SmmStrategy", type("Changed", (engines.SmmStrategy,), members))
        yield


@pytest.mark.parametrize(
    ("analyzer", "engine", "why"),
    [
        (bt.analyzers.DrawDown, "stock", "DrawDown"),
        (bt.analyzers.TimeReturn, "stock", "TimeReturn"),
        (HeardOrders, "event", "HeardOrders"),
        (bt.analyzers.TradeAnalyzer, "plan", "default"),
    ],
)
def test_an_analyzer_that_needs_more_slows_the_run_down_and_the_run_says_why(
    analyzer: type[bt.Analyzer], engine: str, why: str
) -> None:
    run = run_replay(plan_of(Scenario(seed=1), make(Scenario(seed=1))), "auto", [(analyzer, {})])
    assert run.engine == engine
    assert why in run.reason


def test_a_strategy_with_its_own_next_and_no_wake_rule_runs_on_every_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    visited: list[int] = []
    plan = plan_of(Scenario(seed=1), make(Scenario(seed=1)))
    with changed_strategy(monkeypatch, next=lambda self: visited.append(len(self))):
        run = run_replay(plan)
    assert (run.engine, len(visited)) == ("stock", 300)
    assert "does not declare when it must wake" in run.reason


def test_a_strategy_with_a_per_bar_indicator_runs_on_every_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(self: Any) -> None:
        super(type(self), self).__init__()
        self.average = bt.indicators.SMA(self.data, period=3)

    with changed_strategy(monkeypatch, __init__=init):
        run = run_replay(plan_of(Scenario(seed=1), make(Scenario(seed=1))))
    assert (run.engine, run.reason) == ("stock", "every bar is visited because it has indicators")


def test_notify_order_in_a_strategy_brings_real_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    with changed_strategy(monkeypatch, notify_order=lambda self, order: heard.append(order.status)):
        run = run_replay(plan_of(Scenario(seed=1), make(Scenario(seed=1))))
    assert run.engine == "event"
    assert bt.Order.Completed in heard


@pytest.mark.parametrize(
    "members",
    [
        {"_permitted": lambda self, data, decision: HOLD if decision.entry_side else decision},
        {"_judge": lambda self, data, flags: HOLD},
        {"start": lambda self: self.buy(sized_at_fill=True, order_id="first")},
        {"nextstart": lambda self: None},
        {
            "notify_trade": lambda self, trade: (
                trade.isclosed and self.sell(sized_at_fill=True, order_id=f"again-{len(self)}")
            )
        },
    ],
    ids=lambda members: next(iter(members)),
)
def test_whatever_a_subclass_changes_is_done_by_every_engine(
    members: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(Scenario(seed=1), make(Scenario(seed=1)))
    unchanged = run_replay(plan, "stock").record
    with changed_strategy(monkeypatch, **members):
        runs = {engine: run_replay(plan, engine) for engine in ("auto", "event", "stock")}
    assert runs["auto"].engine == "event"
    assert "Changed" in runs["auto"].reason
    assert runs["auto"].record == runs["event"].record == runs["stock"].record != unchanged


def test_a_strategy_that_declares_no_more_than_next_wake_runs_on_the_bars_it_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from smm_bt.app import engines

    class Thirds(bt.Strategy):
        params = (("close_on_opposite_signal", True),)

        def __init__(self) -> None:
            self.rulings: list[Any] = []
            self.visited: list[int] = []

        def next_wake(self, data: Any, row: int) -> int:
            return -(-row // 3) * 3

        def next(self) -> None:
            self.visited.append(len(self))

    monkeypatch.setattr(engines, "SmmStrategy", Thirds)
    run = run_replay(plan_of(Scenario(seed=1), make(Scenario(seed=1))))
    assert run.engine == "event"
    assert set(range(1, 300, 3)) <= set(run.strategy.visited)
    assert len(run.strategy.visited) <= 102


def test_an_unknown_engine_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="There is no engine warp; use auto, plan, event, stock"):
        run_replay(plan_of(Scenario(seed=1), make(Scenario(seed=1))), "warp")
