"""What a strategy may expect of any of our brokers; each test is run on PaperBroker and on CcxtBroker.

A subclass gives ``run(script, **options)``: twelve candles of BTCUSDT, the script's actions by candle number, and the
broker afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import backtrader as bt
import numpy as np
import pytest

from feeds.candles import Candles, check_candles

START_MS, FRAME_MS, COUNT = 1_735_689_600_000, 300_000, 12
Action = Callable[[Any], Any]


class Seen(NamedTuple):
    """What the strategy was told: (order ref, status name, why) and (trade size at the end, net, is closed)."""

    orders: list[tuple[int, str, str]]
    trades: list[bt.Trade]
    cash: list[float]
    value: list[float]
    size: list[float]
    made: list[Any]


class Scripted(bt.Strategy):
    """Does what the script says and writes down what it is told."""

    params = (("script", None),)

    def __init__(self) -> None:
        self.seen = Seen([], [], [], [], [], [])

    def next(self) -> None:
        self.seen.cash.append(self.broker.getcash())
        self.seen.value.append(self.broker.getvalue())
        self.seen.size.append(self.position.size)
        action = self.p.script.get(len(self) - 1)
        if action is not None:
            self.seen.made.append(action(self))

    def notify_order(self, order: Any) -> None:
        self.seen.orders.append((order.ref, order.getstatusname(), order.info.get("why") or ""))

    def notify_trade(self, trade: bt.Trade) -> None:
        self.seen.trades.append(trade)


def rising_candles(step: float = 60.0) -> Candles:
    close = 60_000.0 + step * np.arange(1, COUNT + 1)
    opened = close - step
    rows = {"open": opened, "high": np.maximum(opened, close) + 5, "low": np.minimum(opened, close) - 5, "close": close}
    stamps = START_MS + FRAME_MS * np.arange(COUNT)
    return check_candles("BTCUSDT", "5m", {"open_ms": stamps, "volume": np.ones(COUNT), **rows})


def statuses(seen: Seen, order: Any) -> list[str]:
    return [status for ref, status, _ in seen.orders if ref == order.ref]


def why(seen: Seen, order: Any) -> str:
    return [text for ref, _, text in seen.orders if ref == order.ref][-1]


class BrokerContract:
    """The contract."""

    def run(self, script: Mapping[int, Action], **options: Any) -> tuple[Seen, Any]:
        raise NotImplementedError

    def test_a_market_order_is_submitted_accepted_completed(self) -> None:
        seen, _ = self.run({1: lambda s: s.buy(size=0.1)})
        assert statuses(seen, seen.made[0]) == ["Submitted", "Accepted", "Completed"]
        assert seen.made[0].executed.size == pytest.approx(0.1)
        assert seen.made[0].executed.price == 60_120.0

    def test_nothing_is_filled_before_the_strategy_has_returned(self) -> None:
        seen, _ = self.run({1: lambda s: (s.buy(size=0.1), s.position.size)})
        assert seen.made[0][1] == 0
        assert seen.size[:3] == [0, 0, 0.1]

    def test_cash_is_the_free_balance_and_value_the_equity(self) -> None:
        seen, broker = self.run({1: lambda s: s.buy(size=0.1)})
        assert (seen.cash[1], seen.value[1]) == (10_000.0, 10_000.0)
        margin, fee = 0.1 * 60_120 / 20, 0.1 * 60_120 * 0.0005
        assert seen.cash[2] == pytest.approx(10_000 - margin - fee)
        assert seen.value[2] == pytest.approx(10_000 - fee + 0.1 * 60)
        assert broker.getvalue() == pytest.approx(10_000 - fee + 0.1 * (60_720 - 60_120))

    def test_a_round_trip_is_one_opened_and_one_closed_trade_with_net_result(self) -> None:
        seen, broker = self.run({1: lambda s: s.buy(size=0.1), 4: lambda s: s.close(reduce_only=True)})
        assert [(t.isopen, t.isclosed) for t in seen.trades] == [(True, False), (False, True)]
        fees = 0.1 * (60_120 + 60_300) * 0.0005
        assert seen.trades[-1].pnl == pytest.approx(0.1 * 180)
        assert seen.trades[-1].pnlcomm == pytest.approx(0.1 * 180 - fees)
        assert broker.ledger.trades[0].pnl_usdt == pytest.approx(0.1 * 180 - fees)
        assert broker.getcash() == pytest.approx(broker.ledger.wallet_usdt)

    def test_the_close_reason_and_the_order_ids_reach_the_trade(self) -> None:
        _, broker = self.run(
            {
                1: lambda s: s.buy(size=0.1, order_id="one"),
                4: lambda s: s.close(reduce_only=True, reason="profit_target", order_id="two"),
            }
        )
        (trade,) = broker.ledger.trades
        assert (trade.close_reason, trade.entry_order_id, trade.exit_order_id) == ("profit_target", "one", "two")
        assert (trade.entry_ms, trade.exit_ms) == (START_MS + 2 * FRAME_MS, START_MS + 5 * FRAME_MS)

    def test_a_close_without_a_reason_is_manual(self) -> None:
        _, broker = self.run({1: lambda s: s.sell(size=0.1), 4: lambda s: s.close()})
        assert broker.ledger.trades[0].close_reason == "manual"
        assert broker.ledger.trades[0].side == "short"

    def test_a_reversal_in_one_order_closes_one_trade_and_opens_another(self) -> None:
        seen, broker = self.run({1: lambda s: s.buy(size=0.1), 4: lambda s: s.sell(size=0.25)})
        assert [(t.isopen, t.isclosed) for t in seen.trades] == [(True, False), (False, True), (True, False)]
        assert seen.size[5] == pytest.approx(-0.15)
        assert len(broker.ledger.trades) == 1
        assert statuses(seen, seen.made[1])[-1] == "Completed"

    def test_adding_to_a_position_averages_its_entry(self) -> None:
        _, broker = self.run({1: lambda s: s.buy(size=0.1), 3: lambda s: s.buy(size=0.3)})
        position = broker.ledger.positions["BTCUSDT"]
        assert position.qty == 0.4
        assert position.entry_price == pytest.approx((0.1 * 60_120 + 0.3 * 60_240) / 0.4)

    def test_a_part_can_be_closed(self) -> None:
        seen, broker = self.run({1: lambda s: s.buy(size=0.3), 4: lambda s: s.sell(size=0.1, reduce_only=True)})
        assert seen.size[5] == pytest.approx(0.2)
        assert broker.ledger.trades == []

    def test_a_reduce_only_order_never_opens(self) -> None:
        seen, broker = self.run({1: lambda s: s.buy(size=0.1), 4: lambda s: s.sell(size=5, reduce_only=True)})
        assert statuses(seen, seen.made[1])[-1] == "Completed"
        assert broker.ledger.positions == {}

    def test_a_reduce_only_order_without_a_position_is_cancelled_with_a_reason(self) -> None:
        seen, _ = self.run({1: lambda s: s.sell(size=1, reduce_only=True)})
        assert statuses(seen, seen.made[0]) == ["Submitted", "Accepted", "Canceled"]
        assert "no position" in why(seen, seen.made[0])

    def test_a_second_close_on_one_row_finds_nothing_left_to_reduce(self) -> None:
        def close_twice(strategy: Any) -> Any:
            return strategy.close(reduce_only=True), strategy.close(reduce_only=True)

        seen, broker = self.run({1: lambda s: s.buy(size=0.1), 4: close_twice})
        first, second = seen.made[1]
        assert statuses(seen, first)[-1] == "Completed"
        assert statuses(seen, second)[-1] == "Canceled"
        assert "no position" in why(seen, second)
        assert len(broker.ledger.trades) == 1

    def test_of_two_entries_that_cancel_each_other_one_is_filled(self) -> None:
        def either(strategy: Any) -> Any:
            first = strategy.buy(size=0.001, sized_at_fill=True, order_id="one")
            return first, strategy.buy(size=0.001, sized_at_fill=True, order_id="other", oco=first)

        seen, broker = self.run({1: either})
        assert [statuses(seen, order)[-1] for order in seen.made[0]] == ["Completed", "Canceled"]
        assert broker.ledger.positions["BTCUSDT"].qty == 0.665

    def test_an_entry_sized_at_its_fill_takes_a_fifth_of_the_free_balance_at_20x(self) -> None:
        seen, broker = self.run({1: lambda s: s.buy(size=0.001, sized_at_fill=True)})
        assert broker.ledger.positions["BTCUSDT"].qty == 0.665  # 0.2 * 10000 * 20 / 60120, floored to 0.001
        assert seen.made[0].executed.size == pytest.approx(0.665)

    def test_a_reversal_of_two_orders_sizes_the_entry_on_what_the_close_has_freed(self) -> None:
        def reverse(strategy: Any) -> Any:
            entry = strategy.sell(size=0.001, sized_at_fill=True)  # ordered first, filled second
            return strategy.close(reduce_only=True), entry

        seen, broker = self.run({1: lambda s: s.buy(size=3), 4: reverse})
        free = broker.ledger.trades[0].pnl_usdt + 10_000
        assert abs(seen.size[5]) == pytest.approx(int(free * 0.2 * 20 / 60_300 * 1000) / 1000)

    def test_an_entry_that_cannot_be_sized_is_cancelled_with_figures(self) -> None:
        seen, broker = self.run({1: lambda s: s.buy(size=0.001, sized_at_fill=True)}, balance=10.0)
        assert statuses(seen, seen.made[0]) == ["Submitted", "Accepted", "Canceled"]
        assert "minimum" in why(seen, seen.made[0])
        (skipped,) = broker.skipped_entries
        assert (skipped.symbol, skipped.side, skipped.time_ms) == ("BTCUSDT", "long", START_MS + 2 * FRAME_MS)

    def test_too_little_margin_ends_as_margin_and_changes_nothing(self) -> None:
        seen, broker = self.run({1: lambda s: s.buy(size=10)})
        assert statuses(seen, seen.made[0]) == ["Submitted", "Accepted", "Margin"]
        assert why(seen, seen.made[0])
        assert broker.getcash() == 10_000.0

    def test_an_unknown_order_type_is_rejected_and_not_none(self) -> None:
        seen, _ = self.run({1: lambda s: s.buy(size=0.1, exectype=bt.Order.StopTrail, trailamount=5.0, price=60_000.0)})
        assert seen.made[0] is not None
        assert statuses(seen, seen.made[0])[-1] == "Rejected"
        assert why(seen, seen.made[0])

    def test_an_order_can_be_cancelled_before_it_is_executed(self) -> None:
        def buy_and_cancel(strategy: Any) -> Any:
            order = strategy.buy(size=0.1)
            strategy.cancel(order)
            return order

        seen, broker = self.run({1: buy_and_cancel})
        assert statuses(seen, seen.made[0]) == ["Submitted", "Accepted", "Canceled"]
        assert broker.ledger.positions == {}
        assert not broker.cancel(seen.made[0])

    def test_a_close_is_never_refused_for_margin(self) -> None:
        seen, broker = self.run({1: lambda s: s.buy(size=3.3), 4: lambda s: s.close(reduce_only=True)}, step=-100.0)
        assert statuses(seen, seen.made[1])[-1] == "Completed"
        assert broker.ledger.positions == {}

    def test_a_liquidation_is_told_as_an_order_and_a_closed_trade(self) -> None:
        seen, broker = self.run({1: lambda s: s.buy(size=0.6)}, step=-700.0)
        (trade,) = broker.ledger.trades
        assert trade.close_reason == "liquidation"
        assert trade.pnl_usdt == pytest.approx(-trade.margin_usdt - trade.fees_usdt + _exit_fee(trade), rel=1e-6)
        assert seen.trades[-1].isclosed
        assert seen.size[-1] == 0

    def test_a_stop_loss_is_told_as_an_order_and_a_closed_trade(self) -> None:
        seen, broker = self.run({1: lambda s: s.buy(size=0.1)}, step=-100.0, stop_percent=0.5)
        (trade,) = broker.ledger.trades
        assert trade.close_reason == "stop_loss"
        assert trade.exit_price == pytest.approx(trade.entry_price * 0.995, abs=0.1)
        assert seen.trades[-1].isclosed


def _exit_fee(trade: Any) -> float:
    """What is booked as the liquidation's fee is part of the margin that is lost."""
    entry_fee = trade.qty * trade.entry_price * 0.0005
    return float(trade.fees_usdt - entry_fee)
