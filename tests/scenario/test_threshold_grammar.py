"""The grammar of thresholds: what it reads, what it says of what it does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.analysis import stats
from latbench.metrics.catalogue import METRICS
from latbench.model.errors import UserError
from latbench.scenario.loader import Flags, load_scenario
from latbench.scenario.thresholds import (
    COST,
    COUNTS,
    NAMES,
    NEEDLE,
    OF_NEEDLE,
    PERCENTILES,
    POOLED,
    SHARES,
    THROUGHPUT,
    Kind,
    misplaced,
    parse,
)

GOOD = {
    "ttft p95 < 800ms": (Kind.PERCENTILE, "ttft", "p95", None, "<", 800.0, "ms"),
    "e2e_response  p99.9<=1.5s": (Kind.PERCENTILE, "e2e_response", "p999", None, "<=", 1500.0, "ms"),
    "generation_tokens_per_s p5 > 20": (Kind.PERCENTILE, "generation_tokens_per_s", "p5", None, ">", 20.0, "tokens/s"),
    "e2e_tokens_per_s p10 >= 7.5/s": (Kind.PERCENTILE, "e2e_tokens_per_s", "p10", None, ">=", 7.5, "tokens/s"),
    "ttft p99/p50 < 5": (Kind.RATIO, "ttft", "p99", "p50", "<", 5.0, ""),
    "error_rate < 1%": (Kind.SHARE, "error_rate", None, None, "<", 0.01, "share"),
    "good_share >= 99.5%": (Kind.SHARE, "good_share", None, None, ">=", 0.995, "share"),
    "rate_limited < 2%": (Kind.SHARE, "rate_limited", None, None, "<", 0.02, "share"),
    "rate_limited == 0": (Kind.COUNT, "rate_limited", None, None, "==", 0.0, ""),
    "errors <= 3": (Kind.COUNT, "errors", None, None, "<=", 3.0, ""),
    "goodput > 180/min": (Kind.THROUGHPUT, "goodput", None, None, ">", 3.0, "/s"),
    "requests_per_s > 3": (Kind.THROUGHPUT, "requests_per_s", None, None, ">", 3.0, "/s"),
    "usd_per_ok_request < $0.02": (Kind.COST, "usd_per_ok_request", None, None, "<", 0.02, "USD"),
}
PLACES = {
    "[acme-large] ttft p95 < 1s": ("acme-large", None, None),
    "[endpoint=a, b=c, task=review, step=2] ttft p95 < 1s": ("a, b=c", "review", 2),
    "[x[1]] errors == 0": ("x[1]", None, None),
    "[step=0,endpoint=a] errors == 0": ("a", None, 0),
    "[task=review] errors == 0": (None, "review", None),
}
BAD = {
    "": "is no threshold",
    "ttft p95 = 800ms": "write what, a comparison",
    "ttft p95 800ms": "is no threshold",
    "tft p95 < 800ms": 'did you mean "ttft"?',
    "inter_chunk p95 < 80ms": "hold tpot to a limit",
    "ttft < 800ms": "write ttft p95",
    "ttft p96 < 800ms": 'did you mean "p95"?',
    "ttft p99/p9 < 2": 'did you mean "p10"?',
    "ttft max < 2s": "there are: p1, p5,",
    "ttft p50/p50 < 2": "always 1",
    "ttft p95 < 800": "write 800ms or 800s",
    "ttft p95 < 1%": "not a duration",
    "ttft p95 < 0s": "more than 0",
    "ttft p95 == 1s": "only a number of requests can equal",
    "ttft p99/p50 < 5s": "a ratio has none",
    "generation_tokens_per_s p5 > 20ms": "a number of tokens/s",
    "error_rate p95 < 1%": "leave p95 out",
    "error_rate < 0.01": "must be a share, such as 1%",
    "error_rate < 0%": 'write "errors == 0"',
    "good_share > 100%": "name a number of requests instead",
    "rate_limited == 0.5": "no number of requests",
    "empty < 1%": "no number of requests",
    "goodput > 3": "write 3/s",
    "usd < 5eur": "must be US dollars",
    "[] errors == 0": "names no place",
    "[step=first] errors == 0": "the first one is step=0",
    "[a, task=] errors == 0": "is not a place",
    "[a, endpoint=b] errors == 0": "names two endpoints",
}


@pytest.mark.parametrize("text", GOOD)
def test_what_is_read(text: str) -> None:
    found = parse(text)
    kind, name, at, over, op, limit, unit = GOOD[text]
    assert (found.kind, found.name, found.at, found.over, found.op, found.unit) == (kind, name, at, over, op, unit)
    assert found.limit == pytest.approx(limit)
    assert parse(found.text) == found
    assert found.met(found.limit) == ("=" in op)
    assert found.caps == (">" not in op)


@pytest.mark.parametrize("text", PLACES)
def test_where_it_holds(text: str) -> None:
    found = parse(text)
    assert (found.endpoint, found.task, found.step) == PLACES[text]


@pytest.mark.parametrize("text", BAD)
def test_what_is_refused_and_why(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse(text)
    assert BAD[text] in str(caught.value)
    assert text in str(caught.value)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = parse(text)
    except ValueError:
        return
    assert parse(found.text) == found


def test_every_name_can_be_held_to_something() -> None:
    assert tuple(stats.PERCENTILES) == PERCENTILES
    limits = {**dict.fromkeys(SHARES, "1%"), **dict.fromkeys(COUNTS, "1"), **dict.fromkeys(THROUGHPUT, "1/s")}
    limits |= dict.fromkeys(COST, "1")
    for name in NAMES:
        if name == NEEDLE:
            assert {parse(f"{name} {what} >= {4 if what == 'certified' else '5%'}").kind for what in OF_NEEDLE} == {
                *OF_NEEDLE.values()
            }
        elif name in limits:
            assert parse(f"{name} < {limits[name]}").name == name
        else:
            assert parse(f"{name} p50/p5 < 2").metric.name == name


def test_every_metric_has_limits_in_its_unit() -> None:
    limits = {"ms": "1s", "share": "50%"}
    for metric in METRICS:
        if metric.name != POOLED:
            found = parse(f"{metric.name} p50 > {limits.get(metric.unit, '5')}")
            assert found.unit == metric.unit


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[acme-larg] errors == 0", 'did you mean "acme-large"?'),
        ("[task=reviews] errors == 0", 'did you mean "review"?'),
        ("[step=2] errors == 0", "the last is step=1"),
        ("goodput > 1/s", "needs an slo"),
        ("usd < 5", "needs a price, and local has none"),
        ("[local] usd < 5", "needs a price"),
        ("[acme-large] usd < 5", None),
        ("[acme-large, task=review, step=1] ttft p50 < 1s", None),
    ],
)
def test_what_a_scenario_cannot_be_held_to(text: str, why: str | None) -> None:
    names, tasks = ["acme-large", "local"], ("review", "search")
    found = misplaced(parse(text), endpoints=names, unpriced=["local"], tasks=tasks, steps=2, slo=False)
    assert (why is None and found is None) or (why is not None and why in str(found))


SCENARIO = """
name: mine
endpoints: [{name: a, api: openai-chat, base_url: sim, model: m}]
prompts: {pack: code-mix}
load: {shape: closed, concurrency: 1, requests: 10}
"""


def loaded(tmp_path, more: str = "", **flags):
    path = tmp_path / "mine.yaml"
    path.write_text(SCENARIO + more)
    return load_scenario(path, Flags(**flags))


def test_they_come_from_the_scenario_and_the_flags_add_to_them(tmp_path) -> None:
    found = loaded(tmp_path, "thresholds: 'ttft  p95 < 1s'\n", thresholds=("errors == 0",))
    assert found.scenario.thresholds == ("ttft p95 < 1s", "errors == 0")
    assert found.resolved()["thresholds"] == ["ttft p95 < 1s", "errors == 0"]
    assert loaded(tmp_path).resolved().get("thresholds") is None
    assert found.sha256 != loaded(tmp_path).sha256


def test_a_mistake_says_where_it_stands(tmp_path) -> None:
    with pytest.raises(UserError, match=r"mine.yaml:8: thresholds\[1\]: .*did you mean"):
        loaded(tmp_path, "thresholds:\n  - errors == 0\n  - error < 1%\n")
    with pytest.raises(UserError, match=r"mine.yaml:6: thresholds\[0\]: .*no endpoint is called"):
        loaded(tmp_path, "thresholds: ['[b] errors == 0']\n")
    with pytest.raises(UserError, match=r'^--threshold: "ttft p5 < 5"'):
        loaded(tmp_path, "thresholds: ['errors == 0']\n", thresholds=("ttft p5 < 5",))
    with pytest.raises(UserError, match=r'^--threshold: "\[b\] errors == 0": no endpoint'):
        loaded(tmp_path, "thresholds: ['errors == 0']\n", thresholds=("[b] errors == 0",))
    with pytest.raises(UserError, match=r"mine.yaml:6: thresholds.*there is: n"):
        loaded(tmp_path, "thresholds: ['[a] errors == 0']\n", url="http://127.0.0.1:1/v1", model="n")
