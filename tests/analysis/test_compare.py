"""Two runs against each other, and windows, from documents of the shape of `summary.json`."""

import copy
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from latbench.analysis import stats
from latbench.analysis.by_window import by_window, comparable, difference
from latbench.analysis.compare import (
    EQUIVALENT,
    IMPROVED,
    INCONCLUSIVE,
    REGRESSED,
    Comparison,
    Row,
    adjust,
    compare,
    flipped,
    needed,
    normal_p,
    parse_gate,
    share_verdict,
    verdict,
)
from latbench.analysis.differences import Difference, differences, pairs
from latbench.metrics.catalogue import METRICS
from latbench.model.errors import UserError
from latbench.model.sample import Outcome

SCENARIO: dict[str, Any] = {
    "name": "s",
    "endpoints": [{"name": "m", "api": "openai-chat", "base_url": "http://a/v1", "model": "m", "stream": True}],
    "prompts": {"pack": "code-mix", "tasks": {"review": 1}},
    "output": {"max_tokens": 8, "mode": "text"},
    "cache": "cold",
    "load": [{"shape": "closed", "concurrency": 4, "requests": 400}],
}


def table(values: np.ndarray, *, rate: bool = False) -> dict[str, Any]:
    return stats.describe(values, higher_is_better=rate)


def summary(
    scale: float = 1.0, *, n: int = 2000, seed: int = 1, day: int = 1, window: str | None = None, **changes: Any
) -> dict[str, Any]:
    """A run of one endpoint and one step whose times are lognormal around `scale` seconds."""
    rng = np.random.default_rng(seed)
    times = rng.lognormal(math.log(1000 * scale), 0.2, n)
    by_name = {"ttft": times, "ttft_response": times, "time_to_first_text": times, "e2e": times * 2}
    by_name |= {"e2e_response": times * 2 + 1, "e2e_tokens_per_s": 1e6 / times}
    empty = table(np.empty(0))
    metrics = {
        metric.json_name: table(by_name[metric.name], rate=metric.higher_is_better) if metric.name in by_name else empty
        for metric in METRICS
    }
    outcomes = dict.fromkeys(map(str, Outcome), 0) | {"ok": n}
    block = {"metrics": metrics, "outcomes": outcomes, "error_rate": 0.0, "tokens": {"output": 8 * n}}
    step = {"index": 0, "words": "closed 4", "endpoints": {"m": block}}
    run = {"id": f"r{seed}", "name": "s", "scenario": "s", "scenario_sha256": "h" * 64, "workers": 1}
    run |= {"started_at": f"2026-11-{day:02}T14:00:00Z", "state": "complete", "window": window, "labels": {}}
    provenance = {"version": "1", "seed": 7, "host": {"name": "h", "cores": "2"}, "scenario": SCENARIO}
    provenance["prompts"] = {"name": "code-mix", "version": "1", "sha256": "p"}
    found = {"schema_version": 1, "run": run, "validity": {"verdict": "valid"}, "endpoints": {"m": block}}
    return copy.deepcopy(found | {"steps": [step], "provenance": provenance} | changes)


def compared(a: dict[str, Any], b: dict[str, Any], **more: Any) -> Comparison:
    found = compare(a, b, differences(a, b), **more)
    msgspec.json.encode(found)
    return found


def rows(found: Comparison) -> dict[tuple[str, str], Row]:
    return {(row.metric, row.percentile): row for row in found.rows}


def test_a_run_that_is_slower() -> None:
    found = compared(summary(), summary(1.2, seed=2))
    by_name = rows(found)
    for name in (("ttft", "p50"), ("ttft", "p95"), ("e2e", "p95")):
        row = by_name[name]
        assert row.verdict == REGRESSED
        assert row.ci95 is not None
        assert row.ci95[0] < 1.2 < row.ci95[1]
        assert row.ratio == pytest.approx(1.2, rel=0.05)
    assert by_name["e2e_tokens_per_s", "p5"].verdict == REGRESSED, "lower is worse there"
    assert by_name["e2e_tokens_per_s", "p5"].ratio == pytest.approx(1 / 1.2, rel=0.05)
    assert found.gate == REGRESSED
    assert {name for name, row in by_name.items() if row.gate} == {("ttft", "p95"), ("e2e", "p95")}
    assert all(row.p_holm is not None for row in found.rows if row.gate)
    assert ("ttft_response", "p50") not in by_name, "it repeats ttft"
    assert ("time_to_first_text", "p50") not in by_name
    assert ("e2e_response", "p50") in by_name
    assert found.claim == "descriptive"
    back = compared(summary(1.2, seed=2), summary())
    assert {row.verdict for row in back.rows if row.percentile in ("p50", "p95")} == {IMPROVED}
    assert back.gate == EQUIVALENT, "nothing has become worse"


