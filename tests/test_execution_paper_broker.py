"""Ordinary bt.Strategy programs on PaperBroker: orders, brackets, notifications, cash and value, analyzers.

Unless a case says otherwise: 10 000 USDT, no fee, one symbol, step 0.001, minimum notional 5 (see made_replays).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import backtrader as bt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_replays import (
    BTC,
    ETH,
    LONG_LIQUIDATION,
    TF,
    Candle,
    T,
    candles,
    costs,
    flags,
    flat,
    funding_rates,
    instrument,
)

from feeds.smm import smm_feed
from smm_bt.execution.instrument import Instrument
from smm_bt.execution.ledger import FuturesLedger
from smm_bt.execution.market_history import market_history
from smm_bt.execution.paper_broker import PaperBroker
from smm_bt.execution.risk_sizer import RiskSizer

Script = dict[int, Callable[[Any], Any]]


class Scripted(bt.Strategy):
    """Runs ``script[n]`` at the close of candle n (from 0) and writes down all it is told."""

    params = (("script", None),)

    def __init__(self) -> None:
        self.orders: list[tuple[int, str, Any]] = []
        self.trades: list[Any] = []
        self.story: list[str] = []
        self.accounts: list[tuple[float, float]] = []

    def prenext(self) -> None:
        self.next()

    def next(self) -> None:
        self.accounts.append((self.broker.getcash(), self.broker.getvalue()))
        action = self.p.script.get(len(self) - 1)
        if action:
            action(self)

    def notify_order(self, order: Any) -> None:
        self.orders.append((order.ref, order.getstatusname(), order))
        self.story.append(order.getstatusname())

    def notify_trade(self, trade: Any) -> None:
        self.trades.append((trade.status_names[trade.status], trade.size, trade.pnl, trade.pnlcomm, trade.commission))
        self.story.append(f"trade {trade.status_names[trade.status]}")

    def statuses(self, order: Any) -> list[str]:
        return [status for ref, status, _ in self.orders if ref == order.ref]

    def last(self, order: Any) -> Any:
        return [note for ref, _, note in self.orders if ref == order.ref][-1]


def run(
    rows: list[Candle] | dict[str, list[Candle]],
    script: Script,
    *,
    fee: float = 0.0,
    stop: float | None = None,
    slippage_bps: float = 0.0,
    balance: float = 10_000.0,
    markets: dict[str, Instrument] | None = None,
    with_history: bool = True,
    funding: Any = None,
    cerebro: bt.Cerebro | None = None,
) -> Any:
    series = rows if isinstance(rows, dict) else {BTC: rows}
    cerebro = cerebro or bt.Cerebro(stdstats=False)
    histories = {s: market_history(candles(r, s), funding=funding) for s, r in series.items()}
    known = markets or {symbol: instrument(symbol) for symbol in series}
    ledger = FuturesLedger(balance, known, costs=costs(fee, slippage_bps, stop))
    cerebro.setbroker(PaperBroker(ledger, histories if with_history else None))
    for symbol, history in histories.items():
        cerebro.adddata(smm_feed(history.candles, flags("." * len(series[symbol]))))
    cerebro.addstrategy(Scripted, script=script)
    (strategy,) = cerebro.run()
    return strategy


class Kept:
    """Keeps what a scripted call returned, so that a later one can use it."""

    def __init__(self) -> None:
        self.order: Any = None
        self.others: list[Any] = []

    def __call__(self, make: Callable[[Any], Any]) -> Callable[[Any], None]:
        def act(strategy: Any) -> None:
            made = make(strategy)
            self.order, *self.others = made if isinstance(made, list) else [made]

        return act


@pytest.fixture
def kept() -> Kept:
    return Kept()


def at_100(count: int) -> list[Candle]:
    return [flat(100)] * count


# market orders


def test_a_market_order_is_submitted_accepted_and_completed_at_the_next_open(kept: Kept) -> None:
    rows = [(100, 105, 95, 104), (107, 110, 106, 109), flat(109)]
    strategy = run(rows, {0: kept(lambda s: s.buy(size=10))})
    assert strategy.statuses(kept.order) == ["Submitted", "Accepted", "Completed"]
    note = strategy.last(kept.order)
    assert (note.executed.price, note.executed.size, note.executed.remsize) == (107, 10, 0)
    assert strategy.position.size == 10
    assert strategy.position.price == 107


def test_a_sell_opens_a_short_and_closing_it_pays_the_difference(kept: Kept) -> None:
    rows = [*map(flat, (100, 100, 100, 90, 90))]
    strategy = run(rows, {0: lambda s: s.sell(size=10), 2: kept(lambda s: s.close())})
    assert strategy.statuses(kept.order)[-1] == "Completed"
    assert strategy.position.size == 0
    assert strategy.broker.getvalue() == pytest.approx(10_100)
    assert strategy.trades[-1][:3] == ("Closed", 0, pytest.approx(100))


def test_close_without_a_position_makes_no_order() -> None:
    made: list[Any] = []
    run(at_100(3), {0: lambda s: made.append(s.close())})
    assert made == [None]


def test_the_trade_record_and_the_order_carry_the_same_fees(kept: Kept) -> None:
    strategy = run(
        [*map(flat, (100, 100, 100, 102, 102))],
        {0: lambda s: s.buy(size=10), 2: kept(lambda s: s.close())},
        fee=0.001,
    )
    assert strategy.last(kept.order).executed.comm == pytest.approx(1.02)
    assert strategy.trades[-1] == ("Closed", 0, pytest.approx(20), pytest.approx(17.98), pytest.approx(2.02))
    (trade,) = strategy.broker.ledger.trades
    assert (trade.close_reason, trade.pnl_usdt) == ("manual", pytest.approx(17.98))


def test_slippage_moves_market_and_stop_orders_but_not_limits(kept: Kept) -> None:
    rows = [*at_100(2), (100, 101, 99, 100), flat(100)]
    for kind, price, expected in ((bt.Order.Market, None, 100.1), (bt.Order.Limit, 99.5, 99.5)):
        run(rows, {1: kept(lambda s, k=kind, p=price: s.buy(size=1, exectype=k, price=p))}, slippage_bps=10)
        assert kept.order.executed.price == pytest.approx(expected)
    run(rows, {1: kept(lambda s: s.buy(size=1, exectype=bt.Order.Stop, price=100.5))}, slippage_bps=10)
    assert kept.order.executed.price == pytest.approx(100.5 * 1.001)


def test_order_ids_reasons_and_reduce_only_reach_the_trade_log() -> None:
    strategy = run(
        at_100(5),
        {
            0: lambda s: s.buy(size=10, order_id="my-entry"),
            2: lambda s: s.sell(size=25, reduce_only=True, reason="profit_target", order_id="my-exit"),
        },
    )
    (trade,) = strategy.broker.ledger.trades
    assert (trade.entry_order_id, trade.exit_order_id, trade.close_reason) == ("my-entry", "my-exit", "profit_target")
    assert strategy.position.size == 0  # 25 were offered to close 10, and no short was opened


def test_reduce_only_without_a_position_is_cancelled_with_its_reason(kept: Kept) -> None:
    strategy = run(at_100(3), {0: kept(lambda s: s.sell(size=1, reduce_only=True))})
    assert strategy.statuses(kept.order) == ["Submitted", "Accepted", "Canceled"]
    assert strategy.last(kept.order).info.why == "there is no position left to reduce"


# resting orders


def test_a_limit_order_waits_and_fills_at_its_limit(kept: Kept) -> None:
    rows = [flat(100), (100, 101, 99.5, 100), (100, 101, 98, 99), flat(99)]
    run(rows, {0: kept(lambda s: s.buy(size=1, exectype=bt.Order.Limit, price=99))})
    assert kept.order.executed.price == 99
    assert bt.num2date(kept.order.executed.dt).minute == 15  # the close stamp of candle 2


def test_touching_a_limit_is_enough(kept: Kept) -> None:
    rows = [flat(100), (100, 101, 99, 100), flat(100)]
    run(rows, {0: kept(lambda s: s.buy(size=1, exectype=bt.Order.Limit, price=99))})
    assert kept.order.status == kept.order.Completed


def test_a_limit_order_that_is_marketable_fills_at_the_better_open(kept: Kept) -> None:
    rows = [flat(100), (97, 98, 96, 97), flat(97)]
    run(rows, {0: kept(lambda s: s.buy(size=1, exectype=bt.Order.Limit, price=99))})
    assert kept.order.executed.price == 97
    run([flat(100), flat(103), flat(103)], {0: kept(lambda s: s.sell(size=1, exectype=bt.Order.Limit, price=101))})
    assert kept.order.executed.price == 103


def test_a_limit_order_that_is_not_reached_keeps_working(kept: Kept) -> None:
    strategy = run(at_100(4), {0: kept(lambda s: s.buy(size=1, exectype=bt.Order.Limit, price=99))})
    assert strategy.statuses(kept.order) == ["Submitted", "Accepted"]
    assert strategy.broker.get_orders_open() == [kept.order]
    assert strategy.broker.orderstatus(kept.order) == kept.order.Accepted


def test_a_stop_order_fills_at_its_trigger_or_at_a_worse_open(kept: Kept) -> None:
    stop = bt.Order.Stop
    run([flat(100), (100, 103, 100, 102), flat(102)], {0: kept(lambda s: s.buy(size=1, exectype=stop, price=102))})
    assert kept.order.executed.price == 102
    run([flat(100), (104, 105, 103, 104), flat(104)], {0: kept(lambda s: s.buy(size=1, exectype=stop, price=102))})
    assert kept.order.executed.price == 104
    run([flat(100), (96, 97, 95, 96), flat(96)], {0: kept(lambda s: s.sell(size=1, exectype=stop, price=98))})
    assert kept.order.executed.price == 96


def test_a_stop_limit_order_triggered_inside_a_candle_works_as_a_limit_from_the_next_one(kept: Kept) -> None:
    rows = [flat(100), (100, 103, 100, 102), (102, 102, 100.5, 101), flat(101)]
    make = kept(lambda s: s.buy(size=1, exectype=bt.Order.StopLimit, price=102, plimit=101))
    run(rows, {0: make})
    assert kept.order.executed.price == 101
    assert bt.num2date(kept.order.executed.dt).minute == 15


def test_a_stop_limit_order_triggered_by_the_open_may_fill_there_or_later_in_that_candle(kept: Kept) -> None:
    make = kept(lambda s: s.buy(size=1, exectype=bt.Order.StopLimit, price=102, plimit=103.5))
    run([flat(100), (103, 104, 103, 103), flat(103)], {0: make})
    assert kept.order.executed.price == 103
    make = kept(lambda s: s.buy(size=1, exectype=bt.Order.StopLimit, price=102, plimit=102.5))
    run([flat(100), (103, 104, 102, 103), flat(103)], {0: make})
    assert kept.order.executed.price == 102.5


def test_a_stop_limit_order_whose_limit_is_never_reached_does_not_fill(kept: Kept) -> None:
    rows = [flat(100), (100, 103, 100, 103), *[flat(103)] * 2]
    run(rows, {0: kept(lambda s: s.buy(size=1, exectype=bt.Order.StopLimit, price=102, plimit=101))})
    assert kept.order.alive()


def test_an_order_with_an_end_of_validity_expires_and_says_so(kept: Kept) -> None:
    limit = {"exectype": bt.Order.Limit, "price": 99.0, "valid": timedelta(minutes=10)}
    rows = [*at_100(4), flat(99), flat(99)]
    strategy = run(rows, {0: kept(lambda s: s.buy(size=1, **limit))})
    assert strategy.statuses(kept.order) == ["Submitted", "Accepted", "Expired"]
    assert strategy.last(kept.order).info.why == "its validity ended"
    assert strategy.position.size == 0


def test_a_cancelled_order_is_not_filled_and_a_second_cancel_changes_nothing(kept: Kept) -> None:
    answers: list[bool] = []
    strategy = run(
        [*at_100(3), flat(99), flat(99)],
        {
            0: kept(lambda s: s.buy(size=1, exectype=bt.Order.Limit, price=99)),
            1: lambda s: answers.extend([s.broker.cancel(kept.order), s.broker.cancel(kept.order)]),
        },
    )
    assert answers == [True, False]
    assert strategy.statuses(kept.order) == ["Submitted", "Accepted", "Canceled"]
    assert strategy.last(kept.order).info.why == "cancelled by the strategy"
    assert strategy.position.size == 0


# brackets and groups


def bracket(strategy: Any) -> list[Any]:
    orders: list[Any] = strategy.buy_bracket(
        size=1, exectype=bt.Order.Market, stopprice=95.0, limitprice=105.0, price=None
    )
    return orders


def test_a_brackets_children_wait_for_their_parent_and_the_limit_cancels_the_stop(kept: Kept) -> None:
    rows = [flat(100), flat(100), flat(100), (100, 106, 100, 105), (90, 91, 89, 90), flat(90)]
    strategy = run(rows, {0: kept(bracket)})
    stop, limit = kept.others
    assert strategy.statuses(kept.order) == ["Submitted", "Accepted", "Completed"]
    assert strategy.statuses(limit) == ["Submitted", "Accepted", "Completed"]
    assert strategy.statuses(stop) == ["Submitted", "Accepted", "Canceled"]
    assert limit.executed.price == 105
    assert strategy.position.size == 0
    assert strategy.broker.get_orders_open() == []


def test_a_brackets_stop_cancels_the_limit(kept: Kept) -> None:
    rows = [flat(100), flat(100), (100, 100, 94, 96), (106, 107, 105, 106), flat(106)]
    strategy = run(rows, {0: kept(bracket)})
    stop, limit = kept.others
    assert stop.executed.price == 95
    assert strategy.statuses(limit)[-1] == "Canceled"
    assert strategy.position.size == 0


def test_when_a_candle_reaches_both_legs_the_stop_is_taken(kept: Kept) -> None:
    rows = [flat(100), flat(100), (100, 106, 94, 100), flat(100)]
    run(rows, {0: kept(bracket)})
    stop, limit = kept.others
    assert (stop.getstatusname(), limit.getstatusname()) == ("Completed", "Canceled")


def test_a_parent_that_is_cancelled_takes_its_children_with_it(kept: Kept) -> None:
    strategy = run(
        at_100(4),
        {
            0: kept(lambda s: s.buy_bracket(size=1, price=90.0, stopprice=85.0, limitprice=95.0)),
            1: lambda s: s.cancel(kept.order),
        },
    )
    assert {order.getstatusname() for order in (kept.order, *kept.others)} == {"Canceled"}
    assert strategy.broker.get_orders_open() == []


def test_children_do_not_work_before_their_parent_is_filled(kept: Kept) -> None:
    # The limit parent at 98 waits while the price runs through the profit leg at 105.
    rows = [flat(100), (100, 106, 99, 106), (106, 106, 97, 99), flat(99)]
    strategy = run(rows, {0: kept(lambda s: s.buy_bracket(size=1, price=98.0, stopprice=90.0, limitprice=105.0))})
    stop, limit = kept.others
    assert kept.order.executed.price == 98
    assert (stop.getstatusname(), limit.getstatusname()) == ("Accepted", "Accepted")
    assert strategy.position.size == 1


def test_the_stop_leg_works_in_the_candle_that_fills_its_limit_parent(kept: Kept) -> None:
    # From an open of 106 the price cannot reach 89 without passing the parent's 98 and the stop's 90.
    rows = [flat(100), flat(106), (106, 106, 89, 99), flat(99)]
    strategy = run(rows, {1: kept(lambda s: s.buy_bracket(size=1, price=98.0, stopprice=90.0, limitprice=105.0))})
    stop, limit = kept.others
    assert (stop.getstatusname(), stop.executed.price) == ("Completed", 90)
    assert limit.getstatusname() == "Canceled"
    assert strategy.position.size == 0


def test_a_position_entered_inside_a_candle_may_be_liquidated_in_it() -> None:
    rows = [flat(100), (100, 100, 90, 95), flat(95)]
    for kind, price in ((bt.Order.Limit, 99.0), (bt.Order.Stop, 99.0)):
        enter = "buy" if kind == bt.Order.Limit else "sell"
        around = rows if enter == "buy" else [flat(100), (100, 110, 98, 100), flat(100)]
        make = {0: lambda s, e=enter, k=kind, p=price: getattr(s, e)(size=400, exectype=k, price=p)}
        assert run(around, make).broker.ledger.trades[0].close_reason == "liquidation"


def test_a_position_entered_inside_a_candle_may_be_stopped_in_it() -> None:
    rows = [flat(100), (100, 100, 95.5, 96), flat(96)]
    script: Script = {0: lambda s: s.buy(size=10, exectype=bt.Order.Limit, price=99.0)}
    (trade,) = run(rows, script, stop=3).broker.ledger.trades
    assert (trade.close_reason, trade.exit_price) == ("stop_loss", pytest.approx(99 * 0.97))


def test_one_cancels_the_other(kept: Kept) -> None:
    def both(strategy: Any) -> list[Any]:
        low = strategy.buy(size=1, exectype=bt.Order.Limit, price=95.0)
        high = strategy.sell(size=1, exectype=bt.Order.Limit, price=105.0, oco=low)
        return [low, high]

    strategy = run([*at_100(2), (100, 105.5, 100, 105), (94, 95, 93, 94), flat(94)], {0: kept(both)})
    low, (high,) = kept.order, kept.others
    assert strategy.statuses(high)[-1] == "Completed"
    assert strategy.statuses(low)[-1] == "Canceled"
    assert strategy.position.size == -1


def test_an_order_that_is_not_transmitted_waits_for_one_that_is(kept: Kept) -> None:
    def held(strategy: Any) -> list[Any]:
        parent = strategy.buy(size=1, transmit=False)
        return [parent]

    strategy = run(at_100(4), {0: kept(held)})
    assert strategy.orders == []
    assert strategy.position.size == 0


# refusals


def test_an_order_beyond_the_margin_ends_as_margin_with_figures(kept: Kept) -> None:
    strategy = run(at_100(3), {0: kept(lambda s: s.buy(size=2_001))})
    assert strategy.statuses(kept.order) == ["Submitted", "Accepted", "Margin"]
    assert strategy.last(kept.order).info.why == "10005 USDT of margin and fee are needed, 10000 USDT are free"
    assert strategy.position.size == 0


def test_exactly_the_free_balance_is_enough_and_the_fee_counts(kept: Kept) -> None:
    run(at_100(3), {0: kept(lambda s: s.buy(size=2_000))})
    assert kept.order.status == kept.order.Completed
    run(at_100(3), {0: kept(lambda s: s.buy(size=2_000))}, fee=0.0001)
    assert kept.order.status == kept.order.Margin


@pytest.mark.parametrize(
    ("size", "why"),
    [
        (0.0004, "quantity 0.0004 of BTCUSDT is outside the venue's 0.001 to 1000000"),
        (1_000_001, "quantity 1e+06 of BTCUSDT is outside the venue's 0.001 to 1000000"),
        (0.01, "notional 1 USDT is below 5 USDT"),
    ],
)
def test_an_order_the_venue_would_refuse_ends_as_rejected_with_the_reason(size: float, why: str, kept: Kept) -> None:
    strategy = run(at_100(3), {0: kept(lambda s: s.buy(size=size))}, balance=1e9)
    assert strategy.statuses(kept.order) == ["Submitted", "Accepted", "Rejected"]
    assert strategy.last(kept.order).info.why == why


def test_an_order_type_the_venue_does_not_know_is_rejected_at_once(kept: Kept) -> None:
    strategy = run(at_100(3), {0: kept(lambda s: s.buy(size=1, exectype=bt.Order.StopTrail, trailamount=1.0))})
    assert strategy.statuses(kept.order) == ["Submitted", "Rejected"]
    assert strategy.last(kept.order).info.why == "order type StopTrail is not supported"


def test_an_order_for_a_symbol_without_market_rules_is_rejected(kept: Kept) -> None:
    strategy = run(at_100(3), {0: kept(lambda s: s.buy(size=1))}, markets={ETH: instrument(ETH)})
    assert strategy.statuses(kept.order) == ["Submitted", "Rejected"]
    assert strategy.last(kept.order).info.why == "no market rules are known for 'BTCUSDT'"


def test_history_of_orders_and_funds_is_refused_in_words() -> None:
    broker = PaperBroker(FuturesLedger(1.0, {}))
    with pytest.raises(NotImplementedError, match="order history is not supported"):
        broker.add_order_history([])
    with pytest.raises(NotImplementedError, match="fund history is not supported"):
        broker.set_fund_history(None)


# quantities


def test_an_opening_quantity_is_rounded_down_to_the_step(kept: Kept) -> None:
    strategy = run(at_100(3), {0: kept(lambda s: s.buy(size=1.2349))})
    assert strategy.position.size == 1.234
    assert kept.order.executed.size == 1.234
    assert kept.order.executed.remsize == 0


def test_a_reducing_quantity_is_rounded_down_to_the_step_too(kept: Kept) -> None:
    strategy = run(
        at_100(6), {0: lambda s: s.buy(size=1), 1: kept(lambda s: s.sell(size=0.25049)), 3: lambda s: s.close()}
    )
    assert kept.order.executed.size == -0.25
    assert strategy.position.size == 0
    (trade,) = strategy.broker.ledger.trades
    assert (trade.qty, trade.exit_price) == (1.0, 100.0)


def test_less_than_a_step_cannot_be_reduced(kept: Kept) -> None:
    strategy = run(at_100(4), {0: lambda s: s.buy(size=1), 1: kept(lambda s: s.sell(size=0.0004))})
    assert strategy.statuses(kept.order)[-1] == "Rejected"
    assert "quantity 0.0004 of BTCUSDT is outside" in strategy.last(kept.order).info.why
    assert strategy.position.size == 1


def test_float_dust_never_leaves_a_ghost_position() -> None:
    strategy = run(
        at_100(8),
        {
            0: lambda s: s.buy(size=0.1),
            1: lambda s: s.buy(size=0.2),
            3: lambda s: s.sell(size=0.3),
        },
    )
    assert strategy.position.size == 0
    assert not strategy.position
    assert [status for status, *_ in strategy.trades] == ["Open", "Closed"]
    parts = run(at_100(8), {0: lambda s: s.buy(size=0.3)} | {n: lambda s: s.sell(size=0.1) for n in (2, 3, 4)})
    assert not parts.position
    assert parts.trades[-1][0] == "Closed"


def test_float_dust_in_the_size_of_an_order_costs_no_step(kept: Kept) -> None:
    strategy = run(at_100(5), {0: lambda s: s.buy(size=0.3), 2: kept(lambda s: s.order_target_size(target=0.2))})
    assert kept.order.size != -0.1  # Backtrader asks for 0.09999999999999998
    assert strategy.position.size == 0.2


def test_order_target_size_reaches_its_target_from_any_position() -> None:
    script: Script = {n: lambda s, size=size: s.order_target_size(target=size) for n, size in enumerate((5, 2, -3, 0))}
    sizes: list[float] = []
    script = {n: (lambda s, a=a: (sizes.append(s.position.size), a(s))) for n, a in script.items()}
    strategy = run(at_100(7), script)
    assert sizes == [0, 5, 2, -3]
    assert strategy.position.size == 0


# pyramiding, partial closes, reversal


def test_pyramiding_averages_the_entry_and_partial_closes_keep_it() -> None:
    rows = [*map(flat, (100, 100, 104, 110, 100, 100))]
    seen: list[tuple[float, float]] = []
    note = lambda s: seen.append((s.position.size, s.position.price))  # noqa: E731
    strategy = run(
        rows,
        {
            0: lambda s: s.buy(size=1),
            1: lambda s: s.buy(size=3),
            2: lambda s: (note(s), s.sell(size=2)),
            3: lambda s: (note(s), s.close()),
        },
    )
    assert seen == [(4, 103), (2, 103)]
    (trade,) = strategy.broker.ledger.trades
    # 2 at 110 and 2 at 100 against an average of 103: +14 − 6.
    assert (trade.qty, trade.entry_price, trade.exit_price, trade.gross_pnl_usdt) == (4, 103, 105, pytest.approx(8))
    assert strategy.trades[-1][:3] == ("Closed", 0, pytest.approx(8))


def test_a_reversal_in_one_order_closes_one_trade_and_opens_another_and_splits_the_commission(kept: Kept) -> None:
    rows = [*map(flat, (100, 100, 100, 110, 110))]
    strategy = run(rows, {0: lambda s: s.buy(size=2), 2: kept(lambda s: s.sell(size=5))}, fee=0.001)
    assert strategy.position.size == -3
    assert strategy.position.price == 110
    closed, opened = strategy.trades[-2:]
    # Opening 2 at 100: 0.2; closing them at 110: 0.22; opening 3 at 110: 0.33.
    assert closed == ("Closed", 0, pytest.approx(20), pytest.approx(19.58), pytest.approx(0.42))
    assert (opened[0], opened[1], opened[4]) == ("Open", -3, pytest.approx(0.33))
    assert kept.order.executed.comm == pytest.approx(0.55)
    assert strategy.statuses(kept.order) == ["Submitted", "Accepted", "Completed"]
    assert [t.side for t in strategy.broker.ledger.trades] == ["long"]


def test_a_reversal_whose_new_side_is_not_affordable_still_closes(kept: Kept) -> None:
    strategy = run(at_100(5), {0: lambda s: s.buy(size=2), 2: kept(lambda s: s.sell(size=2_500))})
    assert strategy.position.size == 0
    assert strategy.statuses(kept.order)[-1] == "Margin"
    assert [status for status, *_ in strategy.trades] == ["Open", "Closed"]


# cash and value


def test_cash_is_the_free_balance_and_value_the_equity_at_every_bar() -> None:
    rows = [*map(flat, (100, 100, 104, 98, 98, 98))]
    strategy = run(rows, {0: lambda s: s.buy(size=200), 3: lambda s: s.close()}, fee=0.001)
    # Entry: fee 20, margin 1 000. At 104: +800, at 98: −400. Exit at 98: fee 19.6, −400 realised.
    assert strategy.accounts == [
        (10_000, 10_000),
        (pytest.approx(8_980), pytest.approx(9_980)),
        (pytest.approx(8_980), pytest.approx(10_780)),
        (pytest.approx(8_980), pytest.approx(9_580)),
        (pytest.approx(9_560.4), pytest.approx(9_560.4)),
        (pytest.approx(9_560.4), pytest.approx(9_560.4)),
    ]


def test_the_value_of_some_datas_is_their_margin_and_unrealised_pnl() -> None:
    values: list[float] = []
    run(
        {BTC: [*map(flat, (100, 100, 104))], ETH: [*map(flat, (50, 50, 50))]},
        {
            0: lambda s: (s.buy(s.data0, size=10), s.sell(s.data1, size=4)),
            2: lambda s: values.extend(
                [s.broker.getvalue([s.data0]), s.broker.getvalue([s.data1]), s.broker.getvalue([])]
            ),
        },
    )
    # 10 × 100 / 20 + 40; 4 × 50 / 20; nothing.
    assert values == [pytest.approx(90), pytest.approx(10), 0]


def test_both_spellings_of_cash_and_value_are_there() -> None:
    broker = PaperBroker(FuturesLedger(123.0, {}))
    assert broker.getcash() == broker.get_cash() == broker.getvalue() == broker.get_value() == 123.0
    assert broker.startingcash == broker.startingvalue == 123.0


orders_made = st.lists(
    st.tuples(st.integers(0, 28), st.sampled_from(["buy", "sell", "close"]), st.integers(1, 30_000)), max_size=12
)


@given(made=orders_made, closes=st.lists(st.integers(9_700, 10_300), min_size=30, max_size=30))
@settings(max_examples=100, deadline=None)
def test_the_sum_of_trades_is_the_change_of_equity_without_funding(
    made: list[tuple[int, str, int]], closes: list[int]
) -> None:
    rows = [flat(price / 100) for price in closes]
    script: Script = {29: lambda s: None}

    def act(strategy: Any) -> None:
        for bar, what, thousandths in made:
            if bar == len(strategy) - 1:
                getattr(strategy, what)(size=thousandths / 1000)

    for bar in range(28):
        script[bar] = act
    script[28] = lambda s: s.close()
    strategy = run(rows, script, fee=0.0005)
    net = sum(trade[3] for trade in strategy.trades if trade[0] == "Closed")
    assert strategy.position.size == 0
    assert strategy.broker.getvalue() == pytest.approx(10_000 + net)
    assert strategy.broker.getcash() == strategy.broker.getvalue()
    for cash, value in strategy.accounts:
        assert cash >= 0
        assert value > 0


# what the venue does by itself


def test_a_liquidation_is_told_as_a_completed_order_and_a_closed_trade() -> None:
    rows = [flat(100), flat(100), (100, 100, 90, 95), flat(95), flat(95)]
    strategy = run(rows, {0: lambda s: s.buy(size=400)})
    assert strategy.story == [
        *["Submitted", "Accepted", "Completed", "trade Open"],
        *["Completed", "trade Closed"],
    ]
    _, _, order = strategy.orders[-1]
    assert order.info.reason == "liquidation"
    assert order.info.order_id == f"BTCUSDT-{T[2]}-liquidation"
    assert order.executed.price == pytest.approx(LONG_LIQUIDATION)
    assert strategy.trades[-1][3] == pytest.approx(-2_000)
    assert strategy.position.size == 0
    assert strategy.broker.getcash() == pytest.approx(8_000)


def test_a_stop_loss_is_told_as_a_completed_order_and_a_closed_trade() -> None:
    rows = [flat(100), flat(100), (100, 100, 96, 98), flat(98)]
    strategy = run(rows, {0: lambda s: s.sell(size=10), 1: lambda s: s.close()}, stop=3)
    assert strategy.position.size == 0
    strategy = run(rows, {0: lambda s: s.buy(size=10)}, stop=3)
    _, status, order = strategy.orders[-1]
    assert (status, order.info.reason, order.executed.price) == ("Completed", "stop_loss", pytest.approx(97))
    assert order.info.reduce_only is True
    assert strategy.trades[-1][:3] == ("Closed", 0, pytest.approx(-30))


def test_a_liquidation_after_a_partial_close_is_told_at_its_own_price() -> None:
    rows = [flat(100), flat(100), flat(110), flat(110), (100, 100, 90, 95), flat(95)]
    strategy = run(rows, {0: lambda s: s.buy(size=400), 1: lambda s: s.sell(size=100)})
    assert strategy.orders[-1][2].executed.price == pytest.approx(LONG_LIQUIDATION)
    # 100 at 110 earned 1 000; the margin of the other 300, 1 500, is lost.
    assert strategy.trades[-1][3] == pytest.approx(1_000 - 1_500)
    assert strategy.broker.getvalue() == pytest.approx(9_500)


def test_orders_still_working_on_a_symbol_end_when_the_venue_closes_its_position(kept: Kept) -> None:
    rows = [flat(100), flat(100), (100, 100, 90, 95), (110, 111, 109, 110), flat(110)]
    strategy = run(
        rows, {0: lambda s: s.buy(size=400), 1: kept(lambda s: s.sell(size=400, exectype=bt.Order.Limit, price=109))}
    )
    assert strategy.statuses(kept.order)[-1] == "Canceled"
    assert strategy.last(kept.order).info.why == "the position was closed: liquidation"
    assert strategy.position.size == 0


def test_a_stop_order_of_the_strategy_is_looked_at_before_the_liquidation(kept: Kept) -> None:
    rows = [flat(100), flat(100), (100, 100, 90, 95), flat(95)]
    run(
        rows,
        {0: lambda s: s.buy(size=400), 1: kept(lambda s: s.sell(size=400, exectype=bt.Order.Stop, price=97))},
    )
    assert kept.order.executed.price == 97


def test_a_limit_order_is_looked_at_after_the_liquidation(kept: Kept) -> None:
    rows = [flat(100), flat(100), (100, 105, 90, 95), flat(95)]
    strategy = run(
        rows,
        {0: lambda s: s.buy(size=400), 1: kept(lambda s: s.sell(size=400, exectype=bt.Order.Limit, price=104))},
    )
    assert strategy.broker.ledger.trades[0].close_reason == "liquidation"


def test_funding_is_paid_from_cash_and_belongs_to_no_order() -> None:
    strategy = run(at_100(4), {0: lambda s: s.buy(size=10)}, funding=funding_rates((T[2], 0.01)))
    assert [value for _, value in strategy.accounts] == [10_000, 10_000, 9_990, 9_990]
    assert len(strategy.orders) == 3


# more than one data


def test_several_datas_are_traded_on_one_balance() -> None:
    strategy = run(
        {BTC: [*map(flat, (100, 100, 110, 110))], ETH: [*map(flat, (50, 50, 45, 45))]},
        {0: lambda s: (s.buy(s.data0, size=10), s.sell(s.data1, size=20))},
    )
    assert strategy.getposition(strategy.data0).size == 10
    assert strategy.getposition(strategy.data1).size == -20
    assert strategy.broker.getcash() == pytest.approx(10_000 - 50 - 50)
    assert strategy.broker.getvalue() == pytest.approx(10_000 + 100 + 100)


def test_a_position_asked_for_is_a_copy_unless_wanted_otherwise() -> None:
    strategy = run(at_100(3), {0: lambda s: s.buy(size=10)})
    copy = strategy.broker.getposition(strategy.data)
    copy.size = 99
    assert strategy.position.size == 10
    live = strategy.broker.getposition(strategy.data, clone=False)
    assert live is strategy.broker.getposition(strategy.data, clone=False)


def test_an_ordinary_pandas_feed_is_traded_too() -> None:
    index = pd.date_range("2025-01-01", periods=4, freq="5min")
    frame = pd.DataFrame({n: [100.0, 100, 103, 103] for n in ("open", "high", "low", "close")}, index=index)
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.setbroker(PaperBroker(FuturesLedger(10_000.0, {BTC: instrument()}, costs=costs())))
    cerebro.adddata(bt.feeds.PandasData(dataname=frame.assign(volume=1.0), name=BTC))
    cerebro.addstrategy(Scripted, script={0: lambda s: s.buy(size=10), 2: lambda s: s.close()})
    (strategy,) = cerebro.run()
    (trade,) = strategy.broker.ledger.trades
    assert (trade.gross_pnl_usdt, trade.entry_ms, trade.exit_ms) == (pytest.approx(30), T[1], T[3])


def test_without_a_history_the_candles_own_range_liquidates() -> None:
    rows = [flat(100), flat(100), (100, 100, 90, 95), flat(95)]
    strategy = run(rows, {0: lambda s: s.buy(size=400)}, with_history=False)
    assert strategy.broker.ledger.trades[0].close_reason == "liquidation"


# Backtrader's own analyzers, observers and sizers


def test_backtraders_own_analyzers_and_observers_run_and_agree() -> None:
    cerebro = bt.Cerebro(stdstats=True)
    cerebro.addobserver(bt.observers.DrawDown)
    analyzers = {"trades": bt.analyzers.TradeAnalyzer, "drawdown": bt.analyzers.DrawDown}
    analyzers |= {"returns": bt.analyzers.TimeReturn, "sqn": bt.analyzers.SQN}
    for name, analyzer in analyzers.items():
        cerebro.addanalyzer(analyzer, _name=name)
    rows = [*map(flat, (100, 100, 110, 110, 110, 104, 104))]
    strategy = run(
        rows,
        {
            0: lambda s: s.buy(size=100),
            1: lambda s: s.close(),
            3: lambda s: s.buy(size=100),
            4: lambda s: s.close(),
        },
        cerebro=cerebro,
    )
    found = strategy.analyzers.trades.get_analysis()
    assert (found.total.closed, found.won.total, found.lost.total) == (2, 1, 1)
    assert found.pnl.net.total == pytest.approx(1_000 - 600)
    # The peak is 11 000; the fall to 10 400 is 5.4545 % of it.
    assert strategy.analyzers.drawdown.get_analysis().max.drawdown == pytest.approx(100 * 600 / 11_000)
    assert strategy.analyzers.drawdown.get_analysis().max.moneydown == pytest.approx(600)
    returns = strategy.analyzers.returns.get_analysis().values()
    assert math.prod(1 + each for each in returns) == pytest.approx(1.04)
    assert strategy.analyzers.sqn.get_analysis().trades == 2
    assert strategy.observers.broker.lines.value[0] == pytest.approx(10_400)
    assert strategy.observers.broker.lines.cash[0] == pytest.approx(10_400)


def test_the_risk_sizer_takes_a_fifth_of_the_cash_at_20x() -> None:
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.addsizer(RiskSizer)
    strategy = run(at_100(4), {0: lambda s: s.buy(), 1: lambda s: s.buy()}, cerebro=cerebro)
    # 10 000 × 4 / 100, then 8 000 × 4 / 100.
    assert strategy.position.size == 720


def test_an_order_sized_at_its_fill_is_sized_on_what_the_close_before_it_freed(kept: Kept) -> None:
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.addsizer(RiskSizer)
    rows = [*map(flat, (100, 100, 100, 110, 110))]
    strategy = run(
        rows,
        {
            0: lambda s: s.buy(sized_at_fill=True),
            2: lambda s: (s.close(reduce_only=True), kept(lambda x: x.sell(sized_at_fill=True))(s)),
        },
        cerebro=cerebro,
    )
    assert strategy.position.size == -509.09
    assert kept.order.executed.size == -509.09


def test_an_entry_that_cannot_be_sized_is_cancelled_with_figures_and_remembered(kept: Kept) -> None:
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.addsizer(RiskSizer)
    poor = {BTC: instrument(min_notional=Decimal(50_000))}
    strategy = run(at_100(3), {0: kept(lambda s: s.buy(sized_at_fill=True))}, markets=poor, cerebro=cerebro)
    assert strategy.statuses(kept.order) == ["Submitted", "Accepted", "Canceled"]
    why = strategy.last(kept.order).info.why
    assert "notional 40000" in why
    assert "minimum notional 50000 USDT" in why
    (skipped,) = strategy.broker.skipped_entries
    assert (skipped.symbol, skipped.side, skipped.time_ms, skipped.why) == (BTC, "long", T[1], why)


def test_times_of_fills_are_the_open_of_the_candle_or_its_last_millisecond() -> None:
    rows = [flat(100), flat(100), (100, 101, 99, 100), flat(100)]
    strategy = run(
        rows,
        {0: lambda s: s.buy(size=1), 1: lambda s: s.sell(size=1, exectype=bt.Order.Limit, price=101)},
    )
    (trade,) = strategy.broker.ledger.trades
    assert (trade.entry_ms, trade.exit_ms) == (T[1], T[2] + TF - 1)
