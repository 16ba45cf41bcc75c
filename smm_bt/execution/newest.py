"""A dictionary that remembers its newest entries only, for a run that lasts weeks."""

from __future__ import annotations

from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Newest(dict[Key, Value]):
    """Lets go of the oldest entry once it holds more than ``count``; setting a known key again does not renew it."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    def __setitem__(self, key: Key, value: Value) -> None:
        super().__setitem__(key, value)
        if len(self) > self._count:
            del self[next(iter(self))]
