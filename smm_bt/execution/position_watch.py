"""How long each open position is left alone, so that the bars until then cost nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from smm_bt.execution.feed_bars import FeedBars
from smm_bt.execution.ledger import Position

Data = Any  # a backtrader data feed


class PositionWatch:
    """Knows of each open position the number of bars until which nothing happens to it by itself."""

    def __init__(self, bars: FeedBars) -> None:
        self._bars = bars
        self._watched: dict[str, tuple[Any, int]] = {}

    def is_quiet(self) -> bool:
        """Return whether no position has reached the next candle in which something can happen to it."""
        return all(clock.lencount <= quiet_until for clock, quiet_until in self._watched.values())

    def quiet_until(self, symbol: str) -> int | None:
        """Return until which bar the symbol's position is left alone, None without one."""
        watched = self._watched.get(symbol)
        return None if watched is None else watched[1]

    def look_ahead(self, positions: Iterable[tuple[Position, Data]]) -> None:
        """Search the candles to come of each position, so that those it is left alone in cost nothing."""
        self._watched = {
            position.symbol: (data.lines.datetime, self._bars.quiet_until(data, position))
            for position, data in positions
        }
