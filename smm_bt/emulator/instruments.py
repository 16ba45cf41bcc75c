"""What may be traded and within which limits: exchange information, filters and leverage brackets."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from smm_bt.emulator.exact import exact

ORDER_TYPES = [
    "LIMIT",
    "MARKET",
    "STOP",
    "STOP_MARKET",
    "TAKE_PROFIT",
    "TAKE_PROFIT_MARKET",
    "TRAILING_STOP_MARKET",
]
TIMES_IN_FORCE = ["GTC", "IOC", "FOK", "GTX", "GTD"]


@dataclass(frozen=True, slots=True)
class Bracket:
    """One leverage bracket: notional range in USDT, highest leverage, maintenance rate and amount."""

    number: int
    max_leverage: int
    floor: Decimal
    cap: Decimal
    maintenance_rate: Decimal
    maintenance_amount: Decimal


@dataclass(frozen=True, slots=True)
class QuantityRule:
    """Smallest, largest and grid step of an order quantity, in the base asset."""

    smallest: Decimal
    largest: Decimal
    step: Decimal


@dataclass(frozen=True)
class Instrument:
    """One contract: the venue's own description plus its filters as exact numbers."""

    description: Mapping[str, Any]
    brackets: tuple[Bracket, ...]

    @property
    def symbol(self) -> str:
        """The venue's name of the contract, such as BTCUSDT."""
        return str(self.description["symbol"])

    @cached_property
    def _filters(self) -> dict[str, Mapping[str, Any]]:
        return {row["filterType"]: row for row in self.description["filters"]}

    def _number(self, filter_type: str, field: str, default: str) -> Decimal:
        return exact(str(self._filters.get(filter_type, {}).get(field, default)))

    def _quantity_rule(self, filter_type: str) -> QuantityRule:
        lowest, highest = ("0", "1e15")
        return QuantityRule(
            self._number(filter_type, "minQty", lowest),
            self._number(filter_type, "maxQty", highest),
            self._number(filter_type, "stepSize", "0"),
        )

    @cached_property
    def lot(self) -> QuantityRule:
        """LOT_SIZE, for every order but market orders."""
        return self._quantity_rule("LOT_SIZE")

    @cached_property
    def market_lot(self) -> QuantityRule:
        """MARKET_LOT_SIZE, or LOT_SIZE where the venue gives none."""
        return self._quantity_rule("MARKET_LOT_SIZE") if "MARKET_LOT_SIZE" in self._filters else self.lot

    @cached_property
    def tick(self) -> Decimal:
        """Grid step of a price."""
        return self._number("PRICE_FILTER", "tickSize", "0")

    @cached_property
    def price_range(self) -> tuple[Decimal, Decimal]:
        """Lowest and highest price of PRICE_FILTER."""
        return self._number("PRICE_FILTER", "minPrice", "0"), self._number("PRICE_FILTER", "maxPrice", "1e15")

    @cached_property
    def min_notional(self) -> Decimal:
        """MIN_NOTIONAL in USDT."""
        return self._number("MIN_NOTIONAL", "notional", "0")

    @cached_property
    def percent_price(self) -> tuple[Decimal, Decimal]:
        """PERCENT_PRICE multipliers of the mark price: lowest for sells, highest for buys."""
        return (
            self._number("PERCENT_PRICE", "multiplierDown", "0"),
            self._number("PERCENT_PRICE", "multiplierUp", "1e9"),
        )

    @cached_property
    def max_open_orders(self) -> int:
        """MAX_NUM_ORDERS."""
        return int(self._number("MAX_NUM_ORDERS", "limit", "200"))

    @cached_property
    def quantity_decimals(self) -> int:
        """Digits after the point a quantity may have."""
        return int(self.description.get("quantityPrecision", 8))

    @cached_property
    def liquidation_fee_rate(self) -> Decimal:
        """Clearance fee of a cross-margin liquidation, a fraction of the notional."""
        return exact(str(self.description.get("liquidationFee", "0.0125")))

    def bracket_of(self, notional: Decimal) -> Bracket:
        """Return the bracket that holds ``notional``; beyond the last one, the last one."""
        for bracket in self.brackets:
            if notional <= bracket.cap:
                return bracket
        return self.brackets[-1]

    def max_notional(self, leverage: int) -> Decimal:
        """Return the largest notional still allowed at ``leverage`` (zero when the leverage is too high)."""
        caps = [bracket.cap for bracket in self.brackets if bracket.max_leverage >= leverage]
        return max(caps, default=Decimal(0))

    @property
    def max_leverage(self) -> int:
        """Highest leverage of the smallest bracket."""
        return max(bracket.max_leverage for bracket in self.brackets)


