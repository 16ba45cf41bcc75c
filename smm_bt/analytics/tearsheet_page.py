"""The HTML around the tearsheet: the run's own figures and warnings above, the charts of QuantStats below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from smm_bt.analytics import tearsheet_calendar as calendar
from smm_bt.analytics.metrics import DailyReturns
from smm_bt.analytics.summary import loud_lines, quiet_notes, summary_rows

_STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #f4f5f7; color: #1c2330;
       font: 14px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 24px; background: #fff; }
h1 { font-size: 22px; margin: 0 0 4px; overflow-wrap: anywhere; }
h3 { font-size: 15px; margin: 24px 0 8px; }
.quiet { color: #5b6575; margin: 0 0 16px; }
.loud { background: #fff4dd; border-left: 4px solid #d98200; padding: 8px 12px; margin: 6px 0; }
.notes li { margin: 4px 0; }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
td, th { padding: 4px 8px; border-bottom: 1px solid #e6e9ee; text-align: right; vertical-align: top; }
td:first-child, th:first-child { text-align: left; }
table.figures td { text-align: left; overflow-wrap: anywhere; }
table.figures td:first-child { width: 150px; font-weight: 600; white-space: nowrap; }
hr { border: 0; border-top: 1px solid #cfd5de; margin: 4px 0; }
.columns { display: grid; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); gap: 24px; margin-top: 16px; }
.columns > div { min-width: 0; overflow-x: auto; }
.columns svg, svg.equity { width: 100%; height: auto; }
table.months { font-size: 12px; }
table.months td, table.months th { padding: 4px; }
@media (max-width: 760px) { .columns { grid-template-columns: minmax(0, 1fr); } main { padding: 14px; } }
"""

#: The placeholders in double braces are filled in by quantstats.reports.html.
_QUANTSTATS_PART = """
<h3>Daily returns by QuantStats {{v}}</h3>
@few@<p class="quiet">{{date_range}} · UTC days · {{params}} computed from one equity value a day, so its drawdown and
volatility can be milder than the figures above, which see every candle.</p>
<div class="columns">
<div>{{returns}}{{log_returns}}@years@@months_spread@{{daily_returns}}@rolling@{{dd_periods}}{{dd_plot}}@months@{{returns_dist}}</div>
<div><h3>Figures of days, not of trades</h3>{{metrics}}
<h3>Years</h3>@years_table@
<h3>Worst drawdowns, daily</h3>@falls@</div>
</div>
"""


_ROLLING = "{{rolling_vol}}{{rolling_sharpe}}{{rolling_sortino}}"
#: QuantStats' rolling charts look back half a year.
_ROLLING_DAYS = 183
_FEW_DAYS = 30
#: The spread of fewer months than these says nothing.
_FEW_MONTHS = 3


def page_title(report: Mapping[str, Any]) -> str:
    """Return the run, its mode and its strategy; ``reference`` where it is the stand-in."""
    name = str(report["strategy_file"]).replace("\\", "/").rsplit("/", 1)[-1]
    kind = " (reference, not SMM v4.1)" if report["strategy_is_reference"] else ""
    return f"{report['run_id']} · {report['mode']} · {name}{kind}"


def quantstats_template(report: Mapping[str, Any], daily: DailyReturns) -> str:
    """Return the page with placeholders for QuantStats; braces in the run's own words are made harmless."""
    days, months = daily.returns.size, len(calendar.returns_by_month(daily))
    parts = {
        "few": f'<p class="loud">Only {days} days: annualised figures say little, and some are undefined (n/a).</p>\n'
        if days < _FEW_DAYS
        else "",
        "rolling": _ROLLING if days > _ROLLING_DAYS else "",
        "months_spread": "{{monthly_dist}}" if months >= _FEW_MONTHS else "",
        "years": calendar.yearly_part(daily),
        "years_table": calendar.yearly_table(daily),
        "months": calendar.monthly_part(daily),
        "falls": calendar.falls_table(daily),
    }
    charts = _QUANTSTATS_PART
    for name, part in parts.items():
        charts = charts.replace(f"@{name}@", part)
    return _page(report, charts)


def plain_page(report: Mapping[str, Any], why: str, equity: Sequence[float]) -> str:
    """Return the page for a run QuantStats has nothing to say about: the reason, and the equity as a line."""
    return _page(report, f'<h3>Daily returns</h3><p class="quiet">{escape(why)}</p>{_equity_line(equity)}')


def _page(report: Mapping[str, Any], charts: str) -> str:
    title = _text(page_title(report))
    figures = "".join(f"<tr><td>{_text(name)}</td><td>{_text(value)}</td></tr>" for name, value in summary_rows(report))
    loud = "".join(f'<p class="loud">{_text(line)}</p>' for line in loud_lines(report))
    notes = "".join(f"<li>{_text(note)}</li>" for note in quiet_notes(report))
    symbols = _text(f"{', '.join(report['symbols'])} {report['timeframe']} · candles from {report['market_source']}")
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n'
        f'<h1>{title}</h1>\n<p class="quiet">{symbols} · virtual or demo money only</p>\n'
        f'{loud}\n<table class="figures">{figures}</table>\n<ul class="notes">{notes}</ul>\n'
        f"{charts}\n</main>\n</body>\n</html>\n"
    )


def _text(value: str) -> str:
    """Escape for HTML, and keep double braces from being taken for placeholders."""
    return escape(value).replace("{", "&#123;").replace("}", "&#125;")


def _equity_line(equity: Sequence[float]) -> str:
    """Return a small SVG of the equity; nothing where there is no line to draw."""
    if len(equity) < 2:
        return ""
    low, high = min(equity), max(equity)
    margin = (high - low) * 0.08 or abs(high) * 0.01 or 1.0
    low, high = low - margin, high + margin
    points = " ".join(
        f"{60 + 920 * at / (len(equity) - 1):.1f},{10 + 200 * (high - value) / (high - low):.1f}"
        for at, value in enumerate(equity)
    )
    labels = "".join(
        f'<text x="52" y="{y}" text-anchor="end" font-size="11" fill="#5b6575">{value:,.0f}</text>'
        for y, value in ((16, high), (212, low))
    )
    return (
        '<svg class="equity" viewBox="0 0 1000 220" role="img" aria-label="Equity in USDT">'
        f'<path d="M60 10V210H980" fill="none" stroke="#cfd5de"/>{labels}'
        f'<polyline points="{points}" fill="none" stroke="#1f6feb" stroke-width="1.5"/></svg>'
    )
