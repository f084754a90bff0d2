"""Loads and endpoints as scenarios describe them: steps, several endpoints, plain answers, no usage."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from harness import FAST, Cli, Scripted, Served, closes

pytestmark = pytest.mark.timeout(110)


def _endpoint(served: Served | Scripted, name: str = "m", **keys: Any) -> dict[str, Any]:
    return {"name": name, "api": "openai-chat", "base_url": served.url, "model": "m", **keys}


def _closed(**keys: Any) -> list[dict[str, Any]]:
    return [{"shape": "closed", **keys}]


@pytest.mark.long
@pytest.mark.parametrize("workers", ["1", "2"])
def test_steps(cli: Cli, endpoint: Served, workers: str) -> None:
    load = _closed(concurrency=[1, 4], duration="900ms", warmup="300ms")
    cli.scenario(endpoints=[_endpoint(endpoint)], load=load)
    done = cli.run("run", "mine.yaml", "--json", "--workers", workers)
    assert done.code == 0, done.err
    summary = done.summary
    top, steps = summary["endpoints"]["m"], summary["steps"]
    assert [step["concurrency"] for step in steps] == [1, 4]
    assert (top["metrics"], top["throughput"], top["by_task"]) == (None, None, None)
    for index, step in enumerate(steps):
        block = step["endpoints"]["m"]
        assert block["metrics"]["ttft_ms"]["n"] == block["outcomes"]["ok"] > 0
        lasted = step["phase_s"][1] - step["phase_s"][0]
        assert lasted == pytest.approx(0.9)
        slots = cli.rows("SELECT count(DISTINCT slot) FROM samples WHERE step = ?", index)
        assert slots == [(step["concurrency"],)]
    assert steps[1]["phase_s"][0] >= steps[0]["phase_s"][1] + 0.3, "the second step has a warm-up of its own"
    measured = sum(step["endpoints"]["m"]["outcomes"]["ok"] for step in steps)
    warmup = summary["validity"]["warmup"]["outcomes"]
    assert top["outcomes"]["ok"] == measured == summary["validity"]["planned"]
    assert warmup["ok"] > 0
    assert measured + sum(warmup.values()) == endpoint.stats()["requests"]
    assert closes(summary)
    by_phase = dict(cli.rows("SELECT phase, count(*) FROM samples GROUP BY 1"))
    assert by_phase == {"measure": measured, "warmup": sum(warmup.values())}
    report = cli.run("report")
    assert report.code == 0
    assert report.out.count("closed 1") >= 1
    assert report.out.count("closed 4") >= 1


@pytest.mark.long
@pytest.mark.parametrize("workers", ["1", "2"])
def test_each_prompt_several_times(cli: Cli, endpoint: Served, workers: str) -> None:
    """Whoever sends them; each with a nonce of its own, so that no cache has seen it."""
    cli.prompts()
    load = _closed(concurrency=3, requests=48)
    cli.scenario(endpoints=[_endpoint(endpoint)], load=load, repeat=2)
    done = cli.run("run", "mine.yaml", "--json", "--repeat", "8", "--workers", workers)
    assert done.code == 0, done.err
    sent = dict(cli.rows("SELECT prompt_id, count(*) FROM samples GROUP BY 1"))
    assert sum(sent.values()) == 48
    assert all(count % 8 == 0 for count in sent.values()), "with replacement: a prompt may be drawn twice"
    assert cli.rows("SELECT count(DISTINCT nonce) FROM samples") == [(48,)]
    found = done.summary["endpoints"]["m"]["repeats"]
    assert (found["repeat"], found["metrics"]["e2e"]["n"]) == (8, 48)
    assert found["metrics"]["e2e"]["prompts"] == len(sent)
    assert "each prompt repeated: 8 times" in cli.run("report").out


@pytest.mark.long
def test_steps_by_requests_have_no_warm_up(cli: Cli, endpoint: Served) -> None:
    cli.scenario(endpoints=[_endpoint(endpoint)], load=_closed(concurrency=[2, 3], requests=[7, 11]))
    done = cli.run("run", "mine.yaml", "--json")
    assert done.code == 0, done.err
    steps = done.summary["steps"]
    assert [(step["concurrency"], step["requests"]) for step in steps] == [(2, 7), (2, 11), (3, 7), (3, 11)]
    assert [step["endpoints"]["m"]["outcomes"]["ok"] for step in steps] == [7, 11, 7, 11]
    assert sum(done.summary["validity"]["warmup"]["outcomes"].values()) == 0
    assert endpoint.stats()["requests"] == 36
    nonces = [nonce for (nonce,) in cli.rows("SELECT nonce FROM samples")]
    assert len(set(nonces)) == 36


@pytest.mark.long
def test_whichever_ends_first(cli: Cli, start_sim: Callable[..., Served]) -> None:
    served = start_sim(replace(FAST, itl_ns=20_000_000))
    endpoints = [_endpoint(served)]
    cli.scenario(endpoints=endpoints, load=_closed(concurrency=2, requests=5, duration="100s"))
    first = cli.run("run", "mine.yaml", "--json").summary
    cli.scenario(endpoints=endpoints, load=_closed(concurrency=2, requests=100_000, duration="600ms"))
    second = cli.run("run", "mine.yaml", "--json").summary
    assert first["validity"]["planned"] == first["validity"]["ok"] == 5
    assert 2 <= second["validity"]["planned"] < 100_000
    assert second["validity"]["ok"] == second["validity"]["planned"], "what was in flight is awaited"
    assert second["run"]["state"] == "complete"
    assert closes(second)


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.long)])
@pytest.mark.long
def test_several_endpoints_side_by_side(
    cli: Cli, endpoint: Served, start_sim: Callable[..., Served], workers: str
) -> None:
    other = start_sim(replace(FAST, ttft_ns=80_000_000))
    endpoints = [_endpoint(endpoint, "one", provider="p"), _endpoint(other, "two", provider="p")]
    cli.scenario(endpoints=endpoints, load=_closed(concurrency=3, requests=20))
    done = cli.run("run", "mine.yaml", "--json", "--workers", workers)
    assert done.code == 0, done.err
    summary = done.summary
    one, two = summary["endpoints"]["one"], summary["endpoints"]["two"]
    assert (one["outcomes"]["ok"], two["outcomes"]["ok"]) == (20, 20), "requests are per endpoint"
    assert (endpoint.stats()["requests"], other.stats()["requests"]) == (20, 20)
    assert one["metrics"]["ttft_ms"]["p50"] < two["metrics"]["ttft_ms"]["p50"]
    assert list(summary["providers"]) == ["p"]
    assert closes(summary)
    pairs = cli.rows("SELECT endpoint, seq, prompt_id FROM samples")
    sent = {name: {(seq, prompt) for endpoint_, seq, prompt in pairs if endpoint_ == name} for name in ("one", "two")}
    assert sent["one"] == sent["two"], "measured with the same prompts"
    slots = {name: len(cli.rows("SELECT DISTINCT slot FROM samples WHERE endpoint = ?", name)) for name in sent}
    assert slots == {"one": 3, "two": 3}, "concurrency is per endpoint"


@pytest.mark.long
def test_plain_answers_have_no_time_to_first_token(cli: Cli, endpoint: Served) -> None:
    cli.scenario(endpoints=[_endpoint(endpoint, stream=False)], load=_closed(concurrency=2, requests=12))
    done = cli.run("run", "mine.yaml", "--json")
    assert done.code == 0, done.err
    block = done.summary["endpoints"]["m"]
    assert block["outcomes"]["ok"] == 12
    for name in ("ttft_ms", "time_to_first_text_ms", "tpot_ms", "inter_chunk_ms"):
        metric = block["metrics"][name]
        assert metric is None or metric["n"] == 0, name
    assert block["metrics"]["e2e_ms"]["n"] == 12
    assert block["tokens"]["output"] == 12 * 8
    assert cli.rows("SELECT count(*) FROM samples WHERE first_token_ns IS NOT NULL") == [(0,)]
    assert cli.run("report").code == 0


@pytest.mark.long
def test_without_usage_the_tokenizer_counts(cli: Cli, endpoint: Served) -> None:
    """The simulated endpoint's pieces are not the tokenizer's tokens: only the source and the order are certain."""
    cli.scenario(endpoints=[_endpoint(endpoint, usage="off")], load=_closed(concurrency=2, requests=12))
    done = cli.run("run", "mine.yaml", "--json")
    assert done.code == 0, done.err
    block = done.summary["endpoints"]["m"]
    assert block["tokens"]["source"] == "tokenizer"
    assert block["tokens"]["output"] > 0
    assert block["metrics"]["tpot_ms"]["n"] == 12
    rows = cli.rows("SELECT token_source, output_tokens FROM samples")
    assert all(source == "tokenizer" and tokens > 0 for source, tokens in rows)


@pytest.mark.long
def test_body_warm_cache_and_token_field_reach_the_endpoint(cli: Cli, start_scripted: Callable[..., Scripted]) -> None:
    answer = 'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    server = start_scripted(200, answer, "text/event-stream")
    settings = {"body": {"temperature": 0, "stop": None}, "max_tokens_field": "max_completion_tokens", "usage": "off"}
    cli.scenario(endpoints=[_endpoint(server, **settings)], load=_closed(concurrency=2, requests=6), cache="warm")
    assert cli.run("run", "mine.yaml", "--json").code == 0
    bodies = [json.loads(body) for _, body in server.requests]
    assert len(bodies) == 6
    for body in bodies:
        assert (body["temperature"], body["stop"], body["max_completion_tokens"], body["stream"]) == (0, None, 8, True)
        assert not {"max_tokens", "stream_options"} & set(body)
        assert not body["messages"][-1]["content"].startswith("[")
    assert cli.rows("SELECT DISTINCT nonce FROM samples") == [("",)]


@pytest.mark.long
def test_think_time_lowers_the_load(cli: Cli, endpoint: Served) -> None:
    """Requests of one slot are at least the think time apart."""
    load = _closed(concurrency=2, requests=8, think="60ms")
    cli.scenario(endpoints=[_endpoint(endpoint)], load=load)
    done = cli.run("run", "mine.yaml", "--json")
    assert done.code == 0, done.err
    for slot in (0, 1):
        times = cli.rows("SELECT due_ns, done_ns FROM samples WHERE slot = ? ORDER BY seq", slot)
        assert all(after[0] - before[1] >= 55_000_000 for before, after in pairwise(times))
