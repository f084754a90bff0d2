"""The openai SDK talks to the simulated endpoint, and believes it: chat, completions, responses, Azure."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from sim_process import Sim

openai = pytest.importorskip("openai", reason="the openai SDK is not installed")

MESSAGES = [{"role": "user", "content": "Write a function that adds."}]
REASONING = {"x-sim-reasoning-tokens": "3"}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "look", "parameters": SCHEMA, "strict": True}}
FLAT_TOOL = {"type": "function", "name": "look", "parameters": SCHEMA, "strict": True}


class Trip(BaseModel):
    city: str
    days: int


@pytest.fixture
def client(sim: Sim) -> Iterator[Any]:
    with openai.OpenAI(base_url=sim.url, api_key="k", max_retries=0) as made:
        yield made


def _counted(sim: Sim, prompt: int, output: int, reasoning: int = 0) -> None:
    """The endpoint has counted the same."""
    stats = sim.wait_for(open=0)
    assert (stats["ok"], stats["errors"]) == (1, 0)
    assert (stats["prompt_tokens"], stats["tokens_out"], stats["reasoning_tokens"]) == (prompt, output, reasoning)


# --- chat -------------------------------------------------------------------------------------------------------------


def test_chat_streamed(sim: Sim, client: Any) -> None:
    chunks = list(
        client.chat.completions.create(
            model="m",
            messages=MESSAGES,
            max_tokens=9,
            stream=True,
            stream_options={"include_usage": True},
            extra_headers=REASONING,
        )
    )
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    usage = chunks[-1].usage
    assert (len(texts), usage.completion_tokens) == (6, 9)
    assert usage.completion_tokens_details.reasoning_tokens == 3
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
    assert {chunk.model for chunk in chunks} == {"m"}
    _counted(sim, usage.prompt_tokens, 9, 3)


def test_chat_plain(sim: Sim, client: Any) -> None:
    answer = client.chat.completions.create(model="m", messages=MESSAGES)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 20
    _counted(sim, answer.usage.prompt_tokens, 20)


def test_chat_by_the_helper_with_tools(client: Any) -> None:
    with client.chat.completions.stream(
        model="m", messages=MESSAGES, tools=[TOOL], tool_choice="required", extra_headers={"x-sim-tool-calls": "2"}
    ) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    calls = final.choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["look", "look"]
    assert all(set(json.loads(call.function.arguments)) == {"city", "days"} for call in calls)
    assert len({call.id for call in calls}) == 2
    assert final.choices[0].finish_reason == "tool_calls"
    assert sum(event.type == "tool_calls.function.arguments.done" for event in events) == 2


def test_chat_in_a_schema(client: Any) -> None:
    answer = client.chat.completions.parse(model="m", messages=MESSAGES, response_format=Trip)
    assert isinstance(answer.choices[0].message.parsed, Trip)
    with client.chat.completions.stream(model="m", messages=MESSAGES, response_format=Trip) as stream:
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Trip)


def test_a_conversation_goes_on_after_a_tool(client: Any) -> None:
    called = client.chat.completions.create(
        model="m", messages=MESSAGES, tools=[TOOL], extra_headers={"x-sim-p-tool": "1"}
    )
    message = called.choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "fine"}
    then = client.chat.completions.create(
        model="m",
        messages=[*MESSAGES, message.model_dump(exclude_none=True), result],
        tools=[TOOL],
        extra_headers={"x-sim-p-tool": "1"},
    )
    assert then.choices[0].message.tool_calls is None
    assert then.choices[0].message.content


def test_asynchronous_streams(sim: Sim) -> None:
    async def talk() -> list[int]:
        async with openai.AsyncOpenAI(base_url=sim.url, api_key="k", max_retries=0) as client:

            async def one() -> int:
                stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True, max_tokens=5)
                return len([1 async for chunk in stream if chunk.choices[0].delta.content])

            return list(await asyncio.gather(*(one() for _ in range(8))))

    assert asyncio.run(talk()) == [5] * 8
    assert sim.wait_for(ok=8)["tokens_out"] == 40


def test_the_list_of_models(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["sim-coder"]


# --- completions ------------------------------------------------------------------------------------------------------


def test_completions_streamed(sim: Sim, client: Any) -> None:
    chunks = list(
        client.completions.create(
            model="m",
            prompt="def add(",
            suffix="return",
            max_tokens=7,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert sum(bool(chunk.choices and chunk.choices[0].text) for chunk in chunks) == 7
    assert chunks[-2].choices[0].finish_reason == "length"
    _counted(sim, chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens)


def test_completions_plain(sim: Sim, client: Any) -> None:
    answer = client.completions.create(model="m", prompt=[1, 2, 3], max_tokens=7)
    assert answer.choices[0].text
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 7)
    _counted(sim, 3, 7)


# --- responses --------------------------------------------------------------------------------------------------------


def test_responses_streamed(sim: Sim, client: Any) -> None:
    stream = client.responses.create(model="m", input="Hello", stream=True, extra_headers=REASONING)
    events = list(stream)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    kinds = [event.type for event in events]
    assert kinds.count("response.reasoning_text.delta") == 3
    assert kinds.count("response.output_text.delta") == 17
    final = events[-1].response
    assert (events[-1].type, final.status) == ("response.completed", "completed")
    assert final.output_text == "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert [item.type for item in final.output] == ["reasoning", "message"]
    assert final.usage.output_tokens_details.reasoning_tokens == 3
    _counted(sim, final.usage.input_tokens, final.usage.output_tokens, 3)


def test_responses_by_the_helper(client: Any) -> None:
    """It keeps account of the items, and raises where the order is not the API's."""
    with client.responses.stream(
        model="m",
        input=[{"role": "user", "content": "Hello"}],
        tools=[FLAT_TOOL],
        tool_choice="required",
        extra_headers={**REASONING, "x-sim-tool-calls": "2"},
    ) as stream:
        snapshots = [event.snapshot for event in stream if event.type == "response.function_call_arguments.delta"]
        final = stream.get_final_response()
    calls = [item for item in final.output if item.type == "function_call"]
    assert [call.name for call in calls] == ["look", "look"]
    assert snapshots[-1] == calls[-1].arguments
    assert set(json.loads(calls[0].arguments)) == {"city", "days"}
    with client.responses.stream(model="m", input="Hello", extra_headers=REASONING) as stream:
        texts = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        assert stream.get_final_response().output_text == texts[-1]


