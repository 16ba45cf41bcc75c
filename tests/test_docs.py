"""The documents keep their word: their code runs, their names exist, and both languages say the same."""

from __future__ import annotations
import __future__

import ast
import importlib
import inspect
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

import pytest
import typer

from feeds.made import made_candles, write_candles
from smm_bt.app.audit import LooksAhead
from smm_bt.app.cli import app, main
from smm_bt.app.live_folder import latest_live_run
from smm_bt.app.settings import Settings, load_settings
from smm_bt.errors import Interrupted, RunFailed, UsageError

ROOT = Path(__file__).resolve().parents[1]
README, README_AR = ROOT / "README.md", ROOT / "README.ar.md"
SPECIFICATION, SPECIFICATION_AR = ROOT / "docs" / "specification.md", ROOT / "docs" / "specification.ar.md"
PAIRS = [(README, README_AR), (SPECIFICATION, SPECIFICATION_AR)]
DOCUMENTS = [path for pair in PAIRS for path in pair]
CHANGELOG, DOTENV, TOML = ROOT / "CHANGELOG.md", ROOT / ".env.example", ROOT / "smm.example.toml"

#: Named in the documents and made by a person or a run.
NOT_IN_THE_REPOSITORY = {
    "BTCUSDT-5m_2025.csv.gz",
    ".env",
    ".venv/bin/smm-bt",
    "chart.html",
    "data/",
    "data/BTCUSDT-5m.parquet",
    "data/made/BTCUSDT-5m_made.csv.gz",
    "equity.parquet",
    "journal.sqlite",
    "report.json",
    "run.log",
    "runs/",
    "smm.toml",
    "strategy/compute_smm.py",
    "compute_smm.py",
    "tearsheet.html",
    "trades.csv",
}
#: Left-to-right mark: without it "--strategy" and "compute_smm()" fall apart inside Arabic sentences.
MARK = "\u200e"
SETTINGS = sorted(set(Settings.model_fields) - {"STRATEGY_PARAMETERS"})


class Block(NamedTuple):
    """A fenced block: its language, its text, the document and the line it begins on."""

    language: str
    text: str
    path: Path
    line: int


def name_of(value: object) -> str:
    return f"{value.path.name}:{value.line}" if isinstance(value, Block) else getattr(value, "name", str(value))


def read(path: Path) -> str:
    """The document without the invisible marks that keep code in Arabic sentences in order."""
    return path.read_text("utf-8").replace(MARK, "")


def blocks(path: Path, *languages: str) -> list[Block]:
    text = read(path)
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    every = [Block(m[1], m[2], path, text.count("\n", 0, m.start()) + 2) for m in found]
    return [block for block in every if block.language in languages]


