"""The shared vocabulary: names of candle columns and of the SMM lines."""

from __future__ import annotations

CANDLE_COLUMNS = ("open", "high", "low", "close", "volume")

BUY_SIGNAL = "buy_signal"
SELL_SIGNAL = "sell_signal"
PROFIT_TARGET_HIT = "profit_target_hit"

#: The three flag lines of a row; only these decide anything.
FLAG_LINES = (BUY_SIGNAL, SELL_SIGNAL, PROFIT_TARGET_HIT)

#: Flags a strategy file must return; the third may be absent.
REQUIRED_FLAGS = (BUY_SIGNAL, SELL_SIGNAL)
