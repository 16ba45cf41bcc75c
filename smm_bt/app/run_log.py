"""run.log: what happened while a run was made, one JSON object a line."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from feeds.candles import iso_utc
from smm_bt.analytics.atomic_file import output_error
from smm_bt.app.clock import now_ms


class RunLog:
    """Appends lines to a log file and flushes each, so that a killed run leaves what it knew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("a", encoding="utf-8")
        except OSError as problem:
            raise output_error(path, problem) from problem

    def write(self, event: str, **fields: object) -> None:
        """Append one line: UTC time, the event's name and its fields; OutputError when the disk is full."""
        line = {"time": iso_utc(now_ms()), "event": event, **fields}
        try:
            self._file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
            self._file.flush()
        except OSError as problem:
            raise output_error(self._path, problem) from problem

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(OSError):  # what could not be written was told when it was
            self._file.close()
