"""What a replay reads: candle, mark and funding files matched to symbols, market rules, the strategy's columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from feeds.candles import Candles, OtherTimeframe
from feeds.files import name_parts, read_candles, read_funding, read_mark_candles
from feeds.run_cache import RunCache
from feeds.stored import read_stored_candles
from smm_bt.app.funding_coverage import uncovered_sentences
from smm_bt.app.settings import Settings
from smm_bt.errors import MarketDataError, UsageError
from smm_bt.execution.market_history import MarketHistory, market_history

_ENDINGS = (".parquet", ".csv.gz", ".csv")


@dataclass(frozen=True)
class ReplayFiles:
    """The files and the range named on the command line; empty sequences where nothing was.

    With ``cache`` off neither candles nor columns are read from, or left in, the cache beside the candle files.
    """

    candles: Sequence[Path] = ()
    symbols: Sequence[str] = ()
    mark: Sequence[Path] = ()
    funding: Sequence[Path] = ()
    exchange_info: Path | None = None
    brackets: Path | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    cache: bool = True


class ReplayInputs(NamedTuple):
    """What the files hold: a market history per symbol, and the file its candles are from.

    ``remarks`` are whole sentences about what the files do not hold, for the notes of the report.
    """

    histories: dict[str, MarketHistory]
    paths: dict[str, Path]
    remarks: list[str]


def read_inputs(files: ReplayFiles, settings: Settings, cache: RunCache | None = None) -> ReplayInputs:
    """Return the market history of each symbol, in the order the files were named; ``cache`` is that of the run.

    Raises:
        UsageError: nothing to replay was named, a symbol twice, timeframes that differ, a file that fits no symbol.
        CandleError: a file that is refused at the door.
        MarketDataError: no candles are left between --since and --until.
    """
    candles, paths = _read_all(files, settings, cache or RunCache())
    marks = _by_symbol(files.mark, candles, "--mark")
    rates = _by_symbol(files.funding, candles, "--funding")
    histories = {}
    remarks = _mark_remarks([symbol for symbol in candles if symbol not in marks], len(candles))
    for symbol, series in candles.items():
        mark = _read_mark(marks[symbol], series) if symbol in marks else None
        funding = read_funding(rates[symbol]) if symbol in rates else None
        if funding is not None:
            remarks += uncovered_sentences(series, funding, rates[symbol].name)
        histories[symbol] = market_history(series, mark, funding)
    return ReplayInputs(histories, paths, remarks)


def _mark_remarks(without: Sequence[str], symbols: int) -> list[str]:
    if not without:
        return []
    where = "" if len(without) == symbols else f" of {', '.join(without)}"
    return [
        f"Liquidations{where} were checked on last prices: no mark-price candles were given. The venue checks mark "
        "prices, which move less."
    ]


def _read_mark(path: Path, candles: Candles) -> Candles:
    """Read the mark candles of ``candles``; another timeframe than theirs is wrong usage, not bad content."""
    named = name_parts(path)[1]
    if named is not None and named != candles.timeframe:
        raise UsageError(
            f"--mark {path.name}: these are {named} candles by the file's name, and {candles.symbol} is replayed on "
            f"{candles.timeframe}; give mark candles of {candles.timeframe}."
        )
    try:
        return read_mark_candles(path, candles.symbol, candles.timeframe)
    except OtherTimeframe as other:
        raise UsageError(
            f"--mark {path.name}: its candles are {other.found} apart, and {candles.symbol} is replayed on "
            f"{candles.timeframe}; give mark candles of {candles.timeframe}."
        ) from other


def _read_all(files: ReplayFiles, settings: Settings, cache: RunCache) -> tuple[dict[str, Candles], dict[str, Path]]:
    candles: dict[str, Candles] = {}
    paths: dict[str, Path] = {}
    read = partial(read_stored_candles, cache=cache) if files.cache else read_candles
    for path, symbol in _candle_files(files, settings):
        series = _between(_read_file(path, symbol, settings.TIMEFRAME, read), files, path)
        if series.symbol in candles:
            raise UsageError(f"{series.symbol} is named twice; give each symbol one candle file.")
        candles[series.symbol] = series
        paths[series.symbol] = path
    frames = {series.timeframe for series in candles.values()}
    if len(frames) > 1:
        raise UsageError(f"The candle files are of different timeframes ({', '.join(sorted(frames))}); use one.")
    return candles, paths


def _read_file(
    path: Path, symbol: str | None, timeframe: str | None, read: Callable[[Path, str | None, str | None], Candles]
) -> Candles:
    """Read a candle file; a symbol or a timeframe asked for that is not the file's is wrong usage, not bad content."""
    if symbol is not None and _names_another_symbol(path, symbol):
        raise UsageError(
            f"{path.name} holds another symbol than --symbol {symbol} by its name; leave --symbol out, name the right "
            "file, or rename this one."
        )
    try:
        return read(path, symbol, timeframe)
    except OtherTimeframe as other:
        if timeframe is None:
            raise
        raise UsageError(str(other)) from other


