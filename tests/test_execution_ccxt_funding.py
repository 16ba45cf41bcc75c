"""Funding on a practice venue: each payment belongs to the trade that was open, however late it is read."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from broker_contract import FRAME_MS, START_MS, rising_candles
from venue_bench import client_of, journal_at, stepped, store_of, write_candles

from smm_bt.analytics.journal import Journal
from smm_bt.app.live_resume import venue_state
from smm_bt.emulator.thread import EmulatorThread
from smm_bt.execution.ccxt_orders import Piece, Ticket
from smm_bt.execution.order_ids import order_name
from smm_bt.execution.venue_account import VenueAccount

#: One settlement in the middle of each candle, 0.1 % for the holder of a long position.
RATE, MIDDLE_MS = 0.001, FRAME_MS // 2


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[EmulatorThread]:
    candles, funding = write_candles(tmp_path, rising_candles()), tmp_path / "BTCUSDT-funding.csv"
    with funding.open("w", newline="") as file:
        rows = [(START_MS + number * FRAME_MS + MIDDLE_MS, RATE) for number in range(12)]
        csv.writer(file).writerows([("timestamp", "funding_rate"), *rows])
    with EmulatorThread(stepped(candles=(candles,), funding=(funding,), start_ms=START_MS)) as running:
        yield running


def order(number: int, intent: str, side: int) -> Ticket:
    order_id = f"BTCUSDT-{START_MS + number * FRAME_MS}-{intent}"
    pieces = (Piece(Decimal("0.1"), intent == "close"),)
    reason = "profit_target" if intent == "close" else ""
    return Ticket(order_id, order_name("BTCUSDT", order_id, START_MS), side, pieces, reason)


def charged(journal: Journal) -> list[float]:
    return [trade.funding_usdt for trade in journal.trades()]


def expected(exchange: EmulatorThread) -> list[float]:
    return [float(row.amount_usdt) for row in client_of(exchange).funding(0)]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with contextlib.closing(journal_at(tmp_path)) as made:
        yield made


def account_on(exchange: EmulatorThread, journal: Journal, *, resumed: bool = False) -> VenueAccount:
    store = store_of(exchange, recorder=journal, resume=venue_state(journal) if resumed else None)
    return store.open_account()


def test_funding_read_after_a_close_belongs_to_the_closed_trade(exchange: EmulatorThread, journal: Journal) -> None:
    account = account_on(exchange, journal)
    account.execute(order(0, "entry", 1))
    exchange.step()
    account.execute(order(1, "close", -1))
    account.refresh()
    (paid,) = expected(exchange)
    assert paid < -5.0
    assert charged(journal) == pytest.approx([paid])
    (trade,) = journal.trades()
    assert trade.pnl_usdt == pytest.approx(trade.gross_pnl_usdt - trade.fees_usdt + paid)
    assert account.ledger.trades == [trade]
    assert [entry.kind for entry in journal.ledger_entries()] == ["entry", "exit", "funding"]
    assert journal.record().wallet_usdt == pytest.approx(float(client_of(exchange).account().wallet_usdt), abs=1e-6)


def test_funding_of_a_trade_that_was_reversed_is_not_charged_to_the_new_position(
    exchange: EmulatorThread, journal: Journal
) -> None:
    account = account_on(exchange, journal)
    account.execute(order(0, "entry", 1))
    exchange.step()
    account.execute(order(1, "close", -1))
    account.execute(order(1, "entry", -1))
    account.refresh()
    assert charged(journal) == pytest.approx(expected(exchange))
    assert account.ledger.positions["BTCUSDT"].funding_usdt == 0.0
    exchange.step()
    account.refresh()
    assert account.ledger.positions["BTCUSDT"].funding_usdt > 5.0


def test_funding_before_the_last_close_is_booked_at_the_end_of_the_run(
    exchange: EmulatorThread, journal: Journal
) -> None:
    account = account_on(exchange, journal)
    account.execute(order(0, "entry", 1))
    exchange.step()
    account.execute(order(1, "close", -1))
    account.finish()
    assert charged(journal) == pytest.approx(expected(exchange))


@pytest.mark.parametrize("closed", [False, True])
def test_funding_nobody_had_read_when_the_process_was_killed_is_booked_when_it_goes_on(
    closed: bool, exchange: EmulatorThread, journal: Journal
) -> None:
    account = account_on(exchange, journal)
    account.execute(order(0, "entry", 1))
    exchange.step()
    account.refresh()  # one settlement is booked before
    exchange.step()
    if closed:
        account.execute(order(2, "close", -1))
    again = account_on(exchange, journal, resumed=True)
    total = sum(expected(exchange))
    held = again.ledger.positions.get("BTCUSDT")
    assert (charged(journal) if held is None else [held.funding_usdt]) == pytest.approx([total])
    assert {entry.kind for entry in journal.ledger_entries()} <= {"entry", "exit", "funding"}
    third = account_on(exchange, journal, resumed=True)
    assert third.ledger.wallet_usdt == pytest.approx(again.ledger.wallet_usdt)
    assert sum(entry.kind == "funding" for entry in journal.ledger_entries()) == 2


def test_what_is_written_down_is_let_go_and_books_and_orders_stay_right(
    exchange: EmulatorThread, journal: Journal
) -> None:
    account = account_on(exchange, journal)
    for number in range(4):
        account.execute(order(number, "entry", 1))
        account.let_go()
        exchange.step()
        account.execute(order(number + 1, "close", -1))
        account.let_go()
        account.refresh()
    assert len(account.ledger.fills) == len(account.ledger.trades) == 1
    assert charged(journal) == pytest.approx(expected(exchange))
    assert len(journal.fills()) == 8
    assert len(journal.trades()) == 4
    assert journal.record().wallet_usdt == pytest.approx(float(client_of(exchange).account().wallet_usdt), abs=1e-6)
    again = account_on(exchange, journal, resumed=True)
    assert len(journal.fills()) == 8
    assert again.ledger.wallet_usdt == pytest.approx(account.ledger.wallet_usdt)
