"""An engine without time to spare: what has ended and is not decoded takes memory, and must not pile up."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from engine_kit import MS, S, closed, endpoint, job, lab, run, until
from servers import Call, answer_well, serving

from latbench.engine.clock import raw_ns
from latbench.engine.flight import Stage
from latbench.model.load import Constant, Sessions, Step
from latbench.model.slices import Slices

SLOTS = 4
MANY = 200


def test_a_closed_loop_does_not_run_away_from_its_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latbench.engine.flight._UNDECODED", 20)

    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            flight = found.dispatcher._flight
            with monkeypatch.context() as no_time:
                no_time.setattr(flight, "_finish_some", lambda until_ns: None)
                loading = asyncio.create_task(found.step(range(SLOTS), requests=200))
                await until(lambda: len(flight._ended) > 20)
                later = found.clock.now_ns() + 100 * MS
                await until(lambda: found.clock.now_ns() > later)
                assert len(server.calls) <= 20 + SLOTS
            ran = await loading
        assert ran.outcomes() == {"ok": 200}

    run(scenario())


@pytest.mark.parametrize("turns", [1, 2])
def test_in_an_open_loop_whoever_ends_helps_to_decode(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No arrival waits for it, and not more than the limit is ever left undecoded."""
    monkeypatch.setattr("latbench.engine.flight._UNDECODED", 20)
    shape = Constant(2000.0) if turns == 1 else Sessions(2000.0, turns)
    seen: list[int] = []
    flight: Any = None

    async def script(call: Call) -> None:
        seen.append(len(flight._ended))
        await answer_well(call)

    async def scenario() -> None:
        nonlocal flight
        async with serving(script) as server, lab(job(endpoint(server.url))) as found:
            flight = found.dispatcher._flight
            with monkeypatch.context() as no_time:
                no_time.setattr(flight, "_finish_some", lambda until_ns: None)
                loading = asyncio.create_task(found.load(Step(shape, MANY)))
                await until(lambda: len(server.calls) >= MANY and not flight.count)
                assert len(flight._ended) == 20
            ran = await loading
        assert max(seen) == 20
        assert ran.outcomes() == {"ok": MANY * turns}

    run(scenario())


def test_what_was_due_before_a_late_loop_was_stopped_has_a_record() -> None:
    """The order is read before the timer is: of what was due by then, the master expects to be told."""

    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url)), ends=False) as found:
            loading = asyncio.create_task(found.load(Step(Constant(1000.0), duration_ns=20 * S)))
            await until(lambda: len(server.calls) > 50)
            held_ns = found.clock.now_ns() + 50 * MS
            while found.clock.now_ns() < held_ns:
                """The loop does something else for a while."""
            stopped_ns = found.clock.now_ns()
            found.dispatcher.drain()
            ran = await loading
        due = (stopped_ns - ran.start_ns) // MS + 1
        assert set(ran.seqs()) >= set(range(due))
        assert ran.outcomes()["dropped"] >= 40

    run(scenario())


@pytest.mark.parametrize("cut_off", [False, True])
def test_every_account_is_sent_once(cut_off: bool) -> None:
    """Also where the step ends between the moment it was made and the moment it would have been sent."""

    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url)), ends=False) as found:
            flight = found.dispatcher._flight
            stepping = asyncio.create_task(found.step([0], requests=5))
            await until(lambda: found.batches and found.batches[-1].idle)
            if cut_off:
                flight._unsent = flight._effort()
            found.dispatcher.drain()
            ran = await stepping
            assert flight._unsent is None
        efforts = [batch.effort for batch in ran.batches if batch.effort is not None]
        assert all(one.to_ns == other.from_ns for one, other in pairwise(efforts))

    run(scenario())


def test_whoever_was_cancelled_is_told_nothing() -> None:
    async def scenario() -> None:
        async with lab(job(endpoint("http://127.0.0.1:1/v1"))) as found:
            flight = found.dispatcher._flight
            flight.start(Stage(0, closed(1), raw_ns(), Slices(None, 1)))
            gone, there = (flight.prepare(0, 0, number).exchange for number in range(2))
            leaving, staying = (asyncio.create_task(flight.decoded(one)) for one in (gone, there))
            await asyncio.sleep(0)
            leaving.cancel()
            flight.fail(RuntimeError("a bug of ours"))
            assert await staying == ""
            with pytest.raises(RuntimeError, match="a bug of ours"):
                await flight.finish()
            assert leaving.cancelled()

    run(scenario())


def test_an_outcome_that_nobody_awaits_any_more_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            flight = found.dispatcher._flight
            with monkeypatch.context() as no_time:
                no_time.setattr(flight, "_finish_some", lambda until_ns: None)
                loading = asyncio.create_task(found.load(Step(Sessions(100.0, 2), 1)))
                await until(lambda: flight._waiting)
                loop = found.dispatcher._loop
                assert loop is not None
                (session,) = loop.tasks
                session.cancel()
                flight._finish_one(raw_ns() + S)
            ran = await loading
        assert ran.outcomes() == {"ok": 1}, "its second turn was never begun"

    run(scenario())
