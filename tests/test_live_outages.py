"""A bad network and a sleeping machine: real processes, and a real socket in between that is cut.

Every run ends with the same questions: was each candle seen once and in order, are the trades those of the rules on
the candles that were missed, and does the venue hold exactly the orders of the journal?
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import outage_kit
import pytest
from changed_host import PROGRAM
from live_kit import rows_of, wait_for
from made_files import child_environment
from outage_kit import PAPER, TESTNET, LiveRun, live_runs
from tcp_gate import REFUSE, RESET, SILENCE

from smm_bt.emulator.faults import FaultRule

#: SMM_BT_LONG=1 takes the network away for ten minutes by the wall clock, too.
LONG = os.environ.get("SMM_BT_LONG") == "1"
ORDER, PRICE = b"POST /fapi/v1/order", b"GET /fapi/v1/ticker/bookTicker"


def end_all(runs: Sequence[LiveRun]) -> None:
    """Let all of them end as a person does, side by side."""
    for run in runs:
        run.wait_until_caught_up()
        run.signal(signal.SIGINT)
    for run in runs:
        run.wait_for_exit(0)


def end_and_check(runs: Sequence[LiveRun]) -> None:
    end_all(runs)
    for run in runs:
        run.check()


def test_the_network_is_gone_for_a_second_half_a_minute_and_ten_minutes(tmp_path: Path) -> None:
    """Two runs lose the market for that long by the market's time, two others for half a minute by the wall clock."""
    modes = {"paper": PAPER, "testnet": TESTNET, "streamed-paper": PAPER, "streamed-testnet": TESTNET}
    with live_runs(tmp_path, modes) as runs:
        by_market, by_wall = runs[:2], runs[2:]
        for run in by_wall:
            run.cut_in_the_middle(SILENCE)
        begin = time.monotonic()
        for how, seconds in ((RESET, 1 / 60), (SILENCE, 0.5), (REFUSE, 1.0), (REFUSE, 10.0)):
            for run in by_market:
                run.cut_in_the_middle(how)
            time.sleep(seconds)
            for run in by_market:
                run.gate.heal()
            for run in by_market:
                run.wait_for_candles(3)
        time.sleep(max(0.0, begin + 30.0 - time.monotonic()))
        for run in by_wall:
            run.gate.heal()
        for run in by_wall:
            run.wait_for_event("connection_restored")
            run.wait_for_candles(3)
        end_and_check(runs)
        for run in runs:
            assert run.streamed or max(map(len, run.batches())) >= 10
            assert run.kinds()["connection_lost"] == run.kinds()["connection_restored"] >= 1
            assert run.said.count("connection lost") == run.said.count("connection restored") >= 1
        for run in by_wall:
            assert run.kinds()["connection_lost"] == 1
            assert run.kinds()["venue_silent"] <= 1


@pytest.mark.skipif(not LONG, reason="takes twelve minutes; SMM_BT_LONG=1 runs it")
@pytest.mark.timeout(1500)
def test_the_network_is_gone_for_ten_real_minutes(tmp_path: Path) -> None:
    with live_runs(tmp_path, candles=12_000) as runs:
        for run, how in zip(runs, (SILENCE, REFUSE), strict=True):
            run.cut_in_the_middle(how)
        time.sleep(600.0)
        for run in runs:
            run.gate.heal()
        for run in runs:
            run.wait_for_event("connection_restored", seconds=120)
            run.wait_until_caught_up(seconds=200.0)
            run.wait_for_candles(5)
        end_and_check(runs)
        for run in runs:
            assert run.kinds()["connection_lost"] == run.kinds()["connection_restored"] == 1
            assert max(map(len, run.batches())) >= 600


#: What happens to a request at the moment the network goes: how, was it delivered before, how long is it gone.
IN_FLIGHT = {
    "answer lost": (TESTNET, ORDER, RESET, True, 2.0),
    "order lost": (TESTNET, ORDER, RESET, False, 2.0),
    "no price": (PAPER, PRICE, REFUSE, False, 3.0),
    "order late": (TESTNET, ORDER, SILENCE, False, 12.0),
}


def test_an_order_is_on_its_way_when_the_network_goes(tmp_path: Path) -> None:
    """Its fate is known before anything else is decided; an entry that could not be sent in time is given up."""
    with live_runs(tmp_path, {name: case[0] for name, case in IN_FLIGHT.items()}) as runs:
        for run, (_, request, how, delivered, _) in zip(runs, IN_FLIGHT.values(), strict=True):
            run.gate.cut_at(request, how, delivered=delivered)
        for run in runs:
            assert run.gate.triggered.wait(30)
        decided = [run.last_candle() for run in runs]
        begin = time.monotonic()
        for run, case in zip(runs, IN_FLIGHT.values(), strict=True):
            time.sleep(max(0.0, begin + case[-1] - time.monotonic()))
            run.gate.heal()
        for run in runs:
            run.wait_for_candles(6)
        end_all(runs)
        for run, candle_ms, (*_, delivered, _) in zip(runs, decided, IN_FLIGHT.values(), strict=True):
            # the answer may be that of a close; finding it out takes longer than the entry after it may wait
            run.check(too_late=[candle_ms] if not delivered or candle_ms in run.dropped("was fresh") else [])
            if run.mode == TESTNET:
                check_settled_before_the_next_decision(run)
            else:
                assert run.kinds()["connection_lost"] == run.kinds()["connection_restored"] == 1


