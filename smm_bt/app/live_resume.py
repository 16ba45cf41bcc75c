"""What the journal of an earlier process says about where this one goes on."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from smm_bt.analytics.journal import Journal
from smm_bt.execution.ledger import FuturesLedger
from smm_bt.execution.ledger_rebuild import rebuild_ledger
from smm_bt.execution.run_recorder import SentOrder
from smm_bt.execution.venue_startup import ResumeState, unfinished_ticket
from smm_bt.model import ORDER_TRANSITIONS, OrderState
from strategy.live_strategy import Leftover


def restore_paper(journal: Journal, ledger: FuturesLedger) -> None:
    """Bring a new simulated account to where the journal left it.

    Raises:
        RunFailed: the journal contradicts itself.
    """
    rebuild_ledger(ledger, journal.fills(), journal.ledger_entries())


def venue_state(journal: Journal) -> ResumeState:
    """Return what a store needs to find its orders and positions again."""
    record = journal.record()
    changes = [entry for entry in record.ledger_entries if entry.kind in ("funding", "adjustment")]
    unfinished = []
    for row in journal.orders(unfinished_only=True):
        sent = SentOrder(*(row[name] for name in SentOrder._fields))
        ticket = unfinished_ticket(sent._replace(reduce_only=bool(sent.reduce_only)))
        unfinished.append((ticket, OrderState(row["state"])))
    fills = list(zip(record.fills, journal.fill_ids(), strict=True))
    begun = journal.events("fills_begin")
    first = json.loads(begun[0]["data"]) if begun else {}
    return ResumeState(record.initial_balance_usdt, fills, changes, unfinished, first)


def leftovers(journal: Journal, held: Collection[str], length_ms: int) -> list[Leftover]:
    """Return decisions that were not carried out: exits of open positions, and entries on the newest candle.

    An entry counts as carried out once its order has come to any end, so that none is made twice. A close does not
    while the position it was for is still held: taken back by Ctrl-C or refused, it is ordered again. An order still
    on its way is the venue's business and is found there.
    """
    ended = {str(row["order_id"]): not ORDER_TRANSITIONS[OrderState(row["state"])] for row in journal.orders()}
    opened = {fill.symbol: fill.time_ms for fill in journal.fills() if not fill.reduce_only}
    newest = {symbol: progress.last_ms for symbol, progress in journal.progress().items()}
    found: dict[str, Leftover] = {}
    for decision in journal.decisions():
        symbol, candle_ms = decision.symbol, decision.candle_ms
        since = symbol in held and candle_ms + length_ms > opened.get(symbol, 0)
        exit_due = decision.close_reason and since
        last = candle_ms == newest.get(symbol)
        entry_due = decision.entry_side and last and not ended.get(f"{symbol}-{candle_ms}-entry", False)
        if exit_due or entry_due:
            reason = decision.close_reason if exit_due else ""
            tried = _tries(ended, f"{symbol}-{candle_ms}-close")
            side = decision.entry_side if entry_due else 0
            found.setdefault(symbol, Leftover(symbol, candle_ms, reason, side, tried))
    return list(found.values())


def _tries(ended: Mapping[str, bool], order_id: str) -> int:
    """Return how many orders of this name have come to an end; the next one needs another."""
    return sum(over for name, over in ended.items() if name == order_id or name.startswith(f"{order_id}-"))


def drop_unsent(journal: Journal, time_ms: int, why: str, *, closes: bool) -> None:
    """Record that orders which were made and never carried out will not be; ``closes``, too, where others follow."""
    for row in journal.orders(unfinished_only=True):
        if closes or not row["reduce_only"]:
            journal.change_order(row["order_id"], OrderState.CANCELED, time_ms, why)
            journal.record_event(time_ms, "order_dropped", f"{row['order_id']}: {why}", row["symbol"])
