"""Tool loops: calls go back with their results after the tools' time, until an answer calls none."""

import asyncio
import json
from collections import defaultdict
from itertools import pairwise
from typing import Any

import pytest
from engine_kit import MS, S, endpoint, job, lab, opened, run, until
from servers import CHUNKED, DONE, LAST_CHUNK, Call, Script, answer_well, chunk, event, reply, serving, sse

from latbench.model.frames import Job
from latbench.model.load import Poisson, Step, ToolLoop
from latbench.model.request import Tool
from latbench.model.sample import Outcome, Sample
from latbench.plan.arrivals import arrivals

QUICK, SLOW = Tool("quick", "", {"type": "object"}, "q", 20 * MS), Tool("slow", "", {"type": "object"}, "s", 60 * MS)
TOOLS = (QUICK, SLOW)


def rounds(call: Call) -> int:
    """How many turns of the conversation called tools already."""
    return sum("tool_calls" in message for message in json.loads(call.body)["messages"])


def calling(*names: str, finish: str = "tool_calls") -> list[bytes]:
    calls = [
        {"index": index, "id": f"id-{index}", "function": {"name": name, "arguments": "{}"}}
        for index, name in enumerate(names)
    ]
    delta = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"tool_calls": calls}}]}
    return [CHUNKED, chunk(sse(delta)), chunk(event(finish=finish)) + chunk(DONE) + LAST_CHUNK]


def after(count: int, *names: str) -> Script:
    """Calls those tools in so many turns, then answers."""

    async def script(call: Call) -> None:
        if rounds(call) < count:
            await call.send(*calling(*names))
        else:
            await answer_well(call)

    return script


def load(loops: int, *, parallel: bool = True, most: int = 5, **more: Any) -> Step:
    return Step(ToolLoop(50.0, most, parallel), loops, **more)


def looping(url: str, **changes: Any) -> Job:
    return job(endpoint(url), **({"tools": TOOLS} | changes))


