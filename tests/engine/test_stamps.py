"""What is stamped, when, and in which order. Server and client share a clock, and the server waits for the client."""

import hashlib
from itertools import pairwise

import pytest
from engine_kit import Make, Send, endpoint, exchanging, job, lab, run, until
from servers import (
    CHUNKED,
    DONE,
    LAST_CHUNK,
    ROLE,
    Call,
    Script,
    answer_well,
    chunk,
    completion,
    event,
    good,
    reply,
    serving,
    usage,
)

from latbench.engine import stamped
from latbench.engine.clock import raw_ns
from latbench.engine.exchange import Exchange
from latbench.engine.plain import PlainTransport
from latbench.engine.selftest import self_test
from latbench.engine.stamped import StampedHandler, StampedTransport
from latbench.model.sample import Sample, decode_gaps

NAMES = ("due", "sent", "connected", "headers", "first_byte", "first_token", "last_token", "done")


def stamps(sample: Sample) -> list[int]:
    found = [getattr(sample, f"{name}_ns") for name in NAMES]
    assert None not in found, sample
    return found


def arrivals(sample: Sample) -> list[int]:
    assert sample.first_token_ns is not None
    total = [sample.first_token_ns]
    for gap in decode_gaps(sample.gaps):
        total.append(total[-1] + int(gap))
    return total


async def played(script: Script, make: Make = StampedTransport, **changes: object) -> Sample:
    """One answer, by a script that needs to know nothing of the client."""
    async with serving(script) as server, exchanging(endpoint(server.url, **changes), make) as (_, send):
        return await send()


async def in_step(pieces: list[bytes], make: Make) -> tuple[Exchange, Sample, list[int]]:
    """Each piece in a read of its own: the server writes the next one when the last has been stamped.

    With them, the moments right before the server's writes.
    """
    wrote: list[int] = []

    async def script(call: Call) -> None:
        for number, piece in enumerate(pieces):
            wrote.append(raw_ns())
            await call.send(piece)
            if number < len(pieces) - 1:
                await until(lambda number=number: len(seen[0].reads.at_ns) == number + 1)

    seen: list[Exchange] = []
    async with serving(script) as server, exchanging(endpoint(server.url), make) as (exchange, send):
        seen.append(exchange)
        send_it: Send = send
        sample = await send_it()
    return exchange, sample, wrote


PIECES = [
    CHUNKED + chunk(ROLE),
    chunk(event("a")),
    chunk(event("")),
    chunk(event("b") + event("c")),
    chunk(event(delta={"reasoning_content": "hm"})),
    chunk(event(finish="stop")) + chunk(usage(4)) + chunk(DONE) + LAST_CHUNK,
]


def test_a_stamp_lies_between_the_writes_of_the_server(make: Make) -> None:
    async def scenario() -> None:
        exchange, sample, wrote = await in_step(PIECES, make)
        at = list(exchange.reads.at_ns)
        assert len(at) == len(PIECES)
        assert all(before <= stamp for before, stamp in zip(wrote, at, strict=True))
        assert all(stamp <= after for stamp, after in zip(at, wrote[1:], strict=False))
        assert stamps(sample) == sorted(stamps(sample))
        assert sample.first_byte_ns == at[0]
        assert sample.first_token_ns == sample.first_text_ns == at[1], "the role is not a token"
        assert sample.last_token_ns == at[4], "reasoning is output; an empty piece and the end are not"
        assert arrivals(sample) == [at[1], at[3], at[3], at[4]], "the events of one read share its stamp"
        assert (sample.chunks, sample.output_tokens) == (4, 4)
        assert sample.done_ns is not None
        assert sample.done_ns >= wrote[-1]

    run(scenario())


def test_the_first_token_is_not_the_role_that_came_long_before(make: Make) -> None:
    async def scenario() -> None:
        _, sample, wrote = await in_step(PIECES, make)
        assert sample.first_byte_ns is not None
        assert sample.first_token_ns is not None
        assert sample.first_byte_ns < wrote[1] <= sample.first_token_ns

    run(scenario())


def test_headers_and_first_event_in_one_write_share_a_stamp() -> None:
    async def scenario() -> None:
        sample = await played(lambda call: call.send(CHUNKED + chunk(event("a")) + chunk(DONE) + LAST_CHUNK))
        assert sample.headers_ns == sample.first_byte_ns == sample.first_token_ns == sample.done_ns
        assert sample.gaps == b""

    run(scenario())


