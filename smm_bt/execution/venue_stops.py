"""The optional stop on the venue: one reduce-only stop-market order per position, kept in step with it."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from smm_bt.errors import VenueError
from smm_bt.execution.host_clock import HostClock
from smm_bt.execution.instrument import Instrument
from smm_bt.execution.ledger import Position
from smm_bt.execution.order_ids import OrderName, client_order_id, run_prefix
from smm_bt.execution.run_recorder import RunRecorder
from smm_bt.execution.settle import Patience, Settlement
from smm_bt.execution.venue_client import VenueClient
from smm_bt.execution.venue_errors import Reaction, VenueFault
from smm_bt.execution.venue_ledger import VenueLedger
from smm_bt.execution.venue_rows import WaitingStop

_WOULD_TRIGGER = -2021
_PARTS = 1296


def stop_trigger(position: Position, instrument: Instrument) -> Decimal | None:
    """Return the trigger price on the tick, rounded towards the entry, so that a loss is never allowed to grow."""
    if position.stop_price is None:
        return None
    ticks = Decimal(repr(position.stop_price)) / instrument.price_tick
    rounded = ticks.to_integral_value(ROUND_CEILING if position.side > 0 else ROUND_FLOOR)
    return rounded * instrument.price_tick


class VenueStops:
    """Arms, moves and cancels stops; without a stop policy in the ledger it does nothing."""

    def __init__(
        self,
        client: VenueClient,
        ledger: VenueLedger,
        settlement: Settlement,
        recorder: RunRecorder,
        run_id: str,
        patience: Patience,
        clock: HostClock,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._settlement = settlement
        self._recorder = recorder
        self._run_id = run_id
        self._patience = patience
        self._clock = clock
        self._armed: dict[str, WaitingStop] = {}

    def take_over(self, waiting: Iterable[WaitingStop]) -> None:
        """Take note of this run's stops that wait at the venue since before a restart; doubles are cancelled."""
        for stop in waiting:
            if stop.client_id.startswith(run_prefix(self._run_id)):
                if stop.symbol in self._armed:
                    self._client.cancel_stop(stop)
                else:
                    self._armed[stop.symbol] = stop

    def armed(self, symbol: str) -> WaitingStop | None:
        """Return the stop believed to wait for ``symbol``."""
        return self._armed.get(symbol)

    def sync(self, symbol: str) -> bool:
        """Make the venue's stop fit the position; False when the price is beyond it and the position must go now."""
        position, armed = self._ledger.positions.get(symbol), self._armed.get(symbol)
        trigger = stop_trigger(position, self._ledger.instruments[symbol]) if position is not None else None
        if position is not None and trigger is not None and armed is not None and _fits(armed, position, trigger):
            return True
        if armed is not None:
            self._client.cancel_stop(armed)
            self._armed.pop(symbol)
            self._say("stop_cancelled", f"stop of {symbol} at {armed.trigger_price:f} cancelled", symbol)
        if position is None or trigger is None:
            return True
        return self._arm(position, trigger)

    def _arm(self, position: Position, trigger: Decimal) -> bool:
        name = OrderName(position.symbol, position.entry_ms, "stop")
        part = self._clock.now_ms() % _PARTS
        qty = Decimal(repr(position.qty))
        for attempt in range(self._patience.attempts):
            client_id = client_order_id(self._run_id, name, attempt, part)
            signed_at_s = self._clock.seconds()
            try:
                stop = self._client.send_stop(position.symbol, -position.side, qty, trigger, client_id)
            except VenueFault as fault:
                if fault.failure.code == _WOULD_TRIGGER:
                    return False
                found = self._after_fault(fault, client_id, signed_at_s, attempt)
                if found is None:
                    continue
                stop = found
            self._armed[position.symbol] = stop
            self._say("stop_armed", f"stop of {position.symbol} armed at {trigger:f}", position.symbol)
            return True
        raise VenueError(
            f"The stop of {position.symbol} at {trigger:f} could not be placed in {self._patience.attempts} attempts; "
            "the position is unprotected. Close it by hand, or start again with --resume to arm the stop."
        )

    def _after_fault(self, fault: VenueFault, client_id: str, signed_at_s: float, attempt: int) -> WaitingStop | None:
        reaction = fault.rule.order
        if reaction in (Reaction.WAIT, Reaction.RESYNC):
            self._client.wire.prepare_retry(fault)
            return None
        if reaction is Reaction.AGAIN:
            self._clock.sleep(self._patience.wait_s(attempt))
            return None
        if reaction in (Reaction.ASK, Reaction.EXISTS):
            return self._settlement.find_stop(client_id, signed_at_s)
        raise fault

    def _say(self, kind: str, message: str, symbol: str) -> None:
        self._recorder.record_event(self._clock.now_ms(), kind, message, symbol)


def _fits(stop: WaitingStop, position: Position, trigger: Decimal) -> bool:
    return (stop.side, stop.trigger_price, float(stop.qty)) == (-position.side, trigger, position.qty)
