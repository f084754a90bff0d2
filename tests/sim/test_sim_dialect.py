"""OpenAI chat completions: what is read from a request, what is refused, and the bytes of an answer."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.sim.dialects import Answer, Ask, Call, End, Hit, Parts, Refused, Room, Start, Tool
from latbench.sim.dialects.openai_api import duration, unknown_path
from latbench.sim.dialects.openai_chat import DONE, OpenAIChat

CHAT = OpenAIChat()
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}
MESSAGES = [{"role": "user", "content": "12345678"}]


def _read(**fields: Any) -> Ask:
    return CHAT.read(Parts(json.dumps({"model": "m", "messages": MESSAGES, **fields}).encode()))


def _events(data: bytes) -> list[Any]:
    """The JSON of a stream's events."""
    events = data.split(b"\n\n")
    assert events.pop() == b""
    assert all(event.startswith(b"data: ") for event in events)
    return [json.loads(event[6:]) for event in events]


def test_the_least_request() -> None:
    assert _read() == Ask(
        model="m",
        stream=False,
        max_tokens=None,
        to_the_limit=False,
        prompt_tokens=2,
        include_usage=False,
        prompt=b"12345678",
    )


def test_the_fields_that_count() -> None:
    ask = _read(stream=True, max_tokens=7, ignore_eos=True, stream_options={"include_usage": True}, n=1, stop=["x"])
    assert ask == Ask(
        model="m",
        stream=True,
        max_tokens=7,
        to_the_limit=True,
        prompt_tokens=2,
        include_usage=True,
        prompt=b"12345678",
    )
    assert _read(max_completion_tokens=9, max_tokens=None).max_tokens == 9
    assert not _read(stream=True, stream_options={"include_obfuscation": False}).include_usage


@pytest.mark.parametrize(
    ("messages", "tokens"),
    [
        ([{"role": "user", "content": ""}], 1),
        ([{"role": "user", "content": "12345"}], 2),
        ([{"role": "user", "content": "éé"}], 1),
        ([{"role": "user", "content": "ééé"}], 2),
        ([{"role": "system", "content": "1234"}, {"role": "assistant", "content": None}], 1),
        ([{"role": "user", "content": [{"type": "text", "text": "12345678"}, {"type": "image_url"}]}], 2),
        ([{"role": "user", "content": "\ud800"}], 1),
    ],
)
def test_prompt_tokens_are_bytes_by_four(messages: list[Any], tokens: int) -> None:
    assert _read(messages=messages).prompt_tokens == tokens


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b"[]", b"1", b"[" * 200_000, b'"text"', b"{}", b'{"model": ""}', b'{"model": "m"}'],
)
def test_bodies_that_are_no_request(body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        CHAT.read(Parts(body))
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [*MESSAGES, {"content": "x"}]}, "messages[1]"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content"),
        ({"model": 3}, None),
        ({"n": 2}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_completion_tokens": 10**30}, "max_completion_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, None),
        ({"stream_options": {}}, "stream_options"),
        ({"stream": True, "stream_options": []}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "include_usage"),
        ({"tools": {}}, "tools"),
        ({"tools": [1]}, "tools"),
        ({"tools": [{"type": "function"}]}, "tools[0].function.name"),
        ({"tools": [TOOL, {"function": {"name": ""}}]}, "tools[1].function.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": 3}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"function": 3}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"parallel_tool_calls": 1}, "parallel_tool_calls"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"response_format": {"type": "json_schema", "json_schema": 1}}, "json_schema"),
    ],
)
def test_fields_that_are_refused(fields: dict[str, Any], param: str | None) -> None:
    with pytest.raises(Refused) as refused:
        _read(**fields)
    assert (refused.value.status, refused.value.param) == (400, param)
    body = json.loads(CHAT.error(refused.value))
    assert body["error"] == {
        "message": refused.value.message,
        "type": "invalid_request_error",
        "param": param,
        "code": refused.value.code,
    }


