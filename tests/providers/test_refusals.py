"""The table of refusals, with bodies as providers send them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.model.answer import Refusal
from latbench.model.sample import Outcome
from latbench.providers.refusals import (
    capped,
    duration_ns,
    error_words,
    refusal_of_event,
    refusal_of_status,
    wait_ns,
)

S = 1_000_000_000
MS = 1_000_000


def refused(status: int, body: object, headers: dict[str, str] | None = None) -> Refusal:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return refusal_of_status(status, headers or {}, raw)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (301, "http_error"),
        (400, "invalid_request"),
        (401, "auth_error"),
        (402, "quota_exhausted"),
        (403, "auth_error"),
        (404, "invalid_request"),
        (408, "http_error"),
        (413, "invalid_request"),
        (422, "invalid_request"),
        (429, "rate_limited"),
        (500, "http_error"),
        (502, "http_error"),
        (503, "overloaded"),
        (504, "http_error"),
        (529, "overloaded"),
    ],
)
def test_statuses(status: int, outcome: str) -> None:
    refusal = refused(status, b"")
    assert refusal.outcome == outcome
    assert type(refusal.outcome) is str
    assert (refusal.kind, refusal.code, refusal.message) == ("unknown" if status == 429 else None, None, None)


TPM = "Rate limit reached for m on tokens per min (TPM): Limit 50000, Used 47949, Requested 3006."
AZURE = "Requests to the Operation have exceeded {} of your current pricing tier. Please retry after {} seconds."
TOO_LARGE = "Request too large for m on tokens per min (TPM): Limit 30000, Requested 37313."
GEMINI = "You exceeded your current quota, please check your plan and billing details.\nPlease retry in 58.821668433s."


@pytest.mark.parametrize(
    ("error", "outcome", "kind", "wait"),
    [
        ({"type": "requests", "code": "rate_limit_exceeded", "message": "…"}, "rate_limited", "requests", None),
        ({"type": "tokens", "message": f"{TPM} Please try again in 1.146s."}, "rate_limited", "tokens", 1146 * MS),
        ({"message": "on requests per min (RPM). Please try again in 120ms."}, "rate_limited", "requests", 120 * MS),
        ({"type": "requests", "message": "requests per day (RPD): Limit 200"}, "rate_limited", "daily", None),
        ({"message": "tokens per day (TPD). Try again in 114h18m0s."}, "rate_limited", "daily", 411_480 * S),
        ({"type": "tokens", "message": TOO_LARGE}, "invalid_request", None, None),
        ({"code": "slow_down", "type": "rate_limit_error"}, "rate_limited", "ramp", None),
        ({"type": "insufficient_quota", "code": "insufficient_quota"}, "quota_exhausted", None, None),
        ({"code": "credit_balance_exhausted", "type": "insufficient_quota"}, "quota_exhausted", None, None),
        ({"code": "project_spend_limit_exceeded"}, "quota_exhausted", None, None),
        ({"type": "x", "details": {"error_code": "contract_spend_limit_reached"}}, "quota_exhausted", None, None),
        ({"type": "rate_limit_error", "details": {"error_code": "ramp_limit_exceeded"}}, "rate_limited", "ramp", None),
        ({"message": "your limit of 30,000 input tokens per minute (org: …)"}, "rate_limited", "input_tokens", None),
        ({"message": "your limit of 8,000 output tokens per minute"}, "rate_limited", "output_tokens", None),
        ({"code": "429", "message": AZURE.format("token rate limit", 33)}, "rate_limited", "tokens", 33 * S),
        ({"code": "429", "message": AZURE.format("call rate limit", 2)}, "rate_limited", "requests", 2 * S),
        ({"code": "429", "message": AZURE.format("token rate limit", 86400)}, "rate_limited", "daily", 86400 * S),
        ({"message": "Rate limit is exceeded. Try again in 2 seconds."}, "rate_limited", "unknown", 2 * S),
        ({"message": "Rate limit exceeded: free-models-per-day. Add credits"}, "rate_limited", "daily", None),
        ({"message": "Too many concurrent requests"}, "rate_limited", "concurrency", None),
        ({"message": "Too many tokens, please wait before trying again."}, "rate_limited", "tokens", None),
        ({"message": GEMINI}, "rate_limited", "unknown", 58_821_668_433),
    ],
)  # fmt: skip
def test_a_429_is_told_apart_by_its_words(error: object, outcome: str, kind: str | None, wait: int | None) -> None:
    refusal = refused(429, {"error": error})
    assert (refusal.outcome, refusal.kind, refusal.wait_ns) == (outcome, kind, wait)


def test_a_429_is_told_apart_by_headers_where_one_limit_is_spent() -> None:
    left = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-remaining-tokens": "17"}
    assert refused(429, b"", left).kind == "requests"
    assert refused(429, b"", {**left, "x-ratelimit-remaining-requests": "3"}).kind == "unknown"
    assert refused(429, b"", {"x-ratelimit-remaining-tokens": "0"}).kind == "tokens"
    assert refused(429, b"", {**left, "x-ratelimit-remaining-tokens": "0"}).kind == "unknown"


def test_bodies_of_other_shapes() -> None:
    tgi = refused(429, {"error": "Model is overloaded", "error_type": "overloaded"})
    assert (tgi.kind, tgi.code, tgi.message) == ("concurrency", "overloaded", "Model is overloaded")
    mistral = refused(422, {"object": "error", "message": "bad", "type": "invalid_request_error", "code": "3051"})
    assert (mistral.code, mistral.message) == ("3051", "bad")
    fastapi = refused(422, {"detail": [{"loc": ["body", "x"], "msg": "Extra inputs"}]})
    assert fastapi.message == '[{"loc":["body","x"],"msg":"Extra inputs"}]'
    assert refused(502, b"<html>\n <b>Bad\tGateway\xff</b>").message == "<html> <b>Bad Gateway\ufffd</b>"
    assert refused(500, {"error": None}).message is None
    assert refused(500, [1, 2]).message == "[1,2]"
    assert refused(400, {"error": {"code": 400, "message": "no"}}).code == "400"
    assert refused(400, {"error": {"code": None, "type": "invalid_request_error"}}).code == "invalid_request_error"


def test_words_are_capped_and_on_one_line() -> None:
    refusal = refused(500, {"error": {"code": "c" * 999, "message": "line\n" * 999}})
    assert refusal.code == "c" * 300
    assert refusal.message is not None
    assert refusal.message.startswith("line line ")
    assert len(refusal.message) <= 300
    assert capped(True) is None
    assert capped(" \n ") is None
    assert capped(1.5) == "1.5"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12ms", 12 * MS),
        ("1s", S),
        ("1.146s", 1146 * MS),
        ("6m0s", 360 * S),
        ("1m30s", 90 * S),
        ("2m59.56s", 179_560 * MS),
        ("114h18m0s", 411_480 * S),
        ("1h1m1s1ms", 3661 * S + MS),
        ("250us", 250_000),
        ("5µs", 5_000),
        ("0s", 0),
        ("", None),
        ("1", None),
        ("s", None),
        ("1 s", None),
        ("1s ", None),
        ("1d", None),
        ("-1s", None),
        ("999999999999h", None),
        ("9" * 400 + "s", None),
    ],
)
def test_durations(text: str, expected: int | None) -> None:
    assert duration_ns(text) == expected


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_durations_add_up(hours: int, minutes: int, seconds: int, ms: int) -> None:
    expected = ((hours * 60 + minutes) * 60 + seconds) * S + ms * MS
    assert duration_ns(f"{hours}h{minutes}m{seconds}s{ms}ms") == expected
    assert duration_ns(f"{hours}h{minutes}m{seconds}.{ms:03d}s") == pytest.approx(expected, abs=1000)


@pytest.mark.parametrize(
    ("headers", "message", "expected"),
    [
        ({"retry-after-ms": "120", "retry-after": "5"}, None, 120 * MS),
        ({"retry-after-ms": "soon", "retry-after": " 5 "}, None, 5 * S),
        ({"retry-after": "0.5"}, "try again in 9s", S // 2),
        ({"retry-after": "0"}, None, 0),
        ({"llm_provider-retry-after": "7"}, None, 7 * S),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None, None),
        ({"retry-after": "-1"}, "Please try again in 20S.", 20 * S),
        ({"retry-after": "9" * 12}, None, None),
        ({"retry-after": "٣"}, None, None),
        ({}, "Retry in 1 minute", 60 * S),
        ({}, "retry after 250 milliseconds or so", 250 * MS),
        ({}, "try again in 2 hours", 7200 * S),
        ({}, "Please retry in 10h17m5.72s.", 37_025_720 * MS),
        ({}, "try again in 5 parsecs", None),
        ({}, "try again in 5sec", None),
        ({}, "try again later", None),
        ({}, "try again in 5 \u017fecond", None),
        ({}, "try again in 5\u017f", None),
        ({"x-ratelimit-reset-tokens": "6m0s"}, "", None),
    ],
)
def test_waits(headers: dict[str, str], message: str | None, expected: int | None) -> None:
    assert wait_ns(headers, message) == expected


def test_the_wait_is_kept_with_every_status() -> None:
    assert refused(503, b"", {"retry-after": "2"}).wait_ns == 2 * S
    assert refused(402, b"", {"retry-after": "3"}).wait_ns == 3 * S


@given(
    st.integers(300, 599), st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms"]), st.text()), st.binary()
)
def test_anything_is_classified(status: int, headers: dict[str, str], body: bytes) -> None:
    refusal = refusal_of_status(status, headers, body)
    assert Outcome(refusal.outcome)
    assert (refusal.kind is not None) == (refusal.outcome == "rate_limited")
    assert refusal.wait_ns is None or 0 <= refusal.wait_ns < 2**63


def test_events_without_words() -> None:
    assert refusal_of_event({}) == Refusal("stream_error")
    assert error_words({"msg": 5}).message == "5"
