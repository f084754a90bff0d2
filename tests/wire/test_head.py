"""The head of the usual answer: what is taken is what aiohttp's parser makes of it, and the rest is left to it."""

import asyncio
from collections.abc import Iterator

import pytest
from aiohttp.client_proto import ResponseHandler
from hypothesis import example, given
from hypothesis import strategies as st

from latbench.wire.head import chunked_head

START = b"HTTP/1.1 200 OK\r\n"
CODING = b"Transfer-Encoding: chunked\r\n"
HEAD = START + CODING + b"\r\n"
TEXT = "text/event-stream"


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    found = asyncio.new_event_loop()
    yield found
    found.close()


def with_lines(*lines: bytes) -> bytes:
    """The usual head with these lines in it."""
    return START + b"".join(lines) + CODING + b"\r\n"


@pytest.mark.parametrize(
    ("lines", "more"),
    [
        ([], {}),
        ([b"Content-Type: text/event-stream\r\n"], {"content-type": TEXT}),
        ([b"CONTENT-type:text/event-stream\r\n"], {"content-type": TEXT}),
        ([b"content-type:   text/event-stream  \r\n"], {"content-type": TEXT}),
        ([b"Set-Cookie: a=1\r\n", b"x: y\r\n", b"set-cookie: b=2\r\n"], {"set-cookie": "b=2", "x": "y"}),
        ([b"x-empty:\r\n", b"x-blank:  \r\n"], {"x-empty": "", "x-blank": ""}),
        ([b"date: Thu, 21 Aug 2025 12:40:00 GMT\r\n"], {"date": "Thu, 21 Aug 2025 12:40:00 GMT"}),
        ([b"!#$%&'*+-.^_`|~09aZ: all that a name may have\r\n"], {"!#$%&'*+-.^_`|~09az": "all that a name may have"}),
        ([b"Connection: Keep-Alive\r\n"], {"connection": "Keep-Alive"}),
        ([b"Keep-Alive: timeout=5\r\n"], {"keep-alive": "timeout=5"}),
        ([b"Content-Length-Hint: 5\r\n"], {"content-length-hint": "5"}),
    ],
)
def test_the_usual_head_is_taken(lines: list[bytes], more: dict[str, str]) -> None:
    head = with_lines(*lines)
    for body in (b"", b"5\r\nhello\r\n", b"\r\n\r\n", b"\xff\x00"):
        assert chunked_head(head + body) == ({"transfer-encoding": "chunked", **more}, len(head))


@pytest.mark.parametrize("reason", [b"", b"OK", b"Very well", b" "])
def test_any_reason_may_be_given_for_200(reason: bytes) -> None:
    head = b"HTTP/1.1 200 " + reason + b"\r\n" + CODING + b"\r\n"
    assert chunked_head(head) == ({"transfer-encoding": "chunked"}, len(head))


@pytest.mark.parametrize("coding", [b"transfer-encoding:chunked", b"TRANSFER-ENCODING:  CHUNKED"])
def test_the_coding_may_be_written_in_any_case(coding: bytes) -> None:
    head = START + coding + b"\r\n\r\n"
    found = chunked_head(head)
    assert found is not None
    assert (found[0]["transfer-encoding"].lower(), found[1]) == ("chunked", len(head))


