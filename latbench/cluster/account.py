"""What a step came to: its record, what was planned of it, and what a lost worker left without a record.

An open loop has its arrivals from the seed, so that the master knows what was due without being told. What was due
while a lost worker's shards were nobody's, or what it took along, is recorded as `lost`. What is missing without a lost
worker is a mistake of ours, and makes the run invalid.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from latbench.analysis.validity import Figure
from latbench.cluster.crew import Member
from latbench.cluster.deal import Orphaned, lost_with
from latbench.model.frames import Effort, Job, NullTested
from latbench.model.load import Step, Trace
from latbench.model.run import StepRecord
from latbench.model.sample import Outcome, Sample
from latbench.model.slices import Slices
from latbench.plan.arrivals import arrivals, sequence
from latbench.plan.draw import drawer
from latbench.plan.modes import arm
from latbench.plan.partition import SHARDS
from latbench.plan.repeats import draw_of

_OURS = "do not use the figures, report a bug"  # nobody had stopped the load, and no worker was lost


class Sink(Protocol):
    """Where what is measured goes."""

    def begin(self) -> None:
        """The first request is about to leave."""
        ...

    def null_tested(self, found: Mapping[str, NullTested | None], streams: int) -> None:
        """What the workers' null tests found, with so many streams in all; None for one that did not answer."""
        ...

    def step_begins(self, step: StepRecord) -> None:
        """A step is about to start; its record has the end that it is to have."""
        ...

    def samples(self, samples: list[Sample]) -> None:
        """Commit samples; the same one may come twice, and one that has only begun comes as `lost`."""
        ...

    def effort(self, worker: str, number: int, step: int, effort: Effort) -> None:
        """Commit what a worker's engine had to do since its batch before `number`; the same one may come twice."""
        ...

    def salvage(self, worker: str) -> bool:
        """Commit what a worker that is gone has left on this machine; false if its engine is still writing."""
        ...

    def begun(self, worker: str, step: int) -> dict[int, int]:
        """How many requests of each slot a worker is known to have begun."""
        ...

    def recorded(self, endpoint: str, step: int) -> np.ndarray:
        """The sequence numbers of an endpoint in a step of which there is a record."""
        ...

    def step_over(self, step: StepRecord, planned: dict[str, int], lost: Sequence[str]) -> None:
        """A step has ended; `planned` maps `endpoint/phase` to what became due, but for the workers in `lost`."""
        ...

    def stopped(self, endpoint: str, reason: str) -> None:
        """A guard has stopped an endpoint."""
        ...

    def spent(self, why: str) -> None:
        """The budget is used up, and the run is stopped."""
        ...

    def note(self, code: str, severity: str, message: str, value: Figure = None, limit: Figure = None) -> None:
        """Something that a reader of the figures must know, what was measured and allowed, and what to do."""
        ...


