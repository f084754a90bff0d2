"""What requests to Bedrock look like, and what single messages and plain answers mean.

Whole streams: test_conformance.py. The framing: test_eventstream.py. Signatures: test_sigv4.py.
"""

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
from latbench.providers.bedrock import DIALECT

MESSAGES = (Message("system", "Be short."), Message("user", "Grüße f0f0"), Message("assistant", "Ja?"))
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}


def endpoint(**fields: object) -> Endpoint:
    values: dict[str, Any] = {
        "name": "e",
        "provider": "p",
        "api": "bedrock",
        "base_url": "https://bedrock-runtime.eu-west-1.amazonaws.com",
        "model": "anthropic.claude-v2:1",
    }
    return Endpoint(**values | fields)


def body(ask: Ask, **fields: object) -> dict[str, Any]:
    sent: dict[str, Any] = json.loads(DIALECT.build(endpoint(**fields), ask).body)
    return sent


def message(name: str, content: object = None, kind: str = "event") -> bytes:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return f"{kind} {name}\n".encode() + raw


def delta(index: int = 0, **fields: object) -> bytes:
    return message("contentBlockDelta", {"contentBlockIndex": index, "delta": fields})


def start(index: int = 0, **fields: object) -> bytes:
    return message("contentBlockStart", {"contentBlockIndex": index, "start": fields})


def stop(reason: str = "end_turn") -> bytes:
    return message("messageStop", {"stopReason": reason})


def decoded(*messages: bytes) -> Answer:
    answer = Answer()
    for at, payload in enumerate(messages):
        DIALECT.decode(payload, at, answer)
    return answer


def plain(document: object) -> Answer:
    answer = Answer()
    DIALECT.decode_plain(document if isinstance(document, bytes) else json.dumps(document).encode(), 5, answer)
    return answer


def test_the_request_of_a_stream() -> None:
    request = DIALECT.build(endpoint(), Ask(MESSAGES, 64))
    assert request.path == "/model/anthropic.claude-v2%3A1/converse-stream"
    assert request.headers == {
        "content-type": "application/json",
        "accept": "application/vnd.amazon.eventstream",
        "accept-encoding": "identity",
        "user-agent": f"latbench/{latbench.__version__}",
    }
    assert json.loads(request.body) == {
        "messages": [
            {"role": "user", "content": [{"text": "Grüße f0f0"}]},
            {"role": "assistant", "content": [{"text": "Ja?"}]},
        ],
        "system": [{"text": "Be short."}],
        "inferenceConfig": {"maxTokens": 64},
    }
    assert b"f0f0" in request.body


def test_the_request_of_a_plain_answer() -> None:
    request = DIALECT.build(endpoint(stream=False), Ask(MESSAGES[1:], 64))
    assert request.path == "/model/anthropic.claude-v2%3A1/converse"
    assert request.headers["accept"] == "application/json"
    assert "system" not in json.loads(request.body)


def test_an_arn_is_one_segment_of_the_path() -> None:
    arn = "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.m-v1:0"
    path = DIALECT.build(endpoint(model=arn), Ask(MESSAGES, 64)).path
    assert path == (
        "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012%3Ainference-profile%2Feu.m-v1%3A0/converse-stream"
    )


def test_fields_of_the_scenario_have_the_last_word() -> None:
    extra = {"inferenceConfig": {"temperature": 0, "maxTokens": 1}, "serviceTier": {"type": "flex"}}
    sent = body(Ask(MESSAGES, 64), body=extra)
    assert sent["inferenceConfig"] == {"maxTokens": 1, "temperature": 0}
    assert sent["serviceTier"] == {"type": "flex"}


def test_a_schema_travels_as_a_text() -> None:
    wanted = body(Ask(MESSAGES, 64, "json_schema", SCHEMA))["outputConfig"]["textFormat"]
    assert wanted["type"] == "json_schema"
    assert wanted["structure"]["jsonSchema"]["name"] == "answer"
    assert json.loads(wanted["structure"]["jsonSchema"]["schema"]) == SCHEMA


def test_a_tool_is_forced() -> None:
    config = body(Ask(MESSAGES, 64, "tool", SCHEMA))["toolConfig"]
    assert config["toolChoice"] == {"tool": {"name": "answer"}}
    (tool,) = config["tools"]
    assert (tool["toolSpec"]["name"], tool["toolSpec"]["inputSchema"]) == ("answer", {"json": SCHEMA})
    assert DIALECT.modes == {"json_schema", "tool"}


