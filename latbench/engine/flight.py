"""Requests under way: sent, swept for those that are too slow, decoded, written to the spool, handed over in batches.

Nothing slow happens on a request's way: its body is ready before it is due, decoding comes after, in slices of at most
0.1 ms. A request is in the spool before it leaves, and its fate is there before anybody is told.
"""

import asyncio
import gc
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain

import numpy as np

from latbench.engine import patience
from latbench.engine.bodies import Bodies
from latbench.engine.clock import Clock, raw_ns
from latbench.engine.exchange import SLICE_NS, Exchange
from latbench.engine.lag import Probe, Turn
from latbench.engine.transport import Post, Transport
from latbench.engine.wallet import Wallet
from latbench.metrics.histogram import counted
from latbench.model.frames import Batch, Effort, Job
from latbench.model.load import Step, ToolLoop
from latbench.model.request import Message
from latbench.model.sample import Outcome, Sample
from latbench.model.slices import Slices
from latbench.model.spool import Spool
from latbench.plan.draw import drawer, nonce
from latbench.plan.guards import EndpointGuard
from latbench.plan.modes import arm
from latbench.plan.repeats import draw_of
from latbench.providers.registry import DIALECTS

BATCH_S = 0.25
SWEEP_S = 0.1
_LOOK_AGAIN_S = 0.1
_SIGNATURE_NS = 60_000_000_000  # the age up to which one is sent; AWS takes none that is older than five minutes
_UNDECODED = 1000
_COLLECTION_EVERY = 8  # batches: every two seconds, because it takes the same time however seldom it is done
_FULL_COLLECTION_EVERY = 240  # batches: once a minute
_MANY_OBJECTS = 50_000  # that there are more than at the last collection, so that the next one does not wait


@dataclass(frozen=True, slots=True)
class Stage:
    """The step that is under way: its number, what it is, and when it started (raw clock)."""

    index: int
    load: Step
    start_ns: int
    slices: Slices

    def phase(self, due_ns: int, endpoint: int) -> str:
        """The phase of what is due at that moment (raw clock)."""
        own_ns, _ = self.slices.own_at(due_ns - self.start_ns, endpoint)
        return "warmup" if own_ns < self.load.warmup_ns else "measure"


@dataclass(slots=True)
class Ready:
    """A request that could leave at once. `signed_ns` (raw) is when its post was signed, if its endpoint wants that."""

    exchange: Exchange
    post: Post
    signed_ns: int
    endpoint: int
    lane: int
    max_tokens: int


