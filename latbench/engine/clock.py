"""The one clock: CLOCK_MONOTONIC in integer nanoseconds, zero where the run began."""

import time

raw_ns = time.monotonic_ns
"""The stamp of the hot path. It becomes a time of the run by subtracting `Clock.origin_ns`."""


class Clock:
    """The run's clock in this process."""

    def __init__(self, origin_ns: int) -> None:
        """`origin_ns` is the run's zero on this machine's CLOCK_MONOTONIC."""
        self.origin_ns = origin_ns

    def now_ns(self) -> int:
        """Nanoseconds since the run began."""
        return raw_ns() - self.origin_ns
