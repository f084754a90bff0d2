"""OpenAI Chat Completions and the many servers that speak it, each with a habit of its own.

Decoding is lenient in what it does not need and strict in what it does. Unknown fields are skipped; text may be a
string, null or a list of parts; reasoning comes under three names; usage comes alone, in the finish chunk or on every
chunk. But an object that has none of `choices`, `error` and `usage` and does not call itself a chunk is not this
protocol (`{}` included), and neither is a field of a wrong type: such bytes raise DecodeError, because an answer that
is skipped looks like a slow one.

The sign of completion is a finish reason or `[DONE]`: some servers never send the second, and some send it after an
error, which is why an error always beats both.
"""

import re
from array import array
from collections.abc import Sequence
from typing import Any

import msgspec

from latbench.model.answer import Answer
from latbench.model.errors import DecodeError
from latbench.model.request import Ask, Endpoint, HttpRequest
from latbench.providers.base import PAST_BUDGET, SCHEMA_NAME, SCHEMA_PURPOSE, Dialect, json_post
from latbench.providers.conversation import chat_messages, chat_tools
from latbench.providers.fields import ANY, Wire, excerpt, finish, identity, json_text, parse, refuse
from latbench.providers.openai_usage import OpenAIUsage, add_usage
from latbench.providers.refusals import refusal_of_event, refusal_of_status
from latbench.wire.sse import SseFramer

_CALLS_PER_CHOICE = 10_000  # keeps tool call 0 of one choice apart from tool call 0 of the next


class _Part(Wire):
    type: str | None = None
    text: str | None = None
    refusal: str | None = None
    thinking: "str | list[_Part] | None" = None


class _Function(Wire):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _ToolCall(Wire):
    index: int | None = None
    id: Any = None
    function: _Function | None = None


class _ReasoningDetail(Wire):
    text: str | None = None
    summary: str | None = None


class _Delta(Wire):
    content: str | list[_Part] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[_ReasoningDetail] | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None


class _Choice(Wire):
    index: int | None = None
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None
    error: Any = None


class _Groq(Wire):
    usage: OpenAIUsage | None = None


class _Chunk(Wire):
    id: Any = None
    object: Any = None
    model: Any = None
    system_fingerprint: Any = None
    choices: list[_Choice] | msgspec.UnsetType | None = msgspec.UNSET
    usage: OpenAIUsage | msgspec.UnsetType | None = msgspec.UNSET
    error: Any = None
    x_groq: _Groq | None = None


_CHUNK = msgspec.json.Decoder(_Chunk)
_TEXTS = msgspec.json.Decoder(str)
_CONTENT = re.compile(rb'"content": ?("(?:[^"\\]|\\.)*")')
_DONE = b"[DONE]"


def build(endpoint: Endpoint, ask: Ask) -> HttpRequest:
    """The request without credentials and without the endpoint's own headers. `endpoint.body` has the last word."""
    fields: dict[str, Any] = {
        "model": endpoint.model,
        "messages": chat_messages(ask.messages),
        _max_tokens_field(endpoint): ask.max_tokens,
        "stream": endpoint.stream,
    }
    if endpoint.stream and endpoint.usage == "auto":
        fields["stream_options"] = {"include_usage": True}
    if ask.mode == "json_schema":
        wanted = {"name": SCHEMA_NAME, "schema": ask.schema, "strict": True}
        fields["response_format"] = {"type": "json_schema", "json_schema": wanted}
    elif ask.mode == "tool":
        function = {"name": SCHEMA_NAME, "description": SCHEMA_PURPOSE, "parameters": ask.schema, "strict": True}
        fields["tools"] = [{"type": "function", "function": function}]
        fields["tool_choice"] = {"type": "function", "function": {"name": SCHEMA_NAME}}
    if ask.tools:
        fields["tools"] = chat_tools(ask.tools)
    return json_post(endpoint, "/chat/completions", fields)


def _max_tokens_field(endpoint: Endpoint) -> str:
    if endpoint.max_tokens_field != "auto":
        return endpoint.max_tokens_field
    model = endpoint.model.rpartition("/")[2].lower()
    return "max_completion_tokens" if model.startswith(("o1", "o3", "o4", "gpt-5")) else "max_tokens"


def auth(key: str) -> dict[str, str]:
    """The header that carries `key`."""
    return {"authorization": f"Bearer {key}"}


def decode(payload: bytes, at_ns: int, answer: Answer) -> None:
    """One event of a stream. Raises DecodeError for what is not a chunk, an error or `[DONE]`."""
    if payload.startswith(b"[DONE]"):
        answer.complete = True
        return
    _add_chunk(parse(_CHUNK, payload, "a chat completion"), payload, at_ns, answer)


