"""Orders that wait together on the embedded exchange: sent back to back, sized one by one, booked afterwards."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broker_contract import COUNT, FRAME_MS, START_MS
from venue_bench import client_of, journal_at, run_on_venue, stepped, store_of, write_candles

from feeds.candles import Candles, check_candles
from smm_bt.app.live_resume import venue_state
from smm_bt.emulator.config import EmulatorConfig
from smm_bt.emulator.faults import FaultRule
from smm_bt.emulator.thread import EmulatorThread
from smm_bt.errors import VenueError
from smm_bt.execution.ccxt_broker import CcxtBroker
from smm_bt.execution.ccxt_client import ApiKeys, TradingWire
from smm_bt.execution.ccxt_orders import Piece, Ticket
from smm_bt.execution.costs import StopLoss
from smm_bt.execution.endpoints import PracticeVenue
from smm_bt.execution.order_ids import order_name
from smm_bt.execution.venue_account import VenueAccount
from smm_bt.execution.venue_client import VenueClient
from smm_bt.execution.venue_rows import BookTicker
from smm_bt.model import OrderState

#: Price at the start, what a candle adds to it, and the venue's step of a market order.
MARKETS = {
    "BTCUSDT": (60_000.0, 60.0, "0.001"),
    "ETHUSDT": (3_000.0, -6.0, "0.001"),
    "SOLUSDT": (150.0, 0.3, "0.01"),
    "LTCUSDT": (100.0, -0.1, "0.001"),
}
SIDES = {"BUY": 1, "SELL": -1}


def straight_candles(symbol: str) -> Candles:
    start, step, _ = MARKETS[symbol]
    close = np.round(start + step * np.arange(1, COUNT + 1), 2)
    opened = np.round(close - step, 2)
    rows = {"open": opened, "high": np.maximum(opened, close), "low": np.minimum(opened, close), "close": close}
    stamps = START_MS + FRAME_MS * np.arange(COUNT)
    return check_candles(symbol, "5m", {"open_ms": stamps, "volume": np.ones(COUNT), **rows})


def reversing() -> dict[str, np.ndarray]:
    """Long from the second candle on, short from the fifth on, flat at the ninth."""
    made = {name: np.zeros(COUNT, dtype=bool) for name in ("buy_signal", "sell_signal", "profit_target_hit")}
    made["buy_signal"][1], made["sell_signal"][4], made["profit_target_hit"][8] = True, True, True
    return made


def config_of(folder: Path, *faults: FaultRule) -> EmulatorConfig:
    files = tuple(write_candles(folder, straight_candles(symbol)) for symbol in MARKETS)
    wide = {"weight_limit_1m": 0, "order_limit_1m": 0, "order_limit_10s": 0}
    return EmulatorConfig(candles=files, start_ms=START_MS, faults=faults, **wide)


def trade_all(exchange: EmulatorThread, **options: Any) -> CcxtBroker:
    """Run every market through an entry, a reversal and a close."""
    store = store_of(exchange, symbols=tuple(MARKETS), **options)
    candles = {symbol: straight_candles(symbol) for symbol in MARKETS}
    _, broker = run_on_venue(exchange, store, candles, dict.fromkeys(MARKETS, reversing()))
    return broker


def calls(rows: list[dict[str, Any]]) -> list[str]:
    """What was asked for, in short: closes and entries told apart, reads by the last word of their path."""
    words = []
    for row in rows:
        word = row["path"].rpartition("/")[2]
        if row["method"] == "POST" and word == "order":
            word = "close" if row["parameters"].get("reduceOnly") == "true" else "entry"
        words.append(word)
    return words


def test_closes_go_out_first_entries_next_and_own_trades_are_read_once_per_symbol_after_them(tmp_path: Path) -> None:
    with EmulatorThread(config_of(tmp_path)) as exchange:
        assert trade_all(exchange).halted is None
        rows = exchange.requests()
    names = calls(rows)
    first = names.index("close")
    assert names[first : first + 4] == ["close"] * 4
    entries = ["account", "bookTicker", "entry"] + ["account", "entry"] * 3
    assert names[first + 4 : first + 4 + len(entries)] == entries
    after = first + 4 + len(entries)  # one read of all prices served every entry of the row
    assert names[after : after + 5] == ["userTrades"] * 4 + ["account"]
    assert [row["parameters"]["symbol"] for row in rows[after : after + 4]] == list(MARKETS)
    assert "order" not in names, "an order whose answer came is not asked for again"
    assert sum(row["weight"] for row in rows[first : after + 5]) == 4 + 4 * 6 + 5 + 4 * 5 + 5


def test_each_entry_takes_a_fifth_of_the_free_balance_the_orders_before_it_have_left(tmp_path: Path) -> None:
    """By hand, from the venue's own trades: wallet less margins, times 0.2 times 20, by the price, down to the step."""
    with EmulatorThread(config_of(tmp_path)) as exchange:
        broker = trade_all(exchange)
        venue = exchange.ledger()
    wallet, held = Decimal(10_000), dict.fromkeys(MARKETS, (Decimal(0), Decimal(0)))
    entries = 0
    for trade in venue["trades"]:
        symbol, qty, price = trade["symbol"], Decimal(trade["qty"]), Decimal(trade["price"])
        size, opened_at = held[symbol]
        if not size:
            free = wallet - sum(abs(size) * at / 20 for size, at in held.values())
            step = Decimal(MARKETS[symbol][2])
            assert qty == free * Decimal("0.2") * 20 / price // step * step
            held[symbol], entries = (SIDES[trade["side"]] * qty, price), entries + 1
        else:
            wallet += size * (price - opened_at)
            held[symbol] = (Decimal(0), Decimal(0))
        wallet -= Decimal(trade["commission"])
    assert entries == 8
    assert len(broker.ledger.trades) == 8
    assert broker.ledger.wallet_usdt == pytest.approx(float(wallet), abs=1e-8)


