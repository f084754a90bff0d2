"""Conversations with tool calls: what each API is sent, held against its official SDK, and what is kept of a call."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ConfigDict, TypeAdapter, with_config
from typing_extensions import is_typeddict

from latbench.model.answer import Answer
from latbench.model.request import Ask, Call, Endpoint, Message, Tool
from latbench.providers.conversation import arguments, with_ids
from latbench.providers.registry import DIALECTS

PARAMETERS = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
TOOLS = (Tool("look_up", "Looks.", PARAMETERS, "found", 5), Tool("run", "Runs.", {"type": "object"}, "3 passed", 7))
FIRST, SECOND = Call("c1", "look_up", '{"q":"ü"}', "found", "sig"), Call("c2", "run", "", "3 passed")
TALK = (
    Message("system", "Be short."),
    Message("user", "Where?"),
    Message("assistant", "I look.", (FIRST, SECOND)),
    Message("assistant", "", (Call("c3", "run", "not JSON", "4 passed"),)),
)
CAN = sorted(api for api, dialect in DIALECTS.items() if dialect.tools)


def endpoint(api: str, **fields: object) -> Endpoint:
    known: dict[str, Any] = {"name": "e", "provider": "p", "api": api, "base_url": "http://h", "model": "m"}
    return Endpoint(**known | fields)


def body(api: str, talk: tuple[Message, ...] = TALK, tools: tuple[Tool, ...] = TOOLS) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DIALECTS[api].build(endpoint(api), Ask(talk, 64, tools=tools)).body)
    return found


def test_every_api_with_tools_holds_a_tool_loop() -> None:
    assert set(DIALECTS) - set(CAN) == {"openai-completions"}


@pytest.mark.parametrize("api", CAN)
def test_the_field_that_offers_tools_is_the_one_that_is_named(api: str) -> None:
    inner: Any = body(api)
    for name in DIALECTS[api].tools.split("."):
        inner = inner[name]
    assert "look_up" in json.dumps(inner)
    without = DIALECTS[api].tools.partition(".")[0]
    assert without not in body(api, tools=())


# --- word for word ----------------------------------------------------------------------------------------------------

CHAT = [
    {
        "role": "assistant",
        "content": "I look.",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"q":"ü"}'}},
            {"id": "c2", "type": "function", "function": {"name": "run", "arguments": "{}"}},
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "found"},
    {"role": "tool", "tool_call_id": "c2", "content": "3 passed"},
]
OFFERED = {
    "type": "function",
    "function": {"name": "look_up", "description": "Looks.", "parameters": PARAMETERS},
}


@pytest.mark.parametrize("api", ["openai-chat", "azure-openai", "mistral", "cohere"])
def test_a_chat(api: str) -> None:
    sent = body(api)
    assert sent["messages"][2:5] == CHAT
    assert sent["messages"][5]["content"] is None
    assert sent["messages"][5]["tool_calls"][0]["function"]["arguments"] == "not JSON"
    assert sent["tools"][0] == OFFERED
    assert "tool_choice" not in sent


def test_responses() -> None:
    sent = body("openai-responses")
    assert sent["input"][2:] == [
        {"role": "assistant", "content": "I look."},
        {"type": "function_call", "call_id": "c1", "name": "look_up", "arguments": '{"q":"ü"}'},
        {"type": "function_call", "call_id": "c2", "name": "run", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "found"},
        {"type": "function_call_output", "call_id": "c2", "output": "3 passed"},
        {"type": "function_call", "call_id": "c3", "name": "run", "arguments": "not JSON"},
        {"type": "function_call_output", "call_id": "c3", "output": "4 passed"},
    ]
    offered = {"type": "function", "name": "look_up", "description": "Looks.", "parameters": PARAMETERS}
    assert sent["tools"][0] == offered | {"strict": False}


def test_anthropic() -> None:
    sent = body("anthropic")
    assert sent["messages"][1:3] == [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "c1", "name": "look_up", "input": {"q": "ü"}},
                {"type": "tool_use", "id": "c2", "name": "run", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "found"},
                {"type": "tool_result", "tool_use_id": "c2", "content": "3 passed"},
            ],
        },
    ]
    assert sent["messages"][3]["content"] == [{"type": "tool_use", "id": "c3", "name": "run", "input": {}}]
    assert sent["tools"][0] == {"name": "look_up", "description": "Looks.", "input_schema": PARAMETERS}


def test_gemini() -> None:
    sent = body("gemini")
    assert sent["contents"][1:3] == [
        {
            "role": "model",
            "parts": [
                {"text": "I look."},
                {
                    "functionCall": {"name": "look_up", "args": {"q": "ü"}, "id": "c1"},
                    "thoughtSignature": "sig",
                },
                {"functionCall": {"name": "run", "args": {}, "id": "c2"}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "look_up", "response": {"result": "found"}, "id": "c1"}},
                {"functionResponse": {"name": "run", "response": {"result": "3 passed"}, "id": "c2"}},
            ],
        },
    ]
    no_id = body("gemini", (TALK[1], Message("assistant", "", (Call("", "run", "{}", "ok"),))))
    assert no_id["contents"][1:] == [
        {"role": "model", "parts": [{"functionCall": {"name": "run", "args": {}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "run", "response": {"result": "ok"}}}]},
    ]


def test_bedrock() -> None:
    sent = body("bedrock")
    assert sent["messages"][1:3] == [
        {
            "role": "assistant",
            "content": [
                {"text": "I look."},
                {"toolUse": {"toolUseId": "c1", "name": "look_up", "input": {"q": "ü"}}},
                {"toolUse": {"toolUseId": "c2", "name": "run", "input": {}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "c1", "content": [{"text": "found"}]}},
                {"toolResult": {"toolUseId": "c2", "content": [{"text": "3 passed"}]}},
            ],
        },
    ]
    assert [list(block) for block in sent["messages"][3]["content"]] == [["toolUse"]]


def test_ollama() -> None:
    assert body("ollama")["messages"][2:5] == [
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                {"function": {"name": "look_up", "arguments": {"q": "ü"}}},
                {"function": {"name": "run", "arguments": {}}},
            ],
        },
        {"role": "tool", "tool_name": "look_up", "content": "found"},
        {"role": "tool", "tool_name": "run", "content": "3 passed"},
    ]


# --- as the official SDKs have it -------------------------------------------------------------------------------------


def strictly(kind: Any) -> Callable[[object], object]:
    """Holds a value to a type of an SDK; of a typed dictionary, unknown keys are refused."""
    if is_typeddict(kind):
        kind = with_config(ConfigDict(extra="forbid"))(kind)
    return TypeAdapter(kind).validate_python


def test_the_sdk_of_openai_takes_a_chat_and_an_input() -> None:
    chat = pytest.importorskip("openai.types.chat", reason="the openai SDK is not installed")
    responses = pytest.importorskip("openai.types.responses", reason="the openai SDK is not installed")
    sent = body("openai-chat")
    for message in sent["messages"]:
        kind = {"assistant": chat.ChatCompletionAssistantMessageParam, "tool": chat.ChatCompletionToolMessageParam}
        if message["role"] in kind:
            strictly(kind[message["role"]])(message)
    strictly(chat.ChatCompletionFunctionToolParam)(sent["tools"][0])
    items = body("openai-responses")
    called = responses.ResponseFunctionToolCallParam
    output = responses.response_input_item_param.FunctionCallOutput
    for item in items["input"][3:]:
        strictly(called if item["type"] == "function_call" else output)(item)
    strictly(responses.FunctionToolParam)(items["tools"][0])


def test_the_sdk_of_anthropic_takes_the_messages() -> None:
    types = pytest.importorskip("anthropic.types", reason="the anthropic SDK is not installed")
    kinds = {
        "text": types.TextBlockParam,
        "tool_use": types.ToolUseBlockParam,
        "tool_result": types.ToolResultBlockParam,
    }
    sent = body("anthropic")
    seen = set()
    for message in sent["messages"][1:]:
        for block in message["content"]:
            seen.add(block["type"])
            strictly(kinds[block["type"]])(block)
    assert seen == set(kinds)
    strictly(types.ToolParam)(sent["tools"][0])


def test_the_sdk_of_google_takes_the_contents() -> None:
    types = pytest.importorskip("google.genai.types", reason="the google-genai SDK is not installed")
    sent = body("gemini")
    contents = [types.Content.model_validate(content) for content in sent["contents"]]
    assert [call.function_call.name for call in contents[1].parts[1:]] == ["look_up", "run"]
    assert [part.function_response.id for part in contents[2].parts] == ["c1", "c2"]
    types.Tool.model_validate(sent["tools"][0])


def test_the_client_of_ollama_takes_the_messages() -> None:
    ollama = pytest.importorskip("ollama", reason="the ollama client is not installed")
    sent = body("ollama")
    found = [ollama.Message.model_validate(message) for message in sent["messages"]]
    assert [message.tool_name for message in found if message.role == "tool"] == ["look_up", "run", "run"]
    ollama.Tool.model_validate(sent["tools"][0])


def test_botocore_takes_the_messages() -> None:
    session = pytest.importorskip("botocore.session", reason="botocore is not installed")
    validate = pytest.importorskip("botocore.validate", reason="botocore is not installed")
    shape = session.get_session().get_service_model("bedrock-runtime").operation_model("Converse").input_shape
    report = validate.ParamValidator().validate(body("bedrock") | {"modelId": "m"}, shape)
    assert not report.has_errors(), report.generate_report()


# --- hostile calls ----------------------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
).map(json.dumps)
CALLS = st.builds(Call, TEXTS, TEXTS, TEXTS | JSONS, TEXTS, TEXTS)


@pytest.mark.parametrize("api", CAN)
@given(calls=st.lists(CALLS, min_size=1, max_size=3).map(tuple))
def test_whatever_was_called_is_sent_back_as_json(api: str, calls: tuple[Call, ...]) -> None:
    text = json.dumps(body(api, (TALK[1], Message("assistant", "", calls))), ensure_ascii=False)
    for call in calls:
        assert json.dumps(call.result, ensure_ascii=False) in text


@given(CALLS)
def test_arguments_are_an_object_and_the_models_own_where_it_wrote_one(call: Call) -> None:
    found = json.loads(bytes(arguments(call)))
    assert isinstance(found, dict)
    try:
        written = json.loads(call.arguments)
    except ValueError:
        written = None
    assert found == (written if isinstance(written, dict) else {})


def test_arguments_that_are_nested_too_deeply_are_none() -> None:
    assert bytes(arguments(Call("", "f", '{"a":' * 100_000 + "1" + "}" * 100_000, ""))) == b"{}"


def test_calls_without_ids_get_some_that_no_other_has() -> None:
    bare = (Call("", "f", "", ""), Call("x", "f", "", ""), Call("", "f", "", ""))
    named = [name for place in (1, 2) for name, _ in with_ids(place, bare)]
    assert named == ["call_1_0", "x", "call_1_2", "call_2_0", "x", "call_2_2"]


# --- what is kept of a call -------------------------------------------------------------------------------------------


def streamed(api: str, *events: Mapping[str, Any] | bytes) -> Answer:
    answer = Answer()
    for event in events:
        payload = event if isinstance(event, bytes) else msgspec.json.encode(event)
        DIALECTS[api].decode(payload, 1, answer)
    return answer


def kept(answer: Answer) -> list[tuple[str, str, str, str]]:
    return [(one.id, one.name, "".join(one.arguments), one.signature) for one in answer.tool_calls.values()]


def chunk(*calls: Mapping[str, Any]) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"tool_calls": list(calls)}}]}


def test_openai_names_a_call_once() -> None:
    long = "call_" + "x" * 5000  # a gateway hides a signature in it, and wants it back whole
    answer = streamed(
        "openai-chat",
        chunk({"index": 0, "id": long, "function": {"name": "f", "arguments": ""}}),
        chunk({"index": 0, "id": "", "function": {"arguments": "{}"}}),
        chunk({"index": 1, "id": 7, "function": {"name": "g"}}),
    )
    assert kept(answer) == [(long, "f", "{}", ""), ("", "g", "", "")]


def test_cohere_names_a_call_where_it_starts() -> None:
    start = {"message": {"tool_calls": {"id": "f_1", "function": {"name": "f", "arguments": ""}}}}
    assert kept(streamed("cohere", {"type": "tool-call-start", "index": 0, "delta": start})) == [("f_1", "f", "", "")]


def test_responses_go_by_the_id_of_the_call_not_of_the_item() -> None:
    item = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": ""}
    event = {"type": "response.output_item.added", "output_index": 0, "item": item}
    assert kept(streamed("openai-responses", event)) == [("call_1", "f", "", "")]


def test_anthropic_names_a_call_where_its_block_starts() -> None:
    block = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
    event = {"type": "content_block_start", "index": 1, "content_block": block}
    assert kept(streamed("anthropic", event)) == [("toolu_1", "f", "", "")]


def test_gemini_signs_a_call() -> None:
    parts = [
        {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "c2ln"},
        {"functionCall": {"name": "g", "id": "id-2"}, "thoughtSignature": 3},
    ]
    event = {"candidates": [{"content": {"parts": parts}}]}
    assert kept(streamed("gemini", event)) == [("", "f", '{"a":1}', "c2ln"), ("id-2", "g", "", "")]


def test_bedrock_names_a_call_in_a_stream_and_in_a_plain_answer() -> None:
    start = {"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "t1", "name": "f"}}}
    event = b"event contentBlockStart\n" + msgspec.json.encode(start)
    assert kept(streamed("bedrock", event)) == [("t1", "f", "", "")]
    whole = {"output": {"message": {"content": [{"toolUse": {"toolUseId": "t2", "name": "f", "input": {}}}]}}}
    answer = Answer()
    DIALECTS["bedrock"].decode_plain(msgspec.json.encode(whole | {"stopReason": "tool_use"}), 1, answer)
    assert kept(answer) == [("t2", "f", "{}", "")]


def test_an_id_without_a_call_is_no_call() -> None:
    answer = Answer()
    answer.name_call(0, "x")
    assert answer.tool_calls == {}
