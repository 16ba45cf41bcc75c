"""What the journal of an earlier process says about where this one goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping

from smm_bt.analytics.journal import Journal
from smm_bt.app.live_controls import asked_closes
from smm_bt.execution.ledger import FuturesLedger
from smm_bt.execution.ledger_rebuild import rebuild_ledger
from smm_bt.execution.run_recorder import NEVER_ARRIVED, NEVER_SENT, TAKEN_BACK, SentOrder
from smm_bt.execution.venue_startup import ResumeState, unfinished_ticket
from smm_bt.model import ORDER_TRANSITIONS, CloseReason, OrderState
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


def leftovers(journal: Journal, held: Mapping[str, str], length_ms: int) -> list[Leftover]:
    """Return what was decided or asked for and not carried out: exits of open positions, entries on the newest candle.

    A close is not carried out while the position it was for is still held: taken back by Ctrl-C, refused, or never
    sent, it is ordered again. An entry is once its order has come to any end but that of never having been sent, so
    that none is made twice, and once it was dropped. An order still on its way is the venue's business and is found
    there.

    Args:
        journal: of the run.
        held: the order that opened it, by symbol, for every open position.
        length_ms: of a candle.
    """
    tries = _Tries(journal)
    opened = {fill.symbol: fill.time_ms for fill in journal.fills() if not fill.reduce_only}
    newest = {symbol: progress.last_ms for symbol, progress in journal.progress().items()}
    dropped = _dropped_entries(journal)
    closes: dict[str, Leftover] = {}
    entries = []
    for decision in journal.decisions():
        symbol, candle_ms = decision.symbol, decision.candle_ms
        if decision.close_reason and symbol in held and opened.get(symbol, 0) < candle_ms + length_ms:
            order_id = tries.next_id(f"{symbol}-{candle_ms}-close")
            closes.setdefault(symbol, Leftover(symbol, order_id, decision.close_reason))
        last = decision.entry_side and candle_ms == newest.get(symbol)
        plain_id = f"{symbol}-{candle_ms}-entry"
        if last and (symbol, candle_ms) not in dropped and tries.came_to_nothing(plain_id):
            entries.append(Leftover(symbol, tries.next_id(plain_id), "", decision.entry_side, candle_ms))
    asked = [
        Leftover(close.symbol, tries.next_id(close.order_id), CloseReason.MANUAL.value)
        for close in asked_closes(journal)
        if held.get(close.symbol) == close.opened_by
    ]
    return [*closes.values(), *asked, *entries]


def _dropped_entries(journal: Journal) -> set[tuple[str, int]]:
    """Return symbol and candle of every entry that was given up with a reason."""
    told = [(str(row["symbol"]), json.loads(row["data"])) for row in journal.events("entry_dropped")]
    return {(symbol, int(data["candle_ms"])) for symbol, data in told if "candle_ms" in data}


class _Tries:
    """The orders made for one purpose: the first has its plain id, those made because it came to nothing a number."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        states = {str(row["order_id"]): OrderState(row["state"]) for row in journal.orders()}
        self._ended = [order_id for order_id, state in states.items() if not ORDER_TRANSITIONS[state]]

    def _ended_of(self, plain_id: str) -> list[str]:
        return [each for each in self._ended if each == plain_id or each.startswith(f"{plain_id}-")]

    def next_id(self, plain_id: str) -> str:
        """Return the id of the order to make now; one that has not come to an end keeps its own."""
        count = len(self._ended_of(plain_id))
        return f"{plain_id}-{count + 1}" if count else plain_id

    def came_to_nothing(self, plain_id: str) -> bool:
        """Whether nothing that was ordered under this id has ever been at the venue."""
        last_words = (self._journal.order_states(order_id)[-1][2] for order_id in self._ended_of(plain_id))
        return all(why in (NEVER_SENT, NEVER_ARRIVED, TAKEN_BACK) for why in last_words)


def drop_unsent(journal: Journal, time_ms: int, why: str, *, closes: bool) -> None:
    """Record that orders which were made and never carried out will not be; ``closes``, too, where others follow."""
    for row in journal.orders(unfinished_only=True):
        if closes or not row["reduce_only"]:
            journal.change_order(row["order_id"], OrderState.CANCELED, time_ms, why)
            journal.record_event(time_ms, "order_dropped", f"{row['order_id']}: {why}", row["symbol"])
