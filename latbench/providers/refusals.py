"""What a status other than 200, or an error inside an answer, amounts to: the part that all dialects share.

The table is that of the outcomes: a 429 is told apart by its own words (code, type, message, headers), because waiting
cures a limit per minute, and cures neither an empty account nor a request that is larger than the limit. Where the
words say nothing, the kind is `unknown`; nothing is guessed from the load we sent.

A wait is read where one was asked for: `retry-after-ms`, `retry-after` in seconds or as a date, LiteLLM's copies of
them, Gemini's `RetryInfo`, or the message ("try again in 1m2.5s"); and where nobody asks, from a point in time at which
the limit that is spent is back (Anthropic, Cohere, OpenRouter). Dates count from the response's own `date`: there is no
clock here. `x-ratelimit-reset-*` is ignored: it says when the whole quota is back and not how long to wait.

Not confirmed (providers.md, section 18): that OpenRouter's reset is in milliseconds (the size of the number decides),
the wording of Bedrock's messages, Mistral's headers. A status other than 429 decides by itself, whatever is said:
Anthropic's spend limit of one's own is a 400 and so `invalid_request`, Bedrock's service quota too.

A key or a model that an endpoint does not know may come as a 400 as well: `fault` tells it from a request that is wrong
in itself. It takes names and sentences that providers are known to send, and nothing that only mentions a key or a
model: whoever trusts it gives the endpoint up.
"""

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from latbench.model.answer import Refusal
from latbench.model.sample import Outcome
from latbench.providers.headroom import UPSTREAM, headroom
from latbench.providers.moments import DURATION, NUMBER, UNIT_NS, bounded, duration_ns, number_ns, until_ns

MAX_TEXT_CHARS = 300
"""How much of a provider's code or message is kept."""

_DAY_LONG_NS = 3_600_000_000_000

_BY_STATUS = {
    401: Outcome.AUTH_ERROR,
    403: Outcome.AUTH_ERROR,
    402: Outcome.QUOTA_EXHAUSTED,
    503: Outcome.OVERLOADED,
    529: Outcome.OVERLOADED,
    400: Outcome.INVALID_REQUEST,
    404: Outcome.INVALID_REQUEST,
    413: Outcome.INVALID_REQUEST,
    422: Outcome.INVALID_REQUEST,
}

_BILLING_CODES = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "enforced_spend_limit_reached",
        "contract_spend_limit_reached",
        "billing_hard_limit_reached",
        "billing_not_active",
        "billing_error",
    }
)
_RAMP_CODES = frozenset({"slow_down", "ramp_limit_exceeded"})
_LIMIT_CODES = frozenset(
    {"rate_limit_exceeded", "rate_limit_error", "too_many_requests", "resource_exhausted", "throttlingexception"}
)
_OVERLOAD_CODES = frozenset(
    {"service_unavailable", "service_unavailable_error", "unavailable", "serviceunavailableexception"}
)

# What is wrong where an `invalid_request` has such a code.
_KEY_CODES = frozenset({"api_key_invalid", "invalid_api_key"})
_MODEL_CODES = frozenset(
    {"model_not_found", "model_decommissioned", "invalid_model", "unknown_model", "deploymentnotfound"}
)

# Whole messages, or their beginnings where the rest is advice. No name of a model has a space in it.
_KEY_WORDS = re.compile(
    r"""
    API\ key\ not\ (?:valid|found)\.\ Please\ pass\ a\ valid\ API\ key\.  # Gemini
    | API\ key\ expired\.\ Please\ renew\ the\ API\ key\.  # Gemini
    | Incorrect\ API\ key\ provided(?:[:.].*)?  # xAI, in OpenAI's words
    """,
    re.IGNORECASE | re.ASCII | re.VERBOSE,
)
_MODEL_WORDS = re.compile(
    r"""
    The\ provided\ model\ identifier\ is\ invalid\.?  # Bedrock
    | \S+\ is\ not\ a\ valid\ model\ ID\.?  # OpenRouter
    | Invalid\ model:(?:\ \S+)?  # Mistral, whose code is a number
    | Model\ Not\ Exist\.?  # DeepSeek
    | Invalid\ model\ '\S+'\.\ Permitted\ models\ .*  # Perplexity
    | (?:/\S+:\ )?Invalid\ model\ name\ passed\ in\ model=\S+(?:\ Call\ .*)?  # LiteLLM
    | The\ (?:requested\ )?model\ \S+\ does\ not\ exist(?:\.|\ or\ .*)?  # OpenAI, and who copies it without its code
    """,
    re.IGNORECASE | re.ASCII | re.VERBOSE,
)

