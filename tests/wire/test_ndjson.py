"""The framer against a slow and obvious reading of the same rules, at every split of the bytes."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.model.errors import DecodeError
from latbench.wire.ndjson import NdjsonFramer

BOM = b"\xef\xbb\xbf"


def read(pieces: list[bytes], limit: int = 2**20) -> list[bytes]:
    framer = NdjsonFramer(limit)
    events = [event for piece in pieces for event in framer.feed(piece)]
    return events + framer.close()


def reference(body: bytes) -> list[bytes]:
    """The whole body at once; a last line that was cut is left out."""
    *lines, rest = body.removeprefix(BOM).split(b"\n")
    return [line.strip() for line in [*lines, rest if is_json(rest) else b""] if line.strip()]


def is_json(line: bytes) -> bool:
    try:
        json.loads(line.decode("utf-8"))
    except ValueError:
        return False
    return True


# What is handed out need not be JSON: that is for the dialect to say.
LINES = st.one_of(
    st.sampled_from([b"", b"", b" \t", b"{}", b'{"a": "\\n"}', b"<html>", b"[1]", b'{"cut', b"\xe2\x80\xa8", b"a\rb"]),
    st.binary(max_size=12).map(lambda raw: raw.replace(b"\n", b"")),
    st.text(max_size=6).map(lambda text: json.dumps({"t": text}, ensure_ascii=False).encode()),
)
LASTS = [b"", b" ", b"\r", b"{}", b'  {"a": [1]} ', b"{", b'{"t": "\xc3', b'{"a": 1}}']


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    lines = draw(st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n"])), max_size=10))
    start = draw(st.sampled_from([b"", BOM]))
    return start + b"".join(line + end for line, end in lines) + draw(st.sampled_from(LASTS))


@given(bodies())
def test_every_single_split_reads_as_the_reference_says(body: bytes) -> None:
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


@given(st.binary(max_size=60), st.data())
def test_any_bytes_are_lines_or_refused(body: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(body)))
    try:
        events = read([body[:at], body[at:]], limit=30)
    except DecodeError:
        return
    assert all(event and b"\n" not in event and len(event) <= 30 for event in events)


def test_a_line_is_handed_out_by_the_byte_that_ends_it() -> None:
    framer = NdjsonFramer()
    assert framer.feed(b'{"a":1}\r') == []
    assert framer.feed(b"\n") == [b'{"a":1}']
    assert framer.feed(b'\n{"b":2}\n{"c"') == [b'{"b":2}']
    assert framer.feed(b"") == []
    assert framer.feed(b":3}\n") == [b'{"c":3}']
    assert framer.close() == []


def test_a_separator_that_json_may_hold_ends_no_line() -> None:
    line = '{"t":"a\u2028b\u0085c"}'.encode()
    assert read([line + b"\n"]) == [line]


def test_the_last_line_needs_no_newline_if_it_is_whole() -> None:
    assert read([b'{"a":1}\n{"b":2}']) == [b'{"a":1}', b'{"b":2}']
    assert read([b'{"a":1}\n{"b":2']) == [b'{"a":1}']
    assert read([BOM + b"{}"]) == [b"{}"]
    assert read([b'{"a": ' + b"[" * 100_000]) == []


@pytest.mark.parametrize(
    "body", [b"<html>502</html>", b'{"a":1}\nupstream gone', b"[1, 2]", b"x", b" 12", b"\xef\xbby"]
)
def test_an_end_that_is_no_object_is_refused(body: bytes) -> None:
    for at in range(len(body)):
        framer = NdjsonFramer()
        events = framer.feed(body[:at]) + framer.feed(body[at:])
        assert all(event.startswith(b"{") for event in events)
        with pytest.raises(DecodeError, match="not a stream of JSON lines"):
            framer.close()


@pytest.mark.parametrize("body", [b"", b"\n", b" ", BOM[:1], BOM[:2], BOM, BOM + b"\r\n"])
def test_a_body_that_was_cut_before_its_first_line_is_only_empty(body: bytes) -> None:
    assert read([body]) == []


def test_a_byte_order_mark_stands_only_at_the_start() -> None:
    assert read([BOM + b"{}\n" + BOM + b"{}\n"]) == [b"{}", BOM + b"{}"]


def test_an_endless_line_is_refused_and_let_go() -> None:
    framer = NdjsonFramer(max_event_bytes=2**16)
    piece = b"x" * 2**14
    tracemalloc.start()
    assert framer.feed(b"{") + framer.feed(piece) + framer.feed(piece) + framer.feed(piece) == []
    with pytest.raises(DecodeError, match="larger than 65536 bytes"):
        framer.feed(piece)
    kept, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (kept < 2**15, most < 2**20) == (True, True)
    assert framer.close() == []


def test_the_limit_is_for_one_line_not_for_the_stream() -> None:
    framer = NdjsonFramer(max_event_bytes=10)
    assert framer.feed(b'{"a":1}\n' * 1000) == [b'{"a":1}'] * 1000
    with pytest.raises(DecodeError, match="larger than 10 bytes"):
        framer.feed(b'{"a":12345}\n')
    framer = NdjsonFramer(max_event_bytes=10)
    assert framer.feed(b'{"a":') == []
    with pytest.raises(DecodeError, match="larger than 10 bytes"):
        framer.feed(b"123456}\n")
