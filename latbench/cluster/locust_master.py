"""The coordinator at the Locust master: takes a run through its steps and gathers what the workers report.

The same code serves a master with N workers and Locust's local runner, where both ends live in one process. For each
step it deals the work out, lets the engines get ready, starts them at one moment, deals the work of a lost worker
again, and ends the step when every engine says that nothing more will begin and its batches have come without a gap.
Only then does Locust get to quit, so that its half second of patience is never needed.

It conducts; its parts do the rest: `joining.py`, `dealer.py`, `losses.py` and `watch.py`, over one `run_state.py`. It
never computes a figure: samples go to the sink, which commits them before they are acknowledged.
"""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import gevent
from gevent.event import Event
from locust.env import Environment

from latbench.cluster.account import Account, Sink
from latbench.cluster.crew import Crew, Member
from latbench.cluster.dealer import Dealer
from latbench.cluster.joining import check_files, gather
from latbench.cluster.losses import Losses
from latbench.cluster.nulltest import null_test
from latbench.cluster.run_state import ClusterFailed as ClusterFailed
from latbench.cluster.run_state import RunState
from latbench.cluster.treasurer import Treasurer
from latbench.cluster.watch import Watch
from latbench.cluster.worker_clock import WorkerClock
from latbench.model.errors import UserError
from latbench.model.frames import (
    Accepted,
    Batch,
    Cancel,
    Drain,
    Go,
    Job,
    Lost,
    NullTested,
    Prepared,
    Spending,
    Up,
    Users,
)
from latbench.model.load import Step
from latbench.plan.budget import Limits

JOIN_S = 60.0
SPAWN_S = 5.0
CONNECT_S = 60.0
MOST_USERS = 1000
_LATE_NEWS_S = 10.0
_START_DELAY_NS = 100_000_000
_SAY_AGAIN_S = 1.0
_END_S = 20.0
_USERS_A_SECOND = 1_000_000
_NONE_LEFT = "no worker is left; see what each was lost by, then run again"


