"""The null endpoint: it answers on a schedule, and every chunk says when it left. The other side of the null test.

    python -m latbench.engine.null_endpoint --parent PID --gap-ns N --chunks N

It speaks HTTP/1.1 and OpenAI's stream as far as the null test needs it, on a plain protocol: between a stamp and the
wire stands one `send`. Schedules are kept with a timer of the kernel. The text of a chunk is the raw clock when it was
written; before the first one stands when the request had arrived. It prints its port, and dies with its parent.
"""

import argparse
import asyncio
import heapq
import time
from pathlib import Path
from typing import cast

from latbench.model.lifeline import die_with_parent
from latbench.model.timer import TimerFile

READY = "latbench null endpoint: "
TTFT_NS = 10_000_000

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_CHUNK = (
    b'data: {"id":"n","object":"chat.completion.chunk","model":"null","choices":[{"index":0,"delta":{"content":"%s"},'
)
_GOES_ON = _CHUNK + b'"finish_reason":null}]}\n\n'
_STOPS = _CHUNK + b'"finish_reason":"stop"}]}\n\n'
_DONE = b"data: [DONE]\n\n"


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Scheduler:
    """Has the connections write when they are due."""

    def __init__(self, gap_ns: int, chunks: int) -> None:
        self.gap_ns = gap_ns
        self.chunks = chunks
        self._due: list[tuple[int, int, Answering]] = []
        self._count = 0
        self._timer = TimerFile()
        asyncio.get_running_loop().add_reader(self._timer.fileno(), self._rung)

    def add(self, at_ns: int, who: "Answering") -> None:
        """Call `who.due` at that moment."""
        self._count += 1  # of two that are due at the same moment the first comes first
        heapq.heappush(self._due, (at_ns, self._count, who))
        if self._due[0][0] == at_ns:
            self._timer.set(at_ns)

    def _rung(self) -> None:
        self._timer.fired()
        while self._due and self._due[0][0] <= time.monotonic_ns():
            at_ns, _, who = heapq.heappop(self._due)
            who.due(at_ns)
        if self._due:
            self._timer.set(self._due[0][0])


class Answering(asyncio.Protocol):
    """One connection: a request after the other, each answered with the same number of chunks."""

    def __init__(self, schedule: Scheduler) -> None:
        self._schedule = schedule
        self._request = b""
        self._arrived_ns = 0
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        self._request += data
        head, blank, body = self._request.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if blank and len(body) >= int(lengths[0].partition(b":")[2]):
            self._request = b""
            self._arrived_ns = time.monotonic_ns()
            self._left = self._schedule.chunks
            self._schedule.add(self._arrived_ns + TTFT_NS, self)

    def due(self, at_ns: int) -> None:
        """Write the next chunk. One that is late moves nothing but itself."""
        if self._transport.is_closing():
            return
        first = self._left == self._schedule.chunks
        self._left -= 1
        arrived = b"%d " % self._arrived_ns if first else b""
        now = b"%s%d " % (arrived, time.monotonic_ns())
        if self._left:
            self._transport.write((_HEAD if first else b"") + _framed(_GOES_ON % now))
            self._schedule.add(at_ns + self._schedule.gap_ns, self)
        else:
            self._transport.write((_HEAD if first else b"") + _framed(_STOPS % now + _DONE) + b"0\r\n\r\n")


async def serve(gap_ns: int, chunks: int) -> None:
    """Answer until the process ends."""
    schedule = Scheduler(gap_ns, chunks)
    server = await asyncio.get_running_loop().create_server(lambda: Answering(schedule), "127.0.0.1", 0, backlog=1024)
    print(f"{READY}{server.sockets[0].getsockname()[1]}", flush=True)  # noqa: T201  whoever started it waits for this
    await server.serve_forever()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="latbench-null-endpoint", description=Path(__file__).stem)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--gap-ns", type=int, required=True)
    parser.add_argument("--chunks", type=int, required=True)
    arguments = parser.parse_args()
    die_with_parent(arguments.parent)
    asyncio.run(serve(arguments.gap_ns, arguments.chunks))


if __name__ == "__main__":
    main()
