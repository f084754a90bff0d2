"""Who may join: a handshake between worker and master, and sealed messages after it.

Whoever reaches a master's port could take a share of the load or invent samples, and whoever answers at its address
could have workers load anything. With a shared secret each side proves to the other that it knows it, and every later
message is sealed. Nothing is encrypted: prompts and samples can be read on the way. The secret itself never travels.

The worker says hello with a nonce. The master answers with a nonce of its own and an HMAC of both, which proves it to
the worker. Two keys, one a direction, come from the secret, both nonces and the worker's id; the first message sealed
with one proves the worker to the master, and the master says so. A worker that hears nothing says hello again, at any
point: the same hello gets the same answer. Every sealed message carries its number and a tag. A number is taken once,
and not when it is far behind the newest; within that distance order does not matter, because messages that wait for a
full queue may overtake one another.

On loopback there need be no secret. Then the same messages pass unsealed, and prove nothing; that one side has a secret
and the other has none is found by both. Pure functions of bytes: sockets and time belong to the caller.
"""

import hmac
import ipaddress
import secrets
import struct
from collections.abc import Mapping
from typing import NamedTuple

from latbench.model.errors import UserError

SECRET_ENV = "LATBENCH_SECRET"
SHORTEST_SECRET = 16
WINDOW = 1024

_NONCE_BYTES = 16
_PROOF_BYTES = 32
_TAG_BYTES = 16
_HELLO, _ANSWER, _REFUSAL, _READY, _MESSAGE = (bytes([kind]) for kind in range(1, 6))
_NUMBER = struct.Struct(">Q")
_TAG_FROM = 1 + _NUMBER.size
_PAYLOAD_FROM = _TAG_FROM + _TAG_BYTES
_WINDOW_MASK = (1 << WINDOW) - 1

_WANTED, _UNWANTED, _ANOTHER = (bytes([code]) for code in range(1, 4))
_TO_WORKER = {
    _WANTED: f"the master wants a secret: set {SECRET_ENV} here to the one it has",
    _UNWANTED: f"the master has no secret: set {SECRET_ENV} there, too, or unset it here",
    _ANOTHER: f"the master has another secret: set {SECRET_ENV} to the same on both sides",
}
_TO_MASTER = {
    _WANTED: f"the worker has no secret: set {SECRET_ENV} there to the one that is set here",
    _UNWANTED: f"the worker has a secret: set {SECRET_ENV} here, too, or unset it there",
    _ANOTHER: f"the worker has another secret: set {SECRET_ENV} to the same on both sides",
}


class Forged(Exception):
    """A message that the other side did not send, or not now: drop it. A session that stands is not touched."""


class Refused(Forged):
    """No session can come of this. The message says why and what to do; `reply` tells the other side, if it is set."""

    def __init__(self, why: str, reply: bytes | None = None) -> None:
        super().__init__(why)
        self.reply = reply


class Heard(NamedTuple):
    """What a message came to: `payload` for the caller, `reply` for the other side."""

    payload: bytes | None = None
    reply: bytes | None = None


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches a server that listens at `host`. Of names, only localhost is believed."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def secret_from(environ: Mapping[str, str]) -> bytes | None:
    """The shared secret, None where it is not set or empty. Raises UserError for one that is too short to be one."""
    secret = environ.get(SECRET_ENV, "")
    if 0 < len(secret) < SHORTEST_SECRET:
        raise UserError(f"{SECRET_ENV}: shorter than {SHORTEST_SECRET} characters; take 32 random ones")
    return secret.encode(errors="surrogateescape") or None  # any bytes will do


class _Session:
    """Both directions of one session, or, without keys, the bare messages."""

    def __init__(self, ours: bytes | None, theirs: bytes | None) -> None:
        self._ours = ours
        self._theirs = theirs
        self._sealed = 0
        self._newest = -1
        self._taken = 0  # bit i: number newest - i was taken

    def seal(self, kind: bytes, payload: bytes) -> bytes:
        if self._ours is None:
            return kind + payload
        number = _NUMBER.pack(self._sealed)
        self._sealed += 1
        return kind + number + _tag(self._ours, kind, number, payload) + payload

    def open(self, data: bytes) -> tuple[bytes, bytes]:
        """Kind and payload."""
        kind = data[:1]
        if kind not in (_READY, _MESSAGE):
            raise Forged("not a message of a session")
        if self._theirs is None:
            return kind, data[1:]
        number, tag, payload = data[1:_TAG_FROM], data[_TAG_FROM:_PAYLOAD_FROM], data[_PAYLOAD_FROM:]
        if not hmac.compare_digest(tag, _tag(self._theirs, kind, number, payload)):
            raise Forged("a message with a wrong tag")
        self._take(*_NUMBER.unpack(number))
        return kind, payload

    def _take(self, number: int) -> None:
        ahead = number - self._newest
        if ahead > 0:
            # An honest number is never far ahead; should one be, the shift must not fill the memory.
            self._taken = (self._taken << min(ahead, WINDOW) | 1) & _WINDOW_MASK
            self._newest = number
        elif -ahead >= WINDOW or self._taken >> -ahead & 1:
            raise Forged("a message that came before, or far too late")
        else:
            self._taken |= 1 << -ahead


