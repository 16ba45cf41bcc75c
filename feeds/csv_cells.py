"""Where a CSV file cannot be read: the first line and cell that is not what its column needs."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TextIO

_EMPTY = ("", "NA", "null")
_LONGEST_QUOTE = 40


def first_bad_cell(path: Path, columns: Sequence[str]) -> str | None:
    """Return what is wrong with the first line of ``path`` that does not fit, or None where none can be blamed.

    Args:
        path: a ``.csv`` or ``.csv.gz`` with a header.
        columns: those that must hold numbers; ``timestamp`` may hold ISO-8601 times, too. Others are not looked at.
    """
    try:
        with _open(path) as text:
            return _first_in(text, columns)
    except (OSError, EOFError, csv.Error):  # no text at all: there is no line to name
        return None


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="replace", newline="")
    return path.open(encoding="utf-8-sig", errors="replace", newline="")


def _first_in(text: TextIO, columns: Sequence[str]) -> str | None:
    lines = csv.reader(text)
    header = next(lines, [])
    if not set(columns) <= set(header):  # another format, or a header of other names: no line of it is to blame
        return None
    places = [(name, header.index(name)) for name in columns]
    for cells in lines:
        if not cells:
            continue
        if len(cells) != len(header):
            return f"line {lines.line_num} has {len(cells)} cells, the header {len(header)}"
        for name, place in places:
            if not _fits(name, cells[place]):
                return f"column {name} holds {cells[place][:_LONGEST_QUOTE]!r} in line {lines.line_num}"
    return None


def _fits(name: str, cell: str) -> bool:
    if cell in _EMPTY:
        return True
    try:
        float(cell)
    except ValueError:
        return name == "timestamp" and _is_time(cell)
    return True


def _is_time(cell: str) -> bool:
    try:
        datetime.fromisoformat(cell)
    except ValueError:
        return False
    return True
