"""What requests look like, and what single events and plain answers mean. Whole streams: test_conformance.py."""

import contextlib
import json
from array import array
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import latbench
from latbench.model.answer import Answer, Refusal
from latbench.model.errors import DecodeError
from latbench.model.request import Ask, Endpoint, Message
from latbench.providers.anthropic import DIALECT

MESSAGES = (Message("system", "Be short."), Message("user", "Grüße"))
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


def endpoint(**fields: object) -> Endpoint:
    values: dict[str, Any] = {
        "name": "e",
        "provider": "p",
        "api": "anthropic",
        "base_url": "http://h/v1",
        "model": "m",
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


def block(index: int = 0, **fields: object) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": fields}


def delta(index: int = 0, **fields: object) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": fields}


def start(**usage: object) -> dict[str, Any]:
    return {"type": "message_start", "message": {"id": "msg_1", "model": "m", "content": [], "usage": usage}}


def end(reason: object = None, **usage: object) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}


def plain(document: object) -> Answer:
    answer = Answer()
    DIALECT.decode_plain(document if isinstance(document, bytes) else json.dumps(document).encode(), 5, answer)
    return answer


def counts(answer: Answer) -> dict[str, int]:
    assert answer.usage is not None
    return {name: tokens for name, tokens in asdict(answer.usage).items() if tokens is not None}


def test_the_request_of_a_stream() -> None:
    request = DIALECT.build(endpoint(), Ask(MESSAGES, 64))
    assert request.path == "/messages"
    assert request.headers == {
        "content-type": "application/json",
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "user-agent": f"latbench/{latbench.__version__}",
        "anthropic-version": "2023-06-01",
    }
    assert json.loads(request.body) == {
        "model": "m",
        "max_tokens": 64,
        "system": "Be short.",
        "messages": [{"role": "user", "content": "Grüße"}],
        "stream": True,
    }


def test_the_request_of_a_plain_answer() -> None:
    request = DIALECT.build(endpoint(stream=False), Ask(MESSAGES, 64))
    assert request.headers["accept"] == "application/json"
    assert json.loads(request.body)["stream"] is False


def test_system_messages_are_one_field_wherever_they_stood() -> None:
    turns = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    sent = body(Ask((Message("system", "x"), *turns, Message("system", "y")), 8))
    assert sent["system"] == "x\n\ny"
    assert [turn["content"] for turn in sent["messages"]] == ["a", "b", "c"]
    assert "system" not in body(Ask(turns, 8))


