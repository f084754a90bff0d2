"""What a response says is left of each limit: the rate-limit headers of every provider, in one vocabulary.

Read on any answer, not only on refusals. The names are a closed list: a header that is not on it says nothing here, and
neither does a value that is no plain number or no time, or a limit of nothing (Azure sends `0` and `-1` where it does
not know).

- `x-ratelimit-{limit,remaining,reset}-requests` is per minute at OpenAI and Azure and per day at Groq. They are told
  apart by arithmetic: the whole limit comes back in `reset * limit / used`, which is a minute for the one and a day
  for the other. That holds where a limit drains away; where a window ends at once, little used makes it too long, so
  that a reset of two minutes or less is never a day's. Groq's first few requests are taken for a minute's so.
- LiteLLM repeats what its upstream said with `llm_provider-` before the name. It is read where LiteLLM itself says
  nothing of that kind of limit; the figures of two limits are never mixed.
- A reset is the time until all of the limit is back: an upper bound of the wait that a request needs.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from latbench.providers.moments import duration_ns, number_ns, until_ns

UPSTREAM = "llm_provider-"
"""What LiteLLM puts before the headers of its upstream."""

_LEAST_DAILY_NS = 3_600_000_000_000
_LONGEST_WINDOW_NS = 120_000_000_000
_MINUTE_OR_DAY = "requests?"
_COUNT = re.compile(r"-?\d{1,15}", re.ASCII)

# Name in `x-ratelimit-{limit,remaining,reset}-NAME` → kind. The bare header names no kind (Mistral, OpenRouter).
_OPENAI_NAMES = {
    "-requests": _MINUTE_OR_DAY,
    "-tokens": "tokens",
    "-project-tokens": "project_tokens",
    "-tokens_usage_based": "tokens_usage_based",
    "-requests-minute": "requests",
    "-tokens-minute": "tokens",
    "-requests-day": "requests_day",
    "-tokens-day": "tokens_day",
    "": "unknown",
}
# Name in `NAME-{limit,remaining,reset}` → kind.
_ANTHROPIC_NAMES = {
    "anthropic-ratelimit-requests": "requests",
    "anthropic-ratelimit-tokens": "tokens",
    "anthropic-ratelimit-input-tokens": "input_tokens",
    "anthropic-ratelimit-output-tokens": "output_tokens",
    "anthropic-priority-input-tokens": "priority_input_tokens",
    "anthropic-priority-output-tokens": "priority_output_tokens",
}
_PARTS = ("limit", "remaining", "reset")
_MEANING: dict[str, tuple[str, str]] = {
    f"x-ratelimit-{part}{name}": (kind, part) for name, kind in _OPENAI_NAMES.items() for part in _PARTS
} | {f"{name}-{part}": (kind, part) for name, kind in _ANTHROPIC_NAMES.items() for part in _PARTS}
_NAMES = frozenset(_MEANING) | {UPSTREAM + name for name in _MEANING}

KINDS = tuple(dict.fromkeys(kind for kind, _ in _MEANING.values() if kind != _MINUTE_OR_DAY))
"""Every kind that `headroom` can name."""


@dataclass(frozen=True, slots=True)
class Headroom:
    """One limit as a response reported it; None for what it did not say. `reset_ns` is counted from the response."""

    limit: int | None = None
    remaining: int | None = None
    reset_ns: int | None = None


def headroom(headers: Mapping[str, str]) -> dict[str, Headroom]:
    """The limits that a response reports, by kind. Header names are in lower case."""
    if _NAMES.isdisjoint(headers):
        return {}
    own: dict[str, dict[str, str]] = {}
    upstream: dict[str, dict[str, str]] = {}
    for name, value in headers.items():
        copied = name.startswith(UPSTREAM)
        meaning = _MEANING.get(name[len(UPSTREAM) :] if copied else name)
        if meaning is not None:
            kind, part = meaning
            (upstream if copied else own).setdefault(kind, {})[part] = value.strip()
    found: dict[str, Headroom] = {}
    for said, dated in ((own, headers), (upstream, {"date": headers.get(f"{UPSTREAM}date", headers.get("date", ""))})):
        for kind, parts in said.items():
            one = _read(parts, dated)
            if one is not None:
                if kind == _MINUTE_OR_DAY:
                    kind = "requests_day" if _is_daily(one) else "requests"
                found.setdefault(kind, one)
    return found


def _read(parts: Mapping[str, str], headers: Mapping[str, str]) -> Headroom | None:
    limit, remaining = _count(parts.get("limit", "")), _count(parts.get("remaining", ""))
    if limit is not None and limit <= 0:
        return None
    remaining = None if remaining is not None and remaining < 0 else remaining
    one = Headroom(limit, remaining, _reset_ns(parts.get("reset", ""), headers))
    return None if one == Headroom() else one


def _count(text: str) -> int | None:
    return int(text) if _COUNT.fullmatch(text) else None


def _reset_ns(text: str, headers: Mapping[str, str]) -> int | None:
    """A point in time, a duration, or plain seconds (Azure, Cerebras)."""
    for found in (until_ns(text, headers), duration_ns(text)):
        if found is not None:
            return found
    seconds = number_ns(text, "s")
    # Ten digits are a point in time, and without a `date` it is not known how far away.
    return None if len(text.partition(".")[0]) >= 10 else seconds


def _is_daily(one: Headroom) -> bool:
    """Whether the whole of a limit takes more than an hour to come back."""
    if one.reset_ns is None or one.reset_ns <= _LONGEST_WINDOW_NS:
        return False
    if one.reset_ns > _LEAST_DAILY_NS:
        return True
    if one.limit is None or one.remaining is None:
        return False
    used = one.limit - one.remaining
    return used > 0 and one.reset_ns * one.limit / used > _LEAST_DAILY_NS
