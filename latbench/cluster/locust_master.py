"""The coordinator at the Locust master: takes a run through its steps and gathers what the workers report.

The same code serves a master with N workers and Locust's local runner, where both ends live in one process. For each
step it has Locust spawn one user a slot, deals the slots out, lets the engines open their connections, starts them at
one moment, and waits until every worker's batches have come without a gap. Only then does Locust get to quit, so that
its half second of patience is never needed.

It never computes a figure: samples go to the sink, which commits them before they are acknowledged.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any, Protocol

import gevent
from gevent.event import Event
from gevent.queue import Queue
from locust.env import Environment
from locust.rpc import Message

from latbench.cluster.locust_worker import DOWN, UP
from latbench.cluster.merge import Inbox
from latbench.model.errors import UserError
from latbench.model.frames import (
    Ack,
    Batch,
    Bye,
    Cancel,
    Down,
    Drain,
    Go,
    Hello,
    Job,
    Lease,
    Lost,
    Prepare,
    Prepared,
    Slots,
    StopEndpoint,
    Users,
    decode_up,
    encode,
)
from latbench.model.lifeline import clock_id
from latbench.model.run import StepRecord
from latbench.model.sample import Sample
from latbench.plan.guards import EndpointGuard
from latbench.scenario.schema import Step

JOIN_S = 60.0
SPAWN_S = 30.0
CONNECT_S = 60.0
SILENCE_S = 6.0
ELASTIC_SLOTS = 1 << 16
_LEASE_EVERY_S = 1.0
_OUR_OWN_STALL_S = 2.0
_START_DELAY_NS = 100_000_000
_USERS_A_SECOND = 1_000_000


class Sink(Protocol):
    """Where what is measured goes."""

    def begin(self) -> None:
        """The first request is about to leave."""
        ...

    def samples(self, samples: list[Sample]) -> None:
        """Commit samples; the same one may come twice."""
        ...

    def step_over(self, step: StepRecord, planned: dict[str, int]) -> None:
        """A step has ended; `planned` maps `endpoint/phase` to the turns begun."""
        ...

    def stopped(self, endpoint: str, reason: str) -> None:
        """A guard has stopped an endpoint."""
        ...

    def note(self, code: str, severity: str, message: str) -> None:
        """Something that a reader of the figures must know."""
        ...


class NotConnected(UserError):
    """Endpoints could not be reached before the first request: why, by name."""

    def __init__(self, failures: dict[str, str]) -> None:
        super().__init__("; ".join(f"endpoint {name}: {why}" for name, why in failures.items()))
        self.failures = failures


class ClusterFailed(Exception):
    """The run cannot begin or go on: workers did not join, or none is left."""


@dataclass(slots=True)
class _Worker:
    """What is known of one worker."""

    id: str
    clock_id: str
    inbox: Inbox = field(default_factory=Inbox)
    users: int = 0
    slots: list[int] = field(default_factory=list)
    prepared: int = -1
    failures: dict[str, str] = field(default_factory=dict)
    in_flight: int = 0
    planned: dict[int, dict[str, int]] = field(default_factory=dict)
    cpu: list[float] = field(default_factory=list)
    heard_s: float = 0.0
    reduced: str = ""
    enlisted: bool = False
    paused: bool = False
    lost: bool = False


class Coordinator:
    """One run's coordinator. `conduct` is the whole of it; the rest are views for the progress display."""

    def __init__(self, environment: Environment, workers: int, patience_s: float = JOIN_S) -> None:
        """`workers` is how many must join, within `patience_s`, before a run can begin."""
        assert environment.runner is not None
        self._runner: Any = environment.runner
        self._wanted = workers
        self._patience_s = patience_s
        self._clock_id = clock_id()
        self._origin_ns = time.monotonic_ns()
        self._sink: Sink | None = None
        self._workers: dict[str, _Worker] = {}
        self._inbox: Queue[tuple[str, bytes]] = Queue()
        self._changed = Event()
        self._stop: Down | None = None
        self._finished = False
        self._stopped_ns = 0
        self._stopped: dict[str, str] = {}
        self._guards: dict[str, EndpointGuard] = {}
        self._step: Step | None = None
        self._step_index = 0
        self._loss = ""
        self._last_done_ns = 0
        self._assigning = False
        self._owners: dict[int, str] = {}
        self._fault: BaseException | None = None
        self._runner.register_message(UP, self._on_message)
        self._greenlets = [gevent.spawn(self._pump), gevent.spawn(self._keep_leases)]
        for greenlet in self._greenlets:
            greenlet.link_exception(self._failed)

    def expect(self, workers: int) -> None:
        """So many workers are there by now: the next run begins when all their engines are up."""
        self._wanted = max(self._wanted, workers)

    # --- views ----------------------------------------------------------------------------------------------------

    @property
    def step(self) -> int:
        """The step that is under way."""
        return self._step_index

    @property
    def workers(self) -> int:
        """How many workers have joined, lost ones included."""
        return len(self._workers)

    @property
    def in_flight(self) -> int:
        """Requests under way, as last reported."""
        return sum(worker.in_flight for worker in self._workers.values())

    @property
    def engine_cpu(self) -> float | None:
        """Mean share of a core of the busiest engine while it was loaded."""
        means = [sum(worker.cpu) / len(worker.cpu) for worker in self._workers.values() if worker.cpu]
        return max(means, default=None)

    def now_ns(self) -> int:
        """The run's clock."""
        return time.monotonic_ns() - self._origin_ns

    # --- the run --------------------------------------------------------------------------------------------------

    def conduct(self, job_for: Callable[[int | None, int], Job], steps: Sequence[Step], sink: Sink) -> bool:
        """Run the steps; true if all of them ran to their end.

        `job_for(origin_ns, elapsed_ns)` gives a worker's job. Raises NotConnected before anything was sent,
        ClusterFailed, or whatever the sink raised.
        """
        self._restart(sink)
        self._until(lambda: len(self._workers) >= self._wanted, self._patience_s, "workers did not join")
        for worker in self._workers.values():
            worker.enlisted = True
            if worker.reduced:
                sink.note("reduced_precision", "suspect", worker.reduced)
        for worker in self._live():
            shared = worker.clock_id == self._clock_id != ""
            job = job_for(self._origin_ns if shared else None, self.now_ns())
            self._guards = {e.name: EndpointGuard(abort_on_errors=job.abort_on_errors) for e in job.endpoints}
            self._tell(worker, job)
        for index, step in enumerate(steps):
            if self._stop is not None or not self._go_on():
                return False
            self._run_step(index, step)
        return self._stop is None or self._finished

    def _restart(self, sink: Sink) -> None:
        """Forget a run that was conducted before: Locust's web UI can start several."""
        self._origin_ns = time.monotonic_ns()
        self._sink = sink
        self._stop, self._finished, self._stopped = None, False, {}
        self._step_index, self._loss, self._fault, self._assigning = 0, "", None, False
        for worker in self._workers.values():
            worker.inbox.forget_finals()
            worker.prepared, worker.planned, worker.failures, worker.cpu = -1, {}, {}, []
            worker.enlisted = worker.paused = False

    def _go_on(self) -> bool:
        """Whether an endpoint is left to send to."""
        return len(self._stopped) < len(self._guards)

    def interrupt(self) -> None:
        """The first call drains, the second cancels what is in flight."""
        if self._stop is None:
            self._stopped_ns = self.now_ns()
        self._stop = Drain() if self._stop is None else Cancel()
        self._tell_all(self._stop)
        self._changed.set()

    def finish(self) -> None:
        """End an elastic step: drain it; that is its end, not an interruption."""
        self._finished = True
        self.interrupt()

    def close(self) -> None:
        """Send the workers home and stop the greenlets."""
        self._tell_everybody(Bye())
        gevent.killall(self._greenlets)

    def _run_step(self, index: int, step: Step) -> None:
        self._step, self._step_index = step, index
        if not _elastic(step):
            self._spawn(step.concurrency * len(self._guards))
        self._deal(self._places(step))
        self._assigning = True
        for worker in self._live():
            self._tell(worker, Prepare(index, worker.slots))
        prepared = "connections were not opened in time"
        self._until(lambda: all(worker.prepared == index for worker in self._live()), CONNECT_S, prepared)
        failures = {name: why for worker in self._live() for name, why in worker.failures.items()}
        if failures and index == 0:
            raise NotConnected(failures)
        if self._stop is not None:
            return
        self._load(index, step)

    def _spawn(self, users: int) -> None:
        """Have Locust bring the number of its users to `users`, and wait until it has."""
        gevent.spawn(self._runner.start, users, _USERS_A_SECOND)
        spawned = f"Locust did not spawn {users} users"
        # Locust spreads its users over late workers, too; they have no slots.
        self._until(lambda: sum(worker.users for worker in self._workers.values()) == users, SPAWN_S, spawned)

    def _places(self, step: Step) -> int:
        """How many slots the step has room for, over all endpoints."""
        return _stride(step) * len(self._guards)

    def _load(self, index: int, step: Step) -> None:
        assert self._sink is not None
        if index == 0:
            self._sink.begin()
        start_ns = self.now_ns() + _START_DELAY_NS
        go = Go(
            step=index,
            start_ns=start_ns,
            stride=_stride(step),
            warmup_ns=step.warmup_ns,
            think_ns=step.think_ns,
            duration_ns=step.duration_ns,
            requests=step.requests,
        )
        self._last_done_ns = start_ns
        self._tell_all(go)
        if self._stop is not None:  # it may have overtaken the start
            self._tell_all(self._stop)
        if _elastic(step):
            for worker in self._live():
                self._users(worker, worker.users)  # those that came between the dealing and the start
        self._await_finals(index)
        self._assigning = False
        measure_from = start_ns + step.warmup_ns
        self._check_time(step, measure_from)
        measure_to = self._last_done_ns if step.requests is not None else self._last_done_ns + 1
        if step.duration_ns is not None and step.requests is None and self._stop is None and not self._stopped:
            measure_to = measure_from + step.duration_ns
        elif step.duration_ns is not None:
            measure_to = min(measure_to, measure_from + step.duration_ns)
        if self._stop is not None:
            measure_to = min(measure_to, self._stopped_ns)  # the drain after it is not load
        planned: dict[str, int] = {}
        for worker in self._workers.values():
            for key, count in worker.planned.get(index, {}).items():
                planned[key] = planned.get(key, 0) + count
        if step.requests is not None and step.duration_ns is None and self._stop is None:
            self._check_count(step.requests, planned)
        record = StepRecord(
            index=index,
            shape=step.shape,
            concurrency=step.concurrency,
            rate=None,
            requests=step.requests,
            started_ns=start_ns,
            measure_from_ns=measure_from,
            measure_to_ns=max(measure_to, measure_from),
        )
        self._sink.step_over(record, planned)

    def _check_time(self, step: Step, measure_from_ns: int) -> None:
        """A step by time that nobody stopped has lasted that long, or something went wrong that nobody noticed."""
        assert self._sink is not None
        if step.duration_ns is None or step.requests is not None or self._stop is not None or self._stopped:
            return
        short_ns = measure_from_ns + step.duration_ns - self.now_ns()
        if short_ns > 0:
            self._sink.note("ended_early", "invalid", f"the load ended {short_ns / 1e9:.1f} s before its time")

    def _check_count(self, requests: int, planned: dict[str, int]) -> None:
        """A step by requests that nobody stopped has sent them all, or something went wrong that nobody noticed."""
        assert self._sink is not None
        for endpoint in self._guards.keys() - self._stopped.keys():
            begun = sum(count for key, count in planned.items() if key.rpartition("/")[0] == endpoint)
            if begun != requests:
                self._sink.note("not_all_sent", "invalid", f"{endpoint}: {begun} of {requests} requests were begun")

    def _await_finals(self, index: int) -> None:
        """Until every live worker's batches of the step have come without a gap. Silent workers are given up.

        A worker is silent only while this process listens: when it was stopped itself, or waited for the disk, what the
        workers said meanwhile has still to be read.
        """
        looked = time.monotonic()
        while True:
            waiting = [worker for worker in self._live() if not worker.inbox.complete(index)]
            if not waiting:
                break
            self._changed.clear()
            self._changed.wait(0.5)
            self._raise_fault()
            now = time.monotonic()
            if now - looked > _OUR_OWN_STALL_S:
                for worker in self._live():
                    worker.heard_s = now
            looked = now
            for worker in waiting:
                if now - worker.heard_s > SILENCE_S and not worker.inbox.complete(index):
                    self._lose(worker, f"not heard of for {SILENCE_S:.0f} s")
        if not self._live():
            raise ClusterFailed("no worker is left")

    def _deal(self, slots: int) -> None:
        """Deal the step's slots out, as many to a worker as it has users; what is left over goes round."""
        left = list(range(slots))
        workers = sorted(self._live(), key=lambda worker: worker.id)
        for worker in workers:
            worker.slots, left = left[: worker.users], left[worker.users :]
        if self._step is not None and not _elastic(self._step):
            for slot, worker in zip(left, cycle(workers), strict=False):
                worker.slots.append(slot)
        self._owners = {slot: worker.id for worker in workers for slot in worker.slots}

    # --- talking --------------------------------------------------------------------------------------------------

    def _live(self) -> list[_Worker]:
        """The workers of this run. One that joins while it is under way has to wait for the next."""
        return [worker for worker in self._workers.values() if worker.enlisted and not worker.lost]

    def _tell(self, worker: _Worker, order: Down) -> None:
        self._runner.send_message(DOWN, encode(order), client_id=worker.id)

    def _tell_all(self, order: Down) -> None:
        for worker in self._live():
            self._tell(worker, order)

    def _tell_everybody(self, order: Down) -> None:
        for worker in list(self._workers.values()):
            if not worker.lost:
                self._tell(worker, order)

    def _keep_leases(self) -> None:
        """Leases go to those who wait for a run, too: without one a worker goes home."""
        while True:
            self._tell_everybody(Lease())
            gevent.sleep(_LEASE_EVERY_S)

    def _until(self, condition: Callable[[], bool], limit_s: float, problem: str) -> None:
        """Wait for a condition that messages bring about, or for an interruption."""
        until = time.monotonic() + limit_s
        while not condition() and self._stop is None:
            self._raise_fault()
            if self._loss and (self._step_index == 0 or not self._live()):
                raise ClusterFailed(self._loss)
            if time.monotonic() >= until:
                raise ClusterFailed(f"{problem} within {limit_s:.0f} s")
            self._changed.clear()
            self._changed.wait(0.1)
        self._raise_fault()

    def _failed(self, greenlet: "gevent.Greenlet[[], None]") -> None:
        """A bug of ours in the background: `conduct` raises it."""
        self._fault = greenlet.exception
        self._changed.set()

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise self._fault

    # --- listening ------------------------------------------------------------------------------------------------

    def _on_message(self, environment: Environment, msg: Message, **_: object) -> None:
        """Locust calls this where it receives: only put the message aside, so that heartbeats are not held up."""
        self._inbox.put((msg.node_id, msg.data))

    def _pump(self) -> None:
        """Take messages one by one. What fails here (a full disk) ends the run with its own error."""
        while True:
            sender, data = self._inbox.get()
            try:
                self._take(sender, data)
            except Exception as fault:  # noqa: BLE001  the edge of this greenlet: handed to `conduct`, which raises it
                self._fault = fault
            self._changed.set()

    def _take(self, sender: str, data: bytes) -> None:
        report = decode_up(data)
        if isinstance(report, Hello):
            self._workers[sender] = _Worker(sender, report.clock_id, heard_s=time.monotonic(), reduced=report.why)
            return
        worker = self._workers.get(sender)
        if worker is None:
            if isinstance(report, Lost):
                raise ClusterFailed(f"worker {sender}: {report.reason}")
            return
        worker.heard_s = time.monotonic()
        match report:
            case Users(count=count):
                self._users(worker, count)
            case Prepared(step=step, failures=failures):
                worker.prepared, worker.failures = step, failures
            case Batch():
                self._batch(worker, report)
            case Lost(reason=reason):
                self._lose(worker, reason)

    def _users(self, worker: _Worker, count: int) -> None:
        """Locust changed the users of a worker: within an elastic step its slots follow.

        In any other step the slots are the plan, whatever becomes of the users. A slot never changes its worker: only
        that one knows which sequence numbers it has used.
        """
        worker.users = count
        if not self._assigning or not worker.enlisted or self._step is None or not _elastic(self._step):
            return
        kept = worker.slots[:count]
        ours = (slot for slot in range(self._places(self._step)) if self._owners.get(slot, worker.id) == worker.id)
        worker.slots = kept + list(islice((slot for slot in ours if slot not in kept), count - len(kept)))
        self._owners.update(dict.fromkeys(worker.slots, worker.id))
        self._tell(worker, Slots(worker.slots))

    def _batch(self, worker: _Worker, batch: Batch) -> None:
        """Commit, then acknowledge; a batch that was taken before is only acknowledged again."""
        if worker.inbox.accept(batch.number, batch.step if batch.final else None):
            for sample in batch.samples:
                sample.worker = worker.id
            assert self._sink is not None
            self._sink.samples(batch.samples)
            worker.in_flight = batch.in_flight
            if batch.paused and not worker.paused:
                self._sink.note("worker_paused", "suspect", f"worker {worker.id} had no word from its master for 5 s")
            worker.paused = worker.paused or batch.paused
            if batch.cpu is not None and batch.in_flight:
                worker.cpu.append(batch.cpu)
            known = worker.planned.setdefault(batch.step, {})
            for key, count in batch.planned.items():  # cumulative, and batches may come in any order
                known[key] = max(count, known.get(key, 0))
            self._watch(batch)
        self._tell(worker, Ack(batch.number))

    def _watch(self, batch: Batch) -> None:
        """Run the guards over all workers' samples together, and pass on what one engine has stopped."""
        for endpoint, reason in batch.stopped.items():
            self._stop_endpoint(endpoint, reason)
        for sample in batch.samples:
            done_ns = sample.done_ns or 0
            self._last_done_ns = max(self._last_done_ns, done_ns)
            tripped = self._guards[sample.endpoint].add(sample.outcome, sample.status, done_ns)
            if tripped is not None:
                self._stop_endpoint(sample.endpoint, tripped)

    def _stop_endpoint(self, endpoint: str, reason: str) -> None:
        if endpoint not in self._stopped:
            self._stopped[endpoint] = reason
            assert self._sink is not None
            self._sink.stopped(endpoint, reason)
            self._tell_all(StopEndpoint(endpoint, reason))

    def _lose(self, worker: _Worker, reason: str) -> None:
        """Give a worker up, and tell it so, should it still be able to hear."""
        if not worker.lost:
            self._tell(worker, Cancel())
            worker.lost = True
            worker.in_flight = 0
            self._loss = f"worker {worker.id}: {reason}"
            if worker.enlisted and self._sink is not None:
                self._sink.note("worker_lost", "invalid", self._loss)

    def lose_local(self, reason: str) -> None:
        """A process of ours that was to join has ended before it could."""
        if not self._assigning:
            self._loss = self._loss or reason
            self._changed.set()


def _elastic(step: Step) -> bool:
    """A step without an end of its own: Locust's command spawns its users and ends it."""
    return step.requests is None and step.duration_ns is None


def _stride(step: Step) -> int:
    """The distance between a slot's sequence numbers: what Locust may still add needs numbers of its own."""
    return ELASTIC_SLOTS if _elastic(step) else step.concurrency
