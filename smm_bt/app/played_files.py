"""Files an embedded exchange plays under a live run: refused where a replay refuses them, each with its symbol told."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from feeds.files import name_parts
from smm_bt.app.inputs import ReplayFiles, read_inputs
from smm_bt.app.settings import Settings
from smm_bt.errors import UsageError

#: A name that begins like this says its symbol beyond doubt; any other may be called what the options say.
_SYMBOL = re.compile(r"[A-Z0-9]+USD[TC](?:_\d{6})?(?=-)")


class PlayedFiles(NamedTuple):
    """Candle, mark and funding files by symbol, in the order of the candle files; all candles of one timeframe."""

    candles: Mapping[str, Path]
    mark: Mapping[str, Path]
    funding: Mapping[str, Path]
    timeframe: str
    first_ms: int

    def told(self) -> dict[str, list[dict[str, str]]]:
        """Return the files with symbol and timeframe as plain JSON values."""
        kinds = {"candles": self.candles, "mark": self.mark, "funding": self.funding}
        return {kind: [self._told(symbol, path) for symbol, path in files.items()] for kind, files in kinds.items()}

    def _told(self, symbol: str, path: Path) -> dict[str, str]:
        return {"path": str(path.absolute()), "symbol": symbol, "timeframe": self.timeframe}


def read_played(
    candles: Sequence[Path], mark: Sequence[Path], funding: Sequence[Path], named: Sequence[str], settings: Settings
) -> PlayedFiles:
    """Read the files once, as a replay does, so that what it would refuse is refused before anything is started.

    Args:
        candles: at least one candle file.
        mark: mark-price candles for them.
        funding: funding rates for them.
        named: the symbols named beside the files, empty where none were.
        settings: ``TIMEFRAME``, and ``SYMBOLS`` for a single file whose name does not tell.

    Raises:
        UsageError, CandleError, CandleFileMissing: as :func:`smm_bt.app.inputs.read_inputs`; UsageError also where
            ``named`` are other symbols than the files'.
    """
    symbol = _symbol_of_the_only(candles, named, settings)
    files = ReplayFiles(candles, () if symbol is None else (symbol,), mark, funding, cache=False)
    inputs = read_inputs(files, settings)
    if named and set(named) != set(inputs.histories):
        raise UsageError(
            f"--symbols names {', '.join(named)}, and the candle files are of {', '.join(inputs.histories)}; "
            "leave --symbols out, or name a candle file of each symbol."
        )
    series = [history.candles for history in inputs.histories.values()]
    first_ms = min(int(each.open_ms[0]) for each in series)
    marks, rates = (_by_symbol(paths, inputs.paths) for paths in (mark, funding))
    return PlayedFiles(inputs.paths, marks, rates, series[0].timeframe, first_ms)


def _symbol_of_the_only(candles: Sequence[Path], named: Sequence[str], settings: Settings) -> str | None:
    """Return the symbol of a single file whose name does not tell it; None where names tell."""
    unnamed = [path for path in candles if name_parts(path)[0] is None]
    wanted = named or (settings.SYMBOLS if "SYMBOLS" in settings.model_fields_set else ())
    if len(candles) == 1 and len(wanted) == 1 and not _SYMBOL.match(candles[0].name):
        return wanted[0]
    if unnamed:
        raise UsageError(
            f"{unnamed[0].name}: the name does not tell the symbol; name the file like BTCUSDT-5m.csv, or give a "
            "single file with --symbols BTCUSDT and --timeframe."
        )
    return None


def _by_symbol(paths: Iterable[Path], candles: Mapping[str, Path]) -> dict[str, Path]:
    """Return whose file each is; that they fit has been checked."""
    found = list(paths)
    if len(found) == 1 and len(candles) == 1:
        return {next(iter(candles)): found[0]}
    return {path.name.split("-")[0]: path for path in found}
