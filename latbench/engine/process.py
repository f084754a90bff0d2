"""The engine's process: started with exec by a worker, given one end of a socketpair, ended by its closing.

It takes orders and sends reports in the frames of `latbench.model.frames`. It ignores SIGINT (the worker decides) and
dies with its worker.
"""

import argparse
import asyncio
import os
import resource
import signal
import socket
import traceback
from collections.abc import Callable, Coroutine
from itertools import chain
from pathlib import Path
from typing import cast

import uvloop

from latbench import __version__
from latbench.engine.clock import Clock, raw_ns
from latbench.engine.credentials import hide, secrets_of, targets
from latbench.engine.dispatch import Dispatcher
from latbench.engine.lag import Turn
from latbench.engine.nulltest import null_test
from latbench.engine.plain import PlainTransport
from latbench.engine.selftest import self_test
from latbench.engine.stamped import StampedTransport
from latbench.engine.transport import Target, Transport
from latbench.model.errors import UserError
from latbench.model.frames import (
    Accepted,
    Ack,
    Bye,
    Cancel,
    Down,
    Drain,
    Go,
    Grant,
    Hello,
    Job,
    Lease,
    Lost,
    NullTest,
    NullTested,
    Ping,
    Pong,
    Prepare,
    Recall,
    Shards,
    Slots,
    StopEndpoint,
    Unpacker,
    Up,
    decode_down,
    pack,
    prompts_sha256,
)
from latbench.model.lifeline import clock_id, die_with_parent
from latbench.model.sample import Sample
from latbench.model.spool import Spool, SpoolHeader, spool_root

_LAST_WORDS_S = 0.05


