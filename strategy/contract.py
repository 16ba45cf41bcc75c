"""The contract of compute_smm(): how it is called, what it may return, what breaking it is answered with (SPEC §4)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from feeds.lines import BUY_SIGNAL, CANDLE_COLUMNS, PROFIT_TARGET_HIT, SELL_SIGNAL
from strategy.refusal import StrategyRefused, did_you_mean, refused_by_exception, source_file

if TYPE_CHECKING:  # pandas costs 0.3 s to import; a run on cached columns never needs it
    import pandas as pd

__all__ = ["ComputeSmm", "SmmColumns", "StrategyRefused", "UndefinedRows", "compute_columns"]

ComputeSmm = Callable[..., object]

_P = inspect.Parameter
_TAKES_A_NAME = (_P.POSITIONAL_OR_KEYWORD, _P.KEYWORD_ONLY)
_TAKES_A_POSITION = (_P.POSITIONAL_ONLY, _P.POSITIONAL_OR_KEYWORD, _P.VAR_POSITIONAL)


class UndefinedRows(NamedTuple):
    """Rows of a flag column that are NaN although a row before them is not: how many, and the first one's number.

    A column that is NaN on every row counts from its first.
    """

    rows: int
    first: int


@dataclass(frozen=True, eq=False)
class SmmColumns:
    """What ``compute_smm()`` says about n candles, checked; the arrays belong to this object alone.

    ``buy_signal``, ``sell_signal`` and ``profit_target_hit`` are bool arrays of length n, NaN read as False; without
    a ``profit_target_hit`` column ``has_profit_target`` is False and the array all False. ``extras`` holds every
    further numeric column as float64 of length n, in the order returned, under a safe line name
    (:func:`strategy.line_names.line_name`); they decide nothing. ``undefined`` tells of flag columns with NaN after
    their warm-up: the contract reads it as False, and a reader should know.
    """

    buy_signal: NDArray[np.bool_]
    sell_signal: NDArray[np.bool_]
    profit_target_hit: NDArray[np.bool_]
    has_profit_target: bool
    extras: Mapping[str, NDArray[np.float64]]
    undefined: Mapping[str, UndefinedRows] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.buy_signal)

    def lines(self) -> dict[str, NDArray[np.bool_] | NDArray[np.float64]]:
        """Return the three flags and the extras by line name, the flags first; the arrays are not copied."""
        flags: dict[str, NDArray[np.bool_] | NDArray[np.float64]] = {
            BUY_SIGNAL: self.buy_signal,
            SELL_SIGNAL: self.sell_signal,
            PROFIT_TARGET_HIT: self.profit_target_hit,
        }
        return flags | dict(self.extras)


def compute_columns(compute: ComputeSmm, frame: pd.DataFrame, parameters: Mapping[str, object]) -> SmmColumns:
    """Run ``compute`` on a copy of ``frame`` and return its columns, checked.

    The function may return a frame, return a mapping of arrays or Series, or change its frame and return None.
    Candle columns it returns or overwrites are ignored: it was given a copy, trading and charts use the real candles.
    Its warnings are left to the interpreter's own filters.

    Args:
        compute: the user's function, called as ``compute(frame, **parameters)``.
        frame: n rows, UTC DatetimeIndex of candle open times, columns open high low close volume.
        parameters: keyword arguments, from ``[strategy.parameters]``.

    Raises:
        StrategyRefused: the function broke the contract; chained to its own exception where it raised one.
        KeyboardInterrupt: passed through.
    """
    from strategy.returned import read_returned

    _check_parameters(compute, parameters)
    given = _own_copy(frame)
    try:
        returned = compute(given, **parameters)
    except (Exception, SystemExit) as error:
        raise refused_by_exception(error, "compute_smm()", source_file(compute)) from error
    return read_returned(given if returned is None else returned, frame.index, left_in_frame=returned is None)


def _own_copy(frame: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    columns = {name: np.array(frame[name], dtype=np.float64) for name in CANDLE_COLUMNS}
    return pd.DataFrame(columns, index=frame.index.copy(), copy=False)


def _check_parameters(compute: ComputeSmm, parameters: Mapping[str, object]) -> None:
    """Refuse what Python would answer with a TypeError, before any of the user's code runs."""
    try:
        signature = inspect.signature(compute)
    except (TypeError, ValueError):  # a compiled function that does not tell
        return
    wants = list(signature.parameters.values())
    if not wants or wants[0].kind not in _TAKES_A_POSITION:
        raise StrategyRefused(
            f"compute_smm() must take the candle frame as its first argument, and it is compute_smm{signature}. "
            "Define it as compute_smm(df, ...)."
        )
    further = wants if wants[0].kind is _P.VAR_POSITIONAL else wants[1:]
    names = [want.name for want in further if want.kind in _TAKES_A_NAME]
    if not any(want.kind is _P.VAR_KEYWORD for want in further):
        _refuse_unknown([name for name in parameters if name not in names], names)
    needed = [
        want.name
        for want in further
        if want.default is _P.empty
        and want.kind in (*_TAKES_A_NAME, _P.POSITIONAL_ONLY)
        and (want.name not in parameters or want.kind is _P.POSITIONAL_ONLY)
    ]
    if needed:
        raise StrategyRefused(
            f"compute_smm() needs a value for {', '.join(map(repr, needed))}, which has no default. "
            "Set it under [strategy.parameters] in smm.toml, or give it a default in the file."
        )


def _refuse_unknown(unknown: list[str], names: list[str]) -> None:
    if not unknown:
        return
    takes = ", ".join(names) if names else "no parameters besides the candle frame"
    raise StrategyRefused(
        f"[strategy.parameters] sets {unknown[0]!r}, and compute_smm() takes {takes}."
        f"{did_you_mean(unknown[0], names) or ' Remove it or correct its name.'}"
    )
