"""The equity curve against hand-worked accounts and a plain loop that follows SPEC §7 candle by candle."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smm_bt.analytics import equity as module
from smm_bt.analytics.equity import (
    EquityCurve,
    equity_curve,
    read_equity_parquet,
    steps_held,
    timeline,
    write_equity_parquet,
)
from smm_bt.errors import OutputError
from smm_bt.model import LedgerEntry

MINUTE = 60_000


def change(time_ms, wallet, qty=0.0, price=0.0, symbol="BTCUSDT", kind="entry"):
    return LedgerEntry(time_ms, kind, symbol, 0.0, wallet, qty, price)


def opens(*steps):
    return np.array(steps, dtype=np.int64) * MINUTE


def naive(closes, entries, initial, timeframe):
    """Equity, wallet and held flags by walking every candle; slow and obvious."""
    times = sorted({int(t) for open_ms, _ in closes.values() for t in open_ms})
    prices = {name: dict(zip(map(int, o), map(float, c), strict=True)) for name, (o, c) in closes.items()}
    wallet, state, last, todo = initial, {}, {}, list(entries)
    rows = []
    for time in times:
        for name, table in prices.items():
            last[name] = table.get(time, last.get(name))
        while todo and todo[0].time_ms < time + timeframe:
            entry = todo.pop(0)
            wallet = entry.wallet_usdt
            state[entry.symbol] = (entry.signed_qty, entry.entry_price)
        gain = sum(qty * (last[name] - price) for name, (qty, price) in state.items() if qty)
        rows.append((time, wallet + gain, wallet, any(qty for qty, _ in state.values())))
    return rows


def test_a_long_from_entry_to_exit_worked_by_hand():
    # 1000 USDT; long 2 at 100 (fee 1) at the open of candle 1; out at 110 (fee 1) at the open of candle 3
    entries = [change(MINUTE, 999.0, 2.0, 100.0), change(3 * MINUTE, 1018.0, kind="exit")]
    curve = equity_curve(None, {"BTCUSDT": (opens(0, 1, 2, 3), [100, 104, 95, 111])}, entries, 1000.0, MINUTE)
    assert curve.open_ms.tolist() == [0, 60_000, 120_000, 180_000]
    assert curve.equity.tolist() == [1000.0, 999.0 + 8.0, 999.0 - 10.0, 1018.0]
    assert curve.wallet.tolist() == [1000.0, 999.0, 999.0, 1018.0]


def test_a_short_gains_when_the_price_falls():
    curve = equity_curve(None, {"BTCUSDT": (opens(0, 1), [100, 90])}, [change(0, 1000.0, -3.0, 100.0)], 1000.0, MINUTE)
    assert curve.equity.tolist() == [1000.0, 1030.0]


def test_a_liquidation_in_the_last_millisecond_belongs_to_its_own_candle():
    entries = [change(0, 1000.0, 1.0, 100.0), change(2 * MINUTE - 1, 950.0, kind="liquidation")]
    curve = equity_curve(None, {"BTCUSDT": (opens(0, 1, 2), [100, 40, 40])}, entries, 1000.0, MINUTE)
    assert curve.equity.tolist() == [1000.0, 950.0, 950.0]


def test_funding_between_two_opens_changes_the_wallet_of_that_candle():
    entries = [change(0, 1000.0, 1.0, 100.0), change(MINUTE + 7, 999.5, 1.0, 100.0, kind="funding")]
    curve = equity_curve(None, {"BTCUSDT": (opens(0, 1), [100, 100])}, entries, 1000.0, MINUTE)
    assert curve.wallet.tolist() == [1000.0, 999.5]


def test_a_position_scaled_twice_within_one_candle_counts_with_its_last_size():
    entries = [change(0, 999.0, 1.0, 100.0), change(0, 998.0, 3.0, 102.0), change(30_000, 997.0, 2.0, 102.0)]
    curve = equity_curve(None, {"BTCUSDT": (opens(0, 1), [103, 104])}, entries, 1000.0, MINUTE)
    assert curve.equity.tolist() == [997.0 + 2.0, 997.0 + 4.0]


def test_two_symbols_share_one_wallet_and_a_missing_candle_keeps_the_last_close():
    closes = {"BTCUSDT": (opens(0, 1, 2), [100, 101, 102]), "ETHUSDT": (opens(0, 2), [10, 12])}
    entries = [change(0, 999.0, 1.0, 100.0), change(0, 998.0, 5.0, 10.0, "ETHUSDT")]
    curve = equity_curve(None, closes, entries, 1000.0, MINUTE)
    assert curve.equity.tolist() == [998.0, 999.0, 998.0 + 2.0 + 10.0]


def test_inside_one_candle_the_order_of_the_ledger_counts_not_the_clock():
    # BTC is stopped at the candle's end before ETH, second in SYMBOLS, is handled at the same candle's open
    closes = {"BTCUSDT": (opens(0, 1), [100, 100]), "ETHUSDT": (opens(0, 1), [10, 10])}
    entries = [
        change(0, 1000.0, 1.0, 100.0),
        change(2 * MINUTE - 1, 990.0, kind="stop_loss"),
        change(MINUTE, 989.0, 1.0, 10.0, "ETHUSDT"),
    ]
    assert equity_curve(None, closes, entries, 1000.0, MINUTE).wallet.tolist() == [1000.0, 989.0]


def test_without_trades_the_curve_is_the_initial_balance():
    curve = equity_curve(None, {"BTCUSDT": (opens(0, 1), [100, 101])}, [], 1234.5, MINUTE)
    assert curve.equity.tolist() == curve.wallet.tolist() == [1234.5, 1234.5]
    assert steps_held(curve.open_ms, [], MINUTE) == 0


def test_without_candles_the_curve_is_empty():
    assert equity_curve(None, {}, [], 1000.0, MINUTE).equity.size == 0


@pytest.mark.parametrize("time_ms", [-1, 2 * MINUTE, 5 * MINUTE])
def test_a_change_inside_no_candle_is_refused(time_ms):
    with pytest.raises(ValueError, match="inside no candle"):
        equity_curve(None, {"BTCUSDT": (opens(0, 1, 4), [1, 1, 1])}, [change(time_ms, 1.0)], 1.0, MINUTE)


def test_a_change_without_any_candle_is_refused():
    with pytest.raises(ValueError, match="inside no candle"):
        equity_curve(None, {"BTCUSDT": (opens(), [])}, [change(0, 1.0)], 1.0, MINUTE)


def test_a_symbol_without_closes_is_refused():
    with pytest.raises(ValueError, match="no closes for ETHUSDT"):
        equity_curve(None, {"BTCUSDT": (opens(0), [1])}, [change(0, 1.0, symbol="ETHUSDT")], 1.0, MINUTE)


def test_the_timeline_is_the_union_of_all_candle_times():
    assert timeline({"A": (opens(0, 2), [1, 1]), "B": (opens(1, 2, 3), [1, 1, 1])}).tolist() == [
        0,
        MINUTE,
        2 * MINUTE,
        3 * MINUTE,
    ]


def test_steps_held_counts_closes_with_any_position_once():
    entries = [
        change(0, 1.0, 1.0, 1.0),
        change(MINUTE, 1.0, 1.0, 1.0, "ETHUSDT"),
        change(2 * MINUTE, 1.0, kind="exit"),
        change(3 * MINUTE, 1.0, symbol="ETHUSDT", kind="exit"),
        change(4 * MINUTE, 1.0, 1.0, 1.0),
        change(5 * MINUTE - 1, 1.0, kind="stop_loss"),
    ]
    assert steps_held(opens(0, 1, 2, 3, 4, 5), entries, MINUTE) == 3


def test_a_live_change_between_recorded_candles_counts_from_the_next_close():
    # candle 1 was never recorded: in during candle 1, out after the last candle; held at the closes of 2 and 3
    entries = [change(MINUTE + 5, 1.0, 1.0, 1.0), change(9 * MINUTE, 1.0, kind="exit")]
    assert steps_held(opens(0, 2, 3), entries, MINUTE) == 2
    assert steps_held(opens(), entries, MINUTE) == 0


SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


@st.composite
def accounts(draw):
    names = SYMBOLS[: draw(st.integers(1, 3))]
    closes = {}
    for name in names:
        steps = sorted(draw(st.sets(st.integers(0, 30), min_size=1, max_size=31)))
        price = st.floats(1.0, 200.0)
        closes[name] = (opens(*steps), np.array([draw(price) for _ in steps]))
    entries, wallet = [], 1000.0
    for step in sorted({int(t) // MINUTE for o, _ in closes.values() for t in o}):
        for name in names:
            if step * MINUTE not in closes[name][0] or draw(st.integers(0, 2)):
                continue
            for _ in range(draw(st.integers(1, 3))):
                wallet += draw(st.floats(-5.0, 5.0))
                qty = draw(st.sampled_from([0.0, 1.5, -0.25, 3.0]))
                late = draw(st.sampled_from([0, 1, MINUTE - 1]))
                entries.append(change(step * MINUTE + late, wallet, qty, 100.0 if qty else 0.0, name))
    return closes, entries


@settings(max_examples=150, deadline=None)
@given(accounts(), st.integers(1, 40))
def test_the_vectorised_curve_equals_the_plain_loop(account, block):
    closes, entries = account
    expected = naive(closes, entries, 1000.0, MINUTE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        curve = equity_curve(None, closes, entries, 1000.0, MINUTE)
    assert curve.open_ms.tolist() == [row[0] for row in expected]
    assert curve.equity.tolist() == pytest.approx([row[1] for row in expected], abs=1e-9)
    assert curve.wallet.tolist() == [row[2] for row in expected]
    assert steps_held(curve.open_ms, entries, MINUTE) == sum(row[3] for row in expected)


def test_the_parquet_file_reads_back_bit_for_bit_and_names_its_columns(tmp_path):
    import pyarrow.parquet as pq

    curve = EquityCurve(opens(0, 1, 2), np.array([1.1, 0.1 + 0.2, 3.0]), np.array([1.0, 2.0, 1 / 3]))
    write_equity_parquet(tmp_path / "equity.parquet", curve)
    table = pq.read_table(tmp_path / "equity.parquet")
    assert table.column_names == ["time", "equity", "wallet"]
    assert str(table.schema.field("time").type) == "timestamp[ms, tz=UTC]"
    assert table.column("equity").to_pylist() == [1.1, 0.1 + 0.2, 3.0]
    back = read_equity_parquet(tmp_path / "equity.parquet")
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(back, curve, strict=True))


def test_an_empty_curve_survives_the_file(tmp_path):
    empty = equity_curve(None, {}, [], 1000.0, MINUTE)
    write_equity_parquet(tmp_path / "equity.parquet", empty)
    assert read_equity_parquet(tmp_path / "equity.parquet").open_ms.size == 0


def test_a_folder_that_is_not_there_is_told_in_a_sentence(tmp_path):
    curve = equity_curve(None, {}, [], 1000.0, MINUTE)
    with pytest.raises(OutputError, match=r"Cannot write .*equity\.parquet: No such file or directory"):
        write_equity_parquet(tmp_path / "absent" / "equity.parquet", curve)


def test_writing_parquet_never_imports_pandas(tmp_path):
    program = (
        "import sys, numpy as np\nfrom pathlib import Path\n"
        "from smm_bt.analytics.equity import EquityCurve, write_equity_parquet\n"
        "c = EquityCurve(np.arange(3, dtype='int64'), np.ones(3), np.ones(3))\n"
        f"write_equity_parquet(Path({str(tmp_path / 'e.parquet')!r}), c)\n"
        "print('pandas' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
