"""Closed loops: how many turns, until when, and each accounted for: `Lab.step` checks conservation."""

import asyncio
import gc
from collections import Counter
from itertools import pairwise

import pytest
from engine_kit import MS, Lab, S, endpoint, job, lab, run, step, until
from servers import Call, answer_after, answer_well, held, reply, serving

from latbench.engine.clock import Clock, raw_ns
from latbench.engine.closed import ClosedLoop
from latbench.engine.lease import Lease
from latbench.model.frames import Slot, Slots
from latbench.model.sample import Outcome, Sample
from latbench.plan.partition import GENERATION


async def unhurried(call: Call) -> None:
    await asyncio.sleep(0.01)
    await answer_well(call)


def late(samples: list[Sample], end_ns: int) -> int:
    """How many were due after the end: a slot looks at the clock right before, so that one of each may be."""
    return sum(sample.due_ns >= end_ns for sample in samples)


def due(samples: list[Sample]) -> list[int]:
    return sorted(sample.due_ns for sample in samples)


def loop_of(found: Lab) -> ClosedLoop:
    loop = found.dispatcher._loop
    assert isinstance(loop, ClosedLoop)
    return loop


# --- how many --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("requests", "slots"), [(23, 5), (3, 8), (1, 1), (64, 8), (0, 3)])
def test_a_step_by_requests_sends_exactly_those(requests: int, slots: int) -> None:
    async def scenario() -> None:
        async with serving(unhurried) as server:
            ran = await step(job(endpoint(server.url)), requests, range(slots))
            assert ran.outcomes() == ({"ok": requests} if requests else {})
            assert ran.seqs() == list(range(requests))
            assert len(server.calls) == requests
            assert ran.planned == ({"e/measure": requests} if requests else {})
            assert all(sample.slot == sample.seq % slots for sample in ran.samples)

    run(scenario())


def test_requests_are_counted_for_each_endpoint() -> None:
    async def scenario() -> None:
        async with serving(unhurried) as one, serving(unhurried) as other:
            both = [endpoint(one.url, "a"), endpoint(other.url, "b")]
            ran = await step(job(both), 23, range(10), stride=5)
            assert (ran.seqs("a"), ran.seqs("b")) == (list(range(23)), list(range(23)))
            assert (len(one.calls), len(other.calls)) == (23, 23)
        by_seq = Counter((sample.seq, sample.prompt_id) for sample in ran.samples)
        assert set(by_seq.values()) == {2}, "a sequence number draws the same prompt for every endpoint"
        assert len({sample.nonce for sample in ran.samples}) == 46

    run(scenario())


def test_two_workers_send_what_one_sends() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server:
            what = job(endpoint(server.url))
            whole = await step(what, 23, range(5))
            shares = await asyncio.gather(step(what, 23, [0, 3], stride=5), step(what, 23, [1, 2, 4], stride=5))
        found = sorted((sample.seq, sample.prompt_id, sample.nonce) for share in shares for sample in share.samples)
        assert found == sorted((sample.seq, sample.prompt_id, sample.nonce) for sample in whole.samples)
        assert len(found) == 23

    run(scenario())


def test_step_after_step_on_one_dispatcher() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            for number in range(3):
                ran = await found.step(range(2), requests=5, step=number)
                assert ran.seqs() == list(range(5))
                assert {sample.step for sample in ran.samples} == {batch.step for batch in ran.batches} == {number}
                assert gc.isenabled()
            assert server.connections == 2

    run(scenario())


# --- until when ------------------------------------------------------------------------------------------------------


def test_nothing_begins_after_the_duration() -> None:
    async def scenario() -> None:
        async with serving(unhurried) as server, lab(job(endpoint(server.url))) as found:
            start = found.clock.now_ns() + 500 * MS
            ran = await found.step(range(3), start_ns=start, duration_ns=500 * MS)
        assert ran.outcomes().keys() == {"ok"}, "what has begun is awaited"
        assert due(ran.samples)[0] >= start
        assert late(ran.samples, start + 500 * MS) <= 3

    run(scenario())


