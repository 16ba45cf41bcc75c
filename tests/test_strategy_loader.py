"""The loader: which file runs, what its hash is, and what a file that cannot be loaded is answered with."""

from __future__ import annotations

import hashlib
import inspect
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from strategy import loader
from strategy.contract import SmmColumns, StrategyRefused, compute_columns
from strategy.loader import file_sha256, find_strategy, load_strategy, locate_strategy

ROOT = Path(__file__).resolve().parents[1]
PLAIN = "def compute_smm(df):\n    return {'buy_signal': [True] * len(df), 'sell_signal': [False] * len(df)}\n"


REAL_SLOT = loader.SLOT


@pytest.fixture(autouse=True)
def slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty slot of the test's own: a developer's file in the real one must not matter."""
    path = tmp_path / "slot" / "compute_smm.py"
    path.parent.mkdir()
    monkeypatch.setattr(loader, "SLOT", path)
    return path


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    assert sys.path == path
    for name in {name for name in set(sys.modules) - modules if name.startswith("smm_strategy_")}:
        del sys.modules[name]


def write(folder: Path, text: str | bytes, name: str = "mine.py") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(StrategyRefused) as caught:
        load_strategy(path)
    message = str(caught.value)
    assert "Traceback" not in message
    assert "\n" not in message
    return message


def module_of(loaded: loader.StrategyFile) -> dict[str, object]:
    return inspect.unwrap(loaded.compute).__globals__


def candles(n: int = 300) -> pd.DataFrame:
    close = 100 + np.sin(np.arange(n) / 9.0) * 5
    columns = {"open": close, "high": close + 0.5, "low": close - 0.5, "close": close, "volume": np.ones(n)}
    return pd.DataFrame(columns, index=pd.date_range("2024-03-01", periods=n, freq="15min", tz="UTC"))


def test_the_setting_comes_before_the_slot_and_the_slot_before_the_reference(tmp_path: Path, slot: Path) -> None:
    assert find_strategy(None) == (loader.REFERENCE, "reference")
    write(slot.parent, PLAIN, slot.name)
    assert find_strategy(None) == (slot, "slot")
    mine = write(tmp_path, PLAIN)
    assert find_strategy(mine) == (mine, "setting")


def test_the_real_slot_and_reference_lie_beside_the_loader() -> None:
    assert loader.REFERENCE == ROOT / "strategy" / "reference.py"
    assert REAL_SLOT == ROOT / "strategy" / "compute_smm.py"


def test_a_relative_setting_and_a_home_folder_are_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, PLAIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_strategy(Path("mine.py"))[0] == tmp_path / "mine.py"
    assert find_strategy(Path("~/mine.py"))[0] == tmp_path / "mine.py"


def test_a_loaded_file_tells_its_path_hash_origin_and_function(tmp_path: Path) -> None:
    loaded = load_strategy(write(tmp_path, PLAIN))
    assert loaded.path == tmp_path / "mine.py"
    assert loaded.sha256 == hashlib.sha256(PLAIN.encode()).hexdigest() == file_sha256(loaded.path)
    assert (loaded.is_reference, loaded.origin) == (False, "setting")
    assert compute_columns(loaded.compute, candles(4), {}).buy_signal.tolist() == [True] * 4


def test_the_reference_is_loaded_without_a_setting_and_says_what_it_is() -> None:
    loaded = load_strategy(None)
    assert (loaded.is_reference, loaded.origin) == (True, "reference")
    assert compute_columns(loaded.compute, candles(), {"chop_length": 10}).has_profit_target


def test_a_copy_of_the_reference_in_the_slot_is_still_the_reference(slot: Path) -> None:
    shutil.copy(loader.REFERENCE, slot)
    located = locate_strategy(None)
    assert (located.is_reference, located.origin) == (True, "slot")


def test_locating_and_hashing_run_none_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "raise RuntimeError('it ran')\n")
    located = locate_strategy(path)
    assert located.sha256 == file_sha256(path)
    assert located.columns_key == located.sha256
    with pytest.raises(StrategyRefused, match="RuntimeError: it ran"):
        located.load()


def test_locating_imports_neither_pandas_nor_talib_nor_backtrader() -> None:
    code = (
        "import sys, strategy.contract; from strategy.loader import locate_strategy; locate_strategy(None);"
        "sys.exit(', '.join({'pandas', 'talib', 'backtrader'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file_changed_between_hashing_and_loading_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, PLAIN)
    located = locate_strategy(path)
    path.write_text(PLAIN + "# edited\n")
    with pytest.raises(StrategyRefused, match=r"has just been changed\. Save it and start again"):
        located.load()


def test_two_files_of_one_name_do_not_meet(tmp_path: Path) -> None:
    files = [write(tmp_path / name, PLAIN + f"mark = {name!r}\n") for name in "ab"]
    first, second = (module_of(load_strategy(path)) for path in files)
    assert first["mark"] == "a"
    assert second["mark"] == "b"
    assert first["__name__"] != second["__name__"]


def test_the_module_finds_itself_as_dataclasses_and_pickle_need_it_to(tmp_path: Path) -> None:
    head = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    head += "@dataclass\nclass Level:\n    at: float\n"
    loaded = load_strategy(write(tmp_path, head + PLAIN))
    assert module_of(loaded)["Level"](2.0).at == 2.0
    assert module_of(loaded)["__file__"] == str(loaded.path)


def test_a_main_block_does_not_run(tmp_path: Path) -> None:
    load_strategy(write(tmp_path, PLAIN + "if __name__ == '__main__':\n    raise SystemExit(1)\n"))


@pytest.mark.parametrize("head", ["\ufeff", "# -*- coding: latin-1 -*-\n# \xe9\n"])
def test_a_byte_order_mark_and_a_declared_encoding_are_python_and_accepted(tmp_path: Path, head: str) -> None:
    load_strategy(write(tmp_path, (head + PLAIN).encode("latin-1" if "latin" in head else "utf-8")))


def test_modules_beside_the_file_can_be_imported_at_the_top_and_inside_the_function(tmp_path: Path) -> None:
    write(tmp_path, "HIGH = 7.0\n", "my_levels.py")
    write(tmp_path, "LOW = 3.0\n", "my_other_levels.py")
    body = (
        "import my_levels\ndef compute_smm(df):\n    from my_other_levels import LOW\n"
        "    n = len(df)\n    no = [False] * n\n"
        "    return {'buy_signal': no, 'sell_signal': no, 'upper': [my_levels.HIGH] * n, 'lower': [LOW] * n}\n"
    )
    columns = compute_columns(load_strategy(write(tmp_path, body)).compute, candles(2), {})
    assert columns.extras["upper"].tolist() == [7.0, 7.0]
    assert columns.extras["lower"].tolist() == [3.0, 3.0]
    sys.modules.pop("my_other_levels")


def test_modules_of_one_name_beside_two_files_do_not_meet(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name, f"MARK = {name!r}\n", "my_marks.py")
    marks = [
        module_of(load_strategy(write(tmp_path / name, "from my_marks import MARK\n" + PLAIN)))["MARK"] for name in "ab"
    ]
    assert marks == ["a", "b"]
    assert "my_marks" not in sys.modules


def test_folders_of_one_name_without_init_beside_two_files_do_not_meet(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        write(tmp_path / name / "my_folder", f"MARK = {name!r}\n", "marks.py")
    body = "from my_folder.marks import MARK\n" + PLAIN
    marks = [module_of(load_strategy(write(tmp_path / name, body)))["MARK"] for name in "ab"]
    assert marks == ["a", "b"]
    assert not {"my_folder", "my_folder.marks"} & set(sys.modules)


def test_a_folder_that_is_on_the_path_already_stays_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path, "", "my_own.py")
    load_strategy(write(tmp_path, "import my_own\n" + PLAIN))
    assert str(tmp_path) in sys.path
    assert sys.modules.pop("my_own")


def test_a_file_that_imports_the_project_gets_the_project_and_no_second_copy(tmp_path: Path) -> None:
    body = "import feeds.lines\nfrom strategy.contract import SmmColumns\n"
    loaded = load_strategy(write(tmp_path, body + PLAIN))
    assert module_of(loaded)["SmmColumns"] is SmmColumns


def test_a_module_beside_the_file_never_hides_an_installed_one(tmp_path: Path) -> None:
    write(tmp_path, "raise RuntimeError\n", "statistics.py")
    load_strategy(write(tmp_path, "import statistics\nstatistics.mean([1, 2])\n" + PLAIN))


def test_a_change_beside_the_file_changes_the_key_of_its_columns_and_not_its_hash(tmp_path: Path) -> None:
    path = write(tmp_path, "def compute_smm(df):\n    import my_steps.first\n")
    write(tmp_path / "my_steps", "", "__init__.py")
    write(tmp_path / "my_steps", "from my_deeper import STEP\n", "first.py")
    deeper = write(tmp_path, "STEP = 1\n", "my_deeper.py")
    write(tmp_path, "not imported, not even Python\n", "my_notes.py")
    before = locate_strategy(path)
    assert before.columns_key != before.sha256
    deeper.write_text("STEP = 2\n")
    after = locate_strategy(path)
    assert after.sha256 == before.sha256
    assert after.columns_key != before.columns_key
    write(tmp_path, "changed and still not imported\n", "my_notes.py")
    assert locate_strategy(path).columns_key == after.columns_key


def test_a_change_in_a_folder_without_init_changes_the_key_where_the_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "from my_folder.first import step\n" + PLAIN)
    write(tmp_path / "my_folder", "from .deeper import second\nfrom . import third\n", "first.py")
    second = write(tmp_path / "my_folder" / "deeper", "STEP = 1\n", "second.py")
    third = write(tmp_path / "my_folder", "STEP = 1\n", "third.py")
    unnamed = write(tmp_path / "my_folder", "STEP = 1\n", "unnamed.py")
    keys = [locate_strategy(path).columns_key]
    for changed in (unnamed, second, third):
        changed.write_text("STEP = 2\n")
        keys.append(locate_strategy(path).columns_key)
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_files_beside_one_another_may_import_each_other_in_a_circle(tmp_path: Path) -> None:
    path = write(tmp_path, "import my_circle\n" + PLAIN)
    write(tmp_path, "import mine\n", "my_circle.py")
    assert locate_strategy(path).columns_key != locate_strategy(path).sha256


def test_an_unreadable_module_beside_the_file_is_refused_by_name(tmp_path: Path) -> None:
    path = write(tmp_path, "import my_package\n" + PLAIN)
    write(tmp_path / "my_package", "", "__init__.py")
    (tmp_path / "my_package" / "folder.py").mkdir()
    with pytest.raises(StrategyRefused, match=r"folder\.py must be readable: Is a directory"):
        locate_strategy(path)


def test_a_missing_file_is_refused_and_nothing_else_runs_in_its_stead(tmp_path: Path, slot: Path) -> None:
    write(slot.parent, PLAIN, slot.name)
    message = refusal(tmp_path / "absent.py")
    assert f"for {tmp_path / 'absent.py'} there is no such file" in message
    assert "Correct STRATEGY_FILE" in message


def test_a_slot_that_is_a_broken_link_is_refused_and_not_passed_over(slot: Path) -> None:
    slot.symlink_to(slot.with_name("gone.py"))
    with pytest.raises(StrategyRefused, match="there is no such file"):
        find_strategy(None)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "it is a folder. Name the Python file inside it" in refusal(tmp_path)


def test_a_pipe_is_refused_rather_than_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    assert "it is not an ordinary file" in refusal(tmp_path / "pipe.py")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StrategyRefused, match=r"must be readable: .*\. Check the path and its permissions"):
        file_sha256(tmp_path)


@pytest.mark.parametrize(
    ("source", "found", "remedy"),
    [
        (b"x = 1\ndef compute_smm(df:\n    pass\n", "line 2 does not parse: ", "Correct that line"),
        (b"def compute_smm(df):\nreturn df\n", "line 2 does not parse: expected an indented block", "Correct"),
        (b"x = 1\ny = '\xe9'\n", "line 2 is not UTF-8 text (byte 0xe9)", "Save it as UTF-8"),
        ("x = 1\n".encode("utf-16"), "it holds zero bytes", "Save it as plain UTF-8 text"),
        (b"# coding: nonsense\n", "does not parse: unknown encoding", "Correct"),
    ],
)
def test_a_file_that_is_not_python_source_is_refused(tmp_path: Path, source: bytes, found: str, remedy: str) -> None:
    message = refusal(write(tmp_path, source))
    assert f"Strategy file {tmp_path / 'mine.py'} must be Python source" in message
    assert found in message
    assert remedy in message


def test_an_exception_while_importing_is_refused_with_its_line(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, "x = 1\ny = x / 0\n"))
    assert "Importing mine.py must not raise, and it raised ZeroDivisionError: division by zero" in message
    assert "(mine.py, line 2)" in message
    assert "Correct the file" in message


def test_a_missing_package_is_named_with_its_line(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, "import numpy\nimport no_such_indicators\n"))
    assert "Importing mine.py needs the package 'no_such_indicators'" in message
    assert "(mine.py, line 2)" in message
    assert "Install the package" in message


def test_a_relative_import_is_refused_in_pythons_words(tmp_path: Path) -> None:
    assert "ImportError: attempted relative import" in refusal(write(tmp_path, "from . import levels\n"))


def test_a_file_that_ends_the_program_is_refused(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, "import sys\nsys.exit('bye')\n"))
    assert "Importing mine.py tried to end the program with SystemExit (mine.py, line 2)" in message
    assert "__main__" in message


def test_an_interrupt_while_importing_passes_through(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        load_strategy(write(tmp_path, "raise KeyboardInterrupt\n"))


def test_a_file_without_the_function_is_refused_with_what_it_defines(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, "def compute_SMM(df): ...\ndef plot(df): ...\n"))
    assert "must define the function compute_smm(df, ...); it defines compute_SMM, plot." in message
    assert "Did you mean 'compute_SMM'?" in message
    assert "Define it at the top level" in message


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    assert "it defines no function" in refusal(write(tmp_path, ""))


def test_something_else_of_the_functions_name_is_refused(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, "compute_smm = {}\n"))
    assert "compute_smm in strategy file" in message
    assert "must be a function; it is of type dict" in message
    assert "Define it as 'def compute_smm(df, ...)'" in message


def test_a_refused_file_leaves_no_module_behind(tmp_path: Path) -> None:
    before = set(sys.modules)
    refusal(write(tmp_path, "1 / 0\n"))
    assert set(sys.modules) == before


def test_the_parameters_of_the_users_function_are_still_seen_through_the_loader(tmp_path: Path) -> None:
    loaded = load_strategy(write(tmp_path, PLAIN.replace("(df)", "(df, chop_length=14)")))
    with pytest.raises(StrategyRefused, match="Did you mean 'chop_length'"):
        compute_columns(loaded.compute, candles(3), {"choplength": 3})


def test_a_line_of_the_users_file_is_named_when_its_function_raises(tmp_path: Path) -> None:
    loaded = load_strategy(write(tmp_path, "def compute_smm(df):\n    return df['colse']\n"))
    with pytest.raises(StrategyRefused, match=r"KeyError: 'colse' \(mine\.py, line 2\)"):
        compute_columns(loaded.compute, candles(3), {})


def test_the_template_runs_from_the_slot_as_it_is(slot: Path) -> None:
    shutil.copy(ROOT / "examples" / "your_compute_smm.py", slot)
    assert len(slot.read_text().splitlines()) < 60
    loaded = load_strategy(None)
    assert (loaded.origin, loaded.is_reference) == ("slot", False)
    columns = compute_columns(loaded.compute, candles(), {"fast": 5, "slow": 20})
    assert columns.buy_signal.any()
    assert columns.sell_signal.any()
    assert columns.profit_target_hit.any()
    assert list(columns.extras) == ["average_fast", "average_slow", "target"]
    assert len(compute_columns(loaded.compute, candles(1), {})) == 1
