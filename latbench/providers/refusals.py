"""What a status other than 200, or an error inside an answer, amounts to: the part that all dialects share.

The table is that of the outcomes: a 429 is told apart by its own words (code, type, message, headers), because waiting
cures a limit per minute, and cures neither an empty account nor a request that is larger than the limit. Where the
words say nothing, the kind is `unknown`; nothing is guessed from the load we sent.

A wait is read where one was asked for: `retry-after-ms`, `retry-after` in seconds, LiteLLM's copy of it, or the
message ("try again in 1m2.5s"). `retry-after` as a date is ignored, since there is no clock here; so is
`x-ratelimit-reset-*`, which says when the whole quota is back and not how long to wait.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from latbench.model.answer import Refusal
from latbench.model.sample import Outcome

MAX_TEXT_CHARS = 300
"""How much of a provider's code or message is kept."""

_DAY_LONG_NS = 3_600_000_000_000
_MAX_WAIT_S = 10**9  # about 31 years: more is nonsense, and must not overflow 64 bits of nanoseconds

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
_LIMIT_CODES = frozenset({"rate_limit_exceeded", "rate_limit_error", "too_many_requests"})
_OVERLOAD_CODES = frozenset({"service_unavailable", "service_unavailable_error"})

# The first line with a phrase that occurs decides: a limit per day also names requests or tokens.
_KIND_PHRASES = (
    ("daily", ("per day", "per-day", "(rpd)", "(tpd)")),
    ("input_tokens", ("input tokens per", "(itpm)")),
    ("output_tokens", ("output tokens per", "(otpm)")),
    ("tokens", ("tokens per min", "tokens per sec", "token rate limit", "too many tokens", "(tpm)")),
    ("requests", ("requests per min", "requests per sec", "call rate limit", "(rpm)")),
    ("concurrency", ("concurren", "simultaneous", "parallel requests", "model is overloaded")),
)

# ASCII throughout: an exotic digit or letter in hostile text would match here and fail further on.
_UNIT_NS = {"h": 3_600_000_000_000, "m": 60_000_000_000, "s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "µs": 1_000}
_WORD_UNITS = {"hour": "h", "minute": "m", "second": "s", "millisecond": "ms"}
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,18})?)(h|ms|m|s|us|µs)", re.ASCII)
_DURATION = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)
_NUMBER = re.compile(r"\d{1,12}(?:\.\d{1,18})?", re.ASCII)
_ASKED = re.compile(
    rf"(?:try again|retry)\s+(?:in|after)\s+"
    rf"(?:(?P<number>{_NUMBER.pattern})\s*(?P<unit>hour|minute|second|millisecond)s?\b|(?P<go>{_DURATION.pattern})(?!\w))",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class ErrorWords:
    """A provider's own words for an error, each capped; None where it said nothing."""

    code: str | None = None
    type: str | None = None
    message: str | None = None
    detail_code: str | None = None

    @property
    def names(self) -> frozenset[str]:
        """Code, type and detail code in lower case: providers put the same names into different fields."""
        return frozenset(name.lower() for name in (self.code, self.type, self.detail_code) if name)


def duration_ns(text: str) -> int | None:
    """Nanoseconds of a duration in Go's grammar (`120ms`, `1.146s`, `1m30s`, `114h18m0s`); None for anything else."""
    if not _DURATION.fullmatch(text):
        return None
    return _bounded(sum(float(number) * _UNIT_NS[unit] for number, unit in _PART.findall(text)))


def wait_ns(headers: Mapping[str, str], message: str | None) -> int | None:
    """The wait that was asked for. Header names are in lower case."""
    for name, unit in (("retry-after-ms", "ms"), ("retry-after", "s"), ("llm_provider-retry-after", "s")):
        value = headers.get(name, "").strip()
        if _NUMBER.fullmatch(value):
            return _bounded(float(value) * _UNIT_NS[unit])
    asked = _ASKED.search(message or "")
    if asked is None:
        return None
    if asked["go"]:
        return duration_ns(asked["go"].lower())
    return _bounded(float(asked["number"]) * _UNIT_NS[_WORD_UNITS[asked["unit"].lower()]])


def _bounded(nanoseconds: float) -> int | None:
    return round(nanoseconds) if nanoseconds <= _MAX_WAIT_S * 1e9 else None


def capped(value: object, limit: int = MAX_TEXT_CHARS) -> str | None:
    """A decoded JSON value as one short line of text; None for what says nothing.

    Not escaped: it stays hostile text.
    """
    if value is None or isinstance(value, bool):
        return None
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return " ".join(text[: 10 * limit].split())[:limit] or None


def error_words(error: object) -> ErrorWords:
    """The words in a decoded `error` value: an object with code, type and message, or a plain text."""
    if not isinstance(error, dict):
        return ErrorWords(message=capped(error))
    details = error.get("details")
    message = next((error[key] for key in ("message", "error", "detail", "msg") if error.get(key)), None)
    return ErrorWords(
        code=capped(error.get("code")),
        type=capped(error.get("type") or error.get("error_type")),
        message=capped(message),
        detail_code=capped(details.get("error_code")) if isinstance(details, dict) else None,
    )


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
    if status == 429:
        return _refusal_of_429(headers, words)
    return _refusal(_BY_STATUS.get(status, Outcome.HTTP_ERROR), None, headers, words)


def _words_of_body(body: bytes) -> ErrorWords:
    """The words of `{"error": {…}}`, `{"error": "text"}`, `{"message": "text"}`, or of whatever text there is."""
    try:
        decoded: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ErrorWords(message=capped(body[: 10 * MAX_TEXT_CHARS].decode("utf-8", "replace")))
    if isinstance(decoded, dict) and isinstance(decoded.get("error"), dict):
        return error_words(decoded["error"])
    return error_words(decoded)


def _refusal_of_429(headers: Mapping[str, str], words: ErrorWords) -> Refusal:
    message = (words.message or "").lower()
    if words.names & _BILLING_CODES:
        return _refusal(Outcome.QUOTA_EXHAUSTED, None, headers, words)
    if "request too large" in message:
        return _refusal(Outcome.INVALID_REQUEST, None, headers, words)
    return _refusal(Outcome.RATE_LIMITED, _kind(headers, words, message), headers, words)


def _kind(headers: Mapping[str, str], words: ErrorWords, message: str) -> str:
    if words.names & _RAMP_CODES:
        return "ramp"
    phrased = next((kind for kind, phrases in _KIND_PHRASES if any(phrase in message for phrase in phrases)), None)
    if phrased == "daily":
        return phrased
    # Azure's daily limits look like those per minute and ask for a wait of hours.
    if (wait_ns(headers, words.message) or 0) >= _DAY_LONG_NS:
        return "daily"
    if phrased is not None:
        return phrased
    for kind in ("tokens", "requests"):
        if kind in words.names:
            return kind
    spent = [kind for kind in ("tokens", "requests") if headers.get(f"x-ratelimit-remaining-{kind}", "").strip() == "0"]
    return spent[0] if len(spent) == 1 else "unknown"


def _refusal(outcome: Outcome, kind: str | None, headers: Mapping[str, str], words: ErrorWords) -> Refusal:
    return Refusal(
        outcome=outcome.value,
        kind=kind,
        code=words.detail_code or words.code or words.type,
        message=words.message,
        wait_ns=wait_ns(headers, words.message),
    )
