"""Candle, mark and funding files as people really have them: every form that is read, every one that is refused."""

from __future__ import annotations

import datetime as dt
import gzip
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from made_files import (
    FIVE_MINUTES_MS,
    HEADER,
    NEW_YEAR_MS,
    Row,
    columns_of,
    csv_text,
    flat_rows,
    made_rows,
    write_csv,
    write_parquet,
)

from feeds.candles import CandleError, Candles
from feeds.files import CandleFileMissing, name_parts, read_candles, read_funding, read_mark_candles

ROWS = made_rows(3)
TIMES = [row[0] for row in ROWS]
START = dt.datetime(2025, 1, 1)
FUNDING_HEADER = ("timestamp", "funding_rate")


def refusal(read: Callable[[], Any]) -> str:
    with pytest.raises(CandleError) as caught:
        read()
    message = str(caught.value)
    assert "\n" not in message
    assert "  " not in message.replace("found:  ", "")
    return message


def stamped(stamps: list[Any], rows: list[Row] = ROWS) -> list[Row]:
    return [(stamp, *row[1:]) for stamp, row in zip(stamps, rows, strict=True)]


def same_as_made(candles: Candles) -> bool:
    got = zip(
        candles.open_ms.tolist(),
        *(getattr(candles, name).tolist() for name in HEADER[1:]),
        strict=True,
    )
    return list(got) == ROWS


# forms that are read


def test_csv_and_gzipped_csv_and_parquet_give_the_same_candles(tmp_path: Path) -> None:
    assert same_as_made(read_candles(write_csv(tmp_path / "BTCUSDT-5m.csv", ROWS)))
    assert same_as_made(read_candles(write_csv(tmp_path / "BTCUSDT-5m.csv.gz", ROWS)))
    assert same_as_made(read_candles(write_parquet(tmp_path / "BTCUSDT-5m.parquet", columns_of(ROWS))))


def test_every_digit_of_a_price_survives_the_csv(tmp_path: Path) -> None:
    prices = [0.1 + 0.2, 1e-8, 123456.78901234567, 2.5e6]
    rows = [(TIMES[0] + n * FIVE_MINUTES_MS, p, p, p, p, 1 / 3) for n, p in enumerate(prices)]
    candles = read_candles(write_csv(tmp_path / "BTCUSDT-5m.csv", rows))
    assert candles.close.tolist() == prices
    assert candles.volume.tolist() == [1 / 3] * 4


OFFSET = dt.timezone(dt.timedelta(hours=3))
STAMP_FORMS: dict[str, Callable[[dt.datetime], str]] = {
    "ISO with Z": lambda t: t.isoformat() + "Z",
    "ISO without offset is UTC": lambda t: t.isoformat(),
    "ISO with a space": str,
    "ISO with +03:00": lambda t: t.replace(tzinfo=dt.UTC).astimezone(OFFSET).isoformat(),
    "ISO with +0300": lambda t: (t + dt.timedelta(hours=3)).isoformat() + "+0300",
    "ISO with -05:00": lambda t: (t - dt.timedelta(hours=5)).isoformat() + "-05:00",
    "ISO with milliseconds": lambda t: t.isoformat(timespec="milliseconds") + "Z",
    "ISO with microseconds": lambda t: t.isoformat(timespec="microseconds") + "+00:00",
    "ISO without seconds": lambda t: t.strftime("%Y-%m-%d %H:%M"),
    "ISO with and without Z mixed": lambda t: t.isoformat() + ("Z" if t.minute == 5 else ""),
    "milliseconds": lambda t: str(round(t.replace(tzinfo=dt.UTC).timestamp() * 1000)),
    "milliseconds as floats": lambda t: f"{t.replace(tzinfo=dt.UTC).timestamp() * 1000:.1f}",
    "milliseconds with an exponent": lambda t: f"{t.replace(tzinfo=dt.UTC).timestamp() * 1000:.12e}",
}


