"""``python -m smm_bt`` on a host whose clocks and resolver a test can change while it runs.

The file named by HOST_FILE holds {"wall_s": …, "steady_s": …, "resolves": …}: what is added to the wall clock and to
the steady clock, and whether names are resolved. It is read at the start and again on SIGUSR1.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__)
_HOST: dict[str, Any] = {"wall_s": 0.0, "steady_s": 0.0, "resolves": True}
_wall, _wall_ns, _steady, _resolve = time.time, time.time_ns, time.monotonic, socket.getaddrinfo


def _read(*_: object) -> None:
    _HOST.update(json.loads(Path(os.environ["HOST_FILE"]).read_text("utf-8")))


def _found(*arguments: Any, **more: Any) -> Any:
    if not _HOST["resolves"]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return _resolve(*arguments, **more)


def main() -> int:
    """Change the host, then run the program."""
    _read()
    signal.signal(signal.SIGUSR1, _read)
    time.time = lambda: _wall() + _HOST["wall_s"]
    time.time_ns = lambda: _wall_ns() + int(_HOST["wall_s"] * 1e9)
    time.monotonic = lambda: _steady() + _HOST["steady_s"]
    socket.getaddrinfo = _found
    from smm_bt.app.cli import main as program

    return program(sys.argv[1:]) or 0


if __name__ == "__main__":
    raise SystemExit(main())
