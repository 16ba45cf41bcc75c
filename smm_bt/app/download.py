"""``smm-bt download``: public history of the venue into DATA_DIR, continued where it ends, checked for holes."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from feeds.candles import CandleError, iso_utc
from feeds.timeframes import grid_offset_ms, timeframe_ms
from smm_bt.analytics.atomic_file import write_text
from smm_bt.app.download_series import SeriesDownload, SeriesReport
from smm_bt.app.download_words import Bar, no_bar, series_sentences, what_next
from smm_bt.app.history_file import Span, folder_for_downloads
from smm_bt.app.history_pages import HistoryReader, Series, candle_series, funding_series, mark_series
from smm_bt.app.settings import Settings
from smm_bt.app.venue_reach import ask_clock, public_address, source_name, why_unreachable
from smm_bt.errors import Interrupted, UsageError, VenueError
from smm_bt.execution.ccxt_client import ApiKeys, PublicWire, TradingWire
from smm_bt.execution.endpoints import PracticeVenue
from smm_bt.execution.venue_errors import VenueFault, VenueSilent

if TYPE_CHECKING:
    from rich.console import Console

_NO_SUCH_SYMBOL = (-1121, -4108)


@dataclass(frozen=True)
class DownloadRequest:
    """What one ``smm-bt download`` asks for.

    ``since_ms`` None continues what is stored; ``until_ms`` None means up to now. ``venue`` reads from a practice
    venue or an exchange on this machine instead of the public production host.
    """

    settings: Settings
    symbols: Sequence[str]
    timeframe: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    funding: bool = False
    mark: bool = False
    exchange_info: bool = False
    brackets: bool = False
    venue: str | None = None


def download(request: DownloadRequest, console: Console) -> list[SeriesReport]:
    """Fetch what is missing, say what there is now, and return it series by series.

    Raises:
        UsageError: the request cannot be carried out as it stands.
        VenueError: the venue cannot be reached or refuses; what had come before is kept.
        MarketDataError, CandleError: a stored file cannot be continued, or what came cannot be used.
        Interrupted: the person stopped it; what had come is kept.
    """
    _check(request)
    practice = PracticeVenue(request.venue) if request.venue is not None else None
    with folder_for_downloads(request.settings.DATA_DIR):
        return _Download(request, practice, console).run()


def _check(request: DownloadRequest) -> None:
    if not request.symbols and not (request.exchange_info or request.brackets):
        raise UsageError("There is nothing to download; name a symbol, for example BTCUSDT.")
    if request.symbols and request.timeframe is None:
        raise UsageError("Name the candles' timeframe, for example --timeframe 5m.")
    if request.brackets and request.settings.BINANCE_TESTNET_API_KEY is None:
        raise UsageError(
            "--brackets: leverage brackets are told to accounts only; set TRADING_MODE=TESTNET and the demo keys, or "
            "leave it out: a dated table of the large symbols is built in."
        )


class _Download:
    """One run of the command."""

    def __init__(self, request: DownloadRequest, practice: PracticeVenue | None, console: Console) -> None:
        self._request, self._practice, self._console = request, practice, console
        self._folder = request.settings.DATA_DIR
        self._source = source_name(practice)
        self._reports: list[SeriesReport] = []

    def run(self) -> list[SeriesReport]:
        request = self._request
        newest_ms = ask_clock(self._practice).server_ms
        wire = PublicWire(self._practice, retries=8)
        reader = HistoryReader(wire, newest_ms)
        with self._plain_failures(wire):
            for symbol in dict.fromkeys(request.symbols):
                for series in self._series_of(symbol):
                    self._fetch(reader, series)
            if request.exchange_info:
                self._save_json("exchangeInfo.json", wire.read("fapiPublicGetExchangeInfo", {}, 1), "symbols")
            if request.brackets:
                self._save_json("leverageBracket.json", self._brackets(), None)
        for line in what_next(self._folder, self._reports, request):
            self._console.print(line, soft_wrap=True, markup=False)
        return self._reports

    def _series_of(self, symbol: str) -> list[Series]:
        assert self._request.timeframe is not None
        series = [candle_series(symbol, self._request.timeframe)]
        if self._request.mark:
            series.append(mark_series(symbol, self._request.timeframe))
        if self._request.funding:
            series.append(funding_series(symbol))
        return series

    def _fetch(self, reader: HistoryReader, series: Series) -> None:
        task = SeriesDownload(reader, series, self._folder / series.file_name, self._source)
        wanted = self._wanted(task, reader.newest_ms)
        with self._bar(series, wanted) as bar:
            report = task.run(wanted, bar)
        self._reports.append(report)
        for line in series_sentences(report):
            self._console.print(line, soft_wrap=True, markup=False)

    def _wanted(self, task: SeriesDownload, newest_ms: int) -> Span:
        """Return the span asked for: whole candles, closed by the venue's time."""
        assert self._request.timeframe is not None
        begin_ms = self._request.since_ms
        if begin_ms is None:
            begin_ms = task.first_stored_ms
        if begin_ms is None:
            raise UsageError(
                f"{task.path.name} is not in {self._folder} yet; say where to begin, for example --since 2024-01-01."
            )
        step, offset = timeframe_ms(self._request.timeframe), grid_offset_ms(self._request.timeframe)
        begin_ms = -((offset - begin_ms) // step) * step + offset
        closed_ms = (newest_ms - offset) // step * step + offset
        end_ms = closed_ms if self._request.until_ms is None else min(self._request.until_ms, closed_ms)
        end_ms = (end_ms - offset) // step * step + offset
        if begin_ms >= end_ms:
            raise UsageError(
                f"There is no closed {self._request.timeframe} candle from {iso_utc(begin_ms)} up to {iso_utc(end_ms)} "
                "(UTC, by the venue's clock); widen --since and --until."
            )
        return Span(begin_ms, end_ms)

    @contextmanager
    def _bar(self, series: Series, wanted: Span) -> Iterator[Bar]:
        if not self._console.is_terminal:
            yield no_bar
            return
        from smm_bt.app.download_bar import download_bar

        with download_bar(self._console, series, wanted) as bar:
            yield bar

    def _brackets(self) -> Any:
        settings = self._request.settings
        key, secret = settings.BINANCE_TESTNET_API_KEY, settings.BINANCE_TESTNET_API_SECRET
        assert key is not None
        keys = ApiKeys(key.get_secret_value(), secret.get_secret_value() if secret else "")
        wire = TradingWire(self._practice or PracticeVenue(), keys)
        wire.sync_clock()
        return wire.read("fapiPrivateGetLeverageBracket", {}, 1)

    def _save_json(self, name: str, body: Any, must_hold: str | None) -> None:
        rows = body.get(must_hold) if must_hold and isinstance(body, dict) else body
        if not isinstance(rows, list) or not rows:
            raise VenueError(f"The venue's answer holds nothing for {name}; the file was left as it was.")
        write_text(self._folder / name, json.dumps(body, ensure_ascii=False, separators=(",", ":")) + "\n")
        self._console.print(f"{name}: {len(rows):,} symbols, as of now.", soft_wrap=True, markup=False)

    @contextmanager
    def _plain_failures(self, wire: PublicWire) -> Iterator[None]:
        """Say what went wrong, and that nothing which had come is lost."""
        kept = "What had come until then is saved; run the same command again and it goes on from there."
        try:
            yield
        except KeyboardInterrupt:
            raise Interrupted(f"Interrupted. {kept}") from None
        except VenueSilent as silent:
            raise VenueError(f"{silent} {kept}") from None
        except VenueFault as fault:
            if fault.failure.code in _NO_SUCH_SYMBOL:
                raise UsageError(self._unknown_symbol(wire)) from None
            raise VenueError(f"{why_unreachable(fault, public_address(self._practice))} {kept}") from None
        except CandleError as problem:
            raise CandleError(f"{problem} It came from {self._source}.") from None

    def _unknown_symbol(self, wire: PublicWire) -> str:
        per_symbol = 1 + self._request.mark + self._request.funding
        name = list(dict.fromkeys(self._request.symbols))[len(self._reports) // per_symbol]
        try:
            listed = wire.read("fapiPublicGetExchangeInfo", {}, 1)["symbols"]
            traded = [row["symbol"] for row in listed if row.get("status") == "TRADING"]
        except (VenueError, KeyError, TypeError):
            traded = []
        close = difflib.get_close_matches(name, traded, n=1, cutoff=0.6)
        hint = f"did you mean {close[0]}?" if close else "write it as the venue does, for example BTCUSDT."
        return f"{self._source} has no market {name}; {hint}"
