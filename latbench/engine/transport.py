"""Sends one request and stamps what comes back: aiohttp's connections and parser, our own hooks between them.

`StampedTransport` takes the time in `data_received`, before anything is parsed, and wakes the waiting coroutine once
for each request and not for each chunk. It writes the request's bytes itself, so that they leave at the stamp that says
so. That needs names which aiohttp does not promise (`_factory`, `_payload`, `_buffer`, `ResponseHandler.read`): the
version is pinned, and `self_test` sends a request through them before every run. If it fails, `PlainTransport` does the
same with aiohttp's public calls only, and the run says `reduced precision`.

Limits and timeouts are set here, never left to a default: aiohttp's would queue beyond 100 connections and cut a stream
after five minutes. What is too slow is judged by the sweep in `dispatch.py`, because aiohttp's read timeout re-arms a
timer for each chunk (a third more CPU).
"""

import asyncio
import os
import ssl
from collections import deque
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp import ServerDisconnectedError
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError, TransferEncodingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from yarl import URL

from latbench.engine.clock import raw_ns
from latbench.engine.lag import Turn
from latbench.engine.reads import MAX_ANSWER_BYTES, Head, Reads
from latbench.model.errors import DecodeError, UserError
from latbench.providers.base import Signer
from latbench.wire.chunked import ChunkedBody
from latbench.wire.head import chunked_head

BROKEN = (aiohttp.ClientError, HttpProcessingError, OSError)
"""What a transport raises when an exchange cannot be finished."""

_READ_BUFFER_BYTES = 1 << 18
_USUAL_END = b"\n\n\r\n"  # of an event and its chunk: nothing can end with this
_SHORTEST_END = 4  # bytes: the blank line after a head, and after a chunked body
_KEPT_NS = 15_000_000_000  # as aiohttp keeps them: servers close idle connections, and some just then
_TESTED = (200, 202)  # of these two, one answer's head is of the usual kind
_OPEN_AT_ONCE = 64  # connections; more would overrun the backlog of many a server


@dataclass(frozen=True, slots=True)
class Target:
    """Where and how requests of one endpoint go. `headers` hold the credentials: never log one of these.

    `url` is the address below which requests have their paths; `signer`, if any, signs each of them.
    """

    url: URL
    headers: dict[str, str] = field(repr=False)
    connect_s: float
    ca_file: str | None = None
    proxy: str | None = None
    signer: Signer | None = field(default=None, repr=False)

    def at(self, path: str) -> URL:
        """The address of a request."""
        return URL(str(self.url).rstrip("/") + path, encoded=True)


