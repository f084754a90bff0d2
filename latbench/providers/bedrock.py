"""Amazon Bedrock: ConverseStream, and Converse for answers that are not streamed.

The model is in the path, and a stream is AWS event-stream messages, not server-sent events. Shapes and names are those
of the API's own model (botocore 1.44.5, `bedrock-runtime` 2023-09-30; Amazon Bedrock API reference, ConverseStream).

- The sign of completion is `messageStop`; `metadata` with the counts comes after it.
- `inputTokens` leaves out what was read from the cache or written to it (Amazon Bedrock user guide, "Prompt caching";
  known second-hand). `outputTokens` includes reasoning, which is not told apart.
- An exception may come inside the stream, after HTTP 200, and beats a finish reason.
- Nothing names the model that answered, but for a prompt router's trace.
- A schema is enforced with `outputConfig.textFormat`, which only some models know; it travels as a text. A forced tool
  is the way that all models with tools know. `strict` is left out of it, because models without structured output may
  refuse the field (not confirmed).

An endpoint with `api_key_env` sends a Bedrock API key as a bearer token. One without signs its requests (`sigv4.py`).
"""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from latbench.model.answer import Answer, Refusal, Usage
from latbench.model.errors import DecodeError
from latbench.model.request import Ask, Endpoint, HttpRequest, Message
from latbench.model.sample import Outcome
from latbench.providers.base import SCHEMA_NAME, SCHEMA_PURPOSE, Dialect, json_post
from latbench.providers.conversation import arguments, with_ids
from latbench.providers.fields import Wire, count, excerpt, finish, identity, parse, refuse
from latbench.providers.refusals import capped, refusal_of_event, refusal_of_status
from latbench.providers.sigv4 import signer
from latbench.wire.eventstream import EventStreamFramer


class _Shape(Wire, rename="camel"):
    """The API writes its names in camel case."""


class _ToolUse(_Shape):
    tool_use_id: Any = None
    name: str | None = None
    input: msgspec.Raw = msgspec.Raw()  # a text in a stream, any JSON in a plain answer


class _ReasoningText(_Shape):
    text: str | None = None


class _Reasoning(_Shape):
    text: str | None = None
    reasoning_text: _ReasoningText | None = None


class _Piece(_Shape):
    """A delta, the start of a block, or a whole block of a plain answer."""

    text: str | None = None
    tool_use: _ToolUse | None = None
    reasoning_content: _Reasoning | None = None


class _Delta(_Shape):
    delta: _Piece
    content_block_index: int = 0


class _Start(_Shape):
    start: _Piece | None = None
    content_block_index: int = 0


class _Stop(_Shape):
    stop_reason: str


class _TokenUsage(_Shape):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None


class _Router(_Shape):
    invoked_model_id: Any = None


class _Trace(_Shape):
    prompt_router: _Router | None = None


class _Metadata(_Shape):
    usage: _TokenUsage | None = None
    trace: _Trace | None = None


class _Content(_Shape):
    content: list[_Piece] | None = None


class _Output(_Shape):
    message: _Content | None = None


class _Plain(_Metadata):
    output: _Output | None = None
    stop_reason: str | None = None


_DELTA = msgspec.json.Decoder(_Delta)
_START = msgspec.json.Decoder(_Start)
_STOP = msgspec.json.Decoder(_Stop)
_METADATA = msgspec.json.Decoder(_Metadata)
_PLAIN = msgspec.json.Decoder(_Plain)
_TEXT = msgspec.json.Decoder(str)


def build(endpoint: Endpoint, ask: Ask) -> HttpRequest:
    """The request without credentials. System messages stand apart, wherever in the conversation they were."""
    fields: dict[str, Any] = {
        "messages": [turn for place, message in enumerate(ask.messages) for turn in _turns(place, message)],
        "inferenceConfig": {"maxTokens": ask.max_tokens},
    }
    system = [{"text": message.content} for message in ask.messages if message.role == "system"]
    if system:
        fields["system"] = system
    if ask.mode == "json_schema":
        wanted = {"name": SCHEMA_NAME, "schema": msgspec.json.encode(ask.schema).decode()}
        fields["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": wanted}}}
    elif ask.mode == "tool":
        tool = {"name": SCHEMA_NAME, "description": SCHEMA_PURPOSE, "inputSchema": {"json": ask.schema}}
        fields["toolConfig"] = {"tools": [{"toolSpec": tool}], "toolChoice": {"tool": {"name": SCHEMA_NAME}}}
    if ask.tools:
        offered = [
            {
                "toolSpec": {
                    "name": tool.name,
                    "description": tool.description,
                    "inputSchema": {"json": tool.parameters},
                }
            }
            for tool in ask.tools
        ]
        fields["toolConfig"] = {"tools": offered}
    # A model may be an ARN: its colons and slashes belong to one segment of the path.
    path = f"/model/{quote(endpoint.model, safe='')}/converse{'-stream' if endpoint.stream else ''}"
    return json_post(endpoint, path, fields, "application/vnd.amazon.eventstream")


def _turns(place: int, message: Message) -> list[dict[str, Any]]:
    """Message number `place` as turns: none for a system message, and the results of calls as the user's."""
    if message.role == "system":
        return []
    said: list[dict[str, Any]] = [{"text": message.content}] if message.content or not message.calls else []
    if not message.calls:
        return [{"role": message.role, "content": said}]
    named = list(with_ids(place, message.calls))
    said += [{"toolUse": {"toolUseId": name, "name": call.name, "input": arguments(call)}} for name, call in named]
    results = [{"toolResult": {"toolUseId": name, "content": [{"text": call.result}]}} for name, call in named]
    return [{"role": message.role, "content": said}, {"role": "user", "content": results}]


