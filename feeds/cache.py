"""Columns kept beside the data as memory-mapped ``.npy`` files, so that a repeated replay reads instead of computing.

An entry is a folder named by its key. It is written under another name, flushed to disk and renamed, so that a reader
finds a whole entry or none; an entry that cannot be read counts as none. A folder that cannot be written is left
without a cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CACHE_FOLDER = ".smm-cache"

#: Shorter columns are computed faster than they are worth keeping.
WORTH_KEEPING = 10_000

#: Entries kept in one cache folder; the least recently used go first.
_KEPT = 12
_ABOUT = "about.json"
_FORMAT = 1

Columns = dict[str, NDArray[Any]]


def file_hash(path: Path) -> str:
    """Return the SHA-256 of the file's bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def entry_key(*parts: object) -> str:
    """Return a key for what ``parts`` identify; equal parts, as text, give equal keys."""
    text = json.dumps([_FORMAT, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def load_columns(folder: Path, key: str) -> tuple[Columns, dict[str, Any]] | None:
    """Return the columns (read-only, memory-mapped) and facts stored under ``key``, or None."""
    entry = folder / CACHE_FOLDER / key
    try:
        about = json.loads((entry / _ABOUT).read_text("utf-8"))
        columns = {
            name: np.load(entry / f"{number}.npy", mmap_mode="r") for number, name in enumerate(about["columns"])
        }
        os.utime(entry)
    except (OSError, ValueError, KeyError, EOFError):
        return None
    if any(len(column) != about["rows"] for column in columns.values()):
        return None
    return columns, about["facts"]


def store_columns(folder: Path, key: str, columns: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> bool:
    """Store columns of one length and JSON facts under ``key``; return whether that was done."""
    rows = len(next(iter(columns.values())))
    if rows < WORTH_KEEPING:
        return False
    cache = folder / CACHE_FOLDER
    temporary = cache / f"{key}.{os.getpid()}.part"
    try:
        temporary.mkdir(parents=True)
        for number, column in enumerate(columns.values()):
            np.save(temporary / f"{number}.npy", column)
        about = {"columns": list(columns), "rows": rows, "facts": dict(facts)}
        (temporary / _ABOUT).write_text(json.dumps(about), "utf-8")
        _flush(temporary)
        temporary.rename(cache / key)
        _prune(cache)
    except OSError:
        # Full disk, read-only folder, or another process stored the same entry first: the run goes on without.
        return False
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def _flush(folder: Path) -> None:
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _prune(cache: Path) -> None:
    entries = [entry for entry in cache.iterdir() if entry.suffix != ".part"]
    entries.sort(key=lambda entry: entry.stat().st_mtime, reverse=True)
    for entry in entries[_KEPT:]:
        shutil.rmtree(entry, ignore_errors=True)
