"""A real engine, and its own figures beside ours. It announces keep-alive and closes the connection after every stream.

Its `/metrics` count tokens and no requests. Of a prompt it counts apart what it had in its cache.
"""

from pathlib import Path
from typing import Any

import pytest
from harness import OF_THE_MACHINE, Cli, closes
from llama_kit import Llama, serving

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

APIS = ("openai-chat", "openai-completions", "openai-responses", "anthropic")
KINDS = {"bug", "smell", "style"}
SCHEMA = {
    "type": "object",
    "properties": {"sure": {"type": "boolean"}, "kind": {"enum": sorted(KINDS)}},
    "required": ["sure", "kind"],
    "additionalProperties": False,
}
MODES = ("text", "prompted", "json_schema", "tool")


def at(llama: Llama, api: str, **more: Any) -> dict[str, Any]:
    """An endpoint of a scenario."""
    return {"name": api, "api": api, "base_url": f"{llama.url}/v1", "model": "tiny"} | more


@pytest.mark.parametrize("workers", ["1", "2"])
def test_every_request_is_ok(cli: Cli, engine_python: Path, tmp_path: Path, workers: str) -> None:
    cli.prompts()
    with serving(engine_python, tmp_path) as llama:
        flags = ["--concurrency", "4", "--requests", "40", "--max-tokens", "24", "--prompts", "own.jsonl"]
        done = cli.run("run", "--url", f"{llama.url}/v1", "--model", "tiny", *flags, "--workers", workers, "--json")
    assert done.code == 0, done.err
    summary = done.summary
    assert summary["validity"]["ok"] == summary["validity"]["planned"] == 40
    assert closes(summary)
    # It says that it took tokens from its cache, though every prompt begins with a nonce: a run must say so, too.
    reasons = [one for one in summary["validity"]["reasons"] if one["code"] not in OF_THE_MACHINE]
    assert {one["code"] for one in reasons} <= {"cached_in_cold_run"}, reasons
    assert summary["validity"]["reconnects"] is not None
    block = summary["endpoints"]["tiny"]
    assert block["tokens"]["source"] == "usage"
    assert 0 < block["tokens"]["output"] <= 40 * 24
    assert block["metrics"]["ttft_ms"]["n"] + block["empty"] == 40
    new = cli.rows("SELECT count(*) FROM samples WHERE new_connection")[0][0]
    assert new + summary["validity"]["reconnects"] > 4, "it closes after each stream: most requests open a connection"


@pytest.mark.parametrize("api", APIS)
def test_its_own_counters_are_our_tokens(cli: Cli, llama: Llama, api: str) -> None:
    """Warm-up included, streamed and plain side by side."""
    before = llama.counted()
    endpoints = [at(llama, api, name="streamed"), at(llama, api, name="plain", stream=False)]
    load = [{"shape": "closed", "concurrency": 2, "duration": "2s", "warmup": "1s"}]
    path = cli.scenario(endpoints=endpoints, load=load, output={"max_tokens": 24}, cache="warm")
    done = cli.run("run", path, "--json")
    assert done.code == 0, done.err
    assert closes(done.summary)
    assert cli.rows("SELECT DISTINCT outcome, token_source FROM samples") == [("ok", "usage")]
    assert {phase for (phase,) in cli.rows("SELECT DISTINCT phase FROM samples")} == {"warmup", "measure"}
    ours = cli.rows(
        "SELECT sum(input_tokens) - sum(cached_tokens), sum(cached_tokens), sum(output_tokens) FROM samples"
    )

    def growth() -> tuple[int, ...]:
        now = llama.counted()
        return tuple(now[key] - before[key] for key in ("fresh", "cached", "output"))

    assert growth() == ours[0]
    assert min(ours[0]) > 0

    blocks = done.summary["endpoints"]
    measured = cli.rows("SELECT endpoint, sum(output_tokens) FROM samples WHERE phase = 'measure' GROUP BY endpoint")
    assert dict(measured) == {name: block["tokens"]["output"] for name, block in blocks.items()}
    assert blocks["streamed"]["metrics"]["ttft_ms"]["n"] > 0
    assert blocks["plain"]["metrics"]["ttft_ms"] is None or blocks["plain"]["metrics"]["ttft_ms"]["n"] == 0
    for block in blocks.values():
        assert set(block["reported_models"]) == {"tiny"}


