"""The framer against a slow and obvious reading of the same rules, at every split of the bytes."""

import json
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from latbench.model.errors import DecodeError
from latbench.wire.sse import SseFramer

BOM = b"\xef\xbb\xbf"


def read(pieces: list[bytes], limit: int = 2**20) -> list[bytes]:
    framer = SseFramer(limit)
    events = [event for piece in pieces for event in framer.feed(piece)]
    return events + framer.close()


def reference(body: bytes) -> list[bytes]:
    """WHATWG's rules by the letter, on the whole body at once."""
    text = body.removeprefix(BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    *lines, rest = text.split(b"\n")
    events: list[bytes] = []
    data: list[bytes] = []
    for line in lines:
        if not line:
            if data:
                events.append(b"\n".join(data))
            data = []
        add_reference_line(line, data)
    add_reference_line(rest, data, cut=True)
    last = b"\n".join(data)
    if data and (last.strip() == b"[DONE]" or is_json(last)):
        events.append(last)
    return events


def add_reference_line(line: bytes, data: list[bytes], cut: bool = False) -> None:
    field, _, value = line.partition(b":")
    if field == b"data" and (b":" in line or not cut):
        data.append(value[1:] if value[:1] == b" " else value)


def refuse(constant: str) -> None:
    raise ValueError(constant)


def is_json(payload: bytes) -> bool:
    """By the letter: `json` would take other encodings, a byte-order mark and NaN as well."""
    try:
        json.loads(payload.decode("utf-8"), parse_constant=refuse)
    except ValueError:
        return False
    return True


LINES = st.one_of(
    st.sampled_from(
        [b"", b"", b"", b"data", b"data:", b"data: ", b"data:  two", b"data: [DONE]", b": ping", b":", b"event: delta"]
    ),
    st.sampled_from(
        [b"id: 1", b"retry: 10", b"id", b"datax: no", b"da", b"data:\xef\xbb\xbfx", b"\xef\xbb\xbfdata: y"]
    ),
    st.binary(max_size=12).map(lambda raw: b"data: " + raw.translate(None, b"\r\n")),
    st.text(max_size=6).map(lambda text: b"data:" + json.dumps({"t": text}, ensure_ascii=False).encode()),
)
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    lines = draw(st.lists(st.tuples(LINES, ENDS), max_size=14))
    body = draw(st.sampled_from([b"", BOM])) + b"data: 0\n\n" + b"".join(line + end for line, end in lines)
    return body + draw(st.sampled_from([b"", b"", b"data: {}", b"data: {", b"data: [DONE]", b"data: [DO", b"dat"]))


@example(b"data: 0\n\ndata: " + BOM + b"\ndata: {}")
@given(bodies())
def test_the_whole_body_reads_as_the_reference_says(body: bytes) -> None:
    assert read([body]) == reference(body)


@given(bodies())
def test_every_single_split_reads_the_same(body: bytes) -> None:
    expected = reference(body)
    for at in range(len(body) + 1):
        assert read([body[:at], body[at:]]) == expected


@given(bodies(), st.data())
def test_random_splits_read_the_same(body: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=12)))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert read(pieces) == reference(body)


@given(bodies())
def test_byte_by_byte_reads_the_same(body: bytes) -> None:
    assert read([body[at : at + 1] for at in range(len(body))]) == reference(body)


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_an_event_is_handed_out_by_the_byte_that_ends_it(end: bytes) -> None:
    framer = SseFramer()
    assert framer.feed(b"data: a" + end) == []
    assert framer.feed(end[:1]) == [b"a"], "a CR ends the blank line; its LF may come much later"
    assert framer.feed(end[1:] + b"data: b" + end + end) == [b"b"]
    assert framer.close() == []


def test_usual_reads_take_the_short_way_and_unusual_ones_fall_back() -> None:
    framer = SseFramer()
    assert framer.feed(b"data: first\n\n") == [b"first"]
    assert framer.feed(b"data: x\n\n") == [b"x"]
    assert framer.feed(b"data: y\n\ndata: z\n\n") == [b"y", b"z"]
    assert framer.feed(b"data: a\ndata: b\n\n") == [b"a\nb"]
    assert framer.feed(b"data: c\r\r\n\n") == [b"c"]
    assert framer.feed(b"data: \n\n") == [b""]
    assert framer.feed(b"") == []
    assert framer.feed(b"data: half") == []
    assert framer.feed(b"data: x\n\n") == [b"halfdata: x"]


@pytest.mark.parametrize("body", [b'{"error": "no"}', b"<html>\n<body>\n", b"\n\nevents: 1\n", b'data2: {"a": 1}\n\n'])
def test_a_body_that_is_no_event_stream_is_refused_at_its_end(body: bytes) -> None:
    for at in range(len(body)):
        framer = SseFramer()
        assert framer.feed(body[:at]) + framer.feed(body[at:]) == []
        with pytest.raises(DecodeError, match="not a stream of server-sent events"):
            framer.close()


