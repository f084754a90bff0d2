"""Servers that announce keep-alive and close all the same: a reused connection may break, and nobody is to blame."""

import asyncio
from collections import Counter

import pytest
from engine_kit import MS, QUICK, Make, endpoint, job, lab, run, step, until
from servers import Call, answer_well, good, serving

from latbench.engine.clock import raw_ns
from latbench.engine.stamped import StampedTransport


def nonces(calls: list[Call]) -> Counter[str]:
    """How often each request came, by the mark that opens it."""
    return Counter(call.body.decode().partition('"[')[2][:16] for call in calls)


@pytest.mark.parametrize("how", ["hang up", "reset"])
def test_closed_when_the_next_request_comes(how: str, make: Make) -> None:
    """The worst moment: the request has been sent and read before the connection ends without a byte."""
    closed_at: dict[str, int] = {}

    async def script(call: Call) -> None:
        if call.nth_on_connection == 0:
            await answer_well(call)
            return
        await asyncio.sleep(0.03)
        closed_at[call.body.decode().partition('"[')[2][:16]] = raw_ns()
        call.reset() if how == "reset" else await call.hang_up()

    async def scenario() -> None:
        async with serving(script) as server:
            ran = await step(job(endpoint(server.url)), requests=6, make=make)
        assert ran.outcomes() == {"ok": 6}
        assert [sample.reconnects for sample in sorted(ran.samples, key=lambda one: one.seq)] == [0, 1, 0, 1, 0, 1]
        assert [sample.chunks for sample in ran.samples] == [3] * 6
        sent_twice = {sample.nonce for sample in ran.samples if sample.reconnects}
        assert nonces(server.calls) == {sample.nonce: 1 + (sample.nonce in sent_twice) for sample in ran.samples}
        assert sent_twice == closed_at.keys()
        for sample in ran.samples:
            assert sample.sent_ns == sample.due_ns, "a closed loop has no schedule to be late for"
            assert sample.new_connection
            if sample.reconnects:
                assert sample.sent_ns + ran.origin_ns >= closed_at[sample.nonce], "the second attempt's"

    run(scenario())


@pytest.mark.parametrize("delay_ms", [0, 1, 3, 10])
@pytest.mark.parametrize("how", ["hang up", "reset"])
def test_closed_some_time_after_the_answer(how: str, delay_ms: int, make: Make) -> None:
    """Whatever moment it hits: every request is `ok`, and answered once."""
    answered: Counter[str] = Counter()

    async def script(call: Call) -> None:
        if call.nth_on_connection:
            await call.hold()
            return
        await answer_well(call)
        answered.update(nonces([call]))

        async def later() -> None:
            await asyncio.sleep(delay_ms / 1000)
            call.reset() if how == "reset" else await call.hang_up()

        closing.append(asyncio.create_task(later()))

    closing: list[asyncio.Task[None]] = []

    async def scenario() -> None:
        async with serving(script) as server:
            ran = await step(job(endpoint(server.url)), requests=30, slots=range(3), make=make)
            await asyncio.gather(*closing)
        assert ran.outcomes() == {"ok": 30}
        assert answered == {sample.nonce: 1 for sample in ran.samples}
        sent = nonces(server.calls)
        assert all(sent[sample.nonce] <= 1 + sample.reconnects for sample in ran.samples)

    run(scenario())


def test_broken_again_on_the_fresh_connection(make: Make) -> None:
    async def script(call: Call) -> None:
        if call.number == 0:
            await answer_well(call)
        else:
            await call.hang_up()

    async def scenario() -> None:
        async with serving(script) as server:
            ran = await step(job(endpoint(server.url)), requests=2, make=make)
            first, second = sorted(ran.samples, key=lambda one: one.seq)
            assert (first.outcome, second.outcome, second.reconnects) == ("ok", "connect_error", 1)
            assert nonces(server.calls) == {first.nonce: 1, second.nonce: 2}, "once again, not for ever"

    run(scenario())


