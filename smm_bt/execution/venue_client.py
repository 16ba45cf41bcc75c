"""What is asked of the venue, one method per question, with exact numbers in and out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from feeds.timeframes import timeframe_ms
from smm_bt.errors import VenueError
from smm_bt.execution import venue_rows as rows
from smm_bt.execution.ccxt_client import PublicWire, TradingWire
from smm_bt.execution.host_clock import ClockReading
from smm_bt.execution.instrument import Instrument, instrument_from_venue
from smm_bt.execution.venue_errors import Reaction, VenueFault
from smm_bt.execution.venue_rows import AccountState, BookTicker, IncomeRow, Kline, VenueFill, VenueOrder, WaitingStop

_MOST_KLINES = 1000


class MarketDataClient:
    """Public market data over any wire, keyless or not."""

    def __init__(self, wire: PublicWire | TradingWire) -> None:
        self.wire = wire

    def clock_reading(self) -> ClockReading:
        """Return the venue's time, and this machine's clocks at that instant."""
        return self.wire.read_clock()

    def server_time_ms(self) -> int:
        """Return the venue's time, UTC milliseconds."""
        return self.clock_reading().venue_ms

    def fetch_closed_candles(
        self, symbol: str, timeframe: str, since_ms: int | None = None, limit: int = 500
    ) -> list[Kline]:
        """Return candles that are closed by the venue's time, oldest first, without repeats.

        Args:
            symbol: for example ``BTCUSDT``.
            timeframe: for example ``5m``.
            since_ms: open time of the first one wanted; as many pages as ``limit`` needs are read from there.
                None takes the latest ``limit``.
            limit: at most this many.
        """
        length = timeframe_ms(timeframe)
        now_ms = self.server_time_ms()
        found: list[Kline] = []
        while len(found) < limit:
            page = self._klines(symbol, timeframe, since_ms, min(_MOST_KLINES, limit - len(found) + 1))
            closed = [kline for kline in page if kline.open_ms + length <= now_ms]
            found = closed + found if since_ms is None else found + closed
            if since_ms is None or not closed:
                break
            since_ms = closed[-1].open_ms + length
        return found[:limit] if since_ms is not None else found[-limit:]

    def _klines(self, symbol: str, timeframe: str, since_ms: int | None, limit: int) -> list[Kline]:
        params: dict[str, object] = {"symbol": symbol, "interval": timeframe, "limit": limit}
        if since_ms is not None:
            params["startTime"] = since_ms
        weight = 1 if limit < 100 else 2 if limit < 500 else 5
        return self._ask("fapiPublicGetKlines", params, weight, rows.kline_rows)

    def has_settled_funding(self, symbol: str) -> bool:
        """Return whether the venue tells of a funding settlement of ``symbol``."""
        return bool(self._ask("fapiPublicGetFundingRate", {"symbol": symbol, "limit": 1}, 1, list))

    def fetch_book_ticker(self, symbol: str) -> BookTicker:
        """Return best bid and ask."""
        return self._ask("fapiPublicGetTickerBookTicker", {"symbol": symbol}, 2, rows.ticker_row)

    def fetch_book_tickers(self) -> dict[str, BookTicker]:
        """Return best bid and ask of every symbol the venue has them of, in one read."""
        return self._ask("fapiPublicGetTickerBookTicker", {}, 5, rows.ticker_rows)

    def fetch_mark_price(self, symbol: str) -> Decimal:
        """Return the mark price."""
        return self._ask("fapiPublicGetPremiumIndex", {"symbol": symbol}, 1, lambda row: Decimal(row["markPrice"]))

    def exchange_info(self) -> dict[str, Any]:
        """Return the venue's exchangeInfo rows by symbol."""
        body = self._ask("fapiPublicGetExchangeInfo", {}, 1, lambda body: body["symbols"])
        return {row["symbol"]: row for row in body}

    def _ask(
        self, endpoint: str, params: dict[str, object], weight: int, parse: Callable[[Any], rows.Record]
    ) -> rows.Record:
        return rows.parsed(endpoint, parse, self.wire.read(endpoint, params, weight))


