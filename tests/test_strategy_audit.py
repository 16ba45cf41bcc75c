"""The audits: planted look-aheads are found at the right bar, honest code passes, windows have their true length."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.audit import audit_look_ahead, audit_warm_up, choose_cut_points, first_unequal
from strategy.contract import StrategyRefused
from strategy.loader import load_strategy


def candles(n: int = 400) -> pd.DataFrame:
    close = 100 + np.cumsum(np.random.default_rng(11).normal(0, 1, n))
    columns = {"open": close, "high": close + 1, "low": close - 1, "close": close, "volume": np.ones(n)}
    return pd.DataFrame(columns, index=pd.date_range("2024-03-01", periods=n, freq="1h", tz="UTC"))


def honest(df, length=10):
    mean = df["close"].rolling(length).mean()
    df["buy_signal"] = (df["close"] > mean) & (df["close"].shift(1) <= mean.shift(1))
    df["sell_signal"] = (df["close"] < mean) & (df["close"].shift(1) >= mean.shift(1))
    df["mean"] = mean
    return df


def peeks_one_candle(df):
    df["buy_signal"] = df["close"].shift(-1) > df["close"] + 2
    df["sell_signal"] = False
    return df


def test_honest_code_passes_with_every_signal_covered() -> None:
    audit = audit_look_ahead(honest, candles(), {}, budget=300)
    assert audit.passed
    assert audit.covers_every_signal
    assert audit.first is None
    assert audit.signal_rows == int(honest(candles())[["buy_signal", "sell_signal"]].any(axis=1).sum())


def test_a_signal_that_knows_the_next_candle_is_found_at_its_first_bar_with_both_values() -> None:
    frame = candles()
    audit = audit_look_ahead(peeks_one_candle, frame, {}, budget=300)
    signals = np.flatnonzero(np.diff(frame["close"]) > 2)
    assert not audit.passed
    assert audit.flags_affected
    assert audit.first is not None
    assert (audit.first.bar, audit.first.column, audit.first.known_candles) == (
        signals[0],
        "buy_signal",
        signals[0] + 1,
    )
    assert (audit.first.value_then, audit.first.value_full) == (False, True)
    assert audit.first.open_time == datetime(2024, 3, 1, tzinfo=UTC) + (frame.index[signals[0]] - frame.index[0])


def test_a_signal_that_later_candles_take_away_is_found() -> None:
    def compute_smm(df):
        last_high = df["close"] == df["close"].max()
        return {"buy_signal": last_high, "sell_signal": ~last_high & False}

    audit = audit_look_ahead(compute_smm, candles(), {})
    assert audit.first is not None
    assert (audit.first.value_then, audit.first.value_full) == (True, False)


def test_an_extra_scaled_by_the_whole_history_is_found_and_told_apart_from_the_flags() -> None:
    def compute_smm(df):
        df = honest(df)
        df["score"] = (df["close"] - df["close"].mean()) / df["close"].std()
        return df

    audit = audit_look_ahead(compute_smm, candles(), {})
    assert not audit.passed
    assert not audit.flags_affected
    assert [difference.column for difference in audit.differences] == ["score"]
    assert audit.first is not None
    assert audit.first.bar == 0


def test_each_column_is_reported_once_with_the_first_bar_first() -> None:
    def compute_smm(df):
        df["buy_signal"] = df["close"].shift(-1) > df["close"] + 2
        df["sell_signal"] = False
        df["ahead"] = df["close"].shift(-1)
        return df

    audit = audit_look_ahead(compute_smm, candles(), {})
    assert [difference.column for difference in audit.differences] == ["ahead", "buy_signal"]
    assert np.isnan(audit.differences[0].value_then)


def test_a_column_that_only_long_histories_have_counts_as_missing_before() -> None:
    def compute_smm(df):
        df = honest(df)
        return df.assign(late=1.0) if len(df) > 200 else df

    audit = audit_look_ahead(compute_smm, candles(), {})
    assert [difference.column for difference in audit.differences] == ["late"]


def test_code_that_answers_differently_each_time_is_said_to() -> None:
    def compute_smm(df, state=[]):  # noqa: B006 - the mistake under test
        state.append(1)
        return honest(df).assign(calls=float(len(state)))

    audit = audit_look_ahead(compute_smm, candles(), {})
    assert audit.repeat_difference is not None
    assert audit.repeat_difference.column == "calls"
    assert not audit.passed


def test_a_history_too_short_for_the_function_is_counted_and_no_failure() -> None:
    def compute_smm(df):
        if len(df) < 11:
            raise ValueError("give me more candles")
        return honest(df)

    audit = audit_look_ahead(compute_smm, candles(), {}, budget=399)
    assert audit.passed
    assert audit.refused_rows
    assert audit.refused_signal_rows == ()
    assert "give me more candles" in str(audit.refusal)


def test_a_signal_that_could_not_have_been_computed_in_its_time_is_a_failure() -> None:
    def compute_smm(df):
        if len(df) < 300:
            raise ValueError("give me more candles")
        return honest(df)

    audit = audit_look_ahead(compute_smm, candles(), {})
    assert not audit.passed
    assert audit.refused_signal_rows
    assert not audit.covers_every_signal


def test_a_function_that_breaks_the_contract_on_the_whole_history_is_refused() -> None:
    for run in (audit_look_ahead, audit_warm_up):
        with pytest.raises(StrategyRefused, match="sell_signal"):
            run(lambda df: {"buy_signal": np.zeros(len(df))}, candles(), {})


def test_parameters_reach_the_function_and_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    audit = audit_look_ahead(honest, candles(), {"length": 50}, progress=lambda done, of: told.append((done, of)))
    assert audit.passed
    assert told == [(number, audit.cuts) for number in range(1, audit.cuts + 1)]


def test_results_are_frozen() -> None:
    audit = audit_look_ahead(honest, candles(60), {})
    with pytest.raises(FrozenInstanceError):
        audit.cuts = 0  # type: ignore[misc]


@pytest.mark.parametrize("run", [audit_look_ahead, audit_warm_up])
def test_a_budget_below_two_is_a_mistake_of_the_caller(run) -> None:
    with pytest.raises(ValueError, match="budget is 1"):
        run(honest, candles(20), {}, budget=1)


@pytest.mark.parametrize("n", [1, 2, 3, 12])
def test_short_histories_can_be_audited(n: int) -> None:
    assert not audit_look_ahead(honest, candles(n), {}).differences
    assert audit_warm_up(honest, candles(n), {}).candles == n


@given(st.sets(st.integers(0, 499)), st.integers(2, 300))
def test_cut_points_keep_the_budget_and_cover_every_signal_that_fits(signals: set[int], budget: int) -> None:
    rows = np.array(sorted(signals), dtype=np.int64)
    cuts = choose_cut_points(rows, 500, budget).tolist()
    assert cuts == sorted(set(cuts))
    assert len(cuts) <= budget
    assert all(0 <= cut < 499 for cut in cuts)
    inside = {row for row in signals if row < 499}
    if len(inside) <= budget - max(1, budget // 10):
        assert inside <= set(cuts)


def test_cut_points_beyond_the_budget_are_spread_over_the_whole_history() -> None:
    cuts = choose_cut_points(np.arange(10_000), 10_000, 100)
    assert len(cuts) > 80
    assert np.diff(cuts).max() < 300
    assert cuts[-1] == 9998


def test_the_first_unequal_row_is_found_and_nan_equals_nan() -> None:
    column = np.array([np.nan, 1.0, np.inf, 4.0])
    assert first_unequal(column, column.copy()) is None
    assert first_unequal(column, np.array([np.nan, 1.0, np.inf, 5.0])) == 3
    assert first_unequal(column, np.array([0.0, 1.0, np.inf, 5.0])) == 0
    assert first_unequal(np.array([True, False]), np.array([True, True])) == 1


def test_rounding_noise_is_no_difference_even_around_zero() -> None:
    column = np.array([100.0, -80.0, 1e-12, 90.0])
    assert first_unequal(column + 1e-11, column) is None
    assert first_unequal(column + 1e-4, column) == 0


@pytest.mark.parametrize("length", [2, 7, 30])
def test_a_rolling_mean_needs_its_length_and_the_candle_before(length: int) -> None:
    audit = audit_warm_up(honest, candles(), {"length": length}, budget=300)
    assert audit.window_candles == length + 1
    assert audit.window_all_columns == length + 1
    assert audit.unsettled_columns == ()
    assert audit.longest_tried == 200


def test_a_function_that_refuses_short_windows_needs_what_it_asks_for() -> None:
    def compute_smm(df):
        if len(df) < 77:
            raise ValueError("give me more candles")
        return honest(df)

    assert audit_warm_up(compute_smm, candles(), {}).window_candles == 77


def test_an_average_with_endless_memory_settles_within_a_millionth() -> None:
    def compute_smm(df):
        flags = honest(df)[["buy_signal", "sell_signal"]]
        return flags.assign(slow=df["close"].ewm(alpha=0.5, adjust=False).mean())

    audit = audit_warm_up(compute_smm, candles(), {})
    assert audit.window_candles == 11
    # the memory of the seed, about 1 in 100, halves with each candle: below 1e-6 after about 14
    assert audit.window_all_columns is not None
    assert 13 <= audit.window_all_columns <= 22


def test_a_running_total_never_settles_and_is_named() -> None:
    def compute_smm(df):
        return honest(df).assign(total=df["volume"].cumsum() * 7)

    audit = audit_warm_up(compute_smm, candles(), {})
    assert audit.window_candles == 11
    assert audit.window_all_columns is None
    assert audit.unsettled_columns == ("total",)


def test_flags_that_depend_on_the_first_candle_have_no_window() -> None:
    def compute_smm(df):
        return {"buy_signal": df["close"] > df["close"].iloc[0], "sell_signal": df["close"] < df["close"].iloc[0]}

    audit = audit_warm_up(compute_smm, candles(), {})
    assert audit.window_candles is None
    assert audit.window_all_columns is None


def test_a_window_that_was_right_by_luck_is_checked_again_at_its_final_length() -> None:
    def compute_smm(df):
        odd = len(df) in (2, 3) and df.index[-1].hour % 2 == 0
        on = df.index.hour % 2 == 1
        return {"buy_signal": (on | odd) if len(df) < 4 else on, "sell_signal": on & (len(df) < 2)}

    assert audit_warm_up(compute_smm, candles(), {}).window_candles == 4


def test_the_template_for_the_slot_does_not_look_ahead() -> None:
    template = load_strategy(Path(__file__).resolve().parents[1] / "examples" / "your_compute_smm.py")
    audit = audit_look_ahead(template.compute, candles(), {"fast": 5, "slow": 20}, budget=399)
    assert audit.passed, audit.first
    assert audit.covers_every_signal