def test_what_build_sets_is_its_own() -> None:
    assert body(Ask(MESSAGES, 1)).keys() - {"inferenceConfig"} | {"inferenceConfig.maxTokens"} == DIALECT.own
    assert ("inferenceConfig", "maxTokens") in DIALECT.own_in(body(Ask(MESSAGES, 1)))


def test_the_key_goes_into_one_header() -> None:
    assert DIALECT.auth("k") == {"authorization": "Bearer k"}


@pytest.mark.parametrize(
    "payload",
    [
        message("messageStart", {"role": "assistant"}),
        message("contentBlockStop", {"contentBlockIndex": 0}),
        message("notYetKnown", b"not even JSON"),
        start(),
        start(image={"format": "png"}),
        message("contentBlockStart", {}),
        delta(),
        delta(text=""),
        delta(text=None),
        delta(toolUse={"input": ""}),
        delta(toolUse={}),
        delta(reasoningContent={"signature": "s"}),
        delta(reasoningContent={"redactedContent": "AAEC"}),
        delta(citation={"title": "t"}),
        message("metadata", {}),
    ],
)
def test_messages_that_carry_no_output(payload: bytes) -> None:
    assert decoded(payload) == Answer()


def test_the_first_output_may_be_reasoning_and_the_first_text_comes_later() -> None:
    answer = decoded(delta(text=""), delta(reasoningContent={"text": "a"}), delta(1, text="b"), stop())
    assert (list(answer.output_ns), answer.first_text_ns) == ([1, 2], 2)
    assert (answer.finish_reason, answer.complete) == ("stop", True)


def test_a_tool_name_alone_is_output_and_calls_are_kept_apart() -> None:
    answer = decoded(
        start(1, toolUse={"name": "f", "toolUseId": "a"}),
        delta(1, toolUse={"input": '{"a"'}),
        delta(1, toolUse={"input": ":1}"}),
        start(2, toolUse={"name": "g", "toolUseId": "b"}),
    )
    assert list(answer.output_ns) == [0, 1, 2, 3]
    calls = [(index, call.name, "".join(call.arguments)) for index, call in answer.tool_calls.items()]
    assert calls == [(1, "f", '{"a":1}'), (2, "g", "")]


def test_a_delta_with_several_pieces_has_one_stamp() -> None:
    answer = decoded(delta(text="a", reasoningContent={"text": "b"}, toolUse={"input": "c"}), delta(text="d"))
    assert list(answer.output_ns) == [0, 1]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool"),
        ("guardrail_intervened", "filter"),
        ("content_filtered", "filter"),
        ("x" * 500, "x" * 200),
    ],
)
def test_finish_reasons_have_one_vocabulary(sent: str, kept: str) -> None:
    answer = decoded(stop(sent))
    assert (answer.finish_reason, answer.complete, answer.refusal) == (kept, True, None)


@pytest.mark.parametrize("reason", ["malformed_model_output", "malformed_tool_use"])
def test_a_finish_reason_can_be_an_error(reason: str) -> None:
    answer = decoded(stop(reason))
    assert answer.refusal == Refusal("stream_error", message=f"the finish reason is {reason}")
    assert answer.finish_reason == "error"


def test_cached_tokens_are_input() -> None:
    usage: dict[str, Any] = {"inputTokens": 4, "outputTokens": 127, "totalTokens": 2048}
    assert decoded(message("metadata", {"usage": usage})).usage == Usage(4, 127)
    usage |= {"cacheReadInputTokens": 1200, "cacheWriteInputTokens": 717}
    assert decoded(message("metadata", {"usage": usage})).usage == Usage(1921, 127, None, 1200)
    hostile = {"inputTokens": 4, "outputTokens": -1, "cacheReadInputTokens": -5, "cacheWriteInputTokens": 10**30}
    assert decoded(message("metadata", {"usage": hostile})).usage == Usage(4, None, None, None)
    assert decoded(message("metadata", {"usage": {"inputTokens": 10**30}})).usage == Usage()
    assert decoded(message("metadata", {"usage": {"cacheReadInputTokens": 3}})).usage == Usage(cached=3)


