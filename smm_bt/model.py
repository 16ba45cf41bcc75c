"""The words all layers share: modes, order states, sides, reasons and the frozen records of a run."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

#: Fixed by the product, not settings: every entry is made at 20x with 20 % of the free balance as margin.
LEVERAGE = 20
RISK_FRACTION = Decimal("0.20")


class TradingMode(StrEnum):
    """Where orders go: virtual money or the venue's demo account. There is no third member."""

    PAPER = "PAPER"
    TESTNET = "TESTNET"


class CloseReason(StrEnum):
    """Why a position was closed (SPEC §5.10); every trade carries exactly one."""

    PROFIT_TARGET = "profit_target"
    OPPOSITE_SIGNAL = "opposite_signal"
    STOP_LOSS = "stop_loss"
    LIQUIDATION = "liquidation"
    MANUAL = "manual"
    ERROR = "error"


class OrderState(StrEnum):
    """The life of one order, the same in every mode."""

    CREATED = "created"
    SUBMITTED = "submitted"
    ACCEPTED = "accepted"
    PARTIALLY_FILLED = "partially_filled"
    UNKNOWN = "unknown"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"


_S = OrderState
_ENDINGS = frozenset({_S.FILLED, _S.CANCELED, _S.EXPIRED, _S.REJECTED})

#: Which state may follow which. UNKNOWN means "sent, and no answer came": it is left only by asking the venue.
ORDER_TRANSITIONS: Mapping[OrderState, frozenset[OrderState]] = MappingProxyType(
    {
        _S.CREATED: frozenset({_S.SUBMITTED, _S.REJECTED, _S.CANCELED}),
        _S.SUBMITTED: frozenset({_S.ACCEPTED, _S.PARTIALLY_FILLED, _S.UNKNOWN}) | _ENDINGS,
        _S.UNKNOWN: frozenset({_S.SUBMITTED, _S.ACCEPTED, _S.PARTIALLY_FILLED}) | _ENDINGS,
        _S.ACCEPTED: frozenset({_S.PARTIALLY_FILLED}) | _ENDINGS,
        _S.PARTIALLY_FILLED: frozenset({_S.PARTIALLY_FILLED, _S.FILLED, _S.CANCELED, _S.EXPIRED}),
        _S.FILLED: frozenset(),
        _S.CANCELED: frozenset(),
        _S.EXPIRED: frozenset(),
        _S.REJECTED: frozenset(),
    }
)


def side_name(side: int) -> str:
    """Return ``long`` for +1 and ``short`` for −1."""
    return "long" if side > 0 else "short"


class Trade(NamedTuple):
    """One round trip from flat to flat.

    Times are UTC milliseconds, prices and money USDT, ``qty`` is in the base asset and positive.
    ``fees_usdt`` is a cost (positive); ``funding_usdt`` is positive when received.
    """

    symbol: str
    side: str
    entry_ms: int
    entry_price: float
    qty: float
    exit_ms: int
    exit_price: float
    gross_pnl_usdt: float
    fees_usdt: float
    funding_usdt: float
    margin_usdt: float
    close_reason: str
    entry_order_id: str
    exit_order_id: str

    @property
    def pnl_usdt(self) -> float:
        """Net result: gross − fees + funding."""
        return self.gross_pnl_usdt - self.fees_usdt + self.funding_usdt

    @property
    def pnl_percent(self) -> float:
        """Return on margin in per cent: 100 × pnl_usdt / margin_usdt."""
        return 100.0 * self.pnl_usdt / self.margin_usdt


class LedgerEntry(NamedTuple):
    """One change of the account, in the order it happened; equity is rebuilt from these and candle closes.

    ``kind`` is ``entry``, ``exit``, ``stop_loss``, ``liquidation`` or ``funding``. ``amount_usdt`` is what the wallet
    changed by; the three last fields are the state after it: the wallet and the symbol's signed quantity and
    average entry price (0.0 when flat).
    """

    time_ms: int
    kind: str
    symbol: str
    amount_usdt: float
    wallet_usdt: float
    signed_qty: float
    entry_price: float


class Fill(NamedTuple):
    """One execution. ``reduce_only`` fills close, the others open; ``qty`` is positive, ``side`` is +1 buy, −1 sell."""

    order_id: str
    symbol: str
    time_ms: int
    side: int
    qty: float
    price: float
    fee_usdt: float
    reduce_only: bool
    reason: str


class DecisionRecord(NamedTuple):
    """What the rules said at the close of one candle, kept only where they said something.

    ``candle_ms`` is the candle's open time; ``position_side`` and ``entry_side`` are −1, 0 or +1; ``close_reason``
    is empty when nothing is closed.
    """

    candle_ms: int
    symbol: str
    buy_signal: bool
    sell_signal: bool
    profit_target_hit: bool
    position_side: int
    close_reason: str
    entry_side: int
    conflicting_signals: bool


class SkippedEntry(NamedTuple):
    """An entry the rules wanted and the sizing refused; ``why`` carries the figures."""

    time_ms: int
    symbol: str
    side: str
    why: str


class OpenPosition(NamedTuple):
    """A position still open when the run ended; not a trade."""

    symbol: str
    side: str
    entry_ms: int
    entry_price: float
    qty: float
    margin_usdt: float
    fees_usdt: float
    funding_usdt: float
    unrealized_pnl_usdt: float
    liquidation_price: float | None
    entry_order_id: str


class PendingSignal(NamedTuple):
    """A decision on the last stored candle: there was no next open to execute it at."""

    symbol: str
    candle_ms: int
    close_reason: str
    entry_side: int


class RunRecord(NamedTuple):
    """Everything a finished run says about itself; the same from every engine, and all analytics needs."""

    initial_balance_usdt: float
    wallet_usdt: float
    trades: list[Trade]
    fills: list[Fill]
    ledger_entries: list[LedgerEntry]
    decisions: list[DecisionRecord]
    skipped_entries: list[SkippedEntry]
    open_positions: list[OpenPosition]
    pending_signals: list[PendingSignal]
