"""Open loops: every arrival of the plan at its own moment, none early, and none forgotten. `Lab` checks that."""

import asyncio
import json
from array import array
from typing import Any

import numpy as np
import pytest
from engine_kit import MS, Lab, Make, S, endpoint, job, lab, opened, prompts, run, until
from hypothesis import given
from hypothesis import strategies as st
from servers import Call, answer_after, answer_well, completion, held, reply, serving

from latbench.engine.openloop import OpenLoop, Schedule
from latbench.model.frames import Prepare, Shards
from latbench.model.load import Burst, Constant, Gamma, Poisson, Ramp, Shape, Step, Trace
from latbench.model.sample import Outcome
from latbench.model.slices import Slices
from latbench.plan.arrivals import arrivals, digest
from latbench.plan.partition import SHARDS

SEED = 3


def trace(*rows: tuple[int, int, int], prompt_ids: tuple[str, ...] = ()) -> Trace:
    """Rows of milliseconds, prompt, max_tokens."""
    at, prompt, tokens = zip(*rows, strict=True)
    offsets = np.array(at, dtype="<i8") * MS
    return Trace("t", offsets.tobytes(), array("i", prompt).tobytes(), array("i", tokens).tobytes(), prompt_ids)


# --- when ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape",
    [
        Constant(150.0),
        Poisson(150.0),
        Gamma(150.0, 2.0),
        Ramp(50.0, 250.0),
        Burst(20, 100 * MS),
        trace((0, -1, 0), (5, -1, 0), (5, -1, 0), (310, -1, 0), (400, -1, 0)),
    ],
    ids=lambda shape: type(shape).__name__.lower(),
)
def test_each_arrival_of_the_plan_is_due_when_the_plan_says(shape: Shape) -> None:
    load = Step(shape, duration_ns=300 * MS, warmup_ns=100 * MS)

    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            start = found.clock.now_ns() + 50 * MS
            ran = await found.load(load, step=4, start_ns=start)
            planned = arrivals(load, SEED, 4)
            assert len(planned) >= 4
            assert ran.due() == dict(enumerate(planned.tolist()))
            assert ran.outcomes() == {"ok": len(planned)}
            assert len(server.calls) == len(planned)
            assert all(one.sent_ns >= one.due_ns for one in ran.samples if one.sent_ns is not None), "none early"
            assert {one.phase == "warmup" for one in ran.samples if ran.due()[one.seq] < 100 * MS} == {True}
            assert {one.phase for one in ran.samples if ran.due()[one.seq] >= 100 * MS} == {"measure"}

    run(scenario())


def test_what_starts_late_keeps_the_moment_at_which_it_was_due() -> None:
    load = Step(Constant(100.0), 30)

    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            now = found.clock.now_ns()
            ran = await found.load(load, start_ns=now - S)
        assert ran.due() == {n: n * 10 * MS for n in range(30)}
        assert min(one.sent_ns or 0 for one in ran.samples) >= now
        assert ran.outcomes() == {"ok": 30}

    run(scenario())


def test_nothing_waits_for_an_answer() -> None:
    """A server that answers none until it has all: a closed loop would wait for ever."""
    everybody = asyncio.Event()

    async def script(call: Call) -> None:
        if call.number == 29:
            everybody.set()
        await everybody.wait()
        await answer_well(call)

    async def scenario() -> None:
        async with serving(script) as server:
            assert (await opened(job(endpoint(server.url)), Step(Poisson(300.0), 30))).outcomes() == {"ok": 30}

    run(scenario())


def test_two_workers_send_what_one_sends() -> None:
    load = Step(Poisson(300.0), 100)

    async def scenario() -> None:
        async with serving(answer_well) as server:
            what = job(endpoint(server.url))
            whole = await opened(what, load)
            halves = [await opened(what, load, shards=range(first, SHARDS, 2)) for first in range(2)]
        both = [one for half in halves for one in half.samples]
        assert sorted((one.seq, one.prompt_id, one.nonce) for one in both) == sorted(
            (one.seq, one.prompt_id, one.nonce) for one in whole.samples
        )
        assert halves[0].due() | halves[1].due() == whole.due()
        assert all(one.seq % 2 == half for half in range(2) for one in halves[half].samples)

    run(scenario())


def test_the_digest_is_that_of_all_arrivals_whosever_they_are() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            load = Step(Poisson(50.0), 20)
            for shards in ([0], list(range(SHARDS))):
                prepared = await found.dispatcher.prepare(Prepare(2, load, shards=shards))
                assert (prepared.step, prepared.digest) == (2, digest(arrivals(load, SEED, 2)))

    run(scenario())


