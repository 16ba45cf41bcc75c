"""The reference strategy: its indicators against outside values, its target against a plain loop, its edges."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategy.audit import audit_look_ahead
from strategy.contract import compute_columns
from strategy.reference import (
    choppiness,
    compute_smm,
    heikin_ashi,
    money_flow_index,
    profit_targets,
    turns_on,
)

VECTORS = Path(__file__).resolve().parents[2] / "shared" / "data" / "vectors"


def vectors(name: str) -> pd.DataFrame:
    path = VECTORS / name
    if not path.is_file():
        pytest.skip(f"{path} is not on this machine")
    return pd.read_csv(path)


def arrays(frame: pd.DataFrame, *names: str) -> list[np.ndarray]:
    return [frame[name].to_numpy(dtype=float) for name in names]


def made_candles(n: int, seed: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    path = 100 * np.exp(np.cumsum(rng.normal(0, 0.002, (n, 4)).reshape(-1)).reshape(n, 4))
    open_ = np.r_[100.0, path[:-1, 3]][:n]
    high, low = np.maximum(path.max(axis=1), open_), np.minimum(path.min(axis=1), open_)
    columns = {"open": open_, "high": high, "low": low, "close": path[:, 3], "volume": rng.gamma(2, 10, n)}
    return pd.DataFrame(columns, index=pd.date_range("2024-01-01", periods=n, freq="5min", tz="UTC"))


def choppiness_in_pandas(frame: pd.DataFrame, length: int) -> pd.Series:
    before = frame["close"].shift(1)
    ranges = pd.concat(
        [frame["high"] - frame["low"], (frame["high"] - before).abs(), (frame["low"] - before).abs()], axis=1
    )
    total = ranges.max(axis=1).rolling(length).sum()
    span = frame["high"].rolling(length).max() - frame["low"].rolling(length).min()
    return 100 * np.log10(total / span) / math.log10(length)


def money_flow_in_pandas(frame: pd.DataFrame, length: int) -> pd.Series:
    typical = (frame["high"] + frame["low"] + frame["close"]) / 3
    flow, move = typical * frame["volume"], typical.diff()
    rising = flow.where(move > 0, 0.0).where(move.notna()).rolling(length).sum()
    falling = flow.where(move < 0, 0.0).where(move.notna()).rolling(length).sum()
    return 100 * rising / (rising + falling)


def targets_by_hand(buy, sell, high, low, close, distance):
    hit, price = np.zeros(len(close), bool), np.full(len(close), np.nan)
    side, target = 0, math.nan
    for i in range(len(close)):
        price[i] = target if side else math.nan
        if (side > 0 and high[i] >= target) or (side < 0 and low[i] <= target):
            hit[i], side = True, 0
        signal = int(buy[i]) - int(sell[i])
        if signal and signal != side:
            side, target = signal, close[i] + signal * distance[i]
            price[i] = target
    return hit, price


def test_choppiness_equals_the_btc_vectors_of_the_high_low_form() -> None:
    frame = vectors("talib_BTCUSDT_15m_2024-11.csv.gz")
    ours = choppiness(*arrays(frame, "high", "low", "close"), 14)
    np.testing.assert_allclose(ours[14:], frame["chop14_highlow"][14:], rtol=1e-9)


def test_choppiness_equals_the_lean_vectors_from_their_first_row() -> None:
    frame = vectors("lean_spy_chop14.csv")
    np.testing.assert_allclose(choppiness(*arrays(frame, "high", "low", "close"), 14), frame["chop14"], rtol=1e-9)


@pytest.mark.parametrize("length", [9, 14])
def test_money_flow_index_equals_the_btc_vectors(length: int) -> None:
    frame = vectors("talib_BTCUSDT_15m_2024-11.csv.gz")
    ours = money_flow_index(*arrays(frame, "high", "low", "close", "volume"), length)
    np.testing.assert_allclose(ours, frame[f"mfi{length}"], rtol=1e-9)


def test_money_flow_index_equals_the_lean_vectors() -> None:
    frame = vectors("lean_spy_mfi20.csv")
    ours = money_flow_index(*arrays(frame, "high", "low", "close", "volume"), 20)
    np.testing.assert_allclose(ours, frame["money_flow_index_20"], rtol=1e-6)


@pytest.mark.parametrize("name", ["talib_BTCUSDT_15m_2024-11.csv.gz", "lean_spy_heikin_ashi.csv"])
def test_heikin_ashi_equals_the_vectors(name: str) -> None:
    frame = vectors(name)
    ha_open, ha_close = heikin_ashi(*arrays(frame, "open", "high", "low", "close"))
    np.testing.assert_allclose(ha_open, frame["ha_open"], rtol=1e-9)
    np.testing.assert_allclose(ha_close, frame["ha_close"], rtol=1e-9)


def test_atr_column_equals_the_btc_vectors() -> None:
    frame = vectors("talib_BTCUSDT_15m_2024-11.csv.gz")
    np.testing.assert_allclose(compute_smm(frame)["atr"], frame["atr14"], rtol=1e-9)


def test_choppiness_of_three_candles_worked_by_hand() -> None:
    high, low, close = np.array([12.0, 13.0, 16.0]), np.array([10.0, 11.0, 12.0]), np.array([11.0, 12.0, 15.0])
    # true ranges 2, 2, 4; highest high 16, lowest low 10: 100 · log10(8 / 6) / log10(3)
    assert choppiness(high, low, close, 3) == pytest.approx([math.nan, math.nan, 26.186], abs=1e-3, nan_ok=True)


def test_money_flow_index_of_four_candles_worked_by_hand() -> None:
    price, volume = np.array([10.0, 11.0, 10.5, 12.0]), np.array([5.0, 10.0, 20.0, 10.0])
    # flows +110, −210, +120: 100 · 230 / 440
    assert money_flow_index(price, price, price, volume, 3)[-1] == pytest.approx(52.272727, abs=1e-6)


def test_heikin_ashi_of_three_candles_worked_by_hand() -> None:
    columns = (np.array(v, dtype=float) for v in ([10, 12, 13], [12, 14, 13], [8, 11, 9], [11, 13, 10]))
    ha_open, ha_close = heikin_ashi(*columns)
    assert ha_open.tolist() == [10.5, 10.375, 11.4375]
    assert ha_close.tolist() == [10.25, 12.5, 11.25]


@pytest.mark.parametrize("length", [2, 5, 14, 30])
def test_indicators_equal_a_pandas_version_on_made_candles(length: int) -> None:
    frame = made_candles(400)
    high, low, close, volume = arrays(frame, "high", "low", "close", "volume")
    np.testing.assert_allclose(choppiness(high, low, close, length), choppiness_in_pandas(frame, length), atol=1e-7)
    np.testing.assert_allclose(
        money_flow_index(high, low, close, volume, length), money_flow_in_pandas(frame, length), atol=1e-7
    )


def test_a_window_of_candles_flat_at_one_price_has_no_choppiness() -> None:
    price = np.full(40, 7.0)
    assert np.isnan(choppiness(price, price, price, 14)).all()


def test_a_window_without_volume_has_no_money_flow_index() -> None:
    frame = made_candles(120)
    high, low, close, volume = arrays(frame, "high", "low", "close", "volume")
    volume = np.r_[volume[:40], np.zeros(40), volume[80:]]
    index = money_flow_index(high, low, close, volume, 14)
    assert np.isnan(index[53:80]).all()
    assert np.isfinite(np.r_[index[14:53], index[80:]]).all()


def test_only_falling_flow_is_a_money_flow_index_of_zero() -> None:
    price = np.linspace(100.0, 50.0, 30)
    assert money_flow_index(price, price, price, np.full(30, 10.0), 14)[14:].tolist() == [0.0] * 16


def test_a_tiny_flow_on_both_sides_is_not_read_as_pure_selling() -> None:
    price = 1.0 + 0.1 * (np.arange(40) % 2)
    assert not (money_flow_index(price, price, price, np.full(40, 1e-4), 14)[14:] == 0.0).any()


def test_turns_on_marks_the_first_true_of_each_stretch_but_never_the_first_row() -> None:
    assert turns_on(np.array([True, True, False, True, True])).tolist() == [False, False, False, True, False]


def test_a_profit_target_is_hit_once_and_leaves_the_indicator_flat() -> None:
    close = np.array([100.0, 101, 103, 104, 99])
    buy = np.array([True, False, False, False, False])
    result = profit_targets(buy, np.zeros(5, bool), close + 0.5, close - 0.5, close, np.full(5, 2.5))
    assert result.hit.tolist() == [False, False, True, False, False]
    assert result.price == pytest.approx([102.5, 102.5, 102.5, math.nan, math.nan], nan_ok=True)


def test_the_signal_candle_itself_never_hits_its_own_target() -> None:
    close, buy = np.array([100.0, 100.0]), np.array([True, False])
    result = profit_targets(buy, np.zeros(2, bool), np.array([150.0, 101.0]), close - 1, close, np.full(2, 5.0))
    assert not result.hit.any()


def test_a_short_target_is_reached_by_the_low() -> None:
    close, sell = np.array([100.0, 99.0, 98.0]), np.array([True, False, False])
    result = profit_targets(np.zeros(3, bool), sell, close + 1, np.array([99.0, 98.0, 95.0]), close, np.full(3, 5.0))
    assert result.hit.tolist() == [False, False, True]
    assert result.price.tolist() == [95.0, 95.0, 95.0]


def test_an_opposite_signal_reverses_without_a_hit_and_a_repeated_one_is_ignored() -> None:
    close = np.array([100.0, 101.0, 102.0, 101.0])
    buy, sell = np.array([True, True, False, False]), np.array([False, False, True, False])
    result = profit_targets(buy, sell, close, close, close, np.full(4, 10.0))
    assert not result.hit.any()
    assert result.price.tolist() == [110.0, 110.0, 92.0, 92.0]


def test_a_repeated_signal_on_the_last_candle_is_ignored_as_well() -> None:
    close, buy = np.array([100.0, 101.0, 102.0]), np.array([True, False, True])
    result = profit_targets(buy, np.zeros(3, bool), close, close, close, np.full(3, 10.0))
    assert result.price.tolist() == [110.0, 110.0, 110.0]


@settings(max_examples=150, deadline=None)
@given(
    signals=st.lists(st.sampled_from([-1, 0, 0, 0, 1]), max_size=120),
    seed=st.integers(0, 10_000),
    distance=st.sampled_from([0.0, 0.1, 0.5, 2.0, 50.0]),
)
def test_profit_targets_equal_a_plain_loop(signals: list[int], seed: int, distance: float) -> None:
    side = np.array(signals, dtype=int)
    frame = made_candles(len(side), seed)
    given_arrays = (side > 0, side < 0, *arrays(frame, "high", "low", "close"), np.full(len(side), distance))
    hit, price = targets_by_hand(*given_arrays)
    result = profit_targets(*given_arrays)
    assert result.hit.tolist() == hit.tolist()
    np.testing.assert_array_equal(result.price, price)


def test_a_target_far_beyond_one_block_of_candles_is_still_found() -> None:
    n = 5000
    close, buy = np.full(n, 100.0), np.zeros(n, bool)
    buy[3] = True
    high = close.copy()
    high[4321] = 111.0
    assert np.flatnonzero(profit_targets(buy, ~buy & False, high, close, close, np.full(n, 10.0)).hit).tolist() == [
        4321
    ]


def test_compute_smm_equals_its_description_written_in_pandas() -> None:
    frame = made_candles(3000)
    result = compute_smm(frame)
    chop, mfi = choppiness_in_pandas(frame, 14), money_flow_in_pandas(frame, 14)
    ha_close = frame[["open", "high", "low", "close"]].mean(axis=1)
    seed = (frame["open"].iloc[0] + frame["close"].iloc[0]) / 2
    ha_open = pd.Series([seed, *ha_close.iloc[:-1]], index=frame.index).ewm(alpha=0.5, adjust=False).mean()
    up, down = ha_close > ha_open, ha_close < ha_open
    buy = up & ~up.shift(1, fill_value=True) & (chop < 42) & (mfi > 50)
    sell = down & ~down.shift(1, fill_value=True) & (chop < 42) & (mfi < 50)
    assert buy.sum() > 10
    assert sell.sum() > 10
    pd.testing.assert_series_equal(result["buy_signal"], buy, check_names=False)
    pd.testing.assert_series_equal(result["sell_signal"], sell, check_names=False)
    hit, price = targets_by_hand(
        buy.to_numpy(), sell.to_numpy(), *arrays(frame, "high", "low", "close"), 2 * result["atr"].to_numpy()
    )
    assert hit.sum() > 10
    assert result["profit_target_hit"].tolist() == hit.tolist()
    np.testing.assert_allclose(result["profit_target"], price)


def test_compute_smm_passes_the_contract_with_its_columns_in_order() -> None:
    columns = compute_columns(compute_smm, made_candles(500), {"target_atr": 1.0})
    assert columns.has_profit_target
    assert list(columns.extras) == ["chop", "mfi", "ha_open", "ha_close", "atr", "profit_target"]
    assert not (columns.buy_signal & columns.sell_signal).any()


@pytest.mark.parametrize("n", [0, 1, 2, 3, 13, 14, 15, 16])
def test_few_candles_give_few_rows_and_no_signal(n: int) -> None:
    columns = compute_columns(compute_smm, made_candles(n), {})
    assert len(columns) == n
    assert not columns.buy_signal[:14].any()
    assert not columns.sell_signal[:14].any()


@pytest.mark.parametrize("column", ["volume", "price"])
def test_dead_markets_give_no_signal_and_no_warning(column: str) -> None:
    frame = made_candles(200)
    if column == "volume":
        frame["volume"] = 0.0
    else:
        frame[["open", "high", "low", "close"]] = 25.0
    result = compute_smm(frame)
    assert not result[["buy_signal", "sell_signal", "profit_target_hit"]].any(axis=None)


def test_compute_smm_leaves_the_frame_it_is_given_alone() -> None:
    frame = made_candles(100)
    before = frame.copy()
    compute_smm(frame)
    pd.testing.assert_frame_equal(frame, before)


def test_compute_smm_does_not_look_ahead() -> None:
    audit = audit_look_ahead(compute_smm, made_candles(2500), {}, budget=300)
    assert audit.covers_every_signal
    assert audit.signal_rows > 50
    assert audit.passed, audit.first


def test_real_five_minute_candles_give_a_few_trades_a_day() -> None:
    path = VECTORS.parent / "klines" / "BTCUSDT-5m_2024-10_2025-02.csv.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not on this machine")
    frame = pd.read_csv(path)
    frame.index = pd.to_datetime(frame.pop("timestamp"), unit="ms", utc=True)
    columns = compute_columns(compute_smm, frame, {})
    days = len(frame) / 288
    assert 1 < columns.buy_signal.sum() / days < 5
    assert 1 < columns.sell_signal.sum() / days < 5
