"""ReplayCerebro: a Cerebro that skips the bars on which nothing can happen, and says when it cannot."""

from __future__ import annotations

from typing import Any

import backtrader as bt

from smm_bt.app.event_clock import EventClock, run_events
from smm_bt.app.plan_kernel import run_kernel
from smm_bt.app.replay_plan import ReplayPlan
from smm_bt.app.trade_delivery import deliver_trades
from smm_bt.execution.paper_broker import PaperBroker
from strategy.smm_strategy import SmmStrategy

#: Methods of an analyzer that are called on every bar.
_PER_BAR = ("next", "prenext", "nextstart", "_next", "_prenext", "_nextstart", "notify_cashvalue", "notify_fund")
_PER_BAR_STRATEGY = ("next_open", "prenext_open", "notify_cashvalue", "notify_fund", "notify_timer")


class ReplayCerebro(bt.Cerebro):
    """Runs like Cerebro; ``engine`` and ``engine_reason`` say afterwards how.

    Args:
        plan: what is replayed; its histories and columns are those of the feeds.
        wanted: ``plan`` or ``event``: the fastest engine to use. What a strategy, analyzer or observer needs
            may make it a slower one: per-bar parts make it ``stock``, order notifications make it ``event``.
    """

    params: Any = (("stdstats", False), ("plan", None), ("wanted", "plan"))

    def __init__(self) -> None:
        super().__init__()
        self.engine = "stock"
        self.engine_reason = ""

    @property
    def plan(self) -> ReplayPlan:
        """What is replayed."""
        plan: ReplayPlan = self.p.plan
        return plan

    def _runonce(self, runstrats: list[Any]) -> None:
        self.engine, self.engine_reason = self._choose(runstrats)
        if self.engine == "stock":
            super()._runonce(runstrats)
            return
        (strategy,) = runstrats
        strategy.reset()  # without indicators and observers there is nothing for its _once() to calculate
        clock = EventClock(strategy, self.datas)
        if self.engine == "event":
            run_events(self, strategy, clock)
        else:
            self._run_plan(strategy, clock)

    def _runnext(self, runstrats: list[Any]) -> None:
        self.engine, self.engine_reason = "stock", "something switched preloading or runonce off"
        super()._runnext(runstrats)

    def _run_plan(self, strategy: Any, clock: EventClock) -> None:
        broker = self.broker
        strategy.rulings, skipped = run_kernel(self.plan, broker.ledger)
        broker.skipped_entries.extend(skipped)
        if strategy.analyzers:
            deliver_trades(self, strategy, clock, broker.ledger, self.plan.histories)
        clock.arrive_at(clock.last_moment)
        broker.adopt_ledger({data._name: data for data in self.datas}, strategy)

    def _choose(self, runstrats: list[Any]) -> tuple[str, str]:
        why = self._why_every_bar(runstrats)
        if why:
            return "stock", f"every bar is visited because {why}"
        if self.p.wanted == "event":
            return "event", "asked for: real orders on the bars that matter"
        why = _why_orders(self, runstrats[0])
        if why:
            return "event", f"real orders are made because {why}"
        return "plan", "SmmStrategy with its default parts: only the rows that matter are visited"

    def _why_every_bar(self, runstrats: list[Any]) -> str:
        """Return what needs every bar, or nothing."""
        if len(runstrats) != 1:
            return f"{len(runstrats)} strategies run together"
        (strategy,) = runstrats
        reasons = (
            (not _declares_wake(strategy), f"{type(strategy).__name__} does not declare when it must wake"),
            (type(self.broker) is not PaperBroker, f"the broker is {type(self.broker).__name__}"),
            (not all(getattr(data, "_shared_lines", None) for data in self.datas), "a feed is filtered or resampled"),
            (bool(strategy._lineiterators[bt.LineIterator.IndType]), "it has indicators"),
            (bool(strategy._lineiterators[bt.LineIterator.ObsType]), "it has observers"),
            (len(strategy.lines) > 1, "it has lines of its own"),
            (bool(self._timers or self._timerscheat), "it has timers"),
            (bool(self.runwriters), "it has writers"),
            (bool(self.p.cheat_on_open), "cheat_on_open is on"),
            (_overrides(strategy, bt.Strategy, _PER_BAR_STRATEGY), "it listens to every bar"),
        )
        for applies, why in reasons:
            if applies:
                return why
        for analyzer in (*strategy.analyzers, *strategy._slave_analyzers):
            if _overrides(analyzer, bt.Analyzer, _PER_BAR) or analyzer._children:
                return f"analyzer {type(analyzer).__name__} looks at each"
        return ""


def _declares_wake(strategy: Any) -> bool:
    """Whether next_wake() is declared by the class whose next() it speaks of, or by one derived from it.

    ``can_wake()``, where a strategy has it, may say no for the feeds it was given.
    """
    order = type(strategy).__mro__
    owner = {name: next((c for c in order if name in vars(c)), object) for name in ("next", "next_wake")}
    declared = owner["next_wake"]
    if declared is object or order.index(declared) > order.index(owner["next"]):
        return False
    can_wake = getattr(strategy, "can_wake", None)
    return can_wake is None or bool(can_wake())


def _why_orders(cerebro: ReplayCerebro, strategy: Any) -> str:
    """Return what needs real Backtrader orders, or nothing."""
    if type(strategy) is not SmmStrategy:
        return f"{type(strategy).__name__} is not SmmStrategy itself and may order, too"
    for analyzer in strategy.analyzers:
        if _overrides(analyzer, bt.Analyzer, ("notify_order", "_notify_order")):
            return f"analyzer {type(analyzer).__name__} listens to orders"
    if cerebro.p.tradehistory or cerebro.p.quicknotify:
        return "trade history or quick notification is on"
    return ""


def replay_cerebro(plan: ReplayPlan, wanted: str) -> Any:
    """Return a ReplayCerebro; backtrader's metaclass turns the keywords into parameters, which no type knows."""
    made: Any = ReplayCerebro
    return made(plan=plan, wanted=wanted)


def stock_cerebro() -> Any:
    """Return an unmodified Cerebro, without the observers nobody looks at in a replay."""
    return bt.Cerebro(stdstats=False)


def _overrides(thing: Any, base: type, names: tuple[str, ...]) -> bool:
    return any(getattr(type(thing), name) is not getattr(base, name) for name in names)
