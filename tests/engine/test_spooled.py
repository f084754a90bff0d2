"""What an engine has begun is written down before anybody else can know of it; and what ends a step when we fail."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from engine_kit import MS, Lab, S, endpoint, job, lab, run, until
from servers import Call, answer_after, answer_well, held, serving

from latbench.model.frames import Batch
from latbench.model.load import Constant, Sessions, Step
from latbench.model.sample import Outcome, Sample
from latbench.model.spool import read_spool, segments


def spooled(found: Lab) -> list[Sample]:
    return [sample for path in segments(found.folder) for sample in read_spool(path)[1]]


def work(found: Lab, shape: str) -> Any:
    if shape == "closed":
        return found.step(range(3), requests=12)
    return found.load(Step(Constant(100.0), 12) if shape == "open" else Step(Sessions(100.0, 3), 4))


@pytest.mark.parametrize("shape", ["closed", "open", "sessions"])
def test_a_request_is_written_down_before_the_server_sees_it(shape: str) -> None:
    seen: list[tuple[str, list[str]]] = []

    async def scenario() -> None:
        async def script(call: Call) -> None:
            key = (call.body.decode().partition('"[')[2][:16], call.body.count(b'"assistant"'))
            known = [one.outcome for one in spooled(found) if (one.nonce, one.seq % 3) == key or (shape != "sessions"
                     and one.nonce == key[0])]  # fmt: skip
            seen.append((key[0], known))
            await answer_well(call)

        async with serving(script) as server, lab(job(endpoint(server.url))) as found:
            ran = await work(found, shape)
            assert ran.outcomes() == {"ok": 12}
            assert [known for _, known in seen] == [["lost"]] * 12
            both = spooled(found)
            assert sorted((one.seq, one.outcome) for one in both) == sorted(
                (n, what) for n in range(12) for what in ("lost", "ok")
            )
            first = {one.seq: one for one in both if one.outcome == "lost"}
            for one in ran.samples:
                begun = first[one.seq]
                assert (begun.key, begun.phase, begun.prompt_id) == (one.key, one.phase, one.prompt_id)
                assert begun.sent_ns is None
                assert begun.due_ns <= one.due_ns

    run(scenario())


def test_what_is_in_the_air_is_told_as_lost_once_and_then_with_its_fate() -> None:
    release = asyncio.Event()

    async def scenario() -> None:
        async with serving(answer_after(release)) as server, lab(job(endpoint(server.url))) as found:
            stepping = asyncio.create_task(found.step(range(3), requests=3))
            await until(lambda: len(found.batches) >= 3)
            told = [sample for batch in found.batches for sample in batch.samples]
            assert sorted((one.seq, one.outcome) for one in told) == [(n, "lost") for n in range(3)]
            assert found.batches[-1].in_flight == 3
            release.set()
            ran = await stepping
        assert ran.outcomes() == {"ok": 3}, "`fates` has seen that each came once more, and not as lost"

    run(scenario())


def test_a_fate_is_written_down_before_it_is_told() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            untold: list[Sample] = []
            hear = found.dispatcher._flight._send

            def check(batch: Batch) -> None:
                there = {(one.key, one.outcome) for one in spooled(found)}
                untold.extend(one for one in batch.samples if (one.key, one.outcome) not in there)
                hear(batch)

            found.dispatcher._flight._send = check
            assert (await found.step(range(4), requests=200)).outcomes() == {"ok": 200}
            assert untold == []

    run(scenario())


def test_what_is_dropped_is_written_down_too() -> None:
    async def scenario() -> None:
        async with serving(held) as server, lab(job(endpoint(server.url), drain_ns=20 * MS)) as found:
            await found.load(Step(Constant(100.0), 5), cap=1)
            assert sorted((one.seq, one.outcome) for one in spooled(found)) == [
                *((0, what) for what in ("cancelled", "lost")),
                *((n, "dropped") for n in range(1, 5)),
            ]

    run(scenario())


def test_secrets_are_out_before_anything_is_written_down() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:

            def clean(sample: Sample) -> None:
                sample.model = "hidden"

            found.dispatcher._flight._clean = clean
            ran = await found.step([0], requests=3)
            assert {one.model for one in spooled(found) if one.outcome == Outcome.OK} == {"hidden"}
            assert {one.model for one in ran.samples} == {"hidden"}

    run(scenario())


def test_a_spool_that_cannot_be_written_is_told_and_the_run_goes_on() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            found.spool._fail(OSError(28, "No space left on device"))
            ran = await found.step(range(2), requests=5)
        assert ran.outcomes() == {"ok": 5}
        assert "No space left" in ran.batches[-1].spool

    run(scenario())


# --- bugs of ours ----------------------------------------------------------------------------------------------------


def break_sending(found: Lab) -> None:
    found.dispatcher._flight._send = fail


def break_decoding(found: Lab) -> None:
    found.dispatcher._flight._clean = fail


def break_preparing(found: Lab) -> None:
    """After the first few: in the timer's callback, or where the next turn is made."""
    bodies, left = found.dispatcher._flight._bodies, iter(range(5))
    get, conversation = bodies.get, bodies.conversation

    def limited(real: Callable[..., bytes]) -> Callable[..., bytes]:
        return lambda *args: real(*args) if next(left, None) is not None else fail()

    bodies.get, bodies.conversation = limited(get), limited(conversation)  # type: ignore[method-assign]


def fail(*_: object) -> Any:
    raise ZeroDivisionError


@pytest.mark.parametrize("broken", [break_sending, break_decoding, break_preparing])
@pytest.mark.parametrize("shape", ["closed", "open", "sessions"])
def test_a_bug_of_ours_ends_the_step_and_is_raised(shape: str, broken: Callable[[Lab], None]) -> None:
    """Wherever it is: nobody waits for what will never come, and an hour of load is not gone through first."""

    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            broken(found)
            rate = Constant(50.0) if shape == "open" else Sessions(50.0, 3)
            long = found.load(Step(rate, duration_ns=3600 * S)) if shape != "closed" else found.step([0, 1])
            with pytest.raises(ZeroDivisionError):
                await asyncio.wait_for(long, 20)

    run(scenario())
