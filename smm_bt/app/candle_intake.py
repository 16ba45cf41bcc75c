"""Candles from the venue into queues, each with the strategy's columns: in order, nothing twice, symbols together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from feeds.candles import iso_utc
from feeds.live import LiveRow, Standing
from feeds.live_window import CandleRow, CandleWindow
from feeds.timeframes import candle_open_ms
from smm_bt.app.streamed_candles import StreamedCandles
from smm_bt.execution.host_clock import HostClock
from smm_bt.execution.live_candles import InsideCandles, LiveCandles, NewCandles
from smm_bt.execution.venue_errors import VenueFault, VenueSilent
from smm_bt.execution.venue_rows import Kline

Tell = Callable[..., None]


@dataclass(frozen=True)
class Barrier:
    """How long symbols wait for one another.

    Args:
        wait_s: how long a candle that should be there is asked for before the others go on without it.
        settle_s: how long a candle is waited for to be followed by the next one, which proves it final.
        tries: instead of seconds, where the venue's clock stands while we ask.
        again_s: how often a candle that did not come is asked for after that.
    """

    wait_s: float = 10.0
    settle_s: float = 3.0
    tries: int = 0
    again_s: float = 5.0


@dataclass
class SymbolCount:
    """Holes between the candles of one symbol that went out since the process began."""

    gaps: int = 0
    missing: int = 0


class CandleIntake:
    """Reads what is due and queues it.

    Args:
        source: the venue.
        streamed: candles it tells by itself; with them most need no request of their own.
        windows: where each symbol's candles go to be judged, in the order of SYMBOLS.
        host: the machine's clocks.
        barrier: how long symbols wait for one another.
        is_fresh: whether a position may still be opened on the candle that opened then.
        tell: takes events.
    """

    def __init__(
        self,
        source: LiveCandles,
        streamed: StreamedCandles,
        windows: Mapping[str, CandleWindow],
        host: HostClock,
        barrier: Barrier,
        is_fresh: Callable[[int], bool],
        tell: Tell,
    ) -> None:
        self.source, self.streamed = source, streamed
        self._windows, self._host, self._barrier = windows, host, barrier
        self._length_ms = source.length_ms
        self.is_fresh = is_fresh
        self._tell = tell
        self.queues: dict[str, deque[LiveRow]] = {symbol: deque() for symbol in windows}
        self.counts: dict[str, SymbolCount] = {symbol: SymbolCount() for symbol in windows}
        self._next_ms: dict[str, int] = {}
        self._out_ms: dict[str, int] = {}
        self._asked_since_s: float | None = None
        self._tries = 0
        self._not_before_s = 0.0
        self._given_up_ms = -1
        self._late: frozenset[str] = frozenset()

    # ---- the beginning

    def begin(self, now_ms: int, done_ms: Mapping[str, int], size: int, held: Collection[str]) -> None:
        """Read the history; candles up to ``done_ms``, by default all that are closed now, are warm-up.

        Args:
            now_ms: the venue's time.
            done_ms: open time of the last candle an earlier process of this run has dealt with.
            size: how many candles of history are wanted.
            held: symbols with an open position.
        """
        self._out_ms = dict(done_ms)
        newest = self._forming_ms(now_ms) - self._length_ms
        # a symbol the run has had no candle of yet goes on where the others do
        last_of_all = max(done_ms.values(), default=newest)
        for symbol in self._windows:
            last = done_ms.get(symbol, last_of_all)
            self._next_ms[symbol] = last + self._length_ms
            self._warm_up(symbol, self.source.latest(symbol, min(last, newest), size))
            since = self.source.history(symbol, last + self._length_ms, now_ms) if last < newest else []
            if since:
                inside = self.source.inside({symbol: since} if symbol in held else {})
                self._append(symbol, since, inside.get(symbol), now_ms)

    def _warm_up(self, symbol: str, klines: Sequence[Kline]) -> None:
        if not klines:
            return
        window = self._windows[symbol]
        window.add(klines)
        columns = window.columns(len(klines))
        for number, kline in enumerate(klines):
            row = {name: column[number] for name, column in columns.items()}
            self.queues[symbol].append(LiveRow(_row(kline), row, Standing.WARMUP))

    def extras(self) -> dict[str, list[str]]:
        """Return the names of all columns seen in the history, by symbol."""
        return {symbol: list(queue[-1].columns) if queue else [] for symbol, queue in self.queues.items()}

    # ---- while running

    def _forming_ms(self, now_ms: int) -> int:
        return candle_open_ms(now_ms, self.source.timeframe)

    def due_ms(self, now_ms: int) -> int:
        """Return the venue's time at which there is something to ask for."""
        coming = self._forming_ms(now_ms) + self._length_ms
        overdue = any(next_ms + self._length_ms <= now_ms for next_ms in self._next_ms.values())
        return now_ms if overdue and not self._resting(now_ms) else coming

    @property
    def waits(self) -> bool:
        """Whether a candle that is due was asked for and is being given time."""
        return self._asked_since_s is not None and not self._barrier.tries

    def _resting(self, now_ms: int) -> bool:
        if self._barrier.tries:
            return now_ms == self._given_up_ms
        return self._host.seconds() < self._not_before_s

    def rest_s(self) -> float:
        """Return for how many seconds nothing need be asked because an answer is being given time."""
        return max(0.0, self._not_before_s - self._host.seconds())

    def await_stream(self, now_ms: int) -> bool:
        """Give the stream a moment to tell what is due; return whether it has told all of it."""
        return self.streamed.wait(self._due(now_ms), now_ms)

    def told_while_resting(self, now_ms: int, longest_s: float) -> bool:
        """Return whether the stream tells within ``min(rest_s(), longest_s)`` what REST did not have yet."""
        since, rest_s = self._due(now_ms), self.rest_s()
        if not rest_s or len(self.streamed.ready(since, now_ms)) == len(since):
            return False  # nothing is missing that the stream could tell
        return self.streamed.wait(since, now_ms, min(rest_s, longest_s))

    def check(self, now_ms: int) -> None:
        """Hold one candle of the stream against REST, if one's turn has come; what is not answered is asked again."""
        self.streamed.acquaint()
        symbol = self.streamed.to_check()
        if symbol is None:
            return
        self.streamed.put_off(symbol)
        try:
            answer = self.source.newest({symbol: self.streamed.asked_ms(symbol, now_ms)}, now_ms)[symbol]
        except (VenueSilent, VenueFault):
            self.streamed.rest_is_silent()  # said when a candle is due and cannot be read
            return
        self._learn(symbol, answer)

    def _learn(self, symbol: str, answer: NewCandles) -> None:
        correction = self.streamed.learn(symbol, answer)
        if correction is not None:
            self._windows[symbol].correct(*correction)

    def _due(self, now_ms: int) -> dict[str, int]:
        return {s: next_ms for s, next_ms in self._next_ms.items() if next_ms + self._length_ms <= now_ms}

    def collect(self, now_ms: int, held: Collection[str]) -> bool:
        """Ask for what has closed by ``now_ms``; return whether anything was queued.

        Raises:
            VenueSilent, VenueFault: no candles could be read; nothing has changed.
        """
        since = self._due(now_ms)
        told = self.streamed.ready(since, now_ms)
        if not since or (len(told) < len(since) and self._resting(now_ms)):
            return False
        found = self._read({s: next_ms for s, next_ms in since.items() if s not in told}, now_ms)
        inside = self.source.inside({symbol: [kline] for symbol, kline in told.items() if symbol in held})
        for symbol, kline in told.items():  # the stream is final, the mark candle may not be
            found[symbol] = NewCandles([kline], symbol not in inside or inside[symbol].settled)
        lacking = [symbol for symbol in since if not self._whole(found[symbol], now_ms)]
        if lacking and set(lacking) != self._late and self._wait_for(lacking, found):
            return False
        new = {symbol: found[symbol].closed for symbol in since if found[symbol].closed}
        self.streamed.taken(told)
        inside |= self.source.inside({s: klines for s, klines in new.items() if s in held and s not in told})
        for symbol, klines in new.items():
            self._append(symbol, klines, inside.get(symbol), now_ms)
        self._after(lacking, new, now_ms)
        return bool(new)

    def _read(self, since: Mapping[str, int], now_ms: int) -> dict[str, NewCandles]:
        """Ask REST for what is due, and with it for what was taken before and is not confirmed yet."""
        asked = {symbol: self.streamed.asked_ms(symbol, next_ms) for symbol, next_ms in since.items()}
        found = {}
        for symbol, answer in (self.source.newest(asked, now_ms) if asked else {}).items():
            self._learn(symbol, answer)
            closed = [kline for kline in answer.closed if kline.open_ms >= since[symbol]]
            found[symbol] = NewCandles(closed, answer.settled)
        return found

    def _whole(self, answer: NewCandles, now_ms: int) -> bool:
        newest = bool(answer.closed) and answer.closed[-1].open_ms + 2 * self._length_ms > now_ms
        return newest and (answer.settled or bool(self._barrier.tries))

    def _wait_for(self, lacking: Sequence[str], found: Mapping[str, NewCandles]) -> bool:
        """Return whether to ask again before going on without ``lacking``."""
        now_s = self._host.seconds()
        if self._asked_since_s is None:
            self._asked_since_s = now_s
        self._tries += 1
        if self._barrier.tries:
            return self._tries < self._barrier.tries
        there = all(found[symbol].closed for symbol in lacking)
        if now_s - self._asked_since_s > (self._barrier.settle_s if there else self._barrier.wait_s):
            return False
        self._not_before_s = now_s + min(0.05 * 2**self._tries, 1.0)
        return True

    def _after(self, lacking: Sequence[str], new: Mapping[str, object], now_ms: int) -> None:
        self._asked_since_s, self._tries = None, 0
        missing = frozenset(symbol for symbol in lacking if symbol not in new)
        self._given_up_ms = now_ms if lacking else -1
        if missing:
            self._not_before_s = self._host.seconds() + self._barrier.again_s
        if missing - self._late:
            names = ", ".join(sorted(missing))
            message = f"no candle of {names} for {iso_utc(self._forming_ms(now_ms))}"
            self._tell("candles_late" if not self._barrier.tries else "candle_absent", message)
        self._late = missing

    def _append(self, symbol: str, klines: Sequence[Kline], inside: InsideCandles | None, now_ms: int) -> None:
        window = self._windows[symbol]
        window.add(klines)
        columns = window.columns(len(klines))
        for number, kline in enumerate(klines):
            row: dict[str, Any] = {name: column[number] for name, column in columns.items()}
            standing = Standing.PASSED if number < len(klines) - 1 else self._standing(kline, now_ms)
            what = None if inside is None else inside.by_open_ms[kline.open_ms]
            self.queues[symbol].append(LiveRow(_row(kline), row, standing, what))
        self._next_ms[symbol] = klines[-1].open_ms + self._length_ms

    def _standing(self, newest: Kline, now_ms: int) -> Standing:
        return Standing.FRESH if self.is_fresh(newest.open_ms) else Standing.STALE

    def goes_out(self, symbol: str, open_ms: int) -> SymbolCount:
        """Take note that a candle is released; return the holes between the symbol's candles of this run up to it.

        Counted here and not where candles are read: what a kill leaves unreleased is read and counted again.
        """
        count, before = self.counts[symbol], self._out_ms.get(symbol, open_ms - self._length_ms)
        self._out_ms[symbol] = open_ms
        missing = (open_ms - before) // self._length_ms - 1
        if missing > 0:
            count.gaps += 1
            count.missing += missing
            self._tell("gap", f"{missing} candles before {iso_utc(open_ms)} do not exist", symbol)
        return count


def _row(kline: Kline) -> CandleRow:
    return kline.open_ms, kline.open, kline.high, kline.low, kline.close, kline.volume
