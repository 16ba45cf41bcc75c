"""The plan kernel: the same decide() and ledger as the other engines, driven straight over the rows that matter.

Signals are known beforehand and a position only changes by its own symbol's rows, so each symbol can look ahead: to
the next row the rules must judge, the next funding settlement, the next candle that reaches stop or liquidation price.
The kernel jumps from one such candle to the next, in time order over all symbols, because they share one balance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from feeds.lines import BUY_SIGNAL, PROFIT_TARGET_HIT, SELL_SIGNAL
from smm_bt.app.replay_plan import ReplayPlan
from smm_bt.execution.intrabar import fill_stop, liquidation_touched, next_event, settle_funding, stop_touched
from smm_bt.execution.ledger import FuturesLedger, Position
from smm_bt.execution.market_history import view
from smm_bt.execution.sizing import Skip, simulated_size
from smm_bt.model import DecisionRecord, SkippedEntry, side_name
from strategy.rules import HOLD, Decision, RowFlags, RuleOptions, decide
from strategy.wake import NEVER, WakeRows

Stage = Callable[["_Track"], None]

#: Makes a record without checking its fields by name (see smm_bt.execution.ledger).
_new = tuple.__new__


def run_kernel(plan: ReplayPlan, ledger: FuturesLedger) -> tuple[list[DecisionRecord], list[SkippedEntry]]:
    """Trade the plan on ``ledger``; return what the rules said and the entries that could not be sized."""
    decisions: list[DecisionRecord] = []
    skipped: list[SkippedEntry] = []
    tracks = [
        _Track(plan, symbol, _answers(plan.options, symbol), ledger, decisions, skipped) for symbol in plan.histories
    ]
    for track in tracks:
        track.look_ahead()
    inside = _stages_inside(plan)
    if len(tracks) == 1:
        _run_alone(tracks[0], inside)
    else:
        _run_together(tracks, inside)
    return decisions, skipped


class _Answer(NamedTuple):
    """What decide() answers to one row of flags, and the fields a DecisionRecord holds of both, its time aside."""

    decision: Decision
    kept: tuple[Any, ...]


def _answers(options: RuleOptions, symbol: str) -> dict[int, list[_Answer]]:
    """Ask decide() once for each of its 24 questions: it is pure, so its answers can be kept.

    The answers of a position side stand in the order of the flags read as a binary number, buy first.
    """
    rows = [RowFlags(*flags) for flags in product((False, True), repeat=3)]
    return {side: [_answer(symbol, row, side, decide(row, side, options)) for row in rows] for side in (-1, 0, 1)}


def _answer(symbol: str, row: RowFlags, side: int, decision: Decision) -> _Answer:
    return _Answer(decision, (symbol, *row, side, *decision))


def _run_alone(track: _Track, inside: Sequence[Stage]) -> None:
    while track.next_ms != NEVER:
        if track.pending is not HOLD:
            track.close_pending()
            track.enter_pending()
        if track.position is not None:
            for stage in inside:
                stage(track)
        track.look_ahead()


def _run_together(tracks: Sequence[_Track], inside: Sequence[Stage]) -> None:
    while True:
        now = min(track.next_ms for track in tracks)
        if now == NEVER:
            return
        due = [track for track in tracks if track.next_ms == now]
        for track in due:
            track.close_pending()
        for track in due:
            track.enter_pending()
        for stage in inside:
            for track in due:
                if track.position is not None:
                    stage(track)
        for track in due:
            track.look_ahead()


def _stages_inside(plan: ReplayPlan) -> list[Stage]:
    """Return what a candle may do to a position, in order (SPEC §5.9), without what this plan has none of."""
    settles = any(history.settlements for history in plan.histories.values())
    stops = plan.costs.stop_loss.price(1.0, 1) is not None
    return [*([_Track.settle] if settles else []), *([_Track.stop] if stops else []), _Track.liquidate]


class _Track:
    """One symbol: its candles, its pending decision and the next candle that matters."""

    def __init__(
        self,
        plan: ReplayPlan,
        symbol: str,
        answers: Mapping[int, Sequence[_Answer]],
        ledger: FuturesLedger,
        decisions: list[DecisionRecord],
        skipped: list[SkippedEntry],
    ) -> None:
        history, columns = plan.histories[symbol], plan.columns[symbol]
        candles = history.candles
        buy, sell, target = (
            np.ascontiguousarray(columns[name], dtype=np.bool_) for name in (BUY_SIGNAL, SELL_SIGNAL, PROFIT_TARGET_HIT)
        )
        self.symbol = symbol
        self.ledger = ledger
        self.history = history
        self.instrument = plan.instruments[symbol]
        self.slippage = plan.costs.slippage
        self.answers = answers
        self.decisions = decisions
        self.skipped = skipped
        self.wake = WakeRows(buy, sell, target, plan.options)
        self.flags = view(buy * np.uint8(4) + sell * np.uint8(2) + target)
        self.opens, self.highs, self.lows = view(candles.open), view(candles.high), view(candles.low)
        self.liquidation_highs = view(history.liquidation_high)
        self.liquidation_lows = view(history.liquidation_low)
        self.open_ms = view(candles.open_ms)
        self.last_row = len(candles) - 1
        self.row = 0
        self.next_ms = 0
        self.position: Position | None = None
        self.pending = HOLD
        self.pending_ms = 0

    def close_pending(self) -> None:
        """Execute a pending close at the open."""
        if not self.pending.close_reason:
            return
        position, row = self.position, self.row
        if position is None:
            raise AssertionError(f"{self.symbol}: a close is pending without a position")
        price = self.slippage.fill_price(self.opens[row], -position.side)
        order_id = f"{self.symbol}-{self.pending_ms}-close"
        self.ledger.close(self.symbol, price, self.next_ms, self.pending.close_reason, order_id)
        self.position = None

    def enter_pending(self) -> None:
        """Execute a pending entry at the open, sized on what is free now."""
        side, row = self.pending.entry_side, self.row
        self.pending = HOLD
        if not side:
            return
        ledger, symbol = self.ledger, self.symbol
        price = self.slippage.fill_price(self.opens[row], side)
        size = simulated_size(ledger.free_balance_usdt, price, self.instrument)
        if isinstance(size, Skip):
            self.skipped.append(SkippedEntry(self.open_ms[row], symbol, side_name(side), size.why))
            return
        ledger.open(symbol, side, size, price, self.next_ms, f"{symbol}-{self.pending_ms}-entry")
        self.position = ledger.positions[symbol]

    def settle(self) -> None:
        """Settle the funding of this candle."""
        if self.row in self.history.settlements:
            settle_funding(self.ledger, self.symbol, self.history.settlements[self.row])

    def stop(self) -> None:
        """Close the position if this candle reaches its stop."""
        position, row = self.position, self.row
        if position is None or position.stop_price is None:
            return
        if stop_touched(position.side, position.stop_price, self.highs[row], self.lows[row]):
            fill_stop(self.ledger, self.symbol, self.opens[row], self._last_ms(), self._own_order_id("stop"))
            self.position = None

    def liquidate(self) -> None:
        """Liquidate the position if this candle reaches its liquidation price."""
        position, row = self.position, self.row
        if position is None:
            return
        high, low = self.liquidation_highs[row], self.liquidation_lows[row]
        if liquidation_touched(position.side, position.liquidation_price, high, low):
            self.ledger.liquidate(self.symbol, self._last_ms(), self._own_order_id("liquidation"))
            self.position = None

    def look_ahead(self) -> None:
        """Judge the flags from the current row on until something is to be done, and note the candle it is done in."""
        position, row, last = self.position, self.row, self.last_row
        side = position.side if position is not None else 0
        rows, place = self.wake.from_row(side, row)
        while True:
            judged = rows[place]
            until = judged if judged <= last else last
            if position is not None and until > row:
                event = next_event(position, self.history, row + 1, until)
                if event is not None:
                    return self._wait_for(event)
            if judged > last:
                return self._wait_for(NEVER)
            answer: _Answer = self.answers[side][self.flags[judged]]
            decision, kept = answer
            if decision is not HOLD:
                judged_ms = self.open_ms[judged]
                self.decisions.append(_new(DecisionRecord, (judged_ms,) + kept))  # noqa: RUF005 - unpacking is slower
                if decision.close_reason or decision.entry_side:
                    self.pending, self.pending_ms = decision, judged_ms
                    return self._wait_for(judged + 1)
            row = judged
            place += 1

    def _wait_for(self, row: int) -> None:
        self.row = row
        self.next_ms = self.open_ms[row] if row <= self.last_row else NEVER

    def _last_ms(self) -> int:
        return int(self.open_ms[self.row]) + self.history.candles.timeframe_ms - 1

    def _own_order_id(self, kind: str) -> str:
        return f"{self.symbol}-{self.open_ms[self.row]}-{kind}"
