"""The column cache: whole entries or none, and never a wrong one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from feeds.cache import CACHE_FOLDER, WORTH_KEEPING, entry_key, file_hash, load_columns, store_columns
from feeds.made import made_candles, write_candles
from feeds.stored import read_stored_candles
from smm_bt.app.columns import strategy_columns
from smm_bt.execution.market_history import market_history
from strategy.loader import locate_strategy

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


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "swapped"])
def test_a_damaged_entry_counts_as_none(tmp_path: Path, damage: str) -> None:
    store_columns(tmp_path, "key", COLUMNS, {})
    column = the_entry(tmp_path) / "1.npy"
    if damage == "gone":
        column.unlink()
    elif damage == "swapped":
        np.save(column, np.arange(5))
    else:
        column.write_bytes(column.read_bytes()[: 5_000 if damage == "cut" else 0])
    assert load_columns(tmp_path, "key") is None


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


def test_the_least_recently_used_entries_go_first(tmp_path: Path) -> None:
    for number in range(14):
        store_columns(tmp_path, f"key{number}", COLUMNS, {})
        for age, entry in enumerate(sorted((tmp_path / CACHE_FOLDER).iterdir(), key=lambda e: int(e.name[3:]))):
            os.utime(entry, (1e9 + age, 1e9 + age))
    assert load_columns(tmp_path, "key13") is not None
    assert load_columns(tmp_path, "key0") is None
    assert len(list((tmp_path / CACHE_FOLDER).iterdir())) == 12


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


STRATEGY = """
from pathlib import Path
Path({mark!r}).write_text("executed")

def compute_smm(df, shift=0):
    df["buy_signal"] = df["close"].shift(1 + shift) < df["close"]
    df["sell_signal"] = ~df["buy_signal"]
"""


def test_the_strategy_is_not_executed_when_its_columns_are_known(tmp_path: Path) -> None:
    path, mark, file = tmp_path / "BTCUSDT-1m.parquet", tmp_path / "mark", tmp_path / "mine.py"
    write_candles(made_candles("BTCUSDT", "1m", WORTH_KEEPING, seed=1), path)
    file.write_text(STRATEGY.format(mark=str(mark)))
    histories = {"BTCUSDT": market_history(read_stored_candles(path))}

    def columns(**parameters: int) -> tuple[bool, bool]:
        mark.unlink(missing_ok=True)
        found = strategy_columns(locate_strategy(file), histories, parameters, {"BTCUSDT": tmp_path})["BTCUSDT"]
        assert not found.has_profit_target
        return found.from_cache, mark.exists()

    assert columns() == (False, True)
    assert columns() == (True, False)
    assert columns(shift=3) == (False, True)
    file.write_text(STRATEGY.format(mark=str(mark)) + "\n# changed")
    assert columns() == (False, True)
