"""The event clock: moves feeds and strategy of a Cerebro from one bar that matters to the next, bar numbers true."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np

from strategy.wake import NEVER

Data = Any  # a backtrader data feed
Strategy = Any  # a backtrader strategy


class EventClock:
    """Positions all feeds, and the strategy's own clock line, at a moment; idle bars are passed in one step."""

    def __init__(self, strategy: Strategy, datas: Sequence[Data]) -> None:
        self._strategy = strategy
        self._datas = datas
        self._stamps = [data.lines.datetime.array for data in datas]
        self._counts = [len(stamps) for stamps in self._stamps]
        self._steps = self._stamps[0] if len(datas) == 1 else _union(self._stamps)
        _share_clock(strategy, self._steps)

    def __len__(self) -> int:
        return len(self._steps)

    def moment_of(self, number: int, row: int) -> float:
        """Return the stamp of row ``row`` of feed ``number``, infinity beyond its end."""
        return float(self._stamps[number][row]) if row < self._counts[number] else float("inf")

    def move_to(self, moment: float) -> None:
        """Advance every feed to its last bar at or before ``moment``, and the strategy to the step before it.

        Backtrader's own ``_oncepost`` then moves the strategy by the last step.
        """
        for data, stamps in zip(self._datas, self._stamps, strict=True):
            behind = _count_until(stamps, moment, len(data)) - len(data)
            if behind:
                data.advance(behind)
        behind = _count_until(self._steps, moment, len(self._strategy)) - len(self._strategy) - 1
        if behind > 0:
            self._strategy.advance(behind)

    def arrive_at(self, moment: float) -> None:
        """Advance every feed to its last bar at or before ``moment``, and the strategy, too."""
        self.move_to(moment)
        self._strategy.advance(_count_until(self._steps, moment, len(self._strategy)) - len(self._strategy))
        self._strategy.lines.datetime[0] = moment

    @property
    def last_moment(self) -> float:
        """The stamp of the very last bar of any feed."""
        return float(self._steps[-1])


def run_events(cerebro: Any, strategy: Strategy, clock: EventClock) -> None:
    """Run the strategy over the bars that matter: those it asks for, those its broker asks for, and the last one."""
    datas, broker = cerebro.datas, cerebro.broker
    while True:
        moments = (
            clock.moment_of(number, min(_next_row(strategy, broker, data), NEVER)) for number, data in enumerate(datas)
        )
        moment = min(min(moments), clock.last_moment)
        clock.move_to(moment)
        cerebro._brokernotify()
        if cerebro._event_stop:
            return
        strategy._oncepost(moment)
        if cerebro._event_stop or moment >= clock.last_moment:
            return


def _next_row(strategy: Strategy, broker: Any, data: Data) -> int:
    following = len(data)
    return min(int(broker.next_row(data)), int(strategy.next_wake(data, following)))


def _count_until(stamps: Any, moment: float, known: int) -> int:
    """Return how many stamps are at or before ``moment``; ``known`` of them are."""
    return bisect_right(stamps, moment, known)


def _union(stamps: Sequence[Any]) -> Any:
    return memoryview(np.unique(np.concatenate([np.asarray(each) for each in stamps])))  # type: ignore[arg-type]


def _share_clock(strategy: Strategy, steps: Any) -> None:
    """Give the strategy's clock line all its stamps at once; ``_oldsync`` lets it advance instead of append.

    The memory may be a feed's own: Backtrader writes to the line what is there already.
    """
    strategy.lines.datetime.array = steps
    strategy._oldsync = True