class Engine(asyncio.Protocol):
    """The link to the worker, and the run that its orders make."""

    def __init__(self, why_reduced: str, environ: dict[str, str]) -> None:
        self._why_reduced = why_reduced
        self._environ = environ
        self._unpacker = Unpacker()
        self._link: asyncio.WriteTransport | None = None
        self._dispatcher: Dispatcher | None = None
        self._transports: list[list[Transport]] = []
        self._secrets: list[str] = []
        self._spool: Spool | None = None
        self._null_test: asyncio.Task[None] | None = None
        self._null_tested: NullTested | None = None
        self._dismissed = False
        self._work: set[asyncio.Task[None]] = set()
        self.over = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._link = cast(asyncio.WriteTransport, transport)  # uvloop's does not say so
        self._report(
            Hello(
                version=__version__,
                precision="reduced" if self._why_reduced else "full",
                why=self._why_reduced,
                clock_id=clock_id(),
                pid=os.getppid(),
                host=socket.gethostname(),
                files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            )
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set()

    def data_received(self, data: bytes) -> None:
        for frame in self._unpacker.feed(data):
            self._obey(decode_down(frame))

    def _report(self, message: Up) -> None:
        if self._link is not None and not self._link.is_closing():
            self._link.write(pack(message))

    def _obey(self, order: Down) -> None:
        match order:
            case Job():
                self._start(order)
            case NullTest():
                self._test_nulls(order)
            case Ping(sent_ns=sent_ns):
                self._report(Pong(sent_ns, raw_ns()))
            case Bye():
                self._dismissed = True
                self.over.set()
            case _ if self._dispatcher is not None:
                self._pass_on(order, self._dispatcher)

    def _pass_on(self, order: Down, dispatcher: Dispatcher) -> None:
        """An order about the load."""
        match order:
            case Prepare():
                self._spawn(self._prepare(dispatcher, order))
            case Go() if dispatcher.may_run(order):
                self._spawn(dispatcher.run_step(order))
            case Slots():
                dispatcher.set_slots(order)
            case Shards():
                dispatcher.set_shards(order)
            case Drain():
                dispatcher.drain()
            case Cancel():
                dispatcher.cancel()
            case StopEndpoint(endpoint=endpoint, reason=reason):
                dispatcher.stop_endpoint(endpoint, reason)
            case Lease(until_ns=until_ns):
                dispatcher.renew_lease(until_ns)
            case Ack(number=number):
                dispatcher.acknowledged(number)
            case Grant() | Recall():
                dispatcher.wallet.obey(order)

    def _start(self, job: Job) -> None:
        for transport in chain.from_iterable(self._transports):  # of a run before this one
            self._spawn(transport.close())
        self._null_tested = None
        turn = Turn(asyncio.get_running_loop())
        try:
            connect_s = job.timeouts.connect_ns / 1e9
            all_targets = [targets(endpoint, connect_s, self._environ) for endpoint in job.endpoints]
            self._transports = [[self._make(one, turn) for one in of_endpoint] for of_endpoint in all_targets]
        except UserError as fault:
            self._report(Lost(str(fault)))
            return
        self._secrets = secrets_of(job.endpoints, self._environ)
        self._close_spool(done=True)
        header = SpoolHeader(job.run_id, job.version, job.worker)
        self._spool = Spool(spool_root(self._environ) / job.run_id, header)
        clock = Clock(job.origin_ns)
        self._dispatcher = Dispatcher(job, clock, self._transports, self._spool, self._report, self._hide)
        self._report(Accepted(job.scenario_sha256, prompts_sha256(job.prompts)))

    @property
    def _make(self) -> Callable[[Target, Turn], Transport]:
        return PlainTransport if self._why_reduced else StampedTransport

    def _test_nulls(self, order: NullTest) -> None:
        """Once for each job: the order may come again where its answer got lost."""
        if self._null_tested is not None:
            self._report(self._null_tested)
        elif self._null_test is None or self._null_test.done():
            self._null_test = self._spawn(self._run_null_test(order))

    async def _run_null_test(self, order: NullTest) -> None:
        self._null_tested = await null_test(order, self._make, self._environ)
        self._report(self._null_tested)

    def _hide(self, sample: Sample) -> None:
        hide(sample, self._secrets)

    async def _prepare(self, dispatcher: Dispatcher, order: Prepare) -> None:
        self._report(await dispatcher.prepare(order))

    def _close_spool(self, *, done: bool) -> None:
        """Nobody needs the spool of a run that is over and of which everything has been committed."""
        if self._spool is not None:
            over = done and self._dispatcher is not None and not self._dispatcher.loading
            self._spool.close(delete=over and self._spool.acknowledged_all)

    def _spawn(self, work: Coroutine[None, None, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        """The edge of every piece of work: a bug of ours ends the engine, and the run says so."""
        self._work.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            traceback.print_exception(bug)
            self._report(Lost(f"the engine failed: {type(bug).__name__}: {bug}"))
            self.over.set()

    async def close(self) -> None:
        """Close connections and the link."""
        if self._dispatcher is not None:
            self._dispatcher.cancel()
        for task in self._work:
            task.cancel()
        await asyncio.sleep(_LAST_WORDS_S)  # uvloop calls back for a name it was resolving, even if nobody waits
        self._close_spool(done=self._dismissed)
        for transport in chain.from_iterable(self._transports):
            await transport.close()
        if self._link is not None:
            self._link.close()


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def serve(link: socket.socket) -> None:
    """Test the hooks, then obey until the link closes."""
    why_reduced = await self_test()
    engine = Engine(why_reduced, dict(os.environ))
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: engine, sock=link)
    await engine.over.wait()
    await engine.close()


def main() -> None:
    """`python -m latbench.engine.process --fd N --parent PID`"""
    parser = argparse.ArgumentParser(prog="latbench-engine", description=Path(__file__).stem)
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()
    die_with_parent(arguments.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # last words reach any terminal
    _raise_file_limit()
    link = socket.socket(fileno=arguments.fd)
    link.setblocking(False)
    uvloop.run(serve(link))


if __name__ == "__main__":
    main()
