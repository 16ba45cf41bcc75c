"""Which rows can matter: the rows on which decide() may say more than "hold", known before anything is traded."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strategy.rules import RuleOptions

Flags = NDArray[np.bool_]

#: Later than any row.
NEVER = 1 << 62


class WakeRows:
    """For each position side the rows that must be judged; all others are certain to be held through.

    Flat: any signal. Open: the profit target, the opposite signal where it closes, and both signals at once, which is
    reported. Which rows these are follows from the table of :func:`strategy.rules.decide`; what is done on them is
    decided there and nowhere else.
    """

    def __init__(self, buy: Flags, sell: Flags, target: Flags, options: RuleOptions) -> None:
        both = buy & sell
        ends = target | both
        closes = options.close_on_opposite_signal
        self._rows: dict[int, list[int]] = {
            0: _rows(buy | sell),
            1: _rows(ends | sell if closes else ends),
            -1: _rows(ends | buy if closes else ends),
        }

    def next(self, position_side: int, row: int) -> int:
        """Return the first row at or after ``row`` to be judged in that position, or :data:`NEVER`."""
        rows = self._rows[position_side]
        return rows[bisect_left(rows, row)]

    def from_row(self, position_side: int, row: int) -> tuple[list[int], int]:
        """Return all rows to be judged in that position, :data:`NEVER` last, and the place of the first one due."""
        rows = self._rows[position_side]
        return rows, bisect_left(rows, row)


def _rows(mask: Flags) -> list[int]:
    rows: list[Any] = np.flatnonzero(mask).tolist()
    return [*rows, NEVER]
