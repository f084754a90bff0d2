"""One request and its answer: from the stamps and bytes of the transport to a sample.

Bytes are kept as they came, with their stamps, and decoded later in slices of at most 0.1 ms, so that decoding never
stands between a chunk's arrival and its stamp. The stamp of an event is that of the read which completed it.
"""

import hashlib
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain, repeat

import aiohttp
import numpy as np
from aiohttp.http_exceptions import HttpProcessingError
from msgspec.structs import replace

from latbench.engine.clock import raw_ns
from latbench.engine.reads import MAX_ANSWER_BYTES, Reads
from latbench.engine.transport import BROKEN, Post, Transport
from latbench.model.answer import Answer, Refusal
from latbench.model.errors import DecodeError
from latbench.model.request import TEXT, Tool
from latbench.model.sample import Attempt, Headroom, Outcome, Sample, encode_gaps
from latbench.plan import toolbox
from latbench.providers.base import Dialect, Framer
from latbench.providers.headroom import headroom
from latbench.wire.sse import SseFramer

SLICE_NS = 100_000
MESSAGE_CHARS = 300
REFUSAL_BYTES = 1 << 16  # of a refusal's body are read; what it says stands at its beginning
READ_ON_CHARS = 1 << 20  # of an answer are counted and graded
_READ_ON = frozenset({Outcome.OK, Outcome.TRUNCATED, Outcome.STREAM_ERROR, Outcome.TIMEOUT, Outcome.STALLED})
"""What may hold a whole answer, though it may lack its end."""
_EVENTS_BETWEEN_LOOKS = 8
_PART_BYTES = 1 << 14  # of a read are framed at a time
_READS_AT_ONCE = 64  # are decoded in less than a slice
_READS_AT_FIRST = 8  # until the usual event of this answer is known
_BYTES_AT_ONCE = 1 << 16
_READS_WORTH_IT = 48  # fewer are left to the next time
_REQUEST_IDS = ("x-request-id", "request-id", "x-amzn-requestid", "apim-request-id")  # OpenAI, Anthropic, AWS, Azure


