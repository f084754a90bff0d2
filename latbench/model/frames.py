"""What travels between engine, worker and master: one set of messages for both links.

Orders go down (master to worker to engine), reports come up. A message is a tagged struct in MessagePack, so that the
same bytes pass through a socketpair (with a length in front) and through Locust's own messages. Nothing here is secret:
keys are named by environment variable and read by the engine where it runs.
"""

import struct
from hashlib import sha256
from typing import Any

import msgspec

from latbench.model.load import Step
from latbench.model.request import Endpoint, Prompt, Timeouts, Tool
from latbench.model.sample import Sample

_LENGTH = struct.Struct(">I")
MAX_FRAME_BYTES = 1 << 30


class Job(msgspec.Struct, tag="job"):
    """Everything a worker needs to know before the first step.

    `origin_ns` is the zero of the run's clock, in the CLOCK_MONOTONIC of the machine where the engine runs. `prices`
    are by endpoint, as in `RunRecord`; with `budgeted`, nothing is sent that the master has not granted. With several
    `modes` the same prompts go out in each, held to `schema` where the mode is not `text`; all of that `repeat` times.
    With `respect`, a request that is refused for now waits as it was told, and is made again. `tools` are those of the
    steps that are tool loops.

    With a `book`, a folder of this machine, the prompts are needle trials: they go out in their order, one for each
    sequence number, and their messages stand in the book.
    """

    run_id: str
    worker: str
    version: str
    scenario_sha256: str
    origin_ns: int
    seed: int
    endpoints: list[Endpoint]
    prompts: list[Prompt]
    weights: dict[str, float]
    max_tokens: int
    cold: bool
    timeouts: Timeouts
    drain_ns: int
    budgeted: bool = False
    prices: dict[str, dict[str, float]] = {}
    modes: tuple[str, ...] = ("text",)
    schema: dict[str, Any] = {}
    respect: bool = False
    tools: tuple[Tool, ...] = ()
    repeat: int = 1
    book: str = ""


class Slot(msgspec.Struct, array_like=True, frozen=True):
    """A place of closed-loop concurrency. Slot s of E endpoints sends to endpoint s % E.

    Its sequence numbers begin at `first`, a stride apart; after `turns` of them it ends, or never where that is None.
    """

    number: int
    first: int
    turns: int | None = None


class Prepare(msgspec.Struct, tag="prepare"):
    """Get ready for step `step`: work out its arrivals, and open connections for these slots or shards.

    `stride` is the distance between a slot's sequence numbers. `cap` is this worker's part of `load.max_in_flight`,
    for each endpoint.
    """

    step: int
    load: Step
    stride: int = 1
    slots: list[Slot] = []
    shards: list[int] = []
    cap: int | None = None


class Go(msgspec.Struct, tag="go"):
    """Run the step that was prepared. `start_ns` and `lease_until_ns` are on the run's clock."""

    step: int
    start_ns: int
    lease_until_ns: int


class Slots(msgspec.Struct, tag="slots"):
    """The slots that are live on this worker now. A batch says by its `version` that this was obeyed."""

    slots: list[Slot]
    version: int = 0


class Shards(msgspec.Struct, tag="shards"):
    """The shards of the open loop that this worker owns from `from_ns` of the run on."""

    shards: list[int]
    from_ns: int
    cap: int | None = None
    version: int = 0


class Drain(msgspec.Struct, tag="drain"):
    """Begin nothing new, await what is in flight up to the drain limit, then send the step's final batch."""


class Cancel(msgspec.Struct, tag="cancel"):
    """As Drain, but what is in flight is cancelled at once."""


class StopEndpoint(msgspec.Struct, tag="stop_endpoint"):
    """A guard has stopped this endpoint on some worker: begin nothing new there."""

    endpoint: str
    reason: str


class Lease(msgspec.Struct, tag="lease"):
    """The master lives: requests may be begun until `until_ns` of the run. A lease that was read late is worth less."""

    until_ns: int


class Ack(msgspec.Struct, tag="ack"):
    """Batch `number` has been committed."""

    number: int


class Ping(msgspec.Struct, tag="ping"):
    """What does your clock say? `sent_ns` is the master's CLOCK_MONOTONIC."""

    sent_ns: int


class Grant(msgspec.Struct, tag="grant"):
    """The worker may have spent so much in all: requests, tokens, nano-dollars. See `plan/budget.py`."""

    total: tuple[int, int, int]
    version: int


class Recall(msgspec.Struct, tag="recall"):
    """Give back what is not reserved of your grant."""

    version: int


