"""What requests to Ollama look like, what single lines and plain answers mean. Whole streams: test_conformance.py."""

import json
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import latbench
from latbench.model.answer import Answer, Refusal, Usage
from latbench.model.errors import DecodeError
from latbench.model.request import Ask, Endpoint, Fill, Message
from latbench.providers.ollama import DIALECT

MESSAGES = (Message("system", "Be short."), Message("user", "Grüße f0f0"))
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}


def endpoint(**fields: object) -> Endpoint:
    values: dict[str, Any] = {"name": "e", "provider": "p", "api": "ollama", "base_url": "http://h", "model": "m:1b"}
    return Endpoint(**values | fields)


def body(ask: Ask, **fields: object) -> dict[str, Any]:
    sent: dict[str, Any] = json.loads(DIALECT.build(endpoint(**fields), ask).body)
    return sent


def decoded(*lines: object) -> Answer:
    answer = Answer()
    for at, line in enumerate(lines):
        DIALECT.decode(line if isinstance(line, bytes) else json.dumps(line).encode(), at, answer)
    return answer


def said(content: str | None = None, **fields: object) -> dict[str, Any]:
    return {"model": "m:1b", "message": {"role": "assistant", "content": content, **fields}, "done": False}


def plain(document: object) -> Answer:
    answer = Answer()
    DIALECT.decode_plain(document if isinstance(document, bytes) else json.dumps(document).encode(), 5, answer)
    return answer


def test_the_request_of_a_stream() -> None:
    request = DIALECT.build(endpoint(), Ask(MESSAGES, 64))
    assert request.path == "/api/chat"
    assert request.headers == {
        "content-type": "application/json",
        "accept": "application/x-ndjson",
        "accept-encoding": "identity",
        "user-agent": f"latbench/{latbench.__version__}",
    }
    assert json.loads(request.body) == {
        "model": "m:1b",
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Grüße f0f0"}],
        "stream": True,
        "options": {"num_predict": 64},
    }
    assert b"f0f0" in request.body


def test_the_request_of_a_plain_answer() -> None:
    request = DIALECT.build(endpoint(stream=False), Ask(MESSAGES, 64))
    assert request.headers["accept"] == "application/json"
    assert json.loads(request.body)["stream"] is False


def test_fields_of_the_scenario_have_the_last_word() -> None:
    sent = body(Ask(MESSAGES, 64), body={"think": False, "options": {"temperature": 0, "num_predict": 1}})
    assert (sent["think"], sent["options"]) == (False, {"temperature": 0, "num_predict": 1})


def test_a_schema_is_the_format() -> None:
    assert body(Ask(MESSAGES, 64, "json_schema", SCHEMA))["format"] == SCHEMA


def test_a_tool_is_offered_and_cannot_be_forced() -> None:
    (tool,) = body(Ask(MESSAGES, 64, "tool", SCHEMA))["tools"]
    assert (tool["type"], tool["function"]["name"], tool["function"]["parameters"]) == ("function", "answer", SCHEMA)
    assert DIALECT.modes == {"json_schema"}


def test_a_gap_goes_to_the_other_path() -> None:
    assert DIALECT.fills
    request = DIALECT.build(endpoint(), Ask(MESSAGES, 64, fill=Fill("def f(f0f0", "return x")))
    assert request.path == "/api/generate"
    assert json.loads(request.body) == {
        "model": "m:1b",
        "prompt": "def f(f0f0",
        "suffix": "return x",
        "stream": True,
        "options": {"num_predict": 64},
    }


@pytest.mark.parametrize("mode", ["json_schema", "tool"])
def test_a_gap_with_a_schema_is_said_in_words(mode: str) -> None:
    request = DIALECT.build(endpoint(), Ask(MESSAGES, 64, mode, SCHEMA, Fill("a", "b")))
    assert request.path == "/api/chat"
    assert {"messages"} <= json.loads(request.body).keys()
    assert "suffix" not in json.loads(request.body)


def test_what_build_sets_is_its_own() -> None:
    chat, gap = body(Ask(MESSAGES, 1)), body(Ask(MESSAGES, 1, fill=Fill("a", "b")))
    assert (chat.keys() | gap.keys()) - {"options"} | {"options.num_predict"} == DIALECT.own
    assert ("options", "num_predict") in DIALECT.own_in(chat)


