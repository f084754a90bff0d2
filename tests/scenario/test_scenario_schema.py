"""The grammar and the rules of a scenario file, without a file."""

from typing import Any

import pytest
from pydantic import ValidationError

from latbench.model.load import Closed, Step
from latbench.scenario.grammar import format_key
from latbench.scenario.schema import (
    LEADS,
    BudgetSettings,
    Scenario,
    keys_of,
    problems_of,
)

SECOND = 1_000_000_000


def scenario(**changes: Any) -> dict[str, Any]:
    endpoint = {"name": "a", "api": "openai-chat", "base_url": "sim", "model": "m"}
    load = {"shape": "closed", "concurrency": 1, "requests": 5}
    return {"name": "x", "endpoints": [endpoint], "prompts": {"pack": "p"}, "load": load} | changes


def endpoint(**changes: Any) -> dict[str, Any]:
    return scenario(endpoints=[scenario()["endpoints"][0] | changes])


LOOP = {"shape": "tool_loop", "rate": "1/s", "requests": 1}
TOOL = {"name": "look_up", "delay": "200ms"}
THINKING = {"type": "enabled", "budget_tokens": 1024}


def looping(**changes: Any) -> dict[str, Any]:
    """A scenario with a tool loop; changes of `api` and `body` are the endpoint's."""
    to = {key: changes.pop(key) for key in ("api", "body") if key in changes}
    return endpoint(**to) | {"load": LOOP, "tools": [TOOL]} | changes


def problems(data: object) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        Scenario.model_validate(data)
    return {format_key(path): message for path, message in problems_of(caught.value, Scenario)}


def test_defaults() -> None:
    made = Scenario.model_validate(scenario())
    assert (made.version, made.seed, made.cache, made.drain) == ("1", 0, "cold", 60 * SECOND)
    assert made.output.max_tokens == 256
    assert made.timeouts.first_output == 120 * SECOND
    assert made.endpoints[0].api_key_env == ()
    assert made.steps() == [Step(Closed(1), 5)]
    assert (made.endpoints_order, made.slo, made.lead, made.budget) == (None, {}, (), None)


def test_one_variable_or_several_hold_keys() -> None:
    for written, names in (("A", ("A",)), (["A", "B"], ("A", "B")), (None, ())):
        assert Scenario.model_validate(endpoint(api_key_env=written)).endpoints[0].api_key_env == names


@pytest.mark.parametrize("url", ["sim", "http://localhost:8000/v1", "https://host/v1/", "http://[::1]:80"])
def test_urls(url: str) -> None:
    assert Scenario.model_validate(endpoint(base_url=url)).endpoints[0].base_url == url.rstrip("/")


@pytest.mark.parametrize("proxy", [None, "env", "http://proxy:3128"])
def test_proxies(proxy: str | None) -> None:
    assert Scenario.model_validate(endpoint(proxy=proxy)).endpoints[0].proxy == proxy


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("host:8000/v1", "starts with http://"),
        ("ftp://host", "starts with http://"),
        ("http://", "starts with http://"),
        ("http://host:port", "starts with http://"),
        ("http://[::1", "starts with http://"),
        ("http://a b", "starts with http://"),
        ("https://me:s3cret@host", "must not hold credentials"),
        ("https://host/v1?api-key=s3cret", "remove what follows"),
        (5, "must be text; put it in quotes"),
        (None, "is empty"),
    ],
)
def test_what_is_not_a_url(url: object, message: str) -> None:
    for key in ("base_url", "proxy") if url is not None else ("base_url",):
        found = problems(endpoint(**{key: url}))
        assert message in found[f"endpoints[0].{key}"]
        assert "s3cret" not in str(found)


@pytest.mark.parametrize("name", ["Authorization", "api-key", "X-API-Key", "token", "X-Auth-Token", "Cookie"])
def test_a_secret_header_comes_from_the_environment(name: str) -> None:
    found = problems(endpoint(headers={name: "s3cret", "X-Team": "bench"}))
    assert found == {f"endpoints[0].headers.{name}": "a secret must not stand in the file; use {env: NAME}"}
    made = Scenario.model_validate(endpoint(headers={name: {"env": "NAME"}, "X-Team": "bench"}))
    assert made.endpoints[0].headers["X-Team"] == "bench"


