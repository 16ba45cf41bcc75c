"""``smm-bt download`` against the embedded exchange: what lands in DATA_DIR is what the candle files it serves hold."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from emulator_kit import NO_LIMITS
from hypothesis import given
from hypothesis import strategies as st
from made_files import child_environment, smm_bt
from rich.console import Console

from feeds.candles import Candles
from feeds.files import read_candles, read_funding, read_mark_candles
from feeds.made import START_MS, made_candles, write_candles
from smm_bt.app.download import DownloadRequest, download
from smm_bt.app.history_file import Rows, Span, folder_for_downloads, holes_in, missing_spans, read_rows, write_rows
from smm_bt.app.settings import Settings
from smm_bt.app.venue_reach import ask_clock, why_unreachable
from smm_bt.emulator import EmulatorConfig, EmulatorThread
from smm_bt.emulator.faults import FaultRule
from smm_bt.errors import MarketDataError, OutputError, UsageError, VenueError
from smm_bt.execution import host_clock
from smm_bt.execution.market_rules import load_instruments
from smm_bt.execution.venue_errors import Failure, Kind, VenueFault

MINUTE = 60_000
COUNT = 5_000
CLOSED = 4_200
KLINES = "/fapi/v1/klines"
NAMES = ("open_ms", "open", "high", "low", "close", "volume")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the exchange serves: 1m candles with holes, mark candles, funding every eight hours."""
    folder = tmp_path_factory.mktemp("served")
    candles = made_candles("BTCUSDT", "1m", COUNT, seed=5, gaps=4)
    write_candles(candles, folder / "BTCUSDT-1m.parquet")
    _write_csv(folder / "BTCUSDT-1m.csv", candles)
    mark = replace(candles, high=np.maximum(candles.open, candles.close))
    _write_csv(folder / "BTCUSDT-mark-1m.csv", mark)
    times = [START_MS + hours * 3_600_000 for hours in range(0, 96, 8)]
    rows = "".join(f"{at},{0.0001 * (number - 3):.6f}\n" for number, at in enumerate(times))
    (folder / "BTCUSDT-funding.csv").write_text(f"timestamp,funding_rate\n{rows}")
    return folder


def _write_csv(path: Path, candles: Candles) -> None:
    columns = zip(*(getattr(candles, name).tolist() for name in NAMES), strict=True)
    lines = [",".join(map(repr, row)) for row in columns]
    path.write_text("timestamp,open,high,low,close,volume\n" + "\n".join(lines) + "\n")


def start(served: Path, **changes: Any) -> EmulatorThread:
    values: dict[str, Any] = {
        "candles": (served / "BTCUSDT-1m.csv",),
        "mark": (served / "BTCUSDT-mark-1m.csv",),
        "funding": (served / "BTCUSDT-funding.csv",),
        "history_candles": CLOSED,
    }
    return EmulatorThread(EmulatorConfig(**(values | changes)))


@pytest.fixture(scope="module")
def running(served: Path) -> Iterator[EmulatorThread]:
    with start(served, **NO_LIMITS) as emulator:
        yield emulator


