"""A run as dashboards see it: live from its samples and its coordinator, at its end from its summary.

`Observed` is filled by the run and asked by an exporter, in threads of its own: one lock is held for the moment that
either takes. Imported before Locust, that lock belongs to the operating system's threads, which is what the server of
`export/server.py` runs in. Imports no Locust and no exporter.
"""

import time
from _thread import allocate_lock
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from latbench import __version__
from latbench.analysis import client, validity
from latbench.analysis.needle.published import publish
from latbench.metrics import series
from latbench.metrics.catalogue import BY_NAME, NS_PER_MS
from latbench.metrics.meters import Meters
from latbench.metrics.series import Snapshot
from latbench.model.frames import Effort
from latbench.model.run import RunRecord, StepRecord
from latbench.model.sample import Outcome, Sample

VERDICTS = {"valid": 0, "suspect": 1, "invalid": 2}
_PROMISED = {"rpm": "requests", "tpm": "tokens", "concurrency": "concurrency", "rpd": "daily"}
_JUDGED_FROM = 20
"""Requests that must have ended before "not one was answered" says anything."""


class Observed:
    """One run. Before `begin`, and in a process that has none, a snapshot says only which version runs."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._begun: tuple[RunRecord, Meters] | None = None
        self._gauges = Snapshot()
        self._planned: dict[str, int] = {}
        self._busy: dict[str, float] = {}
        self._lags = client.Lags()
        self._ended = False

    # --- filled by the run ----------------------------------------------------------------------------------------

    def begin(
        self, record: RunRecord, tasks: Mapping[str, str], expected: Collection[str] = (), steps: int = 0
    ) -> None:
        """A run is about to begin. `tasks` and `expected` are those of `Meters`, `steps` is how many it is to have."""
        with self._lock:
            self._begun, self._ended = (record, Meters(record, tasks, expected)), False
            self._gauges, self._planned = Snapshot(), {}
            self._busy, self._lags = {}, client.Lags()
            run = _run(record)
            self._gauges.set(series.STEPS, run, steps)
            self._gauges.set(series.STEP, run, 0)

    def step_begins(self, step: StepRecord) -> None:
        """A step is under way."""
        with self._lock:
            record, meters = self._known()
            run = _run(record)
            self._gauges.set(series.STEP, run, step.index + 1)
            for one, value in ((series.CONCURRENCY, step.concurrency), (series.RATE, step.rate)):
                self._gauges.points.pop(one, None)
                self._gauges.set(one, run, value)
            if step.load is not None and step.load.open:
                meters.open_steps.add(step.index)

    def samples(self, samples: Iterable[Sample]) -> None:
        """Samples have been committed."""
        with self._lock:
            self._known()[1].add(samples)

    def effort(self, worker: str, effort: Effort) -> None:
        """An engine has said what it had to do since it said so last, and how late it was."""
        with self._lock:
            if self._begun is None or self._ended:
                return
            run = _run(self._begun[0])
            self._busy[worker] = effort.cpu_ns / max(1, effort.to_ns - effort.from_ns)
            self._gauges.set(series.ENGINE_CPU, run, max(self._busy.values()))
            self._lags.probe.add_counted(effort.probe)
            self._lags.chunk.add_counted(effort.chunk)
            _percentiles(self._gauges, series.LAG, run, client.table_ms(self._lags.worse))

    def look(self, *, in_flight: int, workers: int, planned: Mapping[str, int]) -> None:
        """What the coordinator knows now. `planned` maps `endpoint/phase` to what became due so far."""
        with self._lock:
            if self._begun is None or self._ended:
                return
            run = _run(self._begun[0])
            self._gauges.set(series.IN_FLIGHT, run, in_flight)
            self._gauges.set(series.WORKERS, run, workers)
            self._planned = dict(planned)

    def end(self, summary: Mapping[str, Any], at_s: float | None = None) -> None:
        """The run is over and summed up, now or at a moment of the wall clock."""
        with self._lock:
            record, meters = self._known()
            self._ended = True
            run = _run(record)
            self._gauges.set(series.IN_FLIGHT, run, 0)
            self._gauges.set(series.ENDED, run, time.time() if at_s is None else at_s)
            self._planned = dict(record.engine.get("planned") or self._planned)
            self._judged(summary["validity"], run)
            for name, block in summary["endpoints"].items():
                if name in record.endpoints:
                    meters.add_lost(name, block["outcomes"][Outcome.LOST])
                    self._ceilings(_scope(record, name), block["rate_limits"].get("ceiling") or {})
            self._needles(record, summary["steps"])

    def _known(self) -> tuple[RunRecord, Meters]:
        assert self._begun is not None
        return self._begun

    def _judged(self, judged: Mapping[str, Any], run: tuple[str, ...]) -> None:
        self._gauges.set(series.VERDICT, run, VERDICTS[judged["verdict"]])
        self._gauges.set(series.ENGINE_CPU, run, judged["engine_cpu"])
        _percentiles(self._gauges, series.LAG, run, judged["client_lag_ms"])

    def _ceilings(self, scope: tuple[str, ...], ceilings: Mapping[str, Any]) -> None:
        for kind, found in ceilings.items():
            if kind in series.LIMIT_KINDS:
                self._gauges.set(series.CEILING, (*scope, kind), found["rate_per_min"])

    def _needles(self, record: RunRecord, steps: Iterable[Mapping[str, Any]]) -> None:
        """Needle trials of all steps: their counts added up, of shares the last step's."""
        for step in steps:
            for name, block in step["endpoints"].items():
                if name in record.endpoints and block["needle"] is not None:
                    found = Snapshot()
                    publish(found, _scope(record, name), block["needle"])
                    self._gauges.merge(found)

    # --- asked by exporters ---------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """What is known now, from any thread."""
        with self._lock:
            found = Snapshot()
            if self._begun is None:
                found.set(series.INFO, ("", "", __version__), 1)
                return found
            record, meters = self._begun
            run = _run(record)
            found.set(series.INFO, (*run, record.version), 1)
            found.set(series.RUNNING, run, 0 if self._ended else 1)
            found.set(series.STARTED, run, record.started_s)
            meters.into(found)
            _promised(found, record)
            _null_test(found, record)
            for key, count in _measured(self._planned).items():
                if key in record.endpoints:
                    found.set(series.PLANNED, _scope(record, key), count)
            if not self._ended:
                found.set(series.VERDICT, run, VERDICTS[_verdict(record, meters)])
            found.merge(self._gauges)
            return found


