"""Amazon Bedrock: ConverseStream, and Converse for answers that are not streamed.

A stream is binary messages: a prelude with two lengths and their CRC-32, headers that say what the message is, JSON,
and a CRC-32 of it all (AWS event stream). Text and reasoning have no start of a block, tools do. `messageStop` comes
before `metadata` with the counts, in which input leaves out what the cache gave or took. Reasoning is done where the
request asks for it, and prompts are cached where a `cachePoint` stands. A signature is believed unread.
"""

import json
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

from latbench.sim.dialects import Answer, Ask, Call, End, Hit, Parts, Refused, Reply, Room, Start, Tool
from latbench.sim.dialects.fields import dump, entries, entry, json_object, limit, texts, tokens

_PRELUDE = struct.Struct(">II")
_CRC = struct.Struct(">I")
_STRING = 7  # the number of its type in a header
_STOP = {"stop": "end_turn", "length": "max_tokens", "tool": "tool_use"}
_THINKS = ("enabled", "adaptive")
_KEY_ID = re.compile(r"Credential=([^/,\s]+)/")


class Bedrock:
    """The dialect."""

    paths: tuple[str, ...] = ("/model/{model}/{method:converse|converse-stream}",)
    id_header = "x-amzn-requestid"

    def pages(self, _model: str, _created: int) -> Mapping[str, bytes]:
        """None."""
        return {}

    def key(self, parts: Parts) -> str:
        """A Bedrock API key, or the id of the key that signed the request."""
        given = parts.headers.get("authorization", "")
        signed = _KEY_ID.search(given)
        if signed is not None:
            return signed[1]
        return given.removeprefix("Bearer ") if given.startswith("Bearer ") else ""

    def read(self, parts: Parts) -> Ask:
        """What a request asks for. Raises Refused as the API refuses."""
        try:
            return _read(parts)
        except Refused as refused:
            raise _exception(refused.status, "ValidationException", refused.message) from None

    def reply(self, start: Start) -> Reply:
        """The writer of one answer."""
        return ConverseReply(start)

    def error(self, refused: Refused, _request_id: str) -> bytes:
        """The body of an error; its name is in a header."""
        return dump({"message": refused.message})

    def limit_headers(self, _rooms: Sequence[Room], _now_s: float) -> Mapping[str, str]:
        """None: the API has none."""
        return {}

    def limited(self, hit: Hit) -> Refused:
        """429, without a hint how long to wait."""
        what = "tokens" if hit.kind == "tokens" else "requests"
        return _exception(429, "ThrottlingException", f"Too many {what}, please wait before trying again.")

    def failure(self, status: int) -> Refused:
        """500, or the endpoint is overloaded."""
        if status == 500:
            return _exception(500, "InternalServerException", "The system encountered an unexpected error.")
        return _exception(status, "ServiceUnavailableException", "Bedrock is unable to process your request.")

    def bad_key(self) -> Refused:
        """403: this API has no 401."""
        message = "Authentication failed: Please make sure your API Key is valid."
        return _exception(403, "AccessDeniedException", message)

    def unknown_model(self, _model: str) -> Refused:
        """400."""
        return _exception(400, "ValidationException", "The provided model identifier is invalid.")

    def too_large(self, _limit_bytes: int) -> Refused:
        """413."""
        return _exception(413, "RequestEntityTooLargeException", "The request body is too large.")


def _exception(status: int, name: str, message: str) -> Refused:
    return Refused(status, message, kind=name, headers={"x-amzn-errortype": name})


