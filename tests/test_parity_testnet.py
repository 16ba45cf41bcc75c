"""The same candles and strategy through replay and through TESTNET on the embedded exchange give the same trades."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from venue_bench import run_on_venue, store_of, write_candles

from feeds.candles import Candles, check_candles
from feeds.files import FundingRates, read_candles
from feeds.lines import CANDLE_COLUMNS
from smm_bt.app.engines import run_replay
from smm_bt.app.replay_plan import ReplayPlan
from smm_bt.emulator.config import EmulatorConfig
from smm_bt.emulator.thread import EmulatorThread
from smm_bt.execution.costs import Costs, NoStopLoss, StopLoss, TakerFee
from smm_bt.execution.market_history import market_history
from smm_bt.execution.market_rules import load_instruments
from smm_bt.model import Trade
from strategy.rules import RuleOptions

START_MS, FRAME_MS = 1_735_689_600_000, 300_000
PRICES = {
    "BTCUSDT": (60_000.0, 0.1),
    "ETHUSDT": (3_000.0, 0.01),
    "SOLUSDT": (150.0, 0.01),
    "LTCUSDT": (100.0, 0.01),
}


def made_candles(symbol: str, seed: int, count: int, volatility: float) -> Candles:
    """A random walk on the symbol's tick, so that the venue takes every price as it is."""
    rng = np.random.default_rng(seed)
    start, tick = PRICES[symbol]
    close = start * np.exp(np.cumsum(rng.normal(0, volatility, count)))
    opened = np.concatenate([[start], close[:-1]]) * np.exp(rng.normal(0, volatility / 5, count))
    spread = 1 + np.abs(rng.normal(0, volatility / 2, count))
    high, low = np.maximum(opened, close) * spread, np.minimum(opened, close) / spread
    decimals = len(str(tick)) - 2
    rows = {"open": opened, "high": high, "low": low, "close": close}
    rounded = {name: np.round(np.round(values / tick) * tick, decimals) for name, values in rows.items()}
    rounded["high"] = np.maximum(rounded["high"], np.maximum(rounded["open"], rounded["close"]))
    rounded["low"] = np.minimum(rounded["low"], np.minimum(rounded["open"], rounded["close"]))
    stamps = START_MS + FRAME_MS * np.arange(count)
    return check_candles(symbol, "5m", {"open_ms": stamps, "volume": np.ones(count), **rounded})