def prose(path: Path) -> str:
    """The document without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", read(path), flags=re.MULTILINE | re.DOTALL)


def table_sizes(path: Path) -> list[int]:
    """Rows of each table, in order."""
    return [len(lines.splitlines()) for lines in re.findall(r"(?:^\|.*\n)+", prose(path) + "\n", re.MULTILINE)]


def compiled(block: Block) -> CodeType:
    flags = __future__.annotations.compiler_flag
    shifted = "\n" * (block.line - 1) + block.text
    return compile(shifted, str(block.path), "exec", flags=flags, dont_inherit=True)


@pytest.mark.parametrize("block", [*blocks(README, "python"), *blocks(SPECIFICATION, "python")], ids=name_of)
def test_every_python_block_runs_as_it_stands(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compiled(block), {"__name__": "__main__"})


# Part C: signatures


FILE = re.compile(r"^# (\S+\.py)$")


class Stub(NamedTuple):
    """A function or class of part C, and the real one of that name."""

    name: str
    written: Any
    real: Any
    members: tuple[str, ...]


def stubs() -> Iterator[Stub]:
    """Everything part C shows, each under the file its nearest comment names."""
    part = read(SPECIFICATION).partition("\n## C.")[2].partition("\n## D.")[0]
    for block in blocks(SPECIFICATION, "python"):
        if block.text not in part:
            continue
        namespace: dict[str, Any] = {}
        exec(compiled(block), namespace)
        files = {number: m[1] for number, line in enumerate(block.text.splitlines(), 1) if (m := FILE.match(line))}
        for node in ast.parse(block.text).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                file = files[max(number for number in files if number < node.lineno)]
                module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
                real = getattr(module, node.name, None)
                yield Stub(f"{file}:{node.name}", namespace[node.name], real, tuple(members_of(node)))


def members_of(node: ast.FunctionDef | ast.ClassDef) -> Iterator[str]:
    for member in node.body if isinstance(node, ast.ClassDef) else ():
        if isinstance(member, ast.FunctionDef):
            yield member.name


def shape(function: Any) -> list[object]:
    signature = inspect.signature(function)
    parameters = [(p.name, p.kind, p.annotation, p.default) for p in signature.parameters.values()]
    return [*parameters, signature.return_annotation]


def annotations(kind: type) -> dict[str, str]:
    return {name: getattr(value, "__forward_arg__", value) for name, value in inspect.get_annotations(kind).items()}


def defaults(kind: type) -> dict[str, object]:
    """Default values of the fields of a NamedTuple or dataclass."""
    if hasattr(kind, "_field_defaults"):
        return dict(kind._field_defaults)
    return {name: vars(kind)[name] for name in annotations(kind) if name in vars(kind)}


@pytest.mark.parametrize("stub", list(stubs()), ids=lambda stub: stub.name)
def test_every_signature_of_part_c_is_the_real_one(stub: Stub) -> None:
    assert stub.real is not None, f"{stub.name} does not exist"
    if inspect.isfunction(stub.written):
        assert shape(stub.written) == shape(stub.real)
        return
    assert annotations(stub.written).items() <= annotations(stub.real).items()
    assert {base.__name__ for base in stub.written.__bases__} <= {base.__name__ for base in stub.real.__mro__}
    for name in stub.members:
        assert shape(getattr(stub.written, name)) == shape(getattr(stub.real, name)), name
    for name, value in defaults(stub.written).items():
        assert value == defaults(stub.real)[name], name


def test_part_c_shows_what_the_layers_offer() -> None:
    shown = {stub.name for stub in stubs()}
    assert len(shown) > 60
    assert {"strategy/rules.py:decide", "smm_bt/execution/sizing.py:position_size", "smm_bt/app/live.py:live"} <= shown


# Names: commands, options, settings, files


def commands_in(path: Path) -> list[str]:
    """Every ``smm-bt …`` in a shell block or in backticks, from the command word on."""
    lines = [line for block in blocks(path, "sh", "bash") for line in block.text.replace("\\\n", " ").splitlines()]
    spans = re.findall(r"`([^`\n]+)`", prose(path))
    found = (re.match(r"(?:\S+/)?smm-bt(?:\s+(.*))?$", text.partition("  #")[0].strip()) for text in [*lines, *spans])
    return [match[1] or "" for match in found if match]


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_command_and_option_in_the_documents_exists(path: Path) -> None:
    group: Any = typer.main.get_command(app)
    for text in commands_in(path):
        words = text.split()
        named = [word for word in words if not word.startswith("-")]
        command = group.commands.get(named[0]) if named and words[0] == named[0] else group
        assert command is not None, f"there is no command in: smm-bt {text}"
        options = {name for each in command.params for name in (*each.opts, *each.secondary_opts)} | {"--help"}
        wrong = [word for word in words if word.startswith("-") and word.partition("=")[0] not in options]
        assert not wrong, f"smm-bt {text}: no option {wrong}"


def test_the_readme_shows_the_commands_a_newcomer_needs() -> None:
    shell = "\n".join(block.text for block in blocks(README, "sh"))
    assert re.match(r"make paper .*\nmake test ", shell), "the first two commands"
    assert "make replay" in shell
    assert any(command.startswith("replay") for command in commands_in(README))


@pytest.mark.parametrize("path", [README, README_AR], ids=name_of)
def test_every_command_has_its_row_in_the_readme(path: Path) -> None:
    group: Any = typer.main.get_command(app)
    rows = re.findall(r"^\| `smm-bt ([a-z-]+)` \|", read(path), re.MULTILINE)
    assert sorted(rows) == sorted(group.commands)


@pytest.mark.parametrize("path", [README, README_AR], ids=name_of)
def test_every_exit_code_is_documented(path: Path) -> None:
    table = {int(code) for code in re.findall(r"^\| (\d+) \| ", prose(path), re.MULTILINE)}
    assert table == {0, Interrupted.exit_code, LooksAhead.exit_code, RunFailed.exit_code, UsageError.exit_code}


#: What makes a command of the README quick and keeps it on this machine.
QUICKER = {
    "replay": ("--no-tearsheet", "--no-chart"),
    "live": ("--no-pages",),
    "doctor": ("--offline",),
    "audit": ("--budget", "10"),
    "close": ("--wait", "0"),
    "pause": ("--wait", "0"),
    "resume-entries": ("--wait", "0"),
}


def wants_binance(words: list[str]) -> bool:
    return words[0] == "download" or (words[0] == "live" and not {"embedded", "--resume"} & set(words))


def test_the_readme_s_commands_run_after_make_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    write_candles(made_candles(count=2_000), tmp_path / "data" / "made" / "BTCUSDT-5m_made.csv.gz")
    monkeypatch.chdir(tmp_path)
    lines = [line for block in blocks(README, "sh") for line in block.text.splitlines() if "/smm-bt " in line]
    every = [line.partition("  #")[0].split()[1:] for line in lines]
    here = [words for words in every if not wants_binance(words)]
    assert {words[0] for words in every} >= {*QUICKER, "download", "status"}
    for words in here:
        named = [latest_live_run(Path("runs")).name if word == "RUN" else word for word in words]
        assert main([*named, *QUICKER.get(words[0], ())]) == 0, words
    begun = [words for words in here if words[0] in ("replay", "live") and "--resume" not in words]
    assert len([path for path in (tmp_path / "runs").iterdir() if path.is_dir()]) == len(begun)
    assert "the bot is not running" in capsys.readouterr().out


def test_make_targets_in_the_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for path in DOCUMENTS:
        named = re.findall(r"(?:^|`)make ([a-z]+)", read(path), re.MULTILINE)
        assert set(named) <= targets, path.name


def settings_table(path: Path) -> dict[str, str]:
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([^|]*) \|", read(path), re.MULTILINE)
    return {name: default.strip() for name, default in rows}


@pytest.mark.parametrize("path", [README, README_AR], ids=name_of)
def test_every_setting_is_documented_with_its_default(path: Path) -> None:
    table = settings_table(path)
    assert sorted(table) == SETTINGS
    default = Settings()
    for name, cell in table.items():
        if match := re.fullmatch(r"`(.+)`", cell):
            assert getattr(load_settings({name: match[1]}, environment={}), name) == getattr(default, name), name
        else:
            assert getattr(default, name) is None, name


def paths_in(path: Path) -> set[str]:
    """What looks like a file or folder of the project, in backticks, links and diagrams."""
    text = read(path)
    spans = re.findall(r"`([^`\s]+)`", prose(path)) + re.findall(r"\]\(([^)#\s]+)\)", text)
    looks_like_one = re.compile(r"\.?[\w][\w./-]*(?:\.(?:py|md|toml|cfg|json|csv|gz|html|parquet|sqlite|log|txt)|/)")
    return {span for span in spans if looks_like_one.fullmatch(span) or span in {".env", ".env.example", "Makefile"}}


@pytest.mark.parametrize("path", [*DOCUMENTS, CHANGELOG], ids=name_of)
def test_every_file_named_in_the_documents_exists(path: Path) -> None:
    tracked = {file.name for folder in ("feeds", "strategy", "smm_bt", "docs") for file in (ROOT / folder).rglob("*.*")}
    for name in paths_in(path) - NOT_IN_THE_REPOSITORY:
        beside = (path.parent / name).exists() or (ROOT / name).exists()
        assert beside or ("/" not in name and name in tracked), f"{path.name} names {name}"


@pytest.mark.parametrize("path", [*DOCUMENTS, CHANGELOG, DOTENV, TOML], ids=name_of)
def test_no_document_names_a_place_on_one_machine(path: Path) -> None:
    assert not re.search(r"(?<![\w.])/(?:home|root|tmp|work|usr|opt)/", read(path))


# Both languages


@pytest.mark.parametrize("path", [SPECIFICATION, SPECIFICATION_AR], ids=name_of)
def test_the_five_parts_stand_in_the_order_they_were_asked_for(path: Path) -> None:
    headings = re.findall(r"^## \(?([A-E])[).]", read(path), re.MULTILINE)
    assert headings == list("ABCDE")


@pytest.mark.parametrize(("english", "arabic"), PAIRS, ids=name_of)
def test_both_languages_have_the_same_sections_tables_code_and_settings(english: Path, arabic: Path) -> None:
    def levels(path: Path) -> list[str]:
        return re.findall(r"^(#+) ", prose(path), re.MULTILINE)

    assert levels(arabic) == levels(english)
    assert table_sizes(arabic) == table_sizes(english)
    code = ("python", "sh", "mermaid", "toml")
    assert [b.text for b in blocks(arabic, *code)] == [b.text for b in blocks(english, *code)]
    assert {n for n in SETTINGS if n in read(arabic)} == {n for n in SETTINGS if n in read(english)}


@pytest.mark.parametrize("path", [README_AR, SPECIFICATION_AR], ids=name_of)
def test_arabic_text_runs_from_right_to_left_and_code_from_left_to_right(path: Path) -> None:
    outside = re.sub(r'<div dir="rtl">\n\n.*?\n\n</div>', "", read(path), flags=re.DOTALL)
    assert not re.search(r"[\u0600-\u06ff]", outside), "Arabic text outside a right-to-left part"
    for part in re.findall(r'<div dir="rtl">(.*?)</div>', read(path), re.DOTALL):
        assert "```" not in part, "code inside a right-to-left part"
    code = re.findall(r".?`[^`\n]+`.?", re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.M | re.S))
    assert all(span.startswith(MARK) and span.endswith(MARK) for span in code)


@pytest.mark.parametrize("path", [README, README_AR, SPECIFICATION, SPECIFICATION_AR], ids=name_of)
def test_every_document_says_what_must_not_be_overlooked(path: Path) -> None:
    text = read(path)
    for word in ("STOP_LOSS_PERCENT", "compute_smm", "20x", "PAPER", "TESTNET"):
        assert word in text


def anchors(path: Path) -> set[str]:
    """The anchors a page gives its headings: lower case, without punctuation, hyphens for blanks."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_link_leads_to_a_file_and_a_heading_that_exist(path: Path) -> None:
    for file, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", read(path)):
        target = (path.parent / file).resolve() if file else path
        assert target.is_file(), file
        assert not anchor or anchor in anchors(target), anchor


