"""trades.csv: exact columns, exact times, nothing lost, and nothing half-written."""

from __future__ import annotations

import csv
import os
import resource
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smm_bt.analytics.timestamps import iso_utc, milliseconds
from smm_bt.analytics.trade_log import plain_decimal, read_trades_csv, write_trades_csv
from smm_bt.errors import OutputError, RunFailed
from smm_bt.model import CloseReason, Trade

LONG = Trade(
    symbol="BTCUSDT",
    side="long",
    entry_ms=1_727_740_800_000,
    entry_price=63_000.5,
    qty=0.001,
    exit_ms=1_727_741_099_999,
    exit_price=61_000.1,
    gross_pnl_usdt=-2.0004,
    fees_usdt=0.25,
    funding_usdt=-0.5,
    margin_usdt=3.0,
    close_reason=CloseReason.STOP_LOSS,
    entry_order_id="e-1",
    exit_order_id="x-1",
)
HEADER = (
    "symbol,side,entry_time,entry_price,qty,exit_time,exit_price,pnl_usdt,pnl_percent,fees,close_reason,"
    "gross_pnl_usdt,funding_usdt,margin_usdt,entry_order_id,exit_order_id,run_id"
)


def test_one_trade_is_written_to_the_letter(tmp_path):
    file = tmp_path / "trades.csv"
    write_trades_csv(file, [LONG._replace(gross_pnl_usdt=-2.0, fees_usdt=0.25, funding_usdt=-0.75)], "run-7")
    assert file.read_text(encoding="utf-8") == (
        HEADER + "\n"
        "BTCUSDT,long,2024-10-01T00:00:00Z,63000.5,0.001,2024-10-01T00:04:59.999Z,61000.1,-3.0,-100.0,0.25,"
        "stop_loss,-2.0,-0.75,3.0,e-1,x-1,run-7\n"
    )


def csv_lines(trade, run_id):
    from smm_bt.analytics.trade_log import trade_row

    yield ",".join(trade_row(trade, run_id))


def test_without_trades_the_file_is_its_header(tmp_path):
    write_trades_csv(tmp_path / "trades.csv", [], "run-7")
    assert (tmp_path / "trades.csv").read_text() == HEADER + "\n"
    assert read_trades_csv(tmp_path / "trades.csv") == []


numbers = st.floats(-1e12, 1e12, allow_nan=False)
trades = st.builds(
    Trade,
    symbol=st.sampled_from(["BTCUSDT", "1000PEPEUSDT"]),
    side=st.sampled_from(["long", "short"]),
    entry_ms=st.integers(0, 4_000_000_000_000),
    entry_price=st.floats(1e-8, 1e6),
    qty=st.floats(1e-8, 1e12),
    exit_ms=st.integers(0, 4_000_000_000_000),
    exit_price=st.floats(1e-8, 1e6),
    gross_pnl_usdt=numbers,
    fees_usdt=numbers,
    funding_usdt=numbers,
    margin_usdt=st.floats(1e-3, 1e9),
    close_reason=st.sampled_from([reason.value for reason in CloseReason]),
    entry_order_id=st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=9),
    exit_order_id=st.just('odd "quoted", id'),
)


@given(st.lists(trades, max_size=4))
def test_reading_back_gives_the_same_trades_to_the_last_bit(tmp_path_factory, written):
    file = tmp_path_factory.mktemp("log") / "trades.csv"
    write_trades_csv(file, written, "r")
    assert read_trades_csv(file) == written


@given(trades)
def test_written_net_result_and_return_follow_their_definitions(tmp_path_factory, trade):
    file = tmp_path_factory.mktemp("log") / "trades.csv"
    write_trades_csv(file, [trade], "r")
    with file.open(encoding="utf-8", newline="") as handle:
        row = next(csv.DictReader(handle))
    exact = Decimal(trade.gross_pnl_usdt) - Decimal(trade.fees_usdt) + Decimal(trade.funding_usdt)
    scale = abs(trade.gross_pnl_usdt) + abs(trade.fees_usdt) + abs(trade.funding_usdt) + 1e-9
    assert float(row["pnl_usdt"]) == pytest.approx(float(exact), abs=1e-12 * scale)
    assert float(row["pnl_percent"]) == pytest.approx(
        float(100 * exact / Decimal(trade.margin_usdt)), abs=1e-10 * scale / trade.margin_usdt
    )


@pytest.mark.parametrize(
    ("number", "text"),
    [(1e-08, "0.00000001"), (1e22, "10000000000000000000000"), (3.0, "3"), (0.1, "0.1"), (1234567.25, "1234567.25")],
)
def test_a_quantity_is_a_plain_decimal_without_exponent(number, text):
    assert plain_decimal(number) == text


@given(st.integers(-2_000_000_000_000, 4_000_000_000_000))
def test_times_survive_the_round_trip_and_agree_with_the_calendar(time_ms):
    text = iso_utc(time_ms)
    assert milliseconds(text) == time_ms
    assert text.endswith("Z")
    assert datetime.fromisoformat(text).astimezone(UTC).year == int(text[:4])


def test_a_time_without_zone_is_refused():
    with pytest.raises(ValueError, match="names no time zone"):
        milliseconds("2024-10-01T00:00:00")


def test_another_table_is_refused_with_the_expected_columns(tmp_path):
    (tmp_path / "trades.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RunFailed, match="its first line must be symbol,side"):
        read_trades_csv(tmp_path / "trades.csv")


def test_a_broken_line_is_named_by_number(tmp_path):
    file = tmp_path / "trades.csv"
    write_trades_csv(file, [LONG, LONG], "r")
    file.write_text(file.read_text()[:-40])
    with pytest.raises(RunFailed, match="line 3"):
        read_trades_csv(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RunFailed, match=r"Cannot read the trade log .*absent\.csv"):
        read_trades_csv(tmp_path / "absent.csv")


def test_a_folder_that_cannot_be_written_is_told_in_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"Cannot write .*trades\.csv: Not a directory\. Nothing half-written"):
        write_trades_csv(tmp_path / "file" / "trades.csv", [LONG], "r")


def test_somebody_reading_the_old_file_keeps_it_whole_while_a_new_one_takes_its_name(tmp_path):
    file = tmp_path / "trades.csv"
    write_trades_csv(file, [LONG], "old")
    with file.open() as reading:
        write_trades_csv(file, [LONG, LONG], "new")
        assert reading.read().splitlines()[1:] == [next(csv_lines(LONG, "old"))]
    assert len(file.read_text().splitlines()) == 3


DISK_FULL = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
from smm_bt.analytics.trade_log import write_trades_csv
from smm_bt.errors import OutputError
from smm_bt.model import Trade
trade = Trade("BTCUSDT", "long", 0, 1.0, 1.0, 1, 1.0, 0.0, 0.0, 0.0, 1.0, "manual", "e", "x")
try:
    write_trades_csv(Path(sys.argv[1]), [trade] * 5000, "new")
except OutputError as error:
    print(error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="the system has no file size limit to set")
def test_when_the_disk_is_full_the_old_file_stays_and_no_part_is_left(tmp_path):
    file = tmp_path / "trades.csv"
    write_trades_csv(file, [LONG], "old")
    before = file.read_bytes()
    done = subprocess.run([sys.executable, "-c", DISK_FULL, str(file)], capture_output=True, text=True, check=True)
    assert "Cannot write" in done.stdout
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["trades.csv"]
