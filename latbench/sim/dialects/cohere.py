"""Cohere's chat, version 2.

A stream is `message-start` right after the headers, then block after block (thinking, text), each with `content-start`,
`content-delta` and `content-end`, tool calls with events of their own, and `message-end` with the finish reason and the
counts. What is billed and what the model saw is the same here. A failure inside a stream is a `message-end`, too.
"""

import math
from collections.abc import Mapping, Sequence
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
from latbench.sim.dialects.openai_chat import offered

_FINISH = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tool": "TOOL_CALL"}
_ROLES = ("system", "user", "assistant", "tool")


class Cohere:
    """The dialect."""

    paths: tuple[str, ...] = ("/v2/chat",)
    id_header = "x-debug-trace-id"

    def pages(self, _model: str, _created: int) -> Mapping[str, bytes]:
        """None: the path of its list of models is that of OpenAI."""
        return {}

    def key(self, parts: Parts) -> str:
        """From `Authorization: Bearer`, in any case."""
        scheme, _, key = parts.headers.get("authorization", "").partition(" ")
        return key if scheme.lower() == "bearer" else ""

    def read(self, parts: Parts) -> Ask:
        """What a request asks for. Raises Refused as the API refuses."""
        fields = json_object(parts.body)
        named = model(fields)
        messages = entries(fields, "messages")
        if not messages or not all(one.get("role") in _ROLES for one in messages):
            raise Refused(400, "invalid request: messages must be a list of messages with roles")
        prompt = b"".join(texts(one.get("content"), "messages") for one in messages)
        tools, must_call = _chosen(offered(entries(fields, "tools")), fields.get("tool_choice"))
        return Ask(
            model=named,
            stream=flag(fields, "stream"),
            max_tokens=limit(fields, "max_tokens"),
            to_the_limit=False,
            prompt_tokens=tokens(prompt),
            include_usage=True,
            prompt=prompt,
            reasoning=entry(fields, "thinking").get("type") != "disabled",
            tools=tools,
            must_call=must_call,
            tool_rounds=sum(bool(one.get("tool_calls")) for one in messages),
            schema=_wanted_schema(entry(fields, "response_format")),
        )

    def reply(self, start: Start) -> Reply:
        """The writer of one answer."""
        return ChatReply(start)

    def error(self, refused: Refused, request_id: str) -> bytes:
        """The body of an error."""
        return dump({"id": request_id, "message": refused.message})

    def limit_headers(self, rooms: Sequence[Room], now_s: float) -> Mapping[str, str]:
        """How many calls are left, and the second at which a limit is whole again: of tokens nothing more is told."""
        headers: dict[str, str] = {}
        for room in rooms:
            if room.kind == "requests":
                headers["x-trial-endpoint-call-limit"] = str(room.limit)
                headers["x-trial-endpoint-call-remaining"] = str(room.remaining)
            resets = (int(headers.get("x-ratelimit-reset", 0)), math.ceil(now_s + room.reset_s))
            headers["x-ratelimit-reset"] = str(max(resets))
        return headers

    def limited(self, hit: Hit) -> Refused:
        """429."""
        message = {
            "requests": f"You are using a Trial key, which is limited to {hit.limit} API calls / minute.",
            "tokens": f"trial token rate limit exceeded, limit is {hit.limit} tokens per minute",
            "concurrency": f"too many concurrent requests, limit is {hit.limit}",
        }[hit.kind]
        return Refused(429, message)

    def failure(self, status: int) -> Refused:
        """500, or the endpoint is overloaded."""
        return Refused(status, "internal server error" if status == 500 else "the service is overloaded")

    def bad_key(self) -> Refused:
        """401."""
        return Refused(401, "invalid api token")

    def unknown_model(self, model: str) -> Refused:
        """404."""
        return Refused(404, f"model '{model[:200]}' not found, make sure the correct model ID was used")

    def too_large(self, limit_bytes: int) -> Refused:
        """413."""
        return Refused(413, f"the request is larger than {limit_bytes} bytes")


