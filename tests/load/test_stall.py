"""A second in which something did not run, in the figures: where it belongs and nowhere else, by the computed amount.

What is late shows in response time alone. What is slow to answer shows in service time, and so in response time. An
endpoint that stalls makes later requests late only where something ties them to earlier answers: a budget does.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness import Cli, Served, closes, wait_until
from load_kit import Stall, arrivals, at, engine_of, stall, start, step, times

pytestmark = [pytest.mark.timeout(110), pytest.mark.long]

MS = 1_000_000
ANSWER = ("--ttft-ms", "20", "--itl-ms", "1")


def stalled(
    cli: Cli, served: Served, load: list[dict[str, Any]], whose: Callable[[], int], **keys: Any
) -> tuple[Stall, dict[str, Any]]:
    """A run with a stall after the first 60 requests."""
    running = start(cli, [at(served)], load, **keys)
    wait_until(lambda: served.get("/oracle/stats")["requests"] >= 60)
    found = stall(whose())
    done = running.wait()
    assert done.out, done.err
    assert closes(done.summary)
    return found, done.summary


def test_an_engine_that_stalls_sends_late_and_says_so(cli: Cli, start_oracle: Callable[..., Served]) -> None:
    path = cli.scratch / "oracle.csv"
    served = start_oracle(*ANSWER, "--csv", str(path))
    load = [step("constant", rate="100/s", duration="4s")]
    found, summary = stalled(cli, served, load, lambda: engine_of(cli))
    arrived = arrivals(served, path)
    seen = times(cli, arrived)
    assert len(seen.due) == 400, "nothing is left out because it was late"
    hit = (seen.due > found.from_ns) & (seen.due < found.to_ns - 20 * MS)
    assert int(hit.sum()) >= 90
    # All of them left when the stall was over; how long that took is what the oracle has seen.
    burst = np.sort(arrived[arrived >= found.to_ns])[int(hit.sum()) - 1] - found.to_ns
    wanted = found.to_ns - seen.due[hit]
    assert np.all(seen.response[hit] - seen.service[hit] >= wanted - MS)
    assert np.all(seen.response[hit] - seen.service[hit] <= wanted + burst + 20 * MS)
    assert np.max(seen.service[hit]) < found.ns / 2, "they were answered as quickly as any"
    before = seen.due < found.from_ns - 200 * MS
    assert np.max(seen.late[before]) < found.ns / 10
    metrics = summary["steps"][0]["endpoints"]["o"]["metrics"]
    assert metrics["e2e_response_ms"]["max"] - metrics["e2e_ms"]["p50"] > found.ns / 1e6 * 0.9
    assert summary["validity"]["verdict"] == "invalid", "more than 5 % left more than 100 ms late"


def test_an_endpoint_that_stalls_is_slow_to_whoever_was_due(cli: Cli, start_oracle: Callable[..., Served]) -> None:
    path = cli.scratch / "oracle.csv"
    served = start_oracle(*ANSWER, "--csv", str(path))
    load = [step("constant", rate="100/s", duration="4s")]
    found, _ = stalled(cli, served, load, lambda: served.process.pid)
    seen = times(cli, arrivals(served, path))
    hit = (seen.due > found.from_ns) & (seen.due < found.to_ns - 20 * MS)
    assert int(hit.sum()) >= 90
    assert np.max(seen.late[hit]) < found.ns / 10, "they were sent on time: the loop is open"
    waited = found.to_ns - seen.sent[hit]
    normal = np.median(seen.service[seen.due < found.from_ns - 200 * MS])
    for measured in (seen.service[hit], seen.response[hit]):
        assert np.all(measured >= waited - MS)
        assert np.all(measured <= waited + normal + found.ns / 4)
    assert int((seen.service > found.ns / 2).sum()) >= 45


def test_a_closed_loop_hides_all_but_its_slots(cli: Cli, start_oracle: Callable[..., Served]) -> None:
    """At about the same throughput: why the loop is to be open where an endpoint's stalls count."""
    path = cli.scratch / "oracle.csv"
    served = start_oracle(*ANSWER, "--csv", str(path))
    load = [step("closed", concurrency=3, duration="4s")]
    found, _ = stalled(cli, served, load, lambda: served.process.pid)
    seen = times(cli, arrivals(served, path))
    assert 0 < int((seen.service > found.ns / 2).sum()) <= 3
    assert int(((seen.due > found.from_ns) & (seen.due < found.to_ns)).sum()) <= 3
    assert np.max(seen.late) < found.ns / 10


def test_an_endpoint_that_stalls_makes_late_what_its_answers_have_to_pay_for(
    cli: Cli, start_oracle: Callable[..., Served]
) -> None:
    """What an answer did not use of its worst case pays for a later request: until it comes, that one is held back.

    So the endpoint's stall delays sending. It shows in the response time of those, and not in their service time.
    """
    path = cli.scratch / "oracle.csv"
    served = start_oracle(*ANSWER, "--tokens", "4", "--tokens-fixed", "--csv", str(path))
    at_once, limit = 10, 4000
    load = [step("constant", rate="50/s", duration="4s")]
    budget = {"tokens": at_once * (limit + 700) + 200 * 60}
    found, summary = stalled(cli, served, load, lambda: served.process.pid, budget=budget, output={"max_tokens": limit})
    seen = times(cli, arrivals(served, path))
    assert summary["validity"]["planned"] == len(seen.due) == 200
    held = (seen.due > found.from_ns) & (seen.due < found.to_ns - 100 * MS) & (seen.late > 50 * MS)
    assert int(held.sum()) >= 50 - 5 - 3 * at_once
    wanted = found.to_ns - seen.due[held]
    assert np.all(seen.late[held] >= wanted - MS)
    assert np.all(seen.late[held] <= wanted + found.ns / 4)
    assert np.max(seen.service[held]) < found.ns / 2