@dataclass(slots=True, eq=False)
class Exchange:
    """One logical request under way. Stamps in here are raw; `sample` turns them into times of the run.

    `verdict` is set by whoever ends it from outside (timeout, stalled, cancelled). `reported` says that the master has
    been told that it began. `tries` are the attempts that were refused for now, with raw stamps; `waiting` is the last
    one while the next has not left yet, and nothing is under way. `tools` are those that the model may call.
    """

    endpoint: str
    step: int
    seq: int
    slot: int
    prompt_id: str
    nonce: str
    streamed: bool
    dialect: Dialect
    mode: str = TEXT
    tools: tuple[Tool, ...] = ()
    key_index: int = 0
    phase: str = ""
    due_ns: int = 0
    sent_ns: int = 0
    reads: Reads = field(default_factory=Reads)
    answer: Answer = field(default_factory=Answer)
    verdict: Outcome | None = None
    problem: str | None = None
    broken: bool = False
    reconnects: int = 0
    ended_ns: int | None = None
    malformed: bool = False
    _framer: Framer | None = None
    _decoded: int = 0
    _events: list[bytes] = field(default_factory=list)
    _event: int = 0
    _event_ns: int = 0
    _unusual_until: int = 0
    _count: int = 0
    _closed: bool = False
    scheduled: bool = False
    reported: bool = False
    tries: list[Attempt] = field(default_factory=list)
    waited_ns: int = 0
    waiting: Attempt | None = None

    def begin(self, due_ns: int | None) -> None:
        """The request leaves now. `due_ns` (raw) is when it should have, None where no schedule says so."""
        self.sent_ns = raw_ns()
        self.scheduled = due_ns is not None
        self.due_ns = self.sent_ns if due_ns is None else due_ns

    async def run(self, transport: Transport, post: Post, may_again: Callable[[], bool] = lambda: True) -> None:
        """Send and await the end, right after `begin`. Never raises for what an endpoint does.

        A reused connection that broke before any byte of an answer is opened again, once; `sent` is then the
        second attempt's, if `may_again` allows one. Without a schedule that is when the request was due, too.
        """
        try:
            await transport.exchange(post, self.reads)
        except BROKEN as fault:
            tried = self.reads.any_bytes or self.reads.new_connection or self.reads.connected_ns is None
            if tried or not may_again():
                self._fault(fault)
            else:
                await self._once_more(transport, post)
        self.ended_ns = self.reads.end_ns or raw_ns()
        if self.reads.size > MAX_ANSWER_BYTES:
            self.malformed = True
            self.problem = f"the answer is larger than {MAX_ANSWER_BYTES >> 20} MB"

    async def _once_more(self, transport: Transport, post: Post) -> None:
        self.reconnects += 1
        self.reads = Reads()
        self.sent_ns = raw_ns()
        if not self.scheduled and not self.tries:
            self.due_ns = self.sent_ns
        try:
            await transport.exchange(post, self.reads, fresh=True)
        except BROKEN as fault:
            self._fault(fault)

    def _fault(self, fault: Exception) -> None:
        self.broken = True
        self.problem = f"{type(fault).__name__}: {fault}"[:MESSAGE_CHARS].encode(errors="replace").decode()
        # The exact type: aiohttp's public calls put what is not HTTP into it, and what a proxy refused into a subclass.
        self.malformed = isinstance(fault, HttpProcessingError) or type(fault) is aiohttp.ClientResponseError

    def refused(self) -> Refusal | None:
        """Why the endpoint would not answer, where it said so with a status. To be asked once it has ended."""
        head = self.reads.head
        if head is None or head.status == 200:
            return None
        return self.dialect.refusal(head.status, head.headers, self._body()[:REFUSAL_BYTES])

    def _frame(self) -> None:
        """Frame what nobody decodes as it comes: it may be over."""
        try:
            self.reads.frame(len(self.reads.data))
        except DecodeError as fault:
            self.malformed = True
            self.problem = str(fault)[:MESSAGE_CHARS]

    def _body(self) -> bytes:
        """What came of the body, as far as it was framed."""
        self._frame()
        return b"".join(self.reads.data[: self.reads.framed] if self.reads.chunked else self.reads.data)

    def set_aside(self, refusal: Refusal) -> None:
        """It was refused and waits. If it leaves again, this was an attempt of it; if not, this is its end."""
        self.waiting = Attempt(
            key_index=self.key_index,
            sent_ns=self.sent_ns,
            done_ns=self.ended_ns or self.sent_ns,
            outcome=refusal.outcome,
            status=self.reads.head.status if self.reads.head else None,
            kind=refusal.kind,
            error_code=refusal.code,
            wait_ns=refusal.wait_ns,
            request_id=self._request_id(),
            headroom=self._headroom(),
        )

    def next_try(self) -> None:
        """It leaves again, now, and has a connection and stamps of its own. When it was due stays what it was."""
        assert self.waiting is not None
        self.tries.append(self.waiting)
        self.waiting = None
        self.reads, self.answer = Reads(), Answer()
        self.ended_ns, self.broken, self.malformed, self.problem = None, False, False, None
        self.sent_ns = raw_ns()
        self.waited_ns += self.sent_ns - self.tries[-1].done_ns

    @property
    def last_output_ns(self) -> int | None:
        """Raw stamp of the last output decoded so far."""
        return self.answer.output_ns[-1] if self.answer.output_ns else None

    def may_wait(self) -> bool:
        """Whether decoding may wait for more: a few reads, some of them new since this was asked last.

        Where nothing comes, or there was no output yet, what is here may be what the limits are about.
        """
        count = len(self.reads.data)
        new, self._count = count > self._count, count
        return new and count - self._decoded < _READS_WORTH_IT and bool(self.answer.output_ns)

    def decode(self, until_ns: int) -> bool:
        """Decode what has arrived, until the raw clock passes `until_ns`; true when nothing is left.

        Only a streamed answer with status 200 is decoded as it comes; any other is read whole by `sample`.
        """
        reads = self.reads
        if self.malformed or not self.streamed or reads.head is None or reads.head.status != 200:
            if not self.malformed:
                self._frame()
            return True
        if self._framer is None:
            self._framer = self.dialect.framer()
        try:
            return self._decode_until(until_ns)
        except DecodeError as fault:
            self.malformed = True
            self.problem = str(fault)[:MESSAGE_CHARS]
            return True

    def _decode_until(self, until_ns: int) -> bool:
        decode, answer = self.dialect.decode, self.answer
        to_go = _EVENTS_BETWEEN_LOOKS
        while True:
            if self._event == len(self._events):
                if self._decode_usual():
                    if raw_ns() >= until_ns:
                        return False
                    continue
                if not self._next_events():
                    return True
            while self._event < len(self._events):
                payload = self._events[self._event]
                self._event += 1
                decode(payload, self._event_ns, answer)
                to_go -= 1
                if not to_go:
                    if raw_ns() >= until_ns:
                        return False
                    to_go = _EVENTS_BETWEEN_LOOKS
            if len(self._events) != 1 and raw_ns() >= until_ns:
                return False

    def _decode_usual(self) -> bool:
        """Decode the next reads all at once, where they are what nearly all are: whole events, of the usual form.

        False where they are not, or there are none; they are then decoded event by event.
        """
        reads, framer, decode_many = self.reads, self._framer, self.dialect.decode_many
        start = self._decoded
        most = _READS_AT_ONCE if self.answer.around else _READS_AT_FIRST
        stop = min(start + most, len(reads.data))
        if decode_many is None or start < self._unusual_until or start == stop or not isinstance(framer, SseFramer):
            return False
        if reads.size > _BYTES_AT_ONCE and sum(map(len, reads.data[start:stop])) > _BYTES_AT_ONCE:
            stop = start + 1  # framing takes time, too: of large reads one at a time
        self._unusual_until = stop
        try:
            reads.frame(stop)
        except DecodeError:
            if reads.framed == start:
                raise
            stop = reads.framed  # what is before the break counts
        bodies = reads.data[start:stop]
        if count := self._decode_alike(bodies, framer, start):
            reads.data[start : start + count] = [b""] * count
            self._decoded = self._unusual_until = start + count
            return True
        found = framer.feed_usual(bodies) if sum(map(len, bodies)) <= _BYTES_AT_ONCE else None
        if found is None:
            return False
        payloads, counts = found
        stamps = reads.at_ns[start:stop]
        if counts.count(1) != len(counts):
            stamps = array("q", chain.from_iterable(map(repeat, stamps, counts)))
        if not decode_many(payloads, stamps, self.answer):
            return False
        reads.data[start:stop] = [b""] * (stop - start)
        self._decoded = stop
        return True

    def _decode_alike(self, bodies: list[bytes], framer: SseFramer, start: int) -> int:
        """Decode as many of these reads as are the usual event and nothing else, and differ only in their texts."""
        decode, around = self.dialect.decode_alike, self.answer.around
        if decode is None or around is None:
            return 0
        pieces = framer.feed_alike(bodies, *around)
        stamps = self.reads.at_ns[start : start + len(pieces)]
        return len(pieces) if pieces and decode(pieces, stamps, self.answer) else 0

    def _next_events(self) -> bool:
        """Frame the next read, or a part of a large one; at the end of the body, what the framer held back."""
        reads, framer = self.reads, self._framer
        assert framer is not None
        self._event = 0
        if self._decoded < len(reads.data):
            reads.frame(self._decoded + 1)
            data = reads.data[self._decoded]
            self._event_ns = reads.at_ns[self._decoded]
            if len(data) <= _PART_BYTES:
                reads.data[self._decoded] = b""
                self._decoded += 1
            else:
                data, reads.data[self._decoded] = data[:_PART_BYTES], data[_PART_BYTES:]
            self._events = framer.feed(data)
            return True
        ended = self.ended_ns is not None and not self._closed
        self._closed = self._closed or ended
        self._events = framer.close() if ended and not self.broken else []
        return bool(self._events)

    def begun(self, due_ns: int) -> Sample:
        """The record of a request of which nothing more is known than that it was about to be sent."""
        return Sample(
            endpoint=self.endpoint,
            step=self.step,
            seq=self.seq,
            prompt_id=self.prompt_id,
            phase=self.phase,
            outcome=Outcome.LOST,
            slot=self.slot,
            due_ns=due_ns,
            nonce=self.nonce,
            output_mode=self.mode,
            key_index=self.key_index,
        )

    def sample(self, origin_ns: int) -> Sample:
        """The record of this exchange. Everything must have been decoded."""
        head = self.reads.head
        if not self.streamed and head is not None and head.status == 200:
            self._decode_plain()
        outcome, refusal = self._outcome()
        answer, reads = self.answer, self.reads
        if reads.first_byte_ns is None:
            self._frame()
        usage = answer.usage
        output = np.frombuffer(answer.output_ns, dtype=np.int64) if answer.output_ns else np.empty(0, np.int64)
        text = "".join(answer.text)

        def at(raw: int | None) -> int | None:
            return None if raw is None else raw - origin_ns

        found = self.begun(self.due_ns - origin_ns)
        found.outcome = outcome
        found.sent_ns = self.sent_ns - origin_ns
        found.connected_ns = at(reads.connected_ns)
        found.headers_ns = at(reads.headers_ns)
        found.first_byte_ns = at(reads.first_byte_ns)
        found.first_token_ns = at(int(output[0]) if len(output) else None)
        found.first_text_ns = at(answer.first_text_ns)
        found.last_token_ns = at(self._last_token_ns(output, outcome))
        found.done_ns = at(self.ended_ns)
        found.chunks = len(output)
        found.gaps = encode_gaps(output)
        found.input_tokens = usage.input if usage else None
        found.output_tokens = usage.output if usage else None
        found.reasoning_tokens = usage.reasoning if usage else None
        found.cached_tokens = usage.cached if usage else None
        found.token_source = self._token_source()
        found.reasoning_streamed = bool(answer.reasoning)
        found.status = head.status if head else None
        found.kind = refusal.kind if refusal else None
        found.error_code = refusal.code if refusal else None
        found.error_message = (refusal.message if refusal else None) or self.problem
        found.wait_ns = refusal.wait_ns if refusal else None
        found.finish_reason = answer.finish_reason
        found.request_id = answer.request_id or self._request_id()
        found.model = answer.model
        found.fingerprint = answer.fingerprint
        found.new_connection = reads.new_connection
        found.reconnects = self.reconnects
        found.text_chars = len(text)
        found.text_sha256 = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() if text else ""
        found.tries = [
            replace(one, sent_ns=one.sent_ns - origin_ns, done_ns=one.done_ns - origin_ns) for one in self.tries
        ]
        found.waited_ns = self.waited_ns
        found.headroom = self._headroom()
        found.tool_calls = len(answer.tool_calls)
        if outcome is Outcome.OK and self.tools and (made := toolbox.calls(answer)):
            found.tools_parallel_ns, found.tools_sequential_ns = toolbox.times_ns(self.tools, made)
        found.text = self._read_on(text)[:READ_ON_CHARS] or None if outcome in _READ_ON else None
        return found

    def _token_source(self) -> str:
        """A tokenizer may count instead of the provider only where all output is visible text."""
        answer = self.answer
        if answer.usage is not None and answer.usage.output is not None:
            return "usage"
        return "tokenizer" if answer.text and not answer.reasoning and not answer.tool_calls else "none"

    def _read_on(self, text: str) -> str:
        """What the worker counts and grades: the visible text, or the arguments of the tool that had to be called."""
        calls = self.answer.tool_calls
        return "".join(calls[min(calls)].arguments) if self.mode == "tool" and calls else text

    def _headroom(self) -> Headroom:
        head = self.reads.head
        found = headroom(head.headers) if head is not None else {}
        return {kind: (one.limit, one.remaining, one.reset_ns) for kind, one in found.items()}

    def _last_token_ns(self, output: np.ndarray, outcome: Outcome) -> int | None:
        """The last output chunk; of an answer that was not streamed, the end of its body."""
        if len(output):
            return int(output[-1])
        return self.ended_ns if not self.streamed and outcome is Outcome.OK else None

    def _request_id(self) -> str | None:
        headers = self.reads.head.headers if self.reads.head else {}
        found = next((headers[name] for name in _REQUEST_IDS if headers.get(name)), None)
        return found[:MESSAGE_CHARS] if found else None

    def _decode_plain(self) -> None:
        body = self._body()
        self.reads.data.clear()
        try:
            if not self.malformed and not self.broken and self.verdict is None:
                self.dialect.decode_plain(body, self.ended_ns or 0, self.answer)
        except DecodeError as fault:
            self.malformed = True
            self.problem = str(fault)[:MESSAGE_CHARS]

    def _outcome(self) -> tuple[Outcome, Refusal | None]:
        """What became of it: the table of outcomes, most telling sign first."""
        answer = self.answer
        refusal = self.refused()
        if refusal is not None:
            return Outcome(refusal.outcome), refusal
        if answer.refusal is not None:
            return Outcome(answer.refusal.outcome), answer.refusal
        if self.malformed:
            return Outcome.MALFORMED, None
        if answer.complete:
            return Outcome.OK, None
        if self.verdict is not None:
            return self.verdict, None
        if self.broken and not self.reads.any_bytes:
            return Outcome.CONNECT_ERROR, None
        return Outcome.TRUNCATED, None
