"""Paper-trade live candles with virtual money: your strategy/compute_smm.py when it is there, the reference otherwise.

Binance's public data are used when they can be reached, no key is needed; otherwise a made market is traded, said so
loudly, until its few days are over. Settings come from the environment, .env and smm.toml. Ctrl-C ends it cleanly.
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
from smm_bt.app.venue_reach import ask_clock
from smm_bt.errors import SmmBtError, VenueError
from strategy.contract import StrategyRefused

ROOT = Path(__file__).resolve().parents[1]
SAYS = "The market of this run is MADE, not real: invented candles. Its result says nothing about a real one."


def main() -> int:
    """Find a market, trade it on paper, say where everything is."""
    os.chdir(ROOT)  # RUNS_DIR, .env and smm.toml are those of the project, wherever this is started
    console, made = Console(highlight=False), False
    try:
        settings = load_settings({"TRADING_MODE": "PAPER"})
        try:
            ask_clock(None, tries=1, timeout_s=3.0)
            market = MarketChoice(BINANCE)
        except VenueError:
            console.print(f"[bold yellow]Binance cannot be reached from here. {SAYS}[/]", soft_wrap=True)
            market, made = MarketChoice(EMBEDDED, speed=math.inf, seed=12), True
        result = live(LiveRequest(settings, market), console)
    except (SmmBtError, CandleError, StrategyRefused, OSError) as problem:
        print(f"examples/paper_live.py: {problem}", file=sys.stderr)
        return 3 if isinstance(problem, StrategyRefused) else getattr(problem, "exit_code", 1)
    for file in sorted(path for path in result.folder.resolve().iterdir() if path.name[0] != "."):
        console.print(f"  {file}", soft_wrap=True)
    if made:
        console.print(SAYS, soft_wrap=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
