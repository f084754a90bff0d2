"""`summary.json` of synthetic runs: its shape, its counts, and its figures against sorting."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest

from latbench.analysis.groups import PromptInfo, length_bin
from latbench.analysis.summary import summarise
from latbench.metrics.catalogue import METRICS
from latbench.model.load import Closed, Constant, Poisson, Step
from latbench.model.run import RunRecord, StepRecord
from latbench.model.sample import Outcome, Sample, encode_gaps

S = 1_000_000_000
MS = 1_000_000
ENDPOINTS = {
    "fast": {"provider": "acme", "api": "openai-chat", "model": "f-1"},
    "slow": {"provider": "acme", "api": "openai-chat", "model": "s-1"},
}
PROMPTS = {
    **{f"g{i}": PromptInfo("generation", "python", ("web", "async"), 100 * i, "x") for i in range(40)},
    **{f"r{i}": PromptInfo("review", "rust", (), 9_000, "y") for i in range(3)},
}


def step(index: int = 0, **fields: object) -> StepRecord:
    known: dict[str, Any] = {
        "shape": "closed",
        "concurrency": 4,
        "rate": None,
        "requests": None,
        "started_ns": 0,
        "measure_from_ns": 10 * S,
        "measure_to_ns": 70 * S,
    }
    return StepRecord(index=index, **(known | fields))


def run(*steps: StepRecord, **fields: object) -> RunRecord:
    known: dict[str, Any] = {"endpoints": ENDPOINTS, "state": "complete", "duration_s": 75.0, "steps": list(steps)}
    return RunRecord("id", "night", "code", "hash", {}, "2026-11-22T14:00:00Z", 2, 7, **(known | fields))


def ok(
    seq: int, *, at_s: float = 20.0, ttft_ms: int = 100, gap_ms: int = 20, pieces: int = 11, **fields: object
) -> Sample:
    sent = int(at_s * S)
    stamps = sent + ttft_ms * MS + np.arange(pieces) * gap_ms * MS
    known: dict[str, Any] = {
        "endpoint": "fast",
        "step": 0,
        "prompt_id": f"g{seq % 40}",
        "phase": "measure",
        "outcome": "ok",
        "due_ns": sent - 5 * MS,
        "sent_ns": sent,
        "first_token_ns": int(stamps[0]),
        "first_text_ns": int(stamps[0]),
        "last_token_ns": int(stamps[-1]),
        "done_ns": int(stamps[-1]) + MS,
        "chunks": pieces,
        "gaps": encode_gaps(stamps),
        "input_tokens": 50,
        "output_tokens": pieces,
        "token_source": "usage",
        "model": "f-1-0924",
    }
    return Sample(seq=seq, **(known | fields))


def failed(seq: int, outcome: str, **fields: object) -> Sample:
    known: dict[str, Any] = {"endpoint": "fast", "step": 0, "prompt_id": "g0", "phase": "measure", "outcome": outcome}
    return Sample(seq=seq, **(known | fields))


METRIC_KEYS = {"n", "mean", "min", "p1", "p5", "p10", "p50", "p90", "p95", "p99", "p999", "max"}
METRIC_KEYS |= {"ci95", "n_eff", "need", "raw"}
COUNT_KEYS = {"provider", "api", "model", "reported_models", "outcomes", "empty", "rate_limits", "tokens"}
BLOCK_KEYS = COUNT_KEYS | {"metrics", "throughput", "cost"}
SLICE_KEYS = {"by_task", "by_language", "by_tag", "by_input_length"}


def test_every_key_of_the_contract_is_there() -> None:
    found = summarise(run(step()), [ok(0), failed(1, "rate_limited")], PROMPTS)
    assert {"schema_version", "run", "validity", "endpoints", "providers", "steps", "thresholds"} <= set(found)
    assert found["schema_version"] == 1
    assert found["run"] == {
        "id": "id",
        "name": "night",
        "scenario": "code",
        "scenario_sha256": "hash",
        "started_at": "2026-11-22T14:00:00Z",
        "duration_s": 75.0,
        "workers": 2,
        "state": "complete",
        "window": None,
        "labels": {},
        "exit_code": None,
        "stops": [],
        "resumes": None,
    }
    assert {
        *("verdict", "reasons", "planned", "sent", "ok", "dropped", "lost", "reconnects", "warmup"),
        *("send_lateness_ms", "client_lag_ms", "probe_lag_ms", "chunk_lag_ms", "engine_cpu", "null_test"),
    } == set(found["validity"])
    assert list(found["endpoints"]) == ["fast", "slow"]
    endpoint = found["endpoints"]["fast"]
    assert set(endpoint) >= BLOCK_KEYS | SLICE_KEYS
    assert list(endpoint["metrics"]) == [metric.json_name for metric in METRICS]
    assert all(set(metric) == METRIC_KEYS for metric in endpoint["metrics"].values())
    assert set(endpoint["outcomes"]) == {outcome.value for outcome in Outcome}
    part = endpoint["by_task"]["generation"]
    assert set(part) >= BLOCK_KEYS | {"thin"}
    assert not set(part) & SLICE_KEYS
    assert found["steps"][0]["endpoints"] == found["endpoints"]
    assert (found["steps"][0]["phase_s"], found["steps"][0]["concurrency"]) == ([10.0, 70.0], 4)
    assert found["thresholds"] == []
    json.dumps(found, allow_nan=False)


def test_an_endpoint_that_nothing_was_sent_to_is_listed() -> None:
    slow = summarise(run(step()), [ok(0)], PROMPTS)["endpoints"]["slow"]
    assert sum(slow["outcomes"].values()) == 0
    assert slow["metrics"]["ttft_ms"]["n"] == 0
    nothing = dict.fromkeys(("input", "output", "reasoning", "cached", "reference"), 0)
    assert slow["tokens"] == nothing | {"reference_per_own": None, "source": "none"}
    assert (slow["completed"], slow["valid"], slow["modes"]) == (0, None, None)
    assert slow["error_rate"] is None
    assert slow["by_task"] == {}


def test_tokens_in_time_need_the_limits_that_they_are_held_against() -> None:
    samples = [ok(i, ttft_ms=100 if i % 10 else 300, gap_ms=20) for i in range(100)]
    for limits, shown in (({"ttft": 200.0, "tpot": 25.0}, 1.0), ({"ttft": 200.0, "tpot": 5.0}, 7 / 11), ({}, None)):
        found = summarise(run(step(), slo=limits), samples, PROMPTS)["endpoints"]["fast"]["metrics"]["fluidity"]
        assert found["n"] == (100 if limits else 0)
        assert found["p50"] == (None if shown is None else pytest.approx(shown))
    few = summarise(run(step(), slo={"ttft": 200.0, "tpot": 25.0, "fluidity": 0.95}), samples, PROMPTS)
    assert few["endpoints"]["fast"]["good"] == 90


def test_what_leads_may_be_a_figure_of_the_step() -> None:
    names = ["error_rate", "goodput", "requests_per_s", "output_tokens_per_s"]
    samples = [*(ok(i) for i in range(30)), failed(30, "overloaded")]
    found = summarise(run(step(), lead=names, slo={"ttft": 200.0}), samples, PROMPTS)["endpoints"]["fast"]
    values = {one["name"]: one["value"] for one in found["lead"]}
    assert values["error_rate"] == found["error_rate"] == pytest.approx(1 / 31)
    assert values["goodput"] == values["requests_per_s"] == 0.5
    assert values["output_tokens_per_s"] == 5.5


def test_intervals_go_by_the_order_in_which_requests_were_due() -> None:
    """Whatever order the samples come in: as from several workers, or from a store."""
    slow_spells = [ok(i, at_s=20 + i / 50, ttft_ms=400 if i // 40 % 2 else 100 + i % 7) for i in range(800)]
    tables = [
        summarise(run(step()), order, PROMPTS)["endpoints"]["fast"]["metrics"]["ttft_ms"]
        for order in (slow_spells, slow_spells[::2] + slow_spells[1::2], slow_spells[::-1])
    ]
    assert tables[0] == tables[1] == tables[2]
    assert tables[0]["n_eff"]["p50"] < 200
    assert tables[0]["ci95"]["p50"] is not None


def test_figures_are_those_of_sorting() -> None:
    samples = [ok(i, ttft_ms=100 + (i * 37) % 400, gap_ms=10 + i % 7) for i in range(400)]
    metrics = summarise(run(step()), samples, PROMPTS)["endpoints"]["fast"]["metrics"]
    ttft = sorted(100.0 + (i * 37) % 400 for i in range(400))
    assert metrics["ttft_ms"]["n"] == 400
    assert (metrics["ttft_ms"]["p50"], metrics["ttft_ms"]["p99"]) == (ttft[199], ttft[395])
    assert metrics["ttft_response_ms"]["p50"] == ttft[199] + 5
    assert metrics["ttft_ms"]["p999"] is None
    assert metrics["ttft_ms"]["need"] == {"p999": [3688, 400]}
    tpot = sorted(10.0 + i % 7 for i in range(400))
    assert metrics["tpot_ms"]["p90"] == tpot[359]
    assert metrics["generation_tokens_per_s"]["p10"] == pytest.approx(1000 / 16)
    assert metrics["inter_chunk_ms"]["n"] == 4_000
    assert metrics["inter_chunk_ms"]["p50"] == pytest.approx(13.0, rel=1e-3)
    assert metrics["inter_chunk_ms"]["max"] == 16.0


def test_only_ok_of_the_measured_phase_enters_metrics_and_warmup_is_apart() -> None:
    samples = [
        ok(0),
        ok(1, phase="warmup", ttft_ms=9_000),
        ok(2, outcome="truncated", ttft_ms=8_000),
        failed(3, "dropped"),
        failed(4, "cancelled"),
        failed(5, "timeout", reconnects=1),
    ]
    found = summarise(run(step()), samples, PROMPTS)
    endpoint, validity = found["endpoints"]["fast"], found["validity"]
    assert endpoint["metrics"]["ttft_ms"]["max"] == 100.0
    assert {name: n for name, n in endpoint["outcomes"].items() if n} == {
        "ok": 1,
        "truncated": 1,
        "dropped": 1,
        "cancelled": 1,
        "timeout": 1,
    }
    assert endpoint["error_rate"] == 2 / 4
    assert validity["warmup"]["outcomes"]["ok"] == 1
    assert [validity[name] for name in ("planned", "sent", "ok", "dropped", "lost", "reconnects")] == [5, 4, 1, 1, 0, 1]
    assert validity["verdict"] == "invalid"
    assert [reason["code"] for reason in validity["reasons"]] == ["dropped"]


def refused_in_warmup(endpoint: str, index: int, said: str, times: int) -> list[Sample]:
    known: dict[str, Any] = {"endpoint": endpoint, "step": index, "phase": "warmup", "status": 401}
    return [failed(seq, "auth_error", error_message=said, **known) for seq in range(times)]


def test_what_endpoints_said_in_the_warm_up_is_there_the_commonest_of_each_first() -> None:
    samples = [
        *refused_in_warmup("fast", 0, "no such key", 3),
        *refused_in_warmup("fast", 1, "no such key", 3),
        *refused_in_warmup("fast", 0, "try later", 4),
        *refused_in_warmup("fast", 0, "a", 2),
        *refused_in_warmup("fast", 0, "rare", 1),
        *refused_in_warmup("slow", 1, "unpaid", 2),
        ok(0),
    ]
    found = summarise(run(step(), step(1)), samples, PROMPTS)
    warmup = found["validity"]["warmup"]
    assert [(one["endpoint"], one["count"], one["message"]) for one in warmup["errors"]] == [
        ("fast", 6, "no such key"),
        ("slow", 2, "unpaid"),
        ("fast", 4, "try later"),
        ("fast", 2, "a"),
    ]
    assert set(warmup["errors"][0]) == {"endpoint", "outcome", "status", "message", "count"}
    assert warmup["outcomes"]["auth_error"] == 15
    assert all(endpoint["errors"] == [] for endpoint in found["endpoints"].values())
    assert summarise(run(step()), [ok(0)], PROMPTS)["validity"]["warmup"]["errors"] == []


def test_what_to_do_about_drops_is_what_most_of_them_say() -> None:
    """Those of the warm-up and of other steps do not count: the share is that of one step's measured phase."""
    said = ["max_in_flight: this worker's part of it, 8, was unanswered", "the worker had lost its master"]
    drops = [
        *(failed(seq, "dropped", error_message=said[0], endpoint=name) for seq in (1, 2) for name in ("fast", "slow")),
        *(failed(seq, "dropped", error_message=said[1]) for seq in (3, 4, 5)),
        *(failed(seq, "dropped", error_message=said[1], phase="warmup") for seq in range(10, 19)),
    ]
    (reason,) = summarise(run(step()), [ok(0), *drops], PROMPTS)["validity"]["reasons"]
    assert reason["code"] == "dropped"
    assert "raise max_in_flight" in reason["advice"]
    (reason,) = summarise(run(step()), [ok(0), *drops[2:]], PROMPTS)["validity"]["reasons"]
    assert "a worker that had lost its master" in reason["advice"]
    elsewhere = [ok(20 + seq, step=1) for seq in range(99)]
    elsewhere += [failed(200 + seq, "dropped", error_message=said[1], step=1) for seq in range(9)]
    (reason,) = summarise(run(step(), step(1)), [ok(0), *drops, *elsewhere], PROMPTS)["validity"]["reasons"]
    assert reason["advice"].startswith("step 0: the load was not delivered: max_in_flight")


