"""What a test can hold of the house rules: sizes, names, and the few places that may touch the world."""

from __future__ import annotations

import ast
import configparser
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_files import ROOT, child_environment

PACKAGES = ("feeds", "strategy", "smm_bt")
#: The user's own file, which may lie in the slot of a work tree and is none of ours.
SLOT = ROOT / "strategy" / "compute_smm.py"
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if path != SLOT)
NAMES = [str(path.relative_to(ROOT)) for path in SOURCES]
MOST_LINES, MOST_CODE_LINES = 400, 40


def tree_of(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text("utf-8"))


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no git work tree")
    return [name for name in listed.stdout.split("\0") if name]


def dotted_uses(name: str) -> Iterator[str]:
    """Every ``a.b`` of a module, as text."""
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
            yield f"{node.value.attr}.{node.attr}"


def imports(name: str) -> Iterator[str]:
    """The top-level packages and dotted names a module imports, wherever in it; ``from os import environ`` too."""
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers_of(library: str) -> set[str]:
    return {name for name in NAMES if any(each.split(".")[0] == library for each in imports(name))}


def users_of(*dotted: str) -> set[str]:
    return {name for name in NAMES if set(dotted) & {*dotted_uses(name), *imports(name)}}


# size and names


def test_a_file_has_at_most_400_lines() -> None:
    lengths = {name: len((ROOT / name).read_text("utf-8").splitlines()) for name in NAMES}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def code_lines(source: str) -> set[int]:
    """The numbers of the lines that hold code: no blank, no comment."""
    quiet = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in quiet:
            lines.update(range(token.start[0], token.end[0] + 1))
    return lines


