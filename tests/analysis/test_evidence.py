"""What samples say against a run: Little's law, answers that nobody made, a warm-up that was too short."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from test_summary import MS, PROMPTS, S, failed, ok, run, step

from latbench.analysis.evidence import UNSTEADY_CHANGE
from latbench.analysis.summary import summarise
from latbench.metrics.histogram import counted
from latbench.model.frames import Effort
from latbench.model.load import Closed, Ramp, Sessions, Step
from latbench.model.sample import Attempt, Sample


def found(samples: Sequence[Sample], occupied_s: float | None = None, **fields: Any) -> dict[str, dict[str, Any]]:
    """Reasons by code. `occupied_s` is what the engines counted, in two batches."""
    halves = [] if occupied_s is None else [round(occupied_s / 2 * S)] * 2
    efforts = [("w", 0, Effort(at * S, (at + 1) * S, 0, half)) for at, half in enumerate(halves, 20)]
    record = run(fields.pop("step", step()), **fields)
    document = summarise(record, samples, PROMPTS, efforts=efforts)
    return {one["code"]: one for one in document["validity"]["reasons"]}


def stays(samples: Sequence[Sample]) -> float:
    return sum(((one.done_ns or 0) - (one.sent_ns or 0)) / S for one in samples)


@pytest.mark.parametrize(
    ("times", "severity", "limit"),
    [(1.0, None, None), (1.049, None, None), (0.951, None, None), (1.08, "suspect", 0.05), (0.7, "invalid", 0.2)],
)
def test_littles_law(times: float, severity: str | None, limit: float | None) -> None:
    samples = [ok(seq, at_s=15 + seq / 10) for seq in range(40)]
    reasons = found(samples, stays(samples) / times)
    if severity is None:
        assert "littles_law" not in reasons
    else:
        one = reasons["littles_law"]
        assert (one["severity"], one["limit"]) == (severity, limit)
        assert one["value"] == pytest.approx(abs(times - 1), rel=1e-6)


def test_missing_rows_show_where_conservation_cannot_see_them() -> None:
    """Rows of the drain, of the warm-up, of every outcome and every attempt are part of the sum."""
    tried = failed(9, "rate_limited", sent_ns=30 * S, done_ns=31 * S)
    tried.tries = [Attempt(0, 20 * S, 24 * S, "rate_limited")]
    samples = [
        ok(0),
        ok(1, phase="warmup", at_s=1),
        tried,
        failed(3, "dropped"),
        failed(4, "timeout", sent_ns=0, done_ns=S),
    ]
    known = stays([samples[0], samples[1]]) + 1 + 4 + 1
    assert "littles_law" not in found(samples, known)
    assert found(samples[:2], known)["littles_law"]["severity"] == "invalid"


@pytest.mark.parametrize(
    "fields",
    [
        {"state": "running"},
        {"engine": {"recovered": {}}},
        {"notes": [{"code": "worker_lost", "advice": ""}]},
    ],
)
def test_of_a_death_neither_side_is_known(fields: dict[str, Any]) -> None:
    assert "littles_law" not in found([ok(0)], 900, **fields)
    assert "littles_law" not in found([ok(0), failed(1, "lost")], 900)
    assert "littles_law" not in found([ok(0)], None), "an older run has nothing to hold against"


def test_cached_tokens_in_a_cold_run() -> None:
    samples = [ok(seq, cached_tokens=32 if seq < 5 else 0) for seq in range(10)]
    reason = found(samples)["cached_in_cold_run"]
    assert (reason["severity"], reason["value"], reason["limit"]) == ("suspect", 0.5, 0.0)
    assert reason["advice"].startswith("160 input tokens")
    assert "cached_in_cold_run" not in found([ok(0, cached_tokens=None), ok(1, cached_tokens=0)])
    assert "cached_in_cold_run" not in found([ok(0), ok(1, phase="warmup", cached_tokens=9)])


def test_later_turns_meet_what_a_cache_has_seen_of_their_own() -> None:
    """Turn 1 may not, and is held against turn 1 alone."""
    loaded = step(load=Step(Sessions(1.0, 2), requests=5))
    later = [ok(seq, cached_tokens=32 * (seq % 2)) for seq in range(10)]
    assert "cached_in_cold_run" not in found(later, step=loaded)
    first = [*later, ok(10, cached_tokens=7)]
    assert found(first, step=loaded)["cached_in_cold_run"]["value"] == 1 / 6


def test_a_warm_run_may_meet_a_cache() -> None:
    record = run(step())
    record.scenario = {"cache": "warm"}
    document = summarise(record, [ok(0, cached_tokens=32)], PROMPTS)
    assert document["validity"]["reasons"] == []


def at_once(seq: int, text: str, **fields: Any) -> Sample:
    known: dict[str, Any] = {"ttft_ms": 1, "gap_ms": 0, "pieces": 20, "output_tokens": 20}
    return ok(seq, text_sha256=text, **(known | fields))


def test_identical_answers_at_no_latency() -> None:
    plain = [ok(seq, text_sha256="same") for seq in range(90)]
    reason = found([*plain, *(at_once(100 + seq, "same") for seq in range(10))])["identical_answers"]
    assert (reason["severity"], reason["value"], reason["limit"]) == ("suspect", 0.1, 0.01)


@pytest.mark.parametrize(
    "quick",
    [
        pytest.param([at_once(100, "a"), at_once(101, "b")], id="others"),
        pytest.param([at_once(100, "a"), at_once(101, "a", endpoint="slow")], id="of two endpoints"),
        pytest.param([at_once(100 + n, "") for n in range(5)], id="without text"),
        pytest.param([at_once(100 + n, "a", phase="warmup") for n in range(5)], id="in the warm-up"),
        pytest.param([at_once(100 + n, "a", output_tokens=4) for n in range(5)], id="short"),
    ],
)
def test_what_is_no_answer_of_a_cache(quick: list[Sample]) -> None:
    assert "identical_answers" not in found([ok(seq, text_sha256="same") for seq in range(20)] + quick)


def series(ttft_ms: np.ndarray, warmup: int) -> list[Sample]:
    """One request after the other, ten a second; measuring begins after so many."""
    first_s = 10 - warmup / 10
    return [
        ok(
            seq,
            at_s=first_s + seq / 10,
            ttft_ms=float(ms),  # type: ignore[arg-type]  the stamps round it
            phase="warmup" if seq < warmup else "measure",
        )
        for seq, ms in enumerate(ttft_ms)
    ]


def settling(over: int, n: int = 400) -> np.ndarray:
    values = np.random.default_rng(5).lognormal(np.log(100), 0.1, n)
    values[:over] *= 3
    return values.round()


CLOSED = step(load=Step(Closed(4), None, 60 * S, 2 * S))


def test_a_warm_up_that_was_too_short() -> None:
    reason = found(series(settling(120), 20), step=CLOSED)["not_steady"]
    assert (reason["severity"], reason["limit"]) == ("suspect", UNSTEADY_CHANGE)
    assert reason["value"] > UNSTEADY_CHANGE
    assert "raise `warmup`" in reason["advice"]
    assert "the warm-up is 2 s" in reason["advice"]
    assert found(series(settling(30), 20), step=CLOSED)["not_steady"]["severity"] == "note"
    assert "not_steady" not in found(series(settling(20), 20), step=CLOSED)
    assert "not_steady" not in found(series(settling(0), 20), step=CLOSED)


def test_a_run_by_requests_has_no_warm_up() -> None:
    by_requests = step(load=Step(Closed(4), 400))
    assert "measure by duration" in found(series(settling(120), 0), step=by_requests)["not_steady"]["advice"]


def test_a_load_that_changes_need_not_be_steady() -> None:
    assert "not_steady" not in found(series(settling(120), 20), step=step(load=Step(Ramp(1, 9), None, 60 * S)))
    assert "not_steady" not in found(series(settling(120), 20), step=step())


def test_figures_of_the_client_stand_in_the_summary() -> None:
    lags = counted(np.array([2 * MS] * 400))
    efforts = [("w", 0, Effort(20 * S, 30 * S, 7 * S, 0, b"", lags))]
    record = run(step(), engine={"null_test": {"lag_ms": {}}})
    validity = summarise(record, [ok(seq, gap_ms=5) for seq in range(5)], PROMPTS, efforts=efforts)["validity"]
    assert validity["probe_lag_ms"] is None
    assert validity["client_lag_ms"] == validity["chunk_lag_ms"]
    assert validity["client_lag_ms"]["p99"] == pytest.approx(2, rel=0.01)
    assert validity["engine_cpu"] == pytest.approx(0.7)
    assert validity["null_test"] == {"lag_ms": {}}
    assert [(one["code"], one["severity"]) for one in validity["reasons"]] == [
        ("client_lag_ms", "suspect"),
        ("engine_cpu", "note"),
    ]
