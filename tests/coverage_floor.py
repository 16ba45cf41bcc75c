"""Fails when the tests cover fewer lines of a layer than its floor: run after ``coverage`` has collected."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

FLOORS = {"feeds/": 95, "strategy/": 95, "smm_bt/execution/": 95, "smm_bt/analytics/": 95}


def main() -> int:
    """Print the line coverage of each layer; return 1 when one is below its floor."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        subprocess.run([sys.executable, "-m", "coverage", "json", "-q", "-o", str(report)], check=True)
        files = json.loads(report.read_text())["files"]
    failed = False
    for layer, floor in FLOORS.items():
        summaries = [entry["summary"] for name, entry in files.items() if name.startswith(layer)]
        lines = sum(summary["num_statements"] for summary in summaries)
        covered = 100.0 * sum(summary["covered_lines"] for summary in summaries) / lines
        print(f"{layer:<20} {covered:5.1f} % of {lines} lines (floor {floor} %)")
        failed = failed or covered < floor
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
