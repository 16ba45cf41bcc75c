"""Candles joined with their mark candles and funding settlements."""

from __future__ import annotations

import pytest
from made_files import DAY_MS
from made_replays import TF, T, candles, flat, funding_rates

from smm_bt.errors import UsageError
from smm_bt.execution.market_history import Settlement, market_history

ROWS = [(100, 110, 90, 105), (105, 115, 95, 110), (110, 120, 100, 115)]


def test_without_mark_candles_the_candles_own_high_and_low_liquidate() -> None:
    history = market_history(candles(ROWS))
    assert history.liquidation_high.tolist() == [110, 115, 120]
    assert history.liquidation_low.tolist() == [90, 95, 100]
    assert history.funding_modelled is False
    assert dict(history.settlements) == {}


def test_mark_candles_give_the_prices_that_liquidate() -> None:
    mark = candles([(100, 101, 99, 100)] * 3)
    history = market_history(candles(ROWS), mark)
    assert history.liquidation_high.tolist() == [101] * 3
    assert history.liquidation_low.tolist() == [99] * 3


def test_mark_candles_may_cover_more_than_the_candles() -> None:
    mark = candles([(100 + n, 101 + n, 99 + n, 100 + n) for n in range(10)])
    history = market_history(candles(ROWS, at=[2, 3, 7]), mark)
    assert history.liquidation_high.tolist() == [103, 104, 108]


@pytest.mark.parametrize(
    ("places", "missing", "first"), [([0, 1, 3], 1, "00:10"), ([1, 2], 1, "00:00"), ([8, 9], 3, "00:00")]
)
def test_a_candle_without_its_mark_candle_is_refused_with_their_number_and_the_first(
    places: list[int], missing: int, first: str
) -> None:
    mark = candles([flat(100)] * len(places), at=places)
    with pytest.raises(UsageError) as caught:
        market_history(candles(ROWS), mark)
    assert f"{missing} candles have none, the first is 2025-01-01T{first}:00Z" in str(caught.value)
    assert "of the same timeframe for the whole range" in str(caught.value)


def test_a_settlement_belongs_to_the_candle_that_holds_its_time_and_takes_its_open() -> None:
    funding = funding_rates((T[0] + TF - 1, 0.1), (T[1], 0.2), (T[1] + 1, 0.3))
    history = market_history(candles(ROWS), funding=funding)
    assert history.funding_modelled is True
    assert dict(history.settlements) == {
        0: (Settlement(T[0] + TF - 1, 0.1, 100.0),),
        1: (Settlement(T[1], 0.2, 105.0), Settlement(T[1] + 1, 0.3, 105.0)),
    }


def test_funding_in_a_gap_is_not_charged() -> None:
    history = market_history(candles(ROWS, at=[0, 1, 5]), funding=funding_rates((T[3], 0.1), (T[5], 0.2)))
    assert dict(history.settlements) == {2: (Settlement(T[5], 0.2, 110.0),)}


def test_funding_outside_the_range_is_left_out() -> None:
    funding = funding_rates((T[0] - DAY_MS, 0.1), (T[0] - 1, 0.1), (T[2] + TF, 0.1), (T[2] + DAY_MS, 0.1))
    history = market_history(candles(ROWS), funding=funding)
    assert dict(history.settlements) == {}
    assert history.funding_modelled is True


def test_the_settlement_price_is_the_open_of_the_mark_candle_where_there_is_one() -> None:
    mark = candles([(99, 99, 98, 98), (98, 99, 97, 97), (97, 98, 96, 96)])
    history = market_history(candles(ROWS), mark, funding_rates((T[1] + 7, 0.1)))
    assert dict(history.settlements) == {1: (Settlement(T[1] + 7, 0.1, 98.0),)}