@pytest.mark.parametrize("body", [b"", b"\n", b": ping\n\n: ping", BOM[:2], BOM, b"dat", b"ev", b"data: {", b"data: ["])
def test_a_body_that_was_cut_before_its_first_event_is_only_empty(body: bytes) -> None:
    assert read([body]) == []


def test_what_is_said_instead_of_an_event_stream_is_told_with_its_lines_and_shortly() -> None:
    for body in (b'{\n  "error": {\n    "message": "busy"\n  }\n}', b'{\n"error": {"message": "busy"}' + b"\nx" * 9999):
        with pytest.raises(DecodeError, match="busy") as caught:
            read([body])
        assert len(str(caught.value)) < 300
    with pytest.raises(DecodeError) as caught:
        read([b"<" + b"\xff" * 9999])
    assert len(str(caught.value)) == 300


def test_stray_lines_after_an_event_are_skipped() -> None:
    assert read([b"data: a\n\n<html>\n"]) == [b"a"]
    assert read([b'<html>\ndata: {"a": 1}']) == [b'{"a": 1}']


def test_deep_json_at_the_end_is_not_whole() -> None:
    assert read([b"data: " + b"[" * 100_000]) == []
    assert read([b'data: "\xff"']) == []


@pytest.mark.parametrize("start", [b"data: ", b": ", b"junk"])
def test_an_endless_line_is_refused_and_let_go(start: bytes) -> None:
    framer = SseFramer(max_event_bytes=2**16)
    piece = b"x" * 2**14
    tracemalloc.start()
    assert framer.feed(start) + framer.feed(piece) + framer.feed(piece) + framer.feed(piece) == []
    with pytest.raises(DecodeError, match="larger than 65536 bytes"):
        framer.feed(piece)
    assert framer.close() == []
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_an_event_of_endless_lines_is_refused() -> None:
    framer = SseFramer(max_event_bytes=1000)
    with pytest.raises(DecodeError, match="larger than 1000 bytes"):
        framer.feed(b"data:\n" * 1001)
    with pytest.raises(DecodeError, match="larger than 1000 bytes"):
        SseFramer(1000).feed(b"data: " + b"x" * 1000 + b"\n\n")


def test_the_limit_is_for_one_event_not_for_the_stream() -> None:
    framer = SseFramer(max_event_bytes=100)
    framer.feed(b"data: 0\n\n")
    for _ in range(100):
        assert framer.feed(b"data: " + b"x" * 80 + b"\n\n") == [b"x" * 80]
        assert framer.feed(b"data: " + b"x" * 94 + b"\n\n") == [b"x" * 94], "too long for the short way, not too large"
    assert len(framer.feed(b"data: 1\n\n" * 1000)) == 1000


USUAL = st.binary(max_size=12).map(lambda raw: b"data: " + raw.translate(None, b"\r\n") + b"\n\n")
ODD = st.sampled_from(
    [b"", b"\n\n", b"data: half", b"data: a\ndata: b\n\n", b": ping\n\n", b"data: c\r\n\r\n", b"data: d\n\n\n"]
)


@given(st.lists(st.one_of(USUAL, USUAL, USUAL, ODD), max_size=8), st.lists(st.integers(1, 3), max_size=8))
def test_many_reads_at_once_are_what_each_gives_by_itself_or_nothing(events: list[bytes], sizes: list[int]) -> None:
    reads = [b"".join(events[at : at + size]) for at, size in enumerate(sizes)] or events
    at_once, one_by_one = SseFramer(), SseFramer()
    found = at_once.feed_usual(reads)
    apart = [one_by_one.feed(read) for read in reads]
    if found is not None:
        payloads, counts = found
        assert payloads == [event for of_read in apart for event in of_read]
        assert counts == list(map(len, apart))
        assert at_once.feed(b"data: x\n\n") == one_by_one.feed(b"data: x\n\n")
    else:
        assert [at_once.feed(read) for read in reads] == apart, "nothing has been fed"


def test_usual_reads_are_taken_at_once_and_unusual_ones_are_not() -> None:
    framer = SseFramer(40)
    assert framer.feed_usual([b"data: a\n\n", b"data: b\n\ndata: c\n\n", b""]) == ([b"a", b"b", b"c"], [1, 2, 0])
    assert framer.feed_usual([b"data: a\n\ndata: b\n\n", b"data:", b" c\n\n"]) is None
    assert framer.feed_usual([b"data: " + b"x" * 40 + b"\n\n"]) is None
    assert framer.feed_usual([b""]) == ([], [0])
    assert framer.feed(b"data: ha") == []
    assert framer.feed_usual([b"data: a\n\n"]) is None, "half an event is held"


