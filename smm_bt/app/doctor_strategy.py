"""The doctor's check of the strategy file: found, executed, and its contract held on made candles."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from feeds.made import made_candles
from smm_bt.app.audit_memory import known_warm_up
from smm_bt.app.doctor_lines import Finding, fail, ok, warn
from smm_bt.app.settings import Settings
from smm_bt.execution.host_clock import SystemClock
from strategy.contract import SmmColumns, StrategyRefused, compute_columns
from strategy.loader import SLOT, LocatedStrategy, locate_strategy

_FEWEST_CANDLES = 1500
_MOST_CANDLES = 5000


def check_strategy(settings: Settings) -> Iterator[Finding]:
    """Run the strategy file on a window of made candles, as long as live trading would give it."""
    count = min(max(settings.WARMUP_CANDLES, _FEWEST_CANDLES), _MOST_CANDLES)
    try:
        strategy = locate_strategy(settings.STRATEGY_FILE)
        yield _where(strategy)
        frame = made_candles(timeframe=settings.TIMEFRAME or "5m", count=count).frame()
        compute, clock = strategy.load().compute, SystemClock()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            started = clock.seconds()
            columns = compute_columns(compute, frame, settings.STRATEGY_PARAMETERS)
            seconds = clock.seconds() - started
    except StrategyRefused as refusal:
        yield fail("Strategy", str(refusal), "Correct the file; `smm-bt audit` shows more.")
        return
    yield _contract(columns, seconds)
    if not columns.has_profit_target:
        yield warn(
            "Profit target",
            "the file returns no profit_target_hit: positions are closed by signals only",
            "Return that column if your file has profit targets.",
        )
    yield _warm_up(strategy, settings)


def _where(strategy: LocatedStrategy) -> Finding:
    found = f"{strategy.path} ({strategy.origin}, SHA-256 {strategy.sha256[:12]}…)"
    if strategy.is_reference:
        return warn(
            "Strategy file", f"the reference, a stand-in and not SMM v4.1: {found}", f"Put your file at {SLOT}."
        )
    return ok("Strategy file", found)


def _contract(columns: SmmColumns, seconds: float) -> Finding:
    buys, sells = int(columns.buy_signal.sum()), int(columns.sell_signal.sum())
    targets = int(columns.profit_target_hit.sum())
    found = (
        f"holds on {len(columns):,} made candles: {buys} buy, {sells} sell, {targets} profit target rows, "
        f"{len(columns.extras)} further columns, {1000 * seconds:,.0f} ms"
    )
    if not buys and not sells:
        return warn(
            "Contract", found, "It gave no signal at all there; replay your own candles to see whether it ever does."
        )
    return ok("Contract", found)


def _warm_up(strategy: LocatedStrategy, settings: Settings) -> Finding:
    needed = known_warm_up(settings, strategy)
    if needed is None:
        return warn("Warm-up", "not audited yet: whether WARMUP_CANDLES is enough is not known", "Run: smm-bt audit")
    found = f"{needed:,} candles needed by audit, WARMUP_CANDLES is {settings.WARMUP_CANDLES:,}"
    if needed > settings.WARMUP_CANDLES:
        return fail("Warm-up", found, f"Set WARMUP_CANDLES to {needed:,} or more.")
    return ok("Warm-up", found)
