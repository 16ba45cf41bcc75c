"""What an earlier process owed when it was killed or ended: entries never sent, promised closes, a pause."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from killed_run import FILLS, SENDS, killed
from live_kit import START_MS, files_of, report_of, rows_of, run_live, run_replay, trades_of

from smm_bt.analytics.journal import Journal
from smm_bt.emulator import EmulatorConfig, EmulatorThread
from smm_bt.emulator.faults import FaultRule
from smm_bt.execution.ccxt_broker import CcxtBroker
from smm_bt.execution.live_market import LiveMarket
from smm_bt.execution.venue_account import VenueAccount
from smm_bt.execution.venue_errors import VenueSilent

PAPER, TESTNET = "PAPER", "TESTNET"
FIVE_MINUTES_MS = 300_000

#: Always in: long and short in turn.
REVERSING = """
def compute_smm(df):
    number = df.index.as_unit("ms").asi8 // 300_000 % 10
    return {"buy_signal": number == 0, "sell_signal": number == 5, "profit_target_hit": [False] * len(df)}
"""

#: In once, at 00:25, and never out.
ONCE = """
def compute_smm(df):
    at = [time.hour == 0 and time.minute == 25 for time in df.index]
    return {"buy_signal": at, "sell_signal": [False] * len(df), "profit_target_hit": [False] * len(df)}
"""
DECIDED_MS = START_MS + 5 * FIVE_MINUTES_MS

#: The same, and once more at 01:00.
TWICE = ONCE.replace("time.hour == 0 and time.minute == 25", "(time.hour, time.minute) in ((0, 25), (1, 0))")


def strategy_at(folder: Path, text: str) -> Path:
    (folder / "strategy.py").write_text(text, "utf-8")
    return folder / "strategy.py"


def go_on(folder: Path, strategy: Path, candles: Sequence[Path], mode: str, **more: Any) -> list[dict[str, str]]:
    """Start a run or resume it, in this process."""
    settings = {"TRADING_MODE": mode, **more.pop("settings", {})}
    run_live(folder, strategy, candles, settings=settings, resume=folder.exists(), **more)
    return trades_of(folder)


def account_at(exchange: EmulatorThread) -> dict[str, Any]:
    keys = {"BINANCE_TESTNET_API_KEY": exchange.api_key, "BINANCE_TESTNET_API_SECRET": exchange.api_secret}
    return {"address": exchange.url, "settings": keys}


def stop_while_orders_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the venue be silent when an order is to be carried out, and a person press Ctrl-C then."""

    def no_price(market: LiveMarket, *given: Any) -> None:
        market.silent = True
        os.kill(os.getpid(), signal.SIGINT)

    def no_answer(broker: CcxtBroker) -> None:
        if broker.get_orders_open():
            os.kill(os.getpid(), signal.SIGINT)
            raise VenueSilent("The venue does not answer.")

    monkeypatch.setattr(LiveMarket, "price", no_price)
    monkeypatch.setattr(CcxtBroker, "_send_pending", no_answer)


def ask(run: Path, request: str, symbol: str = "") -> None:
    with Journal.open(run / "journal.sqlite") as journal:
        journal.request_control(request, 1, symbol)


def without_ids(trades: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{name: value for name, value in trade.items() if not name.endswith("order_id")} for trade in trades]


# ---- entries


def test_an_entry_that_was_killed_on_its_way_to_the_venue_is_sent_while_its_candle_is_fresh(tmp_path: Path) -> None:
    strategy, candles, run = strategy_at(tmp_path, REVERSING), files_of(tmp_path, count=40), tmp_path / "run"
    whole = go_on(tmp_path / "whole", strategy, candles, TESTNET)
    killed(SENDS, 3, run, strategy, candles, TESTNET)  # open, close, and this entry
    lost = [order_id for order_id, state in rows_of(run, "SELECT order_id, state FROM orders") if state == "submitted"]
    assert [order_id.split("-")[2] for order_id in lost] == ["entry"]
    again = go_on(run, strategy, candles, TESTNET)
    assert without_ids(again) == without_ids(whole)
    assert again[1]["entry_order_id"] == f"{lost[0]}-2"
    assert rows_of(run, f"SELECT state FROM orders WHERE order_id = '{lost[0]}'") == [("rejected",)]


def test_an_entry_that_is_made_again_and_killed_again_is_found_at_the_venue_and_not_doubled(tmp_path: Path) -> None:
    strategy, candles, run = strategy_at(tmp_path, REVERSING), files_of(tmp_path, count=30), tmp_path / "run"
    whole = go_on(tmp_path / "whole", strategy, candles, TESTNET)
    killed(SENDS, 3, run, strategy, candles, TESTNET)
    killed(SENDS, 1, run, strategy, candles, TESTNET, after=True)  # entry-2 is at the venue, and nobody knows
    again = go_on(run, strategy, candles, TESTNET)
    assert without_ids(again) == without_ids(whole)
    assert again[1]["entry_order_id"].endswith("-entry-2")


