"""Why a strategy file is refused, in one or two sentences: the exception, and the words for what user code raised."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterable
from difflib import get_close_matches

_LONGEST_QUOTE = 200


class StrategyRefused(Exception):
    """The strategy file breaks the contract of SPEC §4.

    The message is complete for a person: which rule, what was found, what to do. Where the user's own code raised,
    that exception is the ``__cause__``, so that a debugging run can show its traceback.
    """


class StrategyFileMissing(StrategyRefused):
    """There is nothing at the path that should be the strategy file; it was named wrongly, not written wrongly."""


def refused_by_exception(error: BaseException, action: str, file: str) -> StrategyRefused:
    """Return the refusal for ``error``, which the user's code raised.

    Args:
        error: what was raised, with its traceback.
        action: what was being done, as the start of a sentence: ``compute_smm()`` or ``importing x.py``.
        file: path of the user's file as its code objects carry it; names the line to look at.
    """
    place = _place(error, file)
    if isinstance(error, SystemExit):
        return StrategyRefused(
            f"{action} tried to end the program with SystemExit{place}; a strategy file must only compute columns. "
            "Remove the exit() call or put it under if __name__ == '__main__'."
        )
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        return StrategyRefused(
            f"{action} needs the package {package!r}, and no module {error.name!r} was found{place}. "
            "Install the package that provides it into this Python environment, or put the module beside the file."
        )
    said = one_line(str(error))
    what = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return StrategyRefused(
        f"{action} must not raise, and it raised {what}{place}. Correct the file; --debug shows the whole traceback."
    )


def one_line(text: str) -> str:
    """Return ``text`` on one line, cut to a readable length."""
    flat = " ".join(text.split())
    return flat if len(flat) <= _LONGEST_QUOTE else flat[: _LONGEST_QUOTE - 1] + "…"


def did_you_mean(wanted: str, names: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the name most like ``wanted``, ignoring case and punctuation, or nothing."""
    by_key = {_key(name): name for name in names}
    close = get_close_matches(_key(wanted), by_key, n=1, cutoff=0.75)
    return f" Did you mean {by_key[close[0]]!r}?" if close else ""


def _key(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def source_file(function: object) -> str:
    """Return the path of the code of ``function`` (under its decorators), empty when it has no Python code."""
    inner = inspect.unwrap(function) if callable(function) else function
    code = getattr(inner, "__code__", None)
    return str(code.co_filename) if code is not None else ""


def _place(error: BaseException, file: str) -> str:
    """Say where: the innermost line inside the user's file, nothing when none of its lines took part."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if frame.filename == file]
    if not inside:
        return ""
    return f" ({_file_name(file)}, line {inside[-1].lineno})"


def _file_name(file: str) -> str:
    return file.replace("\\", "/").rpartition("/")[2]
