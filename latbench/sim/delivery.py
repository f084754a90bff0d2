"""How the bytes of an answer leave: at once or slowly, and how a connection is broken."""

import contextlib
import os
import socket
import struct
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from latbench.sim.alarm import Alarm

_PIECES_PER_S = 50
_NS = 1_000_000_000
_NO_LINGER = struct.pack("ii", 1, 0)


def writer(response: web.StreamResponse, alarm: Alarm, bytes_per_s: int | None) -> Callable[[bytes], Awaitable[None]]:
    """What writes an event to a response, no faster than `bytes_per_s` where that is set."""
    return response.write if bytes_per_s is None else _Slow(response, alarm, bytes_per_s).write


class _Slow:
    """Writes in small pieces, each when the bytes up to its end are due."""

    def __init__(self, response: web.StreamResponse, alarm: Alarm, bytes_per_s: int) -> None:
        self._response = response
        self._alarm = alarm
        self._bytes_per_s = bytes_per_s
        self._free_ns = 0

    async def write(self, data: bytes) -> None:
        """One event. Time in which nothing was to be sent is lost."""
        size = max(1, self._bytes_per_s // _PIECES_PER_S)
        self._free_ns = max(self._free_ns, time.monotonic_ns())
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            self._free_ns += len(piece) * _NS // self._bytes_per_s
            await self._alarm.until(self._free_ns)
            await self._response.write(piece)


def cut(request: web.Request) -> None:
    """Closes the connection after what was written; the response has no end."""
    if request.transport is not None:
        request.transport.close()


def reset(request: web.Request) -> None:
    """Resets the connection (RST)."""
    transport = request.transport
    if transport is None:
        return
    pseudo = transport.get_extra_info("socket")
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(pseudo.fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()