def test_the_books_hold_the_executions_in_the_order_they_happened(tmp_path: Path) -> None:
    with EmulatorThread(config_of(tmp_path)) as exchange:
        broker = trade_all(exchange)
        venue = exchange.ledger()
    there = [(t["symbol"], SIDES[t["side"]], float(t["qty"]), float(t["price"])) for t in venue["trades"]]
    assert [(f.symbol, f.side, f.qty, f.price) for f in broker.ledger.fills] == there


def test_with_a_stop_setting_each_position_is_protected_before_the_next_one_is_opened(tmp_path: Path) -> None:
    with EmulatorThread(config_of(tmp_path)) as exchange:
        assert trade_all(exchange, stop_loss=StopLoss(10.0)).halted is None
        rows = exchange.requests()
    sent = [(name, row["method"]) for name, row in zip(calls(rows), rows, strict=True)]
    kept = [name for name, method in sent if name == "entry" or (name, method) == ("algoOrder", "POST")]
    assert kept == ["entry", "algoOrder"] * 8


def test_what_was_filled_before_a_refusal_that_stops_the_run_is_booked(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    journal = journal_at(folder)
    rule = FaultRule(kind="error", method="POST", path="/fapi/v1/order", code=-2015, skip=6)
    with EmulatorThread(config_of(tmp_path, rule)) as exchange:
        broker = trade_all(exchange, recorder=journal)
        venue = exchange.ledger()
    assert "-2015" in str(broker.halted)
    assert [trade.symbol for trade in broker.ledger.trades] == ["BTCUSDT", "ETHUSDT"]
    assert len(journal.fills()) == len(venue["trades"]) == 6
    assert journal.orders(unfinished_only=True) == []
    assert [trade.close_reason for trade in journal.trades()] == ["opposite_signal"] * 2
    journal.close()


# ---- the account alone


@pytest.fixture
def exchange() -> Iterator[EmulatorThread]:
    with EmulatorThread(stepped()) as running:
        yield running


def account_on(exchange: EmulatorThread, **options: Any) -> VenueAccount:
    return store_of(exchange, symbols=("BTCUSDT", "ETHUSDT"), **options).open_account()


def ticket(symbol: str, number: int, side: int, qty: str, *, closes: bool = False) -> Ticket:
    order_id = f"{symbol}-{START_MS + number * FRAME_MS}-{'close' if closes else 'entry'}"
    reason = "profit_target" if closes else ""
    return Ticket(order_id, order_name(symbol, order_id, 0), side, (Piece(Decimal(qty), closes),), reason)


def test_a_process_killed_between_sending_and_booking_books_everything_on_resume(
    exchange: EmulatorThread, tmp_path: Path
) -> None:
    journal = journal_at(tmp_path)
    account = account_on(exchange, recorder=journal)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        account.execute(ticket(symbol, 1, 1, "0.1"))
    for symbol in ("BTCUSDT", "ETHUSDT"):
        account.send(ticket(symbol, 2, -1, "0.1", closes=True))
    for symbol in ("BTCUSDT", "ETHUSDT"):
        account.send(ticket(symbol, 2, -1, "0.2"))
    assert len(journal.fills()) == 2
    again = account_on(exchange, recorder=journal, resume=venue_state(journal))
    assert [(trade.symbol, trade.close_reason) for trade in again.ledger.trades] == [
        ("BTCUSDT", "profit_target"),
        ("ETHUSDT", "profit_target"),
    ]
    assert {symbol: held.signed_qty for symbol, held in again.ledger.positions.items()} == {
        "BTCUSDT": -0.2,
        "ETHUSDT": -0.2,
    }
    assert {fill.order_id for fill in journal.fills()} == {row["order_id"] for row in journal.orders()}
    assert journal.orders(unfinished_only=True) == []
    assert len(exchange.ledger()["orders"]) == 6
    assert again.ledger.wallet_usdt == pytest.approx(float(exchange.ledger()["wallet"]), abs=1e-8)
    journal.close()


def test_the_first_order_of_a_symbol_is_booked_on_resume_when_the_process_was_killed_before_it_booked_any(
    exchange: EmulatorThread, tmp_path: Path
) -> None:
    journal = journal_at(tmp_path)
    account_on(exchange, recorder=journal).send(ticket("BTCUSDT", 1, 1, "0.1"))
    assert journal.fills() == []
    again = account_on(exchange, recorder=journal, resume=venue_state(journal))
    assert [(fill.order_id, fill.qty) for fill in journal.fills()] == [(f"BTCUSDT-{START_MS + FRAME_MS}-entry", 0.1)]
    assert again.ledger.positions["BTCUSDT"].signed_qty == 0.1
    assert journal.orders(unfinished_only=True) == []
    assert again.ledger.wallet_usdt == pytest.approx(float(exchange.ledger()["wallet"]), abs=1e-8)
    journal.close()


def test_a_run_killed_before_it_knew_where_its_trades_begin_writes_that_down_when_it_is_resumed(
    exchange: EmulatorThread, tmp_path: Path
) -> None:
    earlier = client_of(exchange)
    for side, name in ((1, "by-hand-1"), (-1, "by-hand-2")):
        earlier.send_market_order("BTCUSDT", side, Decimal("0.1"), name, reduce_only=side < 0)
    journal = journal_at(tmp_path, float(earlier.account().wallet_usdt))
    account_on(exchange, recorder=journal, resume=venue_state(journal)).send(ticket("BTCUSDT", 1, -1, "0.2"))
    again = account_on(exchange, recorder=journal, resume=venue_state(journal))
    assert [(fill.side, fill.qty) for fill in journal.fills()] == [(-1, 0.2)]
    assert again.ledger.positions["BTCUSDT"].signed_qty == -0.2
    assert len(journal.events("fills_begin")) == 1
    journal.close()


def test_trades_from_before_the_run_are_not_its_own_after_it_took_over_a_position_and_was_resumed(
    exchange: EmulatorThread, tmp_path: Path
) -> None:
    other = client_of(exchange)
    other.set_isolated_margin("BTCUSDT")
    other.send_market_order("BTCUSDT", 1, Decimal("0.1"), "by-hand", reduce_only=False)
    journal = journal_at(tmp_path, float(other.account().wallet_usdt))
    account_on(exchange, recorder=journal, adopt=True)
    again = account_on(exchange, recorder=journal, adopt=True, resume=venue_state(journal))
    assert [(fill.order_id, fill.qty) for fill in journal.fills()] == [("adopted-BTCUSDT", 0.1)]
    assert again.ledger.positions["BTCUSDT"].signed_qty == 0.1
    journal.close()


def test_an_order_is_on_disk_before_it_is_sent_and_its_answer_with_the_next_step(
    exchange: EmulatorThread, tmp_path: Path
) -> None:
    journal = journal_at(tmp_path)
    account = account_on(exchange, recorder=journal)
    first, second = ticket("BTCUSDT", 1, 1, "0.1"), ticket("ETHUSDT", 1, 1, "0.1")

    def states(sent: Ticket) -> list[OrderState]:
        return [state for state, _, _ in journal.order_states(sent.order_id)]

    account.send(first)
    assert states(first) == [OrderState.CREATED, OrderState.SUBMITTED]
    account.send(second)
    known = [OrderState.CREATED, OrderState.SUBMITTED, OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED]
    assert states(first) == known
    account.settle()
    assert states(first) == states(second) == [*known, OrderState.FILLED]
    journal.close()


def test_a_look_at_an_account_on_which_nothing_happened_reads_no_trades(exchange: EmulatorThread) -> None:
    account = account_on(exchange)
    account.execute(ticket("BTCUSDT", 1, 1, "0.1"))
    exchange.requests(clear=True)
    account.refresh()
    rows = exchange.requests()
    assert calls(rows) == ["time", "account"]
    assert sum(row["weight"] for row in rows) == 6


def test_only_the_symbol_whose_position_changed_is_read(exchange: EmulatorThread) -> None:
    account = account_on(exchange)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        account.execute(ticket(symbol, 1, 1, "0.1"))
    client_of(exchange).send_market_order("ETHUSDT", -1, Decimal("0.1"), "by-hand", reduce_only=True)
    exchange.requests(clear=True)
    account.refresh()
    trades = [row["parameters"]["symbol"] for row in exchange.requests() if row["path"] == "/fapi/v1/userTrades"]
    assert trades == ["ETHUSDT"]
    assert [trade.close_reason for trade in account.ledger.trades] == ["manual"]


def test_a_position_another_hand_opened_and_closed_between_two_looks_is_found_by_the_wallet(
    exchange: EmulatorThread,
) -> None:
    account = account_on(exchange)
    other = client_of(exchange)
    other.send_market_order("ETHUSDT", 1, Decimal("0.01"), "by-hand-1", reduce_only=False)
    other.send_market_order("ETHUSDT", -1, Decimal("0.01"), "by-hand-2", reduce_only=True)
    with pytest.raises(VenueError, match="Somebody else opened a position in ETHUSDT"):
        account.refresh()


def test_no_entry_is_sized_while_the_venue_holds_what_nothing_explains(exchange: EmulatorThread) -> None:
    account = account_on(exchange)
    account.execute(ticket("BTCUSDT", 1, 1, "0.1"))
    account.ledger.positions.clear()  # the books now believe something else than the venue
    with pytest.raises(VenueError, match="no trade explains it"):
        account.size_entry("ETHUSDT", 1)


# ---- prices of all symbols at once


def test_prices_are_read_past_a_symbol_of_the_venues_list_that_has_none() -> None:
    """The venue lists symbols nobody trades, too: here one without a time, one without a price, one that is no row."""
    whole = {"symbol": "BTCUSDT", "bidPrice": "60000.10", "askPrice": "60000.20", "time": 1735689600000}
    listed = [{**whole, "symbol": "OLDUSDT", "time": None}, {**whole, "symbol": "NEWUSDT", "bidPrice": ""}, None, whole]

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(listed).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        venue = PracticeVenue(f"http://127.0.0.1:{server.server_port}")
        tickers = VenueClient(TradingWire(venue, ApiKeys("key", "secret"), retries=0)).fetch_book_tickers()
    assert tickers == {"BTCUSDT": BookTicker(Decimal("60000.10"), Decimal("60000.20"), 1735689600000)}