PARTS = st.sampled_from([b"", b"a", b"aa", b"aba", b"data: ", b'{"t":"', b'"}', b"x"])
PIECES = st.one_of(
    st.sampled_from([b"", b"a", b"aa", b"ab", b"aba", b"x", b'"', b"\xff", b"\0", BOM, b"data: "]),
    st.sampled_from(
        [b"\r", b"a\rb", b"\r\r", b"\n", b"a\n", b"\n\n", b"a\n\ndata: a", b"a\ndata: b", b"\n: ping\n", b"\r\n"]
    ),
    st.binary(max_size=6),
)


@st.composite
def alike(draw: st.DrawFn) -> tuple[list[bytes], bytes, bytes]:
    """Reads of which many have the same before and after something, and these two."""
    before, after = draw(PARTS), draw(PARTS)
    reads = []
    for piece in draw(st.lists(PIECES, max_size=6)):
        shape = draw(
            st.sampled_from([b"data: %s\n\n"] * 12 + [b"data: %s\n", b"data:%s\n\n", b"%s", b"data: %s\r\n\r\n"])
        )
        reads.append(shape % (before + piece + after))
    how = draw(st.sampled_from(["each"] * 4 + ["joined", "moved", "odd"]))
    at = draw(st.integers(0, len(reads)))
    if how == "joined":
        reads[at : at + 2] = [b"".join(reads[at : at + 2])]
    elif how == "moved" and at + 1 < len(reads):
        both, edge = reads[at] + reads[at + 1], draw(st.integers(0, 30))
        reads[at : at + 2] = [both[:edge], both[edge:]]
    elif how == "odd":
        reads.insert(at, draw(st.one_of(ODD, st.just(b"data: " + before + after[1:] + b"\n\n"))))
    return reads, before, after


def events_of(framer: SseFramer, reads: list[bytes]) -> list[list[bytes] | str]:
    """The events of each read, up to a fault, and then those of the end."""
    found: list[list[bytes] | str] = []
    try:
        for read in reads:
            found.append(framer.feed(read))
        found.append(framer.close())
    except DecodeError as fault:
        found.append(str(fault))
    return found


@given(
    st.sampled_from([[], [], [], [b"data: e\n\n"], [b"data: e\n\n", b"data: h"], [b": ping\r"]]),
    alike(),
    st.integers(1, 60),
)
@example([], ([b"data: x\ny\n\n"], b"", b"y"), 60)
@example([], ([b"data: a\n\ndata: b\n\n"], b"", b""), 60)
@example([], ([b"data: ab\rcd\n\n"], b"a", b"d"), 60)
@example([], ([b"data: aba\n\n"], b"ab", b"ba"), 60)
@example([], ([b"data: aa\n\n", b"data: aaaa\n\n"], b"aa", b"aa"), 60)
@example([], ([b"data: a12345\n\n"], b"a", b""), 8)
def test_reads_that_are_alike_are_what_each_gives_by_itself_or_nothing(
    earlier: list[bytes], case: tuple[list[bytes], bytes, bytes], limit: int
) -> None:
    reads, before, after = case
    at_once, apart = SseFramer(limit), SseFramer(limit)
    try:
        assert [at_once.feed(read) for read in earlier] == [apart.feed(read) for read in earlier]
    except DecodeError:
        return
    found = at_once.feed_alike(reads, before, after)
    for read, piece in zip(reads, found, strict=False):
        assert apart.feed(read) == [before + piece + after]
    assert events_of(at_once, reads[len(found) :]) == events_of(apart, reads[len(found) :])


def test_a_framer_may_be_fed_again_what_was_alike() -> None:
    """For it may be that nobody can read what is between the two."""
    reads = [b"data: a1b\n\n", b"data: a2b\n\n"]
    framer = SseFramer()
    assert framer.feed_alike(reads, b"a", b"b") == [b"1", b"2"]
    assert events_of(framer, [*reads, b"data: {}"]) == events_of(SseFramer(), [*reads, b"data: {}"])


def test_the_first_reads_that_are_alike_are_taken_and_the_last_ones_are_not() -> None:
    one = b"data: a%db\n\n"
    assert SseFramer().feed_alike([one % 1, one % 2, b"data: [DONE]\n\n"], b"a", b"b") == [b"1", b"2"]
    assert SseFramer().feed_alike([one % 1, b"data: [DONE]\n\n", one % 2], b"a", b"b") == []
    assert SseFramer().feed_alike([], b"a", b"b") == []
    framer = SseFramer()
    assert framer.feed(b"data: ha") == []
    assert framer.feed_alike([one % 1], b"a", b"b") == [], "half an event is held"
