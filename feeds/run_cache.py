"""The cache as one run uses it: what the run has read or stored stays, older entries make room for it afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from feeds.cache import (
    CACHE_FOLDER,
    UNFINISHED,
    Columns,
    load_columns,
    remove_entry,
    remove_remains,
    store_columns,
)

#: What one cache folder keeps besides the entries of the run that stored last; the least recently used go first.
MOST_ENTRIES = 500
MOST_BYTES = 2 * 1024**3

#: Seconds after which an unfinished entry is taken for left over by a process that was killed.
ABANDONED = 3600


class RunCache:
    """Reads and stores entries, remembers which, and at the end of the run removes others beyond the limits."""

    def __init__(self) -> None:
        self._used: set[Path] = set()
        self._stored_in: set[Path] = set()

    def load(self, folder: Path, key: str) -> tuple[Columns, dict[str, Any]] | None:
        """Return what is stored under ``key`` like :func:`feeds.cache.load_columns`, or None."""
        stored = load_columns(folder, key)
        if stored is not None:
            self._used.add(folder / CACHE_FOLDER / key)
        return stored

    def store(self, folder: Path, key: str, columns: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> bool:
        """Store columns like :func:`feeds.cache.store_columns`; return whether that was done."""
        stored = store_columns(folder, key, columns, facts)
        if stored:
            self._used.add(folder / CACHE_FOLDER / key)
            self._stored_in.add(folder / CACHE_FOLDER)
        return stored

    def make_room(self) -> None:
        """Remove what is beyond the limits or abandoned, in the folders this run stored in; never what it used.

        To be called when everything was read: an entry the run has yet to ask for is old until then.
        """
        for cache in self._stored_in:
            try:
                self._make_room_in(cache)
            except OSError:
                # Another process removes here too, or the folder became read-only: the next run tries again.
                continue

    def _make_room_in(self, cache: Path) -> None:
        entries = sorted(_stamped(cache), key=lambda stamped: stamped[0], reverse=True)
        newest = max((stamp for stamp, entry in entries if entry in self._used), default=0.0)
        used = [entry for _, entry in entries if entry in self._used]
        count, size = len(used), sum(map(_bytes_of, used))
        for stamp, entry in entries:
            if entry.suffix == UNFINISHED:
                if newest - stamp > ABANDONED:
                    remove_remains(entry)
            elif entry not in self._used:
                count, size = count + 1, size + _bytes_of(entry)
                if count > MOST_ENTRIES or size > MOST_BYTES:
                    remove_entry(entry)


def _stamped(cache: Path) -> Iterator[tuple[float, Path]]:
    """Yield when each entry was used last, by the clock of the file system it lies on, and the entry."""
    for entry in cache.iterdir():
        try:
            yield entry.stat().st_mtime, entry
        except FileNotFoundError:
            continue


def _bytes_of(entry: Path) -> int:
    try:
        return sum(file.stat().st_size for file in entry.iterdir())
    except FileNotFoundError:
        return 0
