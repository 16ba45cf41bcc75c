"""The contract: what compute_smm() may return, how its columns are read, and what each breach is answered with."""

from __future__ import annotations

import inspect
import keyword
import warnings
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from decimal import Decimal

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.contract import SmmColumns, StrategyRefused, compute_columns
from strategy.line_names import BACKTRADER_NAMES, line_name

N = 6


def candles(n: int = N) -> pd.DataFrame:
    close = 100.0 + np.arange(n)
    columns = {"open": close - 0.5, "high": close + 1, "low": close - 1, "close": close, "volume": np.full(n, 3.0)}
    return pd.DataFrame(columns, index=pd.date_range("2024-03-01", periods=n, freq="15min", tz="UTC", name="time"))


def columns_of(returned: object, n: int = N) -> SmmColumns:
    return compute_columns(lambda df: returned, candles(n), {})


def flags(**more: object) -> dict[str, object]:
    return {"buy_signal": [False, True] + [False] * (N - 2), "sell_signal": np.zeros(N, bool)} | more


def refusal(compute: Callable[..., object], parameters: dict[str, object] | None = None) -> str:
    with pytest.raises(StrategyRefused) as caught:
        compute_columns(compute, candles(), parameters or {})
    message = str(caught.value)
    assert "Traceback" not in message
    assert "\n" not in message
    return message


def refused(returned: object) -> str:
    return refusal(lambda df: returned)


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


def test_columns_are_frozen_and_compare_by_identity() -> None:
    columns = columns_of(flags())
    with pytest.raises(FrozenInstanceError):
        columns.has_profit_target = True  # type: ignore[misc]
    assert columns != columns_of(flags())


def test_lines_gives_the_flags_first_and_then_the_extras() -> None:
    assert list(columns_of(flags(mfi=np.ones(N))).lines()) == ["buy_signal", "sell_signal", "profit_target_hit", "mfi"]


YES_NO_NAN = {
    "bools": [True, False, False],
    "integers": np.array([1, 0, 0], dtype=np.int8),
    "floats with NaN": np.array([1.0, 0.0, np.nan]),
    "float32": np.array([1, -0.0, np.nan], dtype=np.float32),
    "objects of bools": np.array([True, False, None], dtype=object),
    "objects of all kinds": np.array([np.True_, Decimal(0), pd.NA], dtype=object),
    "nullable boolean": pd.array([True, False, pd.NA], dtype="boolean"),
    "nullable integer": pd.array([1, 0, pd.NA], dtype="Int64"),
    "nullable float": pd.array([1.0, 0.0, pd.NA], dtype="Float64"),
    "arrow boolean": pd.array([True, False, None], dtype="bool[pyarrow]"),
    "arrow integer": pd.array([1, 0, None], dtype="int64[pyarrow]"),
    "categorical": pd.Categorical([True, False, None]),
    "categorical numbers": pd.Categorical([1, 0, 0]),
    "sparse": pd.arrays.SparseArray([True, False, False]),
    "masked": np.ma.MaskedArray([True, False, True], mask=[False, False, True]),
}


@pytest.mark.parametrize("values", YES_NO_NAN.values(), ids=YES_NO_NAN.keys())
def test_every_kind_of_yes_and_no_is_read_and_missing_means_no(values: object) -> None:
    columns = columns_of({"buy_signal": values, "sell_signal": [False] * 3}, n=3)
    assert columns.buy_signal.tolist() == [True, False, False]
    assert columns.buy_signal.dtype == np.bool_


def test_a_flag_that_is_missing_on_every_row_is_never_true() -> None:
    columns = columns_of(flags(sell_signal=[None] * N, buy_signal=np.full(N, np.nan)))
    assert not columns.buy_signal.any()
    assert not columns.sell_signal.any()


@pytest.mark.parametrize(
    ("bad", "shown"),
    [
        ("yes", "'yes'"),
        ("True", "'True'"),
        (0.5, "0.5"),
        (np.inf, "inf"),
        (-1, "-1"),
        (2, "2"),
        (1 + 0j, "(1+0j)"),
        ([1], "[1]"),
        (pd.Timestamp("2024-01-01"), "Timestamp"),
    ],
)
def test_a_flag_that_is_no_yes_or_no_is_refused_with_its_first_row(bad: object, shown: str) -> None:
    values = np.empty(N, dtype=object)
    values[:] = [None, True, bad, False, bad, False]
    for column in (values, pd.Series(list(values), index=candles().index)):
        message = refused(flags(sell_signal=column))
        assert "Column 'sell_signal' of compute_smm() must hold True or False" in message
        assert "row 2 (2024-03-01 00:30:00+00:00) holds" in message
        assert shown in message
        assert "Compare it to something" in message


@pytest.mark.parametrize("dtype", ["str", "category", "int64", "float64", "datetime64[ns]"])
def test_a_flag_of_a_wrong_type_is_refused(dtype: str) -> None:
    assert "row 0 (2024-03-01 00:00:00+00:00)" in refused(flags(buy_signal=pd.Series([7] * N).astype(dtype).array))


