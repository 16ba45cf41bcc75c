"""The one place that imports ccxt: guarded exchange objects, and requests whose failures are all of one kind."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

import ccxt
import requests
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential, wait_random
from urllib3.exceptions import NameResolutionError

from smm_bt.execution.endpoints import ForbiddenRequest, PracticeVenue, PublicDataRules
from smm_bt.execution.host_clock import ClockReading, HostClock, SystemClock
from smm_bt.execution.transport import GuardedSession, SendingRules
from smm_bt.execution.venue_errors import Failure, Kind, Reaction, VenueFault, VenueSilent
from smm_bt.execution.weight_budget import WeightBudget

Exchange = Any  # ccxt.binanceusdm; its own annotations do not hold under strict checking
Answer = TypeVar("Answer")

_TIME = "fapiPublicGetTime"
_PROXY_SETTINGS = (
    *("proxies", "proxy", "proxyUrl", "proxyUrlCallback", "httpProxy", "httpProxyCallback", "httpsProxy"),
    *("httpsProxyCallback", "socksProxy", "socksProxyCallback", "aiohttp_proxy"),
)


@dataclass(frozen=True)
class ApiKeys:
    """A practice account's key and secret; never shown."""

    key: str = field(repr=False)
    secret: str = field(repr=False)


class _Refused(ccxt.ExchangeError):  # type: ignore[misc]
    """Carries a failure through ccxt's own layers."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class _GuardedExchange(ccxt.binanceusdm):  # type: ignore[misc]
    """ccxt's USDⓈ-M client behind a transport that cannot be exchanged."""

    def __init__(self, rules: SendingRules, budget: WeightBudget, settings: dict[str, Any]) -> None:
        self._guard = (rules, GuardedSession(rules))
        self._budget = budget
        super().__init__(settings)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if cls.__module__ != __name__:
            raise TypeError("guarded exchange objects cannot be subclassed")

    def __reduce__(self) -> NoReturn:
        raise TypeError("an exchange object holds keys and a guarded session; it cannot be pickled")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    @property
    def session(self) -> GuardedSession:
        """The guarded session."""
        return self._guard[1]

    @session.setter
    def session(self, value: object) -> None:
        if value is not None:
            raise ForbiddenRequest("The exchange object's session cannot be exchanged.")

    def set_sandbox_mode(self, enabled: bool) -> NoReturn:
        """Refuse: the old test host takes no orders any more, and leaving it would lead to production."""
        raise ForbiddenRequest("The sandbox switch is not used: the venue was fixed when this object was made.")

    def fetch(self, url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        """Send one request, if the rules allow it."""
        rules, session = self._guard
        if any(getattr(self, name, None) for name in _PROXY_SETTINGS):
            raise ForbiddenRequest("A proxy was set on the exchange object; requests go to the venue directly.")
        if type(session) is not GuardedSession or self.session is not session:
            raise ForbiddenRequest("The exchange object's session was exchanged; nothing was sent.")
        rules.check(method, url, dict(headers or {}), body)
        return super().fetch(url, method, headers, body)

    def handle_errors(
        self,
        code: int,
        reason: str,
        url: str,
        method: str,
        headers: Any,
        body: str,
        response: Any,
        request_headers: Any,
        request_body: Any,
    ) -> None:
        """Learn the used weight; turn every answer that is no success into one kind of error, by its code."""
        self._budget.learn(headers)
        failure = _failure(code, headers, body, response)
        if failure is not None:
            raise _Refused(failure)


class _PracticeExchange(_GuardedExchange):
    """Trades on a practice venue; its whole URL table is that venue's."""

    def __init__(self, venue: PracticeVenue, keys: ApiKeys, budget: WeightBudget, timeout_s: float, window_ms: int):
        options = {
            "fetchCurrencies": False,
            "fetchMargins": False,
            "adjustForTimeDifference": False,
            "recvWindow": window_ms,
            "fetchOpenOrders": {"warnWithoutSymbol": False},
            "timeDifference": 0,
        }
        settings = {"apiKey": keys.key, "secret": keys.secret, "timeout": timeout_s * 1000, "options": options}
        super().__init__(venue, budget, settings | {"enableRateLimit": False})
        super().enable_demo_trading(True)
        table = venue.url_table()
        self.urls = {"api": table, "test": table, "demo": table, "apiBackupDemoTrading": table}

    def enable_demo_trading(self, enable: bool) -> None:
        """Refuse to leave demo trading."""
        if enable is not True:
            raise ForbiddenRequest("Demo trading cannot be switched off: there is no way to a real account.")


class _KeylessExchange(_GuardedExchange):
    """Reads public market data; it has no key and cannot sign."""

    def __init__(self, rules: PublicDataRules, budget: WeightBudget, timeout_s: float) -> None:
        options = {"fetchCurrencies": False, "fetchMargins": False, "adjustForTimeDifference": False}
        super().__init__(rules, budget, {"timeout": timeout_s * 1000, "options": options, "enableRateLimit": False})
        self.urls = {"api": rules.url_table()}

    def sign(
        self,
        path: str,
        api: Any = "public",
        method: str = "GET",
        params: Any = None,
        headers: Any = None,
        body: Any = None,
    ) -> Any:
        """Make the address of a public read; refuse everything else."""
        kind = api if isinstance(api, str) else api[0]
        if kind != "fapiPublic" or method != "GET" or self.apiKey or self.secret:
            raise ForbiddenRequest(f"The market-data client was asked for {method} {kind}/{path}; it only reads.")
        return super().sign(path, ["fapiPublic"], method, params or {})

    def enable_demo_trading(self, enable: bool) -> NoReturn:
        """Refuse: there is nothing to switch."""
        raise ForbiddenRequest("The market-data client trades nowhere.")


def _failure(status: int, headers: Mapping[str, str], body: str | None, response: Any) -> Failure | None:
    after = _retry_after(headers)
    refusal = response[0] if isinstance(response, list) and len(response) == 1 else response
    code = _number(refusal.get("code")) if isinstance(refusal, dict) else None
    if code is not None and code < 0:
        return Failure(Kind.CODE, str(refusal.get("msg", ""))[:200], code, status, after)
    if status >= 400:
        return Failure(Kind.STATUS, str(body or "")[:60], 0, status, after)
    if not isinstance(response, (dict, list)):
        return Failure(Kind.GARBLED, f"HTTP {status} with a body that is not JSON", 0, status, after)
    return None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    told = {name.lower(): value for name, value in headers.items()}.get("retry-after", "")
    return float(told) if told.isdigit() else None


def _number(value: object) -> int | None:
    try:
        return int(str(value))
    except ValueError:
        return None


class _Wire:
    """Sends requests through a guarded exchange object and turns every failure into a :class:`VenueFault`."""

    def __init__(
        self, exchange: Exchange, budget: WeightBudget, clock: HostClock, retries: int, first_wait_s: float = 0.25
    ) -> None:
        self.exchange = exchange
        self.budget = budget
        self.clock = clock
        self._retries = retries
        self._backoff = wait_exponential(multiplier=first_wait_s, max=8.0) + wait_random(0.0, first_wait_s)

    def once(self, endpoint: str, params: Mapping[str, object], weight: int, *, order: bool = False) -> Any:
        """Send one request once.

        Args:
            endpoint: ccxt's name of it, such as ``fapiPrivateGetUserTrades``.
            params: plain parameters; numbers as text where they must be exact.
            weight: its request weight.
            order: whether it makes an order, which has its own limits and may not wait behind reads.

        Raises:
            VenueFault: it failed; the fault's rule says what that means.
            ForbiddenRequest: it was stopped before it left this machine.
        """
        self.budget.take(weight, order=order)
        return self._send(endpoint, params)

    def _send(self, endpoint: str, params: Mapping[str, object]) -> Any:
        try:
            return getattr(self.exchange, endpoint)(dict(params))
        except _Refused as refused:
            raise VenueFault(endpoint, refused.failure) from None
        except ccxt.BaseError as problem:
            raise VenueFault(endpoint, _failure_without_answer(problem)) from None
        except requests.RequestException as problem:
            raise VenueFault(endpoint, Failure(Kind.SILENCE, f"no answer ({type(problem).__name__})")) from None

    def read(self, endpoint: str, params: Mapping[str, object], weight: int) -> Any:
        """Send a request that may be repeated, as often as it takes within the retries.

        Raises:
            VenueFault: the venue's answer is final.
            VenueSilent: no usable answer came in all tries.
        """
        return self._repeat(endpoint, lambda: self.once(endpoint, params, weight))

    def _repeat(self, endpoint: str, ask: Callable[[], Answer]) -> Answer:
        tries = Retrying(
            stop=stop_after_attempt(self._retries + 1),
            wait=self._wait,
            retry=retry_if_exception(_may_be_repeated),
            sleep=self.clock.sleep,
            before_sleep=self._prepare,
            reraise=True,
        )
        try:
            return tries(ask)
        except VenueFault as fault:
            if not _may_be_repeated(fault):
                raise
            raise VenueSilent(
                f"The venue gave no usable answer to {endpoint} in {self._retries + 1} tries; the last was: "
                f"{fault.failure}. Check the connection."
            ) from None

    def _wait(self, state: RetryCallState) -> float:
        fault = state.outcome.exception() if state.outcome else None
        if isinstance(fault, VenueFault) and fault.rule.read is Reaction.WAIT:
            return 0.0  # the budget holds the next try back
        return self._backoff(state)

    def _prepare(self, state: RetryCallState) -> None:
        fault = state.outcome.exception() if state.outcome else None
        if isinstance(fault, VenueFault):
            self.prepare_retry(fault)

    def prepare_retry(self, fault: VenueFault) -> None:
        """Do what must come before the next try: keep quiet as long as the venue wants, or read its clock."""
        if fault.rule.read is Reaction.WAIT:
            after = fault.failure.retry_after_s
            self.budget.pause(after if after is not None else 10.0)
        elif fault.rule.read is Reaction.RESYNC:
            self.sync_clock()

    def read_clock(self) -> ClockReading:
        """Ask for the venue's time, dated by the try that was answered: the tries before it may have taken long.

        Raises:
            VenueFault, VenueSilent: as :meth:`read` does.
        """
        return self._repeat(_TIME, self._read_clock_once)

    def _read_clock_once(self) -> ClockReading:
        self.budget.take(1)
        wall_ms, steady_s = self.clock.now_ms(), self.clock.seconds()
        told = _number(self._send(_TIME, {}).get("serverTime"))
        if told is None:
            raise VenueFault(_TIME, Failure(Kind.GARBLED, "no serverTime in the answer"))
        return ClockReading(told, (wall_ms + self.clock.now_ms()) // 2, (steady_s + self.clock.seconds()) / 2)

    def sync_clock(self) -> int:
        """Read the venue's clock; later requests carry its time. Returns venue minus machine in milliseconds."""
        reading = self.read_clock()
        self.exchange.options["timeDifference"] = reading.wall_ms - reading.venue_ms
        return reading.venue_ms - reading.wall_ms


def _may_be_repeated(problem: BaseException) -> bool:
    return isinstance(problem, VenueFault) and problem.rule.read in (Reaction.AGAIN, Reaction.RESYNC, Reaction.WAIT)


def _failure_without_answer(problem: Exception) -> Failure:
    """Classify what ccxt raised by itself; its texts hold signed addresses and are dropped."""
    network = isinstance(problem, ccxt.OperationFailed) or isinstance(problem.__cause__, requests.RequestException)
    if network:
        lost = problem.__cause__.args[0] if problem.__cause__ is not None and problem.__cause__.args else None
        nameless = isinstance(getattr(lost, "reason", None), NameResolutionError)
        why = "its name is not found, so DNS or the connection fails" if nameless else type(problem).__name__
        return Failure(Kind.SILENCE, f"no answer ({why})")
    if isinstance(problem.__cause__, (ValueError, json.JSONDecodeError)):
        return Failure(Kind.GARBLED, "an answer that cannot be read")
    return Failure(Kind.LOCAL, f"{type(problem).__name__} inside the client library")


class TradingWire(_Wire):
    """Signed requests to one practice venue.

    Args:
        venue: where they go; there is no other place they could go.
        keys: of an account at that venue.
        retries: how often a read is repeated before the venue counts as silent.
        timeout_s: how long one answer is waited for.
        first_wait_s: how long is waited before the first repetition, about; it doubles from there.
        recv_window_ms: how long after being signed the venue may still act on a request.
        budget: shared with other clients on this address.
        clock: where time comes from.
    """

    def __init__(
        self,
        venue: PracticeVenue,
        keys: ApiKeys,
        *,
        retries: int = 5,
        timeout_s: float = 10.0,
        recv_window_ms: int = 5000,
        first_wait_s: float = 0.25,
        budget: WeightBudget | None = None,
        clock: HostClock | None = None,
    ) -> None:
        if type(venue) is not PracticeVenue:
            raise TypeError("orders are sent to a PracticeVenue and nowhere else")
        clock, self.venue = clock or SystemClock(), venue
        self.timeout_s, self.recv_window_ms = timeout_s, recv_window_ms
        budget = budget or WeightBudget(clock)
        logging.getLogger("ccxt").setLevel(logging.WARNING)  # its debug lines hold signed addresses
        exchange = _PracticeExchange(venue, keys, budget, timeout_s, recv_window_ms)
        super().__init__(exchange, budget, clock, retries, first_wait_s)

    def know_markets(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Let ccxt know the markets, so that its own dicts name them as its users expect."""
        perpetual = [dict(row) for row in rows if row.get("contractType") == "PERPETUAL"]
        self.exchange.set_markets([self.exchange.parse_market(row) for row in perpetual])

    def unified_order(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return ccxt's unified dict of an order row."""
        try:
            return dict(self.exchange.parse_order(dict(row)))
        except ccxt.BaseError as problem:
            raise VenueFault("order", _failure_without_answer(problem)) from None


class PublicWire(_Wire):
    """Keyless reads of public market data, from production or from a practice venue."""

    def __init__(
        self,
        practice: PracticeVenue | None = None,
        *,
        retries: int = 5,
        timeout_s: float = 10.0,
        budget: WeightBudget | None = None,
        clock: HostClock | None = None,
    ) -> None:
        clock = clock or SystemClock()
        budget = budget or WeightBudget(clock)
        super().__init__(_KeylessExchange(PublicDataRules(practice), budget, timeout_s), budget, clock, retries)
