"""The same signals through the exchange's HTTP interface and through the plain oracle of the rules: the same money."""

from __future__ import annotations

import json
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulator_kit import NO_LIMITS, BareClient
from oracle import make_candles, make_flags, position_size, simulate

from smm_bt.emulator import EmulatorConfig, EmulatorThread

TIMEFRAME_MS = 300_000
BRACKETS = [(0, 30_000, 50, 0.005, 0), (30_000, 90_000, 25, 0.01, 150), (90_000, 900_000, 20, 0.025, 1_500)]
ORDER = "/fapi/v1/order"


def exchange_files(folder: Path, symbols: list[str]) -> dict[str, Any]:
    """Write an exchange whose prices know no grid, as the oracle's do not."""
    lot = {"minQty": "0.001", "maxQty": "100000", "stepSize": "0.001"}
    filters = [
        {"filterType": "PRICE_FILTER", "minPrice": "0.0001", "maxPrice": "100000000", "tickSize": "0"},
        {"filterType": "LOT_SIZE"} | lot,
        {"filterType": "MARKET_LOT_SIZE"} | lot,
        {"filterType": "MIN_NOTIONAL", "notional": "5"},
    ]
    rows = [{"symbol": symbol, "quantityPrecision": 3, "filters": filters} for symbol in symbols]
    names = ("notionalFloor", "notionalCap", "initialLeverage", "maintMarginRatio", "cum")
    ladder = [dict(zip(names, row, strict=True)) | {"bracket": number} for number, row in enumerate(BRACKETS, 1)]
    info, brackets = folder / "exchange_info.json", folder / "brackets.json"
    info.write_text(json.dumps({"symbols": rows}))
    brackets.write_text(json.dumps([{"symbol": symbol, "brackets": ladder} for symbol in symbols]))
    return {"exchange_info": info, "brackets": brackets}


class NaiveTrader:
    """Trades flags by the rules of SPEC §5, over HTTP only, one candle boundary at a time."""

    def __init__(self, client: BareClient, instruments: dict[str, Any], stop_loss_percent: float | None) -> None:
        self._client = client
        self._instruments = instruments
        self._stop_loss_percent = stop_loss_percent
        self.pending: dict[str, tuple[bool, int]] = {}

    def prepare(self) -> None:
        for symbol in self._instruments:
            self._send("POST", "/fapi/v1/marginType", symbol=symbol, marginType="ISOLATED")
            self._send("POST", "/fapi/v1/leverage", symbol=symbol, leverage=20)

    def _send(self, method: str, path: str, **parameters: Any) -> Any:
        response = self._client.send(method, path, **parameters)
        assert response.status_code == 200, response.text
        return response.json()

    def _held(self, symbol: str) -> Decimal:
        rows = self._send("GET", "/fapi/v3/positionRisk", symbol=symbol)
        return Decimal(rows[0]["positionAmt"]) if rows else Decimal(0)

    def trade(self, prices: dict[str, float]) -> None:
        """Carry out what is pending for the symbols that have a candle here: closes first, then entries."""
        for symbol in prices:
            if self.pending.get(symbol, (False, 0))[0]:
                held = self._held(symbol)
                self._order(symbol, "SELL" if held > 0 else "BUY", abs(held), reduceOnly="true")
                self._send("DELETE", "/fapi/v1/algoOpenOrders", symbol=symbol)
        for symbol, price in prices.items():
            entry = self.pending.pop(symbol, (False, 0))[1]
            if entry:
                self._enter(symbol, entry, price)

    def _enter(self, symbol: str, entry: int, price: float) -> None:
        free = float(self._send("GET", "/fapi/v3/account")["availableBalance"])
        qty = position_size(free, price, self._instruments[symbol])
        if qty is None:
            return
        self._send("DELETE", "/fapi/v1/algoOpenOrders", symbol=symbol)
        order = self._order(symbol, "BUY" if entry > 0 else "SELL", qty)
        if self._stop_loss_percent is not None:
            trigger = float(order["avgPrice"]) * (1 - entry * self._stop_loss_percent / 100)
            side = "SELL" if entry > 0 else "BUY"
            stop = {"symbol": symbol, "side": side, "type": "STOP_MARKET", "quantity": qty, "reduceOnly": "true"}
            self._send("POST", "/fapi/v1/algoOrder", algoType="CONDITIONAL", triggerPrice=repr(trigger), **stop)

    def _order(self, symbol: str, side: str, qty: Decimal, **more: Any) -> Any:
        parameters = {"symbol": symbol, "side": side, "type": "MARKET", "quantity": f"{qty:f}"} | more
        return self._send("POST", ORDER, newOrderRespType="RESULT", **parameters)

    def judge(self, symbol: str, buy: bool, sell: bool, target: bool) -> None:
        """Turn the flags of a closed candle into what is pending."""
        held = self._held(symbol)
        side = (held > 0) - (held < 0)
        wanted = 0 if buy and sell else 1 if buy else -1 if sell else 0
        closing = bool(side) and (target or wanted == -side)
        entry = wanted if not side or closing else 0
        if closing or entry:
            self.pending[symbol] = (closing, entry)


