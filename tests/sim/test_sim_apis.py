"""What each dialect reads from a request, what it refuses, and what it says of keys and limits."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.sim.dialects import Ask, Dialect, End, Hit, Parts, Refused, Room, Start, Tool
from latbench.sim.dialects.registry import DIALECTS

BY_NAME: dict[str, Dialect] = {type(dialect).__name__: dialect for dialect in DIALECTS}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
LOOK, OTHER = Tool("look", SCHEMA), Tool("other", None)
USER = [{"role": "user", "content": "12345678"}]
BLOCKS = [{"role": "user", "content": [{"type": "text", "text": "12345678"}, {"type": "image"}]}]
CHAT_TOOLS = [{"type": "function", "function": {"name": "look", "parameters": SCHEMA}}]
FLAT_TOOLS = [{"type": "function", "name": "look", "parameters": SCHEMA}]
OUR_TOOLS = [
    {"name": "look", "input_schema": SCHEMA},
    {"type": "web_search_20250305", "name": "web"},
    {"name": "other"},
]
TALK = [{"text": "12345678"}]
CONTENTS = [{"role": "user", "parts": TALK}]
DECLARED = [{"functionDeclarations": [{"name": "look", "parametersJsonSchema": SCHEMA}, {"name": "other"}]}]
CONVERSE = [{"role": "user", "content": TALK}]
SPECS = [{"toolSpec": {"name": "look", "inputSchema": {"json": SCHEMA}}}, {"cachePoint": {"type": "default"}}]
ROUND = {"role": "assistant", "tool_calls": [{}]}
HEADERS = {"anthropic-version": "2023-06-01"}
PATHS = {
    "AzureOpenAI": {"deployment": "m"},
    "Gemini": {"model": "m", "method": "generateContent"},
    "Bedrock": {"model": "m", "method": "converse"},
}
# The least that each understands.
LEAST: dict[str, dict[str, Any]] = {
    "OpenAIChat": {"model": "m", "messages": USER},
    "OpenAICompletions": {"model": "m", "prompt": "12345678"},
    "OpenAIResponses": {"model": "m", "input": "12345678"},
    "AzureOpenAI": {"messages": USER},
    "Anthropic": {"model": "m", "max_tokens": 9, "messages": USER},
    "Gemini": {"contents": CONTENTS},
    "Mistral": {"model": "m", "messages": USER},
    "Cohere": {"model": "m", "messages": USER},
    "OllamaChat": {"model": "m", "stream": False, "messages": USER},
    "OllamaGenerate": {"model": "m", "stream": False, "prompt": "12345678"},
    "Bedrock": {"messages": CONVERSE},
}


def _parts(name: str, body: bytes, **path: str) -> Parts:
    return Parts(body, PATHS.get(name, {}) | path, {"api-version": "2024-10-21", "alt": "sse"}, HEADERS)


def _read(name: str, path: dict[str, str] | None = None, **fields: Any) -> Ask:
    return BY_NAME[name].read(_parts(name, json.dumps(LEAST[name] | fields).encode(), **(path or {})))


def _refused(name: str, **fields: Any) -> Refused:
    with pytest.raises(Refused) as raised:
        _read(name, **fields)
    return raised.value


@pytest.mark.parametrize("name", BY_NAME)
def test_the_least_request(name: str) -> None:
    ask = _read(name)
    assert (ask.model, ask.stream, ask.prompt, ask.prompt_tokens) == ("m", False, b"12345678", 2)
    assert ask.max_tokens == (9 if name == "Anthropic" else None)
    assert (ask.tools, ask.must_call, ask.tool_rounds, ask.schema, ask.fill) == ((), False, 0, None, False)
    assert ask.reasoning is (name not in ("OpenAICompletions", "Anthropic", "Bedrock"))
    assert ask.cacheable is (name not in ("Anthropic", "Bedrock"))


LIMIT = {
    "OpenAIChat": {"max_tokens": 5},
    "OpenAICompletions": {"max_tokens": 5},
    "OpenAIResponses": {"max_output_tokens": 5},
    "AzureOpenAI": {"max_completion_tokens": 5},
    "Anthropic": {"max_tokens": 5},
    "Gemini": {"generation_config": {"maxOutputTokens": 5}},
    "Mistral": {"max_tokens": 5},
    "Cohere": {"max_tokens": 5},
    "OllamaChat": {"options": {"num_predict": 5}},
    "OllamaGenerate": {"options": {"num_predict": 5}},
    "Bedrock": {"inferenceConfig": {"maxTokens": 5}},
}


@pytest.mark.parametrize("name", BY_NAME)
def test_streams_and_limits(name: str) -> None:
    path = {"Gemini": {"method": "streamGenerateContent"}, "Bedrock": {"method": "converse-stream"}}.get(name)
    ask = _read(name, path, **LIMIT[name], **({} if path else {"stream": True}))
    assert (ask.stream, ask.max_tokens) == (True, 5)


@pytest.mark.parametrize(
    ("name", "fields", "tools", "must_call"),
    [
        ("OpenAIResponses", {"tools": [*FLAT_TOOLS, {"type": "web_search"}]}, (LOOK,), False),
        ("OpenAIResponses", {"tools": FLAT_TOOLS, "tool_choice": {"type": "function", "name": "look"}}, (LOOK,), True),
        ("OpenAIResponses", {"tools": FLAT_TOOLS, "tool_choice": "none"}, (), False),
        ("Anthropic", {"tools": OUR_TOOLS}, (LOOK, OTHER), False),
        ("Anthropic", {"tools": OUR_TOOLS, "tool_choice": {"type": "any"}}, (LOOK, OTHER), True),
        ("Anthropic", {"tools": OUR_TOOLS, "tool_choice": {"type": "tool", "name": "other"}}, (OTHER,), True),
        ("Anthropic", {"tools": OUR_TOOLS, "tool_choice": {"type": "none"}}, (), False),
        ("Gemini", {"tools": DECLARED}, (LOOK, OTHER), False),
        ("Gemini", {"tools": DECLARED, "toolConfig": {"functionCallingConfig": {"mode": "NONE"}}}, (), False),
        (
            "Gemini",
            {"tools": DECLARED, "toolConfig": {"functionCallingConfig": {"mode": "ANY"}}},
            (LOOK, OTHER),
            True,
        ),
        (
            "Gemini",
            {
                "tools": DECLARED,
                "tool_config": {"function_calling_config": {"mode": "ANY", "allowed_function_names": ["other"]}},
            },
            (OTHER,),
            True,
        ),
        ("Mistral", {"tools": CHAT_TOOLS, "tool_choice": "any"}, (LOOK,), True),
        ("Cohere", {"tools": CHAT_TOOLS}, (LOOK,), False),
        ("Cohere", {"tools": CHAT_TOOLS, "tool_choice": "REQUIRED"}, (LOOK,), True),
        ("Cohere", {"tools": CHAT_TOOLS, "tool_choice": "NONE"}, (), False),
        ("OllamaChat", {"tools": CHAT_TOOLS}, (LOOK,), False),
        ("Bedrock", {"toolConfig": {"tools": SPECS}}, (LOOK,), False),
        ("Bedrock", {"toolConfig": {"tools": SPECS, "toolChoice": {"any": {}}}}, (LOOK,), True),
        ("Bedrock", {"toolConfig": {"tools": SPECS, "toolChoice": {"tool": {"name": "look"}}}}, (LOOK,), True),
    ],
)
def test_tools(name: str, fields: dict[str, Any], tools: tuple[Tool, ...], must_call: bool) -> None:
    ask = _read(name, **fields)
    assert (ask.tools, ask.must_call) == (tools, must_call)


def test_tools_one_at_a_time() -> None:
    assert _read("Anthropic", tools=OUR_TOOLS, tool_choice={"type": "auto"}).parallel
    one = {"type": "auto", "disable_parallel_tool_use": True}
    assert not _read("Anthropic", tools=OUR_TOOLS, tool_choice=one).parallel
    assert not _read("OpenAIResponses", parallel_tool_calls=False).parallel


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("OpenAIResponses", {"input": [*USER, *([{"type": "function_call", "arguments": "{}"}] * 2), *USER]}),
        (
            "Anthropic",
            {"messages": [*USER, {"role": "assistant", "content": [{"type": "tool_use"}, {"type": "tool_use"}]}]},
        ),
        ("Gemini", {"contents": [*CONTENTS, {"role": "model", "parts": [{"function_call": {"name": "look"}}]}]}),
        ("Mistral", {"messages": [*USER, ROUND]}),
        ("Cohere", {"messages": [*USER, ROUND]}),
        ("OllamaChat", {"messages": [*USER, ROUND]}),
        ("Bedrock", {"messages": [*CONVERSE, {"role": "assistant", "content": [{"toolUse": {}}, {"toolUse": {}}]}]}),
    ],
)
def test_rounds_of_tools(name: str, fields: dict[str, Any]) -> None:
    assert _read(name, **fields).tool_rounds == 1


@pytest.mark.parametrize(
    ("name", "fields", "schema"),
    [
        ("OpenAIResponses", {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}}, SCHEMA),
        ("OpenAIResponses", {"text": {"format": {"type": "json_object"}}}, True),
        ("Anthropic", {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}, SCHEMA),
        ("Gemini", {"generationConfig": {"responseMimeType": "application/json"}}, True),
        ("Gemini", {"generationConfig": {"responseMimeType": "text/plain", "responseSchema": SCHEMA}}, None),
        (
            "Gemini",
            {"generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}},
            SCHEMA,
        ),
        ("Mistral", {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}}, SCHEMA),
        ("Cohere", {"response_format": {"type": "json_object"}}, True),
        ("Cohere", {"response_format": {"type": "json_object", "json_schema": SCHEMA}}, SCHEMA),
        ("OllamaChat", {"format": "json"}, True),
        ("OllamaGenerate", {"format": SCHEMA}, SCHEMA),
        (
            "Bedrock",
            {
                "outputConfig": {
                    "textFormat": {
                        "type": "json_schema",
                        "structure": {"jsonSchema": {"schema": json.dumps(SCHEMA)}},
                    }
                }
            },
            SCHEMA,
        ),
    ],
)
def test_schemas(name: str, fields: dict[str, Any], schema: Any) -> None:
    assert _read(name, **fields).schema == schema


@pytest.mark.parametrize(
    ("name", "fields", "reasoning"),
    [
        ("OpenAIResponses", {"reasoning": {"effort": "none"}}, False),
        ("Anthropic", {"thinking": {"type": "adaptive"}}, True),
        ("Anthropic", {"thinking": {"type": "disabled"}}, False),
        ("Gemini", {"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}}, False),
        ("Cohere", {"thinking": {"type": "disabled"}}, False),
        ("OllamaChat", {"think": False}, False),
        ("OllamaChat", {"think": "low"}, True),
        ("Bedrock", {"additionalModelRequestFields": {"thinking": {"type": "enabled"}}}, True),
    ],
)
def test_reasoning(name: str, fields: dict[str, Any], reasoning: bool) -> None:
    assert _read(name, **fields).reasoning is reasoning


def test_reasoning_that_is_shown() -> None:
    assert not _read("Gemini").reasoning_shown
    shown = {"thinkingConfig": {"include_thoughts": True}}
    assert _read("Gemini", generationConfig=shown).reasoning_shown


@pytest.mark.parametrize(
    ("name", "fields", "prompt"),
    [
        ("OpenAICompletions", {"prompt": ["ab"], "suffix": "cd"}, b"abcd"),
        ("Mistral", {"messages": None, "prompt": "ab", "suffix": "cd"}, b""),
        ("OllamaGenerate", {"system": "x", "prompt": "ab", "suffix": "cd"}, b"xabcd"),
    ],
)
def test_gaps(name: str, fields: dict[str, Any], prompt: bytes) -> None:
    if name == "Mistral":
        body = json.dumps({"model": "m", "prompt": "ab", "suffix": "cd", "max_tokens": 5}).encode()
        ask, prompt = BY_NAME[name].read(Parts(body)), b"abcd"
        assert ask.max_tokens == 5
    else:
        ask = _read(name, **fields)
    assert (ask.fill, ask.prompt) == (True, prompt)


def test_prompts_of_many_parts() -> None:
    result = {"type": "tool_result", "content": [{"type": "text", "text": "c"}]}
    turn = {"role": "user", "content": [{"type": "text", "text": "b"}, result]}
    assert _read("Anthropic", system=[{"type": "text", "text": "a"}], messages=[turn]).prompt == b"abc"
    items = [*BLOCKS, {"type": "function_call", "arguments": "{}"}, {"type": "function_call_output", "output": "z"}]
    assert _read("OpenAIResponses", instructions="a", input=items).prompt == b"a12345678{}z"
    system = {"systemInstruction": {"parts": [{"text": "a"}]}}
    assert _read("Gemini", **system).prompt == b"a12345678"
    blocks = [*TALK, {"toolResult": {"content": [{"text": "z"}, {"json": {}}]}}]
    fields = {"system": [{"text": "a"}], "messages": [{"role": "user", "content": blocks}]}
    assert _read("Bedrock", **fields).prompt == b"a12345678z"
    assert _read("OpenAICompletions", prompt=[[1, 2, 3]]).prompt_tokens == 3
    assert _read("OpenAICompletions", prompt=[1, 2, 3], suffix="abcd").prompt_tokens == 4


def test_caching_on_demand() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    block = [{"type": "text", "text": "x", **mark}]
    assert _read("Anthropic", system=block).cacheable
    assert _read("Anthropic", messages=[{"role": "user", "content": block}]).cacheable
    assert _read("Anthropic", tools=[{"name": "look", **mark}]).cacheable
    assert _read("Bedrock", system=[{"text": "x"}, {"cachePoint": {"type": "default"}}]).cacheable
    assert _read("Bedrock", toolConfig={"tools": SPECS}).cacheable


def test_ollama_streams_without_an_end_unless_told() -> None:
    body = json.dumps({"model": "m", "messages": USER, "options": {"num_predict": -1}}).encode()
    ask = BY_NAME["OllamaChat"].read(Parts(body))
    assert (ask.stream, ask.max_tokens) == (True, None)


def test_azure_by_the_v1_api() -> None:
    ask = BY_NAME["AzureOpenAI"].read(Parts(json.dumps({"model": "other", "messages": USER}).encode()))
    assert ask.model == "other"


@pytest.mark.parametrize(
    ("name", "fields", "says"),
    [
        ("OpenAICompletions", {"prompt": None}, "prompt"),
        ("OpenAICompletions", {"prompt": ["a", "b"]}, "prompt"),
        ("OpenAICompletions", {"n": 2}, "'n'"),
        ("OpenAICompletions", {"best_of": 2}, "'best_of'"),
        ("OpenAICompletions", {"suffix": 1}, "suffix"),
        ("OpenAIResponses", {"input": None}, "input"),
        ("OpenAIResponses", {"input": []}, "input"),
        ("OpenAIResponses", {"input": [{"role": "user", "content": 1}]}, "input"),
        ("OpenAIResponses", {"tools": [{"type": "function"}]}, r"tools\[0\].name"),
        ("OpenAIResponses", {"tool_choice": "required"}, "tool_choice"),
        ("OpenAIResponses", {"text": {"format": {"type": "json_schema"}}}, "schema"),
        ("AzureOpenAI", {"messages": []}, "messages"),
        ("Anthropic", {"max_tokens": None}, "max_tokens: Field required"),
        ("Anthropic", {"messages": None}, "messages: Field required"),
        ("Anthropic", {"messages": []}, "at least one message"),
        ("Anthropic", {"messages": [{"role": "system", "content": "x"}]}, "role"),
        ("Anthropic", {"messages": [{"role": "user"}]}, "content: Field required"),
        ("Anthropic", {"tools": [{}]}, "name: Field required"),
        ("Anthropic", {"tool_choice": {"type": "tool", "name": "no"}}, "tool_choice"),
        ("Anthropic", {"tool_choice": {"type": "must"}}, "tool_choice"),
        ("Anthropic", {"output_config": {"format": {"type": "json_schema"}}}, "schema: Field required"),
        ("Gemini", {"contents": []}, "contents is not specified"),
        ("Gemini", {"tools": [{"functionDeclarations": [{}]}]}, "name: is required"),
        ("Gemini", {"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}, "function_declarations"),
        ("Cohere", {"messages": []}, "messages"),
        ("Cohere", {"tool_choice": "REQUIRED"}, "tool_choice"),
        ("OllamaChat", {"messages": []}, "messages"),
        ("OllamaGenerate", {"prompt": ""}, "prompt"),
        ("Bedrock", {"messages": []}, "user message"),
        ("Bedrock", {"toolConfig": {"tools": [{"toolSpec": {}}]}}, "name"),
        ("Bedrock", {"toolConfig": {"toolChoice": {"any": {}}}}, "tool choice"),
        ("Bedrock", {"outputConfig": {"textFormat": {"type": "json_schema"}}}, "schema"),
    ],
)
def test_what_is_refused(name: str, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused, match=says) as raised:
        _read(name, **fields)
    assert raised.value.status == 400
    if name == "Bedrock":
        assert raised.value.headers == {"x-amzn-errortype": "ValidationException"}


def test_what_is_refused_beside_the_body() -> None:
    body = json.dumps(LEAST["Anthropic"]).encode()
    with pytest.raises(Refused, match="anthropic-version"):
        BY_NAME["Anthropic"].read(Parts(body))
    with pytest.raises(Refused, match="not found") as raised:
        BY_NAME["AzureOpenAI"].read(Parts(b"{}", {"deployment": "m"}))
    assert raised.value.status == 404
    with pytest.raises(Refused, match="alt=sse"):
        BY_NAME["Gemini"].read(Parts(b"{}", {"model": "m", "method": "streamGenerateContent"}))
    with pytest.raises(Refused, match="valid string"):
        BY_NAME["Mistral"].read(Parts(b'{"model": "m", "prompt": 1}'))


FIELDS = (
    st.sampled_from(["model", "messages", "contents", "input", "prompt", "suffix", "system", "instructions", "role"])
    | st.sampled_from(["content", "parts", "text", "type", "name", "systemInstruction", "stream", "max_tokens"])
    | st.sampled_from(["generationConfig", "inferenceConfig", "options", "num_predict", "thinking", "thinkingConfig"])
    | st.sampled_from(["tools", "tool_choice", "toolConfig", "toolChoice", "toolSpec", "inputSchema", "toolResult"])
    | st.sampled_from(["functionCallingConfig", "mode", "functionDeclarations", "function", "parameters", "format"])
    | st.sampled_from(["output_config", "outputConfig", "textFormat", "structure", "jsonSchema", "response_format"])
    | st.sampled_from(["json_schema", "schema", "reasoning", "effort", "cache_control", "include_thoughts"])
)
ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 20) | st.sampled_from(["", "m", "user", "json_schema", "function"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=25,
)


@pytest.mark.parametrize("name", BY_NAME)
@given(fields=st.dictionaries(FIELDS, ODD, max_size=8), junk=st.binary(max_size=20))
def test_any_body_is_read_or_refused(name: str, fields: dict[str, Any], junk: bytes) -> None:
    for body in (json.dumps(LEAST[name] | fields).encode(), json.dumps(fields).encode(), junk):
        with suppress(Refused):
            ask = BY_NAME[name].read(_parts(name, body))
            assert ask.prompt_tokens >= 1


# --- keys, errors, limits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "header", "value"),
    [
        ("OpenAICompletions", "authorization", "Bearer abc"),
        ("OpenAIResponses", "authorization", "Bearer abc"),
        ("AzureOpenAI", "api-key", "abc"),
        ("AzureOpenAI", "authorization", "Bearer abc"),
        ("Anthropic", "x-api-key", "abc"),
        ("Anthropic", "authorization", "Bearer abc"),
        ("Gemini", "x-goog-api-key", "abc"),
        ("Mistral", "authorization", "Bearer abc"),
        ("Cohere", "authorization", "bearer abc"),
        ("OllamaChat", "authorization", "Bearer abc"),
        ("Bedrock", "authorization", "Bearer abc"),
        ("Bedrock", "authorization", "AWS4-HMAC-SHA256 Credential=abc/20261122/us-east-1/bedrock/aws4_request, X=y"),
    ],
)
def test_keys(name: str, header: str, value: str) -> None:
    dialect = BY_NAME[name]
    assert dialect.key(Parts(b"", headers={header: value})) == "abc"
    assert dialect.key(Parts(b"", headers={"authorization": "Basic abc"})) == ""
    assert dialect.key(Parts(b"")) == ""
    assert BY_NAME["Gemini"].key(Parts(b"", query={"key": "abc"})) == "abc"


@pytest.mark.parametrize(
    ("name", "bad_key", "unknown"),
    [
        ("OpenAIResponses", 401, 404),
        ("AzureOpenAI", 401, 404),
        ("Anthropic", 401, 404),
        ("Gemini", 400, 404),
        ("Mistral", 401, 404),
        ("Cohere", 401, 404),
        ("OllamaChat", 401, 404),
        ("Bedrock", 403, 400),
    ],
)
def test_errors_are_short_and_in_shape(name: str, bad_key: int, unknown: int) -> None:
    dialect = BY_NAME[name]
    for refused, status in (
        (dialect.bad_key(), bad_key),
        (dialect.unknown_model("x" * 10_000), unknown),
        (dialect.too_large(10), 413),
    ):
        body = dialect.error(refused, "req-1")
        assert refused.status == status
        assert json.dumps(refused.message)[1:-1] in json.dumps(json.loads(body))
        assert len(body) < 900


def test_bodies_of_errors() -> None:
    def body(name: str, refused: Refused) -> Any:
        return json.loads(BY_NAME[name].error(refused, "req-1"))

    said = {"type": "authentication_error", "message": "invalid x-api-key"}
    assert body("Anthropic", BY_NAME["Anthropic"].bad_key()) == {"type": "error", "error": said, "request_id": "req-1"}
    assert body("Anthropic", Refused(500, "x"))["error"]["type"] == "api_error"
    assert body("Anthropic", Refused(400, "x"))["error"]["type"] == "invalid_request_error"
    assert body("Gemini", Refused(418, "x")) == {"error": {"code": 418, "message": "x", "status": "UNKNOWN"}}
    error = {"object": "error", "message": "x", "type": "rate_limit_error", "param": None, "code": None}
    assert body("Mistral", Refused(429, "x")) == error
    assert body("Mistral", Refused(400, "x"))["type"] == "invalid_request_error"
    assert body("Cohere", Refused(400, "x")) == {"id": "req-1", "message": "x"}
    assert body("OllamaChat", Refused(400, "x")) == {"error": "x"}
    assert body("Bedrock", Refused(400, "x")) == {"message": "x"}
    assert body("AzureOpenAI", Refused(400, "x"))["error"]["type"] == "invalid_request_error"
    assert body("AzureOpenAI", Refused(429, "x", code="429")) == {"error": {"code": "429", "message": "x"}}


ROOMS = (Room("requests", 60, 59, 1.0), Room("tokens", 5000, 7, 60.5))


@pytest.mark.parametrize(
    ("name", "headers"),
    [
        (
            "AzureOpenAI",
            {
                "x-ratelimit-limit-requests": "60",
                "x-ratelimit-remaining-requests": "59",
                "x-ratelimit-limit-tokens": "5000",
                "x-ratelimit-remaining-tokens": "7",
                "x-ratelimit-reset-tokens": "61",
            },
        ),
        (
            "Anthropic",
            {
                "anthropic-ratelimit-requests-limit": "60",
                "anthropic-ratelimit-requests-remaining": "59",
                "anthropic-ratelimit-requests-reset": "2025-10-09T08:53:22Z",
                "anthropic-ratelimit-tokens-limit": "5000",
                "anthropic-ratelimit-tokens-remaining": "7",
                "anthropic-ratelimit-tokens-reset": "2025-10-09T08:54:21Z",
            },
        ),
        ("Gemini", {}),
        (
            "Mistral",
            {
                "x-ratelimit-limit-requests-minute": "60",
                "x-ratelimit-remaining-requests-minute": "59",
                "x-ratelimit-limit-tokens-minute": "5000",
                "x-ratelimit-remaining-tokens-minute": "7",
            },
        ),
        (
            "Cohere",
            {
                "x-trial-endpoint-call-limit": "60",
                "x-trial-endpoint-call-remaining": "59",
                "x-ratelimit-reset": "1760000061",
            },
        ),
        ("OllamaChat", {}),
        ("Bedrock", {}),
    ],
)
def test_limits_in_the_headers(name: str, headers: dict[str, str]) -> None:
    assert BY_NAME[name].limit_headers(ROOMS, 1_760_000_000.2) == headers


@pytest.mark.parametrize(
    ("name", "kind", "says", "retry_after"),
    [
        ("AzureOpenAI", "requests", "exceeded call rate limit", "2"),
        ("AzureOpenAI", "tokens", "Please retry after 2 seconds.", "2"),
        ("Anthropic", "requests", "rate limit of 5,000 requests per minute", "2"),
        ("Anthropic", "tokens", "rate limit of 5,000 tokens per minute", "2"),
        ("Anthropic", "concurrency", "concurrent connections", "2"),
        ("Gemini", "requests", "Please retry in 1.25", None),
        ("Gemini", "concurrency", "Resource has been exhausted", None),
        ("Mistral", "tokens", "tokens per min", "2"),
        ("Cohere", "requests", "5000 API calls / minute", None),
        ("Cohere", "tokens", "5000 tokens per minute", None),
        ("Cohere", "concurrency", "concurrent", None),
        ("OllamaChat", "tokens", "5000 tokens per minute", None),
        ("OllamaChat", "concurrency", "server busy", None),
        ("Bedrock", "tokens", "Too many tokens", None),
        ("Bedrock", "concurrency", "Too many requests", None),
    ],
)
def test_a_limit_that_was_hit(name: str, kind: Any, says: str, retry_after: str | None) -> None:
    refused = BY_NAME[name].limited(Hit(kind, 5000, 4999, 2, 1.25))
    assert refused.status == (503 if (name, kind) == ("OllamaChat", "concurrency") else 429)
    assert says in refused.message
    assert refused.headers.get("retry-after") == retry_after


def test_a_request_that_is_larger_than_the_limit() -> None:
    """There is no waiting for it."""
    hit = Hit("tokens", 5000, 0, 6000, None)
    for name in ("AzureOpenAI", "Anthropic", "Mistral"):
        assert "retry-after" not in BY_NAME[name].limited(hit).headers
    details = BY_NAME["Gemini"].limited(hit).details
    assert [detail["@type"].rpartition(".")[2] for detail in details] == ["QuotaFailure"]


def test_pages_do_not_meet() -> None:
    paths = [path for dialect in DIALECTS for path in dialect.pages("m", 7)]
    assert len(paths) == len(set(paths))
    assert {"/v1/models", "/v1beta/models", "/mistral/v1/models", "/api/tags", "/api/version"} <= set(paths)


def test_what_the_older_apis_leave_out() -> None:
    """Reasoning and tools: the reader of requests lets none of them through."""
    reply = BY_NAME["OpenAICompletions"].reply(Start(_read("OpenAICompletions"), 1, 0))
    call: Any = None
    assert reply.reasoning("x") + reply.call_opening(0, call) + reply.call_piece(0, "x") == b""
    assert reply.call_closing(0, call) == b""


def test_a_completion_without_its_usage() -> None:
    start = Start(_read("OpenAICompletions"), 1, 0)
    finish, done = BY_NAME["OpenAICompletions"].reply(start).closing(End("length", 3))
    assert json.loads(finish[6:])["choices"] == [{"text": "", "index": 0, "logprobs": None, "finish_reason": "length"}]
    assert done == b"data: [DONE]\n\n"
