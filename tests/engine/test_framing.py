"""Our framing of answers against aiohttp's own: the same bytes, at any split, come to the same answer and the same end.

Both handlers are fed by hand: no socket decides where the reads are cut.
"""

import asyncio
import gzip
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from aiohttp.client_proto import ResponseHandler
from hypothesis import example, given
from hypothesis import strategies as st

from latbench.engine.lag import Turn
from latbench.engine.reads import Head, Reads
from latbench.engine.stamped import StampedHandler
from latbench.engine.transport import head_of
from latbench.model.errors import DecodeError

EVENT = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
BEFORE = st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 2])
AFTER = st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"\r\n"])
STATUS = st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.1 200 ", b"HTTP/1.0 200 OK", b"HTTP/1.1 429 Slow down"])
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\n"])
SIZES = st.sampled_from(["%x", "%x", "%X", "%04x", "%x;a=b"])
CODINGS = st.sampled_from(
    [b"Transfer-Encoding: chunked"] * 3 + [b"TRANSFER-encoding:chunked", b"transfer-encoding:  Chunked "]
)
MORE = st.lists(
    st.one_of(
        st.sampled_from([b"Connection: keep-alive\r\n", b"connection:  Keep-Alive\r\n", b"CONNECTION: close\r\n"]),
        st.sampled_from(
            [b"Set-Cookie: a=1\r\nx: y\r\nset-cookie: b=2\r\n", b"x-empty:\r\n", b"x-Blanks: \t a b\t \r\n"]
        ),
        st.sampled_from(
            ["X-Name: café\r\n".encode(), b"X-Latin: caf\xe9\r\n", b"x-name : y\r\n", b"x-control: \x01\r\n"]
        ),
        st.sampled_from([b"Proxy-Connection: close\r\n", b"Keep-Alive: timeout=5\r\n", b"Trailer: x-sum\r\n"]),
    ),
    max_size=3,
).map(b"".join)


@dataclass(frozen=True)
class Came:
    """What a handler made of a connection: the answer, and whether it is whole, broken or still waiting."""

    status: int | None
    body: bytes
    end: str
    headers: dict[str, str] | None = None
    closes: bool = field(default=False, compare=False)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    found = asyncio.new_event_loop()
    yield found
    found.close()


def cut(wire: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(wire), *(at % (len(wire) + 1) for at in cuts)})
    return [wire[a:b] for a, b in pairwise(edges)]


def ours(loop: asyncio.AbstractEventLoop, pieces: list[bytes], *, closed: bool) -> Came:
    handler, reads = StampedHandler(loop, Turn(loop)), Reads()
    done = handler.begin(reads)
    for piece in pieces:
        if handler.reads is None:
            break  # the answer is over, or broken: the connection is not used again
        handler.data_received(piece)
    if closed:
        handler.connection_lost(None)
    fault = done.exception() if done.done() else None
    try:
        body = reads.body()
    except DecodeError:
        body, fault = b"".join(reads.data[: reads.framed]), fault or EOFError()
    if done.done() and fault is None:
        assert reads.end_ns is not None
    end = "waits" if not done.done() and fault is None else "broken" if fault else "whole"
    head = reads.head or Head(0, {})
    return Came(head.status or None, body, end, head.headers or None, handler.should_close)


def theirs(loop: asyncio.AbstractEventLoop, pieces: list[bytes], *, closed: bool) -> Came:
    handler = ResponseHandler(loop)
    handler.set_response_params(read_until_eof=True)
    status, headers, body, stream = None, None, b"", None

    def came(end: str) -> Came:
        return Came(status, body, end, headers, handler.should_close)

    for piece in pieces:
        handler.data_received(piece)
        while handler._buffer and stream is None:
            (message, payload), _ = handler._buffer.popleft()
            if message.code >= 200:
                status, stream = message.code, payload
                headers = dict(head_of(message.code, message.headers).headers) or None
        while stream is not None and stream._buffer and stream.exception() is None:
            body += stream.read_nowait()
        if stream is not None and stream.is_eof():
            return came("whole")
        if handler.exception() or (stream is not None and stream.exception()):
            return came("broken")
    if closed:
        handler.connection_lost(None)
    if stream is not None and stream.is_eof() and stream.exception() is None:
        return came("whole")
    broken = handler.exception() or (stream is not None and stream.exception())
    return came("broken" if broken else "waits")


