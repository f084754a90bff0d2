"""Ctrl-C and SIGTERM: once drains and writes, twice writes."""

import json
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness import FAST, Cli, Command, Served, closes, free_port, wait_until

pytestmark = pytest.mark.timeout(110)

LONG = pytest.mark.long
SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])


def _start(cli: Cli, quick: Served, slow: Served, *more: str) -> Command:
    """A run on two endpoints: one whose counter shows whether new requests leave, one with requests in flight."""
    endpoints = [
        {"name": name, "api": "openai-chat", "base_url": served.url, "model": "m"}
        for name, served in (("quick", quick), ("slow", slow))
    ]
    load = [{"shape": "closed", "concurrency": 3, "duration": "100s", "warmup": "0s"}]
    cli.scenario(endpoints=endpoints, load=load, drain="90s")
    return cli.start("run", "mine.yaml", "--json", "--out", "out", *more)


def _stands_still(served: Served) -> bool:
    """Whether no request has come for a quarter of a second."""
    count, until = served.stats()["requests"], time.monotonic() + 0.25
    while time.monotonic() < until:
        if served.stats()["requests"] != count:
            return False
    return True


def _check_kept(cli: Cli, summary: dict[str, Any], sent: int) -> None:
    """What an interrupted run leaves."""
    assert summary["run"]["state"] == "partial"
    assert summary["run"]["exit_code"] == 130
    assert closes(summary)
    assert summary["validity"]["planned"] == sent == cli.rows("SELECT count(*) FROM samples")[0][0]
    assert json.loads((cli.cwd / "out/summary.json").read_text()) == summary
    assert cli.rows("SELECT state FROM runs") == [("partial",)]
    wait_until(lambda: not cli.family(), 10.0)


@LONG
@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 1), (signal.SIGTERM, 2)])
def test_once_drains(cli: Cli, start_sim: Callable[..., Served], number: signal.Signals, workers: int) -> None:
    quick, slow = start_sim(), start_sim(replace(FAST, itl_ns=150_000_000))
    run = _start(cli, quick, slow, "--workers", str(workers))
    wait_until(lambda: slow.stats()["active"] == 3 and quick.stats()["ok"] >= 5)
    run.signal(number)
    done = run.wait()
    assert (done.code, done.err.count("Traceback")) == (130, 0), done.err
    _check_kept(cli, done.summary, quick.stats()["requests"] + slow.stats()["requests"])
    for endpoint, served in (("quick", quick), ("slow", slow)):
        outcomes = done.summary["endpoints"][endpoint]["outcomes"]
        assert outcomes["ok"] == sum(outcomes.values()) == served.stats()["ok"], "what was in flight was awaited"


@pytest.mark.long
@SIGNALS
def test_twice_cancels(cli: Cli, start_sim: Callable[..., Served], number: signal.Signals) -> None:
    """Without the second signal this would last for a minute and a half."""
    quick, slow = start_sim(), start_sim(replace(FAST, itl_ns=60_000_000_000))
    run = _start(cli, quick, slow)
    wait_until(lambda: slow.stats()["active"] == 3 and quick.stats()["ok"] >= 5)
    run.signal(number)
    wait_until(lambda: _stands_still(quick))
    assert run.process.poll() is None, "one signal waits for what is in flight"
    run.signal(number)
    done = run.wait(40.0)
    assert (done.code, done.err.count("Traceback")) == (130, 0), done.err
    _check_kept(cli, done.summary, quick.stats()["requests"] + slow.stats()["requests"])
    outcomes = done.summary["endpoints"]["slow"]["outcomes"]
    assert outcomes["cancelled"] == sum(outcomes.values()) == 3
    assert done.summary["endpoints"]["slow"]["error_rate"] in (None, 0), "cancelled is no error"


def _nothing_was_kept(cli: Cli) -> None:
    assert not (cli.cwd / "runs").exists()
    assert cli.rows("SELECT count(*) FROM runs") in ([], [(0,)])
    wait_until(lambda: not cli.family(), 10.0)


def _check_one_line(run: Command) -> None:
    done = run.wait(30.0)
    said = done.said.removeprefix("\n")  # the line that a terminal shows ^C in
    assert (done.code, done.out, said) == (130, "", "latbench: interrupted before anything was sent\n")


@SIGNALS
@pytest.mark.long
def test_while_connections_are_opened(cli: Cli, number: signal.Signals) -> None:
    """An endpoint that takes connections and never shakes hands."""
    cli.prompts()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/v1"
        flags = ("--model", "m", "--requests", "4", "--concurrency", "1", "--prompts", "own.jsonl", "--json")
        run = cli.start("run", "--url", url, *flags)
        with silent.accept()[0]:
            run.signal(number)
            _check_one_line(run)
    _nothing_was_kept(cli)


@pytest.mark.long
def test_while_workers_are_awaited(cli: Cli) -> None:
    """One has joined, another is awaited; well before the minute that they have to."""
    cli.prompts()
    address = f"127.0.0.1:{free_port()}"
    run = cli.start("run", "--workers", "0", "--join", "2", "--listen", address, "--prompts", "own.jsonl", "--quiet")
    worker = cli.start("worker", "--master", address)
    wait_until(lambda: len(cli.family()) >= 3)  # with its engine
    wait_until(lambda: _talk(int(address.partition(":")[2])))
    run.signal(signal.SIGINT)
    _check_one_line(run)
    assert worker.wait(30.0).out == ""
    _nothing_was_kept(cli)


def _talk(port: int) -> bool:
    """Whether somebody is connected to the port."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "01" for line in lines)


@pytest.mark.long
@SIGNALS
def test_while_the_command_starts(cli: Cli, number: signal.Signals) -> None:
    """The engine has been started, Locust is being imported."""
    cli.prompts()
    run = cli.start("run", "--prompts", "own.jsonl", "--requests", "1000000", "--json")
    wait_until(lambda: len(cli.family()) >= 2)
    run.signal(number)
    _check_one_line(run)
    _nothing_was_kept(cli)