@pytest.mark.parametrize("name", ["buy_signal", "sell_signal"])
def test_a_missing_flag_column_is_refused_and_named(name: str) -> None:
    returned = flags(chop=np.ones(N))
    del returned[name]
    message = refused(returned)
    assert f"must return the column '{name}'" in message
    assert "chop" in message
    assert "Name the columns exactly so" in message


def test_a_misspelt_flag_column_is_refused_with_the_likely_name_and_never_guessed() -> None:
    message = refused({"Buy_Signal": np.zeros(N), "sell_signal": np.zeros(N)})
    assert "must return the column 'buy_signal'" in message
    assert "Did you mean 'Buy_Signal'?" in message


def test_a_frame_without_any_flag_is_refused() -> None:
    message = refused(candles())
    assert "columns 'buy_signal' and 'sell_signal'" in message
    assert "no column of its own" in message


def test_a_forgotten_return_is_refused_with_the_remedy() -> None:
    def compute_smm(df):
        df = df.assign(buy_signal=False, sell_signal=False)

    message = refusal(compute_smm)
    assert "it returned None and df has none such" in message
    assert "return df" in message


@pytest.mark.parametrize("rows", [0, N - 1, N + 1])
def test_an_array_of_another_length_is_refused_with_both_lengths(rows: int) -> None:
    message = refused(flags(buy_signal=np.zeros(rows, bool)))
    assert "must return one row per candle" in message
    assert f"column 'buy_signal' has {rows} rows for {N} candles" in message
    assert "Return every row" in message


def test_an_extra_column_of_another_length_is_refused_too() -> None:
    assert "column 'chop' has 2 rows" in refused(flags(chop=[1.0, 2.0]))


def test_a_table_in_the_place_of_a_column_is_refused() -> None:
    assert "column 'buy_signal' has the shape (6, 1)" in refused(flags(buy_signal=np.zeros((N, 1))))


@pytest.mark.parametrize("value", [True, None, "x", {1, 2}])
def test_a_single_value_in_the_place_of_a_flag_is_refused(value: object) -> None:
    message = refused(flags(sell_signal=value))
    assert f"'sell_signal' is {value!r}, not a column" in message
    assert "one row per candle" in message


def test_a_frame_that_lost_rows_is_refused() -> None:
    def compute_smm(df):
        df["buy_signal"] = df["sell_signal"] = False
        return df.iloc[2:]

    message = refusal(compute_smm)
    assert "the returned frame has 4 rows for 6 candles" in message
    assert "NaN or False during warm-up" in message


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # files written for older pandas
def test_rows_dropped_in_place_are_refused() -> None:
    def compute_smm(df):
        df["buy_signal"] = df["sell_signal"] = False
        df.drop(df.index[0], inplace=True)

    assert "df has 5 rows for 6 candles" in refusal(compute_smm)


def reversed_frame(df: pd.DataFrame) -> pd.DataFrame:
    return df.assign(buy_signal=False, sell_signal=False).iloc[::-1]


def test_reordered_rows_are_refused_with_the_first_one_out_of_place() -> None:
    message = refusal(reversed_frame)
    assert "must keep the rows in the order given" in message
    assert "row 0 of the returned frame is 2024-03-01 01:15:00+00:00" in message
    assert "the candle there is 2024-03-01 00:00:00+00:00" in message
    assert "Sort by the index" in message


def test_reordered_rows_in_a_series_of_a_mapping_are_refused() -> None:
    series = pd.Series(np.zeros(N), index=candles().index).iloc[::-1]
    assert "row 0 of column 'mfi'" in refused(flags(mfi=series))


def test_times_shifted_by_a_dropped_time_zone_are_refused() -> None:
    index = candles().index.tz_convert("Asia/Riyadh").tz_localize(None)
    assert "row 0 of column 'buy_signal' is 2024-03-01 03:00:00" in refused(
        flags(buy_signal=pd.Series(np.zeros(N), index=index))
    )


