"""What the samples themselves say against a run: sums that do not close, answers too good to be true, no steady state.

**Little's law**, L = λW (Little 1961): the mean number of requests under way is the rate at which they come times the
mean time that they stay. Over any interval that begins and ends with nothing under way it is exact, whatever the
arrivals are like (the operational form of Denning and Buzen, ACM Computing Surveys 10(3), 1978; Little, Operations
Research 59(3), 2011). A step is such an interval. Its L is counted by the engines as they go: requests under way, added
up over time. λ and W come from the samples: how many were sent, and the mean of `done` - `sent`. Taken from the same
samples both sides would be the same sum, and with only the requests of the window they would differ whenever the load
changes in it. As it is, they differ where rows are missing or counted twice, and where a clock is wrong.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from latbench.analysis import steady
from latbench.analysis.columns import Columns
from latbench.analysis.validity import Counts, reason
from latbench.analysis.words import OK
from latbench.metrics.catalogue import NS_PER_MS
from latbench.model.load import Closed, Constant, Gamma, Poisson
from latbench.model.run import RunRecord, StepRecord
from latbench.model.sample import Outcome

LITTLE_SUSPECT = 0.05
LITTLE_INVALID = 0.2
INSTANT_SHARE = 0.01
UNSTEADY_CHANGE = 0.05
_STEADY_SHAPES = (Closed, Constant, Poisson, Gamma)  # the others change on purpose, as turns of a session do


def littles_law(run: RunRecord, counts: Counts, cols: Columns, occupied_ns: Mapping[int, int]) -> list[dict[str, Any]]:
    """`occupied_ns` is what the engines counted in each step: request-nanoseconds under way.

    Of a lost worker's last moments neither side is known, nor of a run's that was killed: nothing is held against it.
    """
    lost = any(outcomes.get(Outcome.LOST, 0) for outcomes in counts.values())
    lost = lost or any(note.get("code") == "worker_lost" for note in run.notes)
    if lost or run.state == "running" or "recovered" in run.engine:
        return []
    off = {step: abs(cols.stayed_ns[step] / counted - 1) for step, counted in occupied_ns.items() if counted > 0}
    if not off or (most := max(off.values())) <= LITTLE_SUSPECT:
        return []
    step = max(off, key=lambda one: off[one])
    severity, limit = ("invalid", LITTLE_INVALID) if most > LITTLE_INVALID else ("suspect", LITTLE_SUSPECT)
    advice = (
        f"step {step}: the samples say that requests were under way for {cols.stayed_ns[step] / 1e9:.3f} s in all, the"
        f" engines counted {occupied_ns[step] / 1e9:.3f} s (Little's law): rows are missing or a clock is wrong; do not"
        " use the figures, report a bug"
    )
    return [reason("littles_law", severity, most, limit, advice)]


def answers(run: RunRecord, cols: Columns) -> list[dict[str, Any]]:
    """Answers that were not made for their request."""
    return [*_cached(run, cols), *_instant(cols)]


def _cached(run: RunRecord, cols: Columns) -> list[dict[str, Any]]:
    """In a cold run no prompt has been seen before, from its first character on."""
    if run.scenario.get("cache", "cold") != "cold":
        return []
    new = cols.measured & (cols.outcome == OK)
    for step in run.steps:
        if step.load is not None and step.load.most_turns is not None:  # later turns repeat what a cache has seen
            new &= (cols.step != step.index) | (cols.seq % step.load.most_turns == 0)
    rows = new & (cols.tokens["cached"] > 0)
    if not rows.any():
        return []
    share = int(np.count_nonzero(rows)) / int(np.count_nonzero(new))
    tokens = int(cols.tokens["cached"][rows].sum())
    advice = (
        f"{tokens} input tokens came from a cache in a cold run, whose prompts all begin differently: something stands"
        " before the prompt (a template, a tool), or the endpoint caches by other means; with `cache: warm` a cache is"
        " what you measure"
    )
    return [reason("cached_in_cold_run", "suspect", share, 0.0, advice)]


def _instant(cols: Columns) -> list[dict[str, Any]]:
    """The same text again, sooner than any model could write it: nobody did."""
    again = sum(count for count in cols.instant.values() if count > 1)
    ok = int(np.count_nonzero(cols.measured & (cols.outcome == OK)))
    if not again or again / ok <= INSTANT_SHARE:
        return []
    advice = (
        f"{again} answers were word for word the same as another one and came at once: a cache of answers, or an"
        " endpoint that plays back; turn it off, or do not call this the model's speed"
    )
    return [reason("identical_answers", "suspect", again / ok, INSTANT_SHARE, advice)]


def warmups(cols: Columns, steps: Sequence[StepRecord], endpoints: Sequence[str]) -> list[dict[str, Any]]:
    """Whether TTFT had become steady when measuring began, for each endpoint and step whose load is steady."""
    found = []
    for step in steps:
        if step.load is None or not isinstance(step.load.shape, _STEADY_SHAPES):
            continue
        for name in endpoints:
            number = cols.endpoints.numbers.get(name, -1)
            rows = np.flatnonzero((cols.endpoint == number) & (cols.step == step.index) & (cols.outcome == OK))
            rows = rows[np.isfinite(cols.metrics["ttft"][rows])]
            rows = rows[np.argsort(cols.due_ns[rows], kind="stable")]
            left = steady.unsteady(cols.metrics["ttft"][rows], int(np.count_nonzero(~cols.measured[rows])))
            if left is not None:
                until_ns = float(cols.due_ns[rows[cols.measured[rows]]][left.count]) - step.started_ns
                found.append(_unsteady(name, step, left, until_ns / 1e9))
    return found


def _unsteady(name: str, step: StepRecord, left: steady.Unsteady, until_s: float) -> dict[str, Any]:
    load = step.load
    warmup_s = 0.0 if load is None else load.warmup_ns / 1e9
    advice = (
        f"{name}, step {step.index}: the first {left.count} measured requests had a median TTFT of"
        f" {left.median / NS_PER_MS:.4g} ms, the rest {left.rest / NS_PER_MS:.4g} ms (MSER-5): it was not steady before"
        f" {until_s:.1f} s, and the warm-up is {warmup_s:g} s; raise `warmup`"
    )
    if load is not None and load.requests is not None:
        advice += ", or measure by duration: a run by requests has none"
    severity = "suspect" if left.change > UNSTEADY_CHANGE else "note"
    return reason("not_steady", severity, left.change, UNSTEADY_CHANGE, advice)
