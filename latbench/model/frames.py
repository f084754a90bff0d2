"""What travels between engine, worker and master: one set of messages for both links.

Orders go down (master to worker to engine), reports come up. A message is a tagged struct in MessagePack, so that the
same bytes pass through a socketpair (with a length in front) and through Locust's own messages. Nothing here is secret:
keys are named by environment variable and read by the engine where it runs.
"""

import struct

import msgspec

from latbench.model.request import Endpoint, Prompt, Timeouts
from latbench.model.sample import Sample

_LENGTH = struct.Struct(">I")
MAX_FRAME_BYTES = 1 << 30


class Job(msgspec.Struct, tag="job"):
    """Everything a worker needs to know before the first step.

    `origin_ns` is the zero of the run's clock in CLOCK_MONOTONIC where engine and master share that clock (`Hello`
    says so by its `clock_id`); elsewhere it is None and the engine counts from `elapsed_ns` at the arrival of the job.
    """

    run_id: str
    version: str
    origin_ns: int | None
    elapsed_ns: int
    seed: int
    endpoints: list[Endpoint]
    prompts: list[Prompt]
    weights: dict[str, float]
    max_tokens: int
    cold: bool
    timeouts: Timeouts
    drain_ns: int
    abort_on_errors: bool


class Prepare(msgspec.Struct, tag="prepare"):
    """Open the connections of these slots before step `step` starts. `slots` are the worker's own, of the whole run."""

    step: int
    slots: list[int]


class Go(msgspec.Struct, tag="go"):
    """Run a closed-loop step. `start_ns` is on the run's clock; `stride` is the number of slots of an endpoint.

    With `requests`, slot k sends the sequence numbers k, k + stride, … below it; with `duration_ns`, new turns begin
    until `start_ns + warmup_ns + duration_ns`; with both, whichever ends first.
    """

    step: int
    start_ns: int
    stride: int
    warmup_ns: int
    think_ns: int
    duration_ns: int | None = None
    requests: int | None = None


class Slots(msgspec.Struct, tag="slots"):
    """The slots that are live on this worker now: Locust's users came or went."""

    slots: list[int]


class Drain(msgspec.Struct, tag="drain"):
    """Begin nothing new, await what is in flight up to the drain limit, then send the step's final batch."""


class Cancel(msgspec.Struct, tag="cancel"):
    """As Drain, but what is in flight is cancelled at once."""


class StopEndpoint(msgspec.Struct, tag="stop_endpoint"):
    """A guard has stopped this endpoint on some worker: begin nothing new there."""

    endpoint: str
    reason: str


class Lease(msgspec.Struct, tag="lease"):
    """The master lives: new requests may be begun for another five seconds."""


class Ack(msgspec.Struct, tag="ack"):
    """Batch `number` has been committed."""

    number: int


class Bye(msgspec.Struct, tag="bye"):
    """The run is over: end the process."""


class Hello(msgspec.Struct, tag="hello"):
    """The engine is up. `precision` is `full`, or `reduced` where the private hooks failed their self-test (`why`)."""

    version: str
    precision: str
    why: str = ""
    clock_id: str = ""


class Prepared(msgspec.Struct, tag="prepared"):
    """Connections of `step` are open; `failures` maps an endpoint to why it could not be reached."""

    step: int
    failures: dict[str, str]


class Users(msgspec.Struct, tag="users"):
    """How many of Locust's users live on this worker."""

    count: int


class Batch(msgspec.Struct, tag="batch"):
    """Samples that ended since the last batch, and gauges.

    The worker numbers its batches from 1 and sends one again until it is acknowledged. `final` marks the last batch of
    `step`; the step is over when the numbers up to it have no gap. `planned` maps `endpoint/phase` to the turns begun
    so far; `stopped` maps an endpoint to the guard's reason; `paused` says that a turn had to wait for a lease.
    """

    step: int
    samples: list[Sample]
    in_flight: int
    final: bool = False
    number: int = 0
    planned: dict[str, int] = {}
    stopped: dict[str, str] = {}
    paused: bool = False
    cpu: float | None = None


class Lost(msgspec.Struct, tag="lost"):
    """The engine or the worker is gone, or faulty: nothing more will come from it."""

    reason: str


Down = Job | Prepare | Go | Slots | Drain | Cancel | StopEndpoint | Lease | Ack | Bye
Up = Hello | Prepared | Users | Batch | Lost

_encoder = msgspec.msgpack.Encoder()
_down: msgspec.msgpack.Decoder[Down] = msgspec.msgpack.Decoder(Down)
_up: msgspec.msgpack.Decoder[Up] = msgspec.msgpack.Decoder(Up)


def encode(message: Down | Up) -> bytes:
    """A message as bytes, without a length."""
    return _encoder.encode(message)


def decode_down(data: bytes) -> Down:
    """An order. Raises msgspec.DecodeError for anything else."""
    return _down.decode(data)


def decode_up(data: bytes) -> Up:
    """A report. Raises msgspec.DecodeError for anything else."""
    return _up.decode(data)


def pack(message: Down | Up) -> bytes:
    """A message with its length in front, as it goes over a stream."""
    data = _encoder.encode(message)
    return _LENGTH.pack(len(data)) + data


class Unpacker:
    """Cuts a byte stream back into messages, at any split of the bytes."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that `data` completes. Raises ValueError for a length that no frame has."""
        pending = self._pending
        pending += data
        frames: list[bytes] = []
        at = 0
        while len(pending) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(pending, at)
            if length > MAX_FRAME_BYTES:
                raise ValueError(f"frame of {length} bytes")
            if len(pending) - at - _LENGTH.size < length:
                break
            at += _LENGTH.size
            frames.append(bytes(pending[at : at + length]))
            at += length
        del pending[:at]
        return frames
