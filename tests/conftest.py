"""What every test process begins with."""

from __future__ import annotations

import signal

# A shell lets what it starts in the background ignore Ctrl-C, and programs pass that on to their children; the
# programs started here are to end by it, wherever the tests were started from.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
