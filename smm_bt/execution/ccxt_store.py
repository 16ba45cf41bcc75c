"""CcxtStore: Backtrader's store for Binance USDⓈ-M practice venues, with the names ccxtbt's users know."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import backtrader as bt

from smm_bt.errors import SettingsError
from smm_bt.execution.account_lock import AccountLock
from smm_bt.execution.broker_orders import venue_symbol
from smm_bt.execution.ccxt_broker import CcxtBroker
from smm_bt.execution.ccxt_client import ApiKeys, TradingWire
from smm_bt.execution.ccxt_feed import CcxtFeed
from smm_bt.execution.costs import NoStopLoss
from smm_bt.execution.endpoints import ForbiddenRequest, PracticeVenue
from smm_bt.execution.run_recorder import RunRecorder
from smm_bt.execution.settle import Patience
from smm_bt.execution.venue_account import VenueAccount
from smm_bt.execution.venue_client import VenueClient
from smm_bt.execution.venue_startup import ResumeState

#: Entries of ccxtbt's ``config`` that mean something here, and those that are harmless and ignored.
_USED = {"apiKey", "secret", "timeout"}
_IGNORED = {"enableRateLimit", "nonce", "rateLimit", "verbose"}


class _EachCallMakesOne(type(bt.Store)):  # type: ignore[misc]
    """Backtrader's stores are singletons that ignore later arguments; this one is not."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        cls._singleton = None
        made = super().__call__(*args, **kwargs)
        cls._singleton = None
        return made


