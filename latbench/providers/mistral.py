"""Mistral: Chat Completions with habits of its own, and a path for filling gaps.

What differs, by the source of the mistralai SDK 3.7: there is no `stream_options`, because usage is always on the last
chunk; `content` is a string or a list whose items may be thinking; a tool call comes whole, its arguments a string or
an object; a limit of the model itself is `model_length`. Gaps are filled at `/fim/completions`, from a `prompt` (what
stands before the gap) and a `suffix`; its answers have the same shape. The decoder of `openai-chat` reads all of it,
and the error object that calls itself one (`"object": "error"`, Mistral API documentation).
"""

from typing import Any

from latbench.model.request import Ask, Endpoint, HttpRequest
from latbench.providers import openai_chat
from latbench.providers.base import PAST_BUDGET, SCHEMA_NAME, SCHEMA_PURPOSE, Dialect, json_post
from latbench.providers.conversation import chat_messages, chat_tools
from latbench.providers.refusals import refusal_of_status
from latbench.wire.sse import SseFramer


def build(endpoint: Endpoint, ask: Ask) -> HttpRequest:
    """The request without credentials. A gap has no output modes: the API knows none there (mistralai 3.7 source)."""
    fields: dict[str, Any] = {"model": endpoint.model, "max_tokens": ask.max_tokens, "stream": endpoint.stream}
    if ask.fill is not None:
        fields |= {"prompt": ask.fill.prefix, "suffix": ask.fill.suffix}
        return json_post(endpoint, "/fim/completions", fields)
    fields["messages"] = chat_messages(ask.messages)
    if ask.mode == "json_schema":
        wanted = {"name": SCHEMA_NAME, "schema": ask.schema, "strict": True}
        fields["response_format"] = {"type": "json_schema", "json_schema": wanted}
    elif ask.mode == "tool":
        function = {"name": SCHEMA_NAME, "description": SCHEMA_PURPOSE, "parameters": ask.schema, "strict": True}
        fields["tools"] = [{"type": "function", "function": function}]
        fields["tool_choice"] = "any"  # one of the tools has to be called, and there is one
    if ask.tools:
        fields["tools"] = chat_tools(ask.tools)
    return json_post(endpoint, "/chat/completions", fields)


DIALECT = Dialect(
    api="mistral",
    build=build,
    auth=openai_chat.auth,
    framer=SseFramer,
    decode=openai_chat.decode,
    decode_plain=openai_chat.decode_plain,
    decode_many=openai_chat.decode_many,
    decode_alike=openai_chat.decode_alike,
    refusal=refusal_of_status,
    own=frozenset({"model", "messages", "prompt", "suffix", "stream", "max_tokens"}) | PAST_BUDGET,
    modes=frozenset({"json_schema", "tool"}),
    fills=True,
    tools="tools",
)
