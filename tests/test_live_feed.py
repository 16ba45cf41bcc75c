"""The parts of a live run by themselves: windows, feeds released together, what may be done on old candles, clocks."""

from __future__ import annotations

from collections import deque
from typing import Any

import backtrader as bt
import numpy as np
import pytest
from live_kit import FIVE_MINUTES_MS, START_MS
from made_replays import instrument

from feeds.live import LiveRow, Standing, live_feed
from feeds.live_window import CandleWindow
from smm_bt.app.market_clock import ClockJump, RunningClock, Stepped, SteppedClock
from smm_bt.execution.costs import Costs, TakerFee
from smm_bt.execution.host_clock import ClockReading
from smm_bt.execution.ledger import FuturesLedger
from smm_bt.execution.paper_broker import PaperBroker
from smm_bt.execution.risk_sizer import RiskSizer
from strategy.live_strategy import Leftover, LiveSmmStrategy

Row = tuple[int, float, float, float, float, float]


def candle(number: int, price: float = 100.0) -> Row:
    return START_MS + number * FIVE_MINUTES_MS, price, price, price, price, 1.0


# ---- windows


def test_a_window_gives_the_newest_rows_computed_on_enough_candles_before_them() -> None:
    lengths: list[int] = []

    def compute(frame: Any) -> dict[str, Any]:
        lengths.append(len(frame))
        assert str(frame.index.tz) == "UTC"
        return {"close_again": frame["close"].to_numpy()}

    window = CandleWindow(10, compute)
    for number in range(200):
        window.add([candle(number, 100.0 + number)])
        assert window.columns(1)["close_again"].tolist() == [100.0 + number]
    assert max(lengths) == 10
    window.add([candle(number, 100.0 + number) for number in range(200, 260)])
    assert window.columns(60)["close_again"].tolist() == [100.0 + number for number in range(200, 260)]
    assert lengths[-1] == 69
    assert window.last_open_ms == candle(259)[0]


def test_a_window_takes_no_candle_twice_and_none_out_of_order() -> None:
    window = CandleWindow(5, lambda frame: {})
    window.add([candle(3)])
    for number in (3, 2):
        with pytest.raises(ValueError, match="does not come after"):
            window.add([candle(number)])


def test_a_window_takes_corrections_of_candles_it_has() -> None:
    window = CandleWindow(5, lambda frame: {name: frame[name].to_numpy() for name in frame})
    window.add([candle(number, 100.0 + number) for number in range(8)])
    window.correct(candle(6)[0], candle(6, 200.0))
    assert window.columns(3)["close"].tolist() == [105.0, 200.0, 107.0]
    window.correct(candle(6)[0], None)
    assert window.columns(3)["close"].tolist() == [104.0, 105.0, 107.0]
    window.correct(candle(6)[0], candle(6, 300.0))  # no longer there
    window.correct(candle(99)[0], None)
    assert window.columns(3)["close"].tolist() == [104.0, 105.0, 107.0]
    assert window.last_open_ms == candle(7)[0]


# ---- feeds and strategy


class ScriptedRelease:
    """Releases written rows, symbol by symbol and step by step."""

    def __init__(self, steps: list[dict[str, LiveRow]], broker: Any = None) -> None:
        self._steps, self._broker = deque(steps), broker
        self._now: dict[str, LiveRow] = {}
        self.ended = False

    def turn(self) -> bool | None:
        if self._broker is not None and self._broker.has_work:
            return None
        self.ended = not self._steps
        self._now = dict(self._steps.popleft()) if self._steps else {}
        return not self.ended

    def take(self, symbol: str) -> LiveRow | None:
        return self._now.pop(symbol, None)


class Market:
    """A market that stands at the price it was told."""

    silent = False

    def __init__(self) -> None:
        self.at = 100.0

    def now_ms(self) -> int:
        return START_MS

    def price(self, symbol: str, side: int, since_ms: int) -> float | None:
        return self.at

    def is_late(self, decided_ms: int) -> bool:
        return False

    def bar(self, data: Any) -> Any:
        from smm_bt.execution.bars import Bar

        open_ms, opened, high, low = data.row.candle[:4]
        return Bar(open_ms, open_ms + FIVE_MINUTES_MS - 1, opened, high, low, high, low, ())


