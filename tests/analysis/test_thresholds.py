"""Pass, fail or inconclusive, from documents of the shape of `summary.json`."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.analysis import stats
from latbench.analysis.intervals import mover
from latbench.analysis.thresholds import FAIL, INCONCLUSIVE, PASS, Measured, decide, judge, needed, poisson
from latbench.model.run import RunRecord
from latbench.model.sample import Outcome
from latbench.scenario.thresholds import parse


def table(n: int, at: dict[str, tuple[float, float, float]], need: dict[str, Any] | None = None) -> dict[str, Any]:
    """A metric with these percentiles: value and ends."""
    found: dict[str, Any] = {"n": n, "need": need or {}, **dict.fromkeys(stats.PERCENTILES)}
    found["ci95"] = dict.fromkeys(stats.PERCENTILES)
    for name, (value, low, high) in at.items():
        found[name], found["ci95"][name] = value, [low, high]
    return found


def block(metrics: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    outcomes = dict.fromkeys(map(str, Outcome), 0) | fields.pop("outcomes", {"ok": 100})
    known = {"good": None, "empty": 0, "rate_limits": {"hits": 0}, "cost": None, "by_task": {}}
    throughput = dict.fromkeys(("requests_per_s", "output_tokens_per_s", "goodput_per_s"))
    return {**known, "throughput": throughput, "metrics": metrics or {}, "outcomes": outcomes} | fields


def run(*thresholds: str, **fields: Any) -> RunRecord:
    return RunRecord("id", "n", "s", "h", {}, "2026-11-22T14:00:00Z", 1, 0, thresholds=list(thresholds), **fields)


def one(text: str, of: dict[str, Any]) -> dict[str, Any]:
    (found,) = judge(run(text), [{"index": 0, "endpoints": {"a": of}}])
    json.dumps(found, allow_nan=False)
    return found


TTFT = {"ttft_ms": table(400, {"p50": (100, 90, 110), "p95": (500, 450, 600), "p99": (700, 600, 900)})}
RATE = {"generation_tokens_per_s": table(400, {"p5": (20, 18, 23)})}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("ttft p95 < 601ms", PASS),
        ("ttft p95 < 600ms", INCONCLUSIVE),
        ("ttft p95 <= 600ms", PASS),
        ("ttft p95 < 450ms", FAIL),
        ("ttft p95 <= 450ms", INCONCLUSIVE),
        ("ttft p95 < 449ms", FAIL),
        ("ttft p95 > 449ms", PASS),
        ("ttft p95 > 450ms", INCONCLUSIVE),
        ("ttft p95 > 600ms", FAIL),
        ("ttft p999 < 590ms", FAIL),  # not defined, but p99 has failed for sure
        ("ttft p999 < 700ms", INCONCLUSIVE),
        ("ttft p10 < 111ms", PASS),  # no more than p50
        ("ttft p99/p50 < 12", PASS),
        ("ttft p99/p50 < 7", INCONCLUSIVE),
        ("ttft p99/p50 < 2", FAIL),
    ],
)
def test_percentiles_and_ratios(text: str, result: str) -> None:
    assert one(text, block(TTFT))["result"] == result


@pytest.mark.parametrize(("limit", "result"), [("17", PASS), ("20", INCONCLUSIVE), ("23", FAIL)])
def test_a_rate_has_its_floor(limit: str, result: str) -> None:
    assert one(f"generation_tokens_per_s p5 > {limit}", block(RATE))["result"] == result


def test_an_entry_says_what_was_measured() -> None:
    found = one("ttft p95 < 550ms", block(TTFT))
    assert found["value"] == 500
    assert found["ci95"] == [450, 600]
    assert (found["endpoint"], found["step"], found["task"]) == ("a", 0, None)
    assert (found["limit"], found["unit"], found["n"]) == (550, "ms", 400)
    assert found["need"] == pytest.approx(400 * (np.log(1.2) / np.log(1.1)) ** 2, abs=1)
    ratio = one("ttft p99/p50 < 7", block(TTFT))
    assert (ratio["value"], *ratio["ci95"]) == mover((100, 90, 110), (700, 600, 900))


def test_too_little_data_is_inconclusive_and_says_what_is_needed() -> None:
    few = {"ttft_ms": table(40, {"p50": (100, 90, 110)}, {"p95": [72, 40], "p99": [368, 40]})}
    found = one("ttft p99 < 1s", block(few))
    assert (found["result"], found["value"], found["need"]) == (INCONCLUSIVE, None, None)
    assert found["why"] == "p99 needs at least 368 values, there are 40"
    dependent = {"ttft_ms": table(400, {}, {"p95": [72, 61]})}
    assert one("ttft p95 < 1s", block(dependent))["why"].endswith("there are 400 that count for 61")
    assert one("ttft p99 < 50ms", block(few))["result"] == FAIL, "half of them are over it"
    assert one("ttft p99/p50 < 5", block(few))["why"] == found["why"]
    nothing = {"ttft_ms": table(0, {}, {"p50": [6, 0]})}
    assert one("ttft p50 < 1s", block(nothing))["why"] == "no values"
    zero = {"ttft_ms": table(400, {"p50": (0, 0, 1), "p95": (5, 4, 6)})}
    assert one("ttft p95/p50 < 5", block(zero))["why"] == "one of the two is 0"
    assert one("[task=review] ttft p50 < 1s", block(TTFT))["why"] == "no request of that task was measured"


def test_shares() -> None:
    clean = block(outcomes={"ok": 368})
    assert one("error_rate < 1%", clean)["result"] == PASS
    few = one("error_rate < 1%", block(outcomes={"ok": 300}))
    assert (few["result"], few["value"], few["ci95"][0]) == (INCONCLUSIVE, 0.0, 0.0)
    assert 368 <= few["need"] <= 400
    assert one("error_rate < 1%", block(outcomes={"ok": 90, "timeout": 10}))["result"] == FAIL
    assert one("rate_limited < 5%", block(outcomes={"ok": 90, "rate_limited": 10}))["value"] == 0.1
    assert one("errors < 5%", block(outcomes={"ok": 90, "stalled": 10, "cancelled": 9, "dropped": 5}))["n"] == 109
    assert one("dropped < 5%", block(outcomes={"ok": 90, "dropped": 10}))["value"] == 0.1
    assert one("good_share > 90%", block(outcomes={"ok": 990, "lost": 10}, good=980))["value"] == 0.98
    cut_off = one("error_rate < 25%", block(outcomes={"ok": 20, "stalled": 20, "cancelled": 100}))
    assert (cut_off["result"], cut_off["value"]) == (INCONCLUSIVE, 20 / 140), "what was cancelled may have failed, too"
    assert one("error_rate < 5%", block(outcomes={"ok": 20, "stalled": 20, "cancelled": 100}))["result"] == FAIL
    assert one("error_rate < 1%", block(outcomes={}))["why"] == "no request was sent"
    close = one("error_rate < 1%", block(outcomes={"ok": 990_001, "timeout": 9_999}))
    assert (close["result"], close["need"]) == (INCONCLUSIVE, None), "more than anybody would send"
    worse = one("good_share > 98%", block(outcomes={"ok": 100}, good=98))
    assert (worse["result"], worse["need"]) == (INCONCLUSIVE, None), "it is the limit: nobody can say"


def test_counts_are_what_they_are() -> None:
    found = block(outcomes={"ok": 5, "timeout": 2, "stalled": 1}, rate_limits={"hits": 3}, empty=4)
    for text, value, result in (
        ("rate_limited == 0", 3, FAIL),
        ("rate_limited <= 3", 3, PASS),
        ("errors < 4", 3, PASS),
        ("timeout == 2", 2, PASS),
        ("empty < 4", 4, FAIL),
        ("ok >= 6", 5, FAIL),
    ):
        assert (one(text, found)["value"], one(text, found)["result"]) == (value, result)
    assert one("errors == 0", found)["ci95"] is None


def test_what_is_delivered_in_a_second() -> None:
    counts = {"requests_per_s": 100.0, "output_tokens_per_s": 100.0, "goodput_per_s": 50.0}
    rates = {"requests_per_s": 10.0, "output_tokens_per_s": 500.0, "goodput_per_s": 5.0, "n_eff": counts}
    found = block(outcomes={"ok": 100}, good=50, throughput=rates)
    requests, good = one("requests_per_s > 5", found), one("goodput > 4/s", found)
    assert requests["ci95"] == pytest.approx([8.136, 12.163], abs=1e-3)
    assert (requests["result"], good["result"], good["n"]) == (PASS, INCONCLUSIVE, 50)
    assert one("output_tokens_per_s > 700", found)["result"] == FAIL
    none_good = rates | {"goodput_per_s": 0.0, "n_eff": counts | {"goodput_per_s": 0.0}}
    assert one("goodput > 4/s", block(throughput=none_good, good=0))["result"] == INCONCLUSIVE
    few = rates | {"n_eff": counts | {"output_tokens_per_s": 10.0}}
    assert one("output_tokens_per_s > 700", block(throughput=few))["result"] == INCONCLUSIVE
    assert one("requests_per_s > 5", block())["why"] == "the measured window is empty"
    assert one("requests_per_s > 5", block(throughput=None))["why"] == "the measured window is empty"
    assert poisson(0) == (0.0, pytest.approx(3.6889, abs=1e-4))


def test_costs() -> None:
    cost = {"usd": 4.0, "usd_per_ok_request": None}
    assert one("usd < 5", block(cost=cost))["result"] == PASS
    assert one("usd < 4", block(cost=cost))["result"] == FAIL
    assert one("usd_per_ok_request < 5", block(cost=cost))["result"] == INCONCLUSIVE
    assert one("usd < 5", block())["why"] == "its price is not known"


def test_where_each_holds() -> None:
    sliced = block(TTFT, by_task={"review": block(TTFT)})
    steps = [{"index": index, "endpoints": {"a": sliced, "b": sliced}} for index in range(2)]
    texts = ("errors == 0", "[b] errors == 0", "[task=review, step=1] errors == 0", "[a, step=0] ttft p50 < 1s")
    found = [(one["expr"][:5], one["endpoint"], one["step"], one["task"]) for one in judge(run(*texts), steps)]
    every = [("error", name, index, None) for index in range(2) for name in ("a", "b")]
    only_b = [("[b] e", "b", 0, None), ("[b] e", "b", 1, None)]
    only_step = [("[task", "a", 1, "review"), ("[task", "b", 1, "review")]
    assert found == [*every, *only_b, *only_step, ("[a, s", "a", 0, None)]


def test_what_was_out_of_reach_has_failed() -> None:
    hopeless = {"threshold": "ttft p95 < 550ms", "endpoint": "a", "step": 0, "why": "cannot be met any more"}
    record = run("ttft p95 < 550ms", out_of_reach=[hopeless])
    steps = [{"index": index, "endpoints": {"a": block(TTFT)}} for index in range(2)]
    assert [(one["result"], one["why"]) for one in judge(record, steps)] == [
        (FAIL, "cannot be met any more"),
        (INCONCLUSIVE, None),
    ]


ends = st.one_of(st.none(), st.floats(0, 1000))


@given(value=st.one_of(st.none(), st.floats(0, 1000)), low=ends, high=ends, op=st.sampled_from(["<", "<=", ">", ">="]))
def test_any_interval_has_a_result(value: float | None, low: float | None, high: float | None, op: str) -> None:
    threshold = parse(f"ttft p95 {op} 500ms")
    if low is not None and high is not None:
        low, high = min(low, high), max(low, high)
    found = Measured(value, low, high, 100)
    result = decide(threshold, found)
    if result == INCONCLUSIVE:
        wider = Measured(value, None if low is None else low / 2, None if high is None else high * 2, 100)
        assert decide(threshold, wider) == INCONCLUSIVE
        assert (needed(threshold, found) or 1) > 0
    flipped = parse(f"ttft p95 {op.translate(str.maketrans('<>', '><'))} 500ms")
    if result == PASS and low != 500 != high:
        assert decide(flipped, found) == FAIL