def _chosen(tools: tuple[Tool, ...], choice: object) -> tuple[tuple[Tool, ...], bool]:
    """The tools that are left, and whether one has to be called. Raises Refused where there is none to call."""
    if choice == "NONE":
        return (), False
    if choice == "REQUIRED" and not tools:
        raise Refused(400, "invalid request: tool_choice REQUIRED needs tools")
    return tools, choice == "REQUIRED"


def _wanted_schema(form: Mapping[str, Any]) -> Any:  # noqa: ANN401  a JSON schema is any JSON
    if form.get("type") != "json_object":
        return None
    found = form.get("json_schema", form.get("schema"))
    return True if found is None else found


class ChatReply:
    """The bytes of one answer. `_open` is the type of the block that is being written, `_block` its number."""

    content_type = "text/event-stream"

    def __init__(self, start: Start) -> None:
        self._start = start
        self._id = f"sim-{start.number}"
        self._block = -1
        self._open = ""

    def greeting(self) -> bytes:
        """The message without content."""
        message = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        return named_event("message-start", {"id": self._id, "delta": {"message": message}})

    def opening(self) -> bytes:
        """Nothing."""
        return b""

    def reasoning(self, piece: str) -> bytes:
        """A delta of thinking, with what has to stand before it."""
        return self._begin("thinking") + self._delta("content-delta", self._block, content={"thinking": piece})

    def token(self, piece: str) -> bytes:
        """A delta of text, with what has to stand before it."""
        return self._begin("text") + self._delta("content-delta", self._block, content={"text": piece})

    def call_opening(self, index: int, call: Call) -> bytes:
        """The event that names the function."""
        return self._finish() + self._delta("tool-call-start", index, tool_calls=_tool_call(call, ""))

    def call_piece(self, index: int, piece: str) -> bytes:
        """A delta of its arguments."""
        return self._delta("tool-call-delta", index, tool_calls={"function": {"arguments": piece}})

    def call_closing(self, index: int, _call: Call) -> bytes:
        """Its end."""
        return named_event("tool-call-end", {"index": index})

    def closing(self, end: End) -> list[bytes]:
        """The end of the last block, and of the message."""
        delta = {"finish_reason": _FINISH[end.finish], "usage": self._usage(end)}
        events = [self._finish(), named_event("message-end", {"id": self._id, "delta": delta})]
        return [event for event in events if event]

    def error_event(self, refused: Refused) -> bytes:
        """The end of the message with the words of the error."""
        delta = {"error": refused.message, "finish_reason": "ERROR"}
        return named_event("message-end", {"id": self._id, "delta": delta})

    def garbage(self) -> bytes:
        """A delta that is cut off in its middle."""
        return b'event: content-delta\ndata: {"type":"content-delta","index":0,"delta":{"message":{"content":"\n\n'

    def plain(self, answer: Answer) -> bytes:
        """The whole answer of a request that is not streamed."""
        content = [{"type": "thinking", "thinking": answer.reasoning}] if answer.reasoning else []
        content += [{"type": "text", "text": answer.text}] if answer.text else []
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if answer.calls:
            message["tool_calls"] = [_tool_call(call, call.arguments) for call in answer.calls]
        finish = _FINISH[answer.end.finish]
        return dump({"id": self._id, "message": message, "finish_reason": finish, "usage": self._usage(answer.end)})

    def _begin(self, kind: str) -> bytes:
        """Opens a block, unless one of its type is open, and ends the one before."""
        if self._open == kind:
            return b""
        ended = self._finish()
        self._open = kind
        self._block += 1
        return ended + self._delta("content-start", self._block, content={"type": kind, kind: ""})

    def _finish(self) -> bytes:
        """Ends the block that is open, if one is."""
        if not self._open:
            return b""
        self._open = ""
        return named_event("content-end", {"index": self._block})

    @staticmethod
    def _delta(kind: str, index: int, **message: object) -> bytes:
        return named_event(kind, {"index": index, "delta": {"message": message}})

    def _usage(self, end: End) -> dict[str, Any]:
        counts = {"input_tokens": self._start.ask.prompt_tokens, "output_tokens": end.output_tokens}
        return {"billed_units": counts, "tokens": counts, "cached_tokens": self._start.cached_tokens}


def _tool_call(call: Call, arguments: str) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}
