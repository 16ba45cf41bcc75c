"""What audits have found out about a strategy file's warm-up, kept in DATA_DIR for live trading to be held to."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from smm_bt.analytics.atomic_file import write_text
from smm_bt.app.settings import Settings
from smm_bt.errors import OutputError
from strategy.loader import LocatedStrategy

_FOLDER = ".audits"


def known_warm_up(settings: Settings, strategy: LocatedStrategy) -> int | None:
    """Return the most candles any audit of this file with these parameters found necessary; None when never audited."""
    try:
        found = json.loads(_place(settings, strategy).read_text(encoding="utf-8"))["warm_up_candles"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return int(found)


def remember_warm_up(settings: Settings, strategy: LocatedStrategy, candles: int | None) -> None:
    """Keep what one audit found, if it found anything; a folder that cannot be written is left alone."""
    known = known_warm_up(settings, strategy)
    if candles is None or (known is not None and known >= candles):
        return
    place = _place(settings, strategy)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_text(place, json.dumps({"warm_up_candles": candles, "strategy_sha256": strategy.sha256}) + "\n")
    except (OSError, OutputError):
        return


def _place(settings: Settings, strategy: LocatedStrategy) -> Path:
    parameters = json.dumps(settings.STRATEGY_PARAMETERS, sort_keys=True, default=str)
    name = hashlib.sha256(f"{strategy.columns_key}\n{parameters}".encode()).hexdigest()
    return settings.DATA_DIR / _FOLDER / f"{name[:32]}.json"
