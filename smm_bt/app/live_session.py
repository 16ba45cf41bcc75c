"""One process's share of a live run: its parts wired together, and Cerebro's loop with an orderly end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from feeds.candles import iso_utc
from feeds.live import live_feed
from feeds.live_window import CandleWindow
from feeds.timeframes import timeframe_ms
from smm_bt.analytics.journal import Journal
from smm_bt.app import build_live
from smm_bt.app.candle_intake import Barrier, CandleIntake
from smm_bt.app.candle_release import CandleRelease
from smm_bt.app.clock import now_ms
from smm_bt.app.live_account import LiveAccount, LiveWiring
from smm_bt.app.live_books import LiveBooks
from smm_bt.app.live_cerebro import live_cerebro
from smm_bt.app.live_compute import LiveCompute, MadeTrial
from smm_bt.app.live_controls import LiveControls
from smm_bt.app.live_events import LiveEvents
from smm_bt.app.live_market_source import MarketChoice, MarketShape, MarketSource
from smm_bt.app.live_resume import drop_unsent, leftovers
from smm_bt.app.live_status import StatusLine
from smm_bt.app.market_clock import Freshness
from smm_bt.app.run_log import RunLog
from smm_bt.app.settings import Settings
from smm_bt.app.stop_signal import StopRequested, StopSignal
from smm_bt.app.streamed_candles import StreamedCandles
from smm_bt.execution.host_clock import HostClock
from smm_bt.execution.live_candles import LiveCandles
from smm_bt.execution.risk_sizer import RiskSizer
from strategy.live_strategy import WAS_DOWN, LiveSmmStrategy
from strategy.loader import LocatedStrategy

if TYPE_CHECKING:
    from rich.console import Console


class Limits(Protocol):
    """When a run is to end by itself, and how."""

    @property
    def until_ms(self) -> int | None:
        """Return the venue's time at which it ends."""
        ...

    @property
    def max_candles(self) -> int | None:
        """Return after how many candle times it ends."""
        ...

    @property
    def close_on_exit(self) -> bool:
        """Return whether open positions are closed at the end."""
        ...

    @property
    def adopt(self) -> bool:
        """Return whether positions of the demo account that this run did not open are taken over."""
        ...

    @property
    def pages(self) -> bool:
        """Return whether tearsheet and chart are drawn."""
        ...


@dataclass(frozen=True)
class SessionParts:
    """What a session is made of."""

    request: Limits
    settings: Settings
    choice: MarketChoice
    shape: MarketShape
    strategy: LocatedStrategy
    source: MarketSource
    journal: Journal
    folder: Path
    host: HostClock
    stop: StopSignal
    resumed: bool