def test_the_key_goes_into_one_header() -> None:
    assert DIALECT.auth("k") == {"authorization": "Bearer k"}


def test_empty_lines_are_not_output() -> None:
    answer = decoded(said(""), said(None), said("", thinking=""), said("", tool_calls=[]), {"done": False})
    assert (list(answer.output_ns), answer.first_text_ns, answer.complete) == ([], None, False)


def test_the_first_output_may_be_thinking_and_the_first_text_comes_later() -> None:
    answer = decoded(said(""), said("", thinking="a"), said("b"), {"done": True, "done_reason": "stop"})
    assert (list(answer.output_ns), answer.first_text_ns) == ([1, 2], 2)
    assert (answer.finish_reason, answer.complete) == ("stop", True)


def test_a_line_with_several_pieces_has_one_stamp() -> None:
    call = {"function": {"name": "f", "arguments": {}}}
    answer = decoded(said("a"), said("b", thinking="c", tool_calls=[call, call]), said("d"))
    assert list(answer.output_ns) == [0, 1, 2]
    assert len(answer.tool_calls) == 2


def test_a_call_is_output_with_a_name_alone_and_nothing_without() -> None:
    calls = [{"function": {"name": "f"}}, {"function": {"name": "g", "arguments": None}}, {"function": {}}, {}]
    answer = decoded(said("", tool_calls=calls), said("", tool_calls=calls[2:]))
    assert [(index, call.name, call.arguments) for index, call in answer.tool_calls.items()] == [
        (0, "f", []),
        (1, "g", []),
    ]
    assert list(answer.output_ns) == [0]


def test_arguments_are_kept_as_they_were_written() -> None:
    line = b'{"message":{"tool_calls":[{"function":{"name":"f","arguments":{"n":1e400, "m":1%s}}}]}}' % (b"0" * 40)
    assert decoded(line).tool_calls[0].arguments == ['{"n":1e400, "m":1%s}' % ("0" * 40)]
    with pytest.raises(DecodeError, match="not a line of an Ollama answer"):
        decoded(b'{"message":{"tool_calls":[{"function":{"name":"f","arguments":{"a":"\xff"}}}]}}')


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("stop", "stop"), ("length", "length"), ("load", "load"), ("unload", "unload"), ("x" * 500, "x" * 200)],
)
def test_finish_reasons(sent: str, kept: str) -> None:
    answer = decoded({"done": True, "done_reason": sent})
    assert (answer.finish_reason, answer.complete, answer.refusal) == (kept, True, None)


def test_a_call_that_ran_into_the_limit_is_not_a_call() -> None:
    call = said("", tool_calls=[{"function": {"name": "f"}}])
    assert decoded(call, {"done": True, "done_reason": "stop"}).finish_reason == "tool"
    assert decoded(call, {"done": True, "done_reason": "length"}).finish_reason == "length"


def test_only_done_completes() -> None:
    assert not decoded({**said("a"), "done_reason": "stop", "eval_count": 1}).complete
    assert decoded({"done": True}).complete


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        ({"prompt_eval_count": 11, "eval_count": 18}, Usage(11, 18)),
        ({"prompt_eval_count": 11}, Usage(11, 0)),
        ({"eval_count": 18}, Usage(None, 18)),
        ({}, None),
        ({"prompt_eval_count": -1, "eval_count": 10**30}, Usage(None, None)),
    ],
)
def test_usage(counts: dict[str, int], usage: Usage | None) -> None:
    assert decoded({"done": True, **counts}).usage == usage


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        ("boom", Refusal("stream_error", message="boom")),
        ("Server busy, please try again.", Refusal("overloaded", message="Server busy, please try again.")),
        ("maximum pending requests exceeded", Refusal("overloaded", message="maximum pending requests exceeded")),
        ("Too many requests", Refusal("rate_limited", "unknown", message="Too many requests")),
        (
            "rate limit: too many concurrent requests",
            Refusal("rate_limited", "concurrency", message="rate limit: too many concurrent requests"),
        ),
        ({"code": 503, "message": "m"}, Refusal("overloaded", code="503", message="m")),
        (["odd"], Refusal("stream_error", message='["odd"]')),
        (True, Refusal("stream_error")),
    ],
)
@pytest.mark.parametrize("finish_first", [True, False])
def test_an_error_line_beats_a_finish_reason(error: object, refusal: Refusal, finish_first: bool) -> None:
    lines = [{"done": True, "done_reason": "stop"}, {"error": error}]
    answer = decoded(*(lines if finish_first else reversed(lines)))
    assert (answer.refusal, answer.finish_reason) == (refusal, "error")


