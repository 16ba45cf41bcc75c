"""JSON bodies of orders, trades, income, positions and balances, field for field as the venue names them."""

from __future__ import annotations

from typing import Any

from smm_bt.emulator.account import Position
from smm_bt.emulator.exact import ZERO, plain
from smm_bt.emulator.exchange import Exchange
from smm_bt.emulator.records import AlgoOrder, Income, Order, Trade

Body = dict[str, Any]


def order_state(order: Order) -> Body:
    """Fields every answer about an order carries."""
    return {
        "orderId": order.order_id,
        "symbol": order.symbol,
        "status": order.status,
        "clientOrderId": order.client_order_id,
        "price": plain(order.price),
        "avgPrice": plain(order.average_price),
        "origQty": plain(order.qty),
        "executedQty": plain(order.executed_qty),
        "cumQuote": plain(order.cum_quote),
        "timeInForce": order.time_in_force,
        "type": order.order_type,
        "reduceOnly": order.reduce_only,
        "closePosition": order.close_position,
        "side": order.side,
        "positionSide": order.position_side,
        "stopPrice": plain(order.stop_price),
        "workingType": order.working_type,
        "priceProtect": False,
        "origType": order.orig_type,
        "priceMatch": "NONE",
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "goodTillDate": order.good_till_date,
        "updateTime": order.update_time,
    }


def placed_order(order: Order, response_type: str) -> Body:
    """Answer to POST and DELETE /order; with ACK the state before any fill is told."""
    body = order_state(order) | {"cumQty": plain(order.executed_qty)}
    if response_type != "RESULT":
        unfilled = {"avgPrice": "0", "executedQty": "0", "cumQty": "0", "cumQuote": "0", "status": "NEW"}
        return body | unfilled
    return body


def queried_order(order: Order) -> Body:
    """Answer to GET /order, /openOrders and /allOrders."""
    return order_state(order) | {"time": order.time}


def placed_algo(algo: AlgoOrder) -> Body:
    """Answer to POST /algoOrder."""
    return {
        "algoId": algo.algo_id,
        "clientAlgoId": algo.client_algo_id,
        "algoType": "CONDITIONAL",
        "orderType": algo.order_type,
        "symbol": algo.symbol,
        "side": algo.side,
        "positionSide": algo.position_side,
        "timeInForce": algo.time_in_force,
        "quantity": plain(algo.qty),
        "algoStatus": algo.status,
        "triggerPrice": plain(algo.trigger_price),
        "price": plain(algo.price),
        "icebergQuantity": None,
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "workingType": algo.working_type,
        "priceMatch": "NONE",
        "closePosition": algo.close_position,
        "priceProtect": algo.price_protect,
        "reduceOnly": algo.reduce_only,
        "createTime": algo.create_time,
        "updateTime": algo.update_time,
        "triggerTime": algo.trigger_time,
        "goodTillDate": algo.good_till_date,
    }


def listed_algo(algo: AlgoOrder) -> Body:
    """A row of GET /openAlgoOrders and /allAlgoOrders."""
    return placed_algo(algo) | {
        "actualOrderId": str(algo.actual_order_id) if algo.actual_order_id else "",
        "actualPrice": plain(algo.actual_price),
        "tpTriggerPrice": "0",
        "tpPrice": "0",
        "slTriggerPrice": "0",
        "slPrice": "0",
        "tpOrderType": "",
    }


def queried_algo(algo: AlgoOrder) -> Body:
    """Answer to GET /algoOrder."""
    return placed_algo(algo) | {
        "actualOrderId": str(algo.actual_order_id) if algo.actual_order_id else "",
        "actualPrice": plain(algo.actual_price),
        "actualQty": plain(algo.actual_qty),
        "actualType": "MARKET" if algo.order_type.endswith("_MARKET") else "LIMIT",
        "tpOrderType": "",
    }


def user_trade(trade: Trade) -> Body:
    """A row of GET /userTrades."""
    return {
        "symbol": trade.symbol,
        "id": trade.trade_id,
        "orderId": trade.order_id,
        "side": trade.side,
        "price": plain(trade.price),
        "qty": plain(trade.qty),
        "realizedPnl": plain(trade.realized_pnl),
        "marginAsset": "USDT",
        "quoteQty": plain(trade.price * trade.qty),
        "commission": plain(trade.commission),
        "commissionAsset": "USDT",
        "time": trade.time,
        "positionSide": trade.position_side,
        "buyer": trade.side == "BUY",
        "maker": trade.maker,
    }


def income_row(income: Income) -> Body:
    """A row of GET /income."""
    return {
        "symbol": income.symbol,
        "incomeType": income.income_type,
        "income": plain(income.amount),
        "asset": "USDT",
        "info": str(income.trade_id) if income.trade_id else income.income_type,
        "time": income.time,
        "tranId": income.tran_id,
        "tradeId": str(income.trade_id) if income.trade_id else "",
    }


