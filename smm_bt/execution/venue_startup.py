"""Before the first order: bring the account into the one state the rules know, or say why that cannot be done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from smm_bt.errors import VenueError
from smm_bt.execution.ccxt_orders import Piece, Ticket
from smm_bt.execution.instrument import Instrument
from smm_bt.execution.order_ids import order_name, run_prefix
from smm_bt.execution.run_recorder import SentOrder
from smm_bt.execution.venue_client import VenueClient
from smm_bt.execution.venue_errors import VenueFault
from smm_bt.execution.venue_ledger import VenueLedger
from smm_bt.execution.venue_rows import VenueFill, VenuePosition, WaitingStop
from smm_bt.model import LEVERAGE, Fill, LedgerEntry, OrderState


class ResumeState(NamedTuple):
    """What an earlier process of the same run wrote down.

    ``fills`` with their ids and ``changes`` (ledger entries of kind funding and adjustment) rebuild the ledger;
    ``unfinished`` are the orders whose end was not recorded; ``first_trade_ids`` is the data of the run's event
    ``fills_begin``: by symbol, the venue's first trade number that is this run's business.
    """

    initial_balance_usdt: float
    fills: Sequence[tuple[Fill, str]] = ()
    changes: Sequence[LedgerEntry] = ()
    unfinished: Sequence[tuple[Ticket, OrderState]] = ()
    first_trade_ids: Mapping[str, int] = MappingProxyType({})


def unfinished_ticket(sent: SentOrder) -> Ticket:
    """Return the ticket of a recorded order, to look its client ids up after a restart."""
    name = order_name(sent.symbol, sent.order_id, 0)
    pieces = (Piece(Decimal(repr(sent.qty)), sent.reduce_only),)
    return Ticket(sent.order_id, name, sent.side, pieces, sent.reason)


def rebuild(ledger: VenueLedger, resume: ResumeState) -> dict[str, int]:
    """Book again what was booked; return the last booked trade number of each symbol."""
    latest: dict[str, int] = {}
    events: list[tuple[int, int, Fill | LedgerEntry, int]] = []
    for fill, fill_id in resume.fills:
        trade_id = int(fill_id.split(":")[1])
        latest[fill.symbol] = max(trade_id, latest.get(fill.symbol, 0))
        events.append((fill.time_ms, 0, fill, trade_id))
    events += [(entry.time_ms, 1, entry, 0) for entry in resume.changes]
    for _, _, event, trade_id in sorted(events, key=lambda item: item[:2]):
        if isinstance(event, Fill):
            ledger.book(_as_told(event, trade_id), event.order_id, event.reason)
        elif event.kind == "funding":
            ledger.book_funding(event.symbol, event.amount_usdt, event.time_ms)
        else:
            ledger.adjust(event.amount_usdt, event.time_ms, event.symbol)
    return latest


def _as_told(fill: Fill, trade_id: int) -> VenueFill:
    qty, price, fee = (Decimal(repr(value)) for value in (fill.qty, fill.price, fill.fee_usdt))
    return VenueFill(trade_id, 0, fill.symbol, fill.side, qty, price, fee, fill.time_ms)


def check_leverage_limits(instruments: Iterable[Instrument]) -> None:
    """Refuse symbols whose brackets do not allow the fixed leverage."""
    for instrument in instruments:
        if instrument.max_leverage < LEVERAGE:
            raise VenueError(
                f"{instrument.symbol} allows at most {instrument.max_leverage}x on this account, below the fixed "
                f"{LEVERAGE}x; choose another symbol."
            )


def set_account_modes(client: VenueClient, positions: Sequence[VenuePosition]) -> None:
    """Put the account in one-way mode, or refuse: hedge mode with positions, multi-assets mode."""
    hedged, multi_assets = client.modes()
    if multi_assets:
        raise VenueError(
            "The account is in multi-assets mode, where isolated margin does not exist; switch to single-asset mode "
            "in the venue's futures settings."
        )
    if not hedged:
        return
    if positions:
        held = ", ".join(f"{p.symbol} {p.position_side}" for p in positions)
        raise VenueError(f"The account is in hedge mode and holds {held}; close that and start again.")
    try:
        client.set_one_way_mode()
    except VenueFault as fault:
        raise VenueError(
            f"The account is in hedge mode and cannot leave it ({fault.failure}); cancel its open orders first."
        ) from fault


def check_foreign(
    client: VenueClient,
    ledger: VenueLedger,
    positions: Sequence[VenuePosition],
    run_id: str,
    *,
    adopt: bool,
) -> list[WaitingStop]:
    """Refuse positions, orders and stops that are not this run's, unless they may be adopted; return our stops."""
    stops = client.open_stops()
    prefix = run_prefix(run_id)
    if adopt:
        return stops
    for position in positions:
        if position.symbol not in ledger.positions:
            raise VenueError(
                f"The account holds {position.signed_qty:f} {position.symbol} that this run did not open; close it, "
                "or start with --adopt to take it over."
            )
    foreign = [order.client_id for order in client.open_orders() if not order.client_id.startswith(prefix)]
    foreign += [stop.client_id for stop in stops if not stop.client_id.startswith(prefix)]
    if foreign:
        raise VenueError(
            f"The account has {len(foreign)} open orders that are not this run's (first: {foreign[0]}); cancel them, "
            "or start with --adopt to leave them alone."
        )
    return stops


def set_symbol_modes(client: VenueClient, symbol: str, *, held: bool) -> None:
    """Put ``symbol`` in isolated margin at the fixed leverage, and read back that it is."""
    problems: list[str] = []
    changes = (partial(client.set_isolated_margin, symbol), partial(client.set_leverage, symbol, LEVERAGE))
    for change in changes:
        try:
            change()
        except VenueFault as fault:
            problems.append(str(fault.failure))
    mode, leverage = client.margin_mode_and_leverage(symbol)
    if (mode, leverage) != ("ISOLATED", LEVERAGE):
        hint = "close its position" if held else "cancel its open orders"
        raise VenueError(
            f"{symbol} is {mode.lower()} at {leverage}x and could not be set to isolated at {LEVERAGE}x "
            f"({'; '.join(problems) or 'no reason given'}); {hint} first."
        )


def adopted_fill(position: VenuePosition) -> VenueFill:
    """Return the execution that stands for a position taken over as it is; its fees are not known."""
    side = 1 if position.signed_qty > 0 else -1
    qty, price = abs(position.signed_qty), position.entry_price
    return VenueFill(0, 0, position.symbol, side, qty, price, Decimal(0), position.update_ms)
