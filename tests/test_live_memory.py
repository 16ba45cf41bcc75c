"""A run of weeks keeps its past in the journal: what is in memory does not grow with candles and trades."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from live_kit import HASHED, files_of, rows_of, run_live

from smm_bt.execution.newest import Newest

#: The hashed signals; every 20th call also notes how many records of the past this process holds.
COUNTING = (
    HASHED
    + """
import gc
from pathlib import Path

KINDS = ("BuyOrder", "SellOrder", "OrderData", "Trade", "Fill", "LedgerEntry", "DroppedEntry", "SkippedEntry")
KINDS += ("VenueOrder", "VenueFill", "Booked", "Ticket", "Flight")
_signals, _calls = compute_smm, [0]

def compute_smm(df):
    _calls[0] += 1
    if _calls[0] % 20 == 0:
        gc.collect()
        count = sum(type(each).__name__ in KINDS for each in gc.get_objects())
        with Path(__file__).with_name("counts.txt").open("a") as file:
            print(count, file=file)
    return _signals(df, density=0.4)
"""
)


#: On one dollar every entry is skipped.
CASES: list[dict[str, Any]] = [
    {},
    {"INITIAL_BALANCE_USDT": 1.0},
    {"TRADING_MODE": "TESTNET"},
    {"TRADING_MODE": "TESTNET", "INITIAL_BALANCE_USDT": 1.0},
]


@pytest.mark.parametrize("options", CASES)
def test_orders_trades_and_decisions_of_the_past_are_let_go(options: dict[str, Any], tmp_path: Path) -> None:
    strategy = tmp_path / "counting.py"
    strategy.write_text(COUNTING, "utf-8")
    settings = {"WARMUP_CANDLES": 20, **options}
    run_live(tmp_path / "run", strategy, files_of(tmp_path, count=180, seed=21), settings=settings)
    counts = [int(line) for line in (tmp_path / "counts.txt").read_text().splitlines()]
    assert len(counts) >= 8
    assert max(counts[4:]) <= max(counts[:4]) + 10
    assert rows_of(tmp_path / "run", "SELECT count(*) FROM decisions")[0][0] > 60


def test_of_many_names_the_newest_are_remembered() -> None:
    newest = Newest[int, str](3)
    for number in range(10):
        newest[number] = str(number)
    newest[8] = "again"
    assert newest == {7: "7", 8: "again", 9: "9"}
