"""A template for your own compute_smm(): copy it to strategy/compute_smm.py and put your conditions in.

Run it where it lies with: smm-bt replay --strategy examples/your_compute_smm.py --candles FILE
It is a moving-average cross, here to show the shape of the contract; it is nobody's trading advice.
"""

from __future__ import annotations

import numpy as np
import pandas as pd


def compute_smm(df: pd.DataFrame, fast: int = 20, slow: int = 50, target_percent: float = 1.0) -> pd.DataFrame:
    """Return df with buy_signal, sell_signal and profit_target_hit.

    df has one row per closed candle (index: UTC open time) and float columns open, high, low, close, volume.
    Row i may use rows 0 to i only: ``smm-bt audit`` finds anything later. The parameters can be set in smm.toml
    under [strategy.parameters].
    """
    average_fast = df["close"].ewm(span=fast, adjust=False).mean()
    average_slow = df["close"].ewm(span=slow, adjust=False).mean()
    above = average_fast > average_slow
    settled = np.arange(len(df)) >= slow

    # Required: True on the candle at whose close a long (short) is wanted.
    df["buy_signal"] = above & ~above.shift(1, fill_value=True) & settled
    df["sell_signal"] = ~above & above.shift(1, fill_value=False) & settled

    # Optional: True on the candle that reaches the target of the latest signal. Without it, exits go by signal only.
    signal = df["buy_signal"] | df["sell_signal"]
    trade = signal.cumsum()
    entry = df["close"].where(signal).ffill()
    side = df["buy_signal"].astype(float).sub(df["sell_signal"]).where(signal).ffill()
    target = entry * (1 + side * target_percent / 100)
    reached = ((side > 0) & (df["high"] >= target) | (side < 0) & (df["low"] <= target)) & ~signal
    df["profit_target_hit"] = reached & (reached.groupby(trade).cumsum() == 1)

    # Every further numeric column is drawn in charts and kept in the journal; it decides nothing.
    df["average_fast"] = average_fast
    df["average_slow"] = average_slow
    df["target"] = target
    return df
