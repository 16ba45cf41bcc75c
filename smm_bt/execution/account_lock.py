"""One bot per account: a lock file held for as long as a store is open."""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from smm_bt.errors import RunFailed


class AccountLock:
    """Held by one process at a time; the system releases it when that process ends, however it ends.

    The file is named by a hash of venue and key, so no part of the key is on disk.

    Args:
        folder: where lock files live; made when absent. Bots that share an account must share this folder.
        venue_address: the venue the account is at.
        api_key: the account's key.
    """

    def __init__(self, folder: Path, venue_address: str, api_key: str) -> None:
        name = hashlib.sha256(f"{venue_address}\n{api_key}".encode()).hexdigest()[:24]
        self.path = folder / f"account-{name}.lock"
        self._handle: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            RunFailed: another bot holds it.
        """
        if self._handle is not None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(handle)
            raise RunFailed(
                f"Another bot (process {holder}) trades this account already; stop it first, or use another account. "
                "Two bots on one account would close each other's positions."
            ) from problem
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        self._handle = handle

    def release(self) -> None:
        """Let go of the lock; nothing happens when it is not held."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()
