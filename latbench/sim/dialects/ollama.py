"""Ollama's own API: `/api/chat` and `/api/generate`.

A stream, which is the default, is one line of JSON a token, and a last one with `done`, the counts and the server's own
durations in nanoseconds; zeros are left out of it. A tool call comes whole, and `done_reason` is `stop` beside it. A
model that can think does so unless `think` is false. There are no headers for limits; a full queue is a 503.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from latbench.sim.dialects import Answer, Ask, Call, End, Hit, Parts, Refused, Reply, Room, Start
from latbench.sim.dialects.fields import dump, entries, entry, flag, json_object, limit, model, texts, tokens
from latbench.sim.dialects.openai_chat import offered

_CHAT = "/api/chat"
_GENERATE = "/api/generate"
_BUSY = "server busy, please try again.  maximum pending requests exceeded"
_VERSION = "0.12.0"


class OllamaChat:
    """`/api/chat`."""

    paths: tuple[str, ...] = (_CHAT,)
    id_header = "x-request-id"

    def pages(self, model: str, created: int) -> Mapping[str, bytes]:
        """The list of models, and the version."""
        listed = {"name": model, "model": model, "modified_at": _moment(created), "size": 0, "digest": ""}
        return {"/api/tags": dump({"models": [listed]}), "/api/version": dump({"version": _VERSION})}

    def key(self, parts: Parts) -> str:
        """From `Authorization: Bearer`: only the cloud asks for one."""
        given = parts.headers.get("authorization", "")
        return given.removeprefix("Bearer ") if given.startswith("Bearer ") else ""

    def read(self, parts: Parts) -> Ask:
        """What a request asks for. Raises Refused as the API refuses."""
        fields = json_object(parts.body)
        messages = entries(fields, "messages")
        if not messages:  # what loads a model in the real one
            raise Refused(400, "this endpoint needs messages")
        prompt = b"".join(texts(one.get("content"), "messages") for one in messages)
        tools = offered(entries(fields, "tools"))
        rounds = sum(bool(one.get("tool_calls")) for one in messages)
        return Ask(**_shared(fields, prompt), tools=tools, tool_rounds=rounds)

    def reply(self, start: Start) -> Reply:
        """The writer of one answer."""
        return OllamaReply(start, generates=False)

    def error(self, refused: Refused, _request_id: str) -> bytes:
        """The body of an error."""
        return dump({"error": refused.message})

    def limit_headers(self, _rooms: Sequence[Room], _now_s: float) -> Mapping[str, str]:
        """None: the API has none."""
        return {}

    def limited(self, hit: Hit) -> Refused:
        """503 for too many at a time; 429, which only the cloud has, for the others."""
        if hit.kind == "concurrency":
            return Refused(503, _BUSY)
        return Refused(429, f"too many requests: the limit is {hit.limit} {hit.kind} per minute")

    def failure(self, status: int) -> Refused:
        """500, or the endpoint is overloaded."""
        return Refused(status, "llama runner process has terminated" if status == 500 else _BUSY)

    def bad_key(self) -> Refused:
        """401."""
        return Refused(401, "unauthorized")

    def unknown_model(self, model: str) -> Refused:
        """404."""
        return Refused(404, f'model "{model[:200]}" not found, try pulling it first')

    def too_large(self, _limit_bytes: int) -> Refused:
        """413."""
        return Refused(413, "http: request body too large")


class OllamaGenerate(OllamaChat):
    """`/api/generate`: a prompt, and a gap where there is a `suffix`."""

    paths: tuple[str, ...] = (_GENERATE,)

    def pages(self, _model: str, _created: int) -> Mapping[str, bytes]:
        """None: they are those of `/api/chat`."""
        return {}

    def read(self, parts: Parts) -> Ask:
        """What a request asks for. Raises Refused as the API refuses."""
        fields = json_object(parts.body)
        if not fields.get("prompt"):
            raise Refused(400, "this endpoint needs a prompt")
        prompt = b"".join(texts(fields.get(name), name) for name in ("system", "prompt", "suffix"))
        return Ask(**_shared(fields, prompt), fill=bool(fields.get("suffix")))

    def reply(self, start: Start) -> Reply:
        """The writer of one answer."""
        return OllamaReply(start, generates=True)


def _shared(fields: Mapping[str, Any], prompt: bytes) -> dict[str, Any]:
    """What both ask for alike."""
    options = entry(fields, "options")
    endless = options.get("num_predict") in (-1, -2)
    form = fields.get("format")
    return {
        "model": model(fields),
        "stream": flag(fields, "stream", default=True),
        "max_tokens": None if endless else limit(options, "num_predict"),
        "to_the_limit": False,
        "prompt_tokens": tokens(prompt),
        "include_usage": True,
        "prompt": prompt,
        "reasoning": fields.get("think") is not False,
        "schema": True if form == "json" else form or None,
    }


def _moment(created: int) -> str:
    return datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%S.000000000Z")


class OllamaReply:
    """The bytes of one answer."""

    content_type = "application/x-ndjson"

    def __init__(self, start: Start, generates: bool) -> None:
        self._start = start
        self._generates = generates
        self._head = {"model": start.ask.model, "created_at": _moment(start.created)}

    def greeting(self) -> bytes:
        """Nothing."""
        return b""

    def opening(self) -> bytes:
        """Nothing."""
        return b""

    def reasoning(self, piece: str) -> bytes:
        """The line of one token of thinking."""
        return self._line(self._said("", thinking=piece))

    def token(self, piece: str) -> bytes:
        """The line of one token."""
        return self._line(self._said(piece))

    def call_opening(self, _index: int, _call: Call) -> bytes:
        """Nothing: a call comes whole."""
        return b""

    def call_piece(self, _index: int, _piece: str) -> bytes:
        """Nothing."""
        return b""

    def call_closing(self, index: int, call: Call) -> bytes:
        """The line of a whole call."""
        return self._line(self._said("", tool_calls=[_tool_call(index, call)]))

    def closing(self, end: End) -> list[bytes]:
        """The last line."""
        return [dump(self._whole(self._said(""), end)) + b"\n"]

    def error_event(self, refused: Refused) -> bytes:
        """A line with the error."""
        return dump({"error": refused.message}) + b"\n"

    def garbage(self) -> bytes:
        """A line that is cut off in its middle."""
        return b'{"model":"\n'

    def plain(self, answer: Answer) -> bytes:
        """The whole answer of a request that is not streamed."""
        more: dict[str, Any] = {"thinking": answer.reasoning} if answer.reasoning else {}
        if answer.calls:
            more["tool_calls"] = [_tool_call(index, call) for index, call in enumerate(answer.calls)]
        return dump(self._whole(self._said(answer.text, **more), answer.end))

    def _said(self, text: str, **more: object) -> dict[str, Any]:
        """What one line says: by itself, or as a message."""
        if self._generates:
            return {"response": text, **more}
        return {"message": {"role": "assistant", "content": text, **more}}

    def _line(self, said: Mapping[str, Any]) -> bytes:
        return dump({**self._head, **said, "done": False}) + b"\n"

    def _whole(self, said: Mapping[str, Any], end: End) -> dict[str, Any]:
        """How it ended, and what was counted. Of durations and counts, zeros are not told."""
        figures = {
            "total_duration": end.total_ns,
            "prompt_eval_count": self._start.ask.prompt_tokens,
            "prompt_eval_duration": end.first_ns,
            "eval_count": end.output_tokens,
            "eval_duration": max(0, end.total_ns - end.first_ns),
        }
        reason = "length" if end.finish == "length" else "stop"
        told = {name: figure for name, figure in figures.items() if figure}
        return {**self._head, **said, "done": True, "done_reason": reason, **told}


def _tool_call(index: int, call: Call) -> dict[str, Any]:
    function = {"index": index, "name": call.name, "arguments": json.loads(call.arguments)}
    return {"id": call.id, "function": function}
