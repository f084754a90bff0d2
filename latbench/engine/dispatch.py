"""Runs a step's slots, sweeps for exchanges that are too slow, decodes, and hands samples over in batches.

A slot is one place of closed-loop concurrency: it begins its next turn when the last one has ended. Nothing slow
happens on its way: bodies were encoded before, decoding comes after, in slices of at most 0.2 ms.
"""

import asyncio
import gc
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from contextlib import suppress

from latbench.engine.bodies import Bodies
from latbench.engine.clock import Clock, raw_ns
from latbench.engine.exchange import SLICE_NS, Exchange
from latbench.engine.transport import BROKEN, Transport, why_unreached
from latbench.model.frames import Batch, Go, Job
from latbench.model.sample import Outcome, Sample
from latbench.plan.draw import Drawer, nonce
from latbench.plan.guards import EndpointGuard
from latbench.providers.registry import DIALECTS

BATCH_S = 0.25
SWEEP_S = 0.1
LEASE_NS = 5_000_000_000
FAILED_CONNECT_PAUSE_S = 0.25
LEASE_LOOK_S = 0.05
START_APART_NS = 1_000_000
START_WITHIN_NS = 1_000_000_000
_FULL_COLLECTION_EVERY = 240  # batches: once a minute, because it holds the loop for milliseconds


