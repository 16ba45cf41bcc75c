"""SmmFeed: a Backtrader data feed whose lines are the candles and every column compute_smm() returned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import backtrader as bt
import numpy as np
from numpy.typing import NDArray

from feeds.bar_rows import BarRows
from feeds.bt_time import to_backtrader, to_backtrader_array
from feeds.candles import Candles
from feeds.lines import CANDLE_COLUMNS, FLAG_LINES
from feeds.shared_lines import share_column

_BACKTRADER_FRAMES = {"m": (bt.TimeFrame.Minutes, 1), "h": (bt.TimeFrame.Minutes, 60)} | {
    "d": (bt.TimeFrame.Days, 1),
    "w": (bt.TimeFrame.Weeks, 1),
}


#: Attributes whose classes Backtrader makes for the feed's class; none of them can be found by its name.
_OF_ITS_CLASS = frozenset({"params", "p", "lines", "l", "plotinfo", "plotlines"})


class SmmFeed(bt.feed.DataBase):
    """Candles plus ``buy_signal``, ``sell_signal``, ``profit_target_hit`` and any further numeric column as lines.

    Bars are stamped with the candle's *close* time (open + timeframe), naive UTC, so that feeds of different
    timeframes cannot look ahead. Build one with :func:`smm_feed`, which adds the further columns as lines.
    """

    lines: Any = FLAG_LINES
    params: Any = (("candles", None), ("columns", None))
    _extra: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self._cursor = -1
        self._shared_lines: list[Any] = []
        self._bar_rows: BarRows | None = None

    @property
    def candles(self) -> Candles:
        """The candles behind the lines."""
        candles: Candles = self.p.candles
        return candles

    @property
    def columns(self) -> Mapping[str, NDArray[Any]]:
        """The strategy's columns behind the lines, by line name."""
        columns: Mapping[str, NDArray[Any]] = self.p.columns
        return columns

    def open_ms(self) -> int:
        """Return the open time of the current bar's candle, the first of a resampled bar's, UTC milliseconds.

        Raises:
            ValueError: filters have made bars that cannot be traced back to candles.
        """
        row = len(self) - 1 if self._shared_lines else self.candle_rows()[0]
        return int(self.candles.open_ms[row])

    @property
    def untouched(self) -> bool:
        """Whether bar n is candle n: nothing filters, resamples or cuts this feed. To be asked once it has started."""
        filtered = bool(self._filters or self._ffilters)
        return not filtered and not np.isfinite(self.fromdate) and not np.isfinite(self.todate)

    def candle_rows(self) -> tuple[int, int]:
        """Return the rows of the first and the last candle the current bar is made of.

        Raises:
            ValueError: filters have made bars that cannot be traced back to candles.
        """
        if self._shared_lines or self.untouched:
            return len(self) - 1, len(self) - 1
        if self._bar_rows is None:
            self._bar_rows = BarRows(self, self.candles)
        return self._bar_rows.current()

    def start(self) -> None:
        """Begin at the first candle."""
        super().start()
        self._cursor = -1
        self._shared_lines = []
        self._bar_rows = None

    def preload(self) -> None:
        """Fill all lines at once, sharing the columns' memory; bar by bar only where a filter must see each bar.

        Resampling and replaying are such filters: they change lines in place, which shared memory must not suffer.
        """
        if not self.untouched:
            super().preload()
            return
        for name, column in self._line_columns().items():
            share_column(getattr(self.lines, name), column)
        self._shared_lines = [line for line in self.lines]  # noqa: C416 - Lines has no __iter__, only __getitem__
        self.home()

    def advance(self, size: int = 1, datamaster: Any = None, ticks: bool = True) -> None:
        """Move all lines on by ``size`` bars.

        With shared memory there is nothing but two counters a line; the ``tick_*`` attributes, which only feeds that
        update a bar in place need, are left unset (Backtrader's own broker then takes the bar's prices).
        """
        if datamaster is not None or not self._shared_lines:
            super().advance(size, datamaster, ticks)
            return
        for line in self._shared_lines:
            line._idx += size
            line.lencount += size

    def advance_peek(self) -> float:
        """Return the stamp of the next bar, or infinity after the last."""
        if not self._shared_lines:
            return float(super().advance_peek())
        stamps = self.lines.datetime
        following = stamps.lencount
        return float(stamps.array[following]) if following < len(stamps.array) else float("inf")

    def load(self) -> bool:
        """Deliver the next bar; after a bulk preload there is none that is not there already."""
        return not self._shared_lines and bool(super().load())

    def __reduce__(self) -> tuple[Any, ...]:
        """Send this feed to another process: what it is made of, then how it stands."""
        kind = type(self)
        made = "_extra" in vars(kind) and kind is not SmmFeed  # by smm_feed(), and known by name nowhere
        state = {name: value for name, value in vars(self).items() if name not in _OF_ITS_CLASS}
        state["_bar_rows"] = None
        parts = {name: dict(vars(getattr(self, name))) for name in ("lines", "plotinfo")}
        base, extra = (kind.__base__, self._extra) if made else (kind, ())
        return _feed_again, (base, extra, dict(self.p._getkwargs())), (state, parts)

    def __setstate__(self, state: tuple[dict[str, Any], dict[str, dict[str, Any]]]) -> None:
        own, parts = state
        self.__dict__.update(own)
        for name, values in parts.items():
            getattr(self, name).__dict__.update(values)

    def _line_columns(self) -> dict[str, NDArray[Any]]:
        candles = self.candles
        columns: dict[str, NDArray[Any]] = {name: getattr(candles, name) for name in CANDLE_COLUMNS}
        columns |= self.p.columns
        columns["datetime"] = to_backtrader_array(candles.open_ms + candles.timeframe_ms)
        columns["openinterest"] = np.broadcast_to(np.zeros(1), len(candles))
        return columns

    def _load(self) -> bool:
        self._cursor += 1
        candles = self.candles
        if self._cursor >= len(candles):
            return False
        for name in CANDLE_COLUMNS:
            getattr(self.lines, name)[0] = getattr(candles, name)[self._cursor]
        for name, column in self.p.columns.items():
            getattr(self.lines, name)[0] = float(column[self._cursor])
        self.lines.openinterest[0] = 0.0
        self.lines.datetime[0] = to_backtrader(int(candles.open_ms[self._cursor]) + candles.timeframe_ms)
        return True


