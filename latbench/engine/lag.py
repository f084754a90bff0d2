"""How late this loop is: the client's own error, measured twice.

A probe asks at random moments what a chunk that arrived just then would wait; the turn tells for each chunk, or where
they are many for about every sixteenth, what it did wait behind the others that were read in the same turn of the loop.
Neither sees what the other does: a probe comes alone, and chunks come in bursts. Both leave integers in arrays, which
`flight.py` takes four times a second.
"""

import asyncio
import random
from array import array
from collections.abc import Callable

from latbench.engine.clock import raw_ns
from latbench.model.timer import TimerFile

PROBE_APART_NS = 5_000_000
"""The mean time between two moments at which the probe asks."""

_READS_APART = 16
_MANY, _FEW = 1000, 60  # reads watched in a quarter of a second: 4,000 reads/s either way
_NEVER = 1 << 60


class Turn:
    """A turn of the loop is watched from its first read on: how long each of its reads waited.

    Whoever reads counts `left` down and calls `look` when it is below zero. What tells one turn from the next is that
    both uvloop and asyncio call what was to be called soon before they read again. That costs a turn about as much as a
    read does: every turn is watched where reads are few, and where they are many, one turn in `_READS_APART` reads. A
    call then ends the turn in which they ran out, and the next one is watched to its end. Long turns follow long ones,
    so that this takes a few more of the long, never of the short.
    """

    __slots__ = ("_apart", "_began_ns", "_waiting", "call_soon", "left", "waited_ns")

    def __init__(self, loop: asyncio.AbstractEventLoop, reads_apart: int = 0) -> None:
        self.left = 0
        self.waited_ns = array("q")
        self.call_soon = loop.call_soon
        self._apart = reads_apart
        self._waiting = True
        self._began_ns = 0

    def look(self, now_ns: int) -> None:
        """A read of a turn that is watched, or the last one of the reads between two of them."""
        if self._began_ns:
            self.waited_ns.append(now_ns - self._began_ns)
            self.left = 0
        elif self._waiting:
            self._waiting = False
            self._began_ns = now_ns
            self.waited_ns.append(0)
            self.left = 0
            self.call_soon(self._end)
        else:
            self.left = _NEVER
            self.call_soon(self._next)

    def _next(self) -> None:
        """The turn after this one is watched."""
        self._waiting = True
        self.left = 0

    def _end(self) -> None:
        """The turn is over."""
        self._began_ns = 0
        self._waiting = not self._apart
        self.left = self._apart

    def take(self) -> "array[int]":
        """What was waited since the last time, a quarter of a second ago."""
        taken, self.waited_ns = self.waited_ns, array("q")
        if self._apart:
            self._apart = _READS_APART if len(taken) >= _FEW else 0
        else:
            self._apart = _READS_APART if len(taken) > _MANY else 0
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
