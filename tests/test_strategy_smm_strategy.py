"""SmmStrategy on the simulated account: which orders a row of flags becomes, and what it writes down."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import backtrader as bt
import numpy as np
from made_files import FIVE_MINUTES_MS, HEADER, NEW_YEAR_MS, flat_rows

from feeds.candles import check_candles
from feeds.smm import SmmFeed, smm_feed
from smm_bt.execution.costs import Costs, TakerFee
from smm_bt.execution.instrument import Instrument, LeverageBracket
from smm_bt.execution.ledger import FuturesLedger
from smm_bt.execution.paper_broker import PaperBroker
from smm_bt.execution.risk_sizer import RiskSizer
from smm_bt.model import DecisionRecord
from strategy.smm_strategy import SmmStrategy

BRACKET = LeverageBracket(Decimal(0), Decimal(10**9), 20, Decimal("0.01"), Decimal(0))
T = [NEW_YEAR_MS + n * FIVE_MINUTES_MS for n in range(20)]


def instrument(symbol: str) -> Instrument:
    step = Decimal("0.001")
    return Instrument(symbol, Decimal("0.01"), step, step, Decimal(10**6), Decimal(5), (BRACKET,))


def feed(letters: str, *prices: float, symbol: str = "BTCUSDT", start: int = 0) -> SmmFeed:
    """B buy, s sell, x both, t target, B, S and X the same with the target, '.' nothing; one letter per candle."""
    rows = flat_rows(*prices, start_ms=T[start]) if prices else flat_rows(*[100.0] * len(letters), start_ms=T[start])
    columns: dict[str, Any] = dict(zip(HEADER[1:], np.array([r[1:] for r in rows]).T, strict=True))
    candles = check_candles(symbol, "5m", columns | {"open_ms": np.array([r[0] for r in rows])})
    wanted = {"buy_signal": "bxBX", "sell_signal": "sxSX", "profit_target_hit": "tBSX"}
    return smm_feed(candles, {name: np.array([c in marks for c in letters]) for name, marks in wanted.items()})


def run(*feeds: SmmFeed, close_on_opposite_signal: bool = True, strategy_class: type = SmmStrategy) -> Any:
    ledger = FuturesLedger(10_000.0, {f._name: instrument(f._name) for f in feeds}, costs=Costs(TakerFee(0.0)))
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.setbroker(PaperBroker(ledger))
    for data in feeds:
        cerebro.adddata(data)
    cerebro.addsizer(RiskSizer)
    cerebro.addstrategy(strategy_class, close_on_opposite_signal=close_on_opposite_signal)
    (strategy,) = cerebro.run()
    return strategy


def trades(strategy: Any) -> list[tuple[str, str, str]]:
    return [(t.symbol, t.side, t.close_reason) for t in strategy.broker.ledger.trades]


def rulings(strategy: Any) -> list[DecisionRecord]:
    return [DecisionRecord(*each) for each in strategy.rulings]


def ids(strategy: Any) -> list[str]:
    return [fill.order_id for fill in strategy.broker.ledger.fills]


def test_a_buy_signal_opens_a_long_of_20_percent_at_20x() -> None:
    strategy = run(feed("b.."))
    assert strategy.position.size == 400.0  # 10 000 × 0.2 × 20 / 100
    assert strategy.broker.ledger.positions["BTCUSDT"].margin_usdt == 2_000.0


def test_a_sell_signal_opens_a_short() -> None:
    assert run(feed("s..")).position.size == -400.0


def test_the_profit_target_closes_with_its_reason() -> None:
    strategy = run(feed("b.t."))
    assert strategy.position.size == 0.0
    assert trades(strategy) == [("BTCUSDT", "long", "profit_target")]


def test_the_opposite_signal_reverses_with_two_orders() -> None:
    strategy = run(feed("b.s..", 100, 100, 100, 110, 110))
    assert trades(strategy) == [("BTCUSDT", "long", "opposite_signal")]
    assert ids(strategy) == [
        f"BTCUSDT-{T[0]}-entry",
        f"BTCUSDT-{T[2]}-close",
        f"BTCUSDT-{T[2]}-entry",
    ]
    # Long 400 from 100 to 110 earned 4 000; the short is sized on 14 000: 14 000 × 4 / 110 floored.
    assert strategy.position.size == -509.09


def test_with_the_option_off_the_opposite_signal_is_ignored() -> None:
    strategy = run(feed("b.s.."), close_on_opposite_signal=False)
    assert trades(strategy) == []
    assert strategy.position.size == 400.0
    assert [each.entry_side for each in rulings(strategy)] == [1]


def test_a_signal_in_the_direction_of_the_position_is_ignored() -> None:
    strategy = run(feed("b.bb.b."))
    assert ids(strategy) == [f"BTCUSDT-{T[0]}-entry"]


def test_conflicting_signals_neither_enter_nor_close_and_are_written_down() -> None:
    strategy = run(feed("xb.x.."))
    assert trades(strategy) == []
    assert strategy.position.size == 400.0
    conflicts = [each for each in rulings(strategy) if each.conflicting_signals]
    assert [(each.candle_ms, each.close_reason, each.entry_side) for each in conflicts] == [
        (T[0], "", 0),
        (T[3], "", 0),
    ]


def test_the_profit_target_closes_on_a_conflicting_row_too() -> None:
    strategy = run(feed("b.X.."))
    assert trades(strategy) == [("BTCUSDT", "long", "profit_target")]
    assert strategy.position.size == 0.0


def test_a_target_and_a_signal_on_one_row_close_and_enter_again() -> None:
    strategy = run(feed("b.B.S.."))
    assert trades(strategy) == [("BTCUSDT", "long", "profit_target")] * 2
    assert strategy.position.size == -400.0


def test_a_target_when_flat_does_nothing() -> None:
    assert run(feed("t.t.")).rulings == []


def test_rulings_hold_time_symbol_flags_side_and_decision() -> None:
    strategy = run(feed("b.s.."))
    assert rulings(strategy) == [
        DecisionRecord(T[0], "BTCUSDT", True, False, False, 0, "", 1, False),
        DecisionRecord(T[2], "BTCUSDT", False, True, False, 1, "opposite_signal", -1, False),
    ]


def test_a_signal_on_the_last_candle_is_ruled_and_never_filled() -> None:
    strategy = run(feed("..b"))
    assert [ruling[0] for ruling in strategy.rulings] == [T[2]]
    assert ids(strategy) == []
    assert len(strategy.broker.get_orders_open()) == 1


def test_several_symbols_close_first_and_then_enter_in_their_order() -> None:
    strategy = run(feed("b.t..", symbol="AAAUSDT"), feed("..b..", symbol="BBBUSDT"))
    assert ids(strategy) == [f"AAAUSDT-{T[0]}-entry", f"AAAUSDT-{T[2]}-close", f"BBBUSDT-{T[2]}-entry"]
    assert strategy.broker.getposition(strategy.data1).size == 400.0


def test_a_close_of_a_later_symbol_comes_before_the_entry_of_an_earlier_one() -> None:
    strategy = run(feed("..b..", symbol="AAAUSDT"), feed("b.t..", symbol="BBBUSDT"))
    assert ids(strategy) == [f"BBBUSDT-{T[0]}-entry", f"BBBUSDT-{T[2]}-close", f"AAAUSDT-{T[2]}-entry"]


def test_entries_on_one_row_share_what_is_left() -> None:
    strategy = run(feed("b..", symbol="AAAUSDT"), feed("b..", symbol="BBBUSDT"))
    assert strategy.broker.getposition(strategy.data0).size == 400.0
    assert strategy.broker.getposition(strategy.data1).size == 320.0  # 8 000 × 0.2 × 20 / 100


def test_a_symbol_is_traded_while_another_ones_candles_have_not_begun() -> None:
    strategy = run(feed("b.t.....", symbol="AAAUSDT"), feed("b..", symbol="BBBUSDT", start=5))
    assert trades(strategy) == [("AAAUSDT", "long", "profit_target")]
    assert [(ruling[0], ruling[1]) for ruling in strategy.rulings] == [
        (T[0], "AAAUSDT"),
        (T[2], "AAAUSDT"),
        (T[5], "BBBUSDT"),
    ]


def test_a_candle_is_judged_once_though_another_symbols_candle_wakes_the_strategy() -> None:
    # BBB has candles at 0, 1, 2 and then none while AAA goes on: its last row must not be judged again.
    strategy = run(feed("......", symbol="AAAUSDT"), feed("..b", symbol="BBBUSDT"))
    assert [(ruling[0], ruling[1]) for ruling in strategy.rulings] == [(T[2], "BBBUSDT")]


def test_the_strategy_may_be_subclassed_with_notifications() -> None:
    class Noting(SmmStrategy):
        def __init__(self) -> None:
            super().__init__()
            self.notes: list[str] = []

        def notify_order(self, order: Any) -> None:
            if order.status == order.Completed:
                self.notes.append(order.info.order_id.rsplit("-", 1)[1])

        def notify_trade(self, trade: Any) -> None:
            self.notes.append(trade.status_names[trade.status])

    strategy = run(feed("b.s.."), strategy_class=Noting)
    assert strategy.notes == ["entry", "Open", "close", "entry", "Closed", "Open"]