def test_conservation_is_held_against_what_was_counted() -> None:
    samples = [ok(0), ok(1, phase="warmup")]
    good = {("measure", "fast"): 1, ("warmup", "fast"): 1}
    assert summarise(run(step()), samples, PROMPTS, planned=good)["validity"]["verdict"] == "valid"
    stored = run(step(), engine={"planned": {"fast/measure": 3, "fast/warmup": 1}, "cpu": 0.4})
    validity = summarise(stored, samples, PROMPTS)["validity"]
    assert (validity["verdict"], validity["planned"], validity["sent"]) == ("invalid", 3, 3)
    assert validity["engine_cpu"] == 0.4


def test_throughput_is_what_arrived_inside_the_window() -> None:
    samples = [
        ok(0, at_s=20),
        ok(1, at_s=9.9, phase="warmup"),  # first chunk at 10.0, done inside
        ok(2, at_s=5, phase="warmup"),  # over before
        ok(3, at_s=69.85, gap_ms=20),  # chunks at 69.95, 69.97, 69.99, then outside; done outside
        failed(4, "truncated", first_token_ns=30 * S, last_token_ns=30 * S, done_ns=31 * S, chunks=1),
    ]
    throughput = summarise(run(step()), samples, PROMPTS)["endpoints"]["fast"]["throughput"]
    assert throughput["requests_per_s"] == 2 / 60
    assert throughput["output_tokens_per_s"] == pytest.approx((11 + 11 + 3) / 60)
    assert throughput["goodput_per_s"] is None


