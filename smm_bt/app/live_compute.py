"""compute_smm() for live windows: called on every new candle, patient while history is still short."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feeds.live_window import silent_columns
from feeds.made import made_candles
from strategy.contract import ComputeSmm, StrategyRefused, compute_columns

if TYPE_CHECKING:
    import pandas as pd


class MadeTrial:
    """Tries the function on a full window of made candles, once, to tell a broken file from a short history.

    The made candles end where the market's first one opens, so that no time is given to the function twice with
    different prices, and begin near its price.

    Args:
        compute: the function.
        parameters: its keyword arguments.
        size: candles of a full window.
        length_ms: length of a candle.
    """

    def __init__(self, compute: ComputeSmm, parameters: Mapping[str, object], size: int, length_ms: int) -> None:
        self._compute, self._parameters, self._size, self._length_ms = compute, parameters, size, length_ms
        self._tried = False
        self._refusal: StrategyRefused | None = None

    def refusal(self, short: pd.DataFrame) -> StrategyRefused | None:
        """Return how the function breaks its contract there, None where it does not; ``short`` is the real history."""
        if not self._tried:
            self._tried = True
            try:
                compute_columns(self._compute, self._window_before(short), self._parameters)
            except StrategyRefused as refused:
                self._refusal = refused
        return self._refusal

    def _window_before(self, short: pd.DataFrame) -> pd.DataFrame:
        import pandas as pd

        price, end_ms = float(short["open"].iloc[0]), int(short.index.as_unit("ms").asi8[0])  # type: ignore[attr-defined]
        frame = made_candles(count=max(2, self._size), first_price=price, price_tick=price / 10_000).frame()
        open_ms = end_ms - self._length_ms * np.arange(self._size, 0, -1)
        index = pd.DatetimeIndex(open_ms.astype("datetime64[ms]"), tz="UTC", name="timestamp")
        return frame.iloc[-self._size :].set_axis(index)


class LiveCompute:
    """Runs the user's function on a window of candles.

    A market that has only begun gives it fewer candles than it may need: until it has worked once, or the window is
    full, what it does wrong means "no signals yet", unless it does the same wrong on a full window of made candles.
    After that it ends the run.

    Args:
        compute: the function.
        parameters: its keyword arguments.
        size: candles of a full window.
        trial: tells what the function does with a full window.
        tell: takes events.
    """

    def __init__(
        self,
        compute: ComputeSmm,
        parameters: Mapping[str, object],
        size: int,
        trial: MadeTrial,
        tell: Callable[..., None],
    ) -> None:
        self._compute, self._parameters, self._size = compute, parameters, size
        self._trial, self._tell = trial, tell
        self.has_worked = False
        self.has_profit_target = True
        #: Why it has said nothing yet; empty once it has worked, and before it was called.
        self.silence = ""

    def __call__(self, frame: pd.DataFrame) -> Mapping[str, NDArray[Any]]:
        """Return the columns of ``frame``.

        Raises:
            StrategyRefused: the function breaks its contract.
        """
        try:
            columns = compute_columns(self._compute, frame, self._parameters)
        except StrategyRefused as refused:
            if self.has_worked or len(frame) >= self._size:
                raise
            self._refuse_if_broken(refused, frame)
            if not self.silence:
                self._tell("too_few_candles", f"no signals yet: {refused}", candles=len(frame))
            self.silence = str(refused)
            return silent_columns(len(frame))
        self.has_worked, self.silence = True, ""
        self.has_profit_target = columns.has_profit_target
        return columns.lines()

    def _refuse_if_broken(self, refused: StrategyRefused, frame: pd.DataFrame) -> None:
        """Raise where more candles would not help: a full window breaks a rule of the contract, or raises the same."""
        on_made = self._trial.refusal(frame)
        if on_made is None:
            return
        if on_made.__cause__ is None or str(on_made) == str(refused):
            raise StrategyRefused(
                f"{on_made} More candles do not help: it does so on {self._size} made ones, a full window "
                "(WARMUP_CANDLES)."
            ) from on_made.__cause__
