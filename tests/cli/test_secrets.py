"""Keys and header values from the environment reach the endpoint and nothing else."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Cli, Scripted, wait_until

pytestmark = pytest.mark.timeout(110)

KEYS = ("sk-Qm7vK2xT9pLw4RzB8nYc", "sk-Wd3hJ6fS1gMq5VtE0uXa")
TEAM = "team-Zk4rN8bP2yHj6CwF"
SECRETS = (*KEYS, TEAM)
ANSWER = 'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
ECHO = json.dumps({"error": {"message": f"Bad: {KEYS[0]}, {TEAM}, {KEYS[1]}", "type": "server_error", "code": KEYS[0]}})


def _leaks(text: bytes) -> list[str]:
    return [secret for secret in SECRETS if secret.encode() in text]


def _command_lines(pids: list[int]) -> bytes:
    lines = b""
    for pid in pids:
        with contextlib.suppress(OSError):
            lines += Path(f"/proc/{pid}/cmdline").read_bytes()
    return lines


def _scenario(cli: Cli, url: str) -> None:
    endpoint: dict[str, Any] = {"name": "a", "api": "openai-chat", "base_url": url, "model": "m"}
    endpoint |= {
        "api_key_env": ["FIRST_KEY", "SECOND_KEY"],
        "headers": {"X-Team": {"env": "TEAM_NAME"}, "X-App": "bench"},
    }
    cli.scenario(endpoints=[endpoint], load=[{"shape": "closed", "concurrency": 4, "duration": "100s", "warmup": "0s"}])


@pytest.mark.parametrize(
    ("workers", "status", "body"),
    [
        pytest.param("2", 200, ANSWER, id="ok-2", marks=pytest.mark.long),
        pytest.param("1", 500, ECHO, id="echo-1", marks=pytest.mark.long),
        pytest.param("1", 200, ANSWER, id="ok-1"),
        pytest.param("2", 500, ECHO, id="echo-2", marks=pytest.mark.long),
    ],
)
def test_secrets_reach_the_endpoint_and_nothing_else(
    cli: Cli, start_scripted: Callable[..., Scripted], workers: str, status: int, body: str
) -> None:
    """Also when the endpoint sends them back in an error message."""
    server = start_scripted(status, body, "text/event-stream" if status == 200 else "application/json")
    _scenario(cli, server.url)
    env = dict(zip(("FIRST_KEY", "SECOND_KEY", "TEAM_NAME"), SECRETS, strict=True))
    line = ("run", "mine.yaml", "--no-abort", "--out", "out", "--workers", workers)
    run = cli.start(*line, env=env)
    wait_until(lambda: cli.rows("SELECT 1 FROM samples LIMIT 1"))
    family = cli.family()
    assert len(family) == 2 * int(workers) + (workers == "2"), "the parent, workers and engines"
    assert _leaks(_command_lines(family)) == []
    run.process.send_signal(2)
    done = run.wait()
    assert done.code == 130, done.err
    sent = [headers for headers, _ in server.requests]
    assert {headers["authorization"] for headers in sent} == {f"Bearer {key}" for key in KEYS}
    assert {(headers["x-team"], headers["x-app"]) for headers in sent} == {(TEAM, "bench")}

    assert _leaks((done.out + done.err).encode()) == []
    files = [path for path in cli.cwd.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"latbench.db", "summary.json", "report.md", "scenario.yaml"}
    assert {path.name: _leaks(path.read_bytes()) for path in files if _leaks(path.read_bytes())} == {}
    for verb in (["report"], ["report", "--format", "csv"], ["report", "--json"], ["runs", "show"]):
        again = cli.run(*verb)
        assert again.code == 0
        assert _leaks((again.out + again.err).encode()) == []
    assert "FIRST_KEY" in (cli.cwd / "out/scenario.yaml").read_text(), "the name of the variable is no secret"


def test_a_key_that_cannot_stand_in_a_header(cli: Cli, start_scripted: Callable[..., Scripted]) -> None:
    server = start_scripted(200, ANSWER, "text/event-stream")
    _scenario(cli, server.url)
    env = {"FIRST_KEY": f"{KEYS[0]}\r\nX-Evil: 1", "SECOND_KEY": KEYS[1], "TEAM_NAME": TEAM}
    done = cli.run("run", "mine.yaml", env=env)
    assert (done.code, done.out) == (2, "")
    assert done.said.count("\n") == 1
    assert "control character" in done.err
    assert _leaks(done.err.encode()) == []
    assert server.requests == []
