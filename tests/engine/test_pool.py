"""Connections between two requests: which one is used again, which one never is, and that none is left behind."""

import asyncio
import gc
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from engine_kit import endpoint, run, until
from servers import (
    CHUNKED,
    DONE,
    LAST_CHUNK,
    Call,
    Script,
    Server,
    answer_after,
    answer_well,
    chunk,
    good,
    reply,
    serving,
)

from latbench.engine import stamped
from latbench.engine.credentials import targets
from latbench.engine.reads import Reads
from latbench.engine.stamped import StampedTransport
from latbench.engine.transport import Post

POST = Post("/chat/completions", b'{"stream": true}')
WHOLE = b"".join(good())


def made(server: Server) -> StampedTransport:
    (target,) = targets(endpoint(server.url), 5.0, {})
    return StampedTransport(target)


@asynccontextmanager
async def pool(script: Script) -> AsyncIterator[tuple[Server, StampedTransport]]:
    """A server, and connections to it that are closed at the end."""
    async with serving(script) as server:
        transport = made(server)
        yield server, transport
        await transport.close()


async def asked(transport: StampedTransport, *, fresh: bool = False) -> Reads:
    """One request, answered whole."""
    reads = Reads()
    await transport.exchange(POST, reads, fresh=fresh)
    assert reads.head is not None
    assert reads.head.status == 200
    return reads


async def crowd(server: Server, transport: StampedTransport, release: asyncio.Event) -> None:
    """Three requests at once, each on a connection of its own."""
    three = [asyncio.create_task(asked(transport)) for _ in range(3)]
    await until(lambda: len(server.calls) == 3)
    release.set()
    await asyncio.gather(*three)


def grow_old(transport: StampedTransport, number: int) -> None:
    """As if that idle connection had been let go as long ago as one is kept."""
    connection, since_ns = transport._idle[number]
    transport._idle[number] = (connection, since_ns - stamped._KEPT_NS)


def connected(transport: StampedTransport) -> list[bool]:
    protocols = [connection.protocol for connection, _ in transport._idle]
    return [protocol is not None and protocol.is_connected() for protocol in protocols]


def places(server: Server) -> list[tuple[int, int]]:
    """On which connection each request came, and as which one there."""
    return [(call.connection, call.nth_on_connection) for call in server.calls]


@pytest.mark.parametrize("answer", [WHOLE, reply(200, b"{}")], ids=["in chunks", "with a length"])
def test_a_connection_is_used_again(answer: bytes) -> None:
    async def scenario() -> None:
        async with pool(lambda call: call.send(answer)) as (server, transport):
            new = [(await asked(transport)).new_connection for _ in range(4)]
            assert new == [True, False, False, False]
            assert places(server) == [(0, 0), (0, 1), (0, 2), (0, 3)]
            assert len(transport._idle) == 1

    run(scenario())


def test_the_one_that_was_let_go_last_is_used_first() -> None:
    async def scenario() -> None:
        release = asyncio.Event()
        async with pool(answer_after(release)) as (server, transport):
            await crowd(server, transport, release)
            assert connected(transport) == [True] * 3
            last = transport._idle[-1][0]
            await asked(transport)
            assert transport._idle[-1][0] is last
            assert server.connections == 3

    run(scenario())


def test_what_is_idle_is_not_opened_again() -> None:
    """Before each step as many are opened as it needs at once: not beside those that the last one has left."""

    async def scenario() -> None:
        release = asyncio.Event()
        async with pool(answer_after(release)) as (server, transport):
            await transport.open(3)
            await crowd(server, transport, release)
            await transport.open(3)
            assert server.connections == 3
            grow_old(transport, 0)
            await transport.open(4)
            assert server.connections == 5, "one for each that is missing, and one for the old one"

    run(scenario())


def test_a_request_under_way_shares_its_connection_with_nobody() -> None:
    async def scenario() -> None:
        release = asyncio.Event()
        async with pool(answer_after(release)) as (server, transport):
            two = [asyncio.create_task(asked(transport)) for _ in range(2)]
            await until(lambda: len(server.calls) == 2)
            assert (server.connections, len(transport._idle)) == (2, 0)
            release.set()
            assert [reads.new_connection for reads in await asyncio.gather(*two)] == [True, True]

    run(scenario())


@pytest.mark.parametrize("how", ["hang up", "reset"])
def test_one_that_the_server_has_closed_while_idle_is_not_used(how: str) -> None:
    async def script(call: Call) -> None:
        await answer_well(call)
        if call.number == 0:
            await close.wait()
            call.reset() if how == "reset" else await call.hang_up()

    close = asyncio.Event()

    async def scenario() -> None:
        async with pool(script) as (server, transport):
            await asked(transport)
            assert connected(transport) == [True]
            close.set()
            await until(lambda: connected(transport) == [False])
            assert (await asked(transport)).new_connection
            assert places(server) == [(0, 0), (1, 0)], "nothing was sent into the void"
            assert connected(transport) == [True]

    run(scenario())


