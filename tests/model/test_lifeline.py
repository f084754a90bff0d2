"""A child ends with its parent, also when the parent was gone before the child could say so."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from latbench.model import lifeline
from latbench.model.lifeline import clock_id, die_with_parent, process_started

CHILD = """
from latbench.model.lifeline import die_with_parent
die_with_parent({parent})
print("alive", flush=True)
input()
"""


def test_the_clock_has_a_name_that_other_processes_share() -> None:
    seen = subprocess.run(
        [sys.executable, "-c", "from latbench.model.lifeline import clock_id; print(clock_id())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert seen.stdout.strip() == clock_id() != ""


def test_without_a_boot_id_the_clock_has_no_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(lifeline, "Path", lambda _: tmp_path / "absent")
    assert clock_id() == ""


def test_a_stranger_is_not_the_parent() -> None:
    seen = subprocess.run([sys.executable, "-c", CHILD.format(parent=1)], capture_output=True, text=True, check=False)
    assert (seen.returncode, seen.stdout) == (1, "")
    with pytest.raises(SystemExit):
        die_with_parent(os.getpid())


def test_off_linux_only_the_parent_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    die_with_parent(os.getppid())


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel kills orphans on Linux only")
def test_the_kernel_kills_the_child_of_a_killed_parent() -> None:
    middle = (
        "import os, subprocess, sys\n"
        f"code = {CHILD!r}.format(parent=os.getpid())\n"
        "child = subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE)\n"
        "child.wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", middle], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        try:
            assert parent.stdout.readline() == b"alive\n"
        finally:
            parent.send_signal(signal.SIGKILL)
        # The child holds the other end of this pipe, and of nothing else that could end it: end of file is its death.
        assert parent.stdout.read() == b""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up where Linux shows them")
def test_a_process_is_named_by_its_start(tmp_path: Path) -> None:
    odd = tmp_path / "a) R (b"  # the kernel puts this name into the line that is read
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([str(odd), "60"]) as child:
        try:
            started = process_started(child.pid)
            assert started is not None
            assert started.isdecimal()
            assert process_started(child.pid) == started
            assert int(process_started(os.getpid()) or 0) <= int(started)
        finally:
            child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert process_started(child.pid) is None, "it is dead, though nobody has noticed yet"
    assert process_started(child.pid) is None
