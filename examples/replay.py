"""Replay 60 days of made BTCUSDT candles: your strategy/compute_smm.py when it is there, the reference otherwise.

`make replay` runs this; it does what `smm-bt replay FILE` does. Settings come from the environment, .env and smm.toml.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout that is not installed works, too

from feeds.candles import CandleError
from feeds.made import made_candles, write_candles
from smm_bt.app.inputs import ReplayFiles
from smm_bt.app.replay import ReplayRequest, replay
from smm_bt.app.settings import load_settings
from smm_bt.errors import SmmBtError
from strategy.contract import StrategyRefused

ROOT = Path(__file__).resolve().parents[1]
SAYS = "The market of this run is MADE: invented candles. Its result says nothing about a real one."


def main() -> int:
    """Make the candles unless they are there, replay them, say where everything is."""
    os.chdir(ROOT)  # DATA_DIR, RUNS_DIR, .env and smm.toml are those of the project, wherever this is started
    console = Console(highlight=False)
    try:
        settings = load_settings({"TIMEFRAME": "5m"})
        # A folder of its own: `smm-bt replay --symbol BTCUSDT` must never take invented candles for real ones.
        candles = settings.DATA_DIR / "made" / "BTCUSDT-5m_made.csv.gz"
        if not candles.exists():
            write_candles(made_candles("BTCUSDT", "5m", count=60 * 288, seed=1), candles)
        console.print(f"[bold yellow]{SAYS}[/]", soft_wrap=True)
        result = replay(ReplayRequest(ReplayFiles(candles=[candles]), settings), console)
    except (SmmBtError, CandleError, StrategyRefused, OSError) as problem:
        print(f"examples/replay.py: {problem}", file=sys.stderr)
        return 1
    for file in sorted(result.folder.resolve().iterdir()):
        console.print(f"  {file}", soft_wrap=True)
    console.print(f"Candles: {candles.resolve()}\n{SAYS}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
