"""Anthropic Messages.

What an event means is what the SDK's source (anthropic 2.12) makes of it; the API reference's page on streaming could
not be read here, its events are confirmed by the SDK and by captured traffic. The type of an event stands in its data,
and is read there: the line `event:` that the SDK insists on is not needed.

The sign of completion is `message_stop`, and nothing else: a stop reason comes an event earlier. A type that is not
known is skipped, of events, blocks and deltas alike, since the API may add some at any time. An object without a type
is not this protocol.

Signatures, citations, redacted thinking and the results of the server's own tools are not output: nothing in them can
be read as it arrives. The name of a tool is output, though its input has not begun.
"""

from typing import Any

import msgspec

from latbench.model.answer import Answer, Usage
from latbench.model.errors import DecodeError
from latbench.model.request import Ask, Endpoint, HttpRequest, Message
from latbench.providers.base import SCHEMA_NAME, SCHEMA_PURPOSE, Dialect, json_post
from latbench.providers.conversation import arguments, with_ids
from latbench.providers.fields import Wire, count, excerpt, finish, identity, json_text, parse, refuse
from latbench.providers.refusals import refusal_of_event, refusal_of_status
from latbench.wire.sse import SseFramer

VERSION = "2023-06-01"
"""The version of the API that is asked for; the one that belongs to `x-api-key` (SDK 1.13 sends both so)."""

_CALLS = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
"""Blocks in which the model calls a tool, ours or the server's (SDK source; the last is unconfirmed)."""


class _OutputDetails(Wire):
    thinking_tokens: int | None = None


class _Usage(Wire):
    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None


class _Block(Wire):
    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    id: Any = None
    name: str | None = None
    input: Any = None


class _Delta(Wire):
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None


class _Stop(Wire):
    stop_reason: str | None = None


class _Message(Wire):
    id: Any = None
    model: Any = None
    usage: _Usage | None = None
    content: list[_Block] | None = None
    stop_reason: str | None = None


class _Event(Wire, tag_field="type", kw_only=True):
    error: Any = None  # of a gateway that says it beside an event (unconfirmed)


class _MessageStart(_Event, tag="message_start"):
    message: _Message


class _BlockStart(_Event, tag="content_block_start"):
    content_block: _Block
    index: int = 0


class _BlockDelta(_Event, tag="content_block_delta"):
    delta: _Delta
    index: int = 0


class _MessageDelta(_Event, tag="message_delta"):
    delta: _Stop | None = None
    usage: _Usage | None = None


class _MessageStop(_Event, tag="message_stop"):
    pass


class _Other(Wire):
    """What is none of the events above: an error, or a type that is not known."""

    type: str = ""
    error: Any = None
    request_id: Any = None


_KNOWN = frozenset({"message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop"})
_EVENT = msgspec.json.Decoder(_MessageStart | _BlockStart | _BlockDelta | _MessageDelta | _MessageStop)
_MESSAGE = msgspec.json.Decoder(_Message)
_OTHER = msgspec.json.Decoder(_Other)


class _Counted(Usage):
    """Usage with the parts of its input, which the API counts apart and may repeat apart."""

    __slots__ = ("fresh", "written")

    def __init__(self) -> None:
        super().__init__()
        self.fresh: int | None = None
        self.written: int | None = None


def build(endpoint: Endpoint, ask: Ask) -> HttpRequest:
    """The request without credentials and without the endpoint's own headers. `endpoint.body` has the last word.

    System messages are not turns here: they go into one field, wherever they stood. The limit has one name, whatever
    `max_tokens_field` says, and usage comes without being asked for.
    """
    system = "\n\n".join(message.content for message in ask.messages if message.role == "system")
    fields: dict[str, Any] = {
        "model": endpoint.model,
        "max_tokens": ask.max_tokens,
        "messages": [turn for place, message in enumerate(ask.messages) for turn in _turns(place, message)],
        "stream": endpoint.stream,
    }
    if system:
        fields["system"] = system
    if ask.mode == "json_schema":
        fields["output_config"] = {"format": {"type": "json_schema", "schema": ask.schema}}
    elif ask.mode == "tool":
        tool = {"name": SCHEMA_NAME, "description": SCHEMA_PURPOSE, "input_schema": ask.schema, "strict": True}
        fields["tools"] = [tool]
        fields["tool_choice"] = {"type": "tool", "name": SCHEMA_NAME}
    if ask.tools:
        fields["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.parameters} for tool in ask.tools
        ]
    request = json_post(endpoint, "/messages", fields)
    return msgspec.structs.replace(request, headers=request.headers | {"anthropic-version": VERSION})


def _turns(place: int, message: Message) -> list[dict[str, Any]]:
    """Message number `place` as turns: none for a system message; with calls, blocks, and the results as the user's."""
    if message.role == "system":
        return []
    if not message.calls:
        return [{"role": message.role, "content": message.content}]
    named = list(with_ids(place, message.calls))
    said: list[dict[str, Any]] = [{"type": "text", "text": message.content}] if message.content else []
    said += [{"type": "tool_use", "id": name, "name": call.name, "input": arguments(call)} for name, call in named]
    results = [{"type": "tool_result", "tool_use_id": name, "content": call.result} for name, call in named]
    return [{"role": message.role, "content": said}, {"role": "user", "content": results}]


