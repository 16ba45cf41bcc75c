"""chart.html: one file that works offline, with candles, every entry and exit, equity and drawdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from feeds.candles import Candles
from smm_bt.analytics.atomic_file import write_text
from smm_bt.analytics.chart_data import drawdowns, symbol_data
from smm_bt.analytics.chart_page import BODY, SCRIPT, STYLE
from smm_bt.analytics.equity import EquityCurve
from smm_bt.analytics.summary import loud_lines
from smm_bt.analytics.tearsheet_page import page_title
from smm_bt.model import RunRecord


def write_chart(
    path: Path, candles: Sequence[Candles], record: RunRecord, equity: EquityCurve, report: Mapping[str, Any]
) -> None:
    """Write the chart page of a run, one symbol or several, completely or not at all.

    Up to 3,000 candles a symbol are shown as they are. More are drawn as an overview of coarser candles, beside
    windows of full candles around the trades; the page says how many trades have one.

    Raises:
        OutputError: the file cannot be written.
    """
    from plotly.offline import get_plotlyjs

    falls = drawdowns(equity.equity, record.initial_balance_usdt)
    data = {
        "title": page_title(report),
        "timeframe": report["timeframe"],
        "initial": record.initial_balance_usdt,
        "symbols": [symbol_data(each, record, equity, falls, len(candles)) for each in candles],
    }
    title = escape(page_title(report))
    loud = "".join(f"<li>{escape(line)}</li>" for line in loud_lines(report))
    parts = (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n',
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n',
        f"<style>{STYLE}</style>\n<script>{get_plotlyjs()}</script>\n</head>\n<body>\n",
        f'<h1>{title}</h1>\n<ul class="loud">{loud}</ul>\n{BODY}\n',
        f'<script type="application/json" id="data">{_for_html(data)}</script>\n',
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n",
    )
    write_text(path, "".join(parts))


def _for_html(data: object) -> str:
    """Return JSON that cannot end the script element it stands in."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
