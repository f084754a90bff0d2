"""A closed loop: slots, each of which begins its next turn when its last one has ended."""

import asyncio
from contextlib import suppress

from latbench.engine.clock import raw_ns
from latbench.engine.flight import Flight, Stage
from latbench.engine.lease import LOOK_S, Lease
from latbench.model.frames import Slot
from latbench.model.load import Closed

FAILED_CONNECT_PAUSE_S = 0.25
START_APART_NS = 1_000_000
START_WITHIN_NS = 1_000_000_000


class ClosedLoop:
    """The slots of one step on this engine. `over` is set when nothing more may begin."""

    def __init__(self, flight: Flight, stage: Stage, lease: Lease, stride: int, over: asyncio.Event) -> None:
        assert isinstance(stage.load.shape, Closed)
        self._flight = flight
        self._stage = stage
        self._lease = lease
        self._stride = stride
        self._over = over
        self._think_ns = stage.load.shape.think_ns
        self._end_ns = stage.start_ns + stage.slices.span_ns(stage.load.end_ns)
        self._slots: dict[int, Slot] = {}
        self._begun: dict[int, int] = {}
        self._running: dict[int, asyncio.Task[None]] = {}
        self._started = False

    @property
    def tasks(self) -> list["asyncio.Task[None]"]:
        """The slots that are at work."""
        return list(self._running.values())

    @property
    def idle(self) -> bool:
        """Whether nothing will begin unless other slots come."""
        return self._started and not self._running

    def assign(self, slots: list[Slot]) -> None:
        """The slots that live here now. One that has gone ends after its turn; a new one starts at once."""
        self._slots = {slot.number: slot for slot in slots}
        if self._started:
            for number in sorted(self._slots):
                self._start(number)

    async def run(self) -> None:
        """Start the slots; return when the step's time is over, or it was stopped.

        Slots start one after the other, at most a millisecond apart and all within a second: a hundred requests in one
        instant would measure how long client and server take to get through them, and a closed loop never does
        that again.
        """
        apart_ns = min(START_APART_NS, START_WITHIN_NS // (self._stride * len(self._flight.names)))
        await self._until(self._stage.start_ns)
        for number in sorted(self._slots):
            await self._until(self._stage.start_ns + number * apart_ns)
            self._start(number)
            await asyncio.sleep(0)  # its request leaves before the next one's `sent` is stamped
        self._started = True
        await self._until(self._end_ns)

    def close(self) -> None:
        """Nothing is held that would have to be released."""

    async def _until(self, raw: int) -> None:
        """Wait for a moment, or for the end. uvloop's timers are whole milliseconds and may fire early."""
        while (left_ns := raw - raw_ns()) > 0 and not self._over.is_set():
            await self._pause(min(left_ns / 1e9, 3600.0))

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)

    def _start(self, number: int) -> None:
        if number in self._running or number not in self._slots or self._spent(number):
            return
        task = self._running[number] = asyncio.create_task(self._slot(number))
        task.add_done_callback(lambda _: self._ended(number))
        task.add_done_callback(self._flight.watch)

    def _ended(self, number: int) -> None:
        """A slot that was taken away and given back while its last turn ended has still to go on."""
        del self._running[number]
        if number in self._slots and self._may_begin(number):
            self._start(number)
        elif not self._running:
            self._flight.flush_soon()

    def _spent(self, number: int) -> bool:
        slot = self._slots[number]
        return slot.turns is not None and self._begun.get(number, 0) >= slot.turns

    def _may_begin(self, number: int) -> bool:
        name = self._flight.names[number % len(self._flight.names)]
        return not (
            self._over.is_set()
            or raw_ns() >= self._end_ns
            or name in self._flight.stopped
            or number not in self._slots
            or self._spent(number)
        )

    async def _slot(self, number: int) -> None:
        """The turns of one slot, as long as they may begin."""
        endpoint = number % len(self._flight.names)
        while self._may_begin(number):
            if not self._lease.live:
                self._flight.paused = True  # the master may only have been stopped for a while
                await self._pause(LOOK_S)
                continue
            now_ns = raw_ns() - self._stage.start_ns
            turn_ns = self._stage.slices.next_turn_ns(now_ns, endpoint)
            if turn_ns > now_ns:
                await self._until(self._stage.start_ns + turn_ns)
                continue
            await self._turn(endpoint, number)

    async def _turn(self, endpoint: int, number: int) -> None:
        slot = self._slots[number]
        begun = self._begun.get(number, 0)
        flight = self._flight
        ready = flight.prepare(endpoint, number, slot.first + begun * self._stride)

        def may() -> bool:
            its_turn = self._stage.slices.own_at(raw_ns() - self._stage.start_ns, endpoint)[1]
            return its_turn and self._may_begin(number) and self._lease.live

        if not await flight.wallet.reserve(ready.exchange, ready.post.body, ready.max_tokens, may, self._over):
            return
        self._begun[number] = begun + 1
        exchange = await flight.fly(ready)
        await flight.keep_pace(len(self._slots))
        if exchange.reads.connected_ns is None:
            await self._pause(FAILED_CONNECT_PAUSE_S)  # refused at once: do not spin
        if self._think_ns:
            await self._until(min(raw_ns() + self._think_ns, self._end_ns))
