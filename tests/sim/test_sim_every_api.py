"""`latbench run` measures the simulated endpoint by every API there is, and both count the same."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from harness import FAST, Cli, Served, closes

from latbench.providers.registry import APIS, DIALECTS
from latbench.simulated import BASE_PATHS

pytestmark = pytest.mark.timeout(110)

THINKING = {"type": "enabled", "budget_tokens": 1024}
BODIES = {"anthropic": {"thinking": THINKING}, "bedrock": {"additionalModelRequestFields": {"thinking": THINKING}}}
KEY = {"SIM_TEST_KEY": "right"}
REQUESTS, MOST = 4, 9
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
    "required": ["city", "days"],
    "additionalProperties": False,
}

StartSim = Callable[..., Served]


def _endpoints(served: Served, apis: Iterable[str], **keys: Any) -> list[dict[str, Any]]:
    return [
        {
            "name": api,
            "api": api,
            "base_url": f"http://127.0.0.1:{served.port}{BASE_PATHS.get(api, '/v1')}",
            "model": "m",
            "api_key_env": "SIM_TEST_KEY",
            "body": BODIES.get(api, {}),
            **keys,
        }
        for api in apis
    ]


def _closed(requests: int) -> list[dict[str, Any]]:
    return [{"shape": "closed", "concurrency": 2, "requests": requests}]


def _run(cli: Cli, served: Served, apis: Iterable[str], stream: bool, **keys: Any) -> None:
    """One run over all these APIs; every request is answered."""
    endpoints = _endpoints(served, apis, stream=stream, headers={"x-sim-reasoning-tokens": "3"})
    cli.scenario(endpoints=endpoints, load=_closed(REQUESTS), **{"output": {"max_tokens": MOST}, **keys})
    done = cli.run("run", "mine.yaml", "--json", env=KEY)
    assert done.code == 0, done.err
    for api, block in done.summary["endpoints"].items():
        assert block["outcomes"]["ok"] == sum(block["outcomes"].values()) > 0, api
    assert closes(done.summary)


def _same_counts(cli: Cli, served: Served) -> None:
    """Over all APIs. Tokens of reasoning are not told apart by each of them."""
    stats = served.stats()
    counted = "SELECT count(*), sum(input_tokens), sum(output_tokens) FROM samples WHERE token_source = 'usage'"
    assert cli.rows(counted) == [(stats["requests"], stats["prompt_tokens"], stats["tokens_out"])]
    assert stats["requests"] == stats["ok"]


def test_the_simulated_endpoint_of_a_run_is_asked_in_its_api(cli: Cli) -> None:
    keys = {"base_url": "sim", "model": "m", "api_key_env": "SIM_TEST_KEY"}
    cli.scenario(endpoints=[{"name": api, "api": api, **keys} for api in APIS], load=_closed(2))
    done = cli.run("run", "mine.yaml", "--json", env={"SIM_TEST_KEY": "any"})
    assert {api: block["outcomes"]["ok"] for api, block in done.summary["endpoints"].items()} == dict.fromkeys(APIS, 2)


@pytest.mark.parametrize("stream", [True, pytest.param(False, marks=pytest.mark.long)], ids=["streamed", "plain"])
@pytest.mark.long
def test_text(cli: Cli, start_sim: StartSim, stream: bool) -> None:
    served = start_sim(replace(FAST, api_key_env="SIM_TEST_KEY"), env=KEY)
    _run(cli, served, list(APIS), stream)
    _same_counts(cli, served)
    rows = cli.rows("SELECT endpoint, output_tokens, finish_reason, chunks, reasoning_tokens, text_chars FROM samples")
    assert len(rows) == REQUESTS * len(APIS)
    thoughts = {"openai-completions": 0}  # the API knows none
    for api, output, finish, chunks, reasoning, chars in rows:
        hidden = 3 if api == "gemini" else 0  # counted, and not shown unless it is asked for
        assert (output, finish, chunks) == (MOST, "length", MOST - hidden if stream else 0), api
        assert reasoning in (thoughts.get(api, 3), None), api
        assert chars > 0, api
    told = {api for api, *_, reasoning, _ in rows if reasoning == 3}
    assert told == {"openai-chat", "openai-responses", "azure-openai", "anthropic", "gemini"}


@pytest.mark.parametrize("mode", ["json_schema", "tool"])
@pytest.mark.parametrize("stream", [True, pytest.param(False, marks=pytest.mark.long)], ids=["streamed", "plain"])
@pytest.mark.long
def test_modes(cli: Cli, start_sim: StartSim, mode: str, stream: bool) -> None:
    served = start_sim(replace(FAST, api_key_env="SIM_TEST_KEY"), env=KEY)
    apis = [api for api in APIS if mode in DIALECTS[api].modes]
    assert apis
    _run(cli, served, apis, stream, output={"max_tokens": 200, "mode": mode, "schema": SCHEMA})
    _same_counts(cli, served)
    finish = "tool" if mode == "tool" else "stop"
    assert cli.rows("SELECT DISTINCT output_mode, finish_reason FROM samples") == [(mode, finish)]
    assert served.stats()["tool_calls"] == (REQUESTS * len(apis) if mode == "tool" else 0)
    assert cli.rows("SELECT DISTINCT valid FROM samples") == [(1,)]


@pytest.mark.long
def test_gaps(cli: Cli, start_sim: StartSim) -> None:
    served = start_sim(replace(FAST, api_key_env="SIM_TEST_KEY"), env=KEY)
    gap = {"id": "gap", "task": "completion", "language": "python", "prefix": "def add(a, b):\n", "suffix": "\n# end"}
    cli.write("gaps.jsonl", json.dumps(gap) + "\n")
    _run(cli, served, [api for api in APIS if DIALECTS[api].fills], True, prompts={"path": "gaps.jsonl"})
    _same_counts(cli, served)


@pytest.mark.long
def test_limits_are_understood(cli: Cli, start_sim: StartSim) -> None:
    """What each API answers over its limit is read as that, with the wait where it tells one."""
    served = start_sim(replace(FAST, rpm=1, api_key_env="SIM_TEST_KEY"), env=KEY)
    cli.scenario(endpoints=_endpoints(served, APIS), load=_closed(3))
    cli.run("run", "mine.yaml", "--json", env=KEY)
    rows = cli.rows("SELECT endpoint, kind, wait_ns > 0 FROM samples WHERE outcome = 'rate_limited'")
    assert len(rows) == 3 * len(APIS) - 1
    assert served.stats()["limited"] == {"requests": len(rows)}
    assert {(api, kind) for api, kind, _ in rows if kind != "requests"} == set()
    assert {api for api, _, waits in rows if waits} == set(APIS) - {"ollama", "bedrock"}


@pytest.mark.long
@pytest.mark.parametrize("fault", ["p_503", "p_529"])
def test_overload_is_understood(cli: Cli, start_sim: StartSim, fault: str) -> None:
    served = start_sim(replace(FAST, **{fault: 1.0}, api_key_env="SIM_TEST_KEY"), env=KEY)
    cli.scenario(endpoints=_endpoints(served, APIS), load=_closed(2))
    cli.run("run", "mine.yaml", "--json", env=KEY)
    rows = cli.rows("SELECT outcome, count(*) FROM samples GROUP BY 1")
    assert rows == [("overloaded", 2 * len(APIS))]


@pytest.mark.long
def test_errors_inside_a_stream_are_understood(cli: Cli, start_sim: StartSim) -> None:
    served = start_sim(replace(FAST, p_error_event=1.0, api_key_env="SIM_TEST_KEY"), env=KEY)
    cli.scenario(endpoints=_endpoints(served, APIS), load=_closed(2))
    cli.run("run", "mine.yaml", "--json", env=KEY)
    rows = cli.rows("SELECT endpoint, outcome, count(*) FROM samples GROUP BY 1, 2")
    assert len(rows) == len(APIS)
    words_only = {"cohere": "stream_error"}  # its errors inside a stream have a text, and no name
    assert {api: outcome for api, outcome, _ in rows} == {api: words_only.get(api, "overloaded") for api in APIS}


@pytest.mark.long
@pytest.mark.parametrize(("fault", "outcome"), [("p_cut", "truncated"), ("p_garbage", "malformed")])
def test_streams_that_break_are_understood(cli: Cli, start_sim: StartSim, fault: str, outcome: str) -> None:
    served = start_sim(replace(FAST, **{fault: 1.0}, api_key_env="SIM_TEST_KEY"), env=KEY)
    cli.scenario(endpoints=_endpoints(served, APIS), load=_closed(2))
    cli.run("run", "mine.yaml", "--json", env=KEY)
    rows = cli.rows("SELECT endpoint, outcome FROM samples")
    assert len(rows) == 2 * len(APIS)
    assert {(api, found) for api, found in rows if found != outcome} == set()


@pytest.mark.long
def test_the_wrong_key_is_understood(cli: Cli, start_sim: StartSim) -> None:
    served = start_sim(replace(FAST, api_key_env="SIM_TEST_KEY"), env=KEY)
    cli.scenario(endpoints=_endpoints(served, APIS), load=_closed(2))
    cli.run("run", "mine.yaml", "--json", env={"SIM_TEST_KEY": "wrong"})
    rows = cli.rows("SELECT DISTINCT endpoint, outcome FROM samples")
    assert {api: outcome for api, outcome in rows if outcome != "auth_error"} == {"gemini": "invalid_request"}