# Example settings


def test_the_example_settings_load_and_name_every_setting(tmp_path: Path) -> None:
    shutil.copy(DOTENV, tmp_path / ".env")
    assert load_settings(folder=tmp_path, environment={}) == Settings()
    (tmp_path / ".env").unlink()
    shutil.copy(TOML, tmp_path / "smm.toml")
    assert load_settings(folder=tmp_path, environment={}) == Settings()
    for name in SETTINGS:
        assert re.search(rf"^{name}=", DOTENV.read_text("utf-8"), re.MULTILINE), name
        if not name.startswith("BINANCE"):
            assert re.search(rf"^#? ?{name} = ", TOML.read_text("utf-8"), re.MULTILINE), name


def test_everything_commented_out_in_the_example_file_works_when_it_is_not(tmp_path: Path) -> None:
    active = re.sub(r"^# (?=[A-Za-z_]+ = )", "", TOML.read_text("utf-8"), flags=re.MULTILINE)
    (tmp_path / "smm.toml").write_text(active, "utf-8")
    settings = load_settings(folder=tmp_path, environment={})
    assert settings.STRATEGY_PARAMETERS
    assert settings.TIMEFRAME == "5m"
    assert settings.STOP_LOSS_PERCENT is not None


def test_the_changelog_names_the_version_of_the_package() -> None:
    from smm_bt import __version__

    assert re.search(rf"^## \[(Unreleased|{re.escape(__version__)})\]", read(CHANGELOG), re.MULTILINE)