@pytest.mark.parametrize("value", [3, {"env": 3}, {"env": "s3 cret"}, {"environment": "A"}, "a\nb", None])
def test_what_is_not_a_header(value: object) -> None:
    found = problems(endpoint(headers={"X-Team": value}))
    assert list(found) == ["endpoints[0].headers.X-Team"]
    assert "s3 cret" not in str(found)
    assert "not a header's name" in problems(endpoint(headers={"X Team": "a"}))["endpoints[0].headers.X Team"]
    framing = problems(endpoint(headers={"Content-Length": "3"}))
    assert "frames the request" in framing["endpoints[0].headers.Content-Length"]


@pytest.mark.parametrize(
    "key", ["model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens"]
)
def test_the_body_holds_nothing_of_ours(key: str) -> None:
    found = problems(endpoint(body={key: 1, "temperature": 0}))
    assert found[f"endpoints[0].body.{key}"].startswith("latbench sets this field; use") or key == "messages"
    assert list(found) == [f"endpoints[0].body.{key}"]


@pytest.mark.parametrize(
    ("api", "body", "key", "instead"),
    [
        ("gemini", {"generationConfig": {"maxOutputTokens": 65536}}, "generationConfig.maxOutputTokens", "use output."),
        ("gemini", {"generationConfig": {"candidateCount": 8}}, "generationConfig.candidateCount", "a request asks"),
        ("gemini", {"generation_config": {"max_output_tokens": 9}}, "generation_config", "use generationConfig"),
        ("gemini", {"generationConfig": None}, "generationConfig", "give a mapping"),
        ("bedrock", {"inferenceConfig": {"maxTokens": 65536}}, "inferenceConfig.maxTokens", "use output.max_tokens"),
        ("bedrock", {"inferenceConfig": []}, "inferenceConfig", "give a mapping"),
        ("ollama", {"options": {"num_predict": -1}}, "options.num_predict", "use output.max_tokens"),
        ("openai-chat", {"n": 8}, "n", "a request asks for one answer"),
        ("openai-completions", {"best_of": 8}, "best_of", "a request asks for one answer"),
        ("openai-chat", {"n_predict": -1}, "n_predict", "use output.max_tokens"),
        ("azure-openai", {"n": 8}, "n", "a request asks for one answer"),
        ("mistral", {"n": 8}, "n", "a request asks for one answer"),
    ],
)
def test_the_body_asks_for_no_more_than_the_budget_counts(
    api: str, body: dict[str, object], key: str, instead: str
) -> None:
    found = problems(endpoint(api=api, body=body))
    assert list(found) == [f"endpoints[0].body.{key}"]
    assert found[f"endpoints[0].body.{key}"].startswith(f"latbench sets this field; {instead}")


@pytest.mark.parametrize(
    ("api", "body"),
    [
        ("gemini", {"generationConfig": {"temperature": 0}}),
        ("bedrock", {"inferenceConfig": {"topP": 1}}),
        ("ollama", {"options": {"seed": 1}, "num_predict": 1}),
    ],
)
def test_the_body_may_stand_beside_ours(api: str, body: dict[str, object]) -> None:
    assert Scenario.model_validate(endpoint(api=api, body=body)).endpoints[0].body == body


