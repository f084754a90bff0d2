"""Requests, single events, plain answers, and raw lines in a stream. Whole streams: test_conformance.py."""

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
from latbench.providers.gemini import DIALECT, GeminiFramer

MESSAGES = (Message("system", "Be short."), Message("user", "Grüße"))
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


def endpoint(**fields: object) -> Endpoint:
    values: dict[str, Any] = {
        "name": "e",
        "provider": "google",
        "api": "gemini",
        "base_url": "http://h/v1beta",
        "model": "gemini-2.5-flash",
    }
    return Endpoint(**values | fields)


def body(ask: Ask | None = None, **fields: object) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(DIALECT.build(endpoint(**fields), ask or Ask(MESSAGES, 64)).body)
    return decoded


def decoded(*events: object, answer: Answer | None = None) -> Answer:
    answer = answer or Answer()
    for at, event in enumerate(events):
        DIALECT.decode(event if isinstance(event, bytes) else json.dumps(event).encode(), at, answer)
    return answer


def response(*parts: object, finish: str | None = None, **fields: object) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": parts}, "finishReason": finish}], **fields}


def plain(document: object) -> Answer:
    answer = Answer()
    DIALECT.decode_plain(document if isinstance(document, bytes) else json.dumps(document).encode(), 5, answer)
    return answer


def test_the_request_of_a_stream() -> None:
    request = DIALECT.build(endpoint(), Ask(MESSAGES, 64))
    assert request.path == "/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
    assert request.headers == {
        "content-type": "application/json",
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "user-agent": f"latbench/{latbench.__version__}",
    }
    assert json.loads(request.body) == {
        "contents": [{"role": "user", "parts": [{"text": "Grüße"}]}],
        "generationConfig": {"maxOutputTokens": 64},
        "systemInstruction": {"parts": [{"text": "Be short."}]},
    }


def test_the_request_of_a_plain_answer() -> None:
    request = DIALECT.build(endpoint(stream=False), Ask(MESSAGES, 64))
    assert request.path == "/models/gemini-2.5-flash:generateContent"
    assert request.headers["accept"] == "application/json"
    assert json.loads(request.body) == body()


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("models/gemini-x", "/models/gemini-x:"),
        ("tunedModels/mine", "/tunedModels/mine:"),
        ("publishers/google/models/x", "/publishers/google/models/x:"),
        ("größe ?#", "/models/gr%C3%B6%C3%9Fe%20%3F%23:"),
    ],
)
def test_the_model_is_part_of_the_path(model: str, path: str) -> None:
    assert DIALECT.build(endpoint(model=model), Ask(MESSAGES, 1)).path == f"{path}streamGenerateContent?alt=sse"


def test_turns_of_the_assistant_are_the_models_and_there_may_be_no_system_message() -> None:
    sent = body(Ask((Message("user", "a"), Message("assistant", "b"), Message("user", "c")), 1))
    assert [(turn["role"], turn["parts"][0]["text"]) for turn in sent["contents"]] == [
        ("user", "a"),
        ("model", "b"),
        ("user", "c"),
    ]
    assert "systemInstruction" not in sent


def test_a_request_can_be_built_before_there_are_messages() -> None:
    assert body(Ask((), 1))["contents"] == []


def test_fields_of_the_scenario_are_merged() -> None:
    sent = body(body={"generationConfig": {"temperature": 0}, "safetySettings": []})
    assert sent["generationConfig"] == {"maxOutputTokens": 64, "temperature": 0}
    assert sent["safetySettings"] == []


def test_the_mode_json_schema() -> None:
    assert body(Ask(MESSAGES, 64, "json_schema", SCHEMA))["generationConfig"] == {
        "maxOutputTokens": 64,
        "responseMimeType": "application/json",
        "responseJsonSchema": SCHEMA,
    }


def test_the_mode_tool() -> None:
    sent = body(Ask(MESSAGES, 64, "tool", SCHEMA))
    assert sent["tools"] == [
        {
            "functionDeclarations": [
                {"name": "answer", "description": "Give the answer.", "parametersJsonSchema": SCHEMA},
            ]
        }
    ]
    assert sent["toolConfig"] == {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["answer"]}}
    assert {"json_schema", "tool"} == DIALECT.modes
    assert not DIALECT.fills


def test_what_a_scenario_may_not_set_is_what_build_sets() -> None:
    ours = [("contents",), ("generationConfig", "maxOutputTokens"), ("systemInstruction",)]
    assert DIALECT.own_in(body()) == ours