def _read(parts: Parts) -> Ask:
    fields = json_object(parts.body)
    messages = entries(fields, "messages")
    if not messages or not all(one.get("role") in ("user", "assistant") for one in messages):
        raise Refused(400, "A conversation must start with a user message.")
    turns = [entries(fields, "system"), *(entries(one, "content") for one in messages)]
    prompt = b"".join(_text(blocks) for blocks in turns)
    config = entry(fields, "toolConfig")
    offered = entries(config, "tools")
    tools, must_call = _chosen(_offered(offered), entry(config, "toolChoice"))
    thinking = entry(entry(fields, "additionalModelRequestFields"), "thinking")
    return Ask(
        model=parts.path["model"],
        stream=parts.path["method"] == "converse-stream",
        max_tokens=limit(entry(fields, "inferenceConfig"), "maxTokens"),
        to_the_limit=False,
        prompt_tokens=tokens(prompt),
        include_usage=True,
        prompt=prompt,
        cacheable=any("cachePoint" in block for blocks in (*turns, offered) for block in blocks),
        reasoning=thinking.get("type") in _THINKS,
        tools=tools,
        must_call=must_call,
        tool_rounds=sum(any("toolUse" in block for block in blocks) for blocks in turns),
        schema=_wanted_schema(entry(entry(fields, "outputConfig"), "textFormat")),
    )


def _text(blocks: Sequence[Mapping[str, Any]]) -> bytes:
    """The text of blocks, the results of tools included."""
    found = [texts([block], "content") for block in blocks]
    found += [texts(entry(block, "toolResult").get("content"), "content") for block in blocks]
    return b"".join(found)


def _offered(tools: Sequence[Mapping[str, Any]]) -> tuple[Tool, ...]:
    """The tools. Raises Refused for one without a name."""
    found = []
    for tool in tools:
        if "toolSpec" in tool:
            spec = entry(tool, "toolSpec")
            if not isinstance(spec.get("name"), str) or not spec["name"]:
                raise Refused(400, "toolConfig.tools.1.member.toolSpec.name: must not be null")
            found.append(Tool(spec["name"], entry(spec, "inputSchema").get("json")))
    return tuple(found)


def _chosen(tools: tuple[Tool, ...], choice: Mapping[str, Any]) -> tuple[tuple[Tool, ...], bool]:
    """The tools that are left, and whether one has to be called. Raises Refused for one that is not there."""
    if "any" not in choice and "tool" not in choice:
        return tools, False
    left = tools
    if "tool" in choice:
        name = entry(choice, "tool").get("name")
        left = tuple(tool for tool in tools if tool.name == name)
    if not left:
        raise Refused(400, "The tool choice names a tool that is not in the tool configuration.")
    return left, True


def _wanted_schema(form: Mapping[str, Any]) -> Any:  # noqa: ANN401  a JSON schema is any JSON
    """The schema travels as a text."""
    if form.get("type") != "json_schema":
        return None
    text = entry(entry(form, "structure"), "jsonSchema").get("schema")
    try:
        return json.loads(text if isinstance(text, str) else "")
    except (ValueError, RecursionError):
        raise Refused(400, "outputConfig.textFormat.structure.jsonSchema.schema: not a JSON schema") from None


