"""The column cache: whole entries or none, and never a wrong one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from feeds.cache import CACHE_FOLDER, WORTH_KEEPING, entry_key, file_hash, load_columns, store_columns
from feeds.made import made_candles, write_candles
from feeds.stored import read_stored_candles

COLUMNS = {"time": np.arange(WORTH_KEEPING), "flag": np.arange(WORTH_KEEPING) % 3 == 0}


def the_entry(folder: Path) -> Path:
    (entry,) = (folder / CACHE_FOLDER).iterdir()
    return entry


def test_what_was_stored_is_read_back_with_its_facts(tmp_path: Path) -> None:
    assert store_columns(tmp_path, "key", COLUMNS, {"answer": 42})
    columns, facts = load_columns(tmp_path, "key") or ({}, {})
    assert facts == {"answer": 42}
    assert {name: column.dtype for name, column in columns.items()} == {"time": np.int64, "flag": np.bool_}
    assert all(np.array_equal(columns[name], COLUMNS[name]) for name in COLUMNS)


def test_short_columns_leave_nothing_behind(tmp_path: Path) -> None:
    assert not store_columns(tmp_path, "key", {"time": np.arange(9)}, {})
    assert list(tmp_path.iterdir()) == []


def damage_column(column: Path, damage: str) -> None:
    whole = column.read_bytes()
    if damage == "gone":
        column.unlink()
    elif damage == "swapped":
        np.save(column, np.arange(5))
    elif damage == "one bit":
        column.write_bytes(whole[:40_000] + bytes([whole[40_000] ^ 4]) + whole[40_001:])
    elif damage == "last byte":
        column.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif damage == "two blocks exchanged":
        column.write_bytes(whole[32_768:65_536] + whole[:32_768] + whole[65_536:])
    elif damage == "header":
        column.write_bytes(whole.replace(b"int64", b"int63").replace(b"<i8", b"<u8"))
    elif damage == "page of zeros":
        column.write_bytes(whole[:4_096] + bytes(4_096) + whole[8_192:])
    else:
        column.write_bytes(whole[: 5_000 if damage == "cut" else 0])


DAMAGES = ["cut", "empty", "gone", "swapped", "one bit", "last byte", "two blocks exchanged", "header", "page of zeros"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_counts_as_none_and_is_replaced(tmp_path: Path, damage: str) -> None:
    store_columns(tmp_path, "key", COLUMNS, {})
    damage_column(the_entry(tmp_path) / "0.npy", damage)
    assert load_columns(tmp_path, "key") is None
    assert store_columns(tmp_path, "key", COLUMNS, {})
    assert load_columns(tmp_path, "key") is not None
    assert the_entry(tmp_path).name == "key"


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", "null", "[1, 2]", '["{}", 1]', '["[]", 223132457]', "[" * 100_000, "\0" * 200),
        '{"columns": [], "rows": 3}',
        '{"columns": ["time"], "rows": 10000, "facts": {}}',
    ],
)
def test_an_entry_that_says_something_else_about_itself_counts_as_none_and_is_replaced(
    tmp_path: Path, text: str
) -> None:
    store_columns(tmp_path, "key", COLUMNS, {"answer": 42})
    (the_entry(tmp_path) / "about.json").write_text(text)
    assert load_columns(tmp_path, "key") is None
    assert store_columns(tmp_path, "key", COLUMNS, {"answer": 42})
    assert load_columns(tmp_path, "key") is not None


def test_a_fact_that_was_edited_by_hand_makes_the_entry_count_as_none(tmp_path: Path) -> None:
    store_columns(tmp_path, "key", COLUMNS, {"answer": 42})
    about = the_entry(tmp_path) / "about.json"
    about.write_text(about.read_text().replace("42", "43"))
    assert load_columns(tmp_path, "key") is None


def test_a_file_in_the_place_of_an_entry_is_replaced(tmp_path: Path) -> None:
    (tmp_path / CACHE_FOLDER).mkdir()
    (tmp_path / CACHE_FOLDER / "key").write_text("no folder")
    assert load_columns(tmp_path, "key") is None
    assert store_columns(tmp_path, "key", COLUMNS, {})
    assert load_columns(tmp_path, "key") is not None
    assert the_entry(tmp_path).is_dir()


def test_columns_stay_readable_when_their_entry_is_replaced(tmp_path: Path) -> None:
    store_columns(tmp_path, "key", COLUMNS, {})
    columns, _ = load_columns(tmp_path, "key") or ({}, {})
    assert store_columns(tmp_path, "key", {name: column[::-1] for name, column in COLUMNS.items()}, {})
    assert all(np.array_equal(columns[name], COLUMNS[name]) for name in COLUMNS)


def test_an_entry_half_written_by_a_killed_process_is_not_seen(tmp_path: Path) -> None:
    store_columns(tmp_path, "key", COLUMNS, {})
    entry = the_entry(tmp_path)
    entry.rename(entry.with_name("key.123.part"))
    assert load_columns(tmp_path, "key") is None
    assert store_columns(tmp_path, "key", COLUMNS, {})


def test_a_folder_that_cannot_be_written_is_left_without_a_cache(tmp_path: Path) -> None:
    (tmp_path / CACHE_FOLDER).write_text("a file where the cache would be")
    assert not store_columns(tmp_path, "key", COLUMNS, {})
    assert load_columns(tmp_path, "key") is None


def test_keys_differ_when_any_part_differs() -> None:
    keys = {entry_key(*parts) for parts in (("a", "b"), ("ab", ""), ("a", {"b": 1}), ("a", {"b": 2}), ("a",))}
    assert len(keys) == 5


def test_candles_are_the_same_from_the_file_and_from_the_cache(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1m.parquet"
    write_candles(made_candles("BTCUSDT", "1m", WORTH_KEEPING, seed=1), path)
    first, second = read_stored_candles(path), read_stored_candles(path)
    assert isinstance(second.close, np.memmap)
    assert (first.symbol, first.timeframe, first.gaps) == (second.symbol, second.timeframe, second.gaps)
    assert all(np.array_equal(getattr(first, n), getattr(second, n)) for n in ("open_ms", "open", "low", "volume"))


def test_a_file_that_changed_is_read_again_even_with_the_same_name_and_size(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1m.csv.gz"
    write_candles(made_candles("BTCUSDT", "1m", WORTH_KEEPING, seed=1), path)
    before, hash_before = read_stored_candles(path).close[-1], file_hash(path)
    write_candles(made_candles("BTCUSDT", "1m", WORTH_KEEPING, seed=2), path)
    assert file_hash(path) != hash_before
    assert read_stored_candles(path).close[-1] != before