def test_an_entry_that_was_killed_on_its_way_and_is_too_late_is_dropped_with_the_reason(tmp_path: Path) -> None:
    strategy, candles, run = strategy_at(tmp_path, ONCE), files_of(tmp_path, count=30), tmp_path / "run"
    with EmulatorThread(EmulatorConfig(candles=tuple(candles), start_ms=START_MS, control=True)) as exchange:
        killed(SENDS, 1, run, strategy, candles, TESTNET, **account_at(exchange))
        exchange.step()  # while nobody was there
        go_on(run, strategy, candles, TESTNET, **account_at(exchange))
        assert exchange.ledger()["orders"] == []
    dropped = "SELECT symbol, message FROM events WHERE kind = 'entry_dropped'"
    assert rows_of(run, dropped) == [("BTCUSDT", "entry long dropped: the run was down when it was due")]
    assert rows_of(run, "SELECT order_id, state FROM orders") == [(f"BTCUSDT-{DECIDED_MS}-entry", "rejected")]


def test_an_entry_the_venue_refused_is_not_made_again(tmp_path: Path) -> None:
    strategy, candles, run = strategy_at(tmp_path, ONCE), files_of(tmp_path, count=30), tmp_path / "run"
    refusal = FaultRule("error", method="POST", path="/fapi/v1/order", code=-2019, status=400)
    config = EmulatorConfig(candles=tuple(candles), start_ms=START_MS, control=True, faults=(refusal,))
    with EmulatorThread(config) as exchange:
        go_on(run, strategy, candles, TESTNET, max_candles=6, **account_at(exchange))
        assert rows_of(run, "SELECT max(last_ms) FROM progress") == [(DECIDED_MS,)]
        go_on(run, strategy, candles, TESTNET, **account_at(exchange))
        assert exchange.ledger()["orders"] == []
    assert rows_of(run, "SELECT order_id, state FROM orders") == [(f"BTCUSDT-{DECIDED_MS}-entry", "rejected")]


def test_a_paper_entry_the_end_of_a_run_took_back_is_made_when_it_goes_on(tmp_path: Path) -> None:
    strategy = strategy_at(tmp_path, ONCE)
    candles = files_of(tmp_path, ("BTCUSDT", "ETHUSDT"), count=40, gaps_of={"BTCUSDT": range(6, 20)})
    run_replay(tmp_path / "replay", strategy, candles)
    go_on(tmp_path / "run", strategy, candles, PAPER, max_candles=10)  # in the hole: the order waits
    go_on(tmp_path / "run", strategy, candles, PAPER)
    there, expected = (report_of(tmp_path / name)["open_position"][1] for name in ("run", "replay"))
    assert there["symbol"] == "BTCUSDT"
    assert there.pop("entry_order_id") == f"{expected.pop('entry_order_id')}-2"
    assert there == expected


# ---- closes a person asked for


@pytest.mark.parametrize(("mode", "at"), [(PAPER, FILLS), (TESTNET, SENDS)])
def test_a_close_that_was_promised_is_carried_out_after_a_kill(mode: str, at: str, tmp_path: Path) -> None:
    strategy, run = strategy_at(tmp_path, ONCE), tmp_path / "run"
    candles = files_of(tmp_path, count=30, volatility=0.0005)
    go_on(run, strategy, candles, mode, max_candles=10)
    ask(run, "close")
    killed(at, 1, run, strategy, candles, mode)
    assert rows_of(run, "SELECT answer FROM controls") == [("closing BTCUSDT",)]
    (trade,) = go_on(run, strategy, candles, mode)
    assert (trade["close_reason"], trade["exit_order_id"].split("-")[2]) == ("manual", "manual")
    assert report_of(run)["open_position"] is None
    assert rows_of(run, "SELECT count(*) FROM controls WHERE answered_ms IS NULL") == [(0,)]


def test_a_close_that_reached_the_venue_before_a_kill_is_found_there(tmp_path: Path) -> None:
    strategy, run = strategy_at(tmp_path, ONCE), tmp_path / "run"
    candles = files_of(tmp_path, count=30, volatility=0.0005)
    go_on(run, strategy, candles, TESTNET, max_candles=10)
    ask(run, "close")
    killed(SENDS, 1, run, strategy, candles, TESTNET, after=True)
    (trade,) = go_on(run, strategy, candles, TESTNET)
    assert (trade["close_reason"], trade["exit_order_id"].split("-", 2)[2]) == ("manual", "manual-1")
    assert rows_of(run, "SELECT count(*) FROM orders WHERE reduce_only = 1") == [(1,)]