def test_one_that_was_idle_for_too_long_is_closed_and_not_used() -> None:
    async def scenario() -> None:
        async with pool(answer_well) as (server, transport):
            await asked(transport)
            grow_old(transport, 0)
            assert (await asked(transport)).new_connection
            assert places(server) == [(0, 0), (1, 0)]
            await until(lambda: len(server._tasks) == 1)
            assert connected(transport) == [True]

    run(scenario())


def test_those_that_nobody_wants_are_closed_when_they_are_old() -> None:
    """A lull after a crowd: the one that is used goes on, the others do not wait for another crowd."""

    async def scenario() -> None:
        release = asyncio.Event()
        async with pool(answer_after(release)) as (server, transport):
            await crowd(server, transport, release)
            grow_old(transport, 0)
            grow_old(transport, 1)
            assert not (await asked(transport)).new_connection
            assert connected(transport) == [True]
            await until(lambda: len(server._tasks) == 1)

    run(scenario())


CLOSE = b"Connection: close\r\n"
ENDS = {
    "stray bytes": WHOLE + b"x",
    "another answer": WHOLE + reply(200, b"{}"),
    "another answer after a length": reply(200, b"{}") + reply(200, b"{}"),
    "its end is announced": WHOLE.replace(b"Transfer-Encoding", CLOSE + b"Transfer-Encoding"),
    "its end is announced in capitals": WHOLE.replace(b"Transfer-Encoding", CLOSE.upper() + b"Transfer-Encoding"),
    "its end is announced beside a length": reply(200, b"{}", Connection="close"),
    "its end is announced to proxies": WHOLE.replace(b"Transfer-Encoding", b"Proxy-" + CLOSE + b"Transfer-Encoding"),
    "an older version": reply(200, b"{}").replace(b"HTTP/1.1", b"HTTP/1.0"),
}


@pytest.mark.parametrize("answer", [pytest.param(answer, id=why) for why, answer in ENDS.items()])
def test_one_whose_answer_has_ended_it_is_not_used(answer: bytes) -> None:
    """The server leaves it open all the same."""

    async def scenario() -> None:
        async with pool(lambda call: call.send(answer if call.number == 0 else WHOLE)) as (server, transport):
            await asked(transport)
            assert (await asked(transport)).new_connection
            assert places(server) == [(0, 0), (1, 0)]
            await until(lambda: len(server._tasks) == 1)

    run(scenario())


@pytest.mark.parametrize("late", [b"x", reply(200, b"not yours"), CHUNKED + chunk(DONE) + LAST_CHUNK])
@pytest.mark.parametrize("answer", [WHOLE, reply(200, b"{}")], ids=["in chunks", "with a length"])
def test_one_on_which_something_came_unasked_is_not_used(answer: bytes, late: bytes) -> None:
    """It would be taken for the next one's answer."""

    async def script(call: Call) -> None:
        await call.send(answer)
        if call.number == 0:
            await idle.wait()
            await call.send(late)

    idle = asyncio.Event()

    async def scenario() -> None:
        async with pool(script) as (server, transport):
            await asked(transport)
            idle.set()
            ((connection, _),) = transport._idle
            protocol = connection.protocol
            assert protocol is not None
            await until(lambda: protocol.should_close)
            reads = await asked(transport)
            assert reads.new_connection
            assert reads.body().startswith(b"data: " if answer is WHOLE else b"{}")
            assert places(server) == [(0, 0), (1, 0)]

    run(scenario())


def test_a_fresh_connection_is_a_new_one_and_not_kept() -> None:
    async def scenario() -> None:
        async with pool(answer_well) as (server, transport):
            await asked(transport)
            assert (await asked(transport, fresh=True)).new_connection
            assert not (await asked(transport)).new_connection
            assert places(server) == [(0, 0), (1, 0), (0, 1)]
            await until(lambda: len(server._tasks) == 1)

    run(scenario())


def test_what_was_cancelled_lets_its_connection_go_for_good() -> None:
    async def scenario() -> None:
        release = asyncio.Event()
        async with pool(answer_after(release)) as (server, transport):
            waiting = asyncio.create_task(asked(transport))
            await until(lambda: server.calls)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert len(transport._idle) == 0
            release.set()
            assert (await asked(transport)).new_connection
            assert places(server) == [(0, 0), (1, 0)]

    run(scenario())


@pytest.mark.parametrize("script", [answer_well, lambda call: call.send(reply(200, b"{}"))])
def test_nothing_is_left_open_at_the_end(script: Script) -> None:
    """Opened ahead and never used, idle, closed by the server while idle: whatever is not closed, warns."""

    async def scenario() -> None:
        async with serving(script) as server:
            transport = made(server)
            await transport.open(4)
            await until(lambda: server.connections == 4)
            await asyncio.gather(*(asked(transport) for _ in range(3)), asked(transport, fresh=True))
            assert server.connections == 5
            assert connected(transport) == [True] * 3
            await until(lambda: len(server._tasks) == 4)
            next(iter(server._tasks)).cancel()
            await until(lambda: len(server._tasks) == 3)
            await transport.close()
            assert transport._idle == deque()
            await until(lambda: not server._tasks)
            await transport.close()
            del transport
            gc.collect()

    run(scenario())
