"""Conversations: each turn carries the earlier ones and the answers that really came; the first failure is the end."""

import asyncio
import json
from collections import defaultdict
from hashlib import sha256
from itertools import pairwise
from typing import Any

import pytest
from engine_kit import MS, S, endpoint, job, lab, opened, prompts, run, until
from servers import CHUNKED, DONE, LAST_CHUNK, Call, answer_well, chunk, event, reply, serving, usage

from latbench.model.frames import Job
from latbench.model.load import Sessions, Step
from latbench.model.request import Message, Prompt
from latbench.model.sample import Sample
from latbench.plan.arrivals import arrivals
from latbench.plan.draw import nonce


def said(call: Call) -> list[tuple[str, str]]:
    body: dict[str, Any] = json.loads(call.body)
    return [(one["role"], one["content"]) for one in body["messages"]]


def answer(number: int) -> str:
    return f'answer {number} \u00e9\n"x"'


async def answer_by_number(call: Call) -> None:
    """Every answer is another one, in two pieces."""
    text = answer(call.number)
    pieces = [chunk(event(text[:8])), chunk(event(text[8:]))]
    await call.send(CHUNKED, *pieces, chunk(event(finish="stop")) + chunk(usage(4)) + chunk(DONE) + LAST_CHUNK)


def load(turns: int, sessions: int, **more: Any) -> Step:
    return Step(Sessions(50.0, turns, **more), sessions)


def by_session(samples: list[Sample], turns: int) -> dict[int, list[Sample]]:
    found: dict[int, list[Sample]] = defaultdict(list)
    for one in sorted(samples, key=lambda one: one.seq):
        found[one.seq // turns].append(one)
    return found


@pytest.mark.parametrize("cold", [True, False])
def test_each_turn_carries_the_earlier_ones_and_the_real_answers(cold: bool) -> None:
    texts = {f"p{n}": f"question {n}" for n in range(5)}

    async def scenario() -> None:
        async with serving(answer_by_number) as server, lab(job(endpoint(server.url), cold=cold)) as found:
            start = found.clock.now_ns() + 20 * MS
            ran = await found.load(load(4, 6), start_ns=start)
            assert ran.outcomes() == {"ok": 24}
            assert ran.seqs() == list(range(24))
            whole = {call.number: said(call) for call in server.calls}
        numbers = {sha256(answer(number).encode()).hexdigest(): number for number in whole}
        planned = arrivals(load(4, 6), 3, 0).tolist()
        for session, samples in by_session(ran.samples, 4).items():
            assert samples[0].due_ns - start == planned[session]
            mark = nonce("run-1", "e", 0, session * 4) if cold else ""
            assert {one.nonce for one in samples} == {mark}, "the first turn's opens the whole conversation"
            opening = f"[{mark}]\n" if cold else ""
            talk: list[tuple[str, str]] = []
            for turn, sample in enumerate(samples):
                talk.append(("user", ("" if turn else opening) + texts[sample.prompt_id]))
                number = numbers[sample.text_sha256]
                assert whole.pop(number) == talk
                talk.append(("assistant", answer(number)))
            for one, other in pairwise(samples):
                assert (one.done_ns or 0) <= other.due_ns == other.sent_ns, "a turn is due when it begins"
            assert len({one.slot for one in samples}) == 1
        assert whole == {}

    run(scenario())


def test_system_messages_come_once() -> None:
    both = (Message("system", "be brief"), Message("user", "go on"))
    what = [Prompt("p", "search", "go", both, 2, "0" * 64)]

    async def scenario() -> None:
        async with serving(answer_well) as server:
            await opened(job(endpoint(server.url), prompts=what, cold=False), load(3, 1))
            roles = [[role for role, _ in said(call)] for call in server.calls]
        assert roles == [["system", *["user", "assistant"] * turn, "user"] for turn in range(3)]

    run(scenario())


def test_a_turn_that_fails_ends_its_session_and_no_other() -> None:
    async def script(call: Call) -> None:
        if len(said(call)) == 3 and call.body.count(b"question 1"):
            await call.send(reply(500))
        else:
            await answer_well(call)

    async def scenario() -> None:
        async with serving(script) as server:
            ran = await opened(job(endpoint(server.url)), load(3, 20))
        ended = 0
        for samples in by_session(ran.samples, 3).values():
            failed = "p1" in {one.prompt_id for one in samples[:2]}
            assert [one.outcome for one in samples] == (["ok", "http_error"] if failed else ["ok"] * 3)
            ended += failed
        assert 0 < ended < 20
        assert len(server.calls) == len(ran.samples)

    run(scenario())


def test_a_session_thinks_between_its_turns_and_its_end_is_awaited() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server:
            ran = await opened(job(endpoint(server.url)), load(3, 3, think_ns=60 * MS))
        assert ran.outcomes() == {"ok": 9}
        for samples in by_session(ran.samples, 3).values():
            for one, other in pairwise(samples):
                assert other.due_ns - (one.done_ns or 0) >= 55 * MS

    run(scenario())


def test_a_drain_ends_sessions_after_the_turn_that_is_under_way() -> None:
    """A think time of an hour, and the test ends."""

    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            loading = asyncio.create_task(found.load(load(3, 4, think_ns=3600 * S)))
            await until(lambda: len(found.during()) == 4)
            found.dispatcher.drain()
            assert (await loading).seqs() == [0, 3, 6, 9]

    run(scenario())


def test_a_session_waits_for_the_lease_between_its_turns() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            until_ns = found.clock.now_ns() + S
            loading = asyncio.create_task(found.load(load(2, 2, think_ns=S), lease_ns=until_ns))
            await until(lambda: found.dispatcher._flight.paused)
            assert len(server.calls) == 2
            again = found.clock.now_ns()
            found.dispatcher.renew_lease(again + 60 * S)
            ran = await loading
        assert ran.outcomes() == {"ok": 4}
        assert all(one.due_ns >= again for one in ran.samples if one.seq % 2)
        assert ran.batches[-1].paused

    run(scenario())


def test_a_stopped_endpoint_ends_its_sessions() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            loading = asyncio.create_task(found.load(load(5, 3, think_ns=100 * MS)))
            await until(lambda: len(found.during()) >= 3)
            found.dispatcher.stop_endpoint("e", "budget")
            ran = await loading
            assert len(ran.samples) == len(server.calls) < 15

    run(scenario())


def test_the_cap_drops_sessions_and_never_a_turn() -> None:
    """One that was let in goes on to its end; while it thinks, another may begin."""

    async def script(call: Call) -> None:
        await asyncio.sleep(0.1)
        await answer_well(call)

    async def scenario() -> None:
        async with serving(script) as server:
            ran = await opened(job(endpoint(server.url)), load(3, 30), cap=2)
        for samples in by_session(ran.samples, 3).values():
            assert [one.outcome for one in samples] in (["dropped"], ["ok"] * 3)
        assert ran.outcomes()["dropped"] > 0

    run(scenario())


def test_a_session_keeps_to_one_key() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server:
            to = endpoint(server.url, api_key_env=("K1", "K2"))
            what: Job = job(to, prompts=prompts())
            async with lab(what, environ={"K1": "one", "K2": "two"}) as found:
                await found.load(load(3, 8))
            keys: dict[str, set[str | None]] = defaultdict(set)
            for call in server.calls:
                keys[said(call)[0][1].partition("]")[0]].add(call.header("authorization"))
        assert len(keys) == 8
        assert sorted(len(found) for found in keys.values()) == [1] * 8
        assert {key for found in keys.values() for key in found} == {"Bearer one", "Bearer two"}

    run(scenario())
