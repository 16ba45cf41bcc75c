"""Replay speed as ratios to a plain Backtrader run of the same candles and signals, measured side by side.

    python benchmarks/replay_speed.py              one year of minutes, five rounds (about ten minutes)
    python benchmarks/replay_speed.py --quick      100,000 candles, three rounds
    python benchmarks/replay_speed.py --guard      like --quick; exit 1 when a ratio falls below its floor

Every run is a process of its own; rounds are interleaved; figures are medians, ratios are taken inside a round.
"naive" is what a Backtrader user would write: PandasData with three extra lines, the default broker, standard
observers, TradeAnalyzer + DrawDown + TimeReturn + SQN. "run" is engine, equity curve and report figures, without
reading candles and without imports.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np

YEAR = 525_600
QUICK = 100_000
START_MS = 1_704_067_200_000
BALANCE = 1_000_000.0
FEE = 0.0005

#: With a trade every five candles the full fee would end the account within a day; this one lets it live.
DENSE_FEE = 0.00001

#: Smallest acceptable ratio to naive, with a margin for noisy machines: full year, and 100,000 candles.
FLOORS = {"stock": (6.0, 4.0), "event": (40.0, 15.0), "plan": (600.0, 150.0), "plan, dense": (60.0, 30.0)}


def made_market(count: int, every: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return candle columns and flags: a random walk, each flag up once in ``every`` candles on average."""
    rng = np.random.default_rng(7)
    close = 50_000.0 * np.exp(np.cumsum(rng.normal(0, 0.0004, count)))
    opened = np.concatenate([[50_000.0], close[:-1]])
    columns = {
        "open_ms": START_MS + 60_000 * np.arange(count),
        "open": opened,
        "high": np.maximum(opened, close) * (1 + np.abs(rng.normal(0, 0.0002, count))),
        "low": np.minimum(opened, close) * (1 - np.abs(rng.normal(0, 0.0002, count))),
        "close": close,
        "volume": np.ones(count),
    }
    flags = {name: rng.random(count) < 1 / every for name in ("buy_signal", "sell_signal", "profit_target_hit")}
    return columns, flags


def run_naive(columns: dict[str, np.ndarray], flags: dict[str, np.ndarray], fee: float) -> tuple[float, int]:
    """Trade the flags as a Backtrader user would, on the default broker."""
    import backtrader as bt
    import pandas as pd

    class SignalData(bt.feeds.PandasData):
        lines = ("buy_signal", "sell_signal", "profit_target_hit")
        params = (("buy_signal", -1), ("sell_signal", -1), ("profit_target_hit", -1))

    class Signals(bt.Strategy):
        def next(self) -> None:
            data, side = self.data, (self.position.size > 0) - (self.position.size < 0)
            buy, sell = data.buy_signal[0] > 0, data.sell_signal[0] > 0
            wish = 0 if buy and sell else int(buy) - int(sell)
            closes = side and (data.profit_target_hit[0] > 0 or wish == -side)
            if closes:
                self.close()
            if wish and (closes or not side):
                size = self.broker.getcash() * 0.20 * 20 / data.close[0]
                self.buy(size=size) if wish > 0 else self.sell(size=size)

    index = pd.DatetimeIndex(columns["open_ms"].astype("datetime64[ms]"))
    names = ("open", "high", "low", "close", "volume")
    frame = pd.DataFrame({name: columns[name] for name in names} | flags, index=index)
    cerebro = bt.Cerebro()
    cerebro.broker = bt.brokers.BackBroker(cash=BALANCE, shortcash=False)
    cerebro.broker.setcommission(commission=fee, leverage=20.0)
    cerebro.adddata(SignalData(dataname=frame, timeframe=bt.TimeFrame.Minutes))
    cerebro.addstrategy(Signals)
    analyzers = (bt.analyzers.TradeAnalyzer, bt.analyzers.DrawDown, bt.analyzers.TimeReturn, bt.analyzers.SQN)
    for analyzer in analyzers:
        cerebro.addanalyzer(analyzer)
    begin = time.perf_counter()
    (strategy,) = cerebro.run()
    return time.perf_counter() - begin, strategy.analyzers.tradeanalyzer.get_analysis().total.closed


