"""What requests look like, and what single events and plain answers mean. Whole streams: test_conformance.py."""

import json
from array import array
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import latbench
from latbench.model.answer import Answer, Refusal, Usage
from latbench.model.errors import DecodeError
from latbench.model.request import Ask, Endpoint, Message
from latbench.providers.openai_chat import DIALECT

MESSAGES = (Message("system", "Be short."), Message("user", "Grüße"))


def endpoint(**fields: object) -> Endpoint:
    values: dict[str, Any] = {
        "name": "e",
        "provider": "p",
        "api": "openai-chat",
        "base_url": "http://h/v1",
        "model": "m",
    }
    return Endpoint(**values | fields)


def body(**fields: object) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(DIALECT.build(endpoint(**fields), Ask(MESSAGES, 64)).body)
    return decoded


def decoded(*events: object, answer: Answer | None = None) -> Answer:
    answer = answer or Answer()
    for at, event in enumerate(events):
        DIALECT.decode(event if isinstance(event, bytes) else json.dumps(event).encode(), at, answer)
    return answer


def delta(finish: str | None = None, **fields: object) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def plain(document: object) -> Answer:
    answer = Answer()
    DIALECT.decode_plain(document if isinstance(document, bytes) else json.dumps(document).encode(), 5, answer)
    return answer


def test_the_request_of_a_stream() -> None:
    request = DIALECT.build(endpoint(), Ask(MESSAGES, 64))
    assert request.path == "/chat/completions"
    assert request.headers == {
        "content-type": "application/json",
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "user-agent": f"latbench/{latbench.__version__}",
    }
    assert json.loads(request.body) == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Grüße"}],
        "max_tokens": 64,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_the_request_of_a_plain_answer() -> None:
    request = DIALECT.build(endpoint(stream=False), Ask(MESSAGES, 64))
    assert request.headers["accept"] == "application/json"
    assert json.loads(request.body)["stream"] is False
    assert "stream_options" not in json.loads(request.body)


def test_servers_that_refuse_unknown_fields_are_not_asked_for_usage() -> None:
    assert "stream_options" not in body(usage="off")


def test_fields_of_the_scenario_have_the_last_word() -> None:
    sent = body(body={"temperature": 0, "max_tokens": 1, "stream_options": {"continuous_usage_stats": True}})
    assert (sent["temperature"], sent["max_tokens"]) == (0, 1)
    assert sent["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}


@pytest.mark.parametrize(
    ("model", "field", "expected"),
    [
        ("gpt-4.1", "auto", "max_tokens"),
        ("o1", "auto", "max_completion_tokens"),
        ("o3-mini", "auto", "max_completion_tokens"),
        ("openai/o4-mini", "auto", "max_completion_tokens"),
        ("OpenAI/GPT-5-nano", "auto", "max_completion_tokens"),
        ("o5/llama", "auto", "max_tokens"),
        ("gpt-5", "max_tokens", "max_tokens"),
        ("llama", "max_completion_tokens", "max_completion_tokens"),
    ],
)
def test_the_name_of_the_limit(model: str, field: str, expected: str) -> None:
    sent = body(model=model, max_tokens_field=field)
    assert [key for key in sent if key.startswith("max_")] == [expected]
    assert sent[expected] == 64


def test_a_schema_is_enforced_as_a_format_or_as_a_tool() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    sent = json.loads(DIALECT.build(endpoint(), Ask(MESSAGES, 64, "json_schema", schema)).body)
    wanted = {"name": "answer", "schema": schema, "strict": True}
    assert sent["response_format"] == {"type": "json_schema", "json_schema": wanted}
    assert "tools" not in sent
    sent = json.loads(DIALECT.build(endpoint(), Ask(MESSAGES, 64, "tool", schema)).body)
    function = {"name": "answer", "description": "Give the answer.", "parameters": schema, "strict": True}
    assert sent["tools"] == [{"type": "function", "function": function}]
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "answer"}}
    assert "response_format" not in sent


