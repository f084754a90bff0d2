"""A run as dashboards see it, from before it begins to its end."""

import sys
from pathlib import Path

import numpy as np
import pytest

from latbench.analysis.summary import summarise
from latbench.metrics import series
from latbench.metrics.distribution import Distribution
from latbench.metrics.histogram import counted
from latbench.metrics.series import Snapshot
from latbench.model.frames import Effort
from latbench.model.load import Closed, Step
from latbench.model.run import RunRecord, StepRecord
from latbench.model.sample import Sample
from latbench.observed import Observed, snapshot_of

sys.path.append(str(Path(__file__).parents[1] / "metrics"))
from test_meters import SECOND, record, sample

RUN = ("chat", "")
SCOPE = ("chat", "", "acme", "a", "m")
TASKS = {"p": "review"}


def begun(run: RunRecord) -> Observed:
    observed = Observed()
    observed.begin(run, TASKS, ["review"], 2)
    return observed


def test_before_a_run_only_the_version_is_known() -> None:
    observed = Observed()
    observed.look(in_flight=1, workers=1, planned={})
    assert [one.name for one in observed.snapshot().points] == ["latbench_run_info"]


def test_a_run_from_step_to_step() -> None:
    run = record(slo={"ttft": 800.0, "e2e_tokens_per_s": 5.0}, promised={"a": {"rpm": 500, "tpm": 9000}})
    observed = begun(run)
    observed.step_begins(run.steps[0])
    observed.samples([sample(1), sample(2)])
    observed.look(in_flight=7, workers=2, planned={"a/measure": 9, "a/warmup": 5, "gone/measure": 1})
    found = observed.snapshot().points
    assert found[series.RUNNING][RUN] == 1
    assert (found[series.STEP][RUN], found[series.STEPS][RUN]) == (1, 2)
    assert found[series.RATE][RUN] == 1.0
    assert series.CONCURRENCY not in found
    assert (found[series.IN_FLIGHT][RUN], found[series.WORKERS][RUN]) == (7, 2)
    assert not {series.ENGINE_CPU, series.LAG} & found.keys()
    assert found[series.PLANNED] == {SCOPE: 9}
    assert found[series.SLO] == {(*RUN, "ttft"): 0.8}
    assert found[series.PROMISED] == {(*SCOPE, "requests"): 500, (*SCOPE, "tokens"): 9000}
    assert found[series.STARTED][RUN] == 1793610000.0
    assert found[series.VERDICT][RUN] == 0
    observed.step_begins(StepRecord(1, "closed", 4, None, None, 0, 0, SECOND, Step(Closed(4), None, SECOND)))
    found = observed.snapshot().points
    assert found[series.CONCURRENCY][RUN] == 4
    assert series.RATE not in found


def effort(from_s: float, to_s: float, cpu_s: float, lag_ms: float) -> Effort:
    """Of an engine that was so late a hundred times."""
    late = counted(np.full(100, lag_ms * 1e6))
    return Effort(round(from_s * SECOND), round(to_s * SECOND), round(cpu_s * SECOND), 0, late, b"")


def test_engines_tell_how_busy_and_how_late_they_are() -> None:
    observed = begun(record())
    observed.effort("a", effort(0.0, 1.0, 0.9, 0.1))
    observed.effort("b", effort(0.0, 1.0, 0.6, 4.0))
    observed.effort("a", effort(1.0, 2.0, 0.2, 0.1))
    found = observed.snapshot().points
    assert found[series.ENGINE_CPU][RUN] == pytest.approx(0.6)
    assert found[series.LAG][*RUN, "p50"] == pytest.approx(0.0001, rel=0.01)
    assert found[series.LAG][*RUN, "p99"] == pytest.approx(0.004, rel=0.01)


def test_the_null_test_is_known_from_its_end_on() -> None:
    run = record()
    observed = begun(run)
    assert not {series.NULL_TTFT, series.NULL_LAG} & observed.snapshot().points.keys()
    run.engine["null_test"] = {"ttft_error_ms": {"n": 9, "p50": 0.25, "p99": 2.0}, "lag_ms": None}
    found = observed.snapshot().points
    assert found[series.NULL_TTFT] == {(*RUN, "p50"): 0.00025, (*RUN, "p99"): 0.002}
    assert series.NULL_LAG not in found


@pytest.mark.parametrize(
    ("outcomes", "notes", "verdict"),
    [
        (["ok"], [], 0),
        (["timeout"] * 19, [], 0),  # too early to say
        (["timeout"] * 20, [], 2),
        (["ok"] * 9 + ["dropped"], [], 2),
        (["ok"], [{"code": "worker_paused", "severity": "suspect"}], 1),
        (["ok"], [{"code": "worker_lost"}], 2),
    ],
)
def test_the_verdict_so_far(outcomes: list[str], notes: list[dict[str, str]], verdict: int) -> None:
    observed = begun(record(notes=notes, state="running"))
    observed.samples([sample(number, outcome) for number, outcome in enumerate(outcomes)])
    assert observed.snapshot().points[series.VERDICT][RUN] == verdict


def test_the_end_is_that_of_the_summary() -> None:
    run = record(engine={"planned": {"a/measure": 3}, "cpu": 0.5}, planned=3, duration_s=60.0)
    samples = [sample(1), sample(2), Sample("a", 0, 3, "p", "measure", "lost")]
    summary = summarise(run, samples, {})
    summary["validity"]["client_lag_ms"] = {"p50": 0.1, "p99": 2.0}
    summary["endpoints"]["a"]["rate_limits"]["ceiling"] = {
        "tokens": {"rate_per_min": 600.0},
        "requests": {"rate_per_min": None},
        "made up": {"rate_per_min": 1.0},
    }
    summary["endpoints"]["stranger"] = summary["endpoints"]["a"]
    found = snapshot_of(run, samples, TASKS, summary).points
    assert found[series.RUNNING][RUN] == 0
    assert found[series.VERDICT][RUN] == 2
    assert found[series.PLANNED][SCOPE] == 3
    assert found[series.REQUESTS][*SCOPE, "other", "lost"] == 1
    assert found[series.LAG] == {(*RUN, "p50"): 0.0001, (*RUN, "p99"): 0.002}
    assert found[series.CEILING] == {(*SCOPE, "tokens"): 600.0}
    assert found[series.ENDED][RUN] == 1793610060.0


def test_what_is_looked_at_after_the_end_changes_nothing() -> None:
    run = record()
    observed = begun(run)
    observed.end(summarise(run, [], {}))
    observed.look(in_flight=9, workers=9, planned={"a/measure": 9})
    observed.effort("a", effort(0.0, 1.0, 9.0, 9.0))
    found = observed.snapshot().points
    assert found[series.IN_FLIGHT][RUN] == 0
    assert not {series.PLANNED, series.ENGINE_CPU, series.LAG} & found.keys()


def test_a_snapshot_is_nobody_elses() -> None:
    observed = begun(record())
    observed.samples([sample(1)])
    first = observed.snapshot()
    observed.samples([sample(2)])
    counted = first.points[series.TTFT][*SCOPE, "review"]
    assert isinstance(counted, Distribution)
    assert counted.n == 1
    total = Snapshot()
    total.merge(first)
    total.merge(observed.snapshot())
    merged = total.points[series.TTFT][*SCOPE, "review"]
    assert isinstance(merged, Distribution)
    assert (merged.n, counted.n) == (3, 1)
    assert np.sum(merged.counts) == 3
