"""A second reading of the money and trading rules (SPEC §5-§9): plain, slow, bar by bar, importing no engine.

Where SPEC leaves room, the choice is in the comment beside the line. Floats carry the account, as in the
engines; only the order quantity is exact. `instruments[symbol]` is a plain mapping: `step, min_qty, max_qty,
min_notional` and `brackets`, a list of `(floor, cap, initial_leverage, mmr, cum)` from the smallest up.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from typing import Any, NamedTuple

import numpy as np

LEVERAGE = 20  # R5
RISK_FRACTION = Decimal("0.20")  # R5
DAY_MS = 86_400_000
LONG, FLAT, SHORT = 1, 0, -1
SIDE_NAMES = {LONG: "long", SHORT: "short"}

Arrays = Mapping[str, Any]  # name -> one-dimensional array, all of one length
Instrument = Mapping[str, Any]
Funding = Sequence[tuple[int, float]]  # (settlement time in ms, rate)


class Candle(NamedTuple):
    """One candle and the flags of its row."""

    open: float
    high: float
    low: float
    close: float
    buy: bool = False
    sell: bool = False
    target: bool = False


@dataclass
class Position:
    """An open position; side is +1 long, -1 short."""

    side: int
    qty: float
    entry_price: float
    entry_time: int
    margin: float
    liquidation_price: float
    entry_fee: float
    funding: float = 0.0


@dataclass
class Pending:
    """What was decided at a close and waits for the symbol's next stored candle."""

    close_reason: str | None
    entry: int


@dataclass
class OracleResult:
    """All that the engines must agree with; times in ms, one equity and wallet value per time step."""

    steps: list[int]
    trades: list[dict[str, Any]] = field(default_factory=list)
    equity: list[float] = field(default_factory=list)
    wallet: list[float] = field(default_factory=list)
    skipped: list[tuple[int, str]] = field(default_factory=list)
    conflicting: int = 0
    open_positions: list[dict[str, Any]] = field(default_factory=list)
    pending: list[dict[str, Any]] = field(default_factory=list)
    report: dict[str, float | int | None] = field(default_factory=dict)


