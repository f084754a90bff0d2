"""What requests look like, and what single events and plain answers mean. Whole streams: test_conformance.py."""

import json
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import latbench
from latbench.model.answer import Answer, Refusal, Usage
from latbench.model.errors import DecodeError
from latbench.model.request import Ask, Endpoint, Message
from latbench.providers.cohere import DIALECT

MESSAGES = (Message("system", "Be short."), Message("user", "Grüße"))
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


def endpoint(**fields: object) -> Endpoint:
    values: dict[str, Any] = {
        "name": "e",
        "provider": "p",
        "api": "cohere",
        "base_url": "http://h/v2",
        "model": "command-a",
    }
    return Endpoint(**values | fields)


def body(ask: Ask | None = None, **fields: object) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(DIALECT.build(endpoint(**fields), ask or Ask(MESSAGES, 64)).body)
    return decoded


def decoded(*events: object) -> Answer:
    answer = Answer()
    for at, event in enumerate(events):
        DIALECT.decode(event if isinstance(event, bytes) else json.dumps(event).encode(), at, answer)
    return answer


def event(name: str, index: int = 0, **message: object) -> dict[str, Any]:
    return {"type": name, "index": index, "delta": {"message": message}}


def end(reason: object = "COMPLETE", **delta: object) -> dict[str, Any]:
    return {"type": "message-end", "delta": {"finish_reason": reason, **delta}}


def plain(document: object) -> Answer:
    answer = Answer()
    DIALECT.decode_plain(document if isinstance(document, bytes) else json.dumps(document).encode(), 5, answer)
    return answer


def test_the_request_of_a_stream() -> None:
    request = DIALECT.build(endpoint(), Ask(MESSAGES, 64))
    assert request.path == "/chat"
    assert request.headers == {
        "content-type": "application/json",
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "user-agent": f"latbench/{latbench.__version__}",
    }
    assert json.loads(request.body) == {
        "model": "command-a",
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Grüße"}],
        "max_tokens": 64,
        "stream": True,
    }


def test_the_request_of_a_plain_answer() -> None:
    request = DIALECT.build(endpoint(stream=False), Ask(MESSAGES, 64))
    assert request.headers["accept"] == "application/json"
    assert json.loads(request.body)["stream"] is False


def test_fields_of_the_scenario_are_merged() -> None:
    sent = body(Ask(MESSAGES, 64, "json_schema", SCHEMA), body={"k": 1, "response_format": {"x": 1}})
    assert sent["k"] == 1
    assert sent["response_format"] == {"type": "json_object", "json_schema": SCHEMA, "x": 1}


def test_the_mode_json_schema() -> None:
    sent = body(Ask(MESSAGES, 64, "json_schema", SCHEMA))
    assert sent["response_format"] == {"type": "json_object", "json_schema": SCHEMA}
    assert "tools" not in sent


def test_the_mode_tool() -> None:
    sent = body(Ask(MESSAGES, 64, "tool", SCHEMA))
    function = {"name": "answer", "description": "Give the answer.", "parameters": SCHEMA}
    assert sent["tools"] == [{"type": "function", "function": function}]
    assert (sent["tool_choice"], sent["strict_tools"]) == ("REQUIRED", True)
    assert {"json_schema", "tool"} == DIALECT.modes
    assert not DIALECT.fills


def test_what_a_scenario_may_not_set_is_what_build_sets() -> None:
    assert body().keys() == DIALECT.own


def test_the_key_goes_into_one_header() -> None:
    assert DIALECT.auth("co-1") == {"authorization": "Bearer co-1"}


def test_starts_and_empty_pieces_are_not_output() -> None:
    answer = decoded(
        event("message-start", role="assistant", content=[], tool_plan="", tool_calls=[], citations=[]),
        event("content-start", content={"type": "text", "text": ""}),
        event("content-delta", content={"text": ""}),
        {"type": "content-delta", "index": 0},
        {"type": "content-end", "index": 0},
    )
    assert (list(answer.output_ns), answer.first_text_ns, answer.complete) == ([], None, False)


