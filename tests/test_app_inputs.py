"""What a replay reads: files matched to symbols, ranges, and the sentences for what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_files import FIVE_MINUTES_MS, HEADER, NEW_YEAR_MS, made_rows, write_csv

from feeds.candles import CandleError, OtherTimeframe
from smm_bt.app.inputs import ReplayFiles, read_inputs
from smm_bt.app.settings import Settings
from smm_bt.errors import MarketDataError, SmmBtError, UsageError

HOUR_MS = 12 * FIVE_MINUTES_MS


@pytest.fixture
def btc(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "BTCUSDT-5m.csv", made_rows(40))


@pytest.fixture
def eth(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "ETHUSDT-5m.csv", made_rows(40))


def mark_file(path: Path, count: int = 40, step_ms: int = FIVE_MINUTES_MS) -> Path:
    return write_csv(path, [row[:5] for row in made_rows(count, step_ms=step_ms)], HEADER[:5])


def funding_file(path: Path, rate: float = 0.0001) -> Path:
    return write_csv(path, [(NEW_YEAR_MS + HOUR_MS, rate)], ("timestamp", "funding_rate"))


def read(settings: dict[str, Any] | None = None, **files: Any) -> Any:
    return read_inputs(ReplayFiles(**files), Settings(**(settings or {}))).histories


def refusal(kind: type[Exception], settings: dict[str, Any] | None = None, **files: Any) -> str:
    with pytest.raises((SmmBtError, CandleError)) as caught:
        read(settings, **files)
    assert type(caught.value) is kind
    return str(caught.value)


# candle files


def test_symbols_come_in_the_order_of_their_files(btc: Path, eth: Path) -> None:
    assert list(read(candles=[eth, btc])) == ["ETHUSDT", "BTCUSDT"]


def test_symbol_and_timeframe_may_be_given_for_a_file_that_does_not_tell(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "export.csv", made_rows(5))
    histories = read({"TIMEFRAME": "5m"}, candles=[path], symbols=["SOLUSDT"])
    assert histories["SOLUSDT"].candles.timeframe == "5m"


def test_nothing_named_is_refused() -> None:
    assert "There is nothing to replay; name a candle file (--candles FILE)" in refusal(UsageError)


def test_a_symbol_named_twice_is_refused(btc: Path, tmp_path: Path) -> None:
    other = write_csv(tmp_path / "BTCUSDT-5m_more.csv", made_rows(5))
    assert refusal(UsageError, candles=[btc, other]) == "BTCUSDT is named twice; give each symbol one candle file."


def test_files_of_different_timeframes_are_refused(btc: Path, tmp_path: Path) -> None:
    hourly = write_csv(tmp_path / "ETHUSDT-1h.csv", made_rows(5, step_ms=HOUR_MS))
    assert "different timeframes (1h, 5m)" in refusal(UsageError, candles=[btc, hourly])


def test_one_symbol_option_cannot_name_two_files(btc: Path, eth: Path) -> None:
    assert "--symbol names the symbol of a single candle file" in refusal(
        UsageError, candles=[btc, eth], symbols=["BTCUSDT"]
    )


# DATA_DIR


def test_a_symbol_alone_is_looked_for_in_the_data_folder(btc: Path, eth: Path, tmp_path: Path) -> None:
    mark_file(tmp_path / "BTCUSDT-mark-5m.csv")
    histories = read({"DATA_DIR": tmp_path}, symbols=["BTCUSDT"])
    assert len(histories["BTCUSDT"].candles) == 40


def test_several_files_of_a_symbol_need_a_timeframe(btc: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "BTCUSDT-1h.csv", made_rows(5, step_ms=HOUR_MS))
    message = refusal(UsageError, {"DATA_DIR": tmp_path}, symbols=["BTCUSDT"])
    assert "several files of BTCUSDT candles" in message
    assert "BTCUSDT-1h.csv, BTCUSDT-5m.csv" in message
    assert read({"DATA_DIR": tmp_path, "TIMEFRAME": "1h"}, symbols=["BTCUSDT"])["BTCUSDT"].candles.timeframe == "1h"


@pytest.mark.parametrize("folder", ["empty", "nowhere"])
def test_no_file_of_a_symbol_is_refused_with_what_to_do(folder: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    message = refusal(UsageError, {"DATA_DIR": tmp_path / folder, "TIMEFRAME": "5m"}, symbols=["BTCUSDT"])
    assert f"There are no BTCUSDT 5m in {tmp_path / folder}" in message
    assert "--candles" in message


# range


def test_since_and_until_cut_the_candles(btc: Path) -> None:
    part = read(candles=[btc], since_ms=NEW_YEAR_MS + HOUR_MS, until_ms=NEW_YEAR_MS + 2 * HOUR_MS)["BTCUSDT"].candles
    assert part.open_ms.tolist() == [NEW_YEAR_MS + HOUR_MS + n * FIVE_MINUTES_MS for n in range(12)]


def test_a_range_with_fewer_than_two_candles_is_refused_with_figures(btc: Path) -> None:
    message = refusal(MarketDataError, candles=[btc], since_ms=NEW_YEAR_MS + 100 * HOUR_MS)
    assert "0 of its 40 candles lie between --since and --until" in message
    assert "1 of its 40" in refusal(MarketDataError, candles=[btc], until_ms=NEW_YEAR_MS + 1)


def test_mark_candles_need_only_cover_the_range(btc: Path, tmp_path: Path) -> None:
    mark = mark_file(tmp_path / "mark.csv", 12)
    assert "do not cover BTCUSDT" in refusal(UsageError, candles=[btc], mark=[mark])
    assert len(read(candles=[btc], mark=[mark], until_ms=NEW_YEAR_MS + HOUR_MS)["BTCUSDT"].candles) == 12


# mark and funding files


def test_the_only_mark_or_funding_file_of_the_only_symbol_may_be_called_anything(btc: Path, tmp_path: Path) -> None:
    history = read(candles=[btc], mark=[mark_file(tmp_path / "m.csv")], funding=[funding_file(tmp_path / "f.csv")])
    assert history["BTCUSDT"].funding_modelled is True
    assert list(history["BTCUSDT"].settlements) == [12]


def test_files_of_several_symbols_are_matched_by_their_names(btc: Path, eth: Path, tmp_path: Path) -> None:
    histories = read(candles=[btc, eth], funding=[funding_file(tmp_path / "ETHUSDT-funding.csv", 0.5)])
    assert histories["ETHUSDT"].settlements[12][0].rate == 0.5
    assert histories["BTCUSDT"].funding_modelled is False


def test_a_file_that_fits_no_symbol_or_fits_twice_is_refused(btc: Path, eth: Path, tmp_path: Path) -> None:
    lost = funding_file(tmp_path / "SOLUSDT-funding.csv")
    message = refusal(UsageError, candles=[btc, eth], funding=[lost])
    assert "--funding SOLUSDT-funding.csv does not belong to one of BTCUSDT, ETHUSDT" in message
    first, second = funding_file(tmp_path / "BTCUSDT-f1.csv"), funding_file(tmp_path / "BTCUSDT-f2.csv")
    assert "one file each" in refusal(UsageError, candles=[btc, eth], funding=[first, second])


def test_the_only_funding_file_must_not_name_another_symbol(btc: Path, tmp_path: Path) -> None:
    for other in ("ETHUSDT-funding.csv", "ETHUSDT-mark-5m.csv"):
        option = "funding" if "funding" in other else "mark"
        path = funding_file(tmp_path / other) if option == "funding" else mark_file(tmp_path / other)
        assert "does not belong to" in refusal(UsageError, candles=[btc], **{option: [path]})


def test_funding_that_covers_none_of_the_candles_is_refused(btc: Path, tmp_path: Path) -> None:
    for first in (NEW_YEAR_MS - HOUR_MS, NEW_YEAR_MS + 40 * FIVE_MINUTES_MS):
        path = write_csv(tmp_path / "f.csv", [(first, 0.0001)], ("timestamp", "funding_rate"))
        message = refusal(UsageError, candles=[btc], funding=[path])
        assert message.startswith("--funding f.csv: its rates are from ")
        assert "and the candles of BTCUSDT from 2025-01-01T00:00:00Z to 2025-01-01T03:20:00Z" in message


def test_a_range_between_two_settlements_is_covered(btc: Path, tmp_path: Path) -> None:
    times = [NEW_YEAR_MS - HOUR_MS, NEW_YEAR_MS + 7 * HOUR_MS]
    path = write_csv(tmp_path / "f.csv", [(time, 0.0001) for time in times], ("timestamp", "funding_rate"))
    history = read(candles=[btc], funding=[path])["BTCUSDT"]
    assert (history.funding_modelled, dict(history.settlements)) == (True, {})


def remarks(**files: Any) -> list[str]:
    return read_inputs(ReplayFiles(**files), Settings()).remarks


def test_days_without_a_funding_rate_are_named_and_eight_hours_are_not(tmp_path: Path) -> None:
    candles = write_csv(tmp_path / "BTCUSDT-1h.csv", made_rows(24 * 20, step_ms=HOUR_MS))
    mark = mark_file(tmp_path / "BTCUSDT-mark-1h.csv", 24 * 20, HOUR_MS)

    def said(*hours: int) -> list[str]:
        rows = [(NEW_YEAR_MS + hour * HOUR_MS, 0.0001) for hour in hours]
        path = write_csv(tmp_path / "BTCUSDT-funding.csv", rows, ("timestamp", "funding_rate"))
        return remarks(candles=[candles], mark=[mark], funding=[path])

    assert said(*range(8, 480, 8)) == []
    (late,) = said(*range(72, 480, 8))
    assert "no funding rate between 2025-01-01T00:00:00Z and 2025-01-04T00:00:00Z (3.0 days)" in late
    (early,) = said(*range(0, 401, 8))
    assert "between 2025-01-17T16:00:00Z and 2025-01-21T00:00:00Z (3.3 days)" in early
    (hole,) = said(*range(0, 100, 4), *range(200, 480, 4))
    assert "between 2025-01-05T00:00:00Z and 2025-01-09T08:00:00Z (4.3 days)" in hole
    assert "a position in BTCUSDT cost and earned nothing there" in hole


def test_without_mark_candles_the_report_says_what_decided_liquidations(btc: Path, eth: Path, tmp_path: Path) -> None:
    (note,) = remarks(candles=[btc, eth])
    assert note.startswith("Liquidations were checked on last prices: no mark-price candles were given.")
    mark = mark_file(tmp_path / "BTCUSDT-mark-5m.csv")
    assert remarks(candles=[btc, eth], mark=[mark])[0].startswith("Liquidations of ETHUSDT were checked on last prices")
    assert remarks(candles=[btc], mark=[mark]) == []


def test_another_symbol_or_timeframe_than_the_files_own_is_refused(btc: Path, tmp_path: Path) -> None:
    assert "BTCUSDT-5m.csv holds another symbol than --symbol ETHUSDT" in refusal(
        UsageError, candles=[btc], symbols=["ETHUSDT"]
    )
    for timeframe in ("1m", "1h"):
        message = refusal(UsageError, {"TIMEFRAME": timeframe}, candles=[btc])
        assert f"its candles are 5m apart, but the timeframe asked for is {timeframe}" in message
    misnamed = write_csv(tmp_path / "BTCUSDT-1h.csv", made_rows(40))
    assert "its candles are 5m apart" in refusal(OtherTimeframe, candles=[misnamed])
    assert read({"TIMEFRAME": "5m"}, candles=[misnamed])["BTCUSDT"].candles.timeframe == "5m"


def test_bad_candles_are_refused_at_the_door(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "BTCUSDT-5m.csv", made_rows(1))
    assert "only one candle" in refusal(CandleError, candles=[path])
