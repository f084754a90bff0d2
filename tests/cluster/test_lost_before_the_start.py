"""A worker that is lost before the first request, and one that is not there for the next step."""

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from harness import FAST, Cli, Served, closes, wait_until

pytestmark = pytest.mark.timeout(110)


def engines(cli: Cli) -> list[int]:
    """The engine processes of a command's family."""
    found = []
    for pid in cli.family():
        with contextlib.suppress(OSError):
            if b"latbench.engine.process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


@pytest.mark.parametrize("load", [["--concurrency", "2", "--requests", "4"], ["--rate", "2/s", "--requests", "4"]])
@pytest.mark.long
def test_the_only_engine_dies_while_connections_are_opened(cli: Cli, load: list[str]) -> None:
    """An endpoint that takes connections and never shakes hands."""
    cli.prompts()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/v1"
        run = cli.start("run", "--url", url, "--model", "m", "--prompts", "own.jsonl", *load, "--json")
        with silent.accept()[0]:
            (engine,) = engines(cli)
            os.kill(engine, signal.SIGKILL)
            done = run.wait(30.0)
    assert (done.code, done.out) == (2, ""), done.err
    assert done.said.startswith("latbench: worker local: the engine process has ended; look at its log, ")
    assert done.said.count("\n") == 1
    assert not (cli.cwd / "runs").exists()
    assert cli.rows("SELECT count(*) FROM runs") == [(0,)]
    wait_until(lambda: not cli.family(), 10.0)


@pytest.mark.long
@pytest.mark.parametrize("load", [{"shape": "closed", "concurrency": 4}, {"shape": "poisson", "rate": "20/s"}])
def test_an_engine_that_dies_in_the_second_of_three_steps(
    cli: Cli, start_sim: Callable[..., Served], load: dict[str, object]
) -> None:
    """The other worker takes over the whole of what follows: every planned request has its fate."""
    endpoint = start_sim(replace(FAST, itl_ns=40_000_000))
    steps = [load | {"requests": 20}, load | {"requests": 40}, load | {"requests": 40}]
    one = {"name": "a", "api": "openai-chat", "base_url": endpoint.url, "model": "m"}
    cli.scenario(endpoints=[one], load=steps)
    run = cli.start("run", "mine.yaml", "--workers", "2", "--json")
    wait_until(lambda: cli.rows("SELECT 1 FROM samples WHERE step = 1 LIMIT 1"))
    os.kill(engines(cli)[0], signal.SIGKILL)
    done = run.wait()
    assert (done.code, "Traceback" in done.err) == (97, False), done.err
    assert closes(done.summary)
    assert "worker_lost" in [reason["code"] for reason in done.summary["validity"]["reasons"]]
    counted = dict(cli.rows("SELECT step, count(*) FROM samples GROUP BY step"))
    assert (counted[0], counted[2]) == (20, 40)
    assert cli.rows("SELECT count(DISTINCT worker), sum(outcome <> 'ok') FROM samples WHERE step = 2") == [(1, 0)]