def run_engine(
    engine: str, columns: dict[str, np.ndarray], flags: dict[str, np.ndarray], fee: float
) -> tuple[float, int]:
    """Trade the flags with one of our engines, equity curve and report figures included."""
    from feeds.candles import check_candles
    from smm_bt.app.collection import no_garbage_collection
    from smm_bt.app.replay_plan import ReplayPlan
    from smm_bt.execution.costs import Costs, TakerFee
    from smm_bt.execution.market_history import market_history
    from smm_bt.execution.market_rules import load_instruments

    candles = check_candles("BTCUSDT", "1m", columns)
    rules = load_instruments(["BTCUSDT"])
    plan = ReplayPlan({"BTCUSDT": market_history(candles)}, {"BTCUSDT": flags}, rules, BALANCE, Costs(TakerFee(fee)))
    with no_garbage_collection():  # as a replay does
        return timed_run(plan, engine)


def timed_run(plan: Any, engine: str) -> tuple[float, int]:
    """Time engine, equity curve and figures of one plan."""
    from smm_bt.analytics.equity import equity_curve
    from smm_bt.analytics.metrics import daily_returns, drawdown, sharpe, sortino, trade_figures
    from smm_bt.app.engines import run_replay

    candles = plan.histories["BTCUSDT"].candles
    begin = time.perf_counter()
    record = run_replay(plan, engine).record
    closes = {"BTCUSDT": (candles.open_ms, candles.close)}
    equity = equity_curve(None, closes, record.ledger_entries, BALANCE, candles.timeframe_ms)
    trade_figures(trade.pnl_usdt for trade in record.trades)
    drawdown(equity.equity, BALANCE)
    returns = daily_returns(equity.open_ms, equity.equity, BALANCE).returns
    sharpe(returns), sortino(returns)
    return time.perf_counter() - begin, len(record.trades)


def run_one(name: str, count: int, every: int) -> dict[str, Any]:
    """Run one engine in this process; return seconds, trades and peak memory in MiB."""
    columns, flags = made_market(count, every)
    fee = DENSE_FEE if every < 20 else FEE
    seconds, trades = run_naive(columns, flags, fee) if name == "naive" else run_engine(name, columns, flags, fee)
    return {"s": seconds, "trades": trades, "MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def in_a_process(name: str, count: int, every: int) -> dict[str, Any]:
    """Run one engine in a process of its own."""
    command = [sys.executable, __file__, "--one", name, "--count", str(count), "--every", str(every)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def compare(title: str, names: tuple[str, ...], count: int, every: int, rounds: int) -> dict[str, float]:
    """Print a table of the engines against naive and return the median ratios."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ("naive", *names)}
    for _ in range(rounds):
        for name, done in runs.items():
            done.append(in_a_process(name, count, every))
    print(f"\n{title}: {count:,} candles, {runs['plan'][0]['trades']:,} round trips, {rounds} rounds")
    print(f"{'engine':<8}{'run, ms (min - max)':>32}{'x naive':>10}{'µs/trip':>9}{'peak MiB':>10}")
    ratios = {}
    for name, done in runs.items():
        seconds = [run["s"] for run in done]
        ratio = statistics.median(naive["s"] / run["s"] for naive, run in zip(runs["naive"], done, strict=True))
        ratios[name] = ratio
        span = f"{statistics.median(seconds) * 1e3:,.1f} ({min(seconds) * 1e3:,.1f} - {max(seconds) * 1e3:,.1f})"
        per_trip = statistics.median(seconds) * 1e6 / max(1, done[0]["trades"])
        memory = statistics.median(run["MiB"] for run in done)
        print(f"{name:<8}{span:>32}{ratio:>10,.1f}{per_trip:>9,.0f}{memory:>10,.0f}")
    return ratios


def main() -> int:
    """Parse arguments and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--guard", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--every", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(run_one(given.one, given.count, given.every)))
        return 0
    small = given.quick or given.guard
    count, rounds = (QUICK, 3) if small else (YEAR, 5)
    ratios = compare("sparse signals", ("stock", "event", "plan"), count, 400, rounds)
    dense = compare("dense signals", ("event", "plan"), count // 5, 6, rounds)
    measured = ratios | {"plan, dense": dense["plan"]}
    low = [name for name, floors in FLOORS.items() if measured[name] < floors[1 if small else 0]]
    if low and given.guard:
        print(f"\nbelow the floor: {', '.join(f'{name} {measured[name]:,.1f}' for name in low)}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
