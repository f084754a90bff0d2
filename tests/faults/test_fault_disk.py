"""The disk is full in the middle of a run: it stops, says so in a line, and can be put together when there is room."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults_kit import S, Stage, reasons

pytestmark = [pytest.mark.timeout(110), pytest.mark.long]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of eight megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(folder: Path) -> int:
    """Take all the room there is; when it was gone (CLOCK_MONOTONIC)."""
    with (folder / "ballast").open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return time.monotonic_ns()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("shape", ["open", "closed"])
def test_the_disk_is_full(stage: Stage, small_disk: Path, shape: str, workers: int) -> None:
    scene = stage()
    store = small_disk / "latbench.db"
    where = ("--store", str(store), "--out", str(small_disk / "out"), "--quiet")
    scene.start(shape, 40, *where, workers=workers)
    scene.loaded(store=str(store), workers=workers)
    full_ns = _fill(small_disk)
    done = scene.run.wait(60.0)
    assert (done.code, done.out) == (1, "")
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    line = lines[0]
    assert line.startswith(f"latbench: {store}: the store failed (database or disk is full); the run has stopped: ")
    scene.nothing_is_left()
    assert scene.journal.quiet()[-1] < full_ns + 4 * S
    assert list(scene.spools.glob("*/*.spool"))

    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    again = scene.cli.run("runs", "recover", "--store", store, env={"LATBENCH_SPOOL": str(scene.spools)})
    assert (again.code, again.err) == (0, "")
    summary = scene.recovered(store=str(store), out=small_disk / "out")
    assert "recovered" in reasons(summary)
    books = scene.books(store=str(store))
    assert sum(row.outcome == "ok" for row in books.rows) >= 15
