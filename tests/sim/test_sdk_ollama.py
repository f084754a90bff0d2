"""The ollama SDK talks to the simulated endpoint, and believes it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pydantic import BaseModel
from sim_process import Sim

ollama = pytest.importorskip("ollama", reason="the ollama SDK is not installed")

MESSAGES = [{"role": "user", "content": "Write a function that adds."}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
}
TOOL = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": SCHEMA}}


class Trip(BaseModel):
    city: str
    days: int


@pytest.fixture
def connect() -> Iterator[Callable[..., Any]]:
    """Clients of an endpoint, which send these headers."""
    with ExitStack() as stack:
        yield lambda sim, **headers: stack.enter_context(
            ollama.Client(host=f"http://127.0.0.1:{sim.port}", headers=headers)
        )


def _counted(sim: Sim, last: Any, reasoning: int = 0) -> None:
    """The endpoint has counted the same."""
    stats = sim.wait_for(open=0)
    assert (stats["ok"], stats["errors"], stats["reasoning_tokens"]) == (1, 0, reasoning)
    assert (stats["prompt_tokens"], stats["tokens_out"]) == (last.prompt_eval_count, last.eval_count)
    assert 0 < last.eval_duration < last.total_duration
    assert last.prompt_eval_duration + last.eval_duration == last.total_duration


def test_chat_streamed(sim: Sim, connect: Callable[..., Any]) -> None:
    client = connect(sim, **{"x-sim-reasoning-tokens": "3"})
    parts = list(client.chat(model="m", messages=MESSAGES, stream=True, options={"num_predict": 9}))
    assert sum(bool(part.message.thinking) for part in parts) == 3
    assert sum(bool(part.message.content) for part in parts) == 6
    assert [part.done for part in parts] == [False] * 9 + [True]
    assert (parts[-1].done_reason, parts[-1].model) == ("length", "m")
    _counted(sim, parts[-1], 3)


def test_chat_plain(sim: Sim, connect: Callable[..., Any]) -> None:
    client = connect(sim, **{"x-sim-reasoning-tokens": "3"})
    answer = client.chat(model="m", messages=MESSAGES, think=False)
    assert (answer.done, answer.done_reason, answer.message.thinking) == (True, "stop", None)
    assert answer.message.content
    _counted(sim, answer)


@pytest.mark.parametrize("stream", [True, False])
def test_generate(sim: Sim, stream: bool, connect: Callable[..., Any]) -> None:
    found = connect(sim).generate(model="m", prompt="def add(", suffix="return", stream=stream)
    parts = list(found) if stream else [found]
    assert sum(bool(part.response) for part in parts) == (20 if stream else 1)
    _counted(sim, parts[-1])


def test_tools(sim: Sim, connect: Callable[..., Any]) -> None:
    client = connect(sim, **{"x-sim-p-tool": "1", "x-sim-tool-calls": "2"})
    asked: dict[str, Any] = {"model": "m", "messages": MESSAGES, "tools": [TOOL]}
    streamed = [call for part in client.chat(**asked, stream=True) for call in part.message.tool_calls or ()]
    message = client.chat(**asked).message
    for calls in (streamed, message.tool_calls):
        assert [call.function.name for call in calls] == ["look", "look"]
        assert all(set(call.function.arguments) == {"city", "days"} for call in calls)
    result = {"role": "tool", "content": "fine", "tool_name": "look"}
    then = client.chat(model="m", messages=[*MESSAGES, message, result], tools=[TOOL]).message
    assert then.tool_calls is None
    assert then.content


def test_in_a_schema(sim: Sim, connect: Callable[..., Any]) -> None:
    client = connect(sim)
    asked: dict[str, Any] = {"model": "m", "messages": MESSAGES, "format": Trip.model_json_schema()}
    assert isinstance(Trip.model_validate_json(client.chat(**asked).message.content), Trip)
    text = "".join(part.message.content or "" for part in client.chat(**asked, stream=True))
    assert isinstance(Trip.model_validate_json(text), Trip)
    assert client.chat(model="m", messages=MESSAGES, format="json").message.content == "{}"


def test_the_list_of_models(sim: Sim, connect: Callable[..., Any]) -> None:
    assert [model.model for model in connect(sim).list().models] == ["sim-coder"]


@pytest.mark.parametrize("stream", [True, False])
def test_failures(sim: Sim, stream: bool, connect: Callable[..., Any]) -> None:
    for status, says in ((500, "terminated"), (503, "server busy"), (529, "server busy")):
        client = connect(sim, **{f"x-sim-p-{status}": "1"})
        with pytest.raises(ollama.ResponseError, match=says) as raised:
            list(client.chat(model="m", messages=MESSAGES, stream=stream))
        assert raised.value.status_code == status


def test_over_a_limit(start: Callable[..., Sim], connect: Callable[..., Any]) -> None:
    sim = start(rpm=1)
    client = connect(sim)
    client.chat(model="m", messages=MESSAGES)
    with pytest.raises(ollama.ResponseError, match="too many requests") as raised:
        client.chat(model="m", messages=MESSAGES)
    assert raised.value.status_code == 429
    assert sim.stats()["limited"] == {"requests": 1}


def test_the_wrong_key(start: Callable[..., Sim], monkeypatch: pytest.MonkeyPatch, connect: Callable[..., Any]) -> None:
    monkeypatch.setenv("SIM_TEST_KEY", "right")
    sim = start(api_key_env="SIM_TEST_KEY")
    with pytest.raises(ollama.ResponseError, match="unauthorized") as raised:
        connect(sim, authorization="Bearer wrong").chat(model="m", messages=MESSAGES)
    assert raised.value.status_code == 401
    assert connect(sim, authorization="Bearer right").chat(model="m", messages=MESSAGES).done


def test_a_model_that_is_not_there(start: Callable[..., Sim], connect: Callable[..., Any]) -> None:
    with pytest.raises(ollama.ResponseError, match="try pulling it first") as raised:
        connect(start(strict_model=True)).chat(model="m", messages=MESSAGES)
    assert raised.value.status_code == 404


def test_a_stream_that_breaks(sim: Sim, connect: Callable[..., Any]) -> None:
    client = connect(sim, **{"x-sim-p-error-event": "1"})
    with pytest.raises(ollama.ResponseError, match="server busy"):
        list(client.chat(model="m", messages=MESSAGES, stream=True))
