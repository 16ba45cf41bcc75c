"""The modules beside a strategy file: found in its source, importable while it runs, forgotten afterwards."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

_OUR_PACKAGES = ("feeds", "strategy", "smm_bt")


def sibling_sources(path: Path, source: bytes) -> tuple[Path, ...]:
    """Return the Python files in the folder of ``path`` that it imports, directly or through one another, sorted.

    Import statements anywhere count, inside functions too; a package that is imported counts with every Python file in
    it, a folder without ``__init__.py`` with the files that are named. Nothing is executed. What is imported by other
    means (``importlib``, ``exec``) or read as data is not seen. Source that does not parse imports nothing; loading it
    says why.

    Raises:
        OSError: a file beside it is there and cannot be read.
    """
    seen = {path}
    waiting = [(path, source)]
    while waiting:
        importer, text = waiting.pop()
        for level, name in _imported_names(text):
            folder = path.parent if level == 0 else importer.parents[min(level, len(importer.parents)) - 1]
            for found in _files_of(folder, name):
                if found not in seen:
                    seen.add(found)
                    waiting.append((found, found.read_bytes()))
    return tuple(sorted(seen - {path}))


def _imported_names(source: bytes) -> Iterator[tuple[int, str]]:
    """Yield for each name imported how many dots it begins with, and the name with all its parts."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            within = f"{node.module}." if node.module else ""
            yield from ((node.level, within + alias.name) for alias in node.names)


def _files_of(folder: Path, name: str) -> list[Path]:
    """Return the files that importing ``name`` from ``folder`` executes, as far as they lie below it."""
    for part in name.split("."):
        module = folder / f"{part}.py"
        folder = folder / part
        if (folder / "__init__.py").is_file():
            return sorted(folder.rglob("*.py"))
        if module.is_file():
            return [module]
    return []


@contextmanager
def folder_on_path(folder: Path) -> Iterator[None]:
    """Let the file import modules beside it; last on the path, so that they hide no installed package."""
    entry = str(folder)
    if entry in sys.path:
        yield
        return
    sys.path.append(entry)
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)


def forget_siblings(folder: Path, before: set[str]) -> dict[str, ModuleType]:
    """Drop what was imported from beside the file: another strategy's module of that name must not get this one.

    Args:
        folder: where the strategy file lies; one that is on the path anyway keeps its modules.
        before: the names in ``sys.modules`` before the file was executed.

    Returns:
        What was dropped, by name.
    """
    if str(folder) in sys.path:
        return {}
    beside = str(folder)
    new = {name: module for name, module in tuple(sys.modules.items()) if name not in before}
    tops = {name.partition(".")[0] for name, module in new.items() if _lies_in(module, beside, name)}
    tops -= {*before, *_OUR_PACKAGES}
    forgotten = {name: module for name, module in new.items() if name.partition(".")[0] in tops}
    for name in forgotten:
        del sys.modules[name]
    return forgotten


def _lies_in(module: ModuleType, folder: str, name: str) -> bool:
    """Return whether this is the module that importing ``name`` from ``folder`` gives."""
    place = os.path.join(folder, *name.split("."))
    return getattr(module, "__file__", None) in (f"{place}.py", os.path.join(place, "__init__.py"))