def auth(key: str) -> dict[str, str]:
    """The header that carries a Bedrock API key."""
    return {"authorization": f"Bearer {key}"}


def decode(payload: bytes, at_ns: int, answer: Answer) -> None:
    """One message of a stream, as `EventStreamFramer` hands it out. Raises DecodeError for what is none."""
    head, _, content = payload.partition(b"\n")
    kind, _, name = head.decode("ascii", "replace").partition(" ")
    if not name or kind not in ("event", "exception", "error"):
        raise DecodeError(f"not a message of ConverseStream: {excerpt(payload)}")
    if kind != "event":
        refuse(_refusal_of_exception(name, content), answer)
    elif name in _EVENTS:  # the others start and end what bears no output, or are new
        _EVENTS[name](content, at_ns, answer)


def _add_start(content: bytes, at_ns: int, answer: Answer) -> None:
    event = parse(_START, content, "a contentBlockStart")
    if event.start is not None and event.start.tool_use is not None:
        answer.add_tool_call(event.content_block_index, event.start.tool_use.name or "", "", at_ns)
        answer.name_call(event.content_block_index, event.start.tool_use.tool_use_id)


def _add_delta(content: bytes, at_ns: int, answer: Answer) -> None:
    event = parse(_DELTA, content, "a contentBlockDelta")
    piece, stamps = event.delta, len(answer.output_ns)
    _add_words(piece, at_ns, answer)
    if piece.tool_use is not None and piece.tool_use.input:
        text = parse(_TEXT, bytes(piece.tool_use.input), "the input of a tool")
        answer.add_tool_call(event.content_block_index, "", text, at_ns)
    # A delta is one of these. Were it several, it still arrived once.
    del answer.output_ns[stamps + 1 :]


def _add_words(piece: _Piece, at_ns: int, answer: Answer) -> None:
    thought = piece.reasoning_content
    if thought is not None:
        answer.add_reasoning(thought.text or (thought.reasoning_text and thought.reasoning_text.text) or "", at_ns)
    answer.add_text(piece.text or "", at_ns)


def _add_stop(content: bytes, at_ns: int, answer: Answer) -> None:
    _end(parse(_STOP, content, "a messageStop").stop_reason, answer)


def _end(reason: str, answer: Answer) -> None:
    answer.complete = True
    finish(reason, answer)


def _add_metadata(content: bytes, at_ns: int, answer: Answer) -> None:
    _add_rest(parse(_METADATA, content, "the metadata of an answer"), answer)


def _add_rest(metadata: _Metadata, answer: Answer) -> None:
    """Who answered, and what was counted."""
    if metadata.trace is not None and metadata.trace.prompt_router is not None:
        answer.model = answer.model or identity(metadata.trace.prompt_router.invoked_model_id)
    usage = metadata.usage
    if usage is not None:
        total = answer.usage = answer.usage or Usage()
        total.cached = count(usage.cache_read_input_tokens, total.cached)
        total.output = count(usage.output_tokens, total.output)
        if usage.input_tokens is not None:
            cached = (count(usage.cache_read_input_tokens, 0) or 0) + (count(usage.cache_write_input_tokens, 0) or 0)
            total.input = count(usage.input_tokens + cached, total.input)


_EVENTS: dict[str, Callable[[bytes, int, Answer], None]] = {
    "contentBlockStart": _add_start,
    "contentBlockDelta": _add_delta,
    "messageStop": _add_stop,
    "metadata": _add_metadata,
}


def decode_plain(body: bytes, at_ns: int, answer: Answer) -> None:
    """A whole answer of Converse. Raises DecodeError for what is none: this API has no errors under HTTP 200."""
    plain = parse(_PLAIN, body, "an answer of Converse")
    if plain.output is None or plain.stop_reason is None:
        raise DecodeError(f"not an answer of Converse: {excerpt(body)}")
    blocks = plain.output.message.content if plain.output.message is not None else None
    for index, block in enumerate(blocks or ()):
        _add_words(block, at_ns, answer)
        if block.tool_use is not None:
            answer.add_tool_call(index, block.tool_use.name or "", _text_of(block.tool_use.input), at_ns)
            answer.name_call(index, block.tool_use.tool_use_id)
    del answer.output_ns[:]
    answer.first_text_ns = None
    _end(plain.stop_reason, answer)
    _add_rest(plain, answer)


def _text_of(raw: msgspec.Raw) -> str:
    """JSON as it was written."""
    try:
        return bytes(raw).decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"not an answer of Converse: {excerpt(bytes(raw))}") from error


def _refusal_of_exception(name: str, content: bytes) -> Refusal:
    """An exception of the API's model, whose JSON has a `message`, or an error, of which only a text is known."""
    try:
        said = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = content.decode("utf-8", "replace")
    error = said if isinstance(said, dict) else {"message": said}
    # `modelStreamErrorException` may pass on what the model's own server said.
    words = {"type": name, "code": error.get("originalStatusCode")}
    refusal = refusal_of_event({"message": error.get("originalMessage"), **error, **words})
    refusal.code = capped(name)
    return refusal


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
    """Any status but 200. `ModelNotReadyException` is a 429 that no limit of ours has caused."""
    found = refusal_of_status(status, headers, body)
    if (found.code or "").lower() == "modelnotreadyexception":
        found.outcome, found.kind = Outcome.OVERLOADED.value, None
    return found


DIALECT = Dialect(
    api="bedrock",
    build=build,
    auth=auth,
    framer=EventStreamFramer,
    decode=decode,
    decode_plain=decode_plain,
    refusal=refusal,
    own=frozenset({"messages", "system", "inferenceConfig.maxTokens"}),
    modes=frozenset({"json_schema", "tool"}),
    tools="toolConfig.tools",
    signer=signer,
)
