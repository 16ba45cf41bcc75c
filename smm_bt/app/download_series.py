"""One series brought up to date: what is missing is asked for, holes twice, and saved while it comes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from feeds.candles import check_candles, iso_utc
from feeds.lines import CANDLE_COLUMNS
from smm_bt.app.download_words import Bar
from smm_bt.app.history_file import Rows, Span, holes_in, missing_spans, read_rows, write_rows
from smm_bt.app.history_pages import HistoryReader, Series
from smm_bt.errors import MarketDataError

_SAVE_EVERY_S = 0.25
#: Saving may cost one part in this many of the time: a long file is saved less often.
_SAVING_SHARE = 20


@dataclass(frozen=True, eq=False)
class SeriesReport:
    """What one series holds after a download, inside the span asked for.

    ``holes`` are missing rows between others, asked for twice; ``new_rows`` came in this run. ``replaced`` says that
    the newest stored row was not the venue's final word and has been replaced.
    """

    series: Series
    path: Path
    wanted: Span
    rows: Rows
    new_rows: int
    holes: tuple[Span, ...]
    replaced: bool


class SeriesDownload:
    """Reads the file of one series, fetches what is missing and keeps the file whole all the while.

    Raises:
        MarketDataError: the stored file cannot be continued.
    """

    def __init__(self, reader: HistoryReader, series: Series, path: Path, source: str) -> None:
        self.path = path
        self._reader, self._series, self._source = reader, series, source
        self._stored = read_rows(path, series.columns, source)
        self._fresh: list[Rows] = []
        self._new_rows = 0
        self._saved_at = float("-inf")
        self._saving_s = 0.0

    @property
    def first_stored_ms(self) -> int | None:
        """Time of the first stored row."""
        return int(self._stored.time_ms[0]) if len(self._stored) else None

    def run(self, wanted: Span, bar: Bar) -> SeriesReport:
        """Fetch what of ``wanted`` is missing and return what there is then.

        Whatever ends it, rows that have come are in the file; but funding, whose holes could not be found again, is
        saved as a whole only.
        """
        spans = missing_spans(self._stored.time_ms, wanted, self._series.step_ms)
        replaced = bool(spans) and self._check_newest(wanted)
        if replaced:
            spans = missing_spans(self._stored.time_ms, wanted, self._series.step_ms)
        try:
            self._fetch(spans, bar)
            if self._series.step_ms is not None:
                self._save()
                again = holes_in(self._stored.between(wanted).time_ms, self._series.step_ms)
                self._fetch([hole for hole in again if hole not in spans], bar)
        except BaseException:
            if self._series.step_ms is not None:
                self._save()
            raise
        self._save()
        inside = self._stored.between(wanted)
        self._check(inside)
        holes = () if self._series.step_ms is None else tuple(holes_in(inside.time_ms, self._series.step_ms))
        return SeriesReport(self._series, self.path, wanted, inside, self._new_rows, holes, replaced)

    def _check_newest(self, wanted: Span) -> bool:
        """Compare the newest stored row with the venue's; drop it if it was stored before it was final.

        Raises:
            MarketDataError: the file is of another market.
        """
        if not len(self._stored):
            return False
        time_ms, own = int(self._stored.time_ms[-1]), self._stored.values[-1]
        if self._series.step_ms is not None and time_ms + self._series.step_ms > self._reader.newest_ms:
            raise MarketDataError(
                f"{self.path} ends with {iso_utc(time_ms)}, which is not closed yet by the venue's clock: the file is "
                "of another market, or time. Move it away."
            )
        theirs = self._reader.row_at(self._series, time_ms)
        if len(theirs) and np.array_equal(theirs.values[0], own):
            return False
        if not len(theirs) or theirs.values[0][0] != own[0]:
            raise MarketDataError(
                f"{self.path} does not continue: at {iso_utc(time_ms)} it says {self._series.columns[0]} {own[0]:g}, "
                f"and {self._source} says {f'{theirs.values[0][0]:g}' if len(theirs) else 'nothing'}. Move it away "
                "or name another DATA_DIR."
            )
        if not wanted.begin_ms <= time_ms < wanted.end_ms:
            return False
        self._stored = Rows(self._stored.time_ms[:-1], self._stored.values[:-1])
        return True

    def _fetch(self, spans: Iterable[Span], bar: Bar) -> None:
        for span in spans:
            bar(span.begin_ms, self._new_rows)
            for page in self._reader.pages(self._series, span):
                self._fresh.append(page)
                self._new_rows += len(page)
                if self._series.step_ms is not None:
                    self._save_now_and_then()
                bar(int(page.time_ms[-1]), self._new_rows)
            bar(span.end_ms, self._new_rows)

    def _save_now_and_then(self) -> None:
        """Save the first page at once, so that a full disk shows early, then every few moments."""
        now = self._reader.clock.seconds()
        if now - self._saved_at >= max(_SAVE_EVERY_S, _SAVING_SHARE * self._saving_s):
            self._save()
            self._saved_at = self._reader.clock.seconds()
            self._saving_s = self._saved_at - now

    def _save(self) -> None:
        if not self._fresh:
            return
        self._stored = self._stored.joined(self._fresh)
        self._fresh = []
        write_rows(self.path, self._stored, self._series.columns, self._source)

    def _check(self, rows: Rows) -> None:
        """Hold candles to the same rules as any candle file at the door."""
        if self._series.step_ms is None or len(rows) < 2:
            return
        columns = {name: rows.values[:, at] for at, name in enumerate(self._series.columns)}
        columns.setdefault("volume", np.zeros(len(rows)))
        assert set(columns) == set(CANDLE_COLUMNS)
        symbol, timeframe = str(self._series.params["symbol"]), str(self._series.params["interval"])
        check_candles(symbol, timeframe, columns | {"open_ms": rows.time_ms}, source=self.path.name)
