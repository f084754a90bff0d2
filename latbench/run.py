"""The parent's wiring: plan to master to store and recorder, then summary and report.

One `Session` is one run. It commits samples as they come, so that a run which ends badly leaves what it measured. It
prints nothing: what a person watches is `view`, what a program reads is the summary.
"""

import os
import platform
import secrets
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec

from latbench import __version__
from latbench.cluster.children import EngineProcess
from latbench.cluster.locust_master import ClusterFailed, Coordinator, NotConnected
from latbench.cluster.locust_run import LocustRun
from latbench.metrics.recorder import LiveView, Recorder
from latbench.model.errors import ExitCode, UserError
from latbench.model.frames import Job
from latbench.model.request import Endpoint, Prompt
from latbench.model.run import RunRecord, StepRecord
from latbench.model.sample import Sample
from latbench.report import json as json_report
from latbench.report import markdown
from latbench.results import summary_of
from latbench.scenario.loader import Loaded
from latbench.scenario.prompts import PromptSet
from latbench.scenario.schema import Step
from latbench.store.manifest import REPORT, SCENARIO, SUMMARY, RunDirectory
from latbench.store.sqlite import Store


@dataclass(frozen=True)
class Plan:
    """What to run and where to keep it. `endpoints` may differ from the scenario's in `base_url`: `sim` is resolved."""

    loaded: Loaded
    prompts: PromptSet
    endpoints: list[Endpoint]
    workers: int
    store: Path
    out: Path | None
    window: str | None = None
    abort_on_errors: bool = True
    listen: tuple[str, int] | None = None
    join: int = 0


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

    def __init__(self, plan: Plan, store: Store, say: Callable[[str], None] | None = None) -> None:
        self.plan = plan
        self.store = store
        self._say = say
        self.record = _record(plan)
        self.recorder = Recorder()
        self.directory: RunDirectory | None = None
        self.coordinator: Coordinator | None = None
        self.interrupted = False
        self.over = False

    # --- the coordinator's sink -----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Record that the run begins. Raises UserError where nothing can be written."""
        record = self.record
        record.workers = self.coordinator.workers if self.coordinator is not None else record.workers
        self.directory = RunDirectory.create(Path("runs"), self.plan.out, record.started_at, record.name, record.id)
        self.directory.write_atomic(SCENARIO, msgspec.yaml.encode(record.scenario).decode())
        self.store.begin_run(record, self.plan.prompts.prompts)

    def samples(self, samples: list[Sample]) -> None:
        """Commit, then count for the live view."""
        if samples:
            self.store.add_samples(self.record.id, samples)
            for sample in samples:
                self.recorder.add(sample)

    def step_over(self, step: StepRecord, planned: dict[str, int]) -> None:
        """Keep a step's times and what it planned."""
        self.record.steps.append(step)
        total: dict[str, int] = self.record.engine.setdefault("planned", {})
        for key, count in planned.items():
            total[key] = total.get(key, 0) + count
        self.record.planned = sum(total.values())
        self.store.update_run(self.record)

    def stopped(self, endpoint: str, reason: str) -> None:
        """A guard has stopped an endpoint: the run's exit code will say so."""
        self.record.stops.append((endpoint, reason))
        self.note("endpoint_stopped", "note", f"{endpoint} was stopped: {reason}")

    def note(self, code: str, severity: str, message: str) -> None:
        """Keep what a reader of the figures must know; it becomes a reason of the verdict."""
        self.record.notes.append({"code": code, "severity": severity, "value": None, "limit": None, "advice": message})

    # --- the run --------------------------------------------------------------------------------------------------

    def view(self) -> LiveView:
        """What is happening now."""
        assert self.coordinator is not None
        coordinator = self.coordinator
        return self.recorder.snapshot(coordinator.now_ns(), step=coordinator.step, in_flight=coordinator.in_flight)

    def job(self, origin_ns: int | None, elapsed_ns: int) -> Job:
        """What a worker needs to know."""
        loaded = self.plan.loaded
        weighted = set(self.plan.prompts.weights)
        return Job(
            run_id=self.record.id,
            version=__version__,
            origin_ns=origin_ns,
            elapsed_ns=elapsed_ns,
            seed=loaded.scenario.seed,
            endpoints=self.plan.endpoints,
            prompts=[_sendable(prompt) for prompt in self.plan.prompts.prompts if prompt.task in weighted],
            weights=self.plan.prompts.weights,
            max_tokens=loaded.scenario.output.max_tokens,
            cold=loaded.scenario.cache == "cold",
            timeouts=loaded.timeouts(),
            drain_ns=loaded.drain_ns,
            abort_on_errors=self.plan.abort_on_errors,
        )

    def interrupt(self) -> None:
        """Ctrl-C or SIGTERM: once drains, twice cancels."""
        if self.over:
            return  # it is being summed up already
        if self._say is not None and self.coordinator is not None and self.directory is not None:
            waiting = f"stopping: {self.coordinator.in_flight} answers are awaited, once more cancels them"
            self._say("cancelling what is in flight" if self.interrupted else waiting)
        self.interrupted = True
        if self.coordinator is not None:
            self.coordinator.interrupt()

    def conduct(self, coordinator: Coordinator, steps: Sequence[Step]) -> None:
        """Run the steps. Raises NotConnected before anything was sent."""
        self.coordinator = coordinator
        whole = False
        try:
            whole = coordinator.conduct(self.job, steps, self)
        except NotConnected as fault:
            raise UserError("\n".join(self._unreached(fault.failures))) from fault
        except ClusterFailed as fault:
            self.note("worker_lost", "invalid", str(fault))
        finally:
            self.over = True
            if self.directory is not None:
                self.record.duration_s = coordinator.now_ns() / 1e9
                self.record.engine["cpu"] = coordinator.engine_cpu
                complete = whole and not self.interrupted and not self.record.stops
                self.record.state = "complete" if complete else "partial"
                self.store.update_run(self.record)
        if self.directory is None:
            if self.interrupted or not self.record.notes:
                raise Interrupted
            raise UserError(self.record.notes[-1]["advice"])

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
        self.record.exit_code = self._exit_code(summary)
        summary["run"]["exit_code"] = self.record.exit_code
        self.store.update_run(self.record)
        for name, render in ((SUMMARY, json_report.render), (REPORT, markdown.render)):
            text = StringIO()
            render(summary, text)
            self.directory.write_atomic(name, text.getvalue())
        return Result(self.record.exit_code, summary, self.directory.path, self.record.id)

    def _exit_code(self, summary: dict[str, Any]) -> int:
        """The first that applies, in the order of the contract."""
        if self.interrupted:
            return ExitCode.INTERRUPTED
        if self.record.stops:
            return ExitCode.GUARD
        return ExitCode.INVALID if summary["validity"]["verdict"] == "invalid" else ExitCode.OK


