"""Every dialect of the registry against its recorded streams, cut wherever bytes can be cut.

A dialect is covered by being registered: `check_dialects` takes the registry and the folder of streams, one folder an
API, each stream `NAME.sse` (or another ending for another framing) beside `NAME.json`, what it must decode to.
"""

import json
import random
from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import pytest

from latbench.model.answer import Answer
from latbench.model.errors import DecodeError
from latbench.providers.base import Dialect
from latbench.providers.openai_chat import auth, build
from latbench.providers.refusals import refusal_of_status
from latbench.providers.registry import APIS, DIALECTS

STREAMS = Path(__file__).parent.parent / "streams"
SPLITS = 30


def decode_pieces(dialect: Dialect, pieces: Iterable[bytes]) -> Answer:
    """The answer of a body that came in these reads; the number of the read is its stamp."""
    answer, framer, at = Answer(), dialect.framer(), 0
    for at, piece in enumerate(pieces):
        for payload in framer.feed(piece):
            dialect.decode(payload, at, answer)
    for payload in framer.close():
        dialect.decode(payload, at, answer)
    return answer


def content(answer: Answer) -> dict[str, Any]:
    """What must not depend on how the bytes were cut, in the form of the expectation files."""
    return {
        "text": "".join(answer.text),
        "reasoning": "".join(answer.reasoning),
        "tool_calls": [[index, call.name, "".join(call.arguments)] for index, call in answer.tool_calls.items()],
        "finish_reason": answer.finish_reason,
        "complete": answer.complete,
        "output_chunks": len(answer.output_ns),
        "usage": None if answer.usage is None else asdict(answer.usage),
        "model": answer.model,
        "fingerprint": answer.fingerprint,
        "request_id": answer.request_id,
        "refusal": None if answer.refusal is None else asdict(answer.refusal),
    }


def check_stream(dialect: Dialect, body: bytes, expected: dict[str, Any]) -> None:
    assert content(decode_pieces(dialect, [body])) == expected
    for at in range(len(body) + 1):
        answer = decode_pieces(dialect, [body[:at], body[at:]])
        assert content(answer) == expected, f"cut at byte {at}"
        assert list(answer.output_ns) == sorted(answer.output_ns)
        assert (answer.first_text_ns is None) == (expected["text"] == "")
        # A stream that ends too early is truncated; never bytes that are not the protocol.
        decode_pieces(dialect, [body[:at]])
    rng = random.Random(0)
    for _ in range(SPLITS):
        cuts = sorted(rng.randrange(len(body) + 1) for _ in range(rng.randrange(2, 40)))
        pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        assert content(decode_pieces(dialect, pieces)) == expected, f"cut at bytes {cuts}"
    assert content(decode_pieces(dialect, [body[at : at + 1] for at in range(len(body))])) == expected


def check_dialects(dialects: Mapping[str, Dialect], streams: Path) -> int:
    """Checks every stream of every dialect; the number of streams. A dialect without a stream is an error."""
    checked = 0
    for api, dialect in dialects.items():
        assert dialect.api == api
        expectations = sorted((streams / api).glob("*.json"))
        assert expectations, f"{api} has no recorded streams in {streams / api}"
        for expectation in expectations:
            (recorded,) = set(expectation.parent.glob(f"{expectation.stem}.*")) - {expectation}
            check_stream(dialect, recorded.read_bytes(), json.loads(expectation.read_bytes()))
            checked += 1
    return checked


@pytest.mark.parametrize("api", APIS)
def test_recorded_streams(api: str) -> None:
    assert check_dialects({api: DIALECTS[api]}, STREAMS) >= 10


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("payload", [b"", b"\xff", b"[]", b"{", b'"text"', b"[" * 10**5, b"{}", b'{"foo": 1}', b"null"])
def test_what_is_not_the_protocol_is_refused_shortly(api: str, payload: bytes) -> None:
    for decode in (DIALECTS[api].decode, DIALECTS[api].decode_plain):
        answer = Answer()
        with pytest.raises(DecodeError) as caught:
            decode(payload, 0, answer)
        assert len(str(caught.value)) < 500
        assert answer == Answer()


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("status", [301, 400, 401, 402, 404, 418, 429, 500, 503, 529])
@pytest.mark.parametrize("body", [b"", b"\xff\x00", b"[[", b'{"error": null}', b"[1]", b"<p>" * 9999, b"[" * 10**5])
def test_any_refusal_is_classified(api: str, status: int, body: bytes) -> None:
    refusal = DIALECTS[api].refusal(status, {}, body)
    assert refusal.outcome
    assert len(refusal.message or "") <= 300


class LineFramer:
    """A framing of its own: a line is an event."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        *lines, self.rest = (self.rest + data).split(b"\n")
        return lines

    def close(self) -> list[bytes]:
        return []


def decode_toy(payload: bytes, at_ns: int, answer: Answer) -> None:
    if payload == b"END":
        answer.complete, answer.finish_reason = True, "stop"
    else:
        answer.add_text(payload.decode(), at_ns)


def toy(decode: Callable[[bytes, int, Answer], None] = decode_toy) -> Dialect:
    return Dialect("toy", build, auth, LineFramer, decode, decode, refusal_of_status)


@pytest.fixture
def toy_streams(tmp_path: Path) -> Path:
    answer = Answer(complete=True, finish_reason="stop", text=["Hi"], output_ns=array("q", [0, 0]))
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "hello.lines").write_bytes(b"H\ni\nEND\n")
    (tmp_path / "toy" / "hello.json").write_bytes(msgspec.json.encode(content(answer)))
    return tmp_path


def test_a_second_dialect_is_a_file_and_a_line(toy_streams: Path) -> None:
    assert check_dialects({"toy": toy()}, toy_streams) == 1


def test_the_suite_finds_a_dialect_that_forgets(toy_streams: Path) -> None:
    def forgetful(payload: bytes, at_ns: int, answer: Answer) -> None:
        if at_ns == 0:
            decode_toy(payload, at_ns, answer)

    with pytest.raises(AssertionError, match="cut at byte"):
        check_dialects({"toy": toy(forgetful)}, toy_streams)


def test_a_dialect_without_streams_is_not_covered(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no recorded streams"):
        check_dialects({"toy": toy()}, tmp_path)