@dataclass(frozen=True, slots=True)
class Post:
    """A request ready to leave: its path below the target's address, its body, and what signs it."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


class Transport(Protocol):
    """Sends requests to one target. Its reads tell `turn` how long they waited."""

    turn: Turn

    async def open(self, connections: int) -> None:
        """Open that many connections ahead of use. Raises one of `BROKEN` where the target cannot be reached."""
        ...

    def sign(self, post: Post) -> Post:
        """The request with a signature of this moment, where the target wants one."""
        ...

    async def exchange(self, post: Post, reads: Reads, *, fresh: bool = False) -> None:
        """Send `post`; fill `reads`; return at the end of the answer.

        With `fresh`, no connection that was used before is taken. Raises one of `BROKEN` when the connection broke or
        what came was not HTTP: `reads` tells how far it had come.
        """
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class StampedHandler(ResponseHandler):
    """aiohttp's protocol with a stamp in front of its parser.

    The parser reads every answer but one, which is what nearly all streams are: its head in one read and of the usual
    kind (`wire/head.py`), its body in chunks. That body is kept as it comes and framed by `Reads`, most of it when
    there is time for it. Either way the request waits for `done`, and for nothing else.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, turn: Turn) -> None:
        super().__init__(loop)
        self.reads: Reads | None = None
        self.made_ns = 0
        self.done: asyncio.Future[None] = loop.create_future()
        self._turn = turn
        self._body: StreamReader | None = None  # of the answer whose head has come
        self._raw = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made_ns = raw_ns()
        super().connection_made(transport)

    def begin(self, reads: Reads) -> "asyncio.Future[None]":
        """Stamp into `reads` from now on; what is returned is done at the end of the answer, or has the reason why."""
        self._payload = self._body = self._parser = None  # the last answer's: its end is not to be taken for this one's
        self._raw = False
        self.reads = reads
        self.done = self._loop.create_future()
        if self._tail:  # something came before it was asked for
            self._parse_on()
        if (fault := self.exception()) is not None:
            self._fail(fault)
        return self.done

    def data_received(self, data: bytes) -> None:
        now = raw_ns()
        reads = self.reads
        if reads is None or not data:  # empty: aiohttp calls itself again while the buffer below is drained
            super().data_received(data)
            return
        turn = self._turn
        turn.left -= 1
        if turn.left < 0:
            turn.look(now)
        if not self._raw:
            self._parse(data, now, reads)
            return
        reads.data.append(data)
        reads.at_ns.append(now)
        reads.size += len(data)
        if data[-4:] != _USUAL_END or reads.size > MAX_ANSWER_BYTES:
            self._look(data, reads)

    def _look(self, data: bytes, reads: Reads) -> None:
        """A piece of a chunked body that may be the last one: only then it is framed now."""
        if reads.size > MAX_ANSWER_BYTES:
            self._abort()
        elif data[-2:] != b"\r\n" or data[-4:] == b"\r\n\r\n" or len(data) < _SHORTEST_END:
            try:
                reads.frame(len(reads.data))
            except DecodeError as fault:
                self._abort()
                self._fail(TransferEncodingError(str(fault)))

    def _parse(self, data: bytes, now: int, reads: Reads) -> None:
        """The head, and a body that aiohttp has to understand."""
        usual = None if reads.any_bytes else chunked_head(data)
        reads.any_bytes = True
        if usual is not None:
            headers, begin = usual
            reads.headers_ns = now
            reads.head = Head(200, headers)
            reads.chunked, reads.on_end = ChunkedBody(), self._end
            self._raw = True
            if begin < len(data):
                rest = data[begin:]
                reads.add(rest, now)
                self._look(rest, reads)
            return
        if self._parser is None:
            self._parse_on()
        super().data_received(data)
        if self._body is None:
            self._take_head(now, reads)
        self._take_body(now, reads)

    def _parse_on(self) -> None:
        """Have aiohttp's parser read the answer."""
        self.set_response_params(read_until_eof=True, read_bufsize=_READ_BUFFER_BYTES)

    def _take_head(self, now: int, reads: Reads) -> None:
        """The head of the answer, if the parser has it whole."""
        while self._buffer:
            (message, body), _ = self._buffer.popleft()
            if message.code < 200:
                continue
            self._body = body
            reads.headers_ns = now
            reads.head = _head(message.code, message.headers)
            return

    def _take_body(self, now: int, reads: Reads) -> None:
        """What the parser has of the body, and whether it is over or broken."""
        body = self._body
        if body is not None and body is not EMPTY_PAYLOAD:
            while body._buffer and body.exception() is None:  # reading may let the parser inflate some more
                reads.add(body.read_nowait(), now)
            if reads.size > MAX_ANSWER_BYTES:
                self._abort()
        if self._is_whole(body):
            reads.end_ns = now
            self._end()
        elif (fault := (body.exception() if body is not None else None) or self.exception()) is not None:
            self._fail(fault)

    @staticmethod
    def _is_whole(body: StreamReader | None) -> bool:
        """Whether the answer has ended, whatever came after it."""
        return body is not None and body.is_eof() and body.exception() is None

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _end(self) -> None:
        """The answer is over. What came after it belongs to nobody: that connection is used no more."""
        reads, self.reads = self.reads, None
        if reads is not None and reads.chunked is not None and reads.chunked.rest:
            self.force_close()
        if not self.done.done():
            self.done.set_result(None)

    def _fail(self, fault: BaseException) -> None:
        self.reads = None
        if not self.done.done():
            self.done.set_exception(fault)

    def connection_lost(self, exc: BaseException | None) -> None:
        reads, body = self.reads, self._body
        if reads is not None and self._raw:
            with suppress(DecodeError):  # whoever decodes finds it again
                reads.frame(len(reads.data))
        super().connection_lost(exc)
        reads = self.reads
        if reads is None:
            return
        if self._is_whole(body):  # an answer that lasts until the connection is closed
            reads.end_ns = raw_ns()
            self._end()
        else:
            broken = body.exception() if body is not None else None
            self._fail(broken or self.exception() or ServerDisconnectedError())


