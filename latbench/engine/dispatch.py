"""Obeys the orders of a run: prepares a step, runs its load, drains it, and says when it is over.

The load itself is a closed loop (`closed.py`) or an open one (`openloop.py`); both send through `flight.py`. An engine
never decides by itself that a step is over: when nothing more will begin it says that it is idle, and the master, who
may have the work of a lost worker to hand out, says when it is enough.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine

from latbench.engine.clock import Clock
from latbench.engine.closed import ClosedLoop
from latbench.engine.flight import Flight, Stage
from latbench.engine.lease import Lease
from latbench.engine.openloop import OpenLoop, Schedule
from latbench.engine.transport import BROKEN, Transport, why_unreached
from latbench.engine.wallet import Wallet
from latbench.model.frames import Batch, Go, Job, Prepare, Prepared, Shards, Slots, Spending
from latbench.model.sample import Outcome, Sample
from latbench.model.slices import Slices
from latbench.model.spool import Spool
from latbench.plan.arrivals import arrivals, digest

_LOOK_S = 0.01


class Dispatcher:
    """The engine's load: one object for the whole run; `prepare` and `run_step` for each step of it."""

    def __init__(
        self,
        job: Job,
        clock: Clock,
        transports: list[list[Transport]],
        spool: Spool,
        send: Callable[[Batch | Spending], None],
        clean: Callable[[Sample], None] = lambda _: None,
    ) -> None:
        """`transports` stand in the order of `job.endpoints`, one for each of its keys; `send` takes every report."""
        self._job = job
        self._clock = clock
        self._wallet = Wallet(job, send)
        self._flight = Flight(job, clock, transports, spool, self._wallet, send, clean)
        self._lease = Lease(clock)
        self._prepared: Prepare | None = None
        self._schedule: Schedule | None = None
        self._early: Shards | None = None
        self._ran = False
        self._loop: ClosedLoop | OpenLoop | None = None
        self._over = self._flight.over
        self._flight.on_bug = self._over.set
        self._flight.may_begin = lambda: self._lease.live and not self._over.is_set()

    def prepare(self, order: Prepare) -> Coroutine[None, None, Prepared]:
        """Work out the arrivals of a step, and open the connections that it will need first.

        Slots and shards that are assigned after this call count, also where the work has not begun yet.
        """
        self._prepared = order
        self._schedule = self._early = None
        self._ran = False
        self._flight.version = 0  # the master counts its orders anew in each step
        return self._prepare(order)

    async def _prepare(self, order: Prepare) -> Prepared:
        found = ""
        if order.load.open:
            # Beside the loop, which has to answer its master meanwhile: millions of arrivals take seconds.
            self._schedule, found = await asyncio.to_thread(self._work_out, order)
        return Prepared(order.step, await self._open(order), found)

    def _work_out(self, order: Prepare) -> tuple[Schedule, str]:
        offsets = arrivals(order.load, self._job.seed, order.step)
        schedule = Schedule(offsets, self._slices(order), len(self._job.endpoints))
        schedule.assign(order.shards, 0)
        return schedule, digest(offsets)

    def _slices(self, order: Prepare) -> Slices:
        return Slices(order.load.slice_ns, len(self._job.endpoints))

    async def _open(self, order: Prepare) -> dict[str, str]:
        """Open connections ahead of the step; which endpoints could not be reached, and why."""
        wanted: Counter[tuple[int, int]] = Counter()
        endpoints = range(len(self._job.endpoints))
        if self._schedule is None:
            for slot in order.slots:
                endpoint = slot.number % len(endpoints)
                wanted[endpoint, slot.number] += 1
        elif order.shards:
            for endpoint in endpoints:
                count = self._schedule.connections(endpoint)
                wanted[endpoint, 0] += count if order.cap is None else min(count, max(1, order.cap))
        failures: dict[str, str] = {}
        pools: dict[int, Counter[Transport]] = {endpoint: Counter() for endpoint, _ in wanted}
        for (endpoint, lane), count in wanted.items():
            pools[endpoint][self._flight.transport(endpoint, lane)] += count
        for endpoint, transports in pools.items():
            try:
                for transport, count in transports.items():
                    await transport.open(count)
            except BROKEN as fault:
                failures[self._flight.names[endpoint]] = why_unreached(fault)
        return failures

    # --- orders ---------------------------------------------------------------------------------------------------

    def set_slots(self, order: Slots) -> None:
        """The slots of a closed loop that live here now."""
        if order.version < self._flight.version:
            return  # it was overtaken by a newer one
        self._flight.version, self._flight.idle = order.version, False
        if isinstance(self._loop, ClosedLoop):
            self._loop.assign(order.slots)
        elif self._prepared is not None:
            self._prepared.slots = order.slots

    def set_shards(self, order: Shards) -> None:
        """The shards of an open loop that are ours from a moment of the run on."""
        if order.version < self._flight.version:
            return  # it was overtaken by a newer one
        self._flight.version, self._flight.idle = order.version, False
        if isinstance(self._loop, OpenLoop) and self._flight.stage is not None:
            from_ns = order.from_ns + self._clock.origin_ns - self._flight.stage.start_ns
            self._loop.assign(order.shards, from_ns, order.cap)
        else:
            self._early = order  # it came in one piece with the order to go

    def renew_lease(self, until_ns: int) -> None:
        """The master lives: requests may begin until that moment of the run."""
        self._lease.renew(until_ns)

    def stop_endpoint(self, endpoint: str, reason: str) -> None:
        """Begin nothing new at this endpoint."""
        self._flight.stopped.setdefault(endpoint, reason)

    def acknowledged(self, number: int) -> None:
        """The master has committed a batch."""
        self._flight.acknowledged(number)

    @property
    def loading(self) -> bool:
        """Whether a step is under way: there may be requests that no batch has told of."""
        return self._flight.stage is not None

    @property
    def wallet(self) -> Wallet:
        """Takes the master's orders about the budget."""
        return self._wallet

    def drain(self) -> None:
        """Begin nothing new at all."""
        self._over.set()

    def cancel(self) -> None:
        """Begin nothing new and cancel what is in flight."""
        self._over.set()
        self._flight.end_all(Outcome.CANCELLED)

    def may_run(self, go: Go) -> bool:
        """Whether this is the step that was prepared, and has not run yet: an order to go may come twice."""
        return self._prepared is not None and self._prepared.step == go.step and not self._ran

    def run_step(self, go: Go) -> Coroutine[None, None, None]:
        """Run the step that was prepared to its end: load, drain, final batch.

        A drain that is asked for after this call counts, also where the step has not begun to run yet.
        """
        self._over.clear()
        self._ran = True
        return self._run_step(go)

    # --- the step -------------------------------------------------------------------------------------------------

    async def _run_step(self, go: Go) -> None:
        order = self._prepared
        assert order is not None
        assert order.step == go.step
        self._lease.renew(go.lease_until_ns)
        stage = Stage(go.step, order.load, self._clock.origin_ns + go.start_ns, self._slices(order))
        self._flight.start(stage)
        loop: ClosedLoop | OpenLoop
        if self._schedule is None:
            loop = ClosedLoop(self._flight, stage, self._lease, order.stride, self._over)
            loop.assign(order.slots)
        else:
            loop = OpenLoop(self._flight, stage, self._lease, self._schedule, order.cap, self._over)
        self._loop = loop
        if self._early is not None:
            self.set_shards(self._early)
        watching = asyncio.create_task(self._say_idle(loop))
        watching.add_done_callback(self._flight.watch)
        await loop.run()
        await self._drain(loop)
        await self._over.wait()  # from idle to the master's word; a lost worker's part may still come
        await self._drain(loop)
        watching.cancel()
        self._loop = None
        loop.close()
        await self._flight.finish()

    async def _say_idle(self, loop: ClosedLoop | OpenLoop) -> None:
        """Look for the moment when nothing is under way and nothing more will begin."""
        while True:
            if loop.idle and not self._flight.idle and not self._flight.count:
                await self._flight.settle()
                if loop.idle:
                    self._flight.idle = True
                    self._flight.flush_soon()
            await asyncio.sleep(_LOOK_S)

    async def _drain(self, loop: ClosedLoop | OpenLoop) -> None:
        """Await what is in flight; cancel the rest when the limit has passed."""
        if tasks := loop.tasks:
            await asyncio.wait(tasks, timeout=self._job.drain_ns / 1e9)
        if loop.tasks:
            self._over.set()
        while tasks := loop.tasks:
            self._flight.end_all(Outcome.CANCELLED)
            await asyncio.wait(tasks, timeout=0.1)
