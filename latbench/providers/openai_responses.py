"""OpenAI Responses.

Read from the SDK's source (openai 3.54) and from running it: an event's type stands in its data, the line `event:` is
not needed, and `[DONE]`, which the API does not send, is tolerated. Types that are not known are skipped: there
are many (searches, images, code), and the API adds more.

There are no finish reasons here but a status. `response.completed` is the sign of completion; whether it ended with a
tool's call is seen from the calls. `response.incomplete` is one, too, and gives its reason. A failure inside a 200 has
three shapes: `response.failed`, an event of type `error` with the words in itself (the SDK hands that out as any other
event), and an `error` object in any event.

The last event repeats the whole answer. It is read only if no pieces came before it (no server is known to do that).
"""

from typing import Any

import msgspec

from latbench.model.answer import Answer, Refusal, Usage
from latbench.model.errors import DecodeError
from latbench.model.request import Ask, Endpoint, HttpRequest, Message
from latbench.model.sample import Outcome
from latbench.providers.base import SCHEMA_NAME, SCHEMA_PURPOSE, Dialect, json_post
from latbench.providers.conversation import with_ids
from latbench.providers.fields import Wire, count, excerpt, finish, identity, parse, refuse
from latbench.providers.refusals import capped, refusal_of_event, refusal_of_status
from latbench.wire.sse import SseFramer

_TEXT = frozenset({"response.output_text.delta", "response.refusal.delta"})
_REASONING = frozenset({"response.reasoning_text.delta", "response.reasoning_summary_text.delta"})
_ARGUMENTS = frozenset({"response.function_call_arguments.delta", "response.custom_tool_call_input.delta"})
_BEGIN = frozenset({"response.created", "response.queued", "response.in_progress"})
_END = frozenset({"response.completed", "response.incomplete", "response.failed"})
_ANSWERED = frozenset({"completed", "incomplete"})
_NOTHING = msgspec.Raw(b"")


class _InputDetails(Wire):
    cached_tokens: int | None = None


class _OutputDetails(Wire):
    reasoning_tokens: int | None = None


class _Usage(Wire):
    input_tokens: int | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None


class _Part(Wire):
    text: str | None = None
    refusal: str | None = None


class _Item(Wire):
    """Of the output: a message, a call of a tool, reasoning, or something else, which has none of these fields."""

    type: str | None = None
    content: list[_Part] | None = None
    summary: list[_Part] | None = None
    call_id: Any = None
    name: str | None = None
    arguments: str | None = None
    input: str | None = None


class _Kind(Wire):
    type: str | None = None


class _Reason(Wire):
    reason: str | None = None


class _Response(Wire):
    id: Any = None
    model: Any = None
    status: str | None = None
    error: Any = None
    incomplete_details: _Reason | None = None
    output: list[msgspec.Raw] | None = None
    usage: _Usage | None = None


class _Event(Wire):
    """Any event. What only some types have is read once the type is known: others may call something else so."""

    type: str = ""
    delta: Any = None
    output_index: Any = None
    item: msgspec.Raw = _NOTHING
    response: msgspec.Raw = _NOTHING
    error: Any = None
    code: Any = None
    message: Any = None


_EVENT = msgspec.json.Decoder(_Event)
_ITEM = msgspec.json.Decoder(_Item)
_KIND = msgspec.json.Decoder(_Kind)
_RESPONSE = msgspec.json.Decoder(_Response)


def build(endpoint: Endpoint, ask: Ask) -> HttpRequest:
    """The request without credentials and without the endpoint's own headers. `endpoint.body` has the last word.

    System messages stay where they are: `input` takes them as turns. The limit has one name, whatever
    `max_tokens_field` says, and usage comes without being asked for.
    """
    fields: dict[str, Any] = {
        "model": endpoint.model,
        "input": [item for place, message in enumerate(ask.messages) for item in _items(place, message)],
        "max_output_tokens": ask.max_tokens,
        "stream": endpoint.stream,
    }
    if ask.mode == "json_schema":
        wanted = {"type": "json_schema", "name": SCHEMA_NAME, "schema": ask.schema, "strict": True}
        fields["text"] = {"format": wanted}
    elif ask.mode == "tool":
        function = {"name": SCHEMA_NAME, "description": SCHEMA_PURPOSE, "parameters": ask.schema, "strict": True}
        fields["tools"] = [{"type": "function", **function}]
        fields["tool_choice"] = {"type": "function", "name": SCHEMA_NAME}
    if ask.tools:
        fields["tools"] = [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
                "strict": False,  # what the API takes for granted is true, and not every schema can be held to
            }
            for tool in ask.tools
        ]
    return json_post(endpoint, "/responses", fields)


def _items(place: int, message: Message) -> list[dict[str, Any]]:
    """Message number `place` as items of the input: a call and its result are items by themselves."""
    said = {"role": message.role, "content": message.content}
    if not message.calls:
        return [said]
    named = list(with_ids(place, message.calls))
    called = [
        {"type": "function_call", "call_id": name, "name": call.name, "arguments": call.arguments or "{}"}
        for name, call in named
    ]
    results = [{"type": "function_call_output", "call_id": name, "output": call.result} for name, call in named]
    return [*([said] if message.content else []), *called, *results]


def auth(key: str) -> dict[str, str]:
    """The header that carries `key`."""
    return {"authorization": f"Bearer {key}"}


