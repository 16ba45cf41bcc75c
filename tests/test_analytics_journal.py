"""The journal: durable, idempotent, strict about order states; a killed writer loses nothing it was told is safe."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smm_bt.analytics.equity import EquityCurve
from smm_bt.analytics.journal import Journal, JournalConflict, NewOrder
from smm_bt.analytics.journal_reader import JournalReader
from smm_bt.analytics.journal_replay import write_replay
from smm_bt.analytics.run_info import RunInfo
from smm_bt.errors import OutputError, RunFailed
from smm_bt.model import (
    DecisionRecord,
    Fill,
    LedgerEntry,
    OpenPosition,
    OrderState,
    PendingSignal,
    RunRecord,
    SkippedEntry,
    Trade,
)

S = OrderState
HOUR = 3_600_000
INFO = RunInfo(
    run_id="run-1",
    mode="PAPER",
    market_source="files",
    symbols=("BTCUSDT", "ETHUSDT"),
    timeframe="1h",
    timeframe_ms=HOUR,
    first_candle_ms=0,
    last_candle_ms=3 * HOUR,
    candles=8,
    strategy_file="strategy/reference.py",
    strategy_sha256="ab" * 32,
    strategy_is_reference=True,
    engine="plan",
    columns_from_cache=("ETHUSDT",),
    candles_by_symbol={"BTCUSDT": 4, "ETHUSDT": 4},
    settings={"SYMBOLS": ["BTCUSDT", "ETHUSDT"], "BINANCE_TESTNET_API_KEY": "****", "SLIPPAGE_BPS": 0.0},
)
ORDER = NewOrder("o-1", "BTCUSDT", "market", 1, 0.4, None, False, "entry")
FILL = Fill("o-1", "BTCUSDT", HOUR, 1, 0.4, 100.0, 0.02, False, "entry")
EXIT = Fill("o-2", "BTCUSDT", 3 * HOUR - 1, -1, 0.4, 90.0, 0.018, True, "stop_loss")
TRADE = Trade("BTCUSDT", "long", HOUR, 100.0, 0.4, 3 * HOUR - 1, 90.0, -4.0, 0.038, 0.0, 2.0, "stop_loss", "o-1", "o-2")
RECORD = RunRecord(
    initial_balance_usdt=1000.0,
    wallet_usdt=995.962,
    trades=[TRADE],
    fills=[FILL, EXIT],
    ledger_entries=[
        LedgerEntry(HOUR, "entry", "BTCUSDT", -0.02, 999.98, 0.4, 100.0),
        LedgerEntry(3 * HOUR - 1, "stop_loss", "BTCUSDT", -4.018, 995.962, 0.0, 0.0),
    ],
    decisions=[
        DecisionRecord(0, "BTCUSDT", True, False, False, 0, "", 1, False),
        DecisionRecord(HOUR, "ETHUSDT", True, True, False, 0, "", 0, True),
    ],
    skipped_entries=[SkippedEntry(2 * HOUR, "ETHUSDT", "short", "notional 3.2 USDT is below the minimum 20")],
    open_positions=[
        OpenPosition("ETHUSDT", "short", HOUR, 10.0, 1.0, 0.5, 0.01, 0.0, 0.3, None, "o-9"),
    ],
    pending_signals=[PendingSignal("BTCUSDT", 3 * HOUR, "", -1)],
)
CURVE = EquityCurve(
    np.arange(4, dtype=np.int64) * HOUR,
    np.array([1000.0, 1001.0, 995.962, 995.962]),
    np.array([1000.0, 999.98, 995.962, 995.962]),
)


@pytest.fixture
def journal(tmp_path):
    with Journal.create(tmp_path / "journal.sqlite", INFO, 1000.0) as opened:
        yield opened


def test_a_replay_reads_back_as_the_record_it_was_written_from(tmp_path):
    write_replay(tmp_path / "journal.sqlite", RECORD, CURVE, INFO)
    reader = JournalReader.read(tmp_path / "journal.sqlite")
    assert reader.record() == RECORD
    assert reader.run_info() == INFO
    assert reader.settings() == INFO.settings
    assert reader.run_state() == "finished"
    reader.close()


def test_a_replay_leaves_one_file_in_wal_mode_and_nothing_beside_it(tmp_path):
    write_replay(tmp_path / "journal.sqlite", RECORD, CURVE, INFO)
    assert os.listdir(tmp_path) == ["journal.sqlite"]
    connection = sqlite3.connect(tmp_path / "journal.sqlite")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_reading_a_journal_changes_nothing_and_leaves_nothing_beside_it(tmp_path):
    write_replay(tmp_path / "journal.sqlite", RECORD, CURVE, INFO)
    before = (tmp_path / "journal.sqlite").read_bytes()
    reader = JournalReader.read(tmp_path / "journal.sqlite")
    reader.record()
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._connection.execute("DELETE FROM trades")
    reader.close()
    assert os.listdir(tmp_path) == ["journal.sqlite"]
    assert (tmp_path / "journal.sqlite").read_bytes() == before


def test_a_journal_without_a_run_says_so(tmp_path):
    write_replay(tmp_path / "journal.sqlite", RECORD, CURVE, INFO)
    connection = sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)
    connection.execute("DELETE FROM run")
    connection.close()
    reader = JournalReader.read(tmp_path / "journal.sqlite")
    with pytest.raises(RunFailed, match="holds no run"):
        reader.run_id()
    reader.close()


def test_every_fill_of_a_replay_is_an_order_submitted_accepted_and_filled(tmp_path):
    write_replay(tmp_path / "journal.sqlite", RECORD, CURVE, INFO)
    reader = JournalReader.read(tmp_path / "journal.sqlite")
    assert [(row["order_id"], row["kind"], row["state"]) for row in reader.orders()] == [
        ("o-1", "market", "filled"),
        ("o-2", "stop_market", "filled"),
    ]
    assert [state for state, _, _ in reader.order_states("o-2")] == [S.SUBMITTED, S.ACCEPTED, S.FILLED]
    assert reader.orders(unfinished_only=True) == []
    reader.close()


def test_a_replay_keeps_equity_where_the_account_changed_and_at_the_end(tmp_path):
    write_replay(tmp_path / "journal.sqlite", RECORD, CURVE, INFO)
    reader = JournalReader.read(tmp_path / "journal.sqlite")
    assert reader.equity().open_ms.tolist() == [HOUR, 2 * HOUR, 3 * HOUR]
    assert reader.equity().equity.tolist() == [1001.0, 995.962, 995.962]
    reader.close()


def test_skipped_conflicting_and_pending_are_events_in_the_order_of_time(tmp_path):
    write_replay(tmp_path / "journal.sqlite", RECORD, CURVE, INFO)
    reader = JournalReader.read(tmp_path / "journal.sqlite")
    assert [(row["time_ms"], row["kind"], row["symbol"]) for row in reader.events()] == [
        (HOUR, "conflicting_signals", "ETHUSDT"),
        (2 * HOUR, "entry_skipped", "ETHUSDT"),
        (3 * HOUR, "pending_signal", "BTCUSDT"),
    ]
    assert reader.events("entry_skipped")[0]["message"] == "notional 3.2 USDT is below the minimum 20"
    reader.close()


def test_a_run_without_candles_or_trades_can_be_journalled(tmp_path):
    empty = RunRecord(1000.0, 1000.0, [], [], [], [], [], [], [])
    curve = EquityCurve(np.empty(0, np.int64), np.empty(0), np.empty(0))
    write_replay(tmp_path / "journal.sqlite", empty, curve, INFO)
    reader = JournalReader.read(tmp_path / "journal.sqlite")
    assert reader.record() == empty
    reader.close()


def test_a_live_run_reads_back_what_it_recorded(journal):
    with journal.together():
        assert journal.record_order(ORDER, 1)
        journal.change_order("o-1", S.SUBMITTED, 2)
        journal.change_order("o-1", S.FILLED, 3, "whole")
        assert journal.record_fill(FILL, "venue-77")
        journal.record_ledger_entry(RECORD.ledger_entries[0])
        assert journal.record_trade(TRADE)
    journal.record_decision(RECORD.decisions[0])
    journal.record_decision(RECORD.decisions[1])
    journal.record_open_positions(RECORD.open_positions)
    journal.record_skipped_entry(RECORD.skipped_entries[0])
    journal.record_pending_signal(RECORD.pending_signals[0])
    journal.record_equity(HOUR, 1.0, 2.0)
    journal.record_equity(HOUR, 1001.0, 999.98)
    journal.record_event(9, "reconnected", "after 3 s", data={"attempts": 2})
    other = JournalReader.read(journal.path)
    record = other.record()
    assert record.wallet_usdt == 999.98
    assert record.fills == [FILL]
    assert record.trades == [TRADE]
    assert record.decisions == RECORD.decisions
    assert record.skipped_entries == RECORD.skipped_entries
    assert record.pending_signals == RECORD.pending_signals
    assert record.open_positions == RECORD.open_positions
    assert other.equity().equity.tolist() == [1001.0]
    assert other.order_states("o-1") == [(S.CREATED, 1, ""), (S.SUBMITTED, 2, ""), (S.FILLED, 3, "whole")]
    assert [row["kind"] for row in other.events()] == [
        "conflicting_signals",
        "entry_skipped",
        "pending_signal",
        "reconnected",
    ]
    assert other.last_decided_candle("BTCUSDT") == 0
    assert other.last_decided_candle("SOLUSDT") is None
    other.close()


def test_saying_the_same_thing_twice_changes_nothing(journal):
    assert journal.record_order(ORDER, 1)
    assert not journal.record_order(ORDER, 5)
    assert journal.change_order("o-1", S.SUBMITTED, 2)
    assert not journal.change_order("o-1", S.SUBMITTED, 3)
    assert journal.record_fill(FILL, "f-1")
    assert not journal.record_fill(FILL, "f-1")
    assert journal.record_trade(TRADE)
    assert not journal.record_trade(TRADE)
    assert journal.record_decision(RECORD.decisions[1])
    assert not journal.record_decision(RECORD.decisions[1])
    assert len(journal.orders()) == len(journal.fills()) == len(journal.trades()) == len(journal.events()) == 1
    assert [time for _, time, _ in journal.order_states("o-1")] == [1, 2]


def test_a_settlement_told_after_the_close_changes_the_trade_in_its_place(journal):
    assert not journal.change_trade(TRADE)
    other = TRADE._replace(entry_order_id="o-3", exit_order_id="o-4")
    journal.record_trade(TRADE)
    journal.record_trade(other)
    charged = TRADE._replace(funding_usdt=-0.25)
    assert journal.change_trade(charged)
    assert journal.trades() == [charged, other]
    row = journal._one("SELECT pnl_usdt, pnl_percent FROM trades")
    assert tuple(row) == (charged.pnl_usdt, charged.pnl_percent)


def test_an_order_id_cannot_be_used_for_another_order(journal):
    journal.record_order(ORDER, 1)
    with pytest.raises(JournalConflict, match="o-1 is already in the journal for another order"):
        journal.record_order(ORDER._replace(qty=0.5), 2)


def test_a_fill_or_state_of_an_unknown_order_is_refused(journal):
    with pytest.raises(JournalConflict, match="belongs to order o-1, which is not in the journal"):
        journal.record_fill(FILL, "f-1")
    with pytest.raises(JournalConflict, match="record it before it is sent"):
        journal.change_order("o-1", S.ACCEPTED, 1)


@pytest.mark.parametrize(
    ("path", "refused"),
    [
        ([], S.FILLED),
        ([S.SUBMITTED, S.REJECTED], S.FILLED),
        ([S.SUBMITTED, S.FILLED], S.CANCELED),
        ([S.SUBMITTED, S.PARTIALLY_FILLED], S.REJECTED),
        ([S.SUBMITTED, S.ACCEPTED], S.UNKNOWN),
    ],
)
def test_a_state_the_transition_table_does_not_allow_is_refused_and_leaves_no_trace(journal, path, refused):
    journal.record_order(ORDER, 0)
    for time_ms, state in enumerate(path, start=1):
        journal.change_order("o-1", state, time_ms)
    before = journal.order_states("o-1")
    with pytest.raises(JournalConflict, match=f"cannot become {refused.value}"):
        journal.change_order("o-1", refused, 99)
    assert journal.order_states("o-1") == before


def test_every_partial_fill_is_a_state_change_of_its_own(journal):
    journal.record_order(ORDER, 0)
    for time_ms, state in enumerate([S.SUBMITTED, S.PARTIALLY_FILLED, S.PARTIALLY_FILLED, S.FILLED], start=1):
        assert journal.change_order("o-1", state, time_ms)
    assert [time for _, time, _ in journal.order_states("o-1")] == [0, 1, 2, 3, 4]


def test_orders_without_an_ending_are_found_after_a_restart(journal):
    journal.record_order(ORDER, 0)
    journal.record_order(ORDER._replace(order_id="o-2"), 0)
    journal.change_order("o-1", S.SUBMITTED, 1)
    journal.change_order("o-1", S.UNKNOWN, 2)
    journal.change_order("o-2", S.CANCELED, 1)
    journal.close()
    resumed = Journal.open(journal.path)
    assert [(row["order_id"], row["state"]) for row in resumed.orders(unfinished_only=True)] == [("o-1", "unknown")]
    resumed.close()


def test_what_belongs_together_is_there_completely_or_not_at_all(journal):
    def interrupted():
        with journal.together():
            journal.record_order(ORDER, 0)
            with journal.together():
                journal.record_event(0, "half", "way")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert journal.orders() == []
    assert journal.events() == []
    journal.record_event(1, "after", "still usable")


def test_controls_are_seen_by_the_running_bot_and_answered_once(journal):
    person = Journal.open(journal.path)
    number = person.request_control("close", 5, "BTCUSDT")
    person.request_control("pause", 6)
    assert [(row["request"], row["symbol"]) for row in journal.waiting_controls()] == [
        ("close", "BTCUSDT"),
        ("pause", ""),
    ]
    assert person.control_answer(number) is None
    assert journal.answer_control(number, "closed at 101.5", 8)
    assert not journal.answer_control(number, "again", 9)
    assert person.control_answer(number) == "closed at 101.5"
    assert person.control_answer(999) is None
    assert [row["request"] for row in person.waiting_controls()] == ["pause"]
    person.close()


def test_every_commit_of_a_live_run_waits_for_the_disk(journal):
    assert journal._connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert journal._connection.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL


def test_the_run_row_follows_the_run(journal):
    from dataclasses import replace

    assert journal.run_state() == "running"
    journal.update_run(replace(INFO, candles=10, finished_ms=77), "stopped")
    assert journal.run_state() == "stopped"
    assert journal.run_info().candles == 10


def test_an_existing_journal_is_never_started_over(journal):
    with pytest.raises(OutputError, match="exists already; resume that run"):
        Journal.create(journal.path, INFO, 1000.0)


@pytest.mark.parametrize("opener", [Journal.open, JournalReader.read])
def test_files_that_are_no_journal_are_refused_by_name(tmp_path, opener):
    with pytest.raises(RunFailed, match="There is no journal at"):
        opener(tmp_path / "absent.sqlite")
    (tmp_path / "text.sqlite").write_text("this is not a database, whatever its name says " * 40)
    with pytest.raises(RunFailed, match="cannot be read as a journal"):
        opener(tmp_path / "text.sqlite")
    foreign = sqlite3.connect(tmp_path / "foreign.sqlite")
    foreign.execute("CREATE TABLE t (a)")
    foreign.close()
    with pytest.raises(RunFailed, match="is not a journal of SMM-BT"):
        opener(tmp_path / "foreign.sqlite")


def test_a_journal_of_a_later_version_is_refused(tmp_path):
    write_replay(tmp_path / "journal.sqlite", RECORD, CURVE, INFO)
    connection = sqlite3.connect(tmp_path / "journal.sqlite")
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(RunFailed, match="journal version 2, this program reads version 1"):
        JournalReader.read(tmp_path / "journal.sqlite")


def test_a_value_of_the_wrong_type_is_refused_by_the_table(journal):
    with pytest.raises(sqlite3.IntegrityError):
        journal.record_equity(0, "a lot", 1.0)
    journal.record_equity(0, 1.0, 1.0)


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_analytics_journal import INFO, ORDER, FILL
from smm_bt.analytics.journal import Journal
from smm_bt.model import OrderState
journal = Journal.create(Path(sys.argv[1]), INFO, 1000.0)
for number in range(100000):
    name = f"o-{number}"
    with journal.together():
        journal.record_order(ORDER._replace(order_id=name), number)
        journal.change_order(name, OrderState.SUBMITTED, number)
    with journal.together():
        journal.change_order(name, OrderState.FILLED, number)
        journal.record_fill(FILL._replace(order_id=name), f"f-{number}")
    print(number, flush=True)
"""


