"""Scripted servers on raw sockets: they read a request and then do, byte for byte, what a script says.

They know nothing of HTTP beyond finding where a request ends, so that they can break every rule of it.
"""

import asyncio
import json
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"


@dataclass
class Call:
    """One request as it came, and the pen to answer it with."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes
    number: int
    connection: int
    nth_on_connection: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    at_ns: int = field(default_factory=time.monotonic_ns)

    def header(self, name: str) -> str | None:
        """The one header of that name."""
        found = [value for key, value in self.headers if key.lower() == name]
        assert len(found) < 2, found
        return found[0] if found else None

    async def send(self, *pieces: bytes) -> None:
        """Each piece in a write of its own."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)

    async def hang_up(self) -> None:
        """End the connection in good order: what was written arrives, then the end."""
        self.writer.close()

    def reset(self) -> None:
        """End the connection with a reset."""
        if self.writer.transport.is_closing():
            return
        found: socket.socket = self.writer.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def hold(self, every: bytes = b"") -> None:
        """Until the client hangs up; `every` is sent again and again meanwhile."""
        while not self.writer.transport.is_closing():
            if every:
                self.writer.write(every)
            await asyncio.sleep(0.02)


Script = Callable[[Call], Awaitable[None]]


class Server:
    """A listening server, and what it has seen."""

    def __init__(self, script: Script, scheme: str) -> None:
        self._script = script
        self._scheme = scheme
        self._tasks: set[asyncio.Task[None]] = set()
        self._faults: list[BaseException] = []
        self.calls: list[Call] = []
        self.connections = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}/v1"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        number = self.connections
        self.connections += 1
        try:
            nth = 0
            while not writer.transport.is_closing():
                call = await self._read(reader, writer, number, nth)
                nth += 1
                await self._script(call)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
            pass  # the other end has gone, or the test is over
        except Exception as fault:  # noqa: BLE001  a script that fails, fails its test
            self._faults.append(fault)
        finally:
            writer.close()
            with suppress(OSError, ssl.SSLError):
                await writer.wait_closed()
            self._tasks.discard(task)

    async def _read(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int, nth: int
    ) -> Call:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("utf-8")
        line, *rest = head.removesuffix("\r\n\r\n").split("\r\n")
        headers = [(name, value) for name, _, value in (one.partition(": ") for one in rest)]
        length = sum(int(value) for name, value in headers if name.lower() == "content-length")
        body = await reader.readexactly(length)
        call = Call(line, headers, body, len(self.calls), connection, nth, reader, writer)
        self.calls.append(call)
        return call


@asynccontextmanager
async def serving(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server in this loop, gone at the end with all its connections."""
    server = Server(script, "https" if tls else "http")
    listening = await asyncio.start_server(server._serve, "127.0.0.1", 0, ssl=tls, limit=1 << 24)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in list(server._tasks):
            task.cancel()
        await asyncio.gather(*server._tasks, return_exceptions=True)
    assert server._faults == []


@dataclass(frozen=True)
class Certificate:
    """A certificate for 127.0.0.1 that signs itself."""

    path: Path
    key: Path

    def server_side(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path, self.key)
        return context


# --- what scripts say ------------------------------------------------------------------------------------------------


def event(content: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    """One event of a chat completion."""
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta | more.pop("delta", {}), "finish_reason": finish}
    return sse({"id": "c-1", "object": "chat.completion.chunk", "model": "m-1", "choices": [choice], **more})


def sse(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


ROLE = event("", delta={"role": "assistant"})


def usage(output: int, given: int = 5) -> bytes:
    counts = {"prompt_tokens": given, "completion_tokens": output, "total_tokens": given + output}
    return sse({"id": "c-1", "object": "chat.completion.chunk", "choices": [], "usage": counts})


def chunk(data: bytes) -> bytes:
    """As HTTP's chunked coding wraps it."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def reply(status: int, body: bytes | dict[str, Any] = b"", **headers: str) -> bytes:
    """A whole answer with its length."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Said\r\n{lines}Content-Length: {len(data)}\r\n\r\n".encode() + data


def completion(text: str, output: int) -> dict[str, Any]:
    """An answer that is not streamed."""
    return {
        "id": "c-1",
        "object": "chat.completion",
        "model": "m-1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": output, "total_tokens": 5 + output},
    }


def good(tokens: int = 3) -> tuple[bytes, ...]:
    """A good streamed answer, in pieces: headers and role, tokens, the end."""
    return (
        CHUNKED + chunk(ROLE),
        *(chunk(event(f"t{number} ")) for number in range(tokens)),
        chunk(event(finish="stop")) + chunk(usage(tokens)) + chunk(DONE) + LAST_CHUNK,
    )


async def answer_well(call: Call) -> None:
    """The script of a server that works."""
    await call.send(*good())


async def held(call: Call) -> None:
    """The script of a server that goes on answering until the client has gone."""
    call.writer.write(CHUNKED)
    await call.hold(chunk(event("a")))


def answer_after(release: asyncio.Event) -> Script:
    """The script of a server that keeps everybody waiting until then."""

    async def script(call: Call) -> None:
        await release.wait()
        await answer_well(call)

    return script
