"""The engine, run in this process against scripted servers, and as the process it is in earnest."""

import asyncio
import gc
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import uvloop

from latbench.engine.clock import Clock, raw_ns
from latbench.engine.credentials import targets
from latbench.engine.dispatch import Dispatcher
from latbench.engine.exchange import Exchange
from latbench.engine.transport import StampedTransport, Target, Transport
from latbench.model.frames import Batch, Down, Go, Hello, Job, Prepare, Prepared, Unpacker, Up, decode_up, pack
from latbench.model.request import Endpoint, Message, Prompt, Timeouts
from latbench.model.sample import Sample
from latbench.providers.registry import DIALECTS

MS = 1_000_000
S = 1_000_000_000
T = TypeVar("T")
Make = Callable[[Target], Transport]
Send = Callable[[], Awaitable[Sample]]


def run(work: Coroutine[Any, Any, T]) -> T:
    """On uvloop, as in earnest, and never for ever."""

    async def limited() -> T:
        async with asyncio.timeout(60):
            return await work

    try:
        return uvloop.run(limited())
    finally:
        gc.enable()
        gc.unfreeze()


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  what is waited for knows of no event
            await asyncio.sleep(0.002)


def endpoint(url: str, name: str = "e", **changes: Any) -> Endpoint:
    return Endpoint(**({"name": name, "provider": "p", "api": "openai-chat", "base_url": url, "model": "m"} | changes))


def prompts(count: int = 5) -> list[Prompt]:
    texts = [f"question {number}" for number in range(count)]
    return [Prompt(f"p{n}", "search", "go", (Message("user", text),), 2, "0" * 64) for n, text in enumerate(texts)]


def timeouts(connect: int = 5_000, first_output: int = 20_000, idle: int = 20_000, total: int = 40_000) -> Timeouts:
    """Limits in milliseconds."""
    return Timeouts(connect * MS, first_output * MS, idle * MS, total * MS)


QUICK = timeouts(first_output=400)


def job(endpoints: Sequence[Endpoint] | Endpoint, **changes: Any) -> Job:
    plain: dict[str, Any] = {
        "run_id": "run-1",
        "version": "0",
        "origin_ns": raw_ns(),
        "elapsed_ns": 0,
        "seed": 3,
        "endpoints": [endpoints] if isinstance(endpoints, Endpoint) else list(endpoints),
        "prompts": prompts(),
        "weights": {"search": 1.0},
        "max_tokens": 64,
        "cold": True,
        "timeouts": timeouts(),
        "drain_ns": 20 * S,
        "abort_on_errors": False,
    }
    return Job(**(plain | changes))


@dataclass
class Ran:
    """What one step gave."""

    samples: list[Sample]
    batches: list[Batch]
    origin_ns: int
    planned: dict[str, int]
    stopped: dict[str, str]

    @property
    def one(self) -> Sample:
        (sample,) = self.samples
        return sample

    def outcomes(self) -> dict[str, int]:
        return dict(Counter(sample.outcome for sample in self.samples))

    def seqs(self, name: str = "e") -> list[int]:
        return sorted(sample.seq for sample in self.samples if sample.endpoint == name)


class Lab:
    """A dispatcher with its transports, for step after step."""

    def __init__(self, what: Job, make: Make = StampedTransport, environ: dict[str, str] | None = None) -> None:
        connect_s = what.timeouts.connect_ns / 1e9
        self.transports = [[make(one) for one in targets(to, connect_s, environ or {})] for to in what.endpoints]
        self.clock = Clock(what.origin_ns, what.elapsed_ns)
        self.batches: list[Batch] = []
        self.dispatcher = Dispatcher(what, self.clock, self.transports, self.batches.append)

    async def step(self, slots: Iterable[int], *, requests: int | None = None, **changes: Any) -> Ran:
        """One step. Of its planned requests not one may be missing."""
        dealt = list(slots)
        self.dispatcher.set_slots(dealt)
        first = len(self.batches)
        plain = {"step": 0, "start_ns": self.clock.now_ns(), "stride": max(1, len(dealt)), "warmup_ns": 0}
        await self.dispatcher.run_step(Go(**(plain | {"think_ns": 0, "requests": requests} | changes)))
        batches = self.batches[first:]
        final = batches[-1]
        assert [batch.final for batch in batches] == [False] * (len(batches) - 1) + [True]
        assert final.in_flight == 0
        samples = [sample for batch in batches for sample in batch.samples]
        assert final.planned == Counter(f"{sample.endpoint}/{sample.phase}" for sample in samples)
        assert len({sample.key for sample in samples}) == len(samples)
        return Ran(samples, batches, self.clock.origin_ns, final.planned, final.stopped)

    def during(self) -> list[Sample]:
        """The samples that were handed over so far."""
        return [sample for batch in self.batches for sample in batch.samples]

    async def close(self) -> None:
        for of_endpoint in self.transports:
            for transport in of_endpoint:
                await transport.close()


