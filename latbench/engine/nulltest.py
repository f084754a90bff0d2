"""The null test: this engine's own error, measured against an endpoint that says when each of its chunks left.

Requests go to the null endpoint on this machine the way that those of the run will go: a closed loop, the same flight,
the same connections, a spool of its own. A chunk's lag is its stamp here less its stamp there; the error of TTFT is the
TTFT measured here less the one that the endpoint knows of (request arrived, first chunk left). Both hold the way
through the loopback twice or once, and whatever the machine does between the two processes.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np

from latbench.engine.clock import Clock, raw_ns
from latbench.engine.credentials import targets
from latbench.engine.dispatch import Dispatcher
from latbench.engine.lag import Turn
from latbench.engine.null_endpoint import READY
from latbench.engine.transport import BROKEN, Target, Transport
from latbench.metrics.histogram import counted
from latbench.model.frames import Batch, Go, Job, NullTest, NullTested, Prepare, Slot, Spending
from latbench.model.load import Closed, Step
from latbench.model.request import Endpoint, Message, Prompt, Timeouts
from latbench.model.sample import Outcome, Sample, decode_gaps
from latbench.model.spool import Spool, SpoolHeader, spool_root

CHUNKS_A_SECOND = 5_000
"""Of all streams together; of each stream a hundred at most."""

_LEAST_GAP_NS = 10_000_000
_ANSWER_NS = 300_000_000  # about the longest that an answer takes
_WARMUP_NS = 250_000_000
_MEASURE_NS = 1_500_000_000
_START_S = 10.0
_LIMIT_S = 15.0
_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Pace:
    """How quickly the null endpoint answers, and how long its answers are."""

    gap_ns: int
    chunks: int


def _pace(streams: int) -> _Pace:
    gap_ns = max(_LEAST_GAP_NS, streams * _S // CHUNKS_A_SECOND)
    return _Pace(gap_ns, max(3, min(10, _ANSWER_NS // gap_ns)))


async def null_test(order: NullTest, make: Callable[[Target, Turn], Transport], environ: dict[str, str]) -> NullTested:
    """Run it. What goes wrong on the way is in `why`: the run can do without, and says so."""
    pace = _pace(order.of)
    try:
        async with asyncio.timeout(_START_S + _LIMIT_S), _endpoint(pace) as port:
            return _judged(await _samples(order.streams, pace, port, make, environ), pace)
    except (*BROKEN, TimeoutError, ValueError) as fault:
        return NullTested(why=f"{type(fault).__name__}: {fault}".rstrip(": "))


@asynccontextmanager
async def _endpoint(pace: _Pace) -> AsyncIterator[int]:
    """The null endpoint's port, while it runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "latbench.engine.null_endpoint", "--parent", str(os.getpid())),
        *("--gap-ns", str(pace.gap_ns), "--chunks", str(pace.chunks)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(_START_S):
            line = (await process.stdout.readline()).decode().strip()
        if not line.startswith(READY):
            raise ValueError("the null endpoint did not start")
        yield int(line.removeprefix(READY))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _samples(
    streams: int, pace: _Pace, port: int, make: Callable[[Target, Turn], Transport], environ: dict[str, str]
) -> list[Sample]:
    """One step of a closed loop, from the connections to the final batch; its stamps are raw."""
    job = _job(port)
    transport = make(targets(job.endpoints[0], 5.0, {})[0], Turn(asyncio.get_running_loop()))
    header = SpoolHeader(job.run_id, job.version, job.worker)
    spool = Spool(spool_root(environ) / job.run_id, header)
    found: list[Sample] = []

    def hear(report: Batch | Spending) -> None:
        if isinstance(report, Batch):
            found.extend(report.samples)
            if report.idle:
                dispatcher.drain()

    dispatcher = Dispatcher(job, Clock(0), [[transport]], spool, hear)
    load = Step(Closed(streams), None, _MEASURE_NS, _WARMUP_NS)
    try:
        prepared = await dispatcher.prepare(
            Prepare(0, load, streams, [Slot(number, number) for number in range(streams)])
        )
        if prepared.failures:
            raise ValueError(prepared.failures[job.endpoints[0].name])
        await dispatcher.run_step(Go(0, raw_ns(), raw_ns() + 3600 * _S))
    finally:
        spool.close(delete=True)
        await transport.close()
    return found


def _job(port: int) -> Job:
    endpoint = Endpoint(
        name="null", provider="null", api="openai-chat", base_url=f"http://127.0.0.1:{port}/v1", model="null"
    )
    limit = int(_LIMIT_S * _S)
    return Job(
        run_id=f"null-test-{os.getpid()}",
        worker="null",
        version="",
        scenario_sha256="",
        origin_ns=0,
        seed=0,
        endpoints=[endpoint],
        prompts=[Prompt("null", "null", "", (Message("user", "When?"),), 1, "")],
        weights={"null": 1.0},
        max_tokens=1,
        cold=True,
        timeouts=Timeouts(limit, limit, limit, limit),
        drain_ns=5 * _S,
    )


def _judged(samples: list[Sample], pace: _Pace) -> NullTested:
    """What the stamps of both sides say. Raises ValueError where the answers are not the null endpoint's."""
    fates = [one for one in samples if one.outcome != Outcome.LOST]
    wrong = [one for one in fates if one.outcome != Outcome.OK]
    if wrong:
        raise ValueError(f"{len(wrong)} of {len(fates)} answers were {wrong[0].outcome} ({wrong[0].error_message})")
    errors, lags = [], []
    for sample in fates:
        there = np.array((sample.text or "").split(), dtype=np.int64)
        if sample.chunks != pace.chunks or len(there) != pace.chunks + 1 or sample.first_token_ns is None:
            raise ValueError(f"an answer of {sample.chunks} chunks and {len(there)} stamps")
        if sample.phase == "measure":
            here = sample.first_token_ns + np.concatenate(([0], np.cumsum(decode_gaps(sample.gaps))))
            lags.append(here - there[1:])
            errors.append(sample.first_token_ns - (sample.sent_ns or 0) - int(there[1] - there[0]))
    if not errors:
        raise ValueError("not one request was measured")
    return NullTested(len(errors), counted(np.array(errors)), counted(np.concatenate(lags)))
