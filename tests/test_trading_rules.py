"""SPEC §5, rule by rule, through the whole stock engine with numbers worked by hand (see made_replays)."""

from __future__ import annotations

from decimal import Decimal

import pytest
from made_replays import (
    BTC,
    ETH,
    LONG_LIQUIDATION,
    SHORT_LIQUIDATION,
    TF,
    Candle,
    T,
    candles,
    flat,
    funding_rates,
    instrument,
    replay,
    replay_many,
)

from smm_bt.errors import UsageError
from smm_bt.execution.market_history import market_history
from smm_bt.model import CloseReason, LedgerEntry, RunRecord, Trade


def only(record: RunRecord) -> Trade:
    (trade,) = record.trades
    return trade


def reasons(record: RunRecord) -> list[str]:
    return [trade.close_reason for trade in record.trades]


def at_100(count: int) -> list[Candle]:
    return [flat(100)] * count


# 5.1 to 5.4


def test_rule_5_1_an_open_position_is_closed_on_profit_target_hit() -> None:
    trade = only(replay("b.t..", [*map(flat, (100, 100, 101, 103, 103))]))
    assert trade.close_reason == "profit_target"
    assert (trade.entry_ms, trade.exit_ms) == (T[1], T[3])
    assert trade.gross_pnl_usdt == pytest.approx(400 * 3)


def test_rule_5_1_the_target_on_the_entry_candle_itself_closes_at_the_next_open() -> None:
    trade = only(replay("bt..", at_100(4)))
    assert (trade.entry_ms, trade.exit_ms, trade.close_reason) == (T[1], T[2], "profit_target")


def test_rule_5_2_the_opposite_signal_closes() -> None:
    record = replay("b.s..", at_100(5))
    assert reasons(record) == ["opposite_signal"]
    assert record.trades[0].exit_ms == T[3]


def test_rule_5_2_with_the_option_off_the_opposite_signal_does_not_close() -> None:
    record = replay("b.s..", at_100(5), close_on_opposite=False)
    assert record.trades == []
    assert record.open_positions[0].side == "long"


def test_rule_5_2_the_target_goes_before_the_opposite_signal_and_still_reverses() -> None:
    record = replay("b.S..", at_100(5))
    assert reasons(record) == ["profit_target"]
    assert record.open_positions[0].side == "short"


def test_rule_5_3_flat_and_a_signal_opens() -> None:
    assert replay("b..", at_100(3)).open_positions[0].side == "long"
    assert replay("s..", at_100(3)).open_positions[0].side == "short"


def test_rule_5_3_the_opposite_signal_reverses() -> None:
    record = replay("s.b..", at_100(5))
    assert [(t.side, t.close_reason) for t in record.trades] == [("short", "opposite_signal")]
    assert record.open_positions[0].side == "long"
    assert record.open_positions[0].entry_ms == T[3]


def test_rule_5_3_there_is_no_pyramiding() -> None:
    record = replay("bbbbb", at_100(5))
    assert [entry.kind for entry in record.ledger_entries] == ["entry"]
    assert record.open_positions[0].qty == 400.0


def test_rule_5_3_a_signal_with_the_target_on_one_row_closes_and_opens_again() -> None:
    record = replay("b.B..", at_100(5))
    assert reasons(record) == ["profit_target"]
    assert record.open_positions[0].side == "long"


def test_rule_5_4_both_signals_on_one_row_open_nothing() -> None:
    record = replay("x..", at_100(3))
    assert record.ledger_entries == []
    assert [d.conflicting_signals for d in record.decisions] == [True]


def test_rule_5_4_both_signals_on_one_row_do_not_close_by_the_opposite_signal() -> None:
    record = replay("b.x..", at_100(5))
    assert record.trades == []
    assert record.open_positions[0].side == "long"


def test_rule_5_4_rule_5_1_still_applies_on_a_conflicting_row_and_nothing_is_entered() -> None:
    record = replay("b.X..", at_100(5))
    assert reasons(record) == ["profit_target"]
    assert record.open_positions == []


# 5.5