@pytest.mark.parametrize("form", STAMP_FORMS)
@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_a_csv_may_tell_its_times_as(form: str, ending: str, tmp_path: Path) -> None:
    stamps = [STAMP_FORMS[form](START + dt.timedelta(minutes=5 * n)) for n in range(3)]
    assert same_as_made(read_candles(write_csv(tmp_path / f"BTCUSDT-5m{ending}", stamped(stamps))))


def test_dates_are_enough_for_daily_candles(tmp_path: Path) -> None:
    rows = stamped(["2025-01-01", "2025-01-02", "2025-01-03"])
    candles = read_candles(write_csv(tmp_path / "BTCUSDT-1d.csv", rows))
    assert candles.open_ms.tolist() == [1_735_689_600_000, 1_735_776_000_000, 1_735_862_400_000]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", None, "Asia/Riyadh"])
def test_parquet_written_by_pandas_is_read_in_every_unit_and_zone(unit: Any, zone: str | None, tmp_path: Path) -> None:
    index = pd.date_range("2025-01-01", periods=3, freq="5min", tz="UTC").as_unit(unit)
    index = index.tz_localize(None) if zone is None else index.tz_convert(zone)
    frame = pd.DataFrame({name: [row[n] for row in ROWS] for n, name in enumerate(HEADER) if n}, index=index)
    path = tmp_path / "BTCUSDT-5m.parquet"
    frame.rename_axis("timestamp").to_parquet(path)
    assert same_as_made(read_candles(path))
    frame.rename_axis("timestamp").reset_index().to_parquet(path, index=False)
    assert same_as_made(read_candles(path))


PARQUET_TIMES = {
    "int64": pa.array(TIMES, pa.int64()),
    "uint64": pa.array(TIMES, pa.uint64()),
    "float64": pa.array([float(t) for t in TIMES]),
    "string": pa.array([(START + dt.timedelta(minutes=5 * n)).isoformat() for n in range(3)]),
    "large_string": pa.array([f"2025-01-01T00:{5 * n:02}:00Z" for n in range(3)], pa.large_string()),
}


@pytest.mark.parametrize("kind", PARQUET_TIMES)
def test_parquet_may_hold_its_times_as(kind: str, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "BTCUSDT-5m.parquet", columns_of(ROWS) | {"timestamp": PARQUET_TIMES[kind]})
    assert same_as_made(read_candles(path))


@pytest.mark.parametrize("kind", [pa.float32(), pa.int64(), pa.decimal128(10, 2), pa.string()])
def test_parquet_prices_of_other_number_types_become_floats(kind: pa.DataType, tmp_path: Path) -> None:
    three = pa.array([Decimal(3)] * 3, pa.decimal128(10, 2)) if pa.types.is_decimal(kind) else pa.array([3] * 3)
    prices = dict.fromkeys(HEADER[1:], three.cast(kind))
    candles = read_candles(write_parquet(tmp_path / "BTCUSDT-5m.parquet", {"timestamp": TIMES, **prices}))
    assert candles.close.tolist() == [3.0, 3.0, 3.0]
    assert candles.close.dtype == np.float64


def test_windows_line_ends_quotes_a_byte_order_mark_and_blank_last_lines_do_no_harm(tmp_path: Path) -> None:
    text = csv_text(ROWS)
    quoted = "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in text.strip().split("\n"))
    for variant in (text.replace("\n", "\r\n"), quoted, "\ufeff" + text, text + "\n\n", text.rstrip("\n")):
        path = tmp_path / "BTCUSDT-5m.csv"
        path.write_bytes(variant.encode())
        assert same_as_made(read_candles(path))


def test_further_columns_and_another_order_do_no_harm(tmp_path: Path) -> None:
    header = ("trades", *reversed(HEADER), "taker_buy")
    rows = [(7, *reversed(row), "x") for row in ROWS]
    assert same_as_made(read_candles(write_csv(tmp_path / "BTCUSDT-5m.csv", rows, header)))


def test_a_column_with_one_symbol_does_no_harm(tmp_path: Path) -> None:
    rows = [("BTCUSDT", *row) for row in ROWS]
    assert same_as_made(read_candles(write_csv(tmp_path / "BTCUSDT-5m.csv", rows, ("symbol", *HEADER))))


