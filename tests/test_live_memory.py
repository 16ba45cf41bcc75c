"""A run of weeks keeps its past in the journal: what is in memory does not grow with candles and trades."""

from __future__ import annotations

from pathlib import Path

import pytest
from live_kit import HASHED, files_of, rows_of, run_live

#: The hashed signals; every 20th call also notes how many records of the past this process holds.
COUNTING = (
    HASHED
    + """
import gc
from pathlib import Path

KINDS = ("BuyOrder", "SellOrder", "OrderData", "Trade", "Fill", "LedgerEntry", "DroppedEntry", "SkippedEntry")
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


@pytest.mark.parametrize("options", [{}, {"INITIAL_BALANCE_USDT": 1.0}])  # on one dollar every entry is skipped
def test_orders_trades_and_decisions_of_the_past_are_let_go(options: dict[str, float], tmp_path: Path) -> None:
    strategy = tmp_path / "counting.py"
    strategy.write_text(COUNTING, "utf-8")
    settings = {"WARMUP_CANDLES": 20, **options}
    run_live(tmp_path / "run", strategy, files_of(tmp_path, count=180, seed=21), settings=settings)
    counts = [int(line) for line in (tmp_path / "counts.txt").read_text().splitlines()]
    assert len(counts) >= 8
    assert max(counts[4:]) <= max(counts[:4]) + 10
    assert rows_of(tmp_path / "run", "SELECT count(*) FROM decisions")[0][0] > 60
