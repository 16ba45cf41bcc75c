"""What a person asks of a running bot through its journal: close, pause, resume-entries."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from feeds.live import LiveSmmFeed
from smm_bt.analytics.journal import Journal
from smm_bt.analytics.journal_reader import JournalReader
from smm_bt.app.clock import now_ms
from strategy.live_strategy import LiveSmmStrategy

CLOSE, PAUSE, RESUME_ENTRIES = "close", "pause", "resume-entries"
SWITCHES = (PAUSE, RESUME_ENTRIES)
PAUSED = "entries are paused by hand"
_CLOSING = "manual_close"


class AskedClose(NamedTuple):
    """A close that a person asked for: the order that had opened the position, and the id its own was to have."""

    symbol: str
    opened_by: str
    order_id: str


def asked_closes(journal: JournalReader) -> list[AskedClose]:
    """Return every close that was promised to a person, carried out or not, oldest first."""
    told = [json.loads(row["data"]) for row in journal.events(_CLOSING)]
    return [AskedClose(*close) for data in told for close in data.get("closes", ())]


class LiveControls:
    """Carries requests out between candles and answers each in the journal."""

    def __init__(
        self, journal: Journal, strategy: LiveSmmStrategy, feeds: Sequence[LiveSmmFeed], tell: Callable[..., None]
    ) -> None:
        self._journal, self._strategy, self._feeds, self._tell = journal, strategy, feeds, tell
        switches = [r["request"] for r in journal.answered_controls() if r["request"] in SWITCHES]
        if switches and switches[-1] == PAUSE:
            strategy.paused = PAUSED

    def answer(self) -> None:
        """Carry out what waits."""
        self._carry_out(self._journal.waiting_controls())

    def answer_switches(self) -> None:
        """Carry out what waits of pause and resume-entries, before an entry of an earlier process is made."""
        self._carry_out(row for row in self._journal.waiting_controls() if row["request"] in SWITCHES)

    def _carry_out(self, rows: Iterable[sqlite3.Row]) -> None:
        answers = {PAUSE: self._pause, RESUME_ENTRIES: self._resume}
        for row in rows:
            request, symbol, number = str(row["request"]), str(row["symbol"]), int(row["id"])
            with self._journal.together():  # an answer without what it promises would be a lie after a kill
                if request == CLOSE:
                    answer = self.close_all(symbol, f"manual-{number}")
                elif request in answers:
                    answer = answers[request]()
                else:
                    answer = f"{request} is not known"
                self._journal.answer_control(number, answer, now_ms())

    def close_on_exit(self) -> None:
        """Order the close of all positions at the end of the run."""
        self.close_all("", f"exit-{len(self._journal.events(_CLOSING)) + 1}")

    def close_all(self, symbol: str, tag: str) -> str:
        """Order the close of one symbol's position, or of all; return what was done in words.

        What is promised is in the journal before anything is sent: a close that comes to nothing because the run ends
        is made by the process that goes on with it.
        """
        ordered = []
        for feed in self._feeds:
            if symbol in ("", feed._name) and len(feed):
                held = self._strategy.broker.ledger.positions.get(feed._name)
                order_id = f"{feed._name}-{feed.open_ms()}-{tag}"
                if self._strategy.close_by_hand(feed, order_id):
                    ordered.append(AskedClose(feed._name, held.entry_order_id if held else "", order_id))
        if not ordered:
            return f"nothing to close{f' in {symbol}' if symbol else ''}"
        names = ", ".join(close.symbol for close in ordered)
        self._tell(_CLOSING, f"closing {names} by hand", closes=ordered)
        return f"closing {names}"

    def _pause(self) -> str:
        self._strategy.paused = PAUSED
        self._tell("paused", "no position is opened until entries are resumed; exits go on")
        return "entries are paused; exits go on"

    def _resume(self) -> str:
        self._strategy.paused = ""
        self._tell("resumed", "positions are opened again")
        return "entries are resumed"
