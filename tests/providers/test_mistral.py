"""Requests, and answers as the decoder of openai-chat reads them. Whole streams: test_conformance.py."""

import json
from typing import Any

import pytest

import latbench
from latbench.model.answer import Answer, Refusal, Usage
from latbench.model.request import Ask, Endpoint, Fill, Message
from latbench.providers.base import PAST_BUDGET
from latbench.providers.mistral import DIALECT

MESSAGES = (Message("system", "Be short."), Message("user", "Grüße"))
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
GAP = Ask(MESSAGES, 64, fill=Fill("def add(a, b):\n", "\nprint(add(1, 2))"))


def endpoint(**fields: object) -> Endpoint:
    values: dict[str, Any] = {
        "name": "e",
        "provider": "p",
        "api": "mistral",
        "base_url": "http://h/v1",
        "model": "codestral",
    }
    return Endpoint(**values | fields)


def body(ask: Ask | None = None, **fields: object) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(DIALECT.build(endpoint(**fields), ask or Ask(MESSAGES, 64)).body)
    return decoded


def plain(document: object) -> Answer:
    answer = Answer()
    DIALECT.decode_plain(json.dumps(document).encode(), 5, answer)
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
        "model": "codestral",
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Grüße"}],
        "max_tokens": 64,
        "stream": True,
    }


def test_the_request_of_a_plain_answer() -> None:
    request = DIALECT.build(endpoint(stream=False), Ask(MESSAGES, 64))
    assert request.headers["accept"] == "application/json"
    assert json.loads(request.body)["stream"] is False


@pytest.mark.parametrize("usage", ["auto", "off"])
def test_usage_needs_no_asking(usage: str) -> None:
    assert "stream_options" not in body(usage=usage)


def test_the_limit_has_one_name() -> None:
    assert body(max_tokens_field="max_completion_tokens")["max_tokens"] == 64


def test_fields_of_the_scenario_are_merged() -> None:
    sent = body(Ask(MESSAGES, 64, "json_schema", SCHEMA), body={"random_seed": 1, "response_format": {"x": 1}})
    assert sent["random_seed"] == 1
    assert sent["response_format"].keys() == {"type", "json_schema", "x"}
    assert body(GAP, body={"min_tokens": 3})["min_tokens"] == 3


def test_the_mode_json_schema() -> None:
    assert body(Ask(MESSAGES, 64, "json_schema", SCHEMA))["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
    }


def test_the_mode_tool() -> None:
    sent = body(Ask(MESSAGES, 64, "tool", SCHEMA))
    function = {"name": "answer", "description": "Give the answer.", "parameters": SCHEMA, "strict": True}
    assert sent["tools"] == [{"type": "function", "function": function}]
    assert sent["tool_choice"] == "any"
    assert {"json_schema", "tool"} == DIALECT.modes


@pytest.mark.parametrize("stream", [True, False])
def test_a_gap_has_a_path_of_its_own(stream: bool) -> None:
    request = DIALECT.build(endpoint(stream=stream), GAP)
    assert request.path == "/fim/completions"
    assert json.loads(request.body) == {
        "model": "codestral",
        "prompt": "def add(a, b):\n",
        "suffix": "\nprint(add(1, 2))",
        "max_tokens": 64,
        "stream": stream,
    }
    assert DIALECT.fills


def test_what_a_scenario_may_not_set_is_what_build_sets() -> None:
    assert body().keys() | body(GAP).keys() | PAST_BUDGET == DIALECT.own


def test_the_key_goes_into_one_header() -> None:
    assert DIALECT.auth("k") == {"authorization": "Bearer k"}


def test_a_plain_answer() -> None:
    content = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}, {"type": "text", "text": "Hello"}]
    call = {"id": "c", "function": {"name": "f", "arguments": {"a": "ß"}}, "index": 0}
    message = {"role": "assistant", "content": content, "tool_calls": [call], "prefix": False}
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    choice = {"index": 0, "message": message, "finish_reason": "model_length"}
    answer = plain({"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage})
    assert (answer.reasoning, answer.text, answer.tool_calls[0].arguments) == (["Hm"], ["Hello"], ['{"a":"ß"}'])
    assert (answer.finish_reason, answer.complete, answer.usage) == ("length", True, Usage(3, 4))
    assert not answer.output_ns


def test_an_error_object_as_a_plain_answer_and_with_a_status() -> None:
    error = {"object": "error", "message": "Slow", "type": "rate_limit_error", "param": None, "code": "1300"}
    assert plain(error).refusal == Refusal("rate_limited", "unknown", "1300", "Slow")
    headers = {"retry-after": "2"}
    found = DIALECT.refusal(429, headers, json.dumps(error).encode())
    assert found == Refusal("rate_limited", "unknown", "1300", "Slow", 2_000_000_000)