def _feed_class(base: Any, extra: tuple[str, ...]) -> Any:
    """Return ``base`` with further lines."""
    return type(base.__name__, (base,), {"lines": extra, "__doc__": base.__doc__, "_extra": extra}) if extra else base


def _feed_again(base: Any, extra: tuple[str, ...], parameters: dict[str, Any]) -> SmmFeed:
    feed: SmmFeed = _feed_class(base, extra)(**parameters)
    return feed


def smm_feed(candles: Candles, columns: Mapping[str, NDArray[Any]]) -> SmmFeed:
    """Return a feed of ``candles`` with ``columns`` as lines.

    Args:
        candles: n checked candles.
        columns: arrays of length n: the three flags (bool) and any further column (float64), by line name.

    Raises:
        ValueError: a flag is absent or a column has another length.
    """
    for name in FLAG_LINES:
        if name not in columns:
            raise ValueError(f"column {name} is missing")
    for name, column in columns.items():
        if len(column) != len(candles):
            raise ValueError(f"column {name} has {len(column)} rows for {len(candles)} candles")
    extra = tuple(name for name in columns if name not in FLAG_LINES)
    unit, factor = _BACKTRADER_FRAMES[candles.timeframe[-1]]
    contiguous = {name: np.ascontiguousarray(column) for name, column in columns.items()}
    feed: SmmFeed = _feed_class(SmmFeed, extra)(
        name=candles.symbol,
        candles=candles,
        columns=contiguous,
        timeframe=unit,
        compression=factor * int(candles.timeframe[:-1]),
    )
    return feed
