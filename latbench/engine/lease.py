"""The engine's lease: what may be begun only while the master is known to live."""

from latbench.engine.clock import Clock

LOOK_S = 0.05


class Lease:
    """Ends at a moment of the run that the master has named: one that was read late is worth no more than that."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until_ns = 0

    @property
    def live(self) -> bool:
        """Whether requests may be begun now."""
        return self._clock.now_ns() < self._until_ns

    def renew(self, until_ns: int) -> None:
        """The master lives. Orders may overtake one another: a lease never gets shorter."""
        self._until_ns = max(self._until_ns, until_ns)