def test_gaps_in_a_file_are_counted(tmp_path: Path) -> None:
    rows = [row for n, row in enumerate(made_rows(10)) if n not in (4, 5)]
    candles = read_candles(write_csv(tmp_path / "BTCUSDT-5m.csv", rows))
    assert (len(candles.gaps), candles.missing) == (1, 2)


# names


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("BTCUSDT-5m.csv", ("BTCUSDT", "5m")),
        ("BTCUSDT-5m_2024-10_2025-02.csv.gz", ("BTCUSDT", "5m")),
        ("BTCUSDT-1h-2025.parquet", ("BTCUSDT", "1h")),
        ("BTCUSDT_250926-15m.parquet", ("BTCUSDT_250926", "15m")),
        ("ETHUSDT-mark-1h.csv", ("ETHUSDT", "1h")),
        ("1000PEPEUSDT-1w.csv", ("1000PEPEUSDT", "1w")),
        ("BTCUSDT-5min.csv", (None, None)),
        ("candles.csv", (None, None)),
        ("-5m.csv", (None, None)),
    ],
)
def test_a_name_tells_symbol_and_timeframe_or_neither(name: str, parts: tuple[str | None, str | None]) -> None:
    assert name_parts(Path(name)) == parts


def test_symbol_and_timeframe_may_be_given_for_a_file_of_any_name(tmp_path: Path) -> None:
    candles = read_candles(write_csv(tmp_path / "export.csv", ROWS), "ETHUSDT", "5m")
    assert (candles.symbol, candles.timeframe) == ("ETHUSDT", "5m")


def test_a_name_that_tells_too_little_is_refused_with_the_option_to_give(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "export.csv", ROWS)
    assert "does not tell the symbol; name the file like BTCUSDT-5m.csv or give --symbol" in refusal(
        lambda: read_candles(path)
    )
    assert "give --timeframe" in refusal(lambda: read_candles(path, "BTCUSDT"))


def test_an_unknown_timeframe_in_the_name_is_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "BTCUSDT-7m.csv", ROWS)
    assert "timeframe '7m' is not known; use one of 1m, 3m, 5m" in refusal(lambda: read_candles(path))


def test_candles_of_another_timeframe_than_asked_are_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "BTCUSDT-5m.csv", made_rows(30))
    assert "its candles are 5m apart, but the timeframe asked for is 1h" in refusal(
        lambda: read_candles(path, timeframe="1h")
    )
    hourly = write_csv(tmp_path / "BTCUSDT-1h.csv", made_rows(30, step_ms=12 * FIVE_MINUTES_MS))
    assert "the timeframe asked for is 5m" in refusal(lambda: read_candles(hourly, timeframe="5m"))


# files that cannot be read


def test_a_missing_file_is_a_refusal_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(CandleFileMissing, match="there is no such file; check the path"):
        read_candles(tmp_path / "BTCUSDT-5m.csv")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CandleFileMissing, match="this is a folder; name a candle file in it"):
        read_candles(tmp_path, "BTCUSDT", "5m")


def test_a_name_too_long_for_the_system_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(lambda: read_candles(tmp_path / ("B" * 300 + "-5m.csv")))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "BTCUSDT-5m.csv", ROWS)
    path.chmod(0)
    assert "cannot be read" in refusal(lambda: read_candles(path))