@pytest.mark.parametrize(
    ("data", "key", "message"),
    [
        (scenario(zzz={}), "zzz", "unknown key; there are: name, "),
        (scenario(endpoints_order="alternating"), "endpoints_order", "must be together or {alternate: {slice: 20s}}"),
        (scenario(endpoints_order=None), "endpoints_order", "is empty"),
        (scenario(endpoints_order={"alternate": "20s"}), "endpoints_order.alternate", "must be a mapping"),
        (scenario(endpoints_order={"alternate": {"slice": 20}}), "endpoints_order.alternate.slice", "write 20s"),
        (scenario(endpoints_order={"alternate": {"slice": "0s"}}), "endpoints_order.alternate.slice", "longer than 0s"),
        (scenario(endpoints_order={"alternate": {"slic": "1s"}}), "endpoints_order.alternate.slic", 'mean "slice"?'),
        (scenario(endpoints_order={"slice": "20s"}), "endpoints_order.alternate", "missing; add it"),
        (scenario(slo=None), "slo", "is empty"),
        (scenario(slo="800ms"), "slo", "must be a mapping of `metric: limit`"),
        (scenario(slo={"ttfd": "800ms"}), "slo.ttfd", 'no metric; did you mean "ttft"?'),
        (scenario(slo={"fluidity": 0.9}), "slo.fluidity", "needs limits on ttft and tpot beside it: the pace of"),
        (scenario(repeat=0), "repeat", "must be at least 1"),
        (
            scenario(repeat=2, load=[{"shape": "sessions", "turns": 2, "rate": "1/s", "duration": "30s"}]),
            "repeat",
            "only 1 where the load has sessions, tool loops or a trace",
        ),
        (scenario(slo={"ttft": 800}), "slo.ttft", "a bare number; write 800s"),
        (scenario(slo={"ttft": None}), "slo.ttft", "is empty"),
        (scenario(slo={"ttft": "0s"}), "slo.ttft", "must be more than 0"),
        (scenario(slo={"e2e_tokens_per_s": "20/s"}), "slo.e2e_tokens_per_s", "must be a number of tokens/s"),
        (scenario(slo={"e2e_tokens_per_s": True}), "slo.e2e_tokens_per_s", "must be a number of tokens/s"),
        (scenario(slo={"e2e_tokens_per_s": -1}), "slo.e2e_tokens_per_s", "must be more than 0"),
        (scenario(slo={"e2e_tokens_per_s": float("inf")}), "slo.e2e_tokens_per_s", "finite"),
        (scenario(lead=["tftt"]), "lead[0]", 'nothing that can lead a summary; did you mean "ttft"?'),
        (scenario(lead=[]), "lead", "an empty list"),
        (scenario(lead=[5]), "lead[0]", "must be text"),
        (scenario(budget={}), "budget", "needs usd, requests or tokens"),
        (scenario(budget={"usd": None}), "budget", "needs usd, requests or tokens"),
        (scenario(budget={"usd": 0}), "budget.usd", "must be more than 0"),
        (scenario(budget={"usd": "5"}), "budget.usd", "must be a number"),
        (scenario(budget={"requests": 0}), "budget.requests", "must be at least 1"),
        (scenario(budget={"tokens": "3 M"}), "budget.tokens", "not a size"),
        (scenario(budget={"euro": 5}), "budget.euro", "unknown key; there are: usd, requests, tokens"),
        (scenario(laod=[]), "laod", 'unknown key; did you mean "load"?'),
        (scenario(timeouts={"conect": "1s"}), "timeouts.conect", 'did you mean "connect"?'),
        (endpoint(modle="m"), "endpoints[0].modle", 'did you mean "model"?'),
        (endpoint(limits={"rmp": 1}), "endpoints[0].limits.rmp", 'did you mean "rpm"?'),
        (endpoint(price={"input": 1}), "endpoints[0].price.output", "missing; add it"),
        (endpoint(price={"input": -1, "output": 1}), "endpoints[0].price.input", "must be at least 0"),
        (endpoint(price={"input": "1", "output": 1}), "endpoints[0].price.input", "must be a number"),
        (endpoint(price={"input": float("inf"), "output": 1}), "endpoints[0].price.input", "must be a finite number"),
        (endpoint(api="openai_chat"), "endpoints[0].api", 'did you mean "openai-chat"?'),
        (endpoint(stream="yes"), "endpoints[0].stream", "must be true or false"),
        (endpoint(usage="of"), "endpoints[0].usage", 'must be auto or off; did you mean "off"?'),
        (endpoint(api_key_env="s3-cret"), "endpoints[0].api_key_env[0]", "the name of an environment variable"),
        (endpoint(api_key_env=[]), "endpoints[0].api_key_env", "an empty list"),
        (endpoint(model="a\nb"), "endpoints[0].model", "can be printed"),
        (endpoint(body=[]), "endpoints[0].body", "must be a mapping"),
        (scenario(endpoints=[]), "endpoints", "an empty list; give it at least one item"),
        (scenario(endpoints={"a": 1}), "endpoints", "must be a list"),
        (scenario(endpoints=["a"]), "endpoints[0]", "must be a mapping"),
        (scenario(endpoints=scenario()["endpoints"] * 2), "endpoints[1].name", "endpoints[0] has the same name"),
        (scenario(name="a/b"), "name", "only letters"),
        (scenario(version=1.1), "version", "must be text; put it in quotes"),
        (scenario(seed=2**63), "seed", "must be less than 9223372036854775808"),
        (scenario(seed=True), "seed", "must be a whole number"),
        (scenario(prompts={}), "prompts", "needs either pack or path"),
        (scenario(prompts={"pack": "a", "path": "b"}), "prompts", "needs either pack or path"),
        (scenario(prompts={"pack": "a", "tasks": {"search": 0}}), "prompts.tasks", "every weight is 0"),
        (scenario(prompts={"pack": "a", "tasks": {"serch": 1}}), "prompts.tasks.serch", 'did you mean "search"?'),
        (scenario(output={"max_tokens": 0}), "output.max_tokens", "must be at least 1"),
        (scenario(output={"max_tokens": "9000000000000M"}), "output.max_tokens", "must be at most"),
        (scenario(load=LOOP), "load", "tool_loop needs tools: [{name: look_up, delay: 200ms}]"),
        (scenario(tools=[TOOL]), "tools", "only the load shape tool_loop calls tools"),
        (looping(tools=[{"name": "f"}]), "tools[0].delay", "missing; add it"),
        (looping(tools=[TOOL, TOOL]), "tools[1].name", "tools[0] has the same name"),
        (looping(tools=[TOOL | {"name": "look up"}]), "tools[0].name", "may hold only letters, digits, `_` and `-`"),
        (looping(tools=[TOOL | {"name": "x" * 65}]), "tools[0].name", "at most 64"),
        (looping(tools=[TOOL | {"delay": 200}]), "tools[0].delay", "a bare number"),
        (looping(tools=[TOOL | {"result": ""}]), "tools[0].result", ""),
        (looping(tools=[TOOL | {"parameters": {"type": "string"}}]), "tools[0].parameters", "with `type: object`"),
        (looping(tools=[TOOL | {"dealy": "1s"}]), "tools[0].dealy", 'did you mean "delay"?'),
        (looping(output={"mode": "tool"}), "output.mode", "only text where the load has a tool_loop"),
        (looping(api="openai-completions"), "endpoints[0].api", "openai-completions has no tools"),
        (looping(body={"tools": []}), "endpoints[0].body.tools", "tool_loop sets this field; use tools"),
        (
            looping(api="bedrock", body={"toolConfig": {"tools": []}}),
            "endpoints[0].body.toolConfig.tools",
            "tool_loop sets this field",
        ),
        (looping(api="anthropic", body={"thinking": THINKING}), "endpoints[0].body", "wants its thinking back"),
        (
            looping(api="bedrock", body={"additionalModelRequestFields": {"thinking": THINKING}}),
            "endpoints[0].body",
            "wants its thinking back",
        ),
        (scenario(output={"mode": "json"}), "output.mode[0]", "must be text or prompted or json_schema or tool"),
        (scenario(output={"mode": []}), "output.mode", "an empty list"),
        (scenario(output={"mode": ["tool", "tool"]}), "output.mode", "names a mode twice"),
        (scenario(output={"schema": {"type": "object"}}), "output.schema", "only modes other than text"),
        (scenario(output={"mode": "tool", "schema": {"type": "array"}}), "output.schema", "with `type: object`"),
        (
            scenario(output={"mode": "tool", "schema": {"type": "object", "required": "a"}}),
            "output.schema",
            "not a JSON Schema at required: 'a' is not of type 'array'",
        ),
        (scenario(rate_limits="obey"), "rate_limits", "must be observe or respect"),
        (scenario(demand={"tokens_per_request": 5}), "demand.rpm", "missing"),
        (scenario(cache="hot"), "cache", "must be cold or warm"),
        (scenario(timeouts={"total": "0s"}), "timeouts.total", "must be longer than 0s"),
        (scenario(drain=60), "drain", "a bare number; write 60s"),
        (scenario(drain=None), "drain", "is empty; give it a value or remove the key"),
        (scenario(load=[]), "load", "an empty list"),
        (scenario(load="closed"), "load[0]", "must be a mapping"),
        (scenario(load={"shape": "closed", "concurrency": 1}), "load[0]", "needs duration or requests"),
        (scenario(load={"shape": "closed", "concurrency": None, "requests": 1}), "load[0].concurrency", "is empty"),
        (
            scenario(load={"shape": "closed", "concurrency": [1, 0], "requests": 1}),
            "load[0].concurrency[1]",
            "at least 1",
        ),
        (scenario(load={"shape": "posson", "rate": "1/s"}), "load[0].shape[0]", 'did you mean "poisson"?'),
        (scenario(load={"shape": "closed", "frm": 1}), "load[0].frm", 'unknown key; did you mean "from"?'),
        (scenario(labels={"region": 1}), "labels.region", "must be text; put it in quotes"),
        ([], "", "must be a mapping"),
    ],
)
def test_mistakes_name_the_key_and_what_to_do(data: object, key: str, message: str) -> None:
    found = problems(data)
    assert message in found[key]
    assert "pydantic" not in str(found)