def test_a_writer_killed_in_mid_sentence_loses_nothing_it_had_recorded(tmp_path):
    path = tmp_path / "journal.sqlite"
    writer = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), os.path.dirname(__file__)], stdout=subprocess.PIPE, text=True
    )
    said = [writer.stdout.readline() for _ in range(60)]
    writer.send_signal(signal.SIGKILL)
    said += writer.stdout.readlines()
    writer.stdout.close()
    writer.wait()
    acknowledged = int([line for line in said if line.endswith("\n")][-1])
    resumed = Journal.open(path)
    filled = {fill.order_id for fill in resumed.fills()}
    assert {f"o-{number}" for number in range(acknowledged + 1)} <= filled
    assert {row["order_id"] for row in resumed.orders() if row["state"] == "filled"} == filled
    assert len(resumed.orders(unfinished_only=True)) <= 1
    assert resumed.record_order(ORDER._replace(order_id="after"), 0)
    resumed.close()


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_analytics_journal import *
path = Path(sys.argv[1])
limit = lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
try:
    if sys.argv[2] == "replay":
        limit(60_000)
        write_replay(path, RECORD._replace(ledger_entries=RECORD.ledger_entries * 2000), CURVE, INFO)
    elif sys.argv[2] == "start":
        limit(20_000)
        Journal.create(path, INFO, 1000.0)
    else:
        journal = Journal.create(path, INFO, 1000.0)
        limit(path.stat().st_size + 60_000)
        with journal.together():
            for number in range(2000):
                journal.record_order(ORDER._replace(order_id=f"o-{number}"), 0)
