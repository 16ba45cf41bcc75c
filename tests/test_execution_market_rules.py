"""Market rules offline: the built-in table, the venue's own files, and every way they are refused."""

from __future__ import annotations

import copy
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from made_files import bracket_body, write_json

from smm_bt.errors import MarketDataError, SmmBtError, UsageError
from smm_bt.execution.market_rules import known_symbols, load_instruments

EXCHANGE_INFO: dict[str, Any] = {
    "timezone": "UTC",
    "symbols": [
        {
            "symbol": "MADEUSDT",
            "contractType": "PERPETUAL",
            "status": "TRADING",
            "quoteAsset": "USDT",
            "marginAsset": "USDT",
            "filters": [
                {"filterType": "PRICE_FILTER", "tickSize": "0.0100", "minPrice": "0.01", "maxPrice": "100000"},
                {"filterType": "LOT_SIZE", "stepSize": "0.1", "minQty": "0.1", "maxQty": "9000"},
                {"filterType": "MARKET_LOT_SIZE", "stepSize": "0.1", "minQty": "0.1", "maxQty": "700"},
                {"filterType": "MIN_NOTIONAL", "notional": "5"},
            ],
        }
    ],
}
BRACKETS = bracket_body("MADEUSDT", [(0, 50_000, 50, 0.01, 0), (50_000, 10**6, 20, 0.025, 750)])


@pytest.fixture
def info(tmp_path: Path) -> Path:
    return write_json(tmp_path / "info.json", EXCHANGE_INFO)


@pytest.fixture
def brackets(tmp_path: Path) -> Path:
    return write_json(tmp_path / "brackets.json", BRACKETS)


def refusal(kind: type[SmmBtError], *arguments: Any) -> str:
    with pytest.raises(SmmBtError) as caught:
        load_instruments(*arguments)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


# the table


def test_the_table_knows_a_dozen_symbols_and_each_of_them_can_be_traded_at_20x() -> None:
    names = known_symbols()
    assert {"BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT"} <= set(names)
    assert len(names) >= 10
    for symbol, instrument in load_instruments(names).items():
        assert instrument.symbol == symbol
        assert instrument.notional_cap(20) >= 50_000
        assert instrument.brackets[0].floor == 0


def test_the_brackets_of_the_table_join_without_a_hole_and_their_amounts_are_continuous() -> None:
    for instrument in load_instruments(known_symbols()).values():
        for lower, upper in zip(instrument.brackets, instrument.brackets[1:], strict=False):
            assert lower.cap == upper.floor
            step = upper.maintenance_margin_rate - lower.maintenance_margin_rate
            assert upper.maintenance_amount == lower.maintenance_amount + upper.floor * step


def test_bitcoin_has_the_filters_the_venue_published() -> None:
    bitcoin = load_instruments(["BTCUSDT"])["BTCUSDT"]
    assert (bitcoin.step, bitcoin.min_qty, bitcoin.max_qty) == (Decimal("0.001"), Decimal("0.001"), 120)
    assert bitcoin.min_notional == 100
    assert bitcoin.max_leverage == 125


def test_an_unknown_symbol_without_files_is_refused_and_never_guessed() -> None:
    message = refusal(UsageError, ["NOSUCHUSDT"])
    assert "market rules of NOSUCHUSDT are not known offline (known: BTCUSDT" in message
    assert "--exchange-info FILE" in message


# files


@pytest.mark.parametrize("ending", [".json", ".json.gz"])
def test_the_venues_own_files_are_read_plain_or_gzipped(ending: str, tmp_path: Path) -> None:
    info = write_json(tmp_path / f"info{ending}", EXCHANGE_INFO)
    tiers = write_json(tmp_path / f"brackets{ending}", BRACKETS)
    made = load_instruments(["MADEUSDT"], info, tiers)["MADEUSDT"]
    assert (made.step, made.max_qty, made.price_tick) == (Decimal("0.1"), 700, Decimal("0.01"))
    assert [b.initial_leverage for b in made.brackets] == [50, 20]


def test_the_answer_for_one_symbol_is_a_bracket_file_too(info: Path, tmp_path: Path) -> None:
    single = write_json(tmp_path / "one.json", BRACKETS[0])
    assert load_instruments(["MADEUSDT"], info, single)["MADEUSDT"].max_leverage == 50


def test_one_of_the_two_files_may_come_with_the_table_for_the_other(tmp_path: Path) -> None:
    low = write_json(tmp_path / "low.json", bracket_body("BTCUSDT", [(0, 10**6, 21, 0.02, 0)]))
    assert load_instruments(["BTCUSDT"], None, low)["BTCUSDT"].max_leverage == 21


