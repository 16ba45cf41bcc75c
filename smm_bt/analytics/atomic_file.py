"""A file is there completely or not at all: written beside its place, flushed to disk, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from smm_bt.errors import OutputError


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
        raise output_error(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path``, completely or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def output_error(path: Path, error: Exception) -> OutputError:
    """Return the sentence for a person whose file could not be written."""
    number = error.errno if isinstance(error, OSError) else None
    why = os.strerror(number) if number else str(error) or type(error).__name__
    return OutputError(
        f"Cannot write {path}: {why}. Nothing half-written is left; free some space or choose another --out."
    )


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