def test_rule_5_5_a_signal_is_executed_at_the_open_of_the_next_candle() -> None:
    rows = [(100, 105, 95, 104), (107, 110, 106, 109), (109, 111, 108, 110)]
    (position,) = replay("b..", rows).open_positions
    assert (position.entry_price, position.entry_ms) == (107, T[1])


def test_rule_5_5_slippage_is_adverse_on_both_sides() -> None:
    # 10 basis points: a long enters at 100.1 and leaves at 99.9, a short the other way round.
    long, short = (only(replay(f"{side}.t..", at_100(5), slippage_bps=10)) for side in "bs")
    assert (long.entry_price, long.exit_price) == pytest.approx((100.1, 99.9))
    assert (short.entry_price, short.exit_price) == pytest.approx((99.9, 100.1))


def test_rule_5_5_an_entry_is_sized_at_the_slipped_price() -> None:
    (position,) = replay("b..", at_100(3), slippage_bps=10).open_positions
    assert position.qty == 399.6  # 40 000 / 100.1 = 399.600…


def test_rule_5_5_slippage_applies_to_stops() -> None:
    rows = [flat(100), flat(100), (100, 100, 96, 98), flat(98)]
    trade = only(replay("b...", rows, slippage_bps=10, stop=3))
    assert trade.exit_price == pytest.approx(100.1 * 0.97 * 0.999)


def test_rule_5_5_slippage_does_not_apply_to_liquidations() -> None:
    rows = [flat(100), flat(100), (100, 100, 90, 98), flat(98)]
    trade = only(replay("b...", rows, slippage_bps=10))
    assert trade.close_reason == "liquidation"
    assert trade.exit_price == pytest.approx(LONG_LIQUIDATION * 1.001)  # the entry was slipped to 100.1, the exit not


def test_rule_5_5_a_signal_on_the_last_candle_stays_pending_and_is_reported() -> None:
    record = replay("..b", at_100(3))
    assert record.ledger_entries == []
    (pending,) = record.pending_signals
    assert (pending.symbol, pending.candle_ms, pending.close_reason, pending.entry_side) == (BTC, T[2], "", 1)


def test_rule_5_5_a_pending_reversal_carries_reason_and_side() -> None:
    record = replay("b.s", at_100(3))
    (pending,) = record.pending_signals
    assert (pending.close_reason, pending.entry_side) == ("opposite_signal", -1)
    assert record.open_positions[0].side == "long"


def test_rule_5_5_after_a_gap_the_signal_is_executed_at_the_next_stored_candle() -> None:
    record = replay("b..", [flat(100), flat(103), flat(103)], at=[0, 5, 6])
    assert (record.open_positions[0].entry_ms, record.open_positions[0].entry_price) == (T[5], 103)


# 5.6


def test_rule_5_6_a_reversal_is_a_reduce_only_close_and_an_entry_sized_after_it() -> None:
    # Long 400 from 100, closed at 110: wallet 14 000. The short takes 14 000 × 4 / 110 = 509.0909… → 509.090.
    record = replay("b.s..", [*map(flat, (100, 100, 100, 110, 110))])
    close, entry = record.fills[1:]
    assert (close.reduce_only, close.side, close.qty, close.price, close.time_ms) == (True, -1, 400.0, 110.0, T[3])
    assert (entry.reduce_only, entry.side, entry.qty, entry.price, entry.time_ms) == (False, -1, 509.09, 110.0, T[3])
    assert close.order_id != entry.order_id


def test_rule_5_6_a_reversal_after_a_loss_is_sized_on_what_the_close_left() -> None:
    # Closed at 97: wallet 10 000 − 1 200 = 8 800; the short takes 8 800 × 4 / 97 = 362.8865… → 362.886.
    record = replay("b.s..", [*map(flat, (100, 100, 100, 97, 97))])
    assert record.open_positions[0].qty == 362.886


def test_rule_5_6_when_the_entry_is_skipped_the_close_has_still_happened() -> None:
    wide = {BTC: instrument(min_notional=39_000)}
    # After the close at 97, 8 800 × 4 = 35 200 USDT is below 39 000.
    record = replay("b.s..", [*map(flat, (100, 100, 100, 97, 97))], instruments=wide)
    assert reasons(record) == ["opposite_signal"]
    assert record.open_positions == []
    (skipped,) = record.skipped_entries
    assert (skipped.symbol, skipped.side, skipped.time_ms) == (BTC, "short", T[3])
    assert "39000" in skipped.why


