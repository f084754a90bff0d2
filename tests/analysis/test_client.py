"""The client's own error: gathered from what engines said, and judged with advice that knows the flags."""

from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.analysis import client, nulltest
from latbench.analysis.relief import relief
from latbench.metrics.histogram import counted
from latbench.model.frames import Effort, NullTested
from latbench.model.load import Closed, Poisson, Step
from latbench.model.run import RunRecord, StepRecord

MS = 1_000_000
S = 1_000_000_000
ENOUGH = client.LEAST_LAGS


def step(index: int = 0, concurrency: int | None = 20, load: Step | None = None) -> StepRecord:
    load = load or Step(Closed(concurrency or 1))
    return StepRecord(index, load.name, concurrency, load.rate, None, 0, 10 * S, 20 * S, load)


def run(*steps: StepRecord, workers: int = 1, cores: str = "8") -> RunRecord:
    return RunRecord("id", "n", "s", "h", {}, "t", workers, 7, steps=list(steps), host={"cores": cores})


def effort(
    at_s: float = 12.0,
    *,
    cpu: float = 0.3,
    probe_ms: float = 0.1,
    chunk_ms: float = 0.1,
    n: int = ENOUGH,
    s: float = 2.0,
) -> Effort:
    """`n` probes and chunks, all as late as each other, in `s` seconds from `at_s` on."""
    lags = [counted(np.full(n, round(ms * MS))) for ms in (probe_ms, chunk_ms)]
    return Effort(round(at_s * S), round((at_s + s) * S), round(cpu * s * S), 0, *lags)


def reasons(*efforts: Effort, gap_ms: float = 4.0, of: RunRecord | None = None) -> list[dict[str, Any]]:
    of = of or run(step())
    told = client.gather([("w", 0, one) for one in efforts], {0: (10 * S, 20 * S)})
    return client.reasons(of, told, of.steps, {0: gap_ms * MS})


@pytest.mark.parametrize(
    ("lag_ms", "gap_ms", "severity", "limit"),
    [
        (0.9, 4, None, None),
        (1.2, 4, "suspect", 1.0),
        (1.2, 20, None, None),
        (2.1, 20, "suspect", 2.0),
        (9.9, 4, "suspect", 1.0),
        (10.2, 4, "invalid", 10.0),
        (19.0, 20, "suspect", 2.0),
        (20.5, 20, "invalid", 20.0),
        (1.2, 0, "suspect", 1.0),
    ],
)
@pytest.mark.parametrize("which", ["probe_ms", "chunk_ms"])
def test_either_lag_is_held_against_the_gap(
    lag_ms: float, gap_ms: float, severity: str | None, limit: float | None, which: str
) -> None:
    found = reasons(effort(**{which: lag_ms}), gap_ms=gap_ms)
    assert [one["severity"] for one in found] == ([severity] if severity else [])
    for one in found:
        assert (one["code"], one["limit"]) == ("client_lag_ms", pytest.approx(limit))
        assert one["value"] == pytest.approx(lag_ms, rel=0.002)


def test_one_hiccup_in_a_short_run_is_no_verdict() -> None:
    assert reasons(effort(probe_ms=500, chunk_ms=500, n=ENOUGH - 1)) == []
    assert len(reasons(effort(probe_ms=500, n=ENOUGH))) == 1


@pytest.mark.parametrize(
    ("cpu", "severity", "limit"), [(0.59, None, None), (0.61, "note", 0.6), (0.84, "note", 0.6), (0.9, "suspect", 0.85)]
)
def test_a_busy_engine(cpu: float, severity: str | None, limit: float | None) -> None:
    found = reasons(effort(cpu=cpu))
    assert [(one["code"], one["severity"], one["limit"]) for one in found] == (
        [("engine_cpu", severity, limit)] if severity else []
    )


def test_the_busiest_engine_counts_and_the_lags_of_all() -> None:
    told = client.gather(
        [("a", 0, effort(cpu=0.2, n=900, probe_ms=0.1)), ("b", 0, effort(cpu=0.9, n=100, probe_ms=50))],
        {0: (10 * S, 20 * S)},
    )
    assert told.cpu == pytest.approx(0.9)
    assert told.busiest == ("b", pytest.approx(0.9))
    assert client.table_ms(told.whole.probe) == {
        "n": 1000,
        "p50": pytest.approx(0.1, rel=0.01),
        "p90": pytest.approx(0.1, rel=0.01),
        "p99": pytest.approx(50, rel=0.01),
        "max": pytest.approx(50, rel=0.01),
    }
    found = client.reasons(run(step(), workers=2), told, [step()], {0: 4 * MS})
    assert [one["code"] for one in found] == ["client_lag_ms", "engine_cpu"]
    assert "worker b" in found[1]["advice"]
    assert "no time left" in found[0]["advice"]