def test_a_run_by_requests_counts_its_last_answer() -> None:
    last = ok(0)
    assert last.done_ns is not None
    by_requests = step(requests=1, measure_from_ns=0, measure_to_ns=last.done_ns)
    throughput = summarise(run(by_requests), [last], PROMPTS)["endpoints"]["fast"]["throughput"]
    assert throughput["requests_per_s"] == pytest.approx(1 / (last.done_ns / S))


def test_a_run_by_requests_counts_the_time_in_which_its_endpoint_was_dead() -> None:
    """Two answers in a second, then nothing but refusals for nine: that is 0.2 a second, not 2."""
    dead = [failed(seq, "overloaded", sent_ns=9 * S, done_ns=10 * S) for seq in (2, 3)]
    lost = failed(4, "lost", sent_ns=9 * S)
    samples = [ok(0, at_s=0.1), ok(1, at_s=0.4), *dead, lost]
    by_requests = step(requests=5, measure_from_ns=0, measure_to_ns=12 * S)
    throughput = summarise(run(by_requests), samples, PROMPTS)["endpoints"]["fast"]["throughput"]
    assert throughput["requests_per_s"] == pytest.approx(2 / 10)
    assert throughput["output_tokens_per_s"] == pytest.approx(22 / 10)


def test_slices_hold_what_belongs_to_them() -> None:
    samples = [ok(i) for i in range(40)] + [ok(40 + i, prompt_id=f"r{i % 3}", ttft_ms=300) for i in range(12)]
    samples.append(ok(60, prompt_id="gone", ttft_ms=700))
    samples.append(failed(61, "timeout", prompt_id="r0"))
    endpoint = summarise(run(step()), samples, PROMPTS)["endpoints"]["fast"]
    assert list(endpoint["by_task"]) == ["generation", "review", "unknown"]
    assert list(endpoint["by_language"]) == ["python", "rust", "unknown"]
    assert list(endpoint["by_tag"]) == ["async", "web"]
    assert list(endpoint["by_input_length"]) == ["0-500", "500-2k", "2k-8k", "8k-32k", "unknown"]
    review = endpoint["by_task"]["review"]
    assert (review["thin"], review["prompts"], endpoint["by_task"]["generation"]["thin"]) == (True, 3, False)
    assert (review["outcomes"]["ok"], review["outcomes"]["timeout"]) == (12, 1)
    assert (review["metrics"]["ttft_ms"]["p50"], review["metrics"]["inter_chunk_ms"]["n"]) == (300.0, 120)
    assert review["throughput"]["requests_per_s"] == 12 / 60
    assert endpoint["by_tag"]["web"]["outcomes"]["ok"] == 40
    for kind in ("by_task", "by_language", "by_input_length"):
        parts = endpoint[kind].values()
        assert sum(part["outcomes"]["ok"] for part in parts) == endpoint["outcomes"]["ok"]
        assert sum(part["metrics"]["inter_chunk_ms"]["n"] for part in parts) == 530


