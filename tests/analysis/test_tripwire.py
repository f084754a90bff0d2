"""What cannot be met any more, against what is judged in the end."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from latbench.analysis import stats
from latbench.analysis.tripwire import OutOfReach, Tripwire
from latbench.model.load import Closed, Poisson, Sessions, Step, ToolLoop
from latbench.model.sample import Attempt, Sample
from latbench.scenario.thresholds import parse

MS = 1_000_000
TASKS = {"g": "generation", "r": "review"}
BY_REQUESTS = Step(Closed(4), requests=100)


def sample(seq: int, outcome: str = "ok", ttft_ms: float = 1, **fields: Any) -> Sample:
    known: dict[str, Any] = {"endpoint": "a", "step": 0, "prompt_id": "g", "phase": "measure"}
    times = {"sent_ns": 0, "first_token_ns": int(ttft_ms * MS), "last_token_ns": int(ttft_ms * MS)}
    return Sample(seq=seq, outcome=outcome, **(known | (times if outcome == "ok" else {}) | fields))


def wire(*texts: str, step: Step = BY_REQUESTS) -> Tripwire:
    return Tripwire([parse(text) for text in texts], ["a", "b"], [step, step], TASKS)


def tripped_at(wired: Tripwire, samples: list[Sample]) -> int | None:
    """Which sample, counted from 1, is one too many."""
    return next((at for at, one in enumerate(samples, 1) if wired.add(one)), None)


def slow(number: int) -> list[Sample]:
    return [sample(seq, ttft_ms=900) for seq in range(number)]


def test_one_too_many() -> None:
    assert tripped_at(wire("ttft p95 < 800ms"), slow(100)) == 6, "of 100, 5 may be over p95"
    assert tripped_at(wire("ttft p50 < 800ms"), slow(100)) == 51
    assert tripped_at(wire("ttft p999 < 800ms"), slow(100)) == 1
    assert tripped_at(wire("ttft p95 < 901ms"), slow(100)) is None
    assert tripped_at(wire("ttft p5 > 901ms"), slow(100)) == 5
    refused = [sample(seq, "rate_limited") for seq in range(9)]
    assert tripped_at(wire("rate_limited == 0"), refused) == 1
    assert tripped_at(wire("rate_limited <= 3"), refused) == 4
    assert tripped_at(wire("errors < 3"), refused) == 3
    assert tripped_at(wire("error_rate < 2%"), refused) == 2
    assert tripped_at(wire("error_rate <= 2%"), refused) == 3
    assert tripped_at(wire("rate_limited <= 5%"), refused) == 6
    assert tripped_at(wire("timeout == 0", "ok > 3", "empty == 0", "rate_limited > 2"), refused) is None


def test_it_says_so_once_and_why() -> None:
    wired = wire("ttft p95 < 800ms", "errors == 0")
    found = [one for each in slow(20) for one in wired.add(each)]
    why = "cannot be met any more: 6 of 100 planned requests are against it, at most 5 may be"
    assert found == [OutOfReach("ttft p95 < 800ms", "a", 0, why)]
    (errors,) = wired.add(sample(30, "stalled"))
    assert errors.why == "cannot be met any more: 1 are against it, at most 0 may be"


def test_what_is_told_twice_counts_once() -> None:
    wired = wire("errors <= 1")
    assert not any(wired.add(sample(7, "truncated")) for _ in range(5))
    assert wired.add(sample(8, "truncated"))


def test_attempts_are_refusals_too() -> None:
    again = Attempt(0, 0, 1, "rate_limited", 429)
    served = sample(0, tries=[again, Attempt(0, 2, 3, "overloaded", 503)])
    assert wire("rate_limited == 0").add(served)
    assert not wire("rate_limited == 1").add(served)
    assert not wire("rate_limited < 1%").add(served), "as a share, what became of the request counts"


def test_what_does_not_count() -> None:
    wired = wire("errors == 0", "ttft p999 < 1ms")
    for one in (
        sample(0, "stalled", phase="warmup"),
        sample(1, "lost"),
        sample(2, "cancelled"),
        sample(3, "dropped"),
        sample(4, first_token_ns=None),
        sample(5, "stalled", step=2),
        sample(6, "stalled", endpoint="c"),
    ):
        assert wired.add(one) == []


def test_only_where_it_holds() -> None:
    wired = wire("[b, task=review, step=1] errors == 0")
    review = {"prompt_id": "r", "endpoint": "b", "step": 1}
    for wrong in ({"prompt_id": "g"}, {"endpoint": "a"}, {"step": 0}):
        assert not wired.add(sample(0, "stalled", **(review | wrong)))
    assert wired.add(sample(1, "stalled", **review))


def test_without_a_number_of_requests_only_counts_are_known() -> None:
    open_ended = Step(Poisson(4.0), duration_ns=60_000 * MS)
    assert tripped_at(wire("ttft p95 < 800ms", "error_rate < 1%", step=open_ended), slow(500)) is None
    assert tripped_at(wire("errors == 0", step=open_ended), [sample(0, "stalled")]) == 1
    conversations = Step(Sessions(1.0, 4), requests=25)
    assert tripped_at(wire("ttft p95 < 800ms", step=conversations), slow(100)) == 6
    loops = Step(ToolLoop(1.0, 4), requests=25)
    assert tripped_at(wire("ttft p95 < 800ms", step=loops), slow(100)) == 6


@given(
    values=st.lists(st.sampled_from([1.0, 700.0, 900.0, None]), min_size=1, max_size=120),
    name=st.sampled_from(list(stats.PERCENTILES)),
    op=st.sampled_from(["<", "<=", ">", ">="]),
)
def test_whoever_trips_does_not_meet_it_in_the_end(values: list[float | None], name: str, op: str) -> None:
    """And whoever does not meet it with every planned request answered has tripped."""
    text = f"ttft {name} {op} 700ms"
    wired = Tripwire([parse(text)], ["a"], [Step(Closed(1), requests=len(values))], TASKS)
    samples = [
        sample(seq, "stalled") if value is None else sample(seq, ttft_ms=value) for seq, value in enumerate(values)
    ]
    tripped = tripped_at(wired, samples) is not None
    answered = np.sort([value for value in values if value is not None])
    final = stats.percentile(answered, stats.PERCENTILES[name])
    met = final is not None and parse(text).met(final)
    assert not (tripped and met)
    if len(answered) == len(values):
        assert tripped == (not met)
