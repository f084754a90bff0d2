"""The framer against messages that are put together here by the format's own rules, and against botocore's reader."""

import contextlib
import struct
import tracemalloc
from binascii import crc32
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.model.errors import DecodeError
from latbench.wire.eventstream import EventStreamFramer

RECORDED = sorted((Path(__file__).parent.parent / "streams" / "bedrock").glob("*.eventstream"))


def header(name: str, kind: int, value: bytes) -> bytes:
    raw = name.encode()
    return struct.pack(">B", len(raw)) + raw + struct.pack(">B", kind) + value


def text(name: str, value: str) -> bytes:
    raw = value.encode()
    return header(name, 7, struct.pack(">H", len(raw)) + raw)


def message(headers: bytes, payload: bytes = b"") -> bytes:
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    return sealed(prelude + struct.pack(">I", crc32(prelude)) + headers + payload)


def sealed(data: bytes) -> bytes:
    return data + struct.pack(">I", crc32(data))


def event(name: str = "e", payload: bytes = b"{}", more: bytes = b"") -> bytes:
    return message(text(":event-type", name) + text(":message-type", "event") + more, payload)


def read(pieces: list[bytes], limit: int = 2**20) -> list[bytes]:
    framer = EventStreamFramer(limit)
    events = [event for piece in pieces for event in framer.feed(piece)]
    return events + framer.close()


def read_bytes(body: bytes, events: list[bytes]) -> None:
    """Byte by byte, with what was handed out before an error."""
    framer = EventStreamFramer()
    for at in range(len(body)):
        events += framer.feed(body[at : at + 1])


# One of each type of header, by the table of the format.
OTHERS = [
    header("true", 0, b""),
    header("false", 1, b""),
    header("byte", 2, b"\xff"),
    header("short", 3, b"\x80\x00"),
    header("integer", 4, b"\x00\x00\x00\x07"),
    header("long", 5, b"\x00" * 8),
    header("bytes", 6, b"\x00\x03\x07\x00\x07"),
    header("string", 7, b"\x00\x02\xc3\xbc"),
    header("timestamp", 8, struct.pack(">q", 1_763_800_000_000)),
    header("uuid", 9, bytes(range(16))),
]
NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)


