"""Fee, slippage and stop policies, each with its do-nothing member."""

from __future__ import annotations

import pytest

from smm_bt.execution.costs import Costs, NoStopLoss, Slippage, StopLoss, TakerFee


def test_the_taker_fee_is_a_share_of_the_notional() -> None:
    assert TakerFee(0.0005).of(40_000.0) == 20.0
    assert TakerFee().rate == 0.0005


def test_a_fee_of_zero_charges_nothing() -> None:
    assert TakerFee(0.0).of(1e9) == 0.0


def test_slippage_makes_buys_dearer_and_sells_cheaper() -> None:
    assert Slippage(10.0).fill_price(100.0, 1) == pytest.approx(100.1)
    assert Slippage(10.0).fill_price(100.0, -1) == pytest.approx(99.9)


def test_no_slippage_leaves_the_price_alone_to_the_last_bit() -> None:
    for price in (0.1 + 0.2, 1e-8, 123456.789):
        assert Slippage().fill_price(price, 1) == price
        assert Slippage().fill_price(price, -1) == price


def test_a_stop_lies_on_the_losing_side_of_the_entry() -> None:
    assert StopLoss(3.0).price(100.0, 1) == 97.0
    assert StopLoss(3.0).price(100.0, -1) == 103.0


def test_without_a_stop_there_is_no_price() -> None:
    assert NoStopLoss().price(100.0, 1) is None


def test_the_default_costs_are_five_basis_points_and_nothing_else() -> None:
    assert Costs() == Costs(TakerFee(0.0005), Slippage(0.0), NoStopLoss())