def decode_many(payloads: list[bytes], stamps: Sequence[int], answer: Answer) -> bool:
    """Many events, `[DONE]` nowhere but at the end. See `Dialect`; raises DecodeError as `decode` does."""
    done = payloads[-1:] == [_DONE]
    texts = _usual_texts(payloads, answer.around)
    rest = payloads[len(texts) : len(payloads) - done]
    try:
        chunks = _CHUNK.decode_lines(b"\n".join(rest))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    if len(chunks) != len(rest) or not all(rest):
        return False  # a payload without anything, or one that goes over two lines, or two on one line
    _add_texts(texts, stamps, answer)
    usual = b""
    for payload, chunk, at_ns in zip(rest, chunks, stamps[len(texts) :], strict=False):
        piece = _only_text(chunk, answer)
        if piece is None:
            _add_chunk(chunk, payload, at_ns, answer)
        else:
            answer.add_text(piece, at_ns)
            usual = payload
    if usual and not texts and not answer.complete:  # more is to come, and what is known does not fit, or nothing is
        answer.around = _around(usual, answer)
    answer.complete = answer.complete or done
    return True


def decode_alike(pieces: list[bytes], stamps: Sequence[int], answer: Answer) -> bool:
    """Many events that are the same but for one string of JSON, which is all that is given. See `Dialect`."""
    texts = _texts(pieces)
    _add_texts(texts, stamps, answer)
    return len(texts) == len(pieces)


def _texts(pieces: list[bytes]) -> list[str]:
    """Strings of JSON, each on a line of its own; none where one of them is anything else."""
    if [piece[:1] for piece in pieces].count(b'"') != len(pieces):
        return []
    try:
        texts = _TEXTS.decode_lines(b"\n".join(pieces))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
    return texts if len(texts) == len(pieces) else []


def _usual_texts(payloads: list[bytes], around: tuple[bytes, bytes] | None) -> list[str]:
    """The texts of the first payloads, as far as what is around them is what was there before.

    A payload that is the same but for one string of JSON in the same place means the same but for that text.
    """
    if around is None:
        return []
    before, after = around
    begin, end = len(before), -len(after)
    usual = [payload[:begin] == before and payload[end:] == after for payload in payloads]
    count = usual.index(False) if False in usual else len(usual)
    return _texts([payload[begin:end] for payload in payloads[:count]])


def _add_texts(texts: list[str], stamps: Sequence[int], answer: Answer) -> None:
    """Texts with the first of the stamps. Empty ones are not output."""
    borne = stamps[: len(texts)]
    if not all(texts):
        borne = array("q", [at_ns for at_ns, text in zip(stamps, texts, strict=False) if text])
    if borne:
        answer.text.extend(filter(None, texts))
        answer.output_ns.extend(borne)
        answer.first_text_ns = borne[0] if answer.first_text_ns is None else answer.first_text_ns


def _around(payload: bytes, answer: Answer) -> tuple[bytes, bytes] | None:
    """What stands before and after the text in an event that is nothing else, if another text there is just that."""
    place = _CONTENT.search(payload)
    if place is None:
        return None
    before, after = payload[: place.start(1)], payload[place.end(1) :]
    probe = _CHUNK.decode(before + b'"probe"' + after)
    return (before, after) if _only_text(probe, answer) == "probe" else None


def _only_text(chunk: _Chunk, answer: Answer) -> str | None:
    """The text of a chunk that has one choice and nothing else that is new; None for any other chunk."""
    choices = chunk.choices
    if (
        not choices
        or len(choices) > 1
        or chunk.usage
        or chunk.error
        or chunk.x_groq is not None
        or chunk.object == "error"
        or (chunk.id and not answer.request_id)
        or (chunk.model and not answer.model)
        or (chunk.system_fingerprint and not answer.fingerprint)
    ):
        return None
    choice = choices[0]
    delta = choice.delta
    if (
        delta is None
        or choice.finish_reason
        or choice.error
        or delta.reasoning_content
        or delta.reasoning
        or delta.reasoning_details
        or delta.refusal
        or delta.tool_calls
        or delta.function_call is not None
    ):
        return None
    content = delta.content
    return content if isinstance(content, str) else None