class NotConnected(UserError):
    """Endpoints could not be reached before the first request: why, by name."""

    def __init__(self, failures: dict[str, str]) -> None:
        super().__init__("; ".join(f"endpoint {name}: {why}" for name, why in failures.items()))
        self.failures = failures


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
        changed = Event()
        self._crew = Crew(environment.runner, secret, self._on_report, changed.set)
        self._state = RunState(self._crew, changed)
        self._dealer = Dealer(self._state)
        self._losses = Losses(self._state, self._dealer, abort=abort_on_loss)
        self._watch = Watch(self._state, self._dealer)
        self._finished = False
        self._start_ns = 0

    def expect(self, workers: int) -> None:
        """So many workers are there by now: the next run begins when all their engines are up."""
        self._wanted = max(self._wanted, workers)

    # --- views ----------------------------------------------------------------------------------------------------

    @property
    def step(self) -> int:
        """The step that is under way."""
        return self._state.step_index

    @property
    def workers(self) -> int:
        """How many workers have joined, lost ones included."""
        return len(self._crew.members)

    @property
    def in_flight(self) -> int:
        """Requests under way, as last reported."""
        return sum(member.in_flight for member in self._crew.members.values())

    @property
    def planned(self) -> dict[str, int]:
        """How many requests became due so far, by `endpoint/phase`, as last reported."""
        total: Counter[str] = Counter()
        for member in self._crew.members.values():
            for known in member.planned.values():
                total.update(known)
        return dict(total)

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

    def conduct(
        self,
        job: Job,
        steps: Sequence[Step],
        sink: Sink,
        *,
        abort_on_errors: bool,
        limits: Limits,
        null_tests: bool = False,
    ) -> bool:
        """Run the steps, the null test before them if that is wanted; true if all steps ran to their end.

        `job` is the same for all workers but for `worker` and `origin_ns`, which are set here. Raises NotConnected
        before anything was sent, UserError for what the workers' machines cannot do, ClusterFailed, or whatever the
        sink raised.
        """
        state = self._state
        state.restart(job, sink)
        self._finished = False
        self._watch.restart(abort_on_errors=abort_on_errors)
        gather(state, self._wanted, self._patience_s)
        state.treasurer = Treasurer(self._crew, limits) if job.budgeted else None
        check_files(state, steps)
        if null_tests:
            null_test(state, steps)
        for index, step in enumerate(steps):
            if state.stop is not None or not state.endpoints_left:
                return False
            self._run_step(index, step)
        return state.stop is None or self._finished

    def interrupt(self) -> None:
        """The first call drains, the second cancels what is in flight."""
        self._state.halt(Drain() if self._state.stop is None else Cancel())

    def end_early(self) -> None:
        """Drain, for a reason of our own; a run that is being stopped already is left alone."""
        if self._state.stop is None:
            self._state.halt(Drain())

    def finish(self) -> None:
        """End an elastic step: drain it; that is its end, not an interruption."""
        self._finished = True
        self._state.halt(Drain())

    def lose_process(self, pid: int, code: int) -> None:
        """A worker process of ours has ended, with this code. What fails here is raised by `conduct`."""
        with self._crew.handing_over():
            self._losses.process_ended(pid, code)

    def close(self) -> None:
        """Send the workers home and stop the greenlets."""
        self._crew.close()

    # --- a step ---------------------------------------------------------------------------------------------------

    def _run_step(self, index: int, step: Step) -> None:
        self._state.step, self._state.step_index = step, index
        if step.concurrency is not None and not step.elastic:
            self._spawn(step.concurrency * len(self._state.job.endpoints))
        while not self._prepare(index, step):
            """A worker was lost on the way: the work is dealt to the others."""
        if self._state.stop is None:
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
            self._state.raise_fault()
            if self._state.stop is not None:
                return
            self._state.wait(0.1)

    def _prepare(self, index: int, step: Step) -> bool:
        """Deal the step out and have the engines get ready for it; false if a worker was lost meanwhile."""
        state = self._state
        live = sorted(self._crew.live(), key=lambda member: member.id)
        if not live:
            raise ClusterFailed(state.loss or _NONE_LEFT)
        self._dealer.deal(index, step, live)

        def lost() -> bool:
            return any(member.lost for member in live)

        def prepared() -> bool:
            return lost() or all(member.prepared == index for member in live)

        state.until(prepared, CONNECT_S, "connections were not opened in time")
        if lost() and state.stop is None:
            return False
        failures = {name: why for member in live for name, why in member.failures.items()}
        if failures and index == 0:
            raise NotConnected(failures)
        if state.stop is None and len({member.digest for member in live}) > 1:
            raise ClusterFailed(
                f"step {index}: the workers have worked out different arrivals from the same seed; install the same"
                " versions of latbench and NumPy on all machines"
            )
        return True

    def _load(self, index: int, step: Step) -> None:
        state = self._state
        if index == 0:
            state.sink.begin()
        account = Account(state.job, state.sink, index, step)
        far_ns = max(member.clock.rtt_ns for member in self._crew.live())
        self._start_ns = state.last_done_ns = self.now_ns() + _START_DELAY_NS + far_ns
        state.loading = True
        for member in self._crew.live():
            self._go(member)
        if state.stop is not None:  # it may have overtaken the start
            self._crew.tell_all(state.stop)
        account.open(self._start_ns)
        if step.elastic:
            for member in self._crew.live():
                self._dealer.follow_users(member)  # those that came between the dealing and the start
        left = self._await_end(index, step)
        state.loading = False
        stopped_ns = None if state.stop is None else state.stopped_ns
        if not left:
            stopped_ns = min(self.now_ns(), stopped_ns or self.now_ns())
        members = [member for member in self._crew.members.values() if member.enlisted]
        for member in members:
            if member.lost:
                state.sink.salvage(member.id)
        account.close(members, state.stopped, stopped_ns, state.last_done_ns, self.now_ns(), self._dealer.orphans)
        if not left:
            raise ClusterFailed(_NONE_LEFT)

    def _go(self, member: Member) -> None:
        self._crew.tell(member, Go(self._state.step_index, self._start_ns, self._crew.renew(member)))

    def _await_end(self, index: int, step: Step) -> bool:
        """Until every live worker's batches of the step have come without a gap; false if nobody is left.

        Workers say when they are idle; when all are, they are told that it is enough. One that is lost and speaks again
        is heard to its end.
        """
        state = self._state
        told_s, since_s = time.monotonic(), 0.0
        while True:
            self._losses.look()
            live = self._crew.live()
            if not live:
                return False
            if all(member.inbox.complete(index) for member in live) and not self._late_news(index):
                return True
            endless = step.elastic and state.endpoints_left
            idle = not endless and all(
                member.inbox.complete(index) or member.idle == (index, member.version) for member in live
            )
            now_s = time.monotonic()
            since_s = since_s or now_s if idle or state.stop is not None else 0.0
            if since_s and now_s - since_s > state.job.drain_ns / 1e9 + _END_S:
                for member in live:
                    if not member.inbox.complete(index):
                        self._losses.lose(member, "it did not end the step when it was told to")
            if now_s - told_s > _SAY_AGAIN_S:
                told_s = now_s
                self._say_again(index, idle)
            elif idle and state.stop is None:
                self._crew.tell_all(Drain())
            state.wait(0.5)
            state.raise_fault()

    def _say_again(self, index: int, idle: bool) -> None:
        """Orders may get lost with a connection. Each of them may be obeyed twice."""
        if idle or self._state.stop is not None:
            self._crew.tell_all(self._state.stop or Drain())
        for member in self._crew.members.values():
            if member.lost and member.enlisted and not member.silent and not member.inbox.complete(index):
                self._dealer.retire(member)
            elif not member.lost and member.enlisted and index not in member.planned:
                self._go(member)  # it has said nothing of this step yet
            elif not member.lost and member.enlisted:
                self._dealer.say_again(member)

    def _late_news(self, index: int) -> bool:
        """Whether a worker that was given up is back, and still has something to say about this step."""
        return (
            any(
                member.lost and index in member.planned and not member.silent and not member.inbox.complete(index)
                for member in self._crew.members.values()
            )
            and self.now_ns() - self._state.last_done_ns < _LATE_NEWS_S * 1e9
        )

    # --- listening ------------------------------------------------------------------------------------------------

    def _on_report(self, member: Member, report: Up) -> None:
        match report:
            case Users(count=count):
                member.users = count
                self._dealer.follow_users(member)
            case Accepted(scenario_sha256=scenario, prompts_sha256=prompts):
                member.accepted = (scenario, prompts)
            case Prepared(step=step, failures=failures, digest=digest):
                member.prepared, member.failures, member.digest = step, failures, digest
            case NullTested():
                member.null_tested = report
            case Batch():
                self._watch.batch(member, report)
            case Spending():
                self._watch.spending(member, report)
            case Lost(reason=reason):
                self._losses.lose(member, reason)