@pytest.mark.parametrize(
    ("tokens", "name"),
    [
        (0, "0-500"),
        (499, "0-500"),
        (500, "500-2k"),
        (2_000, "2k-8k"),
        (8_000, "8k-32k"),
        (31_999, "8k-32k"),
        (32_000, "32k+"),
    ],
)
def test_length_bins(tokens: int, name: str) -> None:
    assert length_bin(tokens) == name


def counted(found: dict[str, Any]) -> dict[str, Any]:
    """What the contract has of rate limits."""
    return {key: found[key] for key in ("hits", "by_kind", "retry_after_s", "waited_s")}


def test_rate_limits_are_counted_by_kind_and_by_provider() -> None:
    samples = [
        ok(0),
        failed(1, "rate_limited", kind="requests", wait_ns=2 * S),
        failed(2, "rate_limited", kind="requests", wait_ns=4 * S),
        failed(3, "rate_limited", kind=None),
        failed(4, "rate_limited", kind="tokens", wait_ns=9 * S, endpoint="slow"),
        failed(5, "rate_limited", kind="tokens", wait_ns=99 * S, phase="warmup"),
        failed(6, "overloaded", kind=None, wait_ns=77 * S),
    ]
    found = summarise(run(step()), samples, PROMPTS)
    assert counted(found["endpoints"]["fast"]["rate_limits"]) == {
        "hits": 3,
        "by_kind": {"requests": 2, "unknown": 1},
        "retry_after_s": {"p50": 2.0, "max": 4.0},
        "waited_s": 0.0,
    }
    assert {name: {"rate_limits": counted(one["rate_limits"])} for name, one in found["providers"].items()} == {
        "acme": {
            "rate_limits": {
                "hits": 4,
                "by_kind": {"requests": 2, "tokens": 1, "unknown": 1},
                "retry_after_s": {"p50": 4.0, "max": 9.0},
                "waited_s": 0.0,
            }
        }
    }


