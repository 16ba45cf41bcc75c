"""What a live run says while it runs: each event in the journal, in run.log, and loud ones on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smm_bt.analytics.journal import Journal
from smm_bt.app.clock import now_ms
from smm_bt.app.run_log import RunLog

if TYPE_CHECKING:
    from rich.console import Console

_LOUD = frozenset(
    (
        *("connection_lost", "connection_restored", "candles_late", "clock_jump", "halted", "stopping", "paused"),
        *("resumed", "stream_unavailable", "candle_differs"),
    )
)


class LiveEvents:
    """Tells journal, log file and person."""

    def __init__(self, journal: Journal, log: RunLog, console: Console) -> None:
        self._journal, self._log, self._console = journal, log, console

    def tell(self, kind: str, message: str, symbol: str = "", **data: object) -> None:
        """Record an event; ``data`` must fit into JSON."""
        self._journal.record_event(now_ms(), kind, message, symbol, data)
        self._log.write(kind, message=message, **({"symbol": symbol} if symbol else {}), **data)
        if kind in _LOUD:
            self._console.print(f"{kind.replace('_', ' ')}: {message}", soft_wrap=True, highlight=False, markup=False)
