"""One turn of a live run: write down, carry out, wait, read candles, release them to all feeds together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from feeds.live import LiveRow, LiveSmmFeed, Standing
from smm_bt.app.candle_intake import CandleIntake
from smm_bt.app.live_books import LiveBooks
from smm_bt.app.market_clock import MarketClock
from smm_bt.errors import RunFailed
from smm_bt.execution.host_clock import HostClock
from smm_bt.execution.venue_errors import Reaction, VenueFault, VenueSilent

#: A waiting run looks around this often: stop requests, controls, the venue's account.
_SLICE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_MARKS_EVERY_S = 5.0
#: A symbol that does not trade is looked at after growing pauses, at most this long.
_UNTRADED_PAUSE_S = 5.0


class RunLimits(Protocol):
    """When a run is to end."""

    def why_stop(self, now_ms: int, steps: int) -> str:
        """Return why the run ends now, or nothing."""
        ...


class Between(Protocol):
    """What is done between candles."""

    def answer(self) -> None:
        """Carry out what a person asked for."""
        ...

    def show(self, now_ms: int, due_ms: int) -> None:
        """Bring the status line up to date."""
        ...


class CandleRelease:
    """Drives a live run from inside Cerebro's loop; every turn begins with the first feed asking for a candle.

    One turn does one thing: what happened is written first, then waiting orders are left to the broker, then
    candles go out, all feeds' candles of one open time together, the earliest first.
    """

    def __init__(
        self, intake: CandleIntake, clock: MarketClock, host: HostClock, limits: RunLimits, tell: Callable[..., None]
    ) -> None:
        self._intake, self._clock, self._host, self._limits, self._tell = intake, clock, host, limits, tell
        self._gate: int | None = None
        self._is_lost = False
        self._fails = 0
        self._not_before_s = 0.0
        self._marks_at_s = 0.0
        self._clock_read_for_ms = 0
        self._untraded_at_s = self._untraded_pause_s = 0.0
        self._farewell = False
        self._steps = 0
        self._ready = False
        self.ended = False
        self.why_ended = ""
        self.warming = any(intake.queues.values())

    def connect(
        self, broker: Any, books: LiveBooks, between: Between, feeds: list[LiveSmmFeed], get_ready: Callable[[], None]
    ) -> None:
        """Make known what the turns work with; ``get_ready`` is called once, after the warm-up."""
        self._broker, self._books, self._between, self._feeds = broker, books, between, feeds
        self._get_ready: Callable[[], None] | None = get_ready
        self.close_on_exit: Callable[[], object] | None = None
        self._skip_uneven_warm_up()

    @property
    def behind(self) -> bool:
        """Whether candles wait that an earlier process has missed."""
        return any(self._intake.queues.values())

    # ---- what the feeds ask

    def turn(self) -> bool | None:
        """Prepare one turn: True when candles are released, None to go round again, False at the end."""
        self._gate = None
        self._books.write()
        if self.ended:
            return False
        if self.warming:
            return self._release_warm_up()
        if not self._ready:
            self._ready = True
            return None  # the broker gets its first turn
        if self._get_ready is not None:
            get_ready, self._get_ready = self._get_ready, None
            get_ready()
        why = self._limits.why_stop(self._clock.now_ms(), self._steps)
        if self._broker.has_work and not self._is_over():
            return self._leave_to_broker(why)
        return self._end(why) if why or self._is_over() else self._go_on()

    def take(self, symbol: str) -> LiveRow | None:
        """Return the symbol's released candle, once."""
        queue = self._intake.queues[symbol]
        if self._gate is None or not queue or queue[0].candle[0] != self._gate:
            return None
        row = queue.popleft()
        if row.standing is not Standing.WARMUP:
            self._books.candle_out(symbol, row, self._intake.goes_out(symbol, row.candle[0]))
        return row

    # ---- one turn

    def _skip_uneven_warm_up(self) -> None:
        """Begin where every symbol has candles, so that the broker's first turn finds a bar on each feed."""
        queues = [queue for queue in self._intake.queues.values() if queue]
        if len(queues) < len(self._intake.queues):
            return
        first = max(queue[0].candle[0] for queue in queues)
        for queue in queues:
            while len(queue) > 1 and queue[0].candle[0] < first and queue[1].standing is Standing.WARMUP:
                queue.popleft()

    def _release_warm_up(self) -> bool | None:
        heads = [q[0].candle[0] for q in self._intake.queues.values() if q and q[0].standing is Standing.WARMUP]
        if not heads:
            self.warming = False
            return None
        self._gate = min(heads)
        return True

    def _leave_to_broker(self, why_stop: str) -> bool | None:
        """Let the broker carry out its orders; while the venue is silent, wait a little between its tries."""
        slept = False
        with suppress(VenueSilent, VenueFault):
            slept = self._watch_clock()
        if slept or self._broker.silent:
            self._drop_stale()
        if self._broker.silent:
            if why_stop:
                return self._end(why_stop)
            self._say_lost("The venue does not answer while orders wait.")
            self._host.sleep(_SLICE_S)
        return None

    def _is_over(self) -> bool:
        """Whether the market has ended: no candle is to come, none waits, and no order can be filled any more."""
        if not self._clock.finished or self.behind or self._intake.waits:
            return False
        now = self._clock.now_ms()
        return self._intake.due_ms(now) > now

    def _end(self, why: str) -> bool | None:
        if self.close_on_exit is not None and not self._farewell and not self._clock.finished:
            self._farewell = True
            self.close_on_exit()
            return None
        self._books.leave_pending(self._broker.get_orders_open())
        self._books.write()
        self.ended = True
        self.why_ended = why or "the stored candles are used up"
        return False

    def _go_on(self) -> bool | None:
        if not self._fails and not self._broker.silent:
            self._connection_is_back()
        self._between.answer()
        if self._broker.has_work:
            return None
        if not self.behind:
            now = self._clock.now_ms()
            due = self._intake.due_ms(now)
            if due > now and self._fill_untraded():
                return None
            self._between.show(now, due)
            self._wait_and_read()
        return self._release_next()  # in the same turn: another would let the broker read its account first

    def _release_next(self) -> bool | None:
        heads = [queue[0].candle[0] for queue in self._intake.queues.values() if queue]
        if not heads:
            return None
        if getattr(self._broker, "untraded", False):
            self._drop_stale()  # the machine may have slept: the candle to come must not fill what is too old
        self._gate = min(heads)
        self._steps += 1
        return True

    def _drop_stale(self) -> None:
        self._books.drop_stale(self._broker.get_orders_open(), self._intake.is_fresh)

    def _fill_untraded(self) -> bool:
        """Try orders that wait for their symbol to trade again: all candles of this moment have been judged.

        Returns whether the broker has work to do before anything else, because the venue fell silent.
        """
        if not getattr(self._broker, "untraded", False):
            self._untraded_pause_s = 0.0
            return False
        self._drop_stale()
        if not self._clock.stepped and self._host.seconds() < self._untraded_at_s:
            return False
        self._untraded_pause_s = min(_UNTRADED_PAUSE_S, max(_SLICE_S, 2 * self._untraded_pause_s))
        self._untraded_at_s = self._host.seconds() + self._untraded_pause_s
        self._broker.fill_untraded()
        return bool(self._broker.has_work)

    def _wait_and_read(self) -> None:
        rest_s = self._not_before_s - self._host.seconds()
        if rest_s > 0:
            self._host.sleep(min(rest_s, _SLICE_S))
            return
        try:
            self._watch_clock()
            told = not self._fails and self._intake.told_while_resting(self._clock.now_ms(), _SLICE_S)
            if not told and not self._is_due():
                self._look_at_marks()
                return
            self._watch_clock()
            self._read_candles(told)
        except (VenueSilent, VenueFault) as problem:
            self._connection_lost(problem)
            return
        self._connection_is_back()

    def _is_due(self) -> bool:
        """Wait for the next close, a while at most; between candles there is time to hold the stream against REST."""
        now, streamed = self._clock.now_ms(), self._intake.streamed
        due_ms, rest_s = self._intake.due_ms(now), self._intake.rest_s()
        left_s = (due_ms - now) / 1000 / self._clock.speed
        streamed.tell_news()
        if left_s > streamed.quiet_s:
            self._intake.check(now)
            longest_s = min(_SLICE_S, left_s - streamed.quiet_s, max(streamed.next_check_s(), 0.001))
        else:
            self._read_clock_before(due_ms, left_s)
            longest_s = _SLICE_S
        longest_s = min(longest_s, rest_s + 0.001) if rest_s else longest_s
        # rounding may leave a millisecond, which the second call waits for: nothing is due before it has passed
        return self._clock.advance(due_ms, longest_s) and self._clock.advance(due_ms, longest_s)

    def _read_clock_before(self, close_ms: int, left_s: float) -> None:
        """Read the venue's time shortly before a close where none is read at the close itself."""
        if left_s > 0 and self._intake.streamed.in_use and self._clock_read_for_ms != close_ms:
            self._clock_read_for_ms = close_ms
            self._clock.sync()

    def _read_candles(self, told: bool) -> None:
        """Take from the stream what is due, if it tells all of it; else ask for the venue's time and for candles."""
        told = told or (not self._fails and self._intake.await_stream(self._clock.now_ms()))
        if told:
            self._clock.look_for_end()
        self._intake.collect(self._clock.now_ms() if told else self._clock.sync(), self._held())

    def _held(self) -> list[str]:
        """Return the symbols whose candles a simulated venue wants to look into."""
        return list(self._broker.ledger.positions) if getattr(self._broker, "market", None) is not None else []

    def _watch_clock(self) -> bool:
        jump = self._clock.jump()
        if jump is not None:
            self._clock.sync()
            message = f"the machine's clock went {jump.by_ms / 1000:+.1f} s against its steady one; the venue's counts"
            self._tell("clock_jump", message, by_ms=jump.by_ms)
        return jump is not None

    def _look_at_marks(self) -> None:
        """Let mark prices between candles act on simulated positions."""
        market = getattr(self._broker, "market", None)
        if market is None or self._host.seconds() < self._marks_at_s or not self._broker.ledger.positions:
            return
        self._marks_at_s = self._host.seconds() + _MARKS_EVERY_S
        bars = {symbol: market.mark_now(symbol) for symbol in self._held()}
        self._broker.look({symbol: bar for symbol, bar in bars.items() if bar is not None})

    # ---- outages

    def _connection_lost(self, problem: VenueSilent | VenueFault) -> None:
        """Say so once, then try again after growing pauses; what cannot get better by itself stops the run."""
        if isinstance(problem, VenueFault) and problem.rule.read is Reaction.STOP and problem.failure.status < 500:
            raise RunFailed(f"Candles cannot be read any more ({problem}); start again with --resume.") from problem
        self._say_lost(str(problem))
        self._fails += 1
        pause = min(_LONGEST_PAUSE_S, 0.25 * 2 ** min(self._fails, 10))
        self._not_before_s = self._host.seconds() + pause

    def _say_lost(self, problem: str) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._tell("connection_lost", f"{problem} Trying again until the venue answers.")
            for feed in self._feeds:
                feed.connection_lost()

    def _connection_is_back(self) -> None:
        self._fails = 0
        if self._is_lost:
            self._is_lost = False
            self._tell("connection_restored", "the venue answers again")
