"""How far the run that is under way has come, whether it is to stop, and how to wait for it.

The parts of the coordinator (joining, dealer, losses, watch) share this and nothing else. It is one object for as long
as the coordinator lives: a web session conducts several runs, and workers speak between them, too.
"""

import time
from collections.abc import Callable

from gevent.event import Event

from latbench.cluster.account import Sink
from latbench.cluster.crew import Crew
from latbench.cluster.treasurer import Treasurer
from latbench.model.frames import Cancel, Drain, Job
from latbench.model.load import Step


class ClusterFailed(Exception):
    """The run cannot begin or go on: workers did not join, or none is left."""


class RunState:
    """The run's state. Whoever changes what somebody may wait for sets `changed`."""

    def __init__(self, crew: Crew, changed: Event) -> None:
        self.crew = crew
        self.changed = changed
        self.treasurer: Treasurer | None = None
        self.stop: Drain | Cancel | None = None
        self.stopped_ns = 0
        self.stopped: dict[str, str] = {}  # endpoints, and why
        self.step: Step | None = None
        self.step_index = 0
        self.loading = False
        self.last_done_ns = 0  # the last answer of the step
        self.loss = ""
        self._job: Job | None = None
        self._sink: Sink | None = None

    def restart(self, job: Job, sink: Sink) -> None:
        """Forget the run before. Its end is no end of this one's, and its faults are not this one's."""
        self._job, self._sink, self.treasurer = job, sink, None
        self.stop, self.stopped = None, {}
        self.step_index, self.loss, self.loading = 0, "", False
        self.crew.restart()

    @property
    def job(self) -> Job:
        """What the workers are given. Only from `restart` on."""
        assert self._job is not None
        return self._job

    @property
    def sink(self) -> Sink:
        """Where what is measured goes. Only from `restart` on."""
        assert self._sink is not None
        return self._sink

    @property
    def endpoints_left(self) -> bool:
        """Whether there is an endpoint that no guard has stopped."""
        return len(self.stopped) < len(self.job.endpoints)

    def halt(self, order: Drain | Cancel) -> None:
        """Have the engines drain or cancel. An order never gets weaker: no later Drain takes a Cancel back."""
        if self.stop is None:
            self.stopped_ns = self.crew.now_ns()
        if not isinstance(self.stop, Cancel):
            self.stop = order
        self.crew.tell_all(self.stop)
        self.changed.set()

    # --- waiting --------------------------------------------------------------------------------------------------

    def until(self, condition: Callable[[], bool], limit_s: float, problem: str) -> None:
        """Wait for a condition that messages bring about, or for an interruption.

        Raises ClusterFailed after `limit_s` or if nobody is left to bring it about, or what failed in the background.
        """
        until = time.monotonic() + limit_s
        while not condition() and self.stop is None:
            self.raise_fault()  # silence is no loss here: a large job keeps an engine busy, and there is a limit
            if self.loss and (self.step_index == 0 or not self.crew.live()):
                raise ClusterFailed(self.loss)
            if time.monotonic() >= until:
                refused = "; ".join(f"{worker}: {why}" for worker, why in self.crew.refused.items())
                raise ClusterFailed(f"{problem} within {limit_s:.0f} s" + (f" ({refused})" if refused else ""))
            self.wait(0.1)
        self.raise_fault()

    def wait(self, limit_s: float) -> None:
        """Until something changes, but no longer than that."""
        self.changed.clear()
        self.changed.wait(limit_s)

    def raise_fault(self) -> None:
        """Raise what has failed in the background, if anything has."""
        if self.crew.fault is not None:
            raise self.crew.fault
