"""The engine's own lag: a loop that is blocked on purpose shows in both figures by at least that much."""

import asyncio
import socket
import time
from array import array
from collections.abc import Callable
from itertools import pairwise
from typing import cast

import numpy as np
import pytest
import uvloop
from engine_kit import MS, endpoint, job, lab, run, until
from hypothesis import given
from hypothesis import strategies as st
from servers import answer_well, serving

from latbench.engine.clock import raw_ns
from latbench.engine.lag import Probe, Turn
from latbench.engine.plain import PlainTransport
from latbench.metrics.histogram import Histogram
from latbench.model.frames import Batch

BLOCKED_NS = 80 * MS


def block(ns: int = BLOCKED_NS) -> None:
    until_ns = raw_ns() + ns
    while raw_ns() < until_ns:
        """Busy, as a loop that decodes something long."""


def raised(bug: Exception) -> None:
    raise bug


def test_a_probe_is_asked_as_often_while_the_loop_stands_still() -> None:
    async def scenario() -> "array[int]":
        probe = Probe(raised, apart_ns=MS)
        block()
        await until(lambda: len(probe._late_ns) > 0)
        found = probe.take()
        assert len(probe.take()) <= 2, "what was taken is gone"
        probe.close()
        return found

    late = run(scenario())
    during = np.array(late)
    # 80 moments on the average: a fifth of that happens once in more runs than there will ever be.
    assert len(during) >= 16
    assert during.max() >= BLOCKED_NS / 2, "one of the first moments waited for nearly all of it"
    # Moments in an interval that waits to its end wait for half of it on the average.
    assert during.mean() >= 0.2 * BLOCKED_NS
    assert during.min() >= 0


def test_a_probe_that_cannot_be_set_is_heard_of() -> None:
    async def scenario() -> None:
        heard: list[Exception] = []
        probe = Probe(heard.append, apart_ns=MS)
        timer = probe._timer.fileno()
        file = socket.socket()
        asyncio.get_running_loop().remove_reader(timer)
        probe._timer._file, real = file.fileno(), probe._timer._file
        probe._rung()
        assert isinstance(heard[0], OSError)
        probe._timer._file = real
        probe._timer.close()
        file.close()

    run(scenario())


class Reader(asyncio.Protocol):
    """Stamps its reads as the transport does."""

    def __init__(self, turn: Turn, work: Callable[[], None]) -> None:
        self._turn, self._work = turn, work

    def data_received(self, data: bytes) -> None:
        now = raw_ns()
        turn = self._turn
        turn.left -= 1
        if turn.left < 0:
            turn.look(now)
        self._work()