def decode(payload: bytes, at_ns: int, answer: Answer) -> None:
    """One event of a stream. Raises DecodeError for what has no type and is no error, or wrong fields for its type."""
    if payload.startswith(b"[DONE]"):
        return
    event = parse(_EVENT, payload, "an event of a response")
    if event.type in _TEXT:
        answer.add_text(_piece(event, payload), at_ns)
    elif event.type in _REASONING:
        answer.add_reasoning(_piece(event, payload), at_ns)
    elif event.type in _ARGUMENTS:
        answer.add_tool_call(_place(event), "", _piece(event, payload), at_ns)
    elif event.type == "response.output_item.added":
        _begin_item(_place(event), event.item, at_ns, answer)
    elif event.type in _BEGIN:
        _add_names(_response(event), answer)
    elif event.type in _END:
        _end(event.type.removeprefix("response."), _response(event), at_ns, answer)
    elif not event.type and not event.error:
        raise DecodeError(f"not an event of a response: {excerpt(payload)}")
    if event.error:
        refuse(refusal_of_event(event.error), answer)
    elif event.type == "error":
        refuse(refusal_of_event({"code": event.code, "message": event.message}), answer)


def decode_plain(body: bytes, at_ns: int, answer: Answer) -> None:
    """A whole response that was not streamed: text and counts, but no arrival times: nothing arrived in parts.

    Raises DecodeError for a body that is neither a response that has ended nor an error.
    """
    response = parse(_RESPONSE, body, "a response")
    status = response.status or "completed"
    if response.error:
        status = "failed"
    elif response.output is None or status in ("queued", "in_progress"):
        raise DecodeError(f"not a response that has ended: {excerpt(body)}")
    _end(status, response, at_ns, answer)
    del answer.output_ns[:]
    answer.first_text_ns = None


def _piece(event: _Event, payload: bytes) -> str:
    if not isinstance(event.delta, str):
        raise DecodeError(f"an event of a response without its piece: {excerpt(payload)}")
    return event.delta


def _place(event: _Event) -> int:
    """The number of the item in the output, which tells tool calls apart."""
    return event.output_index if isinstance(event.output_index, int) else 0


def _response(event: _Event) -> _Response:
    return parse(_RESPONSE, bytes(event.response), f"a response in {event.type[:40]}")


def _begin_item(index: int, item: msgspec.Raw, at_ns: int, answer: Answer) -> None:
    """A call of a tool begins with its name, which is output; of other items, the pieces follow."""
    if parse(_KIND, bytes(item), "an item of a response").type in ("function_call", "custom_tool_call"):
        _add_item(index, item, at_ns, answer)


def _end(status: str, response: _Response, at_ns: int, answer: Answer) -> None:
    _add_names(response, answer)
    if response.usage is not None:
        _add_usage(response.usage, answer)
    if not answer.output_ns:
        for index, item in enumerate(response.output or ()):
            _add_item(index, item, at_ns, answer)
        # What comes at once is one chunk.
        del answer.output_ns[1:]
    if response.error or status not in _ANSWERED:
        said = Refusal(Outcome.STREAM_ERROR.value, message=capped(f"the status is {status}"))
        refuse(refusal_of_event(response.error) if response.error else said, answer)
        return
    answer.complete = True
    if status == "completed":
        finish("tool_calls" if answer.tool_calls else "stop", answer)
    else:
        details = response.incomplete_details
        finish((details and details.reason) or status, answer)


def _add_item(index: int, raw: msgspec.Raw, at_ns: int, answer: Answer) -> None:
    kind = parse(_KIND, bytes(raw), "an item of a response").type
    if kind not in ("message", "reasoning", "function_call", "custom_tool_call"):
        return
    item = parse(_ITEM, bytes(raw), "an item of a response")
    if kind == "message":
        for part in item.content or ():
            answer.add_text(part.text or part.refusal or "", at_ns)
    elif kind == "reasoning":
        # A summary stands for the reasoning where that is not shown: it counts once.
        answer.add_reasoning("".join(part.text or "" for part in item.content or item.summary or ()), at_ns)
    else:
        answer.add_tool_call(index, item.name or "", item.arguments or item.input or "", at_ns)
        answer.name_call(index, item.call_id)


def _add_names(response: _Response, answer: Answer) -> None:
    answer.request_id = answer.request_id or identity(response.id)
    answer.model = answer.model or identity(response.model)


def _add_usage(usage: _Usage, answer: Answer) -> None:
    """Input includes cached tokens here, and output reasoning, as with us."""
    total = answer.usage = answer.usage or Usage()
    total.input = count(usage.input_tokens, total.input)
    total.output = count(usage.output_tokens, total.output)
    if usage.input_tokens_details is not None:
        total.cached = count(usage.input_tokens_details.cached_tokens, total.cached)
    if usage.output_tokens_details is not None:
        total.reasoning = count(usage.output_tokens_details.reasoning_tokens, total.reasoning)


DIALECT = Dialect(
    api="openai-responses",
    build=build,
    auth=auth,
    framer=SseFramer,
    decode=decode,
    decode_plain=decode_plain,
    refusal=refusal_of_status,
    own=frozenset({"model", "input", "stream", "max_output_tokens"}),
    modes=frozenset({"json_schema", "tool"}),
    tools="tools",
)
