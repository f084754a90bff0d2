"""A number of slots and a line in front of them: what gives the endpoint its knee.

A slot passes directly from the request that leaves to the one that has waited longest, so nobody overtakes.
"""

import asyncio
from collections import deque


class Slots:
    """`active` requests hold a slot, `queued` wait for one. Only for use on one event loop."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.active = 0
        self.peak_active = 0
        self._line: deque[asyncio.Future[None]] = deque()

    @property
    def queued(self) -> int:
        """How many wait."""
        return len(self._line)

    async def take(self) -> bool:
        """Takes a slot, waiting in line for it where none is free; true if it had to wait. `free` gives it back.

        If the wait is cancelled, the place in the line is given up.
        """
        if self.active < self.size:
            self.active += 1
            self.peak_active = max(self.peak_active, self.active)
            return False
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                self._line.remove(place)
            else:  # the slot was handed over in the same turn of the loop: without this it would be lost for good
                self.free()
            raise
        return True

    def free(self) -> None:
        """Gives a slot back: to the first in line that still waits, if there is one."""
        for place in self._line:
            if not place.done():
                self._line.remove(place)
                place.set_result(None)
                return
        self.active -= 1

    def forget_peak(self) -> None:
        """The peak so far is what is active now."""
        self.peak_active = self.active
