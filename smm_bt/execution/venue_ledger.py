"""The ledger of a run on a venue: the same books as everywhere, with the venue's prices, fees and funding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from smm_bt.execution.costs import Costs, NoStopLoss, TakerFee
from smm_bt.execution.instrument import Instrument
from smm_bt.execution.ledger import FillResult, FuturesLedger
from smm_bt.execution.venue_rows import VenueFill
from smm_bt.model import CloseReason, LedgerEntry


class Booked(NamedTuple):
    """What one execution did: the closed part (or None), the opened signed quantity, its fee, the entry before.

    ``size``, ``average`` and ``margin_usdt`` are the position's right after it: signed quantity, entry price, margin.
    """

    fill: VenueFill
    order_id: str
    reason: str
    closed: FillResult | None
    opened_qty: float
    open_fee_usdt: float
    entry_price: float
    size: float
    average: float
    margin_usdt: float


class _ToldFee(TakerFee):
    """The fee of the execution in hand, as the venue charged it."""

    def __init__(self) -> None:
        super().__init__(0.0)
        object.__setattr__(self, "_told", [0.0])

    def tell(self, fee_usdt: float) -> None:
        """Set the next fee."""
        self.__dict__["_told"][0] = fee_usdt

    def of(self, notional_usdt: float) -> float:
        """Return the fee that was told."""
        return float(self.__dict__["_told"][0])


class VenueLedger(FuturesLedger):
    """Books what the venue says happened, never what was expected to happen.

    Args:
        initial_balance_usdt: the wallet at the start of the run.
        instruments: filters and brackets by symbol.
        stop_loss: the optional stop, which here only says where the venue's stop order belongs.
    """

    def __init__(
        self, initial_balance_usdt: float, instruments: Mapping[str, Instrument], stop_loss: NoStopLoss
    ) -> None:
        self._fee = _ToldFee()
        super().__init__(initial_balance_usdt, instruments, Costs(fee=self._fee, stop_loss=stop_loss))

    def book(self, fill: VenueFill, order_id: str, reason: str) -> Booked:
        """Book one execution: first what it closes, then what it opens; its fee is split by quantity."""
        symbol, side, time_ms = fill.symbol, fill.side, fill.time_ms
        held = self.positions.get(symbol)
        qty, price, fee = float(fill.qty), float(fill.price), float(fill.fee_usdt)
        entry_price = held.entry_price if held is not None else 0.0
        closing = min(qty, held.qty) if held is not None and held.side == -side else 0.0
        opening = self.instruments[symbol].clean_qty(qty - closing)
        close_fee = fee * closing / qty
        closed: FillResult | None = None
        open_fee = 0.0
        if closing:
            self._fee.tell(close_fee)
            closed = self.close(symbol, price, time_ms, CloseReason(reason or CloseReason.MANUAL), order_id, closing)
        if opening:
            self._fee.tell(fee - close_fee)
            open_fee = self.open(symbol, side, opening, price, time_ms, order_id)
        after = self.standing(symbol)
        return Booked(fill, order_id, reason, closed, side * opening, open_fee, entry_price, *after)

    def standing(self, symbol: str) -> tuple[float, float, float]:
        """Return signed quantity, entry price and margin of what is held in ``symbol``; zeros when nothing is."""
        held = self.positions.get(symbol)
        return (held.signed_qty, held.entry_price, held.margin_usdt) if held is not None else (0.0, 0.0, 0.0)

    def book_funding(self, symbol: str, amount_usdt: float, time_ms: int) -> None:
        """Book a funding settlement the venue made, also one it tells after the position's end.

        One of a symbol in which this run has never held anything is an adjustment.
        """
        if not self.settle_told(symbol, amount_usdt, time_ms):
            self.adjust(amount_usdt, time_ms, symbol)

    def adjust(self, amount_usdt: float, time_ms: int, symbol: str = "") -> None:
        """Follow a change of the wallet that no fill and no funding explains, as entry ``adjustment``."""
        self.wallet_usdt += amount_usdt
        size, entry, _ = self.standing(symbol)
        self.entries.append(LedgerEntry(time_ms, "adjustment", symbol, amount_usdt, self.wallet_usdt, size, entry))
