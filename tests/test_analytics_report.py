"""report.json: the keys of SPEC §9, figures worked by hand, and the sentences a reader must see."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from smm_bt.analytics.equity import equity_curve
from smm_bt.analytics.report import build_report, read_report, write_report
from smm_bt.analytics.run_info import RunInfo
from smm_bt.errors import OutputError, RunFailed
from smm_bt.model import LedgerEntry, OpenPosition, PendingSignal, RunRecord, SkippedEntry, Trade

HOUR = 3_600_000
SPEC_KEYS = [
    "total_trades",
    "win_rate",
    "avg_win",
    "avg_loss",
    "total_pnl",
    "profit_factor",
    "max_drawdown",
    "initial_balance",
    "final_equity",
    "fees_usdt",
    "funding_usdt",
    "liquidations",
    "skipped_entries",
    "conflicting_signals",
    "trades_by_reason",
    "long",
    "short",
    "exposure",
    "sharpe",
    "sortino",
    "open_position",
    "pending_signal",
    "first_candle",
    "last_candle",
    "candles",
    "gaps",
    "symbols",
    "timeframe",
    "mode",
    "market_source",
    "strategy_file",
    "strategy_sha256",
    "strategy_is_reference",
    "engine",
    "funding_modelled",
    "settings",
]
INFO = RunInfo(
    run_id="run-1",
    mode="PAPER",
    market_source="files",
    symbols=("BTCUSDT",),
    timeframe="1h",
    timeframe_ms=HOUR,
    first_candle_ms=1_727_740_800_000,
    last_candle_ms=1_727_740_800_000 + 3 * HOUR,
    candles=4,
    strategy_file="my/compute_smm.py",
    strategy_sha256="cd" * 32,
    strategy_is_reference=False,
    engine="plan",
    funding_modelled=True,
    conflicting_signals=2,
    settings={"SYMBOLS": ["BTCUSDT"], "BINANCE_TESTNET_API_KEY": "****"},
)
START = INFO.first_candle_ms


def trade(side, gross, fees, funding, reason):
    return Trade(
        "BTCUSDT", side, START, 100.0, 1.0, START + HOUR, 100.0 + gross, gross, fees, funding, 5.0, reason, "e", "x"
    )


#: +30 net long, −15 net short, −6 net long (liquidated)
TRADES = [
    trade("long", 32.0, 1.0, -1.0, "profit_target"),
    trade("short", -14.0, 1.5, 0.5, "opposite_signal"),
    trade("long", -5.0, 1.0, 0.0, "liquidation"),
]
ENTRIES = [
    LedgerEntry(START, "entry", "BTCUSDT", 0.0, 1000.0, 1.0, 100.0),
    LedgerEntry(START + 2 * HOUR, "exit", "BTCUSDT", 9.0, 1009.0, 0.0, 0.0),
]
OPEN = OpenPosition("BTCUSDT", "long", START, 100.0, 0.5, 2.5, 0.25, -0.125, 4.0, 95.4, "e-9")
EMPTY = RunRecord(1000.0, 1000.0, [], [], [], [], [], [], [])


def curve(entries=(), closes=(100.0, 50.0, 100.0, 100.0), balance=1000.0):
    times = START + np.arange(len(closes), dtype=np.int64) * HOUR
    return equity_curve(None, {"BTCUSDT": (times, closes)}, list(entries), balance, HOUR)


def test_every_key_of_the_specification_is_there_the_seven_named_ones_first():
    report = build_report(EMPTY, curve(), INFO)
    assert set(SPEC_KEYS) <= set(report)
    assert list(report)[:7] == SPEC_KEYS[:7]


def test_the_figures_of_a_run_worked_by_hand():
    record = EMPTY._replace(
        wallet_usdt=1009.0,
        trades=TRADES,
        ledger_entries=ENTRIES,
        skipped_entries=[SkippedEntry(START, "BTCUSDT", "long", "too small")],
    )
    report = build_report(record, curve(ENTRIES), INFO)
    assert report["total_trades"] == 3
    assert report["win_rate"] == pytest.approx(1 / 3)
    assert (report["avg_win"], report["avg_loss"]) == (30.0, -10.5)
    assert report["total_pnl"] == 9.0
    assert report["profit_factor"] == pytest.approx(30 / 21)
    # equity 1000, 950 (price halves, one coin), 1009, 1009
    assert report["max_drawdown"] == pytest.approx(0.05)
    assert report["max_drawdown_usdt"] == 50.0
    assert (report["initial_balance"], report["final_equity"]) == (1000.0, 1009.0)
    assert (report["fees_usdt"], report["funding_usdt"]) == (3.5, -0.5)
    assert (report["liquidations"], report["skipped_entries"], report["conflicting_signals"]) == (1, 1, 2)
    assert report["trades_by_reason"] == {"profit_target": 1, "opposite_signal": 1, "liquidation": 1}
    assert report["exposure"] == 0.5
    assert report["long"]["total_trades"] == 2
    assert report["long"]["profit_factor"] == 5.0
    assert report["long"]["liquidations"] == 1
    assert report["short"]["total_pnl"] == -15.0
    assert report["short"]["avg_win"] is None
    assert report["sharpe"] is None  # one UTC day only


def test_circumstances_are_told_with_iso_times_and_masked_settings():
    report = build_report(EMPTY, curve(), INFO)
    assert report["first_candle"] == "2024-10-01T00:00:00Z"
    assert report["last_candle"] == "2024-10-01T03:00:00Z"
    assert report["settings"] == {"SYMBOLS": ["BTCUSDT"], "BINANCE_TESTNET_API_KEY": "****"}
    assert (report["leverage"], report["risk_fraction"]) == (20, 0.2)


def test_what_an_open_position_paid_is_part_of_fees_and_funding_so_the_balance_adds_up():
    # wallet = 1000 + 9 (trades) − 0.25 − 0.125; equity adds the unrealised 4
    entries = [LedgerEntry(START, "entry", "BTCUSDT", 8.625, 1008.625, 0.5, 100.0)]
    record = EMPTY._replace(wallet_usdt=1008.625, trades=TRADES, ledger_entries=entries, open_positions=[OPEN])
    report = build_report(record, curve(entries, closes=(100.0, 108.0)), INFO)
    gross = sum(each.gross_pnl_usdt for each in TRADES)
    balance = report["initial_balance"] + gross - report["fees_usdt"] + report["funding_usdt"]
    assert report["final_equity"] == balance + 4.0 == 1012.625
    assert report["open_position"]["entry_time"] == "2024-10-01T00:00:00Z"
    assert report["open_position"]["liquidation_price"] == 95.4
    assert report["open_position"]["unrealized_pnl_usdt"] == 4.0
    assert report["total_trades"] == 3


def test_one_open_position_is_an_object_several_are_a_list_none_is_null():
    assert build_report(EMPTY, curve(), INFO)["open_position"] is None
    both = EMPTY._replace(open_positions=[OPEN, OPEN._replace(symbol="ETHUSDT")])
    assert [each["symbol"] for each in build_report(both, curve(), INFO)["open_position"]] == ["BTCUSDT", "ETHUSDT"]


def test_a_pending_signal_says_what_was_wanted():
    record = EMPTY._replace(pending_signals=[PendingSignal("BTCUSDT", START, "opposite_signal", -1)])
    assert build_report(record, curve(), INFO)["pending_signal"] == {
        "symbol": "BTCUSDT",
        "candle_time": "2024-10-01T00:00:00Z",
        "close_reason": "opposite_signal",
        "entry_side": "short",
    }


def test_without_candles_every_figure_is_null_or_zero_and_nothing_fails():
    report = build_report(EMPTY, curve(closes=()), replace(INFO, candles=0, first_candle_ms=None, last_candle_ms=None))
    assert report["final_equity"] == 1000.0
    assert report["max_drawdown"] == 0.0
    assert report["exposure"] is None
    assert report["first_candle"] is None


def test_the_absence_of_a_stop_loss_and_what_liquidation_means_are_always_said():
    (sentence,) = build_report(EMPTY, curve(), INFO)["notes"]
    assert sentence.startswith("compute_smm carries no explicit stop loss and none was switched on")
    assert "at 20x" in sentence
    assert "whole margin lost" in sentence
    assert "roughly 4.5-5 %" in sentence


def test_a_stop_that_was_switched_on_is_named_with_its_distance():
    (sentence,) = build_report(EMPTY, curve(), replace(INFO, stop_loss_percent=2.5))["notes"]
    assert "set to 2.5 % of the entry price" in sentence


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"strategy_is_reference": True}, "not SMM v4.1"),
        ({"has_profit_target": False}, "no profit_target_hit column"),
        ({"funding_modelled": False}, "Funding not modelled"),
        (
            {"funding_modelled": False, "symbols": ("BTCUSDT", "ETHUSDT"), "without_funding": ("ETHUSDT",)},
            "Funding not modelled for ETHUSDT: no funding rates were given, so holding a position there cost",
        ),
        ({"remarks": ("Something about the files.",)}, "Something about the files."),
        ({"gaps": 1, "missing_candles": 3}, "1 gap with 3 candles missing"),
        ({"columns_from_cache": ("BTCUSDT",)}, "columns were read from the cache beside the candles"),
        ({"columns_from_cache": ("ETHUSDT",), "symbols": ("BTCUSDT", "ETHUSDT")}, "columns of ETHUSDT were read from"),
    ],
)
def test_each_reservation_has_its_sentence(change, sentence):
    assert any(sentence in note for note in build_report(EMPTY, curve(), replace(INFO, **change))["notes"])


def test_the_symbols_whose_columns_came_from_the_cache_are_named():
    assert build_report(EMPTY, curve(), INFO)["columns_from_cache"] == []
    report = build_report(EMPTY, curve(), replace(INFO, columns_from_cache=("BTCUSDT",)))
    assert report["columns_from_cache"] == ["BTCUSDT"]


def test_a_symbol_the_account_has_funding_of_is_not_said_to_be_without() -> None:
    info = replace(INFO, symbols=("BTCUSDT", "ETHUSDT"), funding_modelled=False)
    assert build_report(EMPTY, curve(), info)["symbols_without_funding"] == ["BTCUSDT", "ETHUSDT"]
    settled = EMPTY._replace(ledger_entries=[LedgerEntry(START, "funding", "ETHUSDT", -1.0, 999.0, 0.0, 0.0)])
    report = build_report(settled, curve(), info)
    assert (report["funding_modelled"], report["symbols_without_funding"]) == (False, ["BTCUSDT"])
    assert not any("holding a position cost and earned nothing" in note for note in report["notes"])
    both = [LedgerEntry(START, "funding", symbol, 1.0, 1001.0, 0.0, 0.0) for symbol in info.symbols]
    assert build_report(EMPTY._replace(ledger_entries=both), curve(), info)["funding_modelled"] is True


def test_the_file_is_strict_json_and_reads_back(tmp_path):
    report = build_report(EMPTY._replace(trades=TRADES), curve(), INFO)
    write_report(tmp_path / "report.json", report)

    def refuse(constant):
        raise AssertionError(constant)

    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=refuse) == read_report(tmp_path / "report.json") == report


def test_a_nan_never_reaches_the_file(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_report(tmp_path / "report.json", {"total_trades": math.nan})
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_cannot_be_written_or_read_is_told_in_a_sentence(tmp_path):
    with pytest.raises(OutputError, match="Cannot write"):
        write_report(tmp_path / "absent" / "report.json", {})
    with pytest.raises(RunFailed, match="Cannot read the report"):
        read_report(tmp_path / "report.json")
    (tmp_path / "report.json").write_text("[]")
    with pytest.raises(RunFailed, match="is not a report"):
        read_report(tmp_path / "report.json")
