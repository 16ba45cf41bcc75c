"""What compute_smm() may return: every kind of yes and no is read, every breach refused with rule, find and remedy."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from strategy_cases import N, candles, columns_of, flags, refusal, refused

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
