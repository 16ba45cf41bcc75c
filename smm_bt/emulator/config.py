"""Everything that can be chosen about one embedded exchange, in one frozen object."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from smm_bt.emulator.candles import NamedFile

if TYPE_CHECKING:
    from smm_bt.emulator.faults import FaultRule


LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "::1"})
FASTEST: Final = 1_000_000.0


def _made_key() -> str:
    return secrets.token_urlsafe(48)


@dataclass(frozen=True)
class EmulatorConfig:
    """What one embedded exchange serves and how its clock runs.

    Args:
        candles: candle files to replay, one per symbol, all of one timeframe; empty means a made market. Symbol and
            timeframe are in a file's name, or told by a NamedFile; so are those of ``mark`` and ``funding``.
        mark: mark-price candle files (``BTCUSDT-mark-1h.csv.gz``); symbols without one are marked at the
            last price.
        funding: funding files (``timestamp,funding_rate``) named by symbol.
        made_funding_rate: without a funding file, settle this rate every eight hours (None: no funding).
        exchange_info: the venue's exchangeInfo as JSON or JSON.gz; default the built-in dated table.
        brackets: the venue's leverageBracket as JSON or JSON.gz; default the built-in dated table.
        symbols: symbols of a made market.
        seed: makes a made market repeatable.
        made_candles: candles of a made market, history included.
        timeframe: candle length of a made market.
        history_candles: candles already closed when the clock starts.
        start_ms: virtual time at the start instead of ``history_candles`` (ms UTC, a candle boundary).
        speed: None = stepped, 1.0 = real time, N = N times as fast.
        balance_usdt: wallet at the start.
        default_leverage: leverage of a symbol nobody has set.
        taker_rate: fee of a taker fill, a fraction of the notional.
        maker_rate: fee of a maker fill.
        spread_bps: distance between bid and ask around the last price, in basis points of it.
        weight_limit_1m: request weight allowed per minute of host time; 0 switches the limit off.
        order_limit_10s: orders allowed per ten seconds; 0 switches the limit off.
        order_limit_1m: orders allowed per minute; 0 switches the limit off.
        ban_seconds: how long a 418 ban lasts.
        check_timestamps: refuse signed requests outside their recvWindow.
        clock_offset_ms: how far the venue's clock is ahead of its own market time.
        faults: fault rules active from the start.
        control: serve the ``/emulator/`` control endpoint (tests only).
        state: SQLite file the account survives in; None keeps it in memory.
        api_key: accepted key; made for the run by default.
        api_secret: its secret; made for the run by default.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
    """

    candles: tuple[Path | NamedFile, ...] = ()
    mark: tuple[Path | NamedFile, ...] = ()
    funding: tuple[Path | NamedFile, ...] = ()
    made_funding_rate: Decimal | None = None
    exchange_info: Path | None = None
    brackets: Path | None = None
    symbols: tuple[str, ...] = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
    seed: int = 1
    made_candles: int = 20_000
    timeframe: str = "5m"
    history_candles: int = 1_500
    start_ms: int | None = None
    speed: float | None = None
    balance_usdt: Decimal = Decimal(10_000)
    default_leverage: int = 20
    taker_rate: Decimal = Decimal("0.0005")
    maker_rate: Decimal = Decimal("0.0002")
    spread_bps: Decimal = Decimal(0)
    weight_limit_1m: int = 2_400
    order_limit_10s: int = 300
    order_limit_1m: int = 1_200
    ban_seconds: float = 120.0
    check_timestamps: bool = True
    clock_offset_ms: int = 0
    faults: tuple[FaultRule, ...] = ()
    control: bool = False
    state: Path | None = None
    api_key: str = field(default_factory=_made_key, repr=False)
    api_secret: str = field(default_factory=_made_key, repr=False)
    host: str = "127.0.0.1"
    port: int = 0

    def __post_init__(self) -> None:
        if self.host not in LOOPBACK_HOSTS:
            raise ValueError(f"the embedded exchange listens on loopback only, found host {self.host!r}")
        if self.speed is not None and not 0 < self.speed <= FASTEST:
            raise ValueError(f"speed must be None (stepped) or above 0 and at most {FASTEST:g}, found {self.speed}")
        if self.history_candles < 0 or self.made_candles < 1 or self.balance_usdt < 0:
            raise ValueError("history_candles, made_candles and balance_usdt must not be negative")

    @property
    def stepped(self) -> bool:
        """Whether the clock stands until it is stepped."""
        return self.speed is None