@pytest.mark.parametrize("factory", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def test_reads_of_one_turn_wait_for_one_another(factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Three arrive while the loop is busy; each takes 10 ms. The next, alone in their turns, wait for nobody."""

    async def scenario() -> tuple[list[int], list[int]]:
        loop = asyncio.get_running_loop()
        turn = Turn(loop)
        worked = asyncio.Event()

        def work() -> None:
            block(10 * MS)
            worked.set()

        pairs = [socket.socketpair() for _ in range(3)]
        made = [await loop.create_connection(lambda: Reader(turn, work), sock=one) for _, one in pairs]
        for ours, _ in pairs:
            ours.send(b"x")
        await until(lambda: len(turn.waited_ns) == 3)
        together = list(turn.take())
        alone: list[int] = []
        for ours, _ in pairs:
            worked.clear()
            ours.send(b"x")
            await worked.wait()
            alone += turn.take()
        for (transport, _), (ours, _) in zip(made, pairs, strict=True):
            transport.close()
            ours.close()
        await asyncio.sleep(0)
        return together, alone

    with asyncio.Runner(loop_factory=factory) as runner:
        together, alone = runner.run(scenario())
    assert together[0] == 0
    assert together[1] >= 10 * MS
    assert together[2] >= 20 * MS
    assert alone == [0, 0, 0]


class Callbacks:
    """As much of a loop as a turn needs: what was to be called soon is called between two turns."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.calls = 0

    def call_soon(self, call: Callable[[], None]) -> None:
        self.soon.append(call)
        self.calls += 1

    def end_turn(self) -> None:
        due, self.soon = self.soon, []
        for call in due:
            call()


def watched(reads_apart: int, turns: list[int]) -> tuple[list[int], int]:
    """How many reads each watched turn had, where the n-th turn has `turns[n]` and each read takes a nanosecond.

    With them, how often the loop was asked to call.
    """
    loop = Callbacks()
    turn = Turn(cast(asyncio.AbstractEventLoop, loop), reads_apart)
    now_ns = 1
    for reads in turns:
        for _ in range(reads):
            turn.left -= 1
            if turn.left < 0:
                turn.look(now_ns)
            now_ns += 1
        loop.end_turn()
        now_ns += 1000
    waited = list(turn.take())
    assert list(turn.take()) == []
    starts = [number for number, waited_ns in enumerate(waited) if waited_ns == 0]
    counts = [end - start for start, end in pairwise([*starts, len(waited)])]
    assert waited == [waited_ns for count in counts for waited_ns in range(count)], "from the first read of its turn on"
    return counts, loop.calls


@pytest.mark.parametrize("reads_apart", [0, 1, 2, 16, 100])
def test_of_turns_with_one_read_each_about_every_so_many_is_watched(reads_apart: int) -> None:
    counts, calls = watched(reads_apart, [1] * 10_000)
    assert set(counts) == {1}
    assert 10_000 / (reads_apart + 3) <= len(counts) <= 10_000 / max(1, reads_apart)
    assert calls <= 2 * len(counts) + 1


@given(st.integers(0, 40), st.lists(st.integers(0, 6), max_size=80))
def test_a_turn_is_watched_to_its_end_or_not_at_all(reads_apart: int, turns: list[int]) -> None:
    counts, calls = watched(reads_apart, turns)
    left = iter(turns)
    assert all(count in left for count in counts), "each is a turn, whole, and they are in order"
    assert calls <= 2 * len(counts) + 1
    if any(turns):
        assert counts[0] == next(filter(None, turns)), "the first one is watched"
    assert sum(turns) <= (len(counts) + 1) * (reads_apart + 3 * 6), "the next one is never far"


@given(st.integers(1, 40), st.lists(st.integers(1, 6), min_size=1, max_size=80))
def test_between_two_watched_turns_the_loop_is_asked_once(reads_apart: int, turns: list[int]) -> None:
    counts, calls = watched(reads_apart, turns)
    assert calls - len(counts) in (len(counts) - 1, len(counts))


def test_every_turn_is_watched_unless_reads_are_many() -> None:
    loop = Callbacks()
    turn = Turn(cast(asyncio.AbstractEventLoop, loop))

    def watched_of(turns: int) -> int:
        for now_ns in range(1, turns + 1):
            turn.left -= 1
            if turn.left < 0:
                turn.look(now_ns)
            loop.end_turn()
        return len(turn.take())

    assert watched_of(900) == 900
    assert watched_of(1100) == 1100, "now they are many"
    assert 40 < watched_of(1100) < 80
    watched_of(5000)
    assert 200 < watched_of(5000) < 350, "still many"
    assert watched_of(300) < 60, "now they are few"
    watched_of(50)  # the pause that was begun may last into this one
    assert watched_of(900) == 900


def lag(batches: list[Batch], name: str) -> Histogram:
    found = Histogram()
    for batch in batches:
        assert batch.effort is not None
        found.add_counted(getattr(batch.effort, name))
    return found


def test_a_blocked_loop_shows_in_both_lags_of_a_step() -> None:
    """After the first read of a turn the loop is blocked: whatever else was to be read in that turn waits for it."""

    async def scenario() -> list[Batch]:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            loop, turn = asyncio.get_running_loop(), found.transports[0][0].turn

            def slow(end: Callable[[], None]) -> object:
                handle = loop.call_soon(end)
                block(20 * MS)
                return handle

            turn.call_soon = slow  # type: ignore[assignment]  it is called with nothing else
            return (await found.step(range(8), requests=60)).batches

    batches = run(scenario())
    assert (lag(batches, "chunk").max_ns or 0) >= 20 * MS
    assert (lag(batches, "probe").max_ns or 0) >= 10 * MS
    assert lag(batches, "probe").n >= 10
    assert lag(batches, "chunk").n >= 60


def test_efforts_are_one_after_the_other_and_know_the_time() -> None:
    """From the first to the last of a step there is no gap; what was computed was no more than there was time for."""

    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            for index in range(2):
                before = time.process_time_ns()
                ran = await found.step(range(4), requests=60, step=index)
                efforts = [batch.effort for batch in ran.batches if batch.effort is not None]
                assert len(efforts) == len(ran.batches)
                assert all(one.to_ns == after.from_ns for one, after in pairwise(efforts))
                assert efforts[0].from_ns >= ran.start_ns - 50 * MS, "not the time between two steps"
                assert 0 < sum(one.cpu_ns for one in efforts) <= time.process_time_ns() - before
                stayed = sum((one.done_ns or 0) - (one.sent_ns or 0) for one in ran.samples)
                assert sum(one.occupied_ns for one in efforts) == stayed, "L = λW, to the nanosecond"

    run(scenario())


def test_the_fall_back_knows_its_probe_only() -> None:
    async def scenario() -> list[Batch]:
        async with serving(answer_well) as server, lab(job(endpoint(server.url)), PlainTransport) as found:
            return (await found.step(range(2), duration_ns=200 * MS)).batches

    batches = run(scenario())
    assert lag(batches, "probe").n > 0
    assert lag(batches, "chunk").n == 0