def measure(
    plan: Plan,
    engine: EngineProcess | None,
    watch: Callable[[LiveView], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Result:
    """Run a plan to its end. `engine` is there for a run with one local worker.

    `watch`, if any, is shown views of the run; `say` is told what an interruption leads to.

    Raises UserError for what is found before the first request, Interrupted if there never was one.
    """
    with Store(plan.store) as store:
        session = Session(plan, store, say)
        with LocustRun(engine, plan.workers, plan.join, plan.listen) as cluster:
            coordinator = cluster.coordinator()
            cluster.on_interrupt(session.interrupt)
            session.coordinator = coordinator
            cluster.watch(lambda: watch(session.view()) if watch is not None else None)
            session.conduct(coordinator, plan.loaded.steps())
            coordinator.close()
            return session.finish()  # while Ctrl-C still means: drain, and write


def _record(plan: Plan) -> RunRecord:
    scenario = plan.loaded.scenario
    return RunRecord(
        id=secrets.token_hex(5),
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
        version=__version__,
        host={
            "name": socket.gethostname(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "cores": str(os.cpu_count()),
        },
        git_commit=_git_commit(),
        engine={"prompts": {"name": plan.prompts.name, "version": plan.prompts.version, "sha256": plan.prompts.sha256}},
    )


def _sendable(prompt: Prompt) -> Prompt:
    """A prompt without what only grading and reports read."""
    return msgspec.structs.replace(prompt, extra={}, expect=None)


def _git_commit() -> str | None:
    """The commit of the folder that the run was started in: the reader's own project, where it is one."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=2, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
