"""The command line: ``smm-bt …``. Reads arguments, runs a command, turns errors into sentences and exit codes."""

from __future__ import annotations

import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, cast

import typer
from typer.exceptions import TyperException

from smm_bt import __version__
from smm_bt.app import live_commands, tool_commands
from smm_bt.app.arguments import console, moments, settings_with, symbol_named
from smm_bt.errors import Interrupted, SmmBtError

#: Errors of feeds and strategy and their exit codes; named, not imported: the command line must start without these.
_KNOWN = {"CandleUsageError": 2, "CandleError": 1, "StrategyFileMissing": 2, "StrategyRefused": 3}

app = typer.Typer(
    name="smm-bt",
    help="Run your compute_smm() on Binance USDⓈ-M futures candles, on virtual or demo money only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"smm-bt {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")] = False,
) -> None:
    """Options of every command (--debug is read in main)."""


@app.command()
def replay(
    more: Annotated[list[Path] | None, typer.Argument(metavar="FILE", help="Further candle files.")] = None,
    candles: Annotated[list[Path] | None, typer.Option(help="Candle file (CSV, CSV.gz, Parquet); repeatable.")] = None,
    symbol: Annotated[list[str] | None, typer.Option(help="Symbol in DATA_DIR, or of the candle file.")] = None,
    since: Annotated[str | None, typer.Option(help="First candle, UTC, for example 2025-01-01.")] = None,
    until: Annotated[str | None, typer.Option(help="End, UTC, not included.")] = None,
    strategy: Annotated[Path | None, typer.Option(help="Your file with compute_smm().")] = None,
    timeframe: Annotated[str | None, typer.Option(help="Timeframe of the candles, for example 5m.")] = None,
    funding: Annotated[list[Path] | None, typer.Option(help="Funding rates: timestamp,funding_rate.")] = None,
    mark: Annotated[list[Path] | None, typer.Option(help="Mark-price candles; they decide liquidations.")] = None,
    exchange_info: Annotated[Path | None, typer.Option(help="The venue's exchangeInfo JSON.")] = None,
    brackets: Annotated[Path | None, typer.Option(help="The venue's leverageBracket JSON.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to make; it must not exist.")] = None,
    engine: Annotated[str, typer.Option(help="auto, stock, event or plan.")] = "auto",
    tearsheet: Annotated[bool, typer.Option("--tearsheet/--no-tearsheet", help="Write tearsheet.html.")] = True,
    chart: Annotated[bool, typer.Option("--chart/--no-chart", help="Write chart.html.")] = True,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Keep columns beside the candle files.")] = True,
    setting: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting.")] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")] = False,
) -> None:
    """Replay stored candles: your signals on a simulated 20x account, a run folder with everything as the result."""
    from smm_bt.app.inputs import ReplayFiles
    from smm_bt.app.replay import ReplayRequest
    from smm_bt.app.replay import replay as run_replay

    settings = settings_with(setting, STRATEGY_FILE=strategy, TIMEFRAME=timeframe)
    begin_ms, end_ms = moments(since, until)
    files = ReplayFiles(
        candles=[*(candles or ()), *(more or ())],
        symbols=[symbol_named(name) for name in symbol or ()],
        mark=mark or (),
        funding=funding or (),
        exchange_info=exchange_info,
        brackets=brackets,
        since_ms=begin_ms,
        until_ms=end_ms,
        cache=cache,
    )
    run_replay(ReplayRequest(files, settings, out, engine, tearsheet, chart), console())


tool_commands.register(app)
live_commands.register(app)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code (0 done, 1 failed, 2 usage or settings, 3 strategy file, 130 stopped)."""
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    signal.signal(signal.SIGTERM, _terminated)
    try:
        outcome = app(args=given, prog_name="smm-bt", standalone_mode=False)
    except TyperException as wrong:
        cast("Any", wrong).show()
        return 2
    except (KeyboardInterrupt, typer.Abort):
        outcome = Interrupted.exit_code
    except Exception as error:  # the loop edge: every error leaves as a sentence and an exit code
        return _say(error, debug)
    if outcome == Interrupted.exit_code:  # typer, too, turns Ctrl-C into this code, without a word
        return _say(Interrupted("Interrupted: the run was stopped and nothing half-written is left."), debug)
    return outcome if isinstance(outcome, int) else 0


def _terminated(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(error: BaseException, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    print(f"smm-bt: {_sentence(error)}", file=sys.stderr)
    return _exit_code(error)


def _sentence(error: BaseException) -> str:
    known = isinstance(error, SmmBtError) or not _KNOWN.keys().isdisjoint(_class_names(error))
    if known:
        return str(error)
    return (
        f"an unexpected problem stopped the run ({type(error).__name__}: {error}); "
        "run it again with --debug and report what it prints."
    )


def _exit_code(error: BaseException) -> int:
    if isinstance(error, SmmBtError):
        return error.exit_code
    return next((_KNOWN[name] for name in _class_names(error) if name in _KNOWN), 1)


def _class_names(error: BaseException) -> list[str]:
    """Return the names of the error's class and of those it is a kind of, itself first."""
    return [kind.__name__ for kind in type(error).__mro__]