def test_the_same_twice_and_too_little_data() -> None:
    same = compared(summary(n=20000), summary(n=20000, seed=2))
    assert (same.gate, rows(same)["ttft", "p50"].verdict) == (EQUIVALENT, EQUIVALENT)
    few = compared(summary(n=60), summary(n=60, seed=2))
    assert few.gate == INCONCLUSIVE
    row = rows(few)["ttft", "p95"]
    assert (row.ratio, row.need) == (None, pytest.approx(72, rel=0.2))
    assert row.why.startswith("A: p95 needs at least 72 values, there are 60")
    some = rows(compared(summary(n=400), summary(n=400, seed=2)))["ttft", "p95"]
    assert some.verdict == INCONCLUSIVE
    assert (some.need or 0) > 400


def test_identical_runs_are_seldom_called_different() -> None:
    """And a ratio of 1.2 is found: 200 seeded pairs, of 600 requests each."""
    wrong = found = 0
    for seed in range(200):
        base = summary(n=600, seed=2 * seed)
        wrong += any(
            row.verdict in (REGRESSED, IMPROVED)
            for row in compared(base, summary(n=600, seed=2 * seed + 1)).rows
            if row.gate
        )
        if seed < 40:
            found += compared(base, summary(1.2, n=2400, seed=2 * seed + 1)).gate == REGRESSED
    assert wrong <= 12
    assert found >= 38


def test_latencies_of_what_is_left_are_not_compared() -> None:
    broken = summary(1.5, seed=2)
    block = broken["steps"][0]["endpoints"]["m"]
    block["error_rate"], block["outcomes"]["rate_limited"] = 0.05, 105
    found = compared(summary(), broken)
    assert {row.verdict for row in found.rows} == {INCONCLUSIVE}
    assert rows(found)["ttft", "p50"].why.startswith("A answered 100.0 % of its requests, B 95.0 %")
    error, limited = found.shares
    assert (error.what, error.verdict, limited.verdict) == ("error rate", REGRESSED, REGRESSED)
    assert error.ci95 is not None
    assert error.ci95[0] < 105 / 2105 < error.ci95[1]
    assert error.difference == pytest.approx(105 / 2105)


def test_times_of_longer_answers_are_not_compared() -> None:
    longer = summary(1.2, seed=2)
    longer["steps"][0]["endpoints"]["m"]["tokens"]["output"] *= 2
    by_name = rows(compared(summary(), longer))
    assert by_name["e2e", "p50"].why == "answers differ in length: A 8 tokens, B 16"
    assert (by_name["e2e", "p50"].verdict, by_name["ttft", "p50"].verdict) == (INCONCLUSIVE, REGRESSED)
    longer["steps"][0]["endpoints"]["m"]["tokens"]["output"] = None
    assert rows(compared(summary(), longer))["e2e", "p50"].verdict == REGRESSED


def test_nothing_was_sent() -> None:
    empty = summary()
    block = empty["steps"][0]["endpoints"]["m"]
    block["outcomes"]["ok"], block["error_rate"], block["tokens"]["output"] = 0, None, None
    block["metrics"] = {metric.json_name: table(np.empty(0)) for metric in METRICS}
    found = compared(empty, empty)
    assert (found.rows, found.gate) == ([], INCONCLUSIVE)
    assert [(one.a, one.difference, one.verdict) for one in found.shares] == [(None, None, INCONCLUSIVE)] * 2
    assert rows(compared(summary(), empty))["ttft", "p50"].why == "B: no values"
    with pytest.raises(UserError, match="no step"):
        compared(summary(steps=[]), summary())
    zero = summary()
    zero["steps"][0]["endpoints"]["m"]["metrics"]["ttft_ms"] = table(np.zeros(400))
    assert rows(compared(zero, zero))["ttft", "p50"].why == "a value of 0 has no ratio"


