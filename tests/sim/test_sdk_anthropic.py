"""The anthropic SDK talks to the simulated endpoint, and believes it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from sim_process import Sim

anthropic = pytest.importorskip("anthropic", reason="the anthropic SDK is not installed")

MESSAGES = [{"role": "user", "content": "Write a function that adds."}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOL = {"name": "look", "description": "Looks.", "input_schema": SCHEMA}
THINKING: dict[str, Any] = {
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "extra_headers": {"x-sim-reasoning-tokens": "3"},
}


class Trip(BaseModel):
    city: str
    days: int


def _client(sim: Sim, key: str = "k") -> Any:
    return anthropic.Anthropic(base_url=f"http://127.0.0.1:{sim.port}", api_key=key, max_retries=0)


@pytest.fixture
def client(sim: Sim) -> Iterator[Any]:
    with _client(sim) as made:
        yield made


def _counted(sim: Sim, usage: Any, reasoning: int = 0) -> None:
    """The endpoint has counted the same."""
    stats = sim.wait_for(open=0)
    assert (stats["ok"], stats["errors"], stats["reasoning_tokens"]) == (1, 0, reasoning)
    assert (stats["prompt_tokens"], stats["tokens_out"]) == (usage.input_tokens, usage.output_tokens)


def test_streamed_events(sim: Sim, client: Any) -> None:
    events = list(client.messages.create(model="m", max_tokens=9, messages=MESSAGES, stream=True, **THINKING))
    kinds = [event.type for event in events if event.type != "ping"]
    assert kinds[0] == "message_start"
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    deltas = [event.delta.type for event in events if event.type == "content_block_delta"]
    assert deltas == ["thinking_delta"] * 3 + ["signature_delta"] + ["text_delta"] * 6
    (end,) = (event for event in events if event.type == "message_delta")
    assert (end.delta.stop_reason, end.usage.output_tokens) == ("max_tokens", 9)
    _counted(sim, end.usage, 3)


def test_streamed_by_the_helper(sim: Sim, client: Any) -> None:
    with client.messages.stream(model="m", max_tokens=2000, messages=MESSAGES, **THINKING) as stream:
        texts = list(stream.text_stream)
        final = stream.get_final_message()
    assert [block.type for block in final.content] == ["thinking", "text"]
    assert final.content[0].signature
    assert final.content[1].text == "".join(texts)
    assert final.usage.output_tokens_details.thinking_tokens == 3
    _counted(sim, final.usage, 3)


def test_plain(sim: Sim, client: Any) -> None:
    answer = client.messages.create(model="m", max_tokens=7, messages=MESSAGES, system="Be brief.", **THINKING)
    assert [block.type for block in answer.content] == ["thinking", "text"]
    assert (answer.stop_reason, answer.usage.output_tokens, answer.model) == ("max_tokens", 7, "m")
    _counted(sim, answer.usage, 3)


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "look"}])
def test_tools(client: Any, choice: dict[str, str]) -> None:
    asked: dict[str, Any] = {
        "model": "m",
        "max_tokens": 500,
        "messages": MESSAGES,
        "tools": [TOOL],
        "tool_choice": choice,
        "extra_headers": {"x-sim-tool-calls": "2"},
    }
    with client.messages.stream(**asked) as stream:
        streamed = stream.get_final_message()
    for answer in (streamed, client.messages.create(**asked)):
        assert answer.stop_reason == "tool_use"
        assert [(block.type, block.name) for block in answer.content] == [("tool_use", "look")] * 2
        assert all(set(block.input) == {"city", "days"} for block in answer.content)
        assert len({block.id for block in answer.content}) == 2


def test_a_conversation_goes_on_after_a_tool(client: Any) -> None:
    asked: dict[str, Any] = {"model": "m", "max_tokens": 500, "tools": [TOOL], "extra_headers": {"x-sim-p-tool": "1"}}
    called = client.messages.create(messages=MESSAGES, **asked)
    result = {"type": "tool_result", "tool_use_id": called.content[0].id, "content": "fine"}
    then = client.messages.create(
        messages=[
            *MESSAGES,
            {"role": "assistant", "content": called.content},
            {"role": "user", "content": [result]},
        ],
        **asked,
    )
    assert [block.type for block in then.content] == ["text"]


def test_in_a_schema(client: Any) -> None:
    answer = client.messages.parse(model="m", max_tokens=500, messages=MESSAGES, output_format=Trip)
    assert isinstance(answer.parsed_output, Trip)
    form = {"type": "json_schema", "schema": SCHEMA}
    asked: dict[str, Any] = {"model": "m", "max_tokens": 500, "messages": MESSAGES, "output_config": {"format": form}}
    with client.messages.stream(**asked) as stream:
        assert isinstance(Trip.model_validate_json(stream.get_final_text()), Trip)


def test_a_cached_prompt(start: Callable[..., Sim]) -> None:
    """Cached on demand only, and counted apart."""
    text = "x" * 8000
    with _client(start(cache_ttl_ns=60_000_000_000)) as client:

        def usage(**block: Any) -> tuple[int, int, int]:
            content = [{"type": "text", "text": text, **block}]
            found = client.messages.create(
                model="m", max_tokens=1, messages=[{"role": "user", "content": content}]
            ).usage
            return found.input_tokens, found.cache_creation_input_tokens, found.cache_read_input_tokens

        assert usage() == (2000, 0, 0)
        first, second = (usage(cache_control={"type": "ephemeral"}) for _ in range(2))
    assert sum(first) == sum(second) == 2000
    assert first[1] >= 1024
    assert (second[1], second[2]) == (0, first[1])


def test_over_a_limit(start: Callable[..., Sim]) -> None:
    sim = start(rpm=1)
    with _client(sim) as client:
        given = client.messages.with_raw_response.create(model="m", max_tokens=5, messages=MESSAGES)
        assert given.headers["anthropic-ratelimit-requests-remaining"] == "0"
        for stream in (True, False):
            with pytest.raises(anthropic.RateLimitError, match="requests per minute") as raised:
                client.messages.create(model="m", max_tokens=5, messages=MESSAGES, stream=stream)
            assert raised.value.type == "rate_limit_error"
            assert 0 < int(raised.value.response.headers["retry-after"]) <= 60
            assert raised.value.request_id == f"req-sim-{3 - stream}"
    assert sim.stats()["limited"] == {"requests": 2}


def test_failures(client: Any) -> None:
    for status, name in ((500, "InternalServerError"), (503, "ServiceUnavailableError"), (529, "OverloadedError")):
        with pytest.raises(getattr(anthropic, name, anthropic.InternalServerError)) as raised:
            client.messages.create(model="m", max_tokens=5, messages=MESSAGES, extra_headers={f"x-sim-p-{status}": "1"})
        assert (raised.value.status_code, type(raised.value).__name__) == (status, name)
        assert raised.value.type == ("api_error" if status == 500 else "overloaded_error")


def test_the_wrong_key(start: Callable[..., Sim], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIM_TEST_KEY", "right")
    sim = start(api_key_env="SIM_TEST_KEY")
    with _client(sim, "wrong") as client, pytest.raises(anthropic.AuthenticationError) as raised:
        client.messages.create(model="m", max_tokens=5, messages=MESSAGES)
    assert raised.value.type == "authentication_error"
    with _client(sim, "right") as client:
        assert client.messages.create(model="m", max_tokens=5, messages=MESSAGES).content


def test_refused_requests(client: Any) -> None:
    with pytest.raises(anthropic.BadRequestError, match="at least one message") as raised:
        client.messages.create(model="m", max_tokens=5, messages=[])
    assert raised.value.type == "invalid_request_error"


def test_streams_that_break(client: Any) -> None:
    def read(fault: str) -> None:
        asked: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": MESSAGES}
        list(client.messages.create(**asked, stream=True, extra_headers={f"x-sim-p-{fault}": "1"}))

    with pytest.raises(anthropic.APIStatusError, match="Overloaded") as raised:
        read("error-event")
    assert (raised.value.status_code, raised.value.type) == (200, "overloaded_error")
    with pytest.raises(Exception, match="peer closed connection"):
        read("cut")
    with pytest.raises(ValueError, match="Unterminated string"):
        read("garbage")
