"""What can go wrong, as a tree: the class says what happens next and with which exit code.

    SmmBtError
    ├── UsageError            2    wrong command line, wrong option file: nothing was started
    │   └── SettingsError     2    a setting is unknown, malformed or out of range
    ├── RunFailed             1    the run cannot go on
    │   ├── MarketDataError   1    candles, mark candles or funding cannot be used
    │   ├── OutputError       1    a file or a run folder cannot be written
    │   └── VenueError        1    the venue said no, or nothing, and the run must stop
    └── Interrupted         130    the person stopped the run

``feeds`` and ``strategy`` know nothing of this package and raise their own
:class:`feeds.candles.CandleError` and :class:`strategy.contract.StrategyRefused`;
the command line maps those to exit codes 1 and 3, and those of their kind that
say that a file was named wrongly (:class:`feeds.files.CandleUsageError`,
:class:`strategy.refusal.StrategyFileMissing`) to 2.
"""

from __future__ import annotations


class SmmBtError(Exception):
    """A condition a person is told about in one or two sentences."""

    exit_code = 1


class UsageError(SmmBtError):
    """The command was called in a way that cannot work."""

    exit_code = 2


class SettingsError(UsageError):
    """A setting is unknown, malformed or out of range."""


class RunFailed(SmmBtError):
    """The run started and cannot go on."""


class MarketDataError(RunFailed):
    """Candles, mark candles or funding rates cannot be used."""


class OutputError(RunFailed):
    """A file or a run folder could not be written; the message says what is kept."""


class VenueError(RunFailed):
    """The venue refused or stayed silent in a way that must stop the run."""


class Interrupted(SmmBtError):
    """The person stopped the run."""

    exit_code = 130
