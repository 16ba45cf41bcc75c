"""Small replays written down by hand: rows of prices and one letter of flags per candle.

Unless a case says otherwise: 10 000 USDT, no fee, one bracket with mmr 1 % and cum 0, step 0.001. So an entry at 100
has notional 40 000, qty 400 and margin 2 000, and is liquidated at 95/0.99 = 95.9596 (long) or 105/1.01 = 103.9604.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
from made_files import FIVE_MINUTES_MS, NEW_YEAR_MS

from feeds.candles import Candles, check_candles
from feeds.files import FundingRates
from smm_bt.app.engines import ENGINES, run_replay
from smm_bt.app.replay_plan import ReplayPlan
from smm_bt.execution.costs import Costs, NoStopLoss, Slippage, StopLoss, TakerFee
from smm_bt.execution.instrument import Instrument, LeverageBracket
from smm_bt.execution.market_history import market_history
from smm_bt.model import RunRecord
from strategy.rules import RuleOptions

Candle = tuple[float, float, float, float]
BTC, ETH = "BTCUSDT", "ETHUSDT"
TF = FIVE_MINUTES_MS
#: Open times of the candles.
T = [NEW_YEAR_MS + n * TF for n in range(50)]
LONG_LIQUIDATION = 9_500 / 99
SHORT_LIQUIDATION = 10_500 / 101


def flat(price: float) -> Candle:
    return (price, price, price, price)


def instrument(symbol: str = BTC, **changes: Any) -> Instrument:
    bracket = LeverageBracket(Decimal(0), Decimal(10**9), 20, Decimal("0.01"), Decimal(0))
    values: dict[str, Any] = {
        "symbol": symbol,
        "price_tick": Decimal("0.01"),
        "step": Decimal("0.001"),
        "min_qty": Decimal("0.001"),
        "max_qty": Decimal(10**6),
        "min_notional": Decimal(5),
        "brackets": (bracket,),
    }
    return Instrument(**(values | changes))


def candles(rows: list[Candle], symbol: str = BTC, at: list[int] | None = None) -> Candles:
    """Checked candles on the given places of the grid, by default 0, 1, 2 and so on."""
    places = at if at is not None else list(range(len(rows)))
    table = dict(zip(("open", "high", "low", "close"), np.array(rows, dtype=float).T, strict=True))
    columns: dict[str, Any] = {"open_ms": np.array([T[0] + p * TF for p in places]), **table}
    return check_candles(symbol, "5m", columns | {"volume": np.ones(len(rows))})


def flags(letters: str) -> dict[str, np.ndarray]:
    """B buy, s sell, x both, t target, B, S and X the same with the target, '.' nothing; one letter per candle."""
    wanted = {"buy_signal": "bxBX", "sell_signal": "sxSX", "profit_target_hit": "tBSX"}
    return {name: np.array([letter in marks for letter in letters]) for name, marks in wanted.items()}


def funding_rates(*rows: tuple[int, float]) -> FundingRates:
    return FundingRates(np.array([r[0] for r in rows], dtype=np.int64), np.array([r[1] for r in rows], dtype=float))


def costs(fee: float = 0.0, slippage_bps: float = 0.0, stop: float | None = None) -> Costs:
    return Costs(TakerFee(fee), Slippage(slippage_bps), NoStopLoss() if stop is None else StopLoss(stop))


def plan(
    rows: dict[str, tuple[list[Candle], str]],
    *,
    mark: dict[str, list[Candle]] | None = None,
    funding: dict[str, FundingRates] | None = None,
    at: dict[str, list[int]] | None = None,
    instruments: dict[str, Instrument] | None = None,
    balance: float = 10_000.0,
    close_on_opposite: bool = True,
    **cost_options: Any,
) -> ReplayPlan:
    histories = {}
    for symbol, (prices, _) in rows.items():
        places = (at or {}).get(symbol)
        marks = candles(mark[symbol], symbol, places) if mark and symbol in mark else None
        histories[symbol] = market_history(candles(prices, symbol, places), marks, (funding or {}).get(symbol))
    return ReplayPlan(
        histories=histories,
        columns={symbol: flags(letters) for symbol, (_, letters) in rows.items()},
        instruments=instruments or {symbol: instrument(symbol) for symbol in rows},
        initial_balance_usdt=balance,
        costs=costs(**cost_options),
        options=RuleOptions(close_on_opposite),
    )


def replay(letters: str, rows: list[Candle], **options: Any) -> RunRecord:
    """Replay one symbol; mark and funding may be given without naming it."""
    for name in ("mark", "funding", "at"):
        if name in options:
            options[name] = {BTC: options[name]}
    return replay_many({BTC: (rows, letters)}, **options)


def replay_many(rows: dict[str, tuple[list[Candle], str]], **options: Any) -> RunRecord:
    """Replay with every engine, check that they agree to the last bit, and return the record."""
    made = plan(rows, **options)
    records = {engine: run_replay(made, engine).record for engine in ENGINES}
    for engine, record in records.items():
        assert record == records["stock"], engine
    return records["stock"]
