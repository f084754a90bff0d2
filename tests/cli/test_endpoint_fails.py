"""Endpoints that die, refuse, or answer nothing but errors: every planned request has an outcome."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from harness import FAST, Cli, Scripted, Served, closes, one_off, wait_until

pytestmark = pytest.mark.timeout(110)

REFUSED = (
    '{"error": {"message": "Incorrect API key provided", "type": "invalid_request_error", "code": "invalid_api_key"}}'
)
UNKNOWN = (
    '{"error": {"message": "The model m does not exist", "type": "invalid_request_error", "code": "model_not_found"}}'
)
NOT_VALID = '{"error": {"message": "API key not valid. Please pass a valid API key.", "code": 400}}'
BROKEN = '{"error": {"message": "The server had an error", "type": "server_error"}}'


@pytest.mark.parametrize("workers", ["2", pytest.param("1", marks=pytest.mark.long)])
@pytest.mark.long
def test_an_endpoint_that_dies_in_the_middle(cli: Cli, start_sim: Callable[..., Served], workers: str) -> None:
    endpoint = start_sim(replace(FAST, itl_ns=5_000_000))
    cli.prompts()
    run = cli.start(*one_off(endpoint.url, 1_000_000, 8, "--workers", workers, "--out", "out"))
    wait_until(lambda: cli.rows("SELECT 1 FROM samples WHERE outcome = 'ok' LIMIT 1"))
    endpoint.kill()
    done = run.wait()
    assert (done.code, done.err.count("Traceback")) == (96, 0), done.err
    summary = done.summary
    outcomes = summary["endpoints"]["m"]["outcomes"]
    assert closes(summary)
    assert outcomes["ok"] > 0
    assert outcomes["connect_error"] > 0
    assert {name for name, count in outcomes.items() if count} <= {"ok", "connect_error", "truncated"}
    assert summary["run"]["state"] == "partial"
    assert [stop["endpoint"] for stop in summary["run"]["stops"]] == ["m"]
    assert dict(cli.rows("SELECT outcome, count(*) FROM samples GROUP BY 1")) == {
        k: n for k, n in outcomes.items() if n
    }
    assert cli.rows("PRAGMA integrity_check") == [("ok",)]
    assert json.loads((cli.cwd / "out/summary.json").read_text()) == summary


@pytest.mark.parametrize(
    ("status", "body", "outcome", "said"),
    [
        (401, REFUSED, "auth_error", "credentials refused"),
        (400, NOT_VALID, "invalid_request", "credentials refused"),
        (404, UNKNOWN, "invalid_request", "model or path unknown"),
    ],
)
@pytest.mark.parametrize("more", [pytest.param([], marks=pytest.mark.long), ["--no-abort"]])
def test_refusals_stop_an_endpoint_after_a_few_requests(
    cli: Cli, start_scripted: Callable[..., Scripted], status: int, body: str, outcome: str, said: str, more: list[str]
) -> None:
    """`--no-abort` is about the share of errors; this guard stays."""
    server = start_scripted(status, body)
    cli.prompts()
    done = cli.run(*one_off(server.url, 5000, 4, *more))
    assert done.code == 96, done.err
    outcomes = done.summary["endpoints"]["m"]["outcomes"]
    assert outcomes[outcome] == sum(outcomes.values()) == len(server.requests)
    assert 3 <= len(server.requests) < 40, "three in a row, and what was in flight by then"
    assert closes(done.summary)
    assert said in done.summary["run"]["stops"][0]["reason"]
    (stopped,) = (one for one in done.summary["validity"]["reasons"] if one["code"] == "endpoint_stopped")
    assert stopped["advice"].startswith(f"m was stopped: {said}")
    assert ("check model and where base_url ends" if status == 404 else "api_key_env") in stopped["advice"]


@pytest.mark.long
def test_what_an_endpoint_that_is_stopped_in_the_warm_up_had_said(
    cli: Cli, start_scripted: Callable[..., Scripted]
) -> None:
    """Nothing was measured: without these words nobody would know what is wrong."""
    server = start_scripted(401, REFUSED)
    cli.prompts()
    flags = ("--url", server.url, "--model", "m", "--api-key-env", "MY_KEY", "--prompts", "own.jsonl", "--out", "out")
    done = cli.run("run", *flags, "--duration", "30s", "--concurrency", "2", "--max-tokens", "8", env={"MY_KEY": "no"})
    assert done.code == 96, done.err
    summary = json.loads((cli.cwd / "out/summary.json").read_text())
    assert (summary["validity"]["planned"], summary["endpoints"]["m"]["errors"]) == (0, [])
    (said,) = summary["validity"]["warmup"]["errors"]
    assert (said["endpoint"], said["outcome"], said["status"]) == ("m", "auth_error", 401)
    assert said["count"] == len(server.requests) == summary["validity"]["warmup"]["outcomes"]["auth_error"]
    for report in (done.out, (cli.cwd / "out/report.md").read_text().replace("\\_", "_")):
        assert f"m: {said['count']} auth_error (HTTP 401): Incorrect API key provided" in report
        assert "check the variable that api_key_env names: MY_KEY" in " ".join(report.split())


@pytest.mark.long
def test_the_share_of_errors_stops_an_endpoint(cli: Cli, start_scripted: Callable[..., Scripted]) -> None:
    server = start_scripted(500, BROKEN)
    cli.prompts()
    done = cli.run(*one_off(server.url, 5000, 4))
    assert done.code == 96, done.err
    outcomes = done.summary["endpoints"]["m"]["outcomes"]
    assert 20 <= outcomes["http_error"] == sum(outcomes.values()) == len(server.requests) < 500
    assert closes(done.summary)


def test_one_endpoint_is_stopped_and_the_others_go_on(
    cli: Cli, endpoint: Served, start_scripted: Callable[..., Scripted]
) -> None:
    server = start_scripted(401, REFUSED)
    endpoints = [
        {"name": name, "api": "openai-chat", "base_url": url, "model": "m"}
        for name, url in (("good", endpoint.url), ("bad", server.url))
    ]
    cli.scenario(endpoints=endpoints, load=[{"shape": "closed", "concurrency": 2, "requests": 60}])
    done = cli.run("run", "mine.yaml", "--json")
    assert done.code == 96, done.err
    assert done.summary["endpoints"]["good"]["outcomes"]["ok"] == 60 == endpoint.stats()["ok"]
    assert 3 <= done.summary["endpoints"]["bad"]["outcomes"]["auth_error"] < 20
    assert closes(done.summary)


@pytest.mark.parametrize(("status", "outcome"), [(500, "http_error"), (429, "rate_limited")])
@pytest.mark.long
def test_without_the_guard_a_run_without_one_ok_is_invalid(
    cli: Cli, start_scripted: Callable[..., Scripted], status: int, outcome: str
) -> None:
    server = start_scripted(status, BROKEN)
    cli.prompts()
    done = cli.run(*one_off(server.url, 60, 4, "--no-abort"))
    assert done.code == 97, done.err
    summary = done.summary
    assert summary["validity"]["verdict"] == "invalid"
    assert "no_ok" in [reason["code"] for reason in summary["validity"]["reasons"]]
    assert summary["endpoints"]["m"]["outcomes"][outcome] == 60 == len(server.requests)
    assert summary["run"]["state"] == "complete"
    assert closes(summary)


def test_bytes_that_are_not_the_protocol(cli: Cli, start_scripted: Callable[..., Scripted]) -> None:
    server = start_scripted(200, "<html><body>Welcome to the hotel's network</body></html>", "text/html")
    cli.prompts()
    done = cli.run(*one_off(server.url, 10, 2, "--no-abort"))
    assert done.code == 97, done.err
    assert done.summary["endpoints"]["m"]["outcomes"]["malformed"] == 10