def test_tokens_are_summed_with_their_source() -> None:
    one = ok(0, reasoning_tokens=4, reasoning_streamed=True)
    other = ok(1, token_source="tokenizer", input_tokens=None)
    found = summarise(run(step()), [one, other, ok(2, outcome="stalled")], PROMPTS)["endpoints"]["fast"]
    assert found["tokens"] == {
        "input": 50,
        "output": 22,
        "reasoning": 4,
        "cached": None,
        "reference": None,
        "reference_per_own": None,
        "source": "mixed",
    }
    assert found["reported_models"] == {"f-1-0924": 3}


def test_reference_tokens_are_held_against_the_providers_own_where_both_are_known() -> None:
    samples = [
        ok(0, reference_tokens=22),  # 11 of its own
        ok(1, reference_tokens=14, reasoning_tokens=4, reasoning_streamed=True),  # 7 of its own are visible
        ok(2, reference_tokens=99, token_source="tokenizer"),  # our own count
        ok(3),
        ok(4, reference_tokens=5, output_tokens=None),
        ok(5, reference_tokens=1, outcome="stalled"),
        ok(6, reference_tokens=1, phase="warmup"),
        ok(7, reference_tokens=0, output_tokens=6, reasoning_tokens=6, reasoning_streamed=True),  # nothing visible
    ]
    tokens = summarise(run(step()), samples, PROMPTS)["endpoints"]["fast"]["tokens"]
    assert (tokens["reference"], tokens["reference_per_own"]) == (140, 2.0)