@pytest.fixture
def exchange(running: EmulatorThread) -> Iterator[EmulatorThread]:
    running.requests(clear=True)
    yield running
    running.clear_faults()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of this process are as short as can be; those of child processes are real."""
    monkeypatch.setattr(host_clock.SystemClock, "sleep", lambda self, seconds: time.sleep(min(seconds, 0.01)))


def fetch(folder: Path, emulator: EmulatorThread | None, *symbols: str, **changes: Any) -> str:
    """Download and return what was said; since the beginning unless told otherwise."""
    values: dict[str, Any] = {
        "settings": Settings.model_validate({"DATA_DIR": folder}),
        "symbols": symbols or ("BTCUSDT",),
        "timeframe": "1m",
        "since_ms": START_MS,
        "venue": emulator.url if emulator else None,
    }
    said = StringIO()
    download(DownloadRequest(**(values | changes)), Console(file=said, width=200))
    return said.getvalue()


def served_candles(served: Path, count: int = CLOSED) -> Candles:
    whole = read_candles(served / "BTCUSDT-1m.parquet")
    return whole.between(None, int(whole.open_ms[count]))


def assert_same(found: Candles, wanted: Candles) -> None:
    for name in NAMES:
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=name)


def asked(emulator: EmulatorThread, path: str = KLINES) -> list[dict[str, Any]]:
    return [row for row in emulator.requests() if row["path"] == path]


# ---- what lands in the file


def test_candles_mark_and_funding_are_the_exchanges_to_the_last_bit(
    tmp_path: Path, served: Path, exchange: EmulatorThread
) -> None:
    fetch(tmp_path, exchange, mark=True, funding=True)
    wanted = served_candles(served)
    assert_same(read_candles(tmp_path / "BTCUSDT-1m.parquet"), wanted)
    mark = read_mark_candles(tmp_path / "BTCUSDT-mark-1m.parquet", "BTCUSDT", "1m")
    marks_served = read_mark_candles(served / "BTCUSDT-mark-1m.csv", "BTCUSDT", "1m").between(
        None, mark.open_ms[-1] + 1
    )
    np.testing.assert_array_equal(mark.high, marks_served.high)
    np.testing.assert_array_equal(mark.open_ms, wanted.open_ms)
    rates, rates_served = (
        read_funding(tmp_path / "BTCUSDT-funding.parquet"),
        read_funding(served / "BTCUSDT-funding.csv"),
    )
    settled = rates_served.time_ms <= wanted.open_ms[-1]
    np.testing.assert_array_equal(rates.time_ms, rates_served.time_ms[settled])
    np.testing.assert_array_equal(rates.rate, rates_served.rate[settled])


def test_the_candle_that_is_still_forming_is_not_stored(tmp_path: Path, served: Path, exchange: EmulatorThread) -> None:
    fetch(tmp_path, exchange)
    times = pq.read_table(tmp_path / "BTCUSDT-1m.parquet").column("timestamp").cast(pa.int64()).to_numpy()
    assert times[-1] == served_candles(served).open_ms[-1]
    assert times[-1] + MINUTE <= ask_clock(None if exchange is None else _venue(exchange)).server_ms


def _venue(emulator: EmulatorThread) -> Any:
    from smm_bt.execution.endpoints import PracticeVenue

    return PracticeVenue(emulator.url)


def test_replay_finds_what_was_downloaded(tmp_path: Path, served: Path, exchange: EmulatorThread) -> None:
    said = fetch(tmp_path / "data", exchange, mark=True, funding=True, exchange_info=True)
    line = next(line for line in said.splitlines() if line.startswith("Replay: "))
    words = line.removeprefix("Replay: smm-bt ").replace(f"{tmp_path}/", "").split()
    done = smm_bt(*words, "--no-tearsheet", "--no-chart", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert (report["candles"], report["gaps"], report["funding_modelled"]) == (
        CLOSED,
        len(served_candles(served).gaps),
        True,
    )


def test_gaps_are_counted_named_and_asked_for_twice(tmp_path: Path, served: Path, exchange: EmulatorThread) -> None:
    said = fetch(tmp_path, exchange)
    wanted = served_candles(served)
    assert len(wanted.gaps) > 1
    assert (
        f"{len(wanted.gaps)} gaps with {wanted.missing} candles missing that the venue, asked twice, does not have"
        in said
    )
    for gap in wanted.gaps:
        begin = gap.after_ms + MINUTE
        spans = [(int(row["parameters"]["startTime"]), int(row["parameters"]["endTime"])) for row in asked(exchange)]
        assert sum(first <= begin <= last for first, last in spans) >= 2
        assert time.strftime("%Y-%m-%d %H:%M", time.gmtime(begin / 1000)) in said


def test_pages_are_asked_for_forward_one_after_the_other(tmp_path: Path, exchange: EmulatorThread) -> None:
    fetch(tmp_path, exchange)
    pages = [row["parameters"] for row in asked(exchange) if int(row["parameters"]["limit"]) > 100]
    starts = [int(page["startTime"]) for page in pages]
    assert starts == sorted(starts)
    assert len(starts) == len(set(starts)) == 5
    assert all(int(page["limit"]) <= 1000 for page in pages)


def test_since_and_until_are_kept_and_whole_candles(tmp_path: Path, served: Path, exchange: EmulatorThread) -> None:
    since, until = START_MS + 100 * MINUTE + 1, START_MS + 300 * MINUTE + 59_999
    fetch(tmp_path, exchange, since_ms=since, until_ms=until)
    wanted = read_candles(served / "BTCUSDT-1m.parquet").between(START_MS + 101 * MINUTE, START_MS + 300 * MINUTE)
    assert_same(read_candles(tmp_path / "BTCUSDT-1m.parquet"), wanted)


def test_a_history_that_begins_later_is_said_to(tmp_path: Path, served: Path, exchange: EmulatorThread) -> None:
    said = fetch(tmp_path, exchange, since_ms=START_MS - 10 * 86_400_000)
    assert "It begins on 2024-01-01 00:00 UTC; the venue has nothing earlier." in said
    assert_same(read_candles(tmp_path / "BTCUSDT-1m.parquet"), served_candles(served))


def test_the_venues_own_rules_and_brackets_can_be_replayed_with(tmp_path: Path, exchange: EmulatorThread) -> None:
    keys = {"BINANCE_TESTNET_API_KEY": exchange.api_key, "BINANCE_TESTNET_API_SECRET": exchange.api_secret}
    settings = Settings.model_validate({"DATA_DIR": tmp_path, "TRADING_MODE": "TESTNET"} | keys)
    fetch(tmp_path, exchange, settings=settings, exchange_info=True, brackets=True)
    found = load_instruments(["BTCUSDT"], tmp_path / "exchangeInfo.json", tmp_path / "leverageBracket.json")
    assert found["BTCUSDT"] == load_instruments(["BTCUSDT"])["BTCUSDT"]
    assert not any(exchange.api_secret in path.read_text(errors="replace") for path in tmp_path.iterdir())


def test_on_a_terminal_a_bar_shows_rows_rate_and_time_left(tmp_path: Path, exchange: EmulatorThread) -> None:
    exchange.add_fault(FaultRule("delay", path=KLINES, count=None, delay_ms=150))
    shown = StringIO()
    settings = Settings.model_validate({"DATA_DIR": tmp_path})
    request = DownloadRequest(settings, ("BTCUSDT",), "1m", START_MS, venue=exchange.url)
    download(request, Console(file=shown, width=120, force_terminal=True))
    assert re.search(r"BTCUSDT-1m\.parquet.*\d+%.*[1-4],000 rows, .*\d/s.*still.*\d:\d\d", shown.getvalue())


# ---- continuing


def test_run_again_it_asks_for_what_is_new_only(tmp_path: Path, served: Path) -> None:
    with start(served, **NO_LIMITS) as exchange:
        fetch(tmp_path, exchange)
        exchange.step(25)
        exchange.requests(clear=True)
        said = fetch(tmp_path, exchange, since_ms=None)
        assert "(25 new)" in said
        newest = max(int(row["parameters"]["limit"]) for row in asked(exchange))
        assert newest <= 25
    assert_same(read_candles(tmp_path / "BTCUSDT-1m.parquet"), served_candles(served, CLOSED + 25))


def test_an_earlier_beginning_is_put_before_what_is_there(
    tmp_path: Path, served: Path, exchange: EmulatorThread
) -> None:
    fetch(tmp_path, exchange, since_ms=START_MS + 3_000 * MINUTE, funding=True)
    fetch(tmp_path, exchange, until_ms=START_MS + 3_500 * MINUTE, funding=True)
    assert_same(read_candles(tmp_path / "BTCUSDT-1m.parquet"), served_candles(served))
    rates = read_funding(tmp_path / "BTCUSDT-funding.parquet")
    assert rates.time_ms[0] == START_MS
    assert set(np.diff(rates.time_ms)) == {8 * 3_600_000}


def test_a_hole_in_the_stored_file_is_filled(tmp_path: Path, served: Path, exchange: EmulatorThread) -> None:
    fetch(tmp_path, exchange)
    path = tmp_path / "BTCUSDT-1m.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table.slice(0, 1_000), table.slice(1_500)]), path)
    fetch(tmp_path, exchange)
    assert_same(read_candles(path), served_candles(served))


@pytest.mark.parametrize("instant", [0.0, 1.2])
def test_killed_and_run_again_it_goes_on_where_the_file_ends(tmp_path: Path, served: Path, instant: float) -> None:
    slow = FaultRule("delay", path=KLINES, count=None, delay_ms=500)
    with start(served, faults=(slow,), **NO_LIMITS) as exchange:
        command = [sys.executable, "-m", "smm_bt", "download", "BTCUSDT", "--timeframe", "1m"]
        command += ["--since", "2024-01-01", "--venue", exchange.url]
        path = tmp_path / "data/BTCUSDT-1m.parquet"
        process = subprocess.Popen(command, cwd=tmp_path, env=child_environment(), stderr=subprocess.DEVNULL)
        _wait_for(path.exists)
        time.sleep(instant)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        kept = int(read_candles(path).open_ms[-1])  # whole, whatever the instant
        exchange.clear_faults()
        exchange.requests(clear=True)
        fetch(tmp_path / "data", exchange)
        starts = [int(row["parameters"]["startTime"]) for row in asked(exchange)]
        pages = [int(row["parameters"]["startTime"]) for row in asked(exchange) if row["parameters"]["limit"] == "1000"]
        assert kept + MINUTE in starts or kept == served_candles(served).open_ms[-1]
        assert min(pages, default=kept + MINUTE) == kept + MINUTE
    assert_same(read_candles(path), served_candles(served))
    assert [each.name for each in (tmp_path / "data").iterdir() if each.name.endswith(".part")] == []


def _wait_for(condition: Any, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


def test_ctrl_c_keeps_what_has_come_and_says_so(tmp_path: Path, served: Path) -> None:
    slow = FaultRule("delay", path=KLINES, count=None, delay_ms=300)
    with start(served, faults=(slow,), **NO_LIMITS) as exchange:
        command = [sys.executable, "-m", "smm_bt", "download", "BTCUSDT", "--timeframe", "1m"]
        command += ["--since", "2024-01-01", "--venue", exchange.url]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=child_environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        _wait_for(lambda: len(asked(exchange)) >= 3)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "What had come until then is saved" in error
    assert len(read_candles(tmp_path / "data/BTCUSDT-1m.parquet")) >= 2_000


def test_a_killed_downloads_leavings_are_cleared_and_others_are_not(tmp_path: Path, exchange: EmulatorThread) -> None:
    left, other = tmp_path / ".BTCUSDT-1m.parquet.4711.part", tmp_path / ".mine.part"
    left.write_bytes(b"half")
    other.write_bytes(b"mine")
    fetch(tmp_path, exchange)
    assert not left.exists()
    assert other.exists()


def test_two_downloads_do_not_write_to_one_folder(tmp_path: Path, exchange: EmulatorThread) -> None:
    with folder_for_downloads(tmp_path), pytest.raises(UsageError, match="Another download is writing"):
        fetch(tmp_path, exchange)


# ---- files that cannot be continued


def test_a_candle_that_was_stored_before_it_closed_is_replaced(
    tmp_path: Path, served: Path, exchange: EmulatorThread
) -> None:
    wanted = served_candles(served)
    unclosed = replace(wanted, close=np.append(wanted.close[:-1], wanted.open[-1]))
    write_candles(unclosed, tmp_path / "BTCUSDT-1m.parquet")
    assert "was not final when it was stored" in fetch(tmp_path, exchange, since_ms=START_MS - MINUTE)
    assert_same(read_candles(tmp_path / "BTCUSDT-1m.parquet"), wanted)


def test_a_file_of_another_market_is_not_continued(tmp_path: Path, exchange: EmulatorThread) -> None:
    path = tmp_path / "BTCUSDT-1m.parquet"
    write_candles(made_candles("ETHUSDT", "1m", 500), path)
    before = path.read_bytes()
    with pytest.raises(MarketDataError, match=r"does not continue.*Move it away"):
        fetch(tmp_path, exchange)
    assert path.read_bytes() == before


def test_made_candles_and_the_venues_are_never_mixed(tmp_path: Path, exchange: EmulatorThread) -> None:
    rows = Rows(np.array([START_MS]), np.ones((1, 5)))
    path = tmp_path / "BTCUSDT-1m.parquet"
    write_rows(path, rows, NAMES[1:], "https://fapi.binance.com")
    with pytest.raises(MarketDataError, match=r"holds data of https://fapi.binance.com.*the embedded exchange"):
        fetch(tmp_path, exchange)


@pytest.mark.parametrize("content", [b"", b"PAR1 nothing", b"timestamp,open\n1,2\n"])
def test_a_damaged_file_is_left_alone_and_named(tmp_path: Path, exchange: EmulatorThread, content: bytes) -> None:
    path = tmp_path / "BTCUSDT-1m.parquet"
    path.write_bytes(content)
    with pytest.raises(MarketDataError, match=r"cannot be continued: .*Move it away"):
        fetch(tmp_path, exchange)
    assert path.read_bytes() == content


# ---- a venue that misbehaves


@pytest.mark.parametrize(
    "rule",
    [
        FaultRule("http", path=KLINES, skip=1, status=429, retry_after=1),
        FaultRule("error", path=KLINES, skip=1, code=-1003, status=429, retry_after=1),
        FaultRule("html", path=KLINES, skip=2, count=2),
        FaultRule("reset", path=KLINES, skip=1, count=3),
        FaultRule("malformed", path=KLINES, skip=1, count=2),
        FaultRule("http", path=KLINES, skip=3, status=503, count=3),
        FaultRule("duplicate_candles", path=KLINES, count=3),
        FaultRule("shuffled_candles", path=KLINES, count=3),
        FaultRule("late_candles", path=KLINES, candles=1, skip=4, count=1),
        FaultRule("late_candles", path=KLINES, candles=40, count=2),
        FaultRule("html", path="/fapi/v1/time", count=1),
    ],
    ids=lambda rule: f"{rule.kind}-{rule.status or rule.candles}-{rule.path[-6:]}-{rule.count}",
)
def test_faults_on_the_way_leave_no_trace_in_the_file(
    tmp_path: Path, served: Path, exchange: EmulatorThread, rule: FaultRule
) -> None:
    exchange.add_fault(rule)
    fetch(tmp_path, exchange)
    assert_same(read_candles(tmp_path / "BTCUSDT-1m.parquet"), served_candles(served))


def test_a_venue_that_falls_silent_ends_it_with_what_had_come_saved(
    tmp_path: Path, served: Path, exchange: EmulatorThread
) -> None:
    exchange.add_fault(FaultRule("reset", path=KLINES, skip=2, count=None))
    with pytest.raises(VenueError, match=r"no usable answer.*What had come until then is saved"):
        fetch(tmp_path, exchange)
    kept = read_candles(tmp_path / "BTCUSDT-1m.parquet")
    assert_same(kept, served_candles(served, len(kept)))
    assert len(kept) == 2_000
    exchange.clear_faults()
    fetch(tmp_path, exchange)
    assert_same(read_candles(tmp_path / "BTCUSDT-1m.parquet"), served_candles(served))


def test_the_venues_limits_are_kept_so_that_it_never_says_too_many(tmp_path: Path, served: Path) -> None:
    with start(served, weight_limit_1m=2_400) as exchange:
        fetch(tmp_path, exchange, mark=True, funding=True)
        rows = exchange.requests()
    assert {row["status"] for row in rows} == {200}
    assert sum(row["weight"] for row in rows) < 100


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (451, r"does not serve the country.*--market embedded"),
        (403, r"refuses this machine \(HTTP 403\).*--market embedded"),
        (418, r"refuses to answer"),
    ],
)
def test_a_venue_that_will_not_serve_us_is_said_so(
    tmp_path: Path, exchange: EmulatorThread, status: int, words: str
) -> None:
    exchange.add_fault(FaultRule("http", path="/fapi/v1/time", status=status, count=None))
    with pytest.raises(VenueError, match=words):
        fetch(tmp_path, exchange)
    assert not list(tmp_path.glob("*.parquet"))


def test_a_login_page_in_between_is_recognised(tmp_path: Path, exchange: EmulatorThread) -> None:
    exchange.add_fault(FaultRule("html", path="/fapi/v1/time", count=None))
    with pytest.raises(VenueError, match="a login page or a proxy may stand in between"):
        fetch(tmp_path, exchange)


def test_nobody_listening_is_a_sentence_and_exit_1(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        done = smm_bt(
            *(
                "download",
                "BTCUSDT",
                "--timeframe",
                "1m",
                "--since",
                "2024-01-01",
                "--venue",
                f"http://127.0.0.1:{port}",
            ),
            cwd=tmp_path,
        )
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
    assert "--market embedded" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_name_that_is_not_found_is_called_offline_or_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_found(*_: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", not_found)
    fault = VenueFault("fapiPublicGetTime", Failure(Kind.SILENCE, "no answer (NetworkError)"))
    said = why_unreachable(fault, "https://fapi.binance.com")
    assert "its name is not found, so this machine is offline or its DNS fails" in said


# ---- wrong usage


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"symbols": ("BTCUSTD",)}, "has no market BTCUSTD; did you mean BTCUSDT"),
        ({"symbols": ("NOTHINGLIKEIT",)}, "write it as the venue does"),
        ({"since_ms": None}, "say where to begin"),
        ({"timeframe": None}, "Name the candles' timeframe"),
        ({"symbols": ()}, "There is nothing to download"),
        ({"brackets": True}, "TRADING_MODE=TESTNET"),
        ({"since_ms": START_MS + 90 * 86_400_000}, "no closed 1m candle"),
        ({"venue": "https://fapi.binance.com"}, "only practice venues are reachable"),
        ({"venue": "http://10.0.0.1"}, "only practice venues are reachable"),
    ],
)
def test_what_cannot_be_downloaded_is_refused(
    tmp_path: Path, exchange: EmulatorThread, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        fetch(tmp_path, exchange, **changes)
    assert not list(tmp_path.glob("*.parquet"))


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path, exchange: EmulatorThread) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(OutputError, match="Cannot write"):
        fetch(tmp_path / "data", exchange)


def test_a_second_file_of_the_same_candles_is_pointed_out(tmp_path: Path, exchange: EmulatorThread) -> None:
    (tmp_path / "BTCUSDT-1m_old.csv").write_text("timestamp\n")
    assert "Beside BTCUSDT-1m.parquet there is BTCUSDT-1m_old.csv" in fetch(tmp_path, exchange)


def test_candles_without_a_mark_candle_are_pointed_out(tmp_path: Path, served: Path) -> None:
    lines = (served / "BTCUSDT-mark-1m.csv").read_text().splitlines()
    (tmp_path / "BTCUSDT-mark-1m.csv").write_text("\n".join([lines[0], *lines[51:]]) + "\n")
    with start(served, mark=(tmp_path / "BTCUSDT-mark-1m.csv",), **NO_LIMITS) as exchange:
        said = fetch(tmp_path / "data", exchange, mark=True)
    assert "50 candles of BTCUSDT have no mark candle" in said


# ---- the arithmetic of what is missing


@given(st.sets(st.integers(0, 60)), st.integers(0, 60), st.integers(0, 60))
def test_rows_and_missing_spans_together_cover_what_is_wanted_once(there: set[int], begin: int, end: int) -> None:
    times = np.array(sorted(there), dtype=np.int64) * MINUTE
    wanted = Span(begin * MINUTE, end * MINUTE)
    spans = missing_spans(times, wanted, MINUTE)
    lacking = [at for span in spans for at in range(span.begin_ms, span.end_ms, MINUTE)]
    kept = [at * MINUTE for at in there if begin <= at < end]
    assert sorted(lacking + kept) == list(range(begin * MINUTE, end * MINUTE, MINUTE))


@given(st.lists(st.integers(0, 30), min_size=1), st.lists(st.integers(0, 30)))
def test_joined_rows_are_in_order_without_repeats_and_the_later_word_counts(old: list[int], new: list[int]) -> None:
    stored = Rows(np.array(sorted(set(old)), dtype=np.int64), np.zeros((len(set(old)), 1)))
    fresh = Rows(np.array(sorted(set(new)), dtype=np.int64), np.ones((len(set(new)), 1)))
    both = stored.joined([fresh])
    assert both.time_ms.tolist() == sorted({*old, *new})
    assert both.values[:, 0].tolist() == [float(at in new) for at in both.time_ms.tolist()]


def test_rows_survive_the_file(tmp_path: Path) -> None:
    rows = Rows(np.array([START_MS, START_MS + MINUTE]), np.array([[0.1], [1e-300]]))
    write_rows(tmp_path / "a.parquet", rows, ["funding_rate"], "here")
    back = read_rows(tmp_path / "a.parquet", ["funding_rate"], "here")
    np.testing.assert_array_equal(back.values, rows.values)
    np.testing.assert_array_equal(back.time_ms, rows.time_ms)
    assert holes_in(back.time_ms, MINUTE) == []
