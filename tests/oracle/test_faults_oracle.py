"""Faults as the oracle commits them: each row that it wrote down has become its outcome, request by request."""

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Cli, Served, closes

pytestmark = [pytest.mark.timeout(119), pytest.mark.long]

REQUESTS, TOKENS = 500, 32
FAULTS = [
    *("--p-500", ".05", "--p-529", ".02", "--p-reset", ".03", "--p-cut", ".03"),
    *("--p-garbage", ".02", "--p-error-event", ".02", "--p-stall", ".02"),
]
RESET = -1
OUTCOME_OF = {
    200: "ok",
    500: "http_error",
    529: "overloaded",
    RESET: "truncated",
    -2: "stalled",
    -3: "truncated",
    -4: "malformed",
    -5: "stream_error",
}
# What its error event says there, and OpenAI's does not.
BY_API = {"openai-chat": OUTCOME_OF, "openai-completions": OUTCOME_OF, "anthropic": OUTCOME_OF | {-5: "overloaded"}}
GAVE_UP = -12
"""The second row of a stall: when the client went away."""


def rows(served: Served, path: Path) -> dict[int, tuple[int, int]]:
    """Status and tokens of each request, by the oracle's number for it."""
    served.get("/oracle/stats")
    with path.open(newline="") as file:
        read = [(int(row["req"]), int(row["status"]), int(row["tokens"])) for row in csv.DictReader(file)]
    found = {number: (status, tokens) for number, status, tokens in read if status != GAVE_UP}
    given_up = {number for number, status, _ in read if status == GAVE_UP}
    assert given_up == {number for number, (status, _) in found.items() if status == -2}, "a stall is ended by us"
    assert len(found) + len(given_up) == len(read)
    return found


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("api", BY_API)
def test_each_fault_becomes_its_outcome(
    cli: Cli, start_oracle: Callable[..., Served], tmp_path: Path, api: str, workers: str
) -> None:
    path, outcome_of = tmp_path / "oracle.csv", BY_API[api]
    # A reset takes with it what has not been read yet: the gap is longer than a busy machine keeps a reader waiting.
    served = start_oracle("--ttft-ms", "20", "--itl-ms", "15", "--seed", "4", "--csv", str(path), *FAULTS)
    endpoint: dict[str, Any] = {"name": "o", "api": api, "base_url": served.url, "model": "oracle"}
    load = {"shape": "closed", "concurrency": 50, "requests": REQUESTS}
    limits = {"connect": "10s", "first_output": "30s", "idle": "2s", "total": "60s"}
    cli.scenario(endpoints=[endpoint], load=[load], output={"max_tokens": TOKENS}, timeouts=limits)
    done = cli.run("run", "mine.yaml", "--json", "--no-abort", "--workers", workers)
    assert done.code == 0, done.err
    assert closes(done.summary)
    truth = rows(served, path)
    assert len(truth) == REQUESTS, "nothing is sent twice"
    assert {status for status, _ in truth.values()} == set(outcome_of), "the seed is meant to show every fault"

    block = done.summary["endpoints"]["o"]
    counted = {name: count for name, count in block["outcomes"].items() if count}
    assert counted == Counter(outcome_of[status] for status, _ in truth.values())
    assert block["metrics"]["e2e_ms"]["n"] == block["metrics"]["ttft_ms"]["n"] == counted["ok"]
    assert block["tokens"]["output"] >= counted["ok"] * TOKENS

    # Answers that began name their request.
    begun = cli.rows("SELECT request_id, outcome, chunks, status FROM samples WHERE request_id IS NOT NULL")
    seen = {int(name.rpartition("-")[2].rpartition("_")[2]): (outcome, chunks) for name, outcome, chunks, _ in begun}
    assert {status for _, _, _, status in begun} == {200}
    assert seen.keys() == {number for number, (status, _) in truth.items() if status <= 200}
    for number, (outcome, chunks) in seen.items():
        status, tokens = truth[number]
        assert outcome == outcome_of[status], f"request {number}"
        assert chunks == tokens or (status == RESET and chunks < tokens), f"request {number}: {status}"
