"""Chunked framing: the same body at every split, its end found in the read that brings it, broken ones refused."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from latbench.model.errors import DecodeError
from latbench.wire.chunked import ChunkedBody

ENDS = st.sampled_from([b"\r\n", b"\n"])
SIZES = st.sampled_from(["%x", "%X", "%04x", "%x ", "%x;name=value", '%x ; a="b"'])


@st.composite
def encoded(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A body, and one of the ways in which it may be written."""
    pieces = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=6))
    wire = b""
    for piece in pieces:
        wire += (draw(SIZES) % len(piece)).encode() + draw(ENDS) + piece + draw(ENDS)
    trailers = draw(st.sampled_from([b"", b"x-sum: 1\r\n", b"a: b\r\nc: d\r\n"]))
    return b"".join(pieces), wire + draw(st.sampled_from([b"0", b"000"])) + draw(ENDS) + trailers + draw(ENDS)


def fed(wire: bytes, cuts: list[int]) -> tuple[bytes, ChunkedBody]:
    body = ChunkedBody()
    edges = sorted({0, len(wire), *(cut % (len(wire) + 1) for cut in cuts)})
    return b"".join(body.feed(wire[a:b]) for a, b in pairwise(edges)), body


@given(encoded(), st.lists(st.integers(0, 500), max_size=12), st.binary(max_size=9))
def test_any_split_gives_the_body_and_what_follows_it(case: tuple[bytes, bytes], cuts: list[int], after: bytes) -> None:
    whole, wire = case
    found, body = fed(wire + after, cuts)
    assert (found, body.ended, body.rest) == (whole, True, after)


@given(encoded())
def test_each_byte_by_itself(case: tuple[bytes, bytes]) -> None:
    whole, wire = case
    found, body = fed(wire, list(range(len(wire))))
    assert (found, body.ended, body.rest) == (whole, True, b"")


@given(encoded(), st.integers(0, 500))
def test_a_body_that_was_cut_has_not_ended(case: tuple[bytes, bytes], cut: int) -> None:
    whole, wire = case
    part = wire[: cut % len(wire)]
    found, body = fed(part, [])
    assert not body.ended
    assert whole.startswith(found)


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=4))
def test_noise_is_a_body_or_an_error(noise: bytes, cuts: list[int]) -> None:
    with suppress(DecodeError):
        found, _ = fed(noise, cuts)
        assert len(found) <= len(noise)


NO_SIZES = [b"", b"g", b"0x5", b"+5", b"5_0", b" 5", b"-1", b"1" * 17, b";a=b"]
NO_ENDS = [b"3\r\nabcd\r\n", b"3\r\nabcX", b"3\r\nabc\rX\n", b"5" + b"1" * 9000, b"5;" + b"a" * 9000 + b"\r\n"]


@pytest.mark.parametrize("wire", [*(size + b"\r\n" for size in NO_SIZES), *NO_ENDS])
@pytest.mark.parametrize("split", [False, True])
def test_what_is_no_framing_is_refused(wire: bytes, split: bool) -> None:
    with pytest.raises(DecodeError, match="chunked framing is broken"):
        fed(wire, list(range(len(wire))) if split else [])


def test_the_usual_read_is_one_whole_chunk() -> None:
    body = ChunkedBody()
    assert body.feed(b"5\r\nhello\r\n") == b"hello"
    assert body.feed(b"5\r\nhello\r\n5\r\nworld\r\n") == b"helloworld"
    assert body.feed(b"0\r\n\r\n") == b""
    assert body.ended


