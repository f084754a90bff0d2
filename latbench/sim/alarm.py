"""Waking a coroutine at a moment of CLOCK_MONOTONIC: one timerfd and a heap of deadlines.

The loop's own timers count whole milliseconds, and uvloop's fire early: gaps made with them would be wrong by more than
what latbench claims to measure. A timerfd never fires early and is a tenth of a millisecond late. It is called through
ctypes, because the standard library has it only from Python 3.13 on. Linux only.
"""

import asyncio
import ctypes
import heapq
import os
import time

_NS = 1_000_000_000
_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1

_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


class Alarm:
    """Deadlines are absolute, on the clock of `time.monotonic_ns`: a late wake-up does not move those that follow.

    `late_max_ns` is the worst delay from a deadline to the loop's turn in which it was seen.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._file = _checked(_libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))
        self._heap: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0
        self.late_max_ns = 0
        loop.add_reader(self._file, self._ring)

    def until(self, deadline_ns: int) -> asyncio.Future[None]:
        """Done at the deadline, never before it; for one that has passed, in a later turn of the loop, never at once.

        (At once would let a stream that is behind keep the loop to itself.)
        """
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._count += 1  # the first to ask is the first to be woken, and futures are never compared
        heapq.heappush(self._heap, (deadline_ns, self._count, waiter))
        if self._heap[0][2] is waiter:
            self._set()
        return waiter

    def close(self) -> None:
        """Wakes nobody any more."""
        self._loop.remove_reader(self._file)
        os.close(self._file)

    def _ring(self) -> None:
        try:
            os.read(self._file, 8)
        except BlockingIOError:  # set anew, to a later deadline, after the loop saw it fire
            return
        now_ns = time.monotonic_ns()
        while self._heap and self._heap[0][0] <= now_ns:
            deadline_ns, _, waiter = heapq.heappop(self._heap)
            if not waiter.done():  # a request whose client has gone leaves a cancelled one
                self.late_max_ns = max(self.late_max_ns, now_ns - deadline_ns)
                waiter.set_result(None)
        if self._heap:
            self._set()

    def _set(self) -> None:
        # A value of zero would disarm the timer.
        seconds, nanoseconds = divmod(max(1, self._heap[0][0]), _NS)
        setting = _Setting(_Timespec(0, 0), _Timespec(seconds, nanoseconds))
        _checked(_libc.timerfd_settime(self._file, _ABSOLUTE, ctypes.byref(setting), None))
