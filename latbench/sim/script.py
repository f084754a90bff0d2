"""What an answer says: reasoning first, then text or tool calls, cut into tokens.

Pure and seeded: options, request and number fix it all. The limit of tokens holds for everything together; a tool call
that does not fit is left out whole, text is cut.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from latbench.sim import draws, schema
from latbench.sim.dialects import Answer, Ask, Call, End, Finish, Reply
from latbench.sim.options import Options
from latbench.sim.text import pieces
from latbench.sim.timing import Schedule

_TOOL, _REASONING, _CALL, _SCHEMA = 32, 33, 34, 35
_PIECE = 4  # characters a token, of what is not made up piece by piece


@dataclass(frozen=True, slots=True)
class Script:
    """One answer before it is sent. `written` is the text where it was made beforehand (JSON, the answer to a trial),
    else it is endless code of which `text_tokens` are sent.
    """

    seed: int
    number: int
    finish: Finish
    reasoning_tokens: int
    text_tokens: int
    written: str | None = None
    calls: tuple[Call, ...] = ()

    @property
    def tokens(self) -> int:
        """Of the whole answer."""
        return self.reasoning_tokens + self.text_tokens + sum(len(_cut(call.arguments)) for call in self.calls)

    def reasoning(self) -> Iterator[str]:
        """The tokens of the reasoning: text of another stream of draws than the answer's."""
        key = draws.stream_key(self.seed, self.number, _REASONING)
        return islice(pieces(key, self.number), self.reasoning_tokens)

    def text(self) -> Iterator[str]:
        """The tokens of the visible text."""
        source = pieces(self.seed, self.number) if self.written is None else _cut(self.written)
        return islice(source, self.text_tokens)

    def answer(self, end: End) -> Answer:
        """All at once."""
        return Answer(end, "".join(self.text()), "".join(self.reasoning()), self.calls)

    def events(self, reply: Reply) -> Iterator[list[bytes]]:
        """What is to be sent with each token, which includes what has to stand before and after it."""
        before = [reply.opening()]
        for piece in self.reasoning():
            yield [event for event in (*before, reply.reasoning(piece)) if event]
            before = []
        for piece in self.text():
            if before:
                yield [event for event in (*before, reply.token(piece)) if event]
                before = []
            else:  # by far the most: nothing but the token
                event = reply.token(piece)
                yield [event] if event else []
        for index, call in enumerate(self.calls):
            before.append(reply.call_opening(index, call))
            parts = _cut(call.arguments)
            for place, piece in enumerate(parts, 1):
                events = [*before, reply.call_piece(index, piece)]
                if place == len(parts):  # after its last piece: a reply keeps account of them
                    events.append(reply.call_closing(index, call))
                yield [event for event in events if event]
                before = []


def script(options: Options, ask: Ask, schedule: Schedule, told: str | None = None) -> Script:
    """The answer to a request; `told` is its text where that is not made up.

    Raises schema.Unsupported where no value can be made for a schema of the request.
    """
    number = schedule.request
    limit = options.tokens if ask.max_tokens is None else ask.max_tokens
    reasoning = min(options.reasoning_tokens, limit) if ask.reasoning else 0
    if told is None and _calls_tools(options, ask, number):
        most = limit - reasoning if ask.max_tokens is not None else None
        wanted = _calls(options, ask, number)
        calls = _fitting(wanted, most)
        return Script(options.seed, number, "tool" if calls == wanted else "length", reasoning, 0, calls=calls)
    if told is not None or ask.schema is not None:
        written = _value(options, ask, number) if told is None else told
        size = len(_cut(written))
        count = size if ask.max_tokens is None else min(size, limit - reasoning)
        return Script(options.seed, number, "stop" if count == size else "length", reasoning, count, written)
    count = schedule.answer_tokens(limit, 0.0 if ask.to_the_limit else options.early_stop)
    reasoning = min(reasoning, count)
    return Script(options.seed, number, "length" if count == ask.max_tokens else "stop", reasoning, count - reasoning)


def _value(options: Options, ask: Ask, number: int) -> str:
    """JSON that follows the request's schema."""
    value = schema.value(ask.schema, draws.stream_key(options.seed, number, _SCHEMA))
    return json.dumps(value, ensure_ascii=False)


def _calls_tools(options: Options, ask: Ask, number: int) -> bool:
    if not ask.tools or ask.must_call:
        return bool(ask.tools)
    if ask.tool_rounds >= options.tool_rounds:
        return False
    return draws.uniform(draws.stream_key(options.seed, number, _TOOL), 0) < options.p_tool


def _calls(options: Options, ask: Ask, number: int) -> tuple[Call, ...]:
    key = draws.stream_key(options.seed, number, _CALL)
    found = []
    for index in range(options.tool_calls if ask.parallel else 1):
        draw = draws.integer(key, index)
        tool = ask.tools[draw % len(ask.tools)]
        wanted = {"type": "object"} if tool.schema is None else tool.schema
        arguments = json.dumps(schema.value(wanted, draw), ensure_ascii=False)
        found.append(Call(f"call_sim_{number}_{index}", tool.name, arguments))
    return tuple(found)


def _fitting(calls: tuple[Call, ...], limit: int | None) -> tuple[Call, ...]:
    """The first of the calls, as many as fit."""
    if limit is None:
        return calls
    fit = 0
    for call in calls:
        limit -= len(_cut(call.arguments))
        if limit < 0:
            break
        fit += 1
    return calls[:fit]


def _cut(text: str) -> list[str]:
    """A text as tokens."""
    return [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]
