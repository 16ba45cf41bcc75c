"""Which strategy file runs: setting, then slot, then reference; hashed first, executed only on demand."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from strategy.refusal import StrategyFileMissing, StrategyRefused, did_you_mean, one_line, refused_by_exception
from strategy.siblings import folder_on_path, forget_siblings, sibling_sources
from strategy.used_modules import STRATEGY_MODULE

ENTRY_POINT = "compute_smm"

#: Where the user's own file goes; absent on a fresh checkout and ignored by git.
SLOT = Path(__file__).with_name("compute_smm.py")

#: The stand-in used when there is neither a setting nor a file in the slot.
REFERENCE = Path(__file__).with_name("reference.py")


@dataclass(frozen=True)
class LocatedStrategy:
    """A strategy file that was found and hashed; none of its code has run.

    ``sha256`` is the hash of the file's bytes, the one journal and report carry. ``columns_key`` is what a cache of
    its columns must be keyed by (with the parameters): the same hash, and a combined one once the file imports
    modules that lie beside it. ``origin`` is ``setting``, ``slot`` or ``reference``; ``is_reference`` goes by
    content, so a copy of the reference in the slot is still called what it is.
    """

    path: Path
    sha256: str
    columns_key: str
    is_reference: bool
    origin: str

    def load(self) -> StrategyFile:
        """Execute the file and return it with its ``compute_smm``.

        Raises:
            StrategyRefused: it changed since it was hashed, is not Python, cannot be imported, or has no such function.
        """
        source = _read(self.path)
        if _sha256(source) != self.sha256:
            raise StrategyRefused(
                f"Strategy file {self.path} must stay as it is while a run starts, and it has just been changed. "
                "Save it and start again."
            )
        module, forgotten = _execute(self.path, source)
        compute = _entry_point(module, self.path)
        return StrategyFile(
            self.path, self.sha256, self.columns_key, self.is_reference, self.origin, compute, forgotten
        )


@dataclass(frozen=True)
class StrategyFile(LocatedStrategy):
    """A loaded strategy file: what was located, and its function ``compute(df, **parameters)``.

    ``forgotten`` are the modules beside the file that it imported, by name; ``sys.modules`` holds them no longer.
    """

    compute: Callable[..., object]
    forgotten: Mapping[str, ModuleType] = field(default_factory=dict, compare=False, repr=False)


def find_strategy(setting: Path | None) -> tuple[Path, str]:
    """Return the absolute path of the strategy file and where it comes from: setting, slot or reference.

    A setting that names no file is refused; nothing else is tried in its stead.

    Raises:
        StrategyFileMissing: there is nothing at that path.
        StrategyRefused: it is a folder, or no ordinary file.
    """
    if setting is not None:
        path, origin = Path(setting).expanduser().absolute(), "setting"
    elif SLOT.exists() or SLOT.is_symlink():
        path, origin = SLOT, "slot"
    else:
        path, origin = REFERENCE, "reference"
    if path.is_file():
        return path, origin
    if path.is_dir():
        found, remedy = "it is a folder", "Name the Python file inside it."
    elif path.exists():
        found, remedy = "it is not an ordinary file", "Name a Python file."
    else:
        raise StrategyFileMissing(
            f"The strategy must be a Python file, and for {path} there is no such file. "
            "Correct STRATEGY_FILE (or --strategy), or leave it out to use the slot."
        )
    raise StrategyRefused(f"The strategy must be a Python file, and for {path} {found}. {remedy}")


def locate_strategy(setting: Path | None) -> LocatedStrategy:
    """Return the strategy file by :func:`find_strategy` with its hash, without executing it.

    Raises:
        StrategyRefused: there is no such file or it cannot be read.
    """
    path, origin = find_strategy(setting)
    source = _read(path)
    sha256 = _sha256(source)
    is_reference = origin == "reference" or sha256 == file_sha256(REFERENCE)
    return LocatedStrategy(path, sha256, _columns_key(path, source, sha256), is_reference, origin)


def load_strategy(setting: Path | None) -> StrategyFile:
    """Return the strategy file by :func:`find_strategy`, executed; :class:`StrategyRefused` says why not."""
    return locate_strategy(setting).load()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of the file's bytes in hexadecimal; nothing is executed.

    Raises:
        StrategyRefused: it cannot be read.
    """
    return _sha256(_read(path))


