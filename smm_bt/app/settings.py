"""Settings: command line > environment > .env > smm.toml > default, as one frozen, validated object."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, field_validator

from feeds.timeframes import TIMEFRAMES_MS
from smm_bt.app.environment import misspelt_in_environment, read_dotenv, read_environment
from smm_bt.errors import SettingsError
from smm_bt.model import TradingMode

_TOML_TABLES = {"strategy"}
_COMMAND_LINE = "command line"
#: Elsewhere an empty value is as if it were not given.
_EMPTY_SAYS_SOMETHING = {"TRADING_MODE", "STOP_LOSS_PERCENT", "STRATEGY_FILE"}
_NUMBERS = ("INITIAL_BALANCE_USDT", "TAKER_FEE_RATE", "SLIPPAGE_BPS", "STOP_LOSS_PERCENT", "WARMUP_CANDLES")
_SECRETS = ("BINANCE_TESTNET_API_KEY", "BINANCE_TESTNET_API_SECRET")


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _absent(value: Any) -> Any:
    return None if isinstance(value, str) and value.strip().lower() in {"", "none", "off"} else value


def plain_symbol(name: str) -> str:
    """Return the venue's name for a symbol written another way: ``BTC/USDT:USDT`` is ``BTCUSDT``."""
    return re.sub(r"[/-]", "", name.upper().partition(":")[0])


class Settings(BaseModel):
    """Every setting of SPEC §11; leverage and risk fraction are constants of :mod:`smm_bt.model`, not settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    TRADING_MODE: TradingMode = TradingMode.PAPER
    CLOSE_ON_OPPOSITE_SIGNAL: bool = True
    SYMBOLS: Annotated[tuple[str, ...], BeforeValidator(_split)] = ("BTCUSDT",)
    TIMEFRAME: str | None = None
    STRATEGY_FILE: Annotated[Path | None, BeforeValidator(_absent)] = None
    INITIAL_BALANCE_USDT: float = Field(10_000.0, gt=0, allow_inf_nan=False)
    TAKER_FEE_RATE: float = Field(0.0005, ge=0, lt=1, allow_inf_nan=False)
    SLIPPAGE_BPS: float = Field(0.0, ge=0, lt=10_000, allow_inf_nan=False)
    STOP_LOSS_PERCENT: Annotated[float | None, BeforeValidator(_absent)] = Field(
        None, gt=0, lt=100, allow_inf_nan=False
    )
    WARMUP_CANDLES: int = Field(1500, ge=1)
    DATA_DIR: Path = Path("data")
    RUNS_DIR: Path = Path("runs")
    BINANCE_TESTNET_API_KEY: SecretStr | None = None
    BINANCE_TESTNET_API_SECRET: SecretStr | None = None
    STRATEGY_PARAMETERS: dict[str, Any] = Field(default_factory=dict)

    @field_validator("TIMEFRAME")
    @classmethod
    def _known_timeframe(cls, value: str | None) -> str | None:
        if value is not None and value not in TIMEFRAMES_MS:
            raise ValueError(f"use one of {', '.join(TIMEFRAMES_MS)}")
        return value

    @field_validator(*_NUMBERS, mode="before")
    @classmethod
    def _no_switch(cls, value: Any) -> Any:
        if isinstance(value, bool):  # pydantic would make 1 of true
            raise ValueError("it must be a number, and true and false are none")  # noqa: TRY004 -- what pydantic reports
        return value

    @field_validator("SYMBOLS")
    @classmethod
    def _plain_symbols(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if (plain := plain_symbol(name)) != name.upper():
                raise ValueError(f"{name} is not how the venue names it; did you mean {plain}?")
        names = tuple(name.upper() for name in value)
        if not names or len(set(names)) != len(names):
            raise ValueError("name at least one symbol, each once, for example BTCUSDT,ETHUSDT")
        return names

    def public(self) -> dict[str, Any]:
        """Return the settings as plain JSON values with secrets masked, for journal and report."""
        values: dict[str, Any] = self.model_dump(mode="json")
        return {name: ("***" if name in _SECRETS and value else value) for name, value in values.items()}


def load_settings(
    overrides: Mapping[str, Any] | None = None,
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings in force.

    Args:
        overrides: values given on the command line, by setting name; None and empty values are as if not given.
        folder: where ``.env`` and ``smm.toml`` are looked for; the current folder by default.
        environment: the process environment by default.

    Raises:
        SettingsError: an unknown key in ``.env`` or ``smm.toml``, a misspelt one in the environment, a line of
            ``.env`` that cannot be read, or a value that is malformed or out of range.
    """
    return _validated(settings_by_source(overrides, folder=folder, environment=environment))


