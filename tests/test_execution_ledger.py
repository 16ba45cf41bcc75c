"""FuturesLedger: SPEC §7 sentence by sentence, and every choice its docstrings own up to, with hand-worked numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_replays import BTC, ETH, LONG_LIQUIDATION, T, costs, flat, funding_rates, instrument, replay, replay_many

from smm_bt.execution.ledger import FuturesLedger
from smm_bt.model import CloseReason, LedgerEntry

INSTRUMENTS = {BTC: instrument(BTC), ETH: instrument(ETH)}


def ledger(balance: float = 10_000.0, fee: float = 0.0, stop: float | None = None) -> FuturesLedger:
    return FuturesLedger(balance, INSTRUMENTS, costs=costs(fee, stop=stop))


def opened(side: int = 1, qty: float = 400.0, price: float = 100.0, **options: float) -> FuturesLedger:
    account = ledger(**options)
    account.open(BTC, side, qty, price, T[0], "in")
    return account


# §7: wallet, margin, free balance, equity


def test_rule_7_the_wallet_is_the_initial_balance_plus_gross_minus_fees_plus_funding() -> None:
    account = opened(fee=0.0005)
    account.settle_funding(BTC, 100.0, -0.001, T[1])
    account.close(BTC, 103.0, T[2], CloseReason.PROFIT_TARGET, "out")
    # 10 000 + 1 200 − (20 + 20.6) + 40
    assert account.wallet_usdt == pytest.approx(11_199.4)
    (trade,) = account.trades
    assert (trade.gross_pnl_usdt, trade.fees_usdt, trade.funding_usdt) == pytest.approx((1_200, 40.6, 40))
    assert trade.pnl_usdt == pytest.approx(1_199.4)


def test_rule_7_position_margin_is_quantity_times_entry_over_leverage() -> None:
    assert opened().positions[BTC].margin_usdt == 2_000.0
    assert opened(qty=3.0, price=50.0).positions[BTC].margin_usdt == 7.5


def test_rule_7_the_free_balance_is_the_wallet_less_all_position_margins() -> None:
    account = opened(fee=0.0005)
    account.open(ETH, -1, 10.0, 1_000.0, T[0], "eth")
    # Fees 20 and 5, margins 2 000 and 500.
    assert account.free_balance_usdt == pytest.approx(7_475.0)


def test_rule_7_unrealised_profit_is_not_free_and_not_in_the_wallet() -> None:
    account = opened()
    assert account.equity_usdt({BTC: 110.0}) == pytest.approx(14_000.0)
    assert account.wallet_usdt == 10_000.0
    assert account.free_balance_usdt == 8_000.0


def test_rule_7_equity_is_the_wallet_plus_unrealised_pnl_of_every_symbol() -> None:
    account = opened()
    account.open(ETH, -1, 10.0, 1_000.0, T[0], "eth")
    assert account.equity_usdt({BTC: 99.0, ETH: 990.0}) == pytest.approx(10_000 - 400 + 100)


def test_a_position_without_a_price_counts_at_its_entry() -> None:
    assert opened().equity_usdt({}) == 10_000.0
    (position,) = opened().open_positions({})
    assert position.unrealized_pnl_usdt == 0.0


# §7: fees


def test_rule_7_the_taker_fee_is_charged_on_entry_and_on_exit() -> None:
    trade = replay("b.t..", [*map(flat, (100, 100, 100, 101, 101))], fee=0.0005).trades[0]
    assert trade.fees_usdt == pytest.approx(400 * 100 * 0.0005 + 400 * 101 * 0.0005)


def test_rule_7_a_fee_of_zero_is_allowed() -> None:
    assert replay("b.t..", [flat(100)] * 5, fee=0.0).trades[0].fees_usdt == 0.0


def test_rule_7_an_exit_is_charged_at_the_exit_price_also_on_a_stop() -> None:
    rows = [flat(100), flat(100), (100, 100, 96, 98), flat(98)]
    assert replay("b...", rows, fee=0.001, stop=3).trades[0].fees_usdt == pytest.approx(40 + 38.8)


# §7: funding


@pytest.mark.parametrize(("letter", "rate", "amount"), [("b", 0.001, -40), ("s", 0.001, 40), ("b", -0.001, 40)])
def test_rule_7_funding_is_minus_side_times_quantity_times_price_times_rate(
    letter: str, rate: float, amount: float
) -> None:
    record = replay(f"{letter}..", [flat(100)] * 3, funding=funding_rates((T[2], rate)))
    assert record.open_positions[0].funding_usdt == pytest.approx(amount)
    assert record.wallet_usdt == pytest.approx(10_000 + amount)


def test_rule_7_funding_is_charged_at_the_open_of_the_mark_candle() -> None:
    rows, mark = [flat(100)] * 3, [flat(100), flat(100), (99, 101, 99, 101)]
    record = replay("b..", rows, mark=mark, funding=funding_rates((T[2] + 1, 0.001)))
    assert record.open_positions[0].funding_usdt == pytest.approx(-400 * 99 * 0.001)


def test_rule_7_without_mark_candles_funding_is_charged_at_the_candles_own_open() -> None:
    rows = [flat(100), flat(100), (102, 104, 101, 103)]
    record = replay("b..", rows, funding=funding_rates((T[2] + 200_000, 0.001)))
    assert record.open_positions[0].funding_usdt == pytest.approx(-400 * 102 * 0.001)


def test_rule_7_several_settlements_in_one_candle_are_all_charged() -> None:
    record = replay("b..", [flat(100)] * 3, funding=funding_rates((T[2], 0.001), (T[2] + 5, 0.002)))
    assert record.open_positions[0].funding_usdt == pytest.approx(-120)


def test_rule_7_without_a_position_nothing_is_settled() -> None:
    record = replay("...", [flat(100)] * 3, funding=funding_rates((T[1], 0.5)))
    assert record.ledger_entries == []


def test_funding_does_not_change_the_margin_or_the_liquidation_price() -> None:
    account = opened()
    before = account.positions[BTC].liquidation_price
    account.settle_funding(BTC, 100.0, 0.01, T[1])
    assert account.positions[BTC].liquidation_price == before
    assert account.positions[BTC].margin_usdt == 2_000.0


# §7: liquidation


def test_rule_7_on_liquidation_the_whole_position_margin_is_lost() -> None:
    record = replay("b...", [flat(100), flat(100), (100, 100, 95, 99), flat(99)], fee=0.0005)
    (trade,) = record.trades
    assert trade.exit_price == pytest.approx(LONG_LIQUIDATION)
    # Entry fee 20; gross 400 × (95/0.99 − 100) = −1 616.16…; the rest of the margin is the liquidation fee.
    assert trade.gross_pnl_usdt == pytest.approx(-400 * 4 / 0.99)
    assert trade.fees_usdt == pytest.approx(20 + 2_000 - 1_600 / 0.99)
    assert record.wallet_usdt == pytest.approx(7_980.0)
    assert trade.pnl_percent == pytest.approx(-101.0)


def test_rule_7_a_short_loses_its_whole_margin_too() -> None:
    record = replay("s...", [flat(100), flat(100), (100, 105, 100, 101), flat(101)])
    assert record.wallet_usdt == pytest.approx(8_000.0)
    assert record.trades[0].pnl_usdt == pytest.approx(-2_000.0)


def test_rule_7_isolated_margin_the_other_position_is_untouched() -> None:
    falling = [flat(100), flat(100), (100, 100, 90, 99), flat(99)]
    record = replay_many({BTC: (falling, "b..."), ETH: ([flat(100)] * 4, "b...")})
    assert [trade.symbol for trade in record.trades] == [BTC]
    assert record.open_positions[0].symbol == ETH
    assert record.wallet_usdt == pytest.approx(8_000.0)


def test_a_position_without_a_liquidation_price_cannot_be_liquidated() -> None:
    account = opened()
    account.positions[BTC].liquidation_price = None
    with pytest.raises(ValueError, match="has no liquidation price"):
        account.liquidate(BTC, T[1], "x")


# §7: closing orders are never refused, balances cannot go below zero


def test_rule_7_a_close_beyond_the_margin_is_not_refused_in_a_gap() -> None:
    # The target is seen at 100; the next candle opens at 90: the loss of 4 000 is twice the margin.
    record = replay("b.t..", [*map(flat, (100, 100, 100, 90, 90))])
    (trade,) = record.trades
    assert (trade.close_reason, trade.exit_price) == ("profit_target", 90)
    assert trade.pnl_usdt == pytest.approx(-4_000)
    assert trade.pnl_percent == pytest.approx(-200)


def test_rule_7_the_wallet_is_never_below_zero() -> None:
    # A fall to 70 would lose 12 000; the account holds 10 000, and that is what is booked.
    record = replay("b.t..", [*map(flat, (100, 100, 100, 70, 70))], fee=0.001)
    (trade,) = record.trades
    assert record.wallet_usdt == 0.0
    assert trade.exit_price == 70
    # Entry fee 40 leaves 9 960 for a loss of 12 000 and a fee of 28: the fee is paid in full, the loss with the rest.
    assert trade.fees_usdt == pytest.approx(40 + 28)
    assert trade.gross_pnl_usdt == pytest.approx(-(9_960 - 28))
    assert trade.pnl_usdt == pytest.approx(-10_000)


def test_what_the_wallet_cannot_pay_comes_off_the_loss_first_and_then_off_the_fee() -> None:
    account = opened(balance=100.0)
    result = account.close(BTC, 101.0, T[1], "manual", "out")
    assert result.gross_pnl_usdt == pytest.approx(400.0)
    dear = FuturesLedger(100.0, INSTRUMENTS, costs=costs(0.5))
    dear.wallet_usdt = 0.0
    dear.open(BTC, 1, 1.0, 100.0, T[0], "in")
    assert dear.positions[BTC].fees_usdt == 0.0
    # A gain of 1 and a fee of 50.5: the gain pays 1 of it, the rest is not booked.
    result = dear.close(BTC, 101.0, T[1], "manual", "out")
    assert (result.gross_pnl_usdt, result.close_fee_usdt) == pytest.approx((1.0, 1.0))
    assert dear.wallet_usdt == pytest.approx(0.0)


def test_rule_7_funding_takes_at_most_what_the_wallet_holds() -> None:
    account = opened(balance=30.0)
    assert account.settle_funding(BTC, 100.0, 0.001, T[1]) == pytest.approx(-30.0)
    assert account.wallet_usdt == 0.0
    assert account.settle_funding(BTC, 100.0, -0.001, T[2]) == pytest.approx(40.0)


def test_rule_7_the_free_balance_is_never_below_zero() -> None:
    account = opened(balance=1_000.0)
    assert account.free_balance_usdt == 0.0


def test_after_the_whole_account_is_lost_entries_are_skipped_and_the_run_goes_on() -> None:
    record = replay("b.t.b..", [*map(flat, (100, 100, 100, 70, 70, 70, 70))])
    assert record.wallet_usdt == 0.0
    (skipped,) = record.skipped_entries
    assert skipped.time_ms == T[5]
    assert "from 0.0 USDT free" in skipped.why


def test_a_tiny_balance_skips_every_entry_with_figures() -> None:
    record = replay("b.s.b..", [flat(50_000.0)] * 7, balance=1.0)
    assert [s.side for s in record.skipped_entries] == ["long", "short", "long"]
    assert all("below the minimum" in s.why and "1.0 USDT free" in s.why for s in record.skipped_entries)
    assert record.trades == []


# additions and partial closes


def test_an_addition_moves_the_entry_to_the_weighted_average_and_the_exits_follow() -> None:
    account = opened(qty=1.0, stop=10.0)
    account.open(BTC, 1, 3.0, 104.0, T[1], "more")
    position = account.positions[BTC]
    assert (position.qty, position.entry_price) == (4.0, 103.0)
    assert position.margin_usdt == pytest.approx(4 * 103 / 20)
    assert position.stop_price == pytest.approx(92.7)
    assert position.liquidation_price == pytest.approx(103 * 0.95 / 0.99)
    assert position.entry_ms == T[0]
    assert position.entry_order_id == "in"


def test_an_addition_of_the_other_side_is_an_error() -> None:
    with pytest.raises(ValueError, match="a short fill cannot add to a long position"):
        opened().open(BTC, -1, 1.0, 100.0, T[1], "x")


def test_a_partial_close_frees_its_share_of_the_margin_and_keeps_the_entry() -> None:
    account = opened(fee=0.001)
    result = account.close(BTC, 110.0, T[1], "manual", "out", 100.0)
    assert (result.closed_qty, result.close_fee_usdt, result.gross_pnl_usdt) == pytest.approx((-100.0, 11.0, 1_000.0))
    position = account.positions[BTC]
    assert (position.qty, position.entry_price, position.margin_usdt) == (300.0, 100.0, 1_500.0)
    assert position.liquidation_price == pytest.approx(LONG_LIQUIDATION)
    assert account.trades == []


def test_several_entries_and_exits_make_one_trade_of_averages_that_adds_up() -> None:
    account = opened(qty=2.0)
    account.close(BTC, 110.0, T[1], "manual", "half", 1.0)
    account.open(BTC, 1, 1.0, 120.0, T[2], "more")
    assert account.positions[BTC].entry_price == 110.0  # (1 × 100 + 1 × 120) / 2
    account.close(BTC, 130.0, T[3], "manual", "out")
    (trade,) = account.trades
    assert trade.qty == 3.0
    assert trade.entry_price == pytest.approx(320 / 3)
    assert trade.exit_price == pytest.approx(370 / 3)
    assert trade.gross_pnl_usdt == pytest.approx(50.0)
    assert trade.gross_pnl_usdt == pytest.approx(trade.qty * (trade.exit_price - trade.entry_price))
    assert trade.margin_usdt == pytest.approx(2 * 100 / 20 + 1 * 120 / 20)
    assert (trade.entry_ms, trade.exit_ms, trade.entry_order_id, trade.exit_order_id) == (T[0], T[3], "in", "out")


def test_float_dust_leaves_no_position() -> None:
    account = opened(qty=0.1)
    account.open(BTC, 1, 0.2, 100.0, T[1], "more")
    assert account.positions[BTC].qty == 0.3
    account.close(BTC, 100.0, T[2], "manual", "out", 0.3)
    assert account.positions == {}
    account = opened(qty=0.3)
    for part in range(3):
        account.close(BTC, 100.0, T[part], "manual", "out", 0.1)
    assert account.positions == {}
    assert account.trades[0].qty == 0.3


def test_the_side_of_a_short_is_in_every_figure() -> None:
    account = opened(side=-1)
    assert account.positions[BTC].signed_qty == -400.0
    account.close(BTC, 90.0, T[1], "manual", "out")
    (trade,) = account.trades
    assert (trade.side, trade.gross_pnl_usdt) == ("short", pytest.approx(4_000.0))
    assert [fill.side for fill in account.fills] == [-1, 1]


# records


def test_every_change_is_entered_with_the_state_after_it() -> None:
    account = opened(fee=0.0005)
    account.settle_funding(BTC, 100.0, 0.001, T[1])
    account.close(BTC, 100.0, T[2], "manual", "half", 100.0)
    account.close(BTC, 97.0, T[3], CloseReason.STOP_LOSS, "out")
    approx = pytest.approx
    assert account.entries == [
        LedgerEntry(T[0], "entry", BTC, approx(-20.0), approx(9_980.0), 400.0, 100.0),
        LedgerEntry(T[1], "funding", BTC, approx(-40.0), approx(9_940.0), 400.0, 100.0),
        LedgerEntry(T[2], "exit", BTC, approx(-5.0), approx(9_935.0), 300.0, 100.0),
        LedgerEntry(T[3], "stop_loss", BTC, approx(-914.55), approx(9_020.45), 0.0, 0.0),
    ]


def test_fills_say_what_was_bought_and_sold_and_why() -> None:
    account = opened(fee=0.0005)
    account.close(BTC, 101.0, T[1], CloseReason.PROFIT_TARGET, "out")
    first, last = account.fills
    assert (first.order_id, first.side, first.qty, first.price, first.reduce_only, first.reason) == (
        "in",
        1,
        400.0,
        100.0,
        False,
        "",
    )
    assert (last.order_id, last.side, last.reduce_only, last.reason) == ("out", -1, True, "profit_target")
    assert last.fee_usdt == pytest.approx(20.2)


def test_pnl_percent_is_the_net_return_on_the_margin() -> None:
    account = opened(fee=0.0005)
    account.close(BTC, 101.0, T[1], "manual", "out")
    assert account.trades[0].pnl_percent == pytest.approx(100 * (400 - 40.2) / 2_000)


moves = st.lists(
    st.tuples(
        st.sampled_from(["open", "close", "funding"]),
        st.sampled_from([BTC, ETH]),
        st.integers(1, 200_000).map(lambda n: n / 1000),
        st.floats(50.0, 200.0),
    ),
    max_size=40,
)


@given(moves=moves, fee=st.sampled_from([0.0, 0.0005, 0.01]), balance=st.sampled_from([10.0, 1_000.0, 1e6]))
@settings(max_examples=150, deadline=None)
def test_the_books_add_up_after_any_sequence(
    moves: list[tuple[str, str, float, float]], fee: float, balance: float
) -> None:
    account = ledger(balance, fee)
    for number, (move, symbol, qty, price) in enumerate(moves):
        held = account.positions.get(symbol)
        if move == "open":
            account.open(symbol, held.side if held else 1 - 2 * (number % 2), qty, price, number, "o")
        elif held and move == "close":
            account.close(symbol, price, number, "manual", "c", min(qty, held.qty))
        elif held:
            account.settle_funding(symbol, price, (qty - 100) / 1e5, number)
        assert account.wallet_usdt >= 0.0
        assert account.free_balance_usdt >= 0.0
    both = [*account.trades, *account.positions.values()]
    booked = sum(b.gross_pnl_usdt - b.fees_usdt + b.funding_usdt for b in both)
    assert account.wallet_usdt == pytest.approx(balance + booked, rel=1e-9, abs=1e-6)
    assert account.wallet_usdt == pytest.approx(balance + sum(e.amount_usdt for e in account.entries), abs=1e-6)
    bought = {s: sum(f.side * f.qty for f in account.fills if f.symbol == s) for s in (BTC, ETH)}
    held_now = {s: account.positions[s].signed_qty if s in account.positions else 0.0 for s in (BTC, ETH)}
    assert bought == pytest.approx(held_now, abs=1e-9)


# a settlement that is told later than its time


def test_a_settlement_told_while_its_position_is_open_is_the_positions() -> None:
    account = opened()
    assert account.settle_told(BTC, -40.0, T[1])
    assert account.positions[BTC].funding_usdt == -40.0
    assert account.wallet_usdt == 9_960.0
    assert account.entries[-1] == LedgerEntry(T[1], "funding", BTC, -40.0, 9_960.0, 400.0, 100.0)


def test_a_settlement_told_after_the_close_changes_the_trade_it_belongs_to_and_no_later_position() -> None:
    for again in (False, True):
        account = opened()
        account.close(BTC, 101.0, T[2], "manual", "out")
        if again:
            account.open(BTC, -1, 100.0, 101.0, T[2], "in-2")
        assert account.settle_told(BTC, -40.0, T[1])
        (trade,) = account.trades
        assert (trade.funding_usdt, trade.pnl_usdt) == (-40.0, 360.0)
        assert account.amended == [trade]
        assert account.wallet_usdt == 10_360.0
        if again:
            assert account.positions[BTC].funding_usdt == 0.0
            assert account.settle_told(BTC, -7.0, T[2])
            assert account.positions[BTC].funding_usdt == -7.0


def test_a_settlement_told_of_a_symbol_never_held_is_not_booked() -> None:
    account = opened()
    assert not account.settle_told(ETH, -40.0, T[1])
    assert account.wallet_usdt == 10_000.0
