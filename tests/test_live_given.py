"""Options named on the command line of live: they choose the market, or are refused; a resumed run keeps its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from live_kit import files_of, run_live, strategy_file
from made_files import smm_bt

from smm_bt.app.cli import main
from smm_bt.app.live_given import Given
from smm_bt.errors import UsageError

ONE_MORE = ("live", "--resume", "--out", "run", "--max-candles", "1", "--no-pages")


# which market


@pytest.mark.parametrize(
    "market", [{"candles": (Path("BTCUSDT-5m.csv"),)}, {"address": "http://x"}, {"speed": 2.0}, {"seed": 1}]
)
def test_an_option_of_the_embedded_exchange_chooses_it(market: dict[str, object]) -> None:
    given = Given(market=market)
    assert given.choice().name == "embedded"
    assert given.embedded_only == [f"--{next(iter(market))}"]


def test_market_rules_belong_to_either_market() -> None:
    assert Given(market={"exchange_info": Path("info.json")}).choice().name == "binance"
    assert Given().choice().name == "binance"


@pytest.mark.parametrize(
    "option", [("--candles", "F.csv"), ("--mark", "F.csv"), ("--funding", "F.csv"), ("--speed", "2"), ("--seed", "3")]
)
def test_on_binance_named_by_hand_it_is_refused(option: tuple[str, str], tmp_path: Path) -> None:
    done = smm_bt("live", "--market", "binance", *option, cwd=tmp_path)
    assert done.returncode == 2
    assert f"{option[0]} belongs to --market embedded and has no effect on Binance's market" in done.stderr


def test_an_option_without_effect_is_refused() -> None:
    for name in ("mark", "funding", "exchange_info", "seed"):
        with pytest.raises(UsageError, match="for an exchange that is still to be started"):
            Given(market={"address": "http://127.0.0.1:1", name: 3 if name == "seed" else (Path("F"),)}).choice()
    with pytest.raises(UsageError, match="none is made"):
        Given(market={"candles": (Path("F"),), "seed": 3}).choice()


def test_market_rules_in_a_file_have_no_effect_on_the_demo_venue(tmp_path: Path) -> None:
    done = smm_bt("live", "--mode", "TESTNET", "--exchange-info", "info.json", cwd=tmp_path)
    assert (done.returncode, "tells its own market rules" in done.stderr) == (2, True)


def test_the_speed_alone_is_enough_and_it_is_said_where_the_run_trades(tmp_path: Path) -> None:
    arguments = ("--speed", "max", "--max-candles", "2", "--no-pages", "--out", "run")
    done = smm_bt("live", "--strategy", strategy_file(tmp_path), *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--speed belongs to the embedded exchange: the run trades there." in done.stdout


def test_symbols_that_are_not_those_of_the_candle_files_are_refused(tmp_path: Path) -> None:
    arguments = ("--candles", *files_of(tmp_path, count=20), "--symbols", "ETHUSDT", "--speed", "max")
    done = smm_bt("live", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "--symbols names ETHUSDT, and the candle files are of BTCUSDT" in done.stderr


# what a resumed run refuses


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A folder with a run of three candles in it, its strategy and its candle file."""
    run_live(tmp_path / "run", strategy_file(tmp_path), files_of(tmp_path, count=40), max_candles=3)
    return tmp_path


def test_options_that_contradict_the_run_are_refused_by_name(
    begun: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(begun)
    strategy_file(begun, "breakout")
    shutil.copy(begun / "BTCUSDT-5m.csv", begun / "ETHUSDT-5m.csv")
    contradictions = {
        ("--set", "STOP_LOSS_PERCENT=1"): "--set STOP_LOSS_PERCENT=1: the run in run was started with none",
        ("--set", "CLOSE_ON_OPPOSITE_SIGNAL=false"): "started with true",
        ("--strategy", "breakout.py"): "--strategy breakout.py: the run in run was started with",
        ("--mode", "TESTNET"): "--mode TESTNET: the run in run was started with PAPER",
        ("--symbols", "ETHUSDT"): "--symbols ETHUSDT: the run in run was started with BTCUSDT",
        ("--timeframe", "1m"): "--timeframe 1m: the run in run was started with 5m",
        ("--candles", "ETHUSDT-5m.csv"): "--candles",
        ("--market", "binance"): "--market binance: the run in run was started with embedded",
        ("--market", "embedded", "--seed", "7"): "--seed 7: the run in run was started with 1",
    }
    for options, sentence in contradictions.items():
        assert main([*ONE_MORE, *options]) == 2
        said = capsys.readouterr().err
        assert sentence in said
        assert "Leave the option out to go on with it, or start a new run." in said


def test_the_same_options_again_are_fine_and_so_is_what_is_free(begun: Path) -> None:
    (begun / "moved").mkdir()
    shutil.move(begun / "hashed.py", begun / "moved" / "own.py")
    same = ("--market", "embedded", "--candles", "BTCUSDT-5m.csv", "--speed", "max", "--strategy", "moved/own.py")
    settings = ("--mode", "PAPER", "--symbols", "btcusdt", "--timeframe", "5m", "--set", "STOP_LOSS_PERCENT=none")
    free = ("--set", "RUNS_DIR=elsewhere", "--until", "2030-01-01")
    done = smm_bt(*ONE_MORE, *same, *settings, *free, cwd=begun)
    assert done.returncode == 0, done.stderr


def test_environment_and_files_may_have_changed_the_run_keeps_its_settings(begun: Path) -> None:
    (begun / "smm.toml").write_text("STOP_LOSS_PERCENT = 1\n", "utf-8")
    done = smm_bt(*ONE_MORE, cwd=begun, SYMBOLS="ETHUSDT", TAKER_FEE_RATE="0.1")
    assert done.returncode == 0, done.stderr


def test_a_run_on_binance_refuses_what_belongs_to_the_embedded_exchange(begun: Path) -> None:
    import sqlite3

    connection = sqlite3.connect(begun / "run" / "journal.sqlite")
    plain = '{"name": "binance", "seed": 1, "address": "", "speed": 1.0, "candles": [], "mark": [], "funding": [], '
    plain += '"exchange_info": null, "brackets": null}'
    connection.execute("UPDATE settings SET value = ? WHERE name = 'MARKET'", (plain,))
    connection.commit()
    connection.close()
    done = smm_bt(*ONE_MORE, "--speed", "max", cwd=begun)
    assert done.returncode == 2
    assert "--speed max: the run in run was started with --market binance" in done.stderr
