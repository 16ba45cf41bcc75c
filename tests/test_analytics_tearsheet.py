"""The tearsheet in every kind of run: long, short, empty, lost; offline, silent, and honest about what it is."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
from test_analytics_report import EMPTY, INFO, TRADES

from smm_bt.analytics.equity import EquityCurve
from smm_bt.analytics.metrics import daily_returns
from smm_bt.analytics.report import build_report
from smm_bt.analytics.tearsheet import write_tearsheet
from smm_bt.analytics.tearsheet_calendar import worst_falls
from smm_bt.errors import OutputError

DAY = 86_400_000
START = INFO.first_candle_ms


def daily_curve(values):
    times = START + np.arange(len(values), dtype=np.int64) * DAY
    return EquityCurve(times, np.array(values, float), np.array(values, float))


def tearsheet(tmp_path, values, record=None, **changes):
    record = EMPTY._replace(trades=TRADES) if record is None else record
    curve = daily_curve(values)
    report = build_report(record, curve, replace(INFO, timeframe="1d", timeframe_ms=DAY, **changes))
    write_tearsheet(tmp_path / "tearsheet.html", report, curve)
    return (tmp_path / "tearsheet.html").read_text(encoding="utf-8")


def cells(page):
    return re.findall(r"<td[^>]*>([^<]*)</td>", page)


def metric(page, name):
    found = cells(page)
    return found[len(found) - 1 - found[::-1].index(name) + 1]


@pytest.fixture(scope="module")
def season(tmp_path_factory):
    """A page of 200 days that alternate +2 % and −1 %, first day measured from 1000 USDT."""
    steps = np.where(np.arange(200) % 2 == 0, 1.02, 0.99)
    return tearsheet(tmp_path_factory.mktemp("season"), list(1000.0 * np.cumprod(steps)))


def test_figures_are_worked_from_daily_returns_at_365_a_year_starting_at_the_initial_balance(season):
    # 100 days of +2 % and 100 of −1 %: mean 0.005, deviation 0.015 × √(200 / 199)
    assert metric(season, "Cumulative Return") == f"{100 * (1.02**100 * 0.99**100 - 1):.2f}%"
    assert float(metric(season, "Sharpe")) == pytest.approx(0.005 / (0.015 * (200 / 199) ** 0.5) * 365**0.5, abs=0.006)
    assert metric(season, "Max Drawdown") == "-1.0%"
    assert metric(season, "Best Day") == "2.0%"


def test_rolling_charts_appear_once_there_is_half_a_year(season, tmp_path):
    assert season.count("<svg") == 11
    assert tearsheet(tmp_path, [1010.0, 1000.0, 1020.0] * 20).count("<svg") == 7


def test_nothing_is_loaded_from_anywhere(season):
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:)[^"']+""", re.sub(r"xlink:href", "href", season))
    assert "<script" not in season
    assert "@import" not in season


def test_the_title_names_run_mode_and_strategy(season):
    assert "<title>run-1 · PAPER · compute_smm.py" in season
    assert "reference" not in season.split("</title>")[0]


def test_the_reference_strategy_is_named_in_title_and_text(tmp_path):
    page = tearsheet(tmp_path, [1010.0, 1000.0, 1020.0], strategy_is_reference=True)
    assert "(reference, not SMM v4.1)" in page.split("</title>")[0]
    assert "REFERENCE STRATEGY in use" in page


def test_the_risk_is_said_on_every_page(season, tmp_path):
    for page in (season, tearsheet(tmp_path, [1000.0])):
        assert "NO STOP LOSS: compute_smm carries none; at 20x a move of roughly 4.5-5 %" in page


def test_three_days_give_a_page_without_nan_that_says_how_little_it_knows(tmp_path):
    page = tearsheet(tmp_path, [1010.0, 1000.0, 1020.0])
    assert "Only 3 days: annualised figures say little" in page
    assert not any(re.search(r"\bnan\b|\binf\b|∞", cell, re.IGNORECASE) for cell in cells(page))
    assert metric(page, "Kurtosis") == "n/a (3 days)"


def test_only_losing_days_give_a_page(tmp_path):
    page = tearsheet(tmp_path, [990.0, 980.0, 960.0, 955.0])
    assert metric(page, "Cumulative Return") == "-4.5%"
    assert metric(page, "Win Days") == "0.0%"


@pytest.mark.parametrize(
    ("values", "record", "why"),
    [
        ([], EMPTY, "There are no candles"),
        ([1000.0] * 5, EMPTY, "n/a (0 trades): the equity never moved"),
        ([1000.0] * 5, None, "n/a: the equity never moved from one day to the next"),
        ([1010.0], None, "n/a (one day)"),
        ([900.0, 0.0, 0.0], None, "n/a: the account was lost"),
        ([1000.0, 2500.0], None, "would take such returns for prices"),
    ],
)
def test_where_quantstats_has_nothing_to_say_the_page_says_why_and_keeps_the_figures(tmp_path, values, record, why):
    page = tearsheet(tmp_path, values, record)
    assert why in page
    assert "Win rate" in page
    assert "QuantStats 0" not in page
    assert ("<polyline" in page) == bool(values)


def test_words_of_the_run_cannot_become_markup_or_placeholders(tmp_path):
    page = tearsheet(tmp_path, [1010.0, 1000.0, 1020.0], run_id="<b>{{metrics}}</b>")
    assert "<b>" not in page
    assert page.count("Risk-Free Rate") == 1


