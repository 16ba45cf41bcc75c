"""The strategy's columns of each symbol: computed by the user's file, or read from the cache beside the candles."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from feeds.cache import entry_key
from feeds.candles import Candles
from feeds.run_cache import RunCache
from smm_bt.execution.market_history import MarketHistory
from strategy.contract import compute_columns
from strategy.loader import LocatedStrategy, StrategyFile
from strategy.used_modules import import_path, installed_packages, modules_unchanged, used_modules


@dataclass(frozen=True, eq=False)
class StrategyColumns:
    """The lines of one symbol: three flags (bool) and further columns (float64), each as long as its candles."""

    lines: Mapping[str, NDArray[Any]]
    has_profit_target: bool
    from_cache: bool = False


def strategy_columns(
    strategy: LocatedStrategy,
    histories: Mapping[str, MarketHistory],
    parameters: Mapping[str, object],
    folders: Mapping[str, Path],
    cache: RunCache | None = None,
) -> dict[str, StrategyColumns]:
    """Return the columns of each symbol; the strategy file is executed only where the cache does not know them.

    Args:
        strategy: the located file; its code has not run.
        histories: candles by symbol.
        parameters: keyword arguments of ``compute_smm``.
        folders: where the candles of a symbol lie; a symbol without one is not cached.
        cache: the cache of the run; without it this is a run of its own.

    Raises:
        StrategyRefused: the file breaks the contract of ``compute_smm``.
    """
    columns = _Columns(strategy, parameters, cache or RunCache(), import_path(strategy.path.parent))
    return {symbol: columns.of(history.candles, folders.get(symbol)) for symbol, history in histories.items()}


class _Columns:
    """One strategy with its parameters, and the cache of its columns."""

    def __init__(
        self, strategy: LocatedStrategy, parameters: Mapping[str, object], cache: RunCache, path: Sequence[str]
    ) -> None:
        self._strategy = strategy
        self._parameters = parameters
        self._cache = cache
        self._path = path
        self._unchanged: object = None

    def of(self, candles: Candles, folder: Path | None) -> StrategyColumns:
        """Return the columns of these candles, from the cache of ``folder`` if they are known there."""
        if folder is None or not candles.fingerprint:
            return self._compute(candles)
        key = entry_key("columns", candles.fingerprint, *self._key_parts)
        stored = self._cache.load(folder, key)
        if stored is not None and self._is_current(stored[1]["modules"]):
            return StrategyColumns(stored[0], stored[1]["has_profit_target"], from_cache=True)
        self._used_modules()  # looked at before the computing, which takes long enough for a file to be edited
        computed = self._compute(candles)
        modules = self._used_modules()
        if modules is not None:
            facts = {"has_profit_target": computed.has_profit_target, "modules": modules}
            self._cache.store(folder, key, computed.lines, facts)
        return computed

    @cached_property
    def _key_parts(self) -> tuple[object, ...]:
        return self._strategy.columns_key, dict(self._parameters), sys.version, installed_packages()

    @cached_property
    def _loaded(self) -> StrategyFile:
        return self._strategy.load()

    def _compute(self, candles: Candles) -> StrategyColumns:
        computed = compute_columns(self._loaded.compute, candles.frame(), self._parameters)
        return StrategyColumns(computed.lines(), computed.has_profit_target)

    def _used_modules(self) -> dict[str, Any] | None:
        return used_modules(self._path, self._loaded.forgotten)

    def _is_current(self, modules: Mapping[str, Any]) -> bool:
        """Return whether the modules are as they were; those of one symbol are mostly those of the last one."""
        if modules != self._unchanged:
            if not modules_unchanged(modules, self._path):
                return False
            self._unchanged = modules
        return True
