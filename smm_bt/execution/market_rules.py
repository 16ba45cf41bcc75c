"""Market rules offline: instruments from the venue's own JSON files, else from a small dated table of facts."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from smm_bt.errors import MarketDataError, UsageError
from smm_bt.execution.instrument import Instrument, instrument_from_venue
from smm_bt.model import LEVERAGE

_Rows = dict[str, Mapping[str, Any]]


def load_instruments(
    symbols: Iterable[str], exchange_info: Path | None = None, brackets: Path | None = None
) -> dict[str, Instrument]:
    """Return the instruments of ``symbols``.

    Args:
        symbols: names such as ``BTCUSDT``.
        exchange_info: a recorded ``GET /fapi/v1/exchangeInfo`` body, ``.json`` or ``.json.gz``; None takes the table.
        brackets: a recorded ``GET /fapi/v1/leverageBracket`` body; None takes the table.

    Raises:
        UsageError: a file or a symbol is not there, the symbol is not margined in USDT, or it does not allow the
            fixed leverage.
        MarketDataError: a file is not the venue's JSON.
    """
    table = _table()
    infos = _by_symbol(_listed_symbols(exchange_info), exchange_info) if exchange_info else _rows(table["symbols"])
    tiers = _by_symbol(_read(brackets), brackets) if brackets else _rows(table["brackets"])
    return {symbol: _instrument(symbol, infos, tiers, exchange_info, brackets) for symbol in symbols}


def known_symbols() -> list[str]:
    """Return the symbols of the built-in table."""
    return [row["symbol"] for row in _table()["symbols"]]


def _instrument(symbol: str, infos: _Rows, tiers: _Rows, info_file: Path | None, tier_file: Path | None) -> Instrument:
    info = _find(symbol, infos, info_file, "--exchange-info", "exchangeInfo")
    rows = _find(symbol, tiers, tier_file, "--brackets", "leverageBracket")
    if info.get("marginAsset", "USDT") != "USDT":
        raise UsageError(
            f"{symbol} is margined in {info['marginAsset']}, but the simulated account holds USDT; choose another."
        )
    try:
        instrument = instrument_from_venue(info, rows["brackets"])
    except (KeyError, TypeError, ValueError, ArithmeticError) as problem:
        raise MarketDataError(
            f"The market rules of {symbol} cannot be read ({type(problem).__name__}: {problem}); "
            "give the venue's own exchangeInfo and leverageBracket JSON."
        ) from problem
    if instrument.max_leverage < LEVERAGE:
        raise UsageError(
            f"{symbol} allows at most {instrument.max_leverage}x, below the fixed {LEVERAGE}x; choose another symbol."
        )
    return instrument


def _find(symbol: str, rows: _Rows, file: Path | None, option: str, what: str) -> Mapping[str, Any]:
    if symbol in rows:
        return rows[symbol]
    if file is not None:
        raise UsageError(f"{symbol} is not in {file.name} ({len(rows)} symbols); give a {what} file that has it.")
    raise UsageError(
        f"The market rules of {symbol} are not known offline (known: {', '.join(rows)}); "
        f"give them with {option} FILE, a recorded {what} answer of the venue."
    )


def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(files("smm_bt.execution").joinpath("market_rules.json").read_text("utf-8"))
    return table


def _rows(entries: Iterable[Mapping[str, Any]]) -> _Rows:
    return {entry["symbol"]: entry for entry in entries}


def _listed_symbols(file: Path) -> Any:
    body = _read(file)
    if isinstance(body, dict) and "symbols" in body:
        return body["symbols"]
    raise _not_the_venues(file)


def _by_symbol(entries: Any, file: Path | None) -> _Rows:
    listed = [entries] if isinstance(entries, dict) else entries
    try:
        return _rows(listed)
    except (KeyError, TypeError) as problem:
        raise _not_the_venues(file) from problem


def _read(file: Path) -> Any:
    if not file.is_file():
        raise UsageError(f"{file}: there is no such file; check the path.")
    try:
        raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        body = json.loads(raw)
    except (OSError, EOFError, ValueError) as problem:
        raise MarketDataError(
            f"{file.name}: cannot be read as JSON ({problem}); give a recorded answer of the venue."
        ) from problem
    if isinstance(body, list) or (isinstance(body, dict) and {"symbols", "brackets"} & body.keys()):
        return body
    raise _not_the_venues(file)


def _not_the_venues(file: Path | None) -> MarketDataError:
    name = file.name if file else "the built-in table"
    return MarketDataError(f"{name}: is JSON, but no exchangeInfo or leverageBracket answer; check which file it is.")