def test_responses_plain_and_in_a_schema(sim: Sim, client: Any) -> None:
    answer = client.responses.parse(model="m", instructions="Be brief.", input="Hello", text_format=Trip)
    assert isinstance(answer.output_parsed, Trip)
    assert answer.status == "completed"
    _counted(sim, answer.usage.input_tokens, answer.usage.output_tokens)
    with client.responses.stream(model="m", input="Hello", text_format=Trip) as stream:
        assert isinstance(stream.get_final_response().output_parsed, Trip)


def test_responses_at_their_limit(client: Any) -> None:
    answer = client.responses.create(model="m", input="Hello", max_output_tokens=4)
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    events = list(client.responses.create(model="m", input="Hello", max_output_tokens=4, stream=True))
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.usage.output_tokens == 4


def test_a_response_after_a_tool(client: Any) -> None:
    asked = [{"role": "user", "content": "Hello"}]
    headers = {"x-sim-p-tool": "1"}
    (call,) = client.responses.create(model="m", input=asked, tools=[FLAT_TOOL], extra_headers=headers).output
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "fine"}
    then = client.responses.create(
        model="m", input=[*asked, call.model_dump(), result], tools=[FLAT_TOOL], extra_headers=headers
    )
    assert then.output_text


# --- Azure ------------------------------------------------------------------------------------------------------------


