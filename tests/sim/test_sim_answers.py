"""Whatever a dialect of the simulated endpoint writes, the decoder of that API reads: they share no line of code."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latbench.model.answer import Answer as Decoded
from latbench.model.errors import DecodeError
from latbench.providers.registry import APIS
from latbench.providers.registry import DIALECTS as READERS
from latbench.sim.dialects import Answer, Ask, Call, Dialect, End, Finish, Start
from latbench.sim.dialects.registry import DIALECTS

API_OF = {
    "OpenAIChat": "openai-chat",
    "OpenAICompletions": "openai-completions",
    "OpenAIResponses": "openai-responses",
    "AzureOpenAI": "azure-openai",
    "Anthropic": "anthropic",
    "Gemini": "gemini",
    "Mistral": "mistral",
    "Cohere": "cohere",
    "OllamaChat": "ollama",
    "OllamaGenerate": "ollama",
    "Bedrock": "bedrock",
}
WITHOUT_TOOLS = {"OpenAICompletions", "OllamaGenerate"}
WITHOUT_REASONING = {"OpenAICompletions"}
TELLS_REASONING = {"OpenAIChat", "OpenAIResponses", "AzureOpenAI", "Anthropic", "Gemini"}
TELLS_NO_CACHE = {"OllamaChat", "OllamaGenerate"}
TELLS_NO_MODEL = {"Bedrock", "Cohere"}
WHOLE_CALLS = {"Gemini", "Mistral", "OllamaChat"}

BY_NAME: dict[str, Dialect] = {type(dialect).__name__: dialect for dialect in DIALECTS}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
JSON = st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | TEXT, lambda inner: st.lists(inner, max_size=2))
MODEL = st.text('aé0"\\/:.-', min_size=1, max_size=6)
CALLS = st.lists(st.tuples(TEXT, st.dictionaries(TEXT, JSON, max_size=2)), max_size=3)


def _start(prompt: int, cached: int, written: int, model: str = "m", **changes: Any) -> Start:
    return Start(Ask(model, True, None, False, prompt, True, **changes), 7, 1_760_000_000, cached, written)


def _cut(text: str) -> list[str]:
    return [text[at : at + 3] for at in range(0, len(text), 3)]


def _stream(dialect: Dialect, start: Start, answer: Answer, thoughts: list[str], words: list[str]) -> list[bytes]:
    """What leaves at a time, as the endpoint asks for it."""
    reply = dialect.reply(start)
    sent = [reply.greeting(), reply.opening()]
    sent += [reply.reasoning(piece) for piece in thoughts]
    sent += [reply.token(piece) for piece in words]
    for index, call in enumerate(answer.calls):
        sent.append(reply.call_opening(index, call))
        sent += [reply.call_piece(index, piece) for piece in _cut(call.arguments)]
        sent.append(reply.call_closing(index, call))
    return [event for event in [*sent, *reply.closing(answer.end)] if event]


def _decoded(name: str, sent: list[bytes]) -> Decoded:
    reader, answer = READERS[API_OF[name]], Decoded()
    framer = reader.framer()
    for at, event in enumerate(sent):
        for payload in framer.feed(event):
            reader.decode(payload, at, answer)
    for payload in framer.close():
        reader.decode(payload, len(sent), answer)
    return answer


def _is_as_said(name: str, start: Start, said: Answer, read: Decoded) -> None:
    assert read.complete
    assert read.refusal is None
    assert "".join(read.text) == said.text
    assert "".join(read.reasoning) == (said.reasoning if start.ask.reasoning_shown else "")
    # Of an input without fields the reader of Anthropic makes no text.
    calls = [(call.name, json.loads("".join(call.arguments) or "{}")) for call in read.tool_calls.values()]
    assert calls == [(call.name, json.loads(call.arguments)) for call in said.calls]
    assert read.finish_reason == said.end.finish
    assert read.usage is not None
    assert (read.usage.input, read.usage.output) == (start.ask.prompt_tokens, said.end.output_tokens)
    if name in TELLS_REASONING:
        assert (read.usage.reasoning or 0) == said.end.reasoning_tokens
    assert (read.usage.cached or 0) == (0 if name in TELLS_NO_CACHE else start.cached_tokens)
    assert read.model == (None if name in TELLS_NO_MODEL else start.ask.model)


def test_every_dialect_has_its_reader() -> None:
    assert set(BY_NAME) == set(API_OF)
    assert set(API_OF.values()) == set(APIS)


@pytest.mark.parametrize("name", API_OF)
@settings(max_examples=30)
@given(data=st.data())
def test_an_answer_is_read_as_it_was_said(name: str, data: st.DataObject) -> None:
    dialect = BY_NAME[name]
    thoughts = [] if name in WITHOUT_REASONING else data.draw(st.lists(TEXT, max_size=4))
    given_calls = [] if name in WITHOUT_TOOLS else data.draw(CALLS)
    words = data.draw(st.lists(TEXT, min_size=not (thoughts or given_calls), max_size=4))  # no answer is empty
    calls = tuple(
        Call(f"call_{index}", tool, json.dumps(values, ensure_ascii=data.draw(st.booleans())))
        for index, (tool, values) in enumerate(given_calls)
    )
    finish: Finish = data.draw(st.sampled_from(["tool" if calls else "stop", "length"]))
    pieces = len(thoughts) + len(words) + sum(len(_cut(call.arguments)) for call in calls)
    end = End(finish, pieces, len(thoughts), 5, 9)
    said = Answer(end, "".join(words), "".join(thoughts), calls)
    cached, written, fresh = (data.draw(st.integers(0, 2000)) for _ in range(3))
    changes = {"reasoning_shown": data.draw(st.booleans())} if name == "Gemini" else {}
    start = _start(cached + written + fresh + 1, cached, written, data.draw(MODEL), **changes)

    sent = _stream(dialect, start, said, thoughts, words)
    read = _decoded(name, sent)
    _is_as_said(name, start, said, read)
    shown = len(thoughts) * start.ask.reasoning_shown + len(words)
    if name in WHOLE_CALLS:
        assert len(read.output_ns) == shown + len(calls)
    else:  # the name of a tool is output by itself
        assert len(read.output_ns) == shown + sum(1 + len(_cut(call.arguments)) for call in calls)

    plain = Decoded()
    READERS[API_OF[name]].decode_plain(dialect.reply(start).plain(said), 0, plain)
    _is_as_said(name, start, said, plain)


@pytest.mark.parametrize("name", API_OF)
@pytest.mark.parametrize("tokens", [0, 2])
def test_what_breaks_a_stream(name: str, tokens: int) -> None:
    dialect = BY_NAME[name]

    def begun() -> tuple[Any, list[bytes]]:
        reply = dialect.reply(_start(3, 0, 0))
        return reply, [reply.greeting(), reply.opening(), *(reply.token("x") for _ in range(tokens))]

    reply, sent = begun()
    read = _decoded(name, [*sent, reply.error_event(dialect.failure(529))])
    assert read.refusal is not None
    assert read.refusal.outcome == ("stream_error" if name == "Cohere" else "overloaded")
    assert read.refusal.message
    assert "".join(read.text) == "x" * tokens
    reply, sent = begun()
    with pytest.raises(DecodeError):
        _decoded(name, [*sent, reply.garbage()])
    _, sent = begun()
    cut = _decoded(name, sent)
    assert not cut.complete


@pytest.mark.parametrize("name", API_OF)
def test_what_a_server_error_says(name: str) -> None:
    dialect, reader = BY_NAME[name], READERS[API_OF[name]]
    for status, outcome in ((500, "http_error"), (503, "overloaded"), (529, "overloaded")):
        refused = dialect.failure(status)
        refusal = reader.refusal(refused.status, refused.headers, dialect.error(refused, "req-1"))
        assert (refused.status, refusal.outcome) == (status, outcome)
        assert refusal.message == " ".join(refused.message.split())