class Side:
    """What both sides share. A side is made for one worker, and is of no use to another."""

    def __init__(self, secret: bytes | None, worker: str) -> None:
        self._secret = secret
        self._worker = worker.encode()
        self._nonce = secrets.token_bytes(_NONCE_BYTES)
        self._session: _Session | None = None
        self._ready = False

    @property
    def ready(self) -> bool:
        """Whether both sides have proved themselves, so that messages can be sealed."""
        return self._ready

    def seal(self, payload: bytes) -> bytes:
        """A payload as a message for the other side. This one has to be `ready`."""
        assert self._session is not None
        assert self._ready
        return self._session.seal(_MESSAGE, payload)


class WorkerSide(Side):
    """A worker's side. Say `hello`, again and again, until `ready`; hand everything that comes to `receive`."""

    def __init__(self, secret: bytes | None, worker: str) -> None:
        """`worker` is the id under which the master knows this worker."""
        super().__init__(secret, worker)
        self._answer = b""

    def hello(self) -> bytes:
        """The first message, and the one to send again: whatever of the handshake was lost, it brings it back."""
        return _HELLO + _mode(self._secret) + self._nonce

    def receive(self, data: bytes) -> Heard:
        """What a message from the master came to. Raises Refused, only before `ready`, and Forged."""
        kind = data[:1]
        if kind == _ANSWER:
            return Heard(reply=self._agree(data))
        if self._session is None:
            if kind == _REFUSAL:
                raise Refused(_reason(_TO_WORKER, data))
            raise Forged("a message before the master's answer")
        kind, payload = self._session.open(data)
        self._ready = True
        return Heard() if kind == _READY else Heard(payload=payload)

    def _agree(self, answer: bytes) -> bytes:
        """Check the master's answer and make the session; what to reply."""
        if self._session is None:
            self._session = self._session_after(answer)
            self._answer = answer
        elif answer != self._answer:  # what is compared here was seen by everybody
            raise Forged("another answer in the middle of a session")
        return self._session.seal(_READY, b"")

    def _session_after(self, answer: bytes) -> _Session:
        if len(answer) != 2 + _NONCE_BYTES + _PROOF_BYTES:
            raise Forged("not an answer")
        mode, nonce, proof = answer[1:2], answer[2 : 2 + _NONCE_BYTES], answer[2 + _NONCE_BYTES :]
        if mode != _mode(self._secret):
            raise Refused(_TO_WORKER[_WANTED if self._secret is None else _UNWANTED])
        if self._secret is None:
            return _Session(None, None)
        keys = _keys(self._secret, self._nonce, nonce, self._worker)
        if not hmac.compare_digest(proof, keys.proof):
            raise Refused(_TO_WORKER[_ANOTHER], _REFUSAL + _ANOTHER)
        return _Session(keys.up, keys.down)


class MasterSide(Side):
    """The master's side of one worker. Hand everything that comes from it to `receive`."""

    def __init__(self, secret: bytes | None, worker: str) -> None:
        """`worker` is the id by which messages are routed; a worker that proves itself proves that it is its own."""
        super().__init__(secret, worker)
        self._hello = b""
        self._answer = b""

    def receive(self, data: bytes) -> Heard:
        """What a message from the worker came to. Raises Refused, only before `ready`, and Forged."""
        kind = data[:1]
        if kind == _HELLO:
            return Heard(reply=self._greet(data))
        if self._session is None:
            raise Forged("a message before the worker's hello")
        if kind == _REFUSAL and not self._ready:
            raise Refused(_reason(_TO_MASTER, data))
        kind, payload = self._session.open(data)
        self._ready = True
        return Heard(reply=self._session.seal(_READY, b"")) if kind == _READY else Heard(payload=payload)

    def _greet(self, hello: bytes) -> bytes:
        """The answer to a hello: the same to the same. Until the worker has proved itself, the last hello counts."""
        if hello == self._hello:
            return self._answer
        if self._ready:
            raise Forged("another hello in the middle of a session")
        if len(hello) != 2 + _NONCE_BYTES:
            raise Forged("not a hello")
        if hello[1:2] != _mode(self._secret):
            code = _UNWANTED if self._secret is None else _WANTED
            raise Refused(_TO_MASTER[code], _REFUSAL + code)
        proof = bytes(_PROOF_BYTES)
        if self._secret is None:
            self._session = _Session(None, None)
        else:
            keys = _keys(self._secret, hello[2:], self._nonce, self._worker)
            self._session = _Session(keys.down, keys.up)
            proof = keys.proof
        self._hello, self._answer = hello, _ANSWER + _mode(self._secret) + self._nonce + proof
        return self._answer


class _Keys(NamedTuple):
    """What the secret and both nonces give: the master's proof, and a key for each direction."""

    proof: bytes
    up: bytes
    down: bytes


def _keys(secret: bytes, of_worker: bytes, of_master: bytes, worker: bytes) -> _Keys:
    def derive(use: bytes) -> bytes:
        return hmac.digest(secret, b"latbench 1 " + use + of_worker + of_master + worker, "sha256")

    return _Keys(derive(b"proof"), derive(b"up..."), derive(b"down."))  # one length, so that no use reads as another


def _tag(key: bytes, kind: bytes, number: bytes, payload: bytes) -> bytes:
    mac = hmac.new(key, kind + number, "sha256")
    mac.update(payload)
    return mac.digest()[:_TAG_BYTES]


def _mode(secret: bytes | None) -> bytes:
    return b"\0" if secret is None else b"\1"


def _reason(reasons: Mapping[bytes, str], refusal: bytes) -> str:
    """Words of ours for the other side's code: nothing that came over the network is shown."""
    if refusal[1:] not in reasons:
        raise Forged("not a refusal")
    return reasons[refusal[1:]]
