"""Cohere's chat, version 2: events that name their type inside the data.

`base_url` ends in `/v2`. The events and their fields are those of the cohere SDK 7.3 source. Types that it does not
know are skipped there with a warning, and here in silence, whatever they hold. The plan that precedes tool calls counts
as reasoning: it is output, and not the answer.

The sign of completion is `message-end`; `[DONE]` is tolerated and says nothing. An error comes as the `error` text of
`message-end`, whose finish reason is then ERROR. Errors of other shapes inside a stream are read as errors, too, but
which of them Cohere ever sends is unconfirmed.

Cohere counts twice: `tokens`, what the model saw with its template, and `billed_units`. The first is what latency
depends on and is what we keep; the second only stands in where the first is missing. That the input includes cached
tokens is unconfirmed, and reasoning is not counted apart.
"""

from typing import Any, TypeVar

import msgspec

from latbench.model.answer import Answer, Usage
from latbench.model.errors import DecodeError
from latbench.model.request import Ask, Endpoint, HttpRequest
from latbench.providers.base import SCHEMA_NAME, SCHEMA_PURPOSE, Dialect, json_post
from latbench.providers.conversation import chat_messages, chat_tools
from latbench.providers.fields import Wire, count, excerpt, finish, identity, parse, refuse
from latbench.providers.refusals import refusal_of_event, refusal_of_status
from latbench.wire.sse import SseFramer

T = TypeVar("T")

_EXPECTED = "a Cohere chat answer"
_READ = frozenset(
    {
        "message-start",
        "content-start",
        "content-delta",
        "tool-plan-delta",
        "tool-call-start",
        "tool-call-delta",
        "message-end",
    }
)


class _Content(Wire):
    text: str | None = None
    thinking: str | None = None


class _Function(Wire):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(Wire):
    id: Any = None
    function: _Function | None = None


class _Message(Wire):
    content: _Content | list[_Content] | None = None
    tool_plan: str | None = None
    tool_calls: _ToolCall | list[_ToolCall] | None = None


class _Tokens(Wire):
    input_tokens: float | None = None
    output_tokens: float | None = None


class _Usage(Wire):
    tokens: _Tokens | None = None
    billed_units: _Tokens | None = None
    cached_tokens: float | None = None


class _Delta(Wire):
    message: _Message | None = None
    error: Any = None
    finish_reason: str | None = None
    usage: _Usage | None = None


class _Event(Wire):
    type: str | None = None
    id: Any = None
    index: int | None = None
    delta: _Delta | None = None
    error: Any = None


class _Other(Wire):
    """What an event amounts to that is none of those we read."""

    type: str | None = None
    error: Any = None
    message: Any = None


class _Plain(Wire):
    id: Any = None
    message: _Message | str | None = None
    finish_reason: str | None = None
    usage: _Usage | None = None
    error: Any = None


_EVENT = msgspec.json.Decoder(_Event)
_OTHER = msgspec.json.Decoder(_Other)
_PLAIN = msgspec.json.Decoder(_Plain)


def build(endpoint: Endpoint, ask: Ask) -> HttpRequest:
    """The request without credentials. `strict_tools` holds a call's arguments to the schema (cohere 7.3 source)."""
    fields: dict[str, Any] = {
        "model": endpoint.model,
        "messages": chat_messages(ask.messages),
        "max_tokens": ask.max_tokens,
        "stream": endpoint.stream,
    }
    if ask.mode == "json_schema":
        fields["response_format"] = {"type": "json_object", "json_schema": ask.schema}
    elif ask.mode == "tool":
        function = {"name": SCHEMA_NAME, "description": SCHEMA_PURPOSE, "parameters": ask.schema}
        fields["tools"] = [{"type": "function", "function": function}]
        fields["tool_choice"] = "REQUIRED"
        fields["strict_tools"] = True
    if ask.tools:
        fields["tools"] = chat_tools(ask.tools)
    return json_post(endpoint, "/chat", fields)


def auth(key: str) -> dict[str, str]:
    """The header that carries `key`."""
    return {"authorization": f"Bearer {key}"}


