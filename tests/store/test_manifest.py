"""Run directories: their names, whose they are, and files that are whole or absent."""

from pathlib import Path

import pytest

from latbench.model.errors import UserError
from latbench.store.errors import StoreError
from latbench.store.manifest import SUMMARY, RunDirectory

STARTED = "2026-11-22T14:05:09.123456Z"


@pytest.mark.parametrize(
    ("started_at", "name", "expected"),
    [
        (STARTED, "code-assistant", "20261122T140509-code-assistant-r1"),
        ("2026-11-22T14:05:09Z", "a b/../c", "20261122T140509Z-a-b-..-c-r1"),
        (STARTED, "..", "20261122T140509-run-r1"),
        (STARTED, "größe", "20261122T140509-gr-e-r1"),
        (STARTED, "x" * 300, f"20261122T140509-{'x' * 60}-r1"),
    ],
)
def test_names(tmp_path: Path, started_at: str, name: str, expected: str) -> None:
    directory = RunDirectory.create(tmp_path / "runs", None, started_at, name, "r1")
    assert directory.path == tmp_path / "runs" / expected
    assert directory.path.is_dir()


def test_out_is_the_directory(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    assert RunDirectory.create(tmp_path, out, STARTED, "n", "r1").path == out
    assert RunDirectory.create(tmp_path, out, STARTED, "n", "r1").path == out, "it is still empty"


def test_out_with_anything_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    with pytest.raises(UserError, match=r"is not empty; name an absent or empty one with --out"):
        RunDirectory.create(tmp_path, tmp_path, STARTED, "n", "r1")


@pytest.mark.parametrize("below", [".", "x"])
def test_out_that_is_a_file_is_refused(tmp_path: Path, below: str) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match=r"cannot be the run directory \((File exists|Not a directory)\)"):
        RunDirectory.create(tmp_path, file / below, STARTED, "n", "r1")


def test_files_are_written_and_replaced_whole(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path, tmp_path / "out", STARTED, "n", "r1")
    path = directory.write_atomic(SUMMARY, "{}\n")
    assert path == tmp_path / "out" / "summary.json"
    directory.write_atomic(SUMMARY, "Grüße\n")
    assert path.read_bytes() == "Grüße\n".encode()
    assert list(directory.path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_leaves_nothing_half_done(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path, tmp_path / "out", STARTED, "n", "r1")
    (directory.path / "summary.json").mkdir()
    with pytest.raises(StoreError, match=r"summary.json: cannot be written \(Is a directory\)") as caught:
        directory.write_atomic(SUMMARY, "{}")
    assert caught.value.exit_code == 1
    assert [entry.name for entry in directory.path.iterdir()] == ["summary.json"]
