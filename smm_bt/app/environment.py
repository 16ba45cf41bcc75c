"""The process environment and the .env file: the only place that reads them."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

#: Their neighbours (SYMBOL, TIMEFRAME_X, DATA_DIRS) are far more often another program's than a slip of the pen.
_COMMON = {"SYMBOLS", "TIMEFRAME", "DATA_DIR", "RUNS_DIR"}
#: One letter wrong, lost or doubled, or two exchanged, in a name of this project's length.
_A_SLIP = 0.92
#: A first word that may be repeated in a message: no key or secret looks like it.
_NAME = re.compile(r"(?:export\s+)?([A-Za-z_]{1,30})(?![A-Za-z0-9])")


def read_environment(names: Iterable[str], environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return those of ``names`` that are set and not empty in the environment."""
    source = os.environ if environment is None else environment
    return {name: source[name] for name in names if source.get(name)}


def misspelt_in_environment(
    names: Iterable[str], environment: Mapping[str, str] | None = None
) -> Iterator[tuple[str, str]]:
    """Yield variables that are set and were surely meant to be one of ``names``, each with the name that was meant.

    The environment is full of other programs' names, so a variable counts only if it is a slip of the pen away from
    a name (difflib's ratio of at least 0.92, capital letters or not), or is the beginning of one, of three words or
    more, with the rest forgotten. Neighbours of SYMBOLS, TIMEFRAME, DATA_DIR and RUNS_DIR never count.
    """
    source = os.environ if environment is None else environment
    known = set(names)
    meant = sorted(known - _COMMON)
    for name in sorted(source):
        if not source[name] or name in known or name.upper() in _COMMON:
            continue
        upper = name.upper()
        close = difflib.get_close_matches(upper, meant, n=1, cutoff=_A_SLIP)
        close += [each for each in meant if upper.count("_") >= 2 and each.startswith(f"{upper}_")]
        if close:
            yield name, close[0]


def read_dotenv(path: Path) -> dict[str, str]:
    """Return the entries of a ``.env`` file, empty ones too; an absent file gives nothing.

    Raises:
        ValueError: it is no file, or a line is no ``NAME=value`` or repeats a name; values are never shown.
        OSError: it cannot be read.
    """
    if not path.exists():
        return {}
    if not path.is_file():
        raise ValueError("it is no file")
    from dotenv.parser import parse_stream

    found: dict[str, str] = {}
    lines: dict[str, int] = {}
    with path.open(encoding="utf-8-sig") as file:
        for entry in parse_stream(file):
            if entry.error or (entry.key is not None and entry.value is None):
                raise ValueError(_not_an_entry(entry.original.string, entry.original.line))
            if entry.key is None or entry.value is None:  # a comment, an empty line
                continue
            line = _line_of(entry.original.string, entry.original.line)
            if (earlier := lines.setdefault(entry.key.upper(), line)) != line:
                raise ValueError(f"line {line} gives {entry.key} again, after line {earlier}; keep one")
            found[entry.key] = entry.value
    return found


def _line_of(text: str, first: int) -> int:
    """Return the line an entry stands on: the parser counts from the empty lines before it."""
    return first + text[: len(text) - len(text.lstrip())].count("\n")


def _not_an_entry(text: str, first: int) -> str:
    begun = _NAME.match(text.lstrip())
    name = f" begins with {begun[1]} and" if begun else ""
    return f"line {_line_of(text, first)}{name} is not written as NAME=value; its value is not shown"
