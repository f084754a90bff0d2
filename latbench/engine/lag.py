"""How late this loop is: the client's own error, measured twice.

A probe asks at random moments what a chunk that arrived just then would wait; the turn tells for each chunk what it
did wait behind the others that were read in the same turn of the loop. Neither sees what the other does: a probe comes
alone, and chunks come in bursts. Both leave integers in arrays, which `flight.py` takes four times a second.
"""

import asyncio
import random
from array import array
from collections.abc import Callable

from latbench.engine.clock import raw_ns
from latbench.model.timer import TimerFile

PROBE_APART_NS = 5_000_000
"""The mean time between two moments at which the probe asks."""


class Turn:
    """The loop's current turn, from its first read on.

    `began_ns` is the stamp of that read, 0 where the turn has had none yet: whoever reads first sets it and has `end`
    called soon. Both uvloop and asyncio call what was to be called soon before they read again. `waited_ns` has for
    each read how long after the first one it came to be stamped.
    """

    __slots__ = ("began_ns", "call_soon", "waited_ns")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.began_ns = 0
        self.waited_ns = array("q")
        self.call_soon = loop.call_soon

    def end(self) -> None:
        """The turn is over."""
        self.began_ns = 0

    def take(self) -> "array[int]":
        """What was waited since the last time."""
        taken, self.waited_ns = self.waited_ns, array("q")
        return taken


class Probe:
    """Asks at random moments how late the loop is. The moments are a Poisson process, so that they see what any sees.

    They are fixed beforehand: a loop that stands still for a second is asked as often in that second as in any other.
    """

    def __init__(self, failed: Callable[[Exception], None], apart_ns: int = PROBE_APART_NS) -> None:
        """`failed` is told of a bug of ours, which the loop would print and forget."""
        self._loop = asyncio.get_running_loop()
        self._failed = failed
        self._rate = 1 / apart_ns
        self._draw = random.Random().expovariate
        self._late_ns = array("q")
        self._timer = TimerFile()
        self._due_ns = raw_ns() + self._apart_ns()
        self._timer.set(self._due_ns)
        self._loop.add_reader(self._timer.fileno(), self._rung)

    def _apart_ns(self) -> int:
        return 1 + int(self._draw(self._rate))

    def _rung(self) -> None:
        now_ns = raw_ns()
        try:
            self._timer.fired()
            while self._due_ns <= now_ns:
                self._late_ns.append(now_ns - self._due_ns)
                self._due_ns += self._apart_ns()
            self._timer.set(self._due_ns)
        except OSError as bug:
            self._failed(bug)

    def take(self) -> "array[int]":
        """How late the loop was at each moment since the last time."""
        taken, self._late_ns = self._late_ns, array("q")
        return taken

    def close(self) -> None:
        """Ask no more."""
        self._loop.remove_reader(self._timer.fileno())
        self._timer.close()