def _sha256(source: bytes) -> str:
    return hashlib.sha256(source).hexdigest()


def _columns_key(path: Path, source: bytes, sha256: str) -> str:
    try:
        siblings = sibling_sources(path, source)
    except OSError as error:
        raise _unreadable(Path(error.filename), error) from error
    if not siblings:
        return sha256
    parts = [sha256, *(f"{sibling.relative_to(path.parent)} {file_sha256(sibling)}" for sibling in siblings)]
    return _sha256("\n".join(parts).encode())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> StrategyRefused:
    return StrategyRefused(
        f"Strategy file {path} must be readable: {error.strerror or error}. Check the path and its permissions."
    )


def _execute(path: Path, source: bytes) -> tuple[ModuleType, dict[str, ModuleType]]:
    """Run the file as a module under a name of its own, so that files of the same name never meet.

    The modules beside it that it brought in come back with it.
    """
    code = _compile(path, source)
    name = f"{STRATEGY_MODULE}{_sha256(str(path).encode() + source)[:16]}"
    module = ModuleType(name)
    module.__file__, module.__package__ = str(path), ""
    before = set(sys.modules)
    sys.modules[name] = module
    try:
        with folder_on_path(path.parent):
            exec(code, module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise refused_by_exception(error, f"Importing {path.name}", str(path)) from error
    finally:
        forgotten = forget_siblings(path.parent, before)
    return module, forgotten


def _compile(path: Path, source: bytes) -> CodeType:
    try:
        return compile(source, str(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise StrategyRefused(
            f"Strategy file {path} must be Python source: {_why_not_python(error, source)}"
        ) from error


def _why_not_python(error: BaseException, source: bytes) -> str:
    if b"\0" in source:
        return "it holds zero bytes, as compiled or UTF-16 files do. Save it as plain UTF-8 text."
    line = f"line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else "the file"
    try:
        source.decode("utf-8")
    except UnicodeDecodeError as undecodable:
        bad_line = source.count(b"\n", 0, undecodable.start) + 1
        return f"line {bad_line} is not UTF-8 text (byte 0x{source[undecodable.start]:02x}). Save it as UTF-8."
    said = error.msg if isinstance(error, SyntaxError) else str(error) or type(error).__name__
    return f"{line} does not parse: {one_line(said)}. Correct that line."


def _entry_point(module: ModuleType, path: Path) -> Callable[..., object]:
    missing = object()
    compute: Any = getattr(module, ENTRY_POINT, missing)
    if compute is missing:
        functions = sorted(name for name, value in vars(module).items() if callable(value) and name[0] != "_")
        found = f"defines {one_line(', '.join(functions))}" if functions else "defines no function"
        raise StrategyRefused(
            f"Strategy file {path} must define the function {ENTRY_POINT}(df, ...); it {found}."
            f"{did_you_mean(ENTRY_POINT, functions)} Define it at the top level of the file."
        )
    if not callable(compute):
        raise StrategyRefused(
            f"{ENTRY_POINT} in strategy file {path} must be a function; it is of type {type(compute).__name__}. "
            f"Define it as 'def {ENTRY_POINT}(df, ...)'."
        )
    return _finding_siblings(compute, path.parent)


def _finding_siblings(compute: Callable[..., object], folder: Path) -> Callable[..., object]:
    """Return ``compute`` so that imports inside the function, too, find modules beside the file."""

    @wraps(compute)
    def compute_beside(*arguments: Any, **parameters: Any) -> object:
        with folder_on_path(folder):
            return compute(*arguments, **parameters)

    return compute_beside
