"""CandleWindow: the newest closed candles of one symbol and what compute_smm() says about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feeds.lines import CANDLE_COLUMNS, FLAG_LINES

if TYPE_CHECKING:
    import pandas as pd

#: One candle as a row: open time (UTC ms), open, high, low, close, volume.
CandleRow = tuple[int, float, float, float, float, float]
Columns = Mapping[str, NDArray[Any]]


class CandleWindow:
    """Keeps at least ``size`` closed candles and computes the strategy's columns on the newest of them.

    Args:
        size: how many candles the strategy is given for one new row; more where several rows are new at once.
        compute: takes a frame (UTC open times; open high low close volume) and returns columns of its length.
    """

    def __init__(self, size: int, compute: Callable[[pd.DataFrame], Columns]) -> None:
        self._size = size
        self._compute = compute
        self._open_ms = np.empty(2 * size + 64, np.int64)
        self._values = np.empty((len(CANDLE_COLUMNS), 2 * size + 64))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def last_open_ms(self) -> int | None:
        """Open time of the newest candle, None without any."""
        return int(self._open_ms[self._count - 1]) if self._count else None

    def add(self, rows: Sequence[CandleRow]) -> None:
        """Append closed candles, which must be younger than all before.

        Raises:
            ValueError: a candle is not younger than the one before it.
        """
        self._make_room(len(rows))
        for row in rows:
            last = self.last_open_ms
            if last is not None and row[0] <= last:
                raise ValueError(f"candle {row[0]} does not come after candle {last}")
            self._open_ms[self._count] = row[0]
            self._values[:, self._count] = row[1:]
            self._count += 1

    def correct(self, open_ms: int, row: CandleRow | None) -> None:
        """Put ``row`` in the place of the candle that opened at ``open_ms``; None takes that candle out."""
        at = int(np.searchsorted(self._open_ms[: self._count], open_ms))
        if at == self._count or self._open_ms[at] != open_ms:
            return
        if row is not None:
            self._values[:, at] = row[1:]
            return
        self._open_ms[at : self._count - 1] = self._open_ms[at + 1 : self._count].copy()
        self._values[:, at : self._count - 1] = self._values[:, at + 1 : self._count].copy()
        self._count -= 1

    def columns(self, new: int) -> dict[str, NDArray[Any]]:
        """Return the columns of the newest ``new`` rows, computed on them and ``size − 1`` candles before."""
        first = max(0, self._count - self._size - new + 1)
        computed = self._compute(self._frame(first))
        return {name: np.asarray(column)[-new:] for name, column in computed.items()}

    def _frame(self, first: int) -> pd.DataFrame:
        import pandas as pd

        open_ms = self._open_ms[first : self._count].astype("datetime64[ms]")
        index = pd.DatetimeIndex(open_ms, tz="UTC", name="timestamp")
        values = self._values[:, first : self._count].copy()
        return pd.DataFrame(dict(zip(CANDLE_COLUMNS, values, strict=True)), index=index)

    def _make_room(self, more: int) -> None:
        """Move the newest candles to the front when the arrays are full; grow them for a long backlog."""
        if self._count + more <= len(self._open_ms):
            return
        kept = min(self._count, self._size)
        room = max(len(self._open_ms), kept + more)
        open_ms, values = np.empty(room, np.int64), np.empty((len(CANDLE_COLUMNS), room))
        open_ms[:kept] = self._open_ms[self._count - kept : self._count]
        values[:, :kept] = self._values[:, self._count - kept : self._count]
        self._open_ms, self._values, self._count = open_ms, values, kept


def silent_columns(count: int) -> dict[str, NDArray[Any]]:
    """Return flags that are all False, for candles the strategy cannot judge yet."""
    return {name: np.zeros(count, np.bool_) for name in FLAG_LINES}