class Dispatcher:
    """The engine's load: one object for the whole run, `run_step` for each step of it."""

    def __init__(
        self, job: Job, clock: Clock, transports: list[list[Transport]], send: Callable[[Batch], None]
    ) -> None:
        """`transports` stand in the order of `job.endpoints`, one for each of its keys; `send` takes every batch."""
        self._job = job
        self._clock = clock
        self._transports = transports
        self._send = send
        self._names = [endpoint.name for endpoint in job.endpoints]
        self._drawer = Drawer(job.seed, job.prompts, job.weights)
        self._bodies = Bodies(job)
        self._guards = {name: EndpointGuard(abort_on_errors=False) for name in self._names}
        self._stopped: dict[str, str] = {}
        self._live: set[int] = set()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._active: dict[Exchange, asyncio.Task[None]] = {}
        self._ended: deque[Exchange] = deque()
        self._samples: list[Sample] = []
        self._planned: Counter[str] = Counter()
        self._next: dict[int, int] = {}
        self._step: Go | None = None
        self._stop_at_ns = 0
        self._bug: BaseException | None = None
        self._paused = False
        self._idle = asyncio.Event()
        self._draining = asyncio.Event()
        self._lease_until_ns = raw_ns() + LEASE_NS
        self._cpu_from = (time.process_time(), time.monotonic())

    async def open(self, slots: list[int]) -> dict[str, str]:
        """Open a connection for each slot ahead of the step; which endpoints could not be reached, and why."""
        wanted: dict[int, Counter[int]] = {}
        for slot in slots:
            index, key = self._route(slot)
            wanted.setdefault(index, Counter())[key] += 1
        failures: dict[str, str] = {}
        for index, keys in wanted.items():
            try:
                for key, count in keys.items():
                    await self._transports[index][key].open(count)
            except BROKEN as fault:
                failures[self._names[index]] = why_unreached(fault)
        return failures

    def _route(self, slot: int) -> tuple[int, int]:
        """The endpoint that a slot of the run sends to, and which of the endpoint's keys it uses."""
        index = slot % len(self._names)
        return index, slot // len(self._names) % len(self._transports[index])

    def set_slots(self, slots: list[int]) -> None:
        """The slots that live here now. One that has gone ends after its turn; in a step a new one starts at once."""
        self._live = set(slots)
        if self._step is not None and self._clock.now_ns() >= self._step.start_ns:
            self._start_slots()

    def renew_lease(self) -> None:
        """The master lives: turns may begin for another five seconds."""
        self._lease_until_ns = raw_ns() + LEASE_NS

    def stop_endpoint(self, endpoint: str, reason: str) -> None:
        """Begin nothing new at this endpoint."""
        self._stopped.setdefault(endpoint, reason)

    def drain(self) -> None:
        """Begin nothing new at all."""
        self._draining.set()

    def cancel(self) -> None:
        """Begin nothing new and cancel what is in flight."""
        self._draining.set()
        self._end_all(Outcome.CANCELLED)

    def run_step(self, go: Go) -> Coroutine[None, None, None]:
        """Run one step to its end: load, drain, final batch.

        A drain that is asked for after this call counts, also where the step has not begun to run yet.
        """
        self._draining.clear()
        return self._run_step(go)

    async def _run_step(self, go: Go) -> None:
        self._step = go
        self._planned.clear()
        self._next.clear()
        end_ns = go.start_ns + go.warmup_ns + go.duration_ns if go.duration_ns is not None else None
        self._stop_at_ns = 2**62 if end_ns is None else end_ns
        gc.collect()
        gc.freeze()
        gc.disable()
        background = [asyncio.create_task(task()) for task in (self._sweep, self._decode_ended, self._batches)]
        for task in background:
            task.add_done_callback(self._watch)
        await self._load(go, end_ns)
        await self._drain()
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        if self._bug is not None:
            raise self._bug
        while self._ended:
            self._finish_one(raw_ns() + SLICE_NS)
            await asyncio.sleep(0)
        self._step = None
        self._flush(final=True, step=go.step)
        gc.enable()
        gc.unfreeze()

    # --- slots -------------------------------------------------------------------------------------------------

    async def _load(self, go: Go, end_ns: int | None) -> None:
        """Until every slot has ended or the drain has been asked for.

        Slots start one after the other, at most a millisecond apart and all within a second: a hundred requests in one
        instant would measure how long client and server take to get through them, and a closed loop never does
        that again.
        """
        apart_ns = min(START_APART_NS, START_WITHIN_NS // (go.stride * len(self._names)))
        await self._until(go.start_ns)
        for slot in sorted(self._live):
            await self._until(go.start_ns + slot * apart_ns)
            if slot not in self._running:
                self._start_slot(slot)
            await asyncio.sleep(0)  # its request leaves before the next one's `sent` is stamped
        if end_ns is None and go.requests is None:
            await self._draining.wait()  # slots come and go, perhaps all of them, until somebody says that it is over
        if not self._running:
            self._idle.set()
        waits = [asyncio.create_task(event.wait()) for event in (self._draining, self._idle)]
        left_s = None if end_ns is None else max(0.0, (end_ns - self._clock.now_ns()) / 1e9)
        await asyncio.wait(waits, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        self._draining.set()

    async def _until(self, due_ns: int) -> None:
        """Wait for a moment of the run, or the drain. uvloop's timers are whole milliseconds and may fire early."""
        while (left_ns := due_ns - self._clock.now_ns()) > 0 and not self._draining.is_set():
            await self._pause(left_ns / 1e9)

    def _start_slots(self) -> None:
        for slot in sorted(self._live - self._running.keys()):
            self._start_slot(slot)

    def _start_slot(self, slot: int) -> None:
        task = asyncio.create_task(self._slot(slot))
        self._running[slot] = task
        self._idle.clear()
        task.add_done_callback(lambda _: self._slot_over(slot))
        task.add_done_callback(self._watch)

    def _slot_over(self, slot: int) -> None:
        del self._running[slot]
        if not self._running:
            self._idle.set()

    def _watch(self, task: asyncio.Task[None]) -> None:
        """A task that fails has met a bug of ours: the step ends, and `run_step` raises it."""
        if not task.cancelled() and (bug := task.exception()) is not None:
            self._bug = bug
            self._draining.set()

    async def _slot(self, slot: int) -> None:
        """The turns of one slot, as long as they may begin."""
        go = self._step
        assert go is not None
        index = slot % len(self._names)
        name = self._names[index]
        seq = self._next.get(slot, slot // len(self._names))
        while go.requests is None or seq < go.requests:
            now = self._clock.now_ns()
            if self._draining.is_set() or now >= self._stop_at_ns or name in self._stopped or slot not in self._live:
                return
            if raw_ns() >= self._lease_until_ns:
                self._paused = True  # the master may only have been stopped for a while
                await self._pause(LEASE_LOOK_S)
                continue
            self._next[slot] = seq + go.stride
            await self._turn(index, slot, seq, go)
            seq += go.stride
            if go.think_ns:
                await self._pause(go.think_ns / 1e9)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not beyond the start of the drain."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._draining.wait(), seconds)

    async def _turn(self, index: int, slot: int, seq: int, go: Go) -> None:
        endpoint = self._job.endpoints[index]
        prompt = self._drawer.draw(seq)
        mark = nonce(self._job.run_id, endpoint.name, go.step, seq) if self._job.cold else ""
        body = self._bodies.get(index, prompt, mark)
        exchange = Exchange(
            endpoint=endpoint.name,
            step=go.step,
            seq=seq,
            slot=slot,
            prompt_id=self._job.prompts[prompt].id,
            nonce=mark,
            streamed=endpoint.stream,
            dialect=DIALECTS[endpoint.api],
        )
        task = asyncio.current_task()
        assert task is not None
        self._active[exchange] = task
        exchange.begin(self._clock.origin_ns + go.start_ns + go.warmup_ns)
        self._planned[f"{endpoint.name}/{exchange.phase}"] += 1
        try:
            await exchange.run(self._transports[index][self._route(slot)[1]], body)
        except asyncio.CancelledError:
            if exchange.verdict is None:
                raise
            task.uncancel()
            exchange.ended_ns = raw_ns()
        finally:
            del self._active[exchange]
        self._ended.append(exchange)
        if exchange.reads.connected_ns is None:
            await self._pause(FAILED_CONNECT_PAUSE_S)  # refused at once: do not spin

    async def _drain(self) -> None:
        """Await what is in flight; cancel the rest when the limit has passed."""
        if self._running:
            await asyncio.wait(list(self._running.values()), timeout=self._job.drain_ns / 1e9)
        self._end_all(Outcome.CANCELLED)
        while self._running:
            await asyncio.wait(list(self._running.values()))

    def _end(self, exchange: Exchange, verdict: Outcome) -> None:
        if exchange.verdict is None:
            exchange.verdict = verdict
            self._active[exchange].cancel()

    def _end_all(self, verdict: Outcome) -> None:
        for exchange in list(self._active):
            self._end(exchange, verdict)

    # --- background ------------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        """Ten times a second: decode what active exchanges have received, and end those that are too slow."""
        limits = self._job.timeouts
        while True:
            await asyncio.sleep(SWEEP_S)
            until = raw_ns() + SLICE_NS
            for exchange in list(self._active):
                while not exchange.decode(until) or raw_ns() >= until:
                    await asyncio.sleep(0)  # let the loop read between slices
                    until = raw_ns() + SLICE_NS
                if exchange not in self._active or not exchange.sent_ns:
                    continue
                now = raw_ns()
                last = exchange.last_output_ns
                late = exchange.streamed and last is None and now - exchange.sent_ns > limits.first_output_ns
                if exchange.malformed:
                    self._end(exchange, Outcome.MALFORMED)
                elif late or now - exchange.sent_ns > limits.total_ns:
                    self._end(exchange, Outcome.TIMEOUT)
                elif last is not None and now - last > limits.idle_ns:
                    self._end(exchange, Outcome.STALLED)

    async def _decode_ended(self) -> None:
        """Turn ended exchanges into samples, a slice at a time."""
        while True:
            if self._ended:
                self._finish_one(raw_ns() + SLICE_NS)
                await asyncio.sleep(0)
            else:
                await asyncio.sleep(0.005)

    def _finish_one(self, until_ns: int) -> None:
        exchange = self._ended[0]
        if not exchange.decode(until_ns):
            return
        self._ended.popleft()
        sample = exchange.sample(self._clock.origin_ns)
        self._samples.append(sample)
        reason = self._guards[sample.endpoint].add(sample.outcome, sample.status, sample.done_ns or 0)
        if reason is not None:
            self.stop_endpoint(sample.endpoint, reason)

    async def _batches(self) -> None:
        """Hand samples over; collect garbage here and nowhere else."""
        count = 0
        while True:
            await asyncio.sleep(BATCH_S)
            assert self._step is not None
            self._flush(final=False, step=self._step.step)
            count += 1
            gc.collect(2 if count % _FULL_COLLECTION_EVERY == 0 else 1)

    def _flush(self, *, final: bool, step: int) -> None:
        samples, self._samples = self._samples, []
        cpu, wall = time.process_time(), time.monotonic()
        busy, passed = cpu - self._cpu_from[0], wall - self._cpu_from[1]
        self._cpu_from = (cpu, wall)
        self._send(
            Batch(
                step=step,
                samples=samples,
                in_flight=len(self._active),
                final=final,
                planned=dict(self._planned),
                paused=self._paused,
                stopped=dict(self._stopped),
                cpu=busy / passed if passed > 0 else None,
            )
        )
