"""Years, months and drawdowns of the tearsheet, drawn by ourselves.

QuantStats fills in months outside the run with 0.00, shifts the labels of years, and gives a drawdown that never
recovered a day of recovery.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

import numpy as np

from smm_bt.analytics.metrics import DailyReturns

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_GAIN, _LOSS = "#2f9e6e", "#d1495b"
_WORST = 10
Key = TypeVar("Key")


class Fall(NamedTuple):
    """A drawdown of daily values: first day below the peak, the day it was made good (None: never), depth, days."""

    begin_ms: int
    recovered_ms: int | None
    depth: float
    days: int


def returns_by_month(daily: DailyReturns) -> dict[tuple[int, int], float]:
    """Return the compounded return of each UTC month that has a day, by year and month."""
    moments = [datetime.fromtimestamp(ms / 1000, UTC) for ms in daily.day_ms.tolist()]
    return _compounded(((moment.year, moment.month) for moment in moments), daily.returns.tolist())


def returns_by_year(daily: DailyReturns) -> dict[int, float]:
    """Return the compounded return of each UTC year that has a day."""
    return _compounded((datetime.fromtimestamp(ms / 1000, UTC).year for ms in daily.day_ms.tolist()), daily.returns)


def worst_falls(daily: DailyReturns) -> list[Fall]:
    """Return the deepest drawdowns of the daily values, which start at 1, deepest first."""
    worth = np.cumprod(1.0 + daily.returns)
    peak = np.maximum(np.maximum.accumulate(worth), 1.0)
    below = worth < peak
    edges = np.diff(np.concatenate(([False], below, [False])).astype(np.int8))
    falls = []
    for begin, end in zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True):
        recovered = int(daily.day_ms[end]) if end < len(worth) else None
        depth = float(np.min(worth[begin:end] / peak[begin:end])) - 1.0
        falls.append(Fall(int(daily.day_ms[begin]), recovered, depth, end - begin))
    return sorted(falls, key=lambda fall: fall.depth)[:_WORST]


def yearly_part(daily: DailyReturns) -> str:
    """Return the years as bars, each over its own name, as SVG."""
    years = returns_by_year(daily)
    low, high = min(0.0, *years.values()), max(0.0, *years.values())
    scale = 160 / ((high - low) or 1.0)
    step = 700 / len(years)
    zero = 52 + high * scale
    bars = []
    for number, (year, value) in enumerate(years.items()):
        middle, width = 50 + step * (number + 0.5), min(90.0, step * 0.6)
        top = zero - max(value, 0.0) * scale
        told = top - 6 if value >= 0 else zero - value * scale + 16
        bars.append(
            f'<rect x="{middle - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" height="{abs(value) * scale:.1f}" '
            f'fill="{_colour(value)}"/>{_label(middle, told, f"{value:+.2%}")}{_label(middle, 250, str(year))}'
        )
    return (
        '<svg class="years" viewBox="0 0 800 260" role="img" aria-label="Return of each year">'
        f'<text x="400" y="20" text-anchor="middle" font-size="18" font-weight="bold">Return of each year</text>'
        f"{''.join(bars)}"
        f'<path d="M50 {zero:.1f}H750" stroke="#1c2330" stroke-dasharray="4 3"/></svg>'
    )


def monthly_part(daily: DailyReturns) -> str:
    """Return the months as a table; a month outside the run is left empty."""
    months = returns_by_month(daily)
    strongest = max(map(abs, months.values())) or 1.0
    rows = []
    for year in sorted({year for year, _ in months}):
        cells = "".join(_month_cell(months.get((year, month)), strongest) for month in range(1, 13))
        rows.append(f"<tr><td>{year}</td>{cells}</tr>")
    head = "".join(f"<th>{name}</th>" for name in _MONTHS)
    return (
        f'<h3>Monthly returns (%)</h3><table class="months"><tr><th>Year</th>{head}</tr>{"".join(rows)}</table>'
        '<p class="quiet">Empty: not part of the run. The first and the last month are those of its days.</p>'
    )


def yearly_table(daily: DailyReturns) -> str:
    """Return the years as a table."""
    rows = "".join(f"<tr><td>{year}</td><td>{value:+.2%}</td></tr>" for year, value in returns_by_year(daily).items())
    return f"<table><tr><th>Year</th><th>Return</th></tr>{rows}</table>"


def falls_table(daily: DailyReturns) -> str:
    """Return the worst drawdowns as a table; one that lasts to the end says that it has not recovered."""
    rows = "".join(
        f"<tr><td>{_day(fall.begin_ms)}</td>"
        f"<td>{'not recovered' if fall.recovered_ms is None else _day(fall.recovered_ms)}</td>"
        f"<td>{fall.depth:.2%}</td><td>{fall.days}</td></tr>"
        for fall in worst_falls(daily)
    )
    if not rows:
        return '<p class="quiet">There was none.</p>'
    return f"<table><tr><th>Started</th><th>Recovered</th><th>Drawdown</th><th>Days</th></tr>{rows}</table>"


def _compounded(keys: Iterable[Key], returns: Iterable[float]) -> dict[Key, float]:
    worth: dict[Key, float] = {}
    for key, value in zip(keys, returns, strict=True):
        worth[key] = worth.get(key, 1.0) * (1.0 + float(value))
    return {key: value - 1.0 for key, value in worth.items()}


def _month_cell(value: float | None, strongest: float) -> str:
    if value is None:
        return "<td></td>"
    strength = round(100 * abs(value) / strongest * 0.6)
    return (
        f'<td style="background: color-mix(in srgb, {_colour(value)} {strength}%, transparent)">{100 * value:.2f}</td>'
    )


def _colour(value: float) -> str:
    return _GAIN if value >= 0 else _LOSS


def _label(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" font-size="13" fill="#1c2330">{text}</text>'


def _day(day_ms: int) -> str:
    return f"{datetime.fromtimestamp(day_ms / 1000, UTC):%Y-%m-%d}"
