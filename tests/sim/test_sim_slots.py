"""The line in front of the slots."""

import asyncio

from latbench.sim.slots import Slots


async def _turn() -> None:
    """Lets every task that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_first_come_first_served() -> None:
    async def scene() -> list[int]:
        slots, order = Slots(1), []

        async def visitor(number: int) -> bool:
            waited = await slots.take()
            order.append(number)
            await _turn()
            slots.free()
            return waited

        waited = await asyncio.gather(*(visitor(number) for number in range(6)))
        assert waited == [False, True, True, True, True, True]
        assert (slots.active, slots.queued, slots.peak_active) == (0, 0, 1)
        return order

    assert asyncio.run(scene()) == list(range(6))


def test_who_gives_up_waiting_leaves_the_line() -> None:
    async def scene() -> None:
        slots = Slots(1)
        assert not await slots.take()
        waiting = [asyncio.create_task(slots.take()) for _ in range(3)]
        await _turn()
        assert slots.queued == 3
        waiting[1].cancel()
        await _turn()
        assert slots.queued == 2
        slots.free()
        slots.free()
        assert await waiting[0]
        assert await waiting[2]
        assert (slots.active, slots.queued) == (1, 0)
        slots.free()
        assert slots.active == 0

    asyncio.run(scene())


def test_a_slot_handed_to_one_who_gives_up_in_the_same_turn_is_not_lost() -> None:
    async def scene() -> None:
        slots = Slots(1)
        await slots.take()
        first, second = (asyncio.create_task(slots.take()) for _ in range(2))
        await _turn()
        slots.free()
        first.cancel()
        assert await second
        assert first.cancelled() or first.done()
        slots.free()
        assert (slots.active, slots.queued) == (0, 0)

    asyncio.run(scene())


def test_a_slot_passes_by_one_whose_cancellation_is_under_way() -> None:
    async def scene() -> None:
        slots = Slots(1)
        await slots.take()
        first, second = (asyncio.create_task(slots.take()) for _ in range(2))
        await _turn()
        first.cancel()
        slots.free()
        assert await second
        assert (slots.active, slots.queued) == (1, 0)

    asyncio.run(scene())


def test_the_peak_can_be_forgotten() -> None:
    async def scene() -> None:
        slots = Slots(3)
        for _ in range(3):
            await slots.take()
        slots.free()
        assert slots.peak_active == 3
        slots.forget_peak()
        assert slots.peak_active == 2

    asyncio.run(scene())