def auth(key: str) -> dict[str, str]:
    """The header that carries `key`: the one that goes with `VERSION`."""
    return {"x-api-key": key}


def decode(payload: bytes, at_ns: int, answer: Answer) -> None:
    """One event of a stream. Raises DecodeError for what has no type, or the fields of its type wrong."""
    try:
        event = parse(_EVENT, payload, "an event of a message")
    except DecodeError:
        # Not Anthropic's; the SDK drops it without a word, and so a gateway may send it unnoticed (unconfirmed).
        if payload.startswith(b"[DONE]") or _is_other(payload, answer):
            return
        raise
    if event.error:
        refuse(refusal_of_event(event.error), answer)
    stamps = len(answer.output_ns)
    if isinstance(event, _BlockDelta):
        _add_delta(event, at_ns, answer)
    elif isinstance(event, _BlockStart):
        _add_block(event.index, event.content_block, at_ns, answer)
    elif isinstance(event, _MessageStart):
        _add_start(event.message, answer)
    elif isinstance(event, _MessageDelta):
        _add_end(event.delta, event.usage, answer)
    else:
        answer.complete = True
    # One stamp for each event that bore output, whatever a block opens with.
    del answer.output_ns[stamps + 1 :]


def decode_plain(body: bytes, at_ns: int, answer: Answer) -> None:
    """A whole message that was not streamed: text and counts, but no arrival times, because nothing arrived in parts.

    Raises DecodeError for a body that is neither a message nor an error.
    """
    message = parse(_MESSAGE, body, "a message")
    if message.content is None:
        if not _add_error(parse(_OTHER, body, "a message"), answer):
            raise DecodeError(f"not a message: {excerpt(body)}")
        return
    for index, block in enumerate(message.content):
        _add_block(index, block, at_ns, answer)
    del answer.output_ns[:]
    answer.first_text_ns = None
    answer.complete = True
    _add_names(message, answer)
    _add_end(_Stop(message.stop_reason), message.usage, answer)


def _is_other(payload: bytes, answer: Answer) -> bool:
    """Whether `payload` is an event all the same: an error, or one of a type that is not known here."""
    other = parse(_OTHER, payload, "an event of a message")
    return _add_error(other, answer) or (other.type != "" and other.type not in _KNOWN)


def _add_error(other: _Other, answer: Answer) -> bool:
    """Whatever has an error is one, also if a gateway leaves the type out (unconfirmed). Says whether it was."""
    if not other.error and other.type != "error":
        return False
    refuse(refusal_of_event(other.error), answer)
    answer.request_id = answer.request_id or identity(other.request_id)
    return True


def _add_names(message: _Message, answer: Answer) -> None:
    answer.request_id = answer.request_id or identity(message.id)
    answer.model = answer.model or identity(message.model)


def _add_start(message: _Message, answer: Answer) -> None:
    _add_names(message, answer)
    if message.usage is not None:
        # Its output tokens are where the count begins, no count of an answer: a stream that is cut has none.
        message.usage.output_tokens = None
        _add_usage(message.usage, answer)


def _add_block(index: int, block: _Block, at_ns: int, answer: Answer) -> None:
    """A block that begins, or a whole one."""
    if block.type in _CALLS:
        # In a stream the input is empty here, and its pieces follow; where it is whole, none do.
        given = json_text(block.input) if block.input else ""
        answer.add_tool_call(index, block.name or "", given, at_ns)
        answer.name_call(index, block.id)
    elif block.type == "thinking":
        answer.add_reasoning(block.thinking or "", at_ns)
    elif block.type == "text":
        answer.add_text(block.text or "", at_ns)


def _add_delta(event: _BlockDelta, at_ns: int, answer: Answer) -> None:
    delta = event.delta
    if delta.text:
        answer.add_text(delta.text, at_ns)
    elif delta.thinking:
        answer.add_reasoning(delta.thinking, at_ns)
    elif delta.partial_json:
        answer.add_tool_call(event.index, "", delta.partial_json, at_ns)


def _add_end(stop: _Stop | None, usage: _Usage | None, answer: Answer) -> None:
    if stop is not None and stop.stop_reason:
        finish(stop.stop_reason, answer)
    if usage is not None:
        _add_usage(usage, answer)


def _add_usage(usage: _Usage, answer: Answer) -> None:
    """Totals that overwrite; what is not repeated keeps its value (SDK source). Input excludes what the cache holds."""
    total = answer.usage if isinstance(answer.usage, _Counted) else _Counted()
    answer.usage = total
    total.fresh = count(usage.input_tokens, total.fresh)
    total.written = count(usage.cache_creation_input_tokens, total.written)
    total.cached = count(usage.cache_read_input_tokens, total.cached)
    if total.fresh is not None:
        total.input = total.fresh + (total.written or 0) + (total.cached or 0)
    total.output = count(usage.output_tokens, total.output)
    if usage.output_tokens_details is not None:
        total.reasoning = count(usage.output_tokens_details.thinking_tokens, total.reasoning)


DIALECT = Dialect(
    api="anthropic",
    build=build,
    auth=auth,
    framer=SseFramer,
    decode=decode,
    decode_plain=decode_plain,
    refusal=refusal_of_status,
    own=frozenset({"model", "messages", "system", "stream", "max_tokens"}),
    modes=frozenset({"json_schema", "tool"}),
    tools="tools",
)