def test_endpoints_run_together_or_in_slices() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server:
            both = job([endpoint(server.url, name) for name in "ab"])
            together = await opened(both, Step(Constant(100.0), duration_ns=400 * MS))
            assert together.due("a") == together.due("b") == {n: n * 10 * MS for n in range(40)}
            load = Step(Constant(100.0), duration_ns=300 * MS, warmup_ns=100 * MS, slice_ns=100 * MS)
            sliced = await opened(both, load)
        for place, name in enumerate("ab"):
            turns = {n: (2 * (n // 10) + place) * 100 * MS + n % 10 * 10 * MS for n in range(40)}
            assert sliced.due(name) == turns
        assert sliced.planned == {"a/warmup": 10, "a/measure": 30, "b/warmup": 10, "b/measure": 30}

    run(scenario())


def test_a_step_of_no_arrivals_is_idle_at_its_end() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            load = Step(trace((5_000, -1, 0)), duration_ns=300 * MS)
            ran = await found.load(load)
            assert ran.samples == []
            assert found.clock.now_ns() >= ran.start_ns + 300 * MS

    run(scenario())


# --- what ------------------------------------------------------------------------------------------------------------


def asked(call: Call) -> tuple[str, int]:
    body: dict[str, Any] = json.loads(call.body)
    return body["messages"][0]["content"].partition("]\n")[2], body["max_tokens"]


def test_a_trace_names_prompts_and_lengths() -> None:
    shape = trace((0, 1, 0), (10, -1, 500), (20, 0, 7), (30, 1, 1), prompt_ids=("p4", "p2"))

    async def scenario() -> None:
        async with serving(answer_well) as server:
            ran = await opened(job(endpoint(server.url)), Step(shape))
            found = {call.body.decode().partition('"[')[2][:16]: asked(call) for call in server.calls}
        drawn = next(one for one in ran.samples if one.seq == 1)
        number = drawn.prompt_id.removeprefix("p")
        wanted = [("question 2", 64), (f"question {number}", 500), ("question 4", 7), ("question 2", 1)]
        assert {one.seq: found[one.nonce] for one in ran.samples} == dict(enumerate(wanted))
        assert [one.prompt_id for one in sorted(ran.samples, key=lambda one: one.seq)] == [
            "p2",
            f"p{number}",
            "p4",
            "p2",
        ]

    run(scenario())


def test_an_answer_that_is_not_streamed(make: Make) -> None:
    async def scenario() -> None:
        async with serving(lambda call: call.send(reply(200, completion("all of it", 3)))) as server:
            ran = await opened(job(endpoint(server.url, stream=False)), Step(Constant(100.0), 12), make)
        assert ran.outcomes() == {"ok": 12}
        for one in ran.samples:
            assert (one.first_token_ns, one.last_token_ns, one.output_tokens) == (None, one.done_ns, 3)
            assert one.due_ns <= (one.sent_ns or 0) < (one.done_ns or 0)

    run(scenario())


def test_arrivals_are_spread_over_the_keys() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server:
            to = endpoint(server.url, api_key_env=("K1", "K2"))
            async with lab(job(to), environ={"K1": "one", "K2": "two"}) as found:
                await found.load(Step(Constant(500.0), 20))
            assert [call.header("authorization") for call in server.calls].count("Bearer one") == 10

    run(scenario())


# --- the cap ---------------------------------------------------------------------------------------------------------


def test_what_the_cap_does_not_let_through_is_dropped_and_never_delayed() -> None:
    async def scenario() -> None:
        async with serving(held) as server, lab(job(endpoint(server.url)), ends=False) as found:
            loading = asyncio.create_task(found.load(Step(Constant(100.0), 12), cap=3))
            await until(lambda: len(found.during()) == 9)
            found.dispatcher.cancel()
            ran = await loading
            assert len(server.calls) == 3
        assert ran.outcomes() == {"cancelled": 3, "dropped": 9}
        assert ran.due() == {n: n * 10 * MS for n in range(12)}
        dropped = [one for one in ran.samples if one.outcome == Outcome.DROPPED]
        assert sorted(one.seq for one in dropped) == list(range(3, 12))
        assert {(one.sent_ns, one.error_message) for one in dropped} == {
            (None, "max_in_flight: this worker's part of it, 3, was unanswered")
        }

    run(scenario())


def test_the_cap_is_of_each_endpoint() -> None:
    async def scenario() -> None:
        async with serving(held) as slow, serving(answer_well) as quick:
            what = job([endpoint(slow.url, "slow"), endpoint(quick.url, "quick")], drain_ns=50 * MS)
            ran = await opened(what, Step(Constant(20.0), 10), cap=1)
        assert len(slow.calls) == 1
        by_name = {name: [one.outcome for one in ran.samples if one.endpoint == name] for name in ("slow", "quick")}
        assert (by_name["slow"].count("dropped"), by_name["slow"].count("cancelled")) == (9, 1)
        assert by_name["quick"].count("ok") == len(quick.calls) > 0

    run(scenario())


# --- who stops it ----------------------------------------------------------------------------------------------------


def test_a_stopped_endpoint_gets_nothing_new_and_the_other_goes_on() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as one, serving(answer_well) as other:
            async with lab(job([endpoint(one.url, "a"), endpoint(other.url, "b")])) as found:
                loading = asyncio.create_task(found.load(Step(Constant(100.0), 60)))
                await until(lambda: len(one.calls) >= 5)
                found.dispatcher.stop_endpoint("a", "budget")
                stopped_ns = found.clock.now_ns()
                ran = await loading
            assert ran.stopped == {"a": "budget"}
            assert all(sample.due_ns <= stopped_ns for sample in ran.samples if sample.endpoint == "a")
            # One may have become due as the order came; and the server is in the same loop: where that is busy it may
            # break a connection before it reads.
            unread = [at for at in ran.samples if at.endpoint == "a" and at.outcome in ("connect_error", "dropped")]
            begun = len(one.calls) + len(unread)
            assert ran.seqs("a") == list(range(begun)), ("what was not begun was not planned either", unread)
            assert ran.seqs("b") == list(range(60))

    run(scenario())


def test_with_every_endpoint_stopped_a_step_of_an_hour_is_idle() -> None:
    async def scenario() -> None:
        async with serving(lambda call: call.send(reply(401))) as server:
            ran = await opened(job(endpoint(server.url)), Step(Constant(50.0), duration_ns=3600 * S))
        assert ran.stopped == {"e": "credentials refused (HTTP 401) 3 times in a row"}
        assert 3 <= len(ran.samples) < 100

    run(scenario())


def test_shards_that_come_when_every_endpoint_is_stopped_do_no_harm() -> None:
    """The step is over but for the master's word, and a worker is lost meanwhile."""

    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url)), ends=False) as found:
            loading = asyncio.create_task(found.load(Step(Constant(50.0), 1000), shards=range(32)))
            await until(lambda: len(server.calls) >= 3)
            found.dispatcher.stop_endpoint("e", "enough")
            await until(lambda: found.batches and found.batches[-1].idle)
            found.dispatcher.set_shards(Shards(list(range(SHARDS)), found.clock.now_ns() + 50 * MS, None, 1))
            await until(lambda: found.batches[-1].idle and found.batches[-1].version == 1)
            found.dispatcher.drain()
            assert (await loading).outcomes().keys() == {"ok"}

    run(scenario())


