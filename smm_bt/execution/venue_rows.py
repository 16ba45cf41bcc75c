"""The venue's JSON as records with exact numbers; a row that lacks something is an answer that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

from smm_bt.errors import VenueError
from smm_bt.execution.venue_errors import Failure, Kind, VenueFault

Row = Mapping[str, Any]
Record = TypeVar("Record")

#: Order states after which nothing more is filled.
_ENDED = frozenset({"FILLED", "CANCELED", "EXPIRED", "EXPIRED_IN_MATCH", "REJECTED"})


class VenueOrder(NamedTuple):
    """One order as the venue tells it; ``side`` +1 buy, −1 sell, quantities in the base asset, times in ms."""

    venue_id: int
    client_id: str
    symbol: str
    side: int
    status: str
    qty: Decimal
    executed_qty: Decimal
    average_price: Decimal
    update_ms: int
    raw: Row

    @property
    def ended(self) -> bool:
        """Whether nothing more will be filled."""
        return self.status in _ENDED


class VenueFill(NamedTuple):
    """One execution; ``fee_usdt`` is what was charged."""

    trade_id: int
    venue_id: int
    symbol: str
    side: int
    qty: Decimal
    price: Decimal
    fee_usdt: Decimal
    time_ms: int


class VenuePosition(NamedTuple):
    """One open position; ``position_side`` is BOTH in one-way mode."""

    symbol: str
    position_side: str
    signed_qty: Decimal
    entry_price: Decimal
    update_ms: int


class AccountState(NamedTuple):
    """USDT of the account and the signed quantity of every symbol that is not flat."""

    wallet_usdt: Decimal
    available_usdt: Decimal
    quantities: dict[str, Decimal]


class BookTicker(NamedTuple):
    """Best bid and ask, and when the venue last saw them move."""

    bid: Decimal
    ask: Decimal
    time_ms: int


class WaitingStop(NamedTuple):
    """A conditional order; ``status`` is the Algo service's, ``child_id`` the order it became, or 0."""

    algo_id: int
    client_id: str
    symbol: str
    side: int
    qty: Decimal
    trigger_price: Decimal
    status: str
    child_id: int


class IncomeRow(NamedTuple):
    """One change of the wallet, signed, in USDT."""

    symbol: str
    kind: str
    amount_usdt: Decimal
    time_ms: int
    transaction_id: str


class Kline(NamedTuple):
    """One candle; prices as floats, because candles live in floats."""

    open_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float


def parsed(request: str, parse: Callable[[Any], Record], answer: Any) -> Record:
    """Return ``parse(answer)``.

    Raises:
        VenueFault: the answer lacks a field or holds something else than expected.
    """
    try:
        return parse(answer)
    except (KeyError, TypeError, ValueError, ArithmeticError, IndexError, AttributeError) as problem:
        what = f"an answer without what was asked for ({type(problem).__name__}: {problem})"
        raise VenueFault(request, Failure(Kind.GARBLED, what)) from None


def order_row(row: Row) -> VenueOrder:
    """Read an order."""
    return VenueOrder(
        venue_id=int(row["orderId"]),
        client_id=str(row["clientOrderId"]),
        symbol=str(row["symbol"]),
        side=_side(row),
        status=str(row["status"]),
        qty=Decimal(row["origQty"]),
        executed_qty=Decimal(row["executedQty"]),
        average_price=Decimal(row["avgPrice"]),
        update_ms=int(row["updateTime"]),
        raw=row,
    )


def fill_row(row: Row) -> VenueFill:
    """Read one own trade; a fee in another coin cannot be booked in USDT."""
    fee = Decimal(row["commission"])
    if fee and row["commissionAsset"] != "USDT":
        raise VenueError(
            f"The venue charges fees in {row['commissionAsset']}; switch that off in the account's settings, "
            "so that fees are paid in USDT."
        )
    return VenueFill(
        trade_id=int(row["id"]),
        venue_id=int(row["orderId"]),
        symbol=str(row["symbol"]),
        side=_side(row),
        qty=Decimal(row["qty"]),
        price=Decimal(row["price"]),
        fee_usdt=fee,
        time_ms=int(row["time"]),
    )


def position_row(row: Row) -> VenuePosition:
    """Read a position."""
    return VenuePosition(
        symbol=str(row["symbol"]),
        position_side=str(row["positionSide"]),
        signed_qty=Decimal(row["positionAmt"]),
        entry_price=Decimal(row["entryPrice"]),
        update_ms=int(row["updateTime"]),
    )


def account_state(body: Row) -> AccountState:
    """Read the account; one that was never used has no USDT row and holds nothing."""
    usdt: Row = next((row for row in body["assets"] if row["asset"] == "USDT"), {})
    quantities = {str(row["symbol"]): Decimal(row["positionAmt"]) for row in body["positions"]}
    return AccountState(
        wallet_usdt=Decimal(usdt.get("walletBalance", "0")),
        available_usdt=Decimal(usdt.get("availableBalance", "0")),
        quantities={symbol: qty for symbol, qty in quantities.items() if qty},
    )


def ticker_row(row: Row) -> BookTicker:
    """Read bid, ask and their time."""
    return BookTicker(Decimal(row["bidPrice"]), Decimal(row["askPrice"]), int(row["time"]))


def ticker_rows(body: list[Row]) -> dict[str, BookTicker]:
    """Read the rows of all symbols; one without prices, of a symbol that is not traded, is left out."""
    found: dict[str, BookTicker] = {}
    for row in body:
        with suppress(KeyError, TypeError, ValueError, ArithmeticError):
            found[str(row["symbol"])] = ticker_row(row)
    return found


def stop_row(row: Row) -> WaitingStop:
    """Read a conditional order."""
    return WaitingStop(
        algo_id=int(row["algoId"]),
        client_id=str(row["clientAlgoId"]),
        symbol=str(row["symbol"]),
        side=_side(row),
        qty=Decimal(row["quantity"] or "0"),
        trigger_price=Decimal(row["triggerPrice"]),
        status=str(row["algoStatus"]),
        child_id=int(row.get("actualOrderId") or 0),
    )


def income_row(row: Row) -> IncomeRow:
    """Read one change of the wallet."""
    amount = Decimal(row["income"]) if row["asset"] == "USDT" else Decimal(0)
    return IncomeRow(str(row["symbol"]), str(row["incomeType"]), amount, int(row["time"]), str(row["tranId"]))


def kline_rows(rows: list[list[Any]]) -> list[Kline]:
    """Read candles; repeated ones are dropped and the rest is put in order."""
    candles = {int(row[0]): Kline(int(row[0]), *(float(value) for value in row[1:6])) for row in rows}
    return [candles[open_ms] for open_ms in sorted(candles)]


def _side(row: Row) -> int:
    return {"BUY": 1, "SELL": -1}[row["side"]]
