"""The replay engines and the choice between them: a ReplayPlan in, the same RunRecord out of each."""

from __future__ import annotations

from collections.abc import Callable

import backtrader as bt

from feeds.smm import smm_feed
from smm_bt.app.plan_kernel import run_kernel
from smm_bt.app.replay_plan import EngineRun, ReplayPlan, decision_records, record_of
from smm_bt.errors import UsageError
from smm_bt.execution.paper_broker import PaperBroker
from smm_bt.execution.risk_sizer import RiskSizer
from smm_bt.model import RunRecord
from strategy.smm_strategy import SmmStrategy


def run_stock(plan: ReplayPlan) -> RunRecord:
    """Replay through an unmodified Cerebro, every bar."""
    ledger = plan.new_ledger()
    broker = PaperBroker(ledger, plan.histories)
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.setbroker(broker)
    for symbol, history in plan.histories.items():
        cerebro.adddata(smm_feed(history.candles, plan.columns[symbol]))
    cerebro.addsizer(RiskSizer)
    cerebro.addstrategy(SmmStrategy, close_on_opposite_signal=plan.options.close_on_opposite_signal)
    (strategy,) = cerebro.run()
    return record_of(plan, ledger, decision_records(strategy.rulings), broker.skipped_entries)


def run_plan(plan: ReplayPlan) -> RunRecord:
    """Replay with the plan kernel: no bar is visited on which nothing can happen."""
    return record_of(plan, *run_kernel(plan))


_ENGINES: dict[str, tuple[Callable[[ReplayPlan], RunRecord], str]] = {
    "stock": (run_stock, "asked for: every bar through an unmodified Cerebro"),
    "plan": (run_plan, "asked for: only the rows that matter"),
}


def run_replay(plan: ReplayPlan, engine: str = "auto") -> EngineRun:
    """Run ``plan`` with the engine asked for; ``auto`` takes ``plan``, since a replay trades SmmStrategy as it is.

    Raises:
        UsageError: there is no such engine.
    """
    if engine == "auto":
        return EngineRun(run_plan(plan), "plan", "the strategy and its parts are the default ones")
    if engine not in _ENGINES:
        raise UsageError(f"There is no engine {engine}; use auto, {', '.join(_ENGINES)}.")
    run, reason = _ENGINES[engine]
    return EngineRun(run(plan), engine, reason)