@given(model=st.text(min_size=1), piece=st.text(min_size=1), include_usage=st.booleans())
def test_any_text_comes_back_from_a_token_chunk(model: str, piece: str, include_usage: bool) -> None:
    ask = Ask(model, True, None, False, 1, include_usage)
    event = CHAT.reply(Start(ask, 3, 1700000000)).token(piece)
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    assert event.count(b"\n") == 2
    chunk = json.loads(event[6:])
    assert chunk["model"] == model
    assert chunk["choices"][0]["delta"] == {"content": piece}
    assert ("usage" in chunk) is include_usage


@given(st.binary(max_size=200))
def test_no_body_makes_it_fail_in_another_way(body: bytes) -> None:
    with suppress(Refused):
        CHAT.read(Parts(body))


def test_lone_surrogates_are_escaped() -> None:
    """They cannot be UTF-8; a JSON escape can say them."""
    reply = CHAT.reply(Start(Ask("m", False, None, False, 1, False), 1, 0))
    assert json.loads(reply.plain(Answer(End("stop", 1), "\ud800")))["choices"][0]["message"]["content"] == "\ud800"


def test_the_events_around_the_tokens() -> None:
    reply = CHAT.reply(Start(Ask("m", True, None, False, 5, True), 1, 0, cached_tokens=2))
    assert reply.greeting() == b""
    assert json.loads(reply.opening()[6:])["choices"][0]["delta"]["content"] == ""
    finish, usage, done = reply.closing(End("stop", 4, 1))
    assert json.loads(finish[6:])["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert json.loads(usage[6:])["usage"]["total_tokens"] == 9
    counted = json.loads(usage[6:])["usage"]
    assert counted["prompt_tokens_details"]["cached_tokens"] == 2
    assert counted["completion_tokens_details"]["reasoning_tokens"] == 1
    assert done == DONE


@pytest.mark.parametrize(
    ("refused", "status", "code"),
    [
        (CHAT.unknown_model("x" * 10_000), 404, "model_not_found"),
        (unknown_path("GET", "/" * 10_000), 404, None),
        (CHAT.bad_key(), 401, "invalid_api_key"),
        (CHAT.too_large(10), 413, "request_too_large"),
    ],
)
def test_refusals_are_short_and_in_shape(refused: Refused, status: int, code: str | None) -> None:
    body = CHAT.error(refused)
    assert (refused.status, json.loads(body)["error"]["code"]) == (status, code)
    assert len(body) < 500


def test_the_list_of_models() -> None:
    listed = json.loads(CHAT.pages("m", 7)["/v1/models"])
    assert listed == {
        "object": "list",
        "data": [{"id": "m", "object": "model", "created": 7, "owned_by": "latbench"}],
    }


def test_tools_that_may_be_called() -> None:
    look, other = Tool("look", SCHEMA), Tool("other", None)
    given = [TOOL, {"type": "function", "function": {"name": "other"}}, {"type": "web_search"}]
    for choice, tools, must_call in (
        (None, (look, other), False),
        ("auto", (look, other), False),
        ("none", (), False),
        ("required", (look, other), True),
        ({"type": "function", "function": {"name": "other"}}, (other,), True),
        ({"type": "function", "name": "look"}, (look,), True),
    ):
        ask = _read(tools=given, tool_choice=choice)
        assert (ask.tools, ask.must_call) == (tools, must_call)
    assert _read(tools=given).parallel
    assert not _read(tools=given, parallel_tool_calls=False).parallel


def test_rounds_of_tools_are_turns_that_called_some() -> None:
    called = {"role": "assistant", "content": None, "tool_calls": [{}, {}]}
    result = {"role": "tool", "content": "x", "tool_call_id": "1"}
    assert _read(messages=[*MESSAGES, called, result, result, called, result]).tool_rounds == 2


def test_what_the_answer_has_to_look_like() -> None:
    assert _read(response_format={"type": "text"}).schema is None
    assert _read(response_format={"type": "json_object"}).schema is True
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
    assert _read(response_format=form).schema == SCHEMA
    assert _read().reasoning
    assert not _read(reasoning_effort="none").reasoning


def test_reasoning_and_tool_calls_in_a_stream() -> None:
    reply = CHAT.reply(Start(Ask("m", True, None, False, 1, False), 1, 0))
    call = Call("call_1", "look", '{"city":"x"}')
    data = reply.reasoning("hm") + reply.call_opening(1, call) + reply.call_piece(1, '{"ci')
    deltas = [event["choices"][0]["delta"] for event in _events(data)]
    first = {"index": 1, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": ""}}
    assert deltas == [
        {"reasoning_content": "hm"},
        {"tool_calls": [first]},
        {"tool_calls": [{"index": 1, "function": {"arguments": '{"ci'}}]},
    ]
    assert reply.call_closing(1, call) == b""
    assert _events(reply.closing(End("tool", 4))[0])[0]["choices"][0]["finish_reason"] == "tool_calls"


def test_reasoning_and_tool_calls_in_a_plain_answer() -> None:
    reply = CHAT.reply(Start(Ask("m", False, None, False, 1, False), 1, 0))
    calls = (Call("call_1", "look", "{}"), Call("call_2", "look", "[]"))
    (choice,) = json.loads(reply.plain(Answer(End("tool", 9, 3), "", "hm", calls)))["choices"]
    assert choice["finish_reason"] == "tool_calls"
    message = choice["message"]
    assert (message["content"], message["reasoning_content"]) == (None, "hm")
    assert [(one["id"], one["function"]["arguments"]) for one in message["tool_calls"]] == [
        ("call_1", "{}"),
        ("call_2", "[]"),
    ]


def test_what_breaks_a_stream() -> None:
    reply = CHAT.reply(Start(Ask("m", True, None, False, 1, False), 1, 0))
    (event,) = _events(reply.error_event(CHAT.failure(500)))
    assert event["error"]["type"] == "server_error"
    bad = reply.garbage()
    assert bad.startswith(b"data: {")
    assert bad.endswith(b"\n\n")
    with pytest.raises(ValueError, match="control character"):
        json.loads(bad[6:])


def test_limits_in_the_headers() -> None:
    assert CHAT.limit_headers((Room("requests", 60, 59, 1.0), Room("tokens", 150_000, 7, 360.0)), 0.0) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "150000",
        "x-ratelimit-remaining-tokens": "7",
        "x-ratelimit-reset-tokens": "6m0s",
    }


@pytest.mark.parametrize(
    ("hit", "kind", "says", "headers"),
    [
        (
            Hit("requests", 60, 60, 1, 0.1195),
            "requests",
            "on requests per min (RPM): Limit 60, Used 60, Requested 1. Please try again in 120ms.",
            {"retry-after": "1", "retry-after-ms": "120"},
        ),
        (
            Hit("tokens", 50_000, 47_949, 3006, 1.146),
            "tokens",
            "on tokens per min (TPM): Limit 50000, Used 47949, Requested 3006. Please try again in 1.146s.",
            {"retry-after": "2", "retry-after-ms": "1146"},
        ),
        (Hit("tokens", 30_000, 5, 37_313, None), "tokens", "Request too large", {}),
        (
            Hit("concurrency", 4, 4, 1, 1.0),
            "requests",
            "at a time: Limit 4",
            {"retry-after": "1", "retry-after-ms": "1000"},
        ),
    ],
)
def test_a_limit_that_was_hit(hit: Hit, kind: str, says: str, headers: dict[str, str]) -> None:
    refused = CHAT.limited(hit)
    assert (refused.status, refused.kind, refused.code) == (429, kind, "rate_limit_exceeded")
    assert says in refused.message
    assert refused.headers == headers


def test_failures() -> None:
    assert CHAT.failure(500).kind == "server_error"
    for status in (503, 529):
        refused = CHAT.failure(status)
        assert (refused.status, refused.code) == (status, "server_is_overloaded")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.0001, "1ms"),
        (0.12, "120ms"),
        (1, "1s"),
        (10, "10s"),
        (1.146, "1.146s"),
        (60, "1m0s"),
        (179.56, "2m59.56s"),
        (3600, "1h0m0s"),
        (411_480, "114h18m0s"),
    ],
)
def test_durations_as_go_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_key_is_what_follows_the_scheme() -> None:
    for header, key in (("Bearer abc", "abc"), ("abc", ""), ("Bearer ", ""), ("Basic abc", "")):
        assert CHAT.key(Parts(b"", headers={"authorization": header})) == key
    assert CHAT.key(Parts(b"")) == ""
