"""What a replay needs and what an engine makes of it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NamedTuple

from numpy.typing import NDArray

from smm_bt.execution.costs import Costs
from smm_bt.execution.instrument import Instrument
from smm_bt.execution.ledger import FuturesLedger
from smm_bt.execution.market_history import MarketHistory
from smm_bt.model import DecisionRecord, PendingSignal, RunRecord, SkippedEntry
from strategy.rules import RuleOptions

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

    def new_ledger(self) -> FuturesLedger:
        """Return an untouched account for this plan."""
        return FuturesLedger(self.initial_balance_usdt, self.instruments, costs=self.costs)


class EngineRun(NamedTuple):
    """What an engine made of a plan, which one it was, why that one, and the strategy with its analyzers."""

    record: RunRecord
    engine: str
    reason: str
    strategy: Any


def decision_records(rulings: Iterable[Any]) -> list[DecisionRecord]:
    """Return what a strategy kept of its decisions, rows in the order of DecisionRecord's fields, as such records."""
    rows = list(rulings)
    return rows if rows and isinstance(rows[0], DecisionRecord) else [DecisionRecord(*row) for row in rows]


def record_of(
    plan: ReplayPlan, ledger: FuturesLedger, decisions: list[DecisionRecord], skipped: Sequence[SkippedEntry]
) -> RunRecord:
    """Return the record of a finished run from its ledger and its decisions, in order of time and SYMBOLS."""
    if len(plan.histories) > 1:
        place = {symbol: number for number, symbol in enumerate(plan.histories)}
        decisions = sorted(decisions, key=lambda decision: (decision.candle_ms, place[decision.symbol]))
    last = {symbol: float(history.candles.close[-1]) for symbol, history in plan.histories.items()}
    return RunRecord(
        initial_balance_usdt=plan.initial_balance_usdt,
        wallet_usdt=ledger.wallet_usdt,
        trades=ledger.trades,
        fills=ledger.fills,
        ledger_entries=ledger.entries,
        decisions=decisions,
        skipped_entries=list(skipped),
        open_positions=ledger.open_positions(last),
        pending_signals=_pending(plan, decisions),
    )


def _pending(plan: ReplayPlan, decisions: Sequence[DecisionRecord]) -> list[PendingSignal]:
    """Return the decisions on a symbol's last candle: there is no next open to execute them at."""
    last_ms = {symbol: int(history.candles.open_ms[-1]) for symbol, history in plan.histories.items()}
    first = bisect_left(decisions, min(last_ms.values()), key=itemgetter(0))
    return [
        PendingSignal(d.symbol, d.candle_ms, d.close_reason, d.entry_side)
        for d in decisions[first:]
        if d.candle_ms == last_ms[d.symbol] and (d.close_reason or d.entry_side)
    ]
