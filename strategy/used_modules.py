"""Which modules a strategy's columns were computed with, and whether the same ones would compute them today.

A module counts by the hash of its file when it lies outside the standard library and outside the folders of installed
packages; installed packages count by version and time of installation. Which of the loaded modules a strategy uses
cannot be told for certain (``importlib``, names passed on), so all count that are loaded when it has run, the project's
own and those of a program around it too, but not that program's main file. The cost of one too many is computing anew.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

#: How the names begin under which strategy files are executed.
STRATEGY_MODULE = "smm_strategy_"

#: The file a process was started with, also under the name multiprocessing gives it.
_PROGRAM = ("__main__", "__mp_main__")
_INSTALLED = ("site-packages", "dist-packages")
_DISTRIBUTION = (".dist-info", ".egg-info")

#: The hash of a module's file when it was first looked at. Once the file differs, memory and file are two versions.
_first_hashes: WeakKeyDictionary[ModuleType, str] = WeakKeyDictionary()


def import_path(folder: Path) -> list[str]:
    """Return where a strategy file in ``folder`` finds modules; to be asked before it runs and changes the path."""
    return list(dict.fromkeys((*sys.path, str(folder))))


def used_modules(path: Sequence[str], forgotten: Mapping[str, ModuleType]) -> dict[str, Any] | None:
    """Return the loaded modules' files with their hashes, and where their names are found on ``path``; JSON values.

    Args:
        path: what :func:`import_path` returned before the strategy ran.
        forgotten: further modules, which ``sys.modules`` holds no longer.

    Returns:
        None when what ran is not what lies there: a file is gone, differs from when it was first looked at, or another
        module of that name would be imported.
    """
    files: dict[str, str] = {}
    found: dict[str, str | list[str] | None] = {}
    for name, module in (*forgotten.items(), *tuple(sys.modules.items())):
        file = _own_file(name, module)
        if file is None:
            continue
        files[file] = current = _hash_of(file) or ""
        top = name.partition(".")[0]
        if top not in found:
            found[top] = _place_of(top, path)
        another = name == top and found[top] not in (None, file)
        if another or not current or _first_hashes.setdefault(module, current) != current:
            return None
    return {"files": files, "found": found}


def modules_unchanged(used: Mapping[str, Any], path: Sequence[str]) -> bool:
    """Return whether every file :func:`used_modules` returned is as it was, and every name found where it was."""
    return all(_hash_of(file) == known for file, known in used["files"].items()) and all(
        _place_of(name, path) == place for name, place in used["found"].items()
    )


def installed_packages() -> list[str]:
    """Return a text for each installed distribution that differs after every installation of it.

    Name and version are in the name of its metadata folder, so none of the metadata is read.
    """
    folders = [folder for folder in dict.fromkeys(sys.path) if os.path.basename(folder) in _INSTALLED]
    return sorted(text for folder in folders for text in _distributions_in(folder))


def _distributions_in(folder: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(_DISTRIBUTION):
                    yield f"{entry.name} {entry.stat().st_mtime_ns}"
    except OSError:
        return


def _own_file(name: str, module: object) -> str | None:
    """Return the file of a module that is neither Python's nor installed nor a strategy file; None for others."""
    if name in _PROGRAM or name.startswith(STRATEGY_MODULE) or not issubclass(type(module), ModuleType):
        return None
    # Not through getattr: a module that is loaded on first access must not be loaded by this.
    file = object.__getattribute__(module, "__dict__").get("__file__")
    if not isinstance(file, str) or file.startswith("<"):
        return None
    file = os.path.abspath(file)
    installed = file.startswith(_standard_library()) or any(part in _INSTALLED for part in Path(file).parts)
    return None if installed else file


@cache
def _standard_library() -> tuple[str, ...]:
    import sysconfig  # not needed by a run on cached columns

    return tuple(os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib"))


def _hash_of(file: str) -> str | None:
    """Return the hash of the file, or of the archive it lies in; None when there is neither."""
    try:
        with open(file, "rb", buffering=0) as source:
            return hashlib.sha256(source.readall()).hexdigest()
    except NotADirectoryError:
        return _hash_of(os.path.dirname(file))
    except OSError:
        return None


def _place_of(name: str, path: Sequence[str]) -> str | list[str] | None:
    """Return the file that importing ``name`` would execute, or the folders of a package without one."""
    spec = PathFinder.find_spec(name, path)
    if spec is None or spec.origin is not None:
        return None if spec is None else spec.origin
    return list(spec.submodule_search_locations or ())
