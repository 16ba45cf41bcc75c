"""LiveSmmStrategy: SmmStrategy on candles as they come. Old ones open nothing; exits are honoured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from strategy.rules import HOLD, Decision, RowFlags, decide
from strategy.smm_strategy import Data, SmmStrategy

#: Names of feeds.live.Standing, which this layer knows by their words only.
WARMUP, PASSED, FRESH = "warm-up", "passed", "fresh"
#: Why an entry that an earlier process decided is not made any more.
WAS_DOWN = "the run was down when it was due"


class DroppedEntry(NamedTuple):
    """An entry the rules wanted and the circumstances forbade."""

    candle_ms: int
    symbol: str
    entry_side: int
    why: str


class Leftover(NamedTuple):
    """One order that an earlier process of this run should have carried out and did not: a close or an entry.

    ``order_id`` is the id it is to have now, ``candle_ms`` the candle an entry was decided on.
    """

    symbol: str
    order_id: str
    close_reason: str
    entry_side: int = 0
    candle_ms: int = 0


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

    def take_up(self, leftovers: Sequence[Leftover], *, behind: bool, fresh: bool) -> None:
        """Go on with what an earlier process should have done; closes come before entries.

        Args:
            leftovers: what it did not carry out.
            behind: missed candles must be looked at first; exits are remembered until then.
            fresh: the decision's candle is still the newest, and young; otherwise, and while ``paused``, nothing is
                opened on it.
        """
        by_name = {data._name: data for data in self.datas}
        for left in leftovers:
            if left.close_reason and behind:
                self._exits_due.setdefault(left.symbol, left.close_reason)
            elif left.close_reason:
                self._close(by_name[left.symbol], left.close_reason, left.order_id)
        for left in leftovers:
            why = self.paused if fresh else WAS_DOWN
            if left.entry_side and why:
                self.dropped.append(DroppedEntry(left.candle_ms, left.symbol, left.entry_side, why))
            elif left.entry_side:
                enter = self.buy if left.entry_side > 0 else self.sell
                enter(data=by_name[left.symbol], sized_at_fill=True, order_id=left.order_id)

    def close_by_hand(self, data: Data, order_id: str) -> bool:
        """Order the close of what is open in ``data``; return whether anything was."""
        return self._close(data, "manual", order_id) is not None

    def _close(self, data: Data, reason: str, order_id: str) -> Any:
        return self.close(data=data, reduce_only=True, reason=reason, order_id=order_id)

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
        super()._order([(data, decision) for data, decision in decided if data.standing != PASSED])

    def _side(self, data: Data) -> int:
        size: Any = self.broker.getposition(data, clone=False).size
        return int(size > 0) - int(size < 0)

    def _flags(self, data: Data) -> RowFlags:
        return RowFlags(*(bool(line[0]) for line in (data.buy_signal, data.sell_signal, data.profit_target_hit)))
