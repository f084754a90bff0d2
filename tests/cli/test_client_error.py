"""What a run says of its own error: lags and the null test, on stderr, in the summary, in the store, in reports."""

import signal
from typing import Any

import pytest
from harness import Cli, Served, closes, one_off, wait_until

WITH = {"LATBENCH_RUN_NO_NULL_TEST": "0"}


def tables(found: dict[str, Any]) -> None:
    for name in ("ttft_error_ms", "lag_ms"):
        table = found[name]
        assert 0 <= table["p50"] <= table["p90"] <= table["p99"] <= table["max"]
        assert table["n"] > 0


@pytest.mark.long
def test_the_null_test_comes_first_and_stays(cli: Cli, endpoint: Served) -> None:
    cli.prompts()
    done = cli.run(*one_off(endpoint.url, 40, 4), env=WITH)
    assert done.code == 0, done.err
    assert "latbench: null test with 4 streams: TTFT +" in done.err
    assert closes(done.summary)
    assert endpoint.stats()["requests"] == 40, "it asks nobody else"
    found = done.summary["validity"]["null_test"]
    tables(found)
    assert (found["streams"], found["workers"], "worst" in found) == (4, 1, False)
    text = cli.run("report")
    assert "null test with 4 streams: TTFT +" in text.out
    assert cli.run("report", "--json").summary["validity"] == done.summary["validity"]
    markdown = next((cli.cwd / "runs").glob("*/report.md")).read_text()
    assert "null test with 4 streams: TTFT +" in markdown


@pytest.mark.long
def test_without_it_the_lags_are_there(cli: Cli, endpoint: Served) -> None:
    cli.prompts()
    done = cli.run(*one_off(endpoint.url, 200, 4, "--no-null-test"), env=WITH)
    assert done.code == 0, done.err
    assert "null test" not in done.err
    validity = done.summary["validity"]
    assert validity["null_test"] is None
    assert validity["probe_lag_ms"]["n"] > 0
    ((chunks,),) = cli.rows("SELECT sum(chunks) FROM samples")
    assert validity["chunk_lag_ms"]["n"] >= chunks / 2, "a read holds a chunk or a few"
    larger = max((validity[name] for name in ("probe_lag_ms", "chunk_lag_ms")), key=lambda table: table["p99"])
    assert validity["client_lag_ms"] == larger
    assert 0 < validity["engine_cpu"] < 1.1
    assert "littles_law" not in {reason["code"] for reason in validity["reasons"]}
    assert "client: lag p50 " in cli.run("report").out


@pytest.mark.long
def test_workers_are_pooled_and_the_worst_is_named(cli: Cli, endpoint: Served) -> None:
    cli.prompts()
    done = cli.run(*one_off(endpoint.url, 200, 5, "--workers", "2"), env=WITH)
    assert done.code == 0, done.err
    found = done.summary["validity"]["null_test"]
    tables(found)
    tables(found["worst"])
    assert (found["streams"], found["workers"]) == (5, 2)
    assert "null test with 5 streams on 2 workers: " in done.err
    workers = {worker for (worker,) in cli.rows("SELECT DISTINCT worker FROM efforts")}
    assert found["worst"]["worker"] in workers
    assert len(workers) == 2
    assert "littles_law" not in {reason["code"] for reason in done.summary["validity"]["reasons"]}


@pytest.mark.long
def test_quiet_says_nothing_and_keeps_it(cli: Cli, endpoint: Served) -> None:
    cli.prompts()
    done = cli.run(*one_off(endpoint.url, 4, 1, "--quiet"), env=WITH)
    assert (done.code, done.err) == (0, "")
    tables(done.summary["validity"]["null_test"])


@pytest.mark.long
def test_ctrl_c_during_the_null_test_ends_the_command(cli: Cli, endpoint: Served) -> None:
    cli.prompts()
    command = cli.start(*one_off(endpoint.url, 40, 4), env=WITH)
    wait_until(lambda: any(b"null_endpoint" in line for line in lines(cli)))
    command.signal(signal.SIGINT)
    done = command.wait(30.0)
    assert (done.code, "Traceback" in done.err) == (130, False), done.err
    assert endpoint.stats()["requests"] == 0
    wait_until(lambda: not cli.family(), 20.0)


def lines(cli: Cli) -> list[bytes]:
    """The command lines of what runs."""
    found = []
    for pid in cli.family():
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            found.append(file.read())
    return found


@pytest.mark.long
def test_what_was_committed_outlives_a_killed_master(cli: Cli, endpoint: Served) -> None:
    cli.scenario(
        endpoints=[{"name": "m", "api": "openai-chat", "base_url": endpoint.url, "model": "m"}],
        load=[{"shape": "closed", "concurrency": 2, "duration": "60s", "warmup": "0s"}],
    )
    command = cli.start("run", "mine.yaml")
    wait_until(lambda: (cli.rows("SELECT count(*) FROM efforts") or [(0,)])[0][0] >= 3)
    command.signal(signal.SIGKILL)
    command.wait()
    validity = cli.run("report", "latest", "--json").summary["validity"]
    assert validity["probe_lag_ms"]["n"] > 0
    assert validity["chunk_lag_ms"]["n"] > 0
    assert "littles_law" not in {reason["code"] for reason in validity["reasons"]}
