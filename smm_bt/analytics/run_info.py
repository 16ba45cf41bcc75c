"""What a report must say about a run that its record does not hold: names, market, strategy, engine, settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

#: Under this name the options of a live run's market are kept among its settings.
MARKET = "MARKET"


def _nothing() -> Mapping[str, object]:
    return MappingProxyType({})


def _no_counts() -> Mapping[str, int]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """The circumstances of one run.

    Times are UTC milliseconds of candle opens. ``candles`` is the sum over all symbols; ``gaps`` counts holes and
    ``missing_candles`` the candles absent in them. ``conflicting_signals`` counts every row on which both entry
    flags were up. ``columns_from_cache`` names the symbols whose columns were read instead of computed,
    ``without_funding`` those no funding rates are known of; ``funding_modelled`` is True where there are none.
    ``remarks`` are further sentences for the notes of the report. ``settings`` must already be masked: nothing here
    looks for secrets.
    """

    run_id: str
    mode: str
    market_source: str
    symbols: tuple[str, ...]
    timeframe: str
    timeframe_ms: int
    first_candle_ms: int | None
    last_candle_ms: int | None
    candles: int
    strategy_file: str
    strategy_sha256: str
    strategy_is_reference: bool
    engine: str
    engine_reason: str = ""
    has_profit_target: bool = True
    funding_modelled: bool = False
    without_funding: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    gaps: int = 0
    missing_candles: int = 0
    conflicting_signals: int = 0
    candles_by_symbol: Mapping[str, int] = field(default_factory=_no_counts)
    settings: Mapping[str, object] = field(default_factory=_nothing)
    leverage: int = 20
    risk_fraction: float = 0.20
    columns_from_cache: tuple[str, ...] = ()
    stop_loss_percent: float | None = None
    started_ms: int | None = None
    finished_ms: int | None = None
