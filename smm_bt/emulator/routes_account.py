"""Signed account endpoints: balances, positions, modes, leverage, income and the listen key."""

from __future__ import annotations

from typing import Any

from smm_bt.emulator import bodies
from smm_bt.emulator.account import Position
from smm_bt.emulator.events import LeverageEvent
from smm_bt.emulator.exact import ZERO, plain
from smm_bt.emulator.exchange import Exchange
from smm_bt.emulator.parameters import Parameters
from smm_bt.emulator.refusals import VenueError
from smm_bt.emulator.routes import SIGNED, Endpoint, Routes, in_time_range, known_symbol, optional_symbol

_SUCCESS = {"code": 200, "msg": "success"}
_PERMISSIONS = {"feeTier": 0, "canTrade": True, "canDeposit": True, "canWithdraw": True}


def _sides(exchange: Exchange) -> list[str]:
    return ["LONG", "SHORT"] if exchange.account.dual_side else ["BOTH"]


def _all_positions(exchange: Exchange, symbol: str | None) -> list[Position]:
    """Every symbol with a market, flat or not, as version 2 lists them."""
    wanted = exchange.market.symbols if symbol is None else [symbol]
    known = exchange.account.positions
    return [known.get((name, side)) or Position(name, side) for name in wanted for side in _sides(exchange)]


def _live_positions(exchange: Exchange, symbol: str | None) -> list[Position]:
    """Symbols with a position or an open order only, as version 3 lists them."""
    ordered = {(order.symbol, order.position_side) for order in exchange.archive.open_of(symbol)}
    held = {(p.symbol, p.side) for p in exchange.account.open_positions(symbol)}
    return [exchange.account.position(*key) for key in sorted(ordered | held)]


def account_v3(exchange: Exchange, _parameters: Parameters) -> dict[str, Any]:
    """Balances with live positions."""
    sums = bodies.totals(exchange)
    rows = [bodies.position_risk_v3(exchange, p) for p in _live_positions(exchange, None)]
    names = ("symbol", "positionSide", "positionAmt", "isolatedMargin", "notional", "isolatedWallet")
    positions = [
        {name: row[name] for name in (*names, "initialMargin", "maintMargin", "updateTime")}
        | {"unrealizedProfit": row["unRealizedProfit"]}
        for row in rows
    ]
    return sums | {"assets": [bodies.usdt_asset(exchange, sums)], "positions": positions}


def account_v2(exchange: Exchange, _parameters: Parameters) -> dict[str, Any]:
    """Balances with every position, flat ones included."""
    account, sums = exchange.account, bodies.totals(exchange)
    head = {
        "feeBurn": False,
        "updateTime": 0,
        "multiAssetsMargin": account.multi_assets,
        "tradeGroupId": -1,
    }
    asset = bodies.usdt_asset(exchange, sums) | {"marginAvailable": True}
    positions = [_position_v2(exchange, position) for position in _all_positions(exchange, None)]
    return _PERMISSIONS | head | sums | {"assets": [asset], "positions": positions}


def _position_v2(exchange: Exchange, position: Position) -> dict[str, Any]:
    row, account = bodies.position_risk_v3(exchange, position), exchange.account
    leverage = account.leverage(position.symbol)
    return {
        "symbol": position.symbol,
        "initialMargin": row["initialMargin"],
        "maintMargin": row["maintMargin"],
        "unrealizedProfit": row["unRealizedProfit"],
        "positionInitialMargin": row["positionInitialMargin"],
        "openOrderInitialMargin": row["openOrderInitialMargin"],
        "leverage": str(leverage),
        "isolated": account.is_isolated(position.symbol),
        "entryPrice": row["entryPrice"],
        "maxNotional": plain(exchange.instruments[position.symbol].max_notional(leverage)),
        "bidNotional": "0",
        "askNotional": "0",
        "positionSide": position.side,
        "positionAmt": row["positionAmt"],
        "updateTime": position.update_time,
    }


def balance(exchange: Exchange, _parameters: Parameters) -> list[dict[str, Any]]:
    """Balances per asset; the account knows USDT only."""
    sums = bodies.totals(exchange)
    return [
        {
            "accountAlias": "embedded",
            "asset": "USDT",
            "balance": sums["totalWalletBalance"],
            "crossWalletBalance": sums["totalCrossWalletBalance"],
            "crossUnPnl": sums["totalCrossUnPnl"],
            "availableBalance": sums["availableBalance"],
            "maxWithdrawAmount": sums["maxWithdrawAmount"],
            "marginAvailable": True,
            "updateTime": exchange.account.update_time,
        }
    ]


