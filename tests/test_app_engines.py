"""Every engine against the oracle, a second implementation of SPEC §5-§9 that shares no code with them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenarios import TIMEFRAME_MS, Scenario, make, oracle_result, plan_of

from smm_bt.analytics.equity import equity_curve
from smm_bt.app.engines import run_plan, run_stock
from smm_bt.model import RunRecord

ENGINES = {"stock": run_stock, "plan": run_plan}

scenarios = st.builds(
    Scenario,
    seed=st.integers(0, 2**32),
    candles=st.integers(4, 250),
    symbols=st.integers(1, 3),
    volatility=st.sampled_from([0.002, 0.01, 0.03]),
    gap_probability=st.sampled_from([0.0, 0.05]),
    density=st.sampled_from([0.05, 0.3, 0.9]),
    conflict=st.sampled_from([0.0, 0.2]),
    initial_balance=st.sampled_from([6.0, 30.0, 250.0, 10_000.0, 1_000_000.0]),
    fee_rate=st.sampled_from([0.0, 0.0005]),
    slippage_bps=st.sampled_from([0.0, 3.0]),
    stop_loss_percent=st.sampled_from([None, 0.7, 3.0]),
    close_on_opposite=st.booleans(),
    with_mark=st.booleans(),
    with_funding=st.booleans(),
    step=st.sampled_from(["0.001", "0.1", "1"]),
    stagger=st.sampled_from([0, 0, 3]),
)


def assert_equals_oracle(scenario: Scenario, engine: str) -> None:
    made = make(scenario)
    plan = plan_of(scenario, made)
    record = ENGINES[engine](plan)
    expected = oracle_result(scenario, made)
    assert_trades_equal(record, expected.trades)
    closes = {s: (h.candles.open_ms, h.candles.close) for s, h in plan.histories.items()}
    curve = equity_curve(None, closes, record.ledger_entries, scenario.initial_balance, TIMEFRAME_MS)
    assert curve.open_ms.tolist() == expected.steps
    assert curve.equity.tolist() == pytest.approx(expected.equity, rel=1e-9, abs=1e-7)
    assert curve.wallet.tolist() == pytest.approx(expected.wallet, rel=1e-9, abs=1e-7)
    assert [(s.time_ms, s.symbol) for s in record.skipped_entries] == expected.skipped
    assert sum(d.conflicting_signals for d in record.decisions) == expected.conflicting
    assert {p.symbol: p.qty for p in record.open_positions} == {p["symbol"]: p["qty"] for p in expected.open_positions}
    assert {(p.symbol, p.entry_side, p.close_reason or None) for p in record.pending_signals} == {
        (p["symbol"], p["entry"], p["close_reason"]) for p in expected.pending
    }


def assert_trades_equal(record: RunRecord, expected: list[dict]) -> None:
    exact = ("symbol", "side", "entry_time", "qty", "exit_time", "close_reason")
    got = [(t.symbol, t.side, t.entry_ms, t.qty, t.exit_ms, t.close_reason) for t in record.trades]
    assert got == [tuple(trade[name] for name in exact) for trade in expected]
    for trade, other in zip(record.trades, expected, strict=True):
        money = {
            "entry_price": trade.entry_price,
            "exit_price": trade.exit_price,
            "pnl_usdt": trade.pnl_usdt,
            "pnl_percent": trade.pnl_percent,
            "fees": trade.fees_usdt,
            "gross_pnl_usdt": trade.gross_pnl_usdt,
            "funding_usdt": trade.funding_usdt,
            "margin_usdt": trade.margin_usdt,
        }
        assert money == pytest.approx({name: other[name] for name in money}, rel=1e-9, abs=1e-7)


@pytest.mark.parametrize("engine", ENGINES)
@given(scenario=scenarios)
@settings(max_examples=200, deadline=None)
def test_every_engine_trades_and_books_like_the_oracle(engine: str, scenario: Scenario) -> None:
    assert_equals_oracle(scenario, engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_liquidations_happen_and_equal_the_oracle(engine: str) -> None:
    scenario = Scenario(seed=5, volatility=0.03, density=0.05, close_on_opposite=False)
    record = ENGINES[engine](plan_of(scenario, make(scenario)))
    assert "liquidation" in {trade.close_reason for trade in record.trades}
    assert_equals_oracle(scenario, engine)