GARBAGE = {
    "every byte": bytes(range(256)) * 20,
    "zeros": b"\0" * 5_000,
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(range(255, -1, -1)) * 8,
    "nothing": b"",
    "a line end": b"\n",
}


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet"])
@pytest.mark.parametrize("content", GARBAGE)
def test_garbage_is_refused_under_every_ending(content: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"BTCUSDT-5m{ending}"
    path.write_bytes(GARBAGE[content])
    message = refusal(lambda: read_candles(path))
    assert message.startswith(f"BTCUSDT-5m{ending}: ")
    assert len(message) < 400


def test_a_gzip_with_nothing_in_it_or_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-5m.csv.gz"
    path.write_bytes(gzip.compress(b""))
    assert "cannot be read" in refusal(lambda: read_candles(path))
    path.write_bytes(gzip.compress(csv_text(made_rows(2_000)).encode())[:-500])
    assert "cannot be read" in refusal(lambda: read_candles(path))


def test_a_csv_under_the_name_of_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-5m.parquet"
    path.write_text(csv_text(ROWS))
    assert "cannot be read" in refusal(lambda: read_candles(path))


@pytest.mark.parametrize("name", ["BTCUSDT-5m.xlsx", "BTCUSDT-5m", "BTCUSDT-5m.txt", "BTCUSDT-5m.gz"])
def test_other_endings_are_refused_with_the_known_ones(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(csv_text(ROWS))
    message = refusal(lambda: read_candles(path))
    assert "is not known" in message
    assert "give a CSV, CSV.gz or Parquet file" in message


# columns


def test_missing_columns_are_named_with_what_was_found(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "BTCUSDT-5m.csv", [row[:4] for row in ROWS], HEADER[:4])
    message = refusal(lambda: read_candles(path))
    assert "column close, volume is missing (found: timestamp, open, high, low)" in message


@pytest.mark.parametrize("header", [[name.title() for name in HEADER], [f"c{n}" for n in range(6)]])
def test_other_column_names_are_refused(header: list[str], tmp_path: Path) -> None:
    path = write_csv(tmp_path / "BTCUSDT-5m.csv", ROWS, header)
    assert "the file needs timestamp, open, high, low, close, volume" in refusal(lambda: read_candles(path))


def test_a_csv_without_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-5m.csv"
    path.write_text(csv_text(ROWS).split("\n", 1)[1])
    assert "is missing" in refusal(lambda: read_candles(path))


def test_semicolons_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-5m.csv"
    path.write_text(csv_text(ROWS).replace(",", ";"))
    assert "is missing" in refusal(lambda: read_candles(path))


def test_a_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "BTCUSDT-5m.csv", [(*row, 1.0) for row in ROWS], (*HEADER, "close"))
    assert "column close stands there more than once" in refusal(lambda: read_candles(path))


def test_a_panel_of_several_symbols_is_refused_with_their_number(tmp_path: Path) -> None:
    rows = [(f"S{n % 4}USDT", *row) for n, row in enumerate(made_rows(8))]
    path = write_csv(tmp_path / "panel-5m.csv", rows, ("symbol", *HEADER))
    message = refusal(lambda: read_candles(path))
    assert "holds 4 symbols (S0USDT, S1USDT, S2USDT, …); split it into one file per symbol" in message


def test_a_line_with_too_few_cells_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-5m.csv"
    path.write_text(csv_text(ROWS) + "1735690500000,100\n")
    assert "line 5 has 2 cells, the header 6; repair that line" in refusal(lambda: read_candles(path))


# rows


@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_a_file_with_only_a_header_holds_no_candles(ending: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / f"BTCUSDT-5m{ending}", [])
    assert "there are no candles in it" in refusal(lambda: read_candles(path))


def test_a_parquet_without_rows_holds_no_candles(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "BTCUSDT-5m.parquet", {name: pa.array([], pa.float64()) for name in HEADER})
    assert "there are no candles in it" in refusal(lambda: read_candles(path))


def test_one_candle_is_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "BTCUSDT-5m.csv", ROWS[:1])
    assert "there is only one candle" in refusal(lambda: read_candles(path))


def test_words_for_prices_are_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "BTCUSDT-5m.csv", [(row[0], "high", *row[2:]) for row in ROWS])
    assert "column open holds 'high' in line 2, not a number" in refusal(lambda: read_candles(path))


@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
@pytest.mark.parametrize("line", [17, 30_000])
def test_a_cell_that_is_no_number_is_named_with_its_column_and_line(line: int, ending: str, tmp_path: Path) -> None:
    rows = made_rows(30_100)
    rows[line - 2] = (*rows[line - 2][:4], "abc", 1.0)
    path = write_csv(tmp_path / f"BTCUSDT-5m{ending}", rows)
    assert f"BTCUSDT-5m{ending}: column close holds 'abc' in line {line}" in refusal(lambda: read_candles(path))


