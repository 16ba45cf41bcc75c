"""What the cache keeps: everything the run uses, and of the rest what was used last."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from feeds import run_cache
from feeds.cache import CACHE_FOLDER, WORTH_KEEPING, store_columns
from feeds.run_cache import ABANDONED, RunCache

COLUMNS = {"time": np.arange(WORTH_KEEPING)}


def kept(folder: Path) -> set[str]:
    return {entry.name for entry in (folder / CACHE_FOLDER).iterdir()}


def store_old(folder: Path, *keys: str) -> None:
    """Entries of earlier runs, the first one used longest ago."""
    for age, key in enumerate(keys):
        store_columns(folder, key, COLUMNS, {})
        os.utime(folder / CACHE_FOLDER / key, (1e9 + age, 1e9 + age))


def test_beyond_the_number_kept_the_least_recently_used_entries_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_cache, "MOST_ENTRIES", 3)
    store_old(tmp_path, "first", "second", "third", "fourth")
    cache = RunCache()
    assert cache.store(tmp_path, "new", COLUMNS, {})
    cache.make_room()
    assert kept(tmp_path) == {"third", "fourth", "new"}


def test_beyond_the_bytes_kept_the_least_recently_used_entries_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_cache, "MOST_BYTES", 2.5 * COLUMNS["time"].nbytes)
    store_old(tmp_path, "first", "second")
    cache = RunCache()
    assert cache.store(tmp_path, "new", COLUMNS, {})
    cache.make_room()
    assert kept(tmp_path) == {"second", "new"}


def test_what_the_run_has_read_or_stored_stays_however_much_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_cache, "MOST_ENTRIES", 1)
    monkeypatch.setattr(run_cache, "MOST_BYTES", 1)
    store_old(tmp_path, "read", "other")
    cache = RunCache()
    assert cache.load(tmp_path, "read") is not None
    assert cache.store(tmp_path, "stored", COLUMNS, {})
    os.utime(tmp_path / CACHE_FOLDER / "read", (1, 1))
    cache.make_room()
    assert kept(tmp_path) == {"read", "stored"}


def test_a_run_that_stored_nothing_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_cache, "MOST_ENTRIES", 1)
    store_old(tmp_path, "read", "other")
    cache = RunCache()
    assert cache.load(tmp_path, "read") is not None
    cache.make_room()
    assert kept(tmp_path) == {"read", "other"}


def test_what_killed_processes_left_unfinished_goes_after_an_hour(tmp_path: Path) -> None:
    store_old(tmp_path, "old")
    place = tmp_path / CACHE_FOLDER
    (place / "key.1.part").mkdir()
    (place / "key.1.part" / "0.npy").write_bytes(b"half")
    (place / "key.2.part").mkdir()
    (place / "key.3.part").write_text("a file that stood in the place of an entry")
    now = (place / "key.2.part").stat().st_mtime
    for name, age in (("key.1.part", ABANDONED + 60), ("key.2.part", ABANDONED - 60), ("key.3.part", 2 * ABANDONED)):
        os.utime(place / name, (now - age, now - age))
    cache = RunCache()
    assert cache.store(tmp_path, "new", COLUMNS, {})
    cache.make_room()
    assert kept(tmp_path) == {"old", "new", "key.2.part"}