@st.composite
def messages(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A message, and what is to be handed out for it."""
    kind, named_by = draw(
        st.sampled_from([("event", ":event-type"), ("exception", ":exception-type"), ("error", ":error-code")])
    )
    name, payload = draw(NAMES), draw(st.binary(max_size=40))
    headers = [text(":message-type", kind), text(named_by, name), *draw(st.lists(st.sampled_from(OTHERS), unique=True))]
    if kind == "error":
        said = draw(st.text(max_size=10).filter(lambda said: said.isprintable()))
        headers.append(text(":error-message", said))
        payload = said.encode()
    body = message(b"".join(draw(st.permutations(headers))), b"" if kind == "error" else payload)
    return body, f"{kind} {name}\n".encode() + payload


@given(st.lists(messages(), max_size=4))
def test_every_single_split_reads_the_same(sent: list[tuple[bytes, bytes]]) -> None:
    body, expected = b"".join(raw for raw, _ in sent), [out for _, out in sent]
    for at in range(len(body) + 1):
        assert read([body[:at], body[at:]]) == expected
    assert read([body[at : at + 1] for at in range(len(body))]) == expected


@given(st.lists(messages(), max_size=6), st.data())
def test_random_splits_and_cuts_read_the_same(sent: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    body = b"".join(raw for raw, _ in sent)
    end = data.draw(st.integers(0, len(body)))
    cuts = sorted(data.draw(st.lists(st.integers(0, end), max_size=12)))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, end], strict=True)]
    whole, at = [], 0
    for raw, out in sent:
        at += len(raw)
        whole += [out] if at <= end else []
    assert read(pieces) == whole, "half a message is dropped, and nothing else"


@given(st.lists(messages(), min_size=1, max_size=3), st.data())
def test_any_bit_that_is_wrong_is_found(sent: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    body = bytearray(b"".join(raw for raw, _ in sent))
    at = data.draw(st.integers(0, len(body) * 8 - 1))
    body[at // 8] ^= 1 << at % 8
    events: list[bytes] = []
    with pytest.raises(DecodeError):
        read_bytes(bytes(body), events)
    assert events == [out for _, out in sent][: len(events)], "nothing is handed out that was not sent"
    with pytest.raises(DecodeError):
        read([bytes(body)])


@given(st.binary(max_size=200))
def test_any_bytes_are_messages_or_refused(body: bytes) -> None:
    """No event out of noise; the headers of a message with valid checksums may be noise as well."""
    for pieces in ([body], [message(body)], [message(body[:60], body[60:])]):
        with contextlib.suppress(DecodeError):
            assert all(out.partition(b" ")[0] in (b"event", b"exception", b"error") for out in read(pieces))


def test_a_message_is_handed_out_by_its_last_byte() -> None:
    framer, body = EventStreamFramer(), event("messageStart", b'{"role":"assistant"}', b"".join(OTHERS))
    assert framer.feed(body[:-1]) == []
    assert framer.feed(body[-1:] + body + body[:5]) == [b'event messageStart\n{"role":"assistant"}'] * 2
    assert framer.feed(b"") == []
    assert framer.close() == []


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b'{"message":"no"}', "too large, or not an AWS event stream"),
        (b"<", "too large, or not an AWS event stream"),
        (b"HTTP", "too large, or not an AWS event stream"),
        (b"\x00\x00\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00", "checksum of a prelude"),
        (event()[:-4] + b"\x00\x00\x00\x00", "checksum of a message"),
        (message(b""), "no known type"),
        (message(text(":message-type", "event")), "no name"),
        (message(text(":message-type", "event") + text(":event-type", "")), "no name"),
        (message(text(":message-type", "event") + text(":event-type", "a\nb")), "no name"),
        (message(text(":message-type", "event") + text(":event-type", "é")), "no name"),
        (message(text(":message-type", "event") + text(":exception-type", "e")), "no name"),
        (message(text(":message-type", "x" * 999)), "no known type"),
        (message(header(":message-type", 6, b"\x00\x05event")), "no known type"),
        (event(more=text(":event-type", "again")), "header twice"),
        (event(more=OTHERS[0] + OTHERS[0]), "header twice"),
        (event(more=header("x", 10, b"")), "cannot be read"),
        (event(more=header("x", 255, b"")), "cannot be read"),
        (event(more=b"\x09x"), "cannot be read"),
        (event(more=b"\x01"), "cannot be read"),
        (event(more=b"\x01x"), "cannot be read"),
        (event(more=b"\x01\xff\x00"), "cannot be read"),
        (event(more=header("x", 7, b"\x00\x01\xff")), "cannot be read"),
        (event(more=header("x", 7, b"\x00\x02a")), "cannot be read"),
        (event(more=header("x", 7, b"\x00")), "cannot be read"),
        (event(more=header("x", 6, b"\xff\xff")), "cannot be read"),
        (event(more=header("x", 5, b"\x00")), "cannot be read"),
    ],
)
def test_what_is_no_message_is_refused_shortly(body: bytes, problem: str) -> None:
    for pieces in ([body], [body[at : at + 1] for at in range(len(body))], [event() + body]):
        with pytest.raises(DecodeError, match=problem) as caught:
            read(pieces)
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("size", "headers"),
    [(2**32 - 1, 0), (2**31, 16), (1001, 0), (0, 0), (15, 0), (16, 1), (100, 85), (100, 2**32 - 1)],
)
def test_lengths_that_cannot_be_are_refused_before_anything_is_kept(size: int, headers: int) -> None:
    prelude = sealed(struct.pack(">II", size, headers))
    with pytest.raises(DecodeError):
        read([prelude], limit=1000)


def test_headers_have_a_limit_of_their_own() -> None:
    prelude = sealed(struct.pack(">II", 2**20, 128 * 1024 + 1))
    with pytest.raises(DecodeError, match="131073 bytes of headers"):
        EventStreamFramer().feed(prelude)
    large = event(more=b"".join(header(f"{number:03}", 6, b"\x80\x00" + b"x" * 2**15) for number in range(3)))
    assert read([large]) == [b"event e\n{}"]


def test_an_endless_stream_of_garbage_is_refused_by_its_first_byte_and_let_go() -> None:
    framer = EventStreamFramer()
    tracemalloc.start()
    with pytest.raises(DecodeError):
        framer.feed(b"x" * 2**16)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 2**15
    assert framer.close() == []


def test_the_limit_is_for_one_message_not_for_the_stream() -> None:
    body = event()
    framer = EventStreamFramer(max_event_bytes=len(body))
    assert len(framer.feed(body * 1000)) == 1000
    with pytest.raises(DecodeError, match=f"a message of {len(body) + 1} bytes or more"):
        framer.feed(event(payload=b"{ }"))


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda path: path.stem)
def test_the_recorded_streams_read_as_botocore_reads_them(recorded: Path) -> None:
    """Another reader of the same format, so that the streams are not only what our own encoder makes of it."""
    buffer = pytest.importorskip("botocore.eventstream", reason="botocore is not installed").EventStreamBuffer()
    body = recorded.read_bytes()
    buffer.add_data(body)
    expected = []
    for one in buffer:
        kind = one.headers[":message-type"]
        name = one.headers[{"event": ":event-type", "exception": ":exception-type", "error": ":error-code"}[kind]]
        payload = one.headers[":error-message"].encode() if kind == "error" else one.payload
        expected.append(f"{kind} {name}\n".encode() + payload)
    assert expected
    assert read([body]) == expected


@given(messages())
def test_botocore_reads_the_messages_of_these_tests(sent: tuple[bytes, bytes]) -> None:
    buffer = pytest.importorskip("botocore.eventstream", reason="botocore is not installed").EventStreamBuffer()
    buffer.add_data(sent[0])
    (one,) = buffer
    assert one.headers[":message-type"] == sent[1].partition(b" ")[0].decode()