def test_a_task_is_completed_if_ok_and_as_expected_where_something_is_expected() -> None:
    samples = [
        ok(0),
        ok(1, met=True),
        ok(2, met=False),
        ok(3, valid=True, output_mode="tool"),
        ok(4, valid=False, output_mode="tool"),
        ok(5, met=True, outcome="truncated"),
        ok(6, phase="warmup"),
    ]
    found = summarise(run(step()), samples, PROMPTS)["endpoints"]["fast"]
    assert (found["outcomes"]["ok"], found["completed"], found["expected"], found["met"]) == (5, 3, 2, 1)
    assert found["valid"] == {
        "valid": 1,
        "n": 2,
        "share": 0.5,
        "ci95": [pytest.approx(0.0945, abs=1e-4), pytest.approx(0.9055, abs=1e-4)],
    }


def test_empty_answers_are_ok_and_counted() -> None:
    nothing: dict[str, Any] = {
        "first_token_ns": None,
        "first_text_ns": None,
        "chunks": 0,
        "gaps": b"",
        "output_tokens": 0,
    }
    samples = [
        ok(0, **nothing, last_token_ns=None),  # streamed, nothing in it
        ok(1, **nothing | {"output_tokens": 9}, last_token_ns=None),  # silent reasoning, then nothing
        ok(2, **nothing),  # a plain answer with nothing in it
        ok(3, **nothing | {"output_tokens": 9}),  # a plain answer that is a tool call
        ok(4, **nothing, text_chars=12),  # a plain answer with text
    ]
    found = summarise(run(step()), samples, PROMPTS)["endpoints"]["fast"]
    assert (found["outcomes"]["ok"], found["empty"]) == (5, 3)
    assert found["metrics"]["ttft_ms"]["n"] == 0


def test_with_several_steps_the_top_has_counts_only() -> None:
    steps = (step(0), step(1, concurrency=8, measure_from_ns=100 * S, measure_to_ns=160 * S))
    samples = [ok(0), ok(1), ok(0, step=1, at_s=110, ttft_ms=900), failed(1, "rate_limited", step=1)]
    found = summarise(run(*steps), samples, PROMPTS)
    top = found["endpoints"]["fast"]
    assert {name for name, value in top.items() if value is None} == {
        *(
            "metrics",
            "throughput",
            "cost",
            "good",
            "good_share",
            "speed_up",
            "meets_slo",
            "sessions",
            "tool_loop",
            "by_turn",
        ),
        *("modes", "needle", "repeats", "valid"),
        *SLICE_KEYS,
    }
    assert (top["outcomes"]["ok"], top["outcomes"]["rate_limited"], top["rate_limits"]["hits"]) == (3, 1, 1)
    assert top["tokens"]["output"] == 33
    one, two = (each["endpoints"]["fast"] for each in found["steps"])
    assert (one["outcomes"]["ok"], two["outcomes"]["ok"]) == (2, 1)
    assert two["metrics"]["ttft_ms"]["raw"]["p50"] == 900.0
    assert two["by_task"]["generation"]["outcomes"]["ok"] == 1
    assert two["throughput"]["requests_per_s"] == 1 / 60