def test_more_rows_in_the_gate() -> None:
    found = compared(summary(), summary(1.2, seed=2), gates=[parse_gate("e2e_tokens_per_s  p10")])
    assert rows(found)["e2e_tokens_per_s", "p10"].gate
    for text, why in (
        ("tpo p95", 'did you mean "tpot"'),
        ("ttft", "which percentile"),
        ("inter_chunk p50", "no metric"),
    ):
        with pytest.raises(ValueError, match=why):
            parse_gate(text)


def test_what_is_different_only_by_itself_is_not() -> None:
    def row(p: float, word: str, *, gate: bool = True) -> Row:
        return Row("m", 0, "ttft", "p95", "ms", 1.0, 1.0, (9, 9), p=p, verdict=word, gate=gate)

    gate = [row(0.01, REGRESSED), row(0.03, REGRESSED), row(0.2, INCONCLUSIVE), row(0.04, REGRESSED, gate=False)]
    adjust(gate)
    assert [one.verdict for one in gate] == [REGRESSED, INCONCLUSIVE, INCONCLUSIVE, REGRESSED]
    assert [one.p_holm for one in gate] == [pytest.approx(0.03), pytest.approx(0.06), 0.2, None]
    assert gate[1].why == "by itself, but not as one of 3 rows of the gate (Holm)"


# --- words ------------------------------------------------------------------------------------------------------------


def test_the_words_of_the_reference() -> None:
    cases = ((1.06, 1.2), (0.8, 0.93), (0.97, 1.04), (1.01, 1.04), (0.98, 1.2), (1.01, 1.2))
    expected = [REGRESSED, IMPROVED, EQUIVALENT, EQUIVALENT, INCONCLUSIVE, INCONCLUSIVE]
    assert [verdict(*case, 1.05) for case in cases] == expected
    assert [verdict(None, 1.0, 1.05), verdict(1.0, None, 1.05), verdict(1.1, None, 1.05)] == [
        *(INCONCLUSIVE, INCONCLUSIVE),
        REGRESSED,
    ]
    shares = ((0.02, 0.05), (-0.05, -0.02), (-0.005, 0.005), (0.0, 0.05))
    assert [share_verdict(*one) for one in shares] == [REGRESSED, IMPROVED, EQUIVALENT, INCONCLUSIVE]


ratios = st.tuples(st.floats(0.5, 2), st.floats(1, 1.5), st.floats(1, 1.5)).map(
    lambda drawn: (drawn[0], drawn[0] / drawn[1], drawn[0] * drawn[2])
)


@given(ratio=ratios, margin=st.floats(1.001, 1.5), wider=st.floats(1, 2))
def test_properties_of_the_words(ratio: tuple[float, float, float], margin: float, wider: float) -> None:
    _, low, high = ratio
    word, other = verdict(low, high, margin), flipped(ratio)
    swapped = {REGRESSED: IMPROVED, IMPROVED: REGRESSED}
    edges = {low, high} & {margin, 1 / margin}
    if not edges and not any(math.isclose(end, edge) for end in (low, high) for edge in (margin, 1 / margin)):
        assert verdict(other[1], other[2], margin) == swapped.get(word, word)
        p = normal_p(ratio, math.log(margin))
        assert p is not None
        assert (p < 0.05) == (word in (REGRESSED, IMPROVED)) or math.isclose(p, 0.05, rel_tol=1e-6)
    if word == INCONCLUSIVE:
        assert verdict(low / wider, high * wider, margin) == INCONCLUSIVE
        assert (needed(ratio, margin, 100) or 10**9) >= 100 or min(high / ratio[0], ratio[0] / low) < 1.0001