def test_fields_of_the_scenario_have_the_last_word() -> None:
    sent = body(
        Ask(MESSAGES, 64, "json_schema", SCHEMA),
        body={"temperature": 0, "output_config": {"effort": "low"}},
        usage="off",
    )
    assert sent["temperature"] == 0
    assert sent["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}, "effort": "low"}


def test_a_schema_is_enforced_as_a_format_or_as_a_tool() -> None:
    assert DIALECT.modes == {"json_schema", "tool"}
    sent = body(Ask(MESSAGES, 64, "json_schema", SCHEMA))
    assert sent["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}
    assert "tools" not in sent
    sent = body(Ask(MESSAGES, 64, "tool", SCHEMA))
    assert sent["tools"] == [
        {"name": "answer", "description": "Give the answer.", "input_schema": SCHEMA, "strict": True}
    ]
    assert sent["tool_choice"] == {"type": "tool", "name": "answer"}
    assert "output_config" not in sent


def test_what_is_built_is_not_for_a_scenario_to_set() -> None:
    assert set(body()) <= DIALECT.own


def test_the_key_goes_into_one_header() -> None:
    assert DIALECT.auth("sk-1") == {"x-api-key": "sk-1"}


def test_what_is_not_output() -> None:
    answer = decoded(
        start(input_tokens=3),
        {"type": "ping"},
        block(type="text", text=""),
        block(type="thinking", thinking="", signature=""),
        block(type="redacted_thinking", data="Em"),
        block(type="web_search_tool_result", content=[{"type": "web_search_result"}]),
        delta(type="text_delta", text=""),
        delta(type="signature_delta", signature="Eq"),
        delta(type="citations_delta", citation={"cited_text": "x"}),
        delta(type="input_json_delta", partial_json=""),
        end("end_turn"),
    )
    assert (list(answer.output_ns), answer.first_text_ns, answer.complete) == ([], None, False)
    assert (answer.text, answer.reasoning, answer.tool_calls) == ([], [], {})


def test_the_first_output_may_be_thinking_and_the_first_text_comes_later() -> None:
    answer = decoded(start(), delta(type="thinking_delta", thinking="a"), delta(1, type="text_delta", text="b"))
    assert (list(answer.output_ns), answer.first_text_ns) == ([1, 2], 2)
    assert (answer.reasoning, answer.text) == (["a"], ["b"])


@pytest.mark.parametrize("kind", ["tool_use", "server_tool_use", "mcp_tool_use"])
def test_the_name_of_a_tool_is_output(kind: str) -> None:
    answer = decoded(block(2, type=kind, id="t", name="f", input={}), delta(2, partial_json='{"a":1}'))
    assert list(answer.output_ns) == [0, 1]
    assert [(i, c.name, c.arguments) for i, c in answer.tool_calls.items()] == [(2, "f", ['{"a":1}'])]


def test_a_block_may_open_with_what_it_holds() -> None:
    answer = decoded(block(type="text", text="a"), block(1, type="thinking", thinking="b"))
    assert (answer.text, answer.reasoning, list(answer.output_ns)) == (["a"], ["b"], [0, 1])


def test_only_message_stop_completes() -> None:
    assert not decoded(end("end_turn"), b"[DONE]").complete
    assert decoded({"type": "message_stop"}).complete


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool"),
        ("refusal", "filter"),
        ("pause_turn", "pause_turn"),
        (None, None),
        ("", None),
        ("x" * 500, "x" * 200),
    ],
)
def test_stop_reasons_have_one_vocabulary(sent: str | None, kept: str | None) -> None:
    message = {"type": "message", "content": [], "stop_reason": sent}
    for answer in (decoded(end(sent)), plain(message)):
        assert (answer.finish_reason, answer.refusal) == (kept, None)


def test_input_includes_what_the_cache_held_and_what_it_took() -> None:
    usage = {"input_tokens": 1, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 300}
    assert counts(decoded(start(**usage, output_tokens=1))) == {"input": 321, "cached": 300}
    assert counts(plain({"content": [], "usage": {**usage, "output_tokens": 7}})) == {
        "input": 321,
        "cached": 300,
        "output": 7,
    }


def test_totals_overwrite_and_what_is_not_repeated_stays() -> None:
    usage = {"input_tokens": 1, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 300, "output_tokens": 1}
    details = {"thinking_tokens": 5}
    answer = decoded(
        start(**usage), end(output_tokens=4), end(input_tokens=2, output_tokens=9, output_tokens_details=details)
    )
    assert counts(answer) == {"input": 322, "cached": 300, "output": 9, "reasoning": 5}
    answer = decoded(start(**usage), end(cache_read_input_tokens=400, input_tokens=None))
    assert counts(answer) == {"input": 421, "cached": 400}


def test_a_count_that_is_none_is_not_believed() -> None:
    answer = decoded(start(input_tokens=3), end(input_tokens=-1, output_tokens=10**30, cache_read_input_tokens=2**53))
    assert counts(answer) == {"input": 3}
    assert counts(decoded(end(cache_read_input_tokens=5))) == {"cached": 5}
    most = 2**53 - 1
    answer = decoded(start(input_tokens=most, cache_creation_input_tokens=most, cache_read_input_tokens=most))
    assert counts(answer)["input"] < 2**63


def test_a_stream_that_was_cut_has_no_count_of_its_output() -> None:
    assert counts(decoded(start(input_tokens=3, output_tokens=2), delta(text="a"))) == {"input": 3}