# 5.7


def test_rule_5_7_a_long_is_stopped_at_its_price() -> None:
    rows = [flat(100), flat(100), (99, 99.5, 96.5, 98), flat(98)]
    trade = only(replay("b...", rows, stop=3))
    assert (trade.close_reason, trade.exit_price) == ("stop_loss", pytest.approx(97.0))
    assert trade.exit_ms == T[2] + TF - 1


def test_rule_5_7_a_short_is_stopped_at_its_price() -> None:
    rows = [flat(100), flat(100), (101, 103.5, 101, 102), flat(102)]
    trade = only(replay("s...", rows, stop=3))
    assert (trade.side, trade.exit_price) == ("short", pytest.approx(103.0))


def test_rule_5_7_a_gap_through_the_stop_fills_at_the_open() -> None:
    rows = [flat(100), flat(100), (96.5, 98, 96, 97), flat(97)]
    assert only(replay("b...", rows, stop=3)).exit_price == 96.5
    rows = [flat(100), flat(100), (103.5, 104, 102, 103), flat(103)]
    assert only(replay("s...", rows, stop=3)).exit_price == 103.5


def test_rule_5_7_the_entry_candle_counts() -> None:
    rows = [flat(100), (100, 100, 96.9, 100), flat(100)]
    trade = only(replay("b..", rows, stop=3))
    assert (trade.close_reason, trade.entry_ms, trade.exit_ms) == ("stop_loss", T[1], T[1] + TF - 1)


def test_rule_5_7_touching_the_stop_is_enough_and_one_tick_less_is_not() -> None:
    touched = [flat(100), flat(100), (100, 100, 97.0, 100), flat(100)]
    missed = [flat(100), flat(100), (100, 100, 97.01, 100), flat(100)]
    assert reasons(replay("b...", touched, stop=3)) == ["stop_loss"]
    assert reasons(replay("b...", missed, stop=3)) == []


def test_rule_5_7_without_the_option_there_is_no_stop() -> None:
    rows = [flat(100), flat(100), (100, 100, 96.0, 100), flat(100)]
    assert replay("b...", rows).trades == []


def test_rule_5_7_after_a_stop_the_same_row_may_enter_again() -> None:
    rows = [flat(100), flat(100), (100, 100, 96, 98), flat(98), flat(98)]
    record = replay("b.b..", rows, stop=3)
    assert reasons(record) == ["stop_loss"]
    assert (record.open_positions[0].side, record.open_positions[0].entry_ms) == ("long", T[3])


def test_rule_5_7_a_close_that_waits_is_dropped_when_the_stop_was_first() -> None:
    # The target is seen at the close of candle 2, but the stop of candle 2 has closed the position before.
    rows = [flat(100), flat(100), (100, 100, 96, 98), flat(98), flat(98)]
    assert reasons(replay("b.t..", rows, stop=3)) == ["stop_loss"]


# 5.8


def test_rule_5_8_a_long_is_liquidated_by_the_low() -> None:
    trade = only(replay("b...", [flat(100), flat(100), (100, 100, 95.9, 99), flat(99)]))
    assert trade.close_reason == "liquidation"
    assert trade.exit_price == pytest.approx(LONG_LIQUIDATION)
    assert trade.exit_ms == T[2] + TF - 1


def test_rule_5_8_a_short_is_liquidated_by_the_high() -> None:
    trade = only(replay("s...", [flat(100), flat(100), (100, 104, 100, 101), flat(101)]))
    assert (trade.side, trade.close_reason) == ("short", "liquidation")
    assert trade.exit_price == pytest.approx(SHORT_LIQUIDATION)


def test_rule_5_8_touching_the_liquidation_price_is_enough() -> None:
    # A rate of 5 % and no cum puts the long's price at (40 000 − 2 000) / (400 × 0.95) = 100: the entry price itself.
    (tier,) = instrument().brackets
    exact = {BTC: instrument(brackets=(tier._replace(maintenance_margin_rate=Decimal("0.05")),))}
    assert reasons(replay("b...", at_100(4), instruments=exact)) == ["liquidation"]


