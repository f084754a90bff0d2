"""Waking a coroutine at a moment of CLOCK_MONOTONIC: one timer of the kernel and a heap of deadlines."""

import asyncio
import heapq
import time

from latbench.model.timer import TimerFile


class Alarm:
    """Deadlines are absolute, on the clock of `time.monotonic_ns`: a late wake-up does not move those that follow.

    `late_max_ns` is the worst delay from a deadline to the loop's turn in which it was seen.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer = TimerFile()
        self._heap: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0
        self.late_max_ns = 0
        loop.add_reader(self._timer.fileno(), self._ring)

    def until(self, deadline_ns: int) -> asyncio.Future[None]:
        """Done at the deadline, never before it; for one that has passed, in a later turn of the loop, never at once.

        (At once would let a stream that is behind keep the loop to itself.)
        """
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._count += 1  # the first to ask is the first to be woken, and futures are never compared
        heapq.heappush(self._heap, (deadline_ns, self._count, waiter))
        if self._heap[0][2] is waiter:
            self._timer.set(deadline_ns)
        return waiter

    def close(self) -> None:
        """Wakes nobody any more."""
        self._loop.remove_reader(self._timer.fileno())
        self._timer.close()

    def _ring(self) -> None:
        if not self._timer.fired():
            return
        now_ns = time.monotonic_ns()
        while self._heap and self._heap[0][0] <= now_ns:
            deadline_ns, _, waiter = heapq.heappop(self._heap)
            if not waiter.done():  # a request whose client has gone leaves a cancelled one
                self.late_max_ns = max(self.late_max_ns, now_ns - deadline_ns)
                waiter.set_result(None)
        if self._heap:
            self._timer.set(self._heap[0][0])
