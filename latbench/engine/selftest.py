"""Whether the hooks of `stamped.py` still work: before every run, on this machine, with this aiohttp."""

import asyncio
from contextlib import closing, suppress

import aiohttp
from yarl import URL

from latbench.engine.clock import raw_ns
from latbench.engine.reads import Head, Reads
from latbench.engine.stamped import StampedTransport
from latbench.engine.transport import Post, Target

_TESTED = (200, 202)  # of these two, one answer's head is of the usual kind


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