class ConverseReply:
    """The bytes of one answer. `_open` is what the block that is being written holds, `_block` its number."""

    content_type = "application/vnd.amazon.eventstream"

    def __init__(self, start: Start) -> None:
        self._start = start
        self._block = -1
        self._open = ""

    def greeting(self) -> bytes:
        """That the message begins."""
        return _event("messageStart", {"role": "assistant"})

    def opening(self) -> bytes:
        """Nothing."""
        return b""

    def reasoning(self, piece: str) -> bytes:
        """A delta of reasoning, and the end of the block before."""
        return self._begin("reasoning") + self._delta({"reasoningContent": {"text": piece}})

    def token(self, piece: str) -> bytes:
        """A delta of text, and the end of the block before."""
        return self._begin("text") + self._delta({"text": piece})

    def call_opening(self, index: int, call: Call) -> bytes:
        """The start of a block, which names the tool."""
        begun = self._begin(f"tool {index}")
        named = {"toolUse": {"toolUseId": _tool_id(call), "name": call.name}}
        return begun + _event("contentBlockStart", {"contentBlockIndex": self._block, "start": named})

    def call_piece(self, _index: int, piece: str) -> bytes:
        """A delta of its input."""
        return self._delta({"toolUse": {"input": piece}})

    def call_closing(self, _index: int, _call: Call) -> bytes:
        """The end of the block."""
        return self._finish()

    def closing(self, end: End) -> list[bytes]:
        """The end of the last block, of the message, and the counts."""
        events = [
            self._finish(),
            _event("messageStop", {"stopReason": _STOP[end.finish]}),
            _event("metadata", self._metadata(end)),
        ]
        return [event for event in events if event]

    def error_event(self, refused: Refused) -> bytes:
        """An exception inside the stream."""
        name = refused.kind[:1].lower() + refused.kind[1:]
        return _frame("exception", "exception", name, {"message": refused.message})

    def garbage(self) -> bytes:
        """A message whose last checksum is wrong."""
        frame = bytearray(self._delta({"text": "x"}))
        frame[-1] ^= 0xFF
        return bytes(frame)

    def plain(self, answer: Answer) -> bytes:
        """The whole answer of a request that is not streamed."""
        content: list[dict[str, Any]] = []
        if answer.reasoning:
            thought = {"text": answer.reasoning, "signature": self._signature()}
            content.append({"reasoningContent": {"reasoningText": thought}})
        if answer.text:
            content.append({"text": answer.text})
        content += [
            {"toolUse": {"toolUseId": _tool_id(call), "name": call.name, "input": json.loads(call.arguments)}}
            for call in answer.calls
        ]
        output = {"message": {"role": "assistant", "content": content}}
        return dump({"output": output, "stopReason": _STOP[answer.end.finish], **self._metadata(answer.end)})

    def _begin(self, holds: str) -> bytes:
        """Counts a block, unless it is the one that is open, and ends the one before."""
        if self._open == holds:
            return b""
        ended = self._finish()
        self._open = holds
        self._block += 1
        return ended

    def _delta(self, delta: Mapping[str, Any]) -> bytes:
        return _event("contentBlockDelta", {"contentBlockIndex": self._block, "delta": delta})

    def _finish(self) -> bytes:
        """Ends the block that is open, if one is. Reasoning is signed."""
        if not self._open:
            return b""
        signed = b""
        if self._open == "reasoning":
            signed = self._delta({"reasoningContent": {"signature": self._signature()}})
        self._open = ""
        return signed + _event("contentBlockStop", {"contentBlockIndex": self._block})

    def _signature(self) -> str:
        return f"c2ltLXNpZ25hdHVyZS0{self._start.number}"

    def _metadata(self, end: End) -> dict[str, Any]:
        start = self._start
        prompt = start.ask.prompt_tokens
        usage = {
            "inputTokens": prompt - start.cached_tokens - start.written_tokens,
            "outputTokens": end.output_tokens,
            "totalTokens": prompt + end.output_tokens,
            "cacheReadInputTokens": start.cached_tokens,
            "cacheWriteInputTokens": start.written_tokens,
        }
        return {"usage": usage, "metrics": {"latencyMs": end.total_ns // 1_000_000}}


def _tool_id(call: Call) -> str:
    return f"tooluse_{call.id}"


def _event(name: str, payload: Mapping[str, Any]) -> bytes:
    return _frame("event", "event", name, payload)


def _frame(message: str, kind: str, name: str, payload: Mapping[str, Any]) -> bytes:
    """One message: `message` is its type, `:{kind}-type` says which it is of those."""
    headers = b"".join(
        _header(*one)
        for one in ((f":{kind}-type", name), (":content-type", "application/json"), (":message-type", message))
    )
    body = dump(payload)
    size = _PRELUDE.size + 2 * _CRC.size + len(headers) + len(body)
    prelude = _PRELUDE.pack(size, len(headers))
    whole = prelude + _CRC.pack(crc32(prelude)) + headers + body
    return whole + _CRC.pack(crc32(whole))


def _header(name: str, value: str) -> bytes:
    return bytes([len(name)]) + name.encode() + bytes([_STRING]) + struct.pack(">H", len(value)) + value.encode()