class CcxtStore(bt.Store, metaclass=_EachCallMakesOne):
    """One account on one practice venue.

    Args:
        exchange: ``binanceusdm``; nothing else is served.
        currency: ``USDT``; nothing else is served.
        config: ``apiKey``, ``secret`` and, in milliseconds, ``timeout``; entries that could change where requests go
            are refused.
        retries: how often a read is repeated before the venue counts as silent.
        debug: accepted and unused; the journal says more.
        sandbox: either value means the practice venue; there is no other.
        venue: where to trade; the demo venue by default.
        symbols: what the run trades; by default what feeds were made for.
        run_id: names the run in every client order id; made up by default.
        recorder: the journal.
        stop_loss: the optional stop, kept at the venue.
        adopt: take over positions this run did not open.
        resume: what an earlier process of this run wrote down.
        lock_folder: where the account's lock file lives; None takes no lock.
        patience: how long to wait for the venue.
        is_fresh: whether a position may still be opened on the candle with this open time, UTC milliseconds; by
            default an entry is given up ``patience.fresh_s`` after it was to be sent.
        wire_options: further keywords of :class:`TradingWire` (recv_window_ms, budget, clock).
    """

    def __init__(
        self,
        exchange: str = "binanceusdm",
        currency: str = "USDT",
        config: Mapping[str, Any] | None = None,
        retries: int = 5,
        debug: bool = False,
        sandbox: bool = True,
        *,
        venue: PracticeVenue | None = None,
        symbols: Sequence[str] = (),
        run_id: str | None = None,
        recorder: RunRecorder | None = None,
        stop_loss: NoStopLoss | None = None,
        adopt: bool = False,
        resume: ResumeState | None = None,
        lock_folder: Path | None = None,
        patience: Patience | None = None,
        is_fresh: Callable[[int], bool] | None = None,
        wire_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        keys, timeout_s = _checked(exchange, currency, config or {})
        self.currency, self.retries, self.debug = currency, retries, debug
        self.venue = venue or PracticeVenue()
        options: dict[str, Any] = {"timeout_s": timeout_s} | dict(wire_options or {})
        self.client = VenueClient(TradingWire(self.venue, keys, retries=retries, **options))
        self._lock = AccountLock(lock_folder, self.venue.address, keys.key) if lock_folder is not None else None
        self._symbols = [venue_symbol(symbol) for symbol in symbols]
        self._account_options: dict[str, Any] = {
            "recorder": recorder,
            "stop_loss": stop_loss,
            "patience": patience,
            "adopt": adopt,
            "is_fresh": is_fresh,
        }
        self._run_id = run_id or uuid.uuid4().hex
        self._resume = resume
        self.account: VenueAccount | None = None

    @property
    def exchange(self) -> Any:
        """The ccxt object, guarded: it can reach the practice venue and nothing else."""
        return self.client.wire.exchange

    # ---- parts for Cerebro

    def getdata(self, *args: Any, **kwargs: Any) -> CcxtFeed:
        """Return a feed of closed candles; keywords are ccxtbt's (dataname, name, timeframe, compression, …)."""
        name = str(kwargs.get("dataname") or (args[0] if args else ""))
        if name:
            kwargs.setdefault("name", venue_symbol(name))
            if venue_symbol(name) not in self._symbols:
                self._symbols.append(venue_symbol(name))
        make: Any = CcxtFeed  # backtrader's metaclass takes params as keywords
        feed: CcxtFeed = make(*args, client=self.client, clock=self.client.wire.clock, **kwargs)
        feed._store = self
        return feed

    def getbroker(self, broker_mapping: Mapping[str, Any] | None = None, debug: bool = False) -> CcxtBroker:
        """Start the account (or find it started) and return its broker.

        Raises:
            VenueError: the account cannot be brought into the state the rules know.
            RunFailed: another bot trades this account.
        """
        broker = CcxtBroker(self.open_account(), broker_mapping)
        broker._store = self
        return broker

    def open_account(self) -> VenueAccount:
        """Lock and start the account, once."""
        if self.account is None:
            if not self._symbols:
                raise SettingsError("The store does not know what to trade; give symbols=('BTCUSDT',).")
            if self._lock is not None:
                self._lock.acquire()
            account = VenueAccount(self.client, self._symbols, self._run_id, **self._account_options)
            try:
                account.start(self._resume)
            except BaseException:
                self.close()
                raise
            self.account = account
        return self.account

    def close(self) -> None:
        """Let go of the account's lock."""
        if self._lock is not None:
            self._lock.release()

    def stop(self) -> None:
        """Cerebro has ended."""
        self.close()

    # ---- what ccxtbt's users call

    def get_balance(self) -> tuple[float, float]:
        """Read and return (free balance, equity without unrealised profit) in USDT."""
        state = self.client.account()
        return float(state.available_usdt), float(state.wallet_usdt)

    def get_wallet_balance(self, currency: str = "USDT", params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return ccxt-style ``{currency: {free, total}}``."""
        free, total = self.get_balance() if currency == self.currency else (0.0, 0.0)
        return {currency: {"free": free, "used": total - free, "total": total}}

    def fetch_open_orders(self, symbol: str | None = None) -> list[dict[str, Any]]:
        """Return ccxt's unified dicts of the open orders."""
        wanted = venue_symbol(symbol) if symbol else None
        orders = [order for order in self.client.open_orders() if wanted in (None, order.symbol)]
        return [self.client.wire.unified_order(order.raw) for order in orders]

    get_orders_open = fetch_open_orders

    def private_end_point(self, type: str, endpoint: str, params: Any = None, prefix: str = "") -> Any:  # noqa: A002 -- ccxtbt's name
        """Refuse: it would reach any endpoint with any parameters."""
        raise ForbiddenRequest(
            f"private_end_point({endpoint!r}) is not offered; the store has methods for what it does."
        )


def _checked(exchange: str, currency: str, config: Mapping[str, Any]) -> tuple[ApiKeys, float]:
    if exchange != "binanceusdm":
        raise SettingsError(f"exchange={exchange!r} is not served; the store trades binanceusdm on practice venues.")
    if currency != "USDT":
        raise SettingsError(f"currency={currency!r} is not served; the account holds USDT.")
    unknown = sorted(set(config) - _USED - _IGNORED)
    if unknown:
        raise SettingsError(
            f"config holds {', '.join(unknown)}, which could change where requests go; use apiKey, secret and timeout."
        )
    key, secret = str(config.get("apiKey") or ""), str(config.get("secret") or "")
    if not key or not secret:
        raise SettingsError("The practice account's apiKey and secret are needed; make them on the demo venue.")
    return ApiKeys(key, secret), float(config.get("timeout", 10_000)) / 1000
