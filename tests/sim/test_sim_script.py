"""What an answer says, before it is sent."""

import json
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.sim.dialects import Ask, End, Start, Tool
from latbench.sim.dialects.openai_chat import OpenAIChat
from latbench.sim.options import Options
from latbench.sim.schema import Unsupported
from latbench.sim.script import Script, script
from latbench.sim.text import pieces
from latbench.sim.timing import Timing

ASK = Ask("m", True, None, False, 10, False)
SCHEMA = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
LOOK, PLAIN = Tool("look", SCHEMA), Tool("plain", None)
END = End("stop", 1)


def _script(ask: Ask = ASK, number: int = 1, **options: Any) -> Script:
    found = replace(Options(), **options)
    return script(found, ask, Timing(found.seed, 0, 0, 1.0, 0.0, 0.0).schedule(number))


def _sizes(found: Script) -> tuple[str, int, int, int]:
    return found.finish, found.tokens, found.reasoning_tokens, found.text_tokens


def test_text_alone() -> None:
    found = _script(tokens=12)
    assert _sizes(found) == ("stop", 12, 0, 12)
    assert found.answer(END).text == "".join(islice(pieces(0, 1), 12))
    assert _sizes(_script(replace(ASK, max_tokens=5))) == ("length", 5, 0, 5)


def test_reasoning_is_within_the_limit() -> None:
    assert _sizes(_script(tokens=12, reasoning_tokens=5)) == ("stop", 12, 5, 7)
    assert _sizes(_script(replace(ASK, max_tokens=20), reasoning_tokens=5)) == ("length", 20, 5, 15)
    assert _sizes(_script(replace(ASK, max_tokens=3), reasoning_tokens=5)) == ("length", 3, 3, 0)
    assert _sizes(_script(replace(ASK, reasoning=False), tokens=12, reasoning_tokens=5)) == ("stop", 12, 0, 12)
    answer = _script(tokens=12, reasoning_tokens=5).answer(END)
    assert answer.reasoning
    assert answer.text == "".join(islice(pieces(0, 1), 7))
    assert not answer.text.startswith(answer.reasoning)


def test_an_early_stop_counts_reasoning_too() -> None:
    found = [_script(number=number, tokens=100, reasoning_tokens=90, early_stop=0.5) for number in range(50)]
    assert all(one.reasoning_tokens <= one.tokens <= 100 for one in found)
    assert min(one.tokens for one in found) < 90


def test_text_by_a_schema() -> None:
    found = _script(replace(ASK, schema=SCHEMA), reasoning_tokens=2)
    answer = found.answer(END)
    assert json.loads(answer.text)["city"] in ("Paris", "Rome")
    assert (found.finish, found.reasoning_tokens) == ("stop", 2)
    assert found.tokens == 2 + len(list(found.text()))
    assert json.loads(_script(replace(ASK, schema=True)).answer(END).text) == {}


def test_text_by_a_schema_is_cut_at_the_limit() -> None:
    whole = _script(replace(ASK, schema=SCHEMA)).answer(END).text
    found = _script(replace(ASK, schema=SCHEMA, max_tokens=5), reasoning_tokens=3)
    assert _sizes(found) == ("length", 5, 3, 2)
    assert found.answer(END).text == whole[:8]


def test_a_forced_tool_is_called() -> None:
    for ask in (
        replace(ASK, tools=(LOOK,), must_call=True),
        replace(ASK, tools=(LOOK,), must_call=True, tool_rounds=9),
    ):
        found = _script(ask)
        (call,) = found.answer(END).calls
        assert (call.name, found.finish, found.text_tokens) == ("look", "tool", 0)
        assert json.loads(call.arguments)["city"] in ("Paris", "Rome")
        assert found.tokens == -(-len(call.arguments) // 4)
    assert json.loads(_script(replace(ASK, tools=(PLAIN,), must_call=True)).calls[0].arguments) == {}


def test_a_tool_may_be_called_by_chance() -> None:
    ask = replace(ASK, tools=(LOOK, PLAIN))
    found = [_script(ask, number, p_tool=0.5) for number in range(200)]
    called = [one for one in found if one.calls]
    assert 60 < len(called) < 140
    assert {one.calls[0].name for one in called} == {"look", "plain"}
    assert all(one.finish == "stop" for one in found if not one.calls)
    assert not any(_script(ask, number).calls for number in range(50))
    assert not any(_script(ASK, number, p_tool=1.0).calls for number in range(50))


def test_a_conversation_ends_after_its_rounds() -> None:
    ask = replace(ASK, tools=(LOOK,))
    called = [bool(_script(replace(ask, tool_rounds=rounds), p_tool=1.0, tool_rounds=2).calls) for rounds in range(4)]
    assert called == [True, True, False, False]


def test_several_calls_unless_the_request_forbids_it() -> None:
    ask = replace(ASK, tools=(LOOK, PLAIN), must_call=True)
    calls = _script(ask, tool_calls=3).calls
    assert [call.id for call in calls] == ["call_sim_1_0", "call_sim_1_1", "call_sim_1_2"]
    assert len(_script(replace(ask, parallel=False), tool_calls=3).calls) == 1


def test_calls_that_do_not_fit_are_left_out_whole() -> None:
    ask = replace(ASK, tools=(LOOK,), must_call=True)
    one = _script(ask).tokens
    found = _script(replace(ask, max_tokens=2 * one + 3), tool_calls=4, reasoning_tokens=1)
    assert found.finish == "length"
    assert len(found.calls) in (1, 2)
    assert found.tokens <= 2 * one + 3
    assert _script(replace(ask, max_tokens=1)).calls == ()
    assert _script(replace(ask, max_tokens=one)).finish == "tool"


def test_a_schema_that_is_none_is_refused() -> None:
    for ask in (replace(ASK, schema={"type": "x"}), replace(ASK, tools=(Tool("t", {"type": "x"}),), must_call=True)):
        with pytest.raises(Unsupported):
            _script(ask)


@given(
    number=st.integers(0, 10**6),
    limit=st.none() | st.integers(1, 40),
    reasoning=st.integers(0, 30),
    calls=st.integers(1, 3),
    kind=st.sampled_from(["text", "schema", "tools"]),
)
def test_a_stream_says_what_the_whole_answer_says_one_token_at_a_time(
    number: int, limit: int | None, reasoning: int, calls: int, kind: str
) -> None:
    asked = {"text": {}, "schema": {"schema": SCHEMA}, "tools": {"tools": (LOOK, PLAIN), "must_call": True}}[kind]
    found = _script(
        replace(ASK, max_tokens=limit, **asked), number, reasoning_tokens=reasoning, tool_calls=calls, tokens=40
    )
    dialect = OpenAIChat()
    events = list(found.events(dialect.reply(Start(ASK, number, 0))))
    assert len(events) == found.tokens
    assert all(event for token in events for event in token)
    deltas = [json.loads(event[6:])["choices"][0]["delta"] for token in events for event in token]
    assert [bool(delta.get("role")) for delta in deltas] == [True] * (found.tokens > 0) + [False] * (len(deltas) - 1)
    answer = found.answer(END)
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == answer.reasoning
    assert "".join(delta.get("content", "") for delta in deltas) == answer.text
    parts = [part for delta in deltas for part in delta.get("tool_calls", [])]
    for index, call in enumerate(answer.calls):
        mine = [part for part in parts if part["index"] == index]
        assert (mine[0]["id"], mine[0]["function"]["name"]) == (call.id, call.name)
        assert "".join(part["function"]["arguments"] for part in mine) == call.arguments
    if limit is not None:
        assert found.tokens <= limit
