"""When an endpoint is given up, and what never makes that happen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.model.sample import Outcome, Sample
from latbench.plan.guards import EndpointGuard

MS = 1_000_000
NOT_COUNTED = ("rate_limited", "dropped", "cancelled")
FAILURES = sorted(set(Outcome) - {"ok", *NOT_COUNTED})


def ended(
    outcome: str, status: int | None, done_ns: int, code: str | None = None, message: str | None = None
) -> Sample:
    sample = Sample("e", 0, 0, "p", "measure", outcome, done_ns=done_ns, status=status)
    sample.error_code, sample.error_message = code, message
    return sample


def feed(guard: EndpointGuard, *all_ended: tuple[str, int | None], every_ns: int = MS) -> list[str | None]:
    return [guard.add(ended(outcome, status, number * every_ns)) for number, (outcome, status) in enumerate(all_ended)]


@pytest.fixture(params=[True, False], ids=["abort", "no-abort"])
def guard(request: pytest.FixtureRequest) -> EndpointGuard:
    return EndpointGuard(abort_on_errors=request.param)


@pytest.mark.parametrize(
    ("outcome", "status", "words"),
    [
        ("auth_error", 401, "credentials refused (HTTP 401) 3 times in a row"),
        ("auth_error", 403, "credentials refused (HTTP 403) 3 times in a row"),
        ("quota_exhausted", 402, "payment required or quota used up (HTTP 402) 3 times in a row"),
        ("quota_exhausted", 429, "payment required or quota used up (HTTP 429) 3 times in a row"),
        ("invalid_request", 404, "model or path unknown (HTTP 404) 3 times in a row"),
    ],
)
def test_three_refusals_in_a_row_stop(guard: EndpointGuard, outcome: str, status: int, words: str) -> None:
    assert feed(guard, *[(outcome, status)] * 3) == [None, None, words]


@pytest.mark.parametrize("other", sorted(set(Outcome) - {"auth_error", "quota_exhausted", "cancelled"}))
def test_another_outcome_begins_the_row_again(other: str) -> None:
    guard = EndpointGuard(abort_on_errors=True)
    refused = ("auth_error", 401)
    assert feed(guard, refused, refused, (other, None), refused, refused) == [None] * 5
    assert guard.add(ended(*refused, 6 * MS)) is not None


def test_a_request_that_we_cancelled_does_not_begin_the_row_again(guard: EndpointGuard) -> None:
    refused = ("auth_error", 401)
    assert feed(guard, refused, ("cancelled", None), refused, ("cancelled", None), refused)[-1] is not None


NO_KEY = ("API_KEY_INVALID", "API key not valid. Please pass a valid API key.")
NO_MODEL = ("ValidationException", "The provided model identifier is invalid.")
TOO_LONG = ("context_length_exceeded", "This model's maximum context length is 8192 tokens.")


@pytest.mark.parametrize(
    ("status", "said", "words"),
    [
        (400, NO_KEY, "credentials refused (HTTP 400) 3 times in a row"),
        (400, NO_MODEL, "model unknown (HTTP 400) 3 times in a row"),
        (422, ("model_not_found", None), "model unknown (HTTP 422) 3 times in a row"),
        (404, ("model_not_found", None), "model or path unknown (HTTP 404) 3 times in a row"),
    ],
)
def test_words_for_a_wrong_key_or_model_stop(
    guard: EndpointGuard, status: int, said: tuple[str, str | None], words: str
) -> None:
    refused = [ended("invalid_request", status, number * MS, *said) for number in range(3)]
    assert [guard.add(one) for one in refused] == [None, None, words]


def test_the_last_of_the_row_gives_the_words(guard: EndpointGuard) -> None:
    row = [ended("auth_error", 401, 0), ended("invalid_request", 400, MS, *NO_KEY)]
    assert [guard.add(one) for one in row] == [None, None]
    assert guard.add(ended("invalid_request", 400, 2 * MS, *NO_MODEL)) == "model unknown (HTTP 400) 3 times in a row"


@pytest.mark.parametrize("said", [(None, None), TOO_LONG])
def test_an_invalid_request_is_not_hopeless(guard: EndpointGuard, said: tuple[str | None, str | None]) -> None:
    assert [guard.add(ended("invalid_request", 400, number * MS, *said)) for number in range(5)] == [None] * 5


def test_a_request_that_was_wrong_in_itself_begins_the_row_again(guard: EndpointGuard) -> None:
    no_key, too_long = ended("invalid_request", 400, 0, *NO_KEY), ended("invalid_request", 400, 0, *TOO_LONG)
    assert [guard.add(one) for one in (no_key, no_key, too_long, no_key, no_key)] == [None] * 5
    assert guard.add(no_key) is not None


@pytest.mark.parametrize("outcome", ["http_error", "overloaded", "stream_error", "rate_limited", "dropped"])
def test_such_words_count_in_no_other_outcome(guard: EndpointGuard, outcome: str) -> None:
    """An overloaded gateway says "model_not_found" as well: it knows the model and has nobody free who serves it."""
    for said in (NO_KEY, NO_MODEL, ("model_not_found", None)):
        assert [guard.add(ended(outcome, None, number * MS, *said)) for number in range(5)] == [None] * 5


@pytest.mark.parametrize("outcome", FAILURES)
def test_more_than_half_of_twenty_stop(outcome: str) -> None:
    status = 400 if outcome == "invalid_request" else None
    mixed = [("ok", 200) if number % 2 else (outcome, status) for number in range(19)] + [(outcome, status)]
    guard = EndpointGuard(abort_on_errors=True)
    assert feed(guard, *mixed) == [None] * 19 + ["11 of the last 20 requests failed within 10 s"]


def test_half_is_not_more_than_half() -> None:
    mixed = [("timeout", None), ("ok", 200)] * 30
    assert feed(EndpointGuard(abort_on_errors=True), *mixed)[1::2] == [None] * 30


def test_nineteen_are_too_few() -> None:
    assert feed(EndpointGuard(abort_on_errors=True), *[("timeout", None)] * 19) == [None] * 19


def test_only_the_last_ten_seconds_count() -> None:
    late = [("timeout", None)] * 200
    assert feed(EndpointGuard(abort_on_errors=True), *late, every_ns=530 * MS) == [None] * 200  # 20 in 10.07 s
    assert feed(EndpointGuard(abort_on_errors=True), *late, every_ns=500 * MS)[19] is not None  # 20 in 9.5 s


def test_old_failures_are_forgotten() -> None:
    guard = EndpointGuard(abort_on_errors=True)
    assert feed(guard, *[("timeout", None)] * 19) == [None] * 19
    assert guard.add(ended("timeout", None, 11_000 * MS)) is None


@pytest.mark.parametrize("outcome", NOT_COUNTED)
def test_what_does_not_count(outcome: str) -> None:
    guard = EndpointGuard(abort_on_errors=True)
    assert feed(guard, *[(outcome, 429)] * 100) == [None] * 100
    assert feed(guard, *[("ok", 200)] * 10, *[("timeout", None)] * 9) == [None] * 19


def test_no_abort_never_stops_on_the_error_share() -> None:
    assert feed(EndpointGuard(abort_on_errors=False), *[("timeout", None)] * 200) == [None] * 200


@given(st.lists(st.tuples(st.sampled_from(sorted(Outcome)), st.integers(0, 3000)), max_size=80))
def test_the_share_is_what_counting_gives(steps: list[tuple[str, int]]) -> None:
    guard = EndpointGuard(abort_on_errors=True)
    now, counted = 0, []
    for outcome, gap_ms in steps:
        now += gap_ms * MS
        reason = guard.add(ended(outcome, 500, now))
        if outcome not in NOT_COUNTED:
            counted.append((now, outcome))
        recent = [one for at, one in counted if at > now - 10_000 * MS]
        failed = sum(one != "ok" for one in recent)
        stops = (
            outcome not in ("rate_limited", "dropped", "cancelled") and len(recent) >= 20 and 2 * failed > len(recent)
        )
        if stops:
            assert reason is not None
        elif reason is not None:
            assert "in a row" in reason