def test_the_key_goes_into_one_header() -> None:
    assert DIALECT.auth("sk-1") == {"authorization": "Bearer sk-1"}


def test_role_and_empty_chunks_are_not_output() -> None:
    answer = decoded(delta(role="assistant", content=""), delta(), delta(content=None), delta(reasoning=""))
    assert (list(answer.output_ns), answer.first_text_ns, answer.complete) == ([], None, False)


def test_the_first_output_may_be_reasoning_and_the_first_text_comes_later() -> None:
    answer = decoded(delta(content=""), delta(reasoning_content="a"), delta(content="b"), delta("stop"))
    assert list(answer.output_ns) == [1, 2]
    assert answer.first_text_ns == 2
    assert (answer.finish_reason, answer.complete) == ("stop", True)


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_content": "hm"},
        {"reasoning": "hm"},
        {"reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "h"}, {"text": "m"}]},
        {"reasoning": "hm", "reasoning_details": [{"text": "hm"}]},
        {"reasoning": "hm", "reasoning_content": "hm"},
        {"reasoning": "", "reasoning_content": None, "reasoning_details": [{"text": "hm"}]},
        {"content": [{"type": "thinking", "thinking": "hm"}]},
    ],
)
def test_reasoning_counts_once_whatever_it_is_called(fields: dict[str, Any]) -> None:
    answer = decoded(delta(**fields))
    assert ("".join(answer.reasoning), answer.text, list(answer.output_ns)) == ("hm", [], [0])


def test_encrypted_reasoning_is_not_output() -> None:
    assert not decoded(delta(reasoning_details=[{"type": "reasoning.encrypted", "data": "gAAA"}])).output_ns


def test_a_chunk_with_several_pieces_has_one_stamp() -> None:
    both = {"choices": [{"index": i, "delta": {"content": "x", "reasoning": "y"}} for i in (0, 1)]}
    assert list(decoded(delta(content="a"), both, delta(content="b")).output_ns) == [0, 1, 2]


def test_a_tool_name_alone_is_output_and_choices_keep_their_calls_apart() -> None:
    named: dict[str, Any] = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]}
    answer = decoded(delta(**named), {"choices": [{"index": 1, "delta": named}]}, delta(tool_calls=[{"index": 0}]))
    assert list(answer.output_ns) == [0, 1]
    assert [call.name for call in answer.tool_calls.values()] == ["f", "f"]


def test_tool_calls_without_a_number_are_counted_by_place() -> None:
    calls = [{"function": {"name": name, "arguments": {"a": 1}}} for name in ("f", "g")]
    answer = decoded(delta(tool_calls=calls))
    assert [(i, c.name, c.arguments) for i, c in answer.tool_calls.items()] == [
        (0, "f", ['{"a":1}']),
        (1, "g", ['{"a":1}']),
    ]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("stop", "stop"),
        ("STOP", "stop"),
        ("eos_token", "stop"),
        ("max_tokens", "length"),
        ("tool_calls", "tool"),
        ("function_call", "tool"),
        ("content_filter", "filter"),
        ("x" * 500, "x" * 200),
    ],
)
def test_finish_reasons_have_one_vocabulary(sent: str, kept: str) -> None:
    answer = decoded(delta(sent))
    assert (answer.finish_reason, answer.complete, answer.refusal) == (kept, True, None)


def test_an_empty_finish_reason_finishes_nothing() -> None:
    assert not decoded(delta("", content="a")).complete


@pytest.mark.parametrize("reason", ["error", "abort", "insufficient_system_resource"])
def test_a_finish_reason_can_be_an_error(reason: str) -> None:
    answer = decoded(delta(reason), delta("stop"))
    assert answer.finish_reason == "error"
    assert answer.refusal == Refusal("stream_error", message=f"the finish reason is {reason}")


