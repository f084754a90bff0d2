"""Every outcome that a chat endpoint can produce, by both transports, from what a server does byte for byte."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from engine_kit import MS, QUICK, Make, endpoint, job, lab, run, step, timeouts, until
from servers import (
    CHUNKED,
    DONE,
    LAST_CHUNK,
    PING,
    ROLE,
    UNTIL_CLOSE,
    Call,
    answer_well,
    chunk,
    completion,
    event,
    good,
    reply,
    serving,
    sse,
    usage,
)

from latbench.engine.plain import PlainTransport
from latbench.model.request import Timeouts

Act = Callable[[Call], Awaitable[None]]


def says(*pieces: bytes) -> Act:
    async def script(call: Call) -> None:
        await call.send(*pieces)

    return script


def then(end: str, *pieces: bytes, every: bytes = b"") -> Act:
    """Say it, then hang up, reset, or hold the line and send `every` again and again."""

    async def script(call: Call) -> None:
        await call.send(*pieces)
        if end == "hang up":
            await call.hang_up()
        elif end == "reset":
            await asyncio.sleep(0.05)  # a reset overtakes what has not been read
            call.reset()
        else:
            await call.hold(every)

    return script


IDLE = timeouts(idle=300)


@dataclass(frozen=True)
class Case:
    """What the server does, and what the sample must say."""

    outcome: str
    script: Act
    sample: dict[str, Any] = field(default_factory=dict)
    endpoint: dict[str, Any] = field(default_factory=dict)
    limits: Timeouts = field(default_factory=timeouts)


def error(code: Any, message: str = "no", kind: str = "error") -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "type": kind}}


LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"
TWO = event("a") + event("b")
ENDED = {"chunks": 2, "status": 200, "finish_reason": "stop"}
PLAIN = {"stream": False}
PLAIN_OK = {"status": 200, "output_tokens": 7, "text_chars": 4, "first_token_ns": None, "gaps": b"", "chunks": 0}
HTML = b"<!DOCTYPE html>\n<html><body>Sign in</body></html>\n"

CASES = {
    "ok: a finish reason and no [DONE]": Case(
        "ok", says(CHUNKED, chunk(TWO), chunk(event(finish="stop")), LAST_CHUNK), ENDED
    ),
    "ok: [DONE] and no finish reason": Case(
        "ok", says(CHUNKED, chunk(TWO), chunk(DONE), LAST_CHUNK), ENDED | {"finish_reason": None}
    ),
    "ok: the end of the connection ends the body": Case(
        "ok", then("hang up", UNTIL_CLOSE, TWO, event(finish="stop"), usage(2), DONE), ENDED | {"output_tokens": 2}
    ),
    "ok: a body with its length": Case(
        "ok", says(LENGTH % len(TWO + event(finish="stop")), TWO, event(finish="stop")), ENDED
    ),
    "ok: cut after the finish reason": Case(
        "ok", then("hang up", CHUNKED, chunk(TWO), chunk(event(finish="stop"))), ENDED
    ),
    "ok: reset after the finish reason": Case(
        "ok", then("reset", CHUNKED, chunk(TWO), chunk(event(finish="stop"))), ENDED
    ),
    "ok: the line is held after the finish reason": Case(
        "ok", then("hold", CHUNKED, chunk(TWO), chunk(event(finish="stop")), every=chunk(PING)), ENDED, limits=IDLE
    ),
    "ok: early hints before the answer": Case(
        "ok", says(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", *good(2)), ENDED | {"output_tokens": 2}
    ),
    "ok: tokens counted, answered by": Case(
        "ok",
        says(*good(4)),
        {"chunks": 4, "output_tokens": 4, "input_tokens": 5, "token_source": "usage", "model": "m-1"},
    ),
    "ok: tokens not counted, so the text is counted": Case(
        "ok",
        says(CHUNKED, chunk(TWO), chunk(DONE), LAST_CHUNK),
        {"text": "ab", "output_tokens": None, "token_source": "tokenizer"},
    ),
    "ok: nothing in it": Case(
        "ok",
        says(CHUNKED, chunk(ROLE), chunk(event(finish="stop")), chunk(DONE), LAST_CHUNK),
        {"chunks": 0, "first_token_ns": None, "last_token_ns": None, "text": None, "text_sha256": ""},
    ),
    "ok: only reasoning": Case(
        "ok",
        says(CHUNKED, chunk(event(delta={"reasoning_content": "hm"})), chunk(event(finish="length")), LAST_CHUNK),
        {"chunks": 1, "first_text_ns": None, "reasoning_streamed": True, "finish_reason": "length"},
    ),
    "ok: not streamed": Case("ok", says(reply(200, completion("four", 7))), PLAIN_OK, PLAIN),
    "ok: not streamed, in chunks": Case(
        "ok",
        says(CHUNKED, *(chunk(reply(200, completion("four", 7)).partition(b"\r\n\r\n")[2]),), LAST_CHUNK),
        PLAIN_OK,
        PLAIN,
    ),
    "rate_limited: requests": Case(
        "rate_limited",
        says(reply(429, error("rate_limit_exceeded", "Limit: 3 requests per min"), Retry_After="2")),
        {"status": 429, "kind": "requests", "wait_ns": 2_000 * MS, "error_code": "rate_limit_exceeded"},
    ),
    "rate_limited: tokens": Case(
        "rate_limited",
        says(reply(429, error(None, "tokens per min (TPM): try again in 1.5s"))),
        {"kind": "tokens", "wait_ns": 1_500 * MS},
    ),
    "rate_limited: no words": Case("rate_limited", says(reply(429)), {"kind": "unknown", "wait_ns": None}),
    "rate_limited: inside the stream": Case(
        "rate_limited", says(CHUNKED, chunk(sse(error(429, "too many tokens"))), LAST_CHUNK), {"kind": "tokens"}
    ),
    "rate_limited: not streamed": Case("rate_limited", says(reply(429)), {"kind": "unknown"}, PLAIN),
    "quota_exhausted: 402": Case("quota_exhausted", says(reply(402, error(None)))),
    "quota_exhausted: 429": Case("quota_exhausted", says(reply(429, error("insufficient_quota")))),
    "overloaded: 503": Case("overloaded", says(reply(503, b"busy")), {"error_message": "busy"}),
    "overloaded: 529": Case("overloaded", says(reply(529)), {"status": 529}),
    "overloaded: inside the stream": Case(
        "overloaded",
        says(CHUNKED, chunk(event("a")), chunk(sse(error("overloaded_error"))), LAST_CHUNK),
        {"status": 200, "chunks": 1},
    ),
    "auth_error: 401": Case(
        "auth_error", says(reply(401, error("invalid_api_key", "who?"))), {"error_message": "who?"}
    ),
    "auth_error: 403": Case("auth_error", says(reply(403))),
    **{
        f"invalid_request: {status}": Case("invalid_request", says(reply(status)), {"status": status})
        for status in (400, 404, 413, 422)
    },
    "invalid_request: too large for the limit": Case(
        "invalid_request", says(reply(429, error("rate_limit_exceeded", "Request too large for m")))
    ),
    **{
        f"http_error: {status}": Case("http_error", says(reply(status)), {"status": status})
        for status in (201, 418, 500, 502)
    },
    "http_error: 204": Case("http_error", says(b"HTTP/1.1 204 No Content\r\n\r\n"), {"status": 204}),
    "http_error: the body of an error is cut": Case(
        "http_error", then("hang up", b"HTTP/1.1 500 X\r\nContent-Length: 99\r\n\r\nhalf"), {"status": 500}
    ),
    "http_error: the body of an error never ends": Case(
        "http_error", then("hold", b"HTTP/1.1 500 X\r\nContent-Length: 99\r\n\r\nhalf"), limits=timeouts(total=1_000)
    ),
    "http_error: 302 is not followed": Case("http_error", says(reply(302, Location="/v1/elsewhere")), {"status": 302}),
    "http_error: 307 is not followed": Case("http_error", says(reply(307, Location="/v1/elsewhere")), {"status": 307}),
    "stream_error": Case(
        "stream_error",
        says(CHUNKED, chunk(TWO), chunk(sse(error("boom", "it broke"))), chunk(DONE), LAST_CHUNK),
        {"error_code": "boom", "error_message": "it broke", "chunks": 2, "finish_reason": "error"},
    ),
    "stream_error: then cut": Case("stream_error", then("reset", CHUNKED, chunk(sse(error("boom"))))),
    "truncated: cut": Case("truncated", then("hang up", CHUNKED, chunk(TWO)), {"chunks": 2, "status": 200}),
    "truncated: reset": Case("truncated", then("reset", CHUNKED, chunk(TWO)), {"chunks": 2}),
    "truncated: in the middle of an event": Case("truncated", then("hang up", UNTIL_CLOSE, TWO, event("c")[:20])),
    "truncated: the length is short": Case("truncated", then("hang up", LENGTH % 9999, TWO), {"chunks": 2}),
    "truncated: in good order, without a closing sign": Case("truncated", says(CHUNKED, chunk(TWO), LAST_CHUNK)),
    "truncated: headers and nothing": Case("truncated", then("hang up", CHUNKED), {"first_byte_ns": None}),
    "truncated: an empty body": Case("truncated", says(reply(200)), {"status": 200}),
    "truncated: not streamed": Case("truncated", then("hang up", LENGTH % 9999, b'{"choices":'), {}, PLAIN),
    "malformed: not JSON": Case(
        "malformed", says(CHUNKED, chunk(event("a")), chunk(b"data: {not json\n\n"), LAST_CHUNK), {"chunks": 1}
    ),
    "malformed: not a chunk": Case("malformed", says(CHUNKED, chunk(b"data: {}\n\n"), chunk(DONE), LAST_CHUNK)),
    "malformed: not UTF-8": Case("malformed", says(CHUNKED, chunk(b'data: {"choices": "\xff"}\n\n'), LAST_CHUNK)),
    "malformed: half a surrogate pair": Case(
        "malformed", says(CHUNKED, chunk(event("a").replace(b'"a"', b'"\\ud800"')), chunk(DONE), LAST_CHUNK)
    ),
    "malformed: a page with 200": Case("malformed", says(reply(200, HTML, Content_Type="text/html"))),
    "malformed: a page with 200, not streamed": Case("malformed", says(reply(200, HTML)), {"status": 200}, PLAIN),
    "malformed: an answer that is none, not streamed": Case("malformed", says(reply(200, {"hello": 1})), {}, PLAIN),
    "malformed: chunks that are none": Case(
        "malformed", says(CHUNKED, chunk(event("a")), b"zzz\r\nrubbish\r\n"), limits=IDLE
    ),
    "malformed: not HTTP": Case("malformed", then("hang up", b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), {"status": None}),
    "timeout: no headers": Case("timeout", then("hold"), {"status": None, "headers_ns": None}, limits=QUICK),
    "timeout: only pings": Case(
        "timeout", then("hold", CHUNKED, every=chunk(PING)), {"status": 200, "first_token_ns": None}, limits=QUICK
    ),
    "timeout: only a role": Case("timeout", then("hold", CHUNKED + chunk(ROLE), every=chunk(ROLE)), limits=QUICK),
    "timeout: output without end": Case(
        "timeout", then("hold", CHUNKED, every=chunk(event("a"))), limits=timeouts(total=400)
    ),
    "timeout: not streamed": Case("timeout", then("hold"), {}, PLAIN, timeouts(total=300)),
    "stalled: silence": Case("stalled", then("hold", CHUNKED, chunk(TWO)), {"chunks": 2}, limits=IDLE),
    "stalled: only pings": Case(
        "stalled", then("hold", CHUNKED, chunk(TWO), every=chunk(PING)), {"chunks": 2}, limits=IDLE
    ),
    "stalled: only empty chunks": Case(
        "stalled", then("hold", CHUNKED, chunk(TWO), every=chunk(event(""))), {"chunks": 2}, limits=IDLE
    ),
    "connect_error: hung up on a new connection": Case("connect_error", then("hang up"), {"status": None}),
    "connect_error: reset on a new connection": Case("connect_error", then("reset"), {"new_connection": True}),
}


BY_PLAIN = {"malformed: chunks that are none": "stalled"}
"""Where aiohttp's public calls do not let us see what the precise transport sees."""


