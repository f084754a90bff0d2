"""Entries of `load`: what each shape takes, and the steps it comes to."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from latbench.model.load import Burst, Closed, Constant, Gamma, Poisson, Ramp, Sessions, Shape, Step, ToolLoop, Trace
from latbench.plan.arrivals import MAX_ARRIVALS
from latbench.scenario.grammar import format_key
from latbench.scenario.load import MOST_ARRIVALS, LoadEntry, default_warmup_ns, written
from latbench.scenario.schema import keys_of, problems_of

SECOND = 1_000_000_000
MINUTE = 60 * SECOND


def steps(**entry: Any) -> list[Step]:
    return LoadEntry.model_validate({key.rstrip("_"): value for key, value in entry.items()}).steps()


def problems(**entry: Any) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        steps(**entry)
    return {format_key(path): message for path, message in problems_of(caught.value, LoadEntry)}


@pytest.mark.parametrize(
    ("entry", "shape", "words"),
    [
        ({"shape": "closed", "concurrency": 4}, Closed(4), "closed 4"),
        ({"shape": "closed", "concurrency": 4, "think": "250ms"}, Closed(4, SECOND // 4), "closed 4 think 0.25s"),
        ({"shape": "constant", "rate": "4/s"}, Constant(4.0), "constant 4/s"),
        ({"shape": "poisson", "rate": "90/min"}, Poisson(1.5), "poisson 1.5/s"),
        ({"shape": "poisson", "rate": "3/min"}, Poisson(0.05), "poisson 3/min"),
        ({"shape": "poisson", "rate": "3/h"}, Poisson(3 / 3600), "poisson 3/h"),
        ({"shape": "gamma", "rate": "4/s", "cv": 1.5}, Gamma(4.0, 1.5), "gamma 4/s cv 1.5"),
        ({"shape": "gamma", "rate": "4/s", "cv": 2}, Gamma(4.0, 2.0), "gamma 4/s cv 2"),
        ({"shape": "ramp", "from_": "1/s", "to": "10/s"}, Ramp(1.0, 10.0), "ramp 1/s to 10/s"),
        ({"shape": "burst", "size": 50, "every": "30s"}, Burst(50, 30 * SECOND), "burst 50 every 30s"),
        ({"shape": "trace", "path": "a/x.csv"}, Trace("a/x.csv", b"", b"", b""), "trace a/x.csv"),
        ({"shape": "sessions", "turns": 4, "rate": "1/s"}, Sessions(1.0, 4), "sessions 1/s of 4 turns"),
        (
            {"shape": "sessions", "turns": 4, "rate": "1/s", "think": "2s"},
            Sessions(1.0, 4, 2 * SECOND),
            "sessions 1/s of 4 turns think 2s",
        ),
        ({"shape": "tool_loop", "rate": "1/s"}, ToolLoop(1.0, 8, True), "tool_loop 1/s parallel"),
        (
            {"shape": "tool_loop", "rate": "1/s", "execution": "sequential", "max_rounds": 3},
            ToolLoop(1.0, 3, False),
            "tool_loop 1/s sequential",
        ),
    ],
)
def test_shapes(entry: dict[str, Any], shape: Shape, words: str) -> None:
    (step,) = steps(**entry, duration="60s")
    warmup_ns = 0 if entry["shape"] == "trace" else 10 * SECOND
    assert step == Step(shape, None, MINUTE, warmup_ns)
    assert step.words == words
    assert steps(**entry, duration="60s", requests=9, warmup="1s") == [Step(shape, 9, MINUTE, SECOND)]
    if entry["shape"] != "closed":
        assert steps(**entry, duration="60s", warmup="0s", max_in_flight=7) == [Step(shape, None, MINUTE, 0, 7)]


def test_a_trace_ends_by_itself() -> None:
    assert steps(shape="trace", path="x.csv") == [Step(Trace("x.csv", b"", b"", b""))]


@pytest.mark.parametrize(
    ("entry", "key", "message"),
    [
        (
            {"shape": "poisson", "rate": "1/s", "concurrency": 1, "requests": 1},
            "concurrency",
            "poisson does not have it; its keys are: rate, duration, requests, warmup, max_in_flight",
        ),
        (
            {"shape": "closed", "concurrency": 1, "rate": "4/s", "requests": 1},
            "rate",
            "closed does not have it; its keys are: concurrency, duration, requests, warmup, think",
        ),
        ({"shape": "closed", "concurrency": 1, "requests": 1, "max_in_flight": 5}, "max_in_flight", "closed does not"),
        ({"shape": "closed", "concurrency": 1, "requests": 1, "from_": "1/s"}, "from", "closed does not have it"),
        ({"shape": "burst", "size": 5, "every": "1s", "requests": 5, "sha256": "0" * 64}, "sha256", "burst does not"),
        ({"shape": "gamma", "rate": "4/s", "duration": "9s"}, "cv", "missing; add it: gamma needs rate, cv"),
        ({"shape": "poisson", "rate": None, "duration": "9s"}, "rate", "is empty; give it a value: poisson needs rate"),
        ({"shape": "ramp", "from_": "1/s", "to": "2/s", "requests": 5}, "duration", "ramp needs from, to, duration"),
        ({"shape": "burst", "size": 5, "requests": 5}, "every", "missing; add it: burst needs size, every"),
        ({"shape": "sessions", "rate": "1/s", "requests": 5}, "turns", "missing; add it"),
        ({"shape": "tool_loop", "requests": 5}, "rate", "missing; add it: tool_loop needs rate"),
        ({"shape": "tool_loop", "rate": "1/s", "requests": 5, "think": "1s"}, "think", "tool_loop does not have it"),
        (
            {"shape": "sessions", "rate": "1/s", "turns": 2, "requests": 5, "max_rounds": 2},
            "max_rounds",
            "sessions does",
        ),
        ({"shape": "tool_loop", "rate": "1/s", "requests": 5, "max_rounds": 0}, "max_rounds[0]", "must be"),
        ({"shape": "tool_loop", "rate": "1/s", "requests": 5, "execution": "serial"}, "execution[0]", "parallel or"),
        ({"shape": "trace"}, "path", "missing; add it: trace needs path"),
        ({"shape": "trace", "path": "x.csv", "sha256": "abc"}, "sha256", "64 hexadecimal digits"),
        ({"shape": "poisson", "rate": "4/s"}, "", "needs duration or requests"),
        ({"shape": "poisson", "rate": 4, "requests": 1}, "rate[0]", "a bare number; write 4/s"),
        ({"shape": "poisson", "rate": "0/s", "requests": 1}, "rate[0]", "must be more than 0"),
        ({"shape": "gamma", "rate": "4/s", "cv": 0, "requests": 1}, "cv[0]", "must be at least 0.01"),
        ({"shape": "gamma", "rate": "4/s", "cv": 11, "requests": 1}, "cv[0]", "must be at most 10"),
        ({"shape": "burst", "size": 1, "every": "0s", "requests": 1}, "every[0]", "must be longer than 0s"),
        ({"shape": ["constant", "closed"], "rate": "4/s", "requests": 1}, "rate", "closed does not have it"),
        ({"shape": ["poisson", "gamma"], "rate": "4/s", "requests": 1}, "cv", "missing; add it: gamma needs"),
        ({"shape": [None], "requests": 1}, "shape[0]", "is empty"),
        ({"shape": None, "requests": 1}, "shape", "is empty"),
    ],
)
def test_what_does_not_fit_its_shape(entry: dict[str, Any], key: str, message: str) -> None:
    assert message in problems(**entry)[key]


def test_shapes_that_fit_the_same_keys_may_share_an_entry() -> None:
    made = steps(rate=["1/s", "2/s"], shape=["constant", "poisson"], requests=5)
    assert [step.words for step in made] == ["constant 1/s", "poisson 1/s", "constant 2/s", "poisson 2/s"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"shape": "constant", "rate": "1000/s", "duration": "20001s", "warmup": "0s"}, "about 20,001,000 requests"),
        ({"shape": "constant", "rate": "1000/s", "duration": "19999s", "warmup": "2s"}, "about 20,001,000 requests"),
        ({"shape": "poisson", "rate": "1000/s", "duration": "20000s", "warmup": "0s"}, "about 20,026,833 requests"),
        ({"shape": "gamma", "rate": "1000/s", "cv": 10, "duration": "19999s", "warmup": "0s"}, "more than 20,000,000"),
        ({"shape": "poisson", "rate": "1000/s", "requests": 20_000_001}, "about 20,000,001 requests"),
        ({"shape": "ramp", "from_": "1/s", "to": "1000/s", "duration": "12h"}, "ramp 1/s to 1000/s: about 21,"),
        ({"shape": "burst", "size": 10_000_000, "every": "1h", "duration": "2h", "warmup": "1ms"}, "30,000,000"),
        ({"shape": "sessions", "turns": 10, "rate": "1/s", "requests": 2_000_001}, "about 20,000,010 requests"),
        ({"shape": "tool_loop", "rate": "1/s", "requests": 2_500_001}, "about 20,000,008 requests"),
        ({"shape": "poisson", "rate": "1/h", "requests": 9000}, "would take longer than 8760h"),
        ({"shape": "burst", "size": 1, "every": "24h", "requests": 367}, "would take longer than 8760h"),
    ],
)
def test_what_cannot_be_planned(entry: dict[str, Any], message: str) -> None:
    found = problems(**entry)
    assert list(found) == [""]
    assert message in found[""]


@pytest.mark.parametrize(
    "entry",
    [
        {"shape": "constant", "rate": "1000/s", "duration": "20000s", "warmup": "0s"},
        {"shape": "poisson", "rate": "1000/s", "duration": "8760h", "requests": 5},
        {"shape": "ramp", "from_": "1/s", "to": "1000/s", "duration": "11h", "warmup": "0s"},
        {"shape": "burst", "size": 10_000_000, "every": "1h", "duration": "2h", "warmup": "0s"},
        {"shape": "closed", "concurrency": 1, "duration": "8760h"},
    ],
)
def test_what_just_can(entry: dict[str, Any]) -> None:
    assert len(steps(**entry)) == 1


rates = st.floats(0.001, 1000.0)
durations = st.integers(1, 10**12)
shapes = st.one_of(
    st.builds(Closed, st.integers(1, 99), durations),
    st.builds(Constant, rates),
    st.builds(Poisson, rates),
    st.builds(Gamma, rates, st.floats(0.01, 3.0)),
    st.builds(Ramp, rates, rates),
    st.builds(Burst, st.integers(1, 99), st.integers(10**8, 10**12)),
    st.builds(Sessions, rates, st.integers(1, 9), durations),
    st.builds(Trace, st.sampled_from(["a.csv", "b/c.jsonl"]), st.just(b""), st.just(b""), st.just(b"")),
)
plans = st.builds(Step, shapes, st.none() | st.integers(1, 10**5), durations, durations, st.none() | st.integers(1, 99))


@settings(deadline=None)
@given(plans)
def test_a_step_is_read_back_as_it_was(step: Step) -> None:
    if not step.open:
        step = Step(step.shape, step.requests, step.duration_ns, step.warmup_ns)
    entry = written(step)
    assert LoadEntry.model_validate(entry).steps() == [step]
    assert set(entry) <= set(keys_of(LoadEntry))


def test_the_limit_is_that_of_the_plan() -> None:
    assert MOST_ARRIVALS == MAX_ARRIVALS


@pytest.mark.parametrize(
    ("seconds", "warmup"),
    [(9, 3), (30, 10), (60, 10), (100, 10), (600, 60)],
)
def test_the_warm_up_is_ten_seconds_or_a_tenth_but_at_most_a_third(seconds: int, warmup: int) -> None:
    assert default_warmup_ns(None, seconds * SECOND) == warmup * SECOND


def test_a_step_that_counts_requests_has_no_warm_up_unless_it_says_so() -> None:
    assert default_warmup_ns(100, None) == 0
    assert default_warmup_ns(100, 60 * SECOND) == 0
    entry = LoadEntry.model_validate({"shape": "closed", "concurrency": 1, "requests": 5, "warmup": "2s"})
    assert entry.steps() == [Step(Closed(1), 5, None, 2 * SECOND)]


def test_lists_make_steps_and_the_first_written_varies_slowest() -> None:
    written = {"shape": "closed", "think": ["0s", "1s"], "concurrency": [1, 4], "duration": "30s", "requests": None}
    made = LoadEntry.model_validate(written).steps()
    assert [step.shape for step in made] == [Closed(1), Closed(4), Closed(1, SECOND), Closed(4, SECOND)]
    assert {(step.duration_ns, step.requests, step.warmup_ns) for step in made} == {(30 * SECOND, None, 10 * SECOND)}


@settings(deadline=None)
@given(st.lists(st.integers(1, 99), min_size=1, max_size=4), st.lists(st.integers(1, 99), min_size=1, max_size=4))
def test_the_product_is_complete(concurrency: list[int], requests: list[int]) -> None:
    made = LoadEntry.model_validate({"requests": requests, "shape": "closed", "concurrency": concurrency}).steps()
    assert [(step.requests, step.concurrency) for step in made] == [(r, c) for r in requests for c in concurrency]