def position_risk_v3(exchange: Exchange, parameters: Parameters) -> list[dict[str, Any]]:
    """Positions and symbols with open orders."""
    symbol = optional_symbol(exchange, parameters)
    return [bodies.position_risk_v3(exchange, p) for p in _live_positions(exchange, symbol)]


def position_risk_v2(exchange: Exchange, parameters: Parameters) -> list[dict[str, Any]]:
    """Every symbol, flat or not."""
    symbol = optional_symbol(exchange, parameters)
    return [bodies.position_risk_v2(exchange, p) for p in _all_positions(exchange, symbol)]


def leverage_brackets(exchange: Exchange, parameters: Parameters) -> list[dict[str, Any]]:
    """Notional brackets with their highest leverage and maintenance margin."""
    symbol = optional_symbol(exchange, parameters)
    names = exchange.instruments if symbol is None else [symbol]
    return [
        {
            "symbol": name,
            "notionalCoef": 1.0,
            "brackets": [
                {
                    "bracket": bracket.number,
                    "initialLeverage": bracket.max_leverage,
                    "notionalCap": int(bracket.cap),
                    "notionalFloor": int(bracket.floor),
                    "maintMarginRatio": float(bracket.maintenance_rate),
                    "cum": float(bracket.maintenance_amount),
                }
                for bracket in exchange.instruments[name].brackets
            ],
        }
        for name in names
    ]


def set_leverage(exchange: Exchange, parameters: Parameters) -> dict[str, Any]:
    """Set the leverage of a symbol; an isolated position allows raising it only."""
    symbol, leverage = known_symbol(exchange, parameters), parameters.integer("leverage")
    account, instrument = exchange.account, exchange.instruments[symbol]
    if not 1 <= leverage <= instrument.max_leverage:
        raise VenueError(-4028, leverage)
    positions = list(account.open_positions(symbol))
    if positions and leverage < account.leverage(symbol) and account.is_isolated(symbol):
        raise VenueError(-4161)
    held = max((abs(p.qty) * exchange.market.mark(symbol) for p in positions), default=ZERO)
    if held > instrument.max_notional(leverage):
        raise VenueError(-2027)
    account.leverages[symbol] = leverage
    exchange.emit(LeverageEvent(symbol, leverage, exchange.now_ms))
    return {
        "symbol": symbol,
        "leverage": leverage,
        "maxNotionalValue": plain(instrument.max_notional(leverage)),
    }


def set_margin_type(exchange: Exchange, parameters: Parameters) -> dict[str, Any]:
    """Switch a symbol between isolated and cross margin."""
    symbol = known_symbol(exchange, parameters)
    wanted = parameters.choice("marginType", {"ISOLATED", "CROSSED"})
    account = exchange.account
    if (wanted == "ISOLATED") == account.is_isolated(symbol):
        raise VenueError(-4046)
    if wanted == "ISOLATED" and account.multi_assets:
        raise VenueError(-4168)
    if any(account.open_positions(symbol)):
        raise VenueError(-4048)
    if exchange.archive.open_of(symbol) or exchange.archive.open_algos_of(symbol):
        raise VenueError(-4047)
    (account.isolated.add if wanted == "ISOLATED" else account.isolated.discard)(symbol)
    return _SUCCESS


def get_position_mode(exchange: Exchange, _parameters: Parameters) -> dict[str, Any]:
    """Tell whether the account is in hedge mode."""
    return {"dualSidePosition": exchange.account.dual_side}


def set_position_mode(exchange: Exchange, parameters: Parameters) -> dict[str, Any]:
    """Switch between one-way and hedge mode; only without positions and orders."""
    wanted = parameters.boolean("dualSidePosition")
    if wanted == exchange.account.dual_side:
        raise VenueError(-4059)
    if exchange.archive.open_orders or exchange.archive.open_algos:
        raise VenueError(-4067)
    if any(exchange.account.open_positions()):
        raise VenueError(-4068)
    exchange.account.dual_side = wanted
    return _SUCCESS


def get_multi_assets(exchange: Exchange, _parameters: Parameters) -> dict[str, Any]:
    """Tell whether multi-assets mode is on."""
    return {"multiAssetsMargin": exchange.account.multi_assets}


