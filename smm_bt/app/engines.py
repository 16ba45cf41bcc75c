"""The replay engines: a ReplayPlan in, the same RunRecord out of each, and which one ran and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from feeds.smm import smm_feed
from smm_bt.app.collection import no_garbage_collection
from smm_bt.app.replay_cerebro import ReplayCerebro, replay_cerebro, stock_cerebro
from smm_bt.app.replay_plan import EngineRun, ReplayPlan, decision_records, record_of
from smm_bt.errors import UsageError
from smm_bt.execution.paper_broker import PaperBroker
from smm_bt.execution.risk_sizer import RiskSizer
from strategy.smm_strategy import SmmStrategy

#: An analyzer class and its keyword arguments.
AnalyzerSpec = tuple[type, dict[str, Any]]

ENGINES = ("plan", "event", "stock")


def run_replay(plan: ReplayPlan, engine: str = "auto", analyzers: Sequence[AnalyzerSpec] = ()) -> EngineRun:
    """Run ``plan`` and return its record; ``auto`` takes the fastest engine that its parts allow.

    Raises:
        UsageError: there is no such engine.
    """
    if engine not in ("auto", *ENGINES):
        raise UsageError(f"There is no engine {engine}; use auto, {', '.join(ENGINES)}.")
    cerebro = build_cerebro(plan, "plan" if engine == "auto" else engine)
    for analyzer, parameters in analyzers:
        cerebro.addanalyzer(analyzer, **parameters)
    with no_garbage_collection():
        (strategy,) = cerebro.run()
        record = record_of(
            plan, cerebro.broker.ledger, decision_records(strategy.rulings), cerebro.broker.skipped_entries
        )
    if isinstance(cerebro, ReplayCerebro):
        return EngineRun(record, cerebro.engine, cerebro.engine_reason, strategy)
    return EngineRun(record, "stock", "asked for: every bar through an unmodified Cerebro", strategy)


def build_cerebro(plan: ReplayPlan, wanted: str = "plan") -> Any:
    """Return a Cerebro with feeds, broker, sizer and SmmStrategy for ``plan``, ready for ``run()``."""
    cerebro = stock_cerebro() if wanted == "stock" else replay_cerebro(plan, wanted)
    cerebro.setbroker(PaperBroker(plan.new_ledger(), plan.histories))
    for symbol, history in plan.histories.items():
        cerebro.adddata(smm_feed(history.candles, plan.columns[symbol]))
    cerebro.addsizer(RiskSizer)
    cerebro.addstrategy(SmmStrategy, close_on_opposite_signal=plan.options.close_on_opposite_signal)
    return cerebro