LEFT = {
    "nothing": b"",
    "another status": HEAD.replace(b"200", b"201"),
    "a refusal": HEAD.replace(b"200 OK", b"429 Slow down"),
    "an interim answer before it": b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD,
    "an older version": HEAD.replace(b"1.1", b"1.0"),
    "a newer version": HEAD.replace(b"1.1", b"2.0"),
    "a protocol in lower case": HEAD.replace(b"HTTP", b"http"),
    "no blank after the status": HEAD.replace(b"200 OK", b"200"),
    "two blanks before the status": HEAD.replace(b" 200", b"  200"),
    "a status of four digits": HEAD.replace(b"200", b"2000"),
    "blanks at the beginning": b"\r\n" + HEAD,
    "no coding": START + b"\r\n",
    "a body until the end": START + b"Content-Type: text/event-stream\r\n\r\n",
    "a length": START + b"Content-Length: 5\r\n\r\n",
    "a length beside chunks": with_lines(b"Content-Length: 5\r\n"),
    "an odd length beside chunks": with_lines(b"CONTENT-length:\r\n"),
    "compression": with_lines(b"Content-Encoding: gzip\r\n"),
    "compression of no kind": with_lines(b"Content-Encoding: identity\r\n"),
    "an upgrade": with_lines(b"Upgrade: h2c\r\n"),
    "trailers": with_lines(b"Trailer: x-sum\r\n"),
    "two codings": with_lines(CODING),
    "two codings, the first of them compression": with_lines(b"Transfer-Encoding: gzip\r\n"),
    "two codings in a line": HEAD.replace(b"chunked", b"gzip, chunked"),
    "the same coding twice in a line": HEAD.replace(b"chunked", b"chunked, chunked"),
    "another coding": HEAD.replace(b"chunked", b"identity"),
    "a coding that only begins like chunked": HEAD.replace(b"chunked", b"chunkedx"),
    "chunked with a parameter": HEAD.replace(b"chunked", b"chunked;q=1"),
    "chunked in quotes": HEAD.replace(b"chunked", b'"chunked"'),
    "a tab in a value": with_lines(b"x-name: a\tb\r\n"),
    "a tab before a value": with_lines(b"x-name:\ty\r\n"),
    "a tab in the reason": HEAD.replace(b"OK", b"O\tK"),
    "a tab after chunked": HEAD.replace(b"chunked", b"chunked\t"),
    "the end of the connection": with_lines(b"Connection: close\r\n"),
    "the end of the connection beside its life": with_lines(b"Connection: keep-alive, close\r\n"),
    "the end of the connection before its life": with_lines(b"Connection: close\r\n", b"Connection: keep-alive\r\n"),
    "the life of the connection twice": with_lines(b"Connection: keep-alive\r\n", b"connection: keep-alive\r\n"),
    "a connection of no kind": with_lines(b"Connection:\r\n"),
    "an upgrade of the connection": with_lines(b"Connection: upgrade\r\n"),
    "the end of a proxy's connection": with_lines(b"Proxy-Connection: close\r\n"),
    "a blank before the colon": with_lines(b"x-name : y\r\n"),
    "a blank before the colon of the coding": HEAD.replace(b"Encoding:", b"Encoding :"),
    "a blank in a name": with_lines(b"x name: y\r\n"),
    "no name": with_lines(b": y\r\n"),
    "no colon": with_lines(b"x-name\r\n"),
    "a name in brackets": with_lines(b"(x): y\r\n"),
    "a folded line": with_lines(b"x-name: y\r\n z: chunked\r\n"),
    "a line folded with a tab": with_lines(b"x-name: y\r\n\tz\r\n"),
    "a folded coding": HEAD.replace(b" chunked", b"\r\n chunked"),
    "a first line that is folded": with_lines(b" x-name: y\r\n"),
    "lines that end with LF": HEAD.replace(b"\r\n", b"\n"),
    "one line that ends with LF": with_lines(b"x-name: y\n"),
    "a status that ends with LF": HEAD.replace(b"OK\r\n", b"OK\n"),
    "a blank line of LF": START + CODING + b"\n",
    "lines that end with CR": HEAD.replace(b"\r\n", b"\r"),
    "a CR in a value": with_lines(b"x-name: a\rb\r\n"),
    "two CR": with_lines(b"x-name: a\r\r\n"),
    "NUL in a value": with_lines(b"x-name: a\0b\r\n"),
    "NUL in a name": with_lines(b"x\0name: a\r\n"),
    "NUL in the reason": HEAD.replace(b"OK", b"O\0K"),
    "DEL in a value": with_lines(b"x-name: a\x7f\r\n"),
    "a control character": with_lines(b"x-name: \x1b[1m\r\n"),
    "UTF-8 in a value": with_lines("x-name: café\r\n".encode()),
    "Latin 1 in a value": with_lines(b"x-name: caf\xe9\r\n"),
    "UTF-8 in a name": with_lines("x-café: y\r\n".encode()),
    "UTF-8 in the reason": HEAD.replace(b"OK", "d'accord, c'est réglé".encode()),
    "a Kelvin sign for a k": HEAD.replace(b"chunked", "chun\u212aed".encode()),
    "too long": with_lines(b"x-name: " + b"y" * 8190 + b"\r\n"),
    "too many short lines": with_lines(b"x: y\r\n" * 2000),
    "more lines than aiohttp takes": with_lines(b"x: y\r\n" * 128),
}


@pytest.mark.parametrize("head", [pytest.param(head, id=why) for why, head in LEFT.items()])
def test_any_other_head_is_left_to_aiohttp(head: bytes) -> None:
    assert chunked_head(head) is None
    assert chunked_head(head + b"5\r\nhello\r\n0\r\n\r\n") is None


def test_a_head_that_was_cut_is_left_to_aiohttp() -> None:
    head = with_lines(b"Content-Type: text/event-stream\r\n", b"Connection: keep-alive\r\n")
    for at in range(len(head)):
        assert chunked_head(head[:at]) is None
    assert chunked_head(head) is not None


def test_the_longest_head_is_as_long_as_aiohttp_lets_a_line_be() -> None:
    room = 8190 - len(with_lines(b"x: \r\n"))
    longest = with_lines(b"x: " + b"y" * room + b"\r\n")
    assert len(longest) == 8190
    assert chunked_head(longest + b"0\r\n\r\n") is not None
    assert chunked_head(longest.replace(b"x: ", b"x:  ") + b"0\r\n\r\n") is None


