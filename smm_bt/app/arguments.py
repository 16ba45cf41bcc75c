"""Arguments every command reads alike: ``--set KEY=VALUE``, moments, and the console the answers go to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from smm_bt.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from smm_bt.app.settings import Settings


def settings_given(pairs: list[str] | None) -> dict[str, Any]:
    """Return the settings given as ``KEY=VALUE``, by their proper names.

    Raises:
        UsageError: a pair without ``=``, or a name there is not (with "did you mean").
    """
    if not pairs:
        return {}
    from smm_bt.app.settings import known_setting

    given: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair}: write it as KEY=VALUE, for example --set SLIPPAGE_BPS=2.")
        given[known_setting(key.strip(), "--set")] = value.strip()
    return given


def settings_with(pairs: list[str] | None, **options: Any) -> Settings:
    """Return the settings in force with ``--set`` pairs and options on top; an option that is None was not given."""
    from smm_bt.app.settings import load_settings

    return load_settings(settings_given(pairs) | {key: value for key, value in options.items() if value is not None})


def symbol_named(text: str) -> str:
    """Return a symbol as the venue names it; lower case is taken as upper.

    Raises:
        UsageError: it is written another way, with "did you mean".
    """
    from smm_bt.app.settings import plain_symbol

    if (plain := plain_symbol(text)) != text.upper():
        raise UsageError(f"{text} is not how the venue names it; did you mean {plain}?")
    return plain


def moment(text: str | None, option: str) -> int | None:
    """Return UTC milliseconds from a date, a time or 13 digits; None stays None.

    Raises:
        UsageError: it is neither.
    """
    if text is None:
        return None
    if text.isdigit() and len(text) == 13:  # milliseconds; ten digits would be seconds, eight are a date
        return int(text)
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} {text}: this is no date; write it like 2025-01-31 or 2025-01-31T12:00.") from None
    return round((told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp() * 1000)


def moments(since: str | None, until: str | None) -> tuple[int | None, int | None]:
    """Return what ``--since`` and ``--until`` say as UTC milliseconds.

    Raises:
        UsageError: one of them is no moment, or nothing lies between them.
    """
    begin_ms, end_ms = moment(since, "--since"), moment(until, "--until")
    if begin_ms is not None and end_ms is not None and begin_ms >= end_ms:
        word = "the same as" if begin_ms == end_ms else "after"
        raise UsageError(f"--since {since} is {word} --until {until}, so no candle lies between; give a later --until.")
    return begin_ms, end_ms


def console() -> Console:
    """Return the terminal, or a plain 80 columns where there is none."""
    from rich.console import Console

    terminal = Console(highlight=False)
    return terminal if terminal.is_terminal else Console(highlight=False, width=80, color_system=None)