def test_a_bad_time_far_down_is_named_with_its_line(tmp_path: Path) -> None:
    rows = made_rows(30_100)
    rows[29_998] = ("soon", *rows[29_998][1:])
    path = write_csv(tmp_path / "BTCUSDT-5m.csv", rows)
    assert "column timestamp holds 'soon' in line 30000" in refusal(lambda: read_candles(path))


def test_a_bad_time_among_milliseconds_is_named_and_not_the_first_row(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "BTCUSDT-5m.csv", [*ROWS, ("soon", *ROWS[0][1:])])
    assert "column timestamp holds 'soon' in line 5, which is no time" in refusal(lambda: read_candles(path))


@pytest.mark.parametrize("cell", ["", "nan", "NaN", "NA", "null", "inf", "-inf"])
def test_a_price_that_is_no_number_is_refused(cell: str, tmp_path: Path) -> None:
    rows = [(row[0], cell if n == 1 else row[1], *row[2:]) for n, row in enumerate(ROWS)]
    path = write_csv(tmp_path / "BTCUSDT-5m.csv", rows)
    assert "open is not a finite number" in refusal(lambda: read_candles(path))


@pytest.mark.parametrize("bad", ["duplicate", "unordered", "off grid", "high", "low"])
def test_bad_rows_of_a_file_are_refused_with_time_and_row(bad: str, tmp_path: Path) -> None:
    rows = flat_rows(100, 100, 100)
    variants = {
        "duplicate": [rows[0], rows[1], rows[1]],
        "unordered": [rows[0], rows[2], rows[1]],
        "off grid": [rows[0], (rows[1][0] + 1, *rows[1][1:]), rows[2]],
        "high": [rows[0], (rows[1][0], 100, 99, 99, 99, 1), rows[2]],
        "low": [rows[0], (rows[1][0], 100, 102, 101, 102, 1), rows[2]],
    }
    path = write_csv(tmp_path / "BTCUSDT-5m.csv", variants[bad])
    message = refusal(lambda: read_candles(path))
    assert message.startswith("BTCUSDT-5m.csv: ")
    assert "2025-01-01T00:05:00" in message
    assert "row " in message


