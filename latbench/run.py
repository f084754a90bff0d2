"""The parent's wiring: plan to master to store and recorder, then summary and report.

One `Session` is one run. It commits samples as they come, so that a run which ends badly leaves what it measured. It
prints nothing: what a person watches is `view`, what a program reads is the summary.
"""

import os
import platform
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from latbench import __version__
from latbench.analysis import nulltest
from latbench.analysis.stopped import remedy
from latbench.analysis.tripwire import Tripwire
from latbench.analysis.validity import Figure, reason
from latbench.cluster.children import EngineProcess
from latbench.cluster.locust_master import ClusterFailed, Coordinator, NotConnected
from latbench.cluster.locust_run import LocustRun
from latbench.metrics.recorder import LiveView, Recorder
from latbench.model.errors import ExitCode, UserError
from latbench.model.frames import Effort, Job, NullTested
from latbench.model.lifeline import process_started
from latbench.model.load import Step, Trace
from latbench.model.request import Endpoint, Prompt
from latbench.model.run import RunRecord, StepRecord, new_id
from latbench.model.sample import Outcome, Sample
from latbench.model.spool import being_written, read_spool, remove_segments, spool_root, spools_of
from latbench.needle.pages import reader_of
from latbench.observed import Observed
from latbench.plan.budget import Limits
from latbench.report import client_line
from latbench.results import exit_code, summary_of, write_reports
from latbench.scenario.loader import Loaded
from latbench.scenario.prompts import PromptSet
from latbench.scenario.thresholds import parse
from latbench.store.errors import StoreError
from latbench.store.manifest import SCENARIO, RunDirectory
from latbench.store.sqlite import Store
from latbench.trials import NeedleRun


@dataclass(frozen=True)
class Plan:
    """What to run and where to keep it. `endpoints` may differ from the scenario's in `base_url`: `sim` is resolved.

    With `abort_early`, a share of errors stops an endpoint, and a threshold that is out of reach stops the run. With
    `needle`, the prompts are its trials.
    """

    loaded: Loaded
    prompts: PromptSet
    endpoints: list[Endpoint]
    workers: int
    store: Path
    out: Path | None
    window: str | None = None
    abort_early: bool = True
    listen: tuple[str, int] | None = None
    join: int = 0
    secret: bytes | None = None
    abort_on_loss: bool = False
    null_test: bool = False
    needle: NeedleRun | None = None

    def steps(self) -> list[Step]:
        """The steps of the load."""
        return self.loaded.steps(self.prompts)

    def limits(self) -> Limits:
        """The budget; without limits where there is none."""
        budget = self.loaded.budget()
        return Limits() if budget is None else Limits.of(usd=budget.usd, requests=budget.requests, tokens=budget.tokens)


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    exit_code: int
    summary: dict[str, Any]
    directory: Path
    run_id: str


class Interrupted(KeyboardInterrupt):
    """Ctrl-C before anything was sent: there is nothing to keep."""


