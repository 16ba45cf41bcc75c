"""Backtrader lines whose numbers lie in an array that others share, and how such a line is pickled.

A memoryview is the quickest way to single numbers of an array, and it cannot be pickled. A class of our own for such
lines would cost a seventh of a run, since Python reads attributes quickest where all lines are of one class; so
pickle is told about Backtrader's.
"""

from __future__ import annotations

import copyreg
from typing import TYPE_CHECKING, Any, cast

import backtrader as bt
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from typing_extensions import Buffer

_Line = bt.linebuffer.LineBuffer


def share_column(line: Any, column: NDArray[Any]) -> None:
    """Let ``line`` read its numbers from ``column``."""
    line.array = _view(column)
    line.extension = 0


def _view(column: NDArray[Any]) -> memoryview:
    return memoryview(cast("Buffer", column))


def _reduce(line: Any) -> tuple[Any, ...]:
    """Send the array behind a view: once, however many lines, feeds and histories hold it."""
    state = dict(line.__dict__)
    if isinstance(state["array"], memoryview):
        state["array"] = state["array"].obj
    return object.__new__, (_Line,), state, None, None, _set_state


def _set_state(line: Any, state: dict[str, Any]) -> None:
    line.__dict__.update(state)
    if isinstance(state["array"], np.ndarray):
        line.array = _view(state["array"])


copyreg.pickle(_Line, _reduce)
