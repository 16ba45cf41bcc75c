"""Filters for feeds, as Backtrader's users write them."""

from __future__ import annotations

from typing import Any


class WithoutTheNight:
    """Takes out the bars that close before six o'clock."""

    def __init__(self, data: Any) -> None:
        pass

    def __call__(self, data: Any) -> bool:
        if data.datetime.datetime(0).hour < 6:
            data.backwards()
            return True
        return False
