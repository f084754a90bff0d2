"""A timer of the kernel: never early, at once for what has passed, and forgetful of what was set before."""

import os
import select
import time
from collections.abc import Iterator

import pytest

from latbench.model import timer as timer_module
from latbench.model.timer import TimerFile

MS = 1_000_000
LATER_NS = 3600 * 1000 * MS
LIMIT_S = 30.0


@pytest.fixture
def timer() -> Iterator[TimerFile]:
    timer = TimerFile()
    yield timer
    timer.close()


def readable(timer: TimerFile, within_s: float) -> bool:
    return bool(select.select([timer.fileno()], [], [], within_s)[0])


def test_it_never_fires_early(timer: TimerFile) -> None:
    for offset_ns in (1, 50_000, 300_000, MS, 5 * MS, 20 * MS):
        at_ns = time.monotonic_ns() + offset_ns
        timer.set(at_ns)
        assert readable(timer, LIMIT_S)
        assert time.monotonic_ns() >= at_ns
        assert timer.fired()


@pytest.mark.parametrize("at_ns", [-5, 0, 1, 999_999_999, 1_000_000_000])
def test_a_moment_that_has_passed_is_now(timer: TimerFile, at_ns: int) -> None:
    timer.set(at_ns)
    assert readable(timer, LIMIT_S), "a value of zero would disarm it"
    assert timer.fired()


def test_it_fires_once(timer: TimerFile) -> None:
    timer.set(1)
    assert readable(timer, LIMIT_S)
    assert (timer.fired(), timer.fired()) == (True, False)
    assert not readable(timer, 0.0)


def test_before_it_is_set_and_before_its_moment_nothing_happens(timer: TimerFile) -> None:
    assert not readable(timer, 0.0)
    assert not timer.fired()
    timer.set(time.monotonic_ns() + LATER_NS)
    assert not readable(timer, 0.0)
    assert not timer.fired()


def test_what_was_set_before_is_forgotten(timer: TimerFile) -> None:
    timer.set(1)
    assert readable(timer, LIMIT_S)
    timer.set(time.monotonic_ns() + LATER_NS)
    assert not timer.fired(), "it was set anew after the loop saw it fire"
    timer.set(time.monotonic_ns() + MS)
    assert readable(timer, LIMIT_S), "an earlier moment takes the place of a later one"


def test_its_file_blocks_nobody_is_not_inherited_and_is_released() -> None:
    timer = TimerFile()
    file = timer.fileno()
    assert not os.get_blocking(file)
    assert not os.get_inheritable(file)
    timer.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)


def test_a_refused_system_call_is_an_os_error() -> None:
    with pytest.raises(OSError, match=r"Errno"):
        timer_module._checked(timer_module._libc.timerfd_create(-1, 0))
    timer = TimerFile()
    timer.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        timer.set(1)