# The first line with a phrase that occurs decides: a limit per day also names requests or tokens.
# One per month counts as daily: no run outlasts either.
_KIND_PHRASES = (
    ("daily", ("per day", "per-day", "(rpd)", "(tpd)", "per month", "/ month")),
    ("ramp", ("acceleration limit",)),
    ("input_tokens", ("input tokens per", "(itpm)")),
    ("output_tokens", ("output tokens per", "(otpm)")),
    ("tokens", ("tokens per min", "tokens per sec", "token rate limit", "too many tokens", "(tpm)")),
    ("requests", ("requests per min", "requests per sec", "call rate limit", "calls / minute", "(rpm)")),
    ("concurrency", ("concurren", "simultaneous", "parallel requests", "model is overloaded")),
)

# What a spent limit in the headers (a kind of `headroom`) makes of a refusal.
_KIND_OF_SPENT = {
    "requests": "requests",
    "tokens": "tokens",
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "priority_input_tokens": "input_tokens",
    "priority_output_tokens": "output_tokens",
    "project_tokens": "tokens",
    "tokens_usage_based": "tokens",
    "requests_day": "daily",
    "tokens_day": "daily",
}
_ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
_NO_QUOTA = re.compile(r"quota exceeded for metric:.{0,200}?\blimit: 0(?![\d.])", re.ASCII)

