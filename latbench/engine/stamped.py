"""The precise transport: aiohttp's connections and parser, our own hooks between them.

It takes the time in `data_received`, before anything is parsed, and wakes the waiting coroutine once for each request
and not for each chunk. It writes the request's bytes itself, so that they leave at the stamp that says so. That needs
names which aiohttp does not promise (`_factory`, `_payload`, `_buffer`, `ResponseHandler.read`): the version is pinned,
and `selftest.py` sends requests through them before every run.

Limits and timeouts are set here, never left to a default: aiohttp's would queue beyond 100 connections and cut a stream
after five minutes.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import aiohttp
from aiohttp import ServerDisconnectedError
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import TransferEncodingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from latbench.engine.clock import raw_ns
from latbench.engine.lag import Turn
from latbench.engine.reads import MAX_ANSWER_BYTES, Head, Reads
from latbench.engine.transport import READ_BUFFER_BYTES, Post, Target, head_of, host_of, proxy_of, signed, tls_of
from latbench.model.errors import DecodeError
from latbench.wire.chunked import ChunkedBody
from latbench.wire.head import chunked_head

_USUAL_END = b"\n\n\r\n"  # of an event and its chunk: nothing can end with this
_SHORTEST_END = 4  # bytes: the blank line after a head, and after a chunked body
_KEPT_NS = 15_000_000_000  # as aiohttp keeps them: servers close idle connections, and some just then
_OPEN_AT_ONCE = 64  # connections; more would overrun the backlog of many a server


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
        self.set_response_params(read_until_eof=True, read_bufsize=READ_BUFFER_BYTES)

    def _take_head(self, now: int, reads: Reads) -> None:
        """The head of the answer, if the parser has it whole."""
        while self._buffer:
            (message, body), _ = self._buffer.popleft()
            if message.code < 200:
                continue
            self._body = body
            reads.headers_ns = now
            reads.head = head_of(message.code, message.headers)
            return

    def _take_body(self, now: int, reads: Reads) -> None:
        """What the parser has of the body, and whether it is over or broken."""
        body = self._body
        if body is not None and body is not EMPTY_PAYLOAD:
            while body._buffer and body.exception() is None:  # reading may let the parser inflate some more
                reads.add(body.read_nowait(), now)
                if reads.size > MAX_ANSWER_BYTES:  # a few bytes may be inflated to gigabytes: no more of them is read
                    self._abort()
                    self._fail(ServerDisconnectedError())
                    return
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
    """One target's connections: those that are idle are kept here, and made by aiohttp."""

    def __init__(self, target: Target, turn: Turn | None = None) -> None:
        """Transports of one loop share its `turn`."""
        loop = asyncio.get_running_loop()
        self._target = target
        self.turn = turn or Turn(loop)
        self._tls = tls_of(target)
        self._pool = _connector(loop, self.turn, force_close=False)
        self._spare = _connector(loop, self.turn, force_close=True)
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=target.connect_s)
        proxy, key = proxy_of(target)
        self._absolute = absolute = proxy is not None and target.url.scheme == "http"
        # aiohttp puts the host into these headers and makes them part of the pool's key: it has to stand there before.
        tunnel = {"Host": host_of(target.url), **key} if key and not absolute else None
        self._template = aiohttp.ClientRequest(
            "POST", target.url, loop=loop, ssl=self._tls, proxy=proxy, proxy_headers=tunnel
        )
        self._headers = {"host": host_of(target.url), **target.headers, **(key if absolute else {})}
        self._heads: dict[tuple[str, ...], bytes] = {}
        self._idle: deque[tuple[aiohttp.connector.Connection, int]] = deque()  # with when (raw) they were let go

    def sign(self, post: Post) -> Post:
        return signed(self._target, post)

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
            now_ns = raw_ns()
            idle = [connection for connection, since_ns in self._idle if _is_usable(connection, since_ns, now_ns)]
            connections -= len(idle)
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
            if _is_usable(connection, since_ns, now_ns):
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


def _is_good(protocol: ResponseHandler | None) -> bool:
    """Whether a connection is open, and nothing has come on it unasked."""
    return protocol is not None and protocol.is_connected() and not protocol.should_close


def _is_usable(connection: aiohttp.connector.Connection, since_ns: int, now_ns: int) -> bool:
    """Whether a connection that was let go may be taken again."""
    return _is_good(connection.protocol) and now_ns - since_ns < _KEPT_NS


def _connector(loop: asyncio.AbstractEventLoop, turn: Turn, *, force_close: bool) -> aiohttp.TCPConnector:
    """A connector without limits whose connections are stamped."""
    connector = (
        aiohttp.TCPConnector(limit=0, force_close=True)
        if force_close
        else aiohttp.TCPConnector(limit=0, keepalive_timeout=None)
    )
    connector._factory = partial(StampedHandler, loop=loop, turn=turn)  # type: ignore[assignment]
    return connector


def _lines(headers: Mapping[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
