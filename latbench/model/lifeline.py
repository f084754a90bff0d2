"""How a child process ties its life to its parent's, and what names the clock they share."""

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent` dies (Linux); end at once if it has died already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def clock_id() -> str:
    """What names this process's CLOCK_MONOTONIC: the same for all of one boot of one kernel and one time namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
    try:
        return f"{boot} {os.readlink('/proc/self/ns/time')}"  # a container may have a clock of its own
    except OSError:
        return boot  # this kernel has one clock for all


def process_started(pid: int) -> str | None:
    """When a living process of this machine started, in the kernel's own words: with its id, what names it for ever.

    None where there is no such process, or one that has died and is only waiting to be noticed.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # A process may have brackets and blanks in its name, the second field.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else fields[18]
