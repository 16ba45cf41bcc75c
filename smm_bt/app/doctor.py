"""``smm-bt doctor``: is all here that a run needs? One line per check, with what to do where something is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from smm_bt.app.doctor_lines import Finding, Level, fail, ok, warn
from smm_bt.app.doctor_machine import check_folders, check_ownership, check_packages, check_python
from smm_bt.errors import RunFailed, SettingsError

# Whatever needs feeds, strategy or a library is imported where it is used: the doctor must be able to say that it is
# missing or another project's.
if TYPE_CHECKING:
    from rich.console import Console

    from smm_bt.app.settings import Settings

#: Every host is asked at once; what has not answered by then is called silent.
_HOSTS_WITHIN_S = 12.0
_SECRETS = ("BINANCE_TESTNET_API_KEY", "BINANCE_TESTNET_API_SECRET")
_STYLES = {Level.OK: "green", Level.WARN: "bold yellow", Level.FAIL: "bold red"}


@dataclass(frozen=True)
class DoctorRequest:
    """What one ``smm-bt doctor`` asks for: settings from the command line, and whether and where to ask hosts."""

    given: Mapping[str, Any] = field(default_factory=dict)
    offline: bool = False
    venue: str | None = None
    folder: Path | None = None


def examine(request: DoctorRequest, console: Console) -> list[Finding]:
    """Print every finding and return them.

    Raises:
        RunFailed: something fails; the lines above say what.
    """
    found: list[Finding] = []
    for finding in _findings(request):
        found.append(finding)
        _print(finding, console)
    failed = [finding.name for finding in found if finding.level is Level.FAIL]
    warned = sum(finding.level is Level.WARN for finding in found)
    if failed:
        raise RunFailed(f"{len(failed)} of {len(found)} checks failed: {', '.join(failed)}. What to do is said above.")
    console.print(f"{len(found)} checks, none failed, {warned} to look at.", highlight=False)
    return found


def _print(finding: Finding, console: Console) -> None:
    from rich.text import Text

    line = Text(f"{finding.level.value:<5}", style=_STYLES[finding.level])
    line.append(f"{finding.name}: ", style="bold")
    line.append(finding.found)
    console.print(line, soft_wrap=True)
    if finding.to_do:
        console.print(Text(f"     → {finding.to_do}"), soft_wrap=True)


def _findings(request: DoctorRequest) -> Iterator[Finding]:
    yield check_python()
    yield from check_packages()
    yield from check_ownership()
    try:
        yield from _with_settings(request)
    except ImportError as problem:
        yield fail(
            "Other checks",
            f"cannot be made: {problem}",
            "Put right what fails above, or reinstall: pip install --force-reinstall smm-bt",
        )


def _with_settings(request: DoctorRequest) -> Iterator[Finding]:
    from smm_bt.app.doctor_strategy import check_strategy
    from smm_bt.app.doctor_venue import check_hosts

    settings, trouble = _settings(request)
    hosts = _Later(lambda: list(check_hosts(settings, request.venue)))
    if not request.offline:
        hosts.start()
    yield from _setting_lines(request, settings) if trouble is None else [trouble]
    yield from check_folders({"RUNS_DIR": settings.RUNS_DIR, "DATA_DIR": settings.DATA_DIR})
    yield from check_strategy(settings)
    yield from [warn("Hosts", "not asked (--offline)")] if request.offline else hosts.result()


def _settings(request: DoctorRequest) -> tuple[Settings, Finding | None]:
    """Return the settings, or the defaults and what is wrong with those that were given."""
    from smm_bt.app.settings import Settings, load_settings

    try:
        return load_settings(request.given, folder=request.folder), None
    except SettingsError as problem:
        defaults = Settings.model_validate({})
        return defaults, fail("Settings", str(problem), "Correct it; the checks below go by the defaults.")


def _setting_lines(request: DoctorRequest, settings: Settings) -> Iterable[Finding]:
    """Name every setting that was given with its source, secrets masked, and sum up the rest."""
    from smm_bt.app.settings import settings_by_source

    given = settings_by_source(request.given, folder=request.folder)
    shown = settings.public()
    for name, (_, source) in given.items():
        yield ok(f"Setting {name}", f"{shown[name]}  ({source})")
    defaults = [f"{name}={shown[name]}" for name in shown if name not in given and name not in _SECRETS]
    if defaults:
        yield ok("Settings by default", ", ".join(defaults))


class _Later:
    """Runs checks beside the others; they may hang in a resolver, and then they are left behind."""

    def __init__(self, checks: Callable[[], list[Finding]]) -> None:
        self._checks = checks
        self._found: list[Finding] = []
        self._thread = Thread(target=self._run, name="ask the hosts", daemon=True)

    def _run(self) -> None:
        try:
            self._found = self._checks()
        except Exception as problem:  # a check that breaks must not hide the others: it is a finding of its own
            self._found = [fail("Hosts", f"{type(problem).__name__}: {problem}", "Report this.")]

    def start(self) -> None:
        self._thread.start()

    def result(self) -> list[Finding]:
        self._thread.join(_HOSTS_WITHIN_S)
        if self._thread.is_alive():
            return [warn("Hosts", f"no answer within {_HOSTS_WITHIN_S:.0f} s", "Check connection, DNS and firewall.")]
        return self._found
