"""One broker contract, two brokers: the simulated account and the embedded exchange through ccxt."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import backtrader as bt
import numpy as np
import pytest
from broker_contract import COUNT, START_MS, Action, BrokerContract, Scripted, Seen, rising_candles
from venue_bench import run_on_venue, store_of, write_candles

from feeds.lines import FLAG_LINES
from feeds.smm import smm_feed
from smm_bt.emulator.config import EmulatorConfig
from smm_bt.emulator.thread import EmulatorThread
from smm_bt.execution.costs import Costs, NoStopLoss, StopLoss
from smm_bt.execution.ledger import FuturesLedger
from smm_bt.execution.market_history import market_history
from smm_bt.execution.market_rules import load_instruments
from smm_bt.execution.paper_broker import PaperBroker

NO_FLAGS = {name: np.zeros(COUNT, dtype=bool) for name in FLAG_LINES}


def stop_policy(percent: float | None) -> NoStopLoss:
    return NoStopLoss() if percent is None else StopLoss(percent)


class TestPaperBroker(BrokerContract):
    def run(
        self,
        script: Mapping[int, Action],
        balance: float = 10_000.0,
        step: float = 60.0,
        stop_percent: float | None = None,
    ) -> tuple[Seen, Any]:
        candles = rising_candles(step)
        costs = Costs(stop_loss=stop_policy(stop_percent))
        ledger = FuturesLedger(balance, load_instruments(["BTCUSDT"]), costs)
        broker = PaperBroker(ledger, {"BTCUSDT": market_history(candles)})
        cerebro = bt.Cerebro(stdstats=False)
        cerebro.setbroker(broker)
        cerebro.adddata(smm_feed(candles, NO_FLAGS))
        cerebro.addstrategy(Scripted, script=script)
        (strategy,) = cerebro.run()
        return strategy.seen, broker


class TestCcxtBroker(BrokerContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def run(
        self,
        script: Mapping[int, Action],
        balance: float = 10_000.0,
        step: float = 60.0,
        stop_percent: float | None = None,
    ) -> tuple[Seen, Any]:
        candles = rising_candles(step)
        path = write_candles(self.folder, candles)
        config = EmulatorConfig(candles=(path,), start_ms=START_MS, balance_usdt=Decimal(repr(balance)))
        with EmulatorThread(config) as exchange:
            store = store_of(exchange, stop_loss=stop_policy(stop_percent))
            strategy, broker = run_on_venue(
                exchange, store, {"BTCUSDT": candles}, {"BTCUSDT": NO_FLAGS}, strategy=Scripted, script=script
            )
            assert broker.halted is None, broker.halted
        return strategy.seen, broker

    def test_a_finished_order_carries_ccxts_unified_dict(self) -> None:
        seen, _ = self.run({1: lambda s: s.buy(size=0.1)})
        unified = seen.made[0].ccxt_order
        assert (unified["symbol"], unified["status"], unified["filled"]) == ("BTC/USDT:USDT", "closed", 0.1)

    def test_what_the_paper_broker_also_fills_is_refused_here_and_says_so(self) -> None:
        seen, _ = self.run({1: lambda s: s.buy(size=0.1, exectype=bt.Order.Limit, price=50_000.0)})
        assert [status for _, status, _ in seen.orders] == ["Submitted", "Rejected"]
        assert "Limit is not sent to the venue" in seen.orders[-1][2]
