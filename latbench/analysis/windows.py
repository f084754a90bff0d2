"""The measured window of an endpoint in a step, and how long it was loaded in it.

Where endpoints take turns, slice k of a step belongs to endpoint k % n, in the run's order (`plan/slices.py`), and
warm-up and duration are times in which the endpoint was loaded. Each has a window of its own then: with the step's, an
endpoint would be divided by seconds in which others were loaded, or robbed of a slice that was its own.
"""

from latbench.analysis.columns import Window
from latbench.model.run import StepRecord


def window(step: StepRecord, place: int) -> Window:
    """The window of endpoint number `place`. A step by requests ends with its last answer: that one is inside."""
    from_ns, to_ns = step.measure_from_ns, step.measure_to_ns + (step.requests is not None)
    slice_ns = _slice_ns(step)
    if step.load is None or slice_ns is None:
        return from_ns, to_ns
    turn = place % step.slices
    from_ns = step.started_ns + _wall_ns(step.load.warmup_ns, slice_ns, step.slices, turn)
    if step.load.duration_ns is not None:
        to_ns = min(to_ns, step.started_ns + _wall_ns(step.load.end_ns - 1, slice_ns, step.slices, turn) + 1)
    return from_ns, to_ns


def loaded_ns(step: StepRecord, place: int, inside: Window) -> float:
    """How long endpoint number `place` was loaded inside a window."""
    from_ns, to_ns = inside
    slice_ns = _slice_ns(step)
    if slice_ns is None:
        return (to_ns - from_ns) / step.slices
    turn = place % step.slices
    until, before = (_own_ns(at - step.started_ns, slice_ns, step.slices, turn) for at in (to_ns, from_ns))
    return until - before


def _slice_ns(step: StepRecord) -> int | None:
    return step.load.slice_ns if step.load is not None and step.slices > 1 else None


def _wall_ns(own_ns: int, slice_ns: int, slices: int, turn: int) -> int:
    """When, from the step's start, an endpoint has been loaded for `own_ns`."""
    rounds, into = divmod(own_ns, slice_ns)
    return (rounds * slices + turn) * slice_ns + into


def _own_ns(wall_ns: int, slice_ns: int, slices: int, turn: int) -> int:
    """How long an endpoint has been loaded by then."""
    rounds, into = divmod(wall_ns, slice_ns * slices)
    return rounds * slice_ns + min(max(into - turn * slice_ns, 0), slice_ns)
