"""What an endpoint is: a handler, what it costs and who may call it; and the table all of them are in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from smm_bt.emulator.exchange import Exchange
from smm_bt.emulator.parameters import Parameters

Handler = Callable[[Exchange, Parameters], Any]
Weight = int | Callable[[Parameters], int]

OPEN, KEY, SIGNED = "open", "key", "signed"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method and path of the REST interface.

    Args:
        handler: gets the exchange and the parameters, returns the JSON body.
        weight: request weight, or a function of the parameters.
        security: open, API key only, or signed.
        is_order: counts against the order limits.
    """

    handler: Handler
    weight: Weight = 1
    security: str = OPEN
    is_order: bool = False

    def cost(self, parameters: Parameters) -> int:
        """Return the weight of this request."""
        return self.weight if isinstance(self.weight, int) else self.weight(parameters)


Routes = dict[tuple[str, str], Endpoint]


def known_symbol(exchange: Exchange, parameters: Parameters) -> str:
    """Return the mandatory symbol, refusing unknown ones."""
    return exchange.instrument(parameters.text("symbol").upper()).symbol


def optional_symbol(exchange: Exchange, parameters: Parameters) -> str | None:
    """Return the symbol or None when none was sent."""
    return known_symbol(exchange, parameters) if "symbol" in parameters else None


def traded_symbols(exchange: Exchange, parameters: Parameters) -> list[str]:
    """Return the one symbol asked for, or every symbol with a market."""
    symbol = optional_symbol(exchange, parameters)
    if symbol is None:
        return list(exchange.market.symbols)
    return [symbol] if symbol in exchange.market.symbols else []


def in_time_range(parameters: Parameters, time_ms: int) -> bool:
    """Hold a time against the request's startTime and endTime, both inclusive."""
    start, end = parameters.optional_integer("startTime"), parameters.optional_integer("endTime")
    return (start is None or time_ms >= start) and (end is None or time_ms <= end)
