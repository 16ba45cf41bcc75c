"""A run on the embedded exchange under a stepped clock: the driver the venue tests share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import backtrader as bt
import numpy as np

from feeds.bt_time import to_backtrader
from feeds.candles import Candles
from feeds.lines import FLAG_LINES
from smm_bt.analytics.journal import Journal
from smm_bt.analytics.run_info import RunInfo
from smm_bt.emulator.config import EmulatorConfig
from smm_bt.emulator.thread import EmulatorThread
from smm_bt.execution.ccxt_broker import CcxtBroker
from smm_bt.execution.ccxt_client import ApiKeys, TradingWire
from smm_bt.execution.ccxt_store import CcxtStore
from smm_bt.execution.endpoints import PracticeVenue
from smm_bt.execution.risk_sizer import RiskSizer
from smm_bt.execution.settle import Patience
from smm_bt.execution.venue_client import VenueClient
from smm_bt.execution.weight_budget import WeightBudget
from strategy.smm_strategy import SmmStrategy

#: Short waits: the embedded exchange answers in milliseconds.
QUICK = Patience(first_wait_s=0.01, longest_wait_s=0.05, grace_s=0.05, silence_s=3.0)
WIRE: dict[str, Any] = {"recv_window_ms": 400, "first_wait_s": 0.01}


def wide_budget() -> WeightBudget:
    """Return a budget that holds nothing back: a stepped clock lives days in a second."""
    return WeightBudget(weight_per_minute=10**9)


def stepped(**options: Any) -> EmulatorConfig:
    """Return a stepped made market with limits wide open."""
    defaults: dict[str, Any] = {"made_candles": 400, "history_candles": 50, "symbols": ("BTCUSDT", "ETHUSDT")}
    wide = {"weight_limit_1m": 0, "order_limit_10s": 0, "order_limit_1m": 0}
    return EmulatorConfig(**(defaults | wide | options))


def client_of(exchange: EmulatorThread, **options: Any) -> VenueClient:
    keys = ApiKeys(exchange.api_key, exchange.api_secret)
    return VenueClient(TradingWire(PracticeVenue(exchange.url), keys, **(WIRE | {"budget": wide_budget()} | options)))


def store_of(exchange: EmulatorThread, **options: Any) -> CcxtStore:
    config = {"apiKey": exchange.api_key, "secret": exchange.api_secret, "timeout": options.pop("timeout", 2000)}
    wire = WIRE | {"budget": wide_budget()} | options.pop("wire_options", {})
    defaults: dict[str, Any] = {"retries": 3, "symbols": ("BTCUSDT",), "run_id": "test-run", "patience": QUICK}
    return CcxtStore(config=config, venue=PracticeVenue(exchange.url), wire_options=wire, **(defaults | options))


def journal_at(folder: Path, balance: float = 10_000.0) -> Journal:
    """Start the journal of a run in ``folder``."""
    info = RunInfo(
        run_id="test-run",
        mode="TESTNET",
        market_source="embedded exchange",
        symbols=("BTCUSDT",),
        timeframe="5m",
        timeframe_ms=300_000,
        first_candle_ms=None,
        last_candle_ms=None,
        candles=0,
        strategy_file="",
        strategy_sha256="",
        strategy_is_reference=False,
        engine="venue",
    )
    return Journal.create(folder / "journal.sqlite", info, balance)


class SteppedFeed(bt.feed.DataBase):
    """Gives out stored candles one by one; before each further one the exchange's clock is stepped over it.

    While the broker has orders to send it gives out nothing: they are executed first, at the open of the next candle.
    """

    lines = FLAG_LINES
    params = (("candles", None), ("columns", None), ("stepper", None))

    def __init__(self) -> None:
        super().__init__()
        self._row = -1

    def islive(self) -> bool:
        return True

    def open_ms(self) -> int:
        return int(self.p.candles.open_ms[self._row])

    def _load(self) -> bool | None:
        state = self.p.stepper.turn(self)
        if state is not True:
            return state
        self._row += 1
        candles, lines = self.p.candles, self.lines
        for name in ("open", "high", "low", "close", "volume"):
            getattr(lines, name)[0] = getattr(candles, name)[self._row]
        for name in FLAG_LINES:
            getattr(lines, name)[0] = float(self.p.columns[name][self._row])
        lines.openinterest[0] = 0.0
        lines.datetime[0] = to_backtrader(int(candles.open_ms[self._row]) + candles.timeframe_ms)
        return True


@dataclasses.dataclass
class Stepper:
    """Moves the exchange's clock once per round of feeds, when nothing waits to be sent."""

    exchange: EmulatorThread
    candles: Mapping[str, Candles]
    broker: CcxtBroker
    feeds: list[SteppedFeed] = dataclasses.field(default_factory=list)
    on_step: Callable[[int], None] | None = None
    steps: int = 0

    def turn(self, feed: SteppedFeed) -> bool | None:
        if feed is self.feeds[0]:
            self._deliver = self._begin_round()
        if self._deliver is not True:
            return self._deliver
        return self.steps <= len(feed.p.candles) and feed._row + 1 < self.steps

    def _begin_round(self) -> bool | None:
        if self.broker.has_work or self.broker._unprotected:
            return None
        if self.steps >= max(len(candles) for candles in self.candles.values()):
            return False
        if self.on_step is not None:
            self.on_step(self.steps)
        self.exchange.step()
        self.steps += 1
        return True


def run_on_venue(
    exchange: EmulatorThread,
    store: CcxtStore,
    candles: Mapping[str, Candles],
    columns: Mapping[str, Mapping[str, np.ndarray]],
    *,
    strategy: type = SmmStrategy,
    on_step: Callable[[int], None] | None = None,
    analyzers: Iterable[type[bt.Analyzer]] = (),
    **options: Any,
) -> tuple[Any, CcxtBroker]:
    """Run ``strategy`` candle by candle; return it and its broker."""
    broker = store.getbroker()
    cerebro = bt.Cerebro(stdstats=False, quicknotify=True)
    cerebro.setbroker(broker)
    stepper = Stepper(exchange, candles, broker, on_step=on_step)
    for symbol, rows in candles.items():
        feed = SteppedFeed(name=symbol, candles=rows, columns=columns[symbol], stepper=stepper)
        stepper.feeds.append(feed)
        cerebro.adddata(feed)
    cerebro.addsizer(RiskSizer)
    cerebro.addstrategy(strategy, **options)
    for analyzer in analyzers:
        cerebro.addanalyzer(analyzer)
    (ran,) = cerebro.run()
    store.close()
    return ran, broker


def write_candles(folder: Path, candles: Candles) -> Path:
    """Write candles as a file the embedded exchange replays."""
    path = folder / f"{candles.symbol}-{candles.timeframe}.csv"
    rows = zip(
        candles.open_ms.tolist(),
        *(getattr(candles, name).tolist() for name in ("open", "high", "low", "close", "volume")),
        strict=True,
    )
    text = "timestamp,open,high,low,close,volume\n" + "".join(",".join(map(repr, row)) + "\n" for row in rows)
    path.write_text(text, "utf-8")
    return path
