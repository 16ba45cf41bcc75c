"""The strategy's columns of each symbol: computed by the user's file, or read from the cache beside the candles."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from feeds.cache import entry_key, load_columns, store_columns
from feeds.candles import Candles
from smm_bt.execution.market_history import MarketHistory
from strategy.contract import UndefinedRows, compute_columns
from strategy.loader import LocatedStrategy

#: Libraries a strategy file computes with: another version may compute something else.
_COMPUTING = ("numpy", "pandas", "TA-Lib", "numba", "polars", "scipy")


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
) -> dict[str, StrategyColumns]:
    """Return the columns of each symbol; the strategy file is executed only where the cache does not know them.

    Args:
        strategy: the located file; its code has not run.
        histories: candles by symbol.
        parameters: keyword arguments of ``compute_smm``.
        folders: where the candles of a symbol lie; a symbol without one is not cached.

    Raises:
        StrategyRefused: the file breaks the contract of ``compute_smm``.
    """

    @cache
    def compute() -> Callable[..., object]:
        return strategy.load().compute

    return {
        symbol: _columns_of(strategy, history.candles, parameters, folders.get(symbol), compute)
        for symbol, history in histories.items()
    }


def _columns_of(
    strategy: LocatedStrategy,
    candles: Candles,
    parameters: Mapping[str, object],
    folder: Path | None,
    compute: Callable[[], Callable[..., object]],
) -> StrategyColumns:
    key = entry_key("columns", candles.fingerprint, strategy.columns_key, dict(parameters), _versions())
    cached = folder is not None and bool(candles.fingerprint)
    stored = load_columns(folder, key) if folder is not None and cached else None
    if stored is not None:
        undefined = {name: UndefinedRows(*rows) for name, rows in stored[1].get("undefined", {}).items()}
        return StrategyColumns(stored[0], bool(stored[1]["has_profit_target"]), from_cache=True, undefined=undefined)
    computed = compute_columns(compute(), candles.frame(), parameters)
    lines = computed.lines()
    if folder is not None and cached:
        facts = {"has_profit_target": computed.has_profit_target, "undefined": dict(computed.undefined)}
        store_columns(folder, key, lines, facts)
    return StrategyColumns(lines, computed.has_profit_target, undefined=computed.undefined)


@cache
def _versions() -> list[str]:
    found = [sys.version]
    for name in _COMPUTING:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found