class LiveSession:
    """Runs Cerebro on a live market until something ends it."""

    def __init__(self, parts: SessionParts, log: RunLog, console: Console) -> None:
        self._parts, self._console = parts, console
        self._events = LiveEvents(parts.journal, log, console)
        self._length_ms = timeframe_ms(parts.shape.timeframe)
        readers = parts.source.readers(len(parts.shape.symbols))
        self._reader = readers[0]
        hourly = parts.source.embedded is None
        self.source = LiveCandles(readers, parts.shape.timeframe, hourly_funding=hourly)
        self.clock = parts.source.clock(self._reader)
        self._is_fresh = Freshness(self.clock, self._length_ms)
        self._stream = parts.source.stream(parts.shape.symbols, parts.shape.timeframe)
        self.why_ended = ""
        self._left: Exception | None = None
        self._books: LiveBooks | None = None
        self._account: LiveAccount | None = None
        self._strategy: Any = None
        self._computes: dict[str, LiveCompute] = {}

    # ---- the whole of it

    def run(self) -> None:
        """Run from the first candle to the end, whatever ends it.

        Raises:
            SmmBtError, StrategyRefused: what ended it, unless that was a person or a limit.
        """
        parts = self._parts
        self._events.tell("started", f"{parts.source.name}, {', '.join(parts.shape.symbols)} {parts.shape.timeframe}")
        self.clock.sync()
        wiring = LiveWiring(
            parts.shape.symbols,
            self._reader,
            self.clock,
            self._length_ms,
            self._is_fresh,
            parts.choice.exchange_info,
            parts.choice.brackets,
            parts.request.adopt,
            None if self.clock.stepped else self.source,
        )
        account = build_live.build_live_account(
            parts.journal, parts.settings, parts.source, wiring, resumed=parts.resumed
        )
        self._account = account
        self._books = LiveBooks(parts.journal, account.broker, self.clock, account.paper)
        self._stream.start()
        try:
            self._loop(account, self._books)
        except StopRequested:
            self.why_ended = f"stopped by {parts.stop.requested}"
            self._left = account.land()
        finally:
            account.close()
            self._stream.close()

    def write_down(self) -> None:
        """Record what is not recorded yet; nothing is lost when the loop ended in the middle."""
        if self._books is not None:
            self._books.write()

    def failure(self) -> Exception | None:
        """Return what made the broker stop the run, or what a stop in the middle left unknown, if anything did."""
        broke = self._account.failure() if self._account is not None else None
        return broke or self._left

    def has_profit_target(self) -> bool:
        """Return whether the strategy gives profit_target_hit."""
        return all(compute.has_profit_target for compute in self._computes.values())

    def silences(self) -> dict[str, str]:
        """Return, for symbols on which compute_smm() was called and never worked, why not."""
        return {symbol: compute.silence for symbol, compute in self._computes.items() if compute.silence}

    def never_worked(self) -> bool:
        """Return whether the market ended and compute_smm() had worked on no symbol."""
        worked = any(compute.has_worked for compute in self._computes.values())
        return self.clock.finished and bool(self.silences()) and not worked

    # ---- its parts

    def _loop(self, account: LiveAccount, books: LiveBooks) -> None:
        intake = self._intake()
        self._begin(intake, account)
        release = CandleRelease(intake, self.clock, self._parts.host, self, self._events.tell)
        cerebro = live_cerebro(release)
        cerebro.setbroker(account.broker)
        extras = intake.extras()
        feeds = []
        for number, symbol in enumerate(self._parts.shape.symbols):
            own = [name for name in extras[symbol] if name not in ("buy_signal", "sell_signal", "profit_target_hit")]
            feeds.append(live_feed(symbol, self._parts.shape.timeframe, release, own, leads=number == 0))
            cerebro.adddata(feeds[-1])
        cerebro.addsizer(RiskSizer)
        options = {"close_on_opposite_signal": self._parts.settings.CLOSE_ON_OPPOSITE_SIGNAL}
        cerebro.addstrategy(_wired(self._take_strategy), **options)
        with StatusLine(self._console, self._parts.host, feeds, account.broker, books) as status:
            self._between = _Between(status)
            release.connect(account.broker, books, self._between, feeds, lambda: self._get_ready(release, feeds))
            cerebro.run()
        self.why_ended = release.why_ended

    def _intake(self) -> CandleIntake:
        parts = self._parts
        compute = parts.strategy.load().compute
        parameters, size = parts.settings.STRATEGY_PARAMETERS, parts.settings.WARMUP_CANDLES
        trial, windows = MadeTrial(compute, parameters, size, self._length_ms), {}
        for symbol in parts.shape.symbols:
            judge = LiveCompute(compute, parameters, size, trial, self._events.tell)
            self._computes[symbol] = judge
            windows[symbol] = CandleWindow(size, judge)
        barrier = Barrier(tries=3) if self.clock.stepped else Barrier()
        tell, speed = self._events.tell, self.clock.speed
        streamed = StreamedCandles(self._stream, parts.host, self._length_ms, speed, tell)
        return CandleIntake(self.source, streamed, windows, parts.host, barrier, self._is_fresh, tell)

    def _begin(self, intake: CandleIntake, account: LiveAccount) -> None:
        """Read the history; a run that goes on has dealt with part of it."""
        done = {symbol: each.last_ms for symbol, each in self._parts.journal.progress().items()}
        now = self.clock.now_ms()
        held = account.held() if account.paper is not None else []
        intake.begin(now, done, self._parts.settings.WARMUP_CANDLES, held)
        if self._parts.resumed:
            missed = sum(row.standing != "warm-up" for queue in intake.queues.values() for row in queue)
            self._events.tell("resumed_run", f"going on at {iso_utc(now)}, {missed} candles were missed", missed=missed)

    def _take_strategy(self, strategy: LiveSmmStrategy) -> None:
        self._strategy = strategy
        if self._books is not None:
            self._books.strategy = strategy

    def _get_ready(self, release: CandleRelease, feeds: list[Any]) -> None:
        """After the warm-up: positions, what was decided and not done, requests, the way out."""
        account, books, journal, strategy = self._account, self._books, self._parts.journal, self._strategy
        if account is None or books is None:
            return
        by_name: Mapping[str, Any] = {feed._name: feed for feed in feeds}
        account.take_over(by_name, strategy)
        controls = LiveControls(journal, strategy, feeds, self._events.tell)
        self._between.controls = controls
        if self._parts.request.close_on_exit:
            release.close_on_exit = controls.close_on_exit
        books.prices_are_known()
        if self._parts.resumed:
            controls.answer_switches()
            self._take_up(account, books, release.behind)

    def _take_up(self, account: LiveAccount, books: LiveBooks, behind: bool) -> None:
        """Order what an earlier process left undone, or say that it is not done; all of it in one commit."""
        journal, strategy = self._parts.journal, self._strategy
        fresh = not behind and self._is_newest_fresh()
        why = strategy.paused if fresh else WAS_DOWN
        with journal.together():
            left = leftovers(journal, account.openers(), self._length_ms)
            if why and account.paper is not None:
                drop_unsent(journal, now_ms(), why, closes=behind)
            strategy.take_up(left, behind=behind, fresh=fresh)
            books.write()

    def _is_newest_fresh(self) -> bool:
        newest = max((each.last_ms for each in self._parts.journal.progress().values()), default=0)
        return self._is_fresh(newest)

    def why_stop(self, now_ms: int, steps: int) -> str:
        """Return why the run ends now, or nothing."""
        limits, stop = self._parts.request, self._parts.stop
        if stop.requested:
            return f"stopped by {stop.requested}"
        if limits.max_candles is not None and steps >= limits.max_candles:
            return f"{limits.max_candles} candles were asked for"
        if limits.until_ms is not None and now_ms >= limits.until_ms:
            return f"it is {iso_utc(limits.until_ms)}"
        return ""


class _Between:
    """What is done between candles: a person's requests, once there is a strategy to carry them out, and the status."""

    def __init__(self, status: StatusLine) -> None:
        self._status = status
        self.controls: LiveControls | None = None

    def answer(self) -> None:
        """Carry out what a person asked for."""
        if self.controls is not None:
            self.controls.answer()

    def show(self, now_ms: int, due_ms: int) -> None:
        """Bring the status line up to date."""
        self._status.show(now_ms, due_ms)


def _wired(take: Any) -> Any:
    """Return LiveSmmStrategy in a form that introduces itself when Cerebro makes it."""

    def start(self: Any) -> None:
        take(self)

    return type("LiveSmmStrategy", (LiveSmmStrategy,), {"start": start, "__doc__": LiveSmmStrategy.__doc__})
