"""A live run from start to end, new or resumed, PAPER or TESTNET: start-up and recovery are one path."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from feeds.timeframes import timeframe_ms
from smm_bt.analytics.journal import Journal
from smm_bt.analytics.run_info import MARKET, RunInfo
from smm_bt.analytics.summary import print_summary
from smm_bt.app import build_live
from smm_bt.app.audit_memory import known_warm_up
from smm_bt.app.clock import now_ms
from smm_bt.app.live_finish import LiveResult, draw_pages, finish, mark_ended, mark_failed
from smm_bt.app.live_folder import (
    EXCHANGE,
    JOURNAL,
    RUN_LOG,
    clear_unbegun,
    has_begun,
    has_not_begun,
    held_folder,
    latest_live_run,
    open_to_resume,
    removed_unless_begun,
)
from smm_bt.app.live_funding import symbols_without_funding
from smm_bt.app.live_given import Given, refuse_contradictions
from smm_bt.app.live_market_source import MarketChoice, MarketShape, MarketSource, Stood, shape_of
from smm_bt.app.live_session import LiveSession, SessionParts
from smm_bt.app.live_settings import public_market, recorded_market, recorded_settings
from smm_bt.app.run_folder import choose_run_folder
from smm_bt.app.run_log import RunLog
from smm_bt.app.settings import Settings
from smm_bt.app.stop_signal import StopSignal, WatchfulClock
from smm_bt.errors import Interrupted, OutputError, RunFailed, SettingsError, SmmBtError
from smm_bt.model import LEVERAGE, RISK_FRACTION
from strategy.contract import StrategyRefused
from strategy.loader import LocatedStrategy, locate_strategy

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class LiveRequest:
    """What one ``smm-bt live`` asks for."""

    settings: Settings
    market: MarketChoice
    out: Path | None = None
    resume: bool = False
    until_ms: int | None = None
    max_candles: int | None = None
    close_on_exit: bool = False
    adopt: bool = False
    pages: bool = True
    given: Given = field(default_factory=Given)


def live(request: LiveRequest, console: Console) -> LiveResult:
    """Run until the market, the limits or a person end it; then write the run folder's files and the summary.

    Raises:
        SmmBtError, CandleError, StrategyRefused: what could not be used, or what stopped the run.
        Interrupted: the person would not wait for the step in hand; the run can be resumed.
    """
    stop = StopSignal()
    with stop.listening():
        if request.resume and not (request.out is not None and has_not_begun(request.out)):
            return _resume(request, console, stop)
        if request.resume:
            text = f"Nothing had begun in {request.out}: the run starts now, with the settings of today."
            console.print(f"[yellow]{text}[/]", soft_wrap=True, highlight=False)
        return _start(request, console, stop)


def _start(request: LiveRequest, console: Console, stop: StopSignal) -> LiveResult:
    settings, choice = request.settings, request.market
    shape = shape_of(choice, settings)
    strategy = locate_strategy(settings.STRATEGY_FILE)
    strategy.load()
    _check_window(settings, strategy)
    build_live.check_symbols(shape.symbols, choice, settings)
    if request.given.chose_embedded:
        text = f"{request.given.embedded_only[0]} belongs to the embedded exchange: the run trades there."
        console.print(text, soft_wrap=True, highlight=False)
    label = f"{settings.TRADING_MODE}-{'-'.join(shape.symbols)}"[:40].rstrip("-")
    out = request.out
    folder = out if out is not None and has_not_begun(out) else choose_run_folder(settings.RUNS_DIR, out, label)
    with ExitStack() as stack:
        host = WatchfulClock(stop)
        state = folder / EXCHANGE
        stack.enter_context(held_folder(folder))
        clear_unbegun(folder)
        stack.enter_context(removed_unless_begun(folder))
        source = build_live.open_market(choice, shape, settings, host, state, None, request.until_ms)
        stack.callback(source.close)
        info = _describe(request, shape, strategy, source, folder.name)
        balance = build_live.first_balance(settings, source)
        journal = stack.enter_context(Journal.create(folder / JOURNAL, info, balance))
        parts = SessionParts(request, settings, choice, shape, strategy, source, journal, folder, host, stop, False)
        return _run(parts, console)


def _check_window(settings: Settings, strategy: LocatedStrategy) -> None:
    """Refuse a window that an audit of this strategy has found too short."""
    needed = known_warm_up(settings, strategy)
    if needed is not None and needed > settings.WARMUP_CANDLES:
        raise SettingsError(
            f"WARMUP_CANDLES is {settings.WARMUP_CANDLES}, and an audit found that {strategy.path.name} needs {needed} "
            f"candles for the signals it gives on a whole history; set it to {needed} or more."
        )


def _resume(request: LiveRequest, console: Console, stop: StopSignal) -> LiveResult:
    folder = request.out or latest_live_run(request.settings.RUNS_DIR)
    with ExitStack() as stack:
        journal = stack.enter_context(open_to_resume(folder))
        stack.enter_context(held_folder(folder))
        refuse_contradictions(request.given, journal)
        choice = recorded_market(journal, request.market)
        if "speed" in request.given.market:
            choice = replace(choice, speed=request.market.speed)
        settings = recorded_settings(journal, request.settings)
        info = journal.run_info()
        shape = shape_of(choice, settings)
        strategy = locate_strategy(_strategy_file(request, settings, info))
        if strategy.sha256 != info.strategy_sha256:
            raise StrategyRefused(
                f"Strategy file {strategy.path} must be the one the run was started with, and it has changed since; "
                "put the old one back, or start a new run."
            )
        host = WatchfulClock(stop)
        state, until_ms = folder / EXCHANGE, request.until_ms
        source = build_live.open_market(choice, shape, settings, host, state, _stood(journal), until_ms)
        stack.callback(source.close)
        journal.update_run(info, "running")
        parts = SessionParts(request, settings, choice, shape, strategy, source, journal, folder, host, stop, True)
        return _run(parts, console)


def _strategy_file(request: LiveRequest, settings: Settings, info: RunInfo) -> Path | None:
    """Return where the run's strategy lies: where it was, or where the command line says that it lies now."""
    named = request.given.settings.get("STRATEGY_FILE")
    if named:
        return Path(named)
    return Path(info.strategy_file) if settings.STRATEGY_FILE is not None else None