class StampedTransport:
    """The precise transport: see the module."""

    def __init__(self, target: Target, turn: Turn | None = None) -> None:
        """Transports of one loop share its `turn`."""
        loop = asyncio.get_running_loop()
        self._target = target
        self.turn = turn or Turn(loop)
        self._tls = _tls(target)
        self._pool = _connector(loop, self.turn, force_close=False)
        self._spare = _connector(loop, self.turn, force_close=True)
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=target.connect_s)
        proxy, key = _proxy(target)
        self._absolute = absolute = proxy is not None and target.url.scheme == "http"
        # aiohttp puts the host into these headers and makes them part of the pool's key: it has to stand there before.
        tunnel = {"Host": _host(target.url), **key} if key and not absolute else None
        self._template = aiohttp.ClientRequest(
            "POST", target.url, loop=loop, ssl=self._tls, proxy=proxy, proxy_headers=tunnel
        )
        self._headers = {"host": _host(target.url), **target.headers, **(key if absolute else {})}
        self._heads: dict[tuple[str, ...], bytes] = {}
        self._idle: deque[tuple[aiohttp.connector.Connection, int]] = deque()  # with when (raw) they were let go

    def sign(self, post: Post) -> Post:
        return _signed(self._target, post)

    def _head(self, post: Post) -> bytes:
        """What stands before the length of the body: the same for all requests to a path. A signature's headers win."""
        key = (post.path, *post.headers)
        head = self._heads.get(key)
        if head is None:
            url = self._target.at(post.path)
            where = str(url) if self._absolute else url.raw_path_qs
            headers = {name: value for name, value in self._headers.items() if name not in post.headers}
            head = f"POST {where} HTTP/1.1\r\n".encode() + _lines(headers) + b"Content-Length: "
            self._heads[key] = head
        return head

    async def open(self, connections: int) -> None:
        opened: list[aiohttp.connector.Connection] = []
        try:
            while len(opened) < connections:
                count = min(_OPEN_AT_ONCE, connections - len(opened))
                tries = [self._pool.connect(self._template, [], self._timeout) for _ in range(count)]
                results = await asyncio.gather(*tries, return_exceptions=True)
                opened += [one for one in results if isinstance(one, aiohttp.connector.Connection)]
                for one in results:
                    if isinstance(one, BaseException):
                        raise one
        finally:
            for connection in opened:
                connection.release()

    async def exchange(self, post: Post, reads: Reads, *, fresh: bool = False) -> None:
        started_ns = raw_ns()
        connection = None if fresh else self._take(started_ns)
        if connection is None:
            connector = self._spare if fresh else self._pool
            connection = await connector.connect(self._template, [], self._timeout)
        let_go = connection.close  # whatever ends this before the answer's end: the rest of it would be the next one's
        try:
            protocol: Any = connection.protocol
            reads.new_connection = protocol.made_ns >= started_ns
            reads.connected_ns = max(protocol.made_ns, started_ns)
            done = protocol.begin(reads)
            signature = _lines(post.headers) if post.headers else b""
            head = self._head(post) + b"%d\r\n" % len(post.body)
            protocol.transport.write(head + signature + b"\r\n" + post.body)
            await done
            let_go = connection.release if fresh else partial(self._keep, connection)
        finally:
            let_go()
        if reads.end_ns is None:
            reads.end_ns = raw_ns()
        if reads.headers_ns is None:
            reads.headers_ns = reads.end_ns

    def _take(self, now_ns: int) -> aiohttp.connector.Connection | None:
        """The connection that was let go last, if it is still good: none of aiohttp's own tasks and keys."""
        while self._idle:
            connection, since_ns = self._idle.pop()
            protocol = connection.protocol
            if _is_good(protocol) and now_ns - since_ns < _KEPT_NS:
                return connection
            connection.close()
        return None

    def _keep(self, connection: aiohttp.connector.Connection) -> None:
        """Keep it for the next request, or close it where the answer or the server has ended it."""
        protocol, now_ns = connection.protocol, raw_ns()
        if _is_good(protocol):
            self._idle.append((connection, now_ns))
        else:
            connection.close()
        while self._idle and now_ns - self._idle[0][1] >= _KEPT_NS:
            self._idle.popleft()[0].close()

    async def close(self) -> None:
        while self._idle:
            self._idle.pop()[0].release()  # to be closed with the others, and awaited
        await self._pool.close()
        await self._spare.close()


