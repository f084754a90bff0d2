"""Google's Gemini API: `generateContent` and its stream.

`base_url` ends in `/v1beta`; the model is part of the path. Where nothing else is said, the fields are those of the
google-genai SDK 3.4 source.

An event is a whole response with the next parts of its candidates. A part is a thought if it says so; a function call
comes whole. (The pieces in which Vertex can stream its arguments, `partialArgs`, are not read: by the SDK this API does
not have them, and nothing of ours asks for them.) There is no event for the end: the sign of completion is a
`finishReason`, which is STOP for a function call, too, or a `promptFeedback` that blocks. Reasons that the common map
does not know, MALFORMED_FUNCTION_CALL for one, are kept as they came.

Usage comes on some chunks or on all of them (unconfirmed which), cumulative. `promptTokenCount` includes the cached
tokens, `candidatesTokenCount` excludes the thoughts; what the results of tools add to the prompt is input, too.

An error in the midst of a stream is one more event, or comes raw between the events, over one line or many. There are
no headers that tell a limit: all is in the error's details, which refusals.py reads.
"""

import re
from typing import Any
from urllib.parse import quote

import msgspec

from latbench.model.answer import Answer, Usage
from latbench.model.errors import DecodeError
from latbench.model.request import Ask, Call, Endpoint, HttpRequest, Message
from latbench.providers.base import SCHEMA_NAME, SCHEMA_PURPOSE, Dialect, json_post
from latbench.providers.conversation import arguments
from latbench.providers.fields import Wire, count, excerpt, finish, identity, json_text, parse, refuse
from latbench.providers.refusals import refusal_of_event, refusal_of_status
from latbench.wire.sse import SseFramer

_EXPECTED = "a Gemini response"
_MAX_EVENT_BYTES = 16 * 2**20

# The API reads the names of its fields in both spellings.
_OWN = frozenset(
    {
        "contents",
        "systemInstruction",
        "system_instruction",
        "generation_config",
        "generationConfig.maxOutputTokens",
        "generationConfig.max_output_tokens",
        "generationConfig.candidateCount",
        "generationConfig.candidate_count",
    }
)

# Possessive, and a string may lack its end: no text makes this slow.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)