def test_an_enforced_schema_makes_every_answer_valid(cli: Cli, llama: Llama) -> None:
    """The model is random: without a grammar no answer follows any schema, and with one each does.

    With this template the server ignores tools: answers are text, and that is no valid answer.
    """
    path = cli.scenario(
        endpoints=[at(llama, "openai-chat")],
        load=[{"shape": "closed", "concurrency": 4, "requests": 40 * len(MODES)}],
        output={"max_tokens": 300, "mode": list(MODES), "schema": SCHEMA},
    )
    done = cli.run("run", path, "--json")
    assert done.code == 0, done.err
    block = done.summary["endpoints"]["openai-chat"]
    assert block["outcomes"]["ok"] == 40 * len(MODES)
    arms = block["modes"]["arms"]
    assert list(arms) == list(MODES)
    valid = {mode: arm["valid"] and (arm["valid"]["valid"], arm["valid"]["n"]) for mode, arm in arms.items()}
    assert valid == {"text": None, "prompted": (0, 40), "json_schema": (40, 40), "tool": (0, 40)}
    assert arms["json_schema"]["valid"]["share"] == 1.0

    sent = cli.rows("SELECT output_mode, prompt_id, count(*) FROM samples GROUP BY output_mode, prompt_id")
    drawn = {mode: {(prompt, n) for name, prompt, n in sent if name == mode} for mode in MODES}
    assert all(prompts == drawn["text"] for prompts in drawn.values()), "the same prompts in each mode"
    ends = cli.rows("SELECT DISTINCT finish_reason FROM samples WHERE output_mode = 'json_schema'")
    assert ends == [("stop",)], "the grammar ends the answer"


@pytest.mark.parametrize("api", ["openai-responses", "anthropic"])
def test_a_schema_that_the_server_ignores_is_no_success(cli: Cli, llama: Llama, api: str) -> None:
    """It takes the field on these paths and does nothing with it."""
    path = cli.scenario(
        endpoints=[at(llama, api)],
        load=[{"shape": "closed", "concurrency": 4, "requests": 20}],
        output={"max_tokens": 60, "mode": "json_schema", "schema": SCHEMA},
    )
    done = cli.run("run", path, "--json")
    assert done.code == 0, done.err
    block = done.summary["endpoints"][api]
    assert block["outcomes"]["ok"] == block["valid"]["n"] == 20
    assert (block["valid"]["valid"], block["valid"]["share"]) == (0, 0.0)


@pytest.mark.parametrize("api", ["openai-chat", "openai-responses"])
def test_a_base_url_without_the_version_works_where_the_server_has_the_path(cli: Cli, llama: Llama, api: str) -> None:
    path = cli.scenario(
        endpoints=[at(llama, api, base_url=f"{llama.url}/")],
        load=[{"shape": "closed", "concurrency": 2, "requests": 10}],
    )
    done = cli.run("run", path, "--json")
    assert done.code == 0, done.err
    assert done.summary["endpoints"][api]["outcomes"]["ok"] == 10


def test_another_protocol_at_the_path_is_told(cli: Cli, llama: Llama) -> None:
    """Without the version, `/completions` is llama.cpp's own API: streamed JSON with a text in it, and not OpenAI's."""
    path = cli.scenario(
        endpoints=[at(llama, "openai-completions", base_url=llama.url)],
        load=[{"shape": "closed", "concurrency": 1, "requests": 5}],
    )
    done = cli.run("run", path, "--json")
    assert done.code == 97, done.err
    assert done.summary["endpoints"]["openai-completions"]["outcomes"]["malformed"] == 5
    said = cli.rows("SELECT DISTINCT status, error_message FROM samples")
    assert all(status == 200 and message.startswith("not a chunk of a completion: ") for status, message in said)


def test_a_path_that_is_not_there_stops_the_endpoint(cli: Cli, llama: Llama) -> None:
    """Without the version it has no `/messages`."""
    path = cli.scenario(
        endpoints=[at(llama, "anthropic", base_url=llama.url)],
        load=[{"shape": "closed", "concurrency": 1, "requests": 50}],
    )
    done = cli.run("run", path)
    assert done.code == 96, done.err
    assert "model or path unknown (HTTP 404) 3 times in a row" in done.out
    assert cli.rows("SELECT DISTINCT outcome, status, error_message FROM samples") == [
        ("invalid_request", 404, "File Not Found")
    ]
