"""Chunked framing: the same body at every split, its end found in the read that brings it, broken ones refused."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
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
