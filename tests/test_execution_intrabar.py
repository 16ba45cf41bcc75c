"""What happens inside one candle, at the level of its three functions; the order of events is in test_trading_rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_replays import BTC, T, costs, instrument

from feeds.candles import Candles
from smm_bt.execution.intrabar import fill_stop, liquidation_touched, next_event, settle_funding, stop_touched
from smm_bt.execution.ledger import FuturesLedger
from smm_bt.execution.market_history import MarketHistory, Settlement


def opened(side: int, slippage_bps: float = 0.0, stop: float | None = 3.0) -> FuturesLedger:
    ledger = FuturesLedger(10_000.0, {BTC: instrument()}, costs=costs(0.0, slippage_bps, stop))
    ledger.open(BTC, side, 400.0, 100.0, T[0], "in")
    return ledger


@pytest.mark.parametrize("touched", [stop_touched, liquidation_touched])
def test_touching_is_enough_and_the_other_side_of_the_candle_does_not_matter(touched) -> None:  # type: ignore[no-untyped-def]
    assert touched(1, 97.0, 105.0, 97.0)
    assert not touched(1, 97.0, 105.0, 97.01)
    assert touched(-1, 103.0, 103.0, 90.0)
    assert not touched(-1, 103.0, 102.99, 90.0)
    assert not touched(1, None, 200.0, 1.0)
    assert not touched(-1, None, 200.0, 1.0)


@pytest.mark.parametrize(
    ("side", "candle_open", "filled"), [(1, 99.0, 97.0), (1, 96.0, 96.0), (-1, 101.0, 103.0), (-1, 104.0, 104.0)]
)
def test_a_stop_is_filled_at_its_price_or_at_a_worse_open(side: int, candle_open: float, filled: float) -> None:
    ledger = opened(side)
    fill_stop(ledger, BTC, candle_open, T[1], "stop")
    (trade,) = ledger.trades
    assert (trade.exit_price, trade.close_reason, trade.exit_order_id) == (filled, "stop_loss", "stop")


@pytest.mark.parametrize(("side", "filled"), [(1, 97 * 0.999), (-1, 103 * 1.001)])
def test_a_stop_slips_against_the_position(side: int, filled: float) -> None:
    ledger = opened(side, slippage_bps=10)
    fill_stop(ledger, BTC, 100.0, T[1], "stop")
    assert ledger.trades[0].exit_price == pytest.approx(filled)


def test_a_position_without_a_stop_cannot_be_stopped() -> None:
    with pytest.raises(ValueError, match="has no stop"):
        fill_stop(opened(1, stop=None), BTC, 100.0, T[1], "stop")


def test_settlements_are_booked_one_by_one_in_their_order() -> None:
    ledger = opened(1)
    settle_funding(ledger, BTC, [Settlement(T[1], 0.001, 100.0), Settlement(T[1] + 1, -0.002, 101.0)])
    assert [entry.amount_usdt for entry in ledger.entries[1:]] == pytest.approx([-40.0, 80.8])
    assert [entry.time_ms for entry in ledger.entries[1:]] == [T[1], T[1] + 1]


@given(
    side=st.sampled_from([1, -1]),
    stop=st.sampled_from([None, 3.0, 6.0]),
    adverse=st.lists(st.integers(0, 40), min_size=1, max_size=90),
    settlements=st.sets(st.integers(0, 89), max_size=2),
    span=st.tuples(st.integers(0, 89), st.integers(0, 89)),
)
@settings(max_examples=400, deadline=None)
def test_the_search_ahead_finds_the_candle_a_walk_over_the_candles_would_stop_at(
    side: int, stop: float | None, adverse: list[int], settlements: set[int], span: tuple[int, int]
) -> None:
    position = opened(side, stop=stop).positions[BTC]
    count = len(adverse)
    away = 100.0 - side * (np.array(adverse) * 0.1 + 1.5)  # 1.5 to 5.5 % against the position, in steps of a tenth
    quiet = np.full(count, 100.0)
    low, high = (away, quiet) if side > 0 else (quiet, away)
    candles = Candles(BTC, "1m", np.arange(count) * 60_000, quiet, high, low, quiet, quiet)
    settled = {row: (Settlement(row * 60_000, 0.0001, 100.0),) for row in settlements if row < count}
    history = MarketHistory(candles, high, low, settled)
    first, last = span[0], min(span[1], count - 1)
    walked = (
        row
        for row in range(first, last + 1)
        if row in settled
        or stop_touched(side, position.stop_price, high[row], low[row])
        or liquidation_touched(side, position.liquidation_price, high[row], low[row])
    )
    assert next_event(position, history, first, last) == next(walked, None)
