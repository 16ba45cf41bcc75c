"""compute_smm() for live windows: called on every new candle, patient while history is still short."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from feeds.live_window import silent_columns
from strategy.contract import ComputeSmm, StrategyRefused, compute_columns

if TYPE_CHECKING:
    import pandas as pd


class LiveCompute:
    """Runs the user's function on a window of candles.

    A market that has only begun gives it fewer candles than it may need: until it has worked once, or the window is
    full, an exception of it means "no signal yet". After that it ends the run.

    Args:
        compute: the function.
        parameters: its keyword arguments.
        size: candles of a full window.
        tell: takes events.
    """

    def __init__(
        self, compute: ComputeSmm, parameters: Mapping[str, object], size: int, tell: Callable[..., None]
    ) -> None:
        self._compute, self._parameters, self._size, self._tell = compute, parameters, size, tell
        self._has_worked = self._has_told = False
        self.has_profit_target = True

    def __call__(self, frame: pd.DataFrame) -> Mapping[str, NDArray[Any]]:
        """Return the columns of ``frame``.

        Raises:
            StrategyRefused: the function breaks its contract.
        """
        try:
            columns = compute_columns(self._compute, frame, self._parameters)
        except StrategyRefused as refused:
            if self._has_worked or len(frame) >= self._size or refused.__cause__ is None:
                raise
            if not self._has_told:
                self._has_told = True
                self._tell("too_few_candles", f"no signals yet: {refused}", candles=len(frame))
            return silent_columns(len(frame))
        self._has_worked = True
        self.has_profit_target = columns.has_profit_target
        return columns.lines()