def by_loop(samples: list[Sample], most: int = 5) -> list[list[Sample]]:
    found: dict[int, list[Sample]] = defaultdict(list)
    for one in sorted(samples, key=lambda one: one.seq):
        found[one.seq // most].append(one)
    return [found[number] for number in sorted(found)]


@pytest.mark.parametrize(("parallel", "waited"), [(True, 60 * MS), (False, 80 * MS)])
def test_a_round_trip_follows_when_the_tools_are_done(parallel: bool, waited: int) -> None:
    async def scenario() -> None:
        async with serving(after(2, "quick", "slow")) as server, lab(looping(server.url)) as found:
            start = found.clock.now_ns() + 20 * MS
            ran = await found.load(load(4, parallel=parallel), start_ns=start)
        assert ran.outcomes() == {"ok": 12}
        planned = arrivals(load(4), 3, 0).tolist()
        for number, samples in enumerate(by_loop(ran.samples)):
            assert [one.seq for one in samples] == [number * 5, number * 5 + 1, number * 5 + 2]
            assert samples[0].due_ns - start == planned[number]
            assert [one.tool_calls for one in samples] == [2, 2, 0]
            assert [one.tools_parallel_ns for one in samples] == [60 * MS, 60 * MS, None]
            assert [one.tools_sequential_ns for one in samples] == [80 * MS, 80 * MS, None]
            for one, other in pairwise(samples):
                assert other.due_ns == other.sent_ns
                assert other.due_ns - (one.done_ns or 0) >= waited
            assert len({(one.prompt_id, one.nonce, one.slot) for one in samples}) == 1

    run(scenario())


def test_the_conversation_carries_calls_and_results_and_always_offers_the_tools() -> None:
    async def scenario() -> None:
        async with serving(after(2, "quick", "nothing")) as server:
            ran = await opened(looping(server.url), load(1))
            bodies = [json.loads(call.body) for call in server.calls]
        opening = f"[{ran.samples[0].nonce}]\nquestion {ran.samples[0].prompt_id[1:]}"
        said: list[dict[str, Any]] = [{"role": "user", "content": opening}]
        for body in bodies:
            assert body["messages"] == said
            assert [tool["function"]["name"] for tool in body["tools"]] == ["quick", "slow"]
            calls = [
                {"id": f"id-{index}", "type": "function", "function": {"name": name, "arguments": "{}"}}
                for index, name in enumerate(("quick", "nothing"))
            ]
            said.append({"role": "assistant", "content": None, "tool_calls": calls})
            said.append({"role": "tool", "tool_call_id": "id-0", "content": "q"})
            said.append({"role": "tool", "tool_call_id": "id-1", "content": "There is no such tool."})
        assert len(bodies) == 3

    run(scenario())


def test_a_loop_is_given_up_after_so_many_round_trips() -> None:
    async def scenario() -> None:
        async with serving(after(99, "quick")) as server:
            ran = await opened(looping(server.url), load(3, most=2))
            assert ran.seqs() == list(range(6))
            assert len(server.calls) == 6
        assert {one.tools_parallel_ns for one in ran.samples} == {20 * MS}

    run(scenario())


async def fails_later(call: Call) -> None:
    await call.send(*(calling("quick") if rounds(call) < 1 else [reply(500)]))


async def is_cut_off(call: Call) -> None:
    await call.send(*calling("quick", finish="length"))


@pytest.mark.parametrize(
    ("script", "outcomes"),
    [(fails_later, ["ok", "http_error"]), (is_cut_off, ["ok"]), (answer_well, ["ok"])],
)
def test_a_loop_ends_with_what_cannot_go_on(script: Script, outcomes: list[str]) -> None:
    async def scenario() -> None:
        async with serving(script) as server:
            ran = await opened(looping(server.url), load(3))
        for samples in by_loop(ran.samples):
            assert [one.outcome for one in samples] == outcomes
        if script is is_cut_off:
            assert {(one.tool_calls, one.tools_sequential_ns) for one in ran.samples} == {(1, None)}

    run(scenario())


def test_a_drain_does_not_wait_for_the_tools() -> None:
    """Tools that take an hour, and the test ends."""

    async def scenario() -> None:
        tools = (Tool("quick", "", {"type": "object"}, "q", 3600 * S),)
        async with serving(after(9, "quick")) as server, lab(looping(server.url, tools=tools)) as found:
            loading = asyncio.create_task(found.load(load(4)))
            await until(lambda: len(found.during()) == 4)
            found.dispatcher.drain()
            assert (await loading).seqs() == [0, 5, 10, 15]

    run(scenario())


@pytest.mark.parametrize("stream", [True, False])
def test_plain_answers_loop_as_well(stream: bool) -> None:
    async def script(call: Call) -> None:
        message: dict[str, Any] = {"content": "done"}
        if not rounds(call):
            message = {"tool_calls": [{"id": "a", "function": {"name": "quick", "arguments": "{}"}}]}
        finish = "stop" if rounds(call) else "tool_calls"
        choice = {"index": 0, "message": message, "finish_reason": finish}
        await call.send(reply(200, {"object": "chat.completion", "choices": [choice]}))

    async def scenario() -> None:
        chosen = after(1, "quick") if stream else script
        async with serving(chosen) as server:
            ran = await opened(job(endpoint(server.url, stream=stream), tools=TOOLS), load(2))
        assert [[one.tool_calls for one in samples] for samples in by_loop(ran.samples)] == [[1, 0], [1, 0]]

    run(scenario())


def test_a_loop_waits_for_its_endpoints_turn() -> None:
    """Two endpoints in turns of 200 ms, tools that take 60: a round trip begins in a turn of its own endpoint."""

    async def scenario() -> None:
        async with (
            serving(after(3, "slow")) as server,
            lab(job([endpoint(server.url, "a"), endpoint(server.url, "b")], tools=TOOLS)) as found,
        ):
            start = found.clock.now_ns() + 20 * MS
            ran = await found.load(load(2, slice_ns=200 * MS), start_ns=start)
        assert ran.outcomes() == {"ok": 16}
        for one in ran.samples:
            turn = (one.due_ns - start) // (200 * MS) % 2
            assert "ab"[turn] == one.endpoint

    run(scenario())


def test_other_steps_of_the_run_offer_no_tools() -> None:
    async def scenario() -> None:
        async with serving(after(1, "quick")) as server:
            ran = await opened(looping(server.url), Step(Poisson(50.0), 3))
            assert all("tools" not in json.loads(call.body) for call in server.calls)
        assert ran.outcomes() == {Outcome.OK: 3}
        assert {(one.tool_calls, one.tools_parallel_ns) for one in ran.samples} == {(1, None)}

    run(scenario())
