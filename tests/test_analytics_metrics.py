"""The pure figures against hand-worked sums, a peer's backtests and published reference values."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smm_bt.analytics import metrics

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
PEERS = ("peer_ft_btc_5m_2025-06", "peer_ft_16sym_5m_2023-07")
DAY = 86_400_000


def shared(path: str) -> Path:
    file = DATA / path
    if not file.exists():
        pytest.skip(f"the shared reference file {path} is not beside this checkout")
    return file


def peer(name: str) -> tuple[list[float], dict[str, object]]:
    with shared(f"peer/{name}_trades.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["close_timestamp"]))
    summary = json.loads(shared(f"peer/{name}_summary.json").read_text())
    return [float(row["profit_abs"]) for row in rows], summary


def reference_returns() -> np.ndarray:
    with shared("vectors/daily_returns_btc_2020_2022.csv").open() as file:
        return np.array([float(row["ret"]) for row in csv.DictReader(file)])


def reference_values() -> dict[str, float]:
    return json.loads(shared("vectors/daily_metrics_btc_2020_2022.json").read_text())


def test_trade_figures_of_a_hand_worked_list():
    # wins 30 + 10 = 40 (2 of 5), losses -15 - 5 = -20, one trade breaks even
    assert metrics.trade_figures([30.0, -15.0, 0.0, 10.0, -5.0]) == (5, 0.4, 20.0, -10.0, 20.0, 2.0)


def test_a_trade_that_breaks_even_is_neither_win_nor_loss():
    assert metrics.trade_figures([0.0]) == (1, 0.0, None, None, 0.0, None)


def test_without_trades_nothing_but_the_count_and_the_sum_is_defined():
    assert metrics.trade_figures([]) == (0, None, None, None, 0.0, None)


def test_profit_factor_is_undefined_without_a_loss_and_zero_without_a_win():
    assert metrics.profit_factor([1.0, 2.0]) is None
    assert metrics.profit_factor([-1.0, -2.0]) == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_trade_without_a_finite_result_is_refused_not_averaged(bad):
    for figure in (metrics.win_rate, metrics.avg_win, metrics.avg_loss, metrics.total_pnl, metrics.profit_factor):
        with pytest.raises(ValueError, match="finite pnl_usdt"):
            figure([1.0, bad])


@pytest.mark.parametrize("name", PEERS)
def test_profit_factor_wins_and_sum_agree_with_the_peer_program(name):
    results, summary = peer(name)
    figures = metrics.trade_figures(results)
    assert figures.total_trades == summary["total_trades"]
    assert figures.win_rate == pytest.approx(summary["wins"] / summary["total_trades"], rel=1e-12)
    assert figures.profit_factor == pytest.approx(summary["profit_factor"], rel=1e-9)
    assert figures.total_pnl == pytest.approx(summary["profit_total_abs"], rel=1e-9)


@pytest.mark.parametrize("name", PEERS)
def test_drawdown_of_the_closed_trade_balance_agrees_with_the_peer_program(name):
    results, summary = peer(name)
    start = float(summary["starting_balance"])
    fall = metrics.drawdown(start + np.cumsum(results), start)
    assert fall.usdt == pytest.approx(summary["max_drawdown_abs"], rel=1e-9)
    assert fall.fraction == pytest.approx(summary["max_relative_drawdown"], rel=1e-9)


def test_drawdown_starts_at_the_initial_balance():
    assert metrics.drawdown([900.0, 950.0], 1000.0) == (pytest.approx(0.1), 100.0)


def test_the_deepest_fall_in_per_cent_and_in_money_may_be_two_different_falls():
    # 100 -> 50 is half; 1000 -> 800 is a fifth but more money
    assert metrics.drawdown([50.0, 1000.0, 800.0], 100.0) == (0.5, 200.0)


def test_drawdown_of_an_empty_or_only_rising_curve_is_zero():
    assert metrics.drawdown([], 1000.0) == (0.0, 0.0)
    assert metrics.drawdown([1000.0, 1001.0, 1500.0], 1000.0) == (0.0, 0.0)


def test_drawdown_is_at_most_the_whole_account():
    assert metrics.drawdown([0.0], 500.0) == (1.0, 500.0)
    assert metrics.drawdown([-20.0], 500.0) == (1.0, 520.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_drawdown_refuses_a_curve_that_is_not_finite(bad):
    with pytest.raises(ValueError, match="NaN or infinite"):
        metrics.drawdown([1000.0, bad, 900.0], 1000.0)


def test_drawdown_refuses_an_initial_balance_of_nothing():
    with pytest.raises(ValueError, match="positive initial balance"):
        metrics.drawdown([1.0], 0.0)


@given(
    st.lists(st.floats(1.0, 1e6), min_size=1, max_size=60),
    st.floats(1.0, 1e6),
    st.integers(1, 7),
)
def test_drawdown_equals_a_plain_loop_whatever_the_block_size(curve, start, block):
    peak, fraction, usdt = start, 0.0, 0.0
    for value in curve:
        peak = max(peak, value)
        fraction, usdt = max(fraction, (peak - value) / peak), max(usdt, peak - value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "_BLOCK", block)
        assert metrics.drawdown(curve, start) == (pytest.approx(fraction, abs=1e-12), pytest.approx(usdt, abs=1e-9))


def test_daily_returns_take_the_last_candle_of_each_utc_day_and_the_initial_balance_as_base():
    hours = [0, 12, 23, 24, 47, 48]
    equity = [1000.0, 900.0, 1100.0, 1.0, 990.0, 1089.0]
    daily = metrics.daily_returns([hour * 3_600_000 for hour in hours], equity, 1000.0)
    assert daily.day_ms.tolist() == [0, DAY, 2 * DAY]
    assert daily.returns.tolist() == pytest.approx([0.10, -0.10, 0.10])


def test_a_day_without_a_candle_returns_nothing():
    daily = metrics.daily_returns([0, 3 * DAY], [100.0, 110.0], 100.0)
    assert daily.day_ms.tolist() == [0, DAY, 2 * DAY, 3 * DAY]
    assert daily.returns.tolist() == pytest.approx([0.0, 0.0, 0.0, 0.1])


def test_after_the_account_is_gone_daily_returns_are_zero_not_nan():
    daily = metrics.daily_returns([0, DAY, 2 * DAY], [50.0, 0.0, 0.0], 100.0)
    assert daily.returns.tolist() == [-0.5, -1.0, 0.0]


def test_no_candles_give_no_days():
    assert metrics.daily_returns([], [], 100.0).returns.size == 0


def test_sharpe_and_sortino_agree_with_the_reference_libraries():
    returns, expected = reference_returns(), reference_values()
    assert metrics.sharpe(returns) == pytest.approx(expected["empyrical.sharpe_365"], rel=1e-12)
    assert metrics.sharpe(returns) == pytest.approx(expected["quantstats.sharpe"], rel=1e-12)
    assert metrics.sortino(returns) == pytest.approx(expected["empyrical.sortino_365"], rel=1e-12)
    assert metrics.sortino(returns) == pytest.approx(expected["quantstats.sortino"], rel=1e-12)


def test_drawdown_of_compounded_reference_returns_agrees_with_the_reference_libraries():
    fall = metrics.drawdown(np.cumprod(1.0 + reference_returns()), 1.0)
    assert -fall.fraction == pytest.approx(reference_values()["empyrical.max_drawdown"], rel=1e-12)


def test_daily_returns_rebuilt_from_hourly_closes_are_the_reference_returns():
    import gzip

    with gzip.open(shared("klines/BTCUSDT-1h_2019-2022.csv.gz"), "rt") as file:
        rows = [(int(row["timestamp"]), float(row["close"])) for row in csv.DictReader(file)]
    first = 1_577_836_800_000  # 2020-01-01
    before = [close for open_ms, close in rows if open_ms < first + DAY][-1]
    times, closes = zip(*[row for row in rows if row[0] >= first + DAY], strict=True)
    daily = metrics.daily_returns(times, closes, before)
    assert daily.returns == pytest.approx(reference_returns(), abs=1e-12)


def test_sharpe_and_sortino_of_a_hand_worked_week():
    # mean 0.01, deviations +-0.02 -> variance (n - 1) = 4 * 0.0004 / 3; downside sqrt(2 * 0.0001 / 4)
    returns = [0.03, -0.01, 0.03, -0.01]
    assert metrics.sharpe(returns) == pytest.approx(0.01 / math.sqrt(0.0016 / 3) * math.sqrt(365))
    assert metrics.sortino(returns) == pytest.approx(0.01 / math.sqrt(0.00005) * math.sqrt(365))


@pytest.mark.parametrize("returns", [[], [0.02], [0.0, 0.0, 0.0], [0.01, 0.01, 0.01], [0.1, math.nan]])
def test_sharpe_is_undefined_with_fewer_than_two_days_without_variation_or_with_nan(returns):
    assert metrics.sharpe(returns) is None


@pytest.mark.parametrize("returns", [[], [-0.02], [0.0, 0.0], [0.01, 0.03], [-0.1, math.nan]])
def test_sortino_is_undefined_with_fewer_than_two_days_without_a_losing_day_or_with_nan(returns):
    assert metrics.sortino(returns) is None


def test_exposure_is_a_share_of_candles_and_undefined_without_any():
    assert metrics.exposure(3, 12) == 0.25
    assert metrics.exposure(0, 0) is None
