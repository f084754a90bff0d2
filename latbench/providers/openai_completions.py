"""OpenAI Completions, the older API: a prompt is a text, which the model goes on with, or whose gap it fills in.

Many servers keep it for models that complete code. Streamed or not, an answer has one shape (OpenAI SDK source): there
is no chunk for the role and no reasoning, and the first chunk with text is the first output. Usage and errors come as
in `openai-chat`, and the sign of completion is the same: a finish reason or `[DONE]`.

A conversation is sent as the texts of its messages with a blank line between them: the API knows no roles.
No output mode is enforced: the API has no tools and no schemas.
"""

from typing import Any

import msgspec

from latbench.model.answer import Answer
from latbench.model.errors import DecodeError
from latbench.model.request import Ask, Endpoint, HttpRequest
from latbench.providers.base import PAST_BUDGET, Dialect, json_post
from latbench.providers.fields import ANY, Wire, excerpt, finish, identity, parse, refuse
from latbench.providers.openai_chat import auth
from latbench.providers.openai_usage import OpenAIUsage, add_usage
from latbench.providers.refusals import refusal_of_event, refusal_of_status
from latbench.wire.sse import SseFramer


class _Choice(Wire):
    text: str | None = None
    finish_reason: str | None = None
    error: Any = None


class _Completion(Wire):
    """A chunk, or a whole answer."""

    id: Any = None
    object: Any = None
    model: Any = None
    system_fingerprint: Any = None
    choices: list[_Choice] | msgspec.UnsetType | None = msgspec.UNSET
    usage: OpenAIUsage | msgspec.UnsetType | None = msgspec.UNSET
    error: Any = None


_COMPLETION = msgspec.json.Decoder(_Completion)


def build(endpoint: Endpoint, ask: Ask) -> HttpRequest:
    """The request without credentials and without the endpoint's own headers. `endpoint.body` has the last word.

    The limit has one name, whatever `max_tokens_field` says.
    """
    fields: dict[str, Any] = {"model": endpoint.model, "max_tokens": ask.max_tokens, "stream": endpoint.stream}
    if ask.fill is not None:
        fields |= {"prompt": ask.fill.prefix, "suffix": ask.fill.suffix}
    else:
        fields["prompt"] = "\n\n".join(message.content for message in ask.messages)
    if endpoint.stream and endpoint.usage == "auto":
        fields["stream_options"] = {"include_usage": True}
    return json_post(endpoint, "/completions", fields)


def decode(payload: bytes, at_ns: int, answer: Answer) -> None:
    """One event of a stream. Raises DecodeError for what is not a chunk, an error or `[DONE]`."""
    if payload.startswith(b"[DONE]"):
        answer.complete = True
        return
    chunk = parse(_COMPLETION, payload, "a completion")
    if chunk.choices is msgspec.UNSET and chunk.usage is msgspec.UNSET and not _is_known(chunk):
        raise DecodeError(f"not a chunk of a completion: {excerpt(payload)}")
    stamps = len(answer.output_ns)
    _add(chunk, payload, at_ns, answer)
    # One stamp for each chunk that bore output, however many choices it had.
    del answer.output_ns[stamps + 1 :]


def decode_plain(body: bytes, at_ns: int, answer: Answer) -> None:
    """A whole answer that was not streamed: text and counts, but no arrival times, because nothing arrived in parts.

    Raises DecodeError for a body that is neither an answer nor an error.
    """
    whole = parse(_COMPLETION, body, "a completion")
    _add(whole, body, at_ns, answer)
    answer.complete = bool(whole.choices)
    del answer.output_ns[:]
    answer.first_text_ns = None
    if not answer.complete and answer.refusal is None:
        raise DecodeError(f"not a completion: {excerpt(body)}")


def _is_known(chunk: _Completion) -> bool:
    return bool(chunk.error) or chunk.object in ("text_completion", "error")


def _add(chunk: _Completion, payload: bytes, at_ns: int, answer: Answer) -> None:
    if chunk.error:
        refuse(refusal_of_event(chunk.error), answer)
    elif chunk.object == "error":  # older vLLM: the error is the object itself
        refuse(refusal_of_event(parse(ANY, payload, "a completion")), answer)
    for choice in chunk.choices or ():
        answer.add_text(choice.text or "", at_ns)
        if choice.error:
            refuse(refusal_of_event(choice.error), answer)
        if choice.finish_reason:
            answer.complete = True
            finish(choice.finish_reason, answer)
    answer.request_id = answer.request_id or identity(chunk.id)
    answer.model = answer.model or identity(chunk.model)
    answer.fingerprint = answer.fingerprint or identity(chunk.system_fingerprint)
    if isinstance(chunk.usage, OpenAIUsage):
        add_usage(chunk.usage, answer)


DIALECT = Dialect(
    api="openai-completions",
    build=build,
    auth=auth,
    framer=SseFramer,
    decode=decode,
    decode_plain=decode_plain,
    refusal=refusal_of_status,
    own=frozenset({"model", "prompt", "suffix", "stream", "stream_options", "max_tokens"}) | PAST_BUDGET,
    fills=True,
)
