"""Whether a threshold can still be met, from the samples that have come so far: what no answer to come can cure.

Known before the end are numbers of requests, which only grow, and, where a step has a planned number of requests, the
shares and percentiles of an upper bound on n: with 100 planned, p95 is beyond its limit as soon as 6 values are. Only
what even the value itself cannot reach any more counts, so that stopping never takes a pass away. Ratios, rates of
delivery, costs and `good_share` are left to the end.

What is counted twice by its sender is counted once here: the requests against each threshold are kept by name, and
these are few.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from latbench.analysis.intervals import rank
from latbench.analysis.stats import PERCENTILES
from latbench.model.load import Step
from latbench.model.sample import Outcome, Sample
from latbench.scenario.thresholds import Kind, Threshold

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class OutOfReach:
    """A threshold that cannot be met any more, and why."""

    threshold: str
    endpoint: str
    step: int
    why: str


@dataclass(slots=True)
class _Watch:
    """One threshold, endpoint and step: how many requests may be `against` it, and which are. Some count twice."""

    threshold: Threshold
    allowed: int
    planned: int | None
    against: Callable[[Sample], int]
    seen: dict[int, int] = field(default_factory=dict)
    total: int = 0

    def add(self, sample: Sample) -> bool:
        """Whether this sample, the first time it is seen so, is one too many."""
        weight = self.against(sample)
        more = weight - self.seen.get(sample.seq, 0)
        if more <= 0:
            return False
        self.seen[sample.seq] = weight
        self.total += more
        return self.total > self.allowed

    @property
    def why(self) -> str:
        """What makes it hopeless."""
        of = "" if self.planned is None else f" of {self.planned:,} planned requests"
        return f"cannot be met any more: {self.total:,}{of} are against it, at most {self.allowed:,} may be"


class Tripwire:
    """Takes every committed sample; speaks once for each threshold, endpoint and step."""

    def __init__(
        self,
        thresholds: Sequence[Threshold],
        endpoints: Sequence[str],
        steps: Sequence[Step],
        tasks: Mapping[str, str],
    ) -> None:
        """`tasks` has the task of each prompt by its id."""
        self._tasks = tasks
        self._watches: dict[tuple[str, int], list[_Watch]] = {}
        for index, step in enumerate(steps):
            for name in endpoints:
                found = [*_watches(thresholds, name, index, step)]
                if found:
                    self._watches[name, index] = found

    def add(self, sample: Sample) -> list[OutOfReach]:
        """What cannot be met any more since this sample. `lost` is no end: it may be a request that has just begun."""
        watches = self._watches.get((sample.endpoint, sample.step))
        if watches is None or sample.phase != "measure" or sample.outcome == Outcome.LOST:
            return []
        tripped = [
            watch
            for watch in watches
            if watch.threshold.task in (None, self._tasks.get(sample.prompt_id)) and watch.add(sample)
        ]
        for watch in tripped:
            watches.remove(watch)
        return [OutOfReach(one.threshold.text, sample.endpoint, sample.step, one.why) for one in tripped]


def _watches(thresholds: Sequence[Threshold], name: str, index: int, step: Step) -> Iterator[_Watch]:
    planned = _planned(step)
    for threshold in thresholds:
        if threshold.endpoint in (None, name) and threshold.step in (None, index):
            allowed = _allowed(threshold, planned)
            if allowed is not None:
                bound = None if threshold.kind is Kind.COUNT else planned
                yield _Watch(threshold, allowed, bound, _against(threshold))


def _planned(step: Step) -> int | None:
    """How many requests a step has at most; None where time ends it."""
    if step.requests is None:
        return None
    return step.requests * (step.most_turns or 1)


def _allowed(threshold: Threshold, planned: int | None) -> int | None:
    """How many of at most `planned` requests may be against a threshold; None where that cannot be said."""
    if threshold.kind is Kind.COUNT and threshold.caps and threshold.name != "empty":
        return int(threshold.limit) - (threshold.op == "<")
    if planned is None:
        return None
    if threshold.kind is Kind.SHARE and threshold.caps and threshold.name != "good_share":
        most = threshold.limit * planned
        return math.ceil(most - _ROUNDING) - 1 if threshold.op == "<" else math.floor(most + _ROUNDING)
    if threshold.kind is Kind.PERCENTILE and threshold.metric.of is not None:
        place = rank(planned, PERCENTILES[threshold.at or ""])
        return planned - place if threshold.caps else place - 1
    return None


def _against(threshold: Threshold) -> Callable[[Sample], int]:
    """How often a sample counts against a threshold."""
    if threshold.kind is not Kind.PERCENTILE:
        if threshold.name == Outcome.RATE_LIMITED and threshold.kind is Kind.COUNT:
            return _refusals
        if threshold.name in ("errors", "error_rate"):
            return lambda sample: sample.outcome not in (Outcome.OK, Outcome.CANCELLED, Outcome.DROPPED)
        return lambda sample: sample.outcome == threshold.name
    metric = threshold.metric
    of = metric.of
    assert of is not None  # others are not watched

    def beyond(sample: Sample) -> bool:
        value = of(sample) if sample.outcome == Outcome.OK else None
        return value is not None and not threshold.met(value / metric.scale)

    return beyond


def _refusals(sample: Sample) -> int:
    """How often a request was refused for a rate limit, the attempts before its last included."""
    tries = sum(one.outcome == Outcome.RATE_LIMITED for one in sample.tries)
    return tries + (sample.outcome == Outcome.RATE_LIMITED)
