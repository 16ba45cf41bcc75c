"""The replay engines: stored candles, SMM columns and costs in, one RunRecord out, whichever engine runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import backtrader as bt
import numpy as np
from numpy.typing import NDArray

from feeds.smm import smm_feed
from smm_bt.execution.costs import Costs
from smm_bt.execution.instrument import Instrument
from smm_bt.execution.ledger import FuturesLedger
from smm_bt.execution.market_history import MarketHistory
from smm_bt.execution.paper_broker import PaperBroker
from smm_bt.execution.risk_sizer import RiskSizer
from smm_bt.model import DecisionRecord, PendingSignal, RunRecord
from strategy.rules import RuleOptions
from strategy.smm_strategy import SmmStrategy

Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class ReplayPlan:
    """Everything a replay needs, in the order of SYMBOLS: one history and one set of columns per symbol."""

    histories: Mapping[str, MarketHistory]
    columns: Mapping[str, Columns]
    instruments: Mapping[str, Instrument]
    initial_balance_usdt: float
    costs: Costs = field(default_factory=Costs)
    options: RuleOptions = field(default_factory=RuleOptions)


class EngineRun(NamedTuple):
    """What an engine made of a plan, which one it was, and why that one."""

    record: RunRecord
    engine: str
    reason: str


def run_replay(plan: ReplayPlan, engine: str = "auto") -> EngineRun:
    """Run ``plan`` with the engine asked for."""
    return EngineRun(run_stock(plan), "stock", "the only engine")


def run_stock(plan: ReplayPlan, analyzers: Sequence[tuple[type, dict[str, Any]]] = ()) -> RunRecord:
    """Replay through an unmodified Cerebro, every bar."""
    ledger = FuturesLedger(plan.initial_balance_usdt, plan.instruments, costs=plan.costs)
    broker = PaperBroker(ledger, plan.histories)
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.setbroker(broker)
    for symbol, history in plan.histories.items():
        cerebro.adddata(smm_feed(history.candles, plan.columns[symbol]))
    cerebro.addsizer(RiskSizer)
    cerebro.addstrategy(SmmStrategy, close_on_opposite_signal=plan.options.close_on_opposite_signal)
    (strategy,) = cerebro.run()
    return _record(plan, ledger, broker, strategy)


def _record(plan: ReplayPlan, ledger: FuturesLedger, broker: PaperBroker, strategy: SmmStrategy) -> RunRecord:
    decisions = [
        DecisionRecord(ms, symbol, *flags, side, ruling.close_reason, ruling.entry_side, ruling.conflicting_signals)
        for ms, symbol, flags, side, ruling in strategy.rulings
    ]
    last = {symbol: float(history.candles.close[-1]) for symbol, history in plan.histories.items()}
    return RunRecord(
        initial_balance_usdt=plan.initial_balance_usdt,
        wallet_usdt=ledger.wallet_usdt,
        trades=ledger.trades,
        fills=ledger.fills,
        ledger_entries=ledger.entries,
        decisions=decisions,
        skipped_entries=broker.skipped_entries,
        open_positions=ledger.open_positions(last),
        pending_signals=_pending(plan, decisions),
    )


def _pending(plan: ReplayPlan, decisions: Sequence[DecisionRecord]) -> list[PendingSignal]:
    """Return the decisions on a symbol's last candle: there is no next open to execute them at."""
    last_ms = {symbol: int(np.int64(h.candles.open_ms[-1])) for symbol, h in plan.histories.items()}
    return [
        PendingSignal(d.symbol, d.candle_ms, d.close_reason, d.entry_side)
        for d in decisions
        if d.candle_ms == last_ms[d.symbol] and (d.close_reason or d.entry_side)
    ]
