"""Where requests may go: the venue's practice hosts and loopback for trading, keyless hosts for market data.

There is no name, member or value in this module under which an order could be sent to a real account:
:class:`PracticeVenue` is the only thing a trading client accepts, it cannot be subclassed or changed, and it checks
its address whenever it comes into being, from a pickle too.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, NoReturn, final
from urllib.parse import urlsplit

from feeds.timeframes import TIMEFRAMES_MS
from smm_bt.errors import SettingsError, VenueError
from smm_bt.model import TradingMode

#: The demo venue and its predecessor; nothing else outside this machine takes orders of ours.
_PRACTICE_HOSTS: Final = ("demo-fapi.binance.com", "testnet.binancefuture.com")

#: Serves candles to anyone; :class:`PublicDataRules` lets nothing else through to it.
_PUBLIC_DATA_ORIGIN: Final = "https://fapi.binance.com"

#: The only paths a keyless market-data client may read.
PUBLIC_PATHS: Final = frozenset(
    f"/fapi/v1/{name}"
    for name in (
        "time",
        "exchangeInfo",
        "klines",
        "markPriceKlines",
        "ticker/24hr",
        "ticker/price",
        "ticker/bookTicker",
        "premiumIndex",
        "fundingRate",
        "fundingInfo",
    )
)

#: Where the candles of a host are told without being asked for; nothing can be ordered there and no key is sent.
_STREAM_ORIGINS: Final = {
    "fapi.binance.com": "wss://fstream.binance.com",
    "demo-fapi.binance.com": "wss://fstream.binancefuture.com",
    "testnet.binancefuture.com": "wss://fstream.binancefuture.com",
}
_STREAM_PATH: Final = "/market/stream?streams="
_STREAM_NAME: Final = re.compile(rf"[a-z0-9_]{{1,40}}@kline_({'|'.join(TIMEFRAMES_MS)})")
#: The venue allows this many on one connection; the address stays far below what web servers take.
_MOST_STREAMS, _LONGEST_STREAMS = 200, 3800


class ForbiddenRequest(VenueError):
    """A request was stopped before it left this machine: it was not meant for a practice venue."""


class Origin(NamedTuple):
    """Scheme, host and port: what decides where a request arrives."""

    scheme: str
    host: str
    port: int


def origin_of(url: str) -> Origin:
    """Return where ``url`` leads.

    Raises:
        ForbiddenRequest: it cannot be told, or the address hides it (credentials, backslashes, control characters).
    """
    if not isinstance(url, str) or any(sign in url for sign in "\\@\r\n\t ") or not url.isascii():
        raise ForbiddenRequest(f"{_shown(url)} is not a plain address; nothing was sent.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as problem:
        raise ForbiddenRequest(f"{_shown(url)} is not a plain address; nothing was sent.") from problem
    scheme, host = parts.scheme.lower(), (parts.hostname or "").rstrip(".")
    if scheme not in ("http", "https") or not host:
        raise ForbiddenRequest(f"{_shown(url)} is not a web address; nothing was sent.")
    return Origin(scheme, host, port if port is not None else (443 if scheme == "https" else 80))


def _shown(url: object) -> str:
    """Return an address without its query, which may hold a signature."""
    return repr(str(url).partition("?")[0][:120])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_practice(origin: Origin) -> bool:
    if _is_loopback(origin.host):
        return True
    return origin.scheme == "https" and origin.port == 443 and origin.host in _PRACTICE_HOSTS


@final
class PracticeVenue:
    """A venue on which nothing is real: Binance's demo or old test host, or an exchange on this machine.

    Args:
        address: for example ``https://demo-fapi.binance.com`` or ``http://127.0.0.1:8765``.

    Raises:
        SettingsError: the address is anything else.
    """

    __slots__ = ("_origin",)
    _origin: Origin

    def __init__(self, address: str = "https://demo-fapi.binance.com") -> None:
        origin: Origin | None = None
        path = ""
        try:
            origin = origin_of(address)
            path = urlsplit(address).path
        except ForbiddenRequest:
            pass
        if origin is not None and origin.host == "localhost":
            origin = origin._replace(host="127.0.0.1")
        if origin is None or not _is_practice(origin) or path.strip("/"):
            allowed = ", ".join(f"https://{host}" for host in _PRACTICE_HOSTS)
            raise SettingsError(
                f"Orders cannot be sent to {_shown(address)}: only practice venues are reachable "
                f"({allowed}, or http://127.0.0.1:PORT). There is no way to a real account."
            )
        object.__setattr__(self, "_origin", origin)

    def __init_subclass__(cls, **kwargs: Any) -> NoReturn:
        raise TypeError("PracticeVenue cannot be subclassed: it is what keeps real accounts out of reach")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a PracticeVenue cannot be changed")

    __delattr__ = __setattr__  # type: ignore[assignment]

    def __reduce__(self) -> tuple[type[PracticeVenue], tuple[str]]:
        return PracticeVenue, (self.address,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PracticeVenue) and other.address == self.address

    def __hash__(self) -> int:
        return hash(self.address)

    def __repr__(self) -> str:
        return f"PracticeVenue({self.address!r})"

    @property
    def address(self) -> str:
        """Scheme, host and, where it is not the usual one, port."""
        origin = self._origin
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        usual = origin.port == (443 if origin.scheme == "https" else 80)
        return f"{origin.scheme}://{host}" + ("" if usual else f":{origin.port}")

    @property
    def is_loopback(self) -> bool:
        """Whether the venue runs on this machine."""
        return _is_loopback(self._origin.host)

    def url_table(self) -> dict[str, str]:
        """Return the whole URL table of a futures client; families that are not in it cannot be called."""
        versions = {"": "v1", "V2": "v2", "V3": "v3"}
        return {
            f"fapi{access}{suffix}": f"{self.address}/fapi/{version}"
            for access in ("Public", "Private")
            for suffix, version in versions.items()
        }

    def check(self, method: str, url: str, headers: object, body: object) -> None:
        """Refuse a request that would not arrive at this venue's futures interface.

        Raises:
            ForbiddenRequest: it leads elsewhere; nothing has been sent.
        """
        origin = origin_of(url)
        if origin != self._origin or not _is_practice(origin):
            raise ForbiddenRequest(
                f"A {method} request to {_shown(url)} was stopped: this run may talk to {self.address} only."
            )
        path = urlsplit(url).path
        if not path.startswith("/fapi/") or ".." in path or "%" in path:
            raise ForbiddenRequest(f"A {method} request to {_shown(url)} was stopped: only /fapi/ is used.")


class PublicDataRules:
    """What a keyless market-data client may send: GET, the listed paths, no key, no signature.

    Args:
        practice: read from this venue instead of the production host's public data.
    """

    def __init__(self, practice: PracticeVenue | None = None) -> None:
        self.address = _PUBLIC_DATA_ORIGIN if practice is None else practice.address
        self._origin = origin_of(self.address)

    def url_table(self) -> dict[str, str]:
        """Return a URL table with public entries only."""
        return {"fapiPublic": f"{self.address}/fapi/v1"}

    def check(self, method: str, url: str, headers: object, body: object) -> None:
        """Refuse whatever is not a keyless read of a listed path.

        Raises:
            ForbiddenRequest: nothing has been sent.
        """
        names = {str(name).lower() for name in headers} if isinstance(headers, dict) else set()
        parts = urlsplit(url) if isinstance(url, str) else urlsplit("")
        allowed = (
            origin_of(url) == self._origin
            and method == "GET"
            and parts.path in PUBLIC_PATHS
            and not body
            and "x-mbx-apikey" not in names
            and "signature=" not in parts.query.lower()
        )
        if not allowed:
            raise ForbiddenRequest(
                f"A {method} request to {_shown(url)} was stopped: the market-data client reads public paths of "
                f"{self.address} without a key, and nothing else."
            )


@final
class KlineStreams:
    """Where closed candles may be listened to: the public candle streams of one venue, named in the address.

    Args:
        practice: listen to this venue instead of the production host's public data.
    """

    __slots__ = ("_practice",)
    _practice: PracticeVenue | None

    def __init__(self, practice: PracticeVenue | None = None) -> None:
        object.__setattr__(self, "_practice", practice)
        _ = self.address  # what has no streams is refused here

    def __init_subclass__(cls, **kwargs: Any) -> NoReturn:
        raise TypeError("KlineStreams cannot be subclassed: it decides what may be listened to")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a KlineStreams cannot be changed")

    __delattr__ = __setattr__  # type: ignore[assignment]

    @property
    def address(self) -> str:
        """Scheme, host and, where it is not the usual one, port; told anew each time, from the table or loopback."""
        address = _PUBLIC_DATA_ORIGIN if self._practice is None else self._practice.address
        origin = origin_of(address)
        if _is_loopback(origin.host):
            return address.replace("http", "ws", 1)
        if origin.host not in _STREAM_ORIGINS:
            raise ForbiddenRequest(f"{_shown(address)} has no candle streams that may be listened to.")
        return _STREAM_ORIGINS[origin.host]

    @staticmethod
    def can_name(symbol: str) -> bool:
        """Return whether ``symbol`` can stand in an address as it is."""
        return symbol.isascii() and _STREAM_NAME.fullmatch(f"{symbol.lower()}@kline_1m") is not None

    def urls(self, symbols: Iterable[str], timeframe: str) -> list[list[str]]:
        """Return ``[address, symbol, symbol …]`` per connection, as many as the venue's limits ask for.

        Raises:
            ForbiddenRequest: a symbol or the timeframe is no plain name.
        """
        lines: list[list[str]] = []
        head = self.address + _STREAM_PATH
        for symbol in symbols:
            name = f"{symbol.lower()}@kline_{timeframe}"
            if not lines or len(lines[-1]) > _MOST_STREAMS or len(lines[-1][0]) + len(name) > _LONGEST_STREAMS:
                lines.append([head + name])
            else:
                lines[-1][0] += f"/{name}"
            lines[-1].append(symbol)
        for line in lines:
            self.check("GET", line[0], {}, None)
        return lines

    def check(self, method: str, url: str, headers: object, body: object) -> None:
        """Refuse whatever is not listening to public candle streams of this venue, letter for letter.

        Raises:
            ForbiddenRequest: nothing has been sent.
        """
        head = self.address + _STREAM_PATH
        names = {str(name).lower() for name in headers} if isinstance(headers, Iterable) else set()
        streams = url.removeprefix(head).split("/") if isinstance(url, str) and url.startswith(head) else [""]
        allowed = (
            method == "GET"
            and not body
            and not names & {"x-mbx-apikey", "authorization", "cookie", "proxy-authorization"}
            and all(_STREAM_NAME.fullmatch(stream) for stream in streams)
        )
        if not allowed:
            raise ForbiddenRequest(
                f"A connection to {_shown(url)} was stopped: this run may listen to the public candle streams of "
                f"{self.address}, and to nothing else."
            )


def practice_venue(mode: TradingMode, address: str | None = None) -> PracticeVenue:
    """Return where a run in ``mode`` sends its orders.

    Raises:
        SettingsError: PAPER sends no orders anywhere, or the address is not a practice venue's.
    """
    if mode is not TradingMode.TESTNET:
        raise SettingsError(f"TRADING_MODE {mode} sends no orders to any venue; only TESTNET does.")
    return PracticeVenue(address) if address is not None else PracticeVenue()
