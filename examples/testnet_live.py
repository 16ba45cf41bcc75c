"""Trade a demo account: Binance's demo venue with keys in .env, otherwise the embedded exchange with keys of its own.

Without keys the embedded exchange plays a made market as fast as it can, for 300 candles. On the demo venue the run
goes on until Ctrl-C. Settings come from the environment, .env and smm.toml; no real account can be reached.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout that is not installed works, too

from feeds.candles import CandleError
from smm_bt.app.live import LiveRequest, live
from smm_bt.app.live_market_source import BINANCE, EMBEDDED, MarketChoice
from smm_bt.app.settings import load_settings
from smm_bt.errors import SmmBtError
from strategy.contract import StrategyRefused

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Trade the demo account there is, say where everything is."""
    os.chdir(ROOT)  # RUNS_DIR, .env and smm.toml are those of the project, wherever this is started
    console = Console(highlight=False)
    try:
        settings = load_settings({"TRADING_MODE": "TESTNET"})
        if settings.BINANCE_TESTNET_API_KEY is not None:
            request = LiveRequest(settings, MarketChoice(BINANCE))
        else:
            console.print("[bold yellow]No keys in .env: this run trades the embedded exchange, a MADE market.[/]")
            request = LiveRequest(settings, MarketChoice(EMBEDDED, speed=math.inf, seed=12), max_candles=300)
        result = live(request, console)
    except (SmmBtError, CandleError, StrategyRefused, OSError) as problem:
        print(f"examples/testnet_live.py: {problem}", file=sys.stderr)
        return 3 if isinstance(problem, StrategyRefused) else getattr(problem, "exit_code", 1)
    for file in sorted(path for path in result.folder.resolve().iterdir() if path.name[0] != "."):
        console.print(f"  {file}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
