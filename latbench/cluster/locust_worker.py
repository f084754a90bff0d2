"""The bridge in a Locust worker: batches from the engine to the master, orders from the master to the engine.

It never measures anything. Batches are numbered here and sent again until the master has acknowledged them. Each
of Locust's users is a parked greenlet: its only meaning is that one more slot may live.
"""

import time

import gevent
import gevent.socket
from gevent.event import Event
from gevent.lock import RLock
from locust import User, task
from locust.env import Environment
from locust.exception import LocustError
from locust.rpc import Message

from latbench.cluster.children import EngineProcess
from latbench.cluster.merge import Outbox
from latbench.model.frames import Ack, Batch, Bye, Hello, Lost, Unpacker, Users, decode_down, decode_up, encode
from latbench.model.sample import Outcome, Sample
from latbench.scenario.tokens import count

UP = "latbench_up"
DOWN = "latbench_down"
RESEND_AFTER_S = 1.0
LEASE_S = 5.0
_LOOK_S = 0.25
_SETTLE_S = 0.02


class EndpointFailed(LocustError):
    """What Locust's own tables show for a request that was not `ok`."""


class SlotUser(User):
    """One slot of closed-loop concurrency, parked: the engine does its work."""

    def on_start(self) -> None:
        """Tell the bridge that one more slot may live."""
        bridge_of(self.environment).users_changed(+1)

    def on_stop(self) -> None:
        """Tell the bridge that one slot fewer may live."""
        bridge_of(self.environment).users_changed(-1)

    @task
    def park(self) -> None:
        """Wait to be stopped."""
        gevent.sleep(3600)


_bridges: dict[int, "Bridge"] = {}


def bridge_of(environment: Environment) -> "Bridge":
    """The bridge that was made for this environment."""
    return _bridges[id(environment)]


class Bridge:
    """One worker's bridge. `closed` is set when the worker has nothing left to do."""

    def __init__(self, environment: Environment, engine: EngineProcess) -> None:
        self._environment = environment
        self._engine = engine
        self._link = gevent.socket.socket(fileno=engine.link.detach())
        self._sending = RLock()
        self._outbox = Outbox()
        self._users = 0
        self._telling: gevent.Greenlet[[], None] | None = None
        self._lease_until_s = time.monotonic() + LEASE_S
        self.closed = Event()
        self.said_goodbye = False
        _bridges[id(environment)] = self
        assert environment.runner is not None
        environment.runner.register_message(DOWN, self._on_order)
        self._greenlets = [gevent.spawn(self._read_engine), gevent.spawn(self._look_after)]
        for greenlet in self._greenlets:
            greenlet.link_exception(self._failed)

    def _failed(self, greenlet: "gevent.Greenlet[[], None]") -> None:
        """The edge of this worker: what fails here ends it, and the run says why."""
        fault = greenlet.exception
        self._to_master(encode(Lost(f"the worker failed: {type(fault).__name__}: {fault}")))
        self.closed.set()

    # --- from the engine ------------------------------------------------------------------------------------------

    def _read_engine(self) -> None:
        unpacker = Unpacker()
        while True:
            try:
                data = self._link.recv(1 << 18)
            except OSError:
                data = b""
            if not data:
                break
            for frame in unpacker.feed(data):
                self._on_report(frame)
        if not self.closed.is_set():
            self._to_master(encode(Lost("the engine process has ended")))

    def _on_report(self, frame: bytes) -> None:
        report = decode_up(frame)
        if not isinstance(report, Batch):
            self._to_master(frame)
            if isinstance(report, Hello) and self._users:
                self._tell_users()  # to a master that knew nobody here, and took no notice when they came
            return
        for sample in report.samples:
            _count_tokens(sample)
            self._log(sample)
        report.number = self._outbox.next_number()
        data = encode(report)
        self._outbox.keep(report.number, data, time.monotonic())
        self._to_master(data)

    def _log(self, sample: Sample) -> None:
        """Keep Locust's own tables alive: once for each request, never for each token."""
        ok = sample.outcome == Outcome.OK
        end_ns = sample.last_token_ns or sample.done_ns
        elapsed_ms = (end_ns - sample.sent_ns) / 1e6 if end_ns is not None and sample.sent_ns is not None else 0.0
        self._environment.events.request.fire(  # type: ignore[no-untyped-call]
            request_type="POST",
            name=sample.endpoint,
            response_time=elapsed_ms,
            response_length=sample.text_chars,
            exception=None if ok else EndpointFailed(sample.outcome),
            context={},
        )

    # --- from the master ------------------------------------------------------------------------------------------

    def _on_order(self, environment: Environment, msg: Message, **_: object) -> None:
        data: bytes = msg.data
        order = decode_down(data)
        self._lease_until_s = time.monotonic() + LEASE_S
        if isinstance(order, Ack):
            self._outbox.acknowledged(order.number)
            return
        self._to_engine(data)
        if isinstance(order, Bye):
            self.said_goodbye = True
            self.closed.set()

    def _to_engine(self, data: bytes) -> None:
        with self._sending:  # a large frame is sent in pieces, and other greenlets run between them
            try:
                self._link.sendall(len(data).to_bytes(4, "big") + data)
            except OSError:
                self.closed.set()  # the reader reports the loss

    def _to_master(self, data: bytes) -> None:
        runner = self._environment.runner
        assert runner is not None
        runner.send_message(UP, data)

    # --- upkeep ---------------------------------------------------------------------------------------------------

    def users_changed(self, by: int) -> None:
        """A user of Locust's came or went. The master is told once the number has settled."""
        self._users += by
        if self.closed.is_set():
            return
        if self._telling is None or self._telling.ready():
            self._telling = gevent.spawn_later(_SETTLE_S, self._tell_users)

    def _tell_users(self) -> None:
        self._to_master(encode(Users(self._users)))

    def _look_after(self) -> None:
        """Send unacknowledged batches again; end when the master has been silent for longer than its lease."""
        while not self.closed.wait(_LOOK_S):
            now = time.monotonic()
            for data in self._outbox.due(now, RESEND_AFTER_S):
                self._to_master(data)
            if now >= self._lease_until_s:
                self.closed.set()

    def close(self) -> None:
        """End the engine and the greenlets."""
        self.closed.set()
        gevent.killall(self._greenlets)
        self._link.close()
        self._engine.end(1.0)
        _bridges.pop(id(self._environment), None)


def _count_tokens(sample: Sample) -> None:
    """Where the provider did not count, the tokenizer does; then nobody needs the text any more."""
    if sample.text is not None:
        sample.output_tokens = count(sample.text)
        sample.token_source = "tokenizer"
        sample.text = None
