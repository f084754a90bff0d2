"""The fall-back transport: aiohttp's public calls only. A run with it says `reduced precision`."""

import asyncio
from typing import Any

import aiohttp

from latbench.engine.clock import raw_ns
from latbench.engine.lag import Turn
from latbench.engine.reads import MAX_ANSWER_BYTES, Reads
from latbench.engine.transport import READ_BUFFER_BYTES, Post, Target, head_of, proxy_of, signed, tls_of


class PlainTransport:
    """One wake-up for each read; stamps are late by what the loop is busy with.

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
                read_bufsize=READ_BUFFER_BYTES,
            )
            for fresh in (False, True)
        }
        self._tls = tls_of(target)
        self._proxy, key = proxy_of(target)
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
        return signed(self._target, post)

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
            reads.head = head_of(response.status, response.headers)
            async for piece in response.content.iter_any():
                reads.add(piece, raw_ns())
                if reads.size > MAX_ANSWER_BYTES:
                    response.close()
                    break
            reads.end_ns = raw_ns()

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()


def _connection_trace() -> aiohttp.TraceConfig:
    """Tells a `Reads` when its connection was there, and whether it was a new one."""

    async def made(session: aiohttp.ClientSession, context: Any, params: object) -> None:  # noqa: ANN401  aiohttp's
        context.trace_request_ctx.connected_ns = raw_ns()
        context.trace_request_ctx.new_connection = isinstance(params, aiohttp.TraceConnectionCreateEndParams)

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(made)
    trace.on_connection_reuseconn.append(made)
    return trace
