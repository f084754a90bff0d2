"""Mistral: chat completions with habits of its own, and the path that fills gaps.

The paths begin with `/mistral`, because those of the API are OpenAI's; `/v1/fim/completions` is its own, and there
without it, too. Usage is always on the last chunk, thinking is a list inside the content, and a tool call comes whole.
Of the rate-limit headers only those per minute for tokens have been seen; the ones for requests are named after them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from latbench.sim.dialects import Answer, Ask, Call, End, Parts, Refused, Reply, Room, Start
from latbench.sim.dialects.fields import dump, flag, json_object, limit, model, text_bytes, tokens
from latbench.sim.dialects.openai_api import OpenAIApi, models
from latbench.sim.dialects.openai_chat import DONE, FINISH, read

_CHAT = "/mistral/v1/chat/completions"
_FILL = "/fim/completions"


class Mistral(OpenAIApi):
    """The dialect."""

    paths: tuple[str, ...] = (_CHAT, "/mistral/v1" + _FILL, "/v1" + _FILL)
    id_header = "mistral-correlation-id"

    def pages(self, model: str, created: int) -> Mapping[str, bytes]:
        """The list of models."""
        return {"/mistral/v1/models": models(model, created)}

    def read(self, parts: Parts) -> Ask:
        """What a request asks for: it has messages, or the texts around a gap. Raises Refused as the API refuses."""
        fields = json_object(parts.body)
        if "messages" in fields or "prompt" not in fields:
            # The number of tokens is told anyway, and there is no other way to ask for it.
            return read({name: value for name, value in fields.items() if name != "stream_options"})
        around = [fields.get(name) or "" for name in ("prompt", "suffix")]
        if not all(isinstance(text, str) for text in around):
            raise Refused(422, "Input should be a valid string", param="prompt", code="string_type")
        prompt = text_bytes("".join(around))
        return Ask(
            model=model(fields),
            stream=flag(fields, "stream"),
            max_tokens=limit(fields, "max_tokens"),
            to_the_limit=False,
            prompt_tokens=tokens(prompt),
            include_usage=True,
            prompt=prompt,
            reasoning=False,
            fill=True,
        )

    def reply(self, start: Start) -> Reply:
        """The writer of one answer."""
        return MistralReply(start)

    def error(self, refused: Refused, _request_id: str = "") -> bytes:
        """The body of an error, which says itself that it is one."""
        return _error(refused)

    def limit_headers(self, rooms: Sequence[Room], _now_s: float) -> Mapping[str, str]:
        """`x-ratelimit-*-minute`, without resets."""
        headers: dict[str, str] = {}
        for room in rooms:
            headers[f"x-ratelimit-limit-{room.kind}-minute"] = str(room.limit)
            headers[f"x-ratelimit-remaining-{room.kind}-minute"] = str(room.remaining)
        return headers


def _error(refused: Refused) -> bytes:
    kind = "rate_limit_error" if refused.status == 429 else refused.kind
    fields = {"message": refused.message, "type": kind, "param": refused.param, "code": refused.code}
    return dump({"object": "error", **fields})


class MistralReply:
    """The bytes of one answer."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, start: Start) -> None:
        self._start = start
        self._head = {
            "id": f"cmpl-sim-{start.number}",
            "object": "chat.completion.chunk",
            "created": start.created,
            "model": start.ask.model,
        }

    def greeting(self) -> bytes:
        """Nothing."""
        return b""

    def opening(self) -> bytes:
        """The chunk that says who speaks."""
        return self._chunk({"role": "assistant", "content": ""})

    def reasoning(self, piece: str) -> bytes:
        """A chunk of thinking, which is a list in a list."""
        return self._chunk({"content": [_thinking(piece)]})

    def token(self, piece: str) -> bytes:
        """The chunk of one token."""
        return self._chunk({"content": piece})

    def call_opening(self, _index: int, _call: Call) -> bytes:
        """Nothing: a call comes whole."""
        return b""

    def call_piece(self, _index: int, _piece: str) -> bytes:
        """Nothing."""
        return b""

    def call_closing(self, index: int, call: Call) -> bytes:
        """The chunk of a whole call."""
        return self._chunk({"content": "", "tool_calls": [_tool_call(index, call)]})

    def closing(self, end: End) -> list[bytes]:
        """The last chunk, with the usage, and the end."""
        return [self._chunk({"content": ""}, FINISH[end.finish], {"usage": self._usage(end)}), DONE]

    def error_event(self, refused: Refused) -> bytes:
        """An event with the body of an error."""
        return b"data: " + _error(refused) + b"\n\n"

    def garbage(self) -> bytes:
        """A chunk that is cut off in its middle."""
        return b'data: {"choices":[{"index":0,"delta":{"content":"\n\n'

    def plain(self, answer: Answer) -> bytes:
        """The whole answer of a request that is not streamed."""
        message: dict[str, Any] = {"role": "assistant", "content": answer.text, "tool_calls": None}
        if answer.reasoning:
            message["content"] = [_thinking(answer.reasoning), {"type": "text", "text": answer.text}]
        if answer.calls:
            message["tool_calls"] = [_tool_call(index, call) for index, call in enumerate(answer.calls)]
        choice = {"index": 0, "message": message, "finish_reason": FINISH[answer.end.finish]}
        whole = {**self._head, "object": "chat.completion", "choices": [choice]}
        return dump({**whole, "usage": self._usage(answer.end)})

    def _usage(self, end: End) -> dict[str, Any]:
        prompt = self._start.ask.prompt_tokens
        return {
            "prompt_tokens": prompt,
            "total_tokens": prompt + end.output_tokens,
            "completion_tokens": end.output_tokens,
            "prompt_tokens_details": {"cached_tokens": self._start.cached_tokens},
        }

    def _chunk(
        self, delta: Mapping[str, Any], finish: str | None = None, more: Mapping[str, Any] | None = None
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return b"data: " + dump({**self._head, "choices": [choice], **(more or {})}) + b"\n\n"


def _thinking(text: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}


def _tool_call(index: int, call: Call) -> dict[str, Any]:
    return {"id": call.id, "function": {"name": call.name, "arguments": call.arguments}, "index": index}
