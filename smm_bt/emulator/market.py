"""The market being played: last and mark prices of every symbol on one shared timeline."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from smm_bt.emulator.candles import (
    INTERVALS,
    NO_FUNDING,
    CandleFileError,
    CandleSeries,
    FundingSeries,
    candle_open_ms,
    read_candles,
    read_funding,
    symbol_of,
)
from smm_bt.emulator.config import EmulatorConfig
from smm_bt.emulator.exact import exact
from smm_bt.emulator.instruments import Instrument
from smm_bt.emulator.made_market import make_candles
from smm_bt.emulator.tape import Tape

EIGHT_HOURS_MS = 28_800_000
_MADE_EPOCH_MS = 1_735_689_600_000  # stepped made markets begin with the candle that holds 2025-01-01 00:00 UTC


@dataclass(frozen=True, slots=True)
class Piece:
    """What one symbol did between two neighbouring moments inside one candle.

    ``time_ms`` stamps fills in it, ``start`` is the first price; mark prices equal last prices where
    no mark candles are given. ``funding`` holds (time, rate, price) of settlements in the piece.
    """

    symbol: str
    time_ms: int
    start: Decimal
    high: Decimal
    low: Decimal
    mark_high: Decimal
    mark_low: Decimal
    funding: list[tuple[int, Decimal, Decimal]]


class SymbolMarket:
    """Prices of one symbol."""

    def __init__(self, candles: CandleSeries, mark: CandleSeries | None, funding: FundingSeries, tick: Decimal) -> None:
        if mark is not None and mark.timeframe_ms != candles.timeframe_ms:
            raise CandleFileError(
                f"{candles.symbol}: mark candles must have the timeframe of the candles "
                f"({candles.timeframe_ms // 60_000} min), found {mark.timeframe_ms // 60_000} min"
            )
        self.symbol = candles.symbol
        self.last = Tape(candles)
        self.mark = Tape(mark) if mark is not None else self.last
        self.funding = funding
        self._tick = tick
        self.price = self.mark_price = Decimal(0)
        self.move(candles.open_time[0])

    def move(self, now_ms: int) -> None:
        """Stand at ``now_ms``."""
        self.last.move(now_ms)
        self.price = self._on_tick(self.last.price, now_ms)
        if self.mark is self.last:
            self.mark_price = self.price
        else:
            self.mark.move(now_ms)
            self.mark_price = exact(self.mark.price)

    def _on_tick(self, price: float, now_ms: int) -> Decimal:
        """Keep file prices as written; put prices between them on the tick grid."""
        inside = self.last.closed < len(self.last.series) and (now_ms > self.last.series.open_time[self.last.closed])
        value = exact(price)
        if not inside or not self._tick:
            return value
        return (value / self._tick).to_integral_value(ROUND_HALF_EVEN) * self._tick

    @property
    def traded_ms(self) -> int:
        """When it last traded: now, or in a gap and at the end the last moment of the last candle."""
        tape = self.last
        if tape.forming() is not None or not tape.closed:
            return tape.now_ms
        return tape.series.open_time[tape.closed - 1] + tape.series.timeframe_ms - 1

    def piece(self, begin_ms: int, end_ms: int) -> Piece | None:
        """Return what happens from ``begin_ms`` to ``end_ms`` (within one candle), or None in a gap."""
        index = self.last.series.index_at(begin_ms)
        if index is None:
            return None
        series = self.last.series
        opened, span = series.open_time[index], series.timeframe_ms
        part = self.last.stretch(index, (begin_ms - opened) / span, (end_ms - opened) / span)
        high, low = exact(part.high), exact(part.low)
        mark_high, mark_low = self._mark_extremes(begin_ms, end_ms, high, low)
        settlements = self.funding.between(begin_ms, min(end_ms, opened + span))
        funding = [(time, rate, self._funding_price(time)) for time, rate in settlements]
        time_ms = min(end_ms, opened + span - 1)
        return Piece(self.symbol, time_ms, exact(part.start), high, low, mark_high, mark_low, funding)

    def _mark_extremes(self, begin_ms: int, end_ms: int, high: Decimal, low: Decimal) -> tuple[Decimal, Decimal]:
        if self.mark is self.last:
            return high, low
        series = self.mark.series
        index = series.index_at(begin_ms)
        if index is None:
            return high, low
        opened, span = series.open_time[index], series.timeframe_ms
        part = self.mark.stretch(index, (begin_ms - opened) / span, (end_ms - opened) / span)
        return exact(part.high), exact(part.low)

    def _funding_price(self, time_ms: int) -> Decimal:
        for tape in (self.mark, self.last):
            index = tape.series.index_at(time_ms)
            if index is not None:
                return exact(tape.series.open[index])
        return self.mark_price


class Market:
    """All symbols on one timeline of candle boundaries; symbols keep the order they were given in."""

    def __init__(self, symbols: Mapping[str, SymbolMarket], start_ms: int, spread_bps: Decimal) -> None:
        self.symbols = dict(symbols)
        frames = {market.last.series.timeframe_ms for market in symbols.values()}
        if len(frames) != 1:
            raise CandleFileError("all candle files must have one timeframe")
        self.timeframe_ms = frames.pop()
        opens = {time for market in symbols.values() for time in market.last.series.open_time}
        self.boundaries = sorted(opens | {max(opens) + self.timeframe_ms})
        self._half_spread = spread_bps / Decimal(20_000)
        self.now_ms = start_ms
        self.move(start_ms)

    def move(self, now_ms: int) -> None:
        """Stand at ``now_ms``."""
        self.now_ms = now_ms
        for market in self.symbols.values():
            market.move(now_ms)

    def next_boundary(self) -> int | None:
        """Return the next candle boundary, or None at the end of the stored candles."""
        index = bisect_right(self.boundaries, self.now_ms)
        return self.boundaries[index] if index < len(self.boundaries) else None

    def pieces(self, end_ms: int) -> Iterator[Piece]:
        """Yield what each symbol does from now to ``end_ms``, in symbol order."""
        for market in self.symbols.values():
            piece = market.piece(self.now_ms, end_ms)
            if piece is not None:
                yield piece

    def price(self, symbol: str) -> Decimal:
        """Last price."""
        return self.symbols[symbol].price

    def mark(self, symbol: str) -> Decimal:
        """Mark price."""
        return self.symbols[symbol].mark_price

    def traded_ms(self, symbol: str) -> int:
        """When the symbol last traded."""
        return self.symbols[symbol].traded_ms

    def bid(self, symbol: str) -> Decimal:
        """Best bid: the last price less half the spread."""
        return self.symbols[symbol].price * (1 - self._half_spread)

    def ask(self, symbol: str) -> Decimal:
        """Best ask: the last price plus half the spread."""
        return self.symbols[symbol].price * (1 + self._half_spread)


def build_market(config: EmulatorConfig, instruments: Mapping[str, Instrument]) -> Market:
    """Read the files of ``config`` or make a market, and stand at its start."""
    series = [read_candles(file) for file in config.candles] or _made_series(config, instruments)
    marks = {mark.symbol: mark for mark in map(read_candles, config.mark)}
    funding = {symbol_of(file): read_funding(file) for file in config.funding}
    symbols: dict[str, SymbolMarket] = {}
    for candles in series:
        if candles.symbol not in instruments:
            raise CandleFileError(
                f"{candles.symbol} is not in the exchange information; give the venue's exchangeInfo file"
            )
        if candles.symbol in symbols:
            raise CandleFileError(f"{candles.symbol} is given twice; give one candle file per symbol")
        rates = funding.get(candles.symbol) or _made_funding(config, candles)
        tick = instruments[candles.symbol].tick
        symbols[candles.symbol] = SymbolMarket(candles, marks.get(candles.symbol), rates, tick)
    return Market(symbols, _start(config, series), config.spread_bps)


def _made_series(config: EmulatorConfig, instruments: Mapping[str, Instrument]) -> list[CandleSeries]:
    timeframe_ms = INTERVALS[config.timeframe]
    begin = candle_open_ms(_MADE_EPOCH_MS if config.start_ms is None else config.start_ms, timeframe_ms)
    if config.start_ms is not None:
        begin -= config.history_candles * timeframe_ms
    missing = [symbol for symbol in config.symbols if symbol not in instruments]
    if missing:
        raise CandleFileError(f"{missing[0]} is not in the exchange information")
    return [
        make_candles(instruments[symbol], config.seed, config.made_candles, begin, timeframe_ms)
        for symbol in config.symbols
    ]


def _made_funding(config: EmulatorConfig, candles: CandleSeries) -> FundingSeries:
    if config.made_funding_rate is None:
        return NO_FUNDING
    first = -(-candles.open_time[0] // EIGHT_HOURS_MS) * EIGHT_HOURS_MS
    times = list(range(first, candles.open_time[-1] + candles.timeframe_ms, EIGHT_HOURS_MS))
    return FundingSeries(times, [config.made_funding_rate] * len(times))


def _start(config: EmulatorConfig, series: list[CandleSeries]) -> int:
    if config.start_ms is not None:
        return config.start_ms
    times = series[0].open_time
    return times[min(config.history_candles, len(times) - 1)]
