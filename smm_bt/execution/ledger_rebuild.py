"""A simulated account as it was: everything booked again from what was written down, to the last bit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from smm_bt.errors import RunFailed
from smm_bt.execution.ledger import FuturesLedger
from smm_bt.model import Fill, LedgerEntry


def rebuild_ledger(ledger: FuturesLedger, fills: Iterable[Fill], entries: Iterable[LedgerEntry]) -> None:
    """Book ``entries`` on an untouched ledger, with ``fills`` saying what each was; both in the order they happened.

    Raises:
        RunFailed: what was written down contradicts itself.
    """
    waiting = iter(fills)
    for entry in entries:
        if entry.kind == "funding":
            _book_funding(ledger, entry)
        else:
            _book_fill(ledger, entry, _next(waiting, entry))
        if abs(ledger.wallet_usdt - entry.wallet_usdt) > 1e-6:
            raise RunFailed(
                f"The journal's wallet after {entry.kind} of {entry.symbol} at {entry.time_ms} is "
                f"{entry.wallet_usdt!r} USDT, booking it again gives {ledger.wallet_usdt!r}; the journal was changed, "
                "or fee and stop settings are not those of the run."
            )
        ledger.wallet_usdt = entry.wallet_usdt
        ledger.entries[-1] = entry


def _next(fills: Iterator[Fill], entry: LedgerEntry) -> Fill:
    fill = next(fills, None)
    if fill is None or fill.symbol != entry.symbol:
        raise RunFailed(f"The journal holds no fill for the {entry.kind} of {entry.symbol} at {entry.time_ms}.")
    return fill


def _book_funding(ledger: FuturesLedger, entry: LedgerEntry) -> None:
    if not ledger.settle_told(entry.symbol, entry.amount_usdt, entry.time_ms):
        raise RunFailed(f"The journal holds funding of {entry.symbol} at {entry.time_ms} without a position.")


def _book_fill(ledger: FuturesLedger, entry: LedgerEntry, fill: Fill) -> None:
    if entry.kind == "entry":
        ledger.open(fill.symbol, fill.side, fill.qty, fill.price, fill.time_ms, fill.order_id)
    elif entry.kind == "liquidation":
        ledger.liquidate(fill.symbol, fill.time_ms, fill.order_id)
    else:
        ledger.close(fill.symbol, fill.price, fill.time_ms, fill.reason, fill.order_id, fill.qty)