def check(loop: asyncio.AbstractEventLoop, pieces: list[bytes], *, closed: bool) -> None:
    """Both come to the same, and a connection that aiohttp would not use again is not used by us either."""
    mine, other = ours(loop, pieces, closed=closed), theirs(loop, pieces, closed=closed)
    assert mine == other
    assert mine.closes or not other.closes or mine.end != "whole"


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """An answer in one of the ways in which HTTP may say it; where it is chunked, with something behind it."""
    pieces = draw(st.lists(st.one_of(st.just(EVENT), st.binary(min_size=1, max_size=30)), max_size=5))
    how = draw(st.sampled_from(["chunked", "chunked", "chunked", "gzip", "length", "close"]))
    head = draw(BEFORE) + draw(STATUS) + b"\r\nContent-Type: text/event-stream\r\n" + draw(MORE)
    if how == "length":
        return head + b"Content-Length: %d\r\n\r\n" % len(b"".join(pieces)) + b"".join(pieces)
    if how == "close":
        return head + b"\r\n" + b"".join(pieces)
    if how == "gzip":
        head, pieces = head + b"Content-Encoding: gzip\r\n", [gzip.compress(b"".join(pieces))]
    wire = b"".join((draw(SIZES) % len(one)).encode() + b"\r\n" + one + b"\r\n" for one in pieces)
    trailers = draw(st.sampled_from([b"", b"x-sum: 1\r\n"]))
    return head + draw(CODINGS) + b"\r\n\r\n" + wire + b"0\r\n" + trailers + b"\r\n" + draw(AFTER)


CUTS = st.lists(st.integers(0, 900), max_size=12)


@given(answers(), CUTS, st.booleans())
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", [46], True)
@example(b"HTTP/1.1 200 OK\r\nProxy-Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", [], False)
def test_an_answer_is_the_same_at_any_split(
    loop: asyncio.AbstractEventLoop, wire: bytes, cuts: list[int], closed: bool
) -> None:
    pieces = cut(wire, cuts)
    check(loop, pieces, closed=closed)


@given(answers(), CUTS, st.integers(0, 900), st.booleans())
def test_an_answer_that_was_cut_is_the_same(
    loop: asyncio.AbstractEventLoop, wire: bytes, cuts: list[int], at: int, closed: bool
) -> None:
    pieces = cut(wire[: at % len(wire)], cuts)
    check(loop, pieces, closed=closed)


@given(st.binary(min_size=1, max_size=40), CUTS)
def test_noise_in_the_place_of_chunks_is_broken_for_both_or_ends_nothing(
    loop: asyncio.AbstractEventLoop, noise: bytes, cuts: list[int]
) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = cut(head + noise, cuts)
    mine, other = (one(loop, pieces, closed=True) for one in (ours, theirs))
    assert (mine.end == "whole") <= (other.end == "whole" or b"\n" in noise.replace(b"\r\n", b""))


@given(st.lists(st.just(EVENT), min_size=1, max_size=6), ENDS, CUTS)
def test_lines_that_end_with_lf_alone_are_taken(
    loop: asyncio.AbstractEventLoop, events: list[bytes], end: bytes, cuts: list[int]
) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire = b"".join(b"%x" % len(one) + end + one + end for one in events) + b"0" + end + end
    coding = {"transfer-encoding": "chunked"}
    assert ours(loop, [head, *cut(wire, cuts)], closed=False) == Came(200, b"".join(events), "whole", coding)


def test_what_follows_an_answer_closes_its_connection(loop: asyncio.AbstractEventLoop) -> None:
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
    for after in (b"", b"HTTP/1.1 200 OK\r\n\r\n", b"x"):
        handler = StampedHandler(loop, Turn(loop))
        handler.begin(Reads())
        handler.data_received(whole + after)
        assert handler.should_close == bool(after)