def test_an_end_that_is_missing() -> None:
    assert flipped((2.0, 1.0, None)) == (0.5, None, 1.0)
    assert flipped((2.0, None, 4.0)) == (0.5, 0.25, None)
    assert normal_p((2.0, None, 4.0), 0.1) is None
    assert normal_p((2.0, 2.0, 2.0), 0.1) == 0.0
    assert needed((2.0, None, 4.0), 1.05, 100) is None
    assert needed((1.05, 1.0, 1.1), 1.05, 100) is None, "it is the margin: nobody can say"
    assert needed((1.0500001, 1.0, 1.1), 1.05, 100) is None, "more than anybody would send"


# --- what differs -----------------------------------------------------------------------------------------------------


def changed(path: str, value: Any) -> dict[str, Any]:
    found = summary()
    *parents, last = path.split(".")
    inner: Any = found
    for part in parents:
        inner = inner[int(part) if part.isdigit() else part]
    inner[last] = value
    return found


@pytest.mark.parametrize(
    ("path", "value", "what", "blocks"),
    [
        ("provenance.scenario.prompts.tasks", {"search": 1}, "prompts.tasks.review", True),
        ("provenance.prompts.sha256", "q", "prompts.sha256", True),
        ("provenance.prompts.version", "2", "prompts.version", False),
        ("provenance.prompts", None, "prompts", True),
        ("provenance.scenario.output.max_tokens", 16, "output.max_tokens", True),
        ("provenance.scenario.cache", "warm", "cache", True),
        ("provenance.scenario.load.0.concurrency", 8, "load[0].concurrency", True),
        ("provenance.scenario.load", [], "load[0]", True),
        ("provenance.scenario.load.0.requests", 500, "load[0].requests", False),
        ("provenance.scenario.endpoints.0.stream", False, "endpoint m.stream", True),
        ("provenance.scenario.endpoints.0.model", "x", "endpoint m.model", False),
        ("provenance.scenario.labels", {"x": "y"}, None, False),
        ("provenance.version", "2", "latbench", False),
        ("provenance.seed", 8, "seed", False),
        ("provenance.host.cores", "4", "host.cores", False),
        ("run.workers", 2, "workers", False),
        ("run.labels", {"region": "eu"}, "labels.region", False),
        ("validity.verdict", "invalid", "validity", True),
        ("validity.verdict", "suspect", "validity", False),
    ],
)
def test_what_differs(path: str, value: Any, what: str | None, blocks: bool) -> None:
    found = differences(summary(), changed(path, value))
    if what is None:
        assert found == []
        return
    assert (found[0].what, found[0].blocks) == (what, blocks)
    assert all(one.a != one.b for one in found)
    back = differences(changed(path, value), summary())
    assert {(one.what, one.b, one.a) for one in back} == {(one.what, one.a, one.b) for one in found}


def test_what_blocks_is_said_first_and_a_pack_elsewhere_is_the_same_pack() -> None:
    other = changed("provenance.scenario.output.max_tokens", 16)
    other["run"]["workers"] = 2
    other["provenance"]["scenario"]["prompts"] = {"path": "elsewhere", "tasks": {"review": 1}}
    assert differences(summary(), other) == [
        Difference("output.max_tokens", "8", "16", blocks=True),
        Difference("workers", "1", "2"),
    ]


def test_endpoints_that_belong_together() -> None:
    both, one, other = ({"endpoints": dict.fromkeys(names)} for names in (("m", "n"), ("m",), ("x",)))
    assert pairs(both, one) == pairs(one, both) == [("m", "m")]
    assert pairs(one, other) == [("m", "x")]
    with pytest.raises(UserError, match="A has m, n, B has x"):
        pairs(both, other)
    renamed = summary()
    renamed["endpoints"] = {"x": None}
    renamed["steps"][0]["endpoints"] = {"x": renamed["steps"][0]["endpoints"]["m"]}
    renamed["provenance"]["scenario"]["endpoints"][0] |= {"name": "x", "model": "x"}
    found = compared(summary(), renamed)
    assert found.endpoints == [("m", "x")]
    assert [one.what for one in found.differences] == ["endpoint m.model"]


# --- windows ----------------------------------------------------------------------------------------------------------