class PlainTransport:
    """The fall-back: public calls only, one wake-up for each read; stamps are late by what the loop is busy with.

    How late a read is nobody can tell here: `turn` hears of none.
    """

    def __init__(self, target: Target, turn: Turn | None = None) -> None:
        self._target = target
        self.turn = turn or Turn(asyncio.get_running_loop())
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=target.connect_s)
        self._sessions = {
            fresh: aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=fresh),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=timeout,
                trace_configs=[_connection_trace()],
                read_bufsize=_READ_BUFFER_BYTES,
            )
            for fresh in (False, True)
        }
        self._tls = _tls(target)
        self._proxy, key = _proxy(target)
        tunnelled = target.url.scheme != "http"
        self._tunnel = key if key and tunnelled else None
        self._headers = target.headers if tunnelled else {**target.headers, **key}

    async def open(self, connections: int) -> None:
        """One connection is tried and closed again: the public calls cannot open ahead of use."""
        target = self._target
        host, port = (target.url.host, target.url.port)
        if self._proxy is not None:
            host, port = (self._proxy.host, self._proxy.port)
        async with asyncio.timeout(target.connect_s):
            _, writer = await asyncio.open_connection(host, port)
        writer.close()

    def sign(self, post: Post) -> Post:
        return _signed(self._target, post)

    async def exchange(self, post: Post, reads: Reads, *, fresh: bool = False) -> None:
        async with self._sessions[fresh].post(
            self._target.at(post.path),
            data=post.body,
            headers={**self._headers, **post.headers},
            allow_redirects=False,
            ssl=self._tls,
            proxy=self._proxy,
            proxy_headers=self._tunnel,
            trace_request_ctx=reads,
        ) as response:
            reads.headers_ns = raw_ns()
            reads.any_bytes = True
            reads.head = _head(response.status, response.headers)
            async for piece in response.content.iter_any():
                reads.add(piece, raw_ns())
                if reads.size > MAX_ANSWER_BYTES:
                    response.close()
                    break
            reads.end_ns = raw_ns()

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()


def why_unreached(fault: Exception) -> str:
    """Why a connection could not be opened, in words of one line."""
    if isinstance(fault, TimeoutError):
        return "no connection within `timeouts.connect` (is it TLS where the other side expects it?)"
    if isinstance(fault, aiohttp.ClientConnectorError) and not isinstance(fault, aiohttp.ClientSSLError):
        cause = fault.os_error
        reason = (
            os.strerror(cause.errno) if cause.errno is not None and cause.errno > 0 else cause.strerror or str(cause)
        )
        return f"cannot connect to {fault.host}:{fault.port} ({reason.lower()})"
    return str(fault).replace("\n", " ") or type(fault).__name__


def _connection_trace() -> aiohttp.TraceConfig:
    """Tells a `Reads` when its connection was there, and whether it was a new one."""

    async def made(session: aiohttp.ClientSession, context: Any, params: object) -> None:  # noqa: ANN401  aiohttp's
        context.trace_request_ctx.connected_ns = raw_ns()
        context.trace_request_ctx.new_connection = isinstance(params, aiohttp.TraceConnectionCreateEndParams)

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(made)
    trace.on_connection_reuseconn.append(made)
    return trace


def _is_good(protocol: ResponseHandler | None) -> bool:
    """Whether a connection is open, and nothing has come on it unasked."""
    return protocol is not None and protocol.is_connected() and not protocol.should_close


def _connector(loop: asyncio.AbstractEventLoop, turn: Turn, *, force_close: bool) -> aiohttp.TCPConnector:
    """A connector without limits whose connections are stamped."""
    connector = (
        aiohttp.TCPConnector(limit=0, force_close=True)
        if force_close
        else aiohttp.TCPConnector(limit=0, keepalive_timeout=None)
    )
    connector._factory = partial(StampedHandler, loop=loop, turn=turn)  # type: ignore[assignment]
    return connector


def _tls(target: Target) -> ssl.SSLContext | bool:
    """Certificates are always verified; a private authority comes from `ca_file`.

    Raises UserError where that file cannot be used on this machine.
    """
    try:
        return ssl.create_default_context(cafile=target.ca_file) if target.ca_file else True
    except OSError as fault:
        raise UserError(f"ca_file {target.ca_file} cannot be used on this worker's machine: {fault}") from fault


