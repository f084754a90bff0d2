"""OpenAI chat completions as the API itself speaks it.

A stream is: a role chunk with empty content, one chunk a token, a chunk with the finish reason, with
`stream_options.include_usage` a chunk with empty choices and the usage, `[DONE]`. `usage: null` stands in every other
chunk exactly where usage was asked for. Reasoning, which api.openai.com does not show, comes as `reasoning_content`,
as most servers of this API send it. One choice only; `stop` and the sampling fields are ignored.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from latbench.sim.dialects import Answer, Ask, Call, End, Parts, Refused, Reply, Start, Tool
from latbench.sim.dialects.fields import dump, entries, entry, flag, json_object, limit, model, text_bytes, tokens
from latbench.sim.dialects.openai_api import OpenAIApi, error

DONE = b"data: [DONE]\n\n"
FINISH = {"stop": "stop", "length": "length", "tool": "tool_calls"}

_FINGERPRINT = "fp_sim"


class OpenAIChat(OpenAIApi):
    """The dialect."""

    paths: tuple[str, ...] = ("/v1/chat/completions",)

    def read(self, parts: Parts) -> Ask:
        """What the body of a request asks for. Raises Refused as the API refuses."""
        return read(json_object(parts.body))

    def reply(self, start: Start) -> Reply:
        """The writer of one answer."""
        return ChatReply(start)


def read(fields: Mapping[str, Any]) -> Ask:
    """What the fields of a request ask for. Raises Refused as the API refuses."""
    named = model(fields)
    if fields.get("n") not in (None, 1):
        raise Refused(400, "this endpoint gives one choice: leave out 'n' or set it to 1.", param="n")
    stream = flag(fields, "stream")
    messages = _messages(fields.get("messages"))
    prompt = b"".join(_content(message, f"messages[{index}]") for index, message in enumerate(messages))
    tools, must_call = chosen(offered(entries(fields, "tools")), fields.get("tool_choice"))
    return Ask(
        model=named,
        stream=stream,
        max_tokens=limit(fields, "max_completion_tokens", "max_tokens"),
        to_the_limit=flag(fields, "ignore_eos"),
        prompt_tokens=tokens(prompt),
        include_usage=include_usage(fields.get("stream_options"), stream),
        prompt=prompt,
        reasoning=fields.get("reasoning_effort") != "none",
        tools=tools,
        must_call=must_call,
        parallel=flag(fields, "parallel_tool_calls", default=True),
        tool_rounds=sum(bool(message.get("tool_calls")) for message in messages),
        schema=wanted_schema(entry(fields, "response_format")),
    )


def include_usage(options: object, stream: bool) -> bool:
    """Whether the stream has to end with the usage. Raises Refused for options without a stream."""
    if options is None:
        return False
    if not stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise Refused(400, message, param="stream_options")
    if not isinstance(options, dict):
        message = "Invalid type for 'stream_options': expected an object."
        raise Refused(400, message, param="stream_options", code="invalid_type")
    return flag(options, "include_usage")


def _messages(messages: object) -> list[dict[str, Any]]:
    if messages is None:
        message = "Missing required parameter: 'messages'."
        raise Refused(400, message, param="messages", code="missing_required_parameter")
    if not isinstance(messages, list):
        raise Refused(400, "Invalid type for 'messages': expected an array.", param="messages", code="invalid_type")
    if not messages:
        message = "Invalid 'messages': empty array. Expected at least one message."
        raise Refused(400, message, param="messages", code="empty_array")
    for index, one in enumerate(messages):
        if not isinstance(one, dict) or not isinstance(one.get("role"), str):
            where = f"messages[{index}]"
            raise Refused(400, f"Invalid '{where}': expected an object with a role.", param=where, code="invalid_type")
    return messages


def _content(message: Mapping[str, Any], where: str) -> bytes:
    """The text of a message."""
    content = message.get("content")
    if content is None:  # an assistant's turn that only called tools
        return b""
    if isinstance(content, str):
        return text_bytes(content)
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        return b"".join(text_bytes(part["text"]) for part in content if isinstance(part.get("text"), str))
    where = f"{where}.content"
    message_text = f"Invalid type for '{where}': expected a string or an array of objects."
    raise Refused(400, message_text, param=where, code="invalid_type")


def offered(tools: Sequence[Mapping[str, Any]]) -> tuple[Tool, ...]:
    """The functions among the tools. Raises Refused for one without a name."""
    found = []
    for index, tool in enumerate(tools):
        if tool.get("type", "function") != "function":
            continue
        function = tool.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
            where = f"tools[{index}].function.name"
            message = f"Missing required parameter: '{where}'."
            raise Refused(400, message, param=where, code="missing_required_parameter")
        found.append(Tool(function["name"], function.get("parameters")))
    return tuple(found)


def chosen(tools: tuple[Tool, ...], choice: object) -> tuple[tuple[Tool, ...], bool]:
    """The tools that `tool_choice` leaves, and whether one has to be called. Raises Refused for one that is not there.

    The name stands in `function` or, as the other API of OpenAI has it, right in the object.
    """
    if choice in (None, "auto"):
        return tools, False
    if choice == "none":
        return (), False
    if choice in ("required", "any"):
        left = tools
    else:
        function = choice.get("function", choice) if isinstance(choice, dict) else {}
        name = function.get("name") if isinstance(function, dict) else None
        left = tuple(tool for tool in tools if tool.name == name)
    if not left:
        raise Refused(400, "Tool choice 'tool_choice' is not one of 'tools'.", param="tool_choice")
    return left, True


def wanted_schema(response_format: Mapping[str, Any]) -> Any:  # noqa: ANN401  a JSON schema is any JSON
    """The JSON schema that the answer has to follow: true where any object will do, null for text."""
    kind = response_format.get("type")
    if kind == "json_object":
        return True
    if kind != "json_schema":
        return None
    found = entry(response_format, "json_schema").get("schema")
    if not isinstance(found, dict | bool):
        where = "response_format.json_schema.schema"
        message = f"Missing required parameter: '{where}'."
        raise Refused(400, message, param=where, code="missing_required_parameter")
    return found


def usage(start: Start, end: End) -> dict[str, Any]:
    """The counts of tokens: cached ones and reasoning are part of the others."""
    return {
        "prompt_tokens": start.ask.prompt_tokens,
        "completion_tokens": end.output_tokens,
        "total_tokens": start.ask.prompt_tokens + end.output_tokens,
        "prompt_tokens_details": {"cached_tokens": start.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": end.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


class ChatReply:
    """The bytes of one answer."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, start: Start) -> None:
        self._start = start
        self._head = {
            "id": f"chatcmpl-sim-{start.number}",
            "object": "chat.completion.chunk",
            "created": start.created,
            "model": start.ask.model,
            "system_fingerprint": _FINGERPRINT,
        }
        # Everything around a token is the same in all chunks of an answer: it is made once.
        # (From the right: a model's name may hold anything, and stands before the content.)
        self._before, _, self._after = self._chunk({"content": "\x00"}, None).rpartition(dump("\x00"))

    def greeting(self) -> bytes:
        """Nothing."""
        return b""

    def opening(self) -> bytes:
        """The chunk that comes with the first token and says who speaks."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None}, None)

    def reasoning(self, piece: str) -> bytes:
        """The chunk of one token of reasoning."""
        return self._chunk({"reasoning_content": piece}, None)

    def token(self, piece: str) -> bytes:
        """The chunk of one token."""
        return self._before + dump(piece) + self._after

    def call_opening(self, index: int, call: Call) -> bytes:
        """The chunk that names the function."""
        function = {"name": call.name, "arguments": ""}
        return self._call({"index": index, "id": call.id, "type": "function", "function": function})

    def call_piece(self, index: int, piece: str) -> bytes:
        """The chunk of one token of the arguments."""
        return self._call({"index": index, "function": {"arguments": piece}})

    def call_closing(self, _index: int, _call: Call) -> bytes:
        """Nothing."""
        return b""

    def closing(self, end: End) -> list[bytes]:
        """The events after the last token."""
        events = [self._chunk({}, FINISH[end.finish])]
        if self._start.ask.include_usage:
            events.append(self._event({**self._head, "choices": [], "usage": usage(self._start, end)}))
        return [*events, DONE]

    def error_event(self, refused: Refused) -> bytes:
        """An event with the body of an error."""
        return b"data: " + error(refused) + b"\n\n"

    def garbage(self) -> bytes:
        """A chunk that is cut off in its middle."""
        return self._before + b'"\n\n'

    def plain(self, answer: Answer) -> bytes:
        """The whole answer of a request that is not streamed."""
        message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
        if answer.reasoning:
            message["reasoning_content"] = answer.reasoning
        if answer.calls:
            message["content"] = answer.text or None
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in answer.calls
            ]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": FINISH[answer.end.finish]}
        counts = usage(self._start, answer.end)
        return dump({**self._head, "object": "chat.completion", "choices": [choice], "usage": counts})

    def _call(self, call: dict[str, Any]) -> bytes:
        return self._chunk({"tool_calls": [call]}, None)

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        counts = {"usage": None} if self._start.ask.include_usage else {}
        return self._event({**self._head, "choices": [choice], **counts})

    @staticmethod
    def _event(chunk: dict[str, Any]) -> bytes:
        return b"data: " + dump(chunk) + b"\n\n"
