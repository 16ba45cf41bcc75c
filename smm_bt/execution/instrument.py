"""What the venue allows for one symbol: order filters and leverage brackets, read from its own JSON, kept exact."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from smm_bt.model import LEVERAGE

ZERO = Decimal(0)


class LeverageBracket(NamedTuple):
    """One tier of the venue's leverage table.

    Notionals are USDT; ``maintenance_amount`` is what the venue calls ``cum``.
    """

    floor: Decimal
    cap: Decimal
    initial_leverage: int
    maintenance_margin_rate: Decimal
    maintenance_amount: Decimal


class FloatBracket(NamedTuple):
    """The same tier in floats, for the liquidation formula inside the ledger."""

    floor: float
    cap: float
    rate: float
    amount: float


@dataclass(frozen=True)
class Instrument:
    """Filters and brackets of one symbol; quantities in the base asset, prices and notionals in USDT.

    ``step``, ``min_qty`` and ``max_qty`` are those of market orders.
    """

    symbol: str
    price_tick: Decimal
    step: Decimal
    min_qty: Decimal
    max_qty: Decimal
    min_notional: Decimal
    brackets: tuple[LeverageBracket, ...]
    float_brackets: tuple[FloatBracket, ...] = field(init=False, repr=False, compare=False)
    qty_decimals: int = field(init=False, repr=False, compare=False)
    min_steps: int = field(init=False, repr=False, compare=False)
    max_steps: int = field(init=False, repr=False, compare=False)
    float_step: float = field(init=False, repr=False, compare=False)
    float_cap: float = field(init=False, repr=False, compare=False)
    float_min_notional: float = field(init=False, repr=False, compare=False)
    _step_ratio: tuple[int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tiers = tuple(FloatBracket(float(b[0]), float(b[1]), float(b[3]), float(b[4])) for b in self.brackets)
        object.__setattr__(self, "float_brackets", tiers)
        exponent = self.step.normalize().as_tuple().exponent
        object.__setattr__(self, "qty_decimals", max(0, -int(exponent)))
        object.__setattr__(self, "min_steps", max(1, int(-(-self.min_qty // self.step))))
        object.__setattr__(self, "max_steps", int(self.max_qty // self.step))
        object.__setattr__(self, "float_step", float(self.step))
        object.__setattr__(self, "float_min_notional", float(self.min_notional))
        object.__setattr__(self, "float_cap", float(self.notional_cap()))
        object.__setattr__(self, "_step_ratio", self.step.as_integer_ratio())

    @property
    def max_leverage(self) -> int:
        """The highest leverage any bracket of the symbol allows."""
        return max(bracket.initial_leverage for bracket in self.brackets)

    def notional_cap(self, leverage: int = LEVERAGE) -> Decimal:
        """Return the largest notional the brackets allow at ``leverage``; zero when none does."""
        return max((bracket.cap for bracket in self.brackets if bracket.initial_leverage >= leverage), default=ZERO)

    def qty_of(self, steps: int) -> float:
        """Return ``steps`` market-order steps as the nearest float: dividing whole numbers rounds once."""
        numerator, denominator = self._step_ratio
        return steps * numerator / denominator

    def floor_qty(self, qty: Decimal) -> Decimal:
        """Return ``qty`` rounded down to the market-order step."""
        return qty // self.step * self.step

    def clean_qty(self, qty: float) -> float:
        """Return ``qty`` without the dust float addition leaves, at the step's number of decimals."""
        return round(qty, self.qty_decimals)


def instrument_from_venue(symbol_info: Mapping[str, Any], brackets: Iterable[Mapping[str, Any]]) -> Instrument:
    """Build an :class:`Instrument` from one entry of ``exchangeInfo.symbols`` and its ``leverageBracket`` rows.

    A market order must pass both lot filters, so the coarser step, the larger minimum and the smaller maximum of
    MARKET_LOT_SIZE and LOT_SIZE are taken; a step of 0 in MARKET_LOT_SIZE means the filter is off.

    Raises:
        KeyError, ValueError: a filter or a field is missing or not a number.
    """
    filters = {entry["filterType"]: entry for entry in symbol_info["filters"]}
    lots = [filters["LOT_SIZE"]]
    market_lot = filters.get("MARKET_LOT_SIZE")
    if market_lot is not None and Decimal(market_lot["stepSize"]) > 0:
        lots.append(market_lot)
    tiers = [_bracket(row) for row in brackets]
    if not tiers:
        raise ValueError("the leverage bracket table is empty")
    return Instrument(
        symbol=symbol_info["symbol"],
        price_tick=Decimal(filters["PRICE_FILTER"]["tickSize"]),
        step=max(Decimal(lot["stepSize"]) for lot in lots),
        min_qty=max(Decimal(lot["minQty"]) for lot in lots),
        max_qty=min(Decimal(lot["maxQty"]) for lot in lots),
        min_notional=_min_notional(filters),
        brackets=tuple(sorted(tiers)),
    )


def _min_notional(filters: Mapping[str, Mapping[str, Any]]) -> Decimal:
    entry = filters.get("MIN_NOTIONAL") or filters.get("NOTIONAL")
    if entry is None:
        return ZERO
    return Decimal(str(entry.get("notional", entry.get("minNotional", "0"))))


def _bracket(row: Mapping[str, Any]) -> LeverageBracket:
    return LeverageBracket(
        floor=Decimal(str(row["notionalFloor"])),
        cap=Decimal(str(row["notionalCap"])),
        initial_leverage=int(row["initialLeverage"]),
        maintenance_margin_rate=Decimal(str(row["maintMarginRatio"])),
        maintenance_amount=Decimal(str(row.get("cum", 0))),
    )


def liquidation_price(
    side: int, qty: float, entry_price: float, margin_usdt: float, brackets: Sequence[FloatBracket]
) -> float | None:
    """Return the isolated-margin liquidation price, or None when the price can fall to zero without reaching it.

    Long ``(entry·qty − margin − cum) / (qty·(1 − mmr))``, short ``(entry·qty + margin + cum) / (qty·(1 + mmr))``,
    with mmr and cum of the bracket the position's notional has *at that price* (the venue's published formula for
    isolated margin in one-way mode). The formula is continuous across brackets, so one of them fits its own result;
    beyond the table's last cap the last bracket is used.
    """
    notional = entry_price * qty
    price = 0.0
    for _, cap, rate, amount in brackets:
        if side > 0:
            price = (notional - margin_usdt - amount) / (qty * (1.0 - rate))
        else:
            price = (notional + margin_usdt + amount) / (qty * (1.0 + rate))
        if price * qty <= cap:
            break
    return price if price > 0.0 else None