def test_rule_5_8_just_above_the_liquidation_price_is_not_liquidated() -> None:
    assert replay("b...", [flat(100), flat(100), (100, 100, 95.96, 99), flat(99)]).trades == []


def test_rule_5_8_the_entry_candle_counts() -> None:
    trade = only(replay("b..", [flat(100), (100, 100, 95, 100), flat(100)]))
    assert (trade.entry_ms, trade.exit_ms, trade.close_reason) == (T[1], T[1] + TF - 1, "liquidation")


def test_rule_5_8_mark_candles_decide_when_given() -> None:
    wick = [flat(100), flat(100), (100, 100, 90, 99), flat(99)]
    calm = [*at_100(3), flat(99)]
    assert replay("b...", wick, mark=calm).trades == []
    assert reasons(replay("b...", calm, mark=wick)) == ["liquidation"]


def test_rule_5_8_mark_candles_must_cover_the_range() -> None:
    with pytest.raises(UsageError, match="do not cover BTCUSDT") as caught:
        market_history(candles(at_100(4)), candles(at_100(3)))
    assert caught.value.exit_code == 2


def test_rule_5_8_the_stop_is_checked_before_the_liquidation() -> None:
    rows = [flat(100), flat(100), (100, 100, 90, 99), flat(99)]
    trade = only(replay("b...", rows, stop=3))
    assert (trade.close_reason, trade.exit_price) == ("stop_loss", pytest.approx(97.0))


def test_rule_5_8_a_stop_beyond_the_liquidation_price_costs_more_than_the_margin() -> None:
    # Pessimistic on purpose: the stop at 90 is looked at first and loses 4 000 of a margin of 2 000.
    rows = [flat(100), flat(100), (100, 100, 89, 99), flat(99)]
    trade = only(replay("b...", rows, stop=10))
    assert (trade.close_reason, trade.gross_pnl_usdt) == ("stop_loss", pytest.approx(-4_000))


def test_rule_5_8_a_stop_that_is_not_reached_leaves_the_liquidation() -> None:
    rows = [flat(100), flat(100), (100, 100, 95, 99), flat(99)]
    assert reasons(replay("b...", rows, stop=10)) == ["liquidation"]


# 5.9


def test_rule_5_9_a_close_at_the_open_comes_before_the_candles_low() -> None:
    rows = [flat(100), flat(100), flat(100), (100, 100, 80, 90), flat(90)]
    assert reasons(replay("b.t..", rows)) == ["profit_target"]


def test_rule_5_9_an_entry_at_the_open_comes_before_the_funding_of_its_candle() -> None:
    record = replay("b..", at_100(3), funding=funding_rates((T[1], 0.001)))
    assert record.open_positions[0].funding_usdt == pytest.approx(-40.0)


def test_rule_5_9_a_close_at_the_open_comes_before_the_funding_of_its_candle() -> None:
    record = replay("b.t..", at_100(5), funding=funding_rates((T[3], 0.001)))
    assert only(record).funding_usdt == 0.0


