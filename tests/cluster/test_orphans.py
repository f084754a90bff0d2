"""A parent that is killed takes everything with it, and leaves what it had measured."""

import json
import signal

import pytest
from harness import Cli, wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(110)]

LIMIT_S = 6.0
ENDED = "SELECT count(*) FROM samples WHERE outcome <> 'lost' HAVING count(*) >= 8"


@pytest.mark.parametrize(("workers", "processes"), [(1, 3), (2, 6)])
def test_nothing_outlives_a_killed_parent(cli: Cli, workers: int, processes: int) -> None:
    """One worker: parent, engine, sim. Two: parent, two workers with an engine each, sim."""
    own = cli.prompts()
    parent = cli.start("run", "--prompts", own, "--duration", "100s", "--concurrency", "4", "--workers", str(workers))
    seen = wait_until(lambda: cli.rows(ENDED))[0][0]
    assert len(cli.family()) == processes
    parent.signal(signal.SIGKILL)
    parent.process.wait()
    wait_until(lambda: not cli.family(), LIMIT_S)

    (run,) = json.loads(cli.run("runs", "list", "--json").out)["runs"]
    assert run["state"] == "running"
    report = cli.run("report", "latest", "--format", "json")
    assert report.code == 0, report.err
    outcomes = report.summary["endpoints"]["sim"]["outcomes"]
    warmup = report.summary["validity"]["warmup"]["outcomes"]
    assert sum(outcomes.values()) + sum(warmup.values()) >= seen
    assert report.summary["run"]["state"] == "partial"
    assert cli.rows("PRAGMA integrity_check") == [("ok",)]