OFF = [1.00, 1.05, 0.98, 1.02, 1.01]
AT_PEAK = [1.20, 1.26, 1.18, 1.31, 1.22]


def days(values: list[float], first: int = 0) -> dict[str, float]:
    return {str(first + at): math.log(value) for at, value in enumerate(values)}


def test_the_worked_example_of_the_reference() -> None:
    welch, paired = difference(days(OFF), days(AT_PEAK, 10)), difference(days(OFF), days(AT_PEAK))
    assert welch is not None
    assert paired is not None
    ends = [math.exp(end) for end in (welch.mean, welch.low, welch.high, paired.mean, paired.low, paired.high)]
    assert ends == pytest.approx([1.2188369, 1.1568886, 1.2841024, 1.2188369, 1.1751755, 1.2641205], abs=1e-6)
    test = scipy_stats.ttest_ind(np.log(AT_PEAK), np.log(OFF), equal_var=False)
    assert welch.p(welch.mean) == pytest.approx(test.pvalue)
    assert welch.p(-0.1) == 1.0


def test_too_few_or_equal_windows() -> None:
    assert difference(days(OFF[:2]), days(AT_PEAK)) is None
    assert difference(days(OFF[:3]), days(AT_PEAK[:2], 10)) is None
    same = difference(days([1.0, 1.0, 1.0]), days([2.0, 2.0, 2.0], 10))
    assert same is not None
    assert (same.low, same.high, same.p(0.1)) == (same.mean, same.mean, 0.0)


def windows(scales: list[float], window: str, first_day: int = 1) -> list[dict[str, Any]]:
    return [
        summary(scale, n=400, seed=100 * first_day + at + len(window), day=first_day + at, window=window)
        for at, scale in enumerate(scales)
    ]


def test_peak_against_off_peak_by_day() -> None:
    found = by_window(windows(OFF, "offpeak"), windows(AT_PEAK, "peak"), margin=1.05)
    msgspec.json.encode(found)
    row = rows(found)["ttft", "p50"]
    assert (row.verdict, row.n, found.gate) == (REGRESSED, (5, 5), REGRESSED)
    assert row.ratio == pytest.approx(1.22, rel=0.05)
    assert (found.claim, found.caveat) == ("windows", "paired by day over 5 days")
    assert found.shares[0].difference == 0.0
    assert found.differences == []
    assert (found.a["windows"], found.b["window"]) == (5, "peak")
    apart = by_window(windows(OFF, "offpeak"), windows(AT_PEAK[:3], "peak", 11), margin=1.05)
    assert apart.caveat == "Welch's t over 5 and 3 windows; with fewer than 5 the intervals are wide"
    assert rows(apart)["ttft", "p50"].n == (5, 3)


def test_too_few_windows_are_descriptive_only() -> None:
    found = by_window(windows(OFF[:1], "offpeak"), windows(AT_PEAK[:2], "peak"), margin=1.05)
    assert (found.claim, found.gate) == ("descriptive", INCONCLUSIVE)
    assert found.caveat.startswith("too few windows for a claim: 2 more of offpeak and 1 more of peak needed")
    row = rows(found)["ttft", "p95"]
    assert (row.verdict, row.ci95, row.need) == (INCONCLUSIVE, None, 3)
    assert row.ratio == pytest.approx(1.2, rel=0.1)
    assert found.shares[0].ci95 is None


def test_runs_of_one_window_and_day_are_one_value() -> None:
    off, peak = windows(OFF, "offpeak"), windows(AT_PEAK, "peak")
    again = summary(1.0, n=400, seed=999, day=1, window="offpeak")
    found = by_window([*off, again], peak, margin=1.05)
    assert rows(found)["ttft", "p50"].n == (5, 5)
    assert len(found.a["runs"]) == 6


def test_runs_that_measured_something_else_are_left_out() -> None:
    newest, alike = summary(), summary(seed=3, window="peak")
    assert comparable(newest, [changed("provenance.scenario.cache", "warm"), alike]) == [alike]
    other = [summary(seed=5, day=2, window="peak", provenance=summary()["provenance"] | {"version": "2"})]
    assert [one.what for one in by_window([newest], other, margin=1.05).differences] == ["latbench"]
