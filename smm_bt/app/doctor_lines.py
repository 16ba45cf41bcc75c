"""One finding of the doctor: how bad, about what, what was found, what to do."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(NamedTuple):
    """One line of the doctor; ``to_do`` is empty where nothing is to be done."""

    level: Level
    name: str
    found: str
    to_do: str = ""


def ok(name: str, found: str) -> Finding:
    """Return a line that all is well."""
    return Finding(Level.OK, name, found)


def warn(name: str, found: str, to_do: str = "") -> Finding:
    """Return a line about something a person should know, with which runs are possible."""
    return Finding(Level.WARN, name, found, to_do)


def fail(name: str, found: str, to_do: str) -> Finding:
    """Return a line about something without which runs go wrong."""
    return Finding(Level.FAIL, name, found, to_do)
