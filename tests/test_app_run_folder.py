"""The run folder is there whole or not at all, whatever happens while it is written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from smm_bt.app.run_folder import choose_run_folder, whole_or_not_at_all
from smm_bt.app.run_log import RunLog
from smm_bt.errors import OutputError, UsageError


def everything_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_new_run_gets_a_name_of_time_label_and_chance(tmp_path: Path) -> None:
    first, second = (choose_run_folder(tmp_path, None, "BTCUSDT") for _ in range(2))
    assert re.fullmatch(r"\d{8}T\d{6}Z-BTCUSDT-[0-9a-f]{6}", first.name)
    assert first.parent == tmp_path
    assert first != second


def test_choosing_a_name_makes_nothing(tmp_path: Path) -> None:
    choose_run_folder(tmp_path / "runs", None, "x")
    assert everything_in(tmp_path) == []


def test_a_given_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert choose_run_folder(tmp_path, tmp_path / "mine", "x") == tmp_path / "mine"


def test_an_existing_folder_file_or_dead_link_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("folder", "file", "link"):
        with pytest.raises(UsageError, match=f"{name} exists already; choose another --out"):
            choose_run_folder(tmp_path, tmp_path / name, "x")


def test_a_finished_folder_takes_its_name_with_everything_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    with whole_or_not_at_all(folder) as unfinished:
        assert unfinished.parent == folder.parent
        assert not folder.exists()
        (unfinished / "a.txt").write_text("a")
    assert everything_in(tmp_path) == ["deep", "deep/run", "deep/run/a.txt"]


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt(), SystemExit(1)])
def test_a_failure_leaves_nothing_behind(error: BaseException, tmp_path: Path) -> None:
    def write() -> None:
        with whole_or_not_at_all(tmp_path / "run") as unfinished:
            (unfinished / "a.txt").write_text("a")
            raise error

    with pytest.raises(type(error)):
        write()
    assert everything_in(tmp_path) == []


def test_a_failure_removes_the_parent_folders_made_for_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), whole_or_not_at_all(tmp_path / "deep" / "deeper" / "run"):
        raise RuntimeError
    assert everything_in(tmp_path) == []


def test_a_full_disk_is_told_as_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No space left on device"), whole_or_not_at_all(tmp_path / "run"):
        raise OSError(28, "No space left on device")
    assert everything_in(tmp_path) == []


def test_a_place_that_cannot_be_written_is_told_as_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Cannot write"), whole_or_not_at_all(tmp_path / "file" / "run"):
        pytest.fail("the folder was made")


def test_a_folder_that_appears_during_the_run_is_not_overwritten(tmp_path: Path) -> None:
    def write() -> None:
        with whole_or_not_at_all(tmp_path / "run"):
            (tmp_path / "run").mkdir()
            (tmp_path / "run" / "theirs").touch()

    with pytest.raises(UsageError, match="appeared during the run"):
        write()
    assert everything_in(tmp_path) == ["run", "run/theirs"]


def test_the_log_has_one_json_object_a_line_flushed_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    with RunLog(path) as log:
        log.write("started", symbols=["BTCUSDT"], folder=tmp_path)
        (line,) = path.read_text().splitlines()
        log.write("ended", why="ärger")
    entry = json.loads(line)
    assert entry["event"] == "started"
    assert entry["symbols"] == ["BTCUSDT"]
    assert entry["folder"] == str(tmp_path)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", entry["time"])
    assert json.loads(path.read_text("utf-8").splitlines()[1])["why"] == "ärger"