def test_azure(sim: Sim) -> None:
    with openai.AzureOpenAI(
        azure_endpoint=f"http://127.0.0.1:{sim.port}", api_key="k", api_version="2024-10-21", max_retries=0
    ) as client:
        options = {"include_usage": True}
        chunks = list(
            client.chat.completions.create(model="dep", messages=MESSAGES, stream=True, stream_options=options)
        )
        assert (chunks[0].choices, chunks[0].model) == ([], "")
        assert chunks[1].model == "dep"
        assert chunks[-1].usage.completion_tokens == 20
        _counted(sim, chunks[-1].usage.prompt_tokens, 20)
        assert client.chat.completions.create(model="dep", messages=MESSAGES).usage.completion_tokens == 20


def test_azure_over_its_limit(start: Callable[..., Sim]) -> None:
    port = start(rpm=1).port
    with openai.AzureOpenAI(
        azure_endpoint=f"http://127.0.0.1:{port}", api_key="k", api_version="2024-10-21", max_retries=0
    ) as client:
        client.chat.completions.create(model="dep", messages=MESSAGES)
        with pytest.raises(openai.RateLimitError, match="exceeded call rate limit") as raised:
            client.chat.completions.create(model="dep", messages=MESSAGES)
    assert raised.value.code == "429"
    assert raised.value.response.headers["apim-request-id"] == "req-sim-2"
    assert 0 < int(raised.value.response.headers["retry-after"]) <= 60


# --- errors -----------------------------------------------------------------------------------------------------------


def test_over_a_limit(start: Callable[..., Sim]) -> None:
    sim = start(rpm=1)
    with openai.OpenAI(base_url=sim.url, api_key="k", max_retries=0) as client:
        given = client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
        assert given.headers["x-ratelimit-remaining-requests"] == "0"
        for call in (
            lambda: client.chat.completions.create(model="m", messages=MESSAGES, stream=True),
            lambda: client.completions.create(model="m", prompt="x"),
            lambda: client.responses.create(model="m", input="x", stream=True),
        ):
            with pytest.raises(openai.RateLimitError, match="requests per min") as raised:
                call()
            assert (raised.value.code, raised.value.type) == ("rate_limit_exceeded", "requests")
            assert 0 < int(raised.value.response.headers["retry-after"]) <= 60
            assert raised.value.request_id.startswith("req-sim-")
    assert sim.stats()["limited"] == {"requests": 3}


def test_failures(client: Any) -> None:
    for status in (500, 503, 529):
        with pytest.raises(openai.InternalServerError) as raised:
            client.chat.completions.create(model="m", messages=MESSAGES, extra_headers={f"x-sim-p-{status}": "1"})
        assert raised.value.status_code == status
        assert raised.value.code == (None if status == 500 else "server_is_overloaded")


def test_the_wrong_key(start: Callable[..., Sim], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIM_TEST_KEY", "right")
    sim = start(api_key_env="SIM_TEST_KEY")
    with openai.OpenAI(base_url=sim.url, api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as raised:
            client.responses.create(model="m", input="x")
        assert raised.value.code == "invalid_api_key"
        right = client.with_options(api_key="right")
        assert right.responses.create(model="m", input="x").output_text


def test_refused_requests(client: Any) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model="m", messages=[])
    assert raised.value.param == "messages"
    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(model="m")
    assert raised.value.param == "input"


def test_streams_that_break(client: Any) -> None:
    def read(**headers: str) -> list[Any]:
        stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True, extra_headers=headers)
        return list(stream)

    with pytest.raises(openai.APIError, match="overloaded"):
        read(**{"x-sim-p-error-event": "1"})
    with pytest.raises(openai.APIConnectionError):
        read(**{"x-sim-p-cut": "1"})
    with pytest.raises(ValueError, match="Unterminated string"):
        read(**{"x-sim-p-garbage": "1"})


def test_a_response_that_breaks(client: Any) -> None:
    """The SDK hands its error out as an event."""
    headers = {"x-sim-p-error-event": "1"}
    events = list(client.responses.create(model="m", input="x", stream=True, extra_headers=headers))
    assert (events[-1].type, events[-1].code) == ("error", "server_is_overloaded")
