"""Ollama's own API: `/api/chat`, and `/api/generate` where a gap is to be filled.

A stream is lines of JSON, an object each; the last one has `done: true`, which is the sign of completion, and the
counts. An error after the first line comes as a line `{"error": "…"}` under HTTP 200 (Ollama API documentation,
"Streaming" and "Errors"; `ollama` 0.6.3 source, `_types.py`). Durations in it are the server's own, and not ours to
report.

- Zeros are left out of the last line. A missing `eval_count` beside a `prompt_eval_count` is therefore 0. A missing
  `prompt_eval_count` stays unknown: older servers did not count a prompt that they had in their cache. Cached tokens
  are never told apart. That `eval_count` includes thinking is not confirmed.
- Tool calls come whole and are numbered as they come, and `done_reason` is `stop` beside them: it becomes `tool`.
- `tools` are offered, and no more: this API has no `tool_choice` (ollama/ollama issue 11171, open in 2026), so that
  `tool` is not among the modes it enforces.
- That an error line inside a stream may speak of a full queue or of a limit is not confirmed; the words are those of
  its statuses 503 (`server/routes.go`) and 429 (cloud models).
"""

from typing import Any

import msgspec

from latbench.model.answer import Answer, Refusal, Usage
from latbench.model.errors import DecodeError
from latbench.model.request import Ask, Endpoint, HttpRequest, Message
from latbench.providers.base import SCHEMA_NAME, SCHEMA_PURPOSE, Dialect, json_post
from latbench.providers.conversation import arguments, chat_tools
from latbench.providers.fields import Wire, count, excerpt, finish, identity, parse, refuse
from latbench.providers.refusals import refusal_of_event, refusal_of_status
from latbench.wire.ndjson import NdjsonFramer

_MEDIA_TYPE = "application/x-ndjson"
_WHAT = "a line of an Ollama answer"

# What a text says, and the name of it that the classifier knows.
_PHRASES = (
    ("server busy", "service_unavailable"),
    ("maximum pending requests", "service_unavailable"),
    ("too many requests", "too_many_requests"),
    ("rate limit", "too_many_requests"),
)


class _Function(Wire):
    name: str | None = None
    arguments: msgspec.Raw = msgspec.Raw()  # kept as it was written


class _ToolCall(Wire):
    function: _Function | None = None


class _Message(Wire):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Line(Wire):
    model: Any = None
    message: _Message | None = None
    response: str | None = None
    thinking: str | None = None
    done: bool | None = None
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    error: Any = None


_LINE = msgspec.json.Decoder(_Line)


def build(endpoint: Endpoint, ask: Ask) -> HttpRequest:
    """The request without credentials. The path depends on whether a gap is to be filled."""
    fields: dict[str, Any] = {
        "model": endpoint.model,
        "stream": endpoint.stream,
        "options": {"num_predict": ask.max_tokens},
    }
    # Neither a schema nor a tool goes with a gap: there the messages say in words what is to be done.
    if ask.fill is not None and ask.mode == "text":
        fields |= {"prompt": ask.fill.prefix, "suffix": ask.fill.suffix}
        return json_post(endpoint, "/api/generate", fields, _MEDIA_TYPE)
    fields["messages"] = [turn for message in ask.messages for turn in _turns(message)]
    if ask.mode == "json_schema":
        fields["format"] = ask.schema
    elif ask.mode == "tool":
        function = {"name": SCHEMA_NAME, "description": SCHEMA_PURPOSE, "parameters": ask.schema}
        fields["tools"] = [{"type": "function", "function": function}]
    if ask.tools:
        fields["tools"] = chat_tools(ask.tools)
    return json_post(endpoint, "/api/chat", fields, _MEDIA_TYPE)


def _turns(message: Message) -> list[dict[str, Any]]:
    """A call has no id here: a result names the tool that it is of."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if not message.calls:
        return [turn]
    turn["tool_calls"] = [{"function": {"name": call.name, "arguments": arguments(call)}} for call in message.calls]
    return [turn, *({"role": "tool", "tool_name": call.name, "content": call.result} for call in message.calls)]


def auth(key: str) -> dict[str, str]:
    """The header that carries `key`. A server of one's own wants none; Ollama's cloud does (its OpenAPI document)."""
    return {"authorization": f"Bearer {key}"}


def decode(payload: bytes, at_ns: int, answer: Answer) -> None:
    """One line of a stream. Raises DecodeError for what is not an object with a message, a response or an error."""
    line = parse(_LINE, payload, _WHAT)
    if line.message is None and line.response is None and line.done is None and not line.error:
        raise DecodeError(f"not {_WHAT}: {excerpt(payload)}")
    stamps = len(answer.output_ns)
    _add_line(line, at_ns, answer)
    # One stamp for each line that bore output, however many pieces it had.
    del answer.output_ns[stamps + 1 :]


def decode_plain(body: bytes, at_ns: int, answer: Answer) -> None:
    """A whole answer that was not streamed: one object, `done`. Raises DecodeError for what is none."""
    line = parse(_LINE, body, _WHAT)
    if not line.done and not line.error:
        raise DecodeError(f"not a whole Ollama answer: {excerpt(body)}")
    _add_line(line, at_ns, answer)
    del answer.output_ns[:]
    answer.first_text_ns = None


def _add_line(line: _Line, at_ns: int, answer: Answer) -> None:
    answer.model = answer.model or identity(line.model)
    if line.error:
        refuse(_refusal(line.error), answer)
    # `/api/generate` has beside one another what `/api/chat` has inside a message.
    answer.add_reasoning(line.thinking or "", at_ns)
    answer.add_text(line.response or "", at_ns)
    if line.message is not None:
        answer.add_reasoning(line.message.thinking or "", at_ns)
        answer.add_text(line.message.content or "", at_ns)
        for call in line.message.tool_calls or ():
            _add_call(call, at_ns, answer)
    if line.done:
        _end(line, answer)


def _add_call(call: _ToolCall, at_ns: int, answer: Answer) -> None:
    if call.function is not None:
        arguments = bytes(call.function.arguments)
        try:
            text = "" if arguments == b"null" else arguments.decode()
        except UnicodeDecodeError as error:
            raise DecodeError(f"not {_WHAT}: {excerpt(arguments)}") from error
        answer.add_tool_call(len(answer.tool_calls), call.function.name or "", text, at_ns)


def _end(line: _Line, answer: Answer) -> None:
    answer.complete = True
    if line.done_reason:  # servers before 0.1.38 gave none
        called = bool(answer.tool_calls) and line.done_reason == "stop"
        finish("tool_calls" if called else line.done_reason, answer)
    if line.prompt_eval_count is not None or line.eval_count is not None:
        usage = answer.usage = answer.usage or Usage()
        usage.input = count(line.prompt_eval_count, usage.input)
        usage.output = count(line.eval_count or 0, usage.output)


def _refusal(error: object) -> Refusal:
    """The texts have no code beside them: what they say is all there is."""
    said = error.lower() if isinstance(error, str) else ""
    name = next((name for phrase, name in _PHRASES if phrase in said), None)
    if name is None:
        return refusal_of_event(error)
    refusal = refusal_of_event({"type": name, "message": error})
    refusal.code = None  # the name is ours
    return refusal


DIALECT = Dialect(
    api="ollama",
    build=build,
    auth=auth,
    framer=NdjsonFramer,
    decode=decode,
    decode_plain=decode_plain,
    refusal=refusal_of_status,
    own=frozenset({"model", "messages", "prompt", "suffix", "stream", "options.num_predict"}),
    modes=frozenset({"json_schema"}),
    fills=True,
    tools="tools",
)
