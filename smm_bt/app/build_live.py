"""The composition root of live runs: settings and a market in, the wired account out; only here the mode decides."""

from __future__ import annotations

import math
from pathlib import Path

from feeds.candles import iso_utc
from smm_bt.analytics.journal import Journal
from smm_bt.app.build import build_costs
from smm_bt.app.embedded import EmbeddedExchange
from smm_bt.app.live_account import LiveAccount, LiveWiring, paper_account, venue_account, venue_wallet
from smm_bt.app.live_market_source import (
    BINANCE,
    MarketChoice,
    MarketShape,
    MarketSource,
    Stood,
    embedded_options,
    start_embedded,
)
from smm_bt.app.settings import Settings
from smm_bt.app.venue_reach import ask_clock
from smm_bt.errors import SettingsError, UsageError, VenueError
from smm_bt.execution.ccxt_client import ApiKeys
from smm_bt.execution.endpoints import PracticeVenue, practice_venue
from smm_bt.execution.host_clock import HostClock
from smm_bt.execution.market_rules import load_instruments
from smm_bt.model import TradingMode


def build_live_account(
    journal: Journal, settings: Settings, source: MarketSource, wiring: LiveWiring, *, resumed: bool
) -> LiveAccount:
    """Return the account a live run trades on: virtual money for PAPER, the practice venue's for TESTNET.

    Raises:
        SettingsError: the practice venue's keys are not set.
        VenueError: the venue's account cannot be brought into the state the rules know.
    """
    costs = build_costs(settings)
    if settings.TRADING_MODE is TradingMode.PAPER:
        instruments = load_instruments(wiring.symbols, wiring.exchange_info, wiring.brackets)
        return paper_account(journal, instruments, costs, wiring)
    return venue_account(
        journal,
        wiring,
        trading_venue(settings, source),
        venue_keys(settings, source.embedded),
        costs,
        unlimited=source.embedded is not None and source.speed > 1,
        resumed=resumed,
        lock_folder=settings.RUNS_DIR,
    )


def check_symbols(symbols: tuple[str, ...], choice: MarketChoice, settings: Settings) -> None:
    """Refuse symbols a simulated account has no market rules for, before anything is started.

    Raises:
        UsageError: no rules are known and no file gives them, or a file is given to a venue that has its own.
    """
    if settings.TRADING_MODE is TradingMode.PAPER:
        load_instruments(symbols, choice.exchange_info, choice.brackets)
    elif choice.name == BINANCE and (choice.exchange_info or choice.brackets):
        option = "--exchange-info" if choice.exchange_info else "--brackets"
        raise UsageError(
            f"{option} has no effect on the demo venue, which tells its own market rules; leave it out, or use "
            "--market embedded."
        )


def trading_venue(settings: Settings, source: MarketSource) -> PracticeVenue:
    """Return where TESTNET orders go: the embedded exchange if the market is one, else the demo venue."""
    return practice_venue(settings.TRADING_MODE, source.embedded.url if source.embedded is not None else None)


def venue_keys(settings: Settings, embedded: EmbeddedExchange | None) -> ApiKeys:
    """Return the practice account's keys: those made for the run, or those of the settings."""
    if embedded is not None and embedded.api_key:
        return ApiKeys(embedded.api_key, embedded.api_secret)
    key, secret = settings.BINANCE_TESTNET_API_KEY, settings.BINANCE_TESTNET_API_SECRET
    if key is None or secret is None:
        raise SettingsError(
            "TESTNET needs BINANCE_TESTNET_API_KEY and BINANCE_TESTNET_API_SECRET (make them on the demo venue, put "
            "them into .env), or --market embedded, which makes its own."
        )
    return ApiKeys(key.get_secret_value(), secret.get_secret_value())


def first_balance(settings: Settings, source: MarketSource) -> float:
    """Return the wallet a new run starts with: the setting for PAPER, what the practice account holds for TESTNET."""
    if settings.TRADING_MODE is TradingMode.PAPER:
        return settings.INITIAL_BALANCE_USDT
    return venue_wallet(trading_venue(settings, source), venue_keys(settings, source.embedded))


def open_market(
    choice: MarketChoice,
    shape: MarketShape,
    settings: Settings,
    host: HostClock,
    state: Path | None,
    stood: Stood | None,
    until_ms: int | None = None,
) -> MarketSource:
    """Return the market of a live run, reachable.

    Raises:
        UsageError: the market's time is at or beyond ``until_ms`` already.
        VenueError: Binance cannot be reached; the sentence names ``--market embedded``.
        RunFailed: the embedded exchange cannot serve what was asked for, or none answers at ``--address``.
    """
    testnet = settings.TRADING_MODE is TradingMode.TESTNET
    if choice.name == BINANCE:
        practice = practice_venue(settings.TRADING_MODE) if testnet else None
        if testnet:
            venue_keys(settings, None)
        _check_until(until_ms, host.now_ms())
        ask_clock(practice)
        return MarketSource("Binance demo venue" if testnet else "Binance public data", practice, 1.0, host)
    account: dict[str, object] = {
        "balance_usdt": repr(settings.INITIAL_BALANCE_USDT),
        "taker_rate": repr(settings.TAKER_FEE_RATE),
        "state": str(state.absolute()) if testnet and state else None,
    }
    remembers = testnet and state is not None and state.exists()
    options = embedded_options(choice, shape, account, settings.WARMUP_CANDLES, None if remembers else stood)
    embedded = start_embedded(choice, options)
    try:
        if choice.address:
            _check_it_answers(choice.address, embedded)
        if until_ms is not None:
            _check_until(until_ms, ask_clock(embedded.venue).server_ms)
    except BaseException:
        embedded.close()
        raise
    speed = math.inf if embedded.is_stepped() else choice.speed
    kind = "candle files" if choice.candles else "found running" if choice.address else "made market, not real"
    return MarketSource(f"embedded exchange ({kind})", embedded.venue, speed, host, embedded)


def _check_it_answers(address: str, embedded: EmbeddedExchange) -> None:
    """Refuse an address where no exchange answers before anything is made that would have to be cleared away."""
    try:
        ask_clock(embedded.venue)
    except VenueError as problem:
        raise VenueError(
            f"No embedded exchange answers at {address}. Start one in another shell (smm-bt emulator) and give the "
            "address it prints with --address; a new run without --address starts its own."
        ) from problem


def _check_until(until_ms: int | None, present_ms: int) -> None:
    if until_ms is not None and until_ms <= present_ms:
        raise UsageError(
            f"--until {iso_utc(until_ms)} is not later than the present of this market, {iso_utc(present_ms)}: nothing "
            "would be traded. Give a later moment, or leave it out."
        )
