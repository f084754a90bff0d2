"""An open loop: arrivals leave at moments that were worked out before the start, whatever became of earlier ones.

A timer of the kernel rings a little before each of them, and the loop goes round without sleeping until the moment has
come: waking up takes longer than all the rest. Requests are made well before they are due. What is late leaves at once
and keeps the moment at which it was due. What was due while there was no lease is never sent: it is dropped, unless its
shard had gone to another worker by then.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from latbench.engine.clock import raw_ns
from latbench.engine.flight import Flight, Ready, Stage
from latbench.engine.lease import LOOK_S, Lease
from latbench.engine.talk import reply
from latbench.model.load import Sessions, ToolLoop, Trace
from latbench.model.request import Message
from latbench.model.sample import AT_CAP, LOAD_STOPPED, NO_BUDGET, WITHOUT_LEASE, Outcome
from latbench.model.slices import Slices
from latbench.model.timer import TimerFile
from latbench.plan.partition import SHARDS, mine

MAX_OPEN_AHEAD = 256
AWAKE_NS = 100_000  # before an arrival; about what a virtual machine takes to wake up
MADE_AHEAD = 64  # requests: as many as arrive in a moment
_SPARE_NS = 500_000  # until the next arrival: enough to make another request
_SECOND_NS = 1_000_000_000
_LONGEST_PAUSE_S = 3600.0


class Schedule:
    """The arrivals of one worker, in order: when (nanoseconds of the step), to which endpoint, under which number."""

    def __init__(self, offsets: np.ndarray, slices: Slices, endpoints: int) -> None:
        """`offsets` are all arrivals of the step, in time that an endpoint is loaded, whosever they are."""
        self.offsets = offsets
        self._wall = [slices.wall_ns(offsets, endpoint) for endpoint in range(endpoints)]
        self._shards: set[int] = set()
        self.at_ns = np.empty(0, np.int64)
        self.endpoint = np.empty(0, np.int64)
        self.number = np.empty(0, np.int64)
        self.last_ns = max((int(wall[-1]) for wall in self._wall if len(wall)), default=0)

    def __len__(self) -> int:
        return len(self.at_ns)

    def owns(self, number: int) -> bool:
        """Whether the arrival is of a shard of ours."""
        return number % SHARDS in self._shards

    def assign(self, shards: list[int], from_ns: int) -> None:
        """From that moment on these shards are ours, and no others. What is left of the schedule is put together."""
        wanted = set(shards)
        keep = (self.at_ns < from_ns) | np.isin(self.number % SHARDS, list(wanted & self._shards))
        parts = [(self.at_ns[keep], self.endpoint[keep], self.number[keep])]
        numbers = mine(len(self.offsets), wanted - self._shards)
        for endpoint, wall in enumerate(self._wall):
            later = numbers[wall[numbers] >= from_ns]
            parts.append((wall[later], np.full(len(later), endpoint), later))
        at_ns, endpoints, found = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        order = np.lexsort((endpoints, found, at_ns))
        self.at_ns, self.endpoint, self.number = at_ns[order], endpoints[order], found[order]
        self._shards = wanted

    def forget(self, count: int) -> None:
        """The first so many have been dealt with."""
        self.at_ns, self.endpoint, self.number = self.at_ns[count:], self.endpoint[count:], self.number[count:]

    def connections(self, endpoint: int) -> int:
        """How many connections to open ahead: as many as arrive at that endpoint within any one second."""
        at_ns = self.at_ns[self.endpoint == endpoint]
        within = np.searchsorted(at_ns, at_ns + _SECOND_NS) - np.arange(len(at_ns))
        return min(MAX_OPEN_AHEAD, int(within.max(initial=1)))


@dataclass(frozen=True, slots=True)
class _Arrival:
    """One that could leave at once. `messages` are those of a conversation's first turn."""

    at_ns: int
    endpoint: int
    number: int
    ready: Ready
    messages: list[Message]


