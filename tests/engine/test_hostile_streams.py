"""Bodies that mean harm, through real connections: each gets its outcome, none ends a run, and memory stays bounded.

What decoders make of bytes is `tests/providers/test_hostile.py`; here are HTTP, compression, limits and the verdict.
"""

import gzip
import json
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_kit import Make, endpoint, engine, job, run, step, timeouts
from servers import CHUNKED, LAST_CHUNK, Call, chunk, reply, serving

from latbench.engine import exchange, stamped
from latbench.engine.reads import Reads
from latbench.model.request import Endpoint
from latbench.model.sample import Outcome
from latbench.providers.registry import APIS, DIALECTS
from latbench.wire.eventstream import EventStreamFramer
from latbench.wire.ndjson import NdjsonFramer

pytestmark = pytest.mark.long

STREAMS = Path(__file__).parent.parent / "streams"
KEY = {"HOSTILE_KEY": "k-123456"}
GZIPPED = CHUNKED.replace(b"Transfer", b"Content-Encoding: gzip\r\nTransfer")
OF_SSE = [api for api in APIS if DIALECTS[api].framer not in (EventStreamFramer, NdjsonFramer)]
MB = 2**20


def to(url: str, api: str, *, stream: bool = True) -> Endpoint:
    """With a key: Bedrock would sign otherwise."""
    return endpoint(url, api=api, stream=stream, api_key_env=["HOSTILE_KEY"])


def recorded(api: str) -> list[tuple[str, bytes, dict[str, Any]]]:
    """Name, body and what it decodes to, of all streams of an API."""
    found = []
    for expectation in sorted((STREAMS / api).glob("*.json")):
        (body,) = set(expectation.parent.glob(f"{expectation.stem}.*")) - {expectation}
        found.append((expectation.stem, body.read_bytes(), json.loads(expectation.read_bytes())))
    assert found
    return found


def good(api: str) -> bytes:
    """The shortest recorded stream with a text that ends well."""
    ends = [body for _, body, says in recorded(api) if says["text"] and says["complete"] and not says["refusal"]]
    return min(ends, key=len)


def outcome_of(expected: dict[str, Any]) -> str:
    if expected["refusal"] is not None:
        return str(expected["refusal"]["outcome"])
    return "ok" if expected["complete"] else "truncated"


def pieces(body: bytes, rng: random.Random) -> list[bytes]:
    cuts = sorted(rng.randrange(len(body) + 1) for _ in range(rng.randrange(1, 30)))
    return [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True) if a < b]


@pytest.mark.parametrize("how", ["pieces", "gzip"])
@pytest.mark.parametrize("api", APIS)
def test_every_recorded_stream_gets_its_outcome(api: str, how: str, make: Make) -> None:
    streams, rng = recorded(api), random.Random(api)

    async def script(call: Call) -> None:
        _, body, _ = streams[call.number]
        if how == "gzip":
            await call.send(GZIPPED, *map(chunk, pieces(gzip.compress(body), rng)), LAST_CHUNK)
        else:
            await call.send(CHUNKED, *map(chunk, pieces(body, rng)), LAST_CHUNK)

    async def scenario() -> None:
        async with serving(script) as server:
            ran = await step(job(to(server.url, api)), len(streams), make=make, environ=KEY)
        assert len(ran.samples) == len(streams)
        for sample in ran.samples:
            name, _, expected = streams[sample.seq]
            assert sample.outcome == outcome_of(expected), name
            assert (sample.text_chars, sample.chunks) == (len(expected["text"]), expected["output_chunks"]), name

    run(scenario())


