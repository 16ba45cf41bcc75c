"""What was named on the command line of ``smm-bt live``: which market it chooses, and what a resumed run refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smm_bt.analytics.journal import Journal
from smm_bt.analytics.run_info import RunInfo
from smm_bt.app.live_market_source import BINANCE, EMBEDDED, MarketChoice
from smm_bt.app.live_settings import public_market, recorded_market
from smm_bt.app.settings import given_settings
from smm_bt.errors import UsageError
from strategy.loader import locate_strategy

#: How the settings with an option of their own are named.
_OPTIONS = {"TRADING_MODE": "--mode", "SYMBOLS": "--symbols", "TIMEFRAME": "--timeframe", "STRATEGY_FILE": "--strategy"}
#: May be given anew to a run that goes on: folders, keys, and how fast and where its embedded exchange runs.
_FREE = {"RUNS_DIR", "DATA_DIR", "BINANCE_TESTNET_API_KEY", "BINANCE_TESTNET_API_SECRET"}
_FREE_OF_EMBEDDED = {"speed", "address"}
#: Market rules count on both markets, the other options of the market on the embedded exchange only.
_ANY_MARKET = {"exchange_info", "brackets"}


@dataclass(frozen=True)
class Given:
    """The options and ``--set`` pairs of the command line, by the setting's name, and the market's, by its field."""

    options: Mapping[str, Any] = field(default_factory=dict)
    pairs: Mapping[str, Any] = field(default_factory=dict)
    market: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """Return all settings that were given; an option goes before ``--set``."""
        return {**self.pairs, **self.options}

    @property
    def embedded_only(self) -> list[str]:
        """Return the options that only the embedded exchange knows, as they are written."""
        return [_written(name) for name in self.market if name not in _ANY_MARKET | {"name"}]

    @property
    def chose_embedded(self) -> bool:
        """Whether the run trades on the embedded exchange because of such an option alone."""
        return bool(self.embedded_only) and "name" not in self.market

    def choice(self) -> MarketChoice:
        """Return the market to trade on: the one named, else the embedded exchange if an option belongs to it.

        Raises:
            UsageError: an option would have no effect there.
        """
        chosen = EMBEDDED if self.embedded_only else BINANCE
        symbols = given_settings(self.settings).get("SYMBOLS") or ()
        choice = MarketChoice(**{"name": chosen, **self.market}, symbols=tuple(symbols))
        useless = [name for name in ("mark", "funding", "seed", *_ANY_MARKET) if choice.address and name in self.market]
        if useless:
            raise UsageError(
                f"{_written(useless[0])} is for an exchange that is still to be started, and --address names one that "
                "runs; give it to that one (smm-bt emulator)."
            )
        if choice.candles and "seed" in self.market:
            raise UsageError("--seed makes a market, and with --candles none is made: the files are played. Use one.")
        return choice

    def word(self, name: str) -> str:
        """Return a setting as it was given, for a sentence."""
        if name in self.options:
            return f"{_OPTIONS[name]} {self.options[name]}"
        return f"--set {name}={self.pairs[name]}"


def refuse_contradictions(given: Given, journal: Journal) -> None:
    """Refuse what was named on the command line and is not what the run was started with: it would have no effect.

    Environment, ``.env`` and ``smm.toml`` may have changed; the run keeps what it recorded.

    Raises:
        UsageError: the option, the run's value, and what to do.
    """
    info, recorded = journal.run_info(), journal.settings()
    for name, value in given_settings(given.settings).items():
        if name not in _FREE and not _is_the_runs(name, value, info, recorded):
            had = info.strategy_file if name == "STRATEGY_FILE" else recorded.get(name)
            raise _contradiction(journal, given.word(name), had)
    _refuse_another_market(given, journal)


def _is_the_runs(name: str, value: Any, info: RunInfo, recorded: Mapping[str, object]) -> bool:
    if name == "STRATEGY_FILE" and value is not None:
        # the same path with another content is told by its hash, in a sentence of its own
        located = locate_strategy(Path(value))
        return located.path == Path(info.strategy_file) or located.sha256 == info.strategy_sha256
    return bool(value == recorded.get(name))


def _refuse_another_market(given: Given, journal: Journal) -> None:
    had = public_market(recorded_market(journal, None))
    trades_embedded = had["name"] == EMBEDDED
    probe = public_market(MarketChoice(**{**given.market, "name": EMBEDDED}))
    for name in given.market:
        value = given.market["name"] if name == "name" else probe[name]
        if trades_embedded and name in _FREE_OF_EMBEDDED:
            continue
        if not trades_embedded and name not in _ANY_MARKET | {"name"}:
            raise _contradiction(journal, _shown(name, value), f"--market {had['name']}")
        if value != had[name]:
            raise _contradiction(journal, _shown(name, value), had[name])


def _shown(name: str, value: object) -> str:
    return f"{_written(name)} {_plain(value)}"


def _written(name: str) -> str:
    return "--market" if name == "name" else f"--{name.replace('_', '-')}"


def _contradiction(journal: Journal, word: str, had: object) -> UsageError:
    return UsageError(
        f"{word}: the run in {journal.path.parent} was started with {_plain(had)} and keeps that. Leave the option out "
        "to go on with it, or start a new run."
    )


def _plain(value: object) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, float):
        return "max" if math.isinf(value) else f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)
