"""Funding of a simulated position that ends inside a candle: booked before its end, once, and on time or late."""

from __future__ import annotations

from typing import Any

import backtrader as bt
import pytest
from live_kit import FIVE_MINUTES_MS, START_MS
from made_replays import BTC, costs, instrument
from test_live_feed import Market, ScriptedRelease, one, row

from feeds.live import live_feed
from smm_bt.execution.bars import Bar
from smm_bt.execution.intrabar import settle_funding
from smm_bt.execution.ledger import FuturesLedger
from smm_bt.execution.live_candles import LiveCandles
from smm_bt.execution.market_history import Settlement
from smm_bt.execution.paper_broker import PaperBroker
from smm_bt.execution.risk_sizer import RiskSizer
from smm_bt.execution.running_funding import RunningFunding
from smm_bt.execution.venue_errors import VenueSilent
from strategy.live_strategy import LiveSmmStrategy

MINUTE, HOUR = 60_000, 3_600_000


class Venue:
    """Settles at the times it was given, publishes that when it is asked at or after ``published_ms``."""

    def __init__(self, *times_ms: int, published_ms: int = 0) -> None:
        self.now, self.times, self.published_ms = START_MS, times_ms, published_ms
        self.silent = False
        self.asked: list[tuple[int, int]] = []

    def now_ms(self) -> int:
        return self.now

    def may_settle(self, since_ms: int, end_ms: int) -> bool:
        return any(since_ms <= time < end_ms for time in self.times)

    def settlements(self, symbol: str, since_ms: int, end_ms: int) -> tuple[Settlement, ...]:
        if not self.may_settle(since_ms, end_ms):
            return ()
        if self.silent:
            raise VenueSilent("fundingRate", "no answer")
        self.asked.append((since_ms, end_ms))
        told = [time for time in self.times if since_ms <= time < end_ms and self.now >= self.published_ms]
        return tuple(Settlement(time, 0.001, 100.0) for time in told)


def opened(entry_ms: int, stop: float | None = None) -> FuturesLedger:
    ledger = FuturesLedger(10_000.0, {BTC: instrument(BTC)}, costs(0.0, stop=stop))
    ledger.open(BTC, 1, 100.0, 100.0, entry_ms, "in")
    return ledger


def funding_entries(ledger: FuturesLedger) -> list[tuple[int, float]]:
    return [(entry.time_ms, entry.amount_usdt) for entry in ledger.entries if entry.kind == "funding"]


def test_what_was_settled_before_a_close_inside_a_candle_is_booked_and_not_again_when_the_candle_closes() -> None:
    settled = START_MS + 10 * MINUTE
    venue, ledger = Venue(settled), opened(START_MS)
    funding = RunningFunding(venue, venue)
    venue.now = START_MS + 40 * MINUTE
    assert funding.settle(ledger, BTC, venue.now)
    assert funding.settle(ledger, BTC, venue.now)
    settle_funding(ledger, BTC, [Settlement(settled, 0.001, 100.0)])
    assert funding_entries(ledger) == [(settled, pytest.approx(-10.0))]
    ledger.close(BTC, 100.0, venue.now, "manual", "out")
    assert ledger.trades[0].funding_usdt == pytest.approx(-10.0)


def test_a_settlement_from_before_an_entry_inside_the_candle_is_not_charged() -> None:
    settled = START_MS + 10 * MINUTE
    ledger = opened(settled + 1)
    settle_funding(ledger, BTC, [Settlement(settled, 0.001, 100.0)])
    assert funding_entries(ledger) == []
    same = opened(settled)  # an entry at the open comes before a settlement at that very millisecond
    settle_funding(same, BTC, [Settlement(settled, 0.001, 100.0)])
    assert len(funding_entries(same)) == 1


def test_a_settlement_at_the_moment_of_the_close_comes_after_it() -> None:
    settled = START_MS + 10 * MINUTE
    venue, ledger = Venue(settled), opened(START_MS)
    assert RunningFunding(venue, venue).settle(ledger, BTC, settled)
    assert venue.asked == []


def test_nothing_is_asked_where_no_full_hour_lies_between_the_last_candle_and_the_close() -> None:
    hourly, any_minute = LiveCandles([], "5m"), LiveCandles([], "5m", hourly_funding=False)
    assert not hourly.may_settle(START_MS + 1, START_MS + HOUR)
    assert hourly.may_settle(START_MS + 1, START_MS + HOUR + 1)
    assert hourly.may_settle(START_MS, START_MS + 1)
    assert any_minute.may_settle(START_MS + 1, START_MS + 2)
    assert not any_minute.may_settle(START_MS, START_MS)


@pytest.mark.parametrize("at_end", [False, True])
def test_a_settlement_published_after_the_close_is_booked_on_the_trade_it_belongs_to(at_end: bool) -> None:
    settled = START_MS + 10 * MINUTE
    venue, ledger = Venue(settled, published_ms=settled + 5_000), opened(START_MS)
    funding = RunningFunding(venue, venue)
    venue.now = settled + 200
    assert funding.settle(ledger, BTC, venue.now)
    ledger.close(BTC, 100.0, venue.now, "profit_target", "out")
    ledger.open(BTC, -1, 50.0, 100.0, venue.now, "in-2")
    assert venue.asked == []  # nothing is waited for on the way to a close
    venue.now += 30_000
    funding.settle_late(ledger, at_end=at_end)
    venue.now += 30_000
    for _ in range(2):
        funding.settle_late(ledger)
    assert funding_entries(ledger) == [(settled, pytest.approx(-10.0))]
    assert ledger.trades[0].funding_usdt == pytest.approx(-10.0)
    assert ledger.trades[0].pnl_usdt == pytest.approx(-10.0)
    assert ledger.amended == ledger.trades
    assert ledger.positions[BTC].funding_usdt == 0.0
    assert ledger.wallet_usdt == pytest.approx(9_990.0)
    assert len(venue.asked) == 1