def _between(candles: Candles, files: ReplayFiles, path: Path) -> Candles:
    if files.since_ms is None and files.until_ms is None:
        return candles
    part = candles.between(files.since_ms, files.until_ms)
    if len(part) < 2:
        raise MarketDataError(
            f"{path.name}: {len(part)} of its {len(candles)} candles lie between --since and --until; "
            "at least two are needed, so widen the range."
        )
    return part


def _candle_files(files: ReplayFiles, settings: Settings) -> list[tuple[Path, str | None]]:
    if files.candles:
        if files.symbols and (len(files.symbols) != 1 or len(files.candles) != 1):
            raise UsageError("--symbol names the symbol of a single candle file; name several by their file names.")
        return [(path, files.symbols[0] if files.symbols else None) for path in files.candles]
    if not files.symbols:
        raise UsageError("There is nothing to replay; name a candle file (--candles FILE) or a symbol (--symbol S).")
    return [(_stored_file(symbol, settings), symbol) for symbol in files.symbols]


def _stored_file(symbol: str, settings: Settings) -> Path:
    """Find the candles of ``symbol`` in DATA_DIR, of the timeframe asked for, or of the only one there is."""
    folder = settings.DATA_DIR
    found = [
        path
        for path in sorted(folder.glob(f"{symbol}-*"))
        if path.name.endswith(_ENDINGS)
        and "-mark-" not in path.name
        and name_parts(path)[1] is not None
        and settings.TIMEFRAME in (None, name_parts(path)[1])
    ]
    if len(found) == 1:
        return found[0]
    wanted = f"{symbol} {settings.TIMEFRAME or 'candles'}"
    if not found:
        raise UsageError(
            f"There are no {wanted} in {folder}; name a file with --candles, or put one there, for example "
            f"{symbol}-5m.parquet."
        )
    raise UsageError(
        f"There are several files of {wanted} in {folder} ({', '.join(path.name for path in found)}); "
        "name one with --candles."
    )


def _names_another_symbol(path: Path, symbol: str) -> bool:
    named = re.match(r"[A-Z0-9]+USDT(?:_\d{6})?(?=-)", path.name)
    return named is not None and named[0] != symbol


def _by_symbol(paths: Sequence[Path], candles: Mapping[str, Candles], option: str) -> dict[str, Path]:
    """Match files to symbols by their names; the only file of the only symbol may be called anything but another's."""
    if len(paths) == 1 and len(candles) == 1 and not _names_another_symbol(paths[0], next(iter(candles))):
        return {next(iter(candles)): paths[0]}
    matched: dict[str, Path] = {}
    for path in paths:
        symbol = path.name.split("-")[0]
        if symbol not in candles or symbol in matched:
            raise UsageError(
                f"{option} {path.name} does not belong to one of {', '.join(candles)}; begin its name with the symbol, "
                "one file each."
            )
        matched[symbol] = path
    return matched