@pytest.mark.parametrize(("trace", "model"), [({"promptRouter": {"invokedModelId": "m" * 999}}, "m" * 200), ({}, None)])
def test_a_router_says_which_model_it_took(trace: dict[str, Any], model: str | None) -> None:
    assert decoded(message("metadata", {"trace": trace})).model == model


@pytest.mark.parametrize(
    ("name", "content", "outcome", "kind", "text"),
    [
        ("throttlingException", {"message": "Too many tokens, please wait"}, "rate_limited", "tokens", None),
        ("throttlingException", {"message": "Too many requests, please wait"}, "rate_limited", "requests", None),
        ("throttlingException", {"message": "Too many tokens per day"}, "rate_limited", "daily", None),
        ("throttlingException", {}, "rate_limited", "unknown", ""),
        ("ThrottlingException", {"Message": "slow"}, "rate_limited", "unknown", "slow"),
        ("serviceUnavailableException", {"message": "busy"}, "overloaded", None, "busy"),
        ("internalServerException", {"message": "boom"}, "stream_error", None, "boom"),
        ("validationException", {"message": "bad"}, "stream_error", None, "bad"),
        ("modelStreamErrorException", {"originalStatusCode": 424}, "stream_error", None, ""),
        ("modelStreamErrorException", {"originalMessage": "upstream"}, "stream_error", None, "upstream"),
        (
            "modelStreamErrorException",
            {"message": "m", "originalMessage": "o", "originalStatusCode": 529},
            "overloaded",
            None,
            "m",
        ),
        ("aNewException", b"plain words", "stream_error", None, "plain words"),
        ("aNewException", b"\xff", "stream_error", None, "\ufffd"),
        ("aNewException", b"", "stream_error", None, ""),
        ("aNewException", b"[" * 10**5, "stream_error", None, "[" * 300),
        ("aNewException", {"message": {"deep": 10**30}}, "stream_error", None, None),
    ],
)
@pytest.mark.parametrize("kind_of_message", ["exception", "error"])
@pytest.mark.parametrize("finish_first", [True, False])
def test_an_exception_beats_a_finish_reason(
    name: str,
    content: object,
    outcome: str,
    kind: str | None,
    text: str | None,
    kind_of_message: str,
    finish_first: bool,
) -> None:
    messages = [stop(), message(name, content, kind_of_message)]
    answer = decoded(*(messages if finish_first else reversed(messages)))
    refusal = answer.refusal
    assert refusal is not None
    assert (refusal.outcome, refusal.kind, refusal.code, answer.finish_reason) == (outcome, kind, name, "error")
    if text is not None:
        assert refusal.message == (text or None)


def test_the_first_exception_stays() -> None:
    answer = decoded(message("a", {"message": "x"}, "exception"), message("b", {"message": "y"}, "exception"))
    assert answer.refusal == Refusal("stream_error", code="a", message="x")


@pytest.mark.parametrize(
    "payload",
    [
        b"event",
        b"events x\n{}",
        b"\xff\n",
        message("messageStop", {}),
        message("messageStop", {"stopReason": 1}),
        message("messageStop", b""),
        message("contentBlockDelta", {}),
        message("contentBlockDelta", {"delta": "a"}),
        delta(text=1),
        delta(toolUse={"input": {"a": 1}}),
        delta(toolUse={"input": 1}),
        delta(reasoningContent="a"),
        message("contentBlockDelta", {"delta": {}, "contentBlockIndex": "0"}),
        start(toolUse={"name": 1}),
        message("contentBlockStart", b"["),
        message("metadata", {"usage": {"inputTokens": "9"}}),
        message("metadata", b'{"usage":' + b"[" * 10**5),
        message("contentBlockDelta", b'{"delta":{"text":"\\ud800"}}'),
        message("contentBlockDelta", b'{"delta":{"text":"\xff"}}'),
        message("contentBlockDelta", b'{"delta":{"toolUse":{"input":"\xff"}}}'),
    ],
)
def test_what_is_no_message_of_the_api_is_refused(payload: bytes) -> None:
    with pytest.raises(DecodeError, match="not ") as caught:
        decoded(payload)
    assert len(str(caught.value)) < 500


