"""What compute_smm() returned, read into columns or refused; pandas is imported here and nowhere earlier."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from feeds.lines import CANDLE_COLUMNS, FLAG_LINES, PROFIT_TARGET_HIT, REQUIRED_FLAGS
from strategy.contract import SmmColumns, UndefinedRows
from strategy.line_names import line_name
from strategy.refusal import StrategyRefused, did_you_mean, one_line

_KEEP_EVERY_ROW = "Return every row in the order given, with NaN or False during warm-up."


def read_returned(returned: object, index: pd.Index, *, left_in_frame: bool) -> SmmColumns:
    """Return the checked columns of ``returned``.

    Args:
        returned: a DataFrame, or a mapping from names to arrays or Series; anything else is refused.
        index: open times of the n candles the function was given.
        left_in_frame: True when the function returned None and ``returned`` is the frame it was given.

    Raises:
        StrategyRefused: ``returned`` breaks the contract.
    """
    columns = _columns(returned)
    _check_needed(columns, left_in_frame=left_in_frame)
    if isinstance(returned, pd.DataFrame):
        _check_index(returned.index, index, "the returned frame" if not left_in_frame else "df")
    given = {name: _aligned(name, columns[name], index) for name in FLAG_LINES if name in columns}
    flags = {name: _flag(name, values) for name, values in given.items()}
    target = flags.get(PROFIT_TARGET_HIT)
    extras: dict[str, NDArray[np.float64]] = {}
    for label, values in columns.items():
        if label in CANDLE_COLUMNS or label in FLAG_LINES or not _is_column(values):
            continue
        numbers = _numbers(_aligned(str(label), values, index))
        if numbers is not None:
            extras[line_name(label, taken=extras)] = numbers
    return SmmColumns(
        buy_signal=flags[REQUIRED_FLAGS[0]],
        sell_signal=flags[REQUIRED_FLAGS[1]],
        profit_target_hit=np.zeros(len(index), dtype=np.bool_) if target is None else target,
        has_profit_target=target is not None,
        extras=extras,
        undefined={name: rows for name, values in given.items() if (rows := _undefined(values)) is not None},
    )


def _columns(returned: object) -> dict[object, Any]:
    if isinstance(returned, pd.DataFrame):
        if returned.columns.nlevels > 1:
            raise StrategyRefused(
                f"compute_smm() must return plain column names, and its frame has {returned.columns.nlevels} levels "
                "of them. Flatten the columns before returning the frame."
            )
        repeated = returned.columns[returned.columns.duplicated()]
        if len(repeated):
            raise StrategyRefused(
                f"compute_smm() must return each column once, and {str(repeated[0])!r} is there "
                f"{int((returned.columns == repeated[0]).sum())} times. Drop or rename the repeated columns."
            )
        return {label: returned[label] for label in returned.columns}
    if isinstance(returned, Mapping):
        given = dict(returned)
        if given.get(PROFIT_TARGET_HIT, 0) is None:
            del given[PROFIT_TARGET_HIT]
        return given
    raise _wrong_type(returned)


def _wrong_type(returned: object) -> StrategyRefused:
    if inspect.iscoroutine(returned):
        returned.close()
        remedy = "Write it as a plain function: def, not async def."
    elif hasattr(returned, "to_pandas"):
        remedy = "Return it as .to_pandas() with the index of df."
    elif isinstance(returned, tuple):
        remedy = "Return one DataFrame that holds all columns, not several values."
    else:
        remedy = "Add the columns to df and return df."
    return StrategyRefused(
        "compute_smm() must return a DataFrame or a mapping of arrays, or change df and return None; "
        f"it returned {type(returned).__name__}. {remedy}"
    )


def _check_needed(columns: Mapping[object, object], *, left_in_frame: bool) -> None:
    missing = [name for name in REQUIRED_FLAGS if name not in columns]
    if not missing:
        return
    wanted = f"column{'s' if len(missing) > 1 else ''} {' and '.join(map(repr, missing))}"
    if left_in_frame:
        raise StrategyRefused(
            f"compute_smm() must give the {wanted}; it returned None and df has none such. "
            "End the function with 'return df', or add the columns to the df it was given."
        )
    own = [str(label) for label in columns if label not in CANDLE_COLUMNS]
    found = one_line(", ".join(own)) if own else "no column of its own"
    remedy = did_you_mean(missing[0], (name for name in own if name not in FLAG_LINES))
    raise StrategyRefused(
        f"compute_smm() must return the {wanted}; it returned {found}.{remedy} "
        "Name the columns exactly so, True or False on every row."
    )


def _check_index(found: pd.Index, wanted: pd.Index, holder: str) -> None:
    if len(found) != len(wanted):
        raise StrategyRefused(
            f"compute_smm() must return one row per candle: {holder} has {len(found)} rows for {len(wanted)} candles. "
            + _KEEP_EVERY_ROW
        )
    if found is wanted or found.equals(wanted) or _same_instants(found, wanted):
        return
    if isinstance(found, pd.DatetimeIndex):
        row = int(np.argmax(_utc(found).asi8 != _utc(wanted).asi8))
        raise StrategyRefused(
            f"compute_smm() must keep the rows in the order given: row {row} of {holder} is {found[row]}, "
            f"the candle there is {wanted[row]}. Sort by the index of df before returning."
        )
    raise StrategyRefused(
        f"compute_smm() must keep the index of df (candle open times); {holder} has a {type(found).__name__} instead. "
        "Leave out reset_index()/set_index(), or pass index=df.index where a Series is made."
    )


def _same_instants(found: pd.Index, wanted: pd.Index) -> bool:
    """Tell whether both name the same times: another time zone, unit or a dropped UTC changes no order."""
    if not (isinstance(found, pd.DatetimeIndex) and isinstance(wanted, pd.DatetimeIndex)):
        return False
    return bool(np.array_equal(_utc(found).asi8, _utc(wanted).asi8))


def _utc(index: pd.Index) -> pd.DatetimeIndex:
    times = pd.DatetimeIndex(index)
    aware = times.tz_localize(UTC) if times.tz is None else times.tz_convert(UTC)
    return aware.as_unit("ns")


def _is_column(values: object) -> bool:
    """Tell a column from a single value; what has no order (a set) or is keyed (a mapping) is no column either."""
    if isinstance(values, str | bytes):
        return False
    return isinstance(values, Sequence) or bool(getattr(values, "shape", ()))


def _aligned(name: str, values: Any, index: pd.Index) -> pd.Series[Any]:
    """Return ``values`` as a Series of one value per candle."""
    if isinstance(values, pd.Series):
        _check_index(values.index, index, f"column {name!r}")
        return values
    if not _is_column(values):
        found = f"{name!r} is {one_line(repr(values))}, not a column,"
    elif (shape := tuple(getattr(values, "shape", (len(values),)))) != (len(index),):
        found = f"column {name!r} has {f'{shape[0]} rows' if len(shape) == 1 else f'the shape {shape}'}"
    else:
        return pd.Series(values, index=index)
    raise StrategyRefused(
        f"compute_smm() must return one row per candle: {found} for {len(index)} candles. {_KEEP_EVERY_ROW}"
    )


def _flag(name: str, values: pd.Series[Any]) -> NDArray[np.bool_]:
    kind = values.dtype
    if pd.api.types.is_bool_dtype(kind) and not isinstance(kind, pd.CategoricalDtype):
        return np.array(values.to_numpy(dtype=np.bool_, na_value=False), dtype=np.bool_)
    if pd.api.types.is_integer_dtype(kind) or pd.api.types.is_float_dtype(kind):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        allowed = (numbers == 0) | (numbers == 1) | np.isnan(numbers)
        flags = np.asarray(numbers == 1, dtype=np.bool_)
    else:
        objects = values.astype(object).to_numpy()
        empty = np.asarray(pd.isna(objects), dtype=np.bool_)
        allowed = empty | np.fromiter(map(_is_truth, objects), dtype=np.bool_, count=len(objects))
        flags = np.zeros(len(objects), dtype=np.bool_)
        usable = allowed & ~empty
        flags[usable] = objects[usable].astype(np.bool_)
    if not allowed.all():
        raise _wrong_value(name, values, int(np.argmin(allowed)))
    return flags


def _undefined(values: pd.Series[Any]) -> UndefinedRows | None:
    """Return the rows without a value after the first that has one, None where there are none."""
    empty = np.asarray(pd.isna(values), dtype=np.bool_)
    warm = 0 if empty.all() else int(np.argmin(empty))
    late = empty[warm:]
    return UndefinedRows(int(late.sum()), warm + int(np.argmax(late))) if late.any() else None


def _is_truth(value: object) -> bool:
    return isinstance(value, Real | Decimal | np.bool_) and bool(value == 0 or value == 1)


def _wrong_value(name: str, values: pd.Series[Any], row: int) -> StrategyRefused:
    value = values.iloc[row]
    shown = value.item() if isinstance(value, np.generic) else value
    return StrategyRefused(
        f"Column {name!r} of compute_smm() must hold True or False (or 1, 0, and NaN during warm-up); "
        f"row {row} ({values.index[row]}) holds {one_line(repr(shown))}. "
        "Compare it to something, so that each row is a yes or a no."
    )


def _numbers(values: pd.Series[Any]) -> NDArray[np.float64] | None:
    """Return a numeric column as float64, None for text, times and whatever else is no number."""
    kind = values.dtype
    if pd.api.types.is_complex_dtype(kind):
        return None
    if pd.api.types.is_numeric_dtype(kind):
        return np.array(values.to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64)
    if not pd.api.types.is_object_dtype(kind):
        return None
    objects = values.to_numpy()
    empty = np.asarray(pd.isna(objects), dtype=np.bool_)
    if not _all_numbers(objects[~empty]):
        return None
    numbers = np.full(len(objects), np.nan)
    numbers[~empty] = objects[~empty].astype(np.float64)
    return numbers


def _all_numbers(objects: Iterable[object]) -> bool:
    return all(isinstance(value, Real | Decimal | np.bool_) for value in objects)