_WORD_UNITS = {"hour": "h", "minute": "m", "second": "s", "millisecond": "ms"}
_ASKED = re.compile(
    rf"(?:try again|retry)\s+(?:in|after)\s+"
    rf"(?:(?P<number>{NUMBER.pattern})\s*(?P<unit>hour|minute|second|millisecond)s?\b|(?P<go>{DURATION.pattern})(?!\w))",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class ErrorWords:
    """A provider's own words for an error, each capped; None where it said nothing.

    `detail_code` is the name that the details give the error: it says more than the code and the type. Of Google's
    details, `quotas` are the kinds of the limits that were violated, `no_quota` that one of them is 0, and `retry_ns`
    the wait that was asked for. `reset` is OpenRouter's point in time, as it was written.
    """

    code: str | None = None
    type: str | None = None
    message: str | None = None
    detail_code: str | None = None
    quotas: frozenset[str] = frozenset()
    no_quota: bool = False
    retry_ns: int | None = None
    reset: str | None = None

    @property
    def names(self) -> frozenset[str]:
        """Code, type and detail code in lower case: providers put the same names into different fields."""
        return frozenset(name.lower() for name in (self.code, self.type, self.detail_code) if name)


def wait_ns(headers: Mapping[str, str], message: str | None, retry_ns: int | None = None) -> int | None:
    """The wait that was asked for in so many words; `retry_ns` is what Google's details say.

    Header names are in lower case.
    """
    for found in (_wait_of_headers(headers), retry_ns):
        if found is not None:
            return found
    return _wait_of_message(message or "")


def _wait_of_headers(headers: Mapping[str, str]) -> int | None:
    for prefix in ("", UPSTREAM):
        for name, unit in (("retry-after-ms", "ms"), ("retry-after", "s")):
            value = headers.get(prefix + name, "").strip()
            if NUMBER.fullmatch(value):
                return number_ns(value, unit)
            until = until_ns(value, headers)
            if until is not None:
                return until
    return None


def _wait_of_message(message: str) -> int | None:
    asked = _ASKED.search(message)
    if asked is None:
        return None
    if asked["go"]:
        return duration_ns(asked["go"].lower())
    return bounded(float(asked["number"]) * UNIT_NS[_WORD_UNITS[asked["unit"].lower()]])


def _reset_ns(headers: Mapping[str, str], words: ErrorWords) -> int | None:
    """How long until what is spent is back, where that is given as a point in time; the last one of several."""
    resets = [
        headers.get(f"{prefix}anthropic-ratelimit-{limit}-reset", "").strip()
        for prefix in ("", UPSTREAM)
        for limit in ("requests", "tokens", "input-tokens", "output-tokens")
        if headers.get(f"{prefix}anthropic-ratelimit-{limit}-remaining", "").strip() == "0"
    ]
    resets.append(words.reset or headers.get("x-ratelimit-reset", "").strip())
    known = [until for reset in resets if (until := until_ns(reset, headers)) is not None]
    return max(known, default=None)


def capped(value: object, limit: int = MAX_TEXT_CHARS) -> str | None:
    """A decoded JSON value as one short line of text; None for what says nothing.

    Not escaped: it stays hostile text.
    """
    if value is None or isinstance(value, bool):
        return None
    try:
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    except RecursionError:  # decoding goes a little deeper than encoding does
        return None
    return " ".join(text[: 10 * limit].split())[:limit] or None


def error_words(error: object) -> ErrorWords:
    """The words in a decoded `error` value: an object with code, type and message, or a plain text."""
    if not isinstance(error, dict):
        return ErrorWords(message=capped(error))
    details, status = error.get("details"), error.get("status")
    said = error.get("type") or error.get("error_type") or (status if isinstance(status, str) else None)
    message = next((error[key] for key in ("message", "Message", "error", "detail", "msg") if error.get(key)), None)
    return ErrorWords(
        code=capped(error.get("code")),
        type=capped(said),
        message=_with_upstream(capped(message), error.get("metadata")),
        detail_code=_detail_code(details),
        reset=_openrouter_reset(error.get("metadata")),
        **_google_details(details),
    )


def _detail_code(details: object) -> str | None:
    """Anthropic's `error_code`, or the reason in Google's `ErrorInfo`."""
    if isinstance(details, dict):
        return capped(details.get("error_code"))
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and detail.get("@type") == _ERROR_INFO and isinstance(detail.get("reason"), str):
            return capped(detail["reason"])
    return None


def _with_upstream(message: str | None, metadata: object) -> str | None:
    """OpenRouter's message with what its upstream said: "Provider returned error" tells nothing by itself."""
    raw = capped(metadata.get("raw")) if isinstance(metadata, dict) else None
    return message if raw is None else capped(f"{message or ''} ({raw})")


def _openrouter_reset(metadata: object) -> str | None:
    headers = metadata.get("headers") if isinstance(metadata, dict) else None
    if not isinstance(headers, dict):
        return None
    return next((capped(value) for name, value in headers.items() if name.lower() == "x-ratelimit-reset"), None)


def _google_details(details: object) -> dict[str, Any]:
    """`QuotaFailure` and `RetryInfo` among Google's details, as fields of `ErrorWords`."""
    quotas: set[str] = set()
    no_quota, retry_ns = False, None
    for detail in details if isinstance(details, list) else ():
        if not isinstance(detail, dict):
            continue
        if isinstance(detail.get("retryDelay"), str):
            retry_ns = duration_ns(detail["retryDelay"])
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else ():
            if isinstance(violation, dict):
                quotas.add(_google_kind(str(violation.get("quotaId")), str(violation.get("quotaMetric"))))
                no_quota = no_quota or str(violation.get("quotaValue")) == "0"
    return {"quotas": frozenset(quotas), "no_quota": no_quota, "retry_ns": retry_ns}


def _google_kind(quota_id: str, metric: str) -> str:
    """A limit per day may still ask for a wait of seconds: the id is what counts."""
    if "PerDay" in quota_id:
        return "daily"
    if "InputToken" in quota_id or "input_token" in metric:
        return "input_tokens"
    if "Token" in quota_id:
        return "tokens"
    return "requests" if "PerMinute" in quota_id else "unknown"


def refusal_of_event(error: object) -> Refusal:
    """An error inside an answer that began with HTTP 200; `error` is its decoded value."""
    words = error_words(error)
    status = int(words.code) if words.code and re.fullmatch(r"[1-5]\d\d", words.code) else None
    if status == 429 or words.names & (_LIMIT_CODES | _RAMP_CODES | _BILLING_CODES):
        return _refusal_of_429({}, words)
    outcome = Outcome.STREAM_ERROR
    if status == 402:
        outcome = Outcome.QUOTA_EXHAUSTED
    elif status in (503, 529) or words.names & _OVERLOAD_CODES or any("overloaded" in name for name in words.names):
        outcome = Outcome.OVERLOADED
    return _refusal(outcome, None, {}, words)


def refusal_of_status(status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
    """Any status but 200 with any bytes as its body. Header names are in lower case."""
    words = _words_of_body(body)
    # Bedrock names the error in a header, with a namespace behind it.
    named = capped(headers.get("x-amzn-errortype", "").partition(":")[0])
    if named and words.type is None:
        words = replace(words, type=named)
    if status == 429:
        return _refusal_of_429(headers, words)
    return _refusal(_BY_STATUS.get(status, Outcome.HTTP_ERROR), None, headers, words)


def fault(code: str | None, message: str | None) -> Literal["key", "model"] | None:
    """What is wrong where the outcome is `invalid_request`; None: this one request, as far as is said."""
    name, said = (code or "").lower(), message or ""
    if name in _KEY_CODES or _KEY_WORDS.fullmatch(said):
        return "key"
    if name in _MODEL_CODES or _MODEL_WORDS.fullmatch(said):
        return "model"
    return None


def _words_of_body(body: bytes) -> ErrorWords:
    """The words of `{"error": {…}}`, `{"error": "text"}`, `{"message": "text"}`, or of whatever text there is.

    Gemini wraps its object into a list where the answer was asked for as one.
    """
    try:
        decoded: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ErrorWords(message=capped(body[: 10 * MAX_TEXT_CHARS].decode("utf-8", "replace")))
    if isinstance(decoded, list) and len(decoded) == 1 and isinstance(decoded[0], dict):
        decoded = decoded[0]
    if isinstance(decoded, dict) and isinstance(decoded.get("error"), dict):
        return error_words(decoded["error"])
    return error_words(decoded)


def _refusal_of_429(headers: Mapping[str, str], words: ErrorWords) -> Refusal:
    message = (words.message or "").lower()
    if (
        words.names & _BILLING_CODES
        or any("spend_limit" in name for name in words.names)
        or words.no_quota
        or _NO_QUOTA.search(message)
    ):
        return _refusal(Outcome.QUOTA_EXHAUSTED, None, headers, words)
    if "request too large" in message:
        return _refusal(Outcome.INVALID_REQUEST, None, headers, words)
    return _refusal(Outcome.RATE_LIMITED, _kind(headers, words, message), headers, words)


def _kind(headers: Mapping[str, str], words: ErrorWords, message: str) -> str:
    if words.names & _RAMP_CODES:
        return "ramp"
    if words.quotas:
        return "daily" if "daily" in words.quotas else _only(words.quotas)
    phrased = next((kind for kind, phrases in _KIND_PHRASES if any(phrase in message for phrase in phrases)), None)
    if phrased == "daily":
        return phrased
    # Azure's daily limits look like those per minute and ask for a wait of hours.
    if (wait_ns(headers, words.message) or 0) >= _DAY_LONG_NS:
        return "daily"
    return phrased or _kind_of_names(headers, words, message)


def _kind_of_names(headers: Mapping[str, str], words: ErrorWords, message: str) -> str:
    """Where the message names no limit: from the names in the body, else from the one limit that is spent."""
    room = headroom(headers)
    if "tokens" in words.names:
        return "tokens"
    if "requests" in words.names:
        return "daily" if "requests_day" in room and "requests" not in room else "requests"  # Groq
    if "overloaded" in words.names:  # TGI, which takes so many requests at once
        return "concurrency"
    if "throttlingexception" in words.names and "too many requests" in message:
        return "requests"
    spent = {_KIND_OF_SPENT[kind] for kind, one in room.items() if one.remaining == 0 and kind in _KIND_OF_SPENT}
    if spent & {"input_tokens", "output_tokens"}:
        spent.discard("tokens")  # Anthropic's combined figure repeats the scarcest of them
    return _only(spent)


def _only(kinds: Set[str]) -> str:
    return next(iter(kinds)) if len(kinds) == 1 else "unknown"


def _refusal(outcome: Outcome, kind: str | None, headers: Mapping[str, str], words: ErrorWords) -> Refusal:
    asked_ns = wait_ns(headers, words.message, words.retry_ns)
    if asked_ns is None and outcome is Outcome.RATE_LIMITED:
        asked_ns = _reset_ns(headers, words)
    return Refusal(
        outcome=outcome.value,
        kind=kind,
        code=words.detail_code or words.code or words.type,
        message=words.message,
        wait_ns=asked_ns,
    )
