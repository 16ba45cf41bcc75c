"""The strategy's columns of each symbol: computed by the user's file, or read from the cache beside the candles."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from feeds.cache import entry_key
from feeds.candles import Candles
from feeds.run_cache import RunCache
from smm_bt.execution.market_history import MarketHistory
from strategy.contract import UndefinedRows, compute_columns
from strategy.loader import LocatedStrategy, StrategyFile
from strategy.used_modules import import_path, installed_packages, modules_unchanged, used_modules

#: Changes with what an entry tells besides its columns.
_FORM = 2


@dataclass(frozen=True, eq=False)
class StrategyColumns:
    """The lines of one symbol: three flags (bool) and further columns (float64), each as long as its candles.

    ``undefined`` tells of flag columns with NaN after their warm-up.
    """

    lines: Mapping[str, NDArray[Any]]
    has_profit_target: bool
    from_cache: bool = False
    undefined: Mapping[str, UndefinedRows] = field(default_factory=dict)


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
            return _stored_columns(*stored)
        self._used_modules()  # looked at before the computing, which takes long enough for a file to be edited
        computed = self._compute(candles)
        modules = self._used_modules()
        if modules is not None:
            told = {"has_profit_target": computed.has_profit_target, "undefined": dict(computed.undefined)}
            self._cache.store(folder, key, computed.lines, told | {"modules": modules})
        return computed

    @cached_property
    def _key_parts(self) -> tuple[object, ...]:
        return _FORM, self._strategy.columns_key, dict(self._parameters), sys.version, installed_packages()

    @cached_property
    def _loaded(self) -> StrategyFile:
        return self._strategy.load()

    def _compute(self, candles: Candles) -> StrategyColumns:
        computed = compute_columns(self._loaded.compute, candles.frame(), self._parameters)
        return StrategyColumns(computed.lines(), computed.has_profit_target, undefined=computed.undefined)

    def _used_modules(self) -> dict[str, Any] | None:
        return used_modules(self._path, self._loaded.forgotten)

    def _is_current(self, modules: Mapping[str, Any]) -> bool:
        """Return whether the modules are as they were; those of one symbol are mostly those of the last one."""
        if modules != self._unchanged:
            if not modules_unchanged(modules, self._path):
                return False
            self._unchanged = modules
        return True


def _stored_columns(lines: Mapping[str, NDArray[Any]], told: Mapping[str, Any]) -> StrategyColumns:
    undefined = {name: UndefinedRows(*rows) for name, rows in told["undefined"].items()}
    return StrategyColumns(lines, told["has_profit_target"], from_cache=True, undefined=undefined)
