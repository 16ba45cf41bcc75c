"""The process environment and the .env file: the only place that reads them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path


def read_environment(names: Iterable[str], environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return those of ``names`` that are set and not empty in the environment."""
    source = os.environ if environment is None else environment
    return {name: source[name] for name in names if source.get(name)}


def read_dotenv(path: Path) -> dict[str, str]:
    """Return the entries of a ``.env`` file; an absent file and empty entries give nothing."""
    if not path.is_file():
        return {}
    from dotenv import dotenv_values

    return {key: value for key, value in dotenv_values(path, interpolate=False).items() if value}
