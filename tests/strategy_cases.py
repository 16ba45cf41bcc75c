"""Candles and calls the strategy tests share: six made candles, columns read from them, the text of a refusal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from strategy.contract import SmmColumns, StrategyRefused, compute_columns

N = 6


def candles(n: int = N) -> pd.DataFrame:
    close = 100.0 + np.arange(n)
    columns = {"open": close - 0.5, "high": close + 1, "low": close - 1, "close": close, "volume": np.full(n, 3.0)}
    return pd.DataFrame(columns, index=pd.date_range("2024-03-01", periods=n, freq="15min", tz="UTC", name="time"))


def columns_of(returned: object, n: int = N) -> SmmColumns:
    return compute_columns(lambda df: returned, candles(n), {})


def flags(**more: object) -> dict[str, object]:
    return {"buy_signal": [False, True] + [False] * (N - 2), "sell_signal": np.zeros(N, bool)} | more


def refusal(compute: Callable[..., object], parameters: dict[str, object] | None = None) -> str:
    with pytest.raises(StrategyRefused) as caught:
        compute_columns(compute, candles(), parameters or {})
    message = str(caught.value)
    assert "Traceback" not in message
    assert "\n" not in message
    return message


def refused(returned: object) -> str:
    return refusal(lambda df: returned)