def test_requests_and_duration_whichever_ends_first() -> None:
    async def scenario() -> None:
        async with serving(unhurried) as server:
            few = await step(job(endpoint(server.url)), 4, duration_ns=60 * S)
            assert few.seqs() == [0, 1, 2, 3]
            many = await step(job(endpoint(server.url)), 100_000, duration_ns=S)
            assert 0 < len(many.samples) < 100_000

    run(scenario())


def test_the_start_is_waited_for() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            start = found.clock.now_ns() + 200 * MS
            ran = await found.step(range(4), requests=8, start_ns=start)
        assert due(ran.samples)[0] >= start

    run(scenario())


def test_a_request_belongs_to_the_phase_in_which_it_was_due() -> None:
    async def scenario() -> None:
        async with serving(unhurried) as server, lab(job(endpoint(server.url))) as found:
            start = found.clock.now_ns() + 500 * MS
            ran = await found.step(range(2), start_ns=start, warmup_ns=500 * MS, duration_ns=500 * MS)
            warm = await found.step(range(2), requests=4, step=1, warmup_ns=3600 * S)
        assert warm.planned == {"e/warmup": 4}
        border = start + 500 * MS
        assert all((sample.phase == "warmup") == (sample.due_ns < border) for sample in ran.samples)
        assert ran.planned.keys() == {"e/warmup", "e/measure"}
        assert late(ran.samples, border + 500 * MS) <= 2
        straddling = [one for one in ran.samples if one.due_ns < border <= (one.done_ns or 0)]
        assert {one.phase for one in straddling} <= {"warmup"}

    run(scenario())


def test_a_drain_awaits_what_is_in_flight() -> None:
    async def scenario() -> None:
        release = asyncio.Event()
        async with serving(answer_after(release)) as server, lab(job(endpoint(server.url))) as found:
            stepping = asyncio.create_task(found.step(range(3), requests=30))
            await until(lambda: len(server.calls) == 3)
            found.dispatcher.drain()
            await until(lambda: found.during() == [])
            release.set()
            ran = await stepping
        assert ran.outcomes() == {"ok": 3}

    run(scenario())


def test_a_cancel_ends_what_is_in_flight() -> None:
    async def scenario() -> None:
        async with serving(held) as server, lab(job(endpoint(server.url), drain_ns=600 * S)) as found:
            stepping = asyncio.create_task(found.step(range(3), requests=30))
            await until(lambda: len(server.calls) == 3)
            found.dispatcher.cancel()
            ran = await stepping
        assert ran.outcomes() == {"cancelled": 3}

    run(scenario())


def test_a_cancel_after_a_drain_still_cancels() -> None:
    async def scenario() -> None:
        async with serving(held) as server, lab(job(endpoint(server.url), drain_ns=600 * S)) as found:
            stepping = asyncio.create_task(found.step(range(2), requests=30))
            await until(lambda: len(server.calls) == 2)
            found.dispatcher.drain()
            await asyncio.sleep(0)
            found.dispatcher.cancel()
            assert (await stepping).outcomes() == {"cancelled": 2}

    run(scenario())


def test_thinking_is_cut_short_by_the_drain() -> None:
    """A think time of an hour, and the test ends."""

    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            stepping = asyncio.create_task(found.step(range(2), requests=30, think_ns=3600 * S))
            await until(lambda: len(found.during()) == 2)
            found.dispatcher.drain()
            assert (await stepping).outcomes() == {"ok": 2}

    run(scenario())


def test_thinking_is_cut_short_by_the_end_of_the_step() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server:
            what = job(endpoint(server.url), drain_ns=3600 * S)
            ran = await step(what, 30, range(2), think_ns=3600 * S, duration_ns=S)
        assert ran.outcomes() == {"ok": 2}

    run(scenario())


def test_a_slot_thinks_between_its_turns() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server:
            ran = await step(job(endpoint(server.url)), 4, think_ns=50 * MS)
        at = sorted(ran.samples, key=lambda one: one.seq)
        assert all(other.due_ns - (one.done_ns or 0) >= 45 * MS for one, other in pairwise(at))

    run(scenario())


