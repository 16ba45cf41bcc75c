"""The stand-in strategy: the same contract as the user's compute_smm(), built on published indicators; not SMM v4.1.

It lets the program be tried, tested and measured before the user's own file is in the slot. It does not imitate the
vendor's Simple Market Metrics and its signals are no trading advice; every run that uses it says so.

A long signal is the candle whose Heikin Ashi colour turns up, a short signal one whose colour turns down, when the
Choppiness Index is below ``chop_threshold`` (the market is going somewhere) and the Money Flow Index is on the same
side of ``mfi_middle``. Each signal opens a position of the indicator's own, with a profit target ``target_atr`` ATRs
from its close; see :func:`profit_targets`. No row uses a later candle.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

#: The published levels are 38.2 (trending below it) and 61.8 (choppy above it); this leaves a few trades a day on 5m.
CHOP_THRESHOLD = 42.0

_CELLS_AT_ONCE = 1 << 18


class ProfitTargets(NamedTuple):
    """What the indicator's positions did: ``hit`` (bool) and ``price`` (NaN while flat), one value per candle."""

    hit: Flags
    price: Floats


def compute_smm(
    df: pd.DataFrame,
    chop_length: int = 14,
    chop_threshold: float = CHOP_THRESHOLD,
    mfi_length: int = 14,
    mfi_middle: float = 50.0,
    atr_length: int = 14,
    target_atr: float = 2.0,
) -> pd.DataFrame:
    """Return buy_signal, sell_signal, profit_target_hit and the indicators behind them, one row per candle of ``df``.

    Args:
        df: n candles by open time, float columns open high low close volume.
        chop_length: candles in the Choppiness Index, at least 2.
        chop_threshold: signals need a Choppiness Index below this, 0 to 100.
        mfi_length: candles in the Money Flow Index, at least 2.
        mfi_middle: a long needs a Money Flow Index above this, a short one below 100 minus it.
        atr_length: candles in the Average True Range, at least 1.
        target_atr: distance of the profit target from the signal's close, in ATRs of that candle.
    """
    import pandas as pd
    import talib

    open_, high, low, close, volume = (
        np.ascontiguousarray(df[name], dtype=np.float64) for name in ("open", "high", "low", "close", "volume")
    )
    chop = choppiness(high, low, close, chop_length)
    mfi = money_flow_index(high, low, close, volume, mfi_length)
    ha_open, ha_close = heikin_ashi(open_, high, low, close)
    atr = talib.ATR(high, low, close, atr_length)

    ready = (chop < chop_threshold) & np.isfinite(atr)
    rising = ha_close > ha_open
    falling = ha_close < ha_open
    buy = turns_on(rising) & ready & (mfi > mfi_middle)
    sell = turns_on(falling) & ready & (mfi < 100.0 - mfi_middle)
    targets = profit_targets(buy, sell, high, low, close, target_atr * atr)
    columns = {
        "buy_signal": buy,
        "sell_signal": sell,
        "profit_target_hit": targets.hit,
        "chop": chop,
        "mfi": mfi,
        "ha_open": ha_open,
        "ha_close": ha_close,
        "atr": atr,
        "profit_target": targets.price,
    }
    return pd.DataFrame(columns, index=df.index, copy=False)


def choppiness(high: Floats, low: Floats, close: Floats, length: int = 14) -> Floats:
    """Return the Choppiness Index (E. W. Dreiss), rolling high-low form, 0 to 100, NaN for the first length − 1 rows.

    100 · log10(Σ TR over ``length`` candles / (highest high − lowest low of them)) / log10(length). The first true
    range is high − low. A window without any range (all candles flat at one price) has no index: NaN. The other
    published form, with true highs and lows in the denominator, is not this one.
    """
    import talib

    if not len(high):
        return np.empty(0)
    true_range = talib.TRANGE(high, low, close)
    true_range[0] = high[0] - low[0]
    span = talib.MAX(high, length) - talib.MIN(low, length)
    ratio = np.divide(talib.SUM(true_range, length), span, out=np.full(len(high), np.nan), where=span > 0)
    index: Floats = np.log10(ratio, out=ratio)
    index *= 100.0 / math.log10(length)
    return index


def money_flow_index(high: Floats, low: Floats, close: Floats, volume: Floats, length: int = 14) -> Floats:
    """Return the Money Flow Index (G. Quong, A. Soudack) by TA-Lib, 0 to 100, NaN for the first ``length`` rows.

    100 · rising flow / (rising + falling flow) over ``length`` candles; flow is typical price × volume, counted when
    the typical price differs from the candle before. A window without any flow says nothing: NaN. TA-Lib writes 0
    there (before 0.8 for any total below 1, too), which would read as the strongest selling there is; 0 is kept only
    where flow fell on every candle that had any.
    """
    import talib

    index: Floats = talib.MFI(high, low, close, volume, length)
    zeros = np.flatnonzero(index == 0.0)
    if zeros.size:
        typical = (high + low + close) / 3.0
        moves = np.diff(typical, prepend=typical[0]) * (volume > 0.0)
        rising, falling = np.cumsum(moves > 0.0), np.cumsum(moves < 0.0)
        only_falling = (rising[zeros] == rising[zeros - length]) & (falling[zeros] > falling[zeros - length])
        index[zeros[~only_falling]] = np.nan
    return index