def _add_chunk(chunk: _Chunk, payload: bytes, at_ns: int, answer: Answer) -> None:
    if chunk.choices is msgspec.UNSET and chunk.usage is msgspec.UNSET and not _is_known(chunk):
        raise DecodeError(f"not a chunk of a chat completion: {excerpt(payload)}")
    _add_error(chunk, payload, answer)
    stamps = len(answer.output_ns)
    for choice in chunk.choices or ():
        _add_choice(choice, choice.delta, at_ns, answer)
    # One stamp for each chunk that bore output, however many pieces it had.
    del answer.output_ns[stamps + 1 :]
    _add_rest(chunk, answer)


def decode_plain(body: bytes, at_ns: int, answer: Answer) -> None:
    """A whole answer that was not streamed: text and counts, but no arrival times, because nothing arrived in parts.

    Raises DecodeError for a body that is neither an answer nor an error.
    """
    chunk = parse(_CHUNK, body, "a chat completion")
    _add_error(chunk, body, answer)
    for choice in chunk.choices or ():
        _add_choice(choice, choice.message, at_ns, answer)
        answer.complete = True
    del answer.output_ns[:]
    answer.first_text_ns = None
    _add_rest(chunk, answer)
    if not answer.complete and answer.refusal is None:
        raise DecodeError(f"not a chat completion: {excerpt(body)}")


def _is_known(chunk: _Chunk) -> bool:
    return bool(chunk.error) or chunk.x_groq is not None or chunk.object in ("chat.completion.chunk", "error")


def _add_error(chunk: _Chunk, payload: bytes, answer: Answer) -> None:
    if chunk.error:
        refuse(refusal_of_event(chunk.error), answer)
    elif chunk.object == "error":  # older vLLM, Mistral: the error is the object itself
        refuse(refusal_of_event(parse(ANY, payload, "a chat completion")), answer)


def _add_choice(choice: _Choice, delta: _Delta | None, at_ns: int, answer: Answer) -> None:
    if delta is not None:
        _add_delta(choice.index or 0, delta, at_ns, answer)
    if choice.error:
        refuse(refusal_of_event(choice.error), answer)
    if choice.finish_reason:
        answer.complete = True
        finish(choice.finish_reason, answer)


def _add_delta(choice: int, delta: _Delta, at_ns: int, answer: Answer) -> None:
    reasoning = delta.reasoning_content or delta.reasoning
    # Servers repeat the same piece under several names for the sake of old clients: it counts once.
    if not reasoning and delta.reasoning_details:
        reasoning = "".join(detail.text or detail.summary or "" for detail in delta.reasoning_details)
    if reasoning:
        answer.add_reasoning(reasoning, at_ns)
    content = delta.content
    if isinstance(content, str):
        answer.add_text(content, at_ns)
    elif content is not None:
        answer.add_reasoning("".join(map(_thought, content)), at_ns)
        answer.add_text("".join(part.text or part.refusal or "" for part in content), at_ns)
    if delta.refusal:
        answer.add_text(delta.refusal, at_ns)
    for position, call in enumerate(delta.tool_calls or ()):
        index = position if call.index is None else call.index
        _add_call(choice * _CALLS_PER_CHOICE + index, call.function, at_ns, answer)
        answer.name_call(choice * _CALLS_PER_CHOICE + index, call.id)
    if delta.function_call is not None:
        _add_call(choice * _CALLS_PER_CHOICE, delta.function_call, at_ns, answer)


def _thought(part: _Part) -> str:
    if isinstance(part.thinking, list):
        return "".join(inner.text or "" for inner in part.thinking)
    return part.thinking or ""


def _add_call(index: int, function: _Function | None, at_ns: int, answer: Answer) -> None:
    if function is not None:
        arguments = function.arguments or ""
        if isinstance(arguments, dict):
            arguments = json_text(arguments)
        answer.add_tool_call(index, function.name or "", arguments, at_ns)


def _add_rest(chunk: _Chunk, answer: Answer) -> None:
    """Who answered, and what was counted."""
    answer.request_id = answer.request_id or identity(chunk.id)
    answer.model = answer.model or identity(chunk.model)
    answer.fingerprint = answer.fingerprint or identity(chunk.system_fingerprint)
    if chunk.x_groq is not None and chunk.x_groq.usage is not None:
        add_usage(chunk.x_groq.usage, answer)
    if isinstance(chunk.usage, OpenAIUsage):
        add_usage(chunk.usage, answer)


DIALECT = Dialect(
    api="openai-chat",
    build=build,
    auth=auth,
    framer=SseFramer,
    decode=decode,
    decode_plain=decode_plain,
    decode_many=decode_many,
    decode_alike=decode_alike,
    refusal=refusal_of_status,
    own=frozenset({"model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens"})
    | PAST_BUDGET,
    modes=frozenset({"json_schema", "tool"}),
    tools="tools",
)