def decode(payload: bytes, at_ns: int, answer: Answer) -> None:
    """One event of a stream. Raises DecodeError for what is neither an event nor an error."""
    if payload.startswith(b"[DONE]"):
        return
    try:
        event = parse(_EVENT, payload, _EXPECTED)
    except DecodeError:
        # The fields of a type that we do not read may be of any shape.
        if parse(_OTHER, payload, _EXPECTED).type in _READ:
            raise
        event = _Event()
    if event.type not in _READ:
        _add_other(payload, answer)
        return
    if event.error:
        refuse(refusal_of_event(event.error), answer)
    answer.request_id = answer.request_id or identity(event.id)
    delta = event.delta or _Delta()
    if delta.message is not None:
        _add_message(delta.message, event.index or 0, at_ns, answer)
    if event.type == "message-end":
        answer.complete = True
        _add_end(delta, answer)


def decode_plain(body: bytes, at_ns: int, answer: Answer) -> None:
    """A whole answer that was not streamed. Raises DecodeError for a body that is neither an answer nor an error."""
    plain = parse(_PLAIN, body, _EXPECTED)
    if isinstance(plain.message, _Message):
        answer.complete = True
        answer.request_id = identity(plain.id)
        _add_message(plain.message, 0, at_ns, answer)
        del answer.output_ns[:]
        answer.first_text_ns = None
        _add_end(_Delta(error=plain.error, finish_reason=plain.finish_reason, usage=plain.usage), answer)
    else:
        _add_other(body, answer)
        if answer.refusal is None:
            raise DecodeError(f"not {_EXPECTED}: {excerpt(body)}")


def _add_other(payload: bytes, answer: Answer) -> None:
    """An error where one is told, nothing where the event at least names its type. Raises DecodeError for the rest."""
    other = parse(_OTHER, payload, _EXPECTED)
    if other.error:
        refuse(refusal_of_event(other.error), answer)
    elif other.type == "error" or (other.type is None and isinstance(other.message, str)):
        refuse(refusal_of_event({"message": other.message}), answer)
    elif other.type is None:
        raise DecodeError(f"not {_EXPECTED}: {excerpt(payload)}")


def _add_message(message: _Message, first_call: int, at_ns: int, answer: Answer) -> None:
    """A piece of the message, or all of it. However many parts it has, it is one chunk with one stamp."""
    stamps = len(answer.output_ns)
    if message.tool_plan:
        answer.add_reasoning(message.tool_plan, at_ns)
    for content in _listed(message.content):
        answer.add_reasoning(content.thinking or "", at_ns)
        answer.add_text(content.text or "", at_ns)
    for index, call in enumerate(_listed(message.tool_calls), first_call):
        function = call.function or _Function()
        answer.add_tool_call(index, function.name or "", function.arguments or "", at_ns)
        answer.name_call(index, call.id)
    del answer.output_ns[stamps + 1 :]


def _listed(value: T | list[T] | None) -> list[T]:
    """Streams have the one piece where a plain answer has a list."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _add_end(delta: _Delta, answer: Answer) -> None:
    """How the answer ended, and what was counted. The words of an error come before the finish reason that it has."""
    if delta.error:
        refuse(refusal_of_event(delta.error), answer)
    if delta.finish_reason:
        finish(delta.finish_reason, answer)
    if delta.usage is not None:
        seen, billed = delta.usage.tokens or _Tokens(), delta.usage.billed_units or _Tokens()
        answer.usage = Usage(
            input=_whole(seen.input_tokens, _whole(billed.input_tokens, None)),
            output=_whole(seen.output_tokens, _whole(billed.output_tokens, None)),
            cached=_whole(delta.usage.cached_tokens, None),
        )


def _whole(tokens: float | None, instead: int | None) -> int | None:
    """Counts are numbers of any kind in the SDK's types."""
    return count(None if tokens is None else int(tokens), instead)


DIALECT = Dialect(
    api="cohere",
    build=build,
    auth=auth,
    framer=SseFramer,
    decode=decode,
    decode_plain=decode_plain,
    refusal=refusal_of_status,
    own=frozenset({"model", "messages", "stream", "max_tokens"}),
    modes=frozenset({"json_schema", "tool"}),
    tools="tools",
)
