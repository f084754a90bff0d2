"""Answers graded and refusals waited for, through the whole command: worker, store, summary, and a recovery."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Cli, Scripted, closes
from msgspec.structs import replace

from latbench.model.load import Closed, Step
from latbench.model.request import Message, Prompt
from latbench.model.run import RunRecord, StepRecord
from latbench.model.sample import Sample
from latbench.model.spool import Spool, SpoolHeader
from latbench.recovery import recover
from latbench.store.sqlite import Store

pytestmark = pytest.mark.timeout(110)

MODES = ["text", "prompted", "json_schema", "tool"]
FINDING = {"symbol": "total", "words": ["overflow", "wraps"], "file": "src/sum.go"}
GOOD = json.dumps({"summary": "In sum.go, total overflows.", "code": ""})
SLOW = {"error": {"message": "Rate limit reached. Please try again in 20ms.", "code": "rate_limit_exceeded"}}


def scenario(cli: Cli, url: str, **keys: Any) -> None:
    cli.write("graded.jsonl", json.dumps({"id": "a", "prompt": "Review x.", "expect": {"finding": FINDING}}) + "\n")
    endpoint = {"name": "e", "provider": "p", "api": "openai-chat", "base_url": url, "model": "m", "stream": False}
    load = [{"shape": "closed", "concurrency": 2, "requests": 16, "warmup": "0s"}]
    cli.scenario(**({"endpoints": [endpoint], "load": load, "prompts": {"path": "graded.jsonl"}} | keys))


def answer(text: str) -> str:
    """A completion, whichever way it was asked for."""
    counts = {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], "usage": counts})


@pytest.mark.parametrize(
    ("text", "fits", "workers"),
    [
        pytest.param(f"```json\n{GOOD}\n```", True, "1", id="fenced"),
        pytest.param(GOOD, True, "2", id="good", marks=pytest.mark.long),
        pytest.param("It is fine.", False, "1", id="bad", marks=pytest.mark.long),
    ],
)
def test_every_arm_is_graded_in_its_own_way(
    cli: Cli, start_scripted: Callable[..., Scripted], text: str, fits: bool, workers: str
) -> None:
    server = start_scripted(200, answer(text))
    scenario(cli, server.url, output={"mode": MODES, "max_tokens": 32})
    done = cli.run("run", "mine.yaml", "--json", "--workers", workers)
    assert done.code == 0, done.err
    assert closes(done.summary)
    rows = cli.rows("SELECT seq, output_mode, valid, met, reference_tokens FROM samples ORDER BY seq")
    assert len(rows) == len(server.requests) == 16
    for mode in MODES:
        graded = {(valid, met) for _, found, valid, met, _ in rows if found == mode}
        assert graded == {(None, int(fits)) if mode == "text" else (int(fits), None)}, mode
    assert all(count for *_, count in rows)
    for pair in range(4):
        assert sorted(mode for seq, mode, *_ in rows if seq // 4 == pair) == sorted(MODES)


@pytest.mark.long
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_budget_of_requests_is_one_of_attempts(
    cli: Cli, start_scripted: Callable[..., Scripted], workers: str
) -> None:
    server = start_scripted(429, json.dumps(SLOW))
    scenario(cli, server.url, rate_limits="respect", budget={"requests": 13})
    done = cli.run("run", "mine.yaml", "--no-abort", "--json", "--workers", workers)
    assert done.code == 96, done.err
    assert len(server.requests) == 13
    assert closes(done.summary)
    begun, tries = cli.rows(
        "SELECT (SELECT count(*) FROM samples), (SELECT count(*) FROM attempts)", store="latbench.db"
    )[0]
    assert begun + tries == 13
    assert done.summary["endpoints"]["e"]["outcomes"]["rate_limited"] == begun


RUN = RunRecord(
    "r1",
    "name",
    "scenario",
    "0" * 64,
    {"seed": 7},
    "2026-01-01T00:00:00Z",
    1,
    7,
    endpoints={"e": {"provider": "p", "api": "openai-chat", "model": "m"}},
    host={"name": "elsewhere", "pid": "999999999", "pid_started": "1"},
    steps=[StepRecord(0, "closed", 1, None, None, 0, 0, 10**9, Step(Closed(1), requests=4))],
)


@pytest.mark.parametrize("own", [True, False])
def test_what_was_only_spooled_is_graded_by_a_recovery(own: bool, tmp_path: Path) -> None:
    """By the scenario's own schema, or by that of every scenario without one."""
    schema = {"type": "object", "required": ["n"]}
    record = replace(RUN, scenario={"seed": 7, "output": {"schema": schema} if own else {}})
    texts = ['{"n": 1}', GOOD, "no JSON", None]
    spool = Spool(tmp_path / "spools" / "r1", SpoolHeader("r1", "1.0", "w"))
    for seq, text in enumerate(texts):
        spool.add(
            Sample(
                "e", 0, seq, "p1", "measure", "ok", due_ns=seq, sent_ns=seq, done_ns=9, output_mode="tool", text=text
            )
        )
    spool.close(delete=False)
    with Store(tmp_path / "latbench.db") as store:
        store.begin_run(record, [Prompt("p1", "review", "go", (Message("user", "x"),), 12, "ab" * 32)])
        recover(store, store.load_run("r1"), [tmp_path / "spools"])
        found = {sample.seq: (sample.valid, sample.text) for sample in store.samples("r1")}
    assert found == {0: (own, None), 1: (not own, None), 2: (False, None), 3: (False, None)}
