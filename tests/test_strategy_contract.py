"""The contract: how compute_smm() is called, what its columns become, what raising and bad parameters get."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import FrozenInstanceError

import numpy as np
import pandas as pd
import pytest
from strategy_cases import N, candles, columns_of, flags, refusal

from strategy.contract import StrategyRefused, compute_columns


def test_a_frame_with_all_columns_is_read() -> None:
    def compute_smm(df):
        df["buy_signal"] = df["close"] > 103
        df["sell_signal"] = df["close"] < 101
        df["profit_target_hit"] = df["close"] == 102
        df["chop"] = df["close"] / 2
        return df

    columns = compute_columns(compute_smm, candles(), {})
    assert columns.buy_signal.tolist() == [False, False, False, False, True, True]
    assert columns.sell_signal.tolist() == [True, False, False, False, False, False]
    assert columns.profit_target_hit.tolist() == [False, False, True, False, False, False]
    assert columns.has_profit_target
    assert columns.extras["chop"].tolist() == [50.0, 50.5, 51.0, 51.5, 52.0, 52.5]
    assert len(columns) == N


def test_a_mapping_of_arrays_lists_and_series_is_read() -> None:
    target = pd.Series([1, 0, 0, 0, 0, 0], index=candles().index)
    columns = columns_of(flags(profit_target_hit=target, level=(1, 2, 3, 4, 5, 6)))
    assert columns.buy_signal.tolist() == [False, True, False, False, False, False]
    assert columns.profit_target_hit.tolist() == [True, False, False, False, False, False]
    assert columns.extras["level"].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_a_function_may_change_its_frame_and_return_none() -> None:
    def compute_smm(df):
        df["buy_signal"] = True
        df["sell_signal"] = False

    columns = compute_columns(compute_smm, candles(), {})
    assert columns.buy_signal.all()
    assert not columns.sell_signal.any()


def test_the_function_gets_float_candles_with_their_utc_open_times_and_its_parameters() -> None:
    seen = {}

    def compute_smm(df, length=3, **more):
        seen.update(frame=df, length=length, more=more)
        return flags()

    frame = candles().astype({"volume": int})
    frame["leftover"] = 1.0
    compute_columns(compute_smm, frame, {"length": 9, "mode": "fast"})
    assert list(seen["frame"].columns) == ["open", "high", "low", "close", "volume"]
    assert set(seen["frame"].dtypes) == {np.dtype(float)}
    assert str(seen["frame"].index.tz) == "UTC"
    assert seen["frame"].index[1] == pd.Timestamp("2024-03-01 00:15", tz="UTC")
    assert (seen["length"], seen["more"]) == (9, {"mode": "fast"})


def test_nothing_the_function_does_to_its_frame_reaches_the_real_candles() -> None:
    frame = candles()
    before = frame.copy()

    def compute_smm(df):
        df["close"] = 0.0
        df.loc[df.index[0], "open"] = -1.0
        df.index.name = "mine"
        df["buy_signal"] = df["sell_signal"] = False
        return df

    columns = compute_columns(compute_smm, frame, {})
    pd.testing.assert_frame_equal(frame, before)
    assert frame.index.name == "time"
    assert not columns.extras


def test_the_columns_do_not_share_memory_with_what_the_function_keeps() -> None:
    kept = {"buy_signal": np.zeros(N, bool), "sell_signal": np.zeros(N, bool), "chop": np.zeros(N)}
    columns = columns_of(kept)
    kept["buy_signal"][:] = True
    kept["chop"][:] = 9.0
    assert not columns.buy_signal.any()
    assert not columns.extras["chop"].any()


@pytest.mark.parametrize("hit", [{}, {"profit_target_hit": None}])
def test_without_a_profit_target_the_columns_say_so_and_it_is_never_hit(hit: dict[str, object]) -> None:
    columns = columns_of(flags(**hit))
    assert not columns.has_profit_target
    assert columns.profit_target_hit.tolist() == [False] * N


@pytest.mark.parametrize(
    ("values", "rows"),
    [
        ([np.nan, np.nan, 0.0, 1.0, 0.0, 0.0], None),
        ([np.nan, 1.0, np.nan, 0.0, np.nan, 0.0], (2, 2)),
        ([1.0, 0.0, 0.0, 0.0, 0.0, np.nan], (1, 5)),
        ([np.nan] * N, (N, 0)),
        ([None, True, None, False, False, False], (1, 2)),
        ([True, False, True, True, True, True], None),
    ],
)
def test_nan_after_the_warm_up_is_false_and_told(values: list[object], rows: tuple[int, int] | None) -> None:
    columns = columns_of(flags(buy_signal=values))
    assert columns.buy_signal.tolist() == [value == 1 for value in values]
    assert dict(columns.undefined) == ({} if rows is None else {"buy_signal": rows})


def test_columns_are_frozen_and_compare_by_identity() -> None:
    columns = columns_of(flags())
    with pytest.raises(FrozenInstanceError):
        columns.has_profit_target = True  # type: ignore[misc]
    assert columns != columns_of(flags())


def test_lines_gives_the_flags_first_and_then_the_extras() -> None:
    assert list(columns_of(flags(mfi=np.ones(N))).lines()) == ["buy_signal", "sell_signal", "profit_target_hit", "mfi"]


def test_an_exception_is_refused_with_its_type_text_and_line_and_kept_as_the_cause() -> None:
    def compute_smm(df):
        return df["colse"]

    line = inspect.getsourcelines(compute_smm)[1] + 1
    with pytest.raises(StrategyRefused) as caught:
        compute_columns(compute_smm, candles(), {})
    message = str(caught.value)
    assert "compute_smm() must not raise, and it raised KeyError: 'colse'" in message
    assert f"(test_strategy_contract.py, line {line})" in message
    assert "--debug" in message
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_exception_without_text_and_one_of_many_lines_make_one_line() -> None:
    def silent(df):
        raise ValueError

    def talkative(df):
        raise ValueError("first\nsecond " + "x" * 500)

    assert "raised ValueError (" in refusal(silent)
    message = refusal(talkative)
    assert "ValueError: first second xxx" in message
    assert len(message) < 400


def test_a_missing_package_is_named() -> None:
    def compute_smm(df):
        import no_such_package_here.part

        return no_such_package_here.part.run(df)

    message = refusal(compute_smm)
    assert "needs the package 'no_such_package_here'" in message
    assert "Install the package" in message


def test_a_name_missing_from_a_package_is_told_as_what_it_is() -> None:
    def compute_smm(df):
        from math import no_such_function

        return no_such_function(df)

    assert "ImportError: cannot import name 'no_such_function'" in refusal(compute_smm)


def test_ending_the_program_is_refused() -> None:
    def compute_smm(df):
        raise SystemExit(0)

    message = refusal(compute_smm)
    assert "tried to end the program" in message
    assert "Remove the exit() call" in message


def test_an_interrupt_by_the_person_passes_through() -> None:
    def compute_smm(df):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute_columns(compute_smm, candles(), {})


def test_a_warning_of_the_users_code_is_no_refusal() -> None:
    def compute_smm(df):
        warnings.warn("old indicator", UserWarning, stacklevel=1)
        return flags()

    with pytest.warns(UserWarning, match="old indicator"):
        assert len(compute_columns(compute_smm, candles(), {})) == N


def test_an_unknown_parameter_is_refused_before_the_code_runs_with_the_likely_name() -> None:
    def compute_smm(df, chop_length=14, mfi_length=14):
        raise AssertionError

    message = refusal(compute_smm, {"chop_lenght": 20})
    assert "[strategy.parameters] sets 'chop_lenght'" in message
    assert "takes chop_length, mfi_length" in message
    assert "Did you mean 'chop_length'?" in message


def test_a_parameter_for_a_function_that_takes_none_is_refused() -> None:
    message = refusal(lambda df: flags(), {"length": 3})
    assert "takes no parameters besides the candle frame" in message
    assert "Remove it" in message


def test_the_candle_frame_cannot_be_set_as_a_parameter() -> None:
    assert "sets 'df'" in refusal(lambda df, length=1: flags(), {"df": 1})


def test_a_parameter_without_a_value_is_refused_by_name() -> None:
    message = refusal(lambda df, length, speed: flags(), {"speed": 1})
    assert "needs a value for 'length'" in message
    assert "[strategy.parameters]" in message


@pytest.mark.parametrize("compute", [lambda: None, lambda *, df: None, lambda **all: None])
def test_a_function_that_takes_no_frame_is_refused(compute: Callable[..., object]) -> None:
    message = refusal(compute)
    assert "must take the candle frame as its first argument" in message
    assert "compute_smm(df, ...)" in message


def test_a_type_error_inside_the_function_is_the_functions_own() -> None:
    def compute_smm(df, length=1):
        return len(length)

    assert "it raised TypeError: object of type 'int' has no len()" in refusal(compute_smm)


def test_a_compiled_function_that_does_not_tell_its_parameters_is_simply_called() -> None:
    assert "it returned str" in refusal(max)
    message = refusal(int)
    assert "it raised TypeError" in message
    assert ", line" not in message


def test_arguments_by_position_are_understood() -> None:
    def compute_smm(*frames, **parameters):
        return flags(level=np.full(len(frames[0]), parameters["level"]))

    assert compute_columns(compute_smm, candles(), {"level": 4}).extras["level"].tolist() == [4.0] * N