class OpenLoop:
    """The arrivals of one step on this engine. `over` is set when nothing more may begin."""

    def __init__(
        self, flight: Flight, stage: Stage, lease: Lease, schedule: Schedule, cap: int | None, over: asyncio.Event
    ) -> None:
        load = stage.load
        self._loop = asyncio.get_running_loop()
        self._flight = flight
        self._stage = stage
        self._lease = lease
        self._schedule = schedule
        self._cap = cap
        self._over = over
        self._talk = load.shape if isinstance(load.shape, Sessions | ToolLoop) else None
        self._turns = load.most_turns or 1
        self._trace = _TraceRows(load.shape) if isinstance(load.shape, Trace) else None
        by_time = load.duration_ns is not None and len(schedule.offsets) != load.requests
        last_ns = stage.slices.span_ns(load.end_ns) if by_time else schedule.last_ns
        self._end_ns = stage.start_ns + last_ns
        self._made: deque[_Arrival] = deque()  # of the arrivals from `_at` on
        self._at = 0
        self._awake = False
        self._closed = False
        self._held: list[tuple[int, int, int]] = []
        self._unanswered = [0] * len(flight.names)
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer = TimerFile()
        self._fired_all = asyncio.Event()

    @property
    def tasks(self) -> list["asyncio.Task[None]"]:
        """Requests and conversations under way."""
        return list(self._tasks)

    @property
    def idle(self) -> bool:
        """Whether nothing will begin unless other shards come."""
        return not self._tasks and self._past_end

    def assign(self, shards: list[int], from_ns: int, cap: int | None) -> None:
        """From that moment of the step on these shards are ours, and no others."""
        self._cap = cap
        self._schedule.forget(self._at)
        self._at = 0
        self._schedule.assign(shards, from_ns)
        self._made.clear()
        self._held = [one for one in self._held if one[0] < from_ns or self._schedule.owns(one[2])]
        if not self._lease.live:
            self._drop_held(WITHOUT_LEASE)
        self._go_on()

    async def run(self) -> None:
        """Fire what is due; return when the step's arrivals are over, or it was stopped.

        What other shards bring after that is fired, too, until `close`.
        """
        self._loop.add_reader(self._timer.fileno(), self._guarded, self._ring)
        self._go_on()
        while not self._over.is_set():
            await self._pause(LOOK_S)  # the kernel's timer does the work: here only ends are looked for
            if self._held and self._lease.live:
                self._drop_held(WITHOUT_LEASE)
            if self._past_end:
                return
        # What was due before the order came has its record, however late this loop is: it is dropped.
        self._fire()

    def close(self) -> None:
        """The step is over: fire no more. What is still held was nobody else's, and is dropped."""
        self._loop.remove_reader(self._timer.fileno())
        self._timer.close()
        self._closed = True
        self._drop_held(WITHOUT_LEASE)

    @property
    def _past_end(self) -> bool:
        """Whether all arrivals have had their time and their fate. Those that are held may become another worker's."""
        stopped = all(name in self._flight.stopped for name in self._flight.names)
        return not self._held and (stopped or (self._fired_all.is_set() and raw_ns() >= self._end_ns))

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)

    # --- the timer ------------------------------------------------------------------------------------------------

    def _ring(self) -> None:
        if self._timer.fired() and not self._awake:
            self._await_due()

    def _await_due(self) -> None:
        """Fire what is due. Until then, go round the loop: whatever arrives meanwhile is stamped at once."""
        self._awake = False
        if self._over.is_set() or self._at >= len(self._schedule):
            return
        left_ns = self._due_ns() - raw_ns()
        if 0 < left_ns <= AWAKE_NS:
            self._awake = True
            self._soon(self._await_due)
        elif left_ns <= 0:  # else the shards have changed, and the timer with them
            self._fire()
            # Not now: the loop has yet to start what was fired, and then to write it.
            self._soon(lambda: self._soon(self._go_on))

    def _soon(self, work: Callable[[], None]) -> None:
        self._loop.call_soon(self._guarded, work)

    def _guarded(self, work: Callable[[], None]) -> None:
        """A callback of the loop, which nobody awaits: without this the loop would print what fails, and go on."""
        try:
            work()
        except Exception as bug:  # noqa: BLE001  the edge of the callback: `Flight.finish` raises it
            self._flight.fail(bug)

    def _go_on(self) -> None:
        """Set the timer to the next arrival, and make requests meanwhile."""
        if self._closed:
            return
        if self._at >= len(self._schedule):
            self._fired_all.set()
            return
        self._fired_all.clear()
        due_ns = self._due_ns()
        if due_ns - raw_ns() > AWAKE_NS:
            self._timer.set(due_ns - AWAKE_NS)
            self._make()
        elif not self._awake:
            self._await_due()

    def _make(self) -> None:
        """Make requests ahead, one in each turn of the loop, unless that would make the next one late."""
        place = self._at + len(self._made)
        if self._closed or place >= min(len(self._schedule), self._at + MADE_AHEAD):
            return
        if not self._made or self._due_ns() - raw_ns() > _SPARE_NS:
            self._made.append(self._arrival(*self._event(place)))
            self._soon(self._make)

    def _due_ns(self) -> int:
        """When the next arrival is due (raw clock)."""
        return self._stage.start_ns + int(self._schedule.at_ns[self._at])

    def _event(self, at: int) -> tuple[int, int, int]:
        found = self._schedule
        return int(found.at_ns[at]), int(found.endpoint[at]), int(found.number[at])

    def _arrival(self, at_ns: int, endpoint: int, number: int) -> _Arrival:
        flight = self._flight
        lane = number % SHARDS * len(flight.names) + endpoint  # a conversation keeps to one key, as a slot does
        if self._talk is not None:
            first = number * self._turns
            return _Arrival(at_ns, endpoint, number, *flight.prepare_turn(endpoint, lane, first, first, []))
        prompt_id, max_tokens = ("", 0) if self._trace is None else self._trace.row(number)
        return _Arrival(at_ns, endpoint, number, flight.prepare(endpoint, lane, number, prompt_id, max_tokens), [])

    def _fire(self) -> None:
        now_ns = raw_ns() - self._stage.start_ns
        while self._at < len(self._schedule):
            at_ns, endpoint, number = self._event(self._at)
            if at_ns > now_ns:
                return
            self._at += 1
            made = self._made.popleft() if self._made else None
            if self._flight.names[endpoint] in self._flight.stopped:
                continue
            if not self._lease.live:
                self._flight.paused = True
                self._held.append((at_ns, endpoint, number))
                continue
            self._launch(made or self._arrival(at_ns, endpoint, number))

    def _launch(self, arrival: _Arrival) -> None:
        due_ns = self._stage.start_ns + arrival.at_ns
        if self._cap is not None and self._unanswered[arrival.endpoint] >= self._cap:
            self._flight.drop(arrival.ready, due_ns, f"{AT_CAP}: this worker's part of it, {self._cap}, was unanswered")
            return
        self._unanswered[arrival.endpoint] += 1
        task = asyncio.create_task(
            self._conversation(arrival, due_ns) if self._talk else self._request(arrival, due_ns)
        )
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        task.add_done_callback(self._flight.watch)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not self._tasks and self._fired_all.is_set():
            self._flight.flush_soon()

    def _drop_held(self, why: str) -> None:
        held, self._held = self._held, []
        for at_ns, endpoint, number in held:
            arrival = self._arrival(at_ns, endpoint, number)
            self._flight.drop(arrival.ready, self._stage.start_ns + at_ns, why)

    # --- what an arrival does ---------------------------------------------------------------------------------------

    async def _request(self, arrival: _Arrival, due_ns: int) -> None:
        try:
            if await self._reserve(arrival.ready):
                await self._flight.fly(arrival.ready, due_ns)
            else:
                self._flight.drop(arrival.ready, due_ns, self._why_not(arrival.endpoint))
        finally:
            self._unanswered[arrival.endpoint] -= 1
        self._flight.catch_up()

    def _why_not(self, endpoint: int) -> str:
        if not self._lease.live:
            return WITHOUT_LEASE
        stopped = self._flight.names[endpoint] in self._flight.stopped or not self._flight.wallet.budgeted
        return LOAD_STOPPED if stopped else NO_BUDGET

    async def _reserve(self, ready: Ready) -> bool:
        name = self._flight.names[ready.endpoint]
        may = lambda: self._lease.live and not self._over.is_set() and name not in self._flight.stopped  # noqa: E731
        return await self._flight.wallet.reserve(ready.exchange, ready.post.body, ready.max_tokens, may, self._over)

    async def _conversation(self, arrival: _Arrival, due_ns: int) -> None:
        """One turn after the other, each carrying the earlier ones, until one is not `ok` or nothing is to follow."""
        assert self._talk is not None
        flight, endpoint, turns = self._flight, arrival.endpoint, self._turns
        ready, messages = arrival.ready, arrival.messages
        for turn in range(turns):
            try:
                if turn:
                    self._unanswered[endpoint] += 1
                if not await self._reserve(ready):
                    if not turn:
                        flight.drop(ready, due_ns, self._why_not(endpoint))
                    return
                exchange = await flight.fly(ready, None if turn else due_ns)
            finally:
                self._unanswered[endpoint] -= 1
            flight.catch_up()
            if await flight.decoded(exchange) != Outcome.OK or turn == turns - 1:
                return
            following = reply(self._talk, exchange)
            if following is None or not await self._may_go_on(endpoint, (exchange.ended_ns or 0) + following.after_ns):
                return
            first = arrival.number * turns
            answered = [*messages, following.message]
            ready, messages = flight.prepare_turn(endpoint, ready.lane, first + turn + 1, first, answered)

    async def _may_go_on(self, endpoint: int, at_ns: int) -> bool:
        """Wait for the next turn, which may begin at `at_ns` (raw); whether it may still begin then."""
        while not self._over.is_set():
            now_ns = raw_ns()
            in_step_ns = max(now_ns, at_ns) - self._stage.start_ns
            wait_ns = self._stage.slices.next_turn_ns(in_step_ns, endpoint) + self._stage.start_ns - now_ns
            if wait_ns > 0:
                await self._pause(min(wait_ns / 1e9, _LONGEST_PAUSE_S))
            elif not self._lease.live:
                self._flight.paused = True
                await self._pause(LOOK_S)
            else:
                break
        return not self._over.is_set() and self._flight.names[endpoint] not in self._flight.stopped


class _TraceRows:
    """What a trace says of each arrival besides its time."""

    def __init__(self, trace: Trace) -> None:
        self._prompt_ids = trace.prompt_ids
        self._prompt = np.frombuffer(trace.prompt, dtype="<i4")
        self._max_tokens = np.frombuffer(trace.max_tokens, dtype="<i4")

    def row(self, number: int) -> tuple[str, int]:
        """The prompt's id, empty where the seed draws it, and the longest answer, 0 for the scenario's."""
        prompt = int(self._prompt[number])
        return self._prompt_ids[prompt] if prompt >= 0 else "", int(self._max_tokens[number])
