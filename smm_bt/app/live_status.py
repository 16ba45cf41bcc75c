"""The status line of a live run: prices, position, result, free balance, next candle, the last decision."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from smm_bt.app.live_books import LiveBooks
from smm_bt.execution.host_clock import HostClock

if TYPE_CHECKING:
    from rich.console import Console

_EVERY_S = 0.5
_PLAIN_EVERY_S = 300.0


class StatusLine:
    """Rewrites one line on a terminal; elsewhere prints one now and then, so that a log stays readable."""

    def __init__(self, console: Console, host: HostClock, feeds: list[Any], broker: Any, books: LiveBooks) -> None:
        self._console, self._host, self._feeds, self._broker, self._books = console, host, feeds, broker, books
        self._shown_s = host.seconds() - (_EVERY_S if console.is_terminal else _PLAIN_EVERY_S - 10.0)
        self._live: Any = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live("", console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, now_ms: int, due_ms: int) -> None:
        """Bring the line up to date, a few times a second at most."""
        pause = _EVERY_S if self._live is not None else _PLAIN_EVERY_S
        if self._host.seconds() < self._shown_s + pause:
            return
        self._shown_s = self._host.seconds()
        self._books.line = text = self._text(now_ms, due_ms)
        if self._live is not None:
            from rich.text import Text

            self._live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)
        else:
            self._console.print(text, soft_wrap=True, highlight=False, markup=False)

    def _text(self, now_ms: int, due_ms: int) -> str:
        broker = self._broker
        parts = [f"{feed._name} {feed.close[0]:g}" for feed in self._feeds[:3] if len(feed)]
        if len(self._feeds) > 3:
            parts.append(f"… {len(self._feeds)} symbols")
        for symbol, position in list(broker.ledger.positions.items())[:3]:
            side = "long" if position.side > 0 else "short"
            price = self._books.last_prices().get(symbol, position.entry_price)
            result = position.unrealized_pnl(price)
            parts.append(f"{side} {position.qty:g} {symbol} @ {position.entry_price:g} uPnL {result:+.2f}")
        if not broker.ledger.positions:
            parts.append("flat")
        parts.append(f"free {broker.getcash():,.2f}")
        parts.append(f"next candle in {max(0, due_ms - now_ms) // 1000} s")
        if self._books.last_decision:
            parts.append(f"last: {self._books.last_decision}")
        return " · ".join(parts)
