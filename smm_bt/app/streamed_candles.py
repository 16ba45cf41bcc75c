"""Candles from the venue's stream, taken early where REST has borne them out, and each held against REST afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from feeds.candles import iso_utc
from smm_bt.execution.host_clock import HostClock
from smm_bt.execution.live_candles import NewCandles
from smm_bt.execution.venue_rows import Kline

if TYPE_CHECKING:  # brings a web library that a stepped run does not need
    from smm_bt.execution.kline_stream import StreamedKline, StreamNews

#: So long after a close a candle is waited for before REST is asked; and at most this share of a candle.
_MOMENT_S, _MOMENT_SHARE = 0.5, 0.2
#: REST is asked about a taken candle from here on, spread over this time; and at most these shares of a candle.
_SETTLED_S, _SETTLED_SHARE = 2.0, 0.1
_SPREAD_S, _SPREAD_SHARE = 60.0, 0.5
#: This long before a close nothing is asked any more that could still be on its way when the candle comes.
_QUIET_S, _QUIET_SHARE = 10.0, 0.25


class CandleStream(Protocol):
    """Tells of closed candles by itself."""

    def start(self) -> None:
        """Begin to listen."""
        ...

    def close(self) -> None:
        """Stop listening."""
        ...

    def newest(self, symbol: str) -> StreamedKline | None:
        """Return the newest closed candle told of ``symbol``."""
        ...

    def hearing(self, symbol: str) -> int:
        """Return the number of the connection candles of ``symbol`` can be expected on, 0 without one."""
        ...

    def wait(self, ready: Callable[[], bool], seconds: float) -> bool:
        """Wait until a candle that came makes ``ready`` true, at most ``seconds``; return whether it is."""
        ...

    def news(self) -> list[StreamNews]:
        """Return what has happened to the stream since the last call."""
        ...


class NoStream:
    """Tells nothing: every candle is read over REST."""

    def start(self) -> None:
        """Nothing to begin."""

    def close(self) -> None:
        """Nothing to stop."""

    def newest(self, symbol: str) -> StreamedKline | None:
        """Nothing is ever told."""
        return None

    def hearing(self, symbol: str) -> int:
        """Nothing can be expected."""
        return 0

    def wait(self, ready: Callable[[], bool], seconds: float) -> bool:
        """Nothing is waited for."""
        return False

    def news(self) -> list[StreamNews]:
        """Nothing happens."""
        return []


class Correction(NamedTuple):
    """What REST says in the place of a candle that was taken from the stream; None where it has no such candle."""

    open_ms: int
    kline: Kline | None


class _Unchecked(NamedTuple):
    """A candle taken from the stream that REST has not confirmed yet, to be asked about at ``at_s``."""

    kline: Kline
    at_s: float
    tries: int = 0


class StreamedCandles:
    """Decides when a candle of the stream may be taken, and what REST is still to be asked about.

    A symbol's stream is taken at its word once one of its candles on the present connection was REST's to the last
    digit, and only while every candle taken before has been held against REST. So a stream of another market is
    never traded on, one that goes wrong is wrong once, and with REST silent nothing is decided.

    Args:
        stream: what tells of closed candles.
        host: the machine's steady clock.
        length_ms: of one candle.
        speed: how many times faster than the machine's clock the venue's runs.
        tell: takes events.
    """

    def __init__(
        self, stream: CandleStream, host: HostClock, length_ms: int, speed: float, tell: Callable[..., None]
    ) -> None:
        self._stream, self._host, self._tell = stream, host, tell
        self._length_ms, self._speed = length_ms, speed
        real_s = length_ms / 1000 / speed
        self._moment_s = min(_MOMENT_S, _MOMENT_SHARE * real_s)
        self._settled_s = min(_SETTLED_S, _SETTLED_SHARE * real_s)
        self._spread_s = min(_SPREAD_S, _SPREAD_SHARE * real_s)
        self.quiet_s = min(_QUIET_S, _QUIET_SHARE * real_s)
        self._trusted: dict[str, int] = {}
        self._doubted: set[str] = set()
        self._late: set[str] = set()
        self._unchecked: dict[str, _Unchecked] = {}
        self._read: dict[str, Kline] = {}
        self._silences = 0
        self._not_before_s = -math.inf

    @property
    def in_use(self) -> bool:
        """Whether candles can be expected from the stream at present."""
        return any(self._stream.hearing(symbol) for symbol in self._trusted)

    # ---- when candles are due

    def ready(self, since_ms: Mapping[str, int], now_ms: int) -> dict[str, Kline]:
        """Return the candles that may be taken: exactly the one that is due, of symbols whose stream is trusted."""
        found = {}
        for symbol, open_ms in since_ms.items():
            streamed = self._stream.newest(symbol)
            fits = streamed is not None and streamed.kline.open_ms == open_ms
            alone = now_ms < open_ms + 2 * self._length_ms
            if streamed is not None and fits and alone and self._trusts(symbol, streamed.connection):
                found[symbol] = streamed.kline
        return found

    def _trusts(self, symbol: str, connection: int) -> bool:
        return self._trusted.get(symbol) == connection and symbol not in self._unchecked

    def _hopes(self, symbol: str, open_ms: int, now_ms: int) -> bool:
        return now_ms < open_ms + 2 * self._length_ms and self._trusts(symbol, self._stream.hearing(symbol))

    def wait(self, since_ms: Mapping[str, int], now_ms: int, longest_s: float | None = None) -> bool:
        """Wait for what is due and may be told: to the end of the moment after the close, or ``longest_s``.

        A symbol that let the moment pass gets no other one until it has agreed with REST again.

        Returns:
            Whether all that is due can be taken.
        """
        hoped = {s: open_ms for s, open_ms in since_ms.items() if self._hopes(s, open_ms, now_ms)}
        if longest_s is not None:
            self._wait(hoped, now_ms, longest_s)
        elif prompt := {s: open_ms for s, open_ms in hoped.items() if s not in self._late}:
            passed_s = (now_ms - min(prompt.values()) - self._length_ms) / 1000 / self._speed
            self._wait(prompt, now_ms, self._moment_s - passed_s)
            self._late |= prompt.keys() - self.ready(prompt, now_ms).keys()
        return bool(since_ms) and len(self.ready(since_ms, now_ms)) == len(since_ms)

    def _wait(self, hoped: Mapping[str, int], now_ms: int, longest_s: float) -> None:
        if hoped:
            self._stream.wait(lambda: len(self.ready(hoped, now_ms)) == len(hoped), max(0.0, longest_s))

    def taken(self, klines: Mapping[str, Kline]) -> None:
        """Take note of candles that were taken, by symbol; REST is asked about them one after the other."""
        first_s = self._host.seconds() + self._settled_s
        for number, (symbol, kline) in enumerate(klines.items()):
            self._unchecked[symbol] = _Unchecked(kline, first_s + self._spread_s * number / len(klines))

    # ---- between candles

    def tell_news(self) -> None:
        """Say what happened to the stream."""
        for kind, message in self._stream.news():
            self._tell(kind, message)

    def next_check_s(self) -> float:
        """Return in how many seconds there is something to ask REST about."""
        first_s = min((each.at_s for each in self._unchecked.values()), default=math.inf)
        return max(0.0, max(first_s, self._not_before_s) - self._host.seconds())

    def to_check(self) -> str | None:
        """Return the symbol whose candle REST is to be asked about now, if there is one."""
        now_s = self._host.seconds()
        if now_s < self._not_before_s:
            return None
        return next((symbol for symbol, each in self._unchecked.items() if each.at_s <= now_s), None)

    def put_off(self, symbol: str) -> None:
        """Ask again about ``symbol`` after a growing pause: its candle is not certain yet."""
        each = self._unchecked.get(symbol)
        if each is not None:
            at_s = self._host.seconds() + self._settled_s * 2**each.tries
            self._unchecked[symbol] = each._replace(at_s=at_s, tries=each.tries + 1)

    def rest_is_silent(self) -> None:
        """Ask nothing for a growing pause: REST does not answer."""
        self._not_before_s = self._host.seconds() + min(_SPREAD_S, self._settled_s * 2**self._silences)
        self._silences += 1

    def asked_ms(self, symbol: str, open_ms: int) -> int:
        """Return from which open time on REST is to be asked so that ``open_ms`` and what is unchecked are told."""
        each = self._unchecked.get(symbol)
        return open_ms if each is None else min(open_ms, each.kline.open_ms)

    # ---- what REST says

    def learn(self, symbol: str, answer: NewCandles) -> Correction | None:
        """Hold the stream against REST's answer; return what was taken and is otherwise."""
        self._silences, self._not_before_s = 0, -math.inf
        final = answer.closed if answer.settled else answer.closed[:-1]
        if final:
            self._read[symbol] = final[-1]
        each = self._unchecked.get(symbol)
        if each is None or not final or final[-1].open_ms < each.kline.open_ms:
            return None
        del self._unchecked[symbol]
        mine = each.kline
        theirs = next((kline for kline in final if kline.open_ms == mine.open_ms), None)
        if theirs == mine:
            return None
        self._differs(symbol, mine, theirs)
        return Correction(mine.open_ms, theirs)

    def acquaint(self) -> None:
        """Hold the stream against candles that REST was faster with, or was asked for anyway."""
        for symbol, theirs in list(self._read.items()):
            streamed = self._stream.newest(symbol)
            if streamed is None or streamed.kline.open_ms < theirs.open_ms:
                continue
            del self._read[symbol]
            if streamed.kline == theirs:
                self._trusted[symbol] = streamed.connection
                self._doubted.discard(symbol)
                self._late.discard(symbol)
            elif streamed.kline.open_ms == theirs.open_ms and symbol not in self._unchecked:
                self._differs(symbol, streamed.kline, theirs)

    def _differs(self, symbol: str, mine: Kline, theirs: Kline | None) -> None:
        """Say so, once until stream and REST agree again, and take nothing more from the stream until then."""
        self._trusted.pop(symbol, None)
        if symbol in self._doubted:
            return
        self._doubted.add(symbol)
        rest = _figures(theirs) if theirs is not None else "no such candle"
        message = f"the stream's candle of {iso_utc(mine.open_ms)} ({_figures(mine)}) is not REST's ({rest})"
        values = {"stream": _values(mine), "rest": None if theirs is None else _values(theirs)}
        self._tell("candle_differs", f"{message}; REST's counts from here on", symbol, open_ms=mine.open_ms, **values)


def _values(kline: Kline) -> Sequence[float]:
    return list(kline[1:])


def _figures(kline: Kline) -> str:
    return " ".join(f"{value:.10g}" for value in kline[1:])