def test_a_plain_answer_has_no_arrival_times() -> None:
    content = [
        {"reasoningContent": {"reasoningText": {"text": "Hm", "signature": "s"}}},
        {"reasoningContent": {"redactedContent": "AAEC"}},
        {"text": "Hello"},
        {"toolUse": {"toolUseId": "x", "name": "f", "input": {"a": [1]}}},
        {"toolUse": {"name": "g"}},
        {"image": {}},
    ]
    usage = {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7}
    answer = plain(
        {"output": {"message": {"role": "assistant", "content": content}}, "stopReason": "tool_use", "usage": usage}
    )
    assert (answer.text, answer.reasoning) == (["Hello"], ["Hm"])
    calls = [(index, call.name, call.arguments) for index, call in answer.tool_calls.items()]
    assert calls == [(3, "f", ['{"a": [1]}']), (4, "g", [])]
    assert (answer.output_ns, answer.first_text_ns) == (array("q"), None)
    assert (answer.finish_reason, answer.complete, answer.usage) == ("tool", True, Usage(3, 4))


@pytest.mark.parametrize("output", [{}, {"message": None}, {"message": {}}, {"message": {"content": []}}])
def test_an_empty_plain_answer(output: dict[str, Any]) -> None:
    answer = plain({"output": output, "stopReason": "end_turn"})
    assert (answer.text, answer.complete, answer.finish_reason) == ([], True, "stop")


@pytest.mark.parametrize(
    "document",
    [
        b"<html>502</html>",
        {"stopReason": "end_turn"},
        {"output": {}},
        {"message": "no"},
        {"output": {"message": {"content": "a"}}, "stopReason": "end_turn"},
        b'{"output":{"message":{"content":[{"toolUse":{"name":"f","input":"\xff"}}]}},"stopReason":"end_turn"}',
    ],
)
def test_a_plain_body_without_an_answer_is_refused(document: object) -> None:
    with pytest.raises(DecodeError, match="not an answer of Converse"):
        plain(document)


@pytest.mark.parametrize(
    ("status", "errortype", "outcome", "kind"),
    [
        (429, "ThrottlingException:http://internal.amazon.com/coral/x/", "rate_limited", "tokens"),
        (429, "ModelNotReadyException", "overloaded", None),
        (503, "ServiceUnavailableException", "overloaded", None),
        (408, "ModelTimeoutException", "http_error", None),
        (424, "ModelErrorException", "http_error", None),
        (400, "ValidationException", "invalid_request", None),
        (403, "AccessDeniedException", "auth_error", None),
    ],
)
def test_refusals_before_the_stream(status: int, errortype: str, outcome: str, kind: str | None) -> None:
    body = b'{"message":"Too many tokens, please wait before trying again."}'
    refusal = DIALECT.refusal(status, {"x-amzn-errortype": errortype}, body)
    assert (refusal.outcome, refusal.kind, refusal.code) == (outcome, kind, errortype.partition(":")[0])


# fmt: off
KEYS = st.sampled_from([
    "delta", "start", "contentBlockIndex", "text", "toolUse", "name", "input", "reasoningContent", "reasoningText",
    "stopReason", "usage", "inputTokens", "outputTokens", "cacheReadInputTokens", "trace", "promptRouter",
    "invokedModelId", "output", "message", "content", "originalStatusCode", "originalMessage", "code", "details",
])
NAMES = st.sampled_from([
    "event contentBlockStart", "event contentBlockDelta", "event messageStop", "event metadata", "event other",
    "exception throttlingException", "exception modelStreamErrorException", "error InternalError", "other x", "",
])
# fmt: on
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(NAMES, JSON)
def test_any_json_is_decoded_or_refused(name: str, document: object) -> None:
    raw = json.dumps(document).encode()
    answer = Answer()
    with contextlib.suppress(DecodeError):
        DIALECT.decode(f"{name}\n".encode() + raw, 1, answer)
    assert len(answer.output_ns) <= 1
    with contextlib.suppress(DecodeError):
        DIALECT.decode_plain(raw, 1, Answer())


@given(NAMES, st.binary(max_size=100))
def test_any_bytes_are_decoded_or_refused(name: str, payload: bytes) -> None:
    for raw in (payload, f"{name}\n".encode() + payload):
        with contextlib.suppress(DecodeError):
            DIALECT.decode(raw, 1, Answer())
    with contextlib.suppress(DecodeError):
        DIALECT.decode_plain(payload, 1, Answer())
