"""What requests look like, and what single events and plain answers mean. Whole streams: test_conformance.py."""

import contextlib
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
from latbench.providers.openai_responses import DIALECT

MESSAGES = (Message("system", "Be short."), Message("user", "Grüße"))
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


def endpoint(**fields: object) -> Endpoint:
    values: dict[str, Any] = {
        "name": "e",
        "provider": "p",
        "api": "openai-responses",
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


def event(kind: str, **fields: object) -> dict[str, Any]:
    return {"type": f"response.{kind}", **fields}


def added(index: int = 0, **item: object) -> dict[str, Any]:
    return event("output_item.added", output_index=index, item=item)


def end(kind: str = "completed", **fields: object) -> dict[str, Any]:
    return event(kind, response={"id": "resp_1", "model": "m", "status": kind, "output": [], **fields})


def plain(document: object) -> Answer:
    answer = Answer()
    DIALECT.decode_plain(document if isinstance(document, bytes) else json.dumps(document).encode(), 5, answer)
    return answer


def message(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": list(parts)}


def test_the_request_of_a_stream() -> None:
    request = DIALECT.build(endpoint(), Ask(MESSAGES, 64))
    assert request.path == "/responses"
    assert request.headers == {
        "content-type": "application/json",
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "user-agent": f"latbench/{latbench.__version__}",
    }
    assert json.loads(request.body) == {
        "model": "m",
        "input": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Grüße"}],
        "max_output_tokens": 64,
        "stream": True,
    }


def test_the_request_of_a_plain_answer() -> None:
    request = DIALECT.build(endpoint(stream=False), Ask(MESSAGES, 64))
    assert request.headers["accept"] == "application/json"
    assert json.loads(request.body)["stream"] is False


def test_a_schema_is_enforced_as_a_format_or_as_a_tool() -> None:
    assert DIALECT.modes == {"json_schema", "tool"}
    sent = body(Ask(MESSAGES, 64, "json_schema", SCHEMA))
    assert sent["text"] == {"format": {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": True}}
    assert "tools" not in sent
    sent = body(Ask(MESSAGES, 64, "tool", SCHEMA))
    assert sent["tools"] == [
        {
            "type": "function",
            "name": "answer",
            "description": "Give the answer.",
            "parameters": SCHEMA,
            "strict": True,
        }
    ]
    assert sent["tool_choice"] == {"type": "function", "name": "answer"}
    assert "text" not in sent


def test_fields_of_the_scenario_have_the_last_word() -> None:
    sent = body(Ask(MESSAGES, 64, "json_schema", SCHEMA), body={"store": False, "text": {"verbosity": "low"}})
    assert sent["store"] is False
    assert sent["text"]["verbosity"] == "low"
    assert sent["text"]["format"]["name"] == "answer"


def test_what_is_built_is_not_for_a_scenario_to_set() -> None:
    assert set(body()) <= DIALECT.own


def test_the_key_goes_into_one_header() -> None:
    assert DIALECT.auth("sk-1") == {"authorization": "Bearer sk-1"}


def test_what_is_not_output() -> None:
    answer = decoded(
        event("created", response={"id": "resp_1", "status": "in_progress"}),
        event("in_progress", response={}),
        event("queued", response={}),
        added(type="message", content=[]),
        added(type="reasoning", summary=[]),
        event("content_part.added", part={"type": "output_text", "text": ""}),
        event("output_text.delta", delta=""),
        event("reasoning_text.delta", delta=""),
        event("function_call_arguments.delta", delta=""),
        event("output_text.done", text="all"),
        event("output_item.done", item=message({"type": "output_text", "text": "all"})),
    )
    assert (list(answer.output_ns), answer.first_text_ns, answer.complete) == ([], None, False)
    assert (answer.text, answer.reasoning, answer.tool_calls) == ([], [], {})


@pytest.mark.parametrize("kind", ["reasoning_text.delta", "reasoning_summary_text.delta"])
@pytest.mark.parametrize("text", ["output_text.delta", "refusal.delta"])
def test_the_first_output_may_be_reasoning_and_the_first_text_comes_later(kind: str, text: str) -> None:
    answer = decoded(event("in_progress", response={}), event(kind, delta="a"), event(text, delta="b"), end())
    assert (list(answer.output_ns), answer.first_text_ns) == ([1, 2], 2)
    assert (answer.reasoning, answer.text) == (["a"], ["b"])
    assert (answer.finish_reason, answer.complete) == ("stop", True)


@pytest.mark.parametrize(
    ("kind", "pieces"),
    [("function_call", "function_call_arguments.delta"), ("custom_tool_call", "custom_tool_call_input.delta")],
)
def test_the_name_of_a_tool_is_output(kind: str, pieces: str) -> None:
    answer = decoded(
        added(2, type=kind, name="f", arguments="", input=None), event(pieces, output_index=2, delta="{}"), end()
    )
    assert list(answer.output_ns) == [0, 1]
    assert [(i, c.name, c.arguments) for i, c in answer.tool_calls.items()] == [(2, "f", ["{}"])]
    assert (answer.finish_reason, answer.complete) == ("tool", True)


@pytest.mark.parametrize("index", [None, "x", 1.5, []])
def test_an_item_without_a_number_is_the_first(index: object) -> None:
    answer = decoded(added(index, type="function_call", name="f"))  # type: ignore[arg-type]
    assert list(answer.tool_calls) == [0]


def test_the_last_event_repeats_the_answer() -> None:
    whole = [message({"type": "output_text", "text": "ab"})]
    answer = decoded(event("output_text.delta", delta="ab"), end(output=whole))
    assert (answer.text, list(answer.output_ns)) == (["ab"], [0])


def test_an_answer_that_comes_with_the_last_event_only_is_one_chunk() -> None:
    summary = {"type": "reasoning", "summary": [{"text": "h"}, {"text": "m"}]}
    calls = [{"type": "function_call", "name": "f", "arguments": "{}"}, {"type": "web_search_call", "name": 7}]
    whole = [summary, message({"text": "a"}, {"refusal": "b"}, {}), *calls]
    answer = decoded(event("created", response={}), end(output=whole))
    assert (answer.reasoning, answer.text, list(answer.output_ns)) == (["hm"], ["a", "b"], [1])
    assert [(i, c.name, c.arguments) for i, c in answer.tool_calls.items()] == [(2, "f", ["{}"])]


def test_reasoning_counts_once_however_it_is_shown() -> None:
    both = {
        "type": "reasoning",
        "summary": [{"text": "short"}],
        "content": [{"type": "reasoning_text", "text": "long"}],
    }
    assert plain({"output": [both]}).reasoning == ["long"]


@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        ("max_output_tokens", "length"),
        ("content_filter", "filter"),
        ("max_messages", "max_messages"),
        ("steered", "steered"),
        (None, "incomplete"),
    ],
)
def test_an_incomplete_answer_says_why(reason: str | None, kept: str) -> None:
    incomplete = end("incomplete", incomplete_details={"reason": reason})
    for answer in (decoded(incomplete), plain(incomplete["response"])):
        assert (answer.finish_reason, answer.complete, answer.refusal) == (kept, True, None)
    assert decoded(end("incomplete")).finish_reason == "incomplete"


def test_only_the_end_completes() -> None:
    done = event("output_item.done", item=message())
    assert not decoded(event("created", response={}), event("output_text.done", text="a"), done, b"[DONE]").complete


def test_usage_is_that_of_the_end() -> None:
    usage = {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 16,
    }
    for kind in ("completed", "incomplete", "failed"):
        assert decoded(end(kind, usage=usage)).usage == Usage(9, 7, 5, 4)
    assert decoded(end(usage=None)).usage is None
    odd = {"input_tokens": -1, "output_tokens": 10**30, "input_tokens_details": {"cached_tokens": None}}
    assert decoded(end(usage=odd)).usage == Usage()
    assert decoded(end(usage={"output_tokens": 1, "output_tokens_details": None})).usage == Usage(output=1)


ERRORS = [
    ({"code": "server_error", "message": "boom"}, "stream_error", None),
    ({"code": "invalid_prompt"}, "stream_error", None),
    ({"code": "server_is_overloaded"}, "overloaded", None),
    ({"code": "slow_down"}, "rate_limited", "ramp"),
    ({"code": "rate_limit_exceeded", "message": "on requests per min (RPM)"}, "rate_limited", "requests"),
    ({"code": "rate_limit_exceeded"}, "rate_limited", "unknown"),
    ({"code": "insufficient_quota"}, "quota_exhausted", None),
]


@pytest.mark.parametrize(("error", "outcome", "kind"), ERRORS)
@pytest.mark.parametrize("shape", ["failed", "error", "nested", "bare"])
@pytest.mark.parametrize("end_first", [True, False])
def test_an_error_in_any_shape_beats_the_end(
    error: dict[str, str], outcome: str, kind: str | None, shape: str, end_first: bool
) -> None:
    shapes: dict[str, dict[str, Any]] = {
        "failed": end("failed", error=error),
        "error": {"type": "error", "param": None, **error},
        "nested": {"type": "error", "error": error},
        "bare": {"error": error},
    }
    events = [end(), shapes[shape]]
    answer = decoded(*(events if end_first else reversed(events)))
    assert answer.refusal is not None
    assert (answer.refusal.outcome, answer.refusal.kind, answer.finish_reason) == (outcome, kind, "error")
    assert (answer.refusal.code, answer.refusal.message) == (error["code"], error.get("message"))


def test_a_failure_is_no_completion_and_need_not_say_why() -> None:
    answer = decoded(end("failed"), {"type": "error", "message": "late"})
    assert answer.refusal == Refusal("stream_error", message="the status is failed")
    assert not answer.complete
    assert decoded({"type": "error"}).refusal == Refusal("stream_error")


def test_an_error_beside_an_event_is_one() -> None:
    answer = decoded(event("output_text.delta", delta="a", error="boom"))
    assert (answer.text, answer.refusal) == (["a"], Refusal("stream_error", message="boom"))


@pytest.mark.parametrize(
    "odd",
    [
        {"type": "keepalive"},
        event("future", delta=[], item=7, response="x", output_index={}, code=[], message={}),
        event("output_item.added", item={"type": "mcp_call", "name": 7, "arguments": []}),
        event("output_item.added", item={}),
        event("audio.delta", delta="UklGR"),
        b"[DONE]",
    ],
)
def test_events_that_carry_nothing(odd: object) -> None:
    assert decoded(odd) == Answer()


@pytest.mark.parametrize(
    "odd",
    [
        {"type": ""},
        {"type": None},
        {"type": 7},
        {"error": {}},
        {"choices": [{"delta": {"content": "a"}}]},
        event("output_text.delta"),
        event("output_text.delta", delta=None),
        event("output_text.delta", delta={"text": "a"}),
        event("function_call_arguments.delta", delta=7),
        event("created"),
        event("completed"),
        event("completed", response=None),
        event("completed", response=[]),
        event("output_item.added"),
        event("output_item.added", item=None),
        added(type="function_call", name=7),
        added(type=7),
        end(status=7),
        end(output={}),
        end(output=[7]),
        end(output=[{"type": "message", "content": "text"}]),
        end(usage={"output_tokens": "9"}),
        end(incomplete_details="x"),
        b'{"type":"response.output_text.delta","delta":"\\ud800"}',
        b'{"type":"response.output_text.delta","delta":"\xed\xa0\x80"}',
        b'{"type":"keepalive","x":' + b"[" * 10**5 + b"]" * 10**5 + b"}",
        b'{"type":"response.completed","response":' + b"[" * 10**5,
        b'{"type":"response.completed","response":{"error":' + b"[" * 10**5 + b"]" * 10**5 + b"}}",
    ],
)
def test_what_is_no_event_is_refused(odd: object) -> None:
    with pytest.raises(DecodeError, match="response") as caught:
        decoded(odd)
    assert len(str(caught.value)) < 500


def test_names_are_kept_from_the_first_event_that_has_them_and_capped() -> None:
    answer = decoded(
        event("created", response={"id": "i" * 999, "model": ""}), event("queued", response={"model": 7}), end()
    )
    assert (answer.request_id, answer.model) == ("i" * 200, "7")


def test_a_plain_answer_has_no_arrival_times() -> None:
    output = [
        {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"},
        message({"type": "output_text", "text": "Hel"}, {"type": "output_text", "text": "lo"}),
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "d", "name": "g", "input": "x"},
    ]
    usage = {"input_tokens": 3, "output_tokens": 4}
    answer = plain({"id": "r", "model": "m", "status": "completed", "error": None, "output": output, "usage": usage})
    assert (answer.text, answer.reasoning) == (["Hel", "lo"], [])
    assert [(i, c.name, c.arguments) for i, c in answer.tool_calls.items()] == [(2, "f", ["{}"]), (3, "g", ["x"])]
    assert (answer.output_ns, answer.first_text_ns) == (array("q"), None)
    assert (answer.finish_reason, answer.complete, answer.usage) == ("tool", True, Usage(3, 4))
    assert (answer.request_id, answer.model) == ("r", "m")


def test_a_plain_answer_is_whole_without_a_status() -> None:
    answer = plain({"output": []})
    assert (answer.finish_reason, answer.complete) == ("stop", True)


@pytest.mark.parametrize("status", ["failed", "cancelled", "odd"])
def test_a_plain_answer_may_have_failed(status: str) -> None:
    answer = plain({"status": status, "output": [message({"text": "a"})]})
    assert answer.refusal == Refusal("stream_error", message=f"the status is {status}")
    assert (answer.complete, answer.text) == (False, ["a"])


@pytest.mark.parametrize("fields", [{}, {"status": "failed", "output": []}, {"status": "completed", "output": []}])
def test_an_error_as_a_plain_answer(fields: dict[str, Any]) -> None:
    answer = plain({**fields, "error": {"code": "server_is_overloaded", "message": "busy"}})
    assert answer.refusal == Refusal("overloaded", code="server_is_overloaded", message="busy")
    assert not answer.complete


@pytest.mark.parametrize(
    "document",
    [
        b"<html>502</html>",
        {"status": "completed"},
        {"status": "completed", "output": None},
        {"status": "queued", "output": []},
        {"status": "in_progress", "output": []},
        {"output": "text"},
        {"error": None},
        b'data: {"output":[]}\n\n',
    ],
)
def test_a_plain_body_without_an_answer_is_refused(document: object) -> None:
    with pytest.raises(DecodeError, match="not a response"):
        plain(document)


KINDS = [
    "response.created",
    "response.output_item.added",
    "response.output_text.delta",
    "response.reasoning_text.delta",
    "response.function_call_arguments.delta",
    "response.completed",
    "response.incomplete",
    "response.failed",
    "error",
    "keepalive",
]
# fmt: off
KEYS = st.sampled_from([
    "type", "response", "item", "delta", "output_index", "usage", "output", "content", "summary", "text", "refusal",
    "name", "arguments", "input", "status", "incomplete_details", "reason", "input_tokens", "id", "error", "code",
])
# fmt: on
WORDS = ["message", "reasoning", "function_call", "completed", "failed", "incomplete"]
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.sampled_from(WORDS)),
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