def test_the_key_goes_into_one_header() -> None:
    assert DIALECT.auth("AIza") == {"x-goog-api-key": "AIza"}


def test_thoughts_come_first_and_text_later() -> None:
    answer = decoded(
        response({"text": ""}),
        response({"text": "hm", "thought": True}),
        response({"text": "a", "thought": False}, {"text": "b"}),
        response(finish="STOP"),
    )
    assert (answer.reasoning, answer.text) == (["hm"], ["a", "b"])
    assert (list(answer.output_ns), answer.first_text_ns) == ([1, 2], 2)
    assert (answer.finish_reason, answer.complete) == ("stop", True)


def test_calls_are_numbered_as_they_come_and_stop_is_then_a_tool_call() -> None:
    answer = decoded(
        response({"functionCall": {"name": "f", "args": {"a": [1, "ß"]}}}, {"functionCall": {"name": "f"}}),
        response({"functionCall": {"name": "g", "args": {}}}, finish="STOP"),
    )
    assert [(i, call.name, call.arguments) for i, call in answer.tool_calls.items()] == [
        (0, "f", ['{"a":[1,"ß"]}']),
        (1, "f", []),
        (2, "g", ["{}"]),
    ]
    assert (list(answer.output_ns), answer.finish_reason) == ([0, 1], "tool")


def test_a_call_that_was_cut_off_is_not_a_tool_call_but_too_long() -> None:
    assert decoded(response({"functionCall": {"name": "f"}}, finish="MAX_TOKENS")).finish_reason == "length"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "filter"),
        ("RECITATION", "filter"),
        ("BLOCKLIST", "filter"),
        ("PROHIBITED_CONTENT", "filter"),
        ("SPII", "filter"),
        ("LANGUAGE", "LANGUAGE"),
        ("MALFORMED_FUNCTION_CALL", "MALFORMED_FUNCTION_CALL"),
        ("TOO_MANY_TOOL_CALLS", "TOO_MANY_TOOL_CALLS"),
    ],
)
def test_finish_reasons_have_one_vocabulary(sent: str, kept: str) -> None:
    answer = decoded(response(finish=sent))
    assert (answer.finish_reason, answer.complete, answer.refusal) == (kept, True, None)


def test_other_is_an_error() -> None:
    answer = decoded(response(finish="OTHER"))
    assert answer.refusal == Refusal("stream_error", message="the finish reason is OTHER")
    assert (answer.finish_reason, answer.complete) == ("error", True)


def test_an_empty_finish_reason_finishes_nothing() -> None:
    assert not decoded(response({"text": "a"}, finish="")).complete


@pytest.mark.parametrize("reason", ["SAFETY", "OTHER", "BLOCKED_REASON_UNSPECIFIED"])
def test_a_blocked_prompt_is_filtered_and_complete(reason: str) -> None:
    answer = decoded({"promptFeedback": {"blockReason": reason}, "usageMetadata": {"promptTokenCount": 3}})
    assert (answer.finish_reason, answer.complete, answer.refusal) == ("filter", True, None)
    assert answer.usage == Usage(input=3)


def test_feedback_that_blocks_nothing_is_no_end() -> None:
    assert decoded({"promptFeedback": {"safetyRatings": []}}) == Answer()


def test_thoughts_are_output_and_cached_tokens_are_input() -> None:
    usage = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 60,
        "candidatesTokenCount": 7,
        "thoughtsTokenCount": 30,
        "toolUsePromptTokenCount": 5,
        "totalTokenCount": 142,
    }
    assert decoded({"usageMetadata": usage}).usage == Usage(input=105, output=37, reasoning=30, cached=60)


def test_usage_is_cumulative_and_kept_field_by_field() -> None:
    answer = decoded(
        {"usageMetadata": {"promptTokenCount": 9}},
        {"usageMetadata": {"promptTokenCount": 9, "thoughtsTokenCount": 4}},
    )
    assert answer.usage == Usage(input=9, output=4, reasoning=4)
    decoded({"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 2}}, answer=answer)
    assert answer.usage == Usage(input=9, output=6, reasoning=4)
    decoded({"usageMetadata": {"thoughtsTokenCount": 5, "cachedContentTokenCount": 1}}, answer=answer)
    assert answer.usage == Usage(input=9, output=7, reasoning=5, cached=1)
    decoded({"usageMetadata": {"promptTokenCount": 10**30, "candidatesTokenCount": -1}}, answer=answer)
    assert answer.usage == Usage(input=9, output=7, reasoning=5, cached=1)


def test_where_no_thoughts_are_counted_none_are_known() -> None:
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 2, "toolUsePromptTokenCount": -5}
    assert decoded({"usageMetadata": usage}).usage == Usage(input=1, output=2)


def test_names_are_kept_from_the_first_chunk_that_has_them_and_capped() -> None:
    answer = decoded(
        {"candidates": [], "modelVersion": ""},
        {"modelVersion": "m" * 999, "responseId": "r"},
        {"modelVersion": "other", "responseId": "s"},
    )
    assert (answer.model, answer.request_id) == ("m" * 200, "r")


QUOTA = {
    "code": 429,
    "message": "You exceeded your current quota.\nPlease retry in 36.2s.",
    "status": "RESOURCE_EXHAUSTED",
    "details": [
        {
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaValue": "20"}],
        },
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "36s"},
    ],
}