STATUS = st.sampled_from(
    [START] * 12
    + [b"HTTP/1.1 200 \r\n", b"HTTP/1.1 200 O\tK\r\n", b"HTTP/1.1 200  \r\n"]
    + [b"HTTP/1.1 200\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 204 OK\r\n", b"HTTP/1.1 200 \xc3\xa9\r\n"]
)
CODINGS = st.sampled_from(
    [CODING] * 12
    + [b"transfer-encoding:chunked\r\n", b"Transfer-Encoding: Chunked \r\n", b"Transfer-Encoding:\tchunked\t\r\n"]
    + [b"Transfer-Encoding: gzip, chunked\r\n", b"Transfer-Encoding : chunked\r\n", CODING * 2, b""]
)
NAMES = st.one_of(
    st.sampled_from([b"Content-Type", b"Date", b"Server", b"Set-Cookie", b"x-request-id", b"Vary", b"Via", b"Host"]),
    st.sampled_from(
        [b"Keep-Alive", b"Proxy-Connection", b"Connection", b"Age", b"ETag", b"TE", b"Location", b"Status"]
    ),
    st.text("!#$%&'*+-.^_`|~09aZ", min_size=1, max_size=6).map(str.encode),
)
VALUES = st.one_of(
    st.sampled_from([b"keep-alive", b"close", b"a=1", b"text/event-stream", b"", b" \t ", b"upgrade", b"a, b", b":"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126) | st.just("\t"), max_size=12).map(str.encode),
)
LINES = st.tuples(NAMES, st.sampled_from([b":", b": ", b":\t", b":  "]), VALUES, st.sampled_from([b"", b" ", b"\t"]))
ODD_LINES = st.one_of(
    st.sampled_from([b"Content-Length: 3\r\n", b"Content-Encoding: gzip\r\n", b"Upgrade: h2c\r\n", b"Trailer: x\r\n"]),
    st.sampled_from([b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Proxy-Connection: close\r\n"]),
    st.sampled_from([b" folded\r\n", b"lf: alone\n", b"no colon\r\n", b"x : y\r\n"]),
)
ODD_BYTES = st.sampled_from([b"\0", b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"\x7f", b"\xe9", b",", b"x", b""])


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """A head that is plausible, as most are that are taken; or with one thing about it that is not."""
    lines = [b"".join(line) + b"\r\n" for line in draw(st.lists(LINES, max_size=5))]
    lines += draw(st.sampled_from([[]] * 12 + [[b"x-n: y\r\n"] * 126, [b"x-n: y\r\n"] * 128]))
    if draw(st.integers(0, 3)) == 0:
        lines.append(draw(ODD_LINES))
    lines.insert(draw(st.integers(0, len(lines))), draw(CODINGS))
    head = draw(STATUS) + b"".join(lines) + b"\r\n"
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(head)))
        head = head[:at] + draw(ODD_BYTES) + head[at + draw(st.integers(0, 1)) :]
    return head


def check_against_aiohttp(loop: asyncio.AbstractEventLoop, data: bytes) -> None:
    found = chunked_head(data)
    if found is None:
        return
    headers, begin = found
    handler = ResponseHandler(loop)
    handler.set_response_params(read_until_eof=True)
    handler.data_received(data[: begin - 1])
    assert not handler._buffer, "the head ends where it says"
    handler.data_received(data[begin - 1 : begin])
    assert handler.exception() is None
    ((message, body), _) = handler._buffer.popleft()
    assert (message.code, message.chunked, message.compression) == (200, True, None)
    assert (message.upgrade, message.should_close) == (False, False)
    assert headers == {name.lower(): value for name, value in message.headers.items()}
    handler.data_received(b"1\r\na\r\n0\r\n\r\n")
    assert body.read_nowait() == b"a"
    assert body.is_eof()
    assert not handler.should_close


@given(heads(), st.binary(max_size=8))
@example(with_lines(b"Proxy-Connection: close\r\n"), b"")
@example(with_lines(b"x: y\r\n" * 128), b"")
@example(HEAD.replace(b"chunked", b"chunked\t"), b"")
def test_what_is_taken_is_what_aiohttp_makes_of_it(loop: asyncio.AbstractEventLoop, head: bytes, after: bytes) -> None:
    check_against_aiohttp(loop, head + after)


@given(st.binary(max_size=80), st.integers(0, len(HEAD)))
def test_noise_is_no_head_or_one_that_aiohttp_takes(loop: asyncio.AbstractEventLoop, noise: bytes, at: int) -> None:
    assert chunked_head(noise) is None
    check_against_aiohttp(loop, HEAD[:at] + noise + HEAD[at:])