def snapshot_of(
    record: RunRecord, samples: Iterable[Sample], tasks: Mapping[str, str], summary: Mapping[str, Any]
) -> Snapshot:
    """A stored run that is over, as it was at its end."""
    observed = Observed()
    observed.begin(record, tasks, steps=len(record.steps))
    for step in record.steps:
        observed.step_begins(step)
    observed.samples(samples)
    observed.end(summary, record.started_s + (record.duration_s or 0.0))
    return observed.snapshot()


def _run(record: RunRecord) -> tuple[str, str]:
    return (record.scenario_name, record.window or "")


def _scope(record: RunRecord, endpoint: str) -> tuple[str, ...]:
    about = record.endpoints[endpoint]
    return (*_run(record), about.get("provider", ""), endpoint, about.get("model", ""))


def _promised(found: Snapshot, record: RunRecord) -> None:
    run = _run(record)
    for name, limits in record.promised.items():
        for limit, kind in _PROMISED.items():
            if name in record.endpoints:
                found.set(series.PROMISED, (*_scope(record, name), kind), limits.get(limit))
    for name, most in record.slo.items():
        if BY_NAME[name].unit == "ms":
            found.set(series.SLO, (*run, name), most * NS_PER_MS / 1e9)


def _null_test(found: Snapshot, record: RunRecord) -> None:
    block = record.engine.get("null_test") or {}
    _percentiles(found, series.NULL_TTFT, _run(record), block.get("ttft_error_ms"))
    _percentiles(found, series.NULL_LAG, _run(record), block.get("lag_ms"))


def _percentiles(
    found: Snapshot, one: series.Series, run: tuple[str, ...], table_ms: Mapping[str, float] | None
) -> None:
    """What a table of the client's own error says in milliseconds."""
    for which in ("p50", "p99"):
        value_ms = (table_ms or {}).get(which)
        found.set(one, (*run, which), None if value_ms is None else value_ms / 1000)


def _measured(planned: Mapping[str, int]) -> dict[str, int]:
    """What became due in the measured phase, by endpoint."""
    total: Counter[str] = Counter()
    for key, count in planned.items():
        endpoint, _, phase = key.rpartition("/")
        if phase == "measure":
            total[endpoint] += count
    return dict(total)


def _verdict(record: RunRecord, meters: Meters) -> str:
    """The verdict by what is known while the run is going on: losses, drops, its notes."""
    counts = meters.outcomes
    ended = sum(sum(found.values()) for (phase, _), found in counts.items() if phase == "measure")
    _, reasons = validity.judge(record, counts, {})
    skipped = {"unfinished"} | ({"no_ok"} if ended < _JUDGED_FROM else set())
    found = {reason["severity"] for reason in reasons if reason["code"] not in skipped}
    return next((severity for severity in ("invalid", "suspect") if severity in found), "valid")