class NullTest(msgspec.Struct, tag="null_test"):
    """Measure your own error with `streams` streams at a time, while others do the same: `of` streams in all."""

    streams: int
    of: int


class Bye(msgspec.Struct, tag="bye"):
    """The run is over, or the worker is refused (`why`): end the process."""

    why: str = ""


class Hello(msgspec.Struct, tag="hello"):
    """The engine is up. `precision` is `full`, or `reduced` where the private hooks failed their self-test (`why`).

    `clock_id` names its CLOCK_MONOTONIC, `pid` its worker's process, `files` how many it may open.
    """

    version: str
    precision: str
    why: str = ""
    clock_id: str = ""
    pid: int = 0
    host: str = ""
    files: int = 0


class Accepted(msgspec.Struct, tag="accepted"):
    """The job has come, and this is what it was made of: the hash of the scenario, and of the prompts as they came."""

    scenario_sha256: str
    prompts_sha256: str


class Pong(msgspec.Struct, tag="pong"):
    """The answer to a `Ping`, with the CLOCK_MONOTONIC of the engine's machine."""

    sent_ns: int
    at_ns: int


class Prepared(msgspec.Struct, tag="prepared"):
    """Connections of `step` are open; `failures` maps an endpoint to why it could not be reached.

    `digest` is that of the step's arrivals: every engine must have worked out the same ones.
    """

    step: int
    failures: dict[str, str]
    digest: str = ""


class NullTested(msgspec.Struct, tag="null_tested"):
    """What a null test found in so many requests, counted as `metrics/histogram.py` does; or `why` it found nothing.

    `ttft_error` has a value for each request, `lag` one for each chunk.
    """

    requests: int = 0
    ttft_error: bytes = b""
    lag: bytes = b""
    why: str = ""


class Users(msgspec.Struct, tag="users"):
    """How many of Locust's users live on this worker."""

    count: int


class Effort(msgspec.Struct, array_like=True, frozen=True):
    """What an engine had to do, and how late it was, between two batches: [from_ns, to_ns) of the run.

    `cpu_ns` is the time that its process computed, `occupied_ns` the requests under way added up over time. `probe` and
    `chunk` are its lags (`engine/lag.py`), counted as `metrics/histogram.py` does.
    """

    from_ns: int
    to_ns: int
    cpu_ns: int
    occupied_ns: int
    probe: bytes = b""
    chunk: bytes = b""


class Batch(msgspec.Struct, tag="batch"):
    """Samples that ended since the last batch, those that have begun and not ended (as `lost`), and gauges.

    Batches are numbered from 1 and sent again until they are acknowledged. `final` marks the last batch of `step`; the
    step is over when the numbers up to it have no gap. `idle`: nothing is in flight, and by the orders up to `version`
    nothing more will begin. `planned` maps `endpoint/phase` to what was due so far; `stopped` maps an endpoint to the
    guard's reason; `paused` says that a turn had to wait for a lease; `effort` is of the time since the last batch,
    None where the engine died before it could say so; `spool` says why the spool could not be written.
    """

    step: int
    samples: list[Sample]
    in_flight: int
    run_id: str = ""
    final: bool = False
    number: int = 0
    planned: dict[str, int] = {}
    stopped: dict[str, str] = {}
    paused: bool = False
    idle: bool = False
    version: int = 0
    effort: Effort | None = None
    spool: str = ""


class Spending(msgspec.Struct, tag="spending"):
    """How much of its grant a worker has used: the fields of `PurseState` in `plan/budget.py`."""

    version: int
    grant: tuple[int, int, int]
    reserved: tuple[int, int, int]
    held: tuple[int, int, int]
    want: tuple[int, int, int] | None
    number: int


class Lost(msgspec.Struct, tag="lost"):
    """The engine or the worker is gone, or faulty: nothing more will come from it."""

    reason: str


Down = (
    Job
    | Prepare
    | Go
    | Slots
    | Shards
    | Drain
    | Cancel
    | StopEndpoint
    | Lease
    | Ack
    | Ping
    | Grant
    | Recall
    | NullTest
    | Bye
)
Up = Hello | Accepted | Pong | Prepared | NullTested | Users | Batch | Spending | Lost

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


def prompts_sha256(prompts: list[Prompt]) -> str:
    """The hash of prompts as they are sent: what master and worker compare."""
    return sha256(_encoder.encode([(prompt.id, prompt.messages, prompt.max_tokens) for prompt in prompts])).hexdigest()


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
