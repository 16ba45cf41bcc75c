"""Files a live run plays: what a replay refuses is refused before anything is started; symbols by name or by option."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_kit import FIVE_MINUTES_MS, START_MS, files_of, run_live, run_replay, strategy_file, trades_of
from made_files import smm_bt

from feeds.candles import CandleError
from feeds.files import CandleFileMissing
from smm_bt.app.inputs import ReplayFiles, read_inputs
from smm_bt.app.live_market_source import MarketChoice, MarketShape, shape_of
from smm_bt.app.settings import Settings, load_settings
from smm_bt.errors import UsageError

COUNT = 40
Options = dict[str, Sequence[Path]]


def settings_of(folder: Path, **given: Any) -> Settings:
    return load_settings({"STRATEGY_FILE": strategy_file(folder), **given}, folder=folder, environment={})


def shape(folder: Path, candles: Sequence[Path], symbols: tuple[str, ...] = (), **options: Any) -> MarketShape:
    files = {name: options.pop(name) for name in ("mark", "funding") if name in options}
    choice = MarketChoice("embedded", candles=tuple(candles), symbols=symbols, **files)
    return shape_of(choice, settings_of(folder, **options))


def rates(path: Path, symbol: str = "BTCUSDT") -> Path:
    times = START_MS + FIVE_MINUTES_MS * np.arange(3, COUNT, 10)
    path.write_text("timestamp,funding_rate\n" + "".join(f"{time},0.001\n" for time in times.tolist()), "utf-8")
    return path


def mark(candles: Path, name: str, keep: slice = slice(None), drop: slice | None = None) -> Path:
    header, *rows = candles.read_text("utf-8").splitlines()
    if drop is not None:
        del rows[drop]
    path = candles.with_name(name)
    path.write_text("\n".join([header, *rows[keep]]) + "\n", "utf-8")
    return path


WRONG: dict[str, tuple[str, Callable[[Path], Options]]] = {
    "funding of another symbol": (
        "does not belong",
        lambda candles: {"funding": [rates(candles.with_name("ETHUSDT-funding.csv"))]},
    ),
    "mark candles of another symbol": (
        "does not belong",
        lambda candles: {"mark": [mark(candles, "ETHUSDT-mark-5m.csv")]},
    ),
    "half the mark candles": (
        "do not cover",
        lambda candles: {"mark": [mark(candles, "BTCUSDT-mark-5m.csv", keep=slice(COUNT // 2))]},
    ),
    "a hole in the mark candles": (
        "do not cover",
        lambda candles: {"mark": [mark(candles, "BTCUSDT-mark-5m.csv", drop=slice(5, 9))]},
    ),
    "no such mark file": ("no such file", lambda candles: {"mark": [candles.with_name("BTCUSDT-mark-5m.csv")]}),
    "no such funding file": ("no such file", lambda candles: {"funding": [candles.with_name("BTCUSDT-funding.csv")]}),
    "candles twice": ("named twice", lambda candles: {"candles": [candles, candles]}),
    "no such candle file": ("no such file", lambda candles: {"candles": [candles.with_name("SOLUSDT-5m.csv")]}),
    "a name that tells nothing": (
        "does not tell the symbol",
        lambda candles: {"candles": [Path(shutil.copy(candles, candles.parent / "my.csv"))]},
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_replay_refuses_is_refused_before_anything_is_started(case: str, tmp_path: Path) -> None:
    words, make = WRONG[case]
    (candles,) = files_of(tmp_path, count=COUNT)
    given = {"candles": [candles]} | make(candles)
    with pytest.raises((UsageError, CandleError), match=words):
        read_inputs(ReplayFiles(**given, cache=False), settings_of(tmp_path))
    with pytest.raises((UsageError, CandleFileMissing), match=words):  # exit code 2
        run_live(tmp_path / "live", strategy_file(tmp_path), given.pop("candles"), **given)
    assert not (tmp_path / "live").exists()


def test_the_only_files_of_the_only_symbol_may_be_called_anything(tmp_path: Path) -> None:
    candles, strategy = files_of(tmp_path, count=COUNT)[0], strategy_file(tmp_path)
    mine = Path(shutil.copy(candles, tmp_path / "my candles.csv"))
    files = {"mark": (mark(candles, "mark.csv"),), "funding": (rates(tmp_path / "funding.csv"),)}
    expected = run_replay(tmp_path / "replay", strategy, [candles], **files)
    told = {"SYMBOLS": "BTCUSDT", "TIMEFRAME": "5m"}
    run_live(tmp_path / "live", strategy, [mine], settings=told, max_candles=20, **files)
    run_live(tmp_path / "live", strategy, [mine], resume=True)  # the files are those the run was started with
    got = trades_of(tmp_path / "live")
    assert [(row["entry_order_id"], row["exit_time"]) for row in got] == [
        (row["entry_order_id"], row["exit_time"]) for row in expected
    ]
    funding = [[float(row["funding_usdt"]) for row in rows] for rows in (got, expected)]
    assert funding[0] == pytest.approx(funding[1], abs=1e-8)
    assert any(funding[0])


def test_symbols_named_beside_the_files_must_be_the_files_own(tmp_path: Path) -> None:
    candles = files_of(tmp_path, ("BTCUSDT", "ETHUSDT"), count=COUNT)
    assert shape(tmp_path, candles, ("ETHUSDT", "BTCUSDT")).symbols == ("BTCUSDT", "ETHUSDT")
    for named in (("ETHUSDT",), ("BTCUSDT", "ETHUSDT", "SOLUSDT")):
        with pytest.raises(UsageError, match=r"--symbols names .*ETHUSDT.*, and the candle files are of BTCUSDT"):
            shape(tmp_path, candles[:1], named)
    # SYMBOLS of a settings file is for other days
    assert shape(tmp_path, candles[:1], SYMBOLS="ETHUSDT").symbols == ("BTCUSDT",)


def test_a_timeframe_asked_for_is_held_against_the_candles(tmp_path: Path) -> None:
    candles = files_of(tmp_path, count=COUNT)
    assert shape(tmp_path, candles, TIMEFRAME="5m").timeframe == "5m"
    with pytest.raises(UsageError, match="5m apart, but the timeframe asked for is 1h"):
        shape(tmp_path, candles, TIMEFRAME="1h")


def test_the_command_takes_symbol_and_timeframe_for_a_file_that_does_not_tell(tmp_path: Path) -> None:
    candles, strategy = files_of(tmp_path, count=COUNT)[0], strategy_file(tmp_path)
    shutil.copy(candles, tmp_path / "my_candles.csv")
    market = ("live", "--market", "embedded", "--speed", "max", "--strategy", strategy, "--no-pages")
    named = ("--symbols", "BTCUSDT", "--timeframe", "5m")
    done = smm_bt(*market, "--candles", "my_candles.csv", *named, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert trades_of(tmp_path / "run") == run_replay(tmp_path / "replay", strategy, [candles])
    wrong = smm_bt(*market, "--candles", candles, "--symbols", "ETHUSDT", "--out", "wrong", cwd=tmp_path)
    assert (wrong.returncode, "candle files are of BTCUSDT" in wrong.stderr) == (2, True)
    assert not (tmp_path / "wrong").exists()
