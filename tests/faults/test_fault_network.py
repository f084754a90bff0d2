"""A worker on a machine of its own (a network namespace) that is cut off from its master and not from the endpoint.

The endpoint it sees is a door of its own, behind which a second oracle keeps its log: what arrives there is the cut
worker's, and nobody else's. A worker in a time namespace is on another clock.
"""

import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from faults_kit import LEASE_NS, MARGIN_NS, SLOTS, S, Scene, Stage, lost_worker, reasons, wait_until_ns
from harness import LATBENCH, free_port

pytestmark = [pytest.mark.timeout(110), pytest.mark.long]

SECRET = "faults-need-a-secret-of-some-length"
PLACE = os.getpid() % 250 + 1


def _ip(*words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words], check=check, capture_output=True)


@dataclass
class Machine:
    """A network namespace with two cables to us: `control` may be cut, `data` never is."""

    name: str = f"latbench-{PLACE}"
    control: str = f"198.18.{PLACE}.1"
    data: str = f"198.19.{PLACE}.1"
    inside: str = f"198.19.{PLACE}.2"

    def __enter__(self) -> "Machine":
        try:
            _ip("netns", "add", self.name)
            _ip("-n", self.name, "link", "set", "lo", "up")
            for letter, address in (("c", self.control), ("d", self.data)):
                here, there = f"lb{letter}{PLACE}", f"lb{letter}{PLACE}in"
                _ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", self.name)
                _ip("addr", "add", f"{address}/30", "dev", here)
                _ip("link", "set", here, "up")
                _ip("-n", self.name, "addr", "add", f"{address[:-1]}2/30", "dev", there)
                _ip("-n", self.name, "link", "set", there, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for letter in "cd":
            _ip("link", "del", f"lb{letter}{PLACE}", check=False)
        _ip("netns", "del", self.name, check=False)

    def cable(self, state: str) -> int:
        """Set the control cable `up` or `down`, at their end; when that was (CLOCK_MONOTONIC)."""
        _ip("-n", self.name, "link", "set", f"lbc{PLACE}in", state)
        return time.monotonic_ns()


@dataclass
class Door:
    """Forwards connections to ports of loopback, to one for each address that they come from."""

    host: str
    ports: dict[str, int]
    _socket: socket.socket = field(init=False)

    def __enter__(self) -> "Door":
        self._socket = socket.create_server((self.host, 0), backlog=256)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self._socket.getsockname()[1]}/v1"

    def _accept(self) -> None:
        while True:
            try:
                client, (address, _) = self._socket.accept()
            except OSError:
                return
            endpoint = socket.create_connection(("127.0.0.1", self.ports[address]))
            for pair in ((client, endpoint), (endpoint, client)):
                threading.Thread(target=_pump, args=pair, daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Until one side ends; the other then gets to know. The sockets close when both directions have ended."""
    target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
    source.close()


@pytest.fixture
def machine() -> Iterator[Machine]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a network namespace needs root and the command `ip`")
    made = Machine()
    try:
        made.__enter__()
    except subprocess.CalledProcessError as fault:
        pytest.skip(f"no network namespace can be made here: {fault.stderr!r}")
    try:
        yield made
    finally:
        made.__exit__()


@contextlib.contextmanager
def _far_run(stage: Stage, machine: Machine, shape: str, seconds: float) -> Iterator[Scene]:
    """Two workers here, one on the machine; the second oracle's log is the far worker's."""
    scene = stage(oracles=2)
    here, far = (journal.served.port for journal in scene.journals)
    scene.env["LATBENCH_SECRET"] = SECRET
    with Door(machine.data, {machine.data: here, machine.inside: far}) as door:
        listen = f"{machine.control}:{free_port()}"
        scene.start(shape, seconds, "--join", "1", "--listen", listen, workers=2, urls=[door.url])
        program = ("ip", "netns", "exec", machine.name, str(LATBENCH))
        spools = {"LATBENCH_SPOOL": str(scene.spools.with_name("far")), "LATBENCH_SECRET": SECRET}
        scene.cli.start("worker", "--master", listen, program=program, env=spools)
        scene.loaded(workers=3)
        yield scene


@pytest.mark.parametrize("shape", ["open", "closed"])
def test_cut_off_for_twelve_seconds(stage: Stage, machine: Machine, shape: str) -> None:
    with _far_run(stage, machine, shape, 25) as scene:
        cut_ns = machine.cable("down")
        wait_until_ns(cut_ns + 12 * S)
        machine.cable("up")
        summary = scene.ended_invalid(80.0)
        books = scene.books()
        far = scene.journals[1].quiet()
    dead = lost_worker(summary)
    books.all_accounted_for()
    books.every_sending_is_known()
    assert len([row for row in books.of(dead) if row.sent_ns is not None]) == len(far), "all that it sent is its own"
    assert [at for at in far if cut_ns + S < at < cut_ns + 3 * S], "it goes on until its lease is over"
    assert far[-1] < cut_ns + LEASE_NS + MARGIN_NS
    due = books.due_within(cut_ns + 8 * S, cut_ns + 11 * S)
    assert {row.worker for row in due} == books.workers - {dead}
    assert {row.outcome for row in due} == {"ok"}
    if shape == "closed":
        assert {row.slot for row in due} == set(range(SLOTS))
    else:
        books.plan_is_whole(25)


@pytest.mark.parametrize("shape", ["open", "closed"])
def test_cut_off_for_three_seconds(stage: Stage, machine: Machine, shape: str) -> None:
    """Shorter than the lease: nobody is lost, and nothing is."""
    with _far_run(stage, machine, shape, 12) as scene:
        cut_ns = machine.cable("down")
        wait_until_ns(cut_ns + 3 * S)
        machine.cable("up")
        summary = scene.closed(scene.run.wait(60.0), 0)
        books = scene.books()
    assert summary["validity"]["verdict"] in ("valid", "suspect")
    assert not {"worker_lost", "lost", "dropped"} & set(reasons(summary))
    books.every_sending_is_known()
    assert {row.outcome for row in books.rows} == {"ok"}
    if shape == "open":
        books.plan_is_whole(12)


def test_a_worker_on_another_clock(stage: Stage) -> None:
    """A thousand seconds ahead of its master: by pings the master knows, and all times are its own."""
    unshare = ("unshare", "--time", "--monotonic", "1000", "--fork")
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("a time namespace needs root and `unshare --time`")
    scene = stage()
    listen = f"127.0.0.1:{free_port()}"
    scene.start("open", 5, "--join", "1", "--listen", listen, workers=1)
    scene.cli.start(
        "worker", "--master", listen, program=(*unshare, str(LATBENCH)), env={"LATBENCH_SPOOL": str(scene.spools)}
    )
    summary = scene.closed(scene.run.wait(), 0)
    assert summary["validity"]["verdict"] in ("valid", "suspect")
    shown = scene.cli.run("runs", "show").summary
    clocks = sorted(shown["engine"]["clocks"].values(), key=lambda clock: clock["offset_ns"])
    assert [clock["shared"] for clock in clocks] == [True, False]
    assert clocks[0]["offset_ns"] == 0
    assert abs(clocks[1]["offset_ns"] - 1000 * S) < S // 200
    books = scene.books()
    books.every_sending_is_known()
    books.plan_is_whole(5)
    sent = sorted((row.sent_ns, row.worker) for row in books.rows if row.sent_ns is not None)
    for worker in books.workers:
        pairs = [(at, sent_ns) for at, (sent_ns, whose) in zip(books.arrived, sent, strict=True) if whose == worker]
        apart = statistics.median(at - sent_ns - books.origin_ns for at, sent_ns in pairs)
        assert abs(apart) < S // 200
