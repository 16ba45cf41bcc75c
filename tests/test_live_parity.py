"""Live PAPER on the embedded exchange under a stepped clock gives the trades of a replay over the same file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_kit import (
    FIVE_MINUTES_MS,
    START_MS,
    files_of,
    report_of,
    rows_of,
    run_live,
    run_replay,
    strategy_file,
    trades_of,
)

from feeds.made import made_candles, write_candles
from smm_bt.analytics.equity import read_equity_parquet

CASES: dict[str, dict[str, Any]] = {
    "hashed": {},
    "breakout": {"strategy": "breakout", "volatility": 0.006},
    "crossing, which needs thirty candles": {"strategy": "crossing"},
    "two symbols on one balance": {"symbols": ("BTCUSDT", "ETHUSDT"), "count": 90},
    "slippage and a stop": {"settings": {"SLIPPAGE_BPS": 3.0, "STOP_LOSS_PERCENT": 1.0}, "volatility": 0.008},
    "liquidations, targets only": {"volatility": 0.02, "settings": {"CLOSE_ON_OPPOSITE_SIGNAL": False}},
    "holes in the candles": {"gaps": (40, 41, 42, 90, 109, 110)},
    "holes in single symbols, one at the end": {
        "symbols": ("BTCUSDT", "ETHUSDT", "SOLUSDT"),
        "gaps_of": {"BTCUSDT": (60, 61, 100), "ETHUSDT": (25, 41, 42, 101), "SOLUSDT": (42, 43, *range(105, 120))},
        "strategy": "busy",
    },
    "a symbol that begins thirty candles later": {
        "symbols": ("BTCUSDT", "ETHUSDT"),
        "count": 80,
        "gaps_of": {"ETHUSDT": range(30)},
    },
    "a window shorter than the file": {"settings": {"WARMUP_CANDLES": 60}, "strategy": "breakout"},
    "a small account": {"settings": {"INITIAL_BALANCE_USDT": 40.0}, "volatility": 0.01},
}


@pytest.mark.parametrize("case", CASES)
def test_live_paper_trades_like_replay(case: str, tmp_path: Path) -> None:
    options = {"symbols": ("BTCUSDT",), "count": 120, "seed": 3} | CASES[case]
    strategy, settings = strategy_file(tmp_path, options.pop("strategy", "hashed")), options.pop("settings", {})
    candles = files_of(tmp_path, **options)
    expected = run_replay(tmp_path / "replay", strategy, candles, settings=settings)
    run_live(tmp_path / "live", strategy, candles, settings=settings)
    assert trades_of(tmp_path / "live") == expected
    assert len(expected) > 2
    compare_reports(report_of(tmp_path / "live"), report_of(tmp_path / "replay"))
    compare_curves(tmp_path / "live", tmp_path / "replay")


SHORT_OF_CANDLES = {
    "df as it came": "df",
    "nothing": "None",
    "an empty frame": "type(df)(columns=['buy_signal', 'sell_signal'])",
    "columns of another length": "{'buy_signal': [0] * n, 'sell_signal': [0] * n}",
}


@pytest.mark.parametrize("says", SHORT_OF_CANDLES)
def test_a_strategy_that_breaks_its_contract_while_candles_are_few_has_no_signals_yet(
    says: str, tmp_path: Path
) -> None:
    strategy = tmp_path / "short.py"
    strategy.write_text(
        f"def compute_smm(df, n=20):\n    if len(df) < n:\n        return {SHORT_OF_CANDLES[says]}\n"
        "    middle = df['close'].rolling(n).mean()\n"
        "    return {'buy_signal': df['close'] > middle, 'sell_signal': df['close'] < middle}\n",
        "utf-8",
    )
    candles = files_of(tmp_path, count=60, seed=8)
    expected = run_replay(tmp_path / "replay", strategy, candles)
    run_live(tmp_path / "live", strategy, candles)
    assert trades_of(tmp_path / "live") == expected
    assert len(expected) > 2
    said = rows_of(tmp_path / "live", "SELECT message FROM events WHERE kind = 'too_few_candles'")
    assert len(said) == 1


def test_weekly_candles_trade_like_a_replay_of_them(tmp_path: Path) -> None:
    path, strategy = tmp_path / "BTCUSDT-1w.csv", tmp_path / "weeks.py"
    write_candles(made_candles("BTCUSDT", "1w", count=30, seed=2), path)
    strategy.write_text(
        "def compute_smm(df):\n"
        "    week = df.index.as_unit('ms').asi8 // 604_800_000\n"
        "    return {'buy_signal': week % 4 == 0, 'sell_signal': week % 4 == 2}\n",
        "utf-8",
    )
    expected = run_replay(tmp_path / "replay", strategy, [path])
    run_live(tmp_path / "live", strategy, [path])
    assert trades_of(tmp_path / "live") == expected
    assert len(expected) > 2
    compare_reports(report_of(tmp_path / "live"), report_of(tmp_path / "replay"))
    compare_curves(tmp_path / "live", tmp_path / "replay")


def compare_reports(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    names = ("total_trades", "win_rate", "total_pnl", "max_drawdown", "final_equity", "fees_usdt", "skipped_entries")
    names += ("conflicting_signals", "pending_signal", "exposure", "candles", "gaps", "missing_candles", "first_candle")
    for name in (*names, "last_candle", "long", "short", "liquidations", "has_profit_target"):
        assert (
            mine.get(name) == pytest.approx(theirs.get(name), rel=1e-12)
            if isinstance(mine.get(name), float)
            else mine.get(name) == theirs.get(name)
        ), name
    assert mine["mode"] == "PAPER"
    assert "embedded exchange" in mine["market_source"]


def compare_curves(mine: Path, theirs: Path) -> None:
    live, stored = (read_equity_parquet(folder / "equity.parquet") for folder in (mine, theirs))
    assert live.open_ms.tolist() == stored.open_ms.tolist()
    assert live.equity.tolist() == pytest.approx(stored.equity.tolist(), rel=1e-12)
    assert live.wallet.tolist() == pytest.approx(stored.wallet.tolist(), rel=1e-12)


def test_funding_and_mark_candles_act_as_in_replay(tmp_path: Path) -> None:
    strategy, candles = strategy_file(tmp_path), files_of(tmp_path, count=200, volatility=0.015, seed=5)
    mark = tmp_path / "BTCUSDT-mark-5m.csv"
    write_mark(mark, candles[0])
    times = np.arange(START_MS, START_MS + 200 * FIVE_MINUTES_MS, 3_600_000 + 420_000)
    rates = np.random.default_rng(1).normal(0, 0.0005, len(times)).round(8)
    funding = tmp_path / "BTCUSDT-funding.csv"
    rows = "".join(f"{time},{rate!r}\n" for time, rate in zip(times.tolist(), rates.tolist(), strict=True))
    funding.write_text("timestamp,funding_rate\n" + rows, "utf-8")
    settings = {"CLOSE_ON_OPPOSITE_SIGNAL": False}
    expected = run_replay(tmp_path / "replay", strategy, candles, mark=[mark], funding=[funding], settings=settings)
    run_live(tmp_path / "live", strategy, candles, mark=(mark,), funding=(funding,), settings=settings)
    got = trades_of(tmp_path / "live")
    assert any(float(trade["funding_usdt"]) for trade in got)
    assert {trade["close_reason"] for trade in got} >= {"liquidation"}
    for mine, theirs in zip(got, expected, strict=True):
        for name, value in theirs.items():
            if name.endswith("_usdt") or name in ("pnl_percent", "fees"):
                assert float(mine[name]) == pytest.approx(float(value), abs=1e-8), name
            else:
                assert mine[name] == value, name


def write_mark(path: Path, candles: Path) -> None:
    from feeds.candles import check_candles
    from feeds.files import read_candles

    series = read_candles(candles)
    drift = 1 + np.random.default_rng(7).normal(0, 0.002, len(series))
    prices = {name: (getattr(series, name) * drift).round(1) for name in ("open", "high", "low", "close")}
    columns: dict[str, Any] = {"open_ms": series.open_ms, "volume": np.zeros(len(series)), **prices}
    columns["high"] = np.maximum.reduce([columns[name] for name in ("open", "high", "close")])
    columns["low"] = np.minimum.reduce([columns[name] for name in ("open", "low", "close")])
    write_candles(check_candles("BTCUSDT", "5m", columns), path)


def test_decisions_and_orders_are_written_before_they_are_carried_out(tmp_path: Path) -> None:
    run_live(tmp_path / "live", strategy_file(tmp_path), files_of(tmp_path, count=80))
    decided = rows_of(tmp_path / "live", "SELECT count(*) FROM decisions WHERE entry_side != 0")[0][0]
    assert decided > 3
    states = rows_of(tmp_path / "live", "SELECT order_id, group_concat(state) FROM order_states GROUP BY order_id")
    assert {states for _, states in states} <= {"created,submitted,filled", "created,submitted,canceled"}
    unknown = "SELECT count(*) FROM fills WHERE order_id NOT IN (SELECT order_id FROM orders)"
    assert rows_of(tmp_path / "live", unknown) == [(0,)]


def test_testnet_on_the_embedded_exchange_trades_like_replay_too(tmp_path: Path) -> None:
    strategy, candles = strategy_file(tmp_path), files_of(tmp_path, ("BTCUSDT", "ETHUSDT"), count=100, seed=4)
    expected = run_replay(tmp_path / "replay", strategy, candles)
    result = run_live(tmp_path / "live", strategy, candles, settings={"TRADING_MODE": "TESTNET"})
    got = trades_of(tmp_path / "live")
    names = ("symbol", "side", "entry_time", "entry_price", "qty", "exit_time", "exit_price", "close_reason")
    assert [[row[name] for name in names] for row in got] == [[row[name] for name in names] for row in expected]
    assert [float(row["pnl_usdt"]) for row in got] == pytest.approx([float(r["pnl_usdt"]) for r in expected], abs=1e-7)
    assert len(got) > 5
    assert result.report["mode"] == "TESTNET"
    compare_curves(tmp_path / "live", tmp_path / "replay")
