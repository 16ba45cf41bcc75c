"""Which modules beside a strategy file it imports, read from its source; they belong to the key of its columns."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


def sibling_sources(path: Path, source: bytes) -> tuple[Path, ...]:
    """Return the Python files in the folder of ``path`` that it imports, directly or through one another, sorted.

    Import statements anywhere count, inside functions too; a package that is imported counts with every Python file in
    it. Nothing is executed. What is imported by other means (``importlib``, ``exec``) or read as data is not seen.
    Source that does not parse imports nothing; loading it says why.

    Raises:
        OSError: a file beside it is there and cannot be read.
    """
    folder = path.parent
    seen = {path}
    waiting = [source]
    while waiting:
        for name in _imported_names(waiting.pop()):
            for found in _files_of(folder, name):
                if found not in seen:
                    seen.add(found)
                    waiting.append(found.read_bytes())
    return tuple(sorted(seen - {path}))


def _imported_names(source: bytes) -> Iterator[str]:
    """Yield the first part of every absolute import."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.partition(".")[0]


def _files_of(folder: Path, name: str) -> list[Path]:
    module = folder / f"{name}.py"
    package = folder / name
    if (package / "__init__.py").is_file():
        return sorted(package.rglob("*.py"))
    return [module] if module.is_file() else []