def test_thinking_and_plans_come_first_and_text_later() -> None:
    answer = decoded(
        event("tool-plan-delta", tool_plan="I will."),
        event("content-delta", content={"thinking": "hm"}),
        event("content-delta", 1, content={"text": "a"}),
        end(),
    )
    assert (answer.reasoning, answer.text) == (["I will.", "hm"], ["a"])
    assert (list(answer.output_ns), answer.first_text_ns) == ([0, 1, 2], 2)
    assert (answer.finish_reason, answer.complete) == ("stop", True)


def test_the_name_of_a_tool_is_output_and_calls_are_kept_apart() -> None:
    answer = decoded(
        event("tool-call-start", 0, tool_calls={"id": "x", "function": {"name": "f", "arguments": ""}}),
        event("tool-call-start", 1, tool_calls={"id": "y", "function": {"name": "g", "arguments": ""}}),
        event("tool-call-delta", 0, tool_calls={"function": {"arguments": "{}"}}),
        event("tool-call-delta", 1, tool_calls={}),
        {"type": "tool-call-end", "index": 0},
        end("TOOL_CALL"),
    )
    assert [(i, call.name, call.arguments) for i, call in answer.tool_calls.items()] == [(0, "f", ["{}"]), (1, "g", [])]
    assert (list(answer.output_ns), answer.finish_reason) == ([0, 1, 2], "tool")


def test_an_event_with_several_pieces_has_one_stamp() -> None:
    pieces = event("content-delta", content=[{"text": "a"}, {"text": "b", "thinking": "c"}], tool_plan="d")
    assert list(decoded(pieces, pieces).output_ns) == [0, 1]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("COMPLETE", "stop"),
        ("STOP_SEQUENCE", "stop"),
        ("MAX_TOKENS", "length"),
        ("TOOL_CALL", "tool"),
        ("SOMETHING_NEW", "SOMETHING_NEW"),
        (None, None),
    ],
)
def test_finish_reasons_have_one_vocabulary(sent: str | None, kept: str | None) -> None:
    answer = decoded(end(sent))
    assert (answer.finish_reason, answer.complete, answer.refusal) == (kept, True, None)


def test_only_the_last_event_is_the_sign_of_completion() -> None:
    assert decoded(b"[DONE]", {"type": "content-delta", "delta": {"finish_reason": "COMPLETE"}}) == Answer()
    assert decoded({"type": "message-end"}).complete


@pytest.mark.parametrize("reason", ["ERROR", "TIMEOUT"])
def test_a_finish_reason_can_be_an_error(reason: str) -> None:
    answer = decoded(end(reason))
    assert answer.refusal == Refusal("stream_error", message=f"the finish reason is {reason}")
    assert (answer.finish_reason, answer.complete) == ("error", True)


@pytest.mark.parametrize(
    ("event", "refusal"),
    [
        (end("ERROR", error="boom"), Refusal("stream_error", message="boom")),
        (end(error={"code": 503, "message": "busy"}), Refusal("overloaded", None, "503", "busy")),
        ({"type": "x", "error": {"code": 429}}, Refusal("rate_limited", "unknown", "429")),
        ({"error": "boom"}, Refusal("stream_error", message="boom")),
        ({"type": "error", "message": "boom"}, Refusal("stream_error", message="boom")),
        ({"type": "error", "message": None}, Refusal("stream_error")),
        ({"id": "x", "message": "boom"}, Refusal("stream_error", message="boom")),
    ],
)
@pytest.mark.parametrize("finish_first", [True, False])
def test_an_error_beats_a_finish_reason(event: dict[str, Any], refusal: Refusal, finish_first: bool) -> None:
    events = [end(), event]
    answer = decoded(*(events if finish_first else reversed(events)))
    assert (answer.refusal, answer.finish_reason) == (refusal, "error")


def test_the_first_error_stays() -> None:
    assert decoded({"error": "first"}, end("ERROR", error="second")).refusal == Refusal("stream_error", message="first")


@pytest.mark.parametrize(
    "other",
    [
        {"type": "debug", "prompt": "x"},
        {"type": "new", "delta": "text", "index": "a"},
        {"type": "new", "delta": {"message": [1]}, "message": "not an error"},
        {"type": "citation-start", "index": 0, "delta": {"message": {"citations": {"start": 0, "text": "a"}}}},
    ],
)
def test_events_of_other_types_are_skipped_whatever_they_hold(other: dict[str, Any]) -> None:
    assert decoded(other) == Answer()