@pytest.mark.parametrize("name", CASES)
def test_outcome(name: str, make: Make) -> None:
    case = CASES[name]

    async def scenario() -> None:
        async with serving(case.script) as server:
            to = endpoint(server.url, **case.endpoint)
            ran = await step(job(to, timeouts=case.limits), make=make)
            sample = ran.one
            expected = BY_PLAIN.get(name, case.outcome) if make is PlainTransport else case.outcome
            assert sample.outcome == expected, sample
            assert {key: getattr(sample, key) for key in case.sample} == case.sample
            assert sample.done_ns is not None
            assert sample.sent_ns is not None
            assert sample.sent_ns <= sample.done_ns
            assert sample.reconnects == 0
            assert len(server.calls) == 1, "sent once, redirects not followed"

    run(scenario())


def test_the_table_has_every_outcome_but_those_of_the_plan() -> None:
    seen = {case.outcome for case in CASES.values()}
    assert seen == {
        *("ok", "rate_limited", "quota_exhausted", "overloaded", "auth_error", "invalid_request", "http_error"),
        *("stream_error", "truncated", "malformed", "timeout", "stalled", "connect_error"),
    }


def test_a_port_that_nobody_listens_on(make: Make) -> None:
    async def scenario() -> None:
        with socket.socket() as taken:  # bound, but not listening: nobody else gets it meanwhile
            taken.bind(("127.0.0.1", 0))
            to = endpoint(f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
            async with lab(job(to), make) as found:
                assert (await found.open([0])).keys() == {"e"}
                ran = await found.step([0], requests=3)
        assert ran.outcomes() == {"connect_error": 3}
        for sample in ran.samples:
            assert (sample.connected_ns, sample.headers_ns, sample.status) == (None, None, None)
            assert sample.error_message

    run(scenario())


def test_tls_to_a_server_that_has_none(make: Make) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def scenario() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            ran = await step(job(endpoint(f"https://127.0.0.1:{port}/v1")), make=make)
        assert ran.one.outcome == "connect_error"
        assert ran.one.connected_ns is None

    run(scenario())


def test_a_server_that_never_ends_the_handshake(make: Make) -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server:  # waits for the end of a request's head, which TLS never sends
            to = endpoint(server.url.replace("http:", "https:"))
            ran = await step(job(to, timeouts=timeouts(connect=300)), make=make)
            assert ran.one.outcome == "connect_error"
            assert (server.connections, server.calls) == (1, [])

    run(scenario())


def test_a_server_that_refuses_does_not_make_us_spin(make: Make) -> None:
    """Each turn that could not connect is followed by a pause: a bound from below on time, which load cannot break."""

    async def scenario() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            to = endpoint(f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
            ran = await step(job(to), requests=5, make=make)
        due = sorted(sample.due_ns for sample in ran.samples)
        assert due[-1] - due[0] >= 4 * 45 * MS

    run(scenario())


def test_what_is_in_flight_at_the_end_of_the_drain_is_cancelled(make: Make) -> None:
    async def scenario() -> None:
        what = then("hold", CHUNKED, every=chunk(event("a")))
        async with serving(what) as server, lab(job(endpoint(server.url), drain_ns=100 * MS), make) as found:
            stepping = asyncio.create_task(found.step([0, 1], requests=10))
            await until(lambda: len(server.calls) == 2)
            found.dispatcher.drain()
            ran = await stepping
        assert ran.outcomes() == {"cancelled": 2}

    run(scenario())