class _Part(Wire, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    function_call: "_FunctionCall | None" = None
    thought_signature: Any = None


class _FunctionCall(Wire):
    id: Any = None
    name: str | None = None
    args: dict[str, Any] | None = None


class _Content(Wire):
    parts: list[_Part] | None = None


class _Candidate(Wire, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None


class _Feedback(Wire, rename="camel"):
    block_reason: str | None = None


class _Usage(Wire, rename="camel"):
    prompt_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None


class _Response(Wire, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: _Usage | None = None
    model_version: Any = None
    response_id: Any = None
    error: Any = None


_RESPONSE = msgspec.json.Decoder(_Response)


class GeminiFramer:
    """Events of a stream, and between them raw JSON objects: a line that opens one begins it, its last brace ends it.

    That is how the google-genai SDK 3.4 reads errors; the rest is `SseFramer`'s. Half an object is dropped at the end.
    """

    __slots__ = ("_at_line_start", "_depth", "_line", "_max", "_object", "_sse")

    def __init__(self, max_event_bytes: int = _MAX_EVENT_BYTES) -> None:
        self._sse = SseFramer(max_event_bytes)
        self._max = max_event_bytes
        self._at_line_start = True
        self._object = bytearray()
        self._line = bytearray()
        self._depth = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that `data` completes. Raises DecodeError where one is larger than the limit."""
        if not (self._line or self._object or data[:1] == b"{" or b"\n{" in data or b"\r{" in data):
            if data:
                self._at_line_start = data.endswith((b"\n", b"\r"))
            return self._sse.feed(data)
        payloads: list[bytes] = []
        for line in data.splitlines(keepends=True):
            if self._line or self._object:
                self._add(line, payloads)
            elif self._at_line_start and line.startswith(b"{"):
                payloads += self._sse.feed(b"\n\n")  # the event before it has ended, if only by this
                self._add(line, payloads)
            else:
                payloads += self._sse.feed(line)
            self._at_line_start = line.endswith((b"\n", b"\r"))
        return payloads

    def close(self) -> list[bytes]:
        """What the end of the body completes. Raises DecodeError for a body that is no stream at all."""
        payloads: list[bytes] = []
        if self._line:
            self._end_line(payloads)
        return payloads + self._sse.close()

    def _add(self, line: bytes, payloads: list[bytes]) -> None:
        self._line += line
        if len(self._object) + len(self._line) > self._max:
            self._object.clear()
            self._line.clear()
            raise DecodeError(f"an event of the stream is larger than {self._max} bytes")
        if line.endswith((b"\n", b"\r")):
            self._end_line(payloads)

    def _end_line(self, payloads: list[bytes]) -> None:
        """No string of JSON goes over a line's end, so that braces are counted line by line, those in strings not."""
        bare = _STRINGS.sub(b"", self._line)
        self._depth += bare.count(b"{") - bare.count(b"}")
        self._object += self._line
        self._line.clear()
        if self._depth <= 0:
            payloads.append(bytes(self._object).strip())
            self._object.clear()
            self._depth = 0


def build(endpoint: Endpoint, ask: Ask) -> HttpRequest:
    """The request without credentials. Without `alt=sse` a stream would be one JSON array."""
    fields: dict[str, Any] = {
        "contents": [content for message in ask.messages for content in _contents(message)],
        "generationConfig": {"maxOutputTokens": ask.max_tokens},
    }
    system = [{"text": message.content} for message in ask.messages if message.role == "system"]
    if system:
        fields["systemInstruction"] = {"parts": system}
    if ask.mode == "json_schema":
        fields["generationConfig"] |= {"responseMimeType": "application/json", "responseJsonSchema": ask.schema}
    elif ask.mode == "tool":
        function = {"name": SCHEMA_NAME, "description": SCHEMA_PURPOSE, "parametersJsonSchema": ask.schema}
        fields["tools"] = [{"functionDeclarations": [function]}]
        fields["toolConfig"] = {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [SCHEMA_NAME]}}
    if ask.tools:
        declared = [
            {"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.parameters}
            for tool in ask.tools
        ]
        fields["tools"] = [{"functionDeclarations": declared}]
    # As the SDK has it: what names its collection (`models/…`, `tunedModels/…`) goes out as it is.
    model = endpoint.model if "/" in endpoint.model else f"models/{endpoint.model}"
    method = "streamGenerateContent?alt=sse" if endpoint.stream else "generateContent"
    return json_post(endpoint, f"/{quote(model)}:{method}", fields)


def _contents(message: Message) -> list[dict[str, Any]]:
    """A message as contents: none for a system message, and the results of calls as the user's."""
    if message.role == "system":
        return []
    role = "model" if message.role == "assistant" else message.role
    if not message.calls:
        return [{"role": role, "parts": [{"text": message.content}]}]
    said = [{"text": message.content}] if message.content else []
    results = [
        {"functionResponse": {"name": call.name, "response": {"result": call.result}} | _id(call)}
        for call in message.calls
    ]
    return [
        {"role": role, "parts": [*said, *(_call(call) for call in message.calls)]},
        {"role": "user", "parts": results},
    ]


def _call(call: Call) -> dict[str, Any]:
    """A call as the model made it. Newer models refuse their own calls without the signature (Gemini API, thinking)."""
    part: dict[str, Any] = {"functionCall": {"name": call.name, "args": arguments(call)} | _id(call)}
    return part | {"thoughtSignature": call.signature} if call.signature else part


def _id(call: Call) -> dict[str, str]:
    """Its id where the API gave one: Vertex has none, and refuses one."""
    return {"id": call.id} if call.id else {}


def auth(key: str) -> dict[str, str]:
    """The header that carries `key`. (Vertex wants an OAuth token instead: `headers` of the scenario.)"""
    return {"x-goog-api-key": key}


def decode(payload: bytes, at_ns: int, answer: Answer) -> None:
    """One event of a stream. Raises DecodeError for what is neither a response nor an error."""
    _decode(parse(_RESPONSE, payload, _EXPECTED), payload, at_ns, answer)


def decode_plain(body: bytes, at_ns: int, answer: Answer) -> None:
    """A whole answer that was not streamed. Raises DecodeError for a body that is neither an answer nor an error."""
    response = parse(_RESPONSE, body, _EXPECTED)
    _decode(response, body, at_ns, answer)
    del answer.output_ns[:]
    answer.first_text_ns = None
    answer.complete = answer.complete or bool(response.candidates)
    if not answer.complete and answer.refusal is None:
        raise DecodeError(f"a Gemini response without a candidate: {excerpt(body)}")


def _decode(response: _Response, payload: bytes, at_ns: int, answer: Answer) -> None:
    if response.error:
        refuse(refusal_of_event(response.error), answer)
    elif _says_nothing(response):
        raise DecodeError(f"not {_EXPECTED}: {excerpt(payload)}")
    stamps = len(answer.output_ns)
    for candidate in response.candidates or ():
        _add_candidate(candidate, at_ns, answer)
    # One stamp for each chunk that bore output, however many parts it had.
    del answer.output_ns[stamps + 1 :]
    _add_rest(response, answer)


def _says_nothing(response: _Response) -> bool:
    known = (response.candidates, response.prompt_feedback, response.usage_metadata)
    return all(field is None for field in known) and not (response.model_version or response.response_id)


def _add_candidate(candidate: _Candidate, at_ns: int, answer: Answer) -> None:
    content = candidate.content or _Content()
    for part in content.parts or ():
        if part.thought:
            answer.add_reasoning(part.text or "", at_ns)
        else:
            answer.add_text(part.text or "", at_ns)
        call = part.function_call
        if call is not None:
            index, given = len(answer.tool_calls), "" if call.args is None else json_text(call.args)
            answer.add_tool_call(index, call.name or "", given, at_ns)
            answer.name_call(index, call.id, part.thought_signature)
    if candidate.finish_reason:
        answer.complete = True
        finish(candidate.finish_reason, answer)


def _add_rest(response: _Response, answer: Answer) -> None:
    """A blocked prompt, who answered, and what was counted."""
    if response.prompt_feedback is not None and response.prompt_feedback.block_reason:
        answer.complete = True
        finish("content_filter", answer)
    if answer.finish_reason == "stop" and answer.tool_calls:
        answer.finish_reason = "tool"
    answer.request_id = answer.request_id or identity(response.response_id)
    answer.model = answer.model or identity(response.model_version)
    if response.usage_metadata is not None:
        _add_usage(response.usage_metadata, answer)


def _add_usage(usage: _Usage, answer: Answer) -> None:
    """Counts are cumulative: the last one given stands, field by field. Our sums keep what a later chunk leaves out."""
    total = answer.usage = answer.usage or Usage()
    prompt = count(usage.prompt_token_count, None)
    if prompt is not None:
        total.input = prompt + (count(usage.tool_use_prompt_token_count, 0) or 0)
    said = None if total.output is None else total.output - (total.reasoning or 0)
    said = count(usage.candidates_token_count, said)
    total.reasoning = count(usage.thoughts_token_count, total.reasoning)
    if said is not None or total.reasoning is not None:
        total.output = (said or 0) + (total.reasoning or 0)
    total.cached = count(usage.cached_content_token_count, total.cached)


DIALECT = Dialect(
    api="gemini",
    build=build,
    auth=auth,
    framer=GeminiFramer,
    decode=decode,
    decode_plain=decode_plain,
    refusal=refusal_of_status,
    own=_OWN,
    modes=frozenset({"json_schema", "tool"}),
    tools="tools",
)
