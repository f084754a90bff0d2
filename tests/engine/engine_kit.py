"""The engine, run in this process against scripted servers, and as the process it is in earnest."""

import asyncio
import gc
import os
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import uvloop

from latbench.engine.clock import Clock, raw_ns
from latbench.engine.credentials import targets
from latbench.engine.dispatch import Dispatcher
from latbench.engine.exchange import Exchange
from latbench.engine.stamped import StampedTransport
from latbench.engine.transport import Post, Target, Transport
from latbench.model.frames import (
    Accepted,
    Ack,
    Batch,
    Down,
    Drain,
    Go,
    Hello,
    Job,
    Prepare,
    Prepared,
    Slot,
    Slots,
    Spending,
    Unpacker,
    Up,
    decode_up,
    pack,
)
from latbench.model.load import Closed, Step
from latbench.model.request import Ask, Endpoint, Message, Prompt, Timeouts
from latbench.model.sample import Outcome, Sample
from latbench.model.spool import Spool, SpoolHeader
from latbench.plan.partition import SHARDS
from latbench.providers.registry import DIALECTS

MS = 1_000_000
S = 1_000_000_000
FOR_EVER = 1 << 62
T = TypeVar("T")
Make = Callable[[Target], Transport]
Send = Callable[[], Awaitable[Sample]]


def run(work: Coroutine[Any, Any, T]) -> T:
    """On uvloop, as in earnest, and never for ever.

    What pytest and its plugins hold stays frozen: each of the engine's full collections would take 30 ms for it.
    """

    async def limited() -> T:
        async with asyncio.timeout(60):
            return await work

    gc.freeze()
    with mock.patch.object(gc, "unfreeze"):
        try:
            return uvloop.run(limited())
        finally:
            gc.enable()


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
        "worker": "w",
        "version": "0",
        "scenario_sha256": "5" * 64,
        "origin_ns": raw_ns(),
        "seed": 3,
        "endpoints": [endpoints] if isinstance(endpoints, Endpoint) else list(endpoints),
        "prompts": prompts(),
        "weights": {"search": 1.0},
        "max_tokens": 64,
        "cold": True,
        "timeouts": timeouts(),
        "drain_ns": 20 * S,
    }
    return Job(**(plain | changes))


def closed(
    concurrency: int,
    requests: int | None = None,
    *,
    think_ns: int = 0,
    duration_ns: int | None = None,
    warmup_ns: int = 0,
    slice_ns: int | None = None,
) -> Step:
    return Step(Closed(concurrency, think_ns), requests, duration_ns, warmup_ns, slice_ns=slice_ns)


