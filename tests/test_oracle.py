"""The oracle against cases worked by hand: every number below was found with pencil and paper, not by running it.

Unless a case says otherwise: 10 000 USDT, no fee, one bracket with mmr 1 % and cum 0, step 0.001. So an entry at
100 has margin 2 000, notional 40 000, qty 400, and is liquidated at 95/0.99 = 95.96 (long) or 105/1.01 = 103.96.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from oracle import (
    OracleResult,
    instrument_from_exchange,
    liquidation_price,
    make_candles,
    make_flags,
    position_size,
    simulate,
)

MINUTE = 60_000
TF = 5 * MINUTE
BTC, ETH = "BTCUSDT", "ETHUSDT"
ONE_BRACKET = [(0, 1e9, 20, 0.01, 0)]
MARKET: dict[str, Any] = {
    "step": "0.001",
    "min_qty": "0.001",
    "max_qty": "1000000",
    "min_notional": "5",
    "brackets": ONE_BRACKET,
}
Row = tuple[float, float, float, float]


def flat(price: float) -> Row:
    return (price, price, price, price)


def bars(*rows: Row, at: list[int] | None = None, timeframe_ms: int = TF) -> dict[str, np.ndarray]:
    """Candles (open, high, low, close) on the given grid places, by default 0, 1, 2 and so on."""
    table = np.array(rows, dtype=float).T
    places = np.array(at if at is not None else range(len(rows)))
    return {"open_ms": places * timeframe_ms} | dict(zip(("open", "high", "low", "close"), table, strict=True))


def marks(text: str) -> dict[str, np.ndarray]:
    """One letter per row: b buy, s sell, x both, t target, B/S/X the same with the target, '.' nothing."""
    return {
        "buy": np.array([letter in "bxBX" for letter in text]),
        "sell": np.array([letter in "sxSX" for letter in text]),
        "target": np.array([letter in "tBSX" for letter in text]),
    }


def run(candles: dict[str, np.ndarray], flags: str, **options: Any) -> OracleResult:
    return run_many({BTC: (candles, flags)}, **options)


def run_many(symbols: dict[str, tuple[dict[str, np.ndarray], str]], **options: Any) -> OracleResult:
    settings: dict[str, Any] = {
        "timeframe_ms": TF,
        "instruments": dict.fromkeys(symbols, MARKET),
        "initial_balance": 10_000.0,
        "fee_rate": 0.0,
    }
    return simulate(
        {symbol: candles for symbol, (candles, _) in symbols.items()},
        {symbol: marks(flags) for symbol, (_, flags) in symbols.items()},
        **settings | options,
    )


def close_to(expected: float) -> Any:
    return pytest.approx(expected, rel=1e-11, abs=1e-9)


def reasons(result: OracleResult) -> list[str]:
    return [trade["close_reason"] for trade in result.trades]


# §5.1-§5.6: entries, exits, reversals


def test_a_long_closed_on_its_target_books_gross_minus_both_fees() -> None:
    # Entry 100: fee 400 × 100 × 0.0005 = 20. Exit 101: gross 400, fee 20.2. Net 359.8 on margin 2000 = 17.99 %.
    result = run(bars(flat(100), flat(100), flat(101)), "bt.", fee_rate=0.0005)
    assert result.trades == [
        {
            "symbol": BTC,
            "side": "long",
            "entry_time": TF,
            "entry_price": 100.0,
            "qty": 400.0,
            "exit_time": 2 * TF,
            "exit_price": 101.0,
            "pnl_usdt": close_to(359.8),
            "pnl_percent": close_to(17.99),
            "fees": close_to(40.2),
            "close_reason": "profit_target",
            "gross_pnl_usdt": close_to(400),
            "funding_usdt": 0.0,
            "margin_usdt": close_to(2000),
        }
    ]
    assert result.wallet == [10_000, close_to(9_980), close_to(10_359.8)]
    assert result.pending == []


def test_a_short_earns_when_the_price_falls() -> None:
    # 400 × (100 − 98) = 800; fees 20 + 400 × 98 × 0.0005 = 19.6; net 760.4 = 38.02 % of 2000.
    result = run(bars(flat(100), flat(100), flat(98)), "st.", fee_rate=0.0005)
    (trade,) = result.trades
    assert (trade["side"], trade["pnl_usdt"], trade["pnl_percent"]) == ("short", close_to(760.4), close_to(38.02))


def test_equity_follows_the_close_and_the_wallet_does_not() -> None:
    # Row 1 closes at 101 (+400), row 2 at 99 (−400); nothing is realised.
    result = run(bars(flat(100), (100, 101, 100, 101), (101, 101, 99, 99)), "b..")
    assert result.equity == [10_000, close_to(10_400), close_to(9_600)]
    assert result.wallet == [10_000, 10_000, 10_000]
    (held,) = result.open_positions
    assert (held["symbol"], held["side"], held["qty"], held["margin"]) == (BTC, 1, 400, close_to(2000))


def test_a_signal_in_the_direction_of_an_open_position_is_ignored() -> None:
    result = run(bars(flat(100), flat(100), flat(101), flat(101)), "bbb.")
    assert (result.trades, result.open_positions[0]["qty"], result.pending) == ([], 400, [])


def test_a_reversal_is_sized_on_the_free_balance_after_the_close() -> None:
    # Fee 0.1 %. Entry: wallet 10 000 − 40 = 9 960. Close at 102: +800 − 40.8 → 10 719.2, all of it free.
    # Short: 4 × 10 719.2 = 42 876.8 / 102 = 420.3607… → 420.360; margin 420.36 × 102 / 20 = 2 143.836;
    # its fee 420.36 × 102 × 0.001 = 42.87672 → wallet 10 676.32328.
    result = run(bars(flat(100), flat(100), flat(102)), "bs.", fee_rate=0.001)
    assert reasons(result) == ["opposite_signal"]
    (held,) = result.open_positions
    assert (held["side"], held["qty"], held["entry_time"]) == (-1, 420.36, 2 * TF)
    assert held["margin"] == close_to(2_143.836)
    assert result.wallet[-1] == close_to(10_676.32328)


def test_an_opposite_signal_is_ignored_when_the_user_switched_it_off() -> None:
    result = run(bars(flat(100), flat(100), flat(102)), "bs.", close_on_opposite=False)
    assert (result.trades, result.open_positions[0]["side"], result.pending) == ([], 1, [])


def test_the_target_with_an_opposite_signal_reverses_under_the_reason_profit_target() -> None:
    for close_on_opposite in (True, False):
        result = run(bars(flat(100), flat(100), flat(102)), "bS.", close_on_opposite=close_on_opposite)
        assert reasons(result) == ["profit_target"]
        assert result.open_positions[0]["side"] == -1


def test_the_target_with_a_signal_in_the_same_direction_closes_and_opens_again() -> None:
    # Wallet after the close at 102: 10 800; 43 200 / 102 = 423.529…
    result = run(bars(flat(100), flat(100), flat(102)), "bB.")
    assert reasons(result) == ["profit_target"]
    assert (result.open_positions[0]["side"], result.open_positions[0]["qty"]) == (1, 423.529)


def test_the_target_means_nothing_to_a_flat_account() -> None:
    result = run(bars(flat(100), flat(100), flat(100)), "t..")
    assert (result.trades, result.pending) == ([], [])


def test_conflicting_signals_neither_open_nor_close_and_are_counted() -> None:
    # Row 0: flat, no entry. Row 1 buys. Rows 2 and 3: open long, no opposite close. Row 4: not on its last row either.
    result = run(bars(*[flat(100)] * 5), "xbxxx")
    assert (result.conflicting, result.trades, result.pending) == (4, [], [])
    assert result.open_positions[0]["side"] == 1


def test_the_target_closes_even_on_a_row_of_conflicting_signals() -> None:
    result = run(bars(flat(100), flat(100), flat(101)), "bX.")
    assert (reasons(result), result.conflicting) == (["profit_target"], 1)
    assert (result.open_positions, result.pending) == ([], [])


def test_decisions_on_the_last_candle_stay_pending() -> None:
    result = run(bars(flat(100), flat(100)), "bs")
    assert result.trades == []
    assert result.pending == [{"symbol": BTC, "close_reason": "opposite_signal", "entry": -1}]


def test_a_pending_order_waits_across_a_gap_for_the_next_stored_candle() -> None:
    result = run(bars(flat(100), flat(110), flat(111), at=[0, 7, 9]), "bt.")
    (trade,) = result.trades
    assert (trade["entry_time"], trade["entry_price"]) == (7 * TF, 110)
    assert (trade["exit_time"], trade["exit_price"]) == (9 * TF, 111)
    assert result.steps == [0, 7 * TF, 9 * TF]


def test_slippage_is_adverse_on_both_fills_of_a_long() -> None:
    # 10 bp: buys at 100.1, 40 000 / 100.1 = 399.6003… → 399.600; sells at 110 × 0.999 = 109.89; × 9.79.
    result = run(bars(flat(100), flat(100), flat(110)), "bt.", slippage_bps=10.0)
    (trade,) = result.trades
    assert (trade["entry_price"], trade["exit_price"]) == (close_to(100.1), close_to(109.89))
    assert (trade["qty"], trade["gross_pnl_usdt"]) == (399.6, close_to(3_912.084))


def test_slippage_is_adverse_on_both_fills_of_a_short() -> None:
    # Sells at 99.9, 40 000 / 99.9 = 400.4004… → 400.400; buys at 90 × 1.001 = 90.09; × 9.81.
    result = run(bars(flat(100), flat(100), flat(90)), "st.", slippage_bps=10.0)
    (trade,) = result.trades
    assert (trade["entry_price"], trade["exit_price"]) == (close_to(99.9), close_to(90.09))
    assert (trade["qty"], trade["gross_pnl_usdt"]) == (400.4, close_to(3_927.924))


# §5.7: the optional stop


def test_a_stop_fills_at_its_price_when_touched_exactly() -> None:
    # 2 % below 100 is 98; −2 × 400 = −800. Stamped one millisecond before the candle ends.
    result = run(bars(flat(100), flat(100), (99, 99, 98, 98.5)), "b..", stop_loss_percent=2.0)
    (trade,) = result.trades
    assert (trade["close_reason"], trade["exit_price"], trade["exit_time"]) == ("stop_loss", 98.0, 3 * TF - 1)
    assert trade["gross_pnl_usdt"] == close_to(-800)


def test_a_stop_is_not_touched_by_a_low_just_above_it() -> None:
    assert run(bars(flat(100), flat(100), (99, 99, 98.01, 98.5)), "b..", stop_loss_percent=2.0).trades == []


def test_a_stop_is_checked_on_the_entry_candle_itself() -> None:
    result = run(bars(flat(100), (100, 100, 97.5, 99)), "b.", stop_loss_percent=2.0)
    assert (result.trades[0]["entry_time"], result.trades[0]["exit_time"]) == (TF, 2 * TF - 1)


def test_a_gap_through_the_stop_fills_at_the_open() -> None:
    # Opens at 97, below the stop at 98: −3 × 400 = −1200.
    result = run(bars(flat(100), flat(100), (97, 98.5, 96.5, 98)), "b..", stop_loss_percent=2.0)
    assert (result.trades[0]["exit_price"], result.wallet[-1]) == (97.0, close_to(8_800))


def test_the_stop_of_a_short_lies_above_and_slips_upwards() -> None:
    # Entry 100 × (1 − 0.001) = 99.9; stop 99.9 × 1.02 = 101.898; filled there × 1.001 = 101.999898.
    rows = bars(flat(100), flat(100), (101, 102, 101, 101.5))
    result = run(rows, "s..", stop_loss_percent=2.0, slippage_bps=10.0)
    (trade,) = result.trades
    assert (trade["close_reason"], trade["exit_price"]) == ("stop_loss", close_to(101.999898))


def test_a_gap_through_the_stop_of_a_short_fills_at_the_open() -> None:
    result = run(bars(flat(100), flat(100), (103, 103.5, 101, 102)), "s..", stop_loss_percent=2.0)
    assert (result.trades[0]["exit_price"], result.wallet[-1]) == (103.0, close_to(8_800))


def test_a_short_s_stop_is_touched_exactly_too() -> None:
    result = run(bars(flat(100), flat(100), (101, 102, 101, 101.5)), "s..", stop_loss_percent=2.0)
    assert (reasons(result), result.trades[0]["exit_price"]) == (["stop_loss"], 102.0)


def test_the_stop_comes_before_liquidation_in_the_same_candle() -> None:
    # The low of 90 passes both the stop at 98 and the liquidation price at 95.96.
    assert reasons(run(bars(flat(100), (100, 100, 90, 91)), "b.", stop_loss_percent=2.0)) == ["stop_loss"]


def test_a_stop_farther_away_than_liquidation_still_counts_first_when_both_are_touched() -> None:
    # 10 % below 100 is 90: with a low of 90 the stop fills, −10 × 400 = −4000, more than the margin of 2000.
    result = run(bars(flat(100), (100, 100, 90, 91)), "b.", stop_loss_percent=10.0)
    assert (reasons(result), result.wallet[-1]) == (["stop_loss"], close_to(6_000))
    # With a low of 91 only the liquidation price is reached.
    assert reasons(run(bars(flat(100), (100, 100, 91, 91)), "b.", stop_loss_percent=10.0)) == ["liquidation"]


def test_the_stop_looks_at_the_candle_and_not_at_the_mark_price() -> None:
    rows, mark = bars(flat(100), flat(100)), bars(flat(100), (100, 100, 97, 100))
    assert run(rows, "b.", stop_loss_percent=2.0, mark={BTC: mark}).trades == []


def test_a_stopped_account_is_flat_when_the_same_candle_s_flags_are_judged() -> None:
    # The sell on the stop's own candle is a fresh entry, not an opposite-signal close; the target has no position.
    rows = bars(flat(100), (100, 100, 97, 98), flat(98))
    result = run(rows, "bS.", stop_loss_percent=2.0)
    assert reasons(result) == ["stop_loss"]
    # Wallet 10 000 − 800 = 9 200; 36 800 / 98 = 375.5102…
    assert (result.open_positions[0]["side"], result.open_positions[0]["qty"]) == (-1, 375.51)


# §5.8, §7: liquidation


def test_a_long_is_liquidated_when_the_low_touches_the_price_and_loses_its_whole_margin() -> None:
    # Entry 99: qty 40 000 / 99 = 404.0404… → 404.040, margin 1999.998, price 0.95 × 99 / 0.99 = 95 exactly.
    # Gross −4 × 404.04 = −1616.16, the other 383.838 of the margin is the liquidation fee.
    result = run(bars(flat(99), flat(99), (98, 98, 94.999999, 97)), "b..")
    (trade,) = result.trades
    assert (trade["close_reason"], trade["exit_time"]) == ("liquidation", 3 * TF - 1)
    assert trade["exit_price"] == close_to(95)
    assert (trade["gross_pnl_usdt"], trade["fees"]) == (close_to(-1_616.16), close_to(383.838))
    assert (trade["pnl_usdt"], trade["pnl_percent"]) == (close_to(-1_999.998), close_to(-100))
    assert result.wallet[-1] == close_to(8_000.002)
    assert run(bars(flat(99), flat(99), (98, 98, 95.000001, 97)), "b..").trades == []


def test_a_short_is_liquidated_when_the_high_touches_the_price() -> None:
    # Entry 101: qty 40 000 / 101 = 396.0396… → 396.039, margin 1999.99695, price 1.05 × 101 / 1.01 = 105.
    result = run(bars(flat(101), flat(101), (102, 105.000001, 102, 103)), "s..")
    (trade,) = result.trades
    assert (trade["close_reason"], trade["exit_price"]) == ("liquidation", close_to(105))
    assert trade["gross_pnl_usdt"] == close_to(-1_584.156)
    assert trade["pnl_usdt"] == close_to(-1_999.99695)
    assert run(bars(flat(101), flat(101), (102, 104.999999, 102, 103)), "s..").trades == []


def test_touching_the_liquidation_price_exactly_is_enough() -> None:
    # Entry 128, qty 312.5, mmr 0: 38 000 / 312.5 = 121.6, where the margin is gone and leaves nothing as a fee.
    market = MARKET | {"brackets": [(0, 1e9, 20, 0.0, 0)]}
    result = run(bars(flat(128), flat(128), (128, 128, 121.6, 125)), "b..", instruments={BTC: market})
    (trade,) = result.trades
    assert (trade["exit_price"], trade["fees"]) == (121.6, close_to(0))


def test_liquidation_does_not_slip_and_keeps_the_entry_fee_and_funding_in_the_trade() -> None:
    # Entry 98.901 × 1.001 = 98.999901: qty 40 000 / 98.999901 = 404.0408… → 404.040. Whatever the prices are,
    # the trade costs margin + entry fee + funding paid: margin 404.04 × 98.999901 / 20 = 1999.99600…
    margin = 404.04 * 98.999901 / 20
    funding_paid = 404.04 * 98.901 * 0.0001
    result = run(
        bars(flat(98.901), (98.901, 98.901, 90, 91)),
        "b.",
        slippage_bps=10.0,
        fee_rate=0.0005,
        funding={BTC: [(TF, 0.0001)]},
    )
    (trade,) = result.trades
    assert trade["exit_price"] == close_to(98.999901 * 0.95 / 0.99)
    assert trade["pnl_usdt"] == close_to(-margin - 20 * margin * 0.0005 - funding_paid)


def test_the_bracket_of_the_liquidation_notional_decides_with_its_cum() -> None:
    # Brackets to 20 000 at 1 % and above at 2 %, cum 20 000 × 1 % = 200. Long 400 at 100, margin 2 000:
    # second bracket 37 800 / 392 = 96.428571…, notional 38 571 is inside it. (The first would say 95.96.)
    market = MARKET | {"brackets": [(0, 20_000, 50, 0.01, 0), (20_000, 1e6, 20, 0.02, 200)]}
    result = run(bars(flat(100), flat(100), (99, 99, 96.4, 97)), "b..", instruments={BTC: market})
    assert result.trades[0]["exit_price"] == close_to(37_800 / 392)
    # Short: 42 200 / 408 = 103.431372…
    result = run(bars(flat(100), flat(100), (101, 103.44, 101, 102)), "s..", instruments={BTC: market})
    assert result.trades[0]["exit_price"] == close_to(42_200 / 408)


def test_a_long_may_fall_into_a_lower_bracket_than_the_one_it_was_opened_in() -> None:
    # Border 39 000, cum 390. Opened at 40 000 (2 %), but 38 000 / 396 = 95.9596 is a notional of 38 384: 1 %.
    brackets = [(0, 39_000, 50, 0.01, 0), (39_000, 1e6, 20, 0.02, 390)]
    assert liquidation_price(1, 400.0, 100.0, 2_000.0, brackets) == close_to(38_000 / 396)


def test_a_short_may_rise_into_a_higher_bracket_than_the_one_it_was_opened_in() -> None:
    # Border 41 000, cum 410. The first bracket's 42 000 / 404 = 103.96 is a notional of 41 584, so the second
    # decides: 42 410 / 408 = 103.946…, notional 41 578.
    brackets = [(0, 41_000, 50, 0.01, 0), (41_000, 1e6, 20, 0.02, 410)]
    assert liquidation_price(-1, 400.0, 100.0, 2_000.0, brackets) == close_to(42_410 / 408)


def test_liquidation_is_judged_on_mark_candles_when_they_are_given() -> None:
    calm, wild = flat(100), (100.0, 100.0, 95.9, 100.0)
    assert reasons(run(bars(calm, calm), "b.", mark={BTC: bars(calm, wild)})) == ["liquidation"]
    assert reasons(run(bars(calm, wild), "b.", mark={BTC: bars(calm, calm)})) == []


def test_mark_candles_must_cover_the_candles() -> None:
    with pytest.raises(KeyError):
        run(bars(*[flat(100)] * 3), "b..", mark={BTC: bars(flat(100), flat(100))})


def test_a_position_beyond_recovery_is_liquidated_on_its_entry_candle() -> None:
    # mmr 1/16: 0.95 × 128 / (15/16) = 129.7…, above the entry at 128.
    market = MARKET | {"brackets": [(0, 1e9, 20, 0.0625, 0)]}
    result = run(bars(flat(128), flat(128)), "b.", instruments={BTC: market})
    assert (reasons(result), result.trades[0]["exit_price"]) == (["liquidation"], close_to(128 * 0.95 / 0.9375))


def test_a_liquidated_account_is_flat_when_the_same_candle_s_flags_are_judged() -> None:
    result = run(bars(flat(100), (100, 100, 90, 92), flat(92)), "bb.")
    # 10 000 − 2 000 = 8 000 free; 32 000 / 92 = 347.826…
    assert (reasons(result), result.open_positions[0]["qty"]) == (["liquidation"], 347.826)


# §7: funding


@pytest.mark.parametrize(("letter", "received"), [("b", -4.0), ("s", 4.0)])
def test_a_positive_rate_is_paid_by_longs_and_received_by_shorts(letter: str, received: float) -> None:
    # 400 × 100 × 0.0001 = 4.
    result = run(bars(flat(100), flat(100), flat(100)), letter + "t.", funding={BTC: [(TF + MINUTE, 0.0001)]})
    (trade,) = result.trades
    assert (trade["funding_usdt"], trade["pnl_usdt"]) == (close_to(received), close_to(received))
    assert result.wallet[1] == close_to(10_000 + received)


def test_funding_is_priced_at_the_open_of_the_candle_or_of_its_mark_candle() -> None:
    # At the candle's open 101: 400 × 101 × 0.001 = 40.4; at the mark's open 103: 41.2.
    rows = bars(flat(100), flat(100), (101, 102, 100, 102))
    settled = {BTC: [(2 * TF + MINUTE, 0.001)]}
    assert run(rows, "b..", funding=settled).wallet[-1] == close_to(10_000 - 40.4)
    mark = bars(flat(100), flat(100), flat(103))
    assert run(rows, "b..", funding=settled, mark={BTC: mark}).wallet[-1] == close_to(10_000 - 41.2)


def test_funding_belongs_to_the_candle_that_holds_its_time_and_comes_after_the_fills_at_the_open() -> None:
    rows = bars(flat(100), flat(100), flat(100), flat(100))
    # Entered at 1 × TF, closed at 2 × TF: charged at its first and its last millisecond, not at the closing open.
    for settled_at, charged in ((TF - 1, 0), (TF, 4), (2 * TF - 1, 4), (2 * TF, 0)):
        result = run(rows, "bt..", funding={BTC: [(settled_at, 0.0001)]})
        assert result.trades[0]["funding_usdt"] == close_to(-charged)


def test_each_of_several_settlements_in_one_candle_is_charged_and_those_in_a_gap_are_not() -> None:
    # Two in candle 1 (4 + 8), one in the gap at places 2 and 3, one in candle 4 (−2): 10 paid in all.
    rows = bars(flat(100), flat(100), flat(100), at=[0, 1, 4])
    settled = [(TF, 0.0001), (TF + MINUTE, 0.0002), (2 * TF, 0.5), (4 * TF, -0.00005)]
    result = run(rows, "b..", funding={BTC: settled})
    assert result.wallet == [10_000, close_to(9_988), close_to(9_990)]
    assert result.report["funding_usdt"] == close_to(-10)


def test_a_position_stopped_in_a_candle_has_paid_that_candle_s_funding() -> None:
    rows = bars(flat(100), (100, 100, 97, 98))
    result = run(rows, "b.", stop_loss_percent=2.0, funding={BTC: [(TF + MINUTE, 0.0001)]})
    assert (result.trades[0]["funding_usdt"], result.wallet[-1]) == (close_to(-4), close_to(9_196))


# §5.9: several symbols, one balance


def test_two_entries_on_one_row_are_sized_one_after_the_other() -> None:
    # Fee 0.1 %. First: 400 at 100, fee 40, margin 2 000. Free 10 000 − 40 − 2 000 = 7 960.
    # Second: 31 840 / 50 = 636.8 exactly, margin 1 592, fee 31.84.
    rows = {BTC: (bars(flat(100), flat(100)), "b."), ETH: (bars(flat(50), flat(50)), "s.")}
    result = run_many(rows, fee_rate=0.001)
    first, second = result.open_positions
    assert (first["qty"], second["qty"]) == (400, 636.8)
    assert (first["margin"], second["margin"]) == (close_to(2_000), close_to(1_592))
    assert result.wallet[-1] == close_to(9_928.16)


def test_the_order_of_symbols_decides_who_is_sized_first() -> None:
    rows = {ETH: (bars(flat(50), flat(50)), "s."), BTC: (bars(flat(100), flat(100)), "b.")}
    # Second: 4 × 8 000 / 100 = 320.
    assert [held["qty"] for held in run_many(rows).open_positions] == [800, 320]


def test_all_closes_of_a_step_come_before_its_entries() -> None:
    # The second symbol's long 400 from 100 is closed at 110 (+4 000) before the first symbol enters:
    # free 14 000, 56 000 / 50 = 1120.
    rows = {ETH: (bars(*[flat(50)] * 3), ".b."), BTC: (bars(flat(100), flat(100), flat(110)), "bt.")}
    assert [held["qty"] for held in run_many(rows).open_positions] == [1120]


def test_unrealised_profit_is_not_free_balance() -> None:
    # The first is 4 000 ahead at the open of row 2, yet only 10 000 − 2 000 is free: 32 000 / 50 = 640.
    rows = {BTC: (bars(flat(100), flat(100), flat(110)), "b.."), ETH: (bars(*[flat(50)] * 3), ".b.")}
    result = run_many(rows)
    assert result.open_positions[1]["qty"] == 640
    assert result.equity[-1] == close_to(14_000)


def test_a_symbol_without_a_candle_counts_at_its_last_close_and_its_orders_wait() -> None:
    # BTC has no candle at places 2 and 3: +400 from its close at 101 stays in the equity; its target waits.
    rows = {
        BTC: (bars(flat(100), (100, 101, 100, 101), flat(103), at=[0, 1, 4]), "bt."),
        ETH: (bars(*[flat(50)] * 5), "....."),
    }
    result = run_many(rows)
    assert result.equity == [10_000, *[close_to(10_400)] * 3, close_to(11_200)]
    assert result.trades[0]["exit_time"] == 4 * TF


def test_margin_freed_by_a_stop_serves_the_next_step_s_entries() -> None:
    # BTC enters at row 1 and is stopped there at 98 (−800); ETH enters at row 2 on 9 200: 36 800 / 50 = 736.
    rows = {BTC: (bars(flat(100), (100, 100, 97, 98), flat(98)), "b.."), ETH: (bars(*[flat(50)] * 3), ".b.")}
    assert run_many(rows, stop_loss_percent=2.0).open_positions[0]["qty"] == 736


# §6: sizing


def test_sizing_floors_exactly_where_floats_would_lose_a_step() -> None:
    # 0.3 × 4 = 1.2; 1.2 / 0.4 = 3 exactly, while binary floats say 2.9999999999999996.
    market = MARKET | {"step": "1", "min_qty": "1", "min_notional": "0"}
    assert position_size(0.3, 0.4, market) == 3
    # 40 000 / 0.3 = 133 333.33… → one decimal.
    assert str(position_size(10_000.0, 0.3, MARKET | {"step": "0.1"})) == "133333.3"


def test_sizing_stops_at_the_market_order_maximum_floored_to_its_step() -> None:
    assert str(position_size(10_000.0, 100.0, MARKET | {"max_qty": "120.0005"})) == "120.000"


def test_sizing_stops_at_the_cap_of_the_last_bracket_that_still_allows_20x() -> None:
    # 30 000 / 101 = 297.0297…; the 10x bracket above does not count.
    market = MARKET | {"brackets": [(0, 5e3, 50, 0.01, 0), (5e3, 3e4, 20, 0.02, 50), (3e4, 1e6, 10, 0.05, 950)]}
    assert str(position_size(10_000.0, 101.0, market)) == "297.029"


def test_sizing_skips_a_symbol_whose_leverage_never_reaches_20x() -> None:
    assert position_size(10_000.0, 100.0, MARKET | {"brackets": [(0, 1e6, 10, 0.05, 0)]}) is None


@pytest.mark.parametrize(
    ("balance", "qty"),
    [(1.24, None), (1.25, "0.050"), (0.0, None)],
    ids=["4.96 is below 5", "5.00 is enough", "nothing is free"],
)
def test_a_tiny_balance_is_skipped_below_the_minimum_notional(balance: float, qty: str | None) -> None:
    size = position_size(balance, 100.0, MARKET)
    assert (None if size is None else str(size)) == qty


def test_a_tiny_balance_is_skipped_below_the_minimum_quantity() -> None:
    # 40 / 30 000 = 0.00133… → 0.001, below 0.002.
    market = MARKET | {"min_qty": "0.002"}
    assert position_size(10.0, 30_000.0, market) is None
    # 20 / 30 000 = 0.00066… → nothing left after the floor, whatever the minimum says.
    assert position_size(5.0, 30_000.0, MARKET | {"min_qty": "0", "min_notional": "0"}) is None


def test_the_exchange_s_filters_become_the_strictest_of_both_lot_sizes() -> None:
    info = {
        "filters": [
            {"filterType": "LOT_SIZE", "minQty": "0.002", "maxQty": "1000", "stepSize": "0.001"},
            {"filterType": "MARKET_LOT_SIZE", "minQty": "0.001", "maxQty": "120", "stepSize": "0"},
            {"filterType": "MIN_NOTIONAL", "notional": "100"},
        ]
    }
    bracket = {"bracket": 1, "initialLeverage": 125, "notionalCap": 300000, "notionalFloor": 0}
    market = instrument_from_exchange(info, [bracket | {"maintMarginRatio": 0.004, "cum": 0.0}])
    assert [str(market[name]) for name in ("step", "min_qty", "max_qty", "min_notional")] == [
        "0.001",
        "0.002",
        "120",
        "100",
    ]
    assert market["brackets"] == [(0, 300000, 125, 0.004, 0.0)]


def test_a_skipped_entry_after_a_close_leaves_the_account_flat_and_is_counted() -> None:
    # 40 000 meets the minimum of 30 000; after −8 000 at 80 only 4 × 2 000 = 8 000 is left, and the reversal fails.
    market = MARKET | {"min_notional": "30000"}
    result = run(bars(flat(100), flat(100), flat(80), flat(80)), "bs..", instruments={BTC: market})
    assert (reasons(result), result.skipped) == (["opposite_signal"], [(2 * TF, BTC)])
    assert (result.open_positions, result.pending, result.wallet[-1]) == ([], [], close_to(2_000))


# §7: balances can't go below zero


def test_a_close_beyond_the_whole_wallet_leaves_zero_and_books_only_what_was_there() -> None:
    # Fee 0.1 %: wallet 9 960. Close at 60: −16 000 and a fee of 24; only −9 936 can be lost besides the fee.
    # The reversal then has nothing to trade with.
    result = run(bars(flat(100), flat(100), flat(60)), "bs.", fee_rate=0.001)
    (trade,) = result.trades
    assert (trade["gross_pnl_usdt"], trade["fees"]) == (close_to(-9_936), close_to(64))
    assert (trade["exit_price"], trade["pnl_usdt"]) == (60.0, close_to(-10_000))
    assert (result.wallet[-1], result.skipped) == (0.0, [(2 * TF, BTC)])


def test_funding_takes_the_wallet_down_to_zero_and_no_further() -> None:
    # 400 × 100 × 100 % = 40 000 is due, 10 000 is there. The later gain of 400 × 10 is booked whole.
    result = run(bars(flat(100), flat(100), flat(110)), "bt.", funding={BTC: [(TF, 1.0)]})
    assert result.trades[0]["funding_usdt"] == close_to(-10_000)
    assert result.wallet == [10_000, 0.0, close_to(4_000)]


def test_an_entry_fee_takes_the_wallet_down_to_zero_and_no_further() -> None:
    # 30 % of 40 000 is 12 000.
    result = run(bars(flat(100), flat(100)), "b.", fee_rate=0.3)
    assert (result.wallet[-1], result.open_positions[0]["entry_fee"]) == (0.0, 10_000)


def test_a_fee_that_an_empty_wallet_cannot_pay_is_not_booked() -> None:
    # Entry fee 40, then funding takes the other 9 960; closed at the entry price the fee of 40 finds nothing.
    result = run(bars(flat(100), flat(100), flat(100)), "bt.", fee_rate=0.001, funding={BTC: [(TF, 1.0)]})
    (trade,) = result.trades
    assert (trade["gross_pnl_usdt"], trade["fees"], trade["funding_usdt"]) == (0, close_to(40), close_to(-9_960))
    assert result.wallet[-1] == 0.0


def test_a_liquidation_takes_no_more_than_the_wallet_holds() -> None:
    # Funding of 9 000 leaves 1 000, less than the margin of 2 000. At 95.9596 gross is −1616.16…, the
    # liquidation fee 383.84; so the loss is cut by 1 000.
    rows = bars(flat(100), (100, 100, 95, 96))
    result = run(rows, "b.", funding={BTC: [(TF, 0.225)]})
    (trade,) = result.trades
    gross = 400 * (38_000 / 396 - 100)
    assert (trade["gross_pnl_usdt"], trade["fees"]) == (close_to(gross + 1_000), close_to(2_000 + gross))
    assert (trade["pnl_usdt"], result.wallet[-1]) == (close_to(-10_000), 0.0)


def test_the_free_balance_is_never_negative() -> None:
    # Funding of 9 000 leaves 1 000 against a margin of 2 000: the other symbol finds nothing free.
    rows = {BTC: (bars(*[flat(100)] * 3), "b.."), ETH: (bars(*[flat(50)] * 3), ".b.")}
    result = run_many(rows, funding={BTC: [(TF, 0.225)]})
    assert (result.wallet[-1], result.skipped) == (close_to(1_000), [(2 * TF, ETH)])


# §9: the report


def test_wins_losses_and_drawdown_of_the_report() -> None:
    # Long 400 at 100, closed at 102: +800 → 10 800. Short 43 200 / 102 = 423.529…, row 3 closes at 104:
    # −847.058 → 9 952.942; closed at 103: −423.529 → 10 376.471. Deepest fall 847.058 of 10 800.
    candles = bars(flat(100), flat(100), flat(102), (102, 104, 102, 104), flat(103))
    report = run(candles, "bs.t.").report
    assert (report["total_trades"], report["win_rate"]) == (2, 0.5)
    assert (report["avg_win"], report["avg_loss"]) == (close_to(800), close_to(-423.529))
    assert report["total_pnl"] == close_to(376.471)
    assert report["profit_factor"] == close_to(800 / 423.529)
    assert report["max_drawdown"] == close_to(847.058 / 10_800)
    assert report["max_drawdown_usdt"] == close_to(847.058)
    assert (report["final_equity"], report["liquidations"]) == (close_to(10_376.471), 0)


def test_the_drawdown_starts_from_the_initial_balance() -> None:
    # Never above 10 000: entry fee 40, row 1 closes at 99 (−400): 440 of 10 000.
    report = run(bars(flat(100), (100, 100, 99, 99)), "b.", fee_rate=0.001).report
    assert (report["max_drawdown"], report["max_drawdown_usdt"]) == (close_to(0.044), close_to(440))


def test_fees_of_an_open_position_are_in_the_report_and_its_gain_is_not_a_trade() -> None:
    report = run(bars(flat(100), (100, 101, 100, 101)), "b.", fee_rate=0.001).report
    assert (report["total_trades"], report["total_pnl"], report["fees_usdt"]) == (0, 0, close_to(40))
    assert (report["final_equity"], report["win_rate"]) == (close_to(10_360), None)


def test_a_trade_without_gain_is_neither_win_nor_loss() -> None:
    # +400 at 101, then a short from 101 back to 101.
    report = run(bars(flat(100), flat(100), flat(101), flat(101)), "bst.").report
    assert (report["total_trades"], report["win_rate"], report["avg_win"]) == (2, 0.5, close_to(400))
    assert (report["avg_loss"], report["profit_factor"]) == (None, None)


def test_what_a_run_without_candles_or_without_trades_cannot_know_is_null() -> None:
    no_candles = {name: np.array([]) for name in ("open_ms", "open", "high", "low", "close")}
    for report in (run(no_candles, "").report, run(bars(*[flat(100)] * 900), "." * 900).report):
        assert (report["final_equity"], report["max_drawdown"], report["total_pnl"]) == (10_000, 0, 0)
        for name in ("win_rate", "avg_win", "avg_loss", "profit_factor", "sharpe", "sortino"):
            assert report[name] is None


def test_daily_ratios_take_the_initial_balance_as_the_first_day_s_base() -> None:
    # 12-hour candles. Day 0 ends at 10 400 (+4 %), day 1 at 9 360 (−10 %). Mean −3 %, the two lie 14 % apart,
    # so the sample deviation is 0.14 / √2; downside √(0.01 / 2).
    half_day = 12 * 60 * MINUTE
    candles = bars(flat(100), (100, 101, 100, 101), (101, 101, 98.4, 98.4), flat(98.4), timeframe_ms=half_day)
    report = run(candles, "b...", timeframe_ms=half_day).report
    assert report["sharpe"] == close_to(-0.03 / (0.14 / math.sqrt(2)) * math.sqrt(365))
    assert report["sortino"] == close_to(-0.03 / math.sqrt(0.005) * math.sqrt(365))


def test_a_day_without_candles_counts_as_a_day_without_a_return() -> None:
    # +4 %, 0, −10 %: mean −2 %, squares about it 0.0036 + 0.0004 + 0.0064 = 0.0104 over 2.
    half_day = 12 * 60 * MINUTE
    candles = bars(flat(100), (100, 101, 100, 101), (101, 101, 98.4, 98.4), at=[0, 1, 4], timeframe_ms=half_day)
    report = run(candles, "b..", timeframe_ms=half_day).report
    assert report["sharpe"] == close_to(-0.02 / math.sqrt(0.0052) * math.sqrt(365))
    assert report["sortino"] == close_to(-0.02 / math.sqrt(0.01 / 3) * math.sqrt(365))


# The random scenarios, and what must hold on any of them


def test_random_candles_are_candles() -> None:
    candles = make_candles(np.random.default_rng(1), 500, 0.01, 0.05)
    assert all(len(values) == 500 for values in candles.values())
    assert np.all(candles["low"] <= np.minimum(candles["open"], candles["close"]))
    assert np.all(candles["high"] >= np.maximum(candles["open"], candles["close"]))
    apart = np.diff(candles["open_ms"])
    assert set(apart % 300_000) == {0}
    assert apart.min() == 300_000 < apart.max()
    assert np.all(np.diff(make_candles(np.random.default_rng(1), 500, 0.01, 0.0)["open_ms"]) == 300_000)


def test_random_flags_conflict_only_when_asked_to() -> None:
    never = make_flags(np.random.default_rng(2), 2_000, 0.2, 0.0)
    assert not np.any(never["buy"] & never["sell"])
    assert never["buy"].any()
    assert never["sell"].any()
    assert never["target"].any()
    always = make_flags(np.random.default_rng(2), 2_000, 0.2, 1.0)
    assert np.array_equal(always["buy"], always["sell"])


@pytest.mark.parametrize("seed", range(12))
def test_the_books_balance_on_random_markets(seed: int) -> None:
    rng = np.random.default_rng(seed)
    symbols = [BTC, ETH, "XRPUSDT"][: 1 + seed % 3]
    candles = {symbol: make_candles(rng, 250, 0.012, 0.03) for symbol in symbols}
    flags = {symbol: make_flags(rng, 250, 0.15, 0.1) for symbol in symbols}
    settled = [(int(time), float(rng.normal(0, 0.001))) for time in candles[BTC]["open_ms"][::40]]
    result = simulate(
        candles,
        flags,
        timeframe_ms=300_000,
        instruments=dict.fromkeys(symbols, MARKET),
        initial_balance=10_000.0,
        fee_rate=0.0005,
        slippage_bps=2.0,
        stop_loss_percent=3.0 if seed % 2 else None,
        close_on_opposite=seed % 4 < 2,
        funding={BTC: settled},
    )
    report = result.report
    gross = sum(trade["gross_pnl_usdt"] for trade in result.trades)
    assert result.trades
    assert result.wallet[-1] == pytest.approx(10_000 + gross - report["fees_usdt"] + report["funding_usdt"])
    assert min(result.wallet) >= 0
    assert seed % 2 or "stop_loss" not in reasons(result)
    assert all(trade["entry_time"] <= trade["exit_time"] for trade in result.trades)
    order = [trade["exit_time"] for trade in result.trades]
    assert order == sorted(order)
