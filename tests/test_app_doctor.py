"""``smm-bt doctor``: what is well is called ok, what is not is named with what to do, and only failures exit 1."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from emulator_kit import NO_LIMITS
from made_files import ROOT, child_environment, smm_bt, write_strategy
from rich.console import Console

from smm_bt.app import doctor_machine, environment
from smm_bt.app.doctor import DoctorRequest, examine
from smm_bt.app.doctor_lines import Finding, Level
from smm_bt.emulator import EmulatorConfig, EmulatorThread
from smm_bt.emulator.faults import FaultRule
from smm_bt.errors import RunFailed


class Diagnosis(NamedTuple):
    """What the doctor said, and the sentence it failed with, if it did."""

    said: str
    failure: str

    def line(self, name: str) -> str:
        """Return the line about ``name``, level included."""
        return next(line for line in self.said.splitlines() if line[5:].startswith(f"{name}:"))


@pytest.fixture(scope="module")
def running() -> Iterator[EmulatorThread]:
    # at real time the venue's clock goes with the machine's
    with EmulatorThread(EmulatorConfig(speed=1.0, made_candles=2_000, **NO_LIMITS)) as emulator:
        yield emulator


@pytest.fixture
def exchange(running: EmulatorThread) -> Iterator[EmulatorThread]:
    running.requests(clear=True)
    yield running
    running.clear_faults()
    running.set_clock_offset(0)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "os", type("Nothing", (), {"environ": {}}))


def see(folder: Path, emulator: EmulatorThread | None = None, **given: Any) -> Diagnosis:
    text = StringIO()
    where = {"RUNS_DIR": folder / "runs", "DATA_DIR": folder / "data"}
    request = DoctorRequest(
        where | given, offline=emulator is None, venue=emulator.url if emulator else None, folder=folder
    )
    failure = ""
    try:
        examine(request, Console(file=text, width=300))
    except RunFailed as problem:
        failure = str(problem)
    return Diagnosis(text.getvalue(), failure)


def keys_of(emulator: EmulatorThread, **changes: str) -> dict[str, str]:
    keys = {"BINANCE_TESTNET_API_KEY": emulator.api_key, "BINANCE_TESTNET_API_SECRET": emulator.api_secret}
    return {"TRADING_MODE": "TESTNET"} | keys | changes


# ---- the machine


def test_a_sound_machine_passes(tmp_path: Path, exchange: EmulatorThread) -> None:
    found = see(tmp_path, exchange)
    assert found.failure == ""
    assert "fail" not in found.said.replace("none failed", "")
    for name in ("Python", "Packages", "Package feeds", "Package strategy", "Folder RUNS_DIR", "Contract", "Keys"):
        assert found.line(name).startswith("ok"), name


def test_a_missing_package_and_one_that_is_too_old_are_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"ccxt": "4.5.9", "backtrader": "1.9.78.124", "TA-Lib": None}
    real = doctor_machine._version_of
    monkeypatch.setattr(doctor_machine, "_version_of", lambda name: versions.get(name, real(name)))
    found = {finding.name: finding for finding in doctor_machine.check_packages()}
    assert (
        found["Package ccxt"].level is found["Package backtrader"].level is found["Package TA-Lib"].level is Level.FAIL
    )
    assert found["Package ccxt"].to_do == 'Install: pip install "ccxt>=4.5.70"'
    assert found["Package backtrader"].to_do == 'Install: pip install "backtrader==1.9.78.123"'
    assert found["Package TA-Lib"].found == "is missing"


def test_every_requirement_of_the_project_is_checked() -> None:
    text = (ROOT / "setup.cfg").read_text()
    wanted = text.split("install_requires =")[1].split("\n\n")[0].split("\n")
    named = {line.split(">=")[0].split("==")[0].strip() for line in wanted if line.strip()}
    assert named == {name for name, *_ in doctor_machine._PACKAGES}


def _installed(folder: Path, name: str, files: dict[str, str]) -> None:
    """Put a distribution with a RECORD of its files into a folder, as an installer does."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (info / "RECORD").write_text("".join(f"{path},,{len(text.encode())}\n" for path, text in files.items()))


def _own_copy(folder: Path) -> Path:
    for package in ("feeds", "strategy", "smm_bt"):
        shutil.copytree(
            ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "compute_smm.py")
        )
    return folder


def test_another_distribution_in_our_strategy_package_is_found_out(tmp_path: Path) -> None:
    site = _own_copy(tmp_path / "site")
    _installed(site, "signals_for_all", {"strategy/base.py": "x = 1\n"})
    done = smm_bt("doctor", "--offline", cwd=tmp_path, PYTHONPATH=str(site))
    assert done.returncode == 1
    assert "fail Package strategy: signals_for_all 1.0 put files into it, too" in done.stdout
    assert "a virtual environment of its own" in done.stdout
    assert "ok   Package feeds" in done.stdout


