"""Conversations with tool calls in them, as the APIs write them that took the shape of OpenAI's chat; parts for others.

What a model called is sent back as it called it. Where an API gives a call no id and still wants one, its place in the
conversation is its id.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from latbench.model.request import Call, Message, Tool

_NO_ARGUMENTS = msgspec.Raw(b"{}")


def chat_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages of a chat: an assistant's turn with its calls is followed by a message for each result."""
    found: list[dict[str, Any]] = []
    for place, message in enumerate(messages):
        if not message.calls:
            found.append({"role": message.role, "content": message.content})
            continue
        named = list(with_ids(place, message.calls))
        calls = [
            {"id": name, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}
            for name, call in named
        ]
        found.append({"role": message.role, "content": message.content or None, "tool_calls": calls})
        found += [{"role": "tool", "tool_call_id": name, "content": call.result} for name, call in named]
    return found


def chat_tools(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """What a chat offers its tools as."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
        }
        for tool in tools
    ]


def with_ids(place: int, calls: Sequence[Call]) -> Iterator[tuple[str, Call]]:
    """The calls of message number `place`, each with an id that no other call of the conversation has."""
    for number, call in enumerate(calls):
        yield call.id or f"call_{place}_{number}", call


def arguments(call: Call) -> msgspec.Raw:
    """A call's arguments for an API that wants an object: as the model wrote them, and empty if they are none."""
    try:
        decoded = msgspec.json.decode(call.arguments)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return _NO_ARGUMENTS
    return msgspec.Raw(call.arguments.encode()) if isinstance(decoded, dict) else _NO_ARGUMENTS