class VenueClient(MarketDataClient):
    """The account and its orders on a practice venue."""

    def __init__(self, wire: TradingWire) -> None:
        super().__init__(wire)
        self.wire: TradingWire = wire

    # ---- what is there

    def instruments(self, symbols: Iterable[str]) -> dict[str, Instrument]:
        """Return filters and leverage brackets of ``symbols``; VenueError names one the venue does not trade."""
        infos = self.exchange_info()
        self.wire.know_markets(infos.values())
        tiers = self._ask("fapiPrivateGetLeverageBracket", {}, 1, lambda b: {r["symbol"]: r["brackets"] for r in b})
        found: dict[str, Instrument] = {}
        for symbol in symbols:
            info = infos.get(symbol)
            if info is None or symbol not in tiers or info.get("status") != "TRADING":
                raise VenueError(f"{symbol} is not traded on {self.wire.venue.address}; choose another symbol.")
            if info["marginAsset"] != "USDT":
                raise VenueError(f"{symbol} is margined in {info['marginAsset']}, not USDT; choose a USDT perpetual.")
            pair = (info, tiers[symbol])
            found[symbol] = rows.parsed("exchangeInfo", lambda rules: instrument_from_venue(*rules), pair)
        return found

    def account(self) -> AccountState:
        """Return wallet, free balance and quantities."""
        return self._ask("fapiPrivateV3GetAccount", {}, 5, rows.account_state)

    def positions(self) -> list[rows.VenuePosition]:
        """Return the positions that are not flat."""
        found = self._ask("fapiPrivateV3GetPositionRisk", {}, 5, lambda body: [rows.position_row(row) for row in body])
        return [position for position in found if position.signed_qty]

    def modes(self) -> tuple[bool, bool]:
        """Return whether the account is in hedge mode, and whether in multi-assets mode."""
        return self._ask(
            "fapiPrivateGetAccountConfig", {}, 5, lambda b: (bool(b["dualSidePosition"]), bool(b["multiAssetsMargin"]))
        )

    def open_orders(self) -> list[VenueOrder]:
        """Return every open order of the account."""
        return self._ask("fapiPrivateGetOpenOrders", {}, 40, lambda body: [rows.order_row(row) for row in body])

    def open_stops(self) -> list[WaitingStop]:
        """Return every waiting conditional order of the account."""
        return self._ask("fapiPrivateGetOpenAlgoOrders", {}, 40, lambda body: [rows.stop_row(row) for row in body])

    def order_by_client_id(self, symbol: str, client_id: str) -> VenueOrder | None:
        """Return the order with this client id, or None when the venue knows none."""
        return self._order({"symbol": symbol, "origClientOrderId": client_id})

    def order_by_venue_id(self, symbol: str, venue_id: int) -> VenueOrder | None:
        """Return the order with this number, or None when the venue knows none."""
        return self._order({"symbol": symbol, "orderId": venue_id})

    def _order(self, params: dict[str, object]) -> VenueOrder | None:
        try:
            return self._ask("fapiPrivateGetOrder", params, 1, rows.order_row)
        except VenueFault as fault:
            if fault.rule.read is Reaction.ABSENT:
                return None
            raise

    def stop_by_client_id(self, client_id: str) -> WaitingStop | None:
        """Return the conditional order with this client id, in whatever state, or None."""
        try:
            return self._ask("fapiPrivateGetAlgoOrder", {"clientAlgoId": client_id}, 1, rows.stop_row)
        except VenueFault as fault:
            if fault.rule.read is Reaction.ABSENT:
                return None
            raise

    def fills(self, symbol: str, from_id: int | None = None) -> list[VenueFill]:
        """Return own executions from trade number ``from_id`` on, all of them; None returns the latest one only."""
        found: list[VenueFill] = []
        while True:
            params: dict[str, object] = {"symbol": symbol, "limit": 1 if from_id is None else 1000}
            if from_id is not None:
                params["fromId"] = from_id
            page = self._ask("fapiPrivateGetUserTrades", params, 5, lambda body: [rows.fill_row(row) for row in body])
            found += page
            if from_id is None or len(page) < 1000:
                return sorted(found, key=lambda fill: fill.trade_id)
            from_id = max(fill.trade_id for fill in page) + 1

    def fills_of_order(self, symbol: str, venue_id: int) -> list[VenueFill]:
        """Return the executions of one order."""
        params: dict[str, object] = {"symbol": symbol, "orderId": venue_id, "limit": 1000}
        return self._ask("fapiPrivateGetUserTrades", params, 5, lambda body: [rows.fill_row(row) for row in body])

    def funding(self, since_ms: int) -> list[IncomeRow]:
        """Return up to 1000 funding payments from ``since_ms`` on, oldest first."""
        params: dict[str, object] = {"incomeType": "FUNDING_FEE", "startTime": since_ms, "limit": 1000}
        return self._ask("fapiPrivateGetIncome", params, 30, lambda body: [rows.income_row(row) for row in body])

    # ---- what is set; being so already is success

    def set_one_way_mode(self) -> None:
        """Leave hedge mode."""
        self._set("fapiPrivatePostPositionSideDual", {"dualSidePosition": "false"})

    def set_isolated_margin(self, symbol: str) -> None:
        """Put ``symbol`` in isolated margin mode."""
        self._set("fapiPrivatePostMarginType", {"symbol": symbol, "marginType": "ISOLATED"})

    def set_leverage(self, symbol: str, leverage: int) -> None:
        """Set the leverage of ``symbol``."""
        self._set("fapiPrivatePostLeverage", {"symbol": symbol, "leverage": leverage})

    def margin_mode_and_leverage(self, symbol: str) -> tuple[str, int]:
        """Return ``ISOLATED`` or ``CROSSED`` and the leverage of ``symbol``."""
        return self._ask(
            "fapiPrivateGetSymbolConfig", {"symbol": symbol}, 5, lambda b: (b[0]["marginType"], int(b[0]["leverage"]))
        )

    def _set(self, endpoint: str, params: dict[str, object]) -> None:
        try:
            self.wire.read(endpoint, params, 1)
        except VenueFault as fault:
            if fault.rule.read is not Reaction.FINE:
                raise

    # ---- what is sent, once

    def send_market_order(
        self, symbol: str, side: int, qty: Decimal, client_id: str, *, reduce_only: bool
    ) -> VenueOrder:
        """Send one market order once; VenueFault says how it failed, and a fault may hide a placed order."""
        params = {
            "symbol": symbol,
            "side": "BUY" if side > 0 else "SELL",
            "type": "MARKET",
            "quantity": f"{qty:f}",
            "newClientOrderId": client_id,
            "newOrderRespType": "RESULT",
        }
        if reduce_only:
            params["reduceOnly"] = "true"
        answer = self.wire.once("fapiPrivatePostOrder", params, 1, order=True)
        return rows.parsed("fapiPrivatePostOrder", rows.order_row, answer)

    def send_stop(self, symbol: str, side: int, qty: Decimal, trigger_price: Decimal, client_id: str) -> WaitingStop:
        """Send one reduce-only stop-market order to the Algo service once, triggered by the last price."""
        params = {
            "algoType": "CONDITIONAL",
            "symbol": symbol,
            "side": "BUY" if side > 0 else "SELL",
            "type": "STOP_MARKET",
            "quantity": f"{qty:f}",
            "triggerPrice": f"{trigger_price:f}",
            "workingType": "CONTRACT_PRICE",
            "reduceOnly": "true",
            "clientAlgoId": client_id,
        }
        answer = self.wire.once("fapiPrivatePostAlgoOrder", params, 1, order=True)
        return rows.parsed("fapiPrivatePostAlgoOrder", rows.stop_row, answer)

    def cancel_stop(self, stop: WaitingStop) -> bool:
        """Cancel a waiting stop; False when it was not waiting any more."""
        return self._cancel("fapiPrivateDeleteAlgoOrder", {"algoId": stop.algo_id})

    def cancel_order(self, order: VenueOrder) -> bool:
        """Cancel an open order; False when it was not open any more."""
        return self._cancel("fapiPrivateDeleteOrder", {"symbol": order.symbol, "orderId": order.venue_id})

    def _cancel(self, endpoint: str, params: dict[str, object]) -> bool:
        try:
            self.wire.read(endpoint, params, 1)
        except VenueFault as fault:
            if fault.rule.read is Reaction.ABSENT:
                return False
            raise
        return True
