"""The embedded exchange as a child of a live run: options in as JSON, address out, until stdin is closed.

A run that is killed cannot say goodbye, but the system closes its end of the pipe: the child then ends, too.
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

from smm_bt.emulator.candles import NamedFile
from smm_bt.emulator.config import EmulatorConfig
from smm_bt.emulator.server import EmulatorServer

_PATHS = ("candles", "mark", "funding")
_FILES = ("exchange_info", "brackets", "state")
_AMOUNTS = ("balance_usdt", "taker_rate", "spread_bps", "made_funding_rate")


def configuration(options: dict[str, Any]) -> EmulatorConfig:
    """Return the configuration that was sent as plain JSON values."""
    values = dict(options)
    for name in _PATHS:
        values[name] = tuple(map(_played, values.get(name, ())))
    for name in _FILES:
        if values.get(name):
            values[name] = Path(values[name])
    for name in _AMOUNTS:
        if values.get(name) is not None:
            values[name] = Decimal(values[name])
    if "symbols" in values:
        values["symbols"] = tuple(values["symbols"])
    return EmulatorConfig(**values)


def _played(told: str | dict[str, str]) -> Path | NamedFile:
    return Path(told) if isinstance(told, str) else NamedFile(Path(told["path"]), told["symbol"], told["timeframe"])


async def serve(config: EmulatorConfig) -> None:
    """Serve until stdin ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with EmulatorServer(config) as server:
        gc.collect()
        gc.freeze()
        line = {"url": server.url, "api_key": server.config.api_key, "api_secret": server.config.api_secret}
        print(json.dumps(line), flush=True)
        await reader.read()


def main() -> int:
    """Serve one run; what cannot be served is said in one line of JSON."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        config = configuration(json.loads(sys.stdin.readline()))
        asyncio.run(serve(config))
    except (ValueError, OSError, LookupError) as problem:
        print(json.dumps({"error": str(problem)}), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
