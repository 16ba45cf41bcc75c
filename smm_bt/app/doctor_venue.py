"""The doctor's checks of the venue: each host in use, this machine's clock, and what the demo keys may do."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from smm_bt.app.doctor_lines import Finding, Level, fail, ok, warn
from smm_bt.app.settings import Settings
from smm_bt.app.venue_reach import ask_clock, public_address
from smm_bt.errors import SettingsError, VenueError
from smm_bt.execution.ccxt_client import ApiKeys, TradingWire
from smm_bt.execution.endpoints import PracticeVenue, practice_venue
from smm_bt.execution.venue_client import VenueClient
from smm_bt.execution.venue_errors import VenueFault

_TIMEOUT_S = 4.0
_CLOCK_MS = 1_000
_KEY_NAMES = "BINANCE_TESTNET_API_KEY and BINANCE_TESTNET_API_SECRET"


def check_hosts(settings: Settings, address: str | None) -> Iterator[Finding]:
    """Ask every host a run with these settings would use; keys are used in TESTNET only.

    Args:
        settings: those in force.
        address: a practice venue or an exchange on this machine instead of the usual hosts.
    """
    try:
        practice = PracticeVenue(address) if address is not None else None
    except SettingsError as problem:
        yield fail("Hosts", str(problem), "Leave --venue out.")
        return
    yield from _public_host(practice)
    try:
        venue = practice_venue(settings.TRADING_MODE, address)
    except SettingsError:
        yield ok("Keys", "none needed and none loaded: PAPER sends nothing private anywhere")
        return
    yield from _trading_host(settings, venue, asked_already=practice is not None)


def _public_host(practice: PracticeVenue | None) -> Iterator[Finding]:
    name = f"Host {public_address(practice)}"
    try:
        clock = ask_clock(practice, tries=1, timeout_s=_TIMEOUT_S)
    except VenueError as problem:
        yield warn(name, str(problem), "Without it there is no download and no live trading on Binance's candles.")
        return
    yield ok(name, "answers; public candles can be read without a key")
    yield _clock(clock.ahead_ms)


def _clock(ahead_ms: int) -> Finding:
    if abs(ahead_ms) > _CLOCK_MS:
        way = "behind" if ahead_ms > 0 else "ahead of"
        return warn(
            "Clock",
            f"this machine's is {abs(ahead_ms) / 1000:,.1f} s {way} the venue's",
            "Candles go by the venue's clock, so runs are right; but switch time synchronisation (NTP) on.",
        )
    return ok("Clock", f"within {abs(ahead_ms)} ms of the venue's")


def _trading_host(settings: Settings, venue: PracticeVenue, *, asked_already: bool) -> Iterator[Finding]:
    name = f"Host {venue.address}"
    if not asked_already:
        try:
            ask_clock(venue, tries=1, timeout_s=_TIMEOUT_S)
        except VenueError as problem:
            yield fail(name, str(problem), "TESTNET needs it; PAPER does not.")
            return
        yield ok(name, "answers; TESTNET orders go there")
    key, secret = settings.BINANCE_TESTNET_API_KEY, settings.BINANCE_TESTNET_API_SECRET
    if key is None or secret is None:
        yield fail("Keys", "TESTNET is set, but a key is missing", f"Set {_KEY_NAMES} to those of a demo account.")
        return
    yield from check_keys(venue, ApiKeys(key.get_secret_value(), secret.get_secret_value()))


def check_keys(venue: PracticeVenue, keys: ApiKeys) -> Iterator[Finding]:
    """Ask the practice venue what these keys may do: read the account, and place orders (which are only checked)."""
    client = VenueClient(TradingWire(venue, keys, retries=1, timeout_s=_TIMEOUT_S))
    try:
        client.wire.sync_clock()
        account = client.account()
        hedge, multi_assets = client.modes()
    except VenueFault as fault:
        yield _refused(fault, "may not read the account")
        return
    except VenueError as problem:
        yield fail("Keys", str(problem), "Try again later.")
        return
    yield ok("Keys", f"read the account: {account.available_usdt:,.2f} USDT free on {venue.address}")
    yield from _account_modes(account.quantities, hedge=hedge, multi_assets=multi_assets)
    yield _may_trade(client)


def _account_modes(quantities: dict[str, Decimal], *, hedge: bool, multi_assets: bool) -> Iterator[Finding]:
    if multi_assets:
        yield fail(
            "Account", "is in multi-assets mode, which has no isolated margin", "Switch it to single-asset mode."
        )
    if hedge:
        yield warn("Account", "is in hedge mode", "A run switches it to one-way mode, which needs it to be flat.")
    if quantities:
        held = ", ".join(f"{quantity:f} {symbol}" for symbol, quantity in quantities.items())
        yield warn("Account", f"holds {held}", "Close what is not this program's, or give it an account of its own.")


def _may_trade(client: VenueClient) -> Finding:
    """Have the venue check an order without placing it; only a refusal of the key itself counts."""
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"}
    try:
        client.wire.once("fapiPrivatePostOrderTest", order, 1)
    except VenueFault as fault:
        if fault.failure.code in (-2008, -2014, -2015, -1022) or fault.failure.status in (401, 403):
            return _refused(fault, "may read, but not trade futures")
        return ok("Key permissions", f"trading is not refused to the key (the test order itself was: {fault.failure})")
    return ok("Key permissions", "futures orders are accepted (checked with a test order that is not placed)")


def _refused(fault: VenueFault, what: str) -> Finding:
    level = Level.FAIL
    return Finding(
        level,
        "Keys",
        f"the key {what}: {fault.failure} ({fault.rule.meaning})",
        f"Make keys on demo.binance.com with futures allowed, and set {_KEY_NAMES}; keys of other hosts do not work.",
    )