def test_a_drain_begins_nothing_new_and_awaits_what_is_in_flight() -> None:
    release = asyncio.Event()

    async def scenario() -> None:
        async with serving(answer_after(release)) as server, lab(job(endpoint(server.url))) as found:
            loading = asyncio.create_task(found.load(Step(Constant(100.0), 1000)))
            await until(lambda: len(server.calls) >= 5)
            found.dispatcher.drain()
            release.set()
            ran = await loading
            # One may have become due as the order came: it is not sent any more, and says so.
            outcomes = ran.outcomes()
            assert outcomes["ok"] == len(server.calls)
            assert outcomes.keys() <= {"ok", "dropped"}
            assert {one.error_message for one in ran.samples if one.outcome == "dropped"} <= {
                "the load was stopped when this had just become due"
            }
            assert ran.seqs() == list(range(outcomes.total()))

    run(scenario())


# --- the lease -------------------------------------------------------------------------------------------------------


def held_by(found: Lab) -> list[int]:
    """The numbers of the arrivals that wait for what becomes of the lease."""
    loop = found.dispatcher._loop
    return [number for _, _, number in loop._held] if isinstance(loop, OpenLoop) else []


def leased(found: Lab, load: Step, lasting_ms: int) -> "tuple[asyncio.Task[Any], int]":
    """A step whose lease ends after so many milliseconds; and when it started."""
    start = found.clock.now_ns()
    return asyncio.create_task(found.load(load, start_ns=start, lease_ns=start + lasting_ms * MS)), start


