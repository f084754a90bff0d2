"""Workers and engines that are killed or stopped in the middle of a load, and runs that are interrupted."""

import signal

import pytest
from faults_kit import LEASE_NS, MARGIN_NS, SLOTS, Books, S, Scene, Stage, kill, lost_worker, wait_until_ns
from harness import free_port, wait_until

pytestmark = pytest.mark.timeout(110)

LONG = pytest.mark.long
SHAPES = pytest.mark.parametrize("shape", ["open", "closed"])


def _taken_over(books: Books, shape: str, dead: str, from_ns: int, to_ns: int) -> None:
    """The others do the lost worker's part as well: nothing that was due is left out."""
    due = books.due_within(from_ns, to_ns)
    assert due
    assert {row.outcome for row in due} == {"ok"}
    assert {row.worker for row in due} == books.workers - {dead}
    if shape == "closed":
        assert {row.slot for row in due} == set(range(SLOTS))


def _gave_up(scene: Scene, shape: str, until_ns: int) -> None:
    """The run of 40 s ended before its time: nothing was sent after that moment, and all of it is known."""
    summary = scene.ended_invalid()
    assert summary["run"]["state"] == "partial"
    books = scene.books()
    books.all_accounted_for()
    assert max(books.arrived) < until_ns
    if shape == "open":
        books.plan_is_whole(40, to_its_end=False)


@LONG
@pytest.mark.parametrize("who", ["worker", "engine"])
@pytest.mark.parametrize("shape", ["open", "closed"])
def test_one_is_killed(stage: Stage, shape: str, who: str) -> None:
    scene = stage()
    scene.start(shape, 4, workers=2)
    scene.loaded(workers=2)
    worker = scene.workers()[0]
    killed_ns = kill(worker if who == "worker" else scene.engine_of(worker))
    summary = scene.ended_invalid()
    books = scene.books()
    books.all_accounted_for()
    dead = lost_worker(summary)
    assert len(books.workers) == 2
    assert dead in books.workers
    books.none_sent_after(dead, killed_ns + MARGIN_NS)
    _taken_over(books, shape, dead, killed_ns + 3 * S // 2, killed_ns + 5 * S // 2)
    if shape == "open":
        books.plan_is_whole(4)


@pytest.mark.long
@SHAPES
@pytest.mark.parametrize("who", ["worker", "engine", "both"])
def test_one_is_stopped_for_ten_seconds(stage: Stage, shape: str, who: str) -> None:
    """Its work is dealt out when its lease is over. When it is back, everything that it sent is known."""
    scene = stage()
    scene.start(shape, 14)
    scene.loaded(workers=3)
    worker = scene.workers()[0]
    victims = {"worker": [worker], "engine": [scene.engine_of(worker)], "both": [worker, scene.engine_of(worker)]}[who]
    for pid in victims:
        stopped_ns = kill(pid, signal.SIGSTOP)
    wait_until_ns(stopped_ns + 10 * S)
    for pid in victims:
        kill(pid, signal.SIGCONT)
    summary = scene.ended_invalid()
    books = scene.books()
    dead = lost_worker(summary)
    books.all_accounted_for()
    books.every_sending_is_known()
    books.none_sent_after(dead, stopped_ns + LEASE_NS + MARGIN_NS)
    if who == "worker":
        assert books.sent_within(dead, stopped_ns + S, stopped_ns + 3 * S), "its engine goes on until the lease is over"
    _taken_over(books, shape, dead, stopped_ns + 8 * S, stopped_ns + 10 * S)
    if shape == "open":
        books.plan_is_whole(14)


@pytest.mark.long
@SHAPES
@pytest.mark.parametrize("kind", ["local", "joined"])
def test_the_only_worker_is_killed(stage: Stage, shape: str, kind: str) -> None:
    """Nobody is left to take over: the run ends, and says so. (The only local worker is the engine of the parent.)"""
    scene = stage()
    if kind == "local":
        scene.start(shape, 40, workers=1)
    else:
        listen = f"127.0.0.1:{free_port()}"
        scene.start(shape, 40, "--join", "1", "--listen", listen, workers=0)
        scene.cli.start("worker", "--master", listen, env={"LATBENCH_SPOOL": str(scene.spools)})
    scene.loaded()
    killed_ns = kill(scene.engines()[0] if kind == "local" else scene.workers()[0])
    _gave_up(scene, shape, killed_ns + MARGIN_NS)


@pytest.mark.long
@SHAPES
def test_on_worker_loss_abort(stage: Stage, shape: str) -> None:
    scene = stage()
    scene.start(shape, 40, "--on-worker-loss", "abort")
    scene.loaded(workers=3)
    killed_ns = kill(scene.workers()[0])
    _gave_up(scene, shape, killed_ns + 3 * S)


@pytest.mark.long
@SHAPES
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_interruption_drains(stage: Stage, shape: str, number: signal.Signals) -> None:
    scene = stage(options=("--ttft-ms", "25", "--itl-ms", "60"))
    scene.start(shape, 40)
    scene.loaded(workers=3)
    at_ns = kill(scene.run.process.pid, number)
    summary = scene.closed(scene.run.wait(), 130)
    assert {name for name, count in summary["endpoints"]["m"]["outcomes"].items() if count} == {"ok"}
    books = scene.books()
    books.every_sending_is_known()
    assert max(books.arrived) < at_ns + S
    if shape == "open":
        books.plan_is_whole(40, to_its_end=False)


@pytest.mark.long
@SHAPES
def test_two_interruptions_cancel(stage: Stage, shape: str) -> None:
    """What is in flight at one of the endpoints would take another minute."""
    scene = stage(oracles=2)
    slow = stage(options=("--ttft-ms", "60000"))
    scene.journals[1] = slow.journal
    urls = [journal.served.url for journal in scene.journals]
    scene.start(shape, 40, urls=urls, drain="90s")
    scene.loaded(workers=3)
    first_ns = kill(scene.run.process.pid, signal.SIGINT)
    wait_until(lambda: "stopping: " in scene.run.err.read_text())
    kill(scene.run.process.pid, signal.SIGINT)
    summary = scene.closed(scene.run.wait(40.0), 130)
    assert summary["run"]["state"] == "partial"
    assert scene.cli.rows("SELECT count(*) FROM samples WHERE endpoint = 'm1' AND outcome = 'cancelled'")[0][0] > 0
    books = scene.books()
    books.every_sending_is_known()
    assert max(books.arrived) < first_ns + S