def test_all_mistakes_are_found_at_once() -> None:
    found = problems(endpoint(modle="m", usage=5) | {"drain": 3})
    assert set(found) == {"endpoints[0].modle", "endpoints[0].usage", "drain"}


@pytest.mark.parametrize("body", [{"thinking": {"type": "disabled"}}, {"thinking": None}, {}])
def test_a_tool_loop_with_claude_who_does_not_think(body: dict[str, Any]) -> None:
    assert Scenario.model_validate(looping(api="anthropic", body=body)).loops


def test_a_tool_has_all_but_its_name_and_delay() -> None:
    (tool,) = Scenario.model_validate(looping()).tools
    assert (tool.name, tool.delay, tool.result) == ("look_up", 200_000_000, "Done.")
    assert tool.parameters["required"] == ["query"]


def test_the_order_of_endpoints() -> None:
    assert Scenario.model_validate(scenario(endpoints_order="together")).endpoints_order is None
    order = Scenario.model_validate(scenario(endpoints_order={"alternate": {"slice": "20s"}})).endpoints_order
    assert order is not None
    assert order.alternate.slice == 20 * SECOND


def test_limits_leads_and_budgets() -> None:
    made = Scenario.model_validate(
        scenario(
            slo={"ttft": "800ms", "inter_chunk": "0.5ms", "e2e_tokens_per_s": 20},
            lead="ttft",
            budget={"usd": 2.5, "tokens": "3M"},
        )
    )
    assert made.slo == {"ttft": 800_000_000, "inter_chunk": 500_000, "e2e_tokens_per_s": 20}
    assert made.lead == ("ttft",)
    assert made.budget == BudgetSettings(usd=2.5, requests=None, tokens=3_000_000)
    assert Scenario.model_validate(scenario(lead=list(LEADS))).lead == LEADS
    assert {"inter_chunk", "total_time", "requests_per_min", "usd_per_1k_tokens"} < set(LEADS)


def test_keys_are_named_as_they_are_written() -> None:
    assert keys_of(BudgetSettings) == ["usd", "requests", "tokens"]