# --- who stops it ----------------------------------------------------------------------------------------------------


def test_without_a_lease_nothing_new_is_begun() -> None:
    async def scenario() -> None:
        async with serving(unhurried) as server, lab(job(endpoint(server.url)), ends=False) as found:
            until_ns = found.clock.now_ns() + S
            stepping = asyncio.create_task(found.step(range(3), lease_ns=until_ns))
            await until(lambda: found.clock.now_ns() >= until_ns + 300 * MS)
            found.dispatcher.drain()
            ran = await stepping
        assert ran.outcomes().keys() == {"ok"}
        assert late(ran.samples, until_ns) <= 3
        assert ran.batches[-1].paused

    run(scenario())


def test_a_lease_that_comes_late_lets_all_slots_go_on() -> None:
    """The master was only stopped for a while: the load comes back whole, and the run says that it paused."""

    async def scenario() -> None:
        async with serving(unhurried) as server, lab(job(endpoint(server.url)), ends=False) as found:
            lapsed_ns = found.clock.now_ns() + S // 2
            stepping = asyncio.create_task(found.step(range(3), lease_ns=lapsed_ns))
            await until(lambda: found.clock.now_ns() >= lapsed_ns + 300 * MS)
            again_ns = found.clock.now_ns()
            found.dispatcher.renew_lease(again_ns + 60 * S)
            await until(lambda: found.clock.now_ns() >= again_ns + 300 * MS)
            found.dispatcher.drain()
            ran = await stepping
        assert late(ran.samples, lapsed_ns) - late(ran.samples, again_ns) <= 3
        assert {sample.slot for sample in ran.samples if sample.due_ns >= again_ns} == {0, 1, 2}
        assert ran.batches[-1].paused

    run(scenario())


def test_a_lease_that_is_renewed_goes_on() -> None:
    async def scenario() -> None:
        async with serving(unhurried) as server, lab(job(endpoint(server.url)), ends=False) as found:
            first_until_ns = found.clock.now_ns() + S
            stepping = asyncio.create_task(found.step([0], lease_ns=first_until_ns))
            while found.clock.now_ns() < first_until_ns + 200 * MS:
                found.dispatcher.renew_lease(found.clock.now_ns() + S)
                await asyncio.sleep(0.05)
            found.dispatcher.drain()
            ran = await stepping
        assert due(ran.samples)[-1] > first_until_ns

    run(scenario())


def test_a_lease_never_gets_shorter() -> None:
    """Orders may overtake one another; and one that was read late is worth no more than the moment it names."""
    clock = Clock(raw_ns())
    lease = Lease(clock)
    assert not lease.live
    lease.renew(3600 * S)
    lease.renew(S)
    lease.renew(0)
    assert lease.live
    late = Lease(Clock(raw_ns() - 10 * S))
    late.renew(9 * S)
    assert not late.live


def test_a_stopped_endpoint_gets_nothing_new_and_the_other_goes_on() -> None:
    async def scenario() -> None:
        async with serving(unhurried) as one, serving(unhurried) as other:
            what = job([endpoint(one.url, "a"), endpoint(other.url, "b")])
            async with lab(what) as found:
                stepping = asyncio.create_task(found.step(range(4), requests=60, stride=2))
                await until(lambda: len(one.calls) >= 4)
                found.dispatcher.stop_endpoint("a", "budget")
                sent = len(one.calls)
                found.dispatcher.stop_endpoint("a", "another reason")
                ran = await stepping
                assert ran.seqs("b") == list(range(60))
                assert len(one.calls) <= sent + 2
                assert len(ran.seqs("a")) == len(one.calls)
                assert ran.stopped == {"a": "budget"}
                later = await found.step(range(4), requests=5, stride=2, step=1)
                assert (later.seqs("a"), later.seqs("b")) == ([], list(range(5)))

    run(scenario())