@pytest.mark.parametrize("said", [b"H", b"HTTP/1.1 200 OK\r\nContent-Le", good()[0]], ids=["byte", "half", "head"])
@pytest.mark.parametrize("how", ["hang up", "reset"])
def test_after_a_byte_of_an_answer_nothing_is_sent_again(said: bytes, how: str) -> None:
    async def script(call: Call) -> None:
        if call.number == 0:
            await answer_well(call)
            return
        await call.send(said)
        await asyncio.sleep(0.03)  # a reset overtakes what has not been read
        call.reset() if how == "reset" else await call.hang_up()

    async def scenario() -> None:
        async with serving(script) as server:
            ran = await step(job(endpoint(server.url)), requests=2)
            first, second = sorted(ran.samples, key=lambda one: one.seq)
            assert (first.outcome, second.outcome, second.reconnects) == ("ok", "truncated", 0)
            assert nonces(server.calls) == {first.nonce: 1, second.nonce: 1}

    run(scenario())


def test_a_new_connection_that_breaks_is_not_tried_again(make: Make) -> None:
    async def script(call: Call) -> None:
        await call.hang_up()

    async def scenario() -> None:
        async with serving(script) as server:
            ran = await step(job(endpoint(server.url)), requests=3, make=make)
            assert ran.outcomes() == {"connect_error": 3}
            assert len(server.calls) == 3

    run(scenario())


def test_a_server_that_keeps_its_word_is_asked_on_one_connection(make: Make) -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server:
            ran = await step(job(endpoint(server.url)), requests=10, make=make)
            assert server.connections == 1
        first, *rest = sorted(ran.samples, key=lambda one: one.seq)
        assert first.new_connection
        assert not any(sample.new_connection or sample.reconnects for sample in rest)

    run(scenario())


def test_connections_opened_ahead_are_the_ones_that_are_used() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            assert await found.open(range(70)) == {}
            await until(lambda: server.connections == 70)
            assert server.calls == []
            ran = await found.step(range(70), requests=70)
            assert ran.outcomes() == {"ok": 70}
            assert server.connections == 70
            again = await found.step(range(70), requests=140, step=1)
            assert again.outcomes() == {"ok": 140}
            assert server.connections == 70

    run(scenario())


def test_a_connection_opened_ahead_that_the_server_has_closed_is_replaced() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            assert await found.open([0]) == {}
            await until(lambda: server._tasks)
            for task in list(server._tasks):
                task.cancel()
            await until(lambda: not server._tasks)
            (pool,) = (transport._pool for transport in found.transports[0] if isinstance(transport, StampedTransport))
            await until(lambda: not any(one.is_connected() for conns in pool._conns.values() for one, _ in conns))
            ran = await found.step([0], requests=1)
            assert ran.one.outcome == "ok"
            assert server.connections == 2

    run(scenario())


def test_a_drain_between_the_attempts_still_gives_an_outcome() -> None:
    async def script(call: Call) -> None:
        if call.number == 0:
            await answer_well(call)
        elif call.nth_on_connection:
            await call.hang_up()
        else:
            await call.hold()

    async def scenario() -> None:
        async with serving(script) as server, lab(job(endpoint(server.url), drain_ns=50 * MS)) as found:
            stepping = asyncio.create_task(found.step([0], requests=5))
            await until(lambda: len(server.calls) == 3)
            found.dispatcher.drain()
            ran = await stepping
        assert ran.outcomes() == {"ok": 1, "cancelled": 1}
        assert {sample.reconnects for sample in ran.samples if sample.outcome == "cancelled"} == {1}

    run(scenario())


@pytest.mark.parametrize("late", [b"", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_what_was_given_up_before_its_answer_leaves_no_connection_behind(late: bytes, make: Make) -> None:
    """Its answer may still come: on a connection that was used again, it would be taken for the next one's."""

    async def script(call: Call) -> None:
        if call.number:
            await answer_well(call)
        else:
            await call.send(late)
            await call.hold()

    async def scenario() -> None:
        async with serving(script) as server:
            ran = await step(job(endpoint(server.url), timeouts=QUICK), requests=2, make=make)
        assert ran.outcomes() == {"timeout": 1, "ok": 1}
        assert [(call.connection, call.nth_on_connection) for call in server.calls] == [(0, 0), (1, 0)]

    run(scenario())
