"""Public history of the venue, read forward page by page: what each series is called, asked for and made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from feeds.lines import CANDLE_COLUMNS
from feeds.timeframes import timeframe_ms
from smm_bt.app.history_file import Rows, Span
from smm_bt.errors import MarketDataError
from smm_bt.execution.ccxt_client import PublicWire
from smm_bt.execution.host_clock import HostClock
from smm_bt.execution.weight_budget import WeightBudget

_MOST_ROWS: Final = 1000
_TRIES_OF_A_PAGE: Final = 4
#: The venue allows 500 funding requests in five minutes; three quarters of a hundred a minute stay below.
_FUNDING_REQUESTS_PER_MINUTE: Final = 100


@dataclass(frozen=True)
class Series:
    """One kind of history: its endpoint, its file name, its columns, and the distance of its rows.

    ``step_ms`` is None where rows have no fixed distance; ``value_of`` takes the numbers out of one row.
    """

    kind: str
    noun: str
    endpoint: str
    file_name: str
    columns: tuple[str, ...]
    step_ms: int | None
    params: dict[str, object]
    time_of: Callable[[Any], int]
    values_of: Callable[[Any], tuple[float, ...]]


def candle_series(symbol: str, timeframe: str) -> Series:
    """Return the candles of the last price."""
    return _klines("candles", "fapiPublicGetKlines", f"{symbol}-{timeframe}", CANDLE_COLUMNS, symbol, timeframe)


def mark_series(symbol: str, timeframe: str) -> Series:
    """Return the candles of the mark price; they have no volume."""
    columns = CANDLE_COLUMNS[:4]
    return _klines("mark", "fapiPublicGetMarkPriceKlines", f"{symbol}-mark-{timeframe}", columns, symbol, timeframe)


def funding_series(symbol: str) -> Series:
    """Return the funding settlements; how far apart they are differs by symbol and time."""
    return Series(
        kind="funding",
        noun="settlement",
        endpoint="fapiPublicGetFundingRate",
        file_name=f"{symbol}-funding.parquet",
        columns=("funding_rate",),
        step_ms=None,
        params={"symbol": symbol},
        time_of=lambda row: int(row["fundingTime"]),
        values_of=lambda row: (float(row["fundingRate"]),),
    )


def _klines(kind: str, endpoint: str, name: str, columns: tuple[str, ...], symbol: str, timeframe: str) -> Series:
    return Series(
        kind=kind,
        noun="candle" if kind == "candles" else "mark candle",
        endpoint=endpoint,
        file_name=f"{name}.parquet",
        columns=tuple(columns),
        step_ms=timeframe_ms(timeframe),
        params={"symbol": symbol, "interval": timeframe},
        time_of=lambda row: int(row[0]),
        values_of=lambda row: tuple(float(text) for text in row[1 : len(columns) + 1]),
    )


@dataclass
class HistoryReader:
    """Reads pages of history over a keyless wire, within the venue's limits.

    Args:
        wire: where requests go.
        newest_ms: the venue's time when the download began; what is later counts as not yet there.
    """

    wire: PublicWire
    newest_ms: int
    _funding: WeightBudget = field(init=False)

    def __post_init__(self) -> None:
        self._funding = WeightBudget(self.wire.clock, _FUNDING_REQUESTS_PER_MINUTE)

    @property
    def clock(self) -> HostClock:
        """The clock the wire goes by."""
        return self.wire.clock

    def pages(self, series: Series, span: Span) -> Iterator[Rows]:
        """Yield the venue's rows inside ``span``, oldest first, until there are no more.

        The first page begins where the history does, however long before that ``span`` begins.

        Raises:
            VenueFault, VenueSilent: the venue refuses, or does not answer.
            MarketDataError: it answers with rows that cannot be what was asked for.
        """
        position, waits = span.begin_ms, 2
        while position < span.end_ms:
            page = self._page(series, Span(position, span.end_ms))
            if len(page):
                yield page
                position = int(page.time_ms[-1]) + (series.step_ms or 1)
            elif waits and self._may_still_come(series, position):
                waits -= 1
                self.clock.sleep(1.0)
            else:
                return

    def row_at(self, series: Series, time_ms: int) -> Rows:
        """Return the row at exactly ``time_ms``, or none."""
        return self._page(series, Span(time_ms, time_ms + 1))

    def _may_still_come(self, series: Series, position: int) -> bool:
        """Say whether only candles that have just closed are missing: the venue may serve them a moment later."""
        return series.step_ms is not None and self.newest_ms - position <= 2 * series.step_ms

    def _page(self, series: Series, span: Span) -> Rows:
        wanted = _MOST_ROWS if series.step_ms is None else -(-(span.end_ms - span.begin_ms) // series.step_ms)
        limit = min(_MOST_ROWS, wanted)
        params = series.params | {"startTime": span.begin_ms, "endTime": span.end_ms - 1, "limit": limit}
        problem: Exception | None = None
        for tries in range(_TRIES_OF_A_PAGE):
            self.clock.sleep(0.5 * tries)
            if series.step_ms is None:
                self._funding.take(1)
            answer = self.wire.read(series.endpoint, params, _weight(series, limit))
            try:
                return _rows(series, span, answer)
            except (KeyError, IndexError, TypeError, ValueError) as unusable:
                problem = unusable
        raise MarketDataError(
            f"The venue's answer to {series.endpoint} cannot be used ({problem}), {_TRIES_OF_A_PAGE} times over; "
            "nothing of it was kept. Try again later."
        )


def _weight(series: Series, limit: int) -> int:
    if series.step_ms is None:
        return 1
    return 1 if limit < 100 else 2 if limit < 500 else 5


def _rows(series: Series, span: Span, answer: Any) -> Rows:
    """Return an answer as rows in order; ValueError where it cannot be the answer to what was asked."""
    if not isinstance(answer, list):
        raise TypeError("it is no list")
    if not answer:
        return Rows.none(len(series.columns))
    times = np.array([series.time_of(row) for row in answer], dtype=np.int64)
    values = np.array([series.values_of(row) for row in answer], dtype=np.float64)
    if values.shape != (len(times), len(series.columns)) or not np.isfinite(values).all():
        raise ValueError("a row lacks a number")
    if times.min() < span.begin_ms or times.max() >= span.end_ms:
        raise ValueError("it holds rows outside the time asked for")
    return _in_order(times, values)


def _in_order(times: Any, values: Any) -> Rows:
    order = np.argsort(times, kind="stable")
    times, values = times[order], values[order]
    repeated = np.flatnonzero(times[1:] == times[:-1])
    if (values[repeated] != values[repeated + 1]).any():
        raise ValueError("it says two things about one time")
    kept = np.append(times[1:] != times[:-1], True)
    return Rows(times[kept], values[kept])
