"""A job that takes a while to hand over: nothing may be written into the middle of it."""

import json

import pytest
from harness import Cli, Served, closes

pytestmark = pytest.mark.timeout(110)


@pytest.mark.long
@pytest.mark.parametrize("workers", ["1", "2"])
def test_two_hundred_thousand_prompts(cli: Cli, endpoint: Served, workers: str) -> None:
    lines = (json.dumps({"prompt": f"hello {number}"}) + "\n" for number in range(200_000))
    (cli.cwd / "many.jsonl").write_text("".join(lines))
    endpoints = [{"name": "m", "api": "openai-chat", "base_url": endpoint.url, "model": "m"}]
    load = [{"shape": "closed", "concurrency": 4, "duration": "6s", "warmup": "0s"}]
    cli.scenario(endpoints=endpoints, load=load, prompts={"path": "many.jsonl"}, output={"max_tokens": 4})
    done = cli.run("run", "mine.yaml", "--workers", workers, "--json")
    assert (done.code, done.said) == (0, "")
    assert closes(done.summary)
    assert done.trusted, done.summary["validity"]["reasons"]
    from_s, to_s = done.summary["steps"][0]["phase_s"]
    assert to_s - from_s == pytest.approx(6.0)
    last_ns = cli.rows("SELECT max(due_ns) FROM samples")[0][0]
    assert last_ns / 1e9 > to_s - 1.0, "the load went on to the end"
