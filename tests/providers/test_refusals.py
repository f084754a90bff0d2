"""The table of refusals, with bodies as providers send them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.model.answer import Refusal
from latbench.model.sample import Outcome
from latbench.providers.moments import duration_ns
from latbench.providers.refusals import (
    capped,
    error_words,
    fault,
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
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, None, 30 * S),
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


DATE = {"date": "Wed, 21 Oct 2026 07:28:00 GMT"}
ANTHROPIC = "anthropic-ratelimit-{}-{}"


def anthropic(**remaining: str) -> dict[str, str]:
    """Headers of a 429 at 07:28:00; each limit is back after 30 s more than the one before."""
    found = dict(DATE)
    for place, (limit, left) in enumerate(remaining.items()):
        name = limit.replace("_", "-")
        found |= {
            ANTHROPIC.format(name, "limit"): "50000",
            ANTHROPIC.format(name, "remaining"): left,
            ANTHROPIC.format(name, "reset"): f"2026-10-21T07:{28 + place // 2}:{30 * (place % 2):02d}Z",
        }
    return found


LIMITED = {"type": "error", "error": {"type": "rate_limit_error", "message": "exceeds your rate limit"}}


@pytest.mark.parametrize(
    ("remaining", "kind", "wait"),
    [
        ({"requests": "5", "input_tokens": "0"}, "input_tokens", 30 * S),
        ({"requests": "5", "output_tokens": "0"}, "output_tokens", 30 * S),
        ({"output_tokens": "7", "requests": "0"}, "requests", 30 * S),
        ({"requests": "1", "tokens": "0"}, "tokens", 30 * S),
        ({"requests": "1", "tokens": "0", "input_tokens": "0"}, "input_tokens", 60 * S),
        ({"requests": "0", "tokens": "1", "input_tokens": "0"}, "unknown", 60 * S),
        ({"requests": "5", "tokens": "4"}, "unknown", None),
    ],
)
def test_anthropics_headers_say_which_limit_is_spent(remaining: dict[str, str], kind: str, wait: int | None) -> None:
    refusal = refused(429, LIMITED, anthropic(**remaining))
    assert (refusal.outcome, refusal.kind, refusal.wait_ns) == ("rate_limited", kind, wait)
    through_litellm = {
        name if name == "date" else f"llm_provider-{name}": v for name, v in anthropic(**remaining).items()
    }
    again = refused(429, LIMITED, through_litellm)
    assert (again.kind, again.wait_ns) == (kind, wait)


def test_a_wait_that_is_asked_for_goes_before_a_reset() -> None:
    headers = anthropic(requests="0", tokens="0")
    assert refused(429, LIMITED, {**headers, "retry-after": "7"}).wait_ns == 7 * S
    del headers["date"]
    assert refused(429, LIMITED, headers).wait_ns is None
    assert refused(529, b"", anthropic(requests="0", tokens="0")).wait_ns is None


@pytest.mark.parametrize(
    ("error", "outcome", "kind"),
    [
        ({"type": "rate_limit_error", "message": "of 50 requests per minute"}, "rate_limited", "requests"),
        ({"type": "rate_limit_error", "message": "Number of concurrent connections"}, "rate_limited", "concurrency"),
        ({"type": "rate_limit_error", "message": "due to acceleration limits"}, "rate_limited", "ramp"),
        ({"type": "x", "details": {"error_code": "enforced_spend_limit_reached"}}, "quota_exhausted", None),
        ({"type": "x", "details": {"error_code": "some_spend_limit_x"}}, "quota_exhausted", None),
        ({"type": "rate_limit_error", "details": {"error_code": 5}}, "rate_limited", "unknown"),
    ],
)  # fmt: skip
def test_anthropics_words(error: object, outcome: str, kind: str | None) -> None:
    refusal = refused(429, {"type": "error", "error": error, "request_id": "req_1"})
    assert (refusal.outcome, refusal.kind) == (outcome, kind)


def gemini(*violations: object, delay: object = "36s", message: str = "You exceeded your current quota") -> object:
    details = [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": list(violations)},
        {"@type": "type.googleapis.com/google.rpc.Help", "links": []},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
    ]
    return {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": message, "details": details}}


def quota(quota_id: str, metric: str = "generate_content_free_tier_requests", value: str = "20") -> dict[str, str]:
    return {"quotaId": f"{quota_id}-FreeTier", "quotaMetric": f"g.com/{metric}", "quotaValue": value}


RPM, RPD = "GenerateRequestsPerMinutePerProjectPerModel", "GenerateRequestsPerDayPerProjectPerModel"
ITPM = "GenerateContentInputTokensPerModelPerMinute"


@pytest.mark.parametrize(
    ("violations", "outcome", "kind"),
    [
        ([quota(RPM)], "rate_limited", "requests"),
        ([quota(RPD)], "rate_limited", "daily"),
        ([quota(RPM), quota(RPD)], "rate_limited", "daily"),
        ([quota(ITPM)], "rate_limited", "input_tokens"),
        ([quota("X", "generate_content_free_tier_input_token_count")], "rate_limited", "input_tokens"),
        ([quota("TokensPerMinute")], "rate_limited", "tokens"),
        ([quota(RPM), quota(ITPM)], "rate_limited", "unknown"),
        ([quota("Other")], "rate_limited", "unknown"),
        ([quota(RPM, value="0")], "quota_exhausted", None),
        (["no violation"], "rate_limited", "unknown"),
    ],
)
def test_geminis_quota_ids_are_trusted_before_its_delay(violations: list[object], outcome: str, kind: str) -> None:
    refusal = refused(429, gemini(*violations))
    assert (refusal.outcome, refusal.kind, refusal.wait_ns) == (outcome, kind, 36 * S)
    assert refused(429, [gemini(*violations)]) == refusal


def test_gemini_without_details() -> None:
    assert refused(429, gemini(delay="45.837906927s")).wait_ns == 45_837_906_927
    assert refused(429, gemini(delay="soon", message="Please retry in 58.821668433s.")).wait_ns == 58_821_668_433
    assert refused(429, gemini(delay=5)).wait_ns is None
    words = "* Quota exceeded for metric: g.com/generate_content_free_tier_requests, limit: {}, model: m"
    assert refused(429, gemini(message=words.format(0))).outcome == "quota_exhausted"
    assert refused(429, gemini(message=words.format(20))).outcome == "rate_limited"
    assert refused(429, gemini(message=words.format("0.5"))).outcome == "rate_limited"
    short = {"error": {"code": 429, "message": "Resource has been exhausted (e.g. check quota).", "details": ["?"]}}
    assert (refused(429, short).outcome, refused(429, short).kind) == ("rate_limited", "unknown")
    odd = {"error": {"code": 429, "status": 7, "details": [{"violations": {"quotaId": "PerDay"}}]}}
    assert refused(429, odd).kind == "unknown"
    assert refused(503, {"error": {"code": 503, "status": "UNAVAILABLE"}}).outcome == "overloaded"


def no_key(message: str, reason: object = "API_KEY_INVALID") -> dict[str, object]:
    details = [
        {"@type": "type.googleapis.com/google.rpc.LocalizedMessage", "locale": "en-US", "reason": "no reason"},
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"},
    ]
    return {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT", "details": details}}


NOT_VALID = "API key not valid. Please pass a valid API key."
NOT_FOUND = "API Key not found. Please pass a valid API key."
EXPIRED = "API key expired. Please renew the API key."
XAI = "Incorrect API key provided: na***ys. You can obtain an API key from https://console.x.ai."
PERPLEXITY = "Invalid model 'x'. Permitted models can be found in the documentation at https://docs.perplexity.ai/x."
LITELLM = "/chat/completions: Invalid model name passed in model=x. Call `/v1/models` to view available models."
VALIDATION = {"x-amzn-errortype": "ValidationException:http://internal.amazon.com/coral/"}


def test_googles_reason_says_more_than_its_status() -> None:
    refusal = refused(400, no_key(EXPIRED))
    assert (refusal.outcome, refusal.code, refusal.message) == ("invalid_request", "API_KEY_INVALID", EXPIRED)
    assert refused(400, [no_key(EXPIRED)]) == refusal
    assert refused(403, no_key("disabled", "SERVICE_DISABLED")).code == "SERVICE_DISABLED"
    for reason in (None, 5, True, "", " ", ["API_KEY_INVALID"], {"a": "API_KEY_INVALID"}):
        assert refused(400, no_key(EXPIRED, reason)).code == "400"


@pytest.mark.parametrize(
    ("status", "body", "wrong"),
    [
        (400, no_key(NOT_VALID), "key"),
        (400, [no_key(NOT_VALID)], "key"),
        (400, no_key("in other words"), "key"),
        *((400, no_key(message, None), "key") for message in (NOT_VALID, NOT_FOUND, EXPIRED)),
        (400, {"error": {"code": "invalid_api_key", "type": "invalid_request_error", "message": "no"}}, "key"),
        (400, {"code": "Client specified an invalid argument", "error": XAI}, "key"),
        (400, {"error": {"code": "model_not_found", "message": "The requested model 'x' does not exist."}}, "model"),
        (404, {"error": {"code": "model_not_found", "message": "no"}}, "model"),
        (404, {"error": {"code": "DeploymentNotFound", "message": "The API deployment does not exist."}}, "model"),
        (400, {"error": {"code": "model_decommissioned", "message": "no"}}, "model"),
        (400, {"error": {"code": "unknown_model", "message": "Unknown", "details": "Unknown model: x"}}, "model"),
        (400, {"error": {"code": 400, "message": "vendor/m-1:free is not a valid model ID"}, "user_id": "u"}, "model"),
        (400, {"error": {"code": "invalid_request_error", "message": "Model Not Exist", "param": None}}, "model"),
        (400, {"object": "error", "message": "Invalid model: x", "type": "invalid_model", "code": "1500"}, "model"),
        (400, {"object": "error", "message": "Invalid model: ", "type": "invalid_model", "code": "1500"}, "model"),
        (400, {"error": {"code": 400, "type": "invalid_model", "message": PERPLEXITY}}, "model"),
        (400, {"error": {"code": "400", "message": LITELLM}}, "model"),
        (400, {"error": {"message": "The model `x` does not exist or you do not have access to it."}}, "model"),
        (400, {"object": "error", "message": "The model `x` does not exist.", "code": 404}, "model"),
    ],
)  # fmt: skip
def test_a_wrong_key_or_model_is_known_by_its_words(status: int, body: object, wrong: str) -> None:
    refusal = refused(status, body)
    assert refusal.outcome == "invalid_request", "the status decides, whatever is said"
    assert fault(refusal.code, refusal.message) == wrong


def test_bedrocks_model_is_known_by_its_message_alone() -> None:
    unknown = refused(400, {"message": "The provided model identifier is invalid."}, VALIDATION)
    assert (unknown.code, fault(unknown.code, unknown.message)) == ("ValidationException", "model")
    too_long = refused(400, {"message": "Input is too long for requested model."}, VALIDATION)
    assert (too_long.code, fault(too_long.code, too_long.message)) == ("ValidationException", None)


@pytest.mark.parametrize(
    "error",
    [
        {"code": "context_length_exceeded", "message": "This model's maximum context length is 8192 tokens."},
        {"code": "unsupported_parameter", "message": "Unsupported parameter: 'max_tokens' with this model."},
        {"code": "unsupported_value", "message": "The model `x` does not support temperature 0.5."},
        {"code": "invalid_prompt", "message": "Invalid prompt"},
        {"code": "content_filter", "message": "The response was filtered"},
        {"code": "invalid_request_error", "message": "Incorrect API version provided"},
        {"code": "model_not_found_in_cache"},
        {"code": "model", "type": "model_not_found", "message": "the type alone is no code"},
        {"code": 400, "message": "Invalid model output: not JSON"},
        {"code": 400, "message": "Invalid model parameter: temperature"},
        {"code": 400, "message": "'the answer' is not a valid model ID, it is a tool"},
        {"code": 400, "message": f"messages.0 says: {NOT_VALID}"},
        {"code": 400, "message": f"{NOT_VALID} was found in the prompt"},
        {"code": 400, "message": "messages[0]: 'x is not a valid model ID' was flagged"},
        {"code": 400, "message": "Prompt has the words Model Not Exist"},
        {"code": 400, "message": "The file of the model x does not exist"},
        {"code": 400, "message": "The model x does not exist-check is off"},
        {"code": 400, "message": "Provided model identifier is invalid."},
        {"code": 400, "message": "Provider returned error", "metadata": {"raw": NOT_VALID}},
        {"code": 400, "status": "INVALID_ARGUMENT", "message": "Unable to submit request: the input is too long."},
        {"code": 400, "status": "FAILED_PRECONDITION", "message": "User location is not supported for the API use."},
        {"code": None, "message": None},
        "Prompt too long",
    ],
)
def test_an_ordinary_refusal_is_about_nothing_but_itself(error: object) -> None:
    refusal = refused(400, {"error": error})
    assert (refusal.outcome, fault(refusal.code, refusal.message)) == ("invalid_request", None)
    assert fault(None, None) is None


DEEP = b'{"error":{"code":"model_not_found","message":%s}}' % (b"[" * 100_000 + b"]" * 100_000)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"API key not valid",
        b"model_not_found",
        b"\xff" * 5000,
        b"{" * 100_000,
        DEEP,
        b'{"error":{"code":["model_not_found"],"message":{"text":"Model Not Exist"}}}',
        b'{"error":{"code":true,"message":["Model Not Exist"],"details":{"error_code":{"reason":"API_KEY_INVALID"}}}}',
        b'{"error":{"details":[[],5,null,{"@type":5,"reason":"API_KEY_INVALID"},{"reason":"API_KEY_INVALID"}]}}',
        b'{"error":{"message":"%s is not a valid model ID"}}' % (b"x" * 1_000_000),
        b'{"error":{"message":"The model %s"}}' % (b"x does not exist " * 100_000),
        b'{"error":{"message":"%s"}}' % (b"/: " * 1_000_000),
    ],
)
def test_hostile_words_are_about_nothing(body: bytes) -> None:
    refusal = refused(400, body)
    assert fault(refusal.code, refusal.message) is None


@given(st.text(), st.text())
def test_any_words_are_judged(code: str, message: str) -> None:
    assert fault(code, message) in (None, "key", "model")
    assert fault(f"{code}?", f"a b {message}") is None


def test_bedrock_names_its_error_in_a_header() -> None:
    throttled = {"x-amzn-errortype": "ThrottlingException:http://internal.amazon.com/coral/"}
    tokens = refused(429, {"message": "Too many tokens, please wait before trying again."}, throttled)
    assert (tokens.kind, tokens.code, tokens.wait_ns) == ("tokens", "ThrottlingException", None)
    requests = {"Message": "Too many requests, please wait before trying again."}
    assert refused(429, requests, throttled).kind == "requests"
    assert refused(429, requests).kind == "unknown"
    assert refused(429, {"message": "no", "type": "own"}, throttled).code == "own"
    assert refused(429, b"", {"x-amzn-errortype": "ModelNotReadyException"}).kind == "unknown"
    assert refused(400, b"", {"x-amzn-errortype": "ServiceQuotaExceededException"}).outcome == "invalid_request"


def test_openrouter_keeps_its_upstreams_words_and_its_reset() -> None:
    headers = {"X-RateLimit-Limit": "50", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1792567740000"}
    daily = {"code": 429, "message": "Rate limit exceeded: free-models-per-day. Add", "metadata": {"headers": headers}}
    refusal = refused(429, {"error": daily}, DATE)
    assert (refusal.kind, refusal.wait_ns) == ("daily", 60 * S)
    assert refused(429, {"error": daily}).wait_ns is None
    raw = {"provider_name": "P", "raw": "m is limited to 20 requests per minute upstream"}
    upstream = refused(429, {"error": {"code": 429, "message": "Provider returned error", "metadata": raw}})
    assert (upstream.kind, upstream.message) == ("requests", f"Provider returned error ({raw['raw']})")
    plain = refused(429, {"error": {"code": 429, "message": "Provider returned error", "metadata": {"headers": 1}}})
    assert (plain.kind, plain.message) == ("unknown", "Provider returned error")
    in_flight = {"error": {"code": 402, "metadata": {"limit_source": "openrouter_in_flight_budget"}}}
    credits = refused(402, in_flight, {"retry-after": "3"})
    assert (credits.outcome, credits.wait_ns) == ("quota_exhausted", 3 * S)


def test_a_limit_per_month_is_not_waited_for() -> None:
    trial = {"message": "You are using a Trial key, which is limited to 1000 API calls / month."}
    assert refused(429, trial).kind == "daily"


def test_cohere_waits_until_its_reset() -> None:
    trial = {"message": "You are using a Trial key, which is limited to 20 API calls / minute."}
    refusal = refused(429, trial, {**DATE, "x-ratelimit-reset": "1792567705", "x-trial-endpoint-call-limit": "20"})
    assert (refusal.kind, refusal.wait_ns) == ("requests", 25 * S)
    assert refused(429, {"message": "too many requests"}, DATE).kind == "unknown"


def test_tgi_and_mistral_and_litellm() -> None:
    assert refused(429, {"error": "busy", "error_type": "overloaded"}).kind == "concurrency"
    mistral = {"object": "error", "message": "Rate limit exceeded", "type": "rate_limit_error", "code": "1300"}
    assert refused(429, mistral, {"retry-after": "3"}) == Refusal(
        "rate_limited", "unknown", "1300", "Rate limit exceeded", 3 * S
    )
    assert refused(429, mistral, {"x-ratelimit-remaining-tokens-minute": "0"}).kind == "tokens"
    assert refused(429, mistral, {"x-ratelimit-remaining": "0"}).kind == "unknown"
    copied = {"llm_provider-x-ratelimit-remaining-requests": "0", "llm_provider-retry-after-ms": "70"}
    litellm = refused(429, {"error": {"message": "RateLimitError", "code": "429"}}, copied)
    assert (litellm.kind, litellm.wait_ns) == ("requests", 70 * MS)
    assert refused(429, b"", {**copied, "retry-after": "60"}).wait_ns == 60 * S


def test_requests_are_per_day_at_groq() -> None:
    groq = {
        "x-ratelimit-limit-requests": "14400",
        "x-ratelimit-remaining-requests": "14370",
        "x-ratelimit-reset-requests": "2m59.56s",
    }
    assert refused(429, {"error": {"type": "requests", "code": "rate_limit_exceeded"}}, groq).kind == "daily"
    assert refused(429, {"error": {"type": "tokens", "code": "rate_limit_exceeded"}}, groq).kind == "tokens"
    per_minute = {"error": {"type": "requests", "message": "on requests per minute (RPM)"}}
    assert refused(429, per_minute, groq).kind == "requests"
    assert refused(
        429, b"", {**groq, "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "24h"}
    ).kind == ("daily")


def test_a_limit_of_nothing_is_not_spent() -> None:
    azure = {"x-ratelimit-limit-requests": "0", "x-ratelimit-remaining-requests": "0"}
    assert refused(429, b"", azure).kind == "unknown"
    assert refused(429, b"", {**azure, "x-ratelimit-remaining-tokens": "0"}).kind == "tokens"


@pytest.mark.parametrize(
    ("error", "outcome", "kind"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, "overloaded", None),
        ({"type": "rate_limit_error", "message": "output tokens per minute"}, "rate_limited", "output_tokens"),
        ({"type": "api_error", "message": "no"}, "stream_error", None),
        ({"type": "billing_error"}, "quota_exhausted", None),
        ({"type": "throttlingException", "message": "Too many requests"}, "rate_limited", "requests"),
        ({"type": "serviceUnavailableException"}, "overloaded", None),
        ({"type": "modelStreamErrorException"}, "stream_error", None),
        ({"code": 503, "status": "UNAVAILABLE"}, "overloaded", None),
        ({"status": "UNAVAILABLE"}, "overloaded", None),
        ({"code": 429, "status": "RESOURCE_EXHAUSTED"}, "rate_limited", "unknown"),
        ({"status": "RESOURCE_EXHAUSTED"}, "rate_limited", "unknown"),
        ({"code": 402}, "quota_exhausted", None),
        ({"code": 429, "metadata": {"raw": "requests per min"}}, "rate_limited", "requests"),
        ({"code": "server_is_overloaded"}, "overloaded", None),
        ("words only", "stream_error", None),
    ],
)
def test_errors_inside_a_stream(error: object, outcome: str, kind: str | None) -> None:
    refusal = refusal_of_event(error)
    assert (refusal.outcome, refusal.kind) == (outcome, kind)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "error",
                    "details",
                    "violations",
                    "quotaId",
                    "retryDelay",
                    "metadata",
                    "headers",
                    "raw",
                    "status",
                    "type",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_classified(body: object) -> None:
    assert refused(429, body).outcome in ("rate_limited", "quota_exhausted", "invalid_request")
    assert Outcome(refusal_of_event(body).outcome)
