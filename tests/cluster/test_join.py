"""Workers from elsewhere, and people who live in Locust."""

import re
import signal
import sys
from pathlib import Path

import pytest
from harness import ROOT, Cli, Served, closes, free_port, one_off, wait_until

pytestmark = pytest.mark.timeout(110)

LOCUST = str(Path(sys.executable).with_name("locust"))


@pytest.mark.long
def test_a_worker_joins_and_ends_with_the_run(cli: Cli, endpoint: Served) -> None:
    cli.prompts()
    port = free_port()
    master = cli.start(*one_off(endpoint.url, 40, 4, "--workers", "0", "--join", "1", "--listen", f"127.0.0.1:{port}"))
    worker = cli.start("worker", "--master", f"127.0.0.1:{port}")
    done = master.wait()
    assert done.code == 0, done.err
    assert closes(done.summary)
    assert done.summary["validity"]["ok"] == endpoint.stats()["requests"] == 40
    assert done.summary["run"]["workers"] == 1
    ended = worker.wait()
    assert (ended.code, ended.out) == (0, "")
    wait_until(lambda: not cli.family(), 10.0)


@pytest.mark.long
def test_a_worker_that_waits_for_a_master_can_be_interrupted(cli: Cli) -> None:
    worker = cli.start("worker", "--master", f"127.0.0.1:{free_port()}")
    wait_until(lambda: len(cli.family()) >= 2)
    worker.signal(signal.SIGINT)
    done = worker.wait(30.0)
    assert (done.code, done.err.count("Traceback")) == (130, 0), done.err
    wait_until(lambda: not cli.family(), 10.0)


@pytest.mark.long
@pytest.mark.parametrize("processes", [1, 2])
def test_the_locustfile(cli: Cli, endpoint: Served, processes: int) -> None:
    line = ["-f", str(ROOT / "latbench/locustfile.py"), "--headless", "-u", "4", "-r", "100", "-t", "3s"]
    endpoints = [{"name": "m", "api": "openai-chat", "base_url": "http://127.0.0.1:1/v1", "model": "m"}]
    load = [{"shape": "closed", "concurrency": 1, "requests": 1}]
    cli.scenario(endpoints=endpoints, load=load)
    line += ["--latbench-scenario", "mine.yaml", "--latbench-url", endpoint.url, "--latbench-model", "m"]
    line += ["--processes", str(processes)] if processes > 1 else []
    done = cli.run(*line, program=(LOCUST,))
    assert done.code == 0, done.err
    assert done.out.startswith("verdict: ")
    assert done.trusted, done.out
    (run,) = cli.rows("SELECT state FROM runs")
    assert run == ("complete",)
    counted = cli.rows("SELECT count(*) FROM samples WHERE outcome = 'ok'")[0][0]
    assert counted == endpoint.stats()["requests"] > 0
    row = re.search(rf"POST\s+m\s+{counted}\s+0\(0\.00%\)", done.err + done.out)
    assert row, "Locust's own table shows the endpoint's requests"
    assert len(cli.rows("SELECT DISTINCT worker FROM samples")) == processes
    wait_until(lambda: not cli.family(), 10.0)


def test_the_locustfile_says_in_one_line_what_is_wrong(cli: Cli) -> None:
    line = ["-f", str(ROOT / "latbench/locustfile.py"), "--headless", "-u", "1", "-t", "3s"]
    done = cli.run(*line, "--latbench-scenario", "nonsense", program=(LOCUST,))
    assert done.code == 2
    said = [line for line in done.err.splitlines() if line.startswith("latbench: ")]
    assert len(said) == 1
    assert said[0].startswith('latbench: no scenario "nonsense"; there are: ')
    assert "Traceback" not in done.err
