"""The summary on the terminal: readable in 80 columns without colour, loud where it must be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from test_analytics_report import EMPTY, INFO, OPEN, START, TRADES, curve

from smm_bt.analytics.report import build_report
from smm_bt.analytics.summary import loud_lines, print_summary, summary_rows
from smm_bt.model import PendingSignal, SkippedEntry


def report(record=EMPTY, **changes):
    return build_report(record, curve(), replace(INFO, **changes))


def test_figures_appear_with_their_units():
    rows = dict(summary_rows(report(EMPTY._replace(trades=TRADES))))
    assert rows["Total PnL, net"] == "+9.00 USDT over 3 closed trades"
    assert rows["Win rate"] == "33.33%"
    assert rows["Average loss"] == "-10.50 USDT"
    assert rows["Profit factor"] == "1.429"
    assert rows["Closed by"] == "profit_target 1, opposite_signal 1, liquidation 1"
    assert rows["Long / short"] == "2 trades +24.00 / 1 trade -15.00"


def test_undefined_figures_say_why():
    rows = dict(summary_rows(report()))
    assert rows["Win rate"] == "n/a (0 trades)"
    assert rows["Average win"] == "n/a (no winning trade)"
    assert rows["Profit factor"] == "n/a (no losing trade)"
    assert rows["Sharpe, daily"].startswith("n/a (fewer than 2 days")
    assert rows["Closed by"] == "n/a (0 trades)"


@pytest.mark.parametrize(
    ("funding", "changes", "text"),
    [
        (5.5, {}, "5.50 received"),
        (-5_540.26, {}, "5,540.26 paid"),
        (0.0, {}, "0.00 received"),
        (0.0, {"funding_modelled": False}, "not modelled"),
        (
            -750.93,
            {"funding_modelled": False, "symbols": ("BTCUSDT", "ETHUSDT"), "without_funding": ("ETHUSDT",)},
            "750.93 paid (ETHUSDT: not modelled)",
        ),
    ],
)
def test_funding_is_paid_or_received_or_not_modelled(funding, changes, text):
    record = EMPTY._replace(trades=[TRADES[0]._replace(funding_usdt=funding)])
    assert dict(summary_rows(report(record, **changes)))["Fees / funding"] == f"1.00 paid / {text}"


@pytest.mark.parametrize(
    ("record", "changes", "loud"),
    [
        (EMPTY, {"strategy_is_reference": True}, "REFERENCE STRATEGY in use"),
        (EMPTY._replace(trades=TRADES), {}, "1 LIQUIDATION: the whole margin"),
        (EMPTY._replace(trades=TRADES[2:] * 2), {}, "2 LIQUIDATIONS"),
        (EMPTY, {}, "NO STOP LOSS"),
        (EMPTY, {"has_profit_target": False}, "NO PROFIT TARGET: compute_smm returned no profit_target_hit column"),
        (EMPTY._replace(skipped_entries=[SkippedEntry(0, "B", "long", "x")]), {}, "1 ENTRY SKIPPED"),
        (EMPTY._replace(skipped_entries=[SkippedEntry(0, "B", "long", "x")] * 2), {}, "2 ENTRIES SKIPPED"),
        (
            EMPTY._replace(open_positions=[OPEN]),
            {},
            "OPEN POSITION at the end: long 0.5 BTCUSDT at 100, unrealised +4.00",
        ),
        (EMPTY._replace(open_positions=[OPEN, OPEN._replace(symbol="ETHUSDT")]), {}, "0.5 ETHUSDT"),
        (EMPTY._replace(pending_signals=[PendingSignal("BTCUSDT", START, "", 1)]), {}, "PENDING SIGNAL"),
        (EMPTY, {"conflicting_signals": 2}, "2 candles with buy and sell signal at once"),
    ],
)
def test_what_must_not_be_overlooked_is_loud(record, changes, loud):
    assert any(loud in line for line in loud_lines(report(record, **changes)))


def test_a_quiet_run_with_a_stop_has_nothing_loud():
    assert loud_lines(report(stop_loss_percent=2.0, conflicting_signals=0)) == []


def test_without_a_terminal_lines_fit_eighty_columns_and_carry_no_colour(capsys):
    record = EMPTY._replace(trades=TRADES * 400, open_positions=[OPEN])
    long_name = "some/rather/deep/folder/with/a/long/name/for/a/strategy/compute_smm_of_last_week.py"
    print_summary(report(record, strategy_file=long_name, gaps=2, missing_candles=1000, strategy_is_reference=True))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("\x1b" in line for line in lines)
    assert any("1,000 candles missing in 2 holes" in line for line in lines)


def test_the_places_of_the_files_are_printed_whole_even_when_long(capsys):
    path = Path("/a" * 60) / "report.json"
    print_summary(report(), files=[path])
    assert str(path) in capsys.readouterr().out.splitlines()


def test_square_brackets_in_names_are_text_not_markup(capsys):
    print_summary(report(strategy_file="[red]mine[/red].py", engine="plan", engine_reason="[bold]"))
    assert "[red]mine[/red].py" in capsys.readouterr().out


def test_a_sentence_is_not_said_twice(capsys):
    print_summary(report(strategy_is_reference=True, funding_modelled=False, has_profit_target=False))
    out = " ".join(capsys.readouterr().out.split())
    assert out.count("not SMM v4.1") == 1
    assert out.count("Funding not modelled") == 1
    assert out.count("profit_target_hit") == 1
    assert out.count("4.5-5 %") == 1