def test_no_more_is_inflated_than_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few kilobytes are megabytes once they are inflated, and could be gigabytes: the loop would do nothing else."""
    monkeypatch.setattr(stamped, "MAX_ANSWER_BYTES", MB)
    monkeypatch.setattr(exchange, "MAX_ANSWER_BYTES", MB)
    offered: list[int] = []
    add = Reads.add

    def counted(reads: Reads, data: bytes, now: int) -> None:
        offered.append(len(data))
        add(reads, data, now)

    monkeypatch.setattr(Reads, "add", counted)
    body = gzip.compress(bytes(16 * MB))

    async def scenario() -> None:
        async with serving(lambda call: call.send(GZIPPED, chunk(body), LAST_CHUNK)) as server:
            ran = await step(job(to(server.url, "openai-chat")), 2, environ=KEY)
        assert ran.outcomes() == {"malformed": 2}
        assert {sample.error_message for sample in ran.samples} == {"the answer is larger than 1 MB"}

    run(scenario())
    assert 2 * MB < sum(offered) < 4 * MB


# --- one hostile body after the other --------------------------------------------------------------------------------


def event(api: str, raw: bytes) -> bytes:
    """Bytes as an event, whatever they are."""
    if api == "ollama":
        return raw + b"\n"
    return b"data: " + raw + b"\n\n"


def bodies(api: str) -> dict[str, tuple[bytes, set[str]]]:
    """Hostile bodies of a stream under HTTP 200, and the outcomes that are right."""
    whole, deep = good(api), b'{"a":' * 10**5 + b"1" + b"}" * 10**5
    half = whole[: len(whole) // 2]
    found = {
        "nothing": (b"", {"truncated"}),
        "half of it": (half, {"truncated"}),
        "compressed, and nobody said so": (gzip.compress(whole), {"malformed"}),
        "a page": (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>\n", {"malformed"}),
        "noise": (random.Random(1).randbytes(5000), {"malformed"}),
        "zeros": (bytes(5000), {"malformed"}),
    }
    if api == "bedrock":
        flipped = bytearray(whole)
        flipped[len(flipped) // 2] ^= 1
        return found | {"a bit is wrong": (bytes(flipped), {"malformed"})}
    first = whole[: whole.index(b"\n\n" if api in OF_SSE else b"\n") + 2]
    found |= {
        "deep": (first + event(api, deep) + whole, {"malformed"}),
        "deep and cut": (first + event(api, deep[: len(deep) // 2]), {"malformed"}),
        "half a character": (first + event(api, b'{"text":"\xe2\x80"}'), {"malformed"}),
        "not an object": (first + event(api, b"[1, 2]"), {"malformed"}),
        "an object of nothing": (first + event(api, b"{}"), {"malformed"}),
    }
    if api in OF_SSE:
        keep_alives = b": keep-alive\r\n\r\n:\n\nevent: ping\n\n" * 500
        found |= {
            "keep-alives alone": (keep_alives, {"truncated"}),
            "keep-alives and half": (keep_alives + half, {"truncated"}),
            "keep-alives and all": (keep_alives + whole, {"ok"}),
            "crlf": (whole.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"), {"ok"}),
            "byte-order mark": (b"\xef\xbb\xbf" + whole, {"ok"}),
        }
    else:
        found |= {"keep-alives alone": (b"\n\r\n" * 500, {"truncated"}), "blank lines": (b"\n\n" + whole, {"ok"})}
    return found


@pytest.mark.parametrize("api", APIS)
def test_a_hostile_body_gets_its_outcome(api: str, make: Make) -> None:
    cases = list(bodies(api).items())

    async def script(call: Call) -> None:
        await call.send(CHUNKED, *(chunk(body) for body in [cases[call.number][1][0]] if body), LAST_CHUNK)

    async def scenario() -> None:
        async with serving(script) as server:
            ran = await step(job(to(server.url, api)), len(cases), make=make, environ=KEY)
        got = {cases[sample.seq][0]: sample.outcome for sample in ran.samples}
        assert got.keys() == {name for name, _ in cases}
        wrong = {name: got[name] for name, (_, right) in cases if got[name] not in right}
        assert wrong == {}
        for sample in ran.samples:
            assert sample.outcome != Outcome.MALFORMED or sample.error_message, "it says what was wrong"

    run(scenario())


ERROR = {"type": "overloaded_error", "code": "overloaded_error", "message": "server busy"}
# Where a stream was asked for, one JSON object is an error line to Ollama, a raw error to Gemini's SDK, and to all
# others not the protocol. Bedrock has no errors under HTTP 200 but those of its event stream.
STREAMED = {"ollama": "overloaded", "gemini": "overloaded"}
PLAIN = {"bedrock": "malformed"}


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
@pytest.mark.parametrize("api", APIS)
def test_http_200_with_an_error_as_its_body_is_no_success(api: str, stream: bool, make: Make) -> None:
    body = {"error": ERROR["message"]} if api == "ollama" else {"type": "error", "object": "error", "error": ERROR}
    written = json.dumps(body, indent=None if api == "ollama" else 2).encode()

    async def script(call: Call) -> None:
        await call.send(reply(200, written, Content_Type="application/json"))

    async def scenario() -> None:
        async with serving(script) as server:
            ran = await step(job(to(server.url, api, stream=stream)), make=make, environ=KEY)
        expected = STREAMED.get(api, "malformed") if stream else PLAIN.get(api, "overloaded")
        assert ran.one.outcome == expected
        assert api == "bedrock" or "server busy" in (ran.one.error_message or ""), "what was said is kept"

    run(scenario())


PLAIN_BODIES = {
    "empty": b"",
    "blank": b" \n" * 500,
    "deep lists": b"[" * 10**6,
    "deep objects": b'{"a":' * 10**6,
    "gzip": gzip.compress(b"{}"),
    "not UTF-8": b"\xff" * 99,
    **{text.decode(): text for text in (b"null", b"{}", b"[]", b'"ok"')},
}


@pytest.mark.parametrize("name", PLAIN_BODIES)
@pytest.mark.parametrize("api", APIS)
def test_a_hostile_plain_body_is_malformed(api: str, name: str) -> None:
    async def scenario() -> None:
        async with serving(lambda call: call.send(reply(200, PLAIN_BODIES[name]))) as server:
            ran = await step(job(to(server.url, api, stream=False)), environ=KEY)
        assert ran.one.outcome == "malformed"
        assert ran.one.error_message

    run(scenario())


@pytest.mark.parametrize("api", ["openai-chat", "gemini", "ollama", "bedrock"])
def test_keep_alives_are_no_output(api: str, make: Make) -> None:
    """They reset no limit: who sends nothing else for ever is too slow."""
    (ping,) = [body for name, body, _ in recorded(api) if name == "cut-in-a-message"] if api == "bedrock" else [b"\n"]
    silent = ping if api == "bedrock" else b": ping\n\n" if api in OF_SSE else ping

    async def script(call: Call) -> None:
        await call.send(CHUNKED)
        await call.hold(b"" if api == "bedrock" else chunk(silent))

    async def scenario() -> None:
        async with serving(script) as server:
            what = job(to(server.url, api), timeouts=timeouts(first_output=400))
            ran = await step(what, make=make, environ=KEY)
        assert (ran.one.outcome, ran.one.first_token_ns) == ("timeout", None)

    run(scenario())


# --- memory -----------------------------------------------------------------------------------------------------------


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def endless(start: bytes, piece: bytes, times: int, *, coded: bytes = CHUNKED) -> Callable[[Call], Any]:
    async def script(call: Call) -> None:
        wrapped = chunk(piece)
        await call.send(coded, *([chunk(start)] if start else []))
        for _ in range(times):
            await call.send(wrapped)
        await call.send(LAST_CHUNK)

    return script


def bomb() -> bytes:
    """A gigabyte of one letter, compressed into one."""
    made = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([made.compress(b"a" * MB) for _ in range(1024)]) + made.flush()


CASES = {
    "a line of 100 MB": (endless(b'data: {"choices": "', b"a" * 2**16, 1600), "openai-chat", True),
    "a line of 100 MB of NDJSON": (endless(b'{"message": "', b"a" * 2**16, 1600), "ollama", True),
    "a plain answer of 100 MB": (endless(b'{"choices": "', b"a" * 2**16, 1600), "openai-chat", False),
    "a gigabyte in a megabyte": (endless(b"", bomb(), 1, coded=GZIPPED), "openai-chat", True),
    "a gigabyte in a megabyte, plain": (endless(b"", bomb(), 1, coded=GZIPPED), "openai-chat", False),
    "a message of 100 MB": (endless(b"\x06\x40\x00\x00", b"a" * 2**16, 1600), "bedrock", True),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_endless_takes_little_memory_and_no_run_down(name: str) -> None:
    """In a process of its own, whose memory is looked at; then the next request is answered as ever."""
    script, api, stream = CASES[name]
    well = good(api)

    async def either(call: Call) -> None:
        if call.number == 0:
            await script(call)
        else:
            await call.send(CHUNKED, chunk(well), LAST_CHUNK)

    async def scenario() -> None:
        async with serving(either) as server, engine(KEY) as (process, link, _):
            before = peak_bytes(process.pid)
            what = job(to(server.url, api, stream=stream))
            samples, _ = await link.step(what, [0], 2)
            grown = peak_bytes(process.pid) - before
        first, second = sorted(samples, key=lambda sample: sample.seq)
        assert first.outcome == "malformed", first
        assert "large" in (first.error_message or "")
        assert second.outcome == ("ok" if stream else "malformed"), second
        assert grown < 200 * MB

    run(scenario())
