"""The measured window of an endpoint in a step, and how long it was loaded in it.

Where endpoints take turns, slice k of a step belongs to endpoint k % n, in the run's order (`model/slices.py`), and
warm-up and duration are times in which the endpoint was loaded. Each has a window of its own then: with the step's, an
endpoint would be divided by seconds in which others were loaded, or robbed of a slice that was its own.
"""

from latbench.analysis.columns import Window
from latbench.model.run import StepRecord
from latbench.model.slices import Slices


def window(step: StepRecord, place: int) -> Window:
    """The window of endpoint number `place`. A step by requests ends with its last answer: that one is inside."""
    from_ns, to_ns = step.measure_from_ns, step.measure_to_ns + (step.requests is not None)
    slices = _slices(step)
    if step.load is None or slices is None:
        return from_ns, to_ns
    from_ns = step.started_ns + slices.wall_at(step.load.warmup_ns, place)
    if step.load.duration_ns is not None:
        to_ns = min(to_ns, step.started_ns + slices.wall_at(step.load.end_ns - 1, place) + 1)
    return from_ns, to_ns


def loaded_ns(step: StepRecord, place: int, inside: Window) -> float:
    """How long endpoint number `place` was loaded inside a window."""
    from_ns, to_ns = inside
    slices = _slices(step)
    if slices is None:
        return (to_ns - from_ns) / step.slices
    until, before = (slices.own_at(at - step.started_ns, place)[0] for at in (to_ns, from_ns))
    return until - before


def _slices(step: StepRecord) -> Slices | None:
    """The turns of its endpoints; None where they were loaded together, or nothing is known of it."""
    if step.load is None or step.load.slice_ns is None or step.slices == 1:
        return None
    return Slices(step.load.slice_ns, step.slices)
