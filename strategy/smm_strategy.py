"""SmmStrategy: reads the SMM lines, asks the rules, makes orders. No I/O, no clock, no settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import backtrader as bt

from feeds.lines import FLAG_LINES
from strategy.rules import HOLD, Decision, RowFlags, RuleOptions, decide
from strategy.wake import WakeRows

Data = Any  # a backtrader data feed with the SMM lines and open_ms()

_UNHEARD = bt.Strategy.notify_cashvalue


class SmmStrategy(bt.Strategy):
    """Trades the three flags of any number of :class:`feeds.smm.SmmFeed` on one account.

    At each step the candles that are new are judged in the order their feeds were added; all closes are ordered
    before all entries, so that an entry is sized on what the closes have freed. ``rulings`` keeps each decision that
    was not to do nothing: (open_ms, symbol, three flags, position side, three fields of the decision).
    """

    params = (("close_on_opposite_signal", True),)

    def __init__(self) -> None:
        if any(data.resampling or data.replaying for data in self.datas):
            raise ValueError(
                "SmmStrategy trades the candles its signals were computed on, and a feed of it is resampled; "
                "give compute_smm() candles of the timeframe to trade."
            )
        self.rulings: list[tuple[Any, ...]] = []
        self._options = RuleOptions(self.p.close_on_opposite_signal)
        # A line's own length costs a tenth of its feed's.
        self._rows = [(d, d.lines.datetime, d.buy_signal, d.sell_signal, d.profit_target_hit) for d in self.datas]
        self._judged = [0] * len(self._rows)
        self._wake_rows: dict[str, WakeRows] = {}

    def prenext(self) -> None:
        """Trade a symbol even while another one's candles have not begun."""
        self.next()

    def next(self) -> None:
        """Judge every new row that carries a flag and order what was decided."""
        decided: list[tuple[Data, Decision]] = []
        for number, (data, clock, buy, sell, target) in enumerate(self._rows):
            count = clock.lencount
            if count == self._judged[number]:
                continue
            self._judged[number] = count
            if buy[0] or sell[0] or target[0]:
                flags = RowFlags(bool(buy[0]), bool(sell[0]), bool(target[0]))
                decided.append((data, self._judge(data, flags)))
        if decided:
            self._order(decided)

    def can_wake(self) -> bool:
        """Whether every row is known beforehand, so that :meth:`next_wake` can be asked."""
        return all(getattr(data, "columns", None) is not None for data in self.datas)

    def next_wake(self, data: Data, row: int) -> int:
        """Return the first row of ``data`` at or after ``row`` on which ``next()`` may do anything.

        An engine that skips bars asks this after each bar it visited; the answer holds while the position stays.
        """
        rows = self._wake_rows.get(data._name)
        if rows is None:
            buy, sell, target = (data.columns[name] for name in FLAG_LINES)
            rows = self._wake_rows[data._name] = WakeRows(buy, sell, target, self._options)
        size = self.broker.getposition(data, clone=False).size
        return rows.next((size > 0) - (size < 0), row)

    def _notify(self, qorders: Sequence[Any] = (), qtrades: Sequence[Any] = ()) -> None:
        """Leave out the cash and value reports of every bar when nobody listens to them."""
        if self._orderspending or self._tradespending or qorders or self._reports_are_heard():
            super()._notify(qorders, qtrades)

    def _reports_are_heard(self) -> bool:
        return bool(self.analyzers or self._slave_analyzers) or type(self).notify_cashvalue is not _UNHEARD

    def _judge(self, data: Data, flags: RowFlags) -> Decision:
        size = self.broker.getposition(data, clone=False).size
        side = (size > 0) - (size < 0)
        decision = self._permitted(data, decide(flags, side, self._options))
        if decision is not HOLD:
            self.rulings.append((data.open_ms(), data._name, *flags, side, *decision))
        return decision

    def _permitted(self, data: Data, decision: Decision) -> Decision:
        """Return what of ``decision`` may be done on this candle; here all of it."""
        return decision

    def _order(self, decided: list[tuple[Data, Decision]]) -> None:
        for data, decision in decided:
            if decision.close_reason:
                order_id = f"{data._name}-{data.open_ms()}-close"
                self.close(data=data, reduce_only=True, reason=decision.close_reason, order_id=order_id)
        for data, decision in decided:
            if decision.entry_side:
                enter = self.buy if decision.entry_side > 0 else self.sell
                enter(data=data, sized_at_fill=True, order_id=f"{data._name}-{data.open_ms()}-entry")
