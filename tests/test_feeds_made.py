"""Made candles: repeatable, plausible, checked like real ones, and written so that nothing is lost."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.candles import CandleError, Candles
from feeds.files import read_candles
from feeds.lines import CANDLE_COLUMNS
from feeds.made import ENDINGS, MADE_MARKETS, made_candles, write_candles
from feeds.timeframes import TIMEFRAMES_MS
from strategy.reference import compute_smm

SIXTY_DAYS = 17_280


def columns(candles: Candles) -> dict[str, list[float]]:
    return {name: getattr(candles, name).tolist() for name in ("open_ms", *CANDLE_COLUMNS)}


def test_the_same_seed_makes_the_same_candles_and_another_seed_or_symbol_others() -> None:
    first = columns(made_candles(count=300, seed=3))
    assert columns(made_candles(count=300, seed=3)) == first
    assert columns(made_candles(count=300, seed=4))["close"] != first["close"]
    same_scale = made_candles("ETHUSDT", count=300, seed=3, first_price=60_000.0, price_tick=0.1)
    assert same_scale.close.tolist() != first["close"]


def test_each_candle_opens_where_the_one_before_closed_and_on_the_next_place_of_the_grid() -> None:
    candles = made_candles(count=2_000)
    assert (candles.open[1:] == candles.close[:-1]).all()
    assert set(np.diff(candles.open_ms)) == {300_000}
    assert (candles.gaps, candles.missing) == ((), 0)


def test_prices_are_whole_ticks_without_binary_dust() -> None:
    candles = made_candles("ETHUSDT", count=2_000)
    for name in ("open", "high", "low", "close"):
        assert all(len(repr(price).partition(".")[2]) <= 2 for price in getattr(candles, name).tolist())


def test_two_made_months_look_like_a_market() -> None:
    candles = made_candles(count=SIXTY_DAYS)
    moves = np.diff(np.log(candles.close))
    assert candles.open[0] == 60_000.0
    assert 24_000.0 < candles.low.min() < candles.high.max() < 150_000.0
    assert 0.0006 < moves.std() < 0.002
    assert np.mean((moves / moves.std()) ** 4) > 5.0, "tails are fat: bursts happen"
    assert candles.volume.min() > 0.0
    loud = np.abs(moves) > 3 * moves.std()
    assert candles.volume[1:][loud].mean() > 2 * candles.volume.mean(), "volume comes with movement"


def test_ten_years_stay_between_the_mirrors() -> None:
    candles = made_candles(timeframe="1h", count=87_600, seed=9)
    assert 60_000.0 / 2.5 <= candles.close.min() <= candles.close.max() <= 60_000.0 * 2.5


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_reference_strategy_finds_a_few_dozen_trades_a_month(seed: int) -> None:
    signals = compute_smm(made_candles(count=SIXTY_DAYS, seed=seed).frame())
    longs, shorts = int(signals["buy_signal"].sum()), int(signals["sell_signal"].sum())
    assert 24 <= (longs + shorts) / 2 <= 120
    assert min(longs, shorts) > 20


@settings(max_examples=60, deadline=None)
@given(count=st.integers(2, 400), data=st.data(), seed=st.integers(0, 2**40))
def test_asked_for_gaps_are_exactly_that_many_holes(count: int, data: st.DataObject, seed: int) -> None:
    gaps = data.draw(st.integers(0, count - 1))
    candles = made_candles(count=count, seed=seed, gaps=gaps)
    assert (len(candles), len(candles.gaps)) == (count, gaps)
    assert all(1 <= gap.missing <= 12 for gap in candles.gaps)


@pytest.mark.parametrize("timeframe", TIMEFRAMES_MS)
def test_every_timeframe_can_be_made(timeframe: str) -> None:
    assert made_candles(timeframe=timeframe, count=50).timeframe == timeframe


@pytest.mark.parametrize("symbol", [*MADE_MARKETS, "WHATEVERUSDT"])
def test_every_symbol_can_be_made_in_any_number(symbol: str) -> None:
    assert len(made_candles(symbol, count=2)) == 2
    assert made_candles(symbol, count=1_000).low.min() > 0.0


def test_a_price_below_half_a_tick_is_one_tick_and_not_zero() -> None:
    assert made_candles(count=50, first_price=0.000004, price_tick=0.00001).low.min() == 0.00001


def test_what_cannot_be_made_is_refused() -> None:
    with pytest.raises(CandleError, match=r"timeframe '7m' is not known"):
        made_candles(timeframe="7m")
    with pytest.raises(CandleError, match="no candles"):
        made_candles(count=0)
    with pytest.raises(CandleError, match="only one candle"):
        made_candles(count=1)
    with pytest.raises(CandleError, match="grid"):
        made_candles(count=5, start_ms=1_704_067_200_001)
    for gaps in (5, -1):
        with pytest.raises(ValueError, match="gaps do not fit between 5 candles"):
            made_candles(count=5, gaps=gaps)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_written_file_reads_back_bit_for_bit_with_its_gaps(tmp_path: Path, ending: str) -> None:
    candles = made_candles("XRPUSDT", "15m", 700, seed=5, gaps=3)
    path = tmp_path / "new" / f"XRPUSDT-15m_made{ending}"
    write_candles(candles, path)
    again = read_candles(path)
    assert columns(again) == columns(candles)
    assert (again.symbol, again.timeframe, again.gaps) == ("XRPUSDT", "15m", candles.gaps)


def test_the_csv_is_what_a_person_would_write(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-5m.csv.gz"
    write_candles(made_candles(count=2), path)
    first, second = gzip.decompress(path.read_bytes()).decode().splitlines()[:2]
    assert first == "timestamp,open,high,low,close,volume"
    assert second.startswith("1704067200000,60000,")


def test_an_unknown_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CandleError, match=r"BTCUSDT-5m\.xlsx"):
        write_candles(made_candles(count=2), tmp_path / "BTCUSDT-5m.xlsx")
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_the_old_file_and_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "BTCUSDT-5m.csv"
    path.write_text("what stood here before")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_candles(made_candles(count=2), path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "what stood here before"
