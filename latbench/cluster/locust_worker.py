"""The bridge in a Locust worker: batches from the engine to the master, orders from the master to the engine.

It never measures anything. It proves to the master who it is, counts tokens where the provider did not, and sends
batches again until the master has acknowledged them. Should the engine die, it sends what the engine had written down.
Each of Locust's users is a parked greenlet: its only meaning is that one more slot may live.
"""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import gevent
import gevent.socket
from gevent.event import Event
from gevent.lock import RLock
from locust import User, task
from locust.env import Environment
from locust.exception import LocustError, RPCSendError
from locust.rpc import Message

from latbench.cluster.children import EngineProcess
from latbench.cluster.handshake import Forged, Refused, WorkerSide
from latbench.cluster.merge import Outbox
from latbench.model.courtesy import come_after_engines, let_engines_go
from latbench.model.frames import Ack, Batch, Bye, Hello, Job, Lost, Unpacker, Users, decode_down, decode_up, encode
from latbench.model.sample import Outcome, Sample
from latbench.model.spool import read_spool, remove_segments, spool_root, spools_of
from latbench.needle.pages import NeedleReader, reader_of
from latbench.scenario.grading import Reader
from latbench.scenario.tokens import UNIT, encoding

UP = "latbench_up"
DOWN = "latbench_down"
RESEND_AFTER_S = 1.0
PATIENCE_S = 30.0
_LOOK_S = 0.25
_SILENT_S = 3.0
_SETTLE_S = 0.02


class EndpointFailed(LocustError):
    """What Locust's own tables show for a request that was not `ok`."""