def test_a_quota_is_told_by_its_details_in_a_status_and_in_a_stream() -> None:
    found = [
        decoded({"error": QUOTA}).refusal,
        DIALECT.refusal(429, {}, json.dumps({"error": QUOTA}).encode()),
        DIALECT.refusal(429, {}, json.dumps([{"error": QUOTA}], indent=1).encode()),
    ]
    for refusal in found:
        assert refusal is not None
        assert (refusal.outcome, refusal.kind, refusal.wait_ns) == ("rate_limited", "daily", 36_000_000_000)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        ({"code": 503, "status": "UNAVAILABLE"}, "overloaded"),
        ({"code": 500, "status": "INTERNAL"}, "stream_error"),
        ("text", "stream_error"),
    ],
)
@pytest.mark.parametrize("finish_first", [True, False])
def test_an_error_event_beats_a_finish_reason(error: object, outcome: str, finish_first: bool) -> None:
    events = [response(finish="STOP"), {"error": error}]
    answer = decoded(*(events if finish_first else reversed(events)))
    assert answer.refusal is not None
    assert (answer.refusal.outcome, answer.finish_reason) == (outcome, "error")


@pytest.mark.parametrize(
    "event",
    [
        {"candidates": {}},
        {"candidates": ["a"]},
        {"candidates": None},
        {"error": {}},
        {"error": None, "modelVersion": ""},
        response("a"),
        response({"text": 1}),
        response({"thought": "yes"}),
        response({"functionCall": "f"}),
        response({"functionCall": {"args": "{}"}}),
        response(finish=1),  # type: ignore[arg-type]
        {"usageMetadata": {"promptTokenCount": "9"}},
        {"promptFeedback": []},
        b'{"candidates":[{"content":{"parts":[{"text":"\\ud800"}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"text":"\xff"}]}}]}',
    ],
)
def test_what_is_not_a_response_is_refused(event: object) -> None:
    with pytest.raises(DecodeError, match="not a Gemini response"):
        decoded(event)


def test_arguments_of_any_depth_are_decoded_or_refused() -> None:
    for depth in range(900, 1100):
        args = b'{"a":' * depth + b"1" + b"}" * depth
        with contextlib.suppress(DecodeError):
            decoded(b'{"candidates":[{"content":{"parts":[{"functionCall":{"args":' + args + b"}}]}}]}")


def test_a_plain_answer_has_no_arrival_times() -> None:
    parts = ({"text": "Hm", "thought": True}, {"text": "Hello"}, {"functionCall": {"name": "f", "args": {}}})
    usage = {"promptTokenCount": 3, "candidatesTokenCount": 4}
    answer = plain(response(*parts, finish="STOP", usageMetadata=usage, modelVersion="m", responseId="r"))
    assert (answer.text, answer.reasoning, sorted(answer.tool_calls)) == (["Hello"], ["Hm"], [0])
    assert (answer.output_ns, answer.first_text_ns) == (array("q"), None)
    assert (answer.finish_reason, answer.complete, answer.usage) == ("tool", True, Usage(3, 4))
    assert (answer.model, answer.request_id) == ("m", "r")


def test_a_plain_answer_is_whole_without_a_finish_reason() -> None:
    assert plain(response({"text": "a"})).complete


def test_a_blocked_prompt_and_an_error_as_plain_answers() -> None:
    assert plain({"promptFeedback": {"blockReason": "SAFETY"}}).finish_reason == "filter"
    assert plain({"error": {"code": 503, "message": "busy"}}).refusal == Refusal("overloaded", None, "503", "busy")


@pytest.mark.parametrize("document", [{"candidates": []}, {"usageMetadata": {"promptTokenCount": 1}}])
def test_a_plain_answer_without_a_candidate_is_refused(document: object) -> None:
    with pytest.raises(DecodeError, match="without a candidate"):
        plain(document)


