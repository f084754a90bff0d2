"""What the tests of hostile bytes share with the fuzzer: the recorded streams, and what a sane answer is."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from latbench.model.answer import Answer, Refusal
from latbench.model.errors import DecodeError
from latbench.model.sample import Outcome
from latbench.providers.registry import DIALECTS

STREAMS = Path(__file__).parent.parent / "streams"
STORED = 2**63
"""What a column of the store takes is smaller."""


@cache
def recorded(api: str) -> tuple[tuple[str, bytes], ...]:
    """The streams of an API by name."""
    found = [(path.stem, path.read_bytes()) for path in sorted((STREAMS / api).iterdir()) if path.suffix != ".json"]
    assert found
    return tuple(found)


@cache
def payloads(api: str) -> tuple[bytes, ...]:
    """All events of all streams of an API that are JSON, with what stands before it where it has a head."""
    found: dict[bytes, None] = {}
    for _, body in recorded(api):
        for payload in framed(api, [body]):
            if b"{" in payload:
                found[payload] = None
    return tuple(found)


def framed(api: str, pieces: Iterable[bytes]) -> list[bytes]:
    framer = DIALECTS[api].framer()
    return [payload for piece in pieces for payload in framer.feed(piece)] + framer.close()


def split(payload: bytes) -> tuple[bytes, bytes]:
    """The head that Bedrock's framer puts before the JSON, if any, and the JSON."""
    at = payload.index(b"{")
    return payload[:at], payload[at:]


def check_problem(fault: DecodeError) -> None:
    """What is hostile is not repeated at length."""
    assert 0 < len(str(fault)) < 700


def check_sane(answer: Answer) -> None:
    """Nothing in the answer breaks what comes after: stores, tokenizers, reports."""
    pieces = [*answer.text, *answer.reasoning]
    for call in answer.tool_calls.values():
        pieces += [call.name, *call.arguments]
    for piece in pieces:
        piece.encode()
    for name in (answer.model, answer.fingerprint, answer.request_id, answer.finish_reason):
        assert name is None or (0 < len(name) <= 300 and name.encode())
    usage = answer.usage
    for tokens in () if usage is None else (usage.input, usage.output, usage.reasoning, usage.cached):
        assert tokens is None or (type(tokens) is int and 0 <= tokens < STORED)
    if answer.text and answer.output_ns:
        assert answer.first_text_ns is not None
    if answer.refusal is not None:
        check_refusal(answer.refusal)


def check_refusal(refusal: Refusal) -> None:
    Outcome(refusal.outcome)
    assert refusal.outcome != Outcome.OK
    assert (refusal.kind is not None) == (refusal.outcome == Outcome.RATE_LIMITED)
    for words in (refusal.code, refusal.message):
        assert words is None or (0 < len(words) <= 300 and words.encode())
    assert refusal.wait_ns is None or (type(refusal.wait_ns) is int and 0 <= refusal.wait_ns < STORED)
