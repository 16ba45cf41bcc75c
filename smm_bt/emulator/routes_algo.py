"""Signed endpoints of the Algo service: conditional orders."""

from __future__ import annotations

from typing import Any

from smm_bt.emulator import bodies
from smm_bt.emulator.conditional import MODELLED_TYPES, AlgoRequest
from smm_bt.emulator.exchange import Exchange
from smm_bt.emulator.instruments import TIMES_IN_FORCE
from smm_bt.emulator.parameters import Parameters
from smm_bt.emulator.records import AlgoOrder
from smm_bt.emulator.refusals import VenueError
from smm_bt.emulator.routes import SIGNED, Endpoint, Routes, in_time_range, known_symbol, optional_symbol

_CANCELLED_ALL = {"code": 200, "msg": "The operation of cancel all open order is done."}


def _algo_request(exchange: Exchange, parameters: Parameters) -> AlgoRequest:
    parameters.choice("algoType", {"CONDITIONAL"})
    symbol = known_symbol(exchange, parameters)
    if exchange.account.dual_side and "reduceOnly" in parameters:
        raise VenueError(-1106, "reduceonly")
    order_type = parameters.choice("type", MODELLED_TYPES | {"TRAILING_STOP_MARKET"}, code=-1116)
    close_position = parameters.boolean("closePosition", default=False)
    quantity = parameters.optional_decimal("quantity") if close_position else parameters.decimal("quantity")
    limit = not order_type.endswith("_MARKET")
    return AlgoRequest(
        symbol=symbol,
        side=parameters.choice("side", {"BUY", "SELL"}, code=-1117),
        position_side=parameters.choice("positionSide", {"BOTH", "LONG", "SHORT"}, "BOTH"),
        order_type=order_type,
        time_in_force=parameters.choice("timeInForce", TIMES_IN_FORCE, "GTC", -1115),
        qty=quantity,
        price=parameters.decimal("price") if limit else parameters.optional_decimal("price"),
        trigger_price=parameters.decimal("triggerPrice"),
        working_type=parameters.choice("workingType", {"CONTRACT_PRICE", "MARK_PRICE"}, "CONTRACT_PRICE"),
        reduce_only=parameters.boolean("reduceOnly", default=False),
        close_position=close_position,
        price_protect=parameters.boolean("priceProtect", default=False),
        client_algo_id=parameters.optional_text("clientAlgoId"),
        good_till_date=parameters.optional_integer("goodTillDate") or 0,
    )


def place_algo(exchange: Exchange, parameters: Parameters) -> dict[str, Any]:
    """Place a conditional order."""
    algo = exchange.conditional.place(_algo_request(exchange, parameters))
    return bodies.placed_algo(algo) | {"activatePrice": "", "callbackRate": ""}


def _asked_algo(exchange: Exchange, parameters: Parameters, missing_code: int) -> AlgoOrder:
    algo_id = parameters.optional_integer("algoId")
    client_algo_id = parameters.optional_text("clientAlgoId")
    if algo_id is None and not client_algo_id:
        raise VenueError(-1102, text="Either algoId or clientAlgoId must be sent.")
    algo = exchange.archive.find_algo(algo_id, client_algo_id)
    if algo is None:
        raise VenueError(missing_code)
    return algo


def query_algo(exchange: Exchange, parameters: Parameters) -> dict[str, Any]:
    """Look one conditional order up."""
    return bodies.queried_algo(_asked_algo(exchange, parameters, -2013))


def cancel_algo(exchange: Exchange, parameters: Parameters) -> dict[str, Any]:
    """Cancel one waiting conditional order."""
    algo = _asked_algo(exchange, parameters, -2011)
    exchange.conditional.cancel(algo)
    return {
        "algoId": algo.algo_id,
        "clientAlgoId": algo.client_algo_id,
        "code": "200",
        "msg": "success",
    }


def cancel_all_algos(exchange: Exchange, parameters: Parameters) -> dict[str, Any]:
    """Cancel every waiting conditional order of a symbol."""
    for algo in exchange.archive.open_algos_of(known_symbol(exchange, parameters)):
        exchange.conditional.cancel(algo)
    return _CANCELLED_ALL


def open_algos(exchange: Exchange, parameters: Parameters) -> list[dict[str, Any]]:
    """List waiting conditional orders."""
    symbol = optional_symbol(exchange, parameters)
    return [bodies.listed_algo(algo) for algo in exchange.archive.open_algos_of(symbol)]


def all_algos(exchange: Exchange, parameters: Parameters) -> list[dict[str, Any]]:
    """List conditional orders of a symbol in any state, oldest first."""
    symbol, limit = known_symbol(exchange, parameters), parameters.limit(500, 1000)
    first = parameters.optional_integer("algoId")
    rows = [
        algo
        for algo in exchange.archive.algos.values()
        if algo.symbol == symbol
        and (first is None or algo.algo_id >= first)
        and in_time_range(parameters, algo.create_time)
    ]
    return [bodies.listed_algo(algo) for algo in rows[-limit:]]


ROUTES: Routes = {
    ("POST", "/fapi/v1/algoOrder"): Endpoint(place_algo, 1, SIGNED, is_order=True),
    ("GET", "/fapi/v1/algoOrder"): Endpoint(query_algo, 1, SIGNED),
    ("DELETE", "/fapi/v1/algoOrder"): Endpoint(cancel_algo, 1, SIGNED),
    ("DELETE", "/fapi/v1/algoOpenOrders"): Endpoint(cancel_all_algos, 1, SIGNED),
    ("GET", "/fapi/v1/openAlgoOrders"): Endpoint(
        open_algos, lambda parameters: 1 if "symbol" in parameters else 40, SIGNED
    ),
    ("GET", "/fapi/v1/allAlgoOrders"): Endpoint(all_algos, 5, SIGNED),
}
