"""What the fields of any API's answer are read with: counts, names, finish reasons, errors.

All of it is hostile: a count may be negative or larger than what stores it, a name may be an object, a word endless.
"""

import msgspec

from latbench.model.answer import Answer, Refusal
from latbench.model.sample import Outcome
from latbench.providers.refusals import capped

ID_CHARS = 200
"""How much of a name or an unknown word is kept."""

_MAX_TOKENS = 2**53  # a larger count is nonsense, and must not overflow what stores it
_EXCERPT_BYTES = 60

FINISH_REASONS = {
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "complete": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_call": "tool",
    "tool_calls": "tool",
    "tool_use": "tool",
    "function_call": "tool",
    "content_filter": "filter",
    "refusal": "filter",
    "safety": "filter",
    "recitation": "filter",
    "prohibited_content": "filter",
    "blocklist": "filter",
    "spii": "filter",
    "error": "error",
    "timeout": "error",
    "other": "error",
    "abort": "error",  # vLLM, SGLang: the server gave the request up
    "insufficient_system_resource": "error",  # DeepSeek
}
"""The finish reasons of all APIs, in lower case, and what each is in our one vocabulary."""


class Wire(msgspec.Struct, gc=False):
    """What comes off the wire cannot hold cycles; the collector need not look at it."""


def finish_reason(word: str) -> str:
    """`word`, in any case, in our vocabulary; an unknown one is kept as it came, capped."""
    return FINISH_REASONS.get(word.lower(), word[:ID_CHARS])


def finish(word: str, answer: Answer) -> None:
    """The answer has ended for the reason that the API calls `word`, which may be that it failed."""
    answer.complete = True
    reason = finish_reason(word)
    if reason == "error":
        refuse(Refusal(Outcome.STREAM_ERROR.value, message=capped(f"the finish reason is {word}")), answer)
    elif answer.refusal is None:
        answer.finish_reason = reason


def count(tokens: int | None, before: int | None) -> int | None:
    """`tokens` where it can be a count, else what was known before."""
    return tokens if tokens is not None and 0 <= tokens < _MAX_TOKENS else before


def identity(value: object) -> str | None:
    """A name that the API gives itself, its model or the answer; None where it says nothing."""
    return capped(value, ID_CHARS) if value else None


def refuse(refusal: Refusal, answer: Answer) -> None:
    """The answer has failed. The first error stays: what follows it is its consequence."""
    if answer.refusal is None:
        answer.refusal = refusal
    answer.finish_reason = "error"


def excerpt(payload: bytes) -> str:
    """The beginning of bytes that are not the protocol, for the message that says so."""
    return repr(payload[:_EXCERPT_BYTES])