def row(number: int, letter: str, standing: Standing = Standing.FRESH, price: float = 100.0) -> LiveRow:
    flags = {"buy_signal": letter in "bx", "sell_signal": letter in "sx", "profit_target_hit": letter == "t"}
    return LiveRow(candle(number, price), flags, standing)


def run(steps: list[dict[str, LiveRow]], symbols: tuple[str, ...] = ("BTCUSDT",), **options: Any) -> Any:
    ledger = FuturesLedger(10_000.0, {symbol: instrument(symbol) for symbol in symbols}, Costs(TakerFee(0.0)))
    market: Any = Market()
    broker = PaperBroker(ledger, market=market)
    release = ScriptedRelease(steps, broker)
    cerebro = bt.Cerebro(stdstats=False, quicknotify=True, exactbars=1)
    cerebro.setbroker(broker)
    for number, symbol in enumerate(symbols):
        cerebro.adddata(live_feed(symbol, "5m", release, (), leads=number == 0))
    cerebro.addsizer(RiskSizer)
    cerebro.addstrategy(options.pop("strategy", LiveSmmStrategy), **options)
    (strategy,) = cerebro.run()
    return strategy


def one(*rows: LiveRow) -> list[dict[str, LiveRow]]:
    return [{"BTCUSDT": each} for each in rows]


def test_history_opens_nothing_and_the_first_fresh_candle_does() -> None:
    strategy = run(one(row(0, "b", Standing.WARMUP), row(1, "b", Standing.WARMUP), row(2, "s")))
    assert [ruling[0] for ruling in strategy.rulings] == [candle(2)[0]]
    assert strategy.broker.ledger.positions["BTCUSDT"].side == -1


def test_a_stale_candle_opens_nothing_but_its_exit_is_honoured() -> None:
    strategy = run(one(row(0, "b"), row(1, "s", Standing.STALE), row(2, "b", Standing.STALE)))
    (trade,) = strategy.broker.ledger.trades
    assert trade.close_reason == "opposite_signal"
    assert not strategy.broker.ledger.positions
    assert [(dropped.candle_ms, dropped.entry_side) for dropped in strategy.dropped] == [
        (candle(1)[0], -1),
        (candle(2)[0], 1),
    ]


def test_an_exit_on_a_passed_candle_waits_for_the_newest_one() -> None:
    steps = one(row(0, "b"), row(1, "t", Standing.PASSED), row(2, ".", Standing.PASSED), row(3, "."))
    strategy = run(steps)
    (trade,) = strategy.broker.ledger.trades
    assert (trade.close_reason, trade.exit_order_id) == ("profit_target", f"BTCUSDT-{candle(3)[0]}-close")


def test_a_passed_exit_and_a_fresh_signal_make_a_reversal() -> None:
    strategy = run(one(row(0, "b"), row(1, "t", Standing.PASSED), row(2, "s")))
    (trade,) = strategy.broker.ledger.trades
    assert trade.close_reason in ("profit_target", "opposite_signal")
    assert strategy.broker.ledger.positions["BTCUSDT"].side == -1


def test_a_liquidation_on_a_passed_candle_comes_before_the_exit_that_waits() -> None:
    steps = one(row(0, "b"), row(1, "t", Standing.PASSED), row(2, ".", Standing.PASSED, price=90.0), row(3, "."))
    (trade,) = run(steps).broker.ledger.trades
    assert trade.close_reason == "liquidation"


def test_candles_of_one_time_reach_the_strategy_in_one_step() -> None:
    seen: list[tuple[int, int]] = []

    class Counting(LiveSmmStrategy):
        def next(self) -> None:
            seen.append(tuple(data.open_ms() for data in self.datas))  # type: ignore[arg-type]
            super().next()

    symbols = ("BTCUSDT", "ETHUSDT")
    both = [dict.fromkeys(symbols, row(number, "b" if number == 1 else ".")) for number in range(4)]
    strategy = run(both, symbols, strategy=Counting)
    assert seen == [(candle(number)[0],) * 2 for number in range(4)]
    assert set(strategy.broker.ledger.positions) == set(symbols)


