"""The null test of all workers at once, before the first step: each engine's own error. No run fails by it."""

import time
from collections.abc import Sequence

from latbench.cluster.crew import Member
from latbench.cluster.run_state import RunState
from latbench.model.frames import NullTest
from latbench.model.load import Step

MOST_STREAMS = 500
"""Of all workers together: more would hardly answer within the second or two that the test takes."""

_LIMIT_S = 30.0
_SAY_AGAIN_S = 2.0
_UNKNOWN_RATE = 100


def null_test(state: RunState, steps: Sequence[Step]) -> None:
    """Have every worker run it, await them all, and tell the sink. A worker that is lost or silent is left out."""
    members = sorted(state.crew.live(), key=lambda member: member.id)
    streams = max(len(members), planned_streams(steps, len(state.job.endpoints)))
    orders = {member.id: NullTest(_share(streams, at, len(members)), streams) for at, member in enumerate(members)}
    until, told = time.monotonic() + _LIMIT_S, float("-inf")

    def awaited() -> list[Member]:
        return [member for member in members if not member.lost and member.null_tested is None]

    while awaited() and state.stop is None and time.monotonic() < until:
        if time.monotonic() - told > _SAY_AGAIN_S:
            told = time.monotonic()
            for member in awaited():
                state.crew.tell(member, orders[member.id])  # twice is once to an engine that is at it
        state.wait(0.1)
        state.raise_fault()
    if state.stop is None:
        state.sink.null_tested({member.id: member.null_tested for member in members if not member.lost}, streams)


def planned_streams(steps: Sequence[Step], endpoints: int) -> int:
    """About how many requests will be under way at most.

    In an open loop that depends on how long answers take: as many as arrive in a second, unless there is a cap.
    """
    return min(MOST_STREAMS, max((_streams(step) for step in steps), default=1) * endpoints)


def _streams(step: Step) -> int:
    if step.concurrency is not None:
        return step.concurrency
    if step.max_in_flight is not None:
        return step.max_in_flight
    return max(1, round(step.rate or _UNKNOWN_RATE))


def _share(streams: int, at: int, members: int) -> int:
    return streams // members + (at < streams % members)
