"""Tool loops over real processes: what the summary says is what the simulated endpoint counted and the delays imply."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from harness import FAST, Cli, Served, closes, simulated

from latbench.providers.registry import DIALECTS
from latbench.simulated import BASE_PATHS

pytestmark = pytest.mark.timeout(110)

CALLS, ROUNDS, LOOPS = 3, 2, 4
SLOW_S = 0.06
TOOLS = [
    {"name": "look_up", "delay": "60ms", "result": "found"},
    {"name": "run_tests", "delay": "60ms", "description": "Runs the tests.", "parameters": {"type": "object"}},
]
APIS = tuple(api for api, dialect in DIALECTS.items() if dialect.tools)
KEY = {"SIM_TEST_KEY": "right"}


@pytest.fixture
def sim() -> Iterator[Served]:
    """Calls three tools in each of two turns, then answers."""
    with simulated(replace(FAST, p_tool=1.0, tool_calls=CALLS, tool_rounds=ROUNDS)) as served:
        yield served


def endpoints(served: Served, *apis: str, **keys: Any) -> list[dict[str, Any]]:
    return [
        {
            "name": api,
            "api": api,
            "base_url": f"http://127.0.0.1:{served.port}{BASE_PATHS.get(api, '/v1')}",
            "model": "m",
            "api_key_env": "SIM_TEST_KEY",
            **keys,
        }
        for api in apis
    ]


def loop(**keys: Any) -> dict[str, Any]:
    return {"shape": "tool_loop", "rate": "50/s", "requests": LOOPS, **keys}


def run(cli: Cli, to: list[dict[str, Any]], load: dict[str, Any], *flags: str, **keys: Any) -> dict[str, Any]:
    cli.scenario(endpoints=to, load=load, **({"tools": TOOLS, "output": {"max_tokens": 64}} | keys))
    done = cli.run("run", "mine.yaml", "--json", *flags, env=KEY)
    assert done.code == 0, done.err
    assert closes(done.summary), done.summary["validity"]
    return done.summary


def test_every_api_loops_and_both_count_the_same(cli: Cli, sim: Served) -> None:
    summary = run(cli, endpoints(sim, *APIS), loop(execution=["parallel", "sequential"]))
    for step, waited_s in zip(summary["steps"], (SLOW_S, CALLS * SLOW_S), strict=True):
        for api, block in step["endpoints"].items():
            found = block["tool_loop"]
            assert {name: count for name, count in found["outcomes"].items() if count} == {"ok": LOOPS}, api
            assert (found["round_trips"]["min"], found["round_trips"]["max"]) == (ROUNDS + 1, ROUNDS + 1)
            assert (found["calls"], found["calls_per_turn"]["mean"]) == (LOOPS * ROUNDS * CALLS, CALLS)
            assert found["tools_s"]["min"] == pytest.approx(ROUNDS * waited_s)
            assert found["total_s"]["min"] >= found["model_s"]["min"] + ROUNDS * waited_s
            model_s, share = found["model_s"]["mean"], found["share"]
            assert found["critical_path_s"]["mean"] == pytest.approx(model_s + ROUNDS * SLOW_S)
            assert found["sequential_s"]["mean"] == pytest.approx(model_s + ROUNDS * CALLS * SLOW_S)
            assert found["speed_up"] > 1
            assert sum(share.values()) == pytest.approx(1)
            assert min(share.values()) >= 0
            assert list(block["by_turn"]) == ["0", "1", "2"]
    stats = sim.stats()
    rows = cli.rows("SELECT count(*), sum(tool_calls), sum(output_tokens), sum(input_tokens) FROM samples")
    assert rows == [(stats["requests"], stats["tool_calls"], stats["tokens_out"], stats["prompt_tokens"])]
    assert stats["requests"] == stats["ok"] == 2 * len(APIS) * LOOPS * (ROUNDS + 1)
    early = """
        SELECT count(*) FROM samples a JOIN samples b ON b.endpoint = a.endpoint AND b.step = a.step
        AND b.seq = a.seq + 1 AND b.seq / 8 = a.seq / 8
        WHERE b.sent_ns - a.done_ns < CASE a.step WHEN 0 THEN a.tools_parallel_ns ELSE a.tools_sequential_ns END"""
    assert cli.rows(early) == [(0,)], "no round trip begins before its tools are done"
    text = " ".join(cli.run("report").out.split())
    assert "tool loops in step 0: 4, answered 100.00 % (ok 4); 3.00 round trips each, 3.00 calls a turn" in text
    assert "calls executed in sequence" in text


@pytest.mark.long
def test_plain_answers_and_loops_that_find_no_end(cli: Cli, sim: Served) -> None:
    apis = ("openai-chat", "anthropic", "gemini")
    summary = run(cli, endpoints(sim, *apis, stream=False), loop(max_rounds=ROUNDS))
    for block in summary["endpoints"].values():
        assert block["tool_loop"]["outcomes"]["max_rounds"] == LOOPS
        assert block["outcomes"]["ok"] == LOOPS * ROUNDS
    assert sim.stats()["requests"] == len(apis) * LOOPS * ROUNDS


@pytest.mark.long
def test_a_limit_that_one_call_fits_into_ends_loops(cli: Cli, sim: Served) -> None:
    summary = run(cli, endpoints(sim, "openai-chat"), loop(), output={"max_tokens": 1}, tools=TOOLS[1:])
    assert sim.stats()["requests"] == sim.stats()["tool_calls"] == LOOPS
    assert summary["endpoints"]["openai-chat"]["tool_loop"]["outcomes"]["length"] == LOOPS


@pytest.mark.long
def test_a_budget_is_never_overspent_by_loops(cli: Cli, sim: Served) -> None:
    to = endpoints(sim, "openai-chat")
    cli.scenario(endpoints=to, load=loop(requests=20), tools=TOOLS, output={"max_tokens": 64}, budget={"requests": 31})
    done = cli.run("run", "mine.yaml", "--json", env=KEY)
    assert done.code == 96, done.err
    found = done.summary["endpoints"]["openai-chat"]
    assert sim.stats()["requests"] == 31 == found["outcomes"]["ok"]
    assert closes(done.summary)
    loops = found["tool_loop"]
    assert loops["planned"] == sum(loops["outcomes"].values())
    assert sum(loops["outcomes"][name] for name in ("ok", "cancelled", "dropped")) == loops["planned"]


@pytest.mark.long
def test_workers_share_loops_without_changing_them(cli: Cli, sim: Served) -> None:
    """The same sequence numbers, prompts and moments, whoever sends them."""
    seen = []
    for workers in ("1", "3"):
        run(cli, endpoints(sim, "openai-chat", "ollama"), loop(requests=30), "--workers", workers)
        ((name, started),) = cli.rows(
            "SELECT id, json_extract(record, '$.steps[0].started_ns') FROM runs ORDER BY rowid DESC LIMIT 1"
        )
        wanted = "endpoint, seq, prompt_id, tool_calls, due_ns, worker"
        rows = cli.rows(f"SELECT {wanted} FROM samples WHERE run_id = ? ORDER BY endpoint, seq", name)
        assert len({row[-1] for row in rows}) == int(workers)
        first = {row[:2]: row[4] - started for row in rows if row[1] % 8 == 0}
        seen.append(([row[:4] for row in rows], first))
    assert seen[0] == seen[1]


# --- before the start -------------------------------------------------------------------------------------------------


def test_what_cannot_be_is_refused_with_its_line(cli: Cli) -> None:
    url = "http://127.0.0.1:9/v1"
    to = [{"name": "old", "api": "openai-completions", "base_url": url, "model": "m"}]
    cli.scenario(endpoints=to, load=loop(), tools=TOOLS, output={"max_tokens": 8, "mode": "json_schema"})
    done = cli.here("run", "mine.yaml")
    assert done.code == 2
    assert "endpoints[0].api: openai-completions has no tools, which tool_loop needs" in done.err
    assert "output.mode: only text where the load has a tool_loop" in done.err


def test_a_flag_may_not_smuggle_in_an_api_without_tools(cli: Cli) -> None:
    to = [{"name": "a", "api": "openai-chat", "base_url": "http://127.0.0.1:9/v1", "model": "m"}]
    cli.scenario(endpoints=to, load=loop(), tools=TOOLS)
    done = cli.here("run", "mine.yaml", "--api", "openai-completions")
    assert (done.code, done.out) == (2, "")
    assert "--api: openai-completions has no tools" in done.err


@pytest.mark.long
def test_another_load_by_flag_leaves_the_tools_alone(cli: Cli, sim: Served) -> None:
    cli.scenario(endpoints=endpoints(sim, "openai-chat"), load=loop(), tools=TOOLS)
    done = cli.run("run", "mine.yaml", "--json", "--concurrency", "2", "--requests", "4", env=KEY)
    assert done.code == 0, done.err
    assert done.summary["endpoints"]["openai-chat"]["tool_loop"] is None
    (kept,) = cli.cwd.glob("runs/*/scenario.yaml")
    kept.rename(cli.cwd / "again.yaml")
    again = cli.run("plan", "again.yaml")
    assert again.code == 0, again.err


def test_plan_reckons_with_all_round_trips(cli: Cli) -> None:
    to = [{"name": "a", "api": "openai-chat", "base_url": "http://127.0.0.1:9/v1", "model": "m"}]
    cli.scenario(endpoints=to, load=loop(max_rounds=5), tools=TOOLS)
    done = cli.here("plan", "mine.yaml")
    assert done.code == 0, done.err
    assert "requests: 20 in 4 tool loops, at most" in done.out
    assert "percentiles: depend on how many requests there will be" in done.out
