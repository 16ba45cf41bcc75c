"""What a live run says about funding: only a market with rates is called one that has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from live_kit import START_MS, files_of, report_of, run_live, strategy_file

from smm_bt.app.live_funding import symbols_without_funding
from smm_bt.app.live_market_source import MarketChoice, MarketSource
from smm_bt.emulator import EmulatorThread
from smm_bt.emulator.config import EmulatorConfig
from smm_bt.execution.endpoints import PracticeVenue
from smm_bt.execution.host_clock import SystemClock

BOTH = ("BTCUSDT", "ETHUSDT")
WIDE: dict[str, Any] = {"control": True, "weight_limit_1m": 0, "order_limit_10s": 0, "order_limit_1m": 0}


def rates_file(folder: Path, symbol: str) -> Path:
    path = folder / f"{symbol}-funding.csv"
    rows = "".join(f"{START_MS + hour * 3_600_000},0.0001\n" for hour in range(9))
    path.write_text(f"timestamp,funding_rate\n{rows}", "utf-8")
    return path


def played(folder: Path, *with_rates: str) -> dict[str, Any]:
    funding = tuple(rates_file(folder, symbol) for symbol in with_rates)
    run_live(folder / "run", strategy_file(folder), files_of(folder, BOTH, count=60), funding=funding)
    return report_of(folder / "run")


def test_played_files_without_rates_have_no_funding_modelled(tmp_path: Path) -> None:
    report = played(tmp_path)
    assert (report["funding_modelled"], report["funding_usdt"]) == (False, 0.0)
    assert any(note.startswith("Funding not modelled: no funding rates were given") for note in report["notes"])


def test_rates_of_one_symbol_are_said_to_be_of_one(tmp_path: Path) -> None:
    report = played(tmp_path, "BTCUSDT")
    assert (report["funding_modelled"], report["symbols_without_funding"]) == (False, ["ETHUSDT"])
    assert report["funding_usdt"] != 0
    assert any(note.startswith("Funding not modelled for ETHUSDT: ") for note in report["notes"])


def test_rates_of_every_symbol_are_funding_modelled(tmp_path: Path) -> None:
    report = played(tmp_path, *BOTH)
    assert (report["funding_modelled"], report["symbols_without_funding"]) == (True, [])
    assert not any("Funding" in note for note in report["notes"])


def test_a_made_market_has_no_funding(tmp_path: Path) -> None:
    run_live(tmp_path / "run", strategy_file(tmp_path), [], max_candles=5, settings={"WARMUP_CANDLES": 50})
    report = report_of(tmp_path / "run")
    assert (report["funding_modelled"], report["symbols_without_funding"]) == (False, ["BTCUSDT"])


@pytest.mark.parametrize("venue", [None, PracticeVenue()])
def test_binance_and_its_demo_venue_settle_every_contract(venue: PracticeVenue | None) -> None:
    source = MarketSource("Binance", venue, 1.0, SystemClock())
    assert symbols_without_funding(MarketChoice(), BOTH, source) == ()


def test_an_exchange_found_running_is_asked(tmp_path: Path) -> None:
    candles = files_of(tmp_path, BOTH, count=60)
    config = EmulatorConfig(
        candles=tuple(candles), funding=(rates_file(tmp_path, "ETHUSDT"),), history_candles=30, speed=1500.0, **WIDE
    )
    with EmulatorThread(config) as exchange:
        run_live(
            tmp_path / "run",
            strategy_file(tmp_path),
            [],
            address=exchange.url,
            speed=1500.0,
            max_candles=1,
            settings={"SYMBOLS": BOTH, "WARMUP_CANDLES": 20},
        )
    assert report_of(tmp_path / "run")["symbols_without_funding"] == ["BTCUSDT"]
