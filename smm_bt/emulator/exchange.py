"""The exchange without its wire: market, account and orders wired together and moved through time."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from typing import Any

from smm_bt.emulator.account import Account, Position
from smm_bt.emulator.booking import Booking
from smm_bt.emulator.clock import Clock, RunningClock, SteppedClock, host_ms
from smm_bt.emulator.conditional import ConditionalOrders
from smm_bt.emulator.config import EmulatorConfig
from smm_bt.emulator.events import Emit, Event, MarketEvent
from smm_bt.emulator.instruments import Instrument, load_instruments
from smm_bt.emulator.market import Market, Piece, build_market
from smm_bt.emulator.matching import Matching
from smm_bt.emulator.records import Archive
from smm_bt.emulator.refusals import VenueError
from smm_bt.emulator.settlement import Settlement
from smm_bt.emulator.state_file import StateFile, StateFileError

# a partially filled order is completed after this many further requests, or by the next step of the clock
_PARTIAL_FILL_PATIENCE = 3


class Exchange:
    """One embedded exchange with one account; not thread-safe, its server runs it on one loop.

    With ``config.state`` the account, the orders and the clock are taken from that file and written
    back by :meth:`save`.
    """

    def __init__(self, config: EmulatorConfig) -> None:
        self._state = StateFile(config.state) if config.state else None
        saved = self._state.load_meta() if self._state else None
        self.config = _resumed(config, saved)
        self.instruments: dict[str, Instrument] = load_instruments(self.config.exchange_info, self.config.brackets)
        self.market: Market = build_market(self.config, self.instruments)
        if saved is None and self.config.start_ms is None:
            self.config = replace(self.config, start_ms=self.market.now_ms)
        self.clock: Clock = self._make_clock(saved)
        self.account = Account(self.instruments, self.config.balance_usdt, self.config.default_leverage, update_time=1)
        self.archive = Archive()
        self.listeners: list[Emit] = []
        self.clock_offset_ms = self.config.clock_offset_ms
        self._wire()
        self._patience = 0
        if saved is not None:
            self._restore(saved)
        else:
            self.account.update_time = self.market.now_ms
        self.save()

    def _wire(self) -> None:
        config, parts = self.config, (self.instruments, self.market, self.account, self.archive)
        self.booking = Booking(self.account, self.archive, self.emit, config.taker_rate, config.maker_rate)
        self.matching = Matching(*parts, self.booking, self.emit)
        self.conditional = ConditionalOrders(*parts, self.booking, self.matching, self.emit)
        self.settlement = Settlement(*parts, self.booking, self.matching, self.emit)

    def _make_clock(self, saved: dict[str, Any] | None) -> Clock:
        if self.config.speed is None:
            return SteppedClock(self.market.now_ms)
        if saved is None:
            return RunningClock(self.market.now_ms, host_ms(), self.config.speed)
        if saved["speed"] != self.config.speed:
            return RunningClock(saved["now_ms"], host_ms(), self.config.speed)
        # a venue does not stop with its server: the time of an outage is played when it comes back
        virtual, host = saved["anchors"]
        return RunningClock(virtual, host, self.config.speed)

    def emit(self, event: Event) -> None:
        """Tell every listener."""
        for listener in self.listeners:
            listener(event)

    @property
    def now_ms(self) -> int:
        """The venue's market time (without the clock offset of a fault)."""
        return self.market.now_ms

    @property
    def server_ms(self) -> int:
        """The time the venue tells its clients."""
        return self.market.now_ms + self.clock_offset_ms

    @property
    def finished(self) -> bool:
        """Whether the stored candles are used up."""
        return self.market.next_boundary() is None

    def instrument(self, symbol: str) -> Instrument:
        """Return an instrument, or refuse an unknown symbol the venue's way."""
        if symbol not in self.instruments:
            raise VenueError(-1121)
        return self.instruments[symbol]

    def order_margin(self) -> Decimal:
        """Margin bound by open orders."""
        return self.matching.order_margin()

    def available(self) -> Decimal:
        """Free balance."""
        return self.account.available(self.market.mark, self.order_margin())

    def step(self, candles: int = 1) -> bool:
        """Advance a stepped clock by whole candles; False when the candles ran out first."""
        for _ in range(candles):
            boundary = self.market.next_boundary()
            if boundary is None:
                return False
            self._advance(boundary)
        self.save()
        return True

    def catch_up(self) -> None:
        """Play everything a running clock has passed since the last call; count down partial fills."""
        if self._patience:
            self._patience -= 1
            if not self._patience:
                self.matching.finish_partial_fills()
        target = self.clock.now_ms()
        while self.market.now_ms < target:
            boundary = self.market.next_boundary()
            self._advance(target if boundary is None else min(target, boundary))

    def seconds_to_next_candle(self) -> float:
        """Return how long by the machine's clock a running market takes to its next candle; infinity at its end."""
        boundary = self.market.next_boundary()
        if boundary is None or self.config.speed is None:
            return math.inf
        return max(0.001, (boundary - self.clock.now_ms()) / 1000 / self.config.speed)

    def wait_before_completing(self) -> None:
        """Start the countdown after which partially filled market orders are completed."""
        self._patience = _PARTIAL_FILL_PATIENCE

    def _advance(self, end_ms: int) -> None:
        before = self.market.now_ms
        self.matching.finish_partial_fills()
        self._play(list(self.market.pieces(end_ms)))
        self.market.move(end_ms)
        if isinstance(self.clock, SteppedClock):
            self.clock.time_ms = end_ms
        self.emit(MarketEvent(before, end_ms))

    def _play(self, pieces: list[Piece]) -> None:
        """Apply funding, stops, resting orders and liquidation, stage by stage, each over the symbols in order."""
        settlement = self.settlement
        stops, limits = self.conditional.meet_triggers, self.matching.meet_resting
        for stage in (settlement.pay_funding, stops, limits, settlement.liquidate):
            for piece in pieces:
                stage(piece)

    def save(self) -> None:
        """Write what changed to the state file, if there is one."""
        if self._state is None:
            self.archive.unsaved.clear()
            return
        self._state.save(self._meta(), self.archive.unsaved.values())
        self.archive.unsaved.clear()

    def close(self) -> None:
        """Save and let go of the state file."""
        self.save()
        if self._state is not None:
            self._state.close()

    def _meta(self) -> dict[str, Any]:
        account, clock = self.account, self.clock
        anchors = [clock.virtual_anchor_ms, clock.host_anchor_ms] if isinstance(clock, RunningClock) else None
        return {
            "market": self._market_mark(),
            "start_ms": self.config.start_ms,
            "speed": self.config.speed,
            "now_ms": self.market.now_ms,
            "anchors": anchors,
            "api_key": self.config.api_key,
            "api_secret": self.config.api_secret,
            "last_id": self.archive.last_id,
            "wallet": str(account.wallet),
            "dual_side": account.dual_side,
            "multi_assets": account.multi_assets,
            "leverages": account.leverages,
            "isolated": sorted(account.isolated),
            "update_time": account.update_time,
            "positions": [
                [p.symbol, p.side, str(p.qty), str(p.entry_price), p.update_time] for p in account.positions.values()
            ],
        }

    def _market_mark(self) -> list[Any]:
        """Tell markets apart: symbols, first and last candle, first and last price."""
        series = [market.last.series for market in self.market.symbols.values()]
        return [[s.symbol, s.open_time[0], s.open_time[-1], s.open[0], s.close[-1]] for s in series]

    def _restore(self, saved: dict[str, Any]) -> None:
        account = self.account
        if self._state is not None and saved["market"] != self._market_mark():
            self._state.close()
            raise StateFileError("the state file was written on another market; give the candles it was started with")
        account.wallet = Decimal(saved["wallet"])
        account.dual_side, account.multi_assets = saved["dual_side"], saved["multi_assets"]
        account.leverages.update(saved["leverages"])
        account.isolated.update(saved["isolated"])
        account.update_time = saved["update_time"]
        for symbol, side, qty, entry, time_ms in saved["positions"]:
            account.positions[symbol, side] = Position(symbol, side, Decimal(qty), Decimal(entry), time_ms)
        if self._state is not None:
            self.archive.restore(self._state.load_records())
        self.archive.last_id = saved["last_id"]
        self.market.move(saved["now_ms"])
        if isinstance(self.clock, SteppedClock):
            self.clock.time_ms = saved["now_ms"]


def _resumed(config: EmulatorConfig, saved: dict[str, Any] | None) -> EmulatorConfig:
    """Keep the keys and the start of the market a state file was written with; a made running market starts now."""
    if saved is None:
        made_now = not config.candles and not config.stepped and config.start_ms is None
        return replace(config, start_ms=host_ms()) if made_now else config
    return replace(config, start_ms=saved["start_ms"], api_key=saved["api_key"], api_secret=saved["api_secret"])
