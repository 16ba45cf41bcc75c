"""Where a live run's market comes from: Binance's public data, the demo venue, or the embedded exchange."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from feeds.timeframes import DAY_MS, timeframe_ms
from smm_bt.app.embedded import EmbeddedChild, EmbeddedExchange
from smm_bt.app.market_clock import MarketClock, RunningClock, Stepped, SteppedClock
from smm_bt.app.played_files import PlayedFiles, read_played
from smm_bt.app.settings import Settings
from smm_bt.app.streamed_candles import CandleStream, NoStream
from smm_bt.errors import UsageError
from smm_bt.execution.ccxt_client import PublicWire
from smm_bt.execution.endpoints import KlineStreams, PracticeVenue
from smm_bt.execution.host_clock import HostClock
from smm_bt.execution.venue_client import MarketDataClient
from smm_bt.execution.weight_budget import WeightBudget

BINANCE, EMBEDDED = "binance", "embedded"
#: The made market of a stepped run lasts this long after its history.
MADE_DAYS = 3
_RUNNING_DAYS = 60
#: Where candles are so long that these would be few, or none.
_FEWEST_MADE = 30
_READERS = 4
#: Candles that last less of the machine's time are read only: there would be no time to check them afterwards.
_SHORTEST_STREAMED_S = 1.0


@dataclass(frozen=True)
class MarketChoice:
    """What ``--market`` and its companions ask for.

    ``speed`` is times real time, infinity for ``max``; ``address`` names an embedded exchange that runs already;
    ``symbols`` are those named beside candle files, which must be of these then.
    """

    name: str = BINANCE
    speed: float = 1.0
    candles: Sequence[Path] = ()
    mark: Sequence[Path] = ()
    funding: Sequence[Path] = ()
    exchange_info: Path | None = None
    brackets: Path | None = None
    address: str = ""
    seed: int = 1
    symbols: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in (BINANCE, EMBEDDED):
            raise UsageError(f"--market {self.name}: there are two, {BINANCE} and {EMBEDDED}.")
        of_embedded = ("candles", "mark", "funding", "address")
        given = [name for name in of_embedded if getattr(self, name)]
        given += ["speed"] * (self.speed != 1.0) + ["seed"] * (self.seed != 1)
        if self.name == BINANCE and given:
            raise UsageError(
                f"--{given[0]} belongs to --market embedded and has no effect on Binance's market; leave it out, or "
                "use --market embedded."
            )

    @property
    def stepped(self) -> bool:
        """Whether the run moves the market itself, as fast as it can."""
        return math.isinf(self.speed)


class Stood(NamedTuple):
    """Where a market without a memory of its own is to go on: its time, and the first candle the run dealt with."""

    first_ms: int
    venue_ms: int


@dataclass(frozen=True)
class MarketShape:
    """The symbols and the timeframe of a run, and the files where files are played."""

    symbols: tuple[str, ...]
    timeframe: str
    played: PlayedFiles | None = None


def shape_of(choice: MarketChoice, settings: Settings) -> MarketShape:
    """Return what a run trades: what its candle files hold, else what the settings say.

    Raises:
        UsageError, CandleError: files that a replay would refuse, too, or that are of other symbols than those named.
    """
    if (choice.mark or choice.funding) and not choice.candles:
        raise UsageError("--mark and --funding belong to candle files; name these with --candles.")
    if not choice.candles:
        return MarketShape(settings.SYMBOLS, settings.TIMEFRAME or "5m")
    played = read_played(choice.candles, choice.mark, choice.funding, choice.symbols, settings)
    return MarketShape(tuple(played.candles), played.timeframe, played)


def embedded_options(
    choice: MarketChoice, shape: MarketShape, account: Mapping[str, object], history: int, stood: Stood | None
) -> dict[str, object]:
    """Return the embedded exchange's configuration as plain values.

    Candle files are played from their first candle; a made market has ``history`` closed candles at its start. A
    run that goes on begins where the market stood.
    """
    length_ms = timeframe_ms(shape.timeframe)
    options: dict[str, object] = {
        "exchange_info": str(choice.exchange_info.absolute()) if choice.exchange_info else None,
        "brackets": str(choice.brackets.absolute()) if choice.brackets else None,
        "speed": None if choice.stepped else choice.speed,
        "control": True,
        **account,
    }
    if choice.speed > 1:  # its minute has more requests than a real one, and harms nobody
        options |= {"weight_limit_1m": 0, "order_limit_10s": 0, "order_limit_1m": 0}
    if shape.played is not None:
        start_ms = stood.venue_ms if stood is not None else shape.played.first_ms
        return options | shape.played.told() | {"start_ms": start_ms}
    days = MADE_DAYS if choice.stepped else _RUNNING_DAYS
    made = history + max(_FEWEST_MADE, days * DAY_MS // length_ms)
    passed = 0 if stood is None else (stood.venue_ms - stood.first_ms) // length_ms
    return options | {
        "start_ms": None if stood is None else stood.venue_ms,
        "symbols": list(shape.symbols),
        "timeframe": shape.timeframe,
        "history_candles": history + passed,
        "made_candles": made,
        "seed": choice.seed,
    }


@dataclass
class MarketSource:
    """A market that is being read.

    ``name`` is what journal and report say; ``practice`` is the venue public data is read from, None for Binance's
    production data.
    """

    name: str
    practice: PracticeVenue | None
    speed: float
    host: HostClock
    embedded: EmbeddedExchange | None = None

    def readers(self, symbols: int) -> list[MarketDataClient]:
        """Return keyless readers that share one weight budget."""
        free = self.embedded is not None and self.speed > 1
        budget = WeightBudget(self.host, 10**9) if free else WeightBudget(self.host)
        count = 1 if math.isinf(self.speed) else min(_READERS, symbols)
        return [
            MarketDataClient(PublicWire(self.practice, retries=1, timeout_s=5.0, budget=budget, clock=self.host))
            for _ in range(count)
        ]

    def clock(self, reader: MarketDataClient) -> MarketClock:
        """Return the venue's time."""
        if self.embedded is not None and math.isinf(self.speed):
            status = self.embedded.status()
            return SteppedClock(self.embedded.step, Stepped(int(status["now_ms"]), bool(status["finished"])))
        finished = self.embedded.has_finished if self.embedded is not None else lambda: False
        return RunningClock(reader.clock_reading, self.host, self.speed, finished)

    def stream(self, symbols: Sequence[str], timeframe: str) -> CandleStream:
        """Return what tells closed candles by itself, where the market's time runs slowly enough for it."""
        if timeframe_ms(timeframe) / 1000 / self.speed < _SHORTEST_STREAMED_S:
            return NoStream()
        from smm_bt.execution.kline_stream import KlineStream

        return KlineStream(KlineStreams(self.practice), list(filter(KlineStreams.can_name, symbols)), timeframe)

    def close(self) -> None:
        """End what was started for the run."""
        if self.embedded is not None:
            self.embedded.close()


def start_embedded(choice: MarketChoice, options: Mapping[str, object]) -> EmbeddedExchange:
    """Start an embedded exchange, or find the one at ``--address``."""
    return EmbeddedExchange(choice.address) if choice.address else EmbeddedChild(options)
