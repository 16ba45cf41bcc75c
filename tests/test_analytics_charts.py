"""chart.html: everything in one file of bounded size, nothing lost in packing, and drawn by a real browser."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_analytics_report import EMPTY, INFO, OPEN

from feeds.candles import Candles
from smm_bt.analytics.chart_data import drawdowns, packed, packed_times, window_spans
from smm_bt.analytics.charts import write_chart
from smm_bt.analytics.equity import equity_curve
from smm_bt.analytics.report import build_report
from smm_bt.model import Trade

MINUTE = 60_000
START = INFO.first_candle_ms
CHROMIUM = Path("/usr/bin/chromium")


def made_candles(count, symbol="BTCUSDT", seed=7):
    rng = np.random.default_rng(seed)
    close = np.round(50_000 * np.exp(np.cumsum(rng.normal(0, 4e-4, count))), 1)
    open_ = np.concatenate((close[:1], close[:-1]))
    high = np.round(np.maximum(open_, close) + rng.integers(0, 300, count) / 10, 1)
    low = np.round(np.minimum(open_, close) - rng.integers(0, 300, count) / 10, 1)
    times = START + np.arange(count, dtype=np.int64) * MINUTE
    return Candles(symbol, "1m", times, open_, high, low, close, np.ones(count))


def made_trades(candles, count, length):
    starts = np.linspace(0, candles.open_ms.size - length - 1, count).astype(int)
    return [
        Trade(
            candles.symbol,
            "long" if number % 2 else "short",
            int(candles.open_ms[at]),
            float(candles.open[at]),
            0.1,
            int(candles.open_ms[at + length]) + (MINUTE - 1 if number % 5 == 0 else 0),
            float(candles.open[at + length]),
            float(number % 7 - 3),
            0.5,
            0.0,
            250.0,
            "liquidation" if number % 5 == 0 else "profit_target",
            f"e{number}",
            f"x{number}",
        )
        for number, at in enumerate(starts)
    ]


def page(tmp_path, all_candles, trades=(), **record):
    ran = EMPTY._replace(trades=list(trades), **record)
    closes = {candles.symbol: (candles.open_ms, candles.close) for candles in all_candles}
    curve = equity_curve(None, closes, [], 1000.0, MINUTE)
    info = replace(INFO, timeframe="1m", timeframe_ms=MINUTE, symbols=tuple(closes))
    write_chart(tmp_path / "chart.html", all_candles, ran, curve, build_report(ran, curve, info))
    return (tmp_path / "chart.html").read_text(encoding="utf-8")


def data_of(text):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text)[1])


def unpacked(part):
    """Read packed numbers the way the page's script does."""
    if "count" in part:
        return part["start"] + part["step"] * np.arange(part["count"])
    if "f" in part:
        return np.frombuffer(base64.b64decode(part["f"]), "<f8")
    if "u" in part:
        return (part["from"] + np.frombuffer(base64.b64decode(part["u"]), "<u2").astype(float)) / part["by"]
    return np.frombuffer(base64.b64decode(part["i"]), "<i4") / part["by"]


@given(st.lists(st.one_of(st.floats(1e-8, 1e6), st.integers(1, 10**9).map(lambda n: n / 10_000)), max_size=20))
def test_packing_loses_nothing(values):
    assert unpacked(packed(np.array(values, float))).tolist() == values


@pytest.mark.parametrize(("values", "form"), [([1.5, 2.0], "u"), ([0.1, 90_000.5], "i"), ([1 / 3, 2.0], "f")])
def test_prices_take_two_four_or_eight_bytes_as_they_need(values, form):
    assert form in packed(np.array(values))


@given(st.lists(st.integers(0, 2**41), unique=True, max_size=9).map(sorted))
def test_times_survive_packing(times):
    assert unpacked(packed_times(np.array(times, dtype=np.int64))).tolist() == times


def test_a_short_run_is_shown_candle_by_candle(tmp_path):
    candles = made_candles(400)
    (symbol,) = data_of(page(tmp_path, [candles], made_trades(candles, 4, 30)))["symbols"]
    assert symbol["perBar"] == 1
    assert symbol["windows"] == []
    for key, column in (("t", candles.open_ms), ("o", candles.open), ("h", candles.high), ("l", candles.low)):
        assert unpacked(symbol["overview"][key]).tolist() == column.tolist()


def test_an_overview_bar_has_the_first_open_the_extremes_and_the_last_close_of_its_candles(tmp_path):
    candles = made_candles(10_000)
    (symbol,) = data_of(page(tmp_path, [candles]))["symbols"]
    assert symbol["perBar"] == 4
    bars = {key: unpacked(symbol["overview"][key]) for key in "tohlc"}
    assert bars["t"].size == 2500
    for bar in (0, 1234, 2499):
        own = slice(4 * bar, 4 * bar + 4)
        assert bars["t"][bar] == candles.open_ms[own][0]
        assert bars["o"][bar] == candles.open[own][0]
        assert bars["h"][bar] == candles.high[own].max()
        assert bars["l"][bar] == candles.low[own].min()
        assert bars["c"][bar] == candles.close[own][-1]


