"""Settings: who goes before whom, what is refused in which words, and that secrets stay secret."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from smm_bt.app.arguments import symbol_named
from smm_bt.app.environment import read_dotenv, read_environment
from smm_bt.app.settings import Settings, known_setting, load_settings, settings_by_source
from smm_bt.errors import SettingsError, UsageError
from smm_bt.model import TradingMode

KEY, SECRET = "kkkk-very-public-key", "ssss-do-not-show"
KEYS = {"BINANCE_TESTNET_API_KEY": KEY, "BINANCE_TESTNET_API_SECRET": SECRET}
NO_ENVIRONMENT: dict[str, str] = {}


def load(folder: Path, environment: dict[str, str] | None = None, **overrides: Any) -> Settings:
    return load_settings(overrides, folder=folder, environment=environment or NO_ENVIRONMENT)


def refusal(folder: Path, environment: dict[str, str] | None = None, **overrides: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load(folder, environment, **overrides)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


# defaults and precedence


def test_the_defaults_are_those_of_the_specification(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings.TRADING_MODE is TradingMode.PAPER
    assert settings.CLOSE_ON_OPPOSITE_SIGNAL is True
    assert settings.INITIAL_BALANCE_USDT == 10_000
    assert settings.TAKER_FEE_RATE == 0.0005
    assert settings.SLIPPAGE_BPS == 0
    assert settings.STOP_LOSS_PERCENT is None
    assert settings.WARMUP_CANDLES == 1500
    assert (settings.STRATEGY_FILE, settings.TIMEFRAME) == (None, None)
    assert settings.BINANCE_TESTNET_API_KEY is None


def test_leverage_and_risk_fraction_are_no_settings() -> None:
    assert {"LEVERAGE", "RISK_FRACTION"}.isdisjoint(Settings.model_fields)


def test_the_command_line_goes_before_the_environment_before_dotenv_before_toml_before_the_default(
    tmp_path: Path,
) -> None:
    assert load(tmp_path).SLIPPAGE_BPS == 0
    (tmp_path / "smm.toml").write_text("SLIPPAGE_BPS = 1\n")
    assert load(tmp_path).SLIPPAGE_BPS == 1
    (tmp_path / ".env").write_text("SLIPPAGE_BPS=2\n")
    assert load(tmp_path).SLIPPAGE_BPS == 2
    environment = {"SLIPPAGE_BPS": "3"}
    assert load(tmp_path, environment).SLIPPAGE_BPS == 3
    assert load(tmp_path, environment, SLIPPAGE_BPS="4").SLIPPAGE_BPS == 4


def test_each_setting_knows_where_it_comes_from(tmp_path: Path) -> None:
    (tmp_path / "smm.toml").write_text("SLIPPAGE_BPS = 1\nTIMEFRAME = '5m'\n")
    (tmp_path / ".env").write_text("TIMEFRAME=1h\n")
    sources = settings_by_source({"SYMBOLS": "ETHUSDT"}, folder=tmp_path, environment={"TAKER_FEE_RATE": "0"})
    assert sources == {
        "SLIPPAGE_BPS": (1, "smm.toml"),
        "TIMEFRAME": ("1h", ".env"),
        "TAKER_FEE_RATE": ("0", "environment"),
        "SYMBOLS": ("ETHUSDT", "command line"),
    }


def test_an_override_of_none_is_as_if_it_were_not_given(tmp_path: Path) -> None:
    assert load(tmp_path, {"TIMEFRAME": "1h"}, TIMEFRAME=None).TIMEFRAME == "1h"


def test_empty_values_of_environment_and_dotenv_are_as_if_they_were_not_given(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SLIPPAGE_BPS=\nTAKER_FEE_RATE=\n")
    settings = load(tmp_path, {"TRADING_MODE": "", "TIMEFRAME": ""})
    assert settings == load(tmp_path / "nowhere")


def test_the_environment_of_the_process_is_read_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPPAGE_BPS", "7")
    monkeypatch.chdir(tmp_path)
    assert load_settings().SLIPPAGE_BPS == 7
    assert read_environment(["SLIPPAGE_BPS", "NOT_SET_ANYWHERE"]) == {"SLIPPAGE_BPS": "7"}


def test_other_variables_of_the_environment_are_none_of_our_business(tmp_path: Path) -> None:
    assert load(tmp_path, {"SLIPPAGE": "9", "PATH": "/bin"}).SLIPPAGE_BPS == 0


MISSPELT = {
    "STOP_LOSS_PERCNT": "STOP_LOSS_PERCENT",
    "stop_loss_percent": "STOP_LOSS_PERCENT",
    "STOPLOSS_PERCENT": "STOP_LOSS_PERCENT",
    "TAKER_FEE_RAT": "TAKER_FEE_RATE",
    "TAKER_FEE_RAET": "TAKER_FEE_RATE",
    "CLOSE_ON_OPPOSITE": "CLOSE_ON_OPPOSITE_SIGNAL",
    "BINANCE_TESTNET_API_SECRT": "BINANCE_TESTNET_API_SECRET",
    "TRADING_MOD": "TRADING_MODE",
    "SLIPAGE_BPS": "SLIPPAGE_BPS",
    "WARMUP_CANDLE": "WARMUP_CANDLES",
    "STRATEGY_FIEL": "STRATEGY_FILE",
}


@pytest.mark.parametrize(("name", "meant"), MISSPELT.items())
def test_a_misspelt_setting_in_the_environment_is_refused(name: str, meant: str, tmp_path: Path) -> None:
    message = refusal(tmp_path, {name: "ssss-do-not-show"})
    assert message.startswith(f"environment: there is no setting {name}; did you mean {meant}?")
    assert f"env -u {name} smm-bt" in message
    assert "do-not-show" not in message


FOREIGN = ["SYMBOL", "TIMEFRAME_X", "TIMEFRAMES", "DATA_DIRS", "XDG_DATA_DIRS", "RUN_DIR", "data_dir", "MODE", "MODES"]
FOREIGN += ["STRATEGY", "SLIPPAGE", "FEE_RATE", "STOP_LOSS", "TAKER_FEE", "INITIAL_BALANCE", "TRADING", "BINANCE"]
FOREIGN += ["BINANCE_API_KEY", "BINANCE_API_SECRET", "BINANCE_TESTNET", "BINANCE_TESTNET_API_URL", "PATH", "CLOSE_ON"]


@pytest.mark.parametrize("name", FOREIGN)
def test_names_that_are_likely_another_programs_are_left_alone(name: str, tmp_path: Path) -> None:
    assert load(tmp_path, {name: "1"}) == load(tmp_path)


def test_a_misspelt_setting_without_a_value_is_left_alone(tmp_path: Path) -> None:
    assert load(tmp_path, {"STOP_LOSS_PERCNT": ""}) == load(tmp_path)


def test_settings_are_frozen(tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        load(tmp_path).SLIPPAGE_BPS = 5  # type: ignore[misc]


# forms


@pytest.mark.parametrize(("text", "value"), [("true", True), ("0", False), ("off", False), ("YES", True)])
def test_switches_may_be_written_in_words(text: str, value: bool, tmp_path: Path) -> None:
    assert load(tmp_path, CLOSE_ON_OPPOSITE_SIGNAL=text).CLOSE_ON_OPPOSITE_SIGNAL is value


@pytest.mark.parametrize("text", ["none", "None", "off", ""])
def test_the_stop_can_be_switched_off_over_a_file_that_sets_it(text: str, tmp_path: Path) -> None:
    (tmp_path / "smm.toml").write_text("STOP_LOSS_PERCENT = 2.5\n")
    assert load(tmp_path).STOP_LOSS_PERCENT == 2.5
    assert load(tmp_path, STOP_LOSS_PERCENT=text).STOP_LOSS_PERCENT is None


def test_symbols_are_a_list_separated_by_commas_or_a_toml_array(tmp_path: Path) -> None:
    assert load(tmp_path, SYMBOLS="btcusdt, ETHUSDT,").SYMBOLS == ("BTCUSDT", "ETHUSDT")
    (tmp_path / "smm.toml").write_text('SYMBOLS = ["SOLUSDT", "BNBUSDT"]\n')
    assert load(tmp_path).SYMBOLS == ("SOLUSDT", "BNBUSDT")


def test_keys_may_be_written_in_lower_case(tmp_path: Path) -> None:
    (tmp_path / "smm.toml").write_text("slippage_bps = 1\n")
    assert load(tmp_path).SLIPPAGE_BPS == 1
    assert known_setting("slippage_bps", "--set") == "SLIPPAGE_BPS"


def test_strategy_parameters_come_from_their_table_in_toml(tmp_path: Path) -> None:
    (tmp_path / "smm.toml").write_text("[strategy.parameters]\nperiod = 21\nnames = ['a']\n")
    assert load(tmp_path).STRATEGY_PARAMETERS == {"period": 21, "names": ["a"]}


def test_a_fee_of_zero_is_allowed(tmp_path: Path) -> None:
    assert load(tmp_path, TAKER_FEE_RATE="0").TAKER_FEE_RATE == 0


# refusals


@pytest.mark.parametrize("word", ["LIVE", "live", "Live", "real", "PRODUCTION", "TESTNETS", "0", "paper", " PAPER"])
@pytest.mark.parametrize("source", ["command line", "environment", ".env", "smm.toml"])
def test_r1_any_other_trading_mode_is_refused_wherever_it_stands(word: str, source: str, tmp_path: Path) -> None:
    environment, overrides = NO_ENVIRONMENT, {}
    if source == "command line":
        overrides = {"TRADING_MODE": word}
    elif source == "environment":
        environment = {"TRADING_MODE": word}
    else:
        (tmp_path / source).write_text(f'TRADING_MODE = "{word}"\n')
    message = refusal(tmp_path, environment, **overrides)
    assert message.startswith(f"TRADING_MODE={word!r} ({source}): there are two modes, PAPER")
    assert "TESTNET" in message
    assert "no other exists" in message


def test_r1_an_empty_trading_mode_on_the_command_line_or_in_toml_is_refused(tmp_path: Path) -> None:
    assert "there are two modes" in refusal(tmp_path, TRADING_MODE="")
    (tmp_path / "smm.toml").write_text('TRADING_MODE = ""\n')
    assert "there are two modes" in refusal(tmp_path)


def test_r1_there_are_exactly_two_modes() -> None:
    assert [mode.value for mode in TradingMode] == ["PAPER", "TESTNET"]
    assert not hasattr(TradingMode, "LIVE")
    with pytest.raises(ValueError, match="LIVE"):
        TradingMode("LIVE")


UNKNOWN = [("TRADING_MOD", "TRADING_MODE"), ("slippage", "SLIPPAGE_BPS"), ("INITIAL_BALANCE", "INITIAL_BALANCE_USDT")]
UNKNOWN += [("STOPLOSS_PERCENT", "STOP_LOSS_PERCENT"), ("BINANCE_API_KEY", "BINANCE_TESTNET_API_KEY")]


@pytest.mark.parametrize(("key", "meant"), UNKNOWN)
@pytest.mark.parametrize("source", [".env", "smm.toml"])
def test_an_unknown_setting_is_refused_with_did_you_mean(key: str, meant: str, source: str, tmp_path: Path) -> None:
    (tmp_path / source).write_text(f'{key} = "1"\n')
    assert refusal(tmp_path) == f"{source}: there is no setting {key}; did you mean {meant}?"


def test_an_unknown_setting_that_resembles_nothing_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--set: there is no setting QQ; known: BINANCE_TESTNET_API_KEY, "):
        known_setting("QQ", "--set")
    with pytest.raises(SettingsError, match="there is no setting"):
        known_setting("STRATEGY_PARAMETERS", "--set")


def test_leverage_cannot_be_set(tmp_path: Path) -> None:
    (tmp_path / "smm.toml").write_text("LEVERAGE = 50\n")
    assert "there is no setting LEVERAGE" in refusal(tmp_path)


OUT_OF_RANGE = {
    "INITIAL_BALANCE_USDT": [("-1", "greater than 0"), ("0", "greater than 0"), ("nan", "finite"), ("inf", "finite")],
    "TAKER_FEE_RATE": [("-0.1", "at least 0"), ("1", "less than 1"), ("five", "valid number")],
    "SLIPPAGE_BPS": [("-1", "at least 0"), ("10000", "less than 10000")],
    "STOP_LOSS_PERCENT": [
        ("-3", "greater than 0"),
        ("0", "greater than 0"),
        ("100", "less than 100"),
        ("nan", "finite"),
    ],
    "WARMUP_CANDLES": [("0", "at least 1"), ("1.5", "valid integer"), ("many", "valid integer")],
    "CLOSE_ON_OPPOSITE_SIGNAL": [("maybe", "valid boolean")],
    "TIMEFRAME": [("7m", "use one of 1m, 3m, 5m"), ("5M", "use one of")],
    "SYMBOLS": [("BTCUSDT,btcusdt", "name at least one symbol, each once"), (",", "name at least one symbol")],
}


@pytest.mark.parametrize(("key", "value", "expected"), [(k, v, e) for k, rows in OUT_OF_RANGE.items() for v, e in rows])
def test_a_value_out_of_range_is_refused_with_key_value_source_and_bound(
    key: str, value: str, expected: str, tmp_path: Path
) -> None:
    message = refusal(tmp_path, {key: value})
    assert message.startswith(f"{key}={value!r} (environment): ")
    assert expected in message


def test_a_toml_that_is_none_is_refused(tmp_path: Path) -> None:
    for content in (b"SLIPPAGE_BPS = \n", b"\x00\xff", b"[strategy\n"):
        (tmp_path / "smm.toml").write_bytes(content)
        assert refusal(tmp_path).startswith("smm.toml: cannot be read (")


def test_a_dotenv_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"SLIPPAGE_BPS=\xff\xfe\n")
    assert refusal(tmp_path).startswith(".env: cannot be read (")


UNREADABLE = {
    "STOP_LOSS_PERCENT 2": "line 3 begins with STOP_LOSS_PERCENT and is not written as NAME=value",
    "STOP_LOSS_PERCENT: 2": "line 3 begins with STOP_LOSS_PERCENT and",
    "STOP_LOSS_PERCENT": "line 3 begins with STOP_LOSS_PERCENT and",
    "garbage line": "line 3 begins with garbage and",
    "export BINANCE_TESTNET_API_SECRET ssss-do-not-show": "line 3 begins with BINANCE_TESTNET_API_SECRET and",
    "x7Gk2ssssdonotshow": "line 3 is not written as NAME=value",
    "SLIPPAGE_BPS='1": "line 3 begins with SLIPPAGE_BPS and",
}


@pytest.mark.parametrize(("line", "said"), UNREADABLE.items())
def test_a_line_of_dotenv_that_is_no_entry_is_refused_by_number_and_name(line: str, said: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"# settings\n\n{line}\nTAKER_FEE_RATE=0\n")
    message = refusal(tmp_path)
    assert message.startswith(f".env: cannot be read ({said}")
    assert "show)" not in message.replace("is not shown)", "")
    assert "x7Gk" not in message


def test_a_name_given_twice_in_dotenv_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SLIPPAGE_BPS=1\n\n# later\nSLIPPAGE_BPS=2\n")
    assert "line 4 gives SLIPPAGE_BPS again, after line 1; keep one" in refusal(tmp_path)
    (tmp_path / ".env").write_text("SLIPPAGE_BPS=1\nslippage_bps=2\n")
    assert "line 2 gives slippage_bps again, after line 1" in refusal(tmp_path)


@pytest.mark.parametrize("name", [".env", "smm.toml"])
def test_a_settings_file_that_is_a_folder_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    assert refusal(tmp_path).startswith(f"{name}: cannot be read (")


def test_an_unknown_name_without_a_value_in_dotenv_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SLIPAGE_BPS=\n")
    assert refusal(tmp_path) == ".env: there is no setting SLIPAGE_BPS; did you mean SLIPPAGE_BPS?"


def test_a_dotenv_saved_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SLIPPAGE_BPS=3\n", encoding="utf-8-sig")
    assert load(tmp_path).SLIPPAGE_BPS == 3


@pytest.mark.parametrize("name", ["STOP_LOSS_PERCENT", "WARMUP_CANDLES", "INITIAL_BALANCE_USDT", "TAKER_FEE_RATE"])
def test_true_and_false_are_no_numbers(name: str, tmp_path: Path) -> None:
    (tmp_path / "smm.toml").write_text(f"{name} = true\n")
    assert refusal(tmp_path) == f"{name}=True (smm.toml): it must be a number, and true and false are none."


@pytest.mark.parametrize("written", ["BTC/USDT", "btc/usdt", "BTC/USDT:USDT", "BTC-USDT"])
def test_a_symbol_in_another_writing_is_refused_with_the_venues(written: str, tmp_path: Path) -> None:
    assert "did you mean BTCUSDT?" in refusal(tmp_path, SYMBOLS=f"ETHUSDT,{written}")
    with pytest.raises(UsageError, match=r"is not how the venue names it; did you mean BTCUSDT\?"):
        symbol_named(written)
    assert symbol_named("btcusdt") == "BTCUSDT"


def test_an_empty_value_on_the_command_line_is_as_if_it_were_not_given(tmp_path: Path) -> None:
    (tmp_path / "smm.toml").write_text('RUNS_DIR = "mine"\nDATA_DIR = ""\n')
    settings = load(tmp_path, RUNS_DIR="", TIMEFRAME="", SYMBOLS="")
    assert Path("mine") == settings.RUNS_DIR
    assert Path("data") == settings.DATA_DIR
    assert settings.SYMBOLS == ("BTCUSDT",)


@pytest.mark.parametrize("text", ["strategy = 5", "[strategy]\nfile = 'x'", "[strategy.parameter]\nperiod = 1"])
def test_a_strategy_table_with_anything_but_parameters_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "smm.toml").write_text(text + "\n")
    assert "only [strategy.parameters] is known" in refusal(tmp_path)


def test_strategy_parameters_that_are_no_table_are_refused(tmp_path: Path) -> None:
    (tmp_path / "smm.toml").write_text("[strategy]\nparameters = 5\n")
    assert refusal(tmp_path).startswith("STRATEGY_PARAMETERS=5 (smm.toml): ")


def test_a_table_that_is_unknown_is_refused(tmp_path: Path) -> None:
    (tmp_path / "smm.toml").write_text("[strategies.parameters]\nperiod = 1\n")
    assert "there is no setting strategies" in refusal(tmp_path)


# secrets


def test_r2_in_paper_a_configured_key_is_not_even_loaded(tmp_path: Path) -> None:
    settings = load(tmp_path, KEYS)
    assert settings.BINANCE_TESTNET_API_KEY is None
    assert settings.BINANCE_TESTNET_API_SECRET is None
    assert set(KEYS).isdisjoint(settings_by_source(folder=tmp_path, environment=KEYS))


def test_in_testnet_the_keys_are_loaded_and_wrapped(tmp_path: Path) -> None:
    settings = load(tmp_path, {"TRADING_MODE": "TESTNET"} | KEYS)
    assert settings.BINANCE_TESTNET_API_KEY is not None
    assert settings.BINANCE_TESTNET_API_KEY.get_secret_value() == KEY


def test_secrets_are_in_no_representation(tmp_path: Path) -> None:
    settings = load(tmp_path, {"TRADING_MODE": "TESTNET"} | KEYS)
    public = settings.public()
    assert public["BINANCE_TESTNET_API_KEY"] == public["BINANCE_TESTNET_API_SECRET"] == "***"
    texts = [repr(settings), str(settings), f"{settings!r:s}", str(public), settings.model_dump_json()]
    for text in texts:
        assert KEY not in text
        assert SECRET not in text


def test_without_keys_the_public_settings_say_so(tmp_path: Path) -> None:
    public = load(tmp_path).public()
    assert public["BINANCE_TESTNET_API_KEY"] is None
    assert public["TRADING_MODE"] == "PAPER"


@pytest.mark.parametrize(
    "fault", [{"TAKER_FEE_RATE": "-1"}, {"TRADING_MODE": "LIVE"}, {"BINANCE_TESTNET_API_KEY": 12345678}]
)
def test_secrets_are_in_no_message_and_no_traceback(fault: dict[str, Any], tmp_path: Path) -> None:
    try:
        load(tmp_path, KEYS, **({"TRADING_MODE": "TESTNET"} | fault))
    except SettingsError as error:
        text = "".join(traceback.format_exception(error))
    else:
        pytest.fail("the settings were accepted")
    for secret in (KEY, SECRET, "12345678"):
        assert secret not in text


def test_a_secret_of_the_wrong_type_is_masked_in_its_own_refusal(tmp_path: Path) -> None:
    (tmp_path / "smm.toml").write_text("TRADING_MODE = 'TESTNET'\nBINANCE_TESTNET_API_SECRET = 98765432\n")
    message = refusal(tmp_path)
    assert message.startswith("BINANCE_TESTNET_API_SECRET=*** (smm.toml): ")
    assert "98765432" not in message


def test_dotenv_values_are_taken_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text('A="x y"\nB=$HOME\nexport C=1 # note\nD=\n')
    assert read_dotenv(tmp_path / ".env") == {"A": "x y", "B": "$HOME", "C": "1", "D": ""}
    assert read_dotenv(tmp_path / "none") == {}