def test_limiters_are_fitted_over_all_steps_only() -> None:
    """What one step used counts in the next: from a step alone there is no ceiling to be had."""
    steps = (step(0), step(1, concurrency=8, measure_from_ns=100 * S, measure_to_ns=160 * S))
    sent = {"kind": "requests", "sent_ns": 30 * S}
    refused = [failed(n, "rate_limited", **sent, step=n % 2, key_index=n // 2) for n in range(4)]
    found = summarise(run(*steps, demand={"rpm": 60}), refused, PROMPTS)
    for block in (each["endpoints"]["fast"]["rate_limits"] for each in found["steps"]):
        assert (block["hits"], block["ceiling"], block["keys"], block["demand"]) == (2, None, None, None)
    top = found["endpoints"]["fast"]["rate_limits"]
    assert (top["ceiling"]["requests"]["refused"], top["keys"]["count"], top["demand"]["rpm"]) == (4, 2, 60)
    assert found["providers"]["acme"]["rate_limits"]["keys"] is None, "its endpoints number their keys each from 0"
    single = summarise(run(step(), demand={"rpm": 60}), [failed(1, "rate_limited", **sent)], PROMPTS)
    assert single["steps"][0]["endpoints"]["fast"]["rate_limits"]["ceiling"]["requests"]["refused"] == 1


def test_what_a_killed_run_left_is_summarised() -> None:
    killed = run(endpoints={}, state="running", stops=[("fast", "credentials refused")])
    found = summarise(killed, [ok(0), ok(1, step=3)], {})
    assert found["run"]["state"] == "partial"
    assert found["run"]["stops"] == [{"endpoint": "fast", "reason": "credentials refused"}]
    assert [each["shape"] for each in found["steps"]] == ["unknown", "unknown"]
    assert found["validity"]["verdict"] == "suspect"
    assert found["steps"][1]["endpoints"]["fast"]["throughput"]["requests_per_s"] is None
    assert found["endpoints"]["fast"]["provider"] is None
    assert list(found["providers"]) == ["unknown"]


def test_a_run_without_samples_is_invalid_and_has_no_figures() -> None:
    found = summarise(run(step()), [], PROMPTS)
    assert found["validity"]["verdict"] == "invalid"
    assert found["endpoints"]["fast"]["metrics"]["inter_chunk_ms"]["n"] == 0
    assert summarise(run(), [], {})["steps"] == []


def test_the_order_of_samples_does_not_matter() -> None:
    samples = [ok(i, ttft_ms=100 + i, model=f"m{i % 3}") for i in range(30)] + [
        failed(40, "rate_limited", kind="daily")
    ]
    forwards = json.dumps(summarise(run(step()), samples, PROMPTS))
    assert json.dumps(summarise(run(step()), reversed(samples), PROMPTS)) == forwards


def test_steps_that_push_alike_are_told_apart_by_what_they_differ_in() -> None:
    loads = [
        Step(Closed(4), requests=50),
        Step(Closed(4), duration_ns=60 * S, warmup_ns=10 * S),
        Step(Closed(8), duration_ns=60 * S),
        Step(Poisson(2.0), duration_ns=30 * S, max_in_flight=8),
        Step(Poisson(2.0), duration_ns=30 * S),
        Step(Constant(1.0), requests=3),
        Step(Constant(1.0), requests=3),
    ]
    steps = [step(index, load=load) for index, load in enumerate(loads)]
    found = summarise(run(*steps), [], {})
    assert [one["words"] for one in found["steps"]] == [
        "closed 4, 50 requests, no warm-up",
        "closed 4, 60 s, warm-up 10 s",
        "closed 8",
        "poisson 2/s, at most 8 in flight",
        "poisson 2/s",
        *("constant 1/s", "constant 1/s"),
    ]
    words = [one["words"] for one in summarise(run(step(0, requests=5), step(1, requests=9)), [], {})["steps"]]
    assert words == ["closed 4, 5 requests", "closed 4, 9 requests"]


def test_repeated_prompts_have_their_spread_taken_apart() -> None:
    samples = [ok(i, ttft_ms=100 + 10 * (i % 40) + i // 40, prompt_id=f"g{i % 40}") for i in range(160)]
    repeated = msgspec.structs.replace(run(step()), scenario={"repeat": 4})
    found = summarise(repeated, samples, PROMPTS)["endpoints"]["fast"]["repeats"]
    assert (found["repeat"], found["metrics"]["ttft"]["prompts"], found["metrics"]["ttft"]["n"]) == (4, 40, 160)
    assert found["metrics"]["ttft"]["share_between"] > 0.95
    assert summarise(run(step()), samples, PROMPTS)["endpoints"]["fast"]["repeats"] is None