def test_done_is_a_sign_of_completion() -> None:
    assert decoded(b"[DONE]").complete
    assert decoded(b"[DONE] ").complete


@pytest.mark.parametrize(
    ("error", "outcome", "kind"),
    [
        ({"code": 500, "message": "boom"}, "stream_error", None),
        ({"code": "500", "message": "boom"}, "stream_error", None),
        ({"code": 503}, "overloaded", None),
        ({"code": "529"}, "overloaded", None),
        ({"type": "overloaded_error"}, "overloaded", None),
        ({"code": "server_is_overloaded", "type": "service_unavailable_error"}, "overloaded", None),
        ({"code": 429, "message": "Rate limit"}, "rate_limited", "unknown"),
        ({"code": "rate_limit_exceeded", "type": "requests"}, "rate_limited", "requests"),
        ({"code": "slow_down"}, "rate_limited", "ramp"),
        ({"code": "insufficient_quota"}, "quota_exhausted", None),
        ({"code": 402, "message": "credits"}, "quota_exhausted", None),
        ("just text", "stream_error", None),
        (["odd"], "stream_error", None),
        (True, "stream_error", None),
    ],
)
@pytest.mark.parametrize("finish_first", [True, False])
def test_an_error_event_beats_a_finish_reason(
    error: object, outcome: str, kind: str | None, finish_first: bool
) -> None:
    events = [delta("stop"), {"error": error}]
    answer = decoded(*(events if finish_first else reversed(events)), b"[DONE]")
    assert answer.refusal is not None
    assert (answer.refusal.outcome, answer.refusal.kind, answer.finish_reason) == (outcome, kind, "error")


def test_the_first_error_stays() -> None:
    answer = decoded({"error": "first"}, {"error": {"code": 503, "message": "second"}})
    assert answer.refusal == Refusal("stream_error", message="first")


def test_an_error_may_be_in_a_choice() -> None:
    answer = decoded({"choices": [{"error": {"code": 502, "message": "upstream"}, "finish_reason": "error"}]})
    assert answer.refusal == Refusal("stream_error", code="502", message="upstream")


@pytest.mark.parametrize("nothing", [None, {}, "", False])
def test_an_empty_error_is_none(nothing: object) -> None:
    assert decoded({"error": nothing, "choices": []}).refusal is None


@pytest.mark.parametrize(
    "event",
    [{"choices": None}, {"choices": []}, {"usage": None}, {"object": "chat.completion.chunk", "moderation": {}}],
)
def test_chunks_that_carry_nothing(event: dict[str, Any]) -> None:
    assert decoded(event) == Answer()


@pytest.mark.parametrize(
    "event",
    [
        {"choices": {}},
        {"choices": ["a"]},
        delta(content=1),
        delta(tool_calls=[{"function": "f"}]),
        {"choices": [{"finish_reason": 1}]},
        {"usage": {"prompt_tokens": "9"}},
        {"object": "ping"},
        b'{"object":"error","message":"a","more":1e999}',
        b'{"object":"error","message":"a","more":"\xff"}',
    ],
)
def test_wrong_types_are_refused(event: object) -> None:
    with pytest.raises(DecodeError, match=r"not a (chunk of a )?chat completion"):
        decoded(event)


def test_usage_is_kept_field_by_field_and_the_last_count_stands() -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 1}}
    answer = decoded(
        {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 1, **details}},
        {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}},
        {"choices": [], "usage": {"completion_tokens": -1, "prompt_tokens": 10**30}},
        {"choices": [], "usage": None},
    )
    assert answer.usage == Usage(input=9, output=2, reasoning=1, cached=3)


def test_details_beat_the_older_names() -> None:
    usage: dict[str, Any] = {"prompt_cache_hit_tokens": 1, "reasoning_tokens": 2}
    assert decoded({"usage": usage}).usage == Usage(cached=1, reasoning=2)
    usage |= {"prompt_tokens_details": {"cached_tokens": 5}, "completion_tokens_details": {"reasoning_tokens": 6}}
    assert decoded({"usage": usage}).usage == Usage(cached=5, reasoning=6)
    usage |= {"prompt_tokens_details": {}, "completion_tokens_details": None}
    assert decoded({"usage": usage}).usage == Usage(cached=1, reasoning=2)