class Session:
    """One run from its first record to its report. It is the coordinator's sink.

    Nothing is written before the first request is about to leave: a run that cannot begin leaves no trace.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        say: Callable[[str], None] | None = None,
        observed: Observed | None = None,
    ) -> None:
        self.plan = plan
        self.store = store
        self._say = say
        self._observed = observed
        self.record = _record(plan)
        self.recorder = Recorder()
        self._reader = reader_of(self.job(()))
        self.directory: RunDirectory | None = None
        self.coordinator: Coordinator | None = None
        self.interrupted = False
        self.over = False
        self._planned: Counter[str] = Counter()
        self._lost: list[tuple[str, int]] = []
        self._tripwire: Tripwire | None = None

    # --- the coordinator's sink -----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Record that the run begins. Raises UserError where nothing can be written."""
        record = self.record
        if self.coordinator is not None:
            record.workers = self.coordinator.workers
            record.engine["clocks"] = {
                worker: {"host": host, "shared": clock.shared, "offset_ns": clock.offset_ns, "rtt_ns": clock.rtt_ns}
                for worker, (host, clock) in self.coordinator.clocks.items()
            }
        self.directory = RunDirectory.create(Path("runs"), self.plan.out, record.started_at, record.name, record.id)
        record.directory = str(self.directory.path.absolute())
        self.directory.write_atomic(SCENARIO, msgspec.yaml.encode(record.scenario).decode())
        needle = self.plan.needle
        self.store.begin_run(record, self.plan.prompts.prompts, () if needle is None else needle.planned)
        if self._observed is not None:
            tasks = {prompt.id: prompt.task for prompt in self.plan.prompts.prompts}
            self._observed.begin(record, tasks, self.plan.prompts.weights, len(self.plan.steps()))

    def null_tested(self, found: Mapping[str, NullTested | None], streams: int) -> None:
        """Say what the client's own error is, and keep it. One that could not be had is only noted."""
        block = self.record.engine["null_test"] = nulltest.pooled(found, streams)
        if block is not None and self._say is not None:
            self._say(client_line.null_test(block))
        for failure in nulltest.failures(found):
            self.note("null_test_failed", "note", failure)

    def step_begins(self, step: StepRecord) -> None:
        """Keep what a step is to be: should this process die, `runs recover` knows it."""
        self.record.steps.append(step)
        self.store.update_run(self.record)
        if self._observed is not None:
            self._observed.step_begins(step)

    def samples(self, samples: list[Sample]) -> None:
        """Commit, then count for the live view."""
        if samples:
            self.store.add_samples(self.record.id, samples)
            for sample in samples:
                if sample.outcome != Outcome.LOST:  # it has only begun
                    self.recorder.add(sample)
                    self._hold(sample)
            if self._observed is not None:
                self._observed.samples(samples)

    def _hold(self, sample: Sample) -> None:
        """Stop the run at the first sample that puts a threshold out of reach."""
        for found in () if self._tripwire is None else self._tripwire.add(sample):
            self.record.out_of_reach.append(msgspec.to_builtins(found))
            self.note("threshold_out_of_reach", "note", f"{found.endpoint}: {found.threshold} {found.why}")
            if self.coordinator is not None:
                self.coordinator.end_early()

    def effort(self, worker: str, number: int, step: int, effort: Effort) -> None:
        """Commit what an engine had to do, and how late it was."""
        self.store.add_effort(self.record.id, worker, number, step, effort)
        if self._observed is not None:
            self._observed.effort(worker, effort)

    def salvage(self, worker: str) -> bool:
        """Commit what the engine of a lost worker has written down on this machine; false if it is still writing."""
        found: list[Sample] = []
        read: list[Path] = []
        over = True
        for path in spools_of(spool_root(os.environ), self.record.id, worker):
            try:
                if being_written(path):
                    over = False
                else:
                    found += read_spool(path)[1]
                    read.append(path)
            except (OSError, ValueError):
                continue  # `runs recover` will say so
        for sample in found:
            sample.worker = worker
            self._reader.read(sample)
        self.samples(found)
        remove_segments(read)
        return over

    def begun(self, worker: str, step: int) -> dict[int, int]:
        """How many requests of each slot a worker is known to have begun."""
        return self.store.begun(self.record.id, worker, step)

    def planned(self, worker: str, step: int) -> dict[str, int]:
        """How many requests of a worker are known to have become due."""
        return self.store.planned(self.record.id, worker, step)

    def recorded(self, endpoint: str, step: int) -> np.ndarray:
        """The sequence numbers of which there is a record."""
        return np.fromiter(self.store.sequences(self.record.id, endpoint, step), dtype=np.int64)

    def step_over(self, step: StepRecord, planned: dict[str, int], lost: Sequence[str]) -> None:
        """Keep a step's times and what it planned; what lost workers did of it is known by their records alone."""
        self.record.steps[-1] = step
        self._planned.update(planned)
        self._lost += [(worker, step.index) for worker in lost]
        self._sum_planned()
        self.store.update_run(self.record)

    def _sum_planned(self) -> None:
        """Once more at the end: a lost worker that came back may have brought more than was known."""
        total = Counter(self._planned)
        for worker, step in self._lost:
            total.update(self.planned(worker, step))
        self.record.engine["planned"] = dict(total)
        self.record.planned = sum(total.values())

    def stopped(self, endpoint: str, reason: str) -> None:
        """A guard has stopped an endpoint: the run's exit code will say so."""
        self.record.stops.append((endpoint, reason))
        (asked,) = (one for one in self.plan.endpoints if one.name == endpoint)
        self.note("endpoint_stopped", "note", f"{endpoint} was stopped: {reason}; {remedy(reason, asked)}")

    def spent(self, why: str) -> None:
        """The budget is used up before the plan was done: the run's exit code will say so."""
        self.record.stops.append(("budget", why))
        self.note("budget_used_up", "note", f"the budget was {why}")

    def note(self, code: str, severity: str, message: str, value: Figure = None, limit: Figure = None) -> None:
        """Keep what a reader of the figures must know: a reason of the verdict. What is said again stands once."""
        found = reason(code, severity, value, limit, message)
        self.record.notes = [*(one for one in self.record.notes if one != found), found]

    # --- the run --------------------------------------------------------------------------------------------------

    def view(self) -> LiveView:
        """What is happening now."""
        assert self.coordinator is not None
        coordinator = self.coordinator
        return self.recorder.snapshot(coordinator.now_ns(), step=coordinator.step, in_flight=coordinator.in_flight)

    def look(self) -> None:
        """Show dashboards what the coordinator knows."""
        if self._observed is not None and self.coordinator is not None:
            now = self.coordinator
            self._observed.look(in_flight=now.in_flight, workers=now.workers, planned=now.planned)

    def job(self, steps: Sequence[Step]) -> Job:
        """What every worker needs to know; `worker` and `origin_ns` are each worker's own."""
        loaded = self.plan.loaded
        weighted = set(self.plan.prompts.weights)
        named = {name for step in steps if isinstance(step.shape, Trace) for name in step.shape.prompt_ids}
        prompts = self.plan.prompts.prompts
        return Job(
            run_id=self.record.id,
            worker="",
            version=__version__,
            scenario_sha256=loaded.sha256,
            origin_ns=0,
            seed=loaded.scenario.seed,
            endpoints=self.plan.endpoints,
            prompts=[_sendable(prompt) for prompt in prompts if prompt.task in weighted or prompt.id in named],
            weights=self.plan.prompts.weights,
            max_tokens=loaded.scenario.output.max_tokens,
            cold=loaded.scenario.cache == "cold",
            timeouts=loaded.timeouts(),
            drain_ns=loaded.drain_ns,
            budgeted=loaded.budget() is not None,
            prices=loaded.prices(),
            modes=tuple(loaded.scenario.output.mode),
            schema=loaded.schema(),
            respect=loaded.scenario.rate_limits == "respect",
            tools=loaded.tools(),
            repeat=loaded.scenario.repeat,
            book="" if self.plan.needle is None else str(self.plan.needle.book),
        )

    def interrupt(self) -> None:
        """Ctrl-C or SIGTERM: once drains, twice cancels."""
        if self.over:
            return  # it is being summed up already
        if self._say is not None and self.coordinator is not None and self.directory is not None:
            waiting = f"stopping: {self.coordinator.in_flight} answers are awaited, once more cancels them"
            self._say("cancelling what is in flight" if self.interrupted else waiting)
        if not self.interrupted and self.directory is not None:
            self.note("interrupted", "note", "the run was stopped by Ctrl-C or SIGTERM")
        self.interrupted = True
        if self.coordinator is not None:
            self.coordinator.interrupt()

    def conduct(self, coordinator: Coordinator, steps: Sequence[Step]) -> None:
        """Run the steps. Raises NotConnected before anything was sent."""
        self.coordinator = coordinator
        self._tripwire = self._tripwire_over(steps) if self.plan.abort_early else None
        whole = False
        try:
            whole = coordinator.conduct(
                self.job(steps),
                steps,
                self,
                abort_on_errors=self.plan.abort_early,
                limits=self.plan.limits(),
                null_tests=self.plan.null_test,
            )
        except NotConnected as fault:
            raise UserError("\n".join(self._unreached(fault.failures))) from fault
        except ClusterFailed as fault:
            self.note("worker_lost", "invalid", str(fault))
        finally:
            self.over = True
        if self.directory is None:
            if self.interrupted or not self.record.notes:
                raise Interrupted
            raise UserError(self.record.notes[-1]["advice"])
        # Not after a failure of ours or of the disk: that run has not been brought to an end, and can be recovered.
        self.record.duration_s = coordinator.now_ns() / 1e9
        self._sum_planned()
        if self.plan.needle is not None and self.plan.needle.left and not self.record.stops:
            self.spent(self.plan.needle.left)
        complete = whole and not self.interrupted and not self.record.stops
        self.record.state = "complete" if complete else "partial"
        self.store.update_run(self.record)

    def _tripwire_over(self, steps: Sequence[Step]) -> Tripwire | None:
        thresholds = [parse(text) for text in self.record.thresholds]
        tasks = {prompt.id: prompt.task for prompt in self.plan.prompts.prompts}
        return Tripwire(thresholds, list(self.record.endpoints), steps, tasks) if thresholds else None

    def _unreached(self, failures: dict[str, str]) -> Iterator[str]:
        """One line an endpoint: where its address stands, and why it could not be reached."""
        for index, endpoint in enumerate(self.plan.endpoints):
            if endpoint.name in failures:
                where = self.plan.loaded.where("endpoints", index, "base_url")
                why = failures[endpoint.name]
                yield f"{where}: endpoint {endpoint.name}: {why}; is the server up, and is this its address?"

    def finish(self) -> Result:
        """Judge, sum up, and write the run directory."""
        assert self.directory is not None
        summary = summary_of(self.store, self.record)
        self.record.exit_code = ExitCode.INTERRUPTED if self.interrupted else exit_code(self.record, summary)
        summary["run"]["exit_code"] = self.record.exit_code
        self.store.update_run(self.record)
        write_reports(self.directory, summary)
        if self._observed is not None:
            self._observed.end(summary)
        return Result(self.record.exit_code, summary, self.directory.path, self.record.id)


