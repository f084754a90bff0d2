"""However an answer is cut into reads, and however little of it is decoded at a time, it is the same answer."""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from servers import DONE, LAST_CHUNK, ROLE, chunk, event, sse, usage

from latbench.engine.exchange import Exchange
from latbench.engine.reads import Head, Reads
from latbench.model.answer import Answer
from latbench.model.errors import DecodeError
from latbench.providers.registry import DIALECTS
from latbench.wire.chunked import ChunkedBody
from latbench.wire.sse import SseFramer

DIALECT = DIALECTS["openai-chat"]
AT_ONCE = 0  # has passed: what is decoded between two looks at the clock is all there is
NEVER = 1 << 62


def slowly(pieces: list[bytes], stamps: Sequence[int], *, chunked: bool) -> tuple[Answer, str | None]:
    """Event by event; with the answer, what was wrong with the bytes, where the rest counts no more."""
    body, framer, answer, at_ns = ChunkedBody(), SseFramer(), Answer(), 0
    try:
        for piece, at_ns in zip(pieces, stamps, strict=True):
            for payload in framer.feed(body.feed(piece) if chunked else piece):
                DIALECT.decode(payload, at_ns, answer)
        for payload in framer.close():
            DIALECT.decode(payload, at_ns, answer)
    except DecodeError as fault:
        return answer, str(fault)[:300]
    return answer, None


class Fed:
    """An exchange whose reads are given by hand. `alike` are how many events were decoded as such, each time."""

    def __init__(self, *, chunked: bool) -> None:
        self.alike: list[int] = []
        dialect = replace(DIALECT, decode_alike=self._alike)
        self.reads = Reads(head=Head(200, {}), chunked=ChunkedBody() if chunked else None)
        self.exchange = Exchange("e", 0, 0, 0, "p0", "", True, dialect, reads=self.reads)

    def _alike(self, pieces: list[bytes], stamps: Sequence[int], answer: Answer) -> bool:
        assert DIALECT.decode_alike is not None
        taken = DIALECT.decode_alike(pieces, stamps, answer)
        if taken:
            self.alike.append(len(pieces))
        return taken

    def come(self, pieces: list[bytes], stamps: Sequence[int]) -> None:
        for piece, at_ns in zip(pieces, stamps, strict=True):
            self.reads.data.append(piece)
            self.reads.at_ns.append(at_ns)
            self.reads.size += len(piece)

    def decode(self, until_ns: int) -> bool:
        return self.exchange.decode(until_ns)

    def result(self) -> tuple[Answer, str | None]:
        assert self.exchange.malformed == (self.exchange.problem is not None)
        return self.exchange.answer, self.exchange.problem


def decoded(
    pieces: list[bytes], stamps: Sequence[int], *, chunked: bool, batches: list[int], until_ns: Callable[[], int]
) -> Fed:
    """The pieces come in batches; each time as much is decoded as there is time for, once, and the rest later."""
    fed = Fed(chunked=chunked)
    for begin, end in pairwise([0, *batches, len(pieces)]):
        fed.come(pieces[begin:end], stamps[begin:end])
        fed.decode(until_ns())
    fed.exchange.ended_ns = NEVER
    for _ in range(4 * sum(map(len, pieces)) + 10):
        if fed.decode(until_ns()):
            break
    else:
        pytest.fail("it never ends")
    return fed


def stamped(pieces: list[bytes]) -> "array[int]":
    return array("q", range(1000, 1000 + len(pieces)))


def token(text: str, name: str = "c-1", **more: Any) -> bytes:
    return event(text, **more).replace(b'"c-1"', b'"' + name.encode() + b'"')


def odd(text: bytes) -> bytes:
    """The usual event with any bytes in the place of its text."""
    return event("text").replace(b'"text"', text)


END = [event(finish="stop"), usage(7), DONE]
TEXTS = st.one_of(st.text(max_size=4), st.sampled_from(["", " a", '"', "\n", "é", "\U0001f980"]))
OTHERS = st.sampled_from(
    [
        token("a", "c-2"),
        token("a", model="m-2"),
        token("a", system_fingerprint="fp"),
        token("a", choices=[]),
        token("a", delta={"reasoning_content": "hm"}),
        event(delta={"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": "{}"}}]}),
        event(delta={"content": None}),
        event("a", finish="length"),
        event("a") + event("b"),
        event("a")[:-1] + b": ping\n\n",
        event("a").replace(b"\n", b"\r\n"),
        event("a").replace(b"data: ", b"data:"),
        b": ping\n\n",
        sse({"error": {"message": "busy"}}),
        usage(3),
        DONE,
    ]
)
BROKEN = st.sampled_from(
    [
        b'"a"\n',
        b'"a"\n\n',
        b'"a"\n: ping\n',
        b'"a"\r',
        b'"a" "b"',
        b'"a',
        b"1",
        b"",
        b'"a", "b"',
        b'"\xff"',
        b'"\\ud800"',
    ]
)


