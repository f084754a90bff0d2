"""Every exit code of the contract through the installed command, and which comes first where several apply."""

import json
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from harness import FAST, Cli, Scripted, Served, one_off, wait_until

from latbench.model.errors import ExitCode
from latbench.model.run import RunRecord
from latbench.results import exit_code

PASSING = ("--threshold", "errors == 0", "--threshold", "ttft p50 < 30s")
FAILING = ("--threshold", "ttft p50 < 1ms")
OPEN = ("--threshold", "error_rate < 1%")
NOT_A_MODEL = "<html><body>Welcome to the hotel's network</body></html>"


@dataclass(frozen=True)
class Case:
    """A command's end: its exit code, what it said on standard error, and the results of its thresholds."""

    code: int
    flags: tuple[str, ...] = ()
    said: str = ""
    results: tuple[str, ...] = ()
    keys: dict[str, Any] = field(default_factory=dict)
    endpoint: str = "sim"


CASES = {
    "done": Case(0),
    "done, thresholds passed": Case(0, PASSING, results=("pass", "pass")),
    "failed: the disk is full": Case(1, ("--junit", "/dev/full", *PASSING), "No space left on device"),
    "usage: a threshold": Case(2, ("--threshold", "ttft p95 < 8"), "8ms or 8s"),
    "usage: a file of thresholds": Case(2, ("--junit", "no/such/folder.xml"), "not a file in a folder that is there"),
    "usage: nobody listens": Case(2, FAILING, "refused", endpoint="nobody"),
    "guard: the budget is used up": Case(96, keys={"budget": {"requests": 5}}),
    "guard before a failed threshold": Case(
        96, ("--no-abort", "--threshold", "ok > 100"), results=("fail",), keys={"budget": {"requests": 5}}
    ),
    "invalid: not one ok": Case(97, ("--no-abort",), endpoint="hotel"),
    "invalid before a failed threshold": Case(
        97, ("--no-abort", "--threshold", "errors == 0"), results=("fail",), endpoint="hotel"
    ),
    "inconclusive": Case(98, (*PASSING, *OPEN), results=("pass", "pass", "inconclusive")),
    "failed before inconclusive": Case(99, (*OPEN, *FAILING, "--no-abort"), results=("inconclusive", "fail")),
    "failed and stopped early": Case(99, FAILING, results=("fail",)),
}


SHORT = ("done, thresholds passed", "failed: the disk is full", "usage: a threshold", "inconclusive")
SHORT += ("guard before a failed threshold", "invalid before a failed threshold", "failed and stopped early")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in SHORT else pytest.mark.long) for name in CASES]
)
def test_the_code_of_a_run(cli: Cli, endpoint: Served, start_scripted: Callable[..., Scripted], name: str) -> None:
    case = CASES[name]
    if case.endpoint == "hotel":
        url = start_scripted(200, NOT_A_MODEL, "text/html").url
    else:
        url = endpoint.url if case.endpoint == "sim" else "http://127.0.0.1:9/v1"
    target = {"name": "m", "api": "openai-chat", "base_url": url, "model": "m"}
    load = {"shape": "closed", "concurrency": 2, "requests": 24}
    cli.scenario(endpoints=[target], load=[load], **case.keys)
    done = cli.run("run", "mine.yaml", "--json", *case.flags)
    assert done.code == case.code, done.err
    assert case.said in done.err
    if case.code not in (1, 2):
        assert done.summary["run"]["exit_code"] == case.code
        assert tuple(one["result"] for one in done.summary["thresholds"]) == case.results


def test_every_code_is_produced() -> None:
    assert {case.code for case in CASES.values()} | {130} == set(ExitCode)


@pytest.mark.parametrize(
    ("stops", "verdict", "results", "code"),
    [
        ([("m", "why")], "invalid", ["fail"], 96),
        ([], "invalid", ["fail"], 97),
        ([], "suspect", ["pass", "inconclusive", "fail"], 99),
        ([], "valid", ["inconclusive", "pass"], 98),
        ([], "suspect", ["pass"], 0),
        ([], "valid", [], 0),
    ],
)
def test_their_order(stops: list[tuple[str, str]], verdict: str, results: list[str], code: int) -> None:
    record = RunRecord("id", "n", "s", "h", {}, "2026-11-22T14:00:00Z", 1, 0, stops=stops)
    summary = {"validity": {"verdict": verdict}, "thresholds": [{"result": one} for one in results]}
    assert exit_code(record, summary) == code


@pytest.mark.long
def test_interrupted_before_a_failed_threshold(cli: Cli, start_sim: Callable[..., Served]) -> None:
    served = start_sim()
    load = {"shape": "closed", "concurrency": 2, "duration": "90s", "warmup": "0s"}
    target = {"name": "m", "api": "openai-chat", "base_url": served.url, "model": "m"}
    cli.scenario(endpoints=[target], load=[load])
    run = cli.start("run", "mine.yaml", "--json", "--no-abort", "--threshold", "ok == 0")
    wait_until(lambda: served.stats()["ok"] >= 5)
    run.signal(signal.SIGINT)
    done = run.wait()
    assert done.code == 130, done.err
    assert [one["result"] for one in done.summary["thresholds"]] == ["fail"]


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.long)])
@pytest.mark.long
def test_a_run_is_stopped_as_soon_as_a_threshold_is_out_of_reach(
    cli: Cli, start_sim: Callable[..., Served], workers: str
) -> None:
    """And with --no-abort it is not. The report says the same again, for people and for CI."""
    served = start_sim(replace(FAST, rpm=120, burst=4))
    cli.prompts()
    limit = ("--threshold", "rate_limited == 0", "--threshold", "ttft p95 < 30s")
    done = cli.run(*one_off(served.url, 20_000, 4, *limit, "--junit", "gate.xml", "--workers", workers))
    assert done.code == 99, done.err
    summary = done.summary
    assert (summary["run"]["state"], summary["run"]["stops"]) == ("partial", [])
    assert summary["validity"]["planned"] < 20_000
    first, second = summary["thresholds"]
    assert (first["result"], second["result"]) == ("fail", "inconclusive")
    assert first["value"] >= 1
    assert "cannot be met any more" in first["why"]
    assert "threshold_out_of_reach" in [one["code"] for one in summary["validity"]["reasons"]]
    assert cli.run("report", "--json").summary == summary
    written = (cli.cwd / "gate.xml").read_text()
    assert cli.run("report", "--format", "junit").out == written
    assert ET.fromstring(written).get("failures") == "1"
    (directory,) = (cli.cwd / "runs").iterdir()
    assert cli.run("report", "--format", "markdown").out == (directory / "report.md").read_text()
    assert "thresholds: 1 failed, 1 inconclusive" in cli.run("report").out

    whole = cli.run(*one_off(served.url, 60, 4, *limit, "--no-abort"))
    assert whole.code == 99, whole.err
    assert (whole.summary["run"]["state"], whole.summary["validity"]["planned"]) == ("complete", 60)
    assert whole.summary["thresholds"][0]["why"] is None


@pytest.mark.long
def test_thresholds_from_the_environment(cli: Cli, endpoint: Served) -> None:
    cli.prompts()
    done = cli.run(*one_off(endpoint.url, 8, 2), env={"LATBENCH_RUN_THRESHOLD": "errors == 0;ok >= 8"})
    assert done.code == 0, done.err
    assert [one["expr"] for one in json.loads(done.out)["thresholds"]] == ["errors == 0", "ok >= 8"]
