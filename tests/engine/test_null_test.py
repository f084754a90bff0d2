"""The null test by itself: what an engine finds against the endpoint that stamps its chunks, and what may go wrong."""

import asyncio
import os
import sys

import pytest
from engine_kit import MS, endpoint, engine, job, run
from servers import answer_well, serving

from latbench.engine import nulltest
from latbench.engine.null_endpoint import READY
from latbench.engine.nulltest import null_test
from latbench.engine.plain import PlainTransport
from latbench.engine.stamped import StampedTransport
from latbench.metrics.histogram import Histogram
from latbench.model.frames import Accepted, NullTest, NullTested
from latbench.model.sample import Outcome, Sample

pytestmark = pytest.mark.timeout(100)


def counts(data: bytes) -> Histogram:
    found = Histogram()
    found.add_counted(data)
    return found


@pytest.mark.long
@pytest.mark.parametrize("make", [StampedTransport, PlainTransport])
@pytest.mark.parametrize("streams", [1, 40])
def test_every_chunk_is_held_against_its_own_stamp(
    make: type[StampedTransport] | type[PlainTransport], streams: int, tmp_path: object
) -> None:
    found = run(null_test(NullTest(streams, streams), make, {"LATBENCH_SPOOL": str(tmp_path)}))
    assert found.why == ""
    error, lag = counts(found.ttft_error), counts(found.lag)
    assert found.requests == error.n > streams
    assert lag.n == 10 * error.n
    assert lag.min_ns is not None
    assert error.min_ns is not None
    assert lag.min_ns >= 0
    assert error.min_ns > 0, "the way there and back takes time"
    assert os.listdir(str(tmp_path)) == [], "its spool is gone"


def test_a_process_answers_the_order_and_remembers_the_answer() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, engine() as (_, link, _):
            link.tell(job(endpoint(server.url)), NullTest(2, 2), NullTest(2, 2))
            await link.expect(Accepted)
            found = await link.expect(NullTested)
            assert (found.why, found.requests > 0) == ("", True)
            link.tell(NullTest(2, 2))
            assert await link.expect(NullTested) == found

    run(scenario())


def test_a_stub_that_does_not_start_is_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/true")
    found = run(null_test(NullTest(1, 1), StampedTransport, {}))
    assert found == NullTested(why="ValueError: the null endpoint did not start")
    monkeypatch.setattr(sys, "executable", "/bin/there-is-none")
    found = run(null_test(NullTest(1, 1), StampedTransport, {}))
    assert found.why.startswith("FileNotFoundError")


def answer(**fields: object) -> Sample:
    known = {
        "endpoint": "null",
        "step": 0,
        "seq": 0,
        "prompt_id": "null",
        "phase": "measure",
        "outcome": Outcome.OK,
        "sent_ns": 100,
        "first_token_ns": 1_000_300,
        "chunks": 1,
        "text": "150 1000150 ",
    }
    return Sample(**(known | fields))  # type: ignore[arg-type]  what a test names is of its type


ONE = nulltest._Pace(10 * MS, 1)


def test_the_errors_are_the_differences_of_the_stamps() -> None:
    found = nulltest._judged([answer(outcome=Outcome.LOST), answer(phase="warmup", seq=1), answer(seq=2)], ONE)
    assert found.requests == 1
    assert counts(found.lag).n == counts(found.ttft_error).n == 1
    late = answer(first_token_ns=1_000_150 + 7 * MS)
    assert counts(nulltest._judged([late], ONE).lag).max_ns == pytest.approx(7 * MS, rel=0.001)
    assert counts(nulltest._judged([late], ONE).ttft_error).max_ns == pytest.approx(7 * MS, rel=0.001)


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ([answer(outcome=Outcome.TRUNCATED, error_message="gone")], "1 of 1 answers were truncated .gone."),
        ([answer(text="150 ")], "an answer of 1 chunks and 1 stamps"),
        ([answer(text=None)], "an answer of 1 chunks and 0 stamps"),
        ([answer(first_token_ns=None)], "an answer of 1 chunks"),
        ([answer(text="a b")], "invalid literal"),
        ([answer(phase="warmup")], "not one request was measured"),
        ([], "not one request was measured"),
    ],
)
def test_answers_of_somebody_else_are_refused(samples: list[Sample], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        nulltest._judged(samples, ONE)


def test_the_pace_is_a_hundred_chunks_a_stream_and_five_thousand_in_all() -> None:
    assert nulltest._pace(1) == nulltest._pace(50) == nulltest._Pace(10 * MS, 10)
    assert nulltest._pace(200) == nulltest._Pace(40 * MS, 7)
    assert nulltest._pace(500) == nulltest._Pace(100 * MS, 3)


def test_the_endpoint_answers_requests_in_pieces_and_one_after_the_other() -> None:
    async def scenario() -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "latbench.engine.null_endpoint", "--parent", str(os.getpid())),
            *("--gap-ns", "1000000", "--chunks", "3"),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        port = int((await process.stdout.readline()).decode().removeprefix(READY))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            for piece in (b"POST / HTTP/1.1\r\nContent-", b"Length: 4\r\n\r\nab", b"cd"):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            answer = await reader.readuntil(b"0\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert answer.count(b'"content"') == 3
            assert answer.count(b'"stop"') == answer.count(b"[DONE]") == 1
        writer.close()
        process.kill()
        await process.wait()

    run(scenario())
