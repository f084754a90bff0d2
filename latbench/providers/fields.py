"""What the fields of any API's answer are read with: counts, names, finish reasons, errors.

All of it is hostile: a count may be negative or larger than what stores it, a name may be an object, a word endless.
"""

from typing import Any, TypeVar

import msgspec

from latbench.model.answer import Answer, Refusal
from latbench.model.errors import DecodeError
from latbench.model.sample import Outcome
from latbench.providers.refusals import MAX_TEXT_CHARS, capped

T = TypeVar("T")

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
    "model_length": "length",  # Mistral, by the source of its SDK
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
    "guardrail_intervened": "filter",  # Bedrock, and the next
    "content_filtered": "filter",
    "error": "error",
    "timeout": "error",
    "other": "error",
    "abort": "error",  # vLLM, SGLang: the server gave the request up
    "insufficient_system_resource": "error",  # DeepSeek
    "malformed_model_output": "error",  # Bedrock, and the next
    "malformed_tool_use": "error",
}
"""The finish reasons of all APIs, in lower case, and what each is in our one vocabulary."""


ANY: "msgspec.json.Decoder[Any]" = msgspec.json.Decoder()
"""Reads whole what `Wire` would skip: what is skipped is not checked either, and may yet be no JSON."""


class Wire(msgspec.Struct, gc=False):
    """What comes off the wire cannot hold cycles; the collector need not look at it."""


def parse(decoder: "msgspec.json.Decoder[T]", payload: bytes, expected: str) -> T:
    """`payload` as what `decoder` reads. Raises DecodeError, which says what was `expected`, for anything else."""
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"not {expected} ({str(error)[:MAX_TEXT_CHARS]}): {excerpt(payload)}") from error


def finish_reason(word: str) -> str:
    """`word`, in any case, in our vocabulary; an unknown one is kept as it came, capped."""
    return FINISH_REASONS.get(word.lower(), word[:ID_CHARS])


def finish(word: str, answer: Answer) -> None:
    """The answer ends for the reason that the API calls `word`, which may be that it failed.

    Whether that is also the sign of completion is for the dialect to say.
    """
    reason = finish_reason(word)
    if reason == "error":
        refuse(Refusal(Outcome.STREAM_ERROR.value, message=capped(f"the finish reason is {word}")), answer)
    elif answer.refusal is None:
        answer.finish_reason = reason or None  # an empty word is no reason


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


def json_text(value: object) -> str:
    """A decoded value as JSON again: the arguments of a tool call, which some APIs send as an object.

    Raises DecodeError for what is nested too deeply: it may just have been decoded, with a few calls less in progress.
    """
    try:
        return msgspec.json.encode(value).decode()
    except RecursionError as error:
        raise DecodeError("a JSON value that is nested too deeply") from error
