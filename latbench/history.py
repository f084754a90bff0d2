"""Runs of the store as dashboards see them: all that are over added up, or each moment by moment.

Added up, counters grow with every run that ends, as Prometheus wants them to; of gauges the latest run's stand. Moment
by moment, a run is what somebody would have scraped while it went on. Imports no Locust and no exporter.
"""

from collections import deque
from collections.abc import Iterator

import numpy as np

from latbench.metrics.catalogue import NS_PER_S
from latbench.metrics.series import Snapshot
from latbench.model.run import RunRecord
from latbench.model.sample import Sample
from latbench.observed import Observed, snapshot_of
from latbench.results import last_moment, summary_of
from latbench.store.sqlite import Store


class History:
    """The runs of a store that are over, each read once, when it has ended."""

    def __init__(self) -> None:
        self._total = Snapshot()
        self._read: set[str] = set()

    def catch_up(self, store: Store) -> Snapshot:
        """Add the runs that have ended since; all of them together. The snapshot is the caller's."""
        for record in reversed(store.list_runs()):
            if record.state != "running" and record.id not in self._read:
                self._total.merge(_at_its_end(store, record))
                self._read.add(record.id)
        found = Snapshot()
        found.merge(self._total)
        return found


def _at_its_end(store: Store, record: RunRecord) -> Snapshot:
    return snapshot_of(record, store.samples(record.id), tasks_of(store, record), summary_of(store, record))


def tasks_of(store: Store, record: RunRecord) -> dict[str, str]:
    """The task of each prompt."""
    return {prompt.id: prompt.task for prompt in store.prompts(record.id)}


def moments(store: Store, record: RunRecord, every_s: float) -> Iterator[tuple[float, Snapshot]]:
    """A run from its start to its end, a snapshot every so many seconds, with the time of each since 1970.

    The last one is the end's, with the verdict; all of its samples are in it.
    """
    samples = sorted(store.samples(record.id), key=last_moment)
    tasks = tasks_of(store, record)
    past = _Past(samples)
    end_s = max(record.duration_s or 0.0, past.until_ns / NS_PER_S)
    observed = Observed()
    expected = {tasks[sample.prompt_id] for sample in samples if sample.prompt_id in tasks}
    observed.begin(record, tasks, expected, len(record.steps))
    steps = list(record.steps)
    efforts = deque(sorted(store.efforts(record.id), key=lambda one: one[2].to_ns))
    at_s = 0.0
    while at_s < end_s:
        at_ns = round(at_s * NS_PER_S)
        while steps and steps[0].started_ns <= at_ns:
            observed.step_begins(steps.pop(0))
        observed.samples(past.ended_by(at_ns))
        while efforts and efforts[0][2].to_ns <= at_ns:
            worker, _, effort = efforts.popleft()
            observed.effort(worker, effort)
        observed.look(in_flight=past.in_flight(at_ns), workers=record.workers, planned=past.planned(at_ns))
        yield record.started_s + at_s, observed.snapshot()
        at_s += every_s
    for step in steps:
        observed.step_begins(step)
    observed.samples(past.ended_by(past.until_ns))
    observed.end(summary_of(store, record), record.started_s + end_s)
    yield record.started_s + end_s, observed.snapshot()


class _Past:
    """The samples of a run by the time at which they ended."""

    def __init__(self, samples: list[Sample]) -> None:
        self._samples = samples
        self._ended = np.asarray([last_moment(sample) for sample in samples], dtype=np.int64)
        self._sent = np.sort([sample.sent_ns for sample in samples if sample.sent_ns is not None])
        self._done = np.sort(
            [sample.done_ns or last_moment(sample) for sample in samples if sample.sent_ns is not None]
        )
        due: dict[str, list[int]] = {}
        for sample in samples:
            due.setdefault(f"{sample.endpoint}/{sample.phase}", []).append(sample.due_ns)
        self._due = {key: np.sort(found) for key, found in due.items()}
        self._given = 0

    @property
    def until_ns(self) -> int:
        """When the last one ended."""
        return int(self._ended[-1]) if len(self._ended) else 0

    def ended_by(self, at_ns: int) -> list[Sample]:
        """Those that have ended since this was asked last."""
        before, self._given = self._given, int(np.searchsorted(self._ended, at_ns, side="right"))
        return self._samples[before : self._given]

    def in_flight(self, at_ns: int) -> int:
        """How many were unanswered then."""
        return int(np.searchsorted(self._sent, at_ns, side="right") - np.searchsorted(self._done, at_ns, side="right"))

    def planned(self, at_ns: int) -> dict[str, int]:
        """How many had become due by then, by `endpoint/phase`."""
        return {key: int(np.searchsorted(due, at_ns, side="right")) for key, due in self._due.items()}
