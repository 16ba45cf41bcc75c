"""Random replays for tests: the same scenario as a ReplayPlan for the engines and as arguments for the oracle."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
from oracle import OracleResult, make_candles, make_flags, simulate

from feeds.candles import check_candles
from feeds.files import FundingRates
from feeds.timeframes import grid_offset_ms, timeframe_ms
from smm_bt.app.replay_plan import ReplayPlan
from smm_bt.execution.costs import Costs, NoStopLoss, Slippage, StopLoss, TakerFee
from smm_bt.execution.instrument import Instrument, LeverageBracket
from smm_bt.execution.market_history import market_history
from strategy.rules import RuleOptions

SYMBOLS = ("AAAUSDT", "BBBUSDT", "CCCUSDT")

#: Small tiers, so that ordinary balances reach several of them: floor, cap, leverage, rate, cum (continuous).
TIERS = ((0, 5_000, 75, 0.01, 0), (5_000, 25_000, 50, 0.02, 50), (25_000, 400_000, 20, 0.025, 175))
TIERS += ((400_000, 5_000_000, 10, 0.05, 10_175),)


@dataclass(frozen=True)
class Scenario:
    """Seed and options of one random replay."""

    seed: int
    timeframe: str = "5m"
    candles: int = 300
    symbols: int = 1
    volatility: float = 0.01
    gap_probability: float = 0.02
    density: float = 0.2
    conflict: float = 0.1
    initial_balance: float = 10_000.0
    fee_rate: float = 0.0005
    slippage_bps: float = 0.0
    stop_loss_percent: float | None = None
    close_on_opposite: bool = True
    with_mark: bool = False
    with_funding: bool = False
    step: str = "0.001"
    min_notional: float = 5.0
    stagger: int = 0
    arrays: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def length_ms(self) -> int:
        return timeframe_ms(self.timeframe)


def instrument(symbol: str, step: str = "0.001", min_notional: float = 5.0) -> Instrument:
    brackets = tuple(LeverageBracket(*(Decimal(str(v)) for v in t[:2]), t[2], *map(_decimal, t[3:])) for t in TIERS)
    size = Decimal(step)
    return Instrument(symbol, Decimal("0.01"), size, size, Decimal(10_000), _decimal(min_notional), brackets)


def _decimal(value: float) -> Decimal:
    return Decimal(str(value))


@dataclass
class Made:
    """One scenario, made: candles, flags, mark candles and funding of each symbol, as plain arrays."""

    candles: dict[str, dict[str, np.ndarray]]
    flags: dict[str, dict[str, np.ndarray]]
    mark: dict[str, dict[str, np.ndarray]]
    funding: dict[str, list[tuple[int, float]]]


def make(scenario: Scenario) -> Made:
    rng = np.random.default_rng(scenario.seed)
    made = Made({}, {}, {}, {})
    for number, symbol in enumerate(SYMBOLS[: scenario.symbols]):
        length_ms = scenario.length_ms
        candles = make_candles(rng, scenario.candles, scenario.volatility, scenario.gap_probability, length_ms)
        if np.diff(candles["open_ms"]).min() > length_ms:  # a file without two neighbours is refused at the door
            candles["open_ms"][1:] -= candles["open_ms"][1] - candles["open_ms"][0] - length_ms
        off_grid = (candles["open_ms"][0] - grid_offset_ms(scenario.timeframe)) % length_ms
        candles["open_ms"] = candles["open_ms"] - off_grid + number * scenario.stagger * length_ms
        made.candles[symbol] = candles
        made.flags[symbol] = make_flags(rng, scenario.candles, scenario.density, scenario.conflict)
        if scenario.with_mark:
            made.mark[symbol] = _mark(rng, candles)
        if scenario.with_funding:
            made.funding[symbol] = _funding(rng, candles["open_ms"], length_ms)
    return made


def _mark(rng: np.random.Generator, candles: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    drift = 1 + rng.normal(0, 0.002, len(candles["open"]))
    return {name: values * drift if name != "open_ms" else values for name, values in candles.items()}


def _funding(rng: np.random.Generator, open_ms: np.ndarray, length_ms: int) -> list[tuple[int, float]]:
    times = np.unique(rng.integers(int(open_ms[0]), int(open_ms[-1]) + length_ms, len(open_ms) // 4))
    return [(int(time), float(rate)) for time, rate in zip(times, rng.normal(0, 0.0005, len(times)), strict=True)]


def plan_of(scenario: Scenario, made: Made) -> ReplayPlan:
    histories, columns = {}, {}
    for symbol, arrays in made.candles.items():
        candles = _checked(symbol, scenario.timeframe, arrays)
        mark = _checked(symbol, scenario.timeframe, made.mark[symbol]) if made.mark else None
        funding = _rates(made.funding[symbol]) if made.funding else None
        histories[symbol] = market_history(candles, mark, funding)
        flags = made.flags[symbol]
        columns[symbol] = {
            "buy_signal": flags["buy"],
            "sell_signal": flags["sell"],
            "profit_target_hit": flags["target"],
        }
    stop = NoStopLoss() if scenario.stop_loss_percent is None else StopLoss(scenario.stop_loss_percent)
    return ReplayPlan(
        histories=histories,
        columns=columns,
        instruments={s: instrument(s, scenario.step, scenario.min_notional) for s in histories},
        initial_balance_usdt=scenario.initial_balance,
        costs=Costs(TakerFee(scenario.fee_rate), Slippage(scenario.slippage_bps), stop),
        options=RuleOptions(scenario.close_on_opposite),
    )


def _checked(symbol: str, timeframe: str, arrays: dict[str, np.ndarray]) -> Any:
    return check_candles(symbol, timeframe, {**arrays, "volume": np.ones(len(arrays["open"]))})


def _rates(funding: list[tuple[int, float]]) -> FundingRates:
    times, rates = zip(*funding, strict=True) if funding else ((), ())
    return FundingRates(np.array(times, dtype=np.int64), np.array(rates, dtype=np.float64))


def oracle_result(scenario: Scenario, made: Made) -> OracleResult:
    rules = {
        "step": Decimal(scenario.step),
        "min_qty": Decimal(scenario.step),
        "max_qty": Decimal(10_000),
        "min_notional": _decimal(scenario.min_notional),
        "brackets": list(TIERS),
    }
    return simulate(
        made.candles,
        made.flags,
        timeframe_ms=scenario.length_ms,
        instruments=dict.fromkeys(made.candles, rules),
        initial_balance=scenario.initial_balance,
        fee_rate=scenario.fee_rate,
        slippage_bps=scenario.slippage_bps,
        stop_loss_percent=scenario.stop_loss_percent,
        close_on_opposite=scenario.close_on_opposite,
        funding=made.funding,
        mark=made.mark,
    )