def measure(
    plan: Plan,
    engine: EngineProcess | None,
    watch: Callable[[LiveView], None] | None = None,
    say: Callable[[str], None] | None = None,
    observed: Observed | None = None,
) -> Result:
    """Run a plan to its end. `engine` is there for a run with one local worker.

    `watch`, if any, is shown views of the run; `say` is told what an interruption leads to; `observed` is kept up to
    date for exporters.

    Raises UserError for what is found before the first request, Interrupted if there never was one, and StoreError
    where the disk fails: the load is stopped then, and the run can be recovered.
    """
    with Store(plan.store) as store:
        session = Session(plan, store, say, observed)
        with LocustRun(
            engine, plan.workers, plan.join, plan.listen, plan.secret, abort_on_loss=plan.abort_on_loss
        ) as cluster:
            coordinator = cluster.coordinator()
            cluster.on_interrupt(session.interrupt)
            session.coordinator = coordinator

            def look() -> None:
                session.look()
                if watch is not None:
                    watch(session.view())

            cluster.watch(look)
            try:
                session.conduct(coordinator, plan.steps())
            except StoreError as fault:
                if session.directory is None:
                    raise
                advice = f"when that is mended, `latbench runs recover {session.record.id}` makes the report"
                raise StoreError(f"{fault}; the run has stopped: {advice}") from fault
            coordinator.close()
            return session.finish()  # while Ctrl-C still means: drain, and write


