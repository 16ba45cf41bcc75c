"""Columns kept beside the data as memory-mapped ``.npy`` files, so that a repeated replay reads instead of computing.

An entry is a folder named by its key. It is written under another name, flushed to disk and renamed, so that a reader
finds a whole entry or none. Whatever of it is not as it was written makes it count as none, and the next writer
replaces it. A folder that cannot be written is left without a cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CACHE_FOLDER = ".smm-cache"

#: The ending of a folder that is being written or removed; no key has it.
UNFINISHED = ".part"

#: Shorter columns are computed faster than they are worth keeping.
WORTH_KEEPING = 10_000

_ABOUT = "about.json"
_FORMAT = 2

#: Bytes summed into one word of a file's checksum.
_BLOCK = 32_768

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
        about = _read_about(entry)
        if about is None:
            return None
        columns = {}
        for number, name in enumerate(about["columns"]):
            file = entry / f"{number}.npy"
            if _checksum(file) != about["checksums"][number]:
                return None
            columns[name] = np.load(file, mmap_mode="r")
        os.utime(entry)
    except (OSError, ValueError, EOFError, RecursionError):
        return None
    return columns, about["facts"]


def store_columns(folder: Path, key: str, columns: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> bool:
    """Store columns of one length and JSON facts under ``key``; return whether that was done.

    An entry that is there already is replaced: whoever computed anew could not use it.
    """
    if len(next(iter(columns.values()))) < WORTH_KEEPING:
        return False
    entry = folder / CACHE_FOLDER / key
    temporary = _another_name(entry)
    try:
        temporary.mkdir(parents=True)
        for number, column in enumerate(columns.values()):
            np.save(temporary / f"{number}.npy", column)
        _write_about(temporary, list(columns), facts)
        _flush(temporary)
        remove_entry(entry)
        temporary.rename(entry)
    except OSError:
        # Full disk, read-only folder, or another process stored the same entry first: the run goes on without.
        return False
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def remove_entry(entry: Path) -> None:
    """Remove an entry whole: a reader finds all of it or nothing; columns already mapped stay readable.

    Raises:
        OSError: it is there and cannot be renamed.
    """
    leaving = _another_name(entry)
    try:
        entry.rename(leaving)
    except FileNotFoundError:
        return
    remove_remains(leaving)


def remove_remains(remains: Path) -> None:
    """Remove a folder that nobody reads, or a file in the place of one, as far as that is permitted."""
    if remains.is_dir() and not remains.is_symlink():
        shutil.rmtree(remains, ignore_errors=True)
        return
    try:
        remains.unlink(missing_ok=True)
    except OSError:
        return


def _another_name(entry: Path) -> Path:
    """Return a name nobody else uses: process ids come again, in containers with every start."""
    return entry.with_name(f"{entry.name}.{os.urandom(6).hex()}{UNFINISHED}")


def _write_about(entry: Path, names: list[str], facts: Mapping[str, Any]) -> None:
    checksums = [_checksum(entry / f"{number}.npy") for number in range(len(names))]
    text = json.dumps({"columns": names, "checksums": checksums, "facts": dict(facts)})
    (entry / _ABOUT).write_text(json.dumps([text, zlib.crc32(text.encode())]), "utf-8")


def _read_about(entry: Path) -> dict[str, Any] | None:
    """Return what _write_about wrote; None for anything else."""
    match json.loads((entry / _ABOUT).read_text("utf-8")):
        case [str(text), int(checksum)] if zlib.crc32(text.encode()) == checksum:
            about: Any = json.loads(text)
            return about if isinstance(about, dict) and about.keys() == {"columns", "checksums", "facts"} else None
    return None


def _checksum(file: Path) -> int:
    """Return a checksum of all bytes: the CRC of the sums of 8-byte words, block by block, and of the rest.

    It notices every changed word, and blocks lost, cut off, zeroed or in another order; it takes a fifth of the time
    of a CRC of the bytes. Two changes in one block that cancel one another are not noticed.
    """
    data = np.memmap(file, dtype=np.uint8, mode="r")
    whole = len(data) // _BLOCK * _BLOCK
    sums = data[:whole].view(np.uint64).reshape(-1, _BLOCK // 8).sum(axis=1)
    return zlib.crc32(data[whole:].tobytes(), zlib.crc32(sums.tobytes()))


def _flush(folder: Path) -> None:
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
