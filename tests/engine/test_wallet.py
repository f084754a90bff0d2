"""The engine's part of the budget: nothing leaves that was not granted, and who waits does not wait for ever."""

import asyncio
from typing import Any

import pytest
from engine_kit import MS, Lab, S, endpoint, job, lab, run, until
from servers import answer_well, held, serving

from latbench.engine.openloop import OpenLoop
from latbench.model.frames import Grant, Job, Recall
from latbench.model.load import Constant, Sessions, Step
from latbench.plan.budget import TEMPLATE_TOKENS, UNLIMITED

MUCH = (UNLIMITED, UNLIMITED, UNLIMITED)


def budgeted(*urls: str, **changes: Any) -> Job:
    return job([endpoint(url, name) for name, url in zip("ab", urls, strict=False)], budgeted=True, **changes)


def waits(found: Lab) -> bool:
    return bool(found.spending) and found.spending[-1].want is not None


def open_step(found: Lab, count: int = 20, **more: Any) -> "asyncio.Task[Any]":
    return asyncio.create_task(found.load(Step(Constant(200.0), count), **more))


@pytest.mark.parametrize("shape", ["closed", "open", "sessions"])
def test_nothing_is_sent_without_a_grant_and_no_more_than_it_covers(shape: str) -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, lab(budgeted(server.url), ends=False) as found:
            if shape == "closed":
                work = found.step(range(4), requests=20)
            else:
                load = Step(Constant(200.0), 20) if shape == "open" else Step(Sessions(200.0, 2), 10)
                work = found.load(load)
            stepping = asyncio.create_task(work)
            await until(lambda: waits(found))
            assert server.calls == []
            assert found.spending[-1].grant == (0, 0, 0)
            for total, version in ((3, 1), (3, 1), (7, 3), (5, 2)):  # said twice, and overtaken
                found.dispatcher.wallet.obey(Grant((total, UNLIMITED, UNLIMITED), version))
            await until(lambda: len(server.calls) == 7)
            await until(lambda: waits(found) and found.spending[-1].reserved[0] == 7)
            await until(lambda: found.spending[-1].held == (0, 0, 0))
            last = found.spending[-1]
            assert (last.version, last.grant[0], last.reserved[0]) == (3, 7, 7)
            assert last.want is not None
            assert last.want[0] == 1
            loop = found.dispatcher._loop
            await until(lambda: not isinstance(loop, OpenLoop) or loop._fired_all.is_set())
            found.dispatcher.drain()
            ran = await stepping
            assert len(server.calls) == 7
        assert ran.outcomes()["ok"] == 7
        assert ran.outcomes().keys() <= {"ok", "dropped"}
        assert shape != "closed" or len(ran.samples) == 7, "a turn that may not be sent is not begun"
        assert shape != "open" or ran.seqs("a") == list(range(20)), "an arrival is dropped"
        assert found.spending[-1].want is None

    run(scenario())


def test_the_worst_case_is_reserved_and_what_was_taken_is_settled() -> None:
    async def scenario() -> None:
        prices = {"a": {"input": 2.0, "output": 10.0}}
        async with serving(held) as server, lab(budgeted(server.url, prices=prices), ends=False) as found:
            found.dispatcher.wallet.obey(Grant(MUCH, 1))
            stepping = asyncio.create_task(found.step([0], requests=1))
            await until(lambda: found.spending[-1].held[0] == 1)
            await until(lambda: len(server.calls) == 1)
            tokens = len(server.calls[0].body) + TEMPLATE_TOKENS
            assert found.spending[-1].held == (1, tokens + 64, tokens * 2000 + 64 * 10_000)
            found.dispatcher.cancel()
            await stepping
            assert found.spending[-1].held == (0, 0, 0)
            assert found.spending[-1].reserved == (1, tokens + 64, tokens * 2000 + 64 * 10_000), "it may be billed"
        async with serving(answer_well) as server, lab(budgeted(server.url, prices=prices)) as found:
            found.dispatcher.wallet.obey(Grant(MUCH, 1))
            await found.step([0], requests=2)
            assert found.spending[-1].reserved == (2, 2 * (5 + 3), 2 * (5 * 2000 + 3 * 10_000))

    run(scenario())