def _proxy(target: Target) -> tuple[URL | None, dict[str, str]]:
    """The proxy to go through, and the headers it wants. The environment's only where the scenario says `env`."""
    found = target.proxy
    if found == "env":
        bypassed = target.url.host is None or proxy_bypass(target.url.host)
        found = None if bypassed else getproxies().get(target.url.scheme)
    if not found:
        return None, {}
    url = URL(found)
    key = {"proxy-authorization": aiohttp.encode_basic_auth(url.user, url.password or "")} if url.user else {}
    return url.with_user(None), key


def _head(status: int, headers: Mapping[str, str]) -> Head:
    """aiohttp keeps bytes that are not UTF-8 as lone surrogates, which no encoder after us would take."""
    return Head(status, {name.lower(): value.encode(errors="replace").decode() for name, value in headers.items()})


def _signed(target: Target, post: Post) -> Post:
    if target.signer is None:
        return post
    headers = target.signer(str(target.at(post.path)), target.headers, post.body)
    return replace(post, headers={name.lower(): value for name, value in headers.items()})


def _lines(headers: Mapping[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()


def _host(url: URL) -> str:
    """The Host header: the port only where it is not the scheme's own."""
    host = url.host_subcomponent or ""
    return host if url.is_default_port() else f"{host}:{url.port}"


async def self_test() -> str:
    """Send requests through the private hooks to a server of our own; what is wrong, or nothing.

    The server answers headers and a first event in one write, then a second event and the end in another: every byte
    must come back once, with a stamp that lies between the server's writes. One answer we read ourselves, and one with
    another status, on the same connection, has aiohttp's parser read.
    """
    first, second = b"data: 1\n\n", b"data: 22\n\n"
    sent_at: list[int] = []
    first_seen = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(OSError, asyncio.IncompleteReadError):
            for status in _TESTED:
                await reader.readuntil(b"\r\n\r\n123")
                sent_at.append(raw_ns())
                head = b"HTTP/1.1 %d OK\r\nTransfer-Encoding: chunked\r\n\r\n" % status
                writer.write(head + b"%x\r\n%s\r\n" % (len(first), first))
                await writer.drain()
                await first_seen.wait()
                sent_at.append(raw_ns())
                writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(second), second))
                await writer.drain()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport: StampedTransport | None = None
    posting: asyncio.Task[None] | None = None
    try:
        transport = StampedTransport(Target(URL(f"http://127.0.0.1:{port}/"), {}, 5.0))
        await transport.open(1)
        for status in _TESTED:
            reads = Reads()
            posting = asyncio.create_task(transport.exchange(Post("/", b"123"), reads))
            async with asyncio.timeout(5):
                while not reads.data and not posting.done():  # noqa: ASYNC110  the handler has no event, and shall have none
                    await asyncio.sleep(0.001)
                first_seen.set()
                await posting
            if wrong := _judge(reads, status, (first, second), sent_at):
                return wrong
            first_seen.clear()
            sent_at.clear()
    except (AttributeError, TypeError, AssertionError, aiohttp.ClientError, OSError, TimeoutError) as fault:
        return f"{type(fault).__name__}: {fault}"
    finally:
        first_seen.set()  # where the hooks have failed, the answer still waits for it, and `wait_closed` for the answer
        if posting is not None:
            posting.cancel()
        if transport is not None:
            await transport.close()
        server.close()
        await server.wait_closed()
    return ""


def _judge(reads: Reads, status: int, pieces: tuple[bytes, ...], sent_at: list[int]) -> str:
    """What the self-test found wrong, or nothing."""
    if reads.head != Head(status, {"transfer-encoding": "chunked"}):
        return f"status and headers came back as {reads.head}"
    body = reads.body()
    if tuple(reads.data) != pieces:
        sent = f"{sum(map(len, pieces))} in {len(pieces)} were sent"
        return f"{len(body)} bytes in {len(reads.data)} reads came back, {sent}"
    if len(reads.at_ns) != len(pieces):
        return f"{len(reads.at_ns)} stamps for {len(pieces)} reads"
    stamps = [reads.headers_ns or 0, *reads.at_ns, reads.end_ns or 0]
    if stamps != sorted(stamps) or not sent_at[0] <= reads.at_ns[0] <= sent_at[1] <= reads.at_ns[1]:
        return "stamps are out of order"
    return ""