def settings_by_source(
    overrides: Mapping[str, Any] | None = None,
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> dict[str, tuple[Any, str]]:
    """Return each setting that is given, with where it comes from: ``command line``, ``environment``, a file."""
    folder = folder or Path()
    names = set(Settings.model_fields) - {"STRATEGY_PARAMETERS"}
    found: dict[str, tuple[Any, str]] = {}
    for key, value in _read_toml(folder / "smm.toml").items():
        name = _known(key, names | {"STRATEGY_PARAMETERS"}, "smm.toml")
        if not _is_not_given(name, value):
            found[name] = (value, "smm.toml")
    for key, value in _read_dotenv(folder / ".env").items():
        name = _known(key, names, ".env")
        if value:
            found[name] = (value, ".env")
    _refuse_misspelt(names, environment)
    found |= {key: (value, "environment") for key, value in read_environment(names, environment).items()}
    given = {key: value for key, value in (overrides or {}).items() if not _is_not_given(key, value)}
    found |= {key: (value, _COMMAND_LINE) for key, value in given.items()}
    return _without_unused_keys(found)


def _refuse_misspelt(names: set[str], environment: Mapping[str, str] | None) -> None:
    for name, meant in misspelt_in_environment(names, environment):
        raise SettingsError(
            f"environment: there is no setting {name}; did you mean {meant}? If it is another program's, start this "
            f"one without it: env -u {name} smm-bt …"
        )


def given_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings named on the command line, checked, as the plain values a journal keeps of them.

    Raises:
        SettingsError: a value that is malformed or out of range.
    """
    found = {name: (value, _COMMAND_LINE) for name, value in given.items() if not _is_not_given(name, value)}
    public = _validated(found).public()
    return {name: public[name] for name in found}


def _is_not_given(name: str, value: Any) -> bool:
    """Say whether a value stands for none; an empty mode is a wrong mode, and an empty stop or strategy means none."""
    return value is None or (value == "" and name not in _EMPTY_SAYS_SOMETHING)


def _without_unused_keys(found: dict[str, tuple[Any, str]]) -> dict[str, tuple[Any, str]]:
    """Drop the venue's keys unless the mode needs them: PAPER does not even load a configured key."""
    mode = found.get("TRADING_MODE", (TradingMode.PAPER, ""))[0]
    if mode == TradingMode.TESTNET:
        return found
    return {key: entry for key, entry in found.items() if key not in _SECRETS}


def known_setting(key: str, source: str) -> str:
    """Return the setting's proper name for a key given by a person; SettingsError with "did you mean" otherwise."""
    return _known(key, set(Settings.model_fields) - {"STRATEGY_PARAMETERS"}, source)


def _read_dotenv(path: Path) -> dict[str, str]:
    try:
        return read_dotenv(path)
    except (OSError, ValueError) as problem:
        raise SettingsError(f"{path.name}: cannot be read ({problem}); repair it or remove it.") from problem


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as problem:
        raise SettingsError(f"{path.name}: cannot be read ({problem}); repair it or remove it.") from problem
    values = {key: value for key, value in content.items() if key not in _TOML_TABLES}
    strategy = content.get("strategy", {})
    unknown = set(strategy) - {"parameters"} if isinstance(strategy, dict) else {"strategy"}
    if unknown:
        raise SettingsError(
            f"smm.toml: [strategy] holds {', '.join(sorted(unknown))}, but only [strategy.parameters] is known."
        )
    if "parameters" in strategy:
        values["STRATEGY_PARAMETERS"] = strategy["parameters"]
    return values


def _known(key: str, names: set[str], source: str) -> str:
    if key.upper() in names:
        return key.upper()
    close = difflib.get_close_matches(key.upper(), names, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(names))}."
    raise SettingsError(f"{source}: there is no setting {key}; {hint}")


def _validated(found: Mapping[str, tuple[Any, str]]) -> Settings:
    try:
        return Settings(**{key: value for key, (value, _) in found.items()})
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_input=False)[0]
        key = str(first["loc"][0])
        value, source = found.get(key, ("", "default"))
        shown = "***" if key in _SECRETS else repr(value)
        raise SettingsError(f"{key}={shown} ({source}): {_advice(key, first)}") from None


def _advice(key: str, error: Any) -> str:
    if key == "TRADING_MODE":
        return "there are two modes, PAPER (virtual money) and TESTNET (the venue's demo account); no other exists."
    kind = error["type"]
    context = error.get("ctx", {})
    bounds = {
        "greater_than": "must be greater than {gt}",
        "greater_than_equal": "must be at least {ge}",
        "less_than": "must be less than {lt}",
        "less_than_equal": "must be at most {le}",
    }
    if kind in bounds:
        return bounds[kind].format(**context) + "."
    if kind == "value_error":
        return f"{context['error']}."
    return f"{error['msg'][:1].lower()}{error['msg'][1:]}."
