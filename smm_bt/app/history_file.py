"""History files in DATA_DIR: one Parquet file per series, whole at every instant, continued where it ends."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from smm_bt.analytics.atomic_file import atomic_path, output_error
from smm_bt.errors import MarketDataError, UsageError

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

#: Under this name the Parquet file says where its rows came from.
_SOURCE = b"smm_bt.source"


class Span(NamedTuple):
    """Times from ``begin_ms`` up to, not including, ``end_ms``."""

    begin_ms: int
    end_ms: int


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of one series: ``time_ms`` of length n, strictly increasing, and ``values`` of shape n × columns."""

    time_ms: IntArray
    values: FloatArray

    @classmethod
    def none(cls, columns: int) -> Rows:
        """Return no rows."""
        return cls(np.empty(0, dtype=np.int64), np.empty((0, columns)))

    def __len__(self) -> int:
        return len(self.time_ms)

    def joined(self, later: Sequence[Rows]) -> Rows:
        """Return these rows and others in the order of time; of two at one time the one given last stays."""
        times = np.concatenate([self.time_ms, *(rows.time_ms for rows in later)])
        values = np.concatenate([self.values, *(rows.values for rows in later)])
        order = np.argsort(times, kind="stable")
        times, values = times[order], values[order]
        kept = np.append(times[1:] != times[:-1], True)[: len(times)]
        return Rows(times[kept], values[kept])

    def between(self, span: Span) -> Rows:
        """Return the rows inside ``span``."""
        first, last = np.searchsorted(self.time_ms, span)
        return Rows(self.time_ms[first:last], self.values[first:last])


def missing_spans(time_ms: IntArray, wanted: Span, step_ms: int | None) -> list[Span]:
    """Return what of ``wanted`` is not there: before the first row, in the holes, after the last one.

    Without ``step_ms`` the rows have no fixed distance, and holes between them cannot be told.
    """
    inside = time_ms[np.searchsorted(time_ms, wanted.begin_ms) : np.searchsorted(time_ms, wanted.end_ms)]
    if not inside.size:
        return [wanted] if wanted.begin_ms < wanted.end_ms else []
    step = 1 if step_ms is None else step_ms
    holes = [] if step_ms is None else holes_in(inside, step_ms)
    edges = [Span(wanted.begin_ms, int(inside[0])), *holes, Span(int(inside[-1]) + step, wanted.end_ms)]
    return [span for span in edges if span.begin_ms < span.end_ms]


def holes_in(time_ms: IntArray, step_ms: int) -> list[Span]:
    """Return the holes between rows that should be ``step_ms`` apart."""
    places = np.flatnonzero(np.diff(time_ms) > step_ms)
    return [Span(int(time_ms[place]) + step_ms, int(time_ms[place + 1])) for place in places]


def read_rows(path: Path, columns: Sequence[str], source: str) -> Rows:
    """Return what an earlier download left in ``path``; an absent file holds no rows.

    Raises:
        MarketDataError: the file came from another source, or it cannot be continued.
    """
    if not path.exists():
        return Rows.none(len(columns))
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, partitioning=None)
        stored_from = ((table.schema.metadata or {}).get(_SOURCE) or source.encode()).decode()
        times = table.column("timestamp").cast(pa.timestamp("ms", tz="UTC")).cast(pa.int64()).to_numpy()
        values = np.column_stack([table.column(name).cast(pa.float64()).to_numpy() for name in columns])
    except (OSError, KeyError, ValueError, pa.ArrowException) as problem:
        detail = str(problem).strip().splitlines()[0][:160] if str(problem).strip() else type(problem).__name__
        raise MarketDataError(f"{path} cannot be continued: {detail}. Move it away and download it again.") from problem
    if stored_from != source:
        raise MarketDataError(
            f"{path} holds data of {stored_from}, and it cannot be continued with data of {source}. "
            "Move it away or name another DATA_DIR."
        )
    rows = Rows(np.ascontiguousarray(times, dtype=np.int64), np.ascontiguousarray(values, dtype=np.float64))
    if (np.diff(rows.time_ms) <= 0).any():
        raise MarketDataError(f"{path} cannot be continued: its rows are not in the order of time. Move it away.")
    return rows


def write_rows(path: Path, rows: Rows, columns: Sequence[str], source: str) -> None:
    """Write all rows, completely or not at all: ``timestamp`` in UTC milliseconds and ``columns`` as doubles.

    Raises:
        OutputError: the file cannot be written; what stood there before still stands.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {"timestamp": pa.array(rows.time_ms, pa.timestamp("ms", tz="UTC"))}
    arrays |= {name: pa.array(np.ascontiguousarray(rows.values[:, at])) for at, name in enumerate(columns)}
    table = pa.table(arrays).replace_schema_metadata({_SOURCE: source.encode()})
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


@contextmanager
def folder_for_downloads(folder: Path) -> Iterator[None]:
    """Make ``folder``, keep other downloads out of it, and clear what a killed one left half-written.

    Raises:
        UsageError: another download is writing there.
        OutputError: the folder cannot be made or written.
    """
    lock = folder / ".download.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = lock.open("w")
    except OSError as error:
        raise output_error(folder, error) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(
                f"Another download is writing to {folder}; wait for it, or name another DATA_DIR."
            ) from None
        for leftover in (*folder.glob(".*.parquet.*.part"), *folder.glob(".*.json.*.part")):
            leftover.unlink(missing_ok=True)
        yield
