"""How long open positions are left alone: the broker need not look at the candles in which nothing can happen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from smm_bt.execution.intrabar import next_event
from smm_bt.execution.ledger import Position
from smm_bt.execution.market_history import MarketHistory

Data = Any  # a backtrader data feed

#: How many candles are searched at once for what may happen to a position.
_LOOK_AHEAD = 1_024


class PositionWatch:
    """Knows of each open position the number of bars until which nothing happens to it by itself."""

    def __init__(self, histories: Mapping[str, MarketHistory]) -> None:
        self._histories = histories
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
            position.symbol: (data.lines.datetime, self._search(position, len(data))) for position, data in positions
        }

    def _search(self, position: Position, count: int) -> int:
        history = self._histories.get(position.symbol)
        if history is None:
            return count
        last = min(count - 1 + _LOOK_AHEAD, len(history.candles) - 1)
        event = next_event(position, history, count, last)
        return last + 1 if event is None else event
