"""What a person asks of a running bot through its journal: close, pause, resume-entries."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from feeds.live import LiveSmmFeed
from smm_bt.analytics.journal import Journal
from smm_bt.app.clock import now_ms
from strategy.live_strategy import LiveSmmStrategy

CLOSE, PAUSE, RESUME_ENTRIES = "close", "pause", "resume-entries"
PAUSED = "entries are paused by hand"


class LiveControls:
    """Carries requests out between candles and answers each in the journal."""

    def __init__(
        self, journal: Journal, strategy: LiveSmmStrategy, feeds: Sequence[LiveSmmFeed], tell: Callable[..., None]
    ) -> None:
        self._journal, self._strategy, self._feeds, self._tell = journal, strategy, feeds, tell
        switches = [r["request"] for r in journal.answered_controls() if r["request"] in (PAUSE, RESUME_ENTRIES)]
        if switches and switches[-1] == PAUSE:
            strategy.paused = PAUSED

    def answer(self) -> None:
        """Carry out what waits."""
        for row in self._journal.waiting_controls():
            request, symbol, number = str(row["request"]), str(row["symbol"]), int(row["id"])
            answers = {PAUSE: self._pause, RESUME_ENTRIES: self._resume}
            if request == CLOSE:
                answer = self.close_all(symbol, f"manual-{number}")
            elif request in answers:
                answer = answers[request]()
            else:
                answer = f"{request} is not known"
            self._journal.answer_control(number, answer, now_ms())

    def close_all(self, symbol: str, tag: str) -> str:
        """Order the close of one symbol's position, or of all; return what was done in words."""
        chosen = [feed for feed in self._feeds if symbol in ("", feed._name) and len(feed)]
        ordered = [
            feed._name for feed in chosen if self._strategy.close_by_hand(feed, f"{feed._name}-{feed.open_ms()}-{tag}")
        ]
        if not ordered:
            return f"nothing to close{f' in {symbol}' if symbol else ''}"
        self._tell("manual_close", f"closing {', '.join(ordered)} by hand")
        return f"closing {', '.join(ordered)}"

    def _pause(self) -> str:
        self._strategy.paused = PAUSED
        self._tell("paused", "no position is opened until entries are resumed; exits go on")
        return "entries are paused; exits go on"

    def _resume(self) -> str:
        self._strategy.paused = ""
        self._tell("resumed", "positions are opened again")
        return "entries are resumed"