def _stood(journal: Journal) -> Stood | None:
    progress = list(journal.progress().values())
    if not progress:
        return None
    return Stood(min(each.first_ms for each in progress), max(each.venue_ms for each in progress))


def _describe(
    request: LiveRequest, shape: MarketShape, strategy: LocatedStrategy, source: MarketSource, run_id: str
) -> RunInfo:
    settings = request.settings
    without_funding = symbols_without_funding(request.market, shape.symbols, source)
    public = settings.public() | {"SYMBOLS": list(shape.symbols), "TIMEFRAME": shape.timeframe}
    return RunInfo(
        run_id=run_id,
        mode=str(settings.TRADING_MODE),
        market_source=source.name,
        symbols=shape.symbols,
        timeframe=shape.timeframe,
        timeframe_ms=timeframe_ms(shape.timeframe),
        first_candle_ms=None,
        last_candle_ms=None,
        candles=0,
        strategy_file=str(strategy.path),
        strategy_sha256=strategy.sha256,
        strategy_is_reference=strategy.is_reference,
        engine="live",
        engine_reason="closed candles as they come, through Cerebro's live loop",
        funding_modelled=not without_funding,
        without_funding=without_funding,
        settings=public | {MARKET: public_market(request.market)},
        leverage=LEVERAGE,
        risk_fraction=float(RISK_FRACTION),
        stop_loss_percent=settings.STOP_LOSS_PERCENT,
        started_ms=now_ms(),
    )


def _run(parts: SessionParts, console: Console) -> LiveResult:
    """Run the session; whatever happens, what the journal holds becomes files, and it says why a run failed."""
    with RunLog(parts.folder / RUN_LOG) as log:
        try:
            return _run_and_write(parts, log, console)
        except KeyboardInterrupt:
            mark_ended(parts.journal, "stopped")
            raise Interrupted(_stopped_at_once(parts)) from None
        except Exception as problem:
            mark_failed(parts.journal, problem)
            with suppress(OutputError):  # the first problem is the one to tell
                log.write("failed", message=str(problem))
            if isinstance(problem, OutputError) and (parts.resumed or has_begun(parts.journal)):
                raise OutputError(
                    f"{problem} The run is kept up to its last step; go on with: {_how(parts)}"
                ) from problem
            raise


def _run_and_write(parts: SessionParts, log: RunLog, console: Console) -> LiveResult:
    session = LiveSession(parts, log, console)
    problem: Exception | None = None
    try:
        session.run()
    except (SmmBtError, StrategyRefused) as failed:
        problem = failed
        if not parts.journal.progress():
            raise
    finally:
        session.write_down()
        session.source.close()
    result = finish(parts.journal, parts.folder, session.why_ended, has_profit_target=session.has_profit_target())
    log.write("ended", why=session.why_ended, trades=len(result.record.trades))
    _show(parts, session, result, console)
    if problem is not None:
        raise problem
    failure = session.failure()
    if failure is not None:
        raise RunFailed(f"{failure} The run is kept; go on with: {_how(parts)}") from failure
    if session.never_worked():
        raise StrategyRefused(f"{next(iter(session.silences().values()))} The candles ended before it worked once.")
    return result


def _stopped_at_once(parts: SessionParts) -> str:
    if not parts.resumed and not has_begun(parts.journal):
        return "Stopped at once, before the first candle: nothing is kept."
    return f"Stopped at once; the journal has everything up to the last step. Go on with: {_how(parts)}"


def _show(parts: SessionParts, session: LiveSession, result: LiveResult, console: Console) -> None:
    console.print(f"Ended: {session.why_ended or 'stopped'}.", soft_wrap=True, highlight=False, markup=False)
    print_summary(result.report, console=console)
    for symbol, why in session.silences().items():
        text = f"! NO SIGNALS of {symbol}: compute_smm() never worked on the candles there were. {why}"
        console.print(text, style="bold yellow", soft_wrap=True, highlight=False, markup=False)
    if parts.request.pages and result.info.candles:
        draw_pages(result, parts.journal, session.source, console)
    if result.record.open_positions:
        console.print(f"The position is kept. Go on with: {_how(parts)}", soft_wrap=True, highlight=False)
    console.print(f"Files: {parts.folder}", soft_wrap=True, highlight=False)


def _how(parts: SessionParts) -> str:
    return f"smm-bt live --resume --out {parts.folder}"
