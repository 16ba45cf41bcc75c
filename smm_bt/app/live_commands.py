"""The live commands: live, status, close, pause, resume-entries. Arguments in, one call out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smm_bt.app.arguments import console, moment, settings_given, settings_with
from smm_bt.errors import UsageError

if TYPE_CHECKING:
    from smm_bt.app.live_market_source import MarketChoice

_More = Annotated[list[Path] | None, typer.Argument(metavar="FILE", help="Further candle files.")]
_Candles = Annotated[list[Path] | None, typer.Option(help="Candle file for the embedded exchange; repeatable.")]
_Setting = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting.")]
_Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")]
_Run = Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder, or its name in RUNS_DIR.")]
_Wait = Annotated[float, typer.Option(help="Seconds to wait for the bot's answer.")]


def register(app: typer.Typer) -> None:
    """Add the live commands to the command line."""
    app.command()(live)
    app.command()(status)
    app.command()(close)
    app.command()(pause)
    app.command("resume-entries")(resume_entries)


def live(
    more: _More = None,
    mode: Annotated[str | None, typer.Option(help="PAPER (virtual money) or TESTNET (demo account).")] = None,
    market: Annotated[str, typer.Option(help="binance, or embedded: the exchange in this program.")] = "binance",
    symbols: Annotated[str | None, typer.Option(help="For example BTCUSDT,ETHUSDT.")] = None,
    timeframe: Annotated[str | None, typer.Option(help="For example 1m or 5m (the default).")] = None,
    strategy: Annotated[Path | None, typer.Option(help="Your file with compute_smm().")] = None,
    candles: _Candles = None,
    mark: Annotated[list[Path] | None, typer.Option(help="Mark-price candles for it.")] = None,
    funding: Annotated[list[Path] | None, typer.Option(help="Funding rates for it.")] = None,
    exchange_info: Annotated[Path | None, typer.Option(help="The venue's exchangeInfo JSON.")] = None,
    brackets: Annotated[Path | None, typer.Option(help="The venue's leverageBracket JSON.")] = None,
    speed: Annotated[str, typer.Option(help="Of the embedded exchange: times real time, or max.")] = "1",
    address: Annotated[str, typer.Option(help="An embedded exchange that runs already.")] = "",
    seed: Annotated[int, typer.Option(help="Makes the made market repeatable.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, or the newest.")] = False,
    until: Annotated[str | None, typer.Option(help="End at this moment, UTC.")] = None,
    max_candles: Annotated[int | None, typer.Option(min=1, help="End after this many candles.")] = None,
    close_on_exit: Annotated[bool, typer.Option("--close-on-exit", help="Close open positions at the end.")] = False,
    adopt: Annotated[bool, typer.Option("--adopt", help="Take over positions the demo account has already.")] = False,
    out: Annotated[Path | None, typer.Option(help="The run's folder.")] = None,
    pages: Annotated[bool, typer.Option("--pages/--no-pages", help="Draw tearsheet.html and chart.html.")] = True,
    setting: _Setting = None,
    debug: _Debug = False,
) -> None:
    """Trade live candles with virtual money or on a demo account. Ctrl-C ends it cleanly (exit code 0)."""
    from smm_bt.app.live import LiveRequest
    from smm_bt.app.live import live as run_live

    overrides = {"TRADING_MODE": mode, "SYMBOLS": symbols, "TIMEFRAME": timeframe, "STRATEGY_FILE": strategy}
    settings = settings_with(setting, **overrides)
    played = {"candles": (*(candles or ()), *(more or ())), "mark": tuple(mark or ()), "funding": tuple(funding or ())}
    rules: dict[str, Any] = {"exchange_info": exchange_info, "brackets": brackets}
    if symbols is not None or "SYMBOLS" in settings_given(setting):
        rules["symbols"] = settings.SYMBOLS
    choice = _market(market, speed, address=address, seed=seed, **played, **rules)
    if resume and out is not None and not out.exists() and (settings.RUNS_DIR / out).exists():
        out = settings.RUNS_DIR / out
    ends: dict[str, Any] = {"until_ms": moment(until, "--until"), "max_candles": max_candles}
    ends |= {"close_on_exit": close_on_exit, "adopt": adopt}
    run_live(LiveRequest(settings, choice, out=out, resume=resume, pages=pages, **ends), console())


def _market(name: str, speed: str, **options: Any) -> MarketChoice:
    """Return the market to trade on; candles or an address given mean the embedded exchange."""
    from smm_bt.app.live_market_source import MarketChoice

    embedded = name == "binance" and (options["candles"] or options["address"])
    return MarketChoice("embedded" if embedded else name, speed=_speed(speed), **options)


def status(run: _Run, debug: _Debug = False) -> None:
    """Show what a bot is doing; works on a running one and from any shell."""
    from smm_bt.app.live_remote import show_status

    show_status(_folder(run), console())


def close(
    run: _Run,
    symbol: Annotated[str, typer.Option(help="Only this symbol; all of them otherwise.")] = "",
    wait: _Wait = 30.0,
    debug: _Debug = False,
) -> None:
    """Let a running bot close its positions (reason: manual)."""
    _ask(run, "close", symbol.upper(), wait)


def pause(run: _Run, wait: _Wait = 30.0, debug: _Debug = False) -> None:
    """Let a running bot open nothing until entries are resumed; exits go on."""
    _ask(run, "pause", "", wait)


def resume_entries(run: _Run, wait: _Wait = 30.0, debug: _Debug = False) -> None:
    """Let a paused bot open positions again."""
    _ask(run, "resume-entries", "", wait)


def _ask(run: Path, request: str, symbol: str, wait_s: float) -> None:
    from smm_bt.app.live_remote import ask

    typer.echo(ask(_folder(run), request, symbol, wait_s))


def _folder(run: Path) -> Path:
    if run.is_dir():
        return run
    found = settings_with(None).RUNS_DIR / run
    if not found.is_dir():
        raise UsageError(f"There is no run {run}, neither here nor in RUNS_DIR.")
    return found


def _speed(text: str) -> float:
    if text == "max":
        return math.inf
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed <= 1_000_000:
        raise UsageError(f"--speed {text}: give how many times faster than real time, up to 1000000, or max.")
    return speed
