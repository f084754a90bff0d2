"""Batches and acknowledgements that get lost cost nothing but time."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from harness import FAST, Cli, Served, closes, one_off

pytestmark = [pytest.mark.long, pytest.mark.timeout(110)]

DRIVER = (sys.executable, str(Path(__file__).with_name("lossy.py")))


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
def test_no_sample_is_lost_and_none_is_counted_twice(cli: Cli, start_sim: Callable[..., Served], workers: int) -> None:
    endpoint = start_sim(replace(FAST, itl_ns=6_000_000))
    cli.prompts()
    log = cli.scratch / "lost"
    env = {"LOSSY_SHARE": "0.3", "LOSSY_SEED": "5", "LOSSY_LOG": str(log)}
    done = cli.run(*one_off(endpoint.url, 240, 4, "--workers", str(workers)), env=env, program=DRIVER)
    assert done.code == 0, done.err
    lost = log.read_text().split()
    assert min(lost.count("batch"), lost.count("ack")) >= 1, "nothing was lost: the test tests nothing"
    summary = done.summary
    assert done.trusted, summary["validity"]["reasons"]
    assert (summary["validity"]["planned"], summary["validity"]["ok"]) == (240, 240)
    assert closes(summary)
    assert sorted(seq for (seq,) in cli.rows("SELECT seq FROM samples")) == list(range(240))
    assert endpoint.stats()["requests"] == 240
    assert len(cli.rows("SELECT DISTINCT worker FROM samples")) == workers
