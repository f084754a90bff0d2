"""The master is killed: its own workers end at once, one from elsewhere with its lease. Then anything, at any time."""

import random
import signal

import pytest
from faults_kit import LEASE_NS, MARGIN_NS, S, Scene, Stage, kill, wait_until_ns
from harness import Command, free_port, wait_until

pytestmark = [pytest.mark.timeout(110), pytest.mark.long]


@pytest.mark.parametrize("shape", ["open", "closed"])
def test_the_master_is_killed(stage: Stage, shape: str) -> None:
    scene = stage()
    listen = f"127.0.0.1:{free_port()}"
    scene.start(shape, 60, "--join", "1", "--listen", listen, workers=2)
    joined = scene.cli.start("worker", "--master", listen, env={"LATBENCH_SPOOL": str(scene.spools)})
    scene.loaded(workers=3)
    ours = [pid for pid in scene.workers() if pid != joined.process.pid]
    ours += [scene.engine_of(pid) for pid in ours]
    killed_ns = kill(scene.run.process.pid)
    wait_until(lambda: not set(ours) & set(scene.cli.family()), 6.0)
    wait_until_ns(killed_ns + LEASE_NS + 3 * S)
    arrived = scene.journal.quiet()
    assert [at for at in arrived if killed_ns + S < at < killed_ns + 3 * S], "the joined worker goes on for a while"
    assert arrived[-1] < killed_ns + LEASE_NS + MARGIN_NS
    if shape == "closed":
        done = joined.wait(60.0)
        assert (done.code, done.err.count("Traceback")) == (4, 0), done.err
        assert "the master fell silent" in done.err
        assert "runs recover" in done.err
    else:
        _end(joined)
    scene.nothing_is_left()
    _recover(scene)


def _end(joined: Command) -> None:
    joined.signal(signal.SIGKILL)
    joined.process.wait()


def _recover(scene: Scene) -> None:
    """What was left makes a report in which nothing is missing."""
    done = scene.cli.run("runs", "recover", env={"LATBENCH_SPOOL": str(scene.spools)})
    assert (done.code, done.err) == (0, "")
    scene.recovered()


@pytest.mark.parametrize("seed", range(20))
def test_something_is_killed_at_some_moment(stage: Stage, seed: int) -> None:
    """Parent, worker or engine: every request that arrived is in the store, and no sum has a hole."""
    chance = random.Random(seed)
    scene = stage(options=("--ttft-ms", "4", "--itl-ms", "1"))
    shape = ("open", "closed")[seed % 2]
    scene.start(shape, 5.0, workers=2)
    wait_until(lambda: scene.cli.rows("SELECT 1 FROM samples LIMIT 1"), 40.0)
    begun_ns = kill(scene.run.process.pid, signal.SIGCONT)
    wait_until_ns(begun_ns + int(chance.uniform(0, 2.5) * S))
    family = {"parent": [scene.run.process.pid], "worker": scene.workers(), "engine": scene.engines()}
    victims = family[chance.choice(sorted(family))]
    if not victims or scene.run.process.poll() is not None:
        pytest.fail("the run was over too soon")
    kill(chance.choice(sorted(victims)))
    code = scene.run.wait(60.0).code
    assert code in (-signal.SIGKILL, 97, 0)
    scene.nothing_is_left()
    if code < 0:
        _recover(scene)
    else:
        scene.recovered()