def _record(plan: Plan) -> RunRecord:
    scenario = plan.loaded.scenario
    return RunRecord(
        id=new_id() if plan.needle is None else plan.needle.run_id,
        name=scenario.name,
        scenario_name=scenario.name,
        scenario_sha256=plan.loaded.sha256,
        scenario=plan.loaded.resolved(),
        started_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        workers=plan.workers + plan.join,
        seed=scenario.seed,
        window=plan.window,
        labels=dict(scenario.labels),
        endpoints={e.name: {"provider": e.provider, "api": e.api, "model": e.model} for e in plan.endpoints},
        slo=plan.loaded.slo(),
        prices=plan.loaded.prices(),
        promised=plan.loaded.promised(),
        demand=plan.loaded.demand(),
        lead=list(scenario.lead),
        thresholds=list(scenario.thresholds),
        version=__version__,
        host={
            "name": socket.gethostname(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "cores": str(os.cpu_count()),
            "pid": str(os.getpid()),
            "pid_started": process_started(os.getpid()) or "",
        },
        git_commit=_git_commit(),
        engine=_engine(plan),
    )


def _engine(plan: Plan) -> dict[str, Any]:
    """What is known of a run before it begins, and has no field of its own."""
    prompts = plan.prompts
    found: dict[str, Any] = {"prompts": {"name": prompts.name, "version": prompts.version, "sha256": prompts.sha256}}
    if plan.needle is not None:
        folder = plan.needle.source.folder
        found["needle"] = {"resumes": plan.needle.resumes, "folder": None if folder is None else str(folder)}
    return found


def _sendable(prompt: Prompt) -> Prompt:
    """A prompt without what only reports read."""
    return msgspec.structs.replace(prompt, extra={})


def _git_commit() -> str | None:
    """The commit of the folder that the run was started in: the reader's own project, where it is one."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=2, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
