"""The plan kernel: the same decide() and ledger as the other engines, driven straight over the rows that matter.

Signals are known beforehand and a position only changes by its own symbol's rows, so each symbol can look ahead: to
the next row the rules must judge, the next funding settlement, the next candle that reaches stop or liquidation price.
The kernel jumps from one such candle to the next, in time order over all symbols, because they share one balance.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from feeds.lines import BUY_SIGNAL, PROFIT_TARGET_HIT, SELL_SIGNAL
from smm_bt.app.replay_plan import ReplayPlan, Ruling
from smm_bt.execution.intrabar import fill_stop, first_touch, liquidation_touched, settle_funding, stop_touched
from smm_bt.execution.ledger import FuturesLedger
from smm_bt.execution.sizing import Skip, position_size
from smm_bt.model import SkippedEntry, side_name
from strategy.rules import HOLD, Decision, RowFlags, decide
from strategy.wake import NEVER, WakeRows


def run_kernel(plan: ReplayPlan) -> tuple[FuturesLedger, list[Ruling], list[SkippedEntry]]:
    """Trade the plan; return the ledger, what the rules said, and the entries that could not be sized."""
    ledger = plan.new_ledger()
    rulings: list[Ruling] = []
    skipped: list[SkippedEntry] = []
    tracks = [_Track(plan, symbol, ledger, rulings, skipped) for symbol in plan.histories]
    for track in tracks:
        track.look_ahead()
    if len(tracks) == 1:
        _run_alone(tracks[0])
    else:
        _run_together(tracks)
    return ledger, rulings, skipped


def _run_alone(track: _Track) -> None:
    due = (track,)
    while track.next_ms != NEVER:
        _step(due)


def _run_together(tracks: Sequence[_Track]) -> None:
    while True:
        now = min(track.next_ms for track in tracks)
        if now == NEVER:
            return
        _step([track for track in tracks if track.next_ms == now])


def _step(due: Sequence[_Track]) -> None:
    """Let one candle act on the symbols it matters to, stage by stage (SPEC §5.9)."""
    for track in due:
        track.begin()
    for track in due:
        track.close_pending()
    for track in due:
        track.enter_pending()
    for track in due:
        track.settle()
    for track in due:
        track.stop()
    for track in due:
        track.liquidate()
    for track in due:
        track.look_ahead()


class _Track:
    """One symbol: its candles, its pending decision and the next candle that matters."""

    def __init__(
        self,
        plan: ReplayPlan,
        symbol: str,
        ledger: FuturesLedger,
        rulings: list[Ruling],
        skipped: list[SkippedEntry],
    ) -> None:
        history, columns = plan.histories[symbol], plan.columns[symbol]
        flags = [
            np.ascontiguousarray(columns[name], dtype=bool) for name in (BUY_SIGNAL, SELL_SIGNAL, PROFIT_TARGET_HIT)
        ]
        self.symbol = symbol
        self.ledger = ledger
        self.history = history
        self.instrument = plan.instruments[symbol]
        self.options = plan.options
        self.rulings = rulings
        self.skipped = skipped
        self.wake = WakeRows(*flags, plan.options)
        self.buy, self.sell, self.target = (memoryview(flag) for flag in flags)  # type: ignore[arg-type]
        self.opens = memoryview(np.ascontiguousarray(history.candles.open))  # type: ignore[arg-type]
        self.open_ms = memoryview(history.candles.open_ms)  # type: ignore[arg-type]
        self.settlement_rows = sorted(history.settlements)
        self.last_row = len(history.candles) - 1
        self.row = -1
        self.next_row = 0
        self.next_ms = 0
        self.pending = HOLD
        self.pending_ms = 0

    def begin(self) -> None:
        """Make the next candle that matters the current one."""
        self.row = self.next_row

    def close_pending(self) -> None:
        """Execute a pending close at the open."""
        if not self.pending.close_reason:
            return
        ledger, row = self.ledger, self.row
        side = ledger.positions[self.symbol].side
        price = ledger.costs.slippage.fill_price(self.opens[row], -side)
        order_id = f"{self.symbol}-{self.pending_ms}-close"
        ledger.close(self.symbol, price, self.open_ms[row], self.pending.close_reason, order_id)

    def enter_pending(self) -> None:
        """Execute a pending entry at the open, sized on what is free now."""
        side, row = self.pending.entry_side, self.row
        self.pending = HOLD
        if not side:
            return
        ledger = self.ledger
        price = ledger.costs.slippage.fill_price(self.opens[row], side)
        size = position_size(ledger.free_balance_usdt, price, self.instrument)
        if isinstance(size, Skip):
            self.skipped.append(SkippedEntry(self.open_ms[row], self.symbol, side_name(side), size.why))
            return
        ledger.open(self.symbol, side, float(size), price, self.open_ms[row], f"{self.symbol}-{self.pending_ms}-entry")

    def settle(self) -> None:
        """Settle the funding of this candle."""
        settlements = self.history.settlements.get(self.row)
        if settlements and self.symbol in self.ledger.positions:
            settle_funding(self.ledger, self.symbol, settlements)

    def stop(self) -> None:
        """Close the position if this candle reaches its stop."""
        position = self.ledger.positions.get(self.symbol)
        if position is None or position.stop_price is None:
            return
        candles, row = self.history.candles, self.row
        if stop_touched(position.side, position.stop_price, candles.high[row], candles.low[row]):
            fill_stop(self.ledger, self.symbol, self.opens[row], self._last_ms(), self._own_order_id("stop"))

    def liquidate(self) -> None:
        """Liquidate the position if this candle reaches its liquidation price."""
        position = self.ledger.positions.get(self.symbol)
        if position is None:
            return
        high, low = self.history.liquidation_high[self.row], self.history.liquidation_low[self.row]
        if liquidation_touched(position.side, position.liquidation_price, high, low):
            self.ledger.liquidate(self.symbol, self._last_ms(), self._own_order_id("liquidation"))

    def look_ahead(self) -> None:
        """Judge the flags from the current row on until something is to be done, and note the candle it is done in."""
        position = self.ledger.positions.get(self.symbol)
        side = position.side if position is not None else 0
        row = self.row
        judged = self.wake.next(side, max(row, 0))
        while True:
            if position is not None:
                until = min(judged, self.last_row)
                event = self._next_event(row + 1, until)
                if event is not None:
                    return self._wait_for(event)
            if judged > self.last_row:
                return self._wait_for(NEVER)
            decision = self._judge(judged, side)
            if decision.close_reason or decision.entry_side:
                self.pending, self.pending_ms = decision, self.open_ms[judged]
                return self._wait_for(judged + 1)
            row, judged = judged, self.wake.next(side, judged + 1)

    def _judge(self, row: int, side: int) -> Decision:
        flags = RowFlags(self.buy[row], self.sell[row], self.target[row])
        decision = decide(flags, side, self.options)
        if decision.close_reason or decision.entry_side or decision.conflicting_signals:
            self.rulings.append((self.open_ms[row], self.symbol, flags, side, decision))
        return decision

    def _next_event(self, first: int, last: int) -> int | None:
        """Return the next candle with a settlement or a touch while the position is open."""
        if first > last:
            return None
        place = bisect_left(self.settlement_rows, first)
        settlement = self.settlement_rows[place] if place < len(self.settlement_rows) else NEVER
        if settlement <= last:
            last = settlement
        touch = first_touch(self.ledger.positions[self.symbol], self.history, first, last)
        if touch is not None:
            return touch
        return settlement if settlement <= last else None

    def _wait_for(self, row: int) -> None:
        if row > self.last_row:
            self.next_row, self.next_ms = NEVER, NEVER
        else:
            self.next_row, self.next_ms = row, self.open_ms[row]

    def _last_ms(self) -> int:
        return int(self.open_ms[self.row]) + self.history.candles.timeframe_ms - 1

    def _own_order_id(self, kind: str) -> str:
        return f"{self.symbol}-{self.open_ms[self.row]}-{kind}"