#: In on every third candle, out on the one after it, and nothing on the third.
NOW_AND_THEN = """
def compute_smm(df):
    number = df.index.as_unit("ms").asi8 // 60_000 % 3
    df["buy_signal"], df["sell_signal"], df["profit_target_hit"] = number == 0, False, number == 1
    return df
"""


def test_a_connection_lost_for_an_entry_is_restored_when_the_venue_answers_and_not_when_the_entry_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the entry after it is not taken for one that waits."""
    monkeypatch.setattr(outage_kit, "STRATEGY", NOW_AND_THEN)
    trades = "SELECT count(*) FROM trades"
    with live_runs(tmp_path, {"paper": PAPER}) as (run,):
        done = wait_for(run.out, trades)
        run.gate.cut_at(PRICE, REFUSE, delivered=False)  # flat now: an entry will ask for it
        run.wait_for_event("entry_dropped")
        time.sleep(1.5)
        run.gate.heal()
        run.wait_for_event("connection_restored")
        wait_for(run.out, trades, at_least=done + 2)
        end_all([run])
        told = rows_of(run.out, "SELECT kind FROM events WHERE kind LIKE 'connection_%' ORDER BY id")
    assert told == [("connection_lost",), ("connection_restored",)]


def check_settled_before_the_next_decision(run: LiveRun) -> None:
    """Nothing else is sent before the order's fate is known; what it executed may be booked later."""
    ((number, order_id),) = rows_of(
        run.out,
        "SELECT DISTINCT o.id, o.order_id FROM orders o JOIN order_states s USING (order_id) WHERE s.state = 'unknown'",
    )
    known = rows_of(
        run.out,
        f"SELECT max(id), max(time_ms) FROM order_states WHERE order_id = '{order_id}' AND state NOT LIKE '%filled'",
    )[0]
    later = rows_of(
        run.out,
        f"SELECT min(s.id), min(s.time_ms) FROM order_states s JOIN orders o USING (order_id) WHERE o.id > {number}",
    )[0]
    assert known < later


def test_ctrl_c_ends_a_run_whose_orders_wait_and_it_is_resumed_once_the_venue_is_back(tmp_path: Path) -> None:
    with live_runs(tmp_path) as runs:
        for run in runs:
            run.gate.cut_at(PRICE if run.mode == PAPER else b"GET /fapi/v3/account", REFUSE, delivered=False)
        for run in runs:
            assert run.gate.triggered.wait(30)
            run.wait_for_event("connection_lost")
            begin = time.monotonic()
            run.end()
            assert time.monotonic() - begin < 20
            run.start("--resume")
        for run in runs:
            run.wait_for_exit(1)
            assert "No embedded exchange answers" in run.complaints
            assert "Traceback" not in run.complaints
            run.gate.heal()
            run.start("--resume")
        for run in runs:
            run.wait_for_event("resumed_run")
            run.wait_for_candles(3)
        end_all(runs)
        for run in runs:
            run.check_candles()
            if run.mode == TESTNET:
                run.check_venue()


def test_names_are_not_found_and_the_venue_wants_quiet(tmp_path: Path) -> None:
    with live_runs(tmp_path) as runs:
        for run in runs:
            run.wait_for_middle()
            run.change_host(resolves=False)
            run.gate.cut(RESET)  # a connection that stands needs no name
            run.gate.heal()
        time.sleep(3.0)
        for run in runs:
            run.change_host(resolves=True)
        for run in runs:
            run.wait_for_event("connection_restored")
            run.wait_for_candles(3)
        for status, seconds in ((429, 1), (418, 3)):
            check_quiet(runs, status, seconds)
        end_and_check(runs)
        for run in runs:
            assert "name is not found" in run.said
            assert run.kinds()["connection_lost"] == run.kinds()["connection_restored"] == 1


def check_quiet(runs: Sequence[LiveRun], status: int, seconds: int) -> None:
    """After the first refusal nothing is sent for as long as the venue said, by either of a run's clients."""
    rule = FaultRule("error", path="/fapi/*", code=-1003, status=status, retry_after=seconds)
    for run in runs:
        run.wait_for_middle()
        run.venue.add_fault(rule)
    told = [first_refusal(run, status) for run in runs]
    for run in runs:
        run.wait_for_candles(seconds + 3)
    for run, told_ms in zip(runs, told, strict=True):
        after = [row["host_ms"] for row in run.venue.requests() if row["host_ms"] > told_ms]
        assert min(after) >= told_ms + 1000 * seconds