@pytest.mark.parametrize(
    ("error", "outcome", "kind"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, "overloaded", None),
        ({"type": "api_error", "message": "boom"}, "stream_error", None),
        ({"type": "timeout_error"}, "stream_error", None),
        ({"type": "billing_error"}, "quota_exhausted", None),
        ({"type": "rate_limit_error", "message": "40 output tokens per minute"}, "rate_limited", "output_tokens"),
        ({"type": "rate_limit_error", "message": "50 requests per minute"}, "rate_limited", "requests"),
        ({"type": "rate_limit_error", "details": {"error_code": "ramp_limit_exceeded"}}, "rate_limited", "ramp"),
        ({"type": "rate_limit_error"}, "rate_limited", "unknown"),
        ("just text", "stream_error", None),
        (None, "stream_error", None),
    ],
)
@pytest.mark.parametrize("stop_first", [True, False])
def test_an_error_event_beats_a_stop_reason(error: object, outcome: str, kind: str | None, stop_first: bool) -> None:
    events: list[object] = [end("end_turn"), {"type": "error", "error": error, "request_id": "req_1"}]
    answer = decoded(*(events if stop_first else reversed(events)), {"type": "message_stop"})
    assert answer.refusal is not None
    assert (answer.refusal.outcome, answer.refusal.kind, answer.finish_reason) == (outcome, kind, "error")
    assert answer.request_id == "req_1"


def test_the_first_error_stays() -> None:
    answer = decoded({"type": "error", "error": "first"}, {"error": {"code": 503, "message": "second"}})
    assert answer.refusal == Refusal("stream_error", message="first")


def test_a_stop_reason_can_be_an_error() -> None:
    assert decoded(end("error")).refusal == Refusal("stream_error", message="the finish reason is error")


@pytest.mark.parametrize(
    "event",
    [
        {"type": "content_block_stop", "index": 0},
        {"type": "vendor_event", "message": 1, "delta": [], "index": "x", "usage": "y"},
        {"type": "message_delta"},
        {"type": "message_delta", "delta": None, "usage": None},
        block(type="future_block", data="x"),
        delta(type="future_delta", piece="x"),
    ],
)
def test_events_that_carry_nothing(event: dict[str, Any]) -> None:
    assert decoded(event) == Answer()


@pytest.mark.parametrize(
    "event",
    [
        {"type": ""},
        {"type": None},
        {"type": 7},
        {"type": "message_start"},
        {"type": "message_start", "message": None},
        {"type": "content_block_start", "index": 0},
        {"type": "content_block_delta", "index": 0},
        {"type": "content_block_delta", "index": "0", "delta": {"text": "a"}},
        delta(text=1),
        end(7),
        end(output_tokens="9"),
        {"type": "message_delta", "usage": {"output_tokens": 1.5}},
        {"choices": [{"delta": {"content": "a"}}]},
        b'{"type":"content_block_delta","index":0,"delta":{"text":"\\ud800"}}',
        b'{"type":"content_block_delta","index":0,"delta":{"text":"\xed\xa0\x80"}}',
        b'{"type":"ping","x":' + b"[" * 10**5 + b"]" * 10**5 + b"}",
        b'{"type":"content_block_start","content_block":{"type":"tool_use","input":' + b"[" * 10**5,
    ],
)
@pytest.mark.parametrize("after", [[], [{"type": "error", "error": "x"}]])
def test_what_is_no_event_is_refused_also_after_an_error(event: object, after: list[object]) -> None:
    with pytest.raises(DecodeError, match="not an event of a message") as caught:
        decoded(*after, event)
    assert len(str(caught.value)) < 500


def test_names_are_kept_from_the_first_message_and_capped() -> None:
    first = {"type": "message_start", "message": {"id": "i" * 999, "model": 7}}
    answer = decoded(first, start())
    assert (answer.request_id, answer.model) == ("i" * 200, "7")