@asynccontextmanager
async def lab(what: Job, make: Make = StampedTransport, environ: dict[str, str] | None = None) -> AsyncIterator[Lab]:
    found = Lab(what, make, environ)
    try:
        yield found
    finally:
        await found.close()


async def step(
    what: Job,
    requests: int = 1,
    slots: Iterable[int] = (0,),
    make: Make = StampedTransport,
    environ: dict[str, str] | None = None,
    **go: Any,
) -> Ran:
    """One step of one's own."""
    async with lab(what, make, environ) as found:
        return await found.step(slots, requests=requests, **go)


@asynccontextmanager
async def exchanging(to: Endpoint, make: Make = StampedTransport) -> AsyncIterator[tuple[Exchange, Send]]:
    """One exchange without a dispatcher, so that a script can see its reads; then what makes the sample of it."""
    (target,) = targets(to, 5.0, {})
    dialect = DIALECTS[to.api]
    transport = make(target)
    exchange = Exchange(to.name, 0, 0, 0, "p0", "", to.stream, dialect)

    async def send() -> Sample:
        exchange.begin(0)
        await exchange.run(transport, dialect.build(to, [Message("user", "hi")], 9).body)
        assert exchange.decode(raw_ns() + 10 * S)
        return exchange.sample(0)

    try:
        yield exchange, send
    finally:
        await transport.close()


# --- the process -----------------------------------------------------------------------------------------------------


class Link:
    """The worker's end of the socketpair. Everything that came up it is kept, as bytes and as messages."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._unpacker = Unpacker()
        self._waiting: list[Up] = []
        self.raw = b""

    def tell(self, *orders: Down) -> None:
        """All in one write."""
        self._writer.write(b"".join(map(pack, orders)))

    async def next(self) -> Up | None:
        """The next report; None at the end."""
        while not self._waiting:
            data = await self._reader.read(1 << 16)
            if not data:
                return None
            self.raw += data
            self._waiting = [decode_up(frame) for frame in self._unpacker.feed(data)]
        return self._waiting.pop(0)

    async def expect(self, kind: type[T]) -> T:
        report = await self.next()
        assert isinstance(report, kind), report
        return report

    async def final(self) -> tuple[list[Sample], Batch]:
        """The samples of a step up to its final batch."""
        samples: list[Sample] = []
        while True:
            batch = await self.expect(Batch)
            samples += batch.samples
            if batch.final:
                assert batch.planned == Counter(f"{sample.endpoint}/{sample.phase}" for sample in samples)
                return samples, batch

    async def step(self, what: Job, slots: list[int], **changes: Any) -> tuple[list[Sample], Batch]:
        """Job, prepare, go: the samples."""
        self.tell(what, Prepare(0, slots))
        assert (await self.expect(Prepared)).failures == {}
        self.tell(go(len(slots), **changes))
        return await self.final()

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


def go(stride: int, **changes: Any) -> Go:
    return Go(**({"step": 0, "start_ns": 0, "stride": stride, "warmup_ns": 0, "think_ns": 0} | changes))


async def linked(link: socket.socket) -> Link:
    return Link(*await asyncio.open_connection(sock=link, limit=1 << 24))


@asynccontextmanager
async def engine(environ: dict[str, str] | None = None) -> AsyncIterator[tuple["subprocess.Popen[bytes]", Link, Hello]]:
    """The engine's process, greeted; killed at the end if it lives."""
    ours, theirs = socket.socketpair()
    number = theirs.fileno()
    command = [sys.executable, "-m", "latbench.engine.process", "--fd", str(number), "--parent", str(os.getpid())]
    with theirs:
        process = subprocess.Popen(command, pass_fds=[number], env=os.environ | (environ or {}))  # noqa: ASYNC220
    link = await linked(ours)
    try:
        yield process, link, await link.expect(Hello)
    finally:
        await link.close()
        process.kill()
        process.wait()


async def ended(process: "subprocess.Popen[bytes]") -> int:
    """The exit code of a process that ends by itself."""
    await until(lambda: process.poll() is not None)
    return process.returncode
