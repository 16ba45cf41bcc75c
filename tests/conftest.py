"""What every test process begins with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

# A shell lets what it starts in the background ignore Ctrl-C, and programs pass that on to their children; the
# programs started here are to end by it, wherever the tests were started from.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_IN_A_PROCESS = "SMM_BT_TEST_IN_A_PROCESS"


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test marked ``forks`` in a fresh process: a fork beside threads of other tests may never end."""
    if pyfuncitem.get_closest_marker("forks") is None or _IN_A_PROCESS in os.environ:
        return None
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", pyfuncitem.nodeid]
    environment = os.environ | {_IN_A_PROCESS: "1"}
    environment.pop("PYTEST_XDIST_WORKER", None)
    done = subprocess.run(
        command, cwd=pyfuncitem.config.rootpath, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    return True
