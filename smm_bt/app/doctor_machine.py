"""The doctor's checks of this machine: Python, packages, whose ``strategy`` and ``feeds`` these are, folders."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions, version
from importlib.util import find_spec
from pathlib import Path

import smm_bt
from smm_bt.app.doctor_lines import Finding, fail, ok, warn

_OURS = "smm-bt"
_LEAST_PYTHON = (3, 11)
_LEAST_FREE_BYTES = 500_000_000
#: Distribution, module, least version, and whether exactly that one is needed.
_PACKAGES = (
    ("backtrader", "backtrader", "1.9.78.123", True),
    ("ccxt", "ccxt", "4.5.70", False),
    ("numpy", "numpy", "", False),
    ("pandas", "pandas", "", False),
    ("pyarrow", "pyarrow", "", False),
    ("TA-Lib", "talib", "", False),
    ("quantstats", "quantstats", "", False),
    ("plotly", "plotly", "", False),
    ("matplotlib", "matplotlib", "", False),
    ("pydantic", "pydantic", "", False),
    ("python-dotenv", "dotenv", "", False),
    ("typer", "typer", "", False),
    ("rich", "rich", "", False),
    ("tenacity", "tenacity", "", False),
    ("aiohttp", "aiohttp", "", False),
)
#: A module of each package that no other project's package of that name has, and one name in it.
_FINGERPRINTS = {"feeds": ("lines.py", "PROFIT_TARGET_HIT"), "strategy": ("contract.py", "compute_smm")}


def check_python() -> Finding:
    """Check Python's version."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < _LEAST_PYTHON:
        return fail("Python", found, f"Install Python {'.'.join(map(str, _LEAST_PYTHON))} or newer.")
    return ok("Python", found)


def check_packages() -> list[Finding]:
    """Check that every package is there in a version that fits; nothing is imported."""
    present, findings = [], []
    for name, module, least, exactly in _PACKAGES:
        found = _version_of(name)
        wanted = f"{name}{'==' if exactly else '>='}{least}" if least else name
        if found is None or find_spec(module) is None:
            findings.append(fail(f"Package {name}", "is missing", f'Install it: pip install "{wanted}"'))
        elif least and (found != least if exactly else _numbers(found) < _numbers(least)):
            findings.append(fail(f"Package {name}", f"{found} does not fit", f'Install: pip install "{wanted}"'))
        else:
            present.append(f"{name} {found}")
    return [ok("Packages", ", ".join(present)), *findings]


def _version_of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    numbers = []
    for part in text.split("."):
        digits = "".join(sign for sign in part if sign.isdigit())
        numbers.append(int(digits) if digits else 0)
    return tuple(numbers)


def check_ownership() -> Iterator[Finding]:
    """Check that the packages ``feeds`` and ``strategy`` that Python finds are this project's.

    Their names are generic: another distribution may bring packages of these names, overwrite files of ours, or come
    first on the path.
    """
    home = Path(smm_bt.__file__).resolve().parents[1]
    for package in ("feeds", "strategy"):
        yield _owner_of(package, home)


def _owner_of(package: str, home: Path) -> Finding:
    name = f"Package {package}"
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return fail(name, "is not this project's, or missing", "Reinstall: pip install --force-reinstall smm-bt")
    folder = Path(spec.origin).resolve().parent
    if folder != home / package:
        return fail(
            name,
            f"Python finds {folder}, and this program lies in {home}",
            f"Another project's {package}/ comes first: start from another folder, clear PYTHONPATH, or use a virtual "
            "environment of its own.",
        )
    file, text = _FINGERPRINTS[package]
    module = folder / file
    if not module.is_file() or text not in module.read_text(encoding="utf-8", errors="replace"):
        return _overwritten(name, package, f"{module} is not this project's")
    others = sorted(_others_with(package, folder))
    if others:
        return _overwritten(name, package, f"{', '.join(others)} put files into it, too")
    changed = _changed_files(package, folder)
    if changed:
        return warn(
            name,
            f"{', '.join(changed[:3])} differs from what was installed",
            "If you did not change it: pip install --force-reinstall smm-bt",
        )
    return ok(name, f"this project's ({folder})")


def _overwritten(name: str, package: str, found: str) -> Finding:
    return fail(
        name,
        found,
        f"Another project brings a package {package}, too; install SMM-BT into a virtual environment of its own.",
    )


def _others_with(package: str, folder: Path) -> Iterator[str]:
    """Yield the distributions other than ours that say they have installed files into ``folder``."""
    for each in distributions():
        if each.name is None or each.name.lower().replace("_", "-") == _OURS:
            continue
        listed = each.read_text("RECORD") or each.read_text("installed-files.txt") or ""
        if f"{package}/" not in listed:  # reading a list is quick, making paths of it is not
            continue
        for file in each.files or ():
            if file.parts[:1] == (package,) and Path(str(each.locate_file(file))).resolve().parent == folder:
                yield f"{each.name} {each.version}"
                break


def _changed_files(package: str, folder: Path) -> list[str]:
    """Return files of ours whose size is not the one that was installed; a source tree has no such record."""
    try:
        own: Distribution = distribution(_OURS)
    except PackageNotFoundError:
        return []
    changed = []
    for file in own.files or ():
        place = Path(str(own.locate_file(file)))
        inside = file.parts[:1] == (package,) and place.resolve().parent == folder
        if inside and file.size is not None and place.is_file() and place.stat().st_size != file.size:
            changed.append(str(file))
    return changed


def check_folders(folders: Mapping[str, Path]) -> Iterable[Finding]:
    """Check that the folders of these settings can be written."""
    for name, folder in folders.items():
        standing = folder.absolute()
        while not standing.exists() and standing != standing.parent:
            standing = standing.parent
        free = shutil.disk_usage(standing).free
        if not standing.is_dir() or not os.access(standing, os.W_OK | os.X_OK):
            yield fail(f"Folder {name}", f"{folder} cannot be written", f"Set {name} to a folder you may write to.")
        elif free < _LEAST_FREE_BYTES:
            yield warn(f"Folder {name}", f"{folder}, {free / 1e6:,.0f} MB free", "Free some space.")
        else:
            yield ok(f"Folder {name}", f"{folder}, {free / 1e9:,.0f} GB free")