def test_headers_are_stamped_before_the_first_event() -> None:
    headers_at: list[int] = []

    async def script(call: Call) -> None:
        await call.send(CHUNKED)
        await until(lambda: seen[0].reads.headers_ns is not None)
        headers_at.append(raw_ns())
        await call.send(chunk(event("a")) + chunk(DONE) + LAST_CHUNK)

    seen: list[Exchange] = []

    async def scenario() -> None:
        async with serving(script) as server, exchanging(endpoint(server.url)) as (exchange, send):
            seen.append(exchange)
            sample = await send()
        assert sample.headers_ns is not None
        assert sample.first_byte_ns is not None
        assert sample.headers_ns < headers_at[0] <= sample.first_byte_ns

    run(scenario())


def test_events_of_one_write_share_a_stamp(make: Make) -> None:
    async def scenario() -> None:
        sample = await played(lambda call: call.send(b"".join(good(50))), make)
        assert sample.chunks == 50
        assert not decode_gaps(sample.gaps).any()

    run(scenario())


def test_an_answer_that_comes_byte_by_byte(make: Make) -> None:
    whole = b"".join(good(5))

    async def script(call: Call) -> None:
        await call.send(*(whole[at : at + 1] for at in range(len(whole))))

    async def scenario() -> None:
        sample = await played(script, make)
        assert (sample.outcome, sample.chunks, sample.output_tokens) == ("ok", 5, 5)
        assert stamps(sample) == sorted(stamps(sample))
        assert sample.text_sha256 == hashlib.sha256(b"t0 t1 t2 t3 t4 ").hexdigest()
        assert len(set(arrivals(sample))) > 1

    run(scenario())


def test_an_answer_that_is_not_streamed_has_no_first_token(make: Make) -> None:
    async def scenario() -> None:
        sample = await played(lambda call: call.send(reply(200, completion("four", 7))), make, stream=False)
        assert (sample.outcome, sample.first_token_ns, sample.first_text_ns) == ("ok", None, None)
        assert sample.last_token_ns == sample.done_ns
        assert sample.first_byte_ns is not None

    run(scenario())


def test_a_connection_opened_ahead_is_not_older_than_its_request() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            assert await found.open([0]) == {}
            ran = await found.step([0], requests=3)
        for sample in ran.samples:
            assert stamps(sample) == sorted(stamps(sample))
        seconds = sorted(ran.samples, key=lambda one: one.seq)
        assert all(one.done_ns <= other.due_ns for one, other in pairwise(seconds))  # type: ignore[operator]

    run(scenario())


SAME = ("outcome", "chunks", "output_tokens", "input_tokens", "finish_reason", "text_sha256", "status", "token_source")


@pytest.mark.parametrize("tokens", [0, 1, 40])
def test_both_transports_see_the_same(tokens: int) -> None:
    async def scenario() -> None:
        for stream in (True, False):

            async def script(call: Call, stream: bool = stream) -> None:
                await call.send(*(good(tokens) if stream else [reply(200, completion("x" * tokens, tokens))]))

            seen = [await played(script, make, stream=stream) for make in (StampedTransport, PlainTransport)]
            assert len({tuple(getattr(sample, name) for name in SAME) for sample in seen}) == 1

    run(scenario())


# --- the hooks -------------------------------------------------------------------------------------------------------


def test_the_hooks_work() -> None:
    assert run(self_test()) == ""


def lose_stamps(handler: StampedHandler, data: bytes) -> None:
    reads = handler.reads
    REAL(handler, data)
    if reads is not None:
        del reads.at_ns[:]


def stamp_too_early(handler: StampedHandler, data: bytes) -> None:
    reads = handler.reads
    REAL(handler, data)
    if reads is not None and reads.at_ns:
        reads.at_ns[-1] = 1


def lose_data(handler: StampedHandler, data: bytes) -> None:
    reads = handler.reads
    REAL(handler, data)
    if reads is not None and len(reads.data) > 1:
        reads.data.pop()


def repeat_data(handler: StampedHandler, data: bytes) -> None:
    reads = handler.reads
    REAL(handler, data)
    if reads is not None and reads.data:
        reads.data.append(reads.data[-1])
        reads.at_ns.append(reads.at_ns[-1])


def no_hook(handler: StampedHandler, data: bytes) -> None:
    stamped.ResponseHandler.data_received(handler, data)


REAL = StampedHandler.data_received
BROKEN_HOOKS = [lose_stamps, stamp_too_early, lose_data, repeat_data, no_hook]


@pytest.mark.parametrize("hook", BROKEN_HOOKS)
@pytest.mark.long
def test_a_broken_hook_is_noticed(hook: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StampedHandler, "data_received", hook)
    assert run(self_test())


def test_a_name_that_aiohttp_has_taken_away_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StampedHandler, "begin", lambda *_: (_ for _ in ()).throw(AttributeError("_payload")))
    assert run(self_test()) == "AttributeError: _payload"