NO_KEY = {"error": {"code": 400, "message": "API key not valid. Please pass a valid API key."}}
NO_MODEL = {"error": {"code": 400, "message": "m is not a valid model ID"}}


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        (reply(401), "auth_error", "credentials refused (HTTP 401) 3 times in a row"),
        (reply(400, NO_KEY), "invalid_request", "credentials refused (HTTP 400) 3 times in a row"),
        (reply(400, NO_MODEL), "invalid_request", "model unknown (HTTP 400) 3 times in a row"),
    ],
)
def test_a_key_or_a_model_that_is_refused_stops_the_endpoint(answer: bytes, outcome: str, reason: str) -> None:
    async def scenario() -> None:
        async with serving(lambda call: call.send(answer)) as server:
            ran = await step(job(endpoint(server.url)), 100_000, range(2))
        assert ran.outcomes().keys() == {outcome}
        assert 3 <= len(ran.samples) < 100_000
        assert ran.stopped == {"e": reason}

    run(scenario())


def test_requests_that_are_wrong_in_themselves_do_not_stop_the_endpoint() -> None:
    async def scenario() -> None:
        too_long = {"error": {"code": "context_length_exceeded", "message": "This model takes 8192 tokens."}}
        async with serving(lambda call: call.send(reply(400, too_long))) as server:
            ran = await step(job(endpoint(server.url)), 100, range(2))
        assert (len(ran.samples), ran.stopped) == (100, {})

    run(scenario())


def test_a_share_of_errors_is_judged_by_the_master_alone() -> None:
    """One engine may see only the errors of an endpoint that answers the others well."""

    async def scenario() -> None:
        async with serving(lambda call: call.send(reply(500))) as server:
            ran = await step(job(endpoint(server.url)), 100, range(2))
        assert (len(ran.samples), ran.stopped) == (100, {})

    run(scenario())


# --- slots come and go -----------------------------------------------------------------------------------------------


def test_a_slot_that_is_taken_away_ends_after_its_turn() -> None:
    async def scenario() -> None:
        async with serving(unhurried) as server, lab(job(endpoint(server.url))) as found:
            stepping = asyncio.create_task(found.step(range(4), requests=100))
            await until(lambda: len(server.calls) >= 12)
            found.give([0, 2])
            begun = {slot: loop_of(found)._begun[slot] for slot in (1, 3)}
            ran = await stepping
        kept = [seq for slot in (0, 2) for seq in range(slot, 100, 4)]
        ended = [slot + 4 * turn for slot in (1, 3) for turn in range(begun[slot])]
        assert ran.seqs() == sorted(kept + ended)
        assert ran.outcomes().keys() == {"ok"}

    run(scenario())


def test_a_slot_that_comes_starts_at_once_and_goes_on_where_it_was() -> None:
    async def scenario() -> None:
        async with serving(unhurried) as server, lab(job(endpoint(server.url))) as found:
            stepping = asyncio.create_task(found.step([0], requests=200, stride=4))
            await until(lambda: len(server.calls) >= 3)
            found.give([0, 1, 3])
            await until(lambda: {1, 3} <= loop_of(found)._begun.keys())
            found.give([0])
            await until(lambda: loop_of(found)._running.keys() == {0})
            found.give([0, 1, 2, 3])
            ran = await stepping
        assert ran.seqs() == list(range(200)), "no sequence number twice, none left out"

    run(scenario())


def test_slots_that_are_added_start_without_the_old_ones_ending() -> None:
    async def scenario() -> None:
        async with serving(held) as server, lab(job(endpoint(server.url))) as found:
            stepping = asyncio.create_task(found.step([0], requests=10, stride=3))
            await until(lambda: len(server.calls) == 1)
            found.give([0, 1, 2])
            await until(lambda: len(server.calls) == 3)
            found.dispatcher.cancel()
            assert (await stepping).outcomes() == {"cancelled": 3}

    run(scenario())


# --- batches ---------------------------------------------------------------------------------------------------------