def test_what_is_recalled_is_given_back_but_for_what_is_reserved() -> None:
    async def scenario() -> None:
        async with serving(held) as server, lab(budgeted(server.url), ends=False) as found:
            found.dispatcher.wallet.obey(Grant((10, UNLIMITED, UNLIMITED), 1))
            stepping = asyncio.create_task(found.step(range(2), requests=20))
            await until(lambda: len(server.calls) == 2)
            found.dispatcher.wallet.obey(Recall(2))
            assert (found.spending[-1].version, found.spending[-1].grant) == (2, (2, UNLIMITED, UNLIMITED))
            found.dispatcher.cancel()
            await stepping
            assert len(server.calls) == 2

    run(scenario())


def test_a_stopped_endpoint_does_not_keep_the_other_waiting() -> None:
    """The first in the queue waits for more than there is, and then may not be sent any more."""

    async def scenario() -> None:
        async with serving(answer_well) as one, serving(answer_well) as other:
            prices = {"a": {"input": 100.0, "output": 100.0}}  # b costs nothing
            async with lab(budgeted(one.url, other.url, prices=prices)) as found:
                found.dispatcher.wallet.obey(Grant((UNLIMITED, UNLIMITED, 0), 1))
                stepping = asyncio.create_task(found.step(range(4), requests=10, stride=2))
                await until(lambda: waits(found))
                found.dispatcher.stop_endpoint("a", "enough")
                ran = await stepping
            assert one.calls == []
            assert ran.seqs("b") == list(range(10))
            assert ran.seqs("a") == []

    run(scenario())


def test_a_lease_that_ends_while_a_request_waits_for_money() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, lab(budgeted(server.url)) as found:
            until_ns = found.clock.now_ns() + 2 * S
            loading = open_step(found, 20, lease_ns=until_ns)
            await until(lambda: waits(found) and found.clock.now_ns() > until_ns)
            found.dispatcher.wallet.obey(Grant(MUCH, 1))
            ran = await loading
            assert server.calls == []
        assert ran.outcomes() == {"dropped": 20}
        assert {one.error_message for one in ran.samples} == {"the worker had lost its master"}
        assert found.spending[-1].want is None

    run(scenario())


def test_a_turn_that_waited_for_money_goes_on_when_there_is_a_lease_again() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, lab(budgeted(server.url)) as found:
            until_ns = found.clock.now_ns() + 300 * MS
            stepping = asyncio.create_task(found.step(range(3), requests=6, lease_ns=until_ns))
            await until(lambda: found.clock.now_ns() > until_ns)
            found.dispatcher.wallet.obey(Grant(MUCH, 1))
            await until(lambda: found.spending[-1].want is None)
            await until(lambda: found.batches and found.batches[-1].paused)
            assert server.calls == []
            found.dispatcher.renew_lease(found.clock.now_ns() + 60 * S)
            assert (await stepping).seqs("a") == list(range(6))

    run(scenario())


def test_what_waited_for_money_leaves_late_and_keeps_its_moment() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, lab(budgeted(server.url)) as found:
            loading = open_step(found, 10)
            await until(lambda: found.clock.now_ns() > 0 and waits(found))
            granted_ns = found.clock.now_ns()
            found.dispatcher.wallet.obey(Grant(MUCH, 1))
            ran = await loading
        assert ran.outcomes() == {"ok": 10}
        assert ran.due("a") == {n: n * 5 * MS for n in range(10)}
        assert min(one.sent_ns or 0 for one in ran.samples) >= granted_ns

    run(scenario())


def test_without_a_budget_the_master_hears_nothing_of_one() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            assert (await found.step(range(2), requests=5)).outcomes() == {"ok": 5}
            assert found.spending == []

    run(scenario())


def test_who_asked_first_is_served_first() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, lab(budgeted(server.url), ends=False) as found:
            loading = open_step(found, 8)
            await until(lambda: waits(found) and found.clock.now_ns() > 60 * MS)
            for count in range(1, 5):
                found.dispatcher.wallet.obey(Grant((count, UNLIMITED, UNLIMITED), count))
                await until(lambda count=count: len(server.calls) == count)
            found.dispatcher.drain()
            ran = await loading
        assert sorted(one.seq for one in ran.samples if one.outcome == "ok") == [0, 1, 2, 3]

    run(scenario())