def position_figures(exchange: Exchange, position: Position) -> Body:
    """Fields both versions of /positionRisk share."""
    account, market = exchange.account, exchange.market
    known = position.symbol in market.symbols
    mark = market.mark(position.symbol) if known else ZERO
    isolated = account.is_isolated(position.symbol)
    profit = position.unrealized(mark)
    wallet = account.margin(position) if isolated else ZERO
    return {
        "symbol": position.symbol,
        "positionSide": position.side,
        "positionAmt": plain(position.qty),
        "entryPrice": plain(position.entry_price),
        "breakEvenPrice": plain(_break_even(exchange, position)),
        "markPrice": plain(mark),
        "unRealizedProfit": plain(profit),
        "liquidationPrice": plain(account.liquidation_price(position, market.mark)),
        "isolatedMargin": plain(wallet + profit if isolated and position.qty else ZERO),
        "notional": plain(position.qty * mark),
        "isolatedWallet": plain(wallet),
        "updateTime": position.update_time,
    }


def _break_even(exchange: Exchange, position: Position) -> Any:
    """Entry price moved by the fees of both sides, taker rates assumed."""
    rate = exchange.booking.taker_rate
    return position.entry_price * (1 + position.sign * 2 * rate)


def position_risk_v3(exchange: Exchange, position: Position) -> Body:
    """A row of GET /fapi/v3/positionRisk."""
    account, mark = exchange.account, exchange.market.mark
    initial = account.position_margin(position, mark) if position.qty else ZERO
    orders = exchange.matching.order_margin(position.symbol)
    maintenance = account.maintenance(position, mark(position.symbol)) if position.qty else ZERO
    return position_figures(exchange, position) | {
        "marginAsset": "USDT",
        "initialMargin": plain(initial + orders),
        "maintMargin": plain(maintenance),
        "positionInitialMargin": plain(initial),
        "openOrderInitialMargin": plain(orders),
        "adl": 1,
        "bidNotional": "0",
        "askNotional": "0",
    }


def position_risk_v2(exchange: Exchange, position: Position) -> Body:
    """A row of GET /fapi/v2/positionRisk."""
    account, symbol = exchange.account, position.symbol
    leverage = account.leverage(symbol)
    return position_figures(exchange, position) | {
        "marginType": "isolated" if account.is_isolated(symbol) else "cross",
        "isAutoAddMargin": "false",
        "leverage": str(leverage),
        "maxNotionalValue": plain(exchange.instruments[symbol].max_notional(leverage)),
    }


def totals(exchange: Exchange) -> Body:
    """The account's sums in USDT: every ``total…`` figure of /account."""
    account, mark = exchange.account, exchange.market.mark
    positions = list(account.open_positions())
    initial = sum((account.position_margin(p, mark) for p in positions), ZERO)
    orders = exchange.order_margin()
    maintenance = sum((account.maintenance(p, mark(p.symbol)) for p in positions), ZERO)
    profit = sum((p.unrealized(mark(p.symbol)) for p in positions), ZERO)
    available = plain(exchange.available())
    return {
        "totalInitialMargin": plain(initial + orders),
        "totalMaintMargin": plain(maintenance),
        "totalWalletBalance": plain(account.wallet),
        "totalUnrealizedProfit": plain(profit),
        "totalMarginBalance": plain(account.wallet + profit),
        "totalPositionInitialMargin": plain(initial),
        "totalOpenOrderInitialMargin": plain(orders),
        "totalCrossWalletBalance": plain(account.cross_wallet()),
        "totalCrossUnPnl": plain(account.cross_unrealized(mark)),
        "availableBalance": available,
        "maxWithdrawAmount": available,
    }


def usdt_asset(exchange: Exchange, sums: Body) -> Body:
    """The USDT row of /account's assets."""
    return {
        "asset": "USDT",
        "walletBalance": sums["totalWalletBalance"],
        "unrealizedProfit": sums["totalUnrealizedProfit"],
        "marginBalance": sums["totalMarginBalance"],
        "maintMargin": sums["totalMaintMargin"],
        "initialMargin": sums["totalInitialMargin"],
        "positionInitialMargin": sums["totalPositionInitialMargin"],
        "openOrderInitialMargin": sums["totalOpenOrderInitialMargin"],
        "crossWalletBalance": sums["totalCrossWalletBalance"],
        "crossUnPnl": sums["totalCrossUnPnl"],
        "availableBalance": sums["availableBalance"],
        "maxWithdrawAmount": sums["maxWithdrawAmount"],
        "updateTime": exchange.account.update_time,
    }