@pytest.mark.parametrize(
    "event",
    [
        {"type": None, "delta": {}},
        {"type": 1},
        {"type": "content-delta", "delta": "text"},
        {"type": "content-delta", "index": "0", "delta": {}},
        event("content-delta", content="text"),
        event("content-delta", content={"text": 1}),
        event("tool-call-delta", tool_calls={"function": {"arguments": {}}}),
        end(1),
        end(usage={"tokens": {"input_tokens": "9"}}),
        {"message": {"content": []}},
        {"error": {}},
        b'{"type":"content-delta","delta":{"message":{"content":{"text":"\\ud800"}}}}',
        b'{"type":"content-delta","delta":{"message":{"content":{"text":"\xff"}}}}',
        b'{"type":"new","x":' + b"[" * 10**5,
    ],
)
def test_what_is_not_an_event_is_refused(event: object) -> None:
    with pytest.raises(DecodeError, match="not a Cohere chat answer"):
        decoded(event)


@pytest.mark.parametrize(
    ("usage", "kept"),
    [
        ({"tokens": {"input_tokens": 70, "output_tokens": 4}, "cached_tokens": 3}, Usage(70, 4, None, 3)),
        ({"tokens": {"input_tokens": 70.0}, "billed_units": {"input_tokens": 5, "output_tokens": 2}}, Usage(70, 2)),
        ({"billed_units": {"input_tokens": 5, "output_tokens": 2.0}, "tokens": None}, Usage(5, 2)),
        ({"tokens": {"input_tokens": -1, "output_tokens": 1e300}, "billed_units": {"input_tokens": 10**30}}, Usage()),
        ({}, Usage()),
    ],
)
def test_what_the_model_saw_is_counted_before_what_is_billed(usage: dict[str, Any], kept: Usage) -> None:
    found = decoded(end(usage=usage)).usage
    assert found == kept
    assert not isinstance(found.input, float)
    assert decoded(end()).usage is None


def test_the_id_is_kept_from_the_first_event_that_has_it_and_capped() -> None:
    answer = decoded({"type": "message-start"}, {"type": "message-start", "id": "i" * 999}, {**end(), "id": "j"})
    assert (answer.request_id, answer.model) == ("i" * 200, None)


def test_a_plain_answer_has_no_arrival_times() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    content = [{"type": "thinking", "thinking": "Hm"}, {"type": "text", "text": "Hello"}]
    message = {"role": "assistant", "content": content, "tool_plan": "Plan. ", "tool_calls": [call, call]}
    usage = {"tokens": {"input_tokens": 3, "output_tokens": 4}}
    answer = plain({"id": "x", "message": message, "finish_reason": "TOOL_CALL", "usage": usage})
    assert (answer.text, answer.reasoning, sorted(answer.tool_calls)) == (["Hello"], ["Plan. ", "Hm"], [0, 1])
    assert (answer.output_ns, answer.first_text_ns) == (array("q"), None)
    assert (answer.finish_reason, answer.complete, answer.usage) == ("tool", True, Usage(3, 4))
    assert answer.request_id == "x"


def test_errors_as_plain_answers() -> None:
    assert plain({"message": "too much"}).refusal == Refusal("stream_error", message="too much")
    failed = plain({"id": "x", "message": {"content": None}, "finish_reason": "ERROR"})
    assert failed.refusal == Refusal("stream_error", message="the finish reason is ERROR")


@pytest.mark.parametrize("document", [{"type": "message-start"}, {"message": None}, {"id": "x"}, {"message": [1]}])
def test_a_plain_body_without_an_answer_is_refused(document: object) -> None:
    with pytest.raises(DecodeError, match="not a Cohere chat answer"):
        plain(document)


# fmt: off
KEYS = st.sampled_from([
    "type", "delta", "message", "content", "text", "thinking", "tool_plan", "tool_calls", "function", "name",
    "arguments", "index", "finish_reason", "error", "code", "usage", "tokens", "billed_units", "input_tokens", "id",
])
WORDS = st.sampled_from([
    "message-start", "content-delta", "tool-call-start", "tool-call-delta", "message-end", "error", "ERROR", "new",
])
# fmt: on
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), WORDS),
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
