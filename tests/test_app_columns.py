"""The strategy's columns through the cache: read only while the same code would compute the same ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from feeds.cache import CACHE_FOLDER, WORTH_KEEPING
from feeds.made import made_candles, write_candles
from feeds.stored import read_stored_candles
from smm_bt.app.build import build_replay
from smm_bt.app.columns import StrategyColumns, strategy_columns
from smm_bt.app.inputs import ReplayFiles
from smm_bt.app.settings import load_settings
from smm_bt.execution.market_history import market_history
from strategy.loader import locate_strategy

STRATEGY = """
from pathlib import Path
Path({mark!r}).write_text("executed")

def compute_smm(df, shift=0):
    df["buy_signal"] = df["close"].shift(1 + shift) < df["close"]
    df["sell_signal"] = ~df["buy_signal"]
"""

HELPED = """
import importlib
{at_import}

def compute_smm(df):
    {in_function}
    import numpy as np
    buy = np.arange(len(df)) % calc.PERIOD == 0
    return {{"buy_signal": buy, "sell_signal": np.roll(buy, 1)}}
"""


@pytest.fixture
def candles(tmp_path: Path) -> Path:
    path = tmp_path / "candles" / "BTCUSDT-1m.parquet"
    path.parent.mkdir()
    write_candles(made_candles("BTCUSDT", "1m", WORTH_KEEPING, seed=1), path)
    return path


@pytest.fixture
def fresh_imports() -> Iterator[None]:
    """The modules and the path of a new process, as far as the tests of this file change them."""
    before, path = set(sys.modules), list(sys.path)
    yield
    as_new_process(before, path)


def as_new_process(before: set[str], path: list[str]) -> None:
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("calc", "my_helpers", "my_library", "my_loaded"):
            del sys.modules[name]


def columns_of(file: Path, candles: Path, **parameters: object) -> StrategyColumns:
    histories = {"BTCUSDT": market_history(read_stored_candles(candles))}
    return strategy_columns(locate_strategy(file), histories, parameters, {"BTCUSDT": candles.parent})["BTCUSDT"]


def test_the_strategy_is_not_executed_when_its_columns_are_known(tmp_path: Path, candles: Path) -> None:
    mark, file = tmp_path / "mark", tmp_path / "mine.py"
    file.write_text(STRATEGY.format(mark=str(mark)))

    def columns(**parameters: int) -> tuple[bool, bool]:
        mark.unlink(missing_ok=True)
        found = columns_of(file, candles, **parameters)
        assert not found.has_profit_target
        return found.from_cache, mark.exists()

    assert columns() == (False, True)
    assert columns() == (True, False)
    assert columns(shift=3) == (False, True)
    file.write_text(STRATEGY.format(mark=str(mark)) + "\n# changed")
    assert columns() == (False, True)


WAYS = {
    "a folder without __init__.py": ("from my_helpers import calc", "", "my_helpers/calc.py"),
    "a module relative to another in such a folder": ("from my_helpers.first import calc", "", "my_helpers/calc.py"),
    "a library on the path": ("import my_library as calc", "", "lib/my_library.py"),
    "a library imported in the function": ("", "import my_library as calc", "lib/my_library.py"),
    "importlib": ("calc = importlib.import_module('my_' + 'loaded')", "", "my_loaded.py"),
    "importlib in the function": ("", "calc = importlib.import_module('my_' + 'loaded')", "my_loaded.py"),
    "a folder the file puts on the path": (
        "import sys, os; sys.path.insert(0, os.path.dirname(__file__) + '/own'); import my_library as calc",
        "",
        "own/my_library.py",
    ),
    "a file loaded by its path": (
        "import importlib.util as u, os, sys\n"
        "spec = u.spec_from_file_location('my_loaded', os.path.dirname(__file__) + '/deep/any.py')\n"
        "calc = sys.modules['my_loaded'] = u.module_from_spec(spec); spec.loader.exec_module(calc)",
        "",
        "deep/any.py",
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("fresh_imports")
def test_a_module_that_changed_makes_the_columns_be_computed_anew(
    tmp_path: Path, candles: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    at_import, in_function, name = WAYS[way]
    file, helper, library = tmp_path / "mine.py", tmp_path / name, tmp_path / "lib"
    for folder in (library, helper.parent):
        folder.mkdir(exist_ok=True)
    if "relative" in way:
        (helper.parent / "first.py").write_text("from . import calc\n")
    monkeypatch.syspath_prepend(library)
    file.write_text(HELPED.format(at_import=at_import, in_function=in_function or "pass"))
    process = set(sys.modules), list(sys.path)

    def first_rows(period: int | None) -> tuple[bool, int]:
        """Whether the columns came from the cache, and how many rows lie between signals."""
        as_new_process(*process)
        if period is not None:
            helper.write_text(f"PERIOD = {period}  # {'x' * period}\n")
        found = columns_of(file, candles)
        return found.from_cache, int(np.flatnonzero(found.lines["buy_signal"])[1])

    assert first_rows(40) == (False, 40)
    assert first_rows(None) == (True, 40)
    assert first_rows(20) == (False, 20)
    assert first_rows(None) == (True, 20)


@pytest.mark.usefixtures("fresh_imports")
def test_another_library_of_that_name_on_the_path_makes_the_columns_be_computed_anew(
    tmp_path: Path, candles: Path
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(HELPED.format(at_import="import my_library as calc", in_function="pass"))
    process = set(sys.modules), list(sys.path)
    for name, period in (("a", 40), ("b", 20)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "my_library.py").write_text(f"PERIOD = {period}\n")

    def buys_with(name: str) -> tuple[bool, int]:
        as_new_process(*process)
        sys.path.insert(0, str(tmp_path / name))
        found = columns_of(file, candles)
        return found.from_cache, int(np.flatnonzero(found.lines["buy_signal"])[1])

    assert [buys_with(name) for name in "aabb"] == [(False, 40), (True, 40), (False, 20), (True, 20)]


@pytest.mark.usefixtures("fresh_imports")
def test_columns_of_code_that_is_no_longer_in_its_file_are_not_kept(
    tmp_path: Path, candles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, file = tmp_path / "lib" / "my_library.py", tmp_path / "mine.py"
    library.parent.mkdir()
    library.write_text("PERIOD = 40\n")
    monkeypatch.syspath_prepend(library.parent)
    file.write_text(HELPED.format(at_import="import my_library as calc", in_function="pass"))
    process = set(sys.modules), list(sys.path)
    assert not columns_of(file, candles).from_cache
    library.write_text("PERIOD = 20\n")
    assert not columns_of(file, candles).from_cache  # this process still has the first version
    as_new_process(*process)
    found = columns_of(file, candles)
    assert (found.from_cache, np.flatnonzero(found.lines["buy_signal"])[1]) == (False, 20)


def test_a_file_edited_while_the_columns_are_computed_does_not_lend_them_its_name(
    tmp_path: Path, candles: Path
) -> None:
    helper, file = tmp_path / "calc.py", tmp_path / "mine.py"
    helper.write_text("PERIOD = 40\n")
    edit = f"from pathlib import Path; Path({str(helper)!r}).write_text('PERIOD = 20')"
    file.write_text(HELPED.format(at_import="import calc", in_function=edit))
    assert [columns_of(file, candles).from_cache for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize("change", ["another version", "installed again"])
def test_an_installation_makes_the_columns_be_computed_anew(
    tmp_path: Path, candles: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    file, packages = tmp_path / "mine.py", tmp_path / "site-packages"
    file.write_text(STRATEGY.format(mark=str(tmp_path / "mark")))
    (packages / "indicators-1.0.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(packages)
    assert [columns_of(file, candles).from_cache for _ in range(2)] == [False, True]
    if change == "another version":
        (packages / "indicators-1.0.dist-info").rename(packages / "indicators-1.1.dist-info")
    else:
        (packages / "indicators-1.0.dist-info" / "RECORD").write_text("indicators.py,,\n")
    assert [columns_of(file, candles).from_cache for _ in range(2)] == [False, True]


def test_eight_symbols_in_one_folder_are_read_from_the_cache_by_the_second_run(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(STRATEGY.format(mark=str(tmp_path / "mark")))
    symbols = [f"{coin}USDT" for coin in ("BTC", "ETH", "SOL", "XRP", "BNB", "DOGE", "ADA", "LTC")]
    paths = [tmp_path / f"{symbol}-5m.parquet" for symbol in symbols]
    for seed, (symbol, path) in enumerate(zip(symbols, paths, strict=True)):
        write_candles(made_candles(symbol, "5m", WORTH_KEEPING, seed=seed), path)
    settings = load_settings({"STRATEGY_FILE": str(file)}, folder=tmp_path, environment={})
    runs = [build_replay(ReplayFiles(candles=paths), settings) for _ in range(2)]
    assert [[columns.from_cache for columns in run.columns.values()] for run in runs] == [[False] * 8, [True] * 8]
    assert len(list((tmp_path / CACHE_FOLDER).iterdir())) == 16