@pytest.mark.parametrize("mode", [PAPER, TESTNET])
def test_a_close_that_waits_when_a_run_ends_is_carried_out_when_it_goes_on(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy, run = strategy_at(tmp_path, ONCE), tmp_path / "run"
    candles = files_of(tmp_path, count=30, volatility=0.0005)
    go_on(run, strategy, candles, mode, max_candles=10)
    ask(run, "close")
    with monkeypatch.context() as silence:
        stop_while_orders_wait(silence)
        go_on(run, strategy, candles, mode)
    assert rows_of(run, "SELECT answer FROM controls") == [("closing BTCUSDT",)]
    assert report_of(run)["open_position"] is not None
    assert report_of(run)["pending_signal"]["close_reason"] == "manual"
    (trade,) = go_on(run, strategy, candles, mode)
    assert trade["close_reason"] == "manual"
    assert report_of(run)["open_position"] is None
    assert report_of(run)["pending_signal"] is None


@pytest.mark.parametrize("mode", [PAPER, TESTNET])
def test_a_close_on_exit_that_could_not_be_made_is_made_when_the_run_goes_on(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy, run = strategy_at(tmp_path, ONCE), tmp_path / "run"
    candles = files_of(tmp_path, count=30, volatility=0.0005)
    go_on(run, strategy, candles, mode, max_candles=10)
    with monkeypatch.context() as silence:
        stop_while_orders_wait(silence)
        go_on(run, strategy, candles, mode, max_candles=1, close_on_exit=True)
    assert report_of(run)["open_position"] is not None
    (trade,) = go_on(run, strategy, candles, mode)
    assert (trade["close_reason"], trade["exit_order_id"].split("-")[2]) == ("manual", "exit")


@pytest.mark.parametrize("mode", [PAPER, TESTNET])
def test_a_close_that_was_carried_out_does_not_close_the_next_position(mode: str, tmp_path: Path) -> None:
    strategy, run = strategy_at(tmp_path, TWICE), tmp_path / "run"
    candles = files_of(tmp_path, count=40, volatility=0.0005)
    go_on(run, strategy, candles, mode, max_candles=8)
    ask(run, "close")
    go_on(run, strategy, candles, mode, max_candles=8)  # closed by hand, and opened again at 01:00
    assert report_of(run)["open_position"]["entry_order_id"] == f"BTCUSDT-{START_MS + 12 * FIVE_MINUTES_MS}-entry"
    (trade,) = go_on(run, strategy, candles, mode)
    assert trade["close_reason"] == "manual"
    assert report_of(run)["open_position"] is not None


def test_a_position_is_closed_on_request_though_the_venue_is_silent_when_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy, run = strategy_at(tmp_path, ONCE), tmp_path / "run"
    candles = files_of(tmp_path, count=30, volatility=0.0005)
    go_on(run, strategy, candles, TESTNET, max_candles=10)
    ask(run, "close")
    refresh, calls = VenueAccount.refresh, []

    def silent_at_first(account: VenueAccount) -> None:
        calls.append(account)
        if 1 < len(calls) < 4:  # the start-up reads the account once
            raise VenueSilent("The venue does not answer.")
        refresh(account)

    monkeypatch.setattr(VenueAccount, "refresh", silent_at_first)
    (trade,) = go_on(run, strategy, candles, TESTNET)
    assert trade["close_reason"] == "manual"


# ---- a pause, and what a position is worth


def test_a_pause_asked_for_while_the_run_was_down_stops_the_entry_it_had_decided(tmp_path: Path) -> None:
    strategy, candles, run = strategy_at(tmp_path, ONCE), files_of(tmp_path, count=30), tmp_path / "run"
    killed(FILLS, 1, run, strategy, candles, PAPER)
    ask(run, "pause")
    go_on(run, strategy, candles, PAPER, max_candles=3)
    ask(run, "resume-entries")
    go_on(run, strategy, candles, PAPER)  # what was dropped once stays dropped
    assert rows_of(run, "SELECT count(*) FROM fills") == [(0,)]
    said = rows_of(run, "SELECT message FROM events WHERE kind = 'entry_dropped'")
    assert said == [("entry long dropped: entries are paused by hand",)]
    assert rows_of(run, "SELECT state FROM orders") == [("canceled",)]


@pytest.mark.parametrize("mode", [PAPER, TESTNET])
def test_a_finished_run_that_is_resumed_values_its_position_as_before(mode: str, tmp_path: Path) -> None:
    strategy, candles, run = strategy_at(tmp_path, ONCE), files_of(tmp_path, count=30), tmp_path / "run"
    go_on(run, strategy, candles, mode)
    before = report_of(run)["open_position"]
    assert before["unrealized_pnl_usdt"] != 0.0
    go_on(run, strategy, candles, mode)
    assert report_of(run)["open_position"] == before


@pytest.mark.parametrize("mode", [PAPER, TESTNET])
def test_a_finished_run_that_is_resumed_has_the_same_pending_signal(mode: str, tmp_path: Path) -> None:
    strategy, candles, run = strategy_at(tmp_path, ONCE), files_of(tmp_path, count=6), tmp_path / "run"
    for _ in range(3):
        go_on(run, strategy, candles, mode)
        assert report_of(run)["pending_signal"]["entry_side"] == "long"
        assert rows_of(run, "SELECT count(*) FROM fills") == [(0,)]