def test_samples_travel_while_the_step_runs() -> None:
    async def scenario() -> None:
        async with serving(unhurried) as server, lab(job(endpoint(server.url))) as found:
            stepping = asyncio.create_task(found.step(range(3), requests=1_000_000))
            await until(lambda: sum(bool(batch.samples) for batch in found.batches) >= 2)
            found.dispatcher.drain()
            ran = await stepping
        early = [batch for batch in ran.batches if not batch.final]
        assert all(batch.in_flight <= 3 for batch in early)
        so_far = [sum(batch.planned.values()) for batch in ran.batches]
        assert so_far == sorted(so_far)
        assert so_far[-1] == len(ran.samples)
        assert any(batch.in_flight == 3 for batch in early)
        told = [one.key for batch in early for one in batch.samples if one.outcome == Outcome.LOST]
        assert len(told) == len(set(told)) > 0, "that it has begun is told once"
        assert all(batch.effort is not None and batch.effort.cpu_ns >= 0 for batch in ran.batches)

    run(scenario())


def test_an_outcome_is_text_in_a_sample() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server:
            ran = await step(job(endpoint(server.url)))
        assert ran.one.outcome == Outcome.OK == "ok"

    run(scenario())


def test_a_hundred_slots_leave_one_after_the_other() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            start = found.clock.now_ns()
            ran = await found.step(range(100), requests=100, start_ns=start)
        firsts = [sample.due_ns for sample in sorted(ran.samples, key=lambda one: one.slot)]
        assert len(firsts) == 100
        assert firsts == sorted(firsts)
        assert all(at >= start + slot * MS for slot, at in enumerate(firsts)), "a millisecond apart, none early"

    run(scenario())


# --- how a step ends -------------------------------------------------------------------------------------------------


def test_an_engine_that_is_idle_says_so_and_waits_for_more() -> None:
    """A lost worker's slots may still come: only the master knows when it is enough."""

    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url)), ends=False) as found:
            stepping = asyncio.create_task(found.step([0, 2], requests=30, stride=3))
            await until(lambda: found.batches and found.batches[-1].idle)
            assert (found.batches[-1].version, len(found.during())) == (0, 20)
            found.give([0, 1, 2], version=7)
            await until(lambda: found.batches[-1].idle and found.batches[-1].version == 7)
            assert not stepping.done()
            found.dispatcher.drain()
            ran = await stepping
        assert ran.seqs() == list(range(30))

    run(scenario())


def test_an_engine_without_slots_is_idle() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            assert (await found.step([], requests=5)).samples == []
            assert server.calls == []

    run(scenario())


def test_a_slot_of_another_generation_sends_what_is_left_of_a_lost_one() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            stepping = asyncio.create_task(found.step([0], requests=20, stride=2))
            await until(lambda: server.calls)
            found.dispatcher.set_slots(Slots([Slot(0, 0, 10), Slot(1, GENERATION + 1, 4)], 1))
            ran = await stepping
        assert ran.seqs() == [*range(0, 20, 2), *(GENERATION + 1 + 2 * turn for turn in range(4))]

    run(scenario())


def test_endpoints_take_turns() -> None:
    """Two endpoints, half a second each: neither is loaded in the other's time, and the warm-up is of its own time."""

    async def scenario() -> None:
        async with serving(unhurried) as server, lab(job([endpoint(server.url, n) for n in "ab"])) as found:
            start = found.clock.now_ns() + 50 * MS
            ran = await found.step(
                range(4), stride=2, start_ns=start, slice_ns=200 * MS, warmup_ns=200 * MS, duration_ns=200 * MS
            )
        for place, name in enumerate("ab"):
            at = ran.due(name).values()
            turns = Counter(when // (200 * MS) for when in at)
            others = sum(count for turn, count in turns.items() if turn % 2 != place)
            assert others <= 2 * 2, "a slot looks at the clock right before it begins"
            assert {place, place + 2} & turns.keys()
            warm = {one.phase for one in ran.samples if one.endpoint == name and ran.due(name)[one.seq] < 400 * MS}
            assert warm <= {"warmup"}

    run(scenario())