def test_the_file_goes_before_the_table(tmp_path: Path) -> None:
    body = copy.deepcopy(EXCHANGE_INFO)
    body["symbols"][0]["symbol"] = "BTCUSDT"
    info = write_json(tmp_path / "info.json", body)
    assert load_instruments(["BTCUSDT"], info)["BTCUSDT"].step == Decimal("0.1")


# refusals


def test_a_symbol_below_20x_is_refused_with_its_leverage(info: Path, tmp_path: Path) -> None:
    low = write_json(tmp_path / "low.json", bracket_body("MADEUSDT", [(0, 10_000, 10, 0.05, 0)]))
    message = refusal(UsageError, ["MADEUSDT"], info, low)
    assert message == "MADEUSDT allows at most 10x, below the fixed 20x; choose another symbol."


def test_a_symbol_margined_in_another_coin_is_refused(tmp_path: Path, brackets: Path) -> None:
    body = copy.deepcopy(EXCHANGE_INFO)
    body["symbols"][0]["marginAsset"] = "USDC"
    info = write_json(tmp_path / "info.json", body)
    assert "margined in USDC" in refusal(UsageError, ["MADEUSDT"], info, brackets)


def test_a_symbol_that_is_not_in_the_file_is_refused_with_the_files_name(info: Path, brackets: Path) -> None:
    message = refusal(UsageError, ["OTHERUSDT"], info, brackets)
    assert "OTHERUSDT is not in info.json (1 symbols)" in message
    other = write_json(brackets.with_name("other.json"), bracket_body("OTHERUSDT", [(0, 1, 20, 0.01, 0)]))
    assert "MADEUSDT is not in other.json" in refusal(UsageError, ["MADEUSDT"], info, other)


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    assert "there is no such file" in refusal(UsageError, ["BTCUSDT"], tmp_path / "none.json")
    assert "there is no such file" in refusal(UsageError, ["BTCUSDT"], None, tmp_path)


@pytest.mark.parametrize("content", [b"", b"not json", b"\x00\xff", b"[1, 2", b"{'symbols': []}"])
@pytest.mark.parametrize("ending", [".json", ".json.gz"])
def test_a_file_that_is_no_json_is_refused(content: bytes, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"info{ending}"
    path.write_bytes(content)
    assert "cannot be read as JSON" in refusal(MarketDataError, ["BTCUSDT"], path)


OTHER_JSON: list[Any] = [{}, 5, "text", None, [], [1, 2], {"code": -1121, "msg": "Invalid symbol."}, {"symbols": 5}]
OTHER_JSON += [{"symbols": [{"name": "BTCUSDT"}]}, {"brackets": []}]


@pytest.mark.parametrize("body", OTHER_JSON, ids=repr)
@pytest.mark.parametrize("option", ["info", "brackets"])
def test_json_that_is_no_answer_of_the_venue_is_refused(body: Any, option: str, tmp_path: Path) -> None:
    path = write_json(tmp_path / "body.json", body)
    with pytest.raises(SmmBtError, match=r"body\.json"):
        load_instruments(["BTCUSDT"], *((path, None) if option == "info" else (None, path)))


def test_the_two_files_given_the_wrong_way_round_are_refused(info: Path, brackets: Path) -> None:
    with pytest.raises(SmmBtError, match=r"info\.json|brackets\.json"):
        load_instruments(["MADEUSDT"], brackets, info)


BROKEN = {
    "no filters": {"filters": []},
    "filters missing": {"filters": None},
    "a word for a number": {"filters": [{"filterType": "LOT_SIZE", "stepSize": "x", "minQty": "1", "maxQty": "2"}]},
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_symbol_with_broken_filters_is_refused(kind: str, tmp_path: Path, brackets: Path) -> None:
    body = copy.deepcopy(EXCHANGE_INFO)
    body["symbols"][0] |= BROKEN[kind]
    info = write_json(tmp_path / "info.json", body)
    assert "The market rules of MADEUSDT cannot be read" in refusal(MarketDataError, ["MADEUSDT"], info, brackets)


@pytest.mark.parametrize("rows", [[], [{}], [{"notionalFloor": "x"}], None])
def test_a_symbol_with_broken_brackets_is_refused(rows: Any, tmp_path: Path, info: Path) -> None:
    path = write_json(tmp_path / "b.json", [{"symbol": "MADEUSDT", "brackets": rows}])
    assert "The market rules of MADEUSDT cannot be read" in refusal(MarketDataError, ["MADEUSDT"], info, path)
