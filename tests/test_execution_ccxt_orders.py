"""The order path on the embedded exchange: late executions, splitting, venue-made closes, stops, start-up, recovery."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broker_contract import COUNT, START_MS, Scripted, rising_candles
from hypothesis import given
from hypothesis import strategies as st
from venue_bench import QUICK, client_of, journal_at, run_on_venue, stepped, store_of, write_candles

from feeds.lines import FLAG_LINES
from smm_bt.app.live_resume import venue_state
from smm_bt.emulator.config import EmulatorConfig
from smm_bt.emulator.faults import FaultRule
from smm_bt.emulator.thread import EmulatorThread
from smm_bt.errors import RunFailed, SettingsError, VenueError
from smm_bt.execution.account_lock import AccountLock
from smm_bt.execution.ccxt_orders import Piece, Ticket
from smm_bt.execution.ccxt_store import CcxtStore
from smm_bt.execution.costs import StopLoss
from smm_bt.execution.endpoints import ForbiddenRequest
from smm_bt.execution.order_ids import ALPHABET, OrderName, client_order_id, order_name, run_prefix
from smm_bt.execution.run_recorder import SentOrder
from smm_bt.execution.settle import Patience
from smm_bt.execution.venue_account import VenueAccount
from smm_bt.execution.venue_client import VenueClient
from smm_bt.execution.venue_errors import CODES, Failure, Kind, Reaction, VenueFault, error_tables, rule_for
from smm_bt.execution.venue_startup import unfinished_ticket
from smm_bt.execution.weight_budget import WeightBudget
from smm_bt.model import OrderState

NO_FLAGS = {name: np.zeros(COUNT, dtype=bool) for name in FLAG_LINES}
DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture
def exchange() -> Iterator[EmulatorThread]:
    with EmulatorThread(stepped()) as running:
        yield running


def account_on(exchange: EmulatorThread, **options: Any) -> VenueAccount:
    return store_of(exchange, **options).open_account()


def ticket(order_id: str, side: int, qty: str, *, reduce_only: bool = False, reason: str = "manual") -> Ticket:
    name = order_name("BTCUSDT", order_id, START_MS)
    return Ticket(order_id, name, side, (Piece(Decimal(qty), reduce_only),), reason)


def entry(number: int = 0, side: int = 1, qty: str = "0.1") -> Ticket:
    return ticket(f"BTCUSDT-{START_MS + number * 300_000}-entry", side, qty)


def close(number: int = 0, side: int = -1, qty: str = "0.1") -> Ticket:
    order_id = f"BTCUSDT-{START_MS + number * 300_000}-close"
    return ticket(order_id, side, qty, reduce_only=True, reason="profit_target")


# ---- unknown outcomes


def test_an_order_that_is_executed_late_is_found_and_not_sent_again(exchange: EmulatorThread) -> None:
    """The answer times out, the order is not there when first asked for, and is executed a little later."""
    account = account_on(exchange, timeout=150, wire_options={"recv_window_ms": 1500})
    exchange.add_fault(FaultRule(kind="delay", method="POST", path="/fapi/v1/order", when="before", delay_ms=500))
    assert account.execute(entry()).state is OrderState.FILLED
    time.sleep(0.6)  # until the late one has been executed, whatever was done meanwhile
    sent = [row for row in exchange.requests() if (row["method"], row["path"]) == ("POST", "/fapi/v1/order")]
    asked = [row for row in exchange.requests() if (row["method"], row["path"]) == ("GET", "/fapi/v1/order")]
    assert len(sent) == 1
    assert any(row["status"] == 400 for row in asked), "it was asked for before it was there"
    assert [order["status"] for order in exchange.ledger()["orders"]] == ["FILLED"]


def test_an_order_proven_absent_is_sent_again_under_another_id(exchange: EmulatorThread) -> None:
    account = account_on(exchange)
    exchange.add_fault(FaultRule(kind="reset", method="POST", path="/fapi/v1/order", when="before"))
    began = time.monotonic()
    assert account.execute(entry()).state is OrderState.FILLED
    assert time.monotonic() - began >= 0.4, "absence is proven only once the request cannot be acted upon any more"
    (order,) = exchange.ledger()["orders"]
    assert order["client_order_id"].endswith("-e1")


def test_a_position_no_trade_explains_stops_the_order_path(exchange: EmulatorThread) -> None:
    account = account_on(exchange)
    account.execute(entry())
    account.ledger.positions.clear()  # the books now believe something else than the venue
    exchange.add_fault(FaultRule(kind="reset", method="POST", path="/fapi/v1/order", when="before"))
    with pytest.raises(VenueError, match="cannot be found, yet the venue holds"):
        account.execute(entry(1))


def test_a_venue_silent_for_too_long_leaves_the_order_unknown_and_says_so(
    exchange: EmulatorThread, tmp_path: Path
) -> None:
    journal = journal_at(tmp_path)
    patience = dataclasses.replace(QUICK, silence_s=0.3)
    account = account_on(exchange, recorder=journal, patience=patience, retries=1)
    exchange.add_fault(FaultRule(kind="reset", path="/fapi/v1/order", when="after", count=None))
    with pytest.raises(VenueError, match=r"not known whether order .* was placed"):
        account.execute(entry())
    exchange.clear_faults()
    (row,) = journal.orders(unfinished_only=True)
    assert row["state"] == "unknown"
    again = account_on(exchange, recorder=journal, resume=venue_state(journal))
    assert again.ledger.positions["BTCUSDT"].qty == 0.1
    assert journal.orders(unfinished_only=True) == []
    assert len(exchange.ledger()["orders"]) == 1
    journal.close()


def test_an_order_recorded_and_never_sent_is_cancelled_on_resume(exchange: EmulatorThread, tmp_path: Path) -> None:
    journal = journal_at(tmp_path)
    account = account_on(exchange, recorder=journal)
    sent = SentOrder("x-entry", "BTCUSDT", "market", 1, 0.1, None, False, "manual")
    account.recorder.record_order(sent, START_MS)
    account_on(exchange, recorder=journal, resume=venue_state(journal))
    assert [state for state, _, _ in journal.order_states("x-entry")] == [OrderState.CREATED, OrderState.CANCELED]
    assert exchange.ledger()["orders"] == []
    journal.close()


# ---- sizes


def test_a_close_larger_than_the_venue_takes_is_split_and_booked_as_one_trade() -> None:
    with EmulatorThread(stepped(balance_usdt=Decimal(100_000_000))) as exchange:
        account = account_on(exchange)
        largest = Decimal(3)
        rules = dataclasses.replace(account.instruments["BTCUSDT"], max_qty=largest)
        account.instruments["BTCUSDT"] = rules
        for ticket_ in (entry(qty="7.5"), close(1, qty="7.5")):
            outcome = account.execute(ticket_)
            assert (outcome.state, len(outcome.rows)) == (OrderState.FILLED, 3)
        assert [order["qty"] for order in exchange.ledger()["orders"]] == ["3.000", "3.000", "1.500"] * 2
        (trade,) = account.ledger.trades
        assert (trade.qty, trade.close_reason) == (7.5, "profit_target")


def test_splitting_keeps_the_quantity_and_every_part_within_the_filters(exchange: EmulatorThread) -> None:
    account = account_on(exchange)
    largest = account.instruments["BTCUSDT"].max_qty
    for qty in (Decimal("0.001"), largest, largest + Decimal("0.001"), largest * 3, largest * 2 + Decimal("0.5")):
        parts = account.desk._split("BTCUSDT", qty)
        assert sum(parts) == qty
        assert all(0 < part <= largest for part in parts)


# ---- what the venue or another hand does


def test_a_close_by_another_hand_is_a_trade_with_reason_manual(exchange: EmulatorThread) -> None:
    account = account_on(exchange)
    account.execute(entry())
    client_of(exchange).send_market_order("BTCUSDT", -1, Decimal("0.1"), "by-hand", reduce_only=True)
    account.refresh()
    assert account.ledger.trades[0].close_reason == "manual"
    assert account.execute(close(1)).state is OrderState.CANCELED


def test_a_position_opened_by_another_hand_stops_the_run(exchange: EmulatorThread) -> None:
    account = account_on(exchange)
    client_of(exchange).send_market_order("BTCUSDT", 1, Decimal("0.1"), "by-hand", reduce_only=False)
    with pytest.raises(VenueError, match="Somebody else opened a position"):
        account.refresh()


def test_a_stop_waits_at_the_venue_moves_with_the_position_and_goes_with_it(exchange: EmulatorThread) -> None:
    account = account_on(exchange, stop_loss=StopLoss(10.0))
    account.execute(entry())
    assert account.stops.sync("BTCUSDT")
    (first,) = client_of(exchange).open_stops()
    assert (first.side, first.qty) == (-1, Decimal("0.1"))
    account.execute(entry(1, qty="0.2"))
    assert account.stops.sync("BTCUSDT")
    (second,) = client_of(exchange).open_stops()
    assert second.qty == Decimal("0.3")
    assert second.client_id != first.client_id
    account.execute(close(2, qty="0.3"))
    assert account.stops.sync("BTCUSDT")
    assert client_of(exchange).open_stops() == []


def test_a_lost_stop_is_armed_again_on_recovery_and_a_waiting_one_is_kept(
    exchange: EmulatorThread, tmp_path: Path
) -> None:
    journal = journal_at(tmp_path)
    account = account_on(exchange, stop_loss=StopLoss(10.0), recorder=journal)
    account.execute(entry())
    account.stops.sync("BTCUSDT")
    (kept,) = client_of(exchange).open_stops()
    again = account_on(exchange, stop_loss=StopLoss(10.0), recorder=journal, resume=venue_state(journal))
    again.stops.sync("BTCUSDT")
    assert [stop.client_id for stop in client_of(exchange).open_stops()] == [kept.client_id]
    client_of(exchange).cancel_stop(kept)
    third = account_on(exchange, stop_loss=StopLoss(10.0), recorder=journal, resume=venue_state(journal))
    third.stops.sync("BTCUSDT")
    assert len(client_of(exchange).open_stops()) == 1
    journal.close()


def test_a_run_without_a_stop_setting_never_touches_the_algo_service(exchange: EmulatorThread) -> None:
    account = account_on(exchange)
    account.execute(entry())
    assert account.stops.sync("BTCUSDT")
    assert not [row for row in exchange.requests() if row["path"] == "/fapi/v1/algoOrder"]


# ---- start-up


def test_start_sets_one_way_isolated_and_twenty_and_may_find_them_set(exchange: EmulatorThread) -> None:
    client = client_of(exchange)
    client.wire.once("fapiPrivatePostPositionSideDual", {"dualSidePosition": "true"}, 1)
    client.set_leverage("BTCUSDT", 5)
    for _ in range(2):
        account_on(exchange)
        assert client.modes() == (False, False)
        assert client.margin_mode_and_leverage("BTCUSDT") == ("ISOLATED", 20)


def test_hedge_mode_with_a_position_is_refused(exchange: EmulatorThread) -> None:
    client = client_of(exchange)
    client.wire.once("fapiPrivatePostPositionSideDual", {"dualSidePosition": "true"}, 1)
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.1", "positionSide": "LONG"}
    client.wire.once("fapiPrivatePostOrder", order, 1, order=True)
    with pytest.raises(VenueError, match="hedge mode and holds BTCUSDT LONG"):
        account_on(exchange)


def test_multi_assets_mode_is_refused(exchange: EmulatorThread) -> None:
    client_of(exchange).wire.once("fapiPrivatePostMultiAssetsMargin", {"multiAssetsMargin": "true"}, 1)
    with pytest.raises(VenueError, match="multi-assets mode"):
        account_on(exchange)


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
def test_a_foreign_position_is_refused_unless_adopted(exchange: EmulatorThread, symbol: str) -> None:
    client = client_of(exchange)
    client.set_isolated_margin(symbol)
    client.send_market_order(symbol, -1, Decimal("0.2"), "by-hand", reduce_only=False)
    with pytest.raises(VenueError, match=f"0.2 {symbol} that this run did not open"):
        account_on(exchange)
    account = account_on(exchange, adopt=True)
    assert {s: p.signed_qty for s, p in account.ledger.positions.items()} == (
        {"BTCUSDT": -0.2} if symbol == "BTCUSDT" else {}
    )


def test_an_adopted_position_in_cross_margin_is_refused(exchange: EmulatorThread) -> None:
    client_of(exchange).send_market_order("BTCUSDT", 1, Decimal("0.2"), "by-hand", reduce_only=False)
    with pytest.raises(VenueError, match="could not be set to isolated at 20x"):
        account_on(exchange, adopt=True)


def test_foreign_orders_are_refused_unless_adopted(exchange: EmulatorThread) -> None:
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "quantity": "0.01", "price": "50000"}
    order |= {"timeInForce": "GTC", "newClientOrderId": "mine"}
    client_of(exchange).wire.once("fapiPrivatePostOrder", order, 1, order=True)
    with pytest.raises(VenueError, match="1 open orders that are not this run's"):
        account_on(exchange)


def test_a_symbol_below_twenty_is_refused(tmp_path: Path) -> None:
    brackets = [
        {
            "symbol": symbol,
            "brackets": [
                {
                    "bracket": 1,
                    "initialLeverage": 10 if symbol == "BTCUSDT" else 50,
                    "notionalCap": 1_000_000,
                    "notionalFloor": 0,
                    "maintMarginRatio": 0.01,
                    "cum": 0.0,
                }
            ],
        }
        for symbol in ("BTCUSDT", "ETHUSDT")
    ]
    path = tmp_path / "brackets.json"
    path.write_text(json.dumps(brackets), "utf-8")
    with EmulatorThread(stepped(brackets=path)) as exchange, pytest.raises(VenueError, match="at most 10x"):
        account_on(exchange)


def test_a_symbol_the_venue_does_not_trade_is_named(exchange: EmulatorThread) -> None:
    with pytest.raises(VenueError, match="NOSUCHUSDT is not traded"):
        account_on(exchange, symbols=("NOSUCHUSDT",))


def test_one_bot_per_account(exchange: EmulatorThread, tmp_path: Path) -> None:
    first = store_of(exchange, lock_folder=tmp_path)
    first.open_account()
    with pytest.raises(RunFailed, match=r"Another bot .* trades this account already"):
        store_of(exchange, lock_folder=tmp_path).open_account()
    assert exchange.api_key not in "".join(path.name for path in tmp_path.iterdir())
    first.close()
    store_of(exchange, lock_folder=tmp_path).open_account()


def test_a_store_that_cannot_start_lets_go_of_the_lock(exchange: EmulatorThread, tmp_path: Path) -> None:
    store = store_of(exchange, lock_folder=tmp_path, symbols=("NOSUCHUSDT",))
    with pytest.raises(VenueError):
        store.open_account()
    AccountLock(tmp_path, store.venue.address, exchange.api_key).acquire()


# ---- Cerebro never sees an exception


def test_a_failure_that_matters_ends_the_run_through_halted_not_through_an_exception(tmp_path: Path) -> None:
    candles = rising_candles()
    config = EmulatorConfig(candles=(write_candles(tmp_path, candles),), start_ms=START_MS)
    with EmulatorThread(config) as exchange:
        exchange.add_fault(FaultRule(kind="error", method="POST", path="/fapi/v1/order", code=-2015, count=None))
        strategy, broker = run_on_venue(
            exchange,
            store_of(exchange),
            {"BTCUSDT": candles},
            {"BTCUSDT": NO_FLAGS},
            strategy=Scripted,
            script={1: lambda s: s.buy(size=0.1)},
        )
    assert "-2015" in str(broker.halted)
    assert [status for _, status, _ in strategy.seen.orders] == ["Submitted", "Accepted", "Rejected"]
    assert len(strategy) < COUNT


# ---- ids, errors, budget, store


@given(
    run=st.text(max_size=60),
    symbol=st.one_of(st.from_regex(r"[A-Z0-9]{2,20}USDT", fullmatch=True), st.text(min_size=1, max_size=20)),
    candle_ms=st.integers(0, 4_102_444_800_000),
    intent=st.one_of(st.sampled_from(["entry", "close", "stop"]), st.text(max_size=30)),
    attempt=st.integers(0, 35),
    part=st.integers(0, 1295),
)
def test_client_order_ids_fit_the_venue_and_are_the_same_each_time(
    run: str, symbol: str, candle_ms: int, intent: str, attempt: int, part: int
) -> None:
    made = client_order_id(run, OrderName(symbol, candle_ms, intent), attempt, part)
    assert ALPHABET.fullmatch(made)
    assert made == client_order_id(run, OrderName(symbol, candle_ms, intent), attempt, part)
    assert made.startswith(run_prefix(run))


def test_different_orders_have_different_ids() -> None:
    names = [
        OrderName(symbol, candle, intent)
        for symbol in ("BTCUSDT", "ETHUSDT")
        for candle in (START_MS, START_MS + 60_000)
        for intent in ("entry", "close", "stop", "entry-2", "close-2", "manual-2", "manual-2-2", "exit-2", "order-1")
    ]
    ids = {client_order_id(run, n, a, p) for run in ("a", "b") for n in names for a in (0, 1) for p in (0, 1, 36)}
    assert len(ids) == 2 * len(names) * 2 * 3


@pytest.mark.parametrize("intent", ["entry", "entry-2", "close", "close-3", "manual-7", "manual-7-2", "exit-1"])
def test_an_order_has_the_same_client_ids_in_the_process_that_sent_it_and_in_the_next(intent: str) -> None:
    order_id = f"BTCUSDT-{START_MS}-{intent}"
    sent = order_name("BTCUSDT", order_id, START_MS + 17 * 300_000)
    found = unfinished_ticket(SentOrder(order_id, "BTCUSDT", "market", 1, 0.1, None, False, "")).name
    assert client_order_id("run", sent, 0) == client_order_id("run", found, 0)


def test_the_error_page_is_the_table_in_the_code() -> None:
    assert (DOCS / "venue_errors.md").read_text("utf-8") == error_tables()


def test_codes_decide_before_statuses_and_what_is_unknown_stops_or_is_asked_about() -> None:
    assert rule_for(Failure(Kind.CODE, "", -2019, 400)).order is Reaction.MARGIN
    assert rule_for(Failure(Kind.CODE, "", -2019, 503)).order is Reaction.MARGIN
    assert rule_for(Failure(Kind.CODE, "", -99999, 400)) == rule_for(Failure(Kind.CODE, "", -88888, 400))
    assert rule_for(Failure(Kind.CODE, "", -99999, 400)).read is Reaction.STOP
    assert rule_for(Failure(Kind.STATUS, "", 0, 451)).read is Reaction.STOP
    assert rule_for(Failure(Kind.STATUS, "", 0, 500)).order is Reaction.ASK


def test_no_rule_sends_an_order_again_whose_outcome_is_not_known() -> None:
    certain = {-1003, -1015, -1021, -2020, -4131}
    again = {code for code, rule in CODES.items() if rule.order in (Reaction.AGAIN, Reaction.WAIT, Reaction.RESYNC)}
    assert again == certain


class HandClock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.time = 0.0

    def now_ms(self) -> int:
        return int(self.time * 1000)

    def seconds(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += max(0.0, seconds)


def test_reads_wait_for_the_weight_budget_and_orders_come_before_them() -> None:
    clock = HandClock()
    budget = WeightBudget(clock, weight_per_minute=100)
    for _ in range(15):
        budget.take(5)
    assert clock.time == 0.0
    budget.take(5, order=True)
    assert clock.time == 0.0
    budget.take(5)
    assert clock.time == pytest.approx(60.0)


def test_no_minute_ever_holds_more_than_the_limit() -> None:
    clock = HandClock()
    budget = WeightBudget(clock, weight_per_minute=60)
    sent: list[tuple[float, int]] = []
    for number in range(400):
        weight = 1 + number % 7
        budget.take(weight, order=number % 5 == 0)
        sent.append((clock.time, weight))
        clock.time += 0.3
    for begin, _ in sent:
        assert sum(weight for at, weight in sent if begin <= at < begin + 60) <= 60


def test_the_venues_own_count_and_its_wish_for_quiet_are_respected() -> None:
    clock = HandClock()
    budget = WeightBudget(clock, weight_per_minute=100)
    budget.learn({"X-MBX-USED-WEIGHT-1M": "90"})
    assert budget.spent == 90
    budget.take(5, order=True)
    budget.take(5)
    assert clock.time == pytest.approx(60.0)
    budget.pause(30)
    budget.take(1, order=True)
    assert clock.time == pytest.approx(90.0)


def test_a_ban_is_waited_out_as_long_as_the_venue_says(exchange: EmulatorThread) -> None:
    client = client_of(exchange)
    exchange.add_fault(FaultRule(kind="http", status=418, path="/fapi/v1/time", retry_after=1, when="before"))
    began = time.monotonic()
    client.server_time_ms()
    assert time.monotonic() - began >= 1.0


@pytest.mark.parametrize("status", [503, 418])
def test_the_venues_time_is_dated_by_the_try_that_was_answered(exchange: EmulatorThread, status: int) -> None:
    """However long the tries before it and the waits between them took."""
    clock = HandClock()
    client = client_of(exchange, clock=clock, budget=WeightBudget(clock), first_wait_s=8.0)
    exchange.add_fault(FaultRule(kind="http", status=status, path="/fapi/v1/time", retry_after=30, when="before"))
    reading = client.clock_reading()
    assert clock.time >= 8.0
    assert reading.steady_s == clock.time
    assert reading.wall_ms == clock.now_ms()
    exchange.add_fault(FaultRule(kind="http", status=status, path="/fapi/v1/time", retry_after=30, when="before"))
    ahead_ms = client.wire.sync_clock()
    assert client.server_time_ms() - clock.now_ms() == ahead_ms


def test_closed_candles_only_in_order_and_without_repeats(exchange: EmulatorThread) -> None:
    client = client_of(exchange)
    whole = client.fetch_closed_candles("BTCUSDT", "5m", limit=40)
    now = client.server_time_ms()
    assert len(whole) == 40
    assert whole[-1].open_ms + 300_000 <= now < whole[-1].open_ms + 600_000
    for kind in ("duplicate_candles", "shuffled_candles"):
        exchange.add_fault(FaultRule(kind=kind, path="/fapi/v1/klines"))
        assert client.fetch_closed_candles("BTCUSDT", "5m", limit=40) == whole
    assert client.fetch_closed_candles("BTCUSDT", "5m", since_ms=whole[10].open_ms, limit=5) == whole[10:15]
    assert client.fetch_closed_candles("BTCUSDT", "5m", since_ms=now) == []


def test_prices_are_exact(exchange: EmulatorThread) -> None:
    client: VenueClient = client_of(exchange)
    ticker = client.fetch_book_ticker("BTCUSDT")
    assert isinstance(ticker.bid, Decimal)
    assert ticker.bid <= ticker.ask
    assert client.fetch_mark_price("BTCUSDT") > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exchange": "binance"}, "not served"),
        ({"currency": "BTC"}, "not served"),
        ({"config": {"apiKey": "a", "secret": "b", "urls": {}}}, "could change where requests go"),
        ({"config": {"apiKey": "a", "secret": "b", "options": {"defaultType": "spot"}}}, "options"),
        ({"config": {"apiKey": "a", "secret": "b", "httpsProxy": "x"}}, "httpsProxy"),
        ({"config": {}}, "apiKey and secret are needed"),
    ],
)
def test_the_store_refuses_what_it_does_not_serve(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        CcxtStore(**arguments)


@pytest.mark.parametrize("sandbox", [True, False])
def test_the_store_takes_ccxtbts_arguments_and_knows_one_kind_of_venue(sandbox: bool) -> None:
    store = CcxtStore("binanceusdm", "USDT", {"apiKey": "a", "secret": "b", "enableRateLimit": True}, 5, True, sandbox)
    assert store.venue.address == "https://demo-fapi.binance.com"
    assert CcxtStore("binanceusdm", "USDT", {"apiKey": "c", "secret": "d"}, 1) is not store
    with pytest.raises(ForbiddenRequest, match="not offered"):
        store.private_end_point("get", "/sapi/v1/capital/withdraw/history")


def test_the_store_answers_what_ccxtbts_users_ask(exchange: EmulatorThread) -> None:
    store = store_of(exchange)
    broker = store.getbroker(broker_mapping={"order_types": {}, "mappings": {}})
    assert store.get_balance() == (10_000.0, 10_000.0)
    assert store.get_wallet_balance("USDT")["USDT"]["free"] == 10_000.0
    assert broker.get_balance() == (10_000.0, 10_000.0)
    assert broker.get_wallet_balance("USDT") == (10_000.0, 10_000.0)
    assert store.get_orders_open() == broker.get_orders_open() == []
    with pytest.raises(ValueError, match="broker_mapping holds colours"):
        store.getbroker(broker_mapping={"colours": {}})


def test_the_stores_feed_delivers_closed_candles_stamped_with_their_close(exchange: EmulatorThread) -> None:
    import backtrader as bt

    store = store_of(exchange)
    feed = store.getdata(
        dataname="BTC/USDT", timeframe=bt.TimeFrame.Minutes, compression=5, ohlcv_limit=30, historical=True
    )
    seen: list[tuple[int, float]] = []

    class Watch(bt.Strategy):
        def next(self) -> None:
            seen.append((self.data.open_ms(), self.data.close[0]))
            assert self.data.datetime.datetime(0).minute % 5 == 0

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feed)
    cerebro.addstrategy(Watch)
    cerebro.run()
    expected = client_of(exchange).fetch_closed_candles("BTCUSDT", "5m", limit=30)
    assert seen == [(kline.open_ms, kline.close) for kline in expected]


def test_patience_grows_and_is_bounded() -> None:
    waits = [Patience().wait_s(number) for number in range(12)]
    assert waits == sorted(waits)
    assert waits[-1] == 2.0


def test_a_fault_names_request_and_meaning_and_no_secret(exchange: EmulatorThread) -> None:
    client = client_of(exchange)
    exchange.add_fault(FaultRule(kind="error", path="/fapi/v3/account", code=-2015))
    with pytest.raises(VenueFault) as caught:
        client.account()
    assert "-2015" in str(caught.value)
    assert exchange.api_key not in repr(caught.value)
