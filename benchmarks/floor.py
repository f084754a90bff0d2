"""The floor: the least that a streaming client in Python can do, and still stamp what it reads.

    python benchmarks/floor.py http://127.0.0.1:9100 --concurrency 100 --requests 2000 --tokens 100

A bare uvloop and httptools, one connection a slot, in a process of its own. Each read is stamped first, its body is
kept with the stamp, and the next request leaves when an answer has ended. Nothing is decoded, limited, written down or
recovered from: whatever goes wrong ends it. It is what latbench's engine is held against (`speed.py`), not part of it.

One line of JSON comes out: the processor time of the load alone, and the TTFT of every request, which is looked up in
the bytes when the load is over.
"""

import argparse
import asyncio
import gc
import json
import re
import time

import httptools
import uvloop
from yarl import URL

_OUTPUT = re.compile(rb'"content":"[^"]')


class Load:
    """What is still to be sent, and what came back."""

    def __init__(self, post: bytes, requests: int) -> None:
        self.post = post
        self.to_go = requests
        self.answers: list[Slot] = []
        self.under_way = 0
        self.over = asyncio.Event()


class Slot(asyncio.Protocol):
    """One connection, and the answers it has had: when each request left, and its reads with their stamps."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._now = 0
        self._data: list[bytes] = []
        self._at: list[int] = []
        self.had: list[tuple[int, list[bytes], list[int]]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._load.answers.append(self)

    def send(self) -> None:
        """The next request leaves, if there is one."""
        load = self._load
        if not load.to_go:
            if not load.under_way:
                load.over.set()
            return
        load.to_go -= 1
        load.under_way += 1
        self._parser = httptools.HttpResponseParser(self)
        self._data, self._at = [], []
        self._sent = time.monotonic_ns()
        self._transport.write(load.post)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._now = time.monotonic_ns()
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """httptools calls this for each chunk of the body."""
        self._data.append(body)
        self._at.append(self._now)

    def on_message_complete(self) -> None:
        """httptools calls this at the end of an answer."""
        self.had.append((self._sent, self._data, self._at))
        self._load.under_way -= 1
        asyncio.get_running_loop().call_soon(self.send)

    def ttft_ms(self) -> list[float]:
        """The time to the first output of each answer."""
        found = []
        for sent, data, at in self.had:
            first = next(stamp for piece, stamp in zip(data, at, strict=True) if _OUTPUT.search(piece))
            found.append((first - sent) / 1e6)
        return found


def post(url: URL, tokens: int) -> bytes:
    """The request, head and body."""
    said = [{"role": "user", "content": "Write function 1."}]
    asked = {"model": "oracle", "messages": said, "max_tokens": tokens}
    body = json.dumps(asked | {"stream": True, "stream_options": {"include_usage": True}}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {url.authority}\r\nContent-Type: application/json\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def drive(url: URL, concurrency: int, requests: int, tokens: int) -> dict[str, object]:
    """The load, from the first request to the end of the last answer. Slots start a millisecond apart."""
    load = Load(post(url, tokens), requests)
    loop = asyncio.get_running_loop()
    for _ in range(concurrency):
        await loop.create_connection(lambda: Slot(load), url.host, url.port)
    gc.collect()
    gc.disable()
    began_ns, cpu_ns = time.monotonic_ns(), time.process_time_ns()
    for slot in load.answers:
        slot.send()
        await asyncio.sleep(0.001)
    await load.over.wait()
    cpu_ns, wall_ns = time.process_time_ns() - cpu_ns, time.monotonic_ns() - began_ns
    ttft_ms = [one for slot in load.answers for one in slot.ttft_ms()]
    return {"cpu_s": cpu_ns / 1e9, "wall_s": wall_ns / 1e9, "requests": len(ttft_ms), "ttft_ms": ttft_ms}


def main() -> None:
    """Drive, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", type=URL)
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--tokens", type=int, default=100)
    arguments = parser.parse_args()
    print(json.dumps(uvloop.run(drive(arguments.url, arguments.concurrency, arguments.requests, arguments.tokens))))


if __name__ == "__main__":
    main()
