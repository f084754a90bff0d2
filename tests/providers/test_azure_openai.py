"""What differs from openai-chat: path, header, and the words of errors. Whole streams: test_conformance.py."""

import json
from typing import Any

import pytest

from latbench.model.answer import Answer, Refusal, Usage
from latbench.model.request import Ask, Endpoint, Message
from latbench.providers import openai_chat
from latbench.providers.azure_openai import DIALECT

MESSAGES = (Message("system", "Be short."), Message("user", "Grüße"))
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


def endpoint(**fields: object) -> Endpoint:
    values: dict[str, Any] = {
        "name": "e",
        "provider": "p",
        "api": "azure-openai",
        "base_url": "http://h",
        "model": "my-deployment",
    }
    return Endpoint(**values | fields)


def test_the_request_goes_to_the_deployment() -> None:
    request = DIALECT.build(endpoint(), Ask(MESSAGES, 64))
    assert request.path == "/openai/deployments/my-deployment/chat/completions?api-version=2024-10-21"
    assert request.headers["accept"] == "text/event-stream"
    assert json.loads(request.body) == {
        "model": "my-deployment",
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Grüße"}],
        "max_tokens": 64,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_deployment_is_one_part_of_the_path() -> None:
    path = DIALECT.build(endpoint(model="a/../b?c ü"), Ask((), 1)).path
    assert path.startswith("/openai/deployments/a%2F..%2Fb%3Fc%20%C3%BC/chat/completions?")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("mode", ["text", "json_schema", "tool"])
def test_the_rest_of_the_request_is_that_of_openai_chat(stream: bool, mode: str) -> None:
    to = endpoint(stream=stream, max_tokens_field="max_completion_tokens", usage="off", body={"temperature": 0})
    ask = Ask(MESSAGES, 64, mode, SCHEMA)
    ours, theirs = DIALECT.build(to, ask), openai_chat.DIALECT.build(to, ask)
    assert (ours.headers, ours.body) == (theirs.headers, theirs.body)
    assert openai_chat.DIALECT.own == DIALECT.own
    assert openai_chat.DIALECT.modes == DIALECT.modes
    assert not DIALECT.fills


def test_the_key_goes_into_one_header() -> None:
    assert DIALECT.auth("k") == {"api-key": "k"}


def test_a_plain_answer() -> None:
    filtered = {"hate": {"filtered": False, "severity": "safe"}}
    choice = {"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop", "content_filter_results": filtered}
    document = {
        "choices": [choice],
        "id": "x",
        "model": "m",
        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": filtered}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4},
    }
    answer = Answer()
    DIALECT.decode_plain(json.dumps(document).encode(), 5, answer)
    assert (answer.text, answer.finish_reason, answer.usage) == (["Hi"], "stop", Usage(3, 4))
    assert (answer.complete, answer.request_id, answer.model, len(answer.output_ns)) == (True, "x", "m", 0)


CALLS = (
    "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have exceeded call "
    "rate limit of your current OpenAI S0 pricing tier. Please retry after {} seconds."
)


@pytest.mark.parametrize(
    ("status", "headers", "code", "message", "expected"),
    [
        (429, {}, "429", CALLS.format(6), ("rate_limited", "requests", 6)),
        (429, {"retry-after": "7"}, "429", CALLS.format(6), ("rate_limited", "requests", 7)),
        (429, {}, "429", CALLS.format(86400), ("rate_limited", "daily", 86400)),
        (429, {}, "429", "Rate limit is exceeded. Try again in 2 seconds.", ("rate_limited", "unknown", 2)),
        (400, {}, "content_filter", "The response was filtered.", ("invalid_request", None, None)),
        (404, {}, "DeploymentNotFound", "The API deployment does not exist.", ("invalid_request", None, None)),
        (401, {}, "401", "Access denied due to invalid subscription key.", ("auth_error", None, None)),
    ],
)
def test_refusals(
    status: int, headers: dict[str, str], code: str, message: str, expected: tuple[str, str | None, int | None]
) -> None:
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    outcome, kind, wait_s = expected
    wait_ns = None if wait_s is None else wait_s * 10**9
    assert DIALECT.refusal(status, headers, body) == Refusal(outcome, kind, code, message, wait_ns)