class SlotUser(User):
    """One slot of closed-loop concurrency, parked: the engine does its work."""

    def on_start(self) -> None:
        """Tell the bridge that one more slot may live."""
        bridge_of(self.environment).users_changed(+1)

    def on_stop(self) -> None:
        """Tell the bridge that one slot fewer may live, unless it has nothing left to do."""
        bridge = _bridges.get(id(self.environment))
        if bridge is not None:
            bridge.users_changed(-1)

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

    def __init__(self, environment: Environment, engine: EngineProcess, secret: bytes | None = None) -> None:
        self._environment = environment
        self._engine = engine
        self._link = gevent.socket.socket(fileno=engine.link.detach())
        self._sending = RLock()
        self._outbox = Outbox()
        self._unsaid: list[bytes] = []
        self._job: Job | None = None
        self._reader: Reader | NeedleReader | None = None
        self._salvaged: list[Path] = []
        self._last_number = 0
        self._users = 0
        self._telling: gevent.Greenlet[[], None] | None = None
        self._heard_s = time.monotonic()
        self.closed = Event()
        self.said_goodbye = False
        self.refused = ""
        _bridges[id(environment)] = self
        come_after_engines()
        assert environment.runner is not None
        self._side = WorkerSide(secret, str(getattr(environment.runner, "client_id", "local")))
        environment.runner.register_message(DOWN, self._on_message)
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
            self._salvage()
            self._to_master(encode(Lost("the engine process has ended")))

    def _on_report(self, frame: bytes) -> None:
        report = decode_up(frame)
        if not isinstance(report, Batch):
            self._to_master(frame)
            if isinstance(report, Hello) and self._users:
                self._tell_users()  # to a master that knew nobody here, and took no notice when they came
            return
        for sample in report.samples:
            let_engines_go()
            self._read(sample)
            let_engines_go()
            self._log(sample)
        let_engines_go()
        self._keep(report)

    def _read(self, sample: Sample) -> None:
        """Count and grade an answer: its text goes no further than here, unless it answers a needle trial."""
        if self._reader is None:
            assert self._job is not None
            self._reader = reader_of(self._job)
        self._reader.read(sample)

    def _keep(self, batch: Batch) -> None:
        self._last_number = batch.number
        data = encode(batch)
        self._outbox.keep(batch.number, data, time.monotonic())
        self._to_master(data)

    def _salvage(self) -> None:
        """The engine is dead: what it had written down and not handed over goes to the master as a last batch."""
        if self._job is None:
            return
        samples: list[Sample] = []
        for path in spools_of(spool_root(os.environ), self._job.run_id, self._job.worker):
            try:
                samples += read_spool(path)[1]
                self._salvaged.append(path)
            except (OSError, ValueError) as fault:
                sys.stderr.write(f"latbench worker: {fault}\n")
        for sample in samples:
            self._read(sample)
        step = max((sample.step for sample in samples), default=0)
        self._keep(Batch(step, samples, 0, self._job.run_id, number=self._last_number + 1))

    def _log(self, sample: Sample) -> None:
        """Keep Locust's own tables alive: once for each request, never for each token.

        TTFT is a row of its own, and no part of Locust's total.
        """
        if sample.done_ns is None:
            return  # it has begun, and no more is known
        ok = sample.outcome == Outcome.OK
        end_ns = sample.last_token_ns or sample.done_ns
        elapsed_ms = (end_ns - sample.sent_ns) / 1e6 if end_ns is not None and sample.sent_ns is not None else 0.0
        self._environment.events.request.fire(  # type: ignore[no-untyped-call]
            request_type="POST",
            name=sample.endpoint,
            response_time=elapsed_ms,
            response_length=sample.text_chars,
            exception=None if ok else EndpointFailed(str(sample.outcome)),
            context={},
        )
        if ok and sample.first_token_ns is not None and sample.sent_ns is not None:
            first_ms = (sample.first_token_ns - sample.sent_ns) / 1e6
            self._environment.stats.get(sample.endpoint, "TTFT").log(first_ms, 0)  # type: ignore[arg-type]  # as `request` may be

    # --- from the master ------------------------------------------------------------------------------------------

    def _on_message(self, environment: Environment, msg: Message, **_: object) -> None:
        try:
            heard = self._side.receive(msg.data)
        except Refused as fault:
            self._give_up(str(fault))
            if fault.reply is not None:
                self._send(fault.reply)
            return
        except Forged:
            return  # not from our master
        self._heard_s = time.monotonic()
        if heard.reply is not None:
            self._send(heard.reply)
        if self._side.ready:
            unsaid, self._unsaid = self._unsaid, []
            for data in unsaid:
                self._send(self._side.seal(data))
        if heard.payload is not None:
            self._obey(heard.payload)

    def _give_up(self, why: str) -> None:
        self.refused = why
        self.closed.set()

    def _obey(self, data: bytes) -> None:
        order = decode_down(data)
        match order:
            case Ack(number=number):
                self._outbox.acknowledged(number)
            case Job():
                self._job, self._outbox, self._reader = order, Outbox(), None
            case Bye(why=why) if why:
                self._give_up(why)
            case Bye():
                self.said_goodbye = True
        self._to_engine(data)
        if isinstance(order, Job):
            # A third of a second, on a full machine more, in which no lease is passed on: now, and not in the run.
            encoding(UNIT)
        elif isinstance(order, Bye):
            self.closed.set()

    def _to_engine(self, data: bytes) -> None:
        with self._sending:  # a large frame is sent in pieces, and other greenlets run between them
            try:
                self._link.sendall(len(data).to_bytes(4, "big") + data)
            except OSError:
                return  # the reader reports the loss

    def _to_master(self, data: bytes) -> None:
        """Send a message, or keep it until the master has shown who it is."""
        if self._side.ready:
            self._send(self._side.seal(data))
        else:
            self._unsaid.append(data)

    def _send(self, data: bytes) -> None:
        runner = self._environment.runner
        assert runner is not None
        with suppress(RPCSendError):  # nobody is there to take it: what must arrive is sent again, see `_look_after`
            runner.send_message(UP, data)

    # --- upkeep ---------------------------------------------------------------------------------------------------

    def users_changed(self, by: int) -> None:
        """A user of Locust's came or went. The master is told once the number has settled."""
        self._users += by
        if self.closed.is_set():
            return
        if self._telling is None or self._telling.ready():
            self._telling = gevent.spawn_later(_SETTLE_S, self._tell_users)

    @property
    def users(self) -> int:
        """How many of Locust's users live here."""
        return self._users

    def _tell_users(self) -> None:
        self._to_master(encode(Users(self._users)))

    def _look_after(self) -> None:
        """Say hello until the master answers; send unacknowledged batches again; end when it has long been silent.

        The engine needs no telling: its lease has run out long before.
        """
        looked = time.monotonic()
        while True:
            if not self._side.ready:
                self._send(self._side.hello())
            if self.closed.wait(_LOOK_S):
                return
            now = time.monotonic()
            if now - looked > RESEND_AFTER_S:
                self._heard_s += now - looked  # it was this process that did not listen
            looked = now
            silent_s = now - self._heard_s
            if silent_s >= PATIENCE_S:
                self.closed.set()
            elif silent_s < _SILENT_S:  # to a master that is gone, each of Locust's sends would take 9 s to fail
                for data in self._outbox.due(now, RESEND_AFTER_S):
                    self._to_master(data)

    @property
    def left_behind(self) -> str:
        """Where what the master has not taken is written down; empty if it has all of it."""
        if not len(self._outbox) or self._job is None:
            return ""
        return str(spool_root(os.environ) / self._job.run_id)

    def close(self) -> None:
        """End the engine and the greenlets."""
        self.closed.set()
        gevent.killall(self._greenlets)
        self._link.close()
        self._engine.end(1.0)
        if not len(self._outbox):
            remove_segments(self._salvaged)
        _bridges.pop(id(self._environment), None)
