"""The tools of the command line: audit, report, emulator, download, doctor. Arguments in, one call out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smm_bt.app.arguments import console, moments, settings_given, settings_with, symbol_named

_Setting = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting.")]
_Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")]
_Strategy = Annotated[Path | None, typer.Option(help="Your file with compute_smm().")]
_Timeframe = Annotated[str | None, typer.Option(help="Timeframe of the candles, for example 5m.")]
_Venue = Annotated[str | None, typer.Option("--venue", metavar="URL", hidden=True)]


def register(app: typer.Typer) -> None:
    """Add the tool commands to the command line."""
    app.command()(audit)
    app.command()(report)
    app.command()(download)
    app.command()(doctor)
    app.command(
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    )(emulator)


def audit(
    more: Annotated[list[Path] | None, typer.Argument(metavar="FILE", help="Further candle files.")] = None,
    candles: Annotated[list[Path] | None, typer.Option(help="Candle file; repeatable. Default: made ones.")] = None,
    strategy: _Strategy = None,
    timeframe: _Timeframe = None,
    budget: Annotated[int, typer.Option(help="How many recomputations at most.")] = 400,
    setting: _Setting = None,
    debug: _Debug = False,
) -> None:
    """Check compute_smm() for look-ahead, and measure how many candles it needs; exit 3 when it looks ahead."""
    from smm_bt.app.audit import AuditRequest
    from smm_bt.app.audit import audit as run_audit

    settings = settings_with(setting, STRATEGY_FILE=strategy, TIMEFRAME=timeframe)
    run_audit(AuditRequest(settings, [*(candles or ()), *(more or ())], budget), console())


def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run folder, its name, or how its name begins.")],
    candles: Annotated[
        list[Path] | None, typer.Option(help="The run's candle file, for the chart; repeatable.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write files anew that are there already.")] = False,
    setting: _Setting = None,
    debug: _Debug = False,
) -> None:
    """Show a run's summary and rebuild its missing files from the journal, also of a run that was killed."""
    from smm_bt.app.rebuild import RebuildRequest, rebuild

    rebuild(RebuildRequest(settings_with(setting), run, candles or (), force), console())


def download(
    symbols: Annotated[list[str] | None, typer.Argument(metavar="SYMBOL...", help="For example BTCUSDT.")] = None,
    timeframe: _Timeframe = None,
    since: Annotated[str | None, typer.Option(help="First candle, UTC; default: where the file begins.")] = None,
    until: Annotated[str | None, typer.Option(help="End, UTC, not included; default: now.")] = None,
    funding: Annotated[bool, typer.Option("--funding", help="Also funding rates.")] = False,
    mark: Annotated[bool, typer.Option("--mark", help="Also mark-price candles.")] = False,
    exchange_info: Annotated[bool, typer.Option("--exchange-info", help="Also the venue's market rules.")] = False,
    brackets: Annotated[bool, typer.Option("--brackets", help="Also leverage brackets (TESTNET keys).")] = False,
    venue: _Venue = None,
    setting: _Setting = None,
    debug: _Debug = False,
) -> None:
    """Fetch public history into DATA_DIR as Parquet; run again, it goes on where the file ends."""
    from smm_bt.app.download import DownloadRequest
    from smm_bt.app.download import download as run_download

    settings = settings_with(setting, TIMEFRAME=timeframe)
    begin_ms, end_ms = moments(since, until)
    request = DownloadRequest(
        settings=settings,
        symbols=[symbol_named(symbol) for symbol in symbols or ()],
        timeframe=settings.TIMEFRAME,
        since_ms=begin_ms,
        until_ms=end_ms,
        funding=funding,
        mark=mark,
        exchange_info=exchange_info,
        brackets=brackets,
        venue=venue,
    )
    run_download(request, console())


def doctor(
    strategy: _Strategy = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no host.")] = False,
    venue: _Venue = None,
    setting: _Setting = None,
    debug: _Debug = False,
) -> None:
    """Check this machine, the packages, your strategy file, the settings and the venue; exit 1 if anything fails."""
    from smm_bt.app.doctor import DoctorRequest, examine

    # settings need this project's own feeds; the doctor must be able to say that they are not
    given = settings_given(setting) | ({} if strategy is None else {"STRATEGY_FILE": strategy})
    examine(DoctorRequest(given, offline=offline, venue=venue), console())


def emulator(context: typer.Context) -> None:
    """Serve the embedded exchange on this machine; --help shows its options."""
    from smm_bt.emulator.command import main

    try:
        code = main([argument for argument in context.args if argument != "--debug"])
    except KeyboardInterrupt:  # before it serves; once it does, an interrupt ends it cleanly
        code = 130
    raise typer.Exit(code)
