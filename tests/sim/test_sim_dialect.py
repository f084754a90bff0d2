"""OpenAI chat completions: what is read from a request, what is refused, and the bytes of an answer."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.sim.dialects import Ask, Refused, openai_chat

MESSAGES = [{"role": "user", "content": "12345678"}]


def _read(**fields: Any) -> Ask:
    return openai_chat.read(json.dumps({"model": "m", "messages": MESSAGES, **fields}).encode())


def test_the_least_request() -> None:
    assert _read() == Ask(
        model="m", stream=False, max_tokens=None, to_the_limit=False, prompt_tokens=2, include_usage=False
    )


def test_the_fields_that_count() -> None:
    ask = _read(stream=True, max_tokens=7, ignore_eos=True, stream_options={"include_usage": True}, n=1, stop=["x"])
    assert ask == Ask(model="m", stream=True, max_tokens=7, to_the_limit=True, prompt_tokens=2, include_usage=True)
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
        openai_chat.read(body)
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
    ],
)
def test_fields_that_are_refused(fields: dict[str, Any], param: str | None) -> None:
    with pytest.raises(Refused) as refused:
        _read(**fields)
    assert (refused.value.status, refused.value.param) == (400, param)
    body = json.loads(openai_chat.error(refused.value))
    assert body["error"] == {
        "message": refused.value.message,
        "type": "invalid_request_error",
        "param": param,
        "code": refused.value.code,
    }


@given(model=st.text(min_size=1), piece=st.text(min_size=1), include_usage=st.booleans())
def test_any_text_comes_back_from_a_token_chunk(model: str, piece: str, include_usage: bool) -> None:
    ask = Ask(model, True, None, False, 1, include_usage)
    event = openai_chat.Reply(ask, 3, 1700000000).token(piece)
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
        openai_chat.read(body)


def test_lone_surrogates_are_escaped() -> None:
    """They cannot be UTF-8; a JSON escape can say them."""
    reply = openai_chat.Reply(Ask("m", False, None, False, 1, False), 1, 0)
    assert json.loads(reply.plain("\ud800", "stop", 1))["choices"][0]["message"]["content"] == "\ud800"


def test_the_events_around_the_tokens() -> None:
    reply = openai_chat.Reply(Ask("m", True, None, False, 5, True), 1, 0)
    assert json.loads(reply.opening()[6:])["choices"][0]["delta"]["content"] == ""
    finish, usage, done = reply.closing("stop", 4)
    assert json.loads(finish[6:])["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert json.loads(usage[6:])["usage"]["total_tokens"] == 9
    assert done == openai_chat.DONE


@pytest.mark.parametrize(
    ("refused", "status", "code"),
    [
        (openai_chat.unknown_model("x" * 10_000), 404, "model_not_found"),
        (openai_chat.unknown_path("GET", "/" * 10_000), 404, None),
        (openai_chat.bad_key(), 401, "invalid_api_key"),
        (openai_chat.too_large(10), 413, "request_too_large"),
    ],
)
def test_refusals_are_short_and_in_shape(refused: Refused, status: int, code: str | None) -> None:
    body = openai_chat.error(refused)
    assert (refused.status, json.loads(body)["error"]["code"]) == (status, code)
    assert len(body) < 500


def test_the_list_of_models() -> None:
    listed = json.loads(openai_chat.models("m", 7))
    assert listed == {
        "object": "list",
        "data": [{"id": "m", "object": "model", "created": 7, "owned_by": "latbench"}],
    }
