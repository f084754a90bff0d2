"""The record of one logical request, sent or not, and the list of what can become of it.

Stamps are integer nanoseconds on one monotonic clock, zero at the start of the run. No derived number is stored
where its parts can be.
"""

from enum import StrEnum

import msgspec
import numpy as np

from latbench.model.needle import Grade


class Outcome(StrEnum):
    """What became of a request. Only `ok` enters latency distributions; all others are counted beside them."""

    OK = "ok"
    RATE_LIMITED = "rate_limited"
    QUOTA_EXHAUSTED = "quota_exhausted"
    OVERLOADED = "overloaded"
    AUTH_ERROR = "auth_error"
    INVALID_REQUEST = "invalid_request"
    HTTP_ERROR = "http_error"
    STREAM_ERROR = "stream_error"
    TRUNCATED = "truncated"
    MALFORMED = "malformed"
    TIMEOUT = "timeout"
    STALLED = "stalled"
    CONNECT_ERROR = "connect_error"
    CANCELLED = "cancelled"
    DROPPED = "dropped"
    LOST = "lost"


AT_CAP = "max_in_flight"
WITHOUT_LEASE = "the worker had lost its master"
LOAD_STOPPED = "the load was stopped when this had just become due"
NO_BUDGET = "the budget was used up"
"""Why a request was dropped: what the message of its sample begins with."""

Headroom = dict[str, tuple[int | None, int | None, int | None]]
"""What an answer says of its limits: by kind the limit, what remains of it, and nanoseconds until it is whole again."""


class Attempt(msgspec.Struct, array_like=True, frozen=True):
    """A try of a request that was refused for now and made again: what a `Sample` says of its last one.

    `key_index` is the place of the API key that was used, `wait_ns` the wait that was asked for.
    """

    key_index: int
    sent_ns: int
    done_ns: int
    outcome: str
    status: int | None = None
    kind: str | None = None
    error_code: str | None = None
    wait_ns: int | None = None
    request_id: str | None = None
    headroom: Headroom = {}


class Sample(msgspec.Struct, array_like=True):
    """One logical request.

    (`endpoint`, `step`, `seq`) names it. `gaps` holds the differences between the arrivals of its output-bearing chunks
    (see `encode_gaps`); with `first_token_ns` they give every arrival. `token_source` is `usage`, `tokenizer` or
    `none`. `reasoning_streamed` is true where reasoning arrived as chunks: if it was counted but not streamed, no
    time per output token exists. `text` is set only while somebody still has to read it, and where it was graded as the
    answer to a needle trial: `grade` then says what became of that.

    `tries` are the attempts before the one that the stamps are of, `waited_ns` is what was waited between them.
    `key_index` is the place of the API key that was used. `reference_tokens` counts the visible text with o200k_base,
    whatever the model's own tokens are; `valid` says whether the answer satisfies the schema that was asked for, `met`
    whether it is what the prompt expects; None where nobody asked.

    `tool_calls` counts the calls in the answer. Where they were to be executed by the mock tools of a tool loop,
    `tools_parallel_ns` is how long that takes all at once, and `tools_sequential_ns` one after the other.
    """

    endpoint: str
    step: int
    seq: int
    prompt_id: str
    phase: str  # warmup | measure
    outcome: str
    worker: str = ""
    slot: int = 0
    due_ns: int = 0
    sent_ns: int | None = None
    connected_ns: int | None = None
    headers_ns: int | None = None
    first_byte_ns: int | None = None
    first_token_ns: int | None = None
    first_text_ns: int | None = None
    last_token_ns: int | None = None
    done_ns: int | None = None
    chunks: int = 0
    gaps: bytes = b""
    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    token_source: str = "none"
    reasoning_streamed: bool = False
    status: int | None = None
    kind: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    wait_ns: int | None = None
    finish_reason: str | None = None
    request_id: str | None = None
    model: str | None = None
    fingerprint: str | None = None
    nonce: str = ""
    output_mode: str = "text"
    new_connection: bool = False
    reconnects: int = 0
    text_chars: int = 0
    text_sha256: str = ""
    key_index: int = 0
    tries: list[Attempt] = []
    waited_ns: int = 0
    headroom: Headroom = {}
    reference_tokens: int | None = None
    valid: bool | None = None
    met: bool | None = None
    text: str | None = None
    tool_calls: int = 0
    tools_parallel_ns: int | None = None
    tools_sequential_ns: int | None = None
    grade: Grade | None = None

    @property
    def key(self) -> tuple[str, int, int]:
        """What makes two records the same request."""
        return (self.endpoint, self.step, self.seq)


def encode_gaps(stamps_ns: np.ndarray) -> bytes:
    """Differences of rising stamps as bytes: `4` and uint32 little-endian, or `8` and int64 where one exceeds 4.29 s.

    Fewer than two stamps have no gap: empty bytes.
    """
    if len(stamps_ns) < 2:
        return b""
    gaps = np.diff(stamps_ns)
    if int(gaps.max()) < 2**32 and int(gaps.min()) >= 0:
        return b"4" + gaps.astype("<u4").tobytes()
    return b"8" + gaps.astype("<i8").tobytes()


def decode_gaps(data: bytes) -> np.ndarray:
    """The gaps of `encode_gaps`, int64 nanoseconds.

    Raises ValueError for bytes that `encode_gaps` cannot have made.
    """
    if not data:
        return np.empty(0, dtype=np.int64)
    width = data[:1]
    if width not in (b"4", b"8") or (len(data) - 1) % int(width):
        raise ValueError("not a record of chunk gaps")
    return np.frombuffer(data, dtype="<u4" if width == b"4" else "<i8", offset=1).astype(np.int64)