def test_windows_hold_every_candle_around_their_trades(tmp_path):
    candles = made_candles(20_000)
    trades = made_trades(candles, 10, 50)
    (symbol,) = data_of(page(tmp_path, [candles], trades))["symbols"]
    assert symbol["inWindows"] == symbol["allTrades"] == 10
    covered = set().union(*(unpacked(window["t"]).tolist() for window in symbol["windows"]))
    for trade in trades:
        first, last = np.searchsorted(candles.open_ms, (trade.entry_ms, trade.exit_ms), side="right") - 1
        assert set(candles.open_ms[first : last + 1].tolist()) <= covered


def test_markers_keep_their_exact_times_and_prices(tmp_path):
    candles = made_candles(20_000)
    trades = made_trades(candles, 10, 50)
    marks = data_of(page(tmp_path, [candles], trades))["symbols"][0]["trades"]
    assert marks["t0"] == [trade.entry_ms for trade in trades]
    assert marks["t1"] == [trade.exit_ms for trade in trades]
    assert marks["p1"] == [trade.exit_price for trade in trades]


def test_when_room_is_short_liquidations_come_first(tmp_path):
    candles = made_candles(50_000)
    trades = made_trades(candles, 100, 50)
    by_weight = sorted(trades, key=lambda trade: trade.close_reason != "liquidation")
    spans = list(window_spans(candles.open_ms, by_weight, 20 * 150 + 10))
    shown = np.zeros(50_000, bool)
    for span in spans:
        shown[span.begin : span.end] = True
    held = [trade.close_reason for trade in trades if shown[np.searchsorted(candles.open_ms, trade.entry_ms)]]
    assert held == ["liquidation"] * 20
    assert shown.sum() <= 20 * 150 + 10


def test_a_year_of_minutes_with_thousands_of_trades_stays_below_eight_megabytes(tmp_path):
    candles = made_candles(525_600)
    text = page(tmp_path, [candles], made_trades(candles, 20_000, 20))
    assert len(text.encode()) < 8_000_000
    (symbol,) = data_of(text)["symbols"]
    assert symbol["allTrades"] == 20_000
    assert len(symbol["trades"]["t0"]) == 4_000
    assert unpacked(symbol["overview"]["t"]).size <= 3_000


def test_the_worst_drawdown_survives_the_coarse_view(tmp_path):
    assert drawdowns(np.array([900.0, 1200.0, 600.0]), 1000.0).tolist() == pytest.approx([-0.1, 0.0, -0.5])
    assert drawdowns(np.empty(0), 1000.0).size == 0


def test_the_page_needs_nothing_from_outside_and_its_data_cannot_end_the_script(tmp_path):
    text = page(tmp_path, [made_candles(50, symbol="</script><b>")])
    head = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:)[^"']+""", head)
    assert data_of(text)["symbols"][0]["name"] == "</script><b>"


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM.exists():
        pytest.skip("Chromium is not installed at /usr/bin/chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


def opened(browser, tmp_path):
    view = browser.new_page()
    view.faults = []
    view.on("pageerror", lambda error: view.faults.append(str(error)))
    view.on("console", lambda message: message.type == "error" and view.faults.append(message.text))
    view.on("request", lambda request: request.url.startswith("file:") or view.faults.append(request.url))
    view.goto((tmp_path / "chart.html").as_uri())
    return view


@pytest.mark.browser
def test_a_browser_draws_overview_and_window_without_a_request_or_an_error(browser, tmp_path):
    candles = made_candles(20_000)
    page(tmp_path, [candles], made_trades(candles, 10, 50), open_positions=[OPEN])
    view = opened(browser, tmp_path)
    view.wait_for_selector("#chart .main-svg")
    assert "each bar joins 7 candles of 1m" in view.inner_text("#said")
    view.click("#after")
    assert "Every candle of 1m is shown" in view.inner_text("#said")
    names = view.evaluate("document.getElementById('chart').data.map(trace => trace.name)")
    assert any(name and name.startswith("Liquidation (1)") for name in names)
    text = view.evaluate("document.getElementById('chart').data.find(t => /Liquid/.test(t.name)).text[0]")
    assert "Short closed: liquidation" in text
    assert "net -3.5 USDT" in text
    assert view.faults == []
    view.close()


@pytest.mark.browser
def test_a_browser_switches_between_symbols(browser, tmp_path):
    page(tmp_path, [made_candles(60), made_candles(40, "ETHUSDT")])
    view = opened(browser, tmp_path)
    view.wait_for_selector("#chart .main-svg")
    view.select_option("#symbol", label="ETHUSDT")
    assert view.inner_text("#said").startswith("ETHUSDT")
    assert "No trades were closed" in view.inner_text("#said")
    assert view.faults == []
    view.close()


@pytest.mark.browser
def test_a_browser_shows_a_sentence_where_there_are_no_candles(browser, tmp_path):
    page(tmp_path, [made_candles(0)])
    view = opened(browser, tmp_path)
    assert view.inner_text("#said") == "BTCUSDT: no candles."
    assert view.faults == []
    view.close()