def slots_of(load: Step, numbers: Iterable[int], endpoints: int, stride: int) -> list[Slot]:
    """The slots with these numbers, as the master deals them."""

    def slot(number: int) -> Slot:
        first = number // endpoints
        left = None if load.requests is None else max(0, -(-(load.requests - first) // stride))
        return Slot(number, first, left)

    return [slot(number) for number in numbers]


def fates(batches: Iterable[Batch]) -> list[Sample]:
    """What became of each request, once for each. One that was handed over as `lost` must have a fate by now."""
    found: dict[tuple[str, int, int], Sample] = {}
    for batch in batches:
        for sample in batch.samples:
            known = found.get(sample.key)
            assert known is None or (known.outcome == Outcome.LOST != sample.outcome), (known, sample)
            found[sample.key] = sample
    assert Outcome.LOST not in {sample.outcome for sample in found.values()}
    return list(found.values())


@dataclass
class Ran:
    """What one step gave."""

    samples: list[Sample]
    batches: list[Batch]
    origin_ns: int
    start_ns: int
    planned: dict[str, int]
    stopped: dict[str, str]

    @property
    def one(self) -> Sample:
        (sample,) = self.samples
        return sample

    def outcomes(self) -> Counter[str]:
        return Counter(sample.outcome for sample in self.samples)

    def seqs(self, name: str = "e") -> list[int]:
        return sorted(sample.seq for sample in self.samples if sample.endpoint == name)

    def due(self, name: str = "e") -> dict[int, int]:
        """When each was due, from the start of the step."""
        return {one.seq: one.due_ns - self.start_ns for one in self.samples if one.endpoint == name}


class Lab:
    """A dispatcher with its transports and its spool, for step after step, and as much of a master as it needs.

    The master ends a step when the engine is idle; with `ends` false, the test does.
    """

    def __init__(self, what: Job, make: Make, environ: dict[str, str], spool: Path, *, ends: bool = True) -> None:
        connect_s = what.timeouts.connect_ns / 1e9
        self.transports = [[make(one) for one in targets(to, connect_s, environ)] for to in what.endpoints]
        self.clock = Clock(what.origin_ns)
        self.batches: list[Batch] = []
        self.spending: list[Spending] = []
        self.folder = spool / what.run_id
        self.spool = Spool(self.folder, SpoolHeader(what.run_id, what.version, what.worker))
        self.dispatcher = Dispatcher(what, self.clock, self.transports, self.spool, self._hear)
        self._ends = ends
        self._endpoints = len(what.endpoints)
        self._load = closed(1)
        self._stride = 1

    def _hear(self, report: Batch | Spending) -> None:
        if isinstance(report, Spending):
            self.spending.append(report)
            return
        self.batches.append(report)
        if self._ends and report.idle:
            self.dispatcher.drain()

    async def open(self, slots: Iterable[int]) -> dict[str, str]:
        """Open connections for slots; which endpoints could not be reached, and why."""
        load = closed(1)
        order = Prepare(0, load, slots=slots_of(load, slots, self._endpoints, 1))
        return (await self.dispatcher.prepare(order)).failures

    def give(self, slots: Iterable[int], version: int = 0) -> None:
        """These slots of the step live here now."""
        self.dispatcher.set_slots(Slots(slots_of(self._load, slots, self._endpoints, self._stride), version))

    async def step(
        self,
        slots: Iterable[int],
        *,
        requests: int | None = None,
        step: int = 0,
        stride: int | None = None,
        start_ns: int | None = None,
        lease_ns: int = FOR_EVER,
        **load: Any,
    ) -> Ran:
        """One step of a closed loop, without connections opened ahead. Of its planned requests not one is missing."""
        dealt = list(slots)
        self._stride = stride or max(1, len(dealt))
        self._load = closed(self._stride, requests, **load)
        await self.dispatcher.prepare(Prepare(step, self._load, self._stride))
        self.give(dealt)
        return await self._go(step, start_ns, lease_ns)

    async def load(
        self,
        load: Step,
        *,
        step: int = 0,
        shards: Iterable[int] = range(SHARDS),
        cap: int | None = None,
        start_ns: int | None = None,
        lease_ns: int = FOR_EVER,
    ) -> Ran:
        """One step of an open loop."""
        prepared = await self.dispatcher.prepare(Prepare(step, load, shards=list(shards), cap=cap))
        assert prepared.failures == {}
        return await self._go(step, start_ns, lease_ns)

    async def _go(self, step: int, start_ns: int | None, lease_ns: int) -> Ran:
        first = len(self.batches)
        start = self.clock.now_ns() if start_ns is None else start_ns
        await self.dispatcher.run_step(Go(step, start, lease_ns))
        batches = self.batches[first:]
        final = batches[-1]
        assert [batch.final for batch in batches] == [False] * (len(batches) - 1) + [True]
        assert [batch.number for batch in self.batches] == list(range(1, len(self.batches) + 1))
        assert final.in_flight == 0
        samples = fates(batches)
        assert final.planned == Counter(f"{sample.endpoint}/{sample.phase}" for sample in samples)
        return Ran(samples, batches, self.clock.origin_ns, start, final.planned, final.stopped)

    def during(self) -> list[Sample]:
        """The samples of requests that have ended and were handed over so far."""
        return [sample for batch in self.batches for sample in batch.samples if sample.outcome != Outcome.LOST]

    async def close(self) -> None:
        self.spool.close(delete=True)
        for of_endpoint in self.transports:
            for transport in of_endpoint:
                await transport.close()


@asynccontextmanager
async def lab(
    what: Job, make: Make = StampedTransport, environ: dict[str, str] | None = None, *, ends: bool = True
) -> AsyncIterator[Lab]:
    with tempfile.TemporaryDirectory() as spool:
        found = Lab(what, make, environ or {}, Path(spool) / "spool", ends=ends)
        try:
            yield found
        finally:
            await found.close()


async def step(
    what: Job,
    requests: int | None = 1,
    slots: Iterable[int] = (0,),
    make: Make = StampedTransport,
    environ: dict[str, str] | None = None,
    **changes: Any,
) -> Ran:
    """One step of a closed loop of one's own."""
    async with lab(what, make, environ) as found:
        return await found.step(slots, requests=requests, **changes)


async def opened(what: Job, load: Step, make: Make = StampedTransport, **changes: Any) -> Ran:
    """One step of an open loop of one's own."""
    async with lab(what, make) as found:
        return await found.load(load, **changes)


@asynccontextmanager
async def exchanging(to: Endpoint, make: Make = StampedTransport) -> AsyncIterator[tuple[Exchange, Send]]:
    """One exchange without a dispatcher, so that a script can see its reads; then what makes the sample of it."""
    (target,) = targets(to, 5.0, {})
    dialect = DIALECTS[to.api]
    transport = make(target)
    exchange = Exchange(to.name, 0, 0, 0, "p0", "", to.stream, dialect)

    async def send() -> Sample:
        exchange.begin(0)
        request = dialect.build(to, Ask((Message("user", "hi"),), 9))
        await exchange.run(transport, Post(request.path, request.body))
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

    async def final(self, *, acknowledge: bool = True) -> tuple[list[Sample], Batch]:
        """The samples of a step up to its final batch, which an idle engine is asked for."""
        batches: list[Batch] = []
        while True:
            batch = await self.expect(Batch)
            batches.append(batch)
            if acknowledge:
                self.tell(Ack(batch.number))
            if batch.final:
                samples = fates(batches)
                assert batch.planned == Counter(f"{sample.endpoint}/{sample.phase}" for sample in samples)
                return samples, batch
            if batch.idle:
                self.tell(Drain())

    async def start(self, what: Job, load: Step, slots: Iterable[int], *, stride: int | None = None) -> None:
        """Job and prepare, and what is answered to them."""
        dealt = list(slots)
        stride = stride or max(1, len(dealt))
        self.tell(what, Prepare(0, load, stride, slots_of(load, dealt, len(what.endpoints), stride)))
        assert (await self.expect(Accepted)).scenario_sha256 == what.scenario_sha256
        assert (await self.expect(Prepared)).failures == {}

    async def step(self, what: Job, slots: list[int], requests: int, start_ns: int = 0) -> tuple[list[Sample], Batch]:
        """Job, prepare, go: the samples of a closed loop."""
        await self.start(what, closed(len(slots), requests), slots)
        self.tell(go(start_ns=start_ns))
        return await self.final()

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


def go(step: int = 0, start_ns: int = 0, lease_ns: int = FOR_EVER) -> Go:
    return Go(step, start_ns, lease_ns)


async def linked(link: socket.socket) -> Link:
    return Link(*await asyncio.open_connection(sock=link, limit=1 << 24))


@asynccontextmanager
async def engine(environ: dict[str, str] | None = None) -> AsyncIterator[tuple["subprocess.Popen[bytes]", Link, Hello]]:
    """The engine's process, greeted; killed at the end if it lives. Its spool is nobody else's."""
    ours, theirs = socket.socketpair()
    number = theirs.fileno()
    command = [sys.executable, "-m", "latbench.engine.process", "--fd", str(number), "--parent", str(os.getpid())]
    with tempfile.TemporaryDirectory() as spool:
        env = os.environ | {"LATBENCH_SPOOL": spool} | (environ or {})
        with theirs:
            process = subprocess.Popen(command, pass_fds=[number], env=env)  # noqa: ASYNC220
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
