"""The workers as their master sees them: who has joined, who is heard, whose lease runs, whose clock says what.

Every message of a worker comes through here: it has proved that it knows the secret, where there is one, and it runs
the same version. A lease is a moment of the run until which a worker may begin requests; it is renewed once a second,
for as long as its engine answers. One that has not answered is given up only when its last lease is over, because only
then is it certain to send nothing more.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import gevent
import msgspec
from gevent.queue import Queue
from locust.env import Environment
from locust.rpc import Message

from latbench import __version__
from latbench.cluster.handshake import Forged, MasterSide, Refused
from latbench.cluster.locust_worker import DOWN, UP
from latbench.cluster.merge import Inbox
from latbench.cluster.worker_clock import WorkerClock
from latbench.model.frames import Bye, Down, Hello, Lease, Lost, NullTested, Ping, Pong, Slot, Up, decode_up, encode
from latbench.model.lifeline import clock_id

LEASE_NS = 5_000_000_000
SILENT_S = 2.5
NEVER_NS = 2**63 - 1
_EVERY_S = 1.0
_OUR_OWN_STALL_S = 2.0
_MARGIN_NS = 100_000_000
_DRIFT = 5_000  # clocks of two machines drift apart by less than one part in so many
_MOST_STRANGERS = 1000


@dataclass(slots=True)
class Member:
    """What is known of one worker."""

    id: str
    side: MasterSide
    hello: Hello | None = None
    clock: WorkerClock = field(default_factory=lambda: WorkerClock(shared=True))
    inbox: Inbox = field(default_factory=Inbox)
    users: int = 0
    slots: list[Slot] = field(default_factory=list)
    accepted: tuple[str, str] = ("", "")
    prepared: int = -1
    digest: str = ""
    failures: dict[str, str] = field(default_factory=dict)
    null_tested: NullTested | None = None
    in_flight: int = 0
    planned: dict[int, dict[str, int]] = field(default_factory=dict)
    heard_s: float = 0.0
    lease_until_ns: int = 0
    version: int = 0
    idle: tuple[int, int] = (-1, -1)
    enlisted: bool = False
    paused: bool = False
    unspooled: bool = False
    lost: bool = False
    moved_ns: int = NEVER_NS  # from that moment of the run on, its arrivals are others'

    @property
    def silent(self) -> bool:
        """Whether its engine has not answered for longer than it ever takes."""
        return time.monotonic() - self.heard_s > SILENT_S


class Crew:
    """The registry. What workers report is handed to `on_report`, one message at a time."""

    def __init__(
        self,
        runner: Any,  # noqa: ANN401  no type of Locust's has both ends
        secret: bytes | None,
        on_report: Callable[[Member, Up], None],
        changed: Callable[[], None],
    ) -> None:
        self._runner = runner
        self._secret = secret
        self._on_report = on_report
        self._changed = changed
        self._clock_id = clock_id()
        self._inbox: Queue[tuple[str, bytes]] = Queue()
        self._strangers: dict[str, Member] = {}
        self.members: dict[str, Member] = {}
        self.origin_ns = time.monotonic_ns()
        self.fault: BaseException | None = None  # what failed in the background, for whoever conducts to raise
        self.refused: dict[str, str] = {}
        runner.register_message(UP, self._on_message)
        self._greenlets = [gevent.spawn(self._pump), gevent.spawn(self._keep)]
        for greenlet in self._greenlets:
            greenlet.link_exception(self._failed)

    def now_ns(self) -> int:
        """The run's clock."""
        return time.monotonic_ns() - self.origin_ns

    def of_process(self, pid: int) -> Member | None:
        """The worker of this run that is this process of this machine."""
        for member in self.live():
            if member.hello is not None and (member.hello.pid, member.hello.clock_id) == (pid, self._clock_id):
                return member
        return None

    def close(self) -> None:
        """Send the workers home and stop listening."""
        self.tell_everybody(Bye())
        gevent.killall(self._greenlets)

    def restart(self) -> None:
        """Another run begins: its clock, and nothing of the run before but who is there."""
        self.fault = None
        for member in self.members.values():
            member.inbox.restart()
            member.prepared, member.planned, member.failures = -1, {}, {}
            member.enlisted = member.paused = member.unspooled = False
            member.null_tested = None
            member.accepted = ("", "")
        self.origin_ns = time.monotonic_ns()

    # --- who is there ---------------------------------------------------------------------------------------------

    def live(self) -> list[Member]:
        """The workers of this run. One that joins while it is under way has to wait for the next."""
        return [member for member in self.members.values() if member.enlisted and not member.lost]

    def ready(self) -> list[Member]:
        """Those that could begin: their engines are up, and their clocks are known."""
        return [member for member in self.members.values() if not member.lost and member.clock.known]

    def overdue(self) -> list[Member]:
        """Workers that do not answer, and whose lease is over: nothing that they have may still be sent by them."""
        now_ns = self.now_ns()
        return [
            member
            for member in self.live()
            if member.silent and now_ns > member.lease_until_ns + self._margin_ns(member)
        ]

    def _margin_ns(self, member: Member) -> int:
        """How far a worker's clock may be behind ours by now."""
        return _MARGIN_NS + (0 if member.clock.shared else member.clock.rtt_ns + self.now_ns() // _DRIFT)

    # --- talking --------------------------------------------------------------------------------------------------

    def tell(self, member: Member, order: Down) -> None:
        """Send an order to one worker."""
        if member.side.ready:
            self._send(member, member.side.seal(encode(order)))

    def tell_all(self, order: Down) -> None:
        """Send an order to the workers of this run."""
        for member in self.live():
            self.tell(member, order)

    def tell_everybody(self, order: Down) -> None:
        """Send an order to whoever is there, lost ones and waiting ones, too."""
        for member in list(self.members.values()):
            self.tell(member, order)

    def _send(self, member: Member, data: bytes) -> None:
        self._runner.send_message(DOWN, data, client_id=member.id)

    def _keep(self) -> None:
        """Renew leases; one for nothing tells those who wait for a run that the master is there."""
        looked = time.monotonic()
        while True:
            now = time.monotonic()
            if now - looked > _OUR_OWN_STALL_S:  # nobody was silent: nobody listened
                for member in self.members.values():
                    member.heard_s = now
            looked = now
            for member in list(self.members.values()):
                self.tell(member, Ping(time.monotonic_ns()))
                if member.enlisted and not member.lost and not member.silent:
                    self.renew(member)
                else:
                    self.tell(member, Lease(0))
            self._changed()
            gevent.sleep(_EVERY_S)

    def renew(self, member: Member) -> int:
        """Renew a lease; until when."""
        member.lease_until_ns = self.now_ns() + LEASE_NS
        self.tell(member, Lease(member.lease_until_ns))
        return member.lease_until_ns

    def _failed(self, greenlet: "gevent.Greenlet[[], None]") -> None:
        """A bug of ours that ended a greenlet: whoever conducts the run raises it."""
        self.fault = self.fault or greenlet.exception
        self._changed()

    @contextmanager
    def handing_over(self) -> Iterator[None]:
        """The edge of whoever works in the background: what fails within is kept for the run to raise.

        The greenlet goes on: a session of Locust's web UI has its next run heard by the same one.
        """
        try:
            yield
        except Exception as fault:  # noqa: BLE001  from a full disk to a bug of ours: none may die here unheard
            self.fault = self.fault or fault
            self._changed()

    # --- listening ------------------------------------------------------------------------------------------------

    def _on_message(self, environment: Environment, msg: Message, **_: object) -> None:
        """Locust calls this where it receives: only put the message aside, so that heartbeats are not held up."""
        if isinstance(msg.data, bytes):  # whoever reaches the port can send anything
            self._inbox.put((msg.node_id, msg.data))

    def _pump(self) -> None:
        """Take messages one by one. What fails here (a full disk) ends the run with its own error."""
        while True:
            sender, data = self._inbox.get()
            with self.handing_over():
                self._take(sender, data)
            self._changed()

    def _take(self, sender: str, data: bytes) -> None:
        member = self.members.get(sender) or self._strangers.get(sender)
        if member is None:
            if len(self._strangers) >= _MOST_STRANGERS:
                self._strangers.pop(next(iter(self._strangers)))
            member = self._strangers[sender] = Member(sender, MasterSide(self._secret, sender))
        try:
            heard = member.side.receive(data)
        except Refused as fault:
            self._refusal(sender, str(fault))
            if fault.reply is not None:
                self._send(member, fault.reply)
            return
        except Forged:
            return  # not from one of ours: nothing that it says is worth a word in a report
        if heard.reply is not None:
            self._send(member, heard.reply)
        if heard.payload is not None:
            self._report(member, heard.payload)

    def _report(self, member: Member, payload: bytes) -> None:
        member.heard_s = time.monotonic()
        try:
            report = decode_up(payload)
        except msgspec.MsgspecError:
            if member.hello is None:
                return self._refuse(member, "another version of latbench")
            raise
        match report:
            case Hello():
                self._welcome(member, report)
            case Pong(sent_ns=sent_ns, at_ns=at_ns):
                member.clock.pong(sent_ns, at_ns, time.monotonic_ns())
                if not member.clock.known:
                    self.tell(member, Ping(time.monotonic_ns()))
            case Lost(reason=reason) if member.hello is None:
                self._refusal(member.id, reason)  # its engine did not even come up
            case _ if member.hello is not None:
                self._on_report(member, report)
        return None

    def _welcome(self, member: Member, hello: Hello) -> None:
        if hello.version != __version__:
            self._refuse(member, f"latbench {hello.version}")
            return
        member.hello = hello
        member.clock = WorkerClock(shared=hello.clock_id == self._clock_id != "")
        self._strangers.pop(member.id, None)
        self.members[member.id] = member
        self.tell(member, Ping(time.monotonic_ns()))

    def _refusal(self, worker: str, why: str) -> None:
        if len(self.refused) < _MOST_STRANGERS:
            self.refused[worker] = why

    def _refuse(self, member: Member, has: str) -> None:
        why = f"it runs {has}, and this master latbench {__version__}: install the same on both"
        self._refusal(member.id, why)
        self.tell(member, Bye(f"refused: {why}"))