@pytest.mark.parametrize(("offset", "charged"), [(-1, 1), (0, 2), (TF - 1, 2), (TF, 3)])
def test_rule_5_9_funding_belongs_to_the_candle_with_open_up_to_but_not_the_next_open(
    offset: int, charged: int
) -> None:
    rows = [*map(flat, (100, 101, 102, 103, 104))]
    record = replay("b....", rows, funding=funding_rates((T[2] + offset, 0.001)))
    (entry,) = (e for e in record.ledger_entries if e.kind == "funding")
    price = 100 + charged
    assert entry.amount_usdt == pytest.approx(-(40_000 // 101 + 0.039) * price * 0.001, rel=1e-9)


def test_rule_5_9_funding_comes_before_the_stop_and_the_liquidation() -> None:
    for options in ({"stop": 3}, {}):
        rows = [flat(100), flat(100), (100, 100, 90, 99), flat(99)]
        record = replay("b...", rows, funding=funding_rates((T[2] + TF - 1, 0.001)), **options)
        assert only(record).funding_usdt == pytest.approx(-40.0)


def test_rule_5_9_flags_are_judged_at_the_close_on_what_the_candle_has_left() -> None:
    # Liquidated inside candle 2, whose row says sell: there is nothing to reverse, a short is opened from flat.
    rows = [flat(100), flat(100), (100, 100, 90, 99), flat(99), flat(99)]
    record = replay("b.s..", rows)
    assert reasons(record) == ["liquidation"]
    assert record.decisions[-1].position_side == 0
    assert record.open_positions[0].side == "short"


def test_rule_5_9_several_symbols_are_handled_in_their_order_on_one_shared_balance() -> None:
    record = replay_many({BTC: (at_100(3), "b.."), ETH: (at_100(3), "b..")})
    assert [(p.symbol, p.qty) for p in record.open_positions] == [(BTC, 400.0), (ETH, 320.0)]
    other_way = replay_many({ETH: (at_100(3), "b.."), BTC: (at_100(3), "b..")})
    assert [(p.symbol, p.qty) for p in other_way.open_positions] == [(ETH, 400.0), (BTC, 320.0)]


def test_rule_5_9_each_entry_of_a_row_is_sized_on_the_free_balance_then_left() -> None:
    # With a fee of 0.1 %: BTC takes 40 000 at 2 000 of margin and 40 of fee; 7 960 are left: 318.4 for ETH.
    record = replay_many({BTC: (at_100(3), "b.."), ETH: (at_100(3), "b..")}, fee=0.001)
    assert record.open_positions[1].qty == 318.4


def test_rule_5_9_all_closes_of_a_step_come_before_all_entries() -> None:
    # ETH's close at 110 pays 4 000 in before BTC, first in order, is sized: 14 000 × 4 / 100.
    eth = [*map(flat, (100, 100, 100, 110, 110))]
    record = replay_many({BTC: (at_100(5), "..b.."), ETH: (eth, "b.t..")})
    assert record.open_positions[0].symbol == BTC
    assert record.open_positions[0].qty == 560.0


def test_rule_5_9_a_symbol_without_a_candle_waits_for_its_next_one() -> None:
    rows = {BTC: (at_100(6), "......"), ETH: ([flat(100), flat(102), flat(102)], "b..")}
    record = replay_many(rows, at={BTC: list(range(6)), ETH: [0, 3, 4]})
    (position,) = record.open_positions
    assert (position.entry_ms, position.entry_price) == (T[3], 102)


# 5.10


def test_rule_5_10_the_close_reasons_are_these_six() -> None:
    assert {str(reason) for reason in CloseReason} == {
        "profit_target",
        "opposite_signal",
        "stop_loss",
        "liquidation",
        "manual",
        "error",
    }


def test_rule_5_10_a_position_open_at_the_end_is_not_a_trade() -> None:
    record = replay("b..", [*map(flat, (100, 100, 105))])
    assert record.trades == []
    (position,) = record.open_positions
    assert (position.side, position.unrealized_pnl_usdt) == ("long", pytest.approx(2_000))
    assert position.liquidation_price == pytest.approx(LONG_LIQUIDATION)


def test_fills_at_an_open_carry_the_open_time_and_fills_inside_the_last_millisecond() -> None:
    rows = [flat(100), flat(100), (100, 100, 96, 98), flat(98), flat(98), flat(98)]
    record = replay("b.b.t.", rows, stop=3)
    times = [(entry.kind, entry.time_ms) for entry in record.ledger_entries]
    assert times == [("entry", T[1]), ("stop_loss", T[2] + TF - 1), ("entry", T[3]), ("exit", T[5])]


def test_the_account_after_each_change_is_in_the_ledger_entries() -> None:
    record = replay("b.t..", [*map(flat, (100, 100, 100, 101, 101))], fee=0.0005)
    entry, leave = record.ledger_entries
    assert entry == LedgerEntry(T[1], "entry", BTC, pytest.approx(-20.0), pytest.approx(9_980.0), 400.0, 100.0)
    # 400 gross less a fee of 400 × 101 × 0.0005 = 20.2.
    assert leave == LedgerEntry(T[3], "exit", BTC, pytest.approx(379.8), pytest.approx(10_359.8), 0.0, 0.0)
