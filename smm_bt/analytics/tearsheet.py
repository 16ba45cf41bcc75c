"""tearsheet.html: QuantStats on the run's daily returns, offline; the only module that imports quantstats."""

from __future__ import annotations

import logging
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from smm_bt.analytics import metrics
from smm_bt.analytics.atomic_file import write_text
from smm_bt.analytics.equity import EquityCurve
from smm_bt.analytics.tearsheet_page import page_title, plain_page, quantstats_template

_LINE_POINTS = 800
_FEW_DAYS = 30


def write_tearsheet(path: Path, report: Mapping[str, Any], equity: EquityCurve) -> None:
    """Write the tearsheet of a run whose report is ``report``, completely or not at all.

    Returns are those of UTC days, the first measured from the initial balance, 365 a year, without a benchmark.
    Where QuantStats has nothing to say the page says so and shows the figures and the equity alone.

    Raises:
        OutputError: the file cannot be written.
    """
    daily = metrics.daily_returns(equity.open_ms, equity.equity, report["initial_balance"])
    why_not = _why_no_quantstats(daily.returns, report)
    if why_not:
        step = max(1, equity.equity.size // _LINE_POINTS)
        line = [report["initial_balance"], *equity.equity[::step].tolist()] if equity.equity.size else []
        write_text(path, plain_page(report, why_not, line))
    else:
        write_text(path, _quantstats_page(daily, report))


def _why_no_quantstats(returns: metrics.FloatArray, report: Mapping[str, Any]) -> str:
    """Return the sentence that stands in for the charts, or nothing when QuantStats can draw them."""
    if returns.size == 0:
        return "There are no candles, so there are no daily returns."
    if not returns.any():
        if not report["total_trades"] and report["open_position"] is None:
            return "n/a (0 trades): the equity never moved, so there is nothing to draw."
        return "n/a: the equity never moved from one day to the next, so there is nothing to draw."
    if returns.size < 2:
        return "n/a (one day): volatility, ratios and monthly tables need at least two UTC days."
    if returns.min() <= -1.0:
        return "n/a: the account was lost, and no return can follow on nothing."
    if returns.min() >= 0.0 and returns.max() > 1.0:
        return "n/a: a day of more than +100 % and no losing day; QuantStats would take such returns for prices."
    return ""


def _quantstats_page(daily: metrics.DailyReturns, report: Mapping[str, Any]) -> str:
    with _quiet_drawing(), tempfile.TemporaryDirectory() as folder:
        import pandas as pd
        import quantstats.reports

        drawn = _with_the_day_before(daily)
        days = pd.DatetimeIndex(drawn.day_ms.astype("datetime64[ms]").astype("datetime64[ns]"), name="day")
        template, page = Path(folder, "template.html"), Path(folder, "page.html")
        template.write_text(quantstats_template(report, daily), encoding="utf-8")
        quantstats.reports.html(  # type: ignore[no-untyped-call]
            pd.Series(drawn.returns, index=days, name="SMM-BT"),
            benchmark=None,
            title=page_title(report),
            strategy_title="SMM-BT",
            periods_per_year=metrics.DAYS_PER_YEAR,
            template_path=str(template),
            output=str(page),
        )
        return _say_undefined(page.read_text(encoding="utf-8"), daily.returns.size)


def _with_the_day_before(daily: metrics.DailyReturns) -> metrics.DailyReturns:
    """Add the day before the first, without a return, when the account is below its start on every day.

    QuantStats finds a drawdown by the day it begins on, and finds none that begins before its first day.
    """
    if not np.all(np.cumprod(1.0 + daily.returns) < 1.0):
        return daily
    return metrics.DailyReturns(
        np.concatenate(([daily.day_ms[0] - metrics.DAY_MS], daily.day_ms)), np.concatenate(([0.0], daily.returns))
    )


def _say_undefined(page: str, days: int) -> str:
    """Replace the cells QuantStats leaves as nan, inf or a dash by what they mean."""
    cell = re.compile(r"(<td[^>]*>)\s*-?(?:nan|inf|∞)?\s*(?:%|x)?\s*-?\s*(</td>)", re.IGNORECASE)
    few = f"n/a ({days} days)" if days < _FEW_DAYS else "n/a"
    page = page.replace("CAGR﹪", "CAGR %")
    return cell.sub(
        lambda match: match[0] if match[0] == f"{match[1]}{match[2]}" else f"{match[1]}{few}{match[2]}", page
    )


@contextmanager
def _quiet_drawing() -> Iterator[None]:
    """Draw without a window and without chatter, and leave matplotlib as it was found.

    A backend somebody chose is given back; where none was chosen, the windowless one stays.
    """
    fonts = logging.getLogger("matplotlib.font_manager")
    import matplotlib

    chosen = matplotlib.get_backend(auto_select=False)
    fonts.addFilter(_is_no_missing_font)
    try:
        with matplotlib.rc_context(), warnings.catch_warnings(), np.errstate(all="ignore"):
            import matplotlib.pyplot as plt

            plt.switch_backend("agg")
            warnings.simplefilter("ignore")  # QuantStats' own calls: nothing its reader here could act on
            before = set(plt.get_fignums())
            yield
            for number in set(plt.get_fignums()) - before:
                plt.close(number)
    finally:
        fonts.removeFilter(_is_no_missing_font)
        if chosen is not None:
            matplotlib.use(chosen)


def _is_no_missing_font(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("findfont")
