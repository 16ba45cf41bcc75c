"""Signed trading endpoints: orders, open orders, history and own trades."""

from __future__ import annotations

from typing import Any

from smm_bt.emulator import bodies
from smm_bt.emulator.conditional import MODELLED_TYPES
from smm_bt.emulator.exact import ZERO
from smm_bt.emulator.exchange import Exchange
from smm_bt.emulator.instruments import TIMES_IN_FORCE
from smm_bt.emulator.matching import OrderRequest
from smm_bt.emulator.parameters import Parameters
from smm_bt.emulator.records import LIQUIDATION_PREFIX, Order
from smm_bt.emulator.refusals import VenueError
from smm_bt.emulator.routes import SIGNED, Endpoint, Routes, in_time_range, known_symbol, optional_symbol

_CANCELLED_ALL = {"code": 200, "msg": "The operation of cancel all open order is done."}
_CONDITIONAL = MODELLED_TYPES | {"TRAILING_STOP_MARKET"}


def _order_request(exchange: Exchange, parameters: Parameters) -> OrderRequest:
    symbol = known_symbol(exchange, parameters)
    side = parameters.choice("side", {"BUY", "SELL"}, code=-1117)
    order_type = parameters.choice("type", {"LIMIT", "MARKET"} | _CONDITIONAL, code=-1116)
    if order_type in _CONDITIONAL:
        raise VenueError(-4120)
    position_side = parameters.choice("positionSide", {"BOTH", "LONG", "SHORT"}, "BOTH")
    if exchange.account.dual_side and "reduceOnly" in parameters:
        raise VenueError(-1106, "reduceonly")
    limit = order_type == "LIMIT"
    if limit and "timeInForce" not in parameters:
        raise VenueError(-1102, "timeInForce")
    if not limit and "price" in parameters:
        raise VenueError(-1106, "price")
    if not limit and "timeInForce" in parameters:
        raise VenueError(-1106, "timeInForce")
    return OrderRequest(
        symbol=symbol,
        side=side,
        position_side=position_side,
        order_type=order_type,
        time_in_force=parameters.choice("timeInForce", TIMES_IN_FORCE, "GTC", -1115),
        qty=parameters.decimal("quantity"),
        price=parameters.decimal("price") if limit else ZERO,
        reduce_only=parameters.boolean("reduceOnly", default=False),
        client_order_id=parameters.optional_text("newClientOrderId"),
        good_till_date=parameters.optional_integer("goodTillDate") or 0,
    )


def place_order(exchange: Exchange, parameters: Parameters) -> dict[str, Any]:
    """Place a market or limit order."""
    order = exchange.matching.place(_order_request(exchange, parameters))
    if order.is_open and order.order_type == "MARKET":
        exchange.wait_before_completing()
    return bodies.placed_order(order, parameters.optional_text("newOrderRespType", "ACK"))


def check_order(exchange: Exchange, parameters: Parameters) -> dict[str, Any]:
    """Run every check of an order without placing it."""
    request = _order_request(exchange, parameters)
    qty = exchange.matching.check(request)
    order = Order(
        order_id=0,
        client_order_id=request.client_order_id or "test",
        symbol=request.symbol,
        side=request.side,
        position_side=request.position_side,
        order_type=request.order_type,
        time_in_force=request.time_in_force,
        qty=qty,
        price=request.price,
        reduce_only=request.reduce_only,
        close_position=False,
        time=exchange.now_ms,
        update_time=exchange.now_ms,
        orig_type=request.order_type,
    )
    return bodies.placed_order(order, "ACK")


def _asked_order(exchange: Exchange, parameters: Parameters, missing_code: int) -> Order:
    symbol = known_symbol(exchange, parameters)
    order_id = parameters.optional_integer("orderId")
    client_order_id = parameters.optional_text("origClientOrderId")
    if order_id is None and not client_order_id:
        raise VenueError(-1102, text="Either orderId or origClientOrderId must be sent.")
    order = exchange.archive.find_order(symbol, order_id, client_order_id)
    if order is None:
        raise VenueError(missing_code)
    return order


def query_order(exchange: Exchange, parameters: Parameters) -> dict[str, Any]:
    """Look one order up by id or client id."""
    return bodies.queried_order(_asked_order(exchange, parameters, -2013))


def query_open_order(exchange: Exchange, parameters: Parameters) -> dict[str, Any]:
    """Look one open order up."""
    order = _asked_order(exchange, parameters, -2013)
    if not order.is_open:
        raise VenueError(-2013)
    return bodies.queried_order(order)