def first_refusal(run: LiveRun, status: int) -> int:
    """When the venue first said no, by the machine's clock."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        refused = [row["host_ms"] for row in run.venue.requests() if row["status"] == status]
        if refused:
            return int(refused[0])
        time.sleep(0.05)
    raise AssertionError(f"no {status} in ten seconds")


@pytest.mark.parametrize("mode", [PAPER, TESTNET])
def test_a_market_whose_name_is_not_found_is_said_with_a_way_out(mode: str, tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text('{"resolves": false}', "utf-8")
    keys = {"BINANCE_TESTNET_API_KEY": "k" * 64, "BINANCE_TESTNET_API_SECRET": "s" * 64}
    ended = subprocess.run(
        [sys.executable, str(PROGRAM), "live", "--market", "binance", "--mode", mode],
        cwd=tmp_path,
        env=child_environment(HOST_FILE=str(tmp_path / "host.json"), **keys),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1, ended.stderr
    assert "name is not found" in ended.stderr
    assert "--market embedded" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(tmp_path.glob("runs/*/*"))


def test_the_clock_is_set_and_the_machine_sleeps(tmp_path: Path) -> None:
    """Two minutes ahead and back; then a stopped process; then a suspended machine, whose steady clock stands too."""
    with live_runs(tmp_path) as runs:
        for wall_s in (120.0, 0.0):
            for run in runs:
                run.change_host(wall_s=wall_s)
            for run in runs:
                run.wait_for_candles(3)
        for steady_stands in (False, True):
            sleep_for(runs, 4.0, steady_stands=steady_stands)
            for run in runs:
                run.wait_for_candles(6)
        end_and_check(runs)
        for run in runs:
            jumps = [row[0] for row in rows_of(run.out, "SELECT message FROM events WHERE kind = 'clock_jump'")]
            assert [jump.split()[4] for jump in jumps[:2]] == ["+120.0", "-120.0"]
            assert [round(float(jump.split()[4])) for jump in jumps[2:]] == [4]
            assert sum(len(batch) >= 3 for batch in run.batches()) >= 2


def sleep_for(runs: Sequence[LiveRun], seconds: float, *, steady_stands: bool) -> None:
    for run in runs:
        run.wait_for_middle()
        run.signal(signal.SIGSTOP)
    time.sleep(seconds)
    for run in runs:
        if steady_stands:
            run.change_host(steady_s=-seconds)
        run.signal(signal.SIGCONT)


#: In on the first candle, and round on every one after it: each sends a close and then an entry.
REVERSING = """
def compute_smm(df):
    number = df.index.as_unit("ms").asi8 // 60_000
    df["buy_signal"], df["sell_signal"] = number % 2 == 0, number % 2 == 1
    return df
"""


def posted(run: LiveRun) -> list[tuple[str, int]]:
    """The orders the venue was sent and its answers."""
    rows = [row for row in run.venue.requests() if row["path"] == "/fapi/v1/order" and row["method"] == "POST"]
    return [("close" if row["parameters"].get("reduceOnly") == "true" else "entry", row["status"]) for row in rows]


def test_a_person_ends_the_run_while_the_venue_wants_quiet_between_a_close_and_its_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The close was executed and is not booked: that is said, is no success, and is put right by the next start."""
    monkeypatch.setattr(outage_kit, "STRATEGY", REVERSING)
    quiet = FaultRule("error", "POST", "/fapi/v1/order", code=-1003, status=418, retry_after=60, skip=1)
    with live_runs(tmp_path, {"streamed-testnet": TESTNET}) as (run,):
        run.wait_for_middle()
        run.venue.add_fault(quiet)
        end = time.monotonic() + 20
        while not (sent := posted(run)) or sent[-1][1] != 418:
            assert time.monotonic() < end, sent
            time.sleep(0.02)
        assert sent[-2:] == [("close", 200), ("entry", 418)]
        begin = time.monotonic()
        run.end(expected=1)
        assert time.monotonic() - begin < 20
        assert "-close" in run.complaints
        assert "--resume" in run.complaints
        unfinished = "SELECT count(*) FROM orders WHERE order_id LIKE '%-close' AND state != 'filled'"
        assert rows_of(run.out, unfinished) == [(1,)]
        run.venue.clear_faults()
        run.start("--resume")
        run.wait_for_candles(2)
        run.wait_for_middle()
        run.end()
        run.check_venue()


def test_no_entry_is_sent_on_a_candle_that_went_stale_while_the_venue_wanted_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage_kit, "STRATEGY", REVERSING)
    with live_runs(tmp_path, {"streamed-testnet": TESTNET}) as (run,):
        run.wait_for_middle()
        run.venue.add_fault(FaultRule("error", "POST", "/fapi/v1/order", code=-1003, status=418, retry_after=4))
        run.wait_for_event("entry_dropped")
        run.wait_until_caught_up()
        run.end()
        run.check_venue()
        rows = rows_of(run.out, "SELECT order_id, time_ms FROM fills WHERE reduce_only = 0")
    ages = [filled_ms - int(order_id.split("-")[1]) for order_id, filled_ms in rows]
    assert max(ages) <= 2 * outage_kit.MINUTE_MS + 6_000  # a tenth of a second of this machine's to send it