@pytest.mark.parametrize("returned", [lambda df: df.reset_index(), lambda df: df.set_index("close")])
def test_a_replaced_index_is_refused(returned: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    message = refusal(lambda df: returned(df.assign(buy_signal=False, sell_signal=False)))
    assert "must keep the index of df" in message
    assert "Index instead" in message
    assert "reset_index()" in message


def test_a_series_without_the_index_is_refused() -> None:
    message = refused(flags(buy_signal=pd.Series(np.zeros(N))))
    assert "column 'buy_signal' has a RangeIndex instead" in message
    assert "index=df.index" in message


@pytest.mark.parametrize(
    "times",
    [
        lambda index: index.tz_convert("Asia/Riyadh"),
        lambda index: index.tz_localize(None),
        lambda index: index.as_unit("s"),
        lambda index: index.rename("other"),
    ],
)
def test_the_same_times_written_otherwise_are_no_new_order(times: Callable[[pd.DatetimeIndex], pd.Index]) -> None:
    frame = candles().assign(buy_signal=True, sell_signal=False)
    frame.index = times(frame.index)
    assert columns_of(frame).buy_signal.all()


def test_repeated_columns_are_refused() -> None:
    frame = candles().assign(buy_signal=False, sell_signal=False)
    message = refused(pd.concat([frame, frame[["sell_signal"]]], axis=1))
    assert "each column once, and 'sell_signal' is there 2 times" in message
    assert "Drop or rename" in message


def test_columns_of_several_levels_are_refused() -> None:
    frame = candles().assign(buy_signal=False, sell_signal=False)
    frame.columns = pd.MultiIndex.from_product([["x"], frame.columns])
    assert "its frame has 2 levels" in refused(frame)


@pytest.mark.parametrize(
    ("returned", "kind", "remedy"),
    [
        (candles()["close"], "Series", "Add the columns to df"),
        (np.zeros((N, 2)), "ndarray", "Add the columns to df"),
        ((candles(), 3), "tuple", "one DataFrame that holds all columns"),
        (True, "bool", "Add the columns to df"),
        ("done", "str", "Add the columns to df"),
    ],
)
def test_anything_else_returned_is_refused_by_its_type(returned: object, kind: str, remedy: str) -> None:
    message = refused(returned)
    assert "must return a DataFrame or a mapping of arrays" in message
    assert f"it returned {kind}." in message
    assert remedy in message


def test_a_frame_of_another_library_is_refused_with_its_own_way_out() -> None:
    class OtherFrame:
        def to_pandas(self): ...

    assert ".to_pandas()" in refused(OtherFrame())


def test_an_async_function_is_refused() -> None:
    async def compute_smm(df):
        return df

    message = refusal(compute_smm)
    assert "it returned coroutine" in message
    assert "not async def" in message


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


def test_extras_are_numbers_only_and_candle_columns_are_not_among_them() -> None:
    columns = columns_of(
        flags(
            chop=[1, 2, 3, 4, 5, None],
            trending=[True] * N,
            label=["a"] * N,
            when=candles().index,
            mixed=np.array([1, "x", 2, 3, 4, 5], dtype=object),
            decimals=[Decimal("1.5")] * N,
            nullable=pd.array([1, pd.NA, 3, 4, 5, 6], dtype="Int64"),
            waves=np.ones(N, dtype=complex),
            setting=14,
            close=np.zeros(N),
            far=[np.inf] * N,
        )
    )
    assert list(columns.extras) == ["chop", "trending", "decimals", "nullable", "far"]
    assert {column.dtype for column in columns.extras.values()} == {np.dtype(float)}
    assert all(column.flags.c_contiguous for column in columns.extras.values())
    assert np.isnan(columns.extras["chop"][5])
    assert np.isnan(columns.extras["nullable"][1])
    assert columns.extras["decimals"][0] == 1.5
    assert columns.extras["trending"][0] == 1.0


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("mfi", "mfi"),
        (" HA Open ", "HA_Open"),
        ("chop-14%", "chop_14_"),
        ("14_day", "extra_14_day"),
        ("_private", "extra_private"),
        ("lambda", "extra_lambda"),
        ("size", "extra_size"),
        ("datetime", "extra_datetime"),
        ("openinterest", "extra_openinterest"),
        ("line3", "extra_line3"),
        ("", "extra_"),
        (7, "extra_7"),
        (("ha", "open"), "ha_open"),
        ("مؤشر", "مؤشر"),
    ],
)
def test_a_label_becomes_a_line_name(label: object, name: str) -> None:
    assert line_name(label) == name


def test_labels_that_become_the_same_name_are_numbered() -> None:
    columns = columns_of(flags() | {"a b": np.ones(N), "a-b": np.zeros(N), "a_b": np.full(N, 2.0)})
    assert [(name, values[0]) for name, values in columns.extras.items()] == [("a_b", 1), ("a_b_2", 0), ("a_b_3", 2)]


@given(st.one_of(st.text(max_size=12), st.integers(), st.sampled_from([*keyword.kwlist, *dir(bt.feeds.PandasData)])))
def test_every_line_name_is_an_identifier_that_hides_nothing_of_a_feed(label: object) -> None:
    name = line_name(label)
    assert name.isidentifier()
    assert not keyword.iskeyword(name)
    assert not hasattr(bt.feeds.PandasData, name)
    assert not hasattr(bt.feeds.PandasData.lines, name)


def test_the_reserved_names_are_those_of_the_installed_backtrader() -> None:
    frame = candles().tz_localize(None)
    feed = bt.feeds.PandasData(dataname=frame)
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feed)
    cerebro.run()
    names = {name for name in {*dir(feed), *dir(feed.lines)} if not name.startswith("_")}
    assert {name for name in names if not name.startswith("line")} <= BACKTRADER_NAMES
    assert all(line_name(name) != name for name in names)