class Account:
    """One step's books."""

    def __init__(self, job: Job, sink: Sink, index: int, load: Step) -> None:
        """Works out the arrivals of an open loop: before the start, because that takes its time."""
        self._job = job
        self._sink = sink
        self._index = index
        self._load = load
        self._start_ns = 0
        self._slices = Slices(load.slice_ns, len(job.endpoints))
        self._offsets = arrivals(load, job.seed, index) if load.open else None
        self._names = [endpoint.name for endpoint in job.endpoints]
        self._drawer = drawer(job.seed, job.prompts, job.weights, in_order=bool(job.book))
        self._measure_from_ns = 0

    def open(self, start_ns: int) -> None:
        """The step begins at that moment of the run: keep what is known of it."""
        self._start_ns = start_ns
        self._measure_from_ns = start_ns + self._slices.span_ns(self._load.warmup_ns)
        self._sink.step_begins(self._record(self._end_ns()))

    def _end_ns(self) -> int:
        """When arrivals are to end: for a step without an end in time, as far as can be told."""
        load = self._load
        if load.duration_ns is not None:
            return self._start_ns + self._slices.span_ns(load.end_ns)
        last = 0 if self._offsets is None or not len(self._offsets) else int(self._offsets[-1])
        return max(self._measure_from_ns, self._start_ns + self._slices.span_ns(last + 1))

    def _record(self, measure_to_ns: int) -> StepRecord:
        load = self._load
        return StepRecord(
            index=self._index,
            shape=load.name,
            concurrency=load.concurrency,
            rate=load.rate,
            requests=load.requests,
            started_ns=self._start_ns,
            measure_from_ns=self._measure_from_ns,
            measure_to_ns=max(measure_to_ns, self._measure_from_ns),
            load=load,
            slices=1 if load.slice_ns is None else len(self._job.endpoints),
        )

    def close(
        self,
        members: Iterable[Member],
        stopped: Mapping[str, str],
        stopped_ns: int | None,
        last_done_ns: int,
        now_ns: int,
        orphans: Mapping[int, Sequence[Orphaned]],
    ) -> None:
        """The step is over: `stopped_ns` says when, if that was not its own end. Endpoints in `stopped` ended sooner.

        `orphans` maps the shards of lost workers to those that had them, in order.
        """
        members = list(members)
        lost = [member for member in members if member.lost]
        running = [name for name in self._names if name not in stopped]
        if self._offsets is not None:
            for name in running:
                self._complete(name, stopped_ns, orphans)
        planned: dict[str, int] = {}
        for member in members:
            for key, count in member.planned.get(self._index, {}).items() if not member.lost else ():
                planned[key] = planned.get(key, 0) + count
        if stopped_ns is None and not stopped and not lost:
            self._check(running, planned, now_ns)
        record = self._record(self._measured_to(stopped_ns, bool(stopped), last_done_ns))
        self._sink.step_over(record, planned, [member.id for member in lost])

    def _measured_to(self, stopped_ns: int | None, endpoints_stopped: bool, last_done_ns: int) -> int:
        """The end of the measured phase: by time where time ended it, else the last answer. The drain is not load."""
        load = self._load
        by_time = load.duration_ns is not None
        end_ns = last_done_ns if load.requests is not None else last_done_ns + 1
        if by_time and load.requests is None and stopped_ns is None and not endpoints_stopped:
            end_ns = self._end_ns()
        elif by_time:
            end_ns = min(end_ns, self._end_ns())
        return end_ns if stopped_ns is None else min(end_ns, stopped_ns)

    def _check(self, running: list[str], planned: Mapping[str, int], now_ns: int) -> None:
        """A step that nobody stopped has lasted its time and sent its number, or something went wrong unnoticed."""
        load = self._load
        if load.duration_ns is not None and load.requests is None and (short_ns := self._end_ns() - now_ns) > 0:
            lasted_s, wanted_s = ((end_ns - self._start_ns) / 1e9 for end_ns in (now_ns, self._end_ns()))
            ended = f"the load ended {short_ns / 1e9:.1f} s before its time; {_OURS}"
            self._sink.note("ended_early", "invalid", ended, lasted_s, wanted_s)
        if load.requests is None or load.duration_ns is not None or self._offsets is not None:
            return
        for endpoint in running:
            begun = sum(count for key, count in planned.items() if key.rpartition("/")[0] == endpoint)
            if begun != load.requests:
                sent = f"{endpoint}: {begun} of {load.requests} requests were begun; {_OURS}"
                self._sink.note("not_all_sent", "invalid", sent, begun, load.requests)

    def _complete(self, name: str, stopped_ns: int | None, orphans: Mapping[int, Sequence[Orphaned]]) -> None:
        """Every arrival that was due before the end has a record; those of a lost worker that have none are `lost`."""
        assert self._offsets is not None
        due = np.arange(len(self._offsets))
        if stopped_ns is not None:
            wall_ns = self._slices.wall_ns(self._offsets, self._names.index(name))
            due = due[wall_ns < stopped_ns - self._start_ns]
        turns = sequence(self._load)
        missing = np.setdiff1d(due * turns, self._sink.recorded(name, self._index)) // turns
        orphaned = np.isin(missing % SHARDS, list(orphans))
        if not orphaned.all():
            without = int((~orphaned).sum())
            missed = f"{name}: {without} of {len(due)} arrivals have no record; {_OURS}"
            self._sink.note("not_all_sent", "invalid", missed, len(due) - without, len(due))
        numbers = missing[orphaned].tolist()
        self._sink.samples([self._lost(name, number, orphans[number % SHARDS]) for number in numbers])

    def _lost(self, name: str, number: int, owners: Sequence[Orphaned]) -> Sample:
        assert self._offsets is not None
        own_ns = int(self._offsets[number])
        due_ns = self._start_ns + self._slices.wall_at(own_ns, self._names.index(name))
        seq = number * sequence(self._load)
        pair, mode = arm(seq, self._job.modes)  # as the engine does: all of a pair have the same prompt
        return Sample(
            endpoint=name,
            step=self._index,
            seq=seq,
            prompt_id=self._prompt(number, pair),
            phase="warmup" if own_ns < self._load.warmup_ns else "measure",
            outcome=Outcome.LOST,
            worker=lost_with(owners, due_ns),
            due_ns=due_ns,
            output_mode=mode,
        )

    def _prompt(self, number: int, pair: int) -> str:
        shape = self._load.shape
        if isinstance(shape, Trace):
            named = int(np.frombuffer(shape.prompt, dtype="<i4")[number])
            if named >= 0:
                return shape.prompt_ids[named]
        draw = draw_of(pair, self._job.repeat, self._load.requests, len(self._job.modes))
        return self._job.prompts[self._drawer.draw(draw)].id