def functions(name: str) -> Iterator[tuple[str, int]]:
    """Each function of a module and the number of its code lines, the docstring left out."""
    code = code_lines((ROOT / name).read_text("utf-8"))
    for node in ast.walk(tree_of(name)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        body = set(range(node.lineno, (node.end_lineno or node.lineno) + 1)) & code
        if ast.get_docstring(node) is not None:
            body -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
        yield f"{name}: {node.name}", len(body)


def test_a_function_has_at_most_40_code_lines() -> None:
    lengths = dict(function for name in NAMES for function in functions(name))
    assert {place: length for place, length in lengths.items() if length > MOST_CODE_LINES} == {}


def test_no_module_is_named_after_nothing() -> None:
    empty_names = {"utils", "util", "helpers", "common", "manager", "misc"}
    assert [name for name in NAMES if empty_names & set(re.split(r"[/_.]", name))] == []


def test_every_modules_first_statement_is_a_docstring() -> None:
    scripts = [str(p.relative_to(ROOT)) for d in ("tests", "examples", "benchmarks") for p in (ROOT / d).glob("*.py")]
    assert [name for name in (*NAMES, *scripts) if not ast.get_docstring(tree_of(name))] == []


# who may touch the world


def test_the_process_environment_is_read_in_one_file() -> None:
    readers = users_of("os.environ", "os.getenv", "os.environb", "os.putenv")
    assert readers == {"smm_bt/app/environment.py"}


def test_the_wall_clock_is_read_in_one_file_of_each_side_that_has_one() -> None:
    # The embedded exchange imports nothing of ours, and execution may not import the app: each has its own clock.
    # Timers (time.monotonic, time.perf_counter) measure spans and tell no time of day; they may be anywhere.
    readers = users_of(
        *("time.time", "time.time_ns", "time.localtime", "time.gmtime", "datetime.now", "datetime.utcnow"),
        *("datetime.today", "date.today", "Timestamp.now", "Timestamp.utcnow"),
    )
    assert readers == {"smm_bt/app/clock.py", "smm_bt/emulator/clock.py", "smm_bt/execution/host_clock.py"}


def test_the_trading_mode_is_asked_for_only_in_the_app_and_where_its_hosts_are_chosen() -> None:
    askers = {name for name in NAMES if any(use.startswith("TradingMode.") for use in dotted_uses(name))}
    allowed = {name for name in NAMES if name.startswith("smm_bt/app/")} | {"smm_bt/execution/endpoints.py"}
    assert askers <= allowed


def test_there_is_no_live_mode() -> None:
    from smm_bt.model import TradingMode

    assert {member.name for member in TradingMode} == {"PAPER", "TESTNET"}
    assert [name for name in NAMES if "TradingMode.LIVE" in set(dotted_uses(name))] == []


@pytest.mark.parametrize(
    ("library", "place"),
    [("ccxt", "smm_bt/execution/ccxt_client.py"), ("quantstats", "smm_bt/analytics/tearsheet.py")],
)
def test_a_library_with_a_seam_is_imported_in_one_place(library: str, place: str) -> None:
    assert importers_of(library) <= {place}


def test_broad_excepts_are_at_the_edges_and_never_silent() -> None:
    silent = []
    for name in NAMES:
        for node in ast.walk(tree_of(name)):
            if isinstance(node, ast.ExceptHandler) and node.type is None:
                silent.append(f"{name}:{node.lineno} bare except")
            elif isinstance(node, ast.ExceptHandler) and all(isinstance(step, ast.Pass) for step in node.body):
                caught = ast.unparse(node.type) if node.type else ""
                if caught in {"Exception", "BaseException"}:
                    silent.append(f"{name}:{node.lineno} {caught} passed over")
    assert silent == []


def test_the_command_line_starts_without_the_heavy_libraries() -> None:
    heavy = (
        "pandas",
        "numpy",
        "backtrader",
        "pyarrow",
        "ccxt",
        "quantstats",
        "plotly",
        "matplotlib",
        "talib",
        "aiohttp",
    )
    code = f"import sys, smm_bt.app.cli; print(sorted(set({heavy!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=child_environment(), capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


# the repository


def test_the_slot_is_empty_in_the_repository_and_ignored_by_git() -> None:
    assert "strategy/compute_smm.py" not in tracked()
    assert "/strategy/compute_smm.py" in (ROOT / ".gitignore").read_text().splitlines()


def test_no_data_and_nothing_large_is_in_the_repository() -> None:
    large = [name for name in tracked() if (ROOT / name).is_file() and (ROOT / name).stat().st_size > 1_000_000]
    assert large == []
    assert [name for name in tracked() if name.endswith((".parquet", ".csv.gz", ".sqlite", ".feather", ".pkl"))] == []


def test_no_path_of_somebodys_machine_is_in_the_repository() -> None:
    machine = re.compile(r"(?<![\w.~])/(home|root|Users|work|workspace|mnt)/\w")
    found = []
    for name in tracked():
        path = ROOT / name
        if not path.is_file():
            continue
        text = path.read_bytes().decode("utf-8", errors="replace")
        found += [f"{name}: {line.strip()[:100]}" for line in text.splitlines() if machine.search(line)]
    assert found == []


def test_no_secret_or_local_settings_file_is_in_the_repository() -> None:
    assert {".env", "smm.toml"}.isdisjoint(tracked())


def test_tests_are_flat_so_that_no_folder_of_theirs_hides_a_package() -> None:
    assert [
        name for name in tracked() if name.startswith("tests/") and name.endswith(".py") and name.count("/") > 1
    ] == []


def test_the_packages_are_three_real_top_level_folders() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    assert "package_dir" not in setup["options"]
    for package in PACKAGES:
        assert (ROOT / package / "__init__.py").is_file()
        assert (ROOT / package / "py.typed").is_file()


def test_pyproject_holds_only_what_pip_and_ruff_read() -> None:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert set(content) == {"build-system", "tool"}
    assert set(content["tool"]) == {"ruff"}


def test_the_import_contracts_name_every_library_with_a_seam() -> None:
    contracts = (ROOT / "setup.cfg").read_text("utf-8")
    for arrow in ("smm_bt.execution.ccxt_client -> ccxt", "smm_bt.analytics.tearsheet -> quantstats"):
        assert arrow in contracts


def test_the_checks_of_this_file_see_what_they_look_for(tmp_path: Path) -> None:
    source = 'def f():\n    """One.\n\n    Two.\n    """\n    # a comment\n\n    return (\n        1\n    )\n'
    assert code_lines(source) == {1, 2, 3, 4, 5, 8, 9, 10}
    assert "os.environ" in set(dotted_uses("smm_bt/app/environment.py"))
    assert "pandas" in set(imports("feeds/candles.py"))


def test_a_replay_does_not_load_the_venues_client_library_or_what_draws_pages() -> None:
    source = (
        "import sys, smm_bt.app.replay; print(sorted({'ccxt', 'aiohttp', 'quantstats', 'plotly'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