def recorded_candles(first: int, count: int) -> Candles:
    """Candles of the real market, where the folder that holds them is beside the repository."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data" / "klines" / "BTCUSDT-5m_2024-10_2025-02.csv.gz"
    if not path.is_file():
        pytest.skip("the folder with recorded candles is not here")
    whole = read_candles(path)
    rows = {name: getattr(whole, name)[first : first + count] for name in (*CANDLE_COLUMNS, "open_ms")}
    return check_candles("BTCUSDT", "5m", rows)


def made_flags(seed: int, count: int, density: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed + 1000)
    return {name: rng.random(count) < density for name in ("buy_signal", "sell_signal", "profit_target_hit")}


def compare(expected: list[Trade], got: list[Trade]) -> None:
    """Identical in everything; a liquidation price is the one price both sides compute, in Decimal and in float."""
    assert [_identity(trade) for trade in got] == [_identity(trade) for trade in expected]
    for mine, theirs in zip(got, expected, strict=True):
        assert mine.exit_price == pytest.approx(theirs.exit_price, rel=1e-14, abs=0)
        money = [mine.pnl_usdt, mine.fees_usdt, mine.gross_pnl_usdt, mine.funding_usdt, mine.margin_usdt]
        wanted = [theirs.pnl_usdt, theirs.fees_usdt, theirs.gross_pnl_usdt, theirs.funding_usdt, theirs.margin_usdt]
        assert money == pytest.approx(wanted, rel=0, abs=1e-8)


def compare_with_stop(expected: list[Trade], got: list[Trade], tick: float, end_ms: int) -> None:
    """The venue takes stop prices on the tick only: a stopped trade is the same but for less than one tick."""
    got = [trade for trade in got if trade.exit_ms < end_ms]
    assert {"stop_loss", "opposite_signal"} <= {trade.close_reason for trade in got}
    for mine, theirs in zip(got, expected, strict=True):
        assert _identity(mine)[:4] == _identity(theirs)[:4]
        assert mine.close_reason == theirs.close_reason
        assert abs(mine.qty - theirs.qty) < 0.0005 * mine.qty + 0.0011
        room = tick if mine.close_reason == "stop_loss" else 0.0
        assert abs(mine.exit_price - theirs.exit_price) <= room


def _identity(trade: Trade) -> tuple[object, ...]:
    exit_price = None if trade.close_reason == "liquidation" else trade.exit_price
    times = (trade.entry_ms, trade.exit_ms)
    return (trade.symbol, trade.side, *times, trade.qty, trade.entry_price, exit_price, trade.close_reason)


CASES: dict[str, dict[str, Any]] = {
    "one symbol": {},
    "dense signals": {"density": 0.5, "seed": 2},
    "two symbols on one balance": {"symbols": ("BTCUSDT", "ETHUSDT"), "seed": 3},
    "four symbols that reverse on most rows": {"symbols": tuple(PRICES), "seed": 12, "density": 0.6, "count": 120},
    "targets only, liquidations": {"volatility": 0.02, "density": 0.05, "opposite": False, "seed": 4},
    "liquidations and reversals": {"volatility": 0.02, "density": 0.2, "seed": 5},
    "funding": {"funding": True, "seed": 6, "density": 0.05},
    "small account": {"balance": 60.0, "seed": 7},
    "account too small for some entries": {"balance": 70.0, "seed": 8, "volatility": 0.01},
    "no fee": {"fee": 0.0, "seed": 9},
    "recorded candles": {"recorded": 11_000, "seed": 11},
    "a stop at the venue": {"stop": 1.0, "seed": 10, "volatility": 0.006, "density": 0.08},
}


@pytest.mark.parametrize("case", CASES)
def test_testnet_on_the_embedded_exchange_equals_replay(case: str, tmp_path: Path) -> None:
    options = {"symbols": ("BTCUSDT",), "seed": 1, "count": 180, "volatility": 0.004, "density": 0.15} | CASES[case]
    candles = {
        symbol: made_candles(symbol, options["seed"] * 10 + number, options["count"], options["volatility"])
        for number, symbol in enumerate(options["symbols"])
    }
    if "recorded" in options:
        candles = {"BTCUSDT": recorded_candles(options["recorded"], options["count"])}
    columns = {
        symbol: made_flags(options["seed"] * 10 + number, options["count"], options["density"])
        for number, symbol in enumerate(candles)
    }
    funding = _funding(tmp_path, candles) if options.get("funding") else {}
    balance, fee, opposite = options.get("balance", 10_000.0), options.get("fee", 0.0005), options.get("opposite", True)
    stop = StopLoss(options["stop"]) if "stop" in options else NoStopLoss()
    plan = ReplayPlan(
        histories={symbol: market_history(rows, None, funding.get(symbol)) for symbol, rows in candles.items()},
        columns=columns,
        instruments=load_instruments(candles),
        initial_balance_usdt=balance,
        costs=Costs(TakerFee(fee), stop_loss=stop),
        options=RuleOptions(opposite),
    )
    replayed = run_replay(plan, "stock").record
    config = EmulatorConfig(
        candles=tuple(write_candles(tmp_path, rows) for rows in candles.values()),
        funding=tuple(tmp_path / f"{symbol}-funding.csv" for symbol in funding),
        start_ms=int(min(rows.open_ms[0] for rows in candles.values())),
        balance_usdt=Decimal(repr(balance)),
        taker_rate=Decimal(repr(fee)),
        weight_limit_1m=0,
        order_limit_1m=0,
        order_limit_10s=0,
    )
    with EmulatorThread(config) as exchange:
        store = store_of(exchange, symbols=tuple(candles), stop_loss=stop)
        _, broker = run_on_venue(exchange, store, candles, columns, close_on_opposite_signal=opposite)
        venue = exchange.ledger()
    assert broker.halted is None
    if "stop" in options:
        compare_with_stop(replayed.trades, broker.ledger.trades, PRICES["BTCUSDT"][1], plan_end(candles))
        return
    assert len(replayed.trades) > 5
    end_ms = plan_end(candles)  # what is decided on the last candle stays pending in replay and is traded on a venue
    compare(replayed.trades, [trade for trade in broker.ledger.trades if trade.exit_ms < end_ms])
    assert [(s.time_ms, s.symbol) for s in broker.skipped_entries if s.time_ms < end_ms] == [
        (s.time_ms, s.symbol) for s in replayed.skipped_entries
    ]
    assert broker.ledger.wallet_usdt == pytest.approx(float(venue["wallet"]), abs=1e-6)


def plan_end(candles: dict[str, Candles]) -> int:
    return max(int(rows.open_ms[-1]) + rows.timeframe_ms for rows in candles.values())


def _funding(folder: Path, candles: dict[str, Candles]) -> dict[str, FundingRates]:
    rates: dict[str, FundingRates] = {}
    for number, (symbol, rows) in enumerate(candles.items()):
        times = np.arange(int(rows.open_ms[0]), int(rows.open_ms[-1]), 3_600_000)
        values = np.round(np.random.default_rng(number).normal(0, 0.0005, len(times)), 8)
        text = "timestamp,funding_rate\n" + "".join(
            f"{t},{r!r}\n" for t, r in zip(times.tolist(), values.tolist(), strict=True)
        )
        (folder / f"{symbol}-funding.csv").write_text(text, "utf-8")
        rates[symbol] = FundingRates(times.astype(np.int64), values)
    return rates
