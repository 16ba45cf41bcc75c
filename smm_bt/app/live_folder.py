"""The run folder of a live run: there from the start, held by one process, found again to go on."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from smm_bt.analytics.atomic_file import output_error
from smm_bt.analytics.journal import Journal
from smm_bt.analytics.journal_reader import JournalReader
from smm_bt.errors import RunFailed, SmmBtError, UsageError

JOURNAL = "journal.sqlite"
EXCHANGE = "exchange.sqlite"
RUN_LOG = "run.log"
_LOCK = ".held"
#: What may lie in the folder of a run that was killed before it had begun.
_BEFORE_THE_JOURNAL = (_LOCK, EXCHANGE, f"{EXCHANGE}-wal", f"{EXCHANGE}-shm")
#: What a run writes before it deals with its first candle.
_BEFORE_THE_FIRST_CANDLE = (JOURNAL, f"{JOURNAL}-wal", f"{JOURNAL}-shm", RUN_LOG)


@contextmanager
def held_folder(folder: Path) -> Iterator[None]:
    """Make ``folder`` if need be and hold it; the system lets go of it when the process ends, however it ends.

    Raises:
        RunFailed: another process runs there.
        OutputError: it cannot be made.
    """
    new_parents = [parent for parent in folder.parents if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as problem:
        raise output_error(folder, problem) from problem
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            raise RunFailed(f"The run in {folder} is running already; stop it before it is resumed.") from problem
        yield
    finally:
        os.close(handle)
        if not folder.exists():  # a false start: what was made on the way to it goes, too
            _remove_empty(new_parents)


def _remove_empty(folders: Iterable[Path]) -> None:
    with suppress(OSError):  # one that holds something stays
        for folder in folders:
            folder.rmdir()


@contextmanager
def removed_unless_begun(folder: Path) -> Iterator[None]:
    """Leave nothing behind of a run that fails before it has dealt with a candle, an order or the account.

    Whoever starts it again may then use the same folder, and ``--resume`` does not find a run that never was.
    """
    try:
        yield
    except BaseException:
        journal = folder / JOURNAL
        if not journal.exists() or not _has_begun(journal):
            for name in _BEFORE_THE_FIRST_CANDLE:
                (folder / name).unlink(missing_ok=True)
            clear_unbegun(folder, lock=True)
            _remove_empty([folder])
        raise


def _has_begun(path: Path) -> bool:
    """Say whether a journal holds anything a run would need to go on; one that cannot be read counts as if it did."""
    try:
        journal = JournalReader.read(path)
    except SmmBtError:
        return True
    try:
        return has_begun(journal)
    finally:
        journal.close()


def has_begun(journal: JournalReader) -> bool:
    """Say whether a run has dealt with a candle, an order or a change of its account."""
    asked = (journal.progress, journal.decisions, journal.orders, journal.fills, journal.ledger_entries)
    return any(question() for question in asked)


def has_not_begun(folder: Path) -> bool:
    """Say whether ``folder`` is of a live run that ended, or was killed, before its journal was there."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return _LOCK in names and all(name in _BEFORE_THE_JOURNAL or name.startswith(f".{JOURNAL}.") for name in names)


def clear_unbegun(folder: Path, *, lock: bool = False) -> None:
    """Remove what a run that has not begun left in ``folder``; the file that holds it only with ``lock``."""
    if (folder / JOURNAL).exists():
        return
    for name in [path.name for path in folder.iterdir() if path.name.startswith(f".{JOURNAL}.")]:
        (folder / name).unlink()
    for name in _BEFORE_THE_JOURNAL if lock else _BEFORE_THE_JOURNAL[1:]:
        (folder / name).unlink(missing_ok=True)


def journal_of(run: Path) -> Path:
    """Return the journal in a run folder; UsageError when there is none."""
    path = run / JOURNAL
    if not path.is_file():
        raise UsageError(f"{run} holds no journal; name the folder of a run.")
    return path


def latest_live_run(runs_dir: Path) -> Path:
    """Return the newest folder of a live run under ``runs_dir``; UsageError when there is none."""
    for path in sorted(runs_dir.glob(f"*/{JOURNAL}"), key=lambda each: each.stat().st_mtime, reverse=True):
        if _is_live(path):
            return path.parent
    raise UsageError(f"There is no live run in {runs_dir} to resume; name its folder, or start a new one.")


def _is_live(path: Path) -> bool:
    try:
        journal = JournalReader.read(path)
    except SmmBtError:
        return False
    try:
        return journal.run_info().engine == "live"
    finally:
        journal.close()


def open_to_resume(run: Path) -> Journal:
    """Open the journal of a run that is to go on."""
    return Journal.open(journal_of(run))