class Flight:
    """What is in the air, over all endpoints. One object for the whole run; `start` and `finish` frame a step."""

    def __init__(
        self,
        job: Job,
        clock: Clock,
        transports: list[list[Transport]],
        spool: Spool,
        wallet: Wallet,
        send: Callable[[Batch], None],
        clean: Callable[[Sample], None],
    ) -> None:
        """`transports` stand in the order of `job.endpoints`, one for each key. `send` takes every batch.

        `clean` takes secrets out of what an endpoint has said, before it is written down anywhere.
        """
        self._job = job
        self._clock = clock
        self._transports = transports
        self._spool = spool
        self.wallet = wallet
        self._send = send
        self._clean = clean
        self.names = [endpoint.name for endpoint in job.endpoints]
        self._drawer = drawer(job.seed, job.prompts, job.weights, in_order=bool(job.book))
        self._bodies = Bodies(job)
        self._guards = {name: EndpointGuard(abort_on_errors=False) for name in self.names}
        self.stopped: dict[str, str] = {}
        self._active: dict[Exchange, asyncio.Task[None]] = {}
        self._waiting: dict[Exchange, asyncio.Future[str]] = {}
        self.in_flight = [0] * len(self.names)
        self._ended: deque[Exchange] = deque()
        self._samples: list[Sample] = []
        self._planned: Counter[str] = Counter()
        self._batches = 0
        self._probe: Probe | None = None
        self._effort_from = (0, 0, 0)  # since when (raw), and what processor time and occupation were then
        self._unsent: Effort | None = None  # counted, and about to be sent
        self._occupied_ns = 0  # by requests that have ended
        self._background: list[asyncio.Task[None]] = []
        self._flushed = asyncio.Event()
        self.stage: Stage | None = None
        self.paused = False
        self.idle = False
        self.version = 0
        self.bug: BaseException | None = None
        self.on_bug: Callable[[], None] = lambda: None
        self.over = asyncio.Event()
        self.may_begin: Callable[[], bool] = lambda: True

    # --- a step ---------------------------------------------------------------------------------------------------

    def start(self, stage: Stage) -> None:
        """Begin a step."""
        self.stage = stage
        self.idle = self.paused = False
        self._planned.clear()
        gc.collect()
        gc.freeze()
        gc.disable()
        self._probe = Probe(self.fail)
        for turn in self._turns():
            turn.take()
        self._effort_from = (raw_ns(), time.process_time_ns(), self._occupied_until(raw_ns()))
        self._background = [asyncio.create_task(task()) for task in (self._sweep, self._decode_ended, self._hand_over)]
        for task in self._background:
            task.add_done_callback(self.watch)

    async def settle(self) -> None:
        """Until everything that has ended is decoded."""
        while self._ended and self.bug is None:  # noqa: ASYNC110  a few turns, at the end of a step
            await asyncio.sleep(0.001)

    async def finish(self) -> None:
        """End the step with its final batch. Raises the bug of ours that ended it, if one did."""
        assert self.stage is not None
        going = set(self._background)
        while going:  # a task that is cancelled while what it waits for is happening goes on (CPython 3.11's wait_for)
            for task in going:
                task.cancel()
            _, going = await asyncio.wait(going, timeout=0.05)
        assert self._probe is not None
        self._probe.close()
        if self.bug is not None:
            raise self.bug
        while self._ended:
            self._finish_some(raw_ns() + SLICE_NS)
            await asyncio.sleep(0)
        self._flush_unsent()  # the task that was to send it may have been cancelled just then
        self.flush(self._effort(), final=True)
        self.stage = None
        gc.enable()
        gc.unfreeze()

    def watch(self, task: "asyncio.Task[None]") -> None:
        """A task that fails has met a bug of ours: the step ends, and `finish` raises it."""
        if not task.cancelled() and (bug := task.exception()) is not None:
            self.fail(bug)

    def fail(self, bug: BaseException) -> None:
        """A bug of ours: nothing is decoded any more, and nobody may go on waiting for it."""
        self.bug = self.bug or bug
        for waiting in self._waiting.values():
            _answer(waiting, "")
        self._waiting.clear()
        self.on_bug()

    # --- a request ------------------------------------------------------------------------------------------------

    def prepare(self, endpoint: int, lane: int, seq: int, prompt_id: str = "", max_tokens: int = 0) -> Ready:
        """A request with the prompt that `seq` draws, or with the one that is named."""
        assert self.stage is not None
        pair, mode = arm(seq, self._job.modes)
        draw = draw_of(pair, self._job.repeat, self.stage.load.requests, len(self._job.modes))
        prompt = self._index(prompt_id) if prompt_id else self._drawer.draw(draw)
        exchange = self._exchange(endpoint, lane, seq, prompt, self._mark(endpoint, seq), mode)
        post = self._bodies.get(endpoint, prompt, exchange.nonce, max_tokens, mode)
        return self._ready(exchange, post, endpoint, lane, self._bodies.max_tokens(prompt, max_tokens))

    def _ready(self, exchange: Exchange, post: Post, endpoint: int, lane: int, max_tokens: int) -> Ready:
        now = raw_ns()
        return Ready(exchange, self.transport(endpoint, lane).sign(post), now, endpoint, lane, max_tokens)

    def prepare_turn(
        self, endpoint: int, lane: int, seq: int, first_seq: int, earlier: list[Message]
    ) -> tuple[Ready, list[Message]]:
        """A turn of a conversation, and its messages so far: the earlier ones and those of the prompt that it draws.

        A tool loop has one prompt, that of its first turn: what follows are calls and their results.
        """
        assert self.stage is not None
        loop = isinstance(self.stage.load.shape, ToolLoop)
        prompt = self._drawer.draw(first_seq if loop else seq)
        said = () if loop and earlier else self._job.prompts[prompt].messages
        messages = [*earlier, *(one for one in said if not earlier or one.role != "system")]
        mark = self._mark(endpoint, first_seq)  # the conversation's: a cache may know what it has seen of this one
        (mode,) = self._job.modes  # a conversation keeps to one: there is no pair to hold it against
        exchange = self._exchange(endpoint, lane, seq, prompt, mark, mode)
        exchange.tools = self._job.tools if loop else ()
        max_tokens = self._bodies.max_tokens(prompt)
        post = self._bodies.conversation(endpoint, messages, mark, max_tokens, mode, exchange.tools)
        return self._ready(exchange, post, endpoint, lane, max_tokens), messages

    def _index(self, prompt_id: str) -> int:
        return next(index for index, prompt in enumerate(self._job.prompts) if prompt.id == prompt_id)

    def _mark(self, endpoint: int, seq: int) -> str:
        assert self.stage is not None
        return nonce(self._job.run_id, self.names[endpoint], self.stage.index, seq) if self._job.cold else ""

    def _exchange(self, endpoint: int, lane: int, seq: int, prompt: int, mark: str, mode: str) -> Exchange:
        assert self.stage is not None
        to = self._job.endpoints[endpoint]
        return Exchange(
            endpoint=to.name,
            step=self.stage.index,
            seq=seq,
            slot=lane,
            prompt_id=self._job.prompts[prompt].id,
            nonce=mark,
            streamed=to.stream,
            dialect=DIALECTS[to.api],
            mode=mode,
            key_index=self._key_index(endpoint, lane),
        )

    async def fly(self, ready: Ready, due_ns: int | None = None) -> Exchange:
        """Send it and await its end. `due_ns` (raw) is when it should have left, None where no schedule says so."""
        exchange = ready.exchange
        due = raw_ns() if due_ns is None else due_ns
        self._begin(ready, due)
        task = asyncio.current_task()
        assert task is not None
        self._active[exchange] = task
        exchange.begin(due_ns)
        try:
            transport, may_again = self.transport(ready.endpoint, ready.lane), self._may_again(exchange)
            await exchange.run(transport, self._signed(ready, transport), may_again)
            while self._job.respect and await self._try_again(ready):
                await exchange.run(transport, self._signed(ready, transport), may_again)
        except asyncio.CancelledError:
            if exchange.verdict is None:
                raise
            task.uncancel()
            if exchange.waiting is None:
                exchange.ended_ns = raw_ns()
        finally:
            del self._active[exchange]
            self.in_flight[ready.endpoint] -= 1
        if exchange.waiting is None and exchange.ended_ns is not None:
            self._occupied_ns += exchange.ended_ns - exchange.sent_ns
        self._ended.append(exchange)
        return exchange

    def _signed(self, ready: Ready, transport: Transport) -> Post:
        """Its post, signed anew where that was long ago: requests are made well ahead, and wait for many things."""
        now = raw_ns()
        if now - ready.signed_ns > _SIGNATURE_NS:
            ready.post, ready.signed_ns = transport.sign(ready.post), now
        return ready.post

    def _begin(self, ready: Ready, due_ns: int) -> None:
        """Count it and write it down, before it leaves."""
        assert self.stage is not None
        exchange = ready.exchange
        exchange.phase = self.stage.phase(due_ns, ready.endpoint)
        self._planned[f"{exchange.endpoint}/{exchange.phase}"] += 1
        self.in_flight[ready.endpoint] += 1
        exchange.due_ns = due_ns
        self._spool.add(exchange.begun(due_ns - self._clock.origin_ns))

    def _may_again(self, exchange: Exchange) -> Callable[[], bool]:
        """Whether a request whose connection broke may be sent once more: not what may not begin, nor on a budget.

        (What the first attempt cost nobody knows, and only one was reserved.)
        """
        return lambda: self.may_begin() and exchange.endpoint not in self.stopped and not self._job.budgeted

    async def _try_again(self, ready: Ready) -> bool:
        """Wait as the endpoint asked, where it refused for now; whether the request may then be made again."""
        exchange = ready.exchange
        refusal = exchange.refused()
        wait_ns = None if refusal is None else patience.wait_ns(refusal, len(exchange.tries))
        if refusal is None or wait_ns is None or not self._may_wait(exchange):
            return False
        self.wallet.settle_try(exchange)
        exchange.set_aside(refusal)
        assert exchange.waiting is not None
        self._occupied_ns += exchange.waiting.done_ns - exchange.waiting.sent_ns
        assert self.stage is not None
        start_ns = self.stage.start_ns
        until_ns = start_ns + self.stage.slices.next_turn_ns(raw_ns() + wait_ns - start_ns, ready.endpoint)
        while (left_ns := until_ns - raw_ns()) > 0 and self._may_wait(exchange):
            with suppress(TimeoutError):
                await asyncio.wait_for(self.over.wait(), min(left_ns / 1e9, _LOOK_AGAIN_S))
        may = lambda: self._may_wait(exchange) and self.may_begin()  # noqa: E731
        if not await self.wallet.reserve(exchange, ready.post.body, ready.max_tokens, may, self.over):
            return False
        exchange.next_try()
        return True

    def _may_wait(self, exchange: Exchange) -> bool:
        return not self.over.is_set() and exchange.endpoint not in self.stopped

    def drop(self, ready: Ready, due_ns: int, why: str) -> None:
        """It was due (raw clock) and will never be sent."""
        assert self.stage is not None
        exchange = ready.exchange
        exchange.phase = self.stage.phase(due_ns, ready.endpoint)
        self._planned[f"{exchange.endpoint}/{exchange.phase}"] += 1
        sample = exchange.begun(due_ns - self._clock.origin_ns)
        sample.outcome, sample.error_message = Outcome.DROPPED, why
        self._keep(sample)

    def transport(self, endpoint: int, lane: int) -> Transport:
        """The connections that a lane uses: those of one of its endpoint's keys."""
        return self._transports[endpoint][self._key_index(endpoint, lane)]

    def _key_index(self, endpoint: int, lane: int) -> int:
        return lane // len(self.names) % len(self._transports[endpoint])

    async def keep_pace(self, slots: int) -> None:
        """Wait while a closed loop is far ahead of its decoding, because what is not decoded fills the memory.

        Only an engine that has no time left gets there.
        """
        while len(self._ended) > max(_UNDECODED, slots) and self.bug is None:  # noqa: ASYNC110  seldom, and short
            await asyncio.sleep(0.005)

    def catch_up(self) -> None:
        """Decode what is too much of what has ended: called by each request of an open loop, at its end.

        Only an engine that has no time left has anything to do here. An open loop may not wait as a closed one does: no
        arrival is held back, memory stays bounded all the same, and the time it takes shows as the lateness of sends.
        The oldest go first, so that whoever calls may still ask for the outcome of its own.
        """
        while len(self._ended) > _UNDECODED and self.bug is None:
            self._finish_one(raw_ns() + SLICE_NS)

    async def decoded(self, exchange: Exchange) -> str:
        """The outcome of an exchange that has ended, once it is decoded. To be asked for as soon as it has ended.

        Empty where a bug of ours keeps it from being decoded.
        """
        if self.bug is not None:
            return ""
        waiting: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[exchange] = waiting
        return await waiting

    # --- ending what is in the air ---------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """Requests under way."""
        return len(self._active)

    def end_all(self, verdict: Outcome) -> None:
        """Cancel whatever is under way."""
        for exchange in list(self._active):
            self._end(exchange, verdict)

    def _end(self, exchange: Exchange, verdict: Outcome) -> None:
        if exchange.verdict is None:
            exchange.verdict = verdict
            self._active[exchange].cancel()

    # --- background -----------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        """Ten times a second: decode what active exchanges have received, and end those that are too slow."""
        limits = self._job.timeouts
        while True:
            await asyncio.sleep(SWEEP_S)
            until = raw_ns() + SLICE_NS
            for exchange in list(self._active):
                if exchange.may_wait() and raw_ns() - (exchange.last_output_ns or 0) <= limits.idle_ns:
                    continue
                while not exchange.decode(until) or raw_ns() >= until:
                    await asyncio.sleep(0)  # let the loop read between slices
                    until = raw_ns() + SLICE_NS
                if exchange not in self._active or not exchange.sent_ns or exchange.waiting is not None:
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
                self._finish_some(raw_ns() + SLICE_NS)
                await asyncio.sleep(0)
            else:
                await asyncio.sleep(0.005)

    def _finish_some(self, until_ns: int) -> None:
        """As many as the slice has room for: more of them may end in one turn of the loop."""
        while self._ended:
            self._finish_one(until_ns)
            if raw_ns() >= until_ns:
                return

    def _finish_one(self, until_ns: int) -> None:
        exchange = self._ended[0]
        if not exchange.decode(until_ns):
            return
        self._ended.popleft()
        sample = exchange.sample(self._clock.origin_ns)
        self._clean(sample)
        self.wallet.settle(exchange, sample)
        self._keep(sample)
        reason = self._guards[sample.endpoint].add(sample)
        if reason is not None:
            self.stopped.setdefault(sample.endpoint, reason)
        if (waiting := self._waiting.pop(exchange, None)) is not None:
            _answer(waiting, sample.outcome)

    def _keep(self, sample: Sample) -> None:
        self._spool.add(sample)
        self._samples.append(sample)

    async def _hand_over(self) -> None:
        """Hand samples over every 250 ms, or when somebody waits for it; collect garbage here and nowhere else."""
        count = 0
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._flushed.wait(), BATCH_S)
            self._flushed.clear()
            self._unsent = self._effort()
            await asyncio.sleep(0)  # let the loop read in between
            self._flush_unsent()
            await asyncio.sleep(0)
            count += 1
            if count % _FULL_COLLECTION_EVERY == 0:
                gc.collect()
            elif count % _COLLECTION_EVERY == 0 or gc.get_count()[0] > _MANY_OBJECTS:
                gc.collect(1)

    def _flush_unsent(self) -> None:
        if (effort := self._unsent) is not None:
            self._unsent = None
            self.flush(effort, final=False)

    def flush_soon(self) -> None:
        """Do not wait for the rest of the 250 ms."""
        self._flushed.set()

    def flush(self, effort: Effort, *, final: bool) -> None:
        """Hand over what has ended, and what has begun since the last batch and is still in the air."""
        assert self.stage is not None
        samples, self._samples = self._samples, []
        new = [one for one in chain(self._active, self._ended) if not one.reported]
        for exchange in new:
            exchange.reported = True
        samples += self._provisional(new)
        self._batches += 1
        self.wallet.report()
        self._spool.rotate(self._batches, ())  # what is still in the air was handed over as `lost`
        self._send(
            Batch(
                step=self.stage.index,
                samples=samples,
                in_flight=len(self._active),
                run_id=self._job.run_id,
                final=final,
                number=self._batches,
                planned=dict(self._planned),
                paused=self.paused,
                stopped=dict(self.stopped),
                idle=self.idle,
                version=self.version,
                effort=effort,
                spool=self._spool.failed or "",
            )
        )

    def _effort(self) -> Effort:
        """What there was to do since the last time, and how late the loop was."""
        assert self._probe is not None
        now = (raw_ns(), time.process_time_ns(), self._occupied_until(raw_ns()))
        before, self._effort_from = self._effort_from, now
        origin_ns = self._clock.origin_ns
        return Effort(
            before[0] - origin_ns,
            now[0] - origin_ns,
            now[1] - before[1],
            now[2] - before[2],
            counted(np.frombuffer(self._probe.take(), dtype=np.int64)),
            counted(np.concatenate([np.frombuffer(turn.take(), dtype=np.int64) for turn in self._turns()])),
        )

    def _turns(self) -> list[Turn]:
        return list({id(one.turn): one.turn for one in chain.from_iterable(self._transports)}.values())

    def _occupied_until(self, now_ns: int) -> int:
        """Requests under way added up over time, in request-nanoseconds, until that moment (raw)."""
        under_way = (now_ns - one.sent_ns for one in self._active if one.sent_ns and one.waiting is None)
        return self._occupied_ns + sum(under_way)

    def _provisional(self, exchanges: Iterable[Exchange]) -> Iterator[Sample]:
        return (exchange.begun(exchange.due_ns - self._clock.origin_ns) for exchange in exchanges)

    def acknowledged(self, number: int) -> None:
        """The master has committed a batch."""
        self._spool.acknowledged(number)


def _answer(waiting: "asyncio.Future[str]", outcome: str) -> None:
    """Tell whoever waits for an outcome, unless it has been cancelled meanwhile and waits no more."""
    if not waiting.done():
        waiting.set_result(outcome)