except OutputError as error:
    print(error)
    if sys.argv[2] == "live":
        limit(resource.RLIM_INFINITY)
        journal.record_order(ORDER, 0)
        print(len(journal.orders()))
"""


def run_full(path, kind):
    arguments = [sys.executable, "-c", FULL, str(path), kind, os.path.dirname(__file__)]
    return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.splitlines()


def test_a_full_disk_during_a_replay_journal_leaves_nothing_behind(tmp_path):
    (line,) = run_full(tmp_path / "journal.sqlite", "replay")
    assert line.startswith("Cannot write ")
    assert "Nothing half-written is left" in line
    assert os.listdir(tmp_path) == []


def test_a_full_disk_at_the_start_of_a_live_run_leaves_no_empty_journal(tmp_path):
    (line,) = run_full(tmp_path / "journal.sqlite", "start")
    assert line.startswith("Cannot write ")
    assert os.listdir(tmp_path) == []


def test_a_full_disk_during_a_live_run_takes_back_the_unfinished_block_and_the_journal_stays_usable(tmp_path):
    line, orders = run_full(tmp_path / "journal.sqlite", "live")
    assert line.startswith("Cannot write ")
    assert orders == "1"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(list(OrderState)), max_size=8))
def test_the_last_recorded_state_is_always_the_orders_state(tmp_path_factory, states):
    path = tmp_path_factory.mktemp("journal") / "journal.sqlite"
    with Journal.create(path, INFO, 1000.0) as journal:
        journal.record_order(ORDER, 0)
        for state in states:
            try:
                journal.change_order("o-1", state, 1)
            except JournalConflict:
                continue
        assert journal.order_states("o-1")[-1][0].value == journal.orders()[0]["state"]