BAD_TIMES = {
    "words": (["first", "second", "third"], "column timestamp holds 'first' in line 2, which is no time"),
    "slashes": (
        [f"2025/01/01 00:{5 * n:02}" for n in range(3)],
        "timestamp holds '2025/01/01 00:00' in line 2, which is no",
    ),
    "seconds": ([t // 1000 for t in TIMES], "is no date of this century in milliseconds UTC"),
    "microseconds": ([t * 1000 for t in TIMES], "is no date of this century in milliseconds UTC"),
    "halves": ([f"{t}.5" for t in TIMES], "timestamps are not whole milliseconds"),
    "an empty one": ([TIMES[0], "", TIMES[2]], "1 timestamps are empty"),
}


@pytest.mark.parametrize("kind", BAD_TIMES)
def test_times_that_are_no_milliseconds_or_iso_are_refused(kind: str, tmp_path: Path) -> None:
    stamps, expected = BAD_TIMES[kind]
    path = write_csv(tmp_path / "BTCUSDT-5m.csv", stamped(stamps))
    assert expected in refusal(lambda: read_candles(path))


BAD_PARQUET_TIMES = {
    "bool": (pa.array([True, False, True]), "timestamps are of type bool"),
    "nothing": (pa.array([None] * 3), "3 timestamps are empty"),
    "microseconds inside": (pa.array([t * 1000 + 1 for t in TIMES], pa.timestamp("us")), "finer than milliseconds"),
    "nanoseconds inside": (pa.array([t * 10**6 + 1 for t in TIMES], pa.timestamp("ns")), "finer than milliseconds"),
    "numbers in strings": (pa.array([str(t) for t in TIMES]), "is no time"),
}


@pytest.mark.parametrize("kind", BAD_PARQUET_TIMES)
def test_parquet_times_of_other_kinds_are_refused(kind: str, tmp_path: Path) -> None:
    stamps, expected = BAD_PARQUET_TIMES[kind]
    path = write_parquet(tmp_path / "BTCUSDT-5m.parquet", columns_of(ROWS) | {"timestamp": stamps})
    assert expected in refusal(lambda: read_candles(path))


def test_a_parquet_price_that_is_null_or_a_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-5m.parquet"
    write_parquet(path, columns_of(ROWS) | {"open": pa.array([1.0, None, 1.0])})
    assert "open is not a finite number" in refusal(lambda: read_candles(path))
    write_parquet(path, columns_of(ROWS) | {"open": pa.array([[1.0]] * 3)})
    assert "column open holds list" in refusal(lambda: read_candles(path))


# mark candles and funding


def test_mark_candles_need_no_volume(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "any.csv", [row[:5] for row in ROWS], HEADER[:5])
    mark = read_mark_candles(path, "BTCUSDT", "5m")
    assert mark.low.tolist() == [row[3] for row in ROWS]
    assert mark.volume.tolist() == [0.0, 0.0, 0.0]


def test_mark_candles_pass_the_same_door(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "any.csv", [row[:5] for row in ROWS[::-1]], HEADER[:5])
    assert "sort the candles" in refusal(lambda: read_mark_candles(path, "BTCUSDT", "5m"))


def test_funding_rates_are_read_with_their_times(tmp_path: Path) -> None:
    rows = [("2025-01-01T00:00:00.004Z", 0.0001), ("2025-01-01T08:00:00Z", -0.00025)]
    rates = read_funding(write_csv(tmp_path / "f.csv", rows, FUNDING_HEADER))
    assert rates.time_ms.tolist() == [NEW_YEAR_MS + 4, NEW_YEAR_MS + 8 * 3_600_000]
    assert rates.rate.tolist() == [0.0001, -0.00025]


BAD_FUNDING: dict[str, tuple[list[Row], str]] = {
    "empty": ([], "there are no funding rates in it; leave --funding out"),
    "no number": ([(NEW_YEAR_MS, 0.1), (NEW_YEAR_MS + 1, "nan")], "rate in row 2 is not a finite number"),
    "unordered": ([(NEW_YEAR_MS + 1, 0.1), (NEW_YEAR_MS, 0.1)], "row 2 is not later than the row before it"),
    "twice": ([(NEW_YEAR_MS, 0.1), (NEW_YEAR_MS, 0.1)], "row 2 is not later"),
    "seconds": ([(NEW_YEAR_MS // 1000, 0.1)], "is no date of this century in milliseconds"),
    "a word": ([(NEW_YEAR_MS, "much")], "column funding_rate holds 'much' in line 2"),
}


@pytest.mark.parametrize("kind", BAD_FUNDING)
def test_bad_funding_files_are_refused(kind: str, tmp_path: Path) -> None:
    rows, expected = BAD_FUNDING[kind]
    path = write_csv(tmp_path / "f.csv", rows, FUNDING_HEADER)
    assert expected in refusal(lambda: read_funding(path))


def test_funding_files_need_their_columns_and_must_exist(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "f.csv", ROWS)
    assert "column funding_rate is missing" in refusal(lambda: read_funding(path))
    with pytest.raises(CandleFileMissing):
        read_funding(tmp_path / "none.csv")


def test_rows_of_another_symbol_than_the_name_says_are_refused(tmp_path: Path) -> None:
    lines = ["symbol,timestamp,open,high,low,close,volume"]
    lines += [f"ETHUSDT,{1_704_067_200_000 + 300_000 * n},100,101,99,100,1" for n in range(3)]
    path = tmp_path / "BTCUSDT-5m.csv"
    path.write_text("\n".join(lines) + "\n")
    assert "its rows are of ETHUSDT, not of BTCUSDT" in refusal(lambda: read_candles(path))
    assert len(read_candles(path, symbol="ETHUSDT")) == 3
