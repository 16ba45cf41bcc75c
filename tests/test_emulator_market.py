"""The market: what klines show at a stepped boundary, coarser intervals, gaps, files, made candles, running time."""

from __future__ import annotations

import time
from datetime import date
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
import requests
from emulator_kit import FIVE_MINUTES_MS, NO_LIMITS, SHARED_DATA, START_MS, ccxt_client, flat, write_candles
from hypothesis import given, settings
from hypothesis import strategies as st

from smm_bt.emulator import EmulatorConfig, EmulatorThread
from smm_bt.emulator.candles import (
    CandleContentError,
    CandleFileError,
    CandleSeries,
    NamedFile,
    read_candles,
    read_funding,
)
from smm_bt.emulator.instruments import load_instruments
from smm_bt.emulator.made_market import make_candles
from smm_bt.emulator.tape import Tape

BTC = "BTC/USDT:USDT"
RISING = [(100 + i, 102 + i, 99 + i, 101 + i) for i in range(10)]


def test_at_a_boundary_every_closed_candle_is_served_and_the_forming_one_shows_its_open_only(
    tmp_path: Path,
) -> None:
    rows = [(50000 + i, 50020 + i, 49990 + i, 50010 + i) for i in range(6)]
    config = EmulatorConfig(candles=(write_candles(tmp_path, rows),), history_candles=3, **NO_LIMITS)
    with EmulatorThread(config) as emulator:
        client = ccxt_client(emulator)
        served = client.fetch_ohlcv(BTC, "5m")
        assert [row[1:5] for row in served] == [*[list(map(float, row)) for row in rows[:3]], [50003.0] * 4]
        assert served[-1][0] == client.fetch_time() == START_MS + 3 * FIVE_MINUTES_MS
        book = client.fetch_bids_asks([BTC])[BTC]
        assert book["bid"] == book["ask"] == client.fetch_ticker(BTC)["last"] == 50003.0
        emulator.step()
        assert client.fetch_ohlcv(BTC, "5m")[-2][1:5] == list(map(float, rows[3]))


def test_start_and_end_times_of_a_kline_request_are_inclusive_open_times(tmp_path: Path) -> None:
    config = EmulatorConfig(candles=(write_candles(tmp_path, flat(50000, 9)),), history_candles=8, **NO_LIMITS)
    with EmulatorThread(config) as emulator:
        base = f"{emulator.url}/fapi/v1/klines?symbol=BTCUSDT&interval=5m"
        begin, end = START_MS + 2 * FIVE_MINUTES_MS, START_MS + 5 * FIVE_MINUTES_MS
        rows = requests.get(f"{base}&startTime={begin}&endTime={end}", timeout=5).json()
        assert [row[0] for row in rows] == list(range(begin, end + 1, FIVE_MINUTES_MS))
        first = requests.get(f"{base}&startTime={begin}&limit=2", timeout=5).json()
        assert [row[0] for row in first] == [begin, begin + FIVE_MINUTES_MS]


def test_coarser_candles_are_made_of_fine_ones_and_the_last_is_forming(tmp_path: Path) -> None:
    rows = [(100, 103, 99, 101), (101, 108, 100, 104), (104, 105, 95, 96), (96, 99, 94, 98), (98, 98, 98, 98)]
    scaled = [tuple(500 * value for value in row) for row in rows]
    config = EmulatorConfig(candles=(write_candles(tmp_path, scaled),), history_candles=4, **NO_LIMITS)
    with EmulatorThread(config) as emulator:
        first, second = ccxt_client(emulator).fetch_ohlcv(BTC, "15m")
        assert first == [START_MS, 50000.0, 54000.0, 47500.0, 48000.0, 30.0]
        assert second == [START_MS + 900_000, 48000.0, 49500.0, 47000.0, 49000.0, 10.0]


def test_the_clock_jumps_over_a_hole_and_orders_fill_at_the_next_candles_open(tmp_path: Path) -> None:
    path = write_candles(tmp_path, flat(50000, 3))
    late = START_MS + 10 * FIVE_MINUTES_MS
    path.write_text(
        path.read_text() + f"{late},51000,51000,51000,51000,10\n{late + 300000},51000,51000,51000,51000,1\n"
    )
    config = EmulatorConfig(candles=(path,), history_candles=2, **NO_LIMITS)
    with EmulatorThread(config) as emulator:
        emulator.step()
        assert emulator.status()["now_ms"] == late
        client = ccxt_client(emulator)
        assert client.create_order(BTC, "market", "buy", 0.01)["average"] == 51000.0