def position_size(free_balance: float, price: float, instrument: Instrument) -> Decimal | None:
    """§6: the quantity of an entry, or None when the entry is skipped."""
    step, least, most, least_notional = (
        Decimal(str(instrument[name])) for name in ("step", "min_qty", "max_qty", "min_notional")
    )
    caps_at_20x = [Decimal(str(cap)) for _, cap, leverage, _, _ in instrument["brackets"] if leverage >= LEVERAGE]
    if not caps_at_20x:
        return None  # the symbol's maximum leverage is below 20
    with localcontext() as context:
        context.prec = 60  # wide enough for every product and quotient below to be exact
        exact_price = Decimal(repr(float(price)))
        notional = RISK_FRACTION * Decimal(repr(float(free_balance))) * LEVERAGE
        notional = min(notional, max(caps_at_20x))
        qty = (notional // (exact_price * step)) * step  # floored to the step
        qty = min(qty, (most // step) * step)
        if qty <= 0 or qty < least or qty * exact_price < least_notional:
            return None
    return qty


def liquidation_price(side: int, qty: float, entry: float, margin: float, brackets: Sequence[Sequence[float]]) -> float:
    """§7: with mmr and cum of the bracket that holds qty × liquidation price, floor < notional <= cap.

    Brackets join without a jump (cum sees to it), so that is the first one whose cap is not passed; beyond
    the last cap (a short) it is the last one.
    """
    for _, cap, _, mmr, cum in brackets:
        if side == LONG:
            price = (entry * qty - margin - cum) / (qty * (1 - mmr))
        else:
            price = (entry * qty + margin + cum) / (qty * (1 + mmr))
        if qty * price <= cap:
            break
    return price


def instrument_from_exchange(info: Mapping[str, Any], brackets: Sequence[Mapping[str, Any]]) -> Instrument:
    """The plain mapping from an exchangeInfo `symbols` entry and its leverageBracket `brackets`."""
    filters = {entry["filterType"]: entry for entry in info["filters"]}
    lot = filters["LOT_SIZE"]
    market = filters.get("MARKET_LOT_SIZE", lot)
    step = market["stepSize"] if Decimal(market["stepSize"]) > 0 else lot["stepSize"]
    names = ("notionalFloor", "notionalCap", "initialLeverage", "maintMarginRatio", "cum")
    return {
        "step": step,
        "min_qty": max(Decimal(market["minQty"]), Decimal(lot["minQty"])),
        "max_qty": min(Decimal(limits["maxQty"]) for limits in (market, lot) if Decimal(limits["maxQty"]) > 0),
        "min_notional": filters.get("MIN_NOTIONAL", {"notional": "0"})["notional"],
        "brackets": [tuple(bracket[name] for name in names) for bracket in brackets],
    }


@dataclass
class _Run:
    timeframe_ms: int
    instruments: Mapping[str, Instrument]
    fee_rate: float
    slippage: float  # a fraction of the price
    stop_loss_percent: float | None
    close_on_opposite: bool
    funding: Mapping[str, Funding]
    candles: dict[str, dict[int, Candle]]
    mark: dict[str, dict[int, Candle]]
    wallet: float
    result: OracleResult
    positions: dict[str, Position] = field(default_factory=dict)
    pending: dict[str, Pending] = field(default_factory=dict)
    last_close: dict[str, float] = field(default_factory=dict)

    def step(self, now: int) -> None:
        """§5.9: one open time; stage by stage, each stage over the symbols in order that have a candle."""
        here = [(symbol, rows[now]) for symbol, rows in self.candles.items() if now in rows]
        opening = (self.pending_close, self.pending_entry, self.settle_funding)
        for stage in (*opening, self.check_stop, self.check_liquidation, self.judge_flags):
            for symbol, candle in here:
                stage(now, symbol, candle)

    def pending_close(self, now: int, symbol: str, candle: Candle) -> None:
        """§5.5, §5.6: at the open, slipped against us; a close is never refused."""
        if symbol in self.pending and (reason := self.pending[symbol].close_reason):
            price = candle.open * (1 - self.positions[symbol].side * self.slippage)
            self.close(symbol, price, now, reason)

    def pending_entry(self, now: int, symbol: str, candle: Candle) -> None:
        """§5.5, §6: at the open, slipped against us; sized on the free balance left, at that price."""
        pending = self.pending.pop(symbol, None)
        if pending is None or pending.entry == FLAT:
            return
        side = pending.entry
        price = candle.open * (1 + side * self.slippage)
        exact_qty = position_size(self.free_balance(), price, self.instruments[symbol])
        if exact_qty is None:
            self.result.skipped.append((now, symbol))
            return
        qty = float(exact_qty)
        margin = qty * price / LEVERAGE
        fee = min(qty * price * self.fee_rate, self.wallet)  # the wallet stops at zero
        self.wallet -= fee
        liquidation = liquidation_price(side, qty, price, margin, self.instruments[symbol]["brackets"])
        self.positions[symbol] = Position(side, qty, price, now, margin, liquidation, fee)

    def settle_funding(self, now: int, symbol: str, candle: Candle) -> None:
        """§7: −side × qty × price × rate for each settlement in [open, open + timeframe)."""
        if not (position := self.positions.get(symbol)):
            return
        price = self.mark_candle(symbol, now, candle).open
        for settled_at, rate in sorted(self.funding.get(symbol, ())):
            if now <= settled_at < now + self.timeframe_ms:
                amount = max(-position.side * position.qty * price * rate, -self.wallet)  # the wallet stops at zero
                position.funding += amount
                self.wallet += amount

    def check_stop(self, now: int, symbol: str, candle: Candle) -> None:
        """§5.7: from the entry candle on; touching is enough; a gap fills at the open."""
        if not (position := self.positions.get(symbol)) or self.stop_loss_percent is None:
            return
        stop = position.entry_price * (1 - position.side * self.stop_loss_percent / 100)
        if position.side == LONG:
            touched, fill = candle.low <= stop, min(candle.open, stop)
        else:
            touched, fill = candle.high >= stop, max(candle.open, stop)
        if touched:
            fill *= 1 - position.side * self.slippage
            self.close(symbol, fill, now + self.timeframe_ms - 1, "stop_loss")

    def check_liquidation(self, now: int, symbol: str, candle: Candle) -> None:
        """§5.8: after the stop, on the mark candle when given; touching is enough; no slippage."""
        if not (position := self.positions.get(symbol)):
            return
        judged = self.mark_candle(symbol, now, candle)
        price = position.liquidation_price
        if judged.low <= price if position.side == LONG else judged.high >= price:
            self.close(symbol, price, now + self.timeframe_ms - 1, "liquidation")

    def judge_flags(self, now: int, symbol: str, row: Candle) -> None:
        """§5.1-§5.4: the row's flags against the position that is left at the close."""
        self.last_close[symbol] = row.close
        side = self.positions[symbol].side if symbol in self.positions else FLAT
        conflict = row.buy and row.sell
        wanted = FLAT if conflict else LONG if row.buy else SHORT if row.sell else FLAT
        self.result.conflicting += conflict
        reason = None
        if side != FLAT and row.target:  # rule 1, also on a conflicting row
            reason = "profit_target"
        elif side != FLAT and wanted == -side and self.close_on_opposite:  # rule 2
            reason = "opposite_signal"
        entry = wanted if side == FLAT or reason else FLAT  # rule 3: flat, or closing
        if reason or entry != FLAT:
            self.pending[symbol] = Pending(reason, entry)

    def close(self, symbol: str, price: float, time_ms: int, reason: str) -> None:
        """§7: book the closing fill; what the wallet cannot pay comes off the loss, only then off the fee."""
        position = self.positions.pop(symbol)
        gross = position.side * position.qty * (price - position.entry_price)
        fee = position.qty * price * self.fee_rate
        if reason == "liquidation":
            fee = position.margin + gross  # the remainder of the margin: all of it is lost
        shortfall = fee - gross - self.wallet
        if shortfall > 0:
            unpaid_loss = min(shortfall, max(0.0, -gross))
            gross += unpaid_loss
            fee -= shortfall - unpaid_loss
            self.wallet = 0.0
        else:
            self.wallet += gross - fee
        fees = position.entry_fee + fee
        pnl = gross - fees + position.funding
        self.result.trades.append(
            {
                "symbol": symbol,
                "side": SIDE_NAMES[position.side],
                "entry_time": position.entry_time,
                "entry_price": position.entry_price,
                "qty": position.qty,
                "exit_time": time_ms,
                "exit_price": price,
                "pnl_usdt": pnl,  # §8: net
                "pnl_percent": 100 * pnl / position.margin,
                "fees": fees,
                "close_reason": reason,
                "gross_pnl_usdt": gross,
                "funding_usdt": position.funding,
                "margin_usdt": position.margin,
            }
        )

    def mark_candle(self, symbol: str, now: int, candle: Candle) -> Candle:
        """§5.8: mark candles, when given, must cover the candles (KeyError here, exit 2 in the product)."""
        return self.mark[symbol][now] if symbol in self.mark else candle

    def free_balance(self) -> float:
        """§7: never below zero."""
        return max(0.0, self.wallet - sum(position.margin for position in self.positions.values()))

    def equity(self) -> float:
        """§7: a symbol without a candle at this step counts at its last close."""
        return self.wallet + sum(
            position.side * position.qty * (self.last_close[symbol] - position.entry_price)
            for symbol, position in self.positions.items()
        )


def _rows(arrays: Arrays, flags: Arrays | None = None) -> dict[int, Candle]:
    names = ("open", "high", "low", "close")
    prices = zip(*([float(value) for value in arrays[name]] for name in names), strict=True)
    times = [int(time) for time in arrays["open_ms"]]
    absent = [False] * len(times)
    marks = zip(*([bool(v) for v in (flags or {}).get(n, absent)] for n in ("buy", "sell", "target")), strict=True)
    return {time: Candle(*price, *mark) for time, price, mark in zip(times, prices, marks, strict=True)}


def simulate(
    candles: Mapping[str, Arrays],
    flags: Mapping[str, Arrays],
    *,
    timeframe_ms: int,
    instruments: Mapping[str, Instrument],
    initial_balance: float,
    fee_rate: float,
    slippage_bps: float = 0.0,
    stop_loss_percent: float | None = None,
    close_on_opposite: bool = True,
    funding: Mapping[str, Funding] | None = None,
    mark: Mapping[str, Arrays] | None = None,
) -> OracleResult:
    """Trade the flags on the candles by SPEC §5-§7; the order of `candles` is the order of SYMBOLS."""
    rows = {symbol: _rows(arrays, flags[symbol]) for symbol, arrays in candles.items()}
    result = OracleResult(steps=sorted({time for of_symbol in rows.values() for time in of_symbol}))
    run = _Run(
        timeframe_ms=timeframe_ms,
        instruments=instruments,
        fee_rate=fee_rate,
        slippage=slippage_bps / 1e4,
        stop_loss_percent=stop_loss_percent,
        close_on_opposite=close_on_opposite,
        funding=funding or {},
        candles=rows,
        mark={symbol: _rows(arrays) for symbol, arrays in (mark or {}).items()},
        wallet=initial_balance,
        result=result,
    )
    for now in result.steps:
        run.step(now)
        result.equity.append(run.equity())
        result.wallet.append(run.wallet)
    result.open_positions = [{"symbol": s} | vars(run.positions[s]) for s in rows if s in run.positions]
    result.pending = [{"symbol": s} | vars(run.pending[s]) for s in rows if s in run.pending]
    result.report = _report(initial_balance, result)
    return result


def _report(initial: float, result: OracleResult) -> dict[str, float | int | None]:
    """§9; fees and funding are all that was booked, an open position's included."""
    trades, still_open, equity = result.trades, result.open_positions, result.equity
    results = [trade["pnl_usdt"] for trade in trades]
    wins = [pnl for pnl in results if pnl > 0]
    losses = [pnl for pnl in results if pnl < 0]
    curve = np.array([initial, *equity])
    peak = np.maximum.accumulate(curve)
    sharpe, sortino = _daily_ratios(initial, result.steps, equity)
    return {
        "total_trades": len(results),
        "win_rate": len(wins) / len(results) if results else None,
        "avg_win": sum(wins) / len(wins) if wins else None,
        "avg_loss": sum(losses) / len(losses) if losses else None,
        "total_pnl": sum(results),
        "profit_factor": sum(wins) / -sum(losses) if losses else None,
        "max_drawdown": min(1.0, float(np.max((peak - curve) / peak))),
        "max_drawdown_usdt": float(np.max(peak - curve)),
        "final_equity": equity[-1] if equity else initial,
        "fees_usdt": sum(t["fees"] for t in trades) + sum(p["entry_fee"] for p in still_open),
        "funding_usdt": sum(t["funding_usdt"] for t in trades) + sum(p["funding"] for p in still_open),
        "liquidations": sum(t["close_reason"] == "liquidation" for t in trades),
        "sharpe": sharpe,
        "sortino": sortino,
    }


def _daily_ratios(initial: float, steps: list[int], equity: list[float]) -> tuple[float | None, float | None]:
    """Sharpe (sample deviation) and Sortino (root mean square of the negative returns), each × √365.

    A day is a UTC day of candle open times, its value the last equity in it; a day without candles returns 0.
    """
    last = {time // DAY_MS: value for time, value in zip(steps, equity, strict=True)}
    base, returns = initial, []
    for day in range(min(last, default=0), max(last, default=-1) + 1):
        if base <= 0:
            return None, None
        value = last.get(day, base)
        returns.append(value / base - 1)
        base = value
    if len(returns) < 2:
        return None, None
    mean, deviation = statistics.fmean(returns), statistics.stdev(returns)
    downside = math.sqrt(sum(min(value, 0.0) ** 2 for value in returns) / len(returns))
    year = math.sqrt(365)
    return (mean / deviation * year if deviation else None), (mean / downside * year if downside else None)


def make_candles(
    rng: np.random.Generator, n: int, volatility: float, gap_probability: float, timeframe_ms: int = 300_000
) -> dict[str, np.ndarray]:
    """Walk n stored candles at random from 100, some opens jump; a gap leaves out one to five candles."""
    missing = np.where(rng.random(n) < gap_probability, rng.integers(1, 6, n), 0)
    missing[:1] = 0
    jumps = np.where(rng.random(n) < 0.1, rng.normal(0, 3 * volatility, n), 0.0)
    closes = 100.0 * np.exp(np.cumsum(jumps + rng.normal(0, volatility, n)))
    opens = np.concatenate([[100.0], closes[:-1]])[:n] * np.exp(jumps)
    wick_up, wick_down = np.exp(np.abs(rng.normal(0, volatility / 2, (2, n))))
    return {
        "open_ms": 1_699_920_000_000 + timeframe_ms * (np.arange(n) + np.cumsum(missing)),
        "open": opens,
        "high": np.maximum(opens, closes) * wick_up,
        "low": np.minimum(opens, closes) / wick_down,
        "close": closes,
    }


def make_flags(rng: np.random.Generator, n: int, density: float, conflict: float) -> dict[str, np.ndarray]:
    """Let each row signal with probability density; of those rows a share conflict carries both signals."""
    signal, both, up = rng.random(n) < density, rng.random(n) < conflict, rng.random(n) < 0.5
    return {"buy": signal & (up | both), "sell": signal & (~up | both), "target": rng.random(n) < density}