def cancel_order(exchange: Exchange, parameters: Parameters) -> dict[str, Any]:
    """Cancel one open order."""
    order = exchange.matching.cancel(_asked_order(exchange, parameters, -2011))
    return bodies.placed_order(order, "RESULT")


def cancel_all_orders(exchange: Exchange, parameters: Parameters) -> dict[str, Any]:
    """Cancel every open order of a symbol; conditional orders stay."""
    for order in exchange.archive.open_of(known_symbol(exchange, parameters)):
        exchange.matching.cancel(order)
    return _CANCELLED_ALL


def open_orders(exchange: Exchange, parameters: Parameters) -> list[dict[str, Any]]:
    """List open orders."""
    symbol = optional_symbol(exchange, parameters)
    return [bodies.queried_order(order) for order in exchange.archive.open_of(symbol)]


def all_orders(exchange: Exchange, parameters: Parameters) -> list[dict[str, Any]]:
    """List orders of a symbol, oldest first; ``orderId`` is the first one wanted."""
    symbol, first = known_symbol(exchange, parameters), parameters.optional_integer("orderId")
    limit = parameters.limit(500, 1000)
    rows = [
        order
        for order in exchange.archive.orders.values()
        if order.symbol == symbol and in_time_range(parameters, order.time)
    ]
    if first is not None:
        rows = [order for order in rows if order.order_id >= first][:limit]
    kept = rows[:limit] if "startTime" in parameters else rows[-limit:]
    return [bodies.queried_order(order) for order in kept]


def user_trades(exchange: Exchange, parameters: Parameters) -> list[dict[str, Any]]:
    """List own fills of a symbol, oldest first; ``fromId`` is the first one wanted."""
    symbol = known_symbol(exchange, parameters)
    order_id, first = parameters.optional_integer("orderId"), parameters.optional_integer("fromId")
    limit = parameters.limit(500, 1000)
    archive = exchange.archive
    of_order = None if order_id is None else archive.trades_of_order.get(order_id, [])
    rows = [
        trade
        for trade in (archive.trades_since(parameters.optional_integer("startTime")) if of_order is None else of_order)
        if trade.symbol == symbol
        and (first is None or trade.trade_id >= first)
        and in_time_range(parameters, trade.time)
    ]
    forwards = first is not None or "startTime" in parameters
    kept = rows[:limit] if forwards else rows[-limit:]
    return [bodies.user_trade(trade) for trade in kept]


def force_orders(exchange: Exchange, parameters: Parameters) -> list[dict[str, Any]]:
    """List liquidations of the account, newest last."""
    symbol, limit = optional_symbol(exchange, parameters), parameters.limit(50, 100)
    rows = [
        order
        for order in exchange.archive.orders.values()
        if order.client_order_id.startswith(LIQUIDATION_PREFIX)
        and symbol in (None, order.symbol)
        and in_time_range(parameters, order.time)
    ]
    left_out = ("priceProtect", "priceMatch", "selfTradePreventionMode", "goodTillDate")
    bodies_in_full = (bodies.queried_order(order) for order in rows[-limit:])
    return [{name: value for name, value in body.items() if name not in left_out} for body in bodies_in_full]


ROUTES: Routes = {
    ("POST", "/fapi/v1/order"): Endpoint(place_order, 1, SIGNED, is_order=True),
    ("POST", "/fapi/v1/order/test"): Endpoint(check_order, 1, SIGNED),
    ("GET", "/fapi/v1/order"): Endpoint(query_order, 1, SIGNED),
    ("DELETE", "/fapi/v1/order"): Endpoint(cancel_order, 1, SIGNED),
    ("DELETE", "/fapi/v1/allOpenOrders"): Endpoint(cancel_all_orders, 1, SIGNED),
    ("GET", "/fapi/v1/openOrder"): Endpoint(query_open_order, 1, SIGNED),
    ("GET", "/fapi/v1/openOrders"): Endpoint(
        open_orders, lambda parameters: 1 if "symbol" in parameters else 40, SIGNED
    ),
    ("GET", "/fapi/v1/allOrders"): Endpoint(all_orders, 5, SIGNED),
    ("GET", "/fapi/v1/userTrades"): Endpoint(user_trades, 5, SIGNED),
    ("GET", "/fapi/v1/forceOrders"): Endpoint(
        force_orders, lambda parameters: 20 if "symbol" in parameters else 50, SIGNED
    ),
}