def heikin_ashi(open_: Floats, high: Floats, low: Floats, close: Floats) -> tuple[Floats, Floats]:
    """Return Heikin Ashi opens and closes, one of each per candle.

    close = (open + high + low + close) / 4; open = mean of the Heikin Ashi open and close of the candle before, the
    first one (open + close) / 2. The recurrence halves its memory with each candle, which is an exponential average
    of three; three copies of the first open in front seed TA-Lib's average with exactly that value.
    """
    import talib

    ha_close = (open_ + high + low + close) / 4.0
    if not len(open_):
        return np.empty(0), ha_close
    first = (open_[0] + close[0]) / 2.0
    ha_open: Floats = talib.EMA(np.concatenate(((first, first, first), ha_close[:-1])), 3)[2:]
    return np.ascontiguousarray(ha_open), ha_close


def turns_on(state: Flags) -> Flags:
    """Return where ``state`` is True and was False on the candle before; never on the first candle."""
    turned = np.zeros(len(state), dtype=np.bool_)
    np.greater(state[1:], state[:-1], out=turned[1:])
    return turned


def profit_targets(
    buy: Flags, sell: Flags, high: Floats, low: Floats, close: Floats, distance: Floats
) -> ProfitTargets:
    """Return when the indicator's own positions reach their profit targets.

    A signal while flat opens a position at the candle's close, with its target ``distance`` above (buy) or below
    (sell). From the next candle on, the one whose high (low) reaches the target is a hit and leaves the indicator
    flat; a signal on that candle opens the next position. The opposite signal reverses a position without a hit,
    one in its own direction is ignored. ``buy`` and ``sell`` must not both be True on a row.

    The indicator knows nothing of the account: its position may differ from the real one, as when entries were
    skipped or opposite signals are switched off as exits.
    """
    hit = np.zeros(len(close), dtype=np.bool_)
    rows = np.flatnonzero(buy | sell)
    long = buy[rows]
    level = np.where(long, close[rows] + distance[rows], close[rows] - distance[rows])
    reversed_at = _next_opposite(rows, long, len(close))
    last = np.minimum(reversed_at, len(close) - 1)
    touched = np.empty(len(rows), dtype=np.int64)
    touched[long] = _first_at_or_above(high, rows[long], last[long], level[long])
    touched[~long] = _first_at_or_above(-low, rows[~long], last[~long], -level[~long])
    end = np.where(touched >= 0, touched, reversed_at)
    opened = _opened(rows.tolist(), end.tolist())
    hit[touched[opened][touched[opened] >= 0]] = True
    return ProfitTargets(hit, _while_open(rows[opened], end[opened], level[opened], len(close)))


def _opened(rows: list[int], ends: list[int]) -> list[int]:
    """Return which signals found the indicator flat, or make it so by reversing; an end before it frees the row."""
    opened, free_from = [], 0
    for number, row in enumerate(rows):
        if row >= free_from:
            opened.append(number)
            free_from = ends[number]
    return opened


def _while_open(first: NDArray[np.int64], last: NDArray[np.int64], level: Floats, candles: int) -> Floats:
    """Return ``level`` from each position's first row to its last, NaN between; the later one wins a shared row."""
    behind = np.minimum(last + 1, np.append(first[1:], candles))
    edges = np.column_stack((first, behind)).ravel()
    values = np.column_stack((level, np.full(len(level), np.nan))).ravel()
    return np.repeat(np.append(np.nan, values), np.diff(edges, prepend=0, append=candles))


def _next_opposite(rows: NDArray[np.int64], long: Flags, candles: int) -> NDArray[np.int64]:
    """Return for each signal the row of the next signal of the other side, or ``candles``."""
    turns = np.flatnonzero(long[1:] != long[:-1]) + 1
    following = np.searchsorted(turns, np.arange(len(rows)), side="right")
    return np.append(rows[turns], candles)[following]


def _first_at_or_above(
    series: Floats, after: NDArray[np.int64], last: NDArray[np.int64], level: Floats
) -> NDArray[np.int64]:
    """Return for each k the first row in (after[k], last[k]] where ``series`` is at least level[k], or −1.

    All searches advance together, block by block, each over its own rows; a block grows as searches finish.
    """
    found = np.full(len(after), -1, dtype=np.int64)
    searching = np.flatnonzero(after < last)
    cursor = after[searching] + 1
    width = 16
    while searching.size:
        width = max(4, min(width, _CELLS_AT_ONCE // searching.size))
        block = cursor[:, None] + np.arange(width)
        np.minimum(block, last[searching, None], out=block)
        reached = series[block] >= level[searching, None]
        at = reached.argmax(axis=1)
        each = np.arange(len(searching))
        succeeded = reached[each, at]
        found[searching[succeeded]] = block[each, at][succeeded]
        cursor += width
        going_on = ~succeeded & (cursor <= last[searching])
        searching, cursor = searching[going_on], cursor[going_on]
        width *= 2
    return found
