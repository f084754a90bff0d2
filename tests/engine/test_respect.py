"""`rate_limits: respect`: what is refused for now waits as it was told, is made again, and stays one request."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from engine_kit import MS, Lab, Make, Ran, S, endpoint, job, lab, opened, run, step, timeouts, until
from servers import Call, Script, answer_well, held, reply, serving

from latbench.engine.plain import PlainTransport
from latbench.model.frames import Grant, Job
from latbench.model.load import Constant, Sessions, Step
from latbench.model.sample import Sample
from latbench.model.slices import Slices
from latbench.plan.budget import UNLIMITED

LONG_MS = 30_000


def refusal(wait_ms: float | None = None, status: int = 429, message: str = "slow down", **headers: str) -> bytes:
    asked = {} if wait_ms is None else {"retry_after_ms": str(wait_ms)}
    return reply(status, {"error": {"message": message, "code": "rate_limit_exceeded"}}, **asked, **headers)


def marks(call: Call) -> str:
    """The nonce that tells whose attempt it is."""
    return str(json.loads(call.body)["messages"][0]["content"]).partition("]")[0].removeprefix("[")


class Refusing:
    """Refuses each request as often as there are waits, then answers it. `said` has when it refused, by its clock."""

    def __init__(self, *waits_ms: float | None, then: Script = answer_well) -> None:
        self._waits_ms = waits_ms
        self._then = then
        self._asked: Counter[str] = Counter()
        self.said_ns: list[int] = []

    async def __call__(self, call: Call) -> None:
        attempt = self._asked[marks(call)]
        self._asked[marks(call)] += 1
        if attempt < len(self._waits_ms):
            self.said_ns.append(time.monotonic_ns())
            await call.send(refusal(self._waits_ms[attempt]))
        else:
            await self._then(call)


async def always(call: Call) -> None:
    await call.send(refusal(1))


def always_after(wait_ms: float) -> Script:
    async def script(call: Call) -> None:
        await call.send(refusal(wait_ms))

    return script


def respectful(*urls: str, **changes: Any) -> Job:
    ends = [endpoint(url, name) for name, url in zip("eab", urls, strict=False)]
    return job(ends, respect=True, **changes)


def waited_ns(sample: Sample) -> int:
    """What lies between the attempts."""
    left = [one.sent_ns for one in sample.tries[1:]] + [sample.sent_ns or 0]
    return sum(after - one.done_ns for one, after in zip(sample.tries, left, strict=True))


def in_order(sample: Sample) -> list[int]:
    stamps = [stamp for one in sample.tries for stamp in (one.sent_ns, one.done_ns)]
    own = [sample.sent_ns, sample.connected_ns, sample.headers_ns, sample.first_token_ns, sample.done_ns]
    return [*stamps, *(stamp for stamp in own if stamp is not None)]


def test_it_waits_as_it_was_asked_and_both_latencies_are_kept(make: Make) -> None:
    async def scenario() -> tuple[Ran, list[int], list[int]]:
        script = Refusing(70, 130)
        async with serving(script) as server:
            ran = await step(respectful(server.url), make=make)
            return ran, script.said_ns, [call.at_ns for call in server.calls]

    ran, said, came = run(scenario())
    one = ran.one
    assert came[1] - said[0] >= 70 * MS
    assert came[2] - said[1] >= 130 * MS
    assert (one.outcome, one.status, one.wait_ns, one.kind) == ("ok", 200, None, None)
    assert [(at.outcome, at.status, at.wait_ns, at.error_code) for at in one.tries] == [
        ("rate_limited", 429, 70 * MS, "rate_limit_exceeded"),
        ("rate_limited", 429, 130 * MS, "rate_limit_exceeded"),
    ]
    assert in_order(one) == sorted(in_order(one))
    assert one.due_ns == one.tries[0].sent_ns, "no schedule says otherwise"
    assert one.waited_ns == waited_ns(one) >= 200 * MS
    assert one.sent_ns is not None
    assert one.sent_ns >= one.tries[1].done_ns + 130 * MS, "the stamps are the last attempt's"
    assert one.chunks == 3
    assert ran.planned == {"e/measure": 1}


def test_it_waits_for_seconds_of_a_retry_after() -> None:
    async def script(call: Call) -> None:
        await call.send(refusal(retry_after="1") if not call.number else refusal(status=400))

    async def scenario() -> None:
        async with serving(script) as server:
            ran = await step(respectful(server.url))
            assert server.calls[1].at_ns - server.calls[0].at_ns >= S
        assert (ran.one.outcome, ran.one.tries[0].wait_ns) == ("invalid_request", S)

    run(scenario())


@pytest.mark.long
def test_without_a_hint_the_wait_doubles() -> None:
    async def scenario() -> None:
        script = Refusing(None, None)
        async with serving(script) as server:
            ran = await step(respectful(server.url))
            came = [call.at_ns for call in server.calls]
        assert came[1] - script.said_ns[0] >= S
        assert came[2] - script.said_ns[1] >= 2 * S
        assert ran.one.outcome == "ok"
        assert [one.wait_ns for one in ran.one.tries] == [None, None], "nobody asked"
        first, second = ran.one.tries
        assert S <= second.sent_ns - first.done_ns < 2 * S <= (ran.one.sent_ns or 0) - second.done_ns

    run(scenario())


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (refusal(1, message="Limit of requests per day reached"), "rate_limited"),
        (refusal(retry_after="601"), "rate_limited"),
        (
            reply(429, {"error": {"message": "pay", "code": "insufficient_quota"}}, retry_after_ms="1"),
            "quota_exhausted",
        ),
        (refusal(1, status=500), "http_error"),
        (refusal(1, status=401), "auth_error"),
        (refusal(1, status=503), "overloaded"),
        (refusal(1, status=529), "overloaded"),
    ],
    ids=["daily", "longer than ten minutes", "quota", "500", "401", "503", "529"],
)
def test_what_no_wait_cures_is_not_made_again(answer: bytes, outcome: str) -> None:
    async def script(call: Call) -> None:
        await call.send(answer)

    async def scenario() -> None:
        async with serving(script) as server:
            ran = await step(respectful(server.url))
            assert len(server.calls) == 1
        assert (ran.one.outcome, ran.one.tries, ran.one.waited_ns) == (outcome, [], 0)

    run(scenario())


def test_after_ten_attempts_it_gives_up(make: Make) -> None:
    async def scenario() -> None:
        async with serving(always) as server:
            ran = await step(respectful(server.url), make=make)
            assert len(server.calls) == 10
        assert ran.outcomes() == {"rate_limited": 1}
        assert [one.outcome for one in ran.one.tries] == ["rate_limited"] * 9
        assert ran.one.waited_ns == waited_ns(ran.one)
        assert ran.one.status == 429

    run(scenario())


def test_an_observer_makes_nothing_again() -> None:
    async def scenario() -> None:
        async with serving(Refusing(1)) as server:
            ran = await step(job(endpoint(server.url)))
            assert len(server.calls) == 1
        assert (ran.one.outcome, ran.one.tries, ran.one.wait_ns) == ("rate_limited", [], MS)

    run(scenario())


def test_arrivals_keep_their_moment_and_nobody_waits_for_another(make: Make) -> None:
    async def scenario() -> None:
        async with serving(Refusing(300)) as server:
            ran = await opened(respectful(server.url), Step(Constant(50.0), 8), make)
            assert len(server.calls) == 16
            firsts = {marks(call): call.number for call in reversed(server.calls)}
            assert sorted(firsts.values()) == list(range(8)), "each arrival left while the earlier ones waited"
        assert ran.outcomes() == {"ok": 8}
        assert ran.due() == {number: number * 20 * MS for number in range(8)}
        for one in ran.samples:
            assert one.done_ns is not None
            assert one.sent_ns is not None
            assert one.due_ns <= one.tries[0].sent_ns
            assert one.done_ns - one.due_ns >= one.waited_ns >= 300 * MS, "the response time has the wait in it"
            assert one.sent_ns >= one.tries[0].done_ns + 300 * MS, "the service time has not"

    run(scenario())


def test_an_attempt_leaves_in_a_slice_of_its_own_endpoint() -> None:
    async def scenario() -> None:
        async with serving(Refusing(100)) as one, serving(Refusing(100)) as other:
            load = Step(Constant(100.0), duration_ns=200 * MS, slice_ns=100 * MS)
            ran = await opened(respectful(one.url, other.url), load)
        turns = Slices(100 * MS, 2)
        left = [
            turns.own_at((sample.sent_ns or 0) - ran.start_ns, place)
            for place, name in enumerate("ea")
            for sample in ran.samples
            if sample.endpoint == name and sample.tries
        ]
        assert len(left) == 40
        assert all(its_turn for _, its_turn in left), "whatever was asked ended in the other's slice"

    run(scenario())


def test_what_waits_is_in_flight_and_counts_for_its_cap() -> None:
    async def scenario() -> None:
        async with serving(always_after(LONG_MS)) as server, lab(respectful(server.url), ends=False) as found:
            loading = asyncio.create_task(found.load(Step(Constant(100.0), 10, max_in_flight=3), cap=3))
            await until(lambda: sum(one.outcome == "dropped" for one in found.during()) == 7)
            await until(lambda: found.batches[-1].in_flight == 3)
            assert len(server.calls) == 3
            found.dispatcher.drain()
            ran = await loading
        assert ran.outcomes() == {"rate_limited": 3, "dropped": 7}
        assert all("max_in_flight" in (one.error_message or "") for one in ran.samples if one.outcome == "dropped")

    run(scenario())


def test_a_conversation_goes_on_after_a_wait() -> None:
    async def scenario() -> None:
        refused: list[int] = []

        async def script(call: Call) -> None:
            second = len(json.loads(call.body)["messages"]) == 3
            if second and not refused:
                refused.append(call.number)
                await call.send(refusal(20))
            else:
                await answer_well(call)

        async with serving(script) as server:
            ran = await opened(respectful(server.url), Step(Sessions(50.0, 3), 1))
            assert [len(json.loads(call.body)["messages"]) for call in server.calls] == [1, 3, 3, 5]
            assert server.calls[1].body == server.calls[2].body
        assert ran.outcomes() == {"ok": 3}
        assert [len(one.tries) for one in sorted(ran.samples, key=lambda one: one.seq)] == [0, 1, 0]

    run(scenario())


# --- what ends a wait -------------------------------------------------------------------------------------------------


def lose_the_lease(found: Lab) -> None:
    found.dispatcher._lease._until_ns = 0


ENDS: dict[str, Callable[[Lab], None]] = {
    "drain": lambda found: found.dispatcher.drain(),
    "cancel": lambda found: found.dispatcher.cancel(),
    "stopped": lambda found: found.dispatcher.stop_endpoint("e", "enough"),
    "lease": lose_the_lease,
}


def waits(found: Lab) -> bool:
    return any(exchange.waiting is not None for exchange in found.dispatcher._flight._active)


@pytest.mark.parametrize("shape", ["closed", "open"])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("earlier", [0, 1])
def test_what_ends_a_wait_leaves_the_refusal_as_its_outcome(shape: str, end: str, earlier: int) -> None:
    """A lease is looked at when the wait is over: that one is short."""
    last_ms = 400 if end == "lease" else LONG_MS
    script = Refusing(*[5] * earlier, last_ms, LONG_MS)

    async def scenario() -> None:
        async with serving(script) as server, lab(respectful(server.url), ends=end in ("stopped", "lease")) as found:
            work = found.load(Step(Constant(100.0), 1)) if shape == "open" else found.step([0], requests=1)
            loading = asyncio.create_task(work)
            await until(lambda: len(server.calls) == earlier + 1 and waits(found))
            (refused,) = [exchange.waiting for exchange in found.dispatcher._flight._active]
            ENDS[end](found)
            ran = await loading
            assert len(server.calls) == earlier + 1
        one = ran.one
        assert (one.outcome, one.status, one.wait_ns) == ("rate_limited", 429, last_ms * MS)
        assert len(one.tries) == earlier, "the last refusal is the request's own end, and no attempt beside it"
        assert one.waited_ns == waited_ns(one) if earlier else one.waited_ns == 0
        assert refused is not None
        ended_ns = refused.done_ns - ran.origin_ns
        assert one.done_ns == ended_ns, "the wait that came to nothing is no service time"

    run(scenario())


def test_the_limit_of_the_drain_ends_a_wait() -> None:
    async def scenario() -> None:
        async with serving(always_after(LONG_MS)) as server:
            what = respectful(server.url, drain_ns=500 * MS)
            ran = await step(what, requests=None, slots=range(3), duration_ns=1500 * MS)
            assert len(server.calls) == 3
        assert ran.outcomes() == {"rate_limited": 3}

    run(scenario())


def test_a_stopped_endpoint_ends_its_own_waits_only() -> None:
    async def scenario() -> None:
        async with (
            serving(always_after(LONG_MS)) as one,
            serving(Refusing(300)) as other,
            lab(respectful(one.url, other.url)) as found,
        ):
            stepping = asyncio.create_task(found.step(range(2), requests=1, stride=1))
            await until(lambda: one.calls and other.calls and waits(found))
            found.dispatcher.stop_endpoint("e", "enough")
            ran = await stepping
        assert {sample.endpoint: sample.outcome for sample in ran.samples} == {"e": "rate_limited", "a": "ok"}

    run(scenario())


def test_cancelled_in_a_later_attempt_it_is_cancelled_and_keeps_the_earlier_one() -> None:
    async def scenario() -> None:
        async with serving(Refusing(5, then=held)) as server, lab(respectful(server.url), ends=False) as found:
            stepping = asyncio.create_task(found.step([0], requests=1))
            await until(lambda: len(server.calls) == 2)
            found.dispatcher.cancel()
            ran = await stepping
        assert (ran.one.outcome, len(ran.one.tries)) == ("cancelled", 1)

    run(scenario())


# --- time limits, connections, broken answers -------------------------------------------------------------------------


def test_no_limit_of_time_runs_while_it_waits(make: Make) -> None:
    limits = timeouts(first_output=300, idle=300, total=300)

    async def scenario() -> None:
        async with serving(Refusing(900)) as server:
            ran = await step(respectful(server.url, timeouts=limits), make=make)
            assert (ran.one.outcome, len(ran.one.tries)) == ("ok", 1)
        async with serving(Refusing(100, 100, then=lambda call: call.hold())) as server:
            ran = await step(respectful(server.url, timeouts=limits), make=make)
        assert (ran.one.outcome, len(ran.one.tries)) == ("timeout", 2)
        assert (ran.one.done_ns or 0) - (ran.one.sent_ns or 0) >= 300 * MS, "each attempt has the whole of it"

    run(scenario())


def test_a_reused_connection_that_breaks_in_a_later_attempt(make: Make) -> None:
    async def script(call: Call) -> None:
        if call.number == 0:
            await call.send(refusal(30))
        elif call.nth_on_connection == 1:
            call.reset()
        else:
            await answer_well(call)

    async def scenario() -> None:
        async with serving(script) as server:
            ran = await step(respectful(server.url), make=make)
            assert [(call.connection, call.nth_on_connection) for call in server.calls] == [(0, 0), (0, 1), (1, 0)]
        one = ran.one
        assert (one.outcome, one.reconnects, len(one.tries), one.new_connection) == ("ok", 1, 1, True)
        assert one.due_ns == one.tries[0].sent_ns
        assert one.waited_ns >= 30 * MS

    run(scenario())


BROKEN_FRAMING = b"HTTP/1.1 429 Slow\r\nRetry-After-Ms: 20\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("rest", [b"zz\r\nno chunk\r\n", b"5\r\nabc"], ids=["no framing", "cut"])
def test_a_refusal_that_breaks_off_does_not_spoil_the_next_answer(rest: bytes, make: Make) -> None:
    if make is PlainTransport and rest.startswith(b"zz"):
        pytest.skip("aiohttp's public calls wait for the rest of a body without framing until a timeout ends it")

    async def script(call: Call) -> None:
        if call.number:
            await answer_well(call)
        else:
            await call.send(BROKEN_FRAMING)
            await asyncio.sleep(0.05)  # the head arrives by itself
            await call.send(rest)
            await call.hang_up()

    async def scenario() -> None:
        async with serving(script) as server:
            ran = await step(respectful(server.url), make=make)
            assert len(server.calls) == 2
        assert (ran.one.outcome, ran.one.error_message, len(ran.one.tries)) == ("ok", None, 1)

    run(scenario())


# --- the budget -------------------------------------------------------------------------------------------------------


def broke(found: Lab) -> bool:
    """Whether somebody waits for money, and nobody else is under way."""
    return bool(found.spending) and found.spending[-1].want is not None and found.spending[-1].held == (0, 0, 0)


@pytest.mark.parametrize("shape", ["closed", "open"])
def test_every_attempt_is_paid_for(shape: str) -> None:
    async def scenario() -> None:
        async with serving(Refusing(2)) as server:
            async with lab(respectful(server.url, budgeted=True), ends=False) as found:
                found.dispatcher.wallet.obey(Grant((7, UNLIMITED, UNLIMITED), 1))
                work = found.load(Step(Constant(200.0), 12)) if shape == "open" else found.step(range(3), requests=12)
                loading = asyncio.create_task(work)
                await until(lambda: len(server.calls) == 7 and broke(found))
                assert found.spending[-1].reserved[0] == 7
                loop: Any = found.dispatcher._loop
                await until(lambda: shape == "closed" or loop._fired_all.is_set())
                found.dispatcher.drain()
                ran = await loading
                assert found.spending[-1].want is None
                assert found.spending[-1].reserved[0] == 7
            attempts = [one for one in ran.samples if one.outcome != "dropped"]
            assert sum(1 + len(one.tries) for one in attempts) == len(server.calls) == 7
        assert {one.outcome for one in attempts} <= {"ok", "rate_limited"}
        assert shape != "open" or len(ran.samples) == 12

    run(scenario())


@pytest.mark.parametrize("end", ["drain", "cancel"])
def test_what_ends_while_it_waits_for_money_wants_none_any_more(end: str) -> None:
    async def scenario() -> None:
        async with serving(always) as server, lab(respectful(server.url, budgeted=True), ends=False) as found:
            found.dispatcher.wallet.obey(Grant((2, UNLIMITED, UNLIMITED), 1))
            stepping = asyncio.create_task(found.step([0], requests=1))
            await until(lambda: len(server.calls) == 2 and broke(found))
            (refused,) = [exchange.waiting for exchange in found.dispatcher._flight._active]
            ENDS[end](found)
            ran = await stepping
            assert found.spending[-1].want is None
            assert found.spending[-1].reserved[0] == 2
            await asyncio.sleep(0)
            assert not [task for task in asyncio.all_tasks() if "Event.wait" in repr(task)]
        assert (ran.one.outcome, len(ran.one.tries)) == ("rate_limited", 1)
        assert refused is not None
        assert ran.one.done_ns == refused.done_ns - ran.origin_ns

    run(scenario())


# --- all together -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", ["closed", "open"])
def test_nothing_is_lost_and_nothing_counts_twice(seed: int, shape: str) -> None:
    """Refusals of every kind at random: the server's count of attempts is ours."""
    dice = random.Random(seed)
    answers = [refusal(4), refusal(0), refusal(2, status=503), refusal(status=500), refusal(7)]

    async def script(call: Call) -> None:
        if dice.random() < 0.6:
            await call.send(dice.choice(answers))
        else:
            await answer_well(call)

    async def scenario() -> None:
        async with serving(script) as one, serving(script) as other:
            what = respectful(one.url, other.url)
            async with lab(what) as found:
                if shape == "open":
                    ran = await found.load(Step(Constant(300.0), 60))
                else:
                    ran = await found.step(range(8), requests=60, stride=4)
            for name, server in (("e", one), ("a", other)):
                came = Counter(marks(call) for call in server.calls)
                ours = {sample.nonce: 1 + len(sample.tries) for sample in ran.samples if sample.endpoint == name}
                assert came == ours
                assert ran.seqs(name) == list(range(60))
        assert ran.outcomes().keys() <= {"ok", "http_error", "overloaded", "rate_limited"}
        assert sum(map(len, (sample.tries for sample in ran.samples))) > 20
        for sample in ran.samples:
            assert in_order(sample) == sorted(in_order(sample))
            assert sample.waited_ns == (waited_ns(sample) if sample.tries else 0)
            assert all(one.outcome == "rate_limited" for one in sample.tries)
            asked = [one.wait_ns or 0 for one in sample.tries]
            assert sample.waited_ns >= sum(asked)

    run(scenario())