def test_what_was_due_without_a_lease_is_dropped_when_the_next_one_comes() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            loading, start = leased(found, Step(Constant(100.0), 60), lasting_ms=200)
            await until(lambda: len(held_by(found)) >= 20)
            assert not any(one.outcome == Outcome.DROPPED for one in found.during()), "they are held"
            held_then, again = held_by(found), found.clock.now_ns()
            found.dispatcher.renew_lease(again + 60 * S)
            ran = await loading
        assert ran.seqs() == list(range(60))
        fate = {one.seq: one for one in ran.samples}
        assert sorted(held_then) == [seq for seq, one in sorted(fate.items()) if one.outcome == Outcome.DROPPED]
        assert len(server.calls) == 60 - len(held_then)
        before = [one for one in ran.samples if one.sent_ns is not None and one.sent_ns < again]
        assert all(one.due_ns < start + 200 * MS for one in before)
        assert ran.batches[-1].paused

    run(scenario())


@pytest.mark.parametrize("past_the_end", [False, True])
def test_what_was_held_is_forgotten_where_its_shard_has_gone(past_the_end: bool) -> None:
    """Cut off, given up, and back: others have sent what was due from the takeover on. Also where the step is over."""

    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url)), ends=False) as found:
            loading, start = leased(found, Step(Constant(100.0), 60), lasting_ms=200)
            await until(lambda: max(held_by(found), default=0) >= (59 if past_the_end else 40))
            if past_the_end:
                await until(lambda: found.clock.now_ns() > start + 800 * MS)
            found.dispatcher.set_shards(Shards([], start + 300 * MS))
            found.dispatcher.drain()
            ran = await loading
            assert len(server.calls) == ran.outcomes().get("ok", 0)
        assert ran.seqs() == list(range(30)), "up to the takeover, and nothing after it"
        assert {one.outcome for one in ran.samples if one.due_ns >= start + 200 * MS} == {"dropped"}

    run(scenario())


def test_what_is_held_at_the_end_of_an_interrupted_step_is_dropped() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url)), ends=False) as found:
            loading, start = leased(found, Step(Constant(100.0), 40), lasting_ms=100)
            await until(lambda: max(held_by(found), default=0) == 39)
            await until(lambda: found.batches and found.clock.now_ns() > start + 600 * MS)
            assert not found.batches[-1].idle, "what is held has no fate yet"
            found.dispatcher.drain()
            ran = await loading
        assert ran.seqs() == list(range(40))
        assert ran.outcomes()["dropped"] >= 30

    run(scenario())


# --- shards come and go ----------------------------------------------------------------------------------------------


def test_shards_are_taken_over_from_a_moment_on() -> None:
    load = Step(Constant(100.0), 100)

    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            start = found.clock.now_ns()
            loading = asyncio.create_task(found.load(load, shards=range(0, SHARDS, 2), start_ns=start))
            await until(lambda: len(server.calls) >= 10)
            order = Shards(list(range(SHARDS)), start + 605 * MS, None, 1)
            found.dispatcher.set_shards(order)
            await until(lambda: found.clock.now_ns() > start + 700 * MS)
            found.dispatcher.set_shards(order)  # said again, as the master does
            ran = await loading
        mine = [n for n in range(100) if n % SHARDS % 2 == 0]
        assert ran.seqs() == sorted({*mine, *range(61, 100)})
        assert ran.due() == {n: n * 10 * MS for n in ran.seqs()}
        assert ran.outcomes() == {"ok": len(ran.seqs())}
        assert ran.batches[-1].version == 1

    run(scenario())


def test_shards_that_go_are_no_longer_sent_from_a_moment_on() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            start = found.clock.now_ns()
            loading = asyncio.create_task(found.load(Step(Constant(100.0), 200), start_ns=start))
            await until(lambda: len(server.calls) >= 5)
            from_ns = found.clock.now_ns() + 200 * MS
            found.dispatcher.set_shards(Shards(list(range(0, SHARDS, 2)), from_ns))
            ran = await loading
        assert ran.seqs() == [n for n in range(200) if start + n * 10 * MS < from_ns or n % SHARDS % 2 == 0]

    run(scenario())


