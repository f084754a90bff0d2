"""Anthropic messages.

A stream is `message_start` right after the headers, then block after block (thinking, text, tool use), each with
`content_block_start`, deltas and `content_block_stop`, then `message_delta` with the stop reason and the counts, and
`message_stop`. A `ping` follows the first block's start. Thinking is done where the request asks for it, and prompts
are cached where `cache_control` stands in it; then input is counted in three parts.

Either header for the key is right (`x-api-key`, or a bearer as newer SDKs send), and so is any version.
"""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from latbench.sim.dialects import Answer, Ask, Call, End, Hit, Parts, Refused, Reply, Room, Start, Tool
from latbench.sim.dialects.fields import (
    dump,
    entries,
    entry,
    flag,
    json_object,
    limit,
    model,
    named_event,
    texts,
    tokens,
)
from latbench.sim.dialects.openai_api import ceil_ms

_STOP = {"stop": "end_turn", "length": "max_tokens", "tool": "tool_use"}
_THINKS = ("enabled", "adaptive", "between_tools")
_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_UNITS = {"requests": "requests per minute", "tokens": "tokens per minute"}


class Anthropic:
    """The dialect."""

    paths: tuple[str, ...] = ("/v1/messages",)
    id_header = "request-id"

    def pages(self, _model: str, _created: int) -> Mapping[str, bytes]:
        """None: the path of its list of models is that of OpenAI."""
        return {}

    def key(self, parts: Parts) -> str:
        """From `x-api-key` or `Authorization: Bearer`."""
        given = parts.headers.get("authorization", "")
        bearer = given.removeprefix("Bearer ") if given.startswith("Bearer ") else ""
        return parts.headers.get("x-api-key") or bearer

    def read(self, parts: Parts) -> Ask:
        """What a request asks for. Raises Refused as the API refuses."""
        if not parts.headers.get("anthropic-version"):
            raise Refused(400, "anthropic-version: header is required")
        fields = json_object(parts.body)
        named = model(fields)
        for name in ("max_tokens", "messages"):
            if fields.get(name) is None:
                raise Refused(400, f"{name}: Field required")
        messages = _messages(entries(fields, "messages"))
        system = fields.get("system")
        prompt = texts(system, "system") + b"".join(texts(one.get("content"), "messages") for one in messages)
        choice = entry(fields, "tool_choice")
        offered = entries(fields, "tools")
        tools, must_call = _chosen(_offered(offered), choice)
        return Ask(
            model=named,
            stream=flag(fields, "stream"),
            max_tokens=limit(fields, "max_tokens"),
            to_the_limit=False,
            prompt_tokens=tokens(prompt),
            include_usage=True,
            prompt=prompt,
            cacheable=_asks_to_cache([fields, *offered, *_blocks(system)], messages),
            reasoning=entry(fields, "thinking").get("type") in _THINKS,
            tools=tools,
            must_call=must_call,
            parallel=not flag(choice, "disable_parallel_tool_use"),
            tool_rounds=sum(_has_called(one) for one in messages),
            schema=_wanted_schema(entry(entry(fields, "output_config"), "format")),
        )

    def reply(self, start: Start) -> Reply:
        """The writer of one answer."""
        return MessagesReply(start)

    def error(self, refused: Refused, request_id: str) -> bytes:
        """The body of an error."""
        return dump({**_error(refused), "request_id": request_id})

    def limit_headers(self, rooms: Sequence[Room], now_s: float) -> Mapping[str, str]:
        """`anthropic-ratelimit-*`, with the moment at which a limit is whole again."""
        headers: dict[str, str] = {}
        for room in rooms:
            full = datetime.fromtimestamp(math.ceil(now_s + room.reset_s), UTC)
            headers[f"anthropic-ratelimit-{room.kind}-limit"] = str(room.limit)
            headers[f"anthropic-ratelimit-{room.kind}-remaining"] = str(room.remaining)
            headers[f"anthropic-ratelimit-{room.kind}-reset"] = full.strftime("%Y-%m-%dT%H:%M:%SZ")
        return headers

    def limited(self, hit: Hit) -> Refused:
        """429, with the wait in whole seconds; without one where waiting does not help."""
        if hit.kind == "concurrency":
            message = "Number of concurrent connections has exceeded your rate limit. Please try again later."
        else:
            message = (
                f"This request would exceed your organization's rate limit of {hit.limit:,} {_UNITS[hit.kind]}. "
                "Please reduce the prompt length or the maximum tokens requested, or try again later."
            )
        headers = {} if hit.wait_s is None else {"retry-after": str(-(-ceil_ms(hit.wait_s) // 1000))}
        return Refused(429, message, headers=headers)

    def failure(self, status: int) -> Refused:
        """500, or the endpoint is overloaded."""
        return Refused(status, "Internal server error" if status == 500 else "Overloaded")

    def bad_key(self) -> Refused:
        """401."""
        return Refused(401, "invalid x-api-key")

    def unknown_model(self, model: str) -> Refused:
        """404."""
        return Refused(404, f"model: {model[:200]}")

    def too_large(self, _limit_bytes: int) -> Refused:
        """413."""
        return Refused(413, "Request exceeds the maximum size")


def _error(refused: Refused) -> dict[str, Any]:
    """An error as it stands in a body and in an event. Its type is that of its status."""
    kind = _TYPES.get(refused.status, "api_error" if refused.status >= 500 else "invalid_request_error")
    said = {"type": kind, "message": refused.message}
    return {"type": "error", "error": said}


def _messages(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not messages:
        raise Refused(400, "messages: at least one message is required")
    for index, one in enumerate(messages):
        if one.get("role") not in ("user", "assistant"):
            raise Refused(400, f"messages.{index}.role: Input should be 'user' or 'assistant'")
        if one.get("content") is None:
            raise Refused(400, f"messages.{index}.content: Field required")
    return messages


def _blocks(content: object) -> list[dict[str, Any]]:
    """The blocks of a content that is no plain text."""
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []


def _has_called(message: Mapping[str, Any]) -> bool:
    return any(block.get("type") == "tool_use" for block in _blocks(message.get("content")))


def _asks_to_cache(others: Sequence[Mapping[str, Any]], messages: Sequence[Mapping[str, Any]]) -> bool:
    blocks = [block for message in messages for block in _blocks(message.get("content"))]
    return any(isinstance(one.get("cache_control"), dict) for one in (*others, *blocks))


def _offered(tools: Sequence[Mapping[str, Any]]) -> tuple[Tool, ...]:
    """Our tools among them: those of the server have a type with a date. Raises Refused for one without a name."""
    found = []
    for index, tool in enumerate(tools):
        if tool.get("type") not in (None, "custom"):
            continue
        if not isinstance(tool.get("name"), str) or not tool["name"]:
            raise Refused(400, f"tools.{index}.custom.name: Field required")
        found.append(Tool(tool["name"], tool.get("input_schema")))
    return tuple(found)


def _chosen(tools: tuple[Tool, ...], choice: Mapping[str, Any]) -> tuple[tuple[Tool, ...], bool]:
    """The tools that `tool_choice` leaves, and whether one has to be called. Raises Refused for one that is missing."""
    kind = choice.get("type", "auto")
    if kind == "auto":
        return tools, False
    if kind == "none":
        return (), False
    if kind not in ("any", "tool"):
        raise Refused(400, "tool_choice: Input tag does not match any of the expected tags")
    left = tools if kind == "any" else tuple(tool for tool in tools if tool.name == choice.get("name"))
    if not left:
        raise Refused(400, "tool_choice: the tool is not among the specified tools")
    return left, True


def _wanted_schema(form: Mapping[str, Any]) -> Any:  # noqa: ANN401  a JSON schema is any JSON
    if form.get("type") != "json_schema":
        return None
    if not isinstance(form.get("schema"), dict | bool):
        raise Refused(400, "output_config.format.schema: Field required")
    return form["schema"]


class MessagesReply:
    """The bytes of one answer. `_open` is the type of the block that is being written, `_block` its number."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, start: Start) -> None:
        self._start = start
        self._block = -1
        self._open = ""

    def greeting(self) -> bytes:
        """The message without content: the input is counted, of the output there is the beginning of a count."""
        return named_event("message_start", {"message": self._message([], None, {**self._input(), "output_tokens": 1})})

    def opening(self) -> bytes:
        """Nothing."""
        return b""

    def reasoning(self, piece: str) -> bytes:
        """A delta of thinking, with what has to stand before it."""
        return self._begin({"type": "thinking", "thinking": "", "signature": ""}) + self._delta(
            {"type": "thinking_delta", "thinking": piece}
        )

    def token(self, piece: str) -> bytes:
        """A delta of text, with what has to stand before it."""
        return self._begin({"type": "text", "text": ""}) + self._delta({"type": "text_delta", "text": piece})

    def call_opening(self, _index: int, call: Call) -> bytes:
        """The block that names the tool; the first piece of its input is empty."""
        block = {"type": "tool_use", "id": _tool_id(call), "name": call.name, "input": {}}
        return self._begin(block) + self._delta({"type": "input_json_delta", "partial_json": ""})

    def call_piece(self, _index: int, piece: str) -> bytes:
        """A delta of its input."""
        return self._delta({"type": "input_json_delta", "partial_json": piece})

    def call_closing(self, _index: int, _call: Call) -> bytes:
        """The end of the block."""
        return self._finish()

    def closing(self, end: End) -> list[bytes]:
        """The events after the last block."""
        stop = {"stop_reason": _STOP[end.finish], "stop_sequence": None}
        events = [
            self._finish(),
            named_event("message_delta", {"delta": stop, "usage": {**self._input(), **_output(end)}}),
            named_event("message_stop", {}),
        ]
        return [event for event in events if event]

    def error_event(self, refused: Refused) -> bytes:
        """An event of its own."""
        return named_event("error", _error(refused))

    def garbage(self) -> bytes:
        """A delta that is cut off in its middle."""
        return b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"text":"\n\n'

    def plain(self, answer: Answer) -> bytes:
        """The whole answer of a request that is not streamed."""
        content: list[dict[str, Any]] = []
        if answer.reasoning:
            content.append({"type": "thinking", "thinking": answer.reasoning, "signature": self._signature()})
        if answer.text:
            content.append({"type": "text", "text": answer.text})
        content += [
            {"type": "tool_use", "id": _tool_id(call), "name": call.name, "input": json.loads(call.arguments)}
            for call in answer.calls
        ]
        usage = {**self._input(), **_output(answer.end), "service_tier": "standard"}
        return dump(self._message(content, _STOP[answer.end.finish], usage))

    def _begin(self, block: Mapping[str, Any]) -> bytes:
        """Opens a block, unless one of its type is open, and ends the one before."""
        if self._open == block["type"]:
            return b""
        ended = self._finish()
        self._open = block["type"]
        self._block += 1
        begun = named_event("content_block_start", {"index": self._block, "content_block": block})
        return ended + begun + (b"" if self._block else named_event("ping", {}))

    def _delta(self, delta: Mapping[str, Any]) -> bytes:
        return named_event("content_block_delta", {"index": self._block, "delta": delta})

    def _finish(self) -> bytes:
        """Ends the block that is open, if one is. Thinking is signed."""
        if not self._open:
            return b""
        signed = b""
        if self._open == "thinking":
            signed = self._delta({"type": "signature_delta", "signature": self._signature()})
        self._open = ""
        return signed + named_event("content_block_stop", {"index": self._block})

    def _signature(self) -> str:
        return f"c2ltLXNpZ25hdHVyZS0{self._start.number}"

    def _message(
        self, content: list[dict[str, Any]], stop_reason: str | None, usage: Mapping[str, Any]
    ) -> dict[str, Any]:
        return {
            "id": f"msg_sim_{self._start.number}",
            "type": "message",
            "role": "assistant",
            "model": self._start.ask.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": usage,
        }

    def _input(self) -> dict[str, int]:
        """What the cache gave or took is not among the input."""
        start = self._start
        return {
            "input_tokens": start.ask.prompt_tokens - start.cached_tokens - start.written_tokens,
            "cache_creation_input_tokens": start.written_tokens,
            "cache_read_input_tokens": start.cached_tokens,
        }


def _output(end: End) -> dict[str, Any]:
    counts: dict[str, Any] = {"output_tokens": end.output_tokens}
    if end.reasoning_tokens:
        counts["output_tokens_details"] = {"thinking_tokens": end.reasoning_tokens}
    return counts


def _tool_id(call: Call) -> str:
    return f"toolu_{call.id}"
