"""The one clock: CLOCK_MONOTONIC in integer nanoseconds, zero where the run began."""

import time

raw_ns = time.monotonic_ns
"""The stamp of the hot path. It becomes a time of the run by subtracting `Clock.origin_ns`."""


class Clock:
    """The run's clock in this process."""

    def __init__(self, origin_ns: int | None, elapsed_ns: int) -> None:
        """`origin_ns` None: the run is `elapsed_ns` old now, by a clock that is not ours."""
        self.origin_ns = raw_ns() - elapsed_ns if origin_ns is None else origin_ns

    def now_ns(self) -> int:
        """Nanoseconds since the run began."""
        return raw_ns() - self.origin_ns
