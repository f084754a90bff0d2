"""The plan does not depend on how many workers carry it out."""

import csv
from typing import Any

import pytest
from harness import Cli, Served, closes, one_off

pytestmark = pytest.mark.timeout(110)

REQUESTS = 53  # no multiple of the concurrency


def _plan(cli: Cli, endpoint: Served, *more: str) -> dict[str, Any]:
    """One run: its summary's id, what it sent, its nonces."""
    before = endpoint.stats()["requests"]
    cli.prompts()
    done = cli.run(*one_off(endpoint.url, REQUESTS, 4, *more))
    assert done.code == 0, done.err
    summary = done.summary
    assert closes(summary)
    assert summary["validity"]["planned"] == summary["validity"]["ok"] == REQUESTS
    assert endpoint.stats()["requests"] - before == REQUESTS
    rows = list(csv.DictReader(cli.run("report", summary["run"]["id"], "--format", "csv").out.splitlines()))
    assert sorted(int(row["seq"]) for row in rows) == list(range(REQUESTS))
    return {
        "sent": {(int(row["seq"]), row["prompt_id"]) for row in rows},
        "nonces": {row["nonce"] for row in rows},
        "workers": {row["worker"] for row in rows},
        "slots": {(int(row["seq"]), int(row["slot"])) for row in rows},
    }


@pytest.mark.long
def test_same_seed_same_requests_on_any_number_of_workers(cli: Cli, endpoint: Served) -> None:
    one = _plan(cli, endpoint, "--seed", "11")
    two = _plan(cli, endpoint, "--seed", "11", "--workers", "2")
    other = _plan(cli, endpoint, "--seed", "12")
    assert one["sent"] == two["sent"]
    assert one["slots"] == two["slots"] == {(seq, seq % 4) for seq in range(REQUESTS)}
    assert (len(one["workers"]), len(two["workers"])) == (1, 2)
    assert other["sent"] != one["sent"]
    nonces = [one["nonces"], two["nonces"], other["nonces"]]
    assert [len(each) for each in nonces] == [REQUESTS] * 3
    assert len(set.union(*nonces)) == 3 * REQUESTS, "no nonce opens a request of another run"


@pytest.mark.long
def test_more_workers_than_slots(cli: Cli, endpoint: Served) -> None:
    cli.prompts()
    done = cli.run(*one_off(endpoint.url, 6, 1, "--workers", "2"))
    assert done.code == 0, done.err
    assert done.summary["validity"]["ok"] == endpoint.stats()["requests"] == 6
    assert closes(done.summary)