def test_only_the_measured_window_counts_and_a_second_of_it() -> None:
    windows = {0: (10 * S, 20 * S), 1: (30 * S, 30 * S)}
    outside = [effort(7.5, cpu=1, probe_ms=90), effort(20, cpu=1, probe_ms=90)]
    told = client.gather([("w", 0, one) for one in outside] + [("w", 1, effort(29)), ("w", 5, effort())], windows)
    assert (told.cpu, told.busiest, told.whole.probe.n, client.table_ms(told.whole.chunk)) == (None, None, 0, None)
    brief = client.gather([("w", 0, effort(10, cpu=1, s=0.5))], windows)
    assert (brief.cpu, brief.busiest) == (1.0, None)
    assert client.reasons(run(step()), brief, [step()], {}) == []
    late = client.gather([("w", 0, effort(10, probe_ms=3, s=0.5))], windows)
    (one,) = client.reasons(run(step()), late, [step()], {})
    assert "or the machine was" in one["advice"]


def test_the_worst_step_is_named() -> None:
    steps = [step(0, 4), step(1, 64)]
    windows = {0: (10 * S, 20 * S), 1: (10 * S, 20 * S)}
    efforts = [("w", 0, effort(probe_ms=1.5)), ("w", 1, effort(probe_ms=2.5, cpu=0.95))]
    told = client.gather(efforts, windows)
    lag, _ = client.reasons(run(*steps), told, steps, {0: 4 * MS, 1: 20 * MS})
    assert lag["value"] == pytest.approx(1.5, rel=0.01), "of what it may be in its own step"
    assert lag["advice"].startswith("step 0: ")


def test_the_lag_with_the_larger_p99_is_the_clients() -> None:
    lags = client.Lags()
    assert client.table_ms(lags.worse) is None
    lags.probe.record(np.array([5 * MS]))
    assert lags.worse is lags.probe
    lags.chunk.record(np.array([9 * MS]))
    assert lags.worse is lags.chunk
    lags.probe.record(np.array([10 * MS]))
    assert lags.worse is lags.probe


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (run(step(), cores="8"), "lower concurrency (now 20), or add workers (--workers 2; now 1)"),
        (
            run(step(), cores="2"),
            "lower concurrency (now 20), or add workers on other machines (--join; here 1 of 2 cores have one)",
        ),
        (
            run(step(0, None, Step(Poisson(40.0), max_in_flight=9)), workers=3, cores="8"),
            "lower the rate (now poisson 40/s) or max_in_flight (now 9), or add workers (--workers 4; now 3)",
        ),
        (run(StepRecord(0, "poisson", None, 4.0, None, 0, 0, 0), cores=""), "lower the rate, or add workers"),
        (run(cores="8"), "lower the load, or add workers"),
    ],
)
def test_advice_knows_the_flags_in_use(of: RunRecord, words: str) -> None:
    assert relief(of).startswith(words)


@given(st.lists(st.lists(st.integers(0, 40_000_000), max_size=40), min_size=1, max_size=6), st.randoms())
def test_efforts_come_in_any_order(parts: list[list[int]], random: Any) -> None:
    """Batches of several workers make the same figures as one batch of one worker."""
    efforts = [
        (f"w{at % 2}", 0, Effort(10 * S, 11 * S, 5, 7, counted(np.array(part, np.int64)), b""))
        for at, part in enumerate(parts)
    ]
    whole = [("w", 0, Effort(10 * S, 11 * S, 5, 7 * len(parts), counted(np.array([*chain(*parts)], np.int64)), b""))]
    random.shuffle(efforts)
    window = {0: (10 * S, 20 * S)}
    one, many = client.gather(whole, window), client.gather(efforts, window)
    assert client.table_ms(one.whole.probe) == client.table_ms(many.whole.probe)
    assert one.occupied_ns == many.occupied_ns


# --- the null test ----------------------------------------------------------------------------------------------------


def told_of(*lags_ms: float) -> NullTested:
    lags = counted(np.array([round(ms * MS) for ms in lags_ms]))
    return NullTested(len(lags_ms), lags, lags)


def test_null_tests_are_pooled_and_the_worst_is_shown() -> None:
    found = nulltest.pooled({"a": told_of(1, 1, 1), "b": told_of(1, 9), "c": NullTested(why="no port"), "d": None}, 8)
    assert found is not None
    assert (found["streams"], found["workers"], found["lag_ms"]["n"]) == (8, 2, 5)
    assert found["lag_ms"]["p50"] == pytest.approx(1, rel=0.01)
    assert found["worst"]["worker"] == "b"
    assert found["worst"]["ttft_error_ms"]["p99"] == pytest.approx(9, rel=0.01)
    alone = nulltest.pooled({"a": told_of(1)}, 1)
    assert alone is not None
    assert "worst" not in alone


def test_null_tests_that_did_not_run_are_named() -> None:
    found = {"a": told_of(1), "c": NullTested(why="no port"), "d": None}
    assert nulltest.failures(found) == [
        "worker c: the null test did not run: no port",
        "worker d: the null test did not run: no answer",
    ]
    assert nulltest.pooled({"d": None}, 1) is None