def test_shards_that_were_due_before_the_order_came_leave_at_once() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url)), ends=False) as found:
            start = found.clock.now_ns()
            loading = asyncio.create_task(found.load(Step(Constant(100.0), 40), shards=range(32), start_ns=start))
            await until(lambda: found.batches and found.batches[-1].idle)
            found.dispatcher.set_shards(Shards(list(range(SHARDS)), start + 345 * MS, None, 5))
            assert not found.dispatcher._flight.idle
            await until(lambda: found.batches[-1].idle and found.batches[-1].version == 5)
            found.dispatcher.drain()
            ran = await loading
        assert ran.seqs() == [*range(32), *range(35, 40)]
        assert ran.due() == {n: n * 10 * MS for n in ran.seqs()}

    run(scenario())


def test_a_cap_comes_with_the_shards() -> None:
    async def scenario() -> None:
        async with serving(held) as server, lab(job(endpoint(server.url)), ends=False) as found:
            loading = asyncio.create_task(found.load(Step(Constant(50.0), duration_ns=3600 * S), cap=1))
            await until(lambda: len(server.calls) == 1)
            found.dispatcher.set_shards(Shards(list(range(SHARDS)), 0, 4, 1))
            await until(lambda: len(server.calls) == 4)
            await until(lambda: any("part of it, 4, was" in (one.error_message or "") for one in found.during()))
            found.dispatcher.cancel()
            assert (await loading).outcomes()["cancelled"] == 4

    run(scenario())


def test_the_count_of_orders_begins_anew_in_each_step() -> None:
    """The master does so, and waits for an engine that is idle by its last order."""

    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            loading = asyncio.create_task(found.load(Step(Constant(100.0), 20)))
            await until(lambda: server.calls)
            found.dispatcher.set_shards(Shards(list(range(SHARDS)), 0, None, 3))
            first = await loading
            second = await found.load(Step(Constant(100.0), 5), step=1)
        assert (first.batches[-1].version, second.batches[-1].version) == (3, 0)

    run(scenario())


# --- the schedule, without a clock -----------------------------------------------------------------------------------

OFFSETS = st.lists(st.integers(0, 1000), max_size=150).map(lambda found: np.array(sorted(found), dtype=np.int64))
ORDERS = st.lists(st.tuples(st.sets(st.integers(0, SHARDS - 1)), st.integers(0, 400)), max_size=4)


@given(OFFSETS, st.integers(1, 3), st.sampled_from([None, 7, 100]), ORDERS)
def test_a_schedule_is_what_its_orders_say(offsets, endpoints, slice_ns, orders) -> None:
    """Orders in the order of their moments; before each, what was due until then has been dealt with."""
    slices = Slices(slice_ns, endpoints)
    schedule = Schedule(offsets, slices, endpoints)
    plan = sorted(
        (slices.wall_at(int(at), place), number, place)
        for number, at in enumerate(offsets)
        for place in range(endpoints)
    )
    sent, expected, at_ns, owned = [], [], 0, set()
    for shards, later_ns in [*orders, (set(), 10**9)]:
        until_ns = at_ns + later_ns
        expected += [row for row in plan if at_ns <= row[0] < until_ns and row[1] % SHARDS in owned]
        count = int(np.searchsorted(schedule.at_ns, until_ns))
        rows = zip(schedule.at_ns, schedule.number, schedule.endpoint, strict=True)
        sent += [tuple(map(int, row)) for row in list(rows)[:count]]
        schedule.forget(count)
        schedule.assign(list(shards), until_ns)
        at_ns, owned = until_ns, shards
    assert sent == expected
    assert len(schedule) == 0


def test_connections_are_opened_ahead_for_the_busiest_second() -> None:
    schedule = Schedule(np.array([0, 900 * MS, 950 * MS, S + 1, 5 * S], dtype=np.int64), Slices(None, 2), 2)
    schedule.assign(list(range(SHARDS)), 0)
    assert (schedule.connections(0), schedule.connections(1)) == (3, 3)
    schedule.assign([0, 1], 0)
    assert schedule.connections(0) == 2

    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url), prompts=prompts(2))) as found:
            order = Prepare(0, Step(Constant(1000.0), 40), shards=list(range(SHARDS)))
            assert (await found.dispatcher.prepare(order)).failures == {}
            await until(lambda: server.connections == 40)
            order.cap = 7
            async with serving(answer_well) as other, lab(job(endpoint(other.url))) as capped:
                await capped.dispatcher.prepare(order)
                await until(lambda: other.connections == 7)
            assert server.calls == []

    run(scenario())