def test_at_the_end_of_the_candles_the_last_close_stands(tmp_path: Path) -> None:
    config = EmulatorConfig(candles=(write_candles(tmp_path, flat(50000, 3)),), history_candles=2, **NO_LIMITS)
    with EmulatorThread(config) as emulator:
        assert emulator.step()
        assert not emulator.step()
        status = emulator.status()
        assert (status["finished"], status["now_ms"]) == (True, START_MS + 3 * FIVE_MINUTES_MS)
        assert len(ccxt_client(emulator).fetch_ohlcv(BTC, "5m")) == 3


def test_csv_gz_and_parquet_files_with_ms_or_iso_times_read_the_same(tmp_path: Path) -> None:
    rows = [(0.1 + 0.2, 1.1, 0.1, 0.7), (0.7, 0.9, 0.6, 1e-05 + 0.6)]
    plain = read_candles(write_candles(tmp_path, rows))
    zipped = read_candles(write_candles(tmp_path, rows, "BTCUSDT-5m_2025.csv.gz"))
    frame = pd.read_csv(tmp_path / "BTCUSDT-5m.csv")
    frame[["open", "high", "low", "close"]] = rows
    frame.to_parquet(tmp_path / "BTCUSDT-5m.parquet")
    stamps = pd.to_datetime(frame["timestamp"], unit="ms", utc=True)
    frame.assign(timestamp=stamps).to_parquet(tmp_path / "BTCUSDT-5m_times.parquet")
    iso = stamps.dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    frame.assign(timestamp=iso).to_csv(tmp_path / "BTCUSDT-5m_iso.csv", index=False)
    others = ("BTCUSDT-5m.parquet", "BTCUSDT-5m_times.parquet", "BTCUSDT-5m_iso.csv")
    assert all(read_candles(tmp_path / name) == plain for name in others)
    assert zipped == plain
    assert plain.open == [0.1 + 0.2, 0.7]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "header"),
        ("timestamp,open,high,low\n1,2,3,4\n", "'close' is missing"),
        ("timestamp,open,high,low,close\n2,1,1,1,1\n1,1,1,1,1\n", "ascending"),
        ("timestamp,open,high,low,close\n1,1,1,1,1\n2,1,1,1,much\n", "close holds 'much' in line 3, not a number"),
        ("timestamp,open,high,low,close\n1,1,1,1,nan\n", "close holds 'nan' in line 2, not a finite number"),
        ("timestamp,open,high,low,close\n1,1,1,0,1\n", "low holds '0' in line 2; .* above zero"),
        ("timestamp,open,high,low,close\nsoon,1,1,1,1\n", "timestamp holds 'soon' in line 2, no time"),
        ("timestamp,open,high,low,close\n1,1,1,1,1\n2,1,1\n", "line 3 has 3 cells, the header 5"),
    ],
)
def test_an_unusable_candle_file_is_refused_with_the_rule_it_breaks(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "BTCUSDT-5m.csv"
    path.write_text(text)
    with pytest.raises(CandleContentError, match=message):
        read_candles(path)


@pytest.mark.parametrize("name", ["BTCUSDT-5m.csv", "BTCUSDT-5m.csv.gz", "BTCUSDT-5m.parquet"])
def test_garbage_is_refused_as_content(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(bytes(range(256)))
    with pytest.raises(CandleContentError, match="cannot be read"):
        read_candles(path)


def test_files_of_different_timeframes_cannot_share_a_timeline(tmp_path: Path) -> None:
    files = (
        write_candles(tmp_path, flat(50000, 3)),
        write_candles(tmp_path, flat(3000, 3), "ETHUSDT-1h.csv", step_ms=3_600_000),
    )
    with pytest.raises(CandleFileError, match="one timeframe"):
        EmulatorThread(EmulatorConfig(candles=files))


def test_funding_files_are_sorted_by_time_and_keep_their_exact_rates(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-funding.csv"
    path.write_text("timestamp,funding_rate\n2000,0.00013579\n1000,-0.0001\n")
    series = read_funding(path)
    assert series.time == [1000, 2000]
    assert [str(rate) for rate in series.rate] == ["-0.0001", "0.00013579"]


def test_a_made_market_repeats_with_its_seed_lies_on_the_tick_grid_and_has_quiet_stretches() -> None:
    instrument = load_instruments(None, None)["BTCUSDT"]
    one = make_candles(instrument, 7, 3000, START_MS, FIVE_MINUTES_MS)
    assert one == make_candles(instrument, 7, 3000, START_MS, FIVE_MINUTES_MS)
    assert one != make_candles(instrument, 8, 3000, START_MS, FIVE_MINUTES_MS)
    assert all(round(price * 10) / 10 == price for price in one.close)
    rows = zip(one.open, one.high, one.low, one.close, strict=True)
    assert all(low <= min(first, last) <= max(first, last) <= high for first, high, low, last in rows)
    assert one.open[1:] == one.close[:-1]
    assert min(one.volume) < sorted(one.volume)[1500] / 20


def test_weekly_candles_open_on_mondays_whether_they_are_made_or_put_together_of_daily_ones(tmp_path: Path) -> None:
    monday, day, week = 1_735_516_800_000, 86_400_000, 604_800_000
    config = EmulatorConfig(timeframe="1w", made_candles=1530, history_candles=1500, **NO_LIMITS)
    with EmulatorThread(config) as emulator:
        served = ccxt_client(emulator).fetch_ohlcv(BTC, "1w", limit=1500)
        assert {(row[0] - monday) % week for row in served} == {0}
        assert all(60_000 / 25 < row[4] < 60_000 * 25 for row in served)
    days = write_candles(tmp_path, flat(50000, 20), "BTCUSDT-1d.csv", start_ms=monday + 2 * day, step_ms=day)
    with EmulatorThread(EmulatorConfig(candles=(days,), history_candles=18, **NO_LIMITS)) as emulator:
        served = ccxt_client(emulator).fetch_ohlcv(BTC, "1w")
    assert [(row[0], row[5]) for row in served] == [(monday, 50.0), (monday + week, 70.0), (monday + 2 * week, 60.0)]


def test_a_file_may_be_called_anything_when_its_symbol_and_timeframe_are_told(tmp_path: Path) -> None:
    path = write_candles(tmp_path, flat(3000, 4), "mine.csv")
    rates = tmp_path / "rates.csv"
    rates.write_text(f"timestamp,funding_rate\n{START_MS + FIVE_MINUTES_MS},0.001\n")
    told = NamedFile(path, "ETHUSDT", "5m")
    funding = (NamedFile(rates, "ETHUSDT"),)
    config = EmulatorConfig(candles=(told,), mark=(told,), funding=funding, history_candles=3, **NO_LIMITS)
    with EmulatorThread(config) as emulator:
        client = ccxt_client(emulator)
        assert len(client.fetch_ohlcv("ETH/USDT:USDT", "5m")) == 4
        assert [row["fundingRate"] for row in client.fetch_funding_rate_history("ETH/USDT:USDT")] == [0.001]


@pytest.mark.parametrize("value", ["1735689600000.0", "2025-01-01", "2025-01-01T00:00:00Z", date(2025, 1, 1), START_MS])
def test_a_time_is_read_in_every_form_that_a_replay_reads(value: object, tmp_path: Path) -> None:
    frame = pd.DataFrame({"timestamp": [value], "open": [1.0], "high": [1.0], "low": [1.0], "close": [1.0]})
    frame.to_parquet(tmp_path / "BTCUSDT-1d.parquet")
    assert read_candles(tmp_path / "BTCUSDT-1d.parquet").open_time == [START_MS]
    (tmp_path / "BTCUSDT-1d.csv").write_text(frame.to_csv(index=False), "utf-8-sig")
    assert read_candles(tmp_path / "BTCUSDT-1d.csv").open_time == [START_MS]


def test_a_running_clock_moves_the_price_inside_the_candle_on_the_tick_grid() -> None:
    config = EmulatorConfig(speed=600.0, made_candles=3000, history_candles=100, **NO_LIMITS)
    with EmulatorThread(config) as emulator:
        client = ccxt_client(emulator)
        begin = time.time() * 1000
        assert 0 <= client.fetch_time() - begin < 6_000_000
        prices = set()
        for _ in range(6):
            prices.add(client.fetch_ticker(BTC)["last"])
            time.sleep(0.08)
        assert len(prices) > 2
        assert all(round(price * 10) / 10 == price for price in prices)
        candle = client.fetch_ohlcv(BTC, "5m")[-1]
        assert candle[3] <= candle[4] <= candle[2]


def test_a_stop_fires_at_its_trigger_while_the_clock_runs(tmp_path: Path) -> None:
    # half a second per candle: the dip comes three seconds after the start
    rows = [*flat(50000, 7), (50000, 50000, 48000, 48100), *flat(48100, 400)]
    config = EmulatorConfig(candles=(write_candles(tmp_path, rows),), history_candles=1, speed=600.0, **NO_LIMITS)
    with EmulatorThread(config) as emulator:
        client = ccxt_client(emulator)
        client.create_order(BTC, "market", "buy", 0.1)
        client.create_order(BTC, "market", "sell", 0.1, None, {"stopLossPrice": 49000, "reduceOnly": True})
        deadline = time.monotonic() + 30
        while client.fetch_positions([BTC]) and time.monotonic() < deadline:
            time.sleep(0.05)
        last = client.fetch_my_trades(BTC)[-1]
        assert (last["side"], last["price"]) == ("sell", 49000.0)
        assert START_MS + 7 * FIVE_MINUTES_MS < last["timestamp"] < START_MS + 8 * FIVE_MINUTES_MS


def test_a_running_market_past_its_last_candle_stands_still(tmp_path: Path) -> None:
    files = (write_candles(tmp_path, flat(50000, 3)),)
    config = EmulatorConfig(candles=files, history_candles=1, speed=100_000.0, **NO_LIMITS)
    with EmulatorThread(config) as emulator:
        time.sleep(0.05)
        client = ccxt_client(emulator)
        assert client.create_order(BTC, "market", "buy", 0.1)["average"] == 50000.0
        assert emulator.status()["finished"]


candle_rows = st.lists(
    st.tuples(*[st.integers(1_000, 2_000)] * 4).map(lambda v: (v[0], max(v), min(v), v[3])),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(rows=candle_rows, cuts=st.lists(st.floats(0, 1), max_size=4))
def test_the_pieces_of_a_candle_together_reach_exactly_its_extremes(
    rows: list[tuple[int, int, int, int]], cuts: list[float]
) -> None:
    columns = [list(map(float, column)) for column in zip(*rows, strict=True)]
    times = [index * FIVE_MINUTES_MS for index in range(len(rows))]
    tape = Tape(CandleSeries("X", FIVE_MINUTES_MS, times, *columns, [1.0] * len(rows)))
    edges = [0.0, *sorted(cuts), 1.0]
    for index, (first, high, low, last) in enumerate(rows):
        pieces = [tape.stretch(index, a, b) for a, b in pairwise(edges)]
        assert pieces[0].start == first
        assert pieces[-1].end == last
        assert max(piece.high for piece in pieces) == high
        assert min(piece.low for piece in pieces) == low


def shared(*parts: str) -> Path:
    path = SHARED_DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip("recorded market data is not on this machine")
    return path


def test_recorded_candles_are_served_digit_for_digit() -> None:
    path = shared("klines", "BTCUSDT-1h_2024q4-2025h1.csv.gz")
    config = EmulatorConfig(candles=(path,), history_candles=1000, **NO_LIMITS)
    with EmulatorThread(config) as emulator:
        served = ccxt_client(emulator).fetch_ohlcv(BTC, "1h", limit=1000)
    stored = pd.read_csv(path).head(1000)
    assert [row[:5] for row in served[:-1]] == stored.iloc[1:, :5].values.tolist()


def test_the_venues_own_exchange_information_and_brackets_are_served() -> None:
    config = EmulatorConfig(
        exchange_info=shared("exchange", "exchangeInfo_mainnet_2025-08-11.json.gz"),
        brackets=shared("exchange", "leverageBracket_2025-07.json.gz"),
        made_candles=50,
        history_candles=10,
        **NO_LIMITS,
    )
    with EmulatorThread(config) as emulator:
        client = ccxt_client(emulator)
        client.load_markets()
        assert len(client.markets) > 500
        tiers = client.fetch_leverage_tiers(["BTC/USDT:USDT"])["BTC/USDT:USDT"]
        assert (tiers[0]["maxLeverage"], tiers[0]["maintenanceMarginRate"]) == (125.0, 0.004)
