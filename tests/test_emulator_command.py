"""The command line of the embedded exchange: what options mean and which are refused."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from smm_bt.emulator.command import configuration, main, parser


def test_options_become_the_configuration_they_name() -> None:
    line = "--port 8765 --candles BTCUSDT-5m.csv --speed step --history 7 --balance 500 --taker-rate 0 --control"
    config = configuration(parser().parse_args([*line.split(), "--state", "a.sqlite", "--no-limits"]))
    assert (config.port, config.candles, config.speed) == (8765, (Path("BTCUSDT-5m.csv"),), None)
    assert (config.history_candles, config.balance_usdt, config.taker_rate) == (7, Decimal(500), Decimal(0))
    assert (config.control, config.state, config.weight_limit_1m) == (True, Path("a.sqlite"), 0)


def test_without_options_a_made_market_runs_at_real_time_within_the_venues_limits() -> None:
    config = configuration(parser().parse_args([]))
    assert (config.candles, config.speed, config.weight_limit_1m) == ((), 1.0, 2400)
    assert config.control is False


def test_faults_are_given_as_json() -> None:
    options = ["--faults", '[{"kind": "error", "code": -1007}]', "--symbols", "ETHUSDT"]
    config = configuration(parser().parse_args(options))
    assert (config.faults[0].code, config.symbols) == (-1007, ("ETHUSDT",))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--speed", "fast"], "give 'step' or a number above zero, found 'fast'"),
        (["--speed", "0"], "above zero"),
        (["--balance", "-1"], "zero or more"),
        (["--balance", "rich"], "zero or more"),
        (["--faults", "{"], "not a fault rule"),
        (["--faults", '{"kind": "flood"}'], "unknown"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        parser().parse_args(options)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_the_help_never_calls_it_a_test_venue(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert "embedded exchange" in text
    assert "testnet" not in text.lower()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--candles", "BTCUSDT-5m.csv"], 1, "BTCUSDT-5m.csv: column close holds 'abc' in line 3, not a number."),
        (["--candles", "gone-5m.csv"], 2, "gone-5m.csv: there is no such file; check the path."),
        (["--candles", "."], 2, ".: this is no ordinary file; check the path."),
        (["--funding", "BTCUSDT-funding.csv"], 2, "BTCUSDT-funding.csv: there is no such file; check the path."),
        (["--brackets", "none.json"], 2, "none.json: there is no such file; check the path."),
        (["--brackets", "."], 1, ".: cannot be read or written (Is a directory)."),
        (["--symbols", "NOSUCHUSDT"], 2, "NOSUCHUSDT is not in the exchange information."),
    ],
)
def test_what_cannot_be_served_ends_with_a_sentence_and_its_code(
    options: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "timestamp,open,high,low,close\n1735689600000,1,1,1,1\n1735689900000,1,1,1,abc\n"
    Path("BTCUSDT-5m.csv").write_text(text)
    assert main(options) == code
    assert capsys.readouterr().err == f"smm-bt emulator: {message}\n"