def set_multi_assets(exchange: Exchange, parameters: Parameters) -> dict[str, Any]:
    """Switch multi-assets mode; it changes no figure here, as the account holds USDT only."""
    wanted = parameters.boolean("multiAssetsMargin")
    if wanted == exchange.account.multi_assets:
        raise VenueError(-4171)
    exchange.account.multi_assets = wanted
    return _SUCCESS


def symbol_config(exchange: Exchange, parameters: Parameters) -> list[dict[str, Any]]:
    """Margin type and leverage per symbol."""
    symbol, account = optional_symbol(exchange, parameters), exchange.account
    names = exchange.instruments if symbol is None else [symbol]
    return [
        {
            "symbol": name,
            "marginType": "ISOLATED" if account.is_isolated(name) else "CROSSED",
            "isAutoAddMargin": False,
            "leverage": account.leverage(name),
            "maxNotionalValue": plain(exchange.instruments[name].max_notional(account.leverage(name))),
        }
        for name in names
    ]


def account_config(exchange: Exchange, _parameters: Parameters) -> dict[str, Any]:
    """Modes of the account."""
    return _PERMISSIONS | {
        "dualSidePosition": exchange.account.dual_side,
        "updateTime": 0,
        "multiAssetsMargin": exchange.account.multi_assets,
        "tradeGroupId": -1,
    }


def income(exchange: Exchange, parameters: Parameters) -> list[dict[str, Any]]:
    """Wallet changes, oldest first."""
    symbol, kind = optional_symbol(exchange, parameters), parameters.optional_text("incomeType")
    limit = parameters.limit(100, 1000)
    rows = [
        row
        for row in exchange.archive.incomes
        if symbol in (None, row.symbol) and kind in ("", row.income_type) and in_time_range(parameters, row.time)
    ]
    page = max(1, parameters.optional_integer("page") or 1)
    if "startTime" in parameters or page > 1:
        rows = rows[(page - 1) * limit : page * limit]
    return [bodies.income_row(row) for row in rows[-limit:]]


def commission_rate(exchange: Exchange, parameters: Parameters) -> dict[str, Any]:
    """Fee rates."""
    return {
        "symbol": known_symbol(exchange, parameters),
        "makerCommissionRate": plain(exchange.booking.maker_rate),
        "takerCommissionRate": plain(exchange.booking.taker_rate),
        "rpiCommissionRate": "0",
    }


ROUTES: Routes = {
    ("GET", "/fapi/v2/account"): Endpoint(account_v2, 5, SIGNED),
    ("GET", "/fapi/v3/account"): Endpoint(account_v3, 5, SIGNED),
    ("GET", "/fapi/v2/balance"): Endpoint(balance, 5, SIGNED),
    ("GET", "/fapi/v3/balance"): Endpoint(balance, 5, SIGNED),
    ("GET", "/fapi/v2/positionRisk"): Endpoint(position_risk_v2, 5, SIGNED),
    ("GET", "/fapi/v3/positionRisk"): Endpoint(position_risk_v3, 5, SIGNED),
    ("GET", "/fapi/v1/leverageBracket"): Endpoint(leverage_brackets, 1, SIGNED),
    ("POST", "/fapi/v1/leverage"): Endpoint(set_leverage, 1, SIGNED),
    ("POST", "/fapi/v1/marginType"): Endpoint(set_margin_type, 1, SIGNED),
    ("GET", "/fapi/v1/positionSide/dual"): Endpoint(get_position_mode, 30, SIGNED),
    ("POST", "/fapi/v1/positionSide/dual"): Endpoint(set_position_mode, 1, SIGNED),
    ("GET", "/fapi/v1/multiAssetsMargin"): Endpoint(get_multi_assets, 30, SIGNED),
    ("POST", "/fapi/v1/multiAssetsMargin"): Endpoint(set_multi_assets, 1, SIGNED),
    ("GET", "/fapi/v1/symbolConfig"): Endpoint(symbol_config, 5, SIGNED),
    ("GET", "/fapi/v1/accountConfig"): Endpoint(account_config, 5, SIGNED),
    ("GET", "/fapi/v1/income"): Endpoint(income, 30, SIGNED),
    ("GET", "/fapi/v1/commissionRate"): Endpoint(commission_rate, 20, SIGNED),
}