def test_a_paused_strategy_opens_nothing_and_closes() -> None:
    class Paused(LiveSmmStrategy):
        def next(self) -> None:
            self.paused = "by hand" if len(self.data) > 1 else ""
            super().next()

    strategy = run(one(row(0, "b"), row(1, "s"), row(2, "b")), strategy=Paused)
    assert [trade.close_reason for trade in strategy.broker.ledger.trades] == ["opposite_signal"]
    assert not strategy.broker.ledger.positions
    assert {dropped.why for dropped in strategy.dropped} == {"by hand"}


def test_what_was_decided_and_not_done_is_taken_up_while_it_is_fresh_and_dropped_afterwards() -> None:
    class TakingUp(LiveSmmStrategy):
        params = (("fresh", True),)

        def next(self) -> None:
            if len(self.data) == 1:
                open_ms = candle(0)[0]
                left = [Leftover("BTCUSDT", f"BTCUSDT-{open_ms}-entry-2", "", 1, open_ms)]
                self.take_up(left, behind=False, fresh=self.p.fresh)
            super().next()

    steps = one(row(0, "b", Standing.WARMUP), row(1, "."))
    fresh, late = run(steps, strategy=TakingUp), run(list(steps), strategy=TakingUp, fresh=False)
    assert fresh.broker.ledger.positions["BTCUSDT"].entry_order_id == f"BTCUSDT-{candle(0)[0]}-entry-2"
    assert not late.broker.ledger.positions
    assert [dropped.why for dropped in late.dropped] == ["the run was down when it was due"]


# ---- clocks


class Host:
    """A machine whose clocks are moved by hand."""

    def __init__(self) -> None:
        self.wall_ms, self.steady_s, self.slept = 1_000_000, 50.0, 0.0

    def now_ms(self) -> int:
        return self.wall_ms

    def seconds(self) -> float:
        return self.steady_s

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.pass_by(seconds)

    def pass_by(self, seconds: float) -> None:
        self.steady_s += seconds
        self.wall_ms += round(seconds * 1000)


@pytest.mark.parametrize("jump_ms", [120_000, -120_000, 3_600_000])
def test_a_wall_clock_that_jumps_changes_no_venue_time_and_is_noticed(jump_ms: int) -> None:
    host = Host()
    clock = RunningClock(lambda: ClockReading(5_000_000, host.now_ms(), host.seconds()), host)
    clock.sync()
    host.pass_by(10)
    assert clock.jump() is None
    host.wall_ms += jump_ms
    assert clock.now_ms() == 5_010_000
    assert clock.jump() == ClockJump(jump_ms)
    clock.sync()
    assert clock.jump() is None


def test_a_running_clock_waits_in_slices_and_reaches_the_close_on_time() -> None:
    host = Host()
    clock = RunningClock(lambda: ClockReading(60_000, host.now_ms(), host.seconds()), host, speed=10.0)
    clock.sync()
    assert not clock.advance(120_000, 0.5)
    assert host.slept == 0.5
    while not clock.advance(120_000, 0.5):
        pass
    assert clock.now_ms() == pytest.approx(120_000, abs=2)
    assert host.slept == pytest.approx(6.0)


def test_a_stepped_clock_moves_only_when_it_must() -> None:
    steps = iter([Stepped(300, False), Stepped(600, True)])
    clock = SteppedClock(lambda: next(steps), Stepped(0, False))
    assert clock.advance(0, 1.0)
    assert clock.now_ms() == 0
    assert clock.advance(300, 1.0)
    assert (clock.now_ms(), clock.finished) == (300, False)
    assert clock.advance(600, 1.0)
    assert clock.finished
    assert np.isinf(clock.speed)