def test_a_folder_that_is_not_there_is_told_in_a_sentence(tmp_path):
    with pytest.raises(OutputError, match="Cannot write"):
        tearsheet(tmp_path / "absent", [1010.0, 1000.0, 1020.0])


def test_a_backend_somebody_chose_and_their_settings_are_given_back(tmp_path):
    import matplotlib
    import matplotlib.pyplot as plt

    plt.switch_backend("svg")
    figure = plt.figure()
    family, filters = matplotlib.rcParams["font.family"], list(warnings.filters)
    tearsheet(tmp_path, [1010.0, 1000.0, 1020.0])
    assert matplotlib.get_backend() == "svg"
    assert matplotlib.rcParams["font.family"] == family
    assert warnings.filters == filters
    assert plt.get_fignums() == [figure.number]
    plt.close("all")


SILENT = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_analytics_tearsheet import tearsheet
tearsheet(Path(sys.argv[2]), [1010.0, 1000.0, 1020.0])
"""


def test_nothing_is_printed_while_drawing_even_on_a_machine_without_the_fonts(tmp_path):
    from pathlib import Path

    arguments = [sys.executable, "-c", SILENT, str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_fall_that_begins_on_the_first_day_and_never_recovers_has_its_drawdown(tmp_path):
    page = tearsheet(tmp_path, [980.0, 900.0, 920.0, 800.0])
    assert metric(page, "Max Drawdown") == "-20.0%"


def days_of(values, start=START):
    return daily_returns(start + np.arange(len(values)) * DAY, np.array(values, float), 1000.0)


def table(page, title):
    """The rows of the table below a heading, each as its cells."""
    rows = re.findall(r"<tr>(.*?)</tr>", page.split(f"<h3>{title}</h3>")[1].split("</table>")[0], re.DOTALL)
    return [re.findall(r"<t[dh][^>]*>([^<]*)</t[dh]>", row) for row in rows]


def test_each_year_stands_under_its_own_bar(tmp_path):
    page = tearsheet(tmp_path, [1100.0] * 92 + [880.0] * 100)  # October 2024 to April 2025
    bars = page.split('<svg class="years"')[1].split("</svg>")[0]
    assert re.findall(r'<text x="([\d.]+)"[^>]*>([^<]+)</text>', bars)[1:] == [
        ("225.0", "+10.00%"),
        ("225.0", "2024"),
        ("575.0", "-20.00%"),
        ("575.0", "2025"),
    ]
    assert table(page, "Years")[1:] == [["2024", "+10.00%"], ["2025", "-20.00%"]]
    assert "EOY Returns" not in page


def test_a_year_alone_has_its_bar_and_its_name(tmp_path):
    bars = tearsheet(tmp_path, [1010.0, 1000.0, 1020.0]).split('<svg class="years"')[1].split("</svg>")[0]
    assert ">2024</text>" in bars
    assert ">+2.00%</text>" in bars


def test_the_day_before_a_fall_puts_no_year_and_no_month_into_the_page(tmp_path):
    start = 1_735_689_600_000  # 2025-01-01
    curve = EquityCurve(start + np.arange(3, dtype=np.int64) * DAY, np.array([900.0, 800.0, 850.0]), np.zeros(3))
    report = build_report(EMPTY, curve, replace(INFO, timeframe="1d", timeframe_ms=DAY))
    write_tearsheet(tmp_path / "tearsheet.html", report, curve)
    page = (tmp_path / "tearsheet.html").read_text(encoding="utf-8")
    assert table(page, "Years")[1:] == [["2025", "-15.00%"]]
    assert table(page, "Monthly returns (%)")[1:] == [["2025", "-15.00", *[""] * 11]]


def test_months_outside_the_run_are_empty_and_not_zero(tmp_path):
    page = tearsheet(tmp_path, [1010.0] * 31 + [1010.0] * 30 + [999.9] * 31 + [1000.0] * 20)
    assert table(page, "Monthly returns (%)")[1:] == [
        ["2024", *[""] * 9, "1.00", "0.00", "-1.00"],
        ["2025", "0.01", *[""] * 11],
    ]


def test_the_spread_of_months_is_drawn_from_three_months_on(tmp_path, season):
    assert "Distribution of Monthly Returns" in drawn_words(season)
    assert "Distribution of Monthly Returns" not in drawn_words(tearsheet(tmp_path, [1010.0, 1000.0, 1020.0] * 20))


def drawn_words(page):
    """What the drawings say: matplotlib leaves each text as a comment before its outlines."""
    return re.findall(r"<!-- (.*?) -->", page)


def test_a_drawdown_that_lasts_to_the_end_is_not_recovered(tmp_path):
    page = tearsheet(tmp_path, [1100.0, 990.0, 1100.0, 1200.0, 900.0, 1000.0])
    assert table(page, "Worst drawdowns, daily")[1:] == [
        ["2024-10-05", "not recovered", "-25.00%", "2"],
        ["2024-10-02", "2024-10-03", "-10.00%", "1"],
    ]


def test_a_drawdown_from_the_first_day_begins_there():
    (fall,) = worst_falls(days_of([900.0, 950.0, 1000.0]))
    assert (fall.begin_ms, fall.recovered_ms, fall.days) == (START, START + 2 * DAY, 2)
    assert fall.depth == pytest.approx(-0.1)
    assert worst_falls(days_of([1000.0, 1001.0])) == []


def test_a_run_without_a_drawdown_says_that_there_was_none(tmp_path):
    page = tearsheet(tmp_path, [1010.0, 1020.0, 1030.0])
    assert "There was none." in page.split("Worst drawdowns, daily")[1]
