"""The progress bar of a download: how far in time, how many rows a second, how long still."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from smm_bt.app.download_words import Bar

if TYPE_CHECKING:
    from rich.console import Console

    from smm_bt.app.history_file import Span
    from smm_bt.app.history_pages import Series


@contextmanager
def download_bar(console: Console, series: Series, wanted: Span) -> Iterator[Bar]:
    """Show one bar for the time of the block; it measures the time reached, not rows, so that old gaps count too."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]:,} rows, {task.fields[rate]:,.0f}/s"),
        TextColumn("still"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(series.file_name, total=wanted.end_ms - wanted.begin_ms, rows=0, rate=0.0)

        def show(time_ms: int, rows: int) -> None:
            seconds = progress.tasks[0].elapsed or 0.0
            rate = rows / seconds if seconds > 0 else 0.0
            progress.update(task, completed=max(0, time_ms - wanted.begin_ms), rows=rows, rate=rate)

        yield show
