"""The command line of the embedded exchange: options, one JSON line with address and keys, then serving."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path

from smm_bt.emulator.candles import INTERVALS, CandleContentError, CandleFileError
from smm_bt.emulator.config import FASTEST, EmulatorConfig
from smm_bt.emulator.faults import FaultRule
from smm_bt.emulator.server import EmulatorServer
from smm_bt.emulator.state_file import StateFileError


def _speed(text: str) -> float | None:
    if text == "step":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed <= FASTEST:
        raise argparse.ArgumentTypeError(f"give 'step' or a number above zero, found {text!r}")
    return speed


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise argparse.ArgumentTypeError(f"give a number of zero or more, found {text!r}")
    return amount


def _rules(text: str) -> tuple[FaultRule, ...]:
    try:
        rows = json.loads(text)
        return tuple(FaultRule.from_row(row) for row in (rows if isinstance(rows, list) else [rows]))
    except (ValueError, TypeError) as error:
        raise argparse.ArgumentTypeError(f"not a fault rule as JSON: {error}") from None


def parser() -> argparse.ArgumentParser:
    """Return the options of ``python -m smm_bt.emulator``."""
    options = argparse.ArgumentParser(prog="smm-bt emulator", description="Serve the embedded exchange on loopback.")
    add = options.add_argument
    add("--port", type=int, default=0, help="port to listen on (default: a free one)")
    add("--candles", nargs="+", type=Path, default=[], metavar="FILE", help="candle files (default: made)")
    add("--mark", nargs="+", type=Path, default=[], metavar="FILE", help="mark-price candle files")
    add("--funding", nargs="+", type=Path, default=[], metavar="FILE", help="funding files")
    add("--exchange-info", type=Path, metavar="FILE", help="the venue's exchangeInfo as JSON")
    add("--brackets", type=Path, metavar="FILE", help="the venue's leverageBracket as JSON")
    add("--speed", type=_speed, default=1.0, metavar="X", help="times real time, or 'step' (default: 1)")
    add("--symbols", nargs="+", default=None, metavar="SYMBOL", help="symbols of a made market")
    add("--timeframe", choices=sorted(INTERVALS, key=INTERVALS.__getitem__), default="5m")
    add("--seed", type=int, default=1, help="makes a made market repeatable")
    add("--history", type=int, default=1500, metavar="N", help="closed candles at the start")
    add("--balance", type=_amount, default=Decimal(10_000), metavar="USDT", help="wallet at the start")
    add("--taker-rate", type=_amount, default=Decimal("0.0005"), help="fee as a fraction of the notional")
    add("--spread-bps", type=_amount, default=Decimal(0), help="bid-ask distance in basis points")
    add("--state", type=Path, metavar="FILE", help="file the account survives a restart in")
    add("--control", action="store_true", help="also serve /emulator/ control requests (for tests)")
    add("--faults", type=_rules, default=(), metavar="JSON", help="fault rules active from the start")
    add("--no-limits", action="store_true", help="switch request-weight and order limits off")
    return options


def configuration(arguments: argparse.Namespace) -> EmulatorConfig:
    """Turn parsed options into a configuration."""
    config = EmulatorConfig(
        candles=tuple(arguments.candles),
        mark=tuple(arguments.mark),
        funding=tuple(arguments.funding),
        exchange_info=arguments.exchange_info,
        brackets=arguments.brackets,
        seed=arguments.seed,
        timeframe=arguments.timeframe,
        history_candles=arguments.history,
        speed=arguments.speed,
        balance_usdt=arguments.balance,
        taker_rate=arguments.taker_rate,
        spread_bps=arguments.spread_bps,
        faults=arguments.faults,
        control=arguments.control,
        state=arguments.state,
        port=arguments.port,
    )
    if arguments.symbols:
        config = replace(config, symbols=tuple(arguments.symbols))
    if arguments.no_limits:
        config = replace(config, weight_limit_1m=0, order_limit_10s=0, order_limit_1m=0)
    return config


async def serve(config: EmulatorConfig) -> None:
    """Serve until SIGINT or SIGTERM; the first line on stdout says where and with which keys."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    async with EmulatorServer(config) as server:
        # candles and code stay for good: without them the garbage collector's pauses stay short
        gc.collect()
        gc.freeze()
        line = {
            "embedded_exchange": server.url,
            "url": server.url,
            "api_key": server.config.api_key,
            "api_secret": server.config.api_secret,
        }
        print(json.dumps(line), flush=True)
        await stop.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 after a clean stop, 2 for unusable options, 1 for bad content or when it cannot serve."""
    config = configuration(parser().parse_args(arguments))
    try:
        asyncio.run(serve(config))
    except CandleContentError as error:
        return _say(error, 1)
    except (CandleFileError, StateFileError) as error:
        return _say(error, 2)
    except FileNotFoundError as error:
        return _say(f"{error.filename}: there is no such file; check the path", 2)
    except OSError as error:
        if error.filename is not None:
            return _say(f"{error.filename}: cannot be read or written ({error.strerror})", 1)
        return _say(f"cannot listen on port {config.port}: {error}", 1)
    return 0


def _say(problem: object, code: int) -> int:
    print(f"smm-bt emulator: {problem}.", file=sys.stderr)
    return code
