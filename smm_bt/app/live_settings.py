"""The settings of a live run: given for a new one, as recorded for one that goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smm_bt.analytics.journal import Journal
from smm_bt.analytics.run_info import MARKET
from smm_bt.app.live_market_source import MarketChoice
from smm_bt.app.settings import Settings, load_settings
from smm_bt.errors import UsageError

_SECRETS = ("BINANCE_TESTNET_API_KEY", "BINANCE_TESTNET_API_SECRET")
_MANY, _ONE = ("candles", "mark", "funding"), ("exchange_info", "brackets")


def public_market(choice: MarketChoice) -> dict[str, object]:
    """Return the market's options as plain JSON values; ``speed`` is ``max`` where the run moves the market."""
    values: dict[str, object] = {"name": choice.name, "seed": choice.seed, "address": choice.address}
    values["speed"] = "max" if choice.stepped else choice.speed
    values |= {name: [str(path.absolute()) for path in getattr(choice, name)] for name in _MANY}
    files = {name: getattr(choice, name) for name in _ONE}
    return values | {name: None if path is None else str(path.absolute()) for name, path in files.items()}


def recorded_market(journal: Journal, given: MarketChoice | None) -> MarketChoice:
    """Return the market of a recorded run; only its speed and its address may be given anew."""
    values: dict[str, Any] = dict(_market_values(journal))
    speed = values.pop("speed")
    values["speed"] = math.inf if speed == "max" else float(speed)
    values |= {name: tuple(map(Path, values[name])) for name in _MANY}
    values |= {name: Path(values[name]) if values[name] else None for name in _ONE}
    if given is not None and given.name == values["name"]:
        values["speed"] = given.speed if given.speed != 1.0 else values["speed"]
        values["address"] = given.address or values["address"]
    return MarketChoice(**values)


def _market_values(journal: Journal) -> Mapping[str, Any]:
    values = journal.settings().get(MARKET)
    if not isinstance(values, dict):
        raise UsageError(f"{journal.path.parent} is no live run; only live runs can be resumed.")
    return values


def recorded_settings(journal: Journal, now: Settings) -> Settings:
    """Return the settings a run was started with; keys, which are never recorded, come from ``now``."""
    kept: dict[str, Any] = {name: value for name, value in journal.settings().items() if name in Settings.model_fields}
    if kept["TRADING_MODE"] != now.TRADING_MODE:  # PAPER does not load keys
        now = load_settings({"TRADING_MODE": kept["TRADING_MODE"], "RUNS_DIR": now.RUNS_DIR, "DATA_DIR": now.DATA_DIR})
    kept |= {name: getattr(now, name) for name in (*_SECRETS, "RUNS_DIR", "DATA_DIR")}
    return Settings(**kept)
