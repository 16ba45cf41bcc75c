"""The run folder: made beside its place under another name, and given its name only when it is whole."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from feeds.candles import iso_utc
from smm_bt.analytics.atomic_file import NOTHING_LEFT, output_error
from smm_bt.app.clock import now_ms
from smm_bt.errors import OutputError, UsageError


def choose_run_folder(runs_dir: Path, out: Path | None, label: str) -> Path:
    """Return the folder a run will have: ``out``, or a new name under ``runs_dir`` made of time, label and chance.

    Raises:
        UsageError: ``out`` exists; an earlier run is never overwritten.
    """
    if out is None:
        stamp = iso_utc(now_ms() // 1000 * 1000).replace("-", "").replace(":", "")
        return runs_dir / f"{stamp}-{label}-{secrets.token_hex(3)}"
    if out.exists() or out.is_symlink():
        raise UsageError(f"The output folder {out} exists already; choose another --out or remove it.")
    return out


@contextmanager
def whole_or_not_at_all(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``folder``; it takes that name at the end, or is removed if anything fails.

    Raises:
        OutputError: the folder cannot be made or written.
        UsageError: a folder of that name appeared in the meantime.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    new_parents = [parent for parent in folder.parents if not parent.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        if folder.exists():
            raise UsageError(f"The output folder {folder} appeared during the run; choose another --out.")
        temporary.rename(folder)
    except OSError as error:
        raise output_error(folder, error, kept=NOTHING_LEFT) from error
    except OutputError as error:
        if NOTHING_LEFT in str(error):
            raise
        raise OutputError(f"{error} {NOTHING_LEFT}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):  # those that hold something, the finished folder above all, stay
            for parent in new_parents:
                parent.rmdir()
