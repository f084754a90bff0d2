"""Waking at a deadline: never early, in order, never at once."""

import asyncio
import random
import time

import uvloop

from latbench.sim.alarm import Alarm

MS = 1_000_000


def test_never_early_and_in_the_order_of_the_deadlines() -> None:
    async def scene() -> None:
        alarm = Alarm(asyncio.get_running_loop())
        start_ns = time.monotonic_ns()
        offsets = [number * 300_000 for number in range(100)]
        random.Random(4).shuffle(offsets)
        woken: list[int] = []

        async def sleeper(offset_ns: int) -> None:
            await alarm.until(start_ns + offset_ns)
            assert time.monotonic_ns() >= start_ns + offset_ns
            woken.append(offset_ns)

        await asyncio.gather(*(sleeper(offset) for offset in offsets))
        assert woken == sorted(offsets)
        assert alarm.late_max_ns > 0
        alarm.close()

    uvloop.run(scene())


def test_a_deadline_that_has_passed_still_lets_others_run_first() -> None:
    async def scene() -> None:
        alarm = Alarm(asyncio.get_running_loop())
        for deadline_ns in (0, 1, time.monotonic_ns() - MS):
            turns: list[str] = []
            asyncio.get_running_loop().call_soon(turns.append, "another")
            await alarm.until(deadline_ns)
            assert turns == ["another"]
        alarm.close()

    uvloop.run(scene())


def test_a_cancelled_wait_disturbs_nobody() -> None:
    async def scene() -> None:
        alarm = Alarm(asyncio.get_running_loop())
        start_ns = time.monotonic_ns()
        first, second = alarm.until(start_ns + MS), alarm.until(start_ns + 2 * MS)
        first.cancel()
        await second
        assert time.monotonic_ns() >= start_ns + 2 * MS
        alarm._ring()  # as when the timer was set anew after the loop saw it fire
        alarm.close()

    uvloop.run(scene())


def test_an_earlier_deadline_overtakes_the_one_that_is_set() -> None:
    async def scene() -> None:
        alarm = Alarm(asyncio.get_running_loop())
        start_ns = time.monotonic_ns()
        late = alarm.until(start_ns + 3600 * 1000 * MS)
        await alarm.until(start_ns + MS)
        assert not late.done()
        alarm.close()

    uvloop.run(scene())