def test_names_are_kept_from_the_first_chunk_that_has_them_and_capped() -> None:
    chunk = {"id": "", "model": "", "choices": []}
    named = {"id": "i" * 999, "model": "mm", "system_fingerprint": 7, "choices": []}
    answer = decoded(chunk, named, {**named, "id": "j", "model": "other"})
    assert (answer.request_id, answer.model, answer.fingerprint) == ("i" * 200, "mm", "7")


def test_a_plain_answer_has_no_arrival_times() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": "Hello", "reasoning_content": "Hm", "tool_calls": [call, call]}
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    answer = plain(
        {"id": "x", "model": "m", "choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
    )
    assert (answer.text, answer.reasoning, sorted(answer.tool_calls)) == (["Hello"], ["Hm"], [0, 1])
    assert (answer.output_ns, answer.first_text_ns) == (array("q"), None)
    assert (answer.finish_reason, answer.complete, answer.usage) == ("stop", True, Usage(3, 4))
    assert (answer.request_id, answer.model) == ("x", "m")


def test_a_plain_answer_is_whole_without_a_finish_reason_and_after_blank_lines() -> None:
    answer = plain(b'\n\n\n{"choices": [{"message": {"content": "a"}, "finish_reason": null}]}')
    assert (answer.text, answer.complete) == (["a"], True)


@pytest.mark.parametrize(
    "document", [b"<html>502</html>", {"choices": []}, {"choices": None, "usage": {}}, b'data: {"choices":[]}\n\n']
)
def test_a_plain_body_without_an_answer_is_refused(document: object) -> None:
    with pytest.raises(DecodeError, match="not a chat completion"):
        plain(document)


@pytest.mark.parametrize("body", [{"error": {"code": 503, "message": "busy"}}, {"object": "error", "code": 503}])
def test_an_error_as_a_plain_answer(body: dict[str, Any]) -> None:
    answer = plain(body)
    assert answer.refusal is not None
    assert (answer.refusal.outcome, answer.refusal.code) == ("overloaded", "503")


# fmt: off
KEYS = st.sampled_from([
    "choices", "delta", "message", "content", "text", "type", "thinking", "refusal", "reasoning", "reasoning_content",
    "reasoning_details", "tool_calls", "function", "name", "arguments", "index", "finish_reason", "error", "code",
    "usage", "prompt_tokens", "object", "id", "model", "x_groq",
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


USUAL = json.dumps({"id": "c", "model": "m", **delta(content="x")}).encode()
TWO = USUAL.replace(b'"x"', b'"x", "y"')
EVENTS = st.one_of(
    st.text(max_size=4).map(lambda text: {"id": "c", "model": "m", **delta(content=text)}),
    st.sampled_from(
        [
            delta(content="a", reasoning_content="b"),
            delta(role="assistant", content=""),
            delta(content=[{"type": "text", "text": "part"}]),
            delta(refusal="no"),
            delta(tool_calls=[{"index": 0, "id": "t", "function": {"name": "f", "arguments": "{}"}}]),
            delta(finish="stop"),
            {**delta(content="x"), "system_fingerprint": "fp", "usage": None},
            {**delta(content="x"), "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
            {"choices": [{"delta": {"content": "a"}}, {"index": 1, "delta": {"content": "b"}}]},
            {"choices": [], "usage": {"completion_tokens": 5}},
            {"error": {"message": "busy", "code": 503}},
            {"object": "error", "message": "busy"},
            {"choices": None},
            {},
        ]
    ),
    JSON,
)
PAYLOADS = st.lists(
    st.one_of(
        EVENTS.map(lambda event: json.dumps(event).encode()),
        st.sampled_from([b"", b"[DONE]", b"{", b"1,", b"1 2", TWO]),
    ),
    min_size=1,
    max_size=6,
)


def one_by_one(payloads: list[bytes], answer: Answer) -> bool:
    try:
        for at, payload in enumerate(payloads):
            DIALECT.decode(payload, at, answer)
    except DecodeError:
        return False
    return True


@given(st.sampled_from([[], [USUAL] * 2]), PAYLOADS, st.booleans())
def test_many_events_at_once_are_what_each_is_by_itself_or_nothing(
    earlier: list[bytes], payloads: list[bytes], done: bool
) -> None:
    payloads = [*payloads, *([b"[DONE]"] if done else [])]
    assert DIALECT.decode_many is not None
    at_once, apart = Answer(), Answer()
    one_by_one(earlier, apart)
    DIALECT.decode_many(earlier, range(len(earlier)), at_once)
    before = deepcopy(at_once)
    decodable = one_by_one(payloads, apart)
    try:
        taken = DIALECT.decode_many(payloads, range(len(payloads)), at_once)
    except DecodeError:
        assert not decodable
    else:
        assert at_once == (apart if taken else before)
        assert decodable or not taken


def test_the_usual_stream_is_taken_at_once() -> None:
    first = {"id": "i", "model": "m", **delta(role="assistant", content="")}
    usage = {"id": "i", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    events = [first, delta(content="a"), delta(content="b"), delta(finish="stop"), usage]
    payloads = [*(json.dumps(event).encode() for event in events), b"[DONE]"]
    answer = Answer()
    assert DIALECT.decode_many is not None
    assert DIALECT.decode_many(payloads, [7, 8, 9, 10, 11, 11], answer)
    assert (answer.text, list(answer.output_ns), answer.first_text_ns) == (["a", "b"], [8, 9], 8)
    assert (answer.complete, answer.finish_reason, answer.usage) == (True, "stop", Usage(1, 2))
    assert not DIALECT.decode_many([b'{"choices": []}', b""], [1, 2], answer)
    assert not DIALECT.decode_many([b'{"choices": []} {"choices": []}', b""], [1, 2], answer), "two on one line"


def test_a_text_is_read_where_the_usual_event_has_it() -> None:
    answer = Answer()
    assert DIALECT.decode_many is not None
    assert DIALECT.decode_many([USUAL, USUAL], [0, 1], answer)
    assert answer.around is not None
    odd = [b'"a\\n\xc3\xa9"', b'""', b'"\\"content\\": \\"z\\""', b'"b"']
    assert DIALECT.decode_many([USUAL.replace(b'"x"', one) for one in odd], [2, 3, 4, 5], answer)
    assert answer.text == ["x", "x", "a\né", '"content": "z"', "b"]
    assert list(answer.output_ns) == [0, 1, 2, 4, 5]
    for broken in (b'"a', b"1", b'"a", "b"', b"", b"null,", b'"\xff"'):
        assert not DIALECT.decode_many([USUAL.replace(b'"x"', broken)], [6], answer)


# fmt: off
ODD_TEXTS = st.sampled_from([
    b'"a" "b"', b'"a""b"', b"", b' "a"', b'"a" ', b'"a"\t', b'""', b'" "', b'"', b'"a', b'a"', b"null", b"1", b"[]",
    b"{}", b'["a"]', b'"a", "b"', b'"a","delta":{"content":"b"}', b'"a"}', b'"a"}}]}', b'"\\n"', b'"\\"', b'"\\\\"',
    b'"\\x"',
    b'"\\u00e9"', b'"\\ud83d\\ude00"', b'"\\ud800"', b'"\\ude00\\ud83d"', b'"\\u12"', b'"\xff"', b'"\xc3"',
    b'"\xc3\xa9"', b'"\xed\xa0\x80"', b'"\0"', b'"\x1f"', b'"\x7f"', b'"\t"', b'"a"\0', b'"a"/**/', b'"a"\xef\xbb\xbf',
    b"'a'", b'"\\u0000"',
])
# fmt: on
TEXTS = st.text(max_size=6).map(lambda text: json.dumps(text).encode())
ALIKE = st.one_of(
    st.lists(st.one_of(TEXTS, TEXTS, st.just(b'""'), st.sampled_from([b'"a" ', b'"\\ud83d\\ude00"'])), max_size=6),
    st.lists(st.one_of(TEXTS, TEXTS, TEXTS, ODD_TEXTS), max_size=6),
    st.lists(st.binary(max_size=4).map(lambda raw: b'"' + raw.translate(None, b"\r\n") + b'"'), max_size=3),
)
EARLIER = st.sampled_from(
    [
        [USUAL],
        [USUAL.replace(b'"x"', b'""')],
        [USUAL, b'{"choices":[{"delta":{"content":"y"},"finish_reason":"stop"}]}'],
        [USUAL, b'{"error":{"message":"busy"}}'],
        [USUAL, b"[DONE]"],
        [USUAL.replace(b": ", b":")],
        [
            json.dumps(
                {"choices": [{"delta": {"content": "x", "refusal": None}, "logprobs": None}], "usage": None}
            ).encode()
        ],
        [b'{"choices":[{"delta":{"content":"x","content":"y"}}]}'],
        [b'{"choices":[{"delta":{"content":"x"}}],"obfuscation":"\\"content\\": \\"z\\""}'],
    ]
)


@given(EARLIER, ALIKE)
def test_events_that_are_alike_are_what_each_is_by_itself_or_nothing(earlier: list[bytes], pieces: list[bytes]) -> None:
    assert DIALECT.decode_many is not None
    assert DIALECT.decode_alike is not None
    at_once = Answer()
    assert DIALECT.decode_many(earlier[:1] * 2, [0, 1], at_once), "the first one may tell who answers"
    if at_once.around is None:
        assert b'"content":"x","content":' in earlier[0], "no other text in the place of the first is the text"
        return
    for at, payload in enumerate(earlier[1:], 2):
        DIALECT.decode(payload, at, at_once)
    before, after = at_once.around
    apart, kept = deepcopy(at_once), deepcopy(at_once)
    stamps = array("q", range(100, 100 + len(pieces)))
    taken = DIALECT.decode_alike(pieces, stamps, at_once)
    assert at_once.around == (before, after)
    assert list(stamps) == list(range(100, 100 + len(pieces)))
    if taken:
        for piece, at_ns in zip(pieces, stamps, strict=True):
            DIALECT.decode(before + piece + after, at_ns, apart)
    assert at_once == (apart if taken else kept)


def test_usual_texts_are_taken_at_once_and_others_are_not() -> None:
    assert DIALECT.decode_many is not None
    assert DIALECT.decode_alike is not None
    answer = Answer()
    assert DIALECT.decode_many([USUAL.replace(b'"x"', b'""')] * 2, [0, 0], answer)
    assert (answer.first_text_ns, answer.around is None) == (None, False)
    assert DIALECT.decode_alike([b'""', b'"a\\n"', b'""', '"é"'.encode()], [1, 2, 3, 4], answer)
    assert (answer.text, list(answer.output_ns), answer.first_text_ns) == (["a\n", "é"], [2, 4], 2)
    assert DIALECT.decode_alike([b'"b"'], [5], answer)
    assert (answer.text, list(answer.output_ns), answer.first_text_ns) == (["a\n", "é", "b"], [2, 4, 5], 2)
    for odd in (b"null", b'"a" "b"', b'"a', b' "a"', b"", b'"\xff"', b'"\\ud800"'):
        kept = deepcopy(answer)
        assert not DIALECT.decode_alike([b'"c"', odd], [6, 7], answer)
        assert answer == kept
