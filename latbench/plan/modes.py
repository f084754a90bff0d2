"""Which output mode a sequence number asks for, and how a schema is asked for in words.

With several modes the same prompts go out once in each: consecutive sequence numbers are a pair (or three, or four) of
the same prompt, and the order of the modes goes round from pair to pair, so that none is always the first.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from latbench.model.request import Message

_WORDS = "Answer with one JSON object that satisfies this JSON Schema, and with nothing else, no fences:"


def arm(seq: int, modes: Sequence[str]) -> tuple[int, str]:
    """The number of the pair that a sequence number belongs to, which draws the prompt, and its mode."""
    pair, place = divmod(seq, len(modes))
    return pair, modes[(place + pair) % len(modes)]


def prompted(messages: Sequence[Message], schema: Mapping[str, Any]) -> tuple[Message, ...]:
    """The messages with the schema asked for in words, at the end of the last one."""
    last = messages[-1]
    words = f"{last.content}\n\n{_WORDS}\n{msgspec.json.encode(schema).decode()}"
    return (*messages[:-1], Message(last.role, words))
