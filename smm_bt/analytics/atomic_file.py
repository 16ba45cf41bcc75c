"""A file is there completely or not at all: written beside its place, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from smm_bt.errors import OutputError

#: True where a file, or a whole folder, takes its name only when it is complete.
NOTHING_LEFT = "Nothing half-written is left"
#: No space, no quota, a limit on the size of files.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; at the end it takes the name ``path``.

    Whatever goes wrong inside, the temporary file is removed and ``path`` stays as it was.

    Raises:
        OutputError: the system refused to write (disk full, no permission, folder gone).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        _flush_to_disk(temporary)
        os.replace(temporary, path)
        _flush_to_disk(path.parent)
    except OSError as error:
        raise output_error(path, error, kept=NOTHING_LEFT) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path``, completely or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def output_error(path: Path, error: Exception, *, kept: str = "") -> OutputError:
    """Return the sentence for a person whose file could not be written.

    It is said by every command, so it names neither ``--out`` nor ``DATA_DIR``; ``kept`` says what is left of the
    file, where the caller can vouch for it.
    """
    number = error.errno if isinstance(error, OSError) else None
    why = os.strerror(number) if number else str(error) or type(error).__name__
    is_full = number in _FULL or "full" in why
    remedy = "free some space there" if is_full else "make that place writable, or choose another,"
    advice = f"{kept}; {remedy}" if kept else remedy.capitalize()
    return OutputError(f"Cannot write {path}: {why}. {advice} and try again.")


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
