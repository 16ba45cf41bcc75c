"""A live run in a process of its own that ends with SIGKILL at a chosen call of a chosen method."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from made_files import ROOT, child_environment

#: Where to kill, as ``module:Class.method``: an order is about to go to the venue, or to be filled.
SENDS = "smm_bt.execution.venue_client:VenueClient.send_market_order"
FILLS = "smm_bt.execution.order_filler:OrderFiller.fill"


def killed(at: str, call: int, out: Path, strategy: Path, candles: Sequence[Path], mode: str, **more: Any) -> None:
    """Run live, or go on with ``out``, until method ``at`` is called for the ``call``-th time; kill before it acts.

    With ``after=True``, kill when it has acted and before its caller knows. ``address`` and ``settings`` as in
    ``live_kit.run_live``.
    """
    request = {"at": at, "call": call, "out": str(out), "strategy": str(strategy), "mode": mode, "after": False, **more}
    request["candles"] = [str(path) for path in candles]
    done = subprocess.run(
        [sys.executable, __file__, json.dumps(request)],
        env=child_environment(PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'tests'}"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def _kill_at(at: str, call: int, *, after: bool) -> None:
    module, _, path = at.partition(":")
    owner, method = getattr(importlib.import_module(module), path.split(".")[0]), path.split(".")[1]
    real, calls = getattr(owner, method), 0

    def counted(*given: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*given, **more)
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, method, counted)


def main(request: dict[str, Any]) -> None:
    """Do what :func:`killed` asked for."""
    from live_kit import run_live

    _kill_at(request["at"], request["call"], after=request["after"])
    out = Path(request["out"])
    candles = [Path(path) for path in request["candles"]]
    settings = {"TRADING_MODE": request["mode"], **request.get("settings", {})}
    address, resume = request.get("address", ""), (out / "journal.sqlite").exists()
    run_live(out, Path(request["strategy"]), candles, settings=settings, address=address, resume=resume)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
