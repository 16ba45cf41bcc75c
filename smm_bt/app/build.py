"""The composition root: settings and files in, the wired parts of a run out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from feeds.candles import iso_utc
from feeds.lines import BUY_SIGNAL, SELL_SIGNAL
from feeds.run_cache import RunCache
from smm_bt.analytics.run_info import RunInfo
from smm_bt.app.clock import now_ms
from smm_bt.app.columns import StrategyColumns, strategy_columns
from smm_bt.app.inputs import ReplayFiles, read_inputs
from smm_bt.app.replay_plan import EngineRun, ReplayPlan
from smm_bt.app.settings import Settings
from smm_bt.execution.costs import Costs, NoStopLoss, Slippage, StopLoss, TakerFee
from smm_bt.execution.market_history import MarketHistory
from smm_bt.execution.market_rules import load_instruments
from smm_bt.model import LEVERAGE, RISK_FRACTION
from strategy.loader import LocatedStrategy, locate_strategy
from strategy.rules import RuleOptions


@dataclass(frozen=True, eq=False)
class ReplayParts:
    """What a replay runs on, and what its report must say about where that came from."""

    plan: ReplayPlan
    strategy: LocatedStrategy
    columns: Mapping[str, StrategyColumns]
    sources: Sequence[str]
    settings: Settings
    started_ms: int
    remarks: Sequence[str] = ()


def build_replay(files: ReplayFiles, settings: Settings) -> ReplayParts:
    """Read candles and market rules, run the strategy file on the candles, and wire a replay plan.

    The strategy is located first and the market rules are read before its code runs, so that nothing slow happens
    before a wrong command line is refused.
    """
    started_ms = now_ms()
    strategy = locate_strategy(settings.STRATEGY_FILE)
    cache = RunCache()
    histories, paths, remarks = read_inputs(files, settings, cache)
    folders = {symbol: path.parent for symbol, path in paths.items()} if files.cache else {}
    instruments = load_instruments(histories, files.exchange_info, files.brackets)
    columns = strategy_columns(strategy, histories, settings.STRATEGY_PARAMETERS, folders, cache)
    cache.make_room()
    plan = ReplayPlan(
        histories=histories,
        columns={symbol: computed.lines for symbol, computed in columns.items()},
        instruments=instruments,
        initial_balance_usdt=settings.INITIAL_BALANCE_USDT,
        costs=build_costs(settings),
        options=RuleOptions(settings.CLOSE_ON_OPPOSITE_SIGNAL),
    )
    sources = [path.name for path in paths.values()]
    return ReplayParts(plan, strategy, columns, sources, settings, started_ms, remarks)


def build_costs(settings: Settings) -> Costs:
    """Return the fee, slippage and stop policies the settings ask for."""
    percent = settings.STOP_LOSS_PERCENT
    stop = NoStopLoss() if percent is None else StopLoss(percent)
    return Costs(TakerFee(settings.TAKER_FEE_RATE), Slippage(settings.SLIPPAGE_BPS), stop)


def describe_replay(parts: ReplayParts, run: EngineRun, run_id: str) -> RunInfo:
    """Return the circumstances of a finished replay for report and journal."""
    histories = parts.plan.histories
    candles = [history.candles for history in histories.values()]
    without_funding = tuple(symbol for symbol, history in histories.items() if not history.funding_modelled)
    return RunInfo(
        run_id=run_id,
        mode="replay",
        market_source=f"stored candles ({', '.join(parts.sources)})",
        symbols=tuple(histories),
        timeframe=candles[0].timeframe,
        timeframe_ms=candles[0].timeframe_ms,
        first_candle_ms=min(int(series.open_ms[0]) for series in candles),
        last_candle_ms=max(int(series.open_ms[-1]) for series in candles),
        candles=sum(len(series) for series in candles),
        candles_by_symbol={series.symbol: len(series) for series in candles},
        gaps=sum(len(series.gaps) for series in candles),
        missing_candles=sum(series.missing for series in candles),
        strategy_file=str(parts.strategy.path),
        strategy_sha256=parts.strategy.sha256,
        strategy_is_reference=parts.strategy.is_reference,
        has_profit_target=all(columns.has_profit_target for columns in parts.columns.values()),
        columns_from_cache=tuple(symbol for symbol, columns in parts.columns.items() if columns.from_cache),
        engine=run.engine,
        engine_reason=run.reason,
        funding_modelled=not without_funding,
        without_funding=without_funding,
        remarks=(*parts.remarks, *_undefined_remarks(parts)),
        conflicting_signals=_conflicts(parts.columns),
        settings=settings_in_force(parts.settings, histories),
        leverage=LEVERAGE,
        risk_fraction=float(RISK_FRACTION),
        stop_loss_percent=parts.settings.STOP_LOSS_PERCENT,
        started_ms=parts.started_ms,
        finished_ms=now_ms(),
    )


def settings_in_force(settings: Settings, histories: Mapping[str, MarketHistory]) -> dict[str, object]:
    """Return the settings, secrets masked, with the symbols and the timeframe the files turned out to hold."""
    timeframe = next(iter(histories.values())).candles.timeframe
    return settings.public() | {"SYMBOLS": list(histories), "TIMEFRAME": timeframe}


def _conflicts(columns: Mapping[str, StrategyColumns]) -> int:
    return sum(int(np.count_nonzero(c.lines[BUY_SIGNAL] & c.lines[SELL_SIGNAL])) for c in columns.values())


def _undefined_remarks(parts: ReplayParts) -> list[str]:
    """Return a sentence for each flag column with NaN after its warm-up."""
    return [
        f"Column {name} of compute_smm() has no value (NaN) on {found.rows:,} candles of {symbol} after its warm-up, "
        f"first at {iso_utc(int(parts.plan.histories[symbol].candles.open_ms[found.first]))}; it was read as False."
        for symbol, columns in parts.columns.items()
        for name, found in columns.undefined.items()
    ]
