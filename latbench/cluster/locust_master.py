"""The coordinator at the Locust master: takes a run through its steps and gathers what the workers report.

The same code serves a master with N workers and Locust's local runner, where both ends live in one process. For each
step it deals the work out, lets the engines get ready, starts them at one moment, deals the work of a lost worker
again, and ends the step when every engine says that nothing more will begin and its batches have come without a gap.
Only then does Locust get to quit, so that its half second of patience is never needed.

It never computes a figure: samples go to the sink, which commits them before they are acknowledged.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import gevent
from gevent.event import Event
from locust.env import Environment

from latbench.cluster.account import Account, Sink
from latbench.cluster.crew import Crew, Member
from latbench.cluster.deal import Shards, Slots
from latbench.cluster.treasurer import Treasurer
from latbench.cluster.worker_clock import WorkerClock
from latbench.model import frames
from latbench.model.errors import UserError
from latbench.model.frames import (
    Accepted,
    Ack,
    Batch,
    Cancel,
    Drain,
    Go,
    Job,
    Lost,
    Prepare,
    Prepared,
    Spending,
    StopEndpoint,
    Up,
    Users,
    prompts_sha256,
)
from latbench.model.lifeline import process_started
from latbench.model.load import Step
from latbench.model.sample import Outcome
from latbench.plan.budget import Limits
from latbench.plan.guards import EndpointGuard

JOIN_S = 60.0
SPAWN_S = 5.0
CONNECT_S = 60.0
MOST_USERS = 1000
_LATE_NEWS_S = 10.0
_START_DELAY_NS = 100_000_000
_TAKE_OVER_NS = 200_000_000
_SAY_AGAIN_S = 1.0
_END_S = 20.0
_SALVAGE_TRIES = 20
_USERS_A_SECOND = 1_000_000
_FILES_BESIDES = 64


class NotConnected(UserError):
    """Endpoints could not be reached before the first request: why, by name."""

    def __init__(self, failures: dict[str, str]) -> None:
        super().__init__("; ".join(f"endpoint {name}: {why}" for name, why in failures.items()))
        self.failures = failures


class ClusterFailed(Exception):
    """The run cannot begin or go on: workers did not join, or none is left."""


class Coordinator:
    """One run's coordinator. `conduct` is the whole of it; the rest are views for the progress display."""

    def __init__(
        self,
        environment: Environment,
        workers: int,
        patience_s: float = JOIN_S,
        secret: bytes | None = None,
        *,
        abort_on_loss: bool = False,
    ) -> None:
        """`workers` is how many must join, within `patience_s`, before a run can begin.

        With `abort_on_loss`, the loss of a worker stops the run; else the others take over its work.
        """
        assert environment.runner is not None
        self._runner: Any = environment.runner
        self._wanted = workers
        self._patience_s = patience_s
        self._abort_on_loss = abort_on_loss
        self._changed = Event()
        self._crew = Crew(environment.runner, secret, self._on_report, self._wake)
        self._sink: Sink | None = None
        self._job: Job | None = None
        self._treasurer: Treasurer | None = None
        self._stop: Drain | Cancel | None = None
        self._finished = False
        self._stopped_ns = 0
        self._stopped: dict[str, str] = {}
        self._guards: dict[str, EndpointGuard] = {}
        self._step: Step | None = None
        self._step_index = 0
        self._deal: Slots | Shards | None = None
        self._loading = False
        self._taken_over_ns = 0
        self._orders: dict[str, frames.Slots | frames.Shards] = {}
        self._loss = ""
        self._last_done_ns = 0
        self._start_ns = 0

    def _wake(self) -> None:
        self._changed.set()

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
        return len(self._crew.members)

    @property
    def in_flight(self) -> int:
        """Requests under way, as last reported."""
        return sum(member.in_flight for member in self._crew.members.values())

    @property
    def engine_cpu(self) -> float | None:
        """Mean share of a core of the busiest engine while it was loaded."""
        means = [sum(member.cpu) / len(member.cpu) for member in self._crew.members.values() if member.cpu]
        return max(means, default=None)

    @property
    def clocks(self) -> dict[str, tuple[str, WorkerClock]]:
        """The host and the clock of each worker of the run."""
        enlisted = (member for member in self._crew.members.values() if member.enlisted and member.hello is not None)
        return {member.id: (member.hello.host, member.clock) for member in enlisted if member.hello is not None}

    @property
    def refused(self) -> dict[str, str]:
        """Workers that may not join, and why."""
        return self._crew.refused

    def now_ns(self) -> int:
        """The run's clock."""
        return self._crew.now_ns()

    # --- the run --------------------------------------------------------------------------------------------------

    def conduct(self, job: Job, steps: Sequence[Step], sink: Sink, *, abort_on_errors: bool, limits: Limits) -> bool:
        """Run the steps; true if all of them ran to their end.

        `job` is the same for all workers but for `worker` and `origin_ns`, which are set here. Raises NotConnected
        before anything was sent, UserError for what the workers' machines cannot do, ClusterFailed, or whatever the
        sink raised.
        """
        self._restart(job, sink)
        self._guards = {e.name: EndpointGuard(abort_on_errors=abort_on_errors) for e in job.endpoints}
        self._gather()
        self._treasurer = Treasurer(self._crew, limits) if job.budgeted else None
        for index, step in enumerate(steps):
            self._check_files(index, step)
        for index, step in enumerate(steps):
            if self._stop is not None or len(self._stopped) == len(self._guards):
                return False
            self._run_step(index, step)
        return self._stop is None or self._finished

    def _restart(self, job: Job, sink: Sink) -> None:
        """Forget a run that was conducted before: Locust's web UI can start several."""
        self._job, self._sink = job, sink
        self._stop, self._finished, self._stopped = None, False, {}
        self._step_index, self._loss, self._loading, self._crew.fault = 0, "", False, None
        for member in self._crew.members.values():
            member.inbox.restart()
            member.prepared, member.planned, member.failures, member.cpu = -1, {}, {}, []
            member.enlisted = member.paused = member.unspooled = False
            member.accepted = ("", "")
        self._crew.origin_ns = time.monotonic_ns()

    def _gather(self) -> None:
        """Wait for the workers, and give each the job; one that has another scenario or other prompts is refused."""
        assert self._job is not None
        assert self._sink is not None
        joined = "workers did not join"
        self._until(lambda: len(self._crew.ready()) >= self._wanted, self._patience_s, joined)
        for member in self._crew.ready():
            member.enlisted = True
            assert member.hello is not None
            if member.hello.why:
                self._sink.note("reduced_precision", "suspect", member.hello.why)
            self._job.worker = member.id
            self._job.origin_ns = self._crew.origin_ns + member.clock.offset_ns
            self._crew.tell(member, self._job)
            self._crew.renew(member)
        expected = (self._job.scenario_sha256, prompts_sha256(self._job.prompts))
        accepted = "workers did not take the job"
        self._until(lambda: all(member.accepted[0] for member in self._crew.live()), CONNECT_S, accepted)
        for member in self._crew.live():
            if self._stop is None and member.accepted != expected:
                raise UserError(f"worker {member.id} has another scenario or other prompts: it is refused")

    def _check_files(self, index: int, step: Step) -> None:
        """Raises UserError where a worker cannot open as many connections as its part of a step needs."""
        most = step.max_in_flight if step.open else step.concurrency
        members = self._crew.live()
        if most is None or not members:
            return
        needed = -(-most * len(self._guards) // len(members)) + _FILES_BESIDES
        for member in members:
            assert member.hello is not None
            if needed > member.hello.files:
                raise UserError(
                    f"step {index}: worker {member.id} needs {needed} open files for its part of {most} requests at a"
                    f" time, and may open {member.hello.files}: raise the limit there (ulimit -Hn) or add workers"
                )

    def interrupt(self) -> None:
        """The first call drains, the second cancels what is in flight."""
        self._halt(Drain() if self._stop is None else Cancel())

    def finish(self) -> None:
        """End an elastic step: drain it; that is its end, not an interruption."""
        self._finished = True
        self.interrupt()

    def _halt(self, order: Drain | Cancel) -> None:
        if self._stop is None:
            self._stopped_ns = self.now_ns()
        self._stop = order
        self._crew.tell_all(order)
        self._changed.set()

    def close(self) -> None:
        """Send the workers home and stop the greenlets."""
        self._crew.close()

    # --- a step ---------------------------------------------------------------------------------------------------

    def _run_step(self, index: int, step: Step) -> None:
        self._step, self._step_index, self._orders = step, index, {}
        if step.concurrency is not None and not step.elastic:
            self._spawn(step.concurrency * len(self._guards))
        while not self._prepare(index, step):
            """A worker was lost on the way: the work is dealt to the others."""
        if self._stop is None:
            self._load(index, step)

    def _spawn(self, users: int) -> None:
        """Have Locust bring the number of its users to `users`, and wait for a moment until it has.

        They are only shown: beyond some hundreds they would cost more than that is worth, and one whom Locust wants to
        have on a worker that is gone holds nothing up.
        """
        users = min(users, MOST_USERS)
        gevent.spawn(self._runner.start, users, _USERS_A_SECOND)
        until = time.monotonic() + SPAWN_S
        # Locust spreads its users over late workers, too; they have no slots.
        while sum(member.users for member in self._crew.members.values()) < users and time.monotonic() < until:
            self._raise_fault()
            if self._stop is not None:
                return
            self._changed.clear()
            self._changed.wait(0.1)

    def _prepare(self, index: int, step: Step) -> bool:
        """Deal the step out and have the engines get ready for it; false if a worker was lost meanwhile."""
        live = sorted(self._crew.live(), key=lambda member: member.id)
        if not live:
            raise ClusterFailed(self._loss or "no worker is left")
        names = [member.id for member in live]
        self._deal = deal = Shards(step, names) if step.open else Slots(step, len(self._guards))
        if isinstance(deal, Slots):
            deal.deal({member.id: member.users for member in live})
        for member in live:
            member.version, member.prepared = 0, -1
            if isinstance(deal, Slots):
                member.slots = deal.of(member.id)
                self._crew.tell(member, Prepare(index, step, deal.stride, slots=member.slots))
            else:
                self._crew.tell(member, Prepare(index, step, shards=deal.of(member.id), cap=deal.cap(member.id)))
        prepared = "connections were not opened in time"

        def lost() -> bool:
            return any(member.lost for member in live)

        self._until(lambda: lost() or all(member.prepared == index for member in live), CONNECT_S, prepared)
        if lost() and self._stop is None:
            return False
        failures = {name: why for member in live for name, why in member.failures.items()}
        if failures and index == 0:
            raise NotConnected(failures)
        if self._stop is None and len({member.digest for member in live}) > 1:
            raise ClusterFailed(f"step {index}: the workers have worked out different arrivals from the same seed")
        return True

    def _load(self, index: int, step: Step) -> None:
        assert self._sink is not None
        assert self._job is not None
        if index == 0:
            self._sink.begin()
        account = Account(self._job, self._sink, index, step)
        far_ns = max(member.clock.rtt_ns for member in self._crew.live())
        start_ns = self.now_ns() + _START_DELAY_NS + far_ns
        self._last_done_ns = start_ns
        self._loading = True
        self._start_ns = start_ns
        for member in self._crew.live():
            self._go(member)
        if self._stop is not None:  # it may have overtaken the start
            self._crew.tell_all(self._stop)
        account.open(start_ns)
        if step.elastic:
            for member in self._crew.live():
                self._users(member, member.users)  # those that came between the dealing and the start
        left = self._await_end(index, step)
        self._loading = False
        stopped_ns = None if self._stop is None else self._stopped_ns
        if not left:
            stopped_ns = min(self.now_ns(), stopped_ns or self.now_ns())
        members = [member for member in self._crew.members.values() if member.enlisted]
        for member in members:
            if member.lost:
                self._sink.salvage(member.id)
        orphans = self._deal.orphans if isinstance(self._deal, Shards) else {}
        account.close(members, self._stopped, stopped_ns, self._last_done_ns, self.now_ns(), orphans)
        if not left:
            raise ClusterFailed("no worker is left")

    def _go(self, member: Member) -> None:
        self._crew.tell(member, Go(self._step_index, self._start_ns, self._crew.renew(member)))

    def _await_end(self, index: int, step: Step) -> bool:
        """Until every live worker's batches of the step have come without a gap; false if nobody is left.

        Workers say when they are idle; when all are, they are told that it is enough. One that is lost and speaks again
        is heard to its end.
        """
        told_s, since_s = time.monotonic(), 0.0
        while True:
            self._look_for_losses()
            live = self._crew.live()
            if not live:
                return False
            if all(member.inbox.complete(index) for member in live) and not self._late_news(index):
                return True
            endless = step.elastic and len(self._stopped) < len(self._guards)
            idle = not endless and all(
                member.inbox.complete(index) or member.idle == (index, member.version) for member in live
            )
            now_s = time.monotonic()
            since_s = since_s or now_s if idle or self._stop is not None else 0.0
            if since_s and now_s - since_s > self._drain_s + _END_S:
                for member in live:
                    if not member.inbox.complete(index):
                        self._lose(member, "it did not end the step when it was told to")
            if now_s - told_s > _SAY_AGAIN_S:
                told_s = now_s
                self._say_again(index, idle)
            elif idle and self._stop is None:
                self._crew.tell_all(Drain())
            self._changed.clear()
            self._changed.wait(0.5)
            self._raise_fault()

    @property
    def _drain_s(self) -> float:
        return 0.0 if self._job is None else self._job.drain_ns / 1e9

    def _say_again(self, index: int, idle: bool) -> None:
        """Orders may get lost with a connection. Each of them may be obeyed twice."""
        if idle or self._stop is not None:
            self._crew.tell_all(self._stop or Drain())
        for member in self._crew.members.values():
            if member.lost and member.enlisted and not member.silent and not member.inbox.complete(index):
                self._retire(member)
            elif not member.lost and member.enlisted and index not in member.planned:
                self._go(member)  # it has said nothing of this step yet
            elif not member.lost and member.id in self._orders:
                self._crew.tell(member, self._orders[member.id])

    def _late_news(self, index: int) -> bool:
        """Whether a worker that was given up is back, and still has something to say about this step."""
        return (
            any(
                member.lost and index in member.planned and not member.silent and not member.inbox.complete(index)
                for member in self._crew.members.values()
            )
            and self.now_ns() - self._last_done_ns < _LATE_NEWS_S * 1e9
        )

    # --- losses ---------------------------------------------------------------------------------------------------

    def _look_for_losses(self) -> None:
        for member in self._crew.overdue():
            self._lose(member, "not heard of until its lease had run out")

    def lose_process(self, pid: int, code: int) -> None:
        """A worker process of ours has ended, with this code."""
        member = self._crew.of_process(pid)
        if member is not None:
            try:
                self._lose(member, f"its process ended with {code}")
            except Exception as fault:  # noqa: BLE001  in whoever watches the processes: `conduct` raises it
                self._crew.fault = self._crew.fault or fault
            return
        if not self._loading:
            self._loss = self._loss or f"a local worker ended with {code}"
            self._changed.set()

    def _lose(self, member: Member, reason: str) -> None:
        """Give a worker up, for whom nothing can be sent any more, and have the others take over."""
        if member.lost:
            return
        self._crew.tell(member, Cancel())
        member.lost = True
        member.in_flight = 0
        self._loss = f"worker {member.id}: {reason}"
        if not member.enlisted or self._sink is None:
            return
        self._sink.note("worker_lost", "invalid", self._loss)
        self._salvage(member)
        if self._treasurer is not None:
            self._treasurer.lose(member)
        if self._abort_on_loss:
            self._halt(Drain())
        if self._loading:
            self._take_over(member)

    def _salvage(self, member: Member) -> None:
        """Take over what it has written down, if that was on this machine; its engine may take a moment to die."""
        assert self._sink is not None
        tries = _SALVAGE_TRIES
        while not self._sink.salvage(member.id) and tries and not self._process_lives(member):
            tries -= 1
            gevent.sleep(0.05)

    def _process_lives(self, member: Member) -> bool:
        return member.hello is None or process_started(member.hello.pid) is not None

    def _take_over(self, lost: Member) -> None:
        """Deal the work of a lost worker to the others. What was due meanwhile is lost, and counted so."""
        assert self._sink is not None
        assert self._step is not None
        live = sorted(member.id for member in self._crew.live())
        deal = self._deal
        if isinstance(deal, Shards):
            deal.lose(lost.id, live)
        elif isinstance(deal, Slots) and live and not self._step.elastic:
            deal.lose(lost.id, live, self._sink.begun(lost.id, self._step_index))
        else:
            return  # in an elastic step Locust moves its users, and they bring slots of their own
        self._taken_over_ns = self.now_ns() + _TAKE_OVER_NS
        lost.moved_ns = self._taken_over_ns
        for member in self._crew.live():
            self._order(member)

    def _order(self, member: Member) -> None:
        """Tell a worker what is its own now."""
        deal = self._deal
        member.version += 1
        order: frames.Slots | frames.Shards
        if isinstance(deal, Shards):
            order = frames.Shards(deal.of(member.id), self._taken_over_ns, deal.cap(member.id), member.version)
        else:
            if deal is not None and self._step is not None and not self._step.elastic:
                member.slots = deal.of(member.id)
            order = frames.Slots(member.slots, member.version)
        self._orders[member.id] = order
        self._crew.tell(member, order)

    def _retire(self, member: Member) -> None:
        """A worker that was given up speaks again: nothing is its own any more."""
        member.version += 1
        if isinstance(self._deal, Shards):
            self._crew.tell(member, frames.Shards([], self._taken_over_ns, None, member.version))
        else:
            self._crew.tell(member, frames.Slots([], member.version))
        self._crew.tell(member, Drain())

    # --- waiting --------------------------------------------------------------------------------------------------

    def _until(self, condition: Callable[[], bool], limit_s: float, problem: str) -> None:
        """Wait for a condition that messages bring about, or for an interruption."""
        until = time.monotonic() + limit_s
        while not condition() and self._stop is None:
            self._raise_fault()  # silence is no loss here: a large job keeps an engine busy, and there is a limit
            if self._loss and (self._step_index == 0 or not self._crew.live()):
                raise ClusterFailed(self._loss)
            if time.monotonic() >= until:
                refused = "; ".join(f"{worker}: {why}" for worker, why in self._crew.refused.items())
                raise ClusterFailed(f"{problem} within {limit_s:.0f} s" + (f" ({refused})" if refused else ""))
            self._changed.clear()
            self._changed.wait(0.1)
        self._raise_fault()

    def _raise_fault(self) -> None:
        if self._crew.fault is not None:
            raise self._crew.fault

    # --- listening ------------------------------------------------------------------------------------------------

    def _on_report(self, member: Member, report: Up) -> None:
        match report:
            case Users(count=count):
                self._users(member, count)
            case Accepted(scenario_sha256=scenario, prompts_sha256=prompts):
                member.accepted = (scenario, prompts)
            case Prepared(step=step, failures=failures, digest=digest):
                member.prepared, member.failures, member.digest = step, failures, digest
            case Batch():
                self._batch(member, report)
            case Spending() if self._treasurer is not None:
                self._spent(member, report)
            case Lost(reason=reason):
                self._lose(member, reason)

    def _users(self, member: Member, count: int) -> None:
        """Locust changed the users of a worker: within an elastic step its slots follow.

        In any other step the slots are the plan, whatever becomes of the users.
        """
        member.users = count
        if self._loading and member.enlisted and isinstance(self._deal, Slots) and self._step is not None:
            if not self._step.elastic:
                return
            member.slots = self._deal.resize(member.id, member.slots, count)
            self._order(member)

    def _batch(self, member: Member, batch: Batch) -> None:
        """Commit, then acknowledge; a batch that was taken before is only acknowledged again.

        One of another run, which a web session may have had before this one, is nobody's any more.
        """
        assert self._sink is not None
        assert self._job is not None
        if not member.enlisted or batch.run_id != self._job.run_id:
            return
        if member.inbox.accept(batch.number, batch.step if batch.final else None):
            # A worker that was given up and is back has not sent what others had taken over: that is theirs to tell.
            batch.samples = [
                one for one in batch.samples if one.outcome != Outcome.DROPPED or one.due_ns < member.moved_ns
            ]
            for sample in batch.samples:
                sample.worker = member.id
            self._sink.samples(batch.samples)
            self._gauges(member, batch)
            self._watch(batch)
        self._crew.tell(member, Ack(batch.number))

    def _gauges(self, member: Member, batch: Batch) -> None:
        assert self._sink is not None
        member.in_flight = 0 if member.lost else batch.in_flight
        if batch.paused and not member.paused:
            self._sink.note("worker_paused", "suspect", f"worker {member.id} had no word from its master for 5 s")
        member.paused = member.paused or batch.paused
        if batch.idle:
            member.idle = (batch.step, batch.version)
        if self._orders.get(member.id) is not None and batch.version == member.version:
            del self._orders[member.id]
        if batch.cpu is not None and batch.in_flight:
            member.cpu.append(batch.cpu)
        if batch.spool and not member.unspooled:
            member.unspooled = True
            self._sink.note("no_spool", "note", f"worker {member.id} cannot write down what it sends: {batch.spool}")
        known = member.planned.setdefault(batch.step, {})
        for key, count in batch.planned.items():  # cumulative, and batches may come in any order
            known[key] = max(count, known.get(key, 0))

    def _watch(self, batch: Batch) -> None:
        """Run the guards over all workers' samples together, and pass on what one engine has stopped."""
        for endpoint, reason in batch.stopped.items():
            self._stop_endpoint(endpoint, reason)
        for sample in batch.samples:
            if sample.done_ns is None:
                continue  # it has begun, and no more is known
            self._last_done_ns = max(self._last_done_ns, sample.done_ns)
            tripped = self._guards[sample.endpoint].add(sample.outcome, sample.status, sample.done_ns)
            if tripped is not None:
                self._stop_endpoint(sample.endpoint, tripped)

    def _stop_endpoint(self, endpoint: str, reason: str) -> None:
        if endpoint not in self._stopped:
            self._stopped[endpoint] = reason
            assert self._sink is not None
            self._sink.stopped(endpoint, reason)
            self._crew.tell_all(StopEndpoint(endpoint, reason))

    def _spent(self, member: Member, report: Spending) -> None:
        """A worker has used some of the budget; when it is used up, the run is over."""
        assert self._treasurer is not None
        assert self._sink is not None
        self._treasurer.report(member, report)
        if self._stop is None and (why := self._treasurer.used_up()):
            self._sink.spent(why)
            self._halt(Drain())