@st.composite
def answers(draw: st.DrawFn) -> list[bytes]:
    """Events, most of them alike; now and then one that is not, and from one of them on the others have another id."""
    count = draw(st.sampled_from([0, 3, 20, 70, 150]))
    texts = draw(st.lists(TEXTS, min_size=1, max_size=8))
    change = draw(st.integers(0, 200))
    usual = [token(texts[number % len(texts)], "c-1" if number < change else "c-2") for number in range(count)]
    for at, other in draw(
        st.lists(st.tuples(st.integers(0, 150), st.one_of(OTHERS, OTHERS, BROKEN.map(odd))), max_size=3)
    ):
        usual.insert(at, other)
    return [ROLE, *usual, *draw(st.sampled_from([END, END, [DONE], []]))]


@st.composite
def came(draw: st.DrawFn) -> tuple[list[bytes], bool]:
    """Reads of an answer, and whether it is in chunks."""
    events, chunked = draw(answers()), draw(st.booleans())
    pieces = [chunk(one) if chunked else one for one in events]
    pieces += [LAST_CHUNK] * chunked
    how = draw(st.sampled_from(["each", "each", "some", "cuts", "all"]))
    if how == "some":
        size = draw(st.integers(2, 5))
        pieces = [b"".join(pieces[at : at + size]) for at in range(0, len(pieces), size)]
    elif how != "each":
        whole = b"".join(pieces)
        cuts = draw(st.lists(st.integers(0, len(whole)), max_size=8 if how == "cuts" else 0))
        pieces = [whole[a:b] for a, b in pairwise(sorted({0, len(whole), *cuts}))]
    return pieces, chunked


@given(came(), st.lists(st.integers(0, 160), max_size=5), st.lists(st.booleans(), min_size=1, max_size=4))
@example(([chunk(ROLE), *[chunk(event("a"))] * 9, chunk(odd(b'"a"\n')), LAST_CHUNK], True), [], [True])
@example(([ROLE, *[event("a")] * 9, odd(b'"a"\n\n'), event("a")], False), [], [True])
def test_an_answer_is_the_same_however_it_is_decoded(
    case: tuple[list[bytes], bool], batches: list[int], in_time: list[bool]
) -> None:
    pieces, chunked = case
    stamps = stamped(pieces)
    turns = iter(range(1 << 30))
    fed = decoded(
        list(pieces),
        stamps,
        chunked=chunked,
        batches=sorted(min(at, len(pieces)) for at in batches),
        until_ns=lambda: NEVER if in_time[next(turns) % len(in_time)] else AT_ONCE,
    )
    assert fed.result() == slowly(pieces, stamps, chunked=chunked)


@pytest.mark.parametrize("until_ns", [AT_ONCE, NEVER], ids=["bit by bit", "at once"])
@pytest.mark.parametrize("chunked", [True, False])
def test_events_that_are_alike_are_decoded_as_such_in_each_part_of_a_long_answer(until_ns: int, chunked: bool) -> None:
    events = [ROLE, *(event(f"t{number} ") for number in range(300)), *END]
    pieces = [chunk(one) if chunked else one for one in events]
    fed = decoded(list(pieces), stamped(pieces), chunked=chunked, batches=[], until_ns=lambda: until_ns)
    assert fed.result() == slowly(pieces, stamped(pieces), chunked=chunked)
    assert sum(fed.alike) >= 280
    assert max(fed.alike) > 8
    assert list(fed.exchange.answer.output_ns) == list(range(1001, 1301))


OTHER = [event("b", system_fingerprint="fp"), event("b", delta={"reasoning": "hm"}), event("b").replace(b": ", b":")]


@pytest.mark.parametrize("other", [*OTHER, b": ping\n\n", event("b") + event("c"), event("")])
def test_what_is_not_alike_holds_nothing_up_for_long(other: bytes) -> None:
    pieces = [chunk(one) for one in [ROLE, *[event("a")] * 150, other, *[event("a")] * 150, *END]]
    fed = decoded(list(pieces), stamped(pieces), chunked=True, batches=[], until_ns=lambda: NEVER)
    assert fed.result() == slowly(pieces, stamped(pieces), chunked=True)
    assert sum(fed.alike) > 100


def test_large_reads_are_framed_one_at_a_time() -> None:
    """Framing takes its time, too: 64 kB in chunks of a byte take more than a slice."""
    body = event("a") * 60
    pieces = [chunk(ROLE), *[b"".join(chunk(body[at : at + 1]) for at in range(len(body)))] * 6, LAST_CHUNK]
    assert len(pieces[1]) > 1 << 15
    fed = decoded(list(pieces), stamped(pieces), chunked=True, batches=[], until_ns=lambda: NEVER)
    assert fed.result() == slowly(pieces, stamped(pieces), chunked=True)
    slow = Fed(chunked=True)
    slow.come(pieces[1:], stamped(pieces[1:]))
    assert not slow.decode(AT_ONCE)
    assert slow.exchange.reads.framed <= 1


def test_an_answer_whose_id_changes_is_the_same_answer() -> None:
    pieces = [chunk(one) for one in [ROLE, *[token("a")] * 150, *[token("b", "c-2")] * 150, *END]]
    fed = decoded(list(pieces), stamped(pieces), chunked=True, batches=[], until_ns=lambda: NEVER)
    answer, problem = fed.result()
    assert (answer, problem) == slowly(pieces, stamped(pieces), chunked=True)
    assert ("".join(answer.text), answer.request_id) == ("a" * 150 + "b" * 150, "c-1")
    assert sum(fed.alike) >= 64, "as long as it is the same"
