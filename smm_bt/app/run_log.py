"""run.log: what happened while a run was made, one JSON object a line."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Self

from feeds.candles import iso_utc
from smm_bt.app.clock import now_ms


class RunLog:
    """Appends lines to a log file and flushes each, so that a killed run leaves what it knew."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def write(self, event: str, **fields: object) -> None:
        """Append one line: UTC time, the event's name and its fields."""
        line = {"time": iso_utc(now_ms()), "event": event, **fields}
        self._file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
