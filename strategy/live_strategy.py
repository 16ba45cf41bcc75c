"""LiveSmmStrategy: SmmStrategy on candles as they come. Old ones open nothing; exits are honoured."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from strategy.rules import HOLD, Decision, RowFlags, decide
from strategy.smm_strategy import Data, SmmStrategy

#: Names of feeds.live.Standing, which this layer knows by their words only.
WARMUP, PASSED, FRESH = "warm-up", "passed", "fresh"


class DroppedEntry(NamedTuple):
    """An entry the rules wanted and the circumstances forbade."""

    candle_ms: int
    symbol: str
    entry_side: int
    why: str


class Leftover(NamedTuple):
    """What an earlier process of this run decided on a candle and did not carry out.

    ``tried`` counts the closing orders that came to nothing; the next one gets an id of its own.
    """

    symbol: str
    candle_ms: int
    close_reason: str
    entry_side: int
    tried: int = 0


class _Due(NamedTuple):
    """What is to be ordered for a feed, the candle it was decided on, and how many closes came to nothing."""

    data: Data
    decision: Decision
    candle_ms: int
    tried: int = 0


class LiveSmmStrategy(SmmStrategy):
    """Trades like SmmStrategy what is fresh.

    A feed says by ``standing`` what may be done on its candle: nothing (``warm-up``); remember an exit, because
    younger candles wait already (``passed``); exit, but open nothing (``stale``); everything (``fresh``). While
    ``paused`` holds a reason, nothing is opened either.
    """

    def __init__(self) -> None:
        super().__init__()
        self.paused = ""
        self.dropped: list[DroppedEntry] = []
        self._exits_due: dict[str, str] = {}

    def next(self) -> None:
        """Judge every new row and order what was decided."""
        decided: list[tuple[Data, Decision]] = []
        for number, (data, clock, buy, sell, target) in enumerate(self._rows):
            if clock.lencount == self._judged[number]:
                continue
            self._judged[number] = clock.lencount
            if data.standing == WARMUP:
                continue
            flags = RowFlags(bool(buy[0]), bool(sell[0]), bool(target[0]))
            if any(flags) or data._name in self._exits_due:
                decided.append((data, self._judge(data, flags)))
        if decided:
            self._order(decided)

    def clear(self) -> None:
        """Let go of orders and trades that were handed out; Backtrader would keep weeks of them."""
        self._orderspending: list[Any] = []
        self._tradespending: list[Any] = []
        for by_id in self._trades.values():
            for trades in by_id.values():
                del trades[:-1]  # the last one may be open

    def take_up(self, leftovers: Iterable[Leftover], *, behind: bool, fresh: bool) -> None:
        """Go on with what an earlier process decided.

        Args:
            leftovers: what it did not carry out.
            behind: missed candles must be looked at first; exits are remembered until then.
            fresh: the decision's candle is still the newest, and young; otherwise nothing is opened on it.
        """
        by_name = {data._name: data for data in self.datas}
        due = []
        for left in leftovers:
            if behind and left.close_reason:
                self._exits_due[left.symbol] = left.close_reason
            entry_side = left.entry_side if fresh else 0
            if left.entry_side and not entry_side:
                why = "the run was down when it was due"
                self.dropped.append(DroppedEntry(left.candle_ms, left.symbol, left.entry_side, why))
            if not behind and (left.close_reason or entry_side):
                decision = Decision(left.close_reason, entry_side, False)
                due.append(_Due(by_name[left.symbol], decision, left.candle_ms, left.tried))
        self._order_for(due)

    def close_by_hand(self, data: Data, order_id: str) -> bool:
        """Order the close of what is open in ``data``; return whether anything was."""
        order = self.close(data=data, reduce_only=True, reason="manual", order_id=order_id)
        return order is not None

    def _permitted(self, data: Data, decision: Decision) -> Decision:
        due = self._exits_due.get(data._name, "")
        side = self._side(data)
        if due and side and not decision.close_reason:
            flat = decide(self._flags(data), 0, self._options)
            decision = Decision(due, flat.entry_side, flat.conflicting_signals)
        if data.standing == PASSED:
            if decision.close_reason:
                self._exits_due.setdefault(data._name, decision.close_reason)
            return self._without_entry(data, decision, "younger candles had closed already")
        self._exits_due.pop(data._name, None)
        if data.standing != FRESH:
            return self._without_entry(data, decision, "the candle was stale")
        return self._without_entry(data, decision, self.paused) if self.paused else decision

    def _without_entry(self, data: Data, decision: Decision, why: str) -> Decision:
        if decision.entry_side:
            self.dropped.append(DroppedEntry(data.open_ms(), data._name, decision.entry_side, why))
        rest = Decision(decision.close_reason, 0, decision.conflicting_signals)
        return rest if rest != HOLD else HOLD

    def _order(self, decided: list[tuple[Data, Decision]]) -> None:
        now = [_Due(data, decision, data.open_ms()) for data, decision in decided if data.standing != PASSED]
        self._order_for(now)

    def _order_for(self, decided: list[_Due]) -> None:
        """Order all closes before all entries; ids are made of symbol and candle, so that none is made twice."""
        for data, decision, candle_ms, tried in decided:
            if decision.close_reason:
                again = f"-{tried + 1}" if tried else ""
                order_id = f"{data._name}-{candle_ms}-close{again}"
                self.close(data=data, reduce_only=True, reason=decision.close_reason, order_id=order_id)
        for data, decision, candle_ms, _ in decided:
            if decision.entry_side:
                enter = self.buy if decision.entry_side > 0 else self.sell
                enter(data=data, sized_at_fill=True, order_id=f"{data._name}-{candle_ms}-entry")

    def _side(self, data: Data) -> int:
        size: Any = self.broker.getposition(data, clone=False).size
        return int(size > 0) - int(size < 0)

    def _flags(self, data: Data) -> RowFlags:
        return RowFlags(*(bool(line[0]) for line in (data.buy_signal, data.sell_signal, data.profit_target_hit)))
