"""The strategy's columns of each symbol, computed by the user's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from smm_bt.execution.market_history import MarketHistory
from strategy.contract import compute_columns
from strategy.loader import LocatedStrategy


@dataclass(frozen=True, eq=False)
class StrategyColumns:
    """The lines of one symbol: three flags (bool) and further columns (float64), each as long as its candles."""

    lines: Mapping[str, NDArray[Any]]
    has_profit_target: bool


def strategy_columns(
    strategy: LocatedStrategy, histories: Mapping[str, MarketHistory], parameters: Mapping[str, object]
) -> dict[str, StrategyColumns]:
    """Run the strategy file on the candles of each symbol.

    Raises:
        StrategyRefused: the file breaks the contract of ``compute_smm``.
    """
    compute = strategy.load().compute
    columns = {}
    for symbol, history in histories.items():
        computed = compute_columns(compute, history.candles.frame(), parameters)
        columns[symbol] = StrategyColumns(computed.lines(), computed.has_profit_target)
    return columns