def test_a_feeds_package_of_another_project_is_named_although_nothing_else_can_run(tmp_path: Path) -> None:
    site = _own_copy(tmp_path / "site")
    shutil.rmtree(site / "feeds")
    _installed(site, "rss_reader", {"feeds/__init__.py": "", "feeds/lines.py": "def read(): ...\n"})
    done = smm_bt("doctor", "--offline", cwd=tmp_path, PYTHONPATH=str(site))
    assert done.returncode == 1
    assert "fail Package feeds: " in done.stdout
    assert "lines.py is not this project's" in done.stdout
    assert "ok   Package strategy" in done.stdout
    # Which of our names is missed first depends on what is imported first.
    assert re.search(r"Other checks: cannot be made: [^\n]*'feeds\.", done.stdout)
    assert done.stderr.startswith("smm-bt: 2 of ")


def test_an_overwritten_module_of_ours_is_found_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    site = _own_copy(tmp_path / "site")
    (site / "strategy/contract.py").write_text("class Strategy: ...\n")
    finding = _owner(monkeypatch, site, "strategy")
    assert finding.level is Level.FAIL
    assert "contract.py is not this project's" in finding.found


def test_a_file_changed_since_it_was_installed_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    site = _own_copy(tmp_path / "site")
    rules = (site / "strategy/rules.py").read_text()
    _installed(site, "smm_bt", {"strategy/rules.py": rules})
    monkeypatch.syspath_prepend(str(site))
    assert _owner(monkeypatch, site, "strategy").level is Level.OK
    (site / "strategy/rules.py").write_text(rules + "# mine\n")
    finding = _owner(monkeypatch, site, "strategy")
    assert (finding.level, finding.found) == (Level.WARN, "strategy/rules.py differs from what was installed")


def _owner(monkeypatch: pytest.MonkeyPatch, site: Path, package: str) -> Finding:
    spec = type("Spec", (), {"origin": str(site / package / "__init__.py")})
    monkeypatch.setattr(doctor_machine, "find_spec", lambda name: spec)
    return doctor_machine._owner_of(package, site)


def test_a_package_of_the_same_name_that_comes_first_is_found_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "strategy").mkdir()
    monkeypatch.setattr(
        doctor_machine, "find_spec", lambda name: type("S", (), {"origin": str(tmp_path / name / "__init__.py")})
    )
    found = list(doctor_machine.check_ownership())
    assert [finding.level for finding in found] == [Level.FAIL, Level.FAIL]
    assert f"Python finds {tmp_path / 'feeds'}" in found[0].found


def test_a_folder_that_cannot_be_written_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = see(tmp_path, RUNS_DIR=tmp_path / "file/runs")
    assert found.line("Folder RUNS_DIR").startswith("fail")
    assert "1 of " in found.failure


# ---- settings


def test_settings_are_shown_with_their_source_and_secrets_are_not(tmp_path: Path) -> None:
    (tmp_path / "smm.toml").write_text("SLIPPAGE_BPS = 3\nTRADING_MODE = 'TESTNET'\n")
    (tmp_path / ".env").write_text("BINANCE_TESTNET_API_KEY=secret-key\nSTOP_LOSS_PERCENT=2\n")
    found = see(tmp_path, TAKER_FEE_RATE="0.0004")
    assert found.line("Setting SLIPPAGE_BPS").endswith("3.0  (smm.toml)")
    assert found.line("Setting STOP_LOSS_PERCENT").endswith("2.0  (.env)")
    assert found.line("Setting TAKER_FEE_RATE").endswith("0.0004  (command line)")
    assert found.line("Setting BINANCE_TESTNET_API_KEY").endswith("***  (.env)")
    assert "secret-key" not in found.said
    assert "CLOSE_ON_OPPOSITE_SIGNAL=True" in found.line("Settings by default")


def test_a_wrong_setting_fails_and_the_other_checks_go_on(tmp_path: Path) -> None:
    (tmp_path / "smm.toml").write_text("SLIPAGE_BPS = 3\n")
    found = see(tmp_path)
    assert "did you mean SLIPPAGE_BPS?" in found.line("Settings")
    assert found.line("Settings").startswith("fail")
    assert found.line("Contract").startswith("ok")


# ---- the strategy file


def test_the_reference_is_a_warning(tmp_path: Path) -> None:
    found = see(tmp_path)
    assert found.line("Strategy file").startswith("warn")
    assert "a stand-in and not SMM v4.1" in found.said


def test_a_file_that_breaks_the_contract_fails_with_its_reason(tmp_path: Path) -> None:
    broken = write_strategy(tmp_path / "mine.py", "def compute_smm(df):\n    return {'buy_signal': [True] * len(df)}\n")
    found = see(tmp_path, STRATEGY_FILE=broken)
    assert found.line("Strategy").startswith("fail")
    assert "sell_signal" in found.line("Strategy")
    assert found.failure.endswith("checks failed: Strategy. What to do is said above.")