def test_a_plain_answer_has_no_arrival_times() -> None:
    content = [
        {"type": "thinking", "thinking": "Hm", "signature": "Eq"},
        {"type": "redacted_thinking", "data": "Em"},
        {"type": "text", "text": "Hello", "citations": None},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"a": "ö"}},
        {"type": "tool_use", "id": "u", "name": "g", "input": {}},
    ]
    usage = {"input_tokens": 3, "output_tokens": 4, "output_tokens_details": {"thinking_tokens": 1}}
    answer = plain(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": content,
            "stop_reason": "tool_use",
            "usage": usage,
        }
    )
    assert (answer.text, answer.reasoning) == (["Hello"], ["Hm"])
    assert [(i, c.name, c.arguments) for i, c in answer.tool_calls.items()] == [(3, "f", ['{"a":"ö"}']), (4, "g", [])]
    assert (answer.output_ns, answer.first_text_ns) == (array("q"), None)
    assert (answer.finish_reason, answer.complete, answer.refusal) == ("tool", True, None)
    assert counts(answer) == {"input": 3, "output": 4, "reasoning": 1}
    assert (answer.request_id, answer.model) == ("msg_1", "m")


@pytest.mark.parametrize(
    "document",
    [
        b"<html>502</html>",
        {"type": "message"},
        {"type": "message", "content": "text"},
        {"type": "message", "content": None},
        {"type": "ping"},
        {"error": None},
        b'data: {"type":"message"}\n\n',
    ],
)
def test_a_plain_body_without_an_answer_is_refused(document: object) -> None:
    with pytest.raises(DecodeError, match="not a message"):
        plain(document)


@pytest.mark.parametrize("name", [{"type": "error"}, {}])
def test_an_error_as_a_plain_answer(name: dict[str, str]) -> None:
    error = {"type": "overloaded_error", "message": "Overloaded"}
    answer = plain({**name, "error": error, "request_id": "req_1"})
    assert answer.refusal == Refusal("overloaded", code="overloaded_error", message="Overloaded")
    assert (answer.complete, answer.request_id) == (False, "req_1")


@pytest.mark.parametrize(
    ("status", "kind", "outcome"),
    [
        (400, "invalid_request_error", "invalid_request"),
        (401, "authentication_error", "auth_error"),
        (402, "billing_error", "quota_exhausted"),
        (403, "permission_error", "auth_error"),
        (404, "not_found_error", "invalid_request"),
        (413, "request_too_large", "invalid_request"),
        (429, "rate_limit_error", "rate_limited"),
        (500, "api_error", "http_error"),
        (504, "timeout_error", "http_error"),
        (529, "overloaded_error", "overloaded"),
    ],
)
def test_a_status_is_an_outcome(status: int, kind: str, outcome: str) -> None:
    error = {"type": "error", "error": {"type": kind, "message": "why"}, "request_id": "req_1"}
    refusal = DIALECT.refusal(status, {"retry-after": "7"}, json.dumps(error).encode())
    assert (refusal.outcome, refusal.code, refusal.message, refusal.wait_ns) == (outcome, kind, "why", 7_000_000_000)


KINDS = [
    "message_start",
    "content_block_start",
    "content_block_delta",
    "message_delta",
    "message_stop",
    "error",
    "ping",
]
# fmt: off
KEYS = st.sampled_from([
    "type", "message", "content_block", "delta", "index", "usage", "content", "text", "thinking", "partial_json",
    "name", "input", "stop_reason", "input_tokens", "cache_read_input_tokens", "output_tokens", "id", "model", "error",
    "code",
])
# fmt: on
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.sampled_from([*KINDS, "tool_use"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(KINDS), st.dictionaries(KEYS, JSON, max_size=5))
def test_any_event_is_decoded_or_refused(kind: str, fields: dict[str, Any]) -> None:
    for decode in (DIALECT.decode, DIALECT.decode_plain):
        answer = Answer()
        try:
            decode(json.dumps({**fields, "type": kind}).encode(), 1, answer)
        except DecodeError:
            continue
        assert len(answer.output_ns) <= 1


@given(JSON)
def test_any_json_is_decoded_or_refused(document: object) -> None:
    for decode in (DIALECT.decode, DIALECT.decode_plain):
        with contextlib.suppress(DecodeError):
            decode(json.dumps(document).encode(), 1, Answer())