def round_trips(ledger: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Pair fills into trades: symbol, side, times, prices, quantity, gross and fees, in order of the exit."""
    opened: dict[str, dict[str, Any]] = {}
    trades = []
    for row in ledger["trades"]:
        entry = opened.pop(row["symbol"], None)
        if entry is None:
            opened[row["symbol"]] = row
            continue
        fees = Decimal(entry["commission"]) + Decimal(row["commission"])
        side = "long" if entry["side"] == "BUY" else "short"
        times = (entry["time"], row["time"])
        prices = (float(entry["price"]), float(row["price"]))
        money = (float(row["realized_pnl"]), float(fees))
        trades.append((row["symbol"], side, *times, *prices, float(row["qty"]), *money))
    return trades


def expected_trips(trades: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = ("symbol", "side", "entry_time", "exit_time", "entry_price", "exit_price", "qty", "gross_pnl_usdt", "fees")
    return [tuple(trade[name] for name in names) for trade in trades]


def marks_of(random: np.random.Generator, columns: dict[str, Any]) -> dict[str, Any]:
    """Make mark candles that stray a little from the last price."""
    noise = np.exp(random.normal(0, 0.002, len(columns["open"])))
    return {name: values if name == "open_ms" else values * noise for name, values in columns.items()}


def write_columns(path: Path, columns: dict[str, Any]) -> Path:
    rows = zip(*(columns[name].tolist() for name in ("open_ms", "open", "high", "low", "close")), strict=True)
    body = "\n".join(",".join(map(repr, row)) for row in rows)
    path.write_text(f"timestamp,open,high,low,close\n{body}\n")
    return path


def write_market(
    folder: Path, candles: dict[str, Any], marks: dict[str, Any], funding: dict[str, list[tuple[int, float]]]
) -> dict[str, Any]:
    files = [write_columns(folder / f"{symbol}-5m.csv", columns) for symbol, columns in candles.items()]
    mark_files = [write_columns(folder / f"{symbol}-mark-5m.csv", columns) for symbol, columns in marks.items()]
    rates = []
    for symbol in candles:
        rates.append(folder / f"{symbol}-funding.csv")
        settlements = "\n".join(f"{time},{rate!r}" for time, rate in funding[symbol])
        rates[-1].write_text(f"timestamp,funding_rate\n{settlements}\n")
    return {"candles": tuple(files), "mark": tuple(mark_files), "funding": tuple(rates)}


@pytest.mark.parametrize(("seed", "stop_loss_percent", "marked"), [(1, None, False), (2, None, True), (3, 1.5, False)])
def test_trades_over_http_equal_the_oracles_to_a_hundred_millionth(
    tmp_path: Path, seed: int, stop_loss_percent: float | None, marked: bool
) -> None:
    random = np.random.default_rng(seed)
    symbols = ["AAAUSDT", "BBBUSDT"]
    candles = {symbol: make_candles(random, 120, 0.02, 0.03) for symbol in symbols}
    flags = {symbol: make_flags(random, 120, 0.25, 0.1) for symbol in symbols}
    marks = {symbol: marks_of(random, candles[symbol]) for symbol in symbols} if marked else {}
    funding = {s: [(int(t) + 1000, 0.0003) for t in candles[s]["open_ms"][::7]] for s in symbols}
    lot = {"step": "0.001", "min_qty": "0.001", "max_qty": "100000", "min_notional": "5", "brackets": BRACKETS}
    instruments = dict.fromkeys(symbols, lot)
    wanted = simulate(
        candles,
        flags,
        timeframe_ms=TIMEFRAME_MS,
        instruments=instruments,
        initial_balance=10_000.0,
        fee_rate=0.0005,
        stop_loss_percent=stop_loss_percent,
        funding=funding,
        mark=marks,
    )
    market = write_market(tmp_path, candles, marks, funding)
    files = exchange_files(tmp_path, symbols)
    config = EmulatorConfig(**market, **files, history_candles=0, start_ms=wanted.steps[0], **NO_LIMITS)
    with EmulatorThread(config) as emulator, BareClient(emulator) as client:
        trader = NaiveTrader(client, instruments, stop_loss_percent)
        trader.prepare()
        at: dict[int, dict[str, int]] = defaultdict(dict)
        for symbol in symbols:
            for index, time in enumerate(candles[symbol]["open_ms"].tolist()):
                at[time][symbol] = index
        for time in wanted.steps:
            assert emulator.status()["now_ms"] == time
            trader.trade({s: float(candles[s]["open"][index]) for s, index in at[time].items()})
            assert emulator.step()
            for symbol, index in at[time].items():
                trader.judge(symbol, *(bool(flags[symbol][name][index]) for name in ("buy", "sell", "target")))
        ledger = emulator.ledger()
    found, expected = round_trips(ledger), expected_trips(wanted.trades)
    assert len(found) == len(expected) > 20
    reasons = {trade["close_reason"] for trade in wanted.trades}
    assert reasons == {"profit_target", "opposite_signal", "stop_loss" if stop_loss_percent else "liquidation"}
    for mine, theirs in zip(found, expected, strict=True):
        assert mine[:4] == theirs[:4]
        assert mine[4:] == pytest.approx(theirs[4:], rel=0, abs=1e-8)
    paid = sum(float(row["amount"]) for row in ledger["income"] if row["income_type"] == "FUNDING_FEE")
    open_funding = sum(position["funding"] for position in wanted.open_positions)
    assert paid == pytest.approx(sum(t["funding_usdt"] for t in wanted.trades) + open_funding, abs=1e-8)
    assert float(ledger["wallet"]) == pytest.approx(wanted.wallet[-1], abs=1e-7)