def test_an_empty_error_is_none() -> None:
    assert decoded({**said("a"), "error": ""}).refusal is None


@pytest.mark.parametrize(
    "line",
    [
        {"model": "m"},
        {"error": None},
        {"error": ""},
        {"status": "success"},
        {"message": "text"},
        {"message": ["a"]},
        said(content=1),  # type: ignore[arg-type]
        said(thinking=True),
        said(tool_calls={}),
        said(tool_calls=[{"function": "f"}]),
        {"response": 1},
        {"done": "true"},
        {"done": True, "done_reason": 1},
        {"done": True, "eval_count": "18"},
        {"done": True, "eval_count": 1.5},
        b'{"message":{"content":"\\ud800"}}',
        b'{"message":{"content":"\xed\xa0\x80"}}',
        b'{"error":' + b"[" * 10**5,
        b'{"message":{"tool_calls":[{"function":{"arguments":' + b"[" * 10**5,
    ],
)
def test_what_is_no_line_of_an_answer_is_refused(line: object) -> None:
    for decode in (decoded, plain):
        with pytest.raises(DecodeError, match="Ollama answer"):
            decode(line)


def test_the_model_is_kept_from_the_first_line_that_has_it() -> None:
    assert decoded({"done": False}, {"model": "n" * 999, "done": False}, said("a")).model == "n" * 200
    assert decoded({"model": {"a": 1}, "done": False}).model == '{"a":1}'


def test_a_plain_answer_has_no_arrival_times() -> None:
    call = {"function": {"name": "f", "arguments": {"a": 1}}}
    counts = {"prompt_eval_count": 3, "eval_count": 4}
    answer = plain({**said("Hello", thinking="Hm", tool_calls=[call]), "done": True, "done_reason": "stop", **counts})
    assert (answer.text, answer.reasoning, answer.tool_calls[0].arguments) == (["Hello"], ["Hm"], ['{"a": 1}'])
    assert (answer.output_ns, answer.first_text_ns) == (array("q"), None)
    assert (answer.finish_reason, answer.complete, answer.usage, answer.model) == ("tool", True, Usage(3, 4), "m:1b")


def test_a_plain_fill() -> None:
    answer = plain({"model": "m", "response": "x)", "done": True, "done_reason": "stop"})
    assert (answer.text, answer.finish_reason) == (["x)"], "stop")


@pytest.mark.parametrize("document", [b"<html>502</html>", said("a"), {"message": {}}, b'{"done":true}\n{"done":true}'])
def test_a_plain_body_without_a_whole_answer_is_refused(document: object) -> None:
    with pytest.raises(DecodeError, match="Ollama answer"):
        plain(document)


def test_an_error_as_a_plain_answer() -> None:
    assert plain({"error": "boom"}).refusal == Refusal("stream_error", message="boom")


def test_a_full_queue_is_an_overload() -> None:
    body = b'{"error":"server busy, please try again.  maximum pending requests exceeded"}'
    refusal = DIALECT.refusal(503, {}, body)
    assert (refusal.outcome, refusal.message) == (
        "overloaded",
        "server busy, please try again. maximum pending requests exceeded",
    )
    assert DIALECT.refusal(404, {}, b'{"error":"model \'m\' not found"}').outcome == "invalid_request"


# fmt: off
KEYS = st.sampled_from([
    "model", "message", "content", "thinking", "tool_calls", "function", "name", "arguments", "response", "done",
    "done_reason", "prompt_eval_count", "eval_count", "error",
])
# fmt: on
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.just("error")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_decoded_or_refused(document: object) -> None:
    for decode in (DIALECT.decode, DIALECT.decode_plain):
        answer = Answer()
        try:
            decode(json.dumps(document).encode(), 1, answer)
        except DecodeError:
            continue
        assert len(answer.output_ns) <= 1
