"""Candle files read through the column cache: the second reading of a file is a memory map."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from feeds.cache import entry_key, file_hash
from feeds.candles import Candles, Gap
from feeds.files import name_parts, read_candles
from feeds.lines import CANDLE_COLUMNS
from feeds.run_cache import RunCache


def read_stored_candles(
    path: Path, symbol: str | None = None, timeframe: str | None = None, cache: RunCache | None = None
) -> Candles:
    """Read a candle file like :func:`feeds.files.read_candles`, from the cache beside it when it was read before.

    The cache is keyed by the hash of the file's bytes, the symbol and the timeframe; candles in it were checked.
    ``cache`` is the one of the run that asks; without it this reading is a run of its own.

    Raises:
        CandleError: as read_candles.
    """
    try:
        content = file_hash(path)
    except OSError:
        return read_candles(path, symbol, timeframe)  # which says what is wrong with it
    named_symbol, named_timeframe = name_parts(path)
    fingerprint = f"{content} {symbol or named_symbol} {timeframe or named_timeframe}"
    key = entry_key("candles", fingerprint)
    cache = cache or RunCache()
    stored = cache.load(path.parent, key)
    if stored is not None:
        columns, facts = stored
        gaps = tuple(Gap(*gap) for gap in facts["gaps"])
        return Candles(facts["symbol"], facts["timeframe"], gaps=gaps, fingerprint=fingerprint, **columns)
    candles = replace(read_candles(path, symbol, timeframe), fingerprint=fingerprint)
    arrays = {name: getattr(candles, name) for name in ("open_ms", *CANDLE_COLUMNS)}
    facts = {"symbol": candles.symbol, "timeframe": candles.timeframe, "gaps": [list(gap) for gap in candles.gaps]}
    cache.store(path.parent, key, arrays, facts)
    return candles