def test_a_late_settlement_of_a_position_that_was_only_reduced_is_booked_once_and_in_full() -> None:
    settled = START_MS + 10 * MINUTE
    for candle_first in (False, True):
        venue, ledger = Venue(settled, published_ms=settled + 5_000), opened(START_MS)
        funding = RunningFunding(venue, venue)
        venue.now = settled + 200
        assert funding.settle(ledger, BTC, venue.now)
        ledger.close(BTC, 100.0, venue.now, "manual", "out", 40.0)
        venue.now += MINUTE
        if candle_first:
            settle_funding(ledger, BTC, [Settlement(settled, 0.001, 100.0)])
        funding.settle_late(ledger)
        settle_funding(ledger, BTC, [Settlement(settled, 0.001, 100.0)])
        assert len(funding_entries(ledger)) == 1


def test_while_nobody_answers_nothing_is_closed_and_late_settlements_are_asked_for_again() -> None:
    settled = START_MS + 10 * MINUTE
    venue, ledger = Venue(settled), opened(START_MS)
    funding = RunningFunding(venue, venue)
    venue.now, venue.silent = START_MS + 40 * MINUTE, True
    assert not funding.settle(ledger, BTC, venue.now)
    assert funding.settle(ledger, BTC, settled + 1)
    venue.now = settled + 2 * MINUTE
    funding.settle_late(ledger)
    venue.silent, venue.now = False, venue.now + MINUTE
    funding.settle_late(ledger)
    assert funding_entries(ledger) == [(settled, pytest.approx(-10.0))]


# ---- with the broker


def broker_run(venue: Venue, steps: list[Any], turns: dict[int, Any], stop: float | None = None) -> PaperBroker:
    """Run rows on a market at ``venue``'s time; ``turns`` are done before the step of that number."""
    ledger = FuturesLedger(10_000.0, {BTC: instrument(BTC)}, costs(0.0, stop=stop))
    market: Any = Market()
    market.now_ms = venue.now_ms
    broker = PaperBroker(ledger, market=market, funding=RunningFunding(venue, venue))

    class Release(ScriptedRelease):
        def turn(self) -> bool | None:
            if not broker.has_work and (action := turns.pop(steps_left[0] - len(self._steps), None)):
                action(broker)
                return None
            return super().turn()

    steps_left = [len(steps)]
    cerebro = bt.Cerebro(stdstats=False, quicknotify=True, exactbars=1)
    cerebro.setbroker(broker)
    cerebro.adddata(live_feed(BTC, "5m", Release(steps, broker), (), leads=True))
    cerebro.addsizer(RiskSizer)
    cerebro.addstrategy(LiveSmmStrategy)
    cerebro.run()
    return broker


def look_at(venue: Venue, now_ms: int, price: float, silent: bool = False) -> Any:
    def look(broker: PaperBroker) -> None:
        venue.now, venue.silent = now_ms, silent
        broker.look({BTC: Bar(now_ms, now_ms, price, price, price, price, price, ())})

    return look


def test_a_stop_between_candles_pays_what_was_settled_before_it_and_waits_while_that_is_not_known() -> None:
    settled, hit = START_MS + FIVE_MINUTES_MS + MINUTE, START_MS + FIVE_MINUTES_MS + 4 * MINUTE
    venue = Venue(settled)
    steps = one(row(0, "b"), row(1, "."), row(2, "."))
    venue.now = START_MS + FIVE_MINUTES_MS
    turns = {1: look_at(venue, hit - MINUTE, 98.0, silent=True)}
    broker = broker_run(venue, list(steps[:1]), turns, stop=1.0)
    assert broker.ledger.trades == []
    venue = Venue(settled)
    venue.now = START_MS + FIVE_MINUTES_MS
    broker = broker_run(venue, list(steps), {1: look_at(venue, hit, 98.0)}, stop=1.0)
    (trade,) = broker.ledger.trades
    assert (trade.close_reason, trade.exit_ms) == ("stop_loss", hit)
    assert trade.funding_usdt == pytest.approx(-trade.qty * 100.0 * 0.001)
    assert [time for time, _ in funding_entries(broker.ledger)] == [settled]


def test_a_look_that_ends_nothing_asks_for_no_settlements() -> None:
    venue = Venue(START_MS + FIVE_MINUTES_MS + MINUTE)
    venue.now = START_MS + FIVE_MINUTES_MS
    look = look_at(venue, START_MS + FIVE_MINUTES_MS + 4 * MINUTE, 100.0)
    broker_run(venue, one(row(0, "b"), row(1, ".")), {1: look}, stop=1.0)
    assert venue.asked == []


def test_a_market_order_inside_a_candle_pays_what_was_settled_before_it() -> None:
    venue = Venue(START_MS + 2 * FIVE_MINUTES_MS + MINUTE)
    venue.now = START_MS + FIVE_MINUTES_MS

    def later(broker: PaperBroker) -> None:
        venue.now = START_MS + 2 * FIVE_MINUTES_MS + 3 * MINUTE

    broker = broker_run(venue, one(row(0, "b"), row(1, "t"), row(2, ".")), {1: later})
    (trade,) = broker.ledger.trades
    assert trade.close_reason == "profit_target"
    assert trade.funding_usdt == pytest.approx(-trade.qty * 100.0 * 0.001)
