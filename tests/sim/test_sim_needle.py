"""Needle trials at the endpoint: in every API, with what its usage says of them."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness import FAST, Cli, Served
from sim_process import QUICK, Sim, running
from test_sim_trials import ABSENT, LINE, RIGHT, WRONG, line_of, prompt

from latbench.providers.registry import APIS
from latbench.simulated import BASE_PATHS

pytestmark = pytest.mark.timeout(110)


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    path = tmp_path / "answers.jsonl"
    path.write_text(line_of("0123456789abcdef"))
    return path


@pytest.fixture(scope="module")
def knowing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sim]:
    path = tmp_path_factory.mktemp("needle") / "answers.jsonl"
    path.write_text(line_of("0123456789abcdef"))
    with running(replace(QUICK, needle=str(path))) as sim:
        yield sim


@pytest.fixture
def needle_sim(knowing: Sim) -> Sim:
    """The module's endpoint that knows an answer, with nothing counted yet."""
    knowing.reset()
    return knowing


def ask(sim: Sim, content: bytes, **headers: str) -> tuple[str, dict[str, Any]]:
    """The reply, and the usage."""
    body = {"model": "m", "messages": [{"role": "user", "content": content.decode()}], "max_tokens": 200}
    status, _, found = sim.chat(body, **headers)
    assert status == 200, found
    answer = json.loads(found)
    return answer["choices"][0]["message"]["content"], answer["usage"]


def test_models_are_chosen_by_request(needle_sim: Sim) -> None:
    sim = needle_sim
    deep, middle = prompt(0.8), prompt(0.5)
    sent = -(-len(deep) // 4)
    assert ask(sim, deep)[0] == RIGHT
    assert ask(sim, prompt(0.8, "# nothing"))[0] == ABSENT
    assert ask(sim, middle, **{"x-sim-needle-model": "blind"})[0] == ABSENT
    assert ask(sim, middle, **{"x-sim-needle-model": "blind", "x-sim-needle-blind": "80-90%"})[0] == RIGHT
    assert ask(sim, deep, **{"x-sim-needle-accuracy": "0"})[0] in WRONG
    assert ask(sim, deep, **{"x-sim-needle-model": "bad-format"})[0].count("load_row") == 1
    cut = {"x-sim-needle-model": "head-truncated", "x-sim-needle-keep": "1000"}
    assert ask(sim, deep, **cut)[1]["prompt_tokens"] == 1000
    assert ask(sim, deep, **cut, **{"x-sim-needle-silent": "true"})[1]["prompt_tokens"] == sent
    usage = ask(sim, deep, **{"x-sim-needle-model": "prefix-cache"})[1]
    assert (usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]) == (sent, 1536)
    assert sim.stats()["needle"] == {"right": 5, "absent": 2, "wrong": 1, "bad_format": 1}
    assert sim.stats()["cached_tokens"] == 1536


def test_other_requests_get_other_answers(needle_sim: Sim) -> None:
    assert "ANSWER" not in ask(needle_sim, b"Write a function that adds.")[0]
    assert needle_sim.stats()["needle"] == {}


def test_an_answer_is_cut_at_its_limit(needle_sim: Sim) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": prompt(0.5).decode()}], "max_tokens": 5}
    choice = json.loads(needle_sim.chat(body, **{"x-sim-reasoning-tokens": "3"})[2])["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (RIGHT[:8], "length")


def test_a_prefix_cache_answers_sooner(needle_sim: Sim) -> None:
    """What is left to be read takes its time: some 200 tokens at 4000 a second 0.05 s, some 2000 half a second."""
    how = {"x-sim-needle-model": "prefix-cache", "x-sim-prefill-rate": "4000", "x-sim-ttft": "0ms"}
    body = {"model": "m", "max_tokens": 1}
    took_s = []
    for depth in (0.02, 0.9):
        began_s = time.monotonic()
        needle_sim.chat({**body, "messages": [{"role": "user", "content": prompt(depth).decode()}]}, **how)
        took_s.append(time.monotonic() - began_s)
    assert took_s[0] > 0.45
    assert took_s[1] < took_s[0]


def test_spoilt_answers_are_said(start: Callable[..., Sim], answers: Path) -> None:
    sim = start(needle=str(answers))
    answers.write_text("{}\n")
    status, _, body = sim.chat({"model": "m", "messages": [{"role": "user", "content": "# build unknown-nonce"}]})
    assert status == 400
    assert b"line 1: no answer to a needle trial" in body


@pytest.mark.parametrize(("text", "says"), [(None, "cannot read missing.jsonl"), ("{}\n", "missing.jsonl, line 1: no")])
def test_a_file_of_answers_has_to_be_one(cli: Cli, text: str | None, says: str) -> None:
    if text is not None:
        cli.write("missing.jsonl", text)
    done = cli.run("sim", "--needle", "missing.jsonl")
    assert done.code == 2
    assert done.err.startswith(f"latbench sim: --needle: {says}")
    assert done.err.count("\n") == 1


@pytest.mark.long
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
def test_every_api(cli: Cli, start_sim: Callable[..., Served], answers: Path, stream: bool) -> None:
    served = start_sim(replace(FAST, needle=str(answers), needle_model="head-truncated", needle_keep=1000))
    text = prompt(0.7).decode()
    cli.write("trial.jsonl", json.dumps({"id": "t", "task": "search", "language": "python", "prompt": text}) + "\n")
    endpoints = [
        {
            "name": api,
            "api": api,
            "base_url": f"http://127.0.0.1:{served.port}{BASE_PATHS.get(api, '/v1')}",
            "model": "m",
            "api_key_env": "SIM_TEST_KEY",
            "stream": stream,
        }
        for api in APIS
    ]
    load = [{"shape": "closed", "concurrency": 1, "requests": 1}]
    cli.scenario(endpoints=endpoints, load=load, prompts={"path": "trial.jsonl"}, output={"max_tokens": 200})
    done = cli.run("run", "mine.yaml", "--json", env={"SIM_TEST_KEY": "any"})
    assert done.code == 0, done.err
    rows = cli.rows("SELECT endpoint, outcome, input_tokens, text_chars FROM samples")
    assert sorted(rows) == sorted((api, "ok", 1000, len(RIGHT)) for api in APIS)
    assert served.stats()["needle"] == {"right": len(APIS)}
    assert LINE in text
