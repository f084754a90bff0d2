"""The google-genai SDK talks to the simulated endpoint, and believes it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from sim_process import Sim

genai = pytest.importorskip("google.genai", reason="the google-genai SDK is not installed")
errors = pytest.importorskip("google.genai.errors", reason="the google-genai SDK is not installed")

PROMPT = "Write a function that adds."
SCHEMA = {
    "type": "OBJECT",
    "properties": {"city": {"type": "STRING"}, "days": {"type": "INTEGER", "minimum": 1}},
    "required": ["city", "days"],
}
TOOLS = [{"function_declarations": [{"name": "look", "description": "Looks.", "parameters": SCHEMA}]}]
FORCED = {"tools": TOOLS, "tool_config": {"function_calling_config": {"mode": "ANY"}}}
SHOWN = {"thinking_config": {"include_thoughts": True}}


class Trip(BaseModel):
    city: str
    days: int


def _client(sim: Sim, key: str = "k", **options: str) -> Any:
    return genai.Client(api_key=key, http_options={"base_url": f"http://127.0.0.1:{sim.port}", **options})


@pytest.fixture
def client(sim: Sim) -> Iterator[Any]:
    with _client(sim) as made:
        yield made


def _config(headers: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    return {"http_options": {"headers": headers or {}}, **fields}


def _thoughts(chunks: list[Any]) -> list[str]:
    return [part.text for chunk in chunks for part in chunk.candidates[0].content.parts or () if part.thought]


def _counted(sim: Sim, usage: Any, reasoning: int = 0) -> None:
    """The endpoint has counted the same."""
    stats = sim.wait_for(open=0)
    assert (stats["ok"], stats["errors"]) == (1, 0)
    assert (stats["prompt_tokens"], stats["reasoning_tokens"]) == (usage.prompt_token_count, reasoning)
    assert (usage.thoughts_token_count or 0) == reasoning
    assert stats["tokens_out"] == usage.candidates_token_count + reasoning
    assert usage.total_token_count == usage.prompt_token_count + stats["tokens_out"]


@pytest.mark.parametrize("shown", [True, False])
def test_streamed(sim: Sim, client: Any, shown: bool) -> None:
    config = _config({"x-sim-reasoning-tokens": "3"}, max_output_tokens=9, **(SHOWN if shown else {}))
    chunks = list(client.models.generate_content_stream(model="m", contents=PROMPT, config=config))
    assert len(_thoughts(chunks)) == 3 * shown
    assert sum(bool(chunk.text) for chunk in chunks) == 6
    last = chunks[-1]
    assert last.candidates[0].finish_reason.name == "MAX_TOKENS"
    assert {chunk.model_version for chunk in chunks} == {"m"}
    _counted(sim, last.usage_metadata, 3)


def test_plain(sim: Sim, client: Any) -> None:
    config = _config({"x-sim-reasoning-tokens": "3"}, system_instruction="Be brief.", **SHOWN)
    answer = client.models.generate_content(model="m", contents=PROMPT, config=config)
    assert answer.text
    assert len(_thoughts([answer])) == 1
    assert answer.candidates[0].finish_reason.name == "STOP"
    _counted(sim, answer.usage_metadata, 3)


def test_no_thinking(sim: Sim, client: Any) -> None:
    config = _config({"x-sim-reasoning-tokens": "3"}, thinking_config={"thinking_budget": 0})
    answer = client.models.generate_content(model="m", contents=PROMPT, config=config)
    _counted(sim, answer.usage_metadata)


def test_tools(client: Any) -> None:
    config = _config({"x-sim-tool-calls": "2"}, **FORCED)
    chunks = list(client.models.generate_content_stream(model="m", contents=PROMPT, config=config))
    streamed = [call for chunk in chunks for call in chunk.function_calls or ()]
    counts = [chunk.usage_metadata.candidates_token_count for chunk in chunks]
    assert 0 < counts[0] < counts[1] == counts[2], "each chunk counts what was said so far"
    plain = client.models.generate_content(model="m", contents=PROMPT, config=config).function_calls
    for calls in (streamed, plain):
        assert [call.name for call in calls] == ["look", "look"]
        assert all(set(call.args) == {"city", "days"} for call in calls)
        assert all(call.args["days"] >= 1 for call in calls)


def test_a_conversation_goes_on_after_a_tool(client: Any) -> None:
    config = _config({"x-sim-p-tool": "1"}, tools=TOOLS)
    asked = {"role": "user", "parts": [{"text": PROMPT}]}
    called = client.models.generate_content(model="m", contents=[asked], config=config)
    assert called.function_calls
    result = {"role": "user", "parts": [{"function_response": {"name": "look", "response": {"result": "fine"}}}]}
    then = client.models.generate_content(
        model="m", contents=[asked, called.candidates[0].content, result], config=config
    )
    assert then.function_calls is None
    assert then.text


def test_in_a_schema(client: Any) -> None:
    wanted = {"response_mime_type": "application/json", "response_schema": Trip}
    answer = client.models.generate_content(model="m", contents=PROMPT, config=_config(**wanted))
    assert isinstance(answer.parsed, Trip)
    chunks = client.models.generate_content_stream(model="m", contents=PROMPT, config=_config(**wanted))
    assert isinstance(Trip.model_validate_json("".join(chunk.text or "" for chunk in chunks)), Trip)
    wanted = {"response_mime_type": "application/json", "response_json_schema": Trip.model_json_schema()}
    answer = client.models.generate_content(model="m", contents=PROMPT, config=_config(**wanted))
    assert isinstance(Trip.model_validate_json(answer.text), Trip)


def test_the_list_of_models(sim: Sim) -> None:
    with _client(sim, api_version="v1beta") as client:
        assert [model.name for model in client.models.list()] == ["models/sim-coder"]
        assert client.models.generate_content(model="m", contents=PROMPT).text


def test_over_a_limit(start: Callable[..., Sim]) -> None:
    sim = start(rpm=1)
    with _client(sim) as client:
        client.models.generate_content(model="m", contents=PROMPT)
        for call in (client.models.generate_content, client.models.generate_content_stream):
            with pytest.raises(errors.ClientError, match="Please retry in") as raised:
                list(call(model="m", contents=PROMPT))
            assert (raised.value.code, raised.value.status) == (429, "RESOURCE_EXHAUSTED")
            failure, retry = raised.value.details["error"]["details"]
            assert "PerMinute" in failure["violations"][0]["quotaId"]
            assert 0 < float(retry["retryDelay"].removesuffix("s")) <= 60
    assert sim.stats()["limited"] == {"requests": 2}


def test_failures(client: Any) -> None:
    for status, name in ((500, "INTERNAL"), (503, "UNAVAILABLE"), (529, "UNAVAILABLE")):
        with pytest.raises(errors.ServerError) as raised:
            client.models.generate_content(model="m", contents=PROMPT, config=_config({f"x-sim-p-{status}": "1"}))
        assert (raised.value.code, raised.value.status) == (status, name)


def test_the_wrong_key(start: Callable[..., Sim], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIM_TEST_KEY", "right")
    sim = start(api_key_env="SIM_TEST_KEY")
    with _client(sim, "wrong") as client, pytest.raises(errors.ClientError, match="API key not valid") as raised:
        client.models.generate_content(model="m", contents=PROMPT)
    assert (raised.value.code, raised.value.status) == (400, "INVALID_ARGUMENT")
    with _client(sim, "right") as client:
        assert client.models.generate_content(model="m", contents=PROMPT).text


def test_a_stream_that_breaks(client: Any) -> None:
    config = _config({"x-sim-p-error-event": "1"}, max_output_tokens=9)
    with pytest.raises(errors.APIError, match="overloaded"):
        list(client.models.generate_content_stream(model="m", contents=PROMPT, config=config))
