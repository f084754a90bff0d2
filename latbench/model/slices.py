"""Endpoints that take turns: from the time in which an endpoint is loaded to the time of the step, and back.

The step is cut into slices. Slice k belongs to endpoint k % count, so that all of them see the same minutes. An
endpoint's own time stands still while others have their turn; arrivals, warm-up and duration are in own time. All times
are nanoseconds from the start of the step.
"""

import numpy as np


class Slices:
    """The turns of `count` endpoints, `slice_ns` each. Without slices all endpoints run together, at all times."""

    def __init__(self, slice_ns: int | None, count: int) -> None:
        self._slice_ns = slice_ns or 1  # together: turns of any length, all of them everybody's
        self._count = count if slice_ns else 1

    def wall_ns(self, own: np.ndarray, endpoint: int) -> np.ndarray:
        """`wall_at` of many."""
        turn, into = np.divmod(own, self._slice_ns)
        wall: np.ndarray = (turn * self._count + self._place(endpoint)) * self._slice_ns + into
        return wall

    def wall_at(self, own_ns: int, endpoint: int) -> int:
        """The time of the step at which the endpoint, its number counted from 0, has been loaded for `own_ns`.

        Where a turn ends just then, that is the beginning of the next one.
        """
        turn, into = divmod(own_ns, self._slice_ns)
        return (turn * self._count + self._place(endpoint)) * self._slice_ns + into

    def own_at(self, wall_ns: int, endpoint: int) -> tuple[int, bool]:
        """For how long the endpoint has been loaded by then, and whether it is its turn."""
        turn, into = divmod(wall_ns, self._slice_ns)
        rounds, turn_of = divmod(turn, self._count)
        place = self._place(endpoint)
        this_round = into if turn_of == place else self._slice_ns * (turn_of > place)
        return rounds * self._slice_ns + this_round, turn_of == place

    def next_turn_ns(self, wall_ns: int, endpoint: int) -> int:
        """When the endpoint may be loaded next: `wall_ns` itself if it is its turn, else when that begins."""
        turn = wall_ns // self._slice_ns
        wait = (self._place(endpoint) - turn) % self._count
        return (turn + wait) * self._slice_ns if wait else wall_ns

    def span_ns(self, own_ns: int) -> int:
        """How long the step takes until each endpoint has been loaded for `own_ns`, the last one included."""
        return 0 if own_ns == 0 else self.wall_at(own_ns - 1, self._count - 1) + 1

    def _place(self, endpoint: int) -> int:
        return endpoint % self._count