def framed(*pieces: bytes) -> list[bytes]:
    framer = GeminiFramer()
    return [payload for piece in pieces for payload in framer.feed(piece)] + framer.close()


def test_a_raw_object_is_handed_out_by_the_read_that_ends_it() -> None:
    framer = GeminiFramer()
    assert framer.feed(b'{"error":\r') == []
    assert framer.feed(b'\n {"a": "}{\\"}"}') == []
    assert framer.feed(b"\r\n}") == []
    assert framer.feed(b"\n") == [b'{"error":\r\n {"a": "}{\\"}"}\r\n}']
    assert framer.feed(b"\ndata: 1\n\n") == [b"1"]
    assert framer.close() == []


def test_reads_of_nothing_change_nothing() -> None:
    assert framed(b"", b"data: 1\n", b"", b"\n", b"", b"{}", b"", b"\n") == [b"1", b"{}"]
    assert framed(b"data:", b"", b"{}\n\n") == [b"{}"]


def test_a_raw_object_ends_the_event_before_it_and_begins_after_any_line_end() -> None:
    assert framed(b"data: 1\n{}\n\n") == [b"1", b"{}"]
    assert framed(b"data: 1\r\r{}\r{}") == [b"1", b"{}", b"{}"]
    assert framed(b'{}}}\n{"a":\n1}\n') == [b"{}}}", b'{"a":\n1}']


def test_braces_inside_of_an_event_open_nothing() -> None:
    assert framed(b'data: {"a":\ndata: {}}\n\n') == [b'{"a":\n{}}']
    assert framed(b"data: ", b"{}\n{}\n\n") == [b"{}", b"{}"]


def test_a_body_that_is_no_stream_is_refused_at_its_end() -> None:
    for page in (b"<html>{}</html>", b'[{\n"candidates": []}\n,\n{}]'):
        with pytest.raises(DecodeError, match="not a stream of server-sent events"):
            framed(page)


def test_what_looks_like_an_object_and_is_none_is_refused_by_the_decoder() -> None:
    (payload,) = framed(b"{}}} not json\n")
    with pytest.raises(DecodeError):
        DIALECT.decode(payload, 0, Answer())


@pytest.mark.parametrize("piece", [b"x" * 50, b"x" * 50 + b"\n"])
def test_a_raw_object_without_an_end_does_not_fill_the_memory(piece: bytes) -> None:
    framer = GeminiFramer(max_event_bytes=200)
    for data in (b"{", piece, piece, piece):
        assert framer.feed(data) == []
    with pytest.raises(DecodeError, match="larger than 200 bytes"):
        framer.feed(piece)
    assert framer.close() == []


@pytest.mark.parametrize("text", [b'"' + b'\\"' * 1_000_000, b'"\\' * 1_000_000, b'"a' * 1_000_000, b"{" * 2_000_000])
def test_no_line_is_slow(text: bytes) -> None:
    assert framed(b"{" + text + b"\n") == []  # a search that backtracks would take hours


OBJECTS = st.recursive(
    st.none() | st.integers() | st.text(alphabet='{}"\\\n a', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('{}"\\', max_size=3), inner, max_size=3),
    max_leaves=8,
).map(lambda value: {"v": value})


@given(st.lists(st.tuples(st.sampled_from(["event", "line", "lines"]), OBJECTS), max_size=5), st.data())
def test_events_and_raw_objects_are_found_at_any_split(values: list[tuple[str, object]], data: st.DataObject) -> None:
    written = {
        "event": lambda value: f"data: {json.dumps(value)}\n\n",
        "line": lambda value: json.dumps(value) + "\r\n",
        "lines": lambda value: json.dumps(value, indent=1) + "\n\n",
    }
    stream = "".join(written[form](value) for form, value in values).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert [json.loads(payload) for payload in framed(*pieces)] == [value for _, value in values]


@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"{", b"}\n", b"\r", b"\n", b'"', b"data: 1\n\n"])))
def test_any_bytes_are_framed_or_refused(pieces: list[bytes]) -> None:
    with contextlib.suppress(DecodeError):
        framed(*pieces)


# fmt: off
KEYS = st.sampled_from([
    "candidates", "content", "parts", "text", "thought", "functionCall", "name", "args", "finishReason", "error",
    "code", "message", "details", "promptFeedback", "blockReason", "usageMetadata", "promptTokenCount",
    "candidatesTokenCount", "thoughtsTokenCount", "modelVersion", "responseId",
])
# fmt: on
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.just("STOP")),
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