def test_a_file_without_profit_target_is_told_that_signals_alone_close(tmp_path: Path) -> None:
    source = (
        "def compute_smm(df):\n    up = df['close'] > df['open']\n    return {'buy_signal': up, 'sell_signal': ~up}\n"
    )
    found = see(tmp_path, STRATEGY_FILE=write_strategy(tmp_path / "mine.py", source))
    assert found.line("Profit target").startswith("warn")
    assert "1,500 made candles" in found.line("Contract")


def test_the_audits_word_about_the_warm_up_is_held_against_the_setting(tmp_path: Path) -> None:
    assert see(tmp_path).line("Warm-up").startswith("warn")
    done = smm_bt("audit", "--budget", "20", "--set", f"DATA_DIR={tmp_path / 'data'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert see(tmp_path).line("Warm-up").startswith("ok")
    short = see(tmp_path, WARMUP_CANDLES=20)
    assert short.line("Warm-up").startswith("fail")
    assert "Set WARMUP_CANDLES to" in short.said


# ---- hosts, clock and keys


def test_in_paper_no_key_is_loaded_and_nothing_private_is_asked(tmp_path: Path, exchange: EmulatorThread) -> None:
    found = see(tmp_path, exchange, **keys_of(exchange, TRADING_MODE="PAPER"))
    assert "none needed and none loaded" in found.line("Keys")
    assert [row["path"] for row in exchange.requests()] == ["/fapi/v1/time"]


def test_a_clock_that_is_off_is_a_warning(tmp_path: Path, exchange: EmulatorThread) -> None:
    assert see(tmp_path, exchange).line("Clock").startswith("ok")
    exchange.set_clock_offset(90_000)
    line = see(tmp_path, exchange).line("Clock")
    assert line.startswith("warn")
    assert "90.0 s behind" in line


@pytest.mark.parametrize(("status", "words"), [(451, "the country"), (403, "its firewall"), (503, "HTTP 503")])
def test_without_the_public_host_replays_are_still_possible_so_it_only_warns(
    tmp_path: Path, exchange: EmulatorThread, status: int, words: str
) -> None:
    exchange.add_fault(FaultRule("http", path="/fapi/v1/time", status=status, count=None))
    found = see(tmp_path, exchange)
    line = found.line(f"Host {exchange.url}")
    assert line.startswith("warn")
    assert words in line
    assert found.failure == ""


def test_good_keys_may_read_and_trade_and_no_order_is_placed(tmp_path: Path, exchange: EmulatorThread) -> None:
    found = see(tmp_path, exchange, **keys_of(exchange))
    assert found.failure == ""
    assert "10,000.00 USDT free" in found.line("Keys")
    assert found.line("Key permissions").startswith("ok")
    assert exchange.ledger()["orders"] == []
    assert exchange.api_secret not in found.said
    assert exchange.api_key not in found.said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"BINANCE_TESTNET_API_KEY": "k" * 64}, "the key may not read the account"),
        ({"BINANCE_TESTNET_API_SECRET": "s" * 64}, "-1022"),
        ({"BINANCE_TESTNET_API_SECRET": ""}, "a key is missing"),
    ],
)
def test_wrong_keys_fail_with_where_to_get_right_ones(
    tmp_path: Path, exchange: EmulatorThread, change: dict[str, str], words: str
) -> None:
    found = see(tmp_path, exchange, **{name: value for name, value in keys_of(exchange, **change).items() if value})
    assert found.line("Keys").startswith("fail")
    assert words in found.line("Keys")
    assert "demo" in found.said


def test_a_key_that_may_read_but_not_trade_is_found_out(tmp_path: Path, exchange: EmulatorThread) -> None:
    exchange.add_fault(FaultRule("error", path="/fapi/v1/order/test", code=-2015, status=401, count=None))
    found = see(tmp_path, exchange, **keys_of(exchange))
    assert "may read, but not trade futures" in found.said
    assert found.failure != ""


# ---- the command


def test_the_command_is_quick_and_quiet_where_there_is_no_internet(tmp_path: Path) -> None:
    started = time.monotonic()
    done = smm_bt("doctor", cwd=tmp_path, HTTPS_PROXY="http://127.0.0.1:9")
    assert time.monotonic() - started < 20
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert all(line[:5] in ("ok   ", "warn ", "     ") for line in done.stdout.splitlines()[:-1])
    assert list(tmp_path.iterdir()) == [], "a doctor leaves nothing behind"


def test_the_command_exits_1_and_names_what_failed(tmp_path: Path) -> None:
    done = smm_bt("doctor", "--offline", "--strategy", "absent.py", cwd=tmp_path)
    assert done.returncode == 1
    assert "fail Strategy: " in done.stdout
    assert done.stderr.startswith("smm-bt: 1 of ")
    assert child_environment()["PYTHONPATH"] == str(ROOT)
