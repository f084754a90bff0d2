"""How the clock of a worker's machine stands to the master's. Pure."""

from dataclasses import dataclass

PINGS = 32


@dataclass(slots=True)
class WorkerClock:
    """How a worker's CLOCK_MONOTONIC stands to the master's: `offset_ns` is the worker's minus the master's.

    By ping exchange it is known to half of the shortest round trip, `rtt_ns`. On one machine both are 0.
    """

    shared: bool
    offset_ns: int = 0
    rtt_ns: int = 0
    pings: int = 0

    def pong(self, sent_ns: int, at_ns: int, now_ns: int) -> None:
        """Learn from an exchange: the one that was quickest knows best."""
        rtt_ns = now_ns - sent_ns
        self.pings += 1
        if not self.shared and (self.pings == 1 or rtt_ns < self.rtt_ns):
            self.rtt_ns = rtt_ns
            self.offset_ns = at_ns - (sent_ns + now_ns) // 2

    @property
    def known(self) -> bool:
        """Whether there were exchanges enough."""
        return self.shared or self.pings >= PINGS