def load_instruments(exchange_info: Path | None, brackets: Path | None) -> dict[str, Instrument]:
    """Read the venue's own files where given, the small built-in dated table otherwise."""
    table = _built_in_table()
    descriptions = (
        _read_json(exchange_info)["symbols"]
        if exchange_info
        else [_describe(symbol, row) for symbol, row in table.items()]
    )
    ladders = (
        {row["symbol"]: row["brackets"] for row in _read_json(brackets)}
        if brackets
        else {symbol: _ladder(row["brackets"]) for symbol, row in table.items()}
    )
    fallback = ladders.get("BTCUSDT") or _ladder(table["BTCUSDT"]["brackets"])
    return {
        row["symbol"]: Instrument(row, _brackets(ladders.get(row["symbol"]) or fallback))
        for row in descriptions
        if row.get("symbol")
    }


def _read_json(path: Path) -> Any:
    body = path.read_bytes()
    return json.loads(gzip.decompress(body) if path.suffix == ".gz" else body)


def _built_in_table() -> dict[str, dict[str, Any]]:
    text = resources.files("smm_bt.emulator").joinpath("venue_table.json").read_text(encoding="utf-8")
    symbols: dict[str, dict[str, Any]] = json.loads(text)["symbols"]
    return symbols


def _ladder(rows: Iterable[list[float]]) -> list[dict[str, float]]:
    names = ("initialLeverage", "notionalFloor", "notionalCap", "maintMarginRatio", "cum")
    return [{"bracket": number, **dict(zip(names, row, strict=True))} for number, row in enumerate(rows, start=1)]


def _brackets(ladder: Iterable[Mapping[str, Any]]) -> tuple[Bracket, ...]:
    rows = (
        Bracket(
            int(row["bracket"]),
            int(row["initialLeverage"]),
            exact(row["notionalFloor"]),
            exact(row["notionalCap"]),
            exact(row["maintMarginRatio"]),
            exact(row["cum"]),
        )
        for row in ladder
    )
    return tuple(sorted(rows, key=lambda bracket: bracket.floor))


def _describe(symbol: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Write one row of the built-in table out as the venue's exchange information does."""
    pair = symbol.partition("_")[0]
    return {
        "symbol": symbol,
        "pair": pair,
        "contractType": row["contract"],
        "deliveryDate": row["delivery"],
        "onboardDate": row["listed"],
        "status": "TRADING",
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": pair.removesuffix("USDT"),
        "quoteAsset": "USDT",
        "marginAsset": "USDT",
        "pricePrecision": row["precision"][0],
        "quantityPrecision": row["precision"][1],
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "triggerProtect": row["trigger_protect"],
        "liquidationFee": row["liquidation_fee"],
        "marketTakeBound": row["take_bound"],
        "filters": _filter_rows(row),
        "orderTypes": ORDER_TYPES,
        "timeInForce": TIMES_IN_FORCE,
    }


def _filter_rows(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    quantity = ("minQty", "maxQty", "stepSize")
    return [
        {"filterType": "PRICE_FILTER"} | dict(zip(("minPrice", "maxPrice", "tickSize"), row["price"], strict=True)),
        {"filterType": "LOT_SIZE"} | dict(zip(quantity, row["lot"], strict=True)),
        {"filterType": "MARKET_LOT_SIZE"} | dict(zip(quantity, row["market_lot"], strict=True)),
        {"filterType": "MAX_NUM_ORDERS", "limit": row["max_orders"]},
        {"filterType": "MIN_NOTIONAL", "notional": row["min_notional"]},
        {
            "filterType": "PERCENT_PRICE",
            "multiplierDown": row["percent"][0],
            "multiplierUp": row["percent"][1],
            "multiplierDecimal": "4",
        },
    ]
