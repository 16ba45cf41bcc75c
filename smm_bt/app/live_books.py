"""What a live run writes down, in which order: a candle's outcome and decisions first, their execution after."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from feeds.live import LiveRow
from smm_bt.analytics.journal import Journal
from smm_bt.analytics.journal_rows import Progress
from smm_bt.app.candle_intake import SymbolCount
from smm_bt.app.clock import now_ms
from smm_bt.app.market_clock import MarketClock
from smm_bt.app.paper_orders import PaperOrders
from smm_bt.execution.run_recorder import TAKEN_BACK
from smm_bt.model import DecisionRecord, OpenPosition, PendingSignal
from strategy.live_strategy import LiveSmmStrategy

_HEARTBEAT_MS = 15_000


class LiveBooks:
    """Writes the journal of a live run; all of one step in one durable commit.

    Args:
        journal: of this run.
        broker: its account, simulated or at a venue.
        clock: the venue's time.
        paper: records orders and fills of a simulated venue; None where the venue's own recorder does.
    """

    def __init__(self, journal: Journal, broker: Any, clock: MarketClock, paper: PaperOrders | None) -> None:
        self.journal, self._broker, self._clock, self._paper = journal, broker, clock, paper
        self._progress: dict[str, Progress] = journal.progress()
        self._earlier = dict(self._progress)
        self._out: dict[str, LiveRow] = {}
        self._counts: dict[str, SymbolCount] = {}
        self._seen_fills = len(broker.ledger.fills)
        self._beat_ms = 0
        self._prices_known = False
        self._before = {position.symbol: position for position in journal.open_positions()}
        self.strategy: LiveSmmStrategy | None = None
        self.last_decision = ""
        self.line = ""

    # ---- what the release tells

    def candle_out(self, symbol: str, row: LiveRow, count: SymbolCount) -> None:
        """Take note of a candle that goes to the strategy now."""
        self._out[symbol] = row
        self._counts[symbol] = count

    def prices_are_known(self) -> None:
        """Value positions at the feeds' closes from now on: they stand at the newest candle."""
        self._prices_known = True
        self._beat_ms = 0

    def write(self) -> None:
        """Record what is new: the account at the close of the released candles, decisions, orders, fills."""
        if not self._has_news():
            return
        with self.journal.together():
            self._write_decisions()
            if self._paper is not None:
                self._paper.write(self._clock.now_ms())
            if self._out:
                self._write_step()
            if self._paper is None:
                self._broker.account.let_go()  # its recorder is this journal
                self._broker.skipped_entries.clear()
            self._seen_fills = len(self._broker.ledger.fills)
            self.journal.record_open_positions(self._open_positions())
            self._beat()

    def _has_news(self) -> bool:
        strategy = self.strategy
        said = strategy is not None and bool(strategy.rulings or strategy.dropped)
        beat = now_ms() - self._beat_ms > _HEARTBEAT_MS
        filled = (
            len(self._broker.ledger.fills) != self._seen_fills
        )  # a venue's own recorder wrote them, not what is open
        return bool(self._out) or said or beat or filled or (self._paper is not None and self._paper.has_news())

    def _beat(self) -> None:
        self._beat_ms = now_ms()
        self.journal.record_heartbeat(os.getpid(), self._beat_ms, self.line)

    def _write_decisions(self) -> None:
        """Write what was ruled and dropped; a run of weeks keeps it in the journal, not in memory."""
        if self.strategy is None:
            return
        for ruling in self.strategy.rulings:
            decision = DecisionRecord(*ruling)
            self.journal.record_decision(decision)
            self.last_decision = _in_words(decision)
        for dropped in self.strategy.dropped:
            side = "long" if dropped.entry_side > 0 else "short"
            self._entry_dropped(dropped.symbol, dropped.candle_ms, side, dropped.why)
        self.strategy.rulings.clear()
        self.strategy.dropped.clear()

    def _entry_dropped(self, symbol: str, candle_ms: int, side: str, why: str) -> None:
        message = f"entry {side} dropped: {why}"
        self.journal.record_event(now_ms(), "entry_dropped", message, symbol, {"candle_ms": candle_ms})
        self.last_decision = f"{symbol} {message}"

    def _write_step(self) -> None:
        venue_ms = self._clock.now_ms()
        for symbol, row in self._out.items():
            open_ms, before = row.candle[0], self._progress.get(symbol)
            first, number = (open_ms, 1) if before is None else (before.first_ms, before.candles + 1)
            gaps, missing = self._gaps(symbol)
            self._progress[symbol] = Progress(symbol, first, open_ms, number, gaps, missing, venue_ms)
            self.journal.record_progress(self._progress[symbol])
        step_ms = next(iter(self._out.values())).candle[0]
        self.journal.record_equity(step_ms, self._broker.getvalue(), self._broker.ledger.wallet_usdt)
        self._out = {}

    def _gaps(self, symbol: str) -> tuple[int, int]:
        count, before = self._counts[symbol], self._earlier.get(symbol)
        return (count.gaps + (before.gaps if before else 0), count.missing + (before.missing_candles if before else 0))

    def _open_positions(self) -> list[OpenPosition]:
        prices = self.last_prices()
        positions: list[OpenPosition] = self._broker.ledger.open_positions(prices)
        return [each if each.symbol in prices else self._as_valued_before(each) for each in positions]

    def _as_valued_before(self, position: OpenPosition) -> OpenPosition:
        """Leave the value an earlier process has written down where there is no price yet."""
        before = self._before.get(position.symbol)
        if before is None or (before.entry_ms, before.qty) != (position.entry_ms, position.qty):
            return position
        return position._replace(unrealized_pnl_usdt=before.unrealized_pnl_usdt)

    def last_prices(self) -> Mapping[str, float]:
        """Return the last close of every symbol with an open position; before the newest candle is out, none."""
        if not self._prices_known:
            return {}
        try:
            prices: Mapping[str, float] = self._broker.last_prices()
        except (KeyError, IndexError):  # a symbol held since before a restart has shown no candle yet
            return {}
        return prices

    # ---- orders that cannot be carried out

    def drop_stale(self, orders: Iterable[Any], is_fresh: Callable[[int], bool]) -> None:
        """Take back entries that waited for a silent venue until their candle was too old; closes wait on."""
        for order in list(orders):
            if not order.info.get("reduce_only") and not is_fresh(order.data.open_ms()):
                side = "long" if order.isbuy() else "short"
                self._entry_dropped(
                    order.data._name,
                    order.data.open_ms(),
                    side,
                    "it could not be carried out while its candle was fresh",
                )
                self._broker.cancel(order)

    def leave_pending(self, orders: Iterable[Any]) -> None:
        """Take back orders that cannot be carried out any more and record them as pending signals."""
        wanted: dict[tuple[str, int], list[Any]] = {}
        for order in list(orders):
            wanted.setdefault((order.data._name, order.data.open_ms()), []).append(order)
        for (symbol, candle_ms), theirs in wanted.items():
            close = next((str(o.info.get("reason")) for o in theirs if o.info.get("reduce_only")), "")
            entries = [1 if o.isbuy() else -1 for o in theirs if not o.info.get("reduce_only")]
            signal = PendingSignal(symbol, candle_ms, close, entries[0] if entries else 0)
            if signal not in self.journal.pending_signals():
                self.journal.record_pending_signal(signal)
            for order in theirs:
                self._broker.cancel(order)
                order.addinfo(why=TAKEN_BACK)


def _in_words(decision: DecisionRecord) -> str:
    parts = [f"close ({decision.close_reason})"] if decision.close_reason else []
    if decision.entry_side:
        parts.append("open long" if decision.entry_side > 0 else "open short")
    if decision.conflicting_signals:
        parts.append("conflicting signals")
    return f"{decision.symbol} {', '.join(parts)}"