WHOLE = st.binary(min_size=1, max_size=20).map(lambda data: b"%x\r\n%s\r\n" % (len(data), data))
WITH_LINES = st.sampled_from([b"\r\n", b"a\r\n", b"\r\nb", b"1\r\na", b"1\r\na\r\n", b"0\r\n\r\n", b"\n\n", b"\r"]).map(
    lambda data: b"%x\r\n%s\r\n" % (len(data), data)
)
ODD_READS = st.one_of(
    st.sampled_from([b"", b"5\r\n", b"5", b"hello\r\n", b"\r\n", b"\n", b"1\r\nab\r\n", b"3\r\nab\r\n", b"2\r\nab"]),
    st.sampled_from(
        [b"A\r\n0123456789\r\n", b"0a\r\n0123456789\r\n", b"5;x=y\r\nhello\r\n", b"1\na\n", b"1 \r\na\r\n"]
    ),
    st.sampled_from(
        [b"1\r\na\r\n1\r\nb\r\n", b"1\r\na\r\n0\r\n\r\n", b"0\r\n\r\n", b"0\r\nx: y\r\n\r\n", b"g\r\na\r\n"]
    ),
    st.sampled_from([b"1000\r\n" + b"x" * 4096 + b"\r\n", b"fff\r\n" + b"x" * 4095 + b"\r\n", b"-1\r\na\r\n"]),
    st.tuples(st.integers(0, 9), st.binary(max_size=8)).map(lambda one: b"%x\r\n%s\r\n" % one),
    st.binary(max_size=12),
)
MANY = st.one_of(
    st.lists(st.one_of(WHOLE, WITH_LINES), max_size=6),
    st.lists(st.one_of(WHOLE, WHOLE, WITH_LINES, ODD_READS), max_size=6),
    st.tuples(WHOLE, WHOLE, st.integers(1, 30)).map(
        lambda two: [(two[0] + two[1])[: two[2]], (two[0] + two[1])[two[2] :]]
    ),
)


def one_after_the_other(body: ChunkedBody, reads: list[bytes]) -> tuple[list[bytes], str, bool, bytes]:
    """What each read gives, up to the fault, and how the body stands then."""
    found: list[bytes] = []
    fault = ""
    try:
        for read in reads:
            found.append(body.feed(read))
    except DecodeError as error:
        fault = str(error)
    return found, fault, body.ended, body.rest


@given(MANY, MANY, MANY)
@example([], [b"1\r\na\r\n1\r\nb\r\n", b""], [])
@example([], [b"1\r\na\r\n1\r", b"\nb\r\n"], [])
@example([], [b"3\r\n", b"abc\r\n"], [])
@example([], [b"6\r\n1\r\na\r\n\r\n", b"1\r\na\r\n"], [])
@example([b"0\r\n\r\n"], [b"1\r\na\r\n"], [])
@example([b"3\r\na"], [b"b\r\n", b"1\r\nc\r\n"], [])
def test_many_reads_at_once_are_what_each_gives_by_itself_or_nothing(
    earlier: list[bytes], reads: list[bytes], later: list[bytes]
) -> None:
    at_once, apart = ChunkedBody(), ChunkedBody()
    if one_after_the_other(apart, earlier)[1]:
        return
    one_after_the_other(at_once, earlier)
    given_reads = list(reads)
    found = at_once.feed_many(reads)
    assert reads == given_reads
    expected = one_after_the_other(apart, reads)
    if found is None:
        assert one_after_the_other(at_once, reads) == expected, "nothing has been fed"
    else:
        assert (found, "", at_once.ended, at_once.rest) == expected
    if not expected[1]:
        assert one_after_the_other(at_once, later) == one_after_the_other(apart, later)


def test_usual_reads_are_taken_at_once_and_unusual_ones_are_not() -> None:
    body = ChunkedBody()
    assert body.feed_many([b"5\r\nhello\r\n", b"1\r\n \r\n", b"3\r\na\n\n\r\n"]) == [b"hello", b" ", b"a\n\n"]
    assert body.feed_many([b"fff\r\n" + b"x" * 4095 + b"\r\n"]) == [b"x" * 4095]
    for reads in ([b"A\r\n0123456789\r\n"], [b"1\r\na\r\n", b"0\r\n\r\n"], [b"1\r\na\r\n1\r\nb\r\n"], [b""]):
        assert body.feed_many(reads) is None
    assert body.feed(b"2\r\na") == b"a"
    assert body.feed_many([b"1\r\na\r\n"]) is None, "half a chunk is awaited"
    assert body.feed(b"b\r\n0\r\n\r\n") == b"b"
    assert body.feed_many([b"1\r\na\r\n"]) is None, "the body has ended"
