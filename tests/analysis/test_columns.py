"""What is not seen through `summarise`: tokens inside the window, and gaps in histograms."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.analysis.columns import MAX_ERRORS, MESSAGE_CHARS, Layout, gather
from latbench.analysis.limits import Demand, hits, rate_limits
from latbench.metrics.histogram import Histogram
from latbench.model.sample import Attempt, Outcome, Sample, encode_gaps

S = 1_000_000_000
MS = 1_000_000


def sample(arrivals_s: list[float], **fields: object) -> Sample:
    stamps = np.array([int(at * S) for at in arrivals_s], dtype=np.int64)
    known: dict[str, Any] = {
        "first_token_ns": int(stamps[0]) if len(stamps) else None,
        "last_token_ns": int(stamps[-1]) if len(stamps) else None,
        "done_ns": int(stamps[-1]) if len(stamps) else None,
        "chunks": len(stamps),
        "gaps": encode_gaps(stamps),
    }
    return Sample("e", 0, 0, "p", "measure", **({"outcome": "ok"} | known | fields))


def inside(one: Sample, window_s: tuple[int, int] = (10, 20)) -> float:
    columns = gather([one], Layout(windows={("e", 0): (window_s[0] * S, window_s[1] * S)}))
    return float(columns.arrived_tokens[0])


def test_tokens_are_spread_over_the_chunks() -> None:
    assert inside(sample([9, 10, 19, 20], output_tokens=100)) == 50
    assert inside(sample([8, 9, 12, 13, 14], output_tokens=None)) == 0, "a chunk is not a token"
    assert inside(sample([11, 12], output_tokens=30)) == 30


@pytest.mark.parametrize("arrivals", [[1, 2], [20, 21], [9], [20]])
def test_what_arrived_outside_does_not_count(arrivals: list[float]) -> None:
    assert inside(sample(arrivals, output_tokens=30)) == 0


def test_a_plain_answer_arrives_at_its_end() -> None:
    plain = {"first_token_ns": None, "chunks": 0, "gaps": b"", "output_tokens": 8}
    assert inside(sample([15], **plain)) == 8
    assert inside(sample([25], **plain)) == 0
    assert inside(sample([15], **plain | {"last_token_ns": None})) == 8


def test_nothing_arrived_of_a_request_that_was_never_sent() -> None:
    assert inside(sample([])) == 0
    assert inside(sample([], output_tokens=5)) == 0


@given(st.lists(st.floats(0, 30), min_size=1, max_size=20), st.integers(0, 30), st.integers(0, 30))
def test_shares_of_neighbouring_windows_add_up(arrivals: list[float], one: int, other: int) -> None:
    low, high = sorted((one, other))
    answer = sample(sorted(arrivals), output_tokens=60)
    parts = [inside(answer, window) for window in ((0, low), (low, high), (high, 31))]
    assert sum(parts) == pytest.approx(60)


def test_gaps_are_pooled_by_group_whether_flushed_or_not() -> None:
    rng = np.random.default_rng(5)
    everything, samples = Histogram(), []
    for number in range(40):
        stamps = np.cumsum(rng.integers(1, 50_000_000, 2_001))
        samples.append(
            Sample("e", 0, number, "p" if number else "q", "measure", "ok", chunks=2_001, gaps=encode_gaps(stamps))
        )
        everything.record(np.diff(stamps))
    columns = gather(samples, Layout(groups={"p": 1, "q": 2}))
    pooled = columns.pooled_gaps(0, 0, [0, 1, 2])
    assert pooled.n == 80_000
    assert pooled.counts.tolist() == everything.counts.tolist()
    assert columns.pooled_gaps(0, 0, [2]).n == 2_000
    assert columns.pooled_gaps(0, 1, [1]).n == 0


@pytest.mark.parametrize(("phase", "outcome"), [("warmup", "ok"), ("measure", "truncated")])
def test_gaps_of_warmup_and_of_failures_are_left_out(phase: str, outcome: str) -> None:
    stamps = np.array([0, 5, 9])
    one = Sample("e", 0, 0, "p", phase, outcome, chunks=3, gaps=encode_gaps(stamps))
    assert gather([one], Layout()).pooled_gaps(0, 0, [0]).n == 0


def test_gaps_of_both_widths_and_of_turns_are_pooled() -> None:
    short, long = np.array([0, 7 * MS, 9 * MS]), np.array([0, 5 * S])
    samples = [
        Sample("e", 0, seq, "p", "measure", "ok", chunks=len(stamps), gaps=encode_gaps(stamps))
        for seq, stamps in enumerate((short, long, long, short))
    ]
    columns = gather(samples, Layout(turns={0: 2}))
    assert columns.pooled_gaps(0, 0, [0]).n == 6
    assert [columns.gaps_of_turn(0, 0, turn).n for turn in (0, 1, 2)] == [3, 3, 0]
    assert columns.gaps_of_turn(0, 0, 1).max_ns == 5 * S
    assert gather(samples, Layout()).gaps_of_turn(0, 0, 0).n == 0


def test_gaps_of_output_modes_are_pooled_where_the_run_compares_them() -> None:
    stamps = np.array([0, 7 * MS, 9 * MS])
    samples = [
        Sample("e", 0, seq, "p", "measure", "ok", chunks=3, gaps=encode_gaps(stamps * (1 + seq % 2)), output_mode=mode)
        for seq, mode in enumerate(("text", "tool", "text", "text"))
    ]
    columns = gather(samples, Layout(modes=True))
    numbers = columns.modes.numbers
    assert [columns.gaps_of_mode(0, 0, numbers[mode]).n for mode in ("text", "tool")] == [6, 2]
    assert columns.gaps_of_mode(0, 0, numbers["tool"]).max_ns == 14 * MS
    assert gather(samples, Layout()).gaps_of_mode(0, 0, 0).n == 0


def attempt(outcome: str, wait_ns: int | None) -> Attempt:
    return Attempt(0, 5, 9, outcome, kind="tokens" if outcome == "rate_limited" else None, wait_ns=wait_ns)


REQUESTS = st.builds(
    lambda seq, outcome, tries: Sample(
        "e", 0, seq, "p", "measure", outcome, sent_ns=50, tries=tries, wait_ns=seq, kind="requests"
    ),
    st.integers(0, 99),
    st.sampled_from(list(Outcome)),
    st.lists(
        st.builds(attempt, st.sampled_from(["rate_limited", "overloaded"]), st.none() | st.integers(0, 99)), max_size=2
    ),
)


@given(st.lists(REQUESTS, max_size=20), st.integers(0, 20))
def test_hits_and_waits_are_all_in_what_was_refused(samples: list[Sample], first: int) -> None:
    columns = gather(samples, Layout())
    rows = np.arange(min(first, len(samples)), len(samples))
    refused = columns.refused(rows)
    assert hits(columns.attempts(refused)) == hits(columns.attempts(rows))
    wanted = [row for row in rows.tolist() if samples[row].tries or samples[row].outcome == "rate_limited"]
    assert refused.tolist() == wanted, "what was never refused costs nothing"


@pytest.mark.parametrize(
    ("fields", "loud"),
    [
        ({}, False),
        ({"outcome": "overloaded"}, False),
        ({"outcome": "rate_limited"}, True),
        ({"tries": [attempt("rate_limited", None)]}, True),
        ({"headroom": {"requests": (9, 8, None)}}, True),
        ({"key_index": 1}, True),
    ],
)
def test_a_run_that_met_no_limit_has_no_attempts_to_look_at(fields: dict[str, Any], loud: bool) -> None:
    rows = np.arange(3)
    columns = gather([sample([1]), sample([2]), sample([3], **{"sent_ns": 5} | fields)], Layout())
    assert columns.on_limits(rows).tolist() == (rows.tolist() if loud else [])
    assert columns.on_limits(rows[:0]).tolist() == []
    if not loud:
        nothing = rate_limits(columns.attempts(rows[:0]), demand=Demand(60.0))
        assert rate_limits(columns.attempts(rows), demand=Demand(60.0)) == nothing


@pytest.mark.parametrize(("place", "kept"), [(126, 126), (127, 127), (128, 127), (10**9, 127)])
def test_a_key_far_back_is_counted_with_the_last_that_fits(place: int, kept: int) -> None:
    refused = Attempt(place, 5, 9, "rate_limited", kind="tokens")
    columns = gather([sample([1], sent_ns=50, key_index=place, tries=[refused])], Layout())
    assert columns.attempts(np.arange(1)).key.tolist() == [kept, kept]


def test_lateness_is_known_of_what_was_sent_once_in_an_open_loop() -> None:
    in_time = sample([1], due_ns=3 * MS, sent_ns=5 * MS)
    again = sample([1], due_ns=3 * MS, sent_ns=90 * MS, reconnects=1)
    never = sample([], due_ns=3 * MS)
    late = gather([in_time, again, never], Layout(open_steps={0})).late_ns
    assert late[0] == 2 * MS
    assert np.isnan(late[1:]).all()
    assert np.isnan(gather([in_time], Layout()).late_ns).all()


def test_only_what_an_endpoint_may_have_said_is_kept_as_its_error() -> None:
    outcomes = [("dropped", None), ("lost", None), ("cancelled", "too late"), ("timeout", None)]
    samples = [Sample("e", 0, 0, "p", "measure", outcome, error_message=said) for outcome, said in outcomes]
    assert set(gather(samples, Layout()).errors[0, 0]) == {("cancelled", None, "too late"), ("timeout", None, "")}


def test_a_server_that_invents_messages_does_not_fill_the_memory() -> None:
    said = ["x" * (number % 32) + "y" * (number // 32) for number in range(MAX_ERRORS + 50)]
    samples = [Sample("e", 0, 0, "p", "measure", "timeout", error_message=text) for text in (*said, said[0])]
    errors = gather(samples, Layout()).errors[0, 0]
    assert len(errors) == MAX_ERRORS
    assert errors["timeout", None, said[0]] == 2


def test_messages_that_differ_in_numbers_only_are_one_failure() -> None:
    said = ["Try again in 77ms.", "Try again in 1.250ms.", "Try again later.", "Try again in 8ms."]
    samples = [
        Sample(name, step, 0, "p", "measure", "rate_limited", status=429, error_message=text)
        for name in ("e", "f")
        for step in (0, 1)
        for text in said[name == "f" :]
    ]
    found = gather(samples, Layout()).errors
    first, second = (
        {("rate_limited", 429, shown): 3 - at, ("rate_limited", 429, said[2]): 1} for at, shown in enumerate(said[:2])
    )
    assert found == {(0, 0): first, (0, 1): first, (1, 0): second, (1, 1): second}


def test_what_was_said_in_the_warm_up_is_apart_and_does_not_change_what_is_measured() -> None:
    warm, measured = (
        [
            Sample("e", 0, 0, "p", phase, "rate_limited", status=429, error_message=f"Try again in {ms}ms.")
            for ms in (first, 9, 9)
        ]
        for phase, first in (("warmup", 77), ("measure", 8))
    )
    quiet = Sample("e", 0, 0, "p", "warmup", "lost")
    found = gather([*warm, quiet, *measured], Layout())
    assert found.warmup_errors == {(0, 0): {("rate_limited", 429, "Try again in 77ms."): 3}}
    assert found.errors == {(0, 0): {("rate_limited", 429, "Try again in 8ms."): 3}}
    assert found.errors == gather(measured, Layout()).errors


def test_long_numbers_do_not_tell_long_messages_apart() -> None:
    said = [f"in {number} ms: {'word ' * 50}" for number in (7, 123456789)]
    samples = [Sample("e", 0, 0, "p", "measure", "timeout", error_message=text) for text in said]
    assert gather(samples, Layout()).errors[0, 0] == {("timeout", None, said[0][:MESSAGE_CHARS]): 2}
