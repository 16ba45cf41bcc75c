"""An account booked again from what was written down is the same to the last bit; contradictions are refused."""

from __future__ import annotations

import pytest
from scenarios import Scenario, make, plan_of

from smm_bt.app.engines import run_replay
from smm_bt.errors import RunFailed
from smm_bt.execution.ledger_rebuild import rebuild_ledger
from smm_bt.model import RunRecord

CASES = {
    "plain": Scenario(1),
    "three symbols, stops and slippage": Scenario(2, symbols=3, stop_loss_percent=0.7, slippage_bps=3.0),
    "funding and liquidations": Scenario(3, symbols=2, volatility=0.03, with_funding=True, with_mark=True),
    "a poor account": Scenario(4, initial_balance=30.0, volatility=0.03, with_funding=True),
}


def recorded(scenario: Scenario) -> RunRecord:
    return run_replay(plan_of(scenario, make(scenario)), "stock").record


@pytest.mark.parametrize("name", CASES)
def test_an_account_is_rebuilt_to_the_last_bit(name: str) -> None:
    scenario = CASES[name]
    record, ledger = recorded(scenario), plan_of(scenario, make(scenario)).new_ledger()
    rebuild_ledger(ledger, record.fills, record.ledger_entries)
    assert ledger.wallet_usdt == record.wallet_usdt
    assert ledger.trades == record.trades
    assert ledger.fills == record.fills
    assert ledger.entries == record.ledger_entries
    opened = {position.symbol: position for position in record.open_positions}
    assert set(ledger.positions) == set(opened)
    for symbol, position in ledger.positions.items():
        assert (position.qty, position.margin_usdt) == (opened[symbol].qty, opened[symbol].margin_usdt)
        assert position.liquidation_price == opened[symbol].liquidation_price
        assert position.funding_usdt == opened[symbol].funding_usdt
    assert len(record.trades) > 3


def test_missing_fills_funding_without_a_position_and_other_money_are_refused() -> None:
    scenario = CASES["funding and liquidations"]
    record = recorded(scenario)
    entries = record.ledger_entries
    funding = next(entry for entry in entries if entry.kind == "funding")
    wrong = [entries[0]._replace(wallet_usdt=entries[0].wallet_usdt + 0.01), *entries[1:]]
    for fills, rows, why in (
        (record.fills[:1], entries, "holds no fill"),
        (record.fills, [funding], "without a position"),
        (record.fills, wrong, "the journal was changed"),
    ):
        with pytest.raises(RunFailed, match=why):
            rebuild_ledger(plan_of(scenario, make(scenario)).new_ledger(), fills, rows)


def test_a_settlement_that_was_told_after_the_close_is_rebuilt_too() -> None:
    scenario = CASES["plain"]
    ledger = plan_of(scenario, make(scenario)).new_ledger()
    (symbol,) = ledger.instruments
    ledger.open(symbol, 1, 1.0, 100.0, 1_000, "in")
    ledger.close(symbol, 101.0, 3_000, "manual", "out")
    ledger.open(symbol, -1, 1.0, 101.0, 3_000, "in-2")
    assert ledger.settle_told(symbol, -0.5, 2_000)
    again = plan_of(scenario, make(scenario)).new_ledger()
    rebuild_ledger(again, ledger.fills, ledger.entries)
    assert again.trades == ledger.trades
    assert again.wallet_usdt == ledger.wallet_usdt
    assert again.positions[symbol].funding_usdt == 0.0
