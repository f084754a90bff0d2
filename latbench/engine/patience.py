"""How long a request that was refused for now waits before it is made again, where a scenario says `respect`.

What was asked for is waited, to the nanosecond: whether that was enough is one of the things a run measures. Where
nothing was asked for, the wait doubles from one second to thirty, as SDKs do, but without their jitter: the same run
should wait the same. A limit that no run outlasts is not waited for, and neither is an overload: that is no limit of
ours, and it has an outcome of its own.
"""

from latbench.model.answer import Refusal
from latbench.model.sample import Outcome

MAX_TRIES = 10
"""Attempts of one request, the first included."""

LONGEST_WAIT_NS = 600_000_000_000
"""What is asked to wait longer than this gives up: it is a limit of another kind."""

_FIRST_NS = 1_000_000_000
_LAST_NS = 30_000_000_000


def wait_ns(refusal: Refusal, tries: int) -> int | None:
    """Nanoseconds to wait after this refusal, `tries` attempts having been refused before it; None to give up."""
    if refusal.outcome != Outcome.RATE_LIMITED or refusal.kind == "daily" or tries + 1 >= MAX_TRIES:
        return None
    if refusal.wait_ns is not None:
        return refusal.wait_ns if refusal.wait_ns <= LONGEST_WAIT_NS else None
    return min(_LAST_NS, _FIRST_NS << tries)
