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
from latbench.engine.clock import Clock
from latbench.engine.credentials import hide, secrets_of, targets
from latbench.engine.dispatch import Dispatcher
from latbench.engine.transport import PlainTransport, StampedTransport, Target, Transport, self_test
from latbench.model.errors import UserError
from latbench.model.frames import (
    Batch,
    Bye,
    Cancel,
    Down,
    Drain,
    Go,
    Hello,
    Job,
    Lease,
    Lost,
    Prepare,
    Prepared,
    Slots,
    StopEndpoint,
    Unpacker,
    Up,
    decode_down,
    pack,
)
from latbench.model.lifeline import clock_id, die_with_parent


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
        self._work: set[asyncio.Task[None]] = set()
        self.over = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._link = cast(asyncio.WriteTransport, transport)  # uvloop's does not say so
        precision = "reduced" if self._why_reduced else "full"
        self._report(Hello(version=__version__, precision=precision, why=self._why_reduced, clock_id=clock_id()))

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set()

    def data_received(self, data: bytes) -> None:
        for frame in self._unpacker.feed(data):
            self._obey(decode_down(frame))

    def _report(self, message: Up) -> None:
        if isinstance(message, Batch):
            hide(message.samples, self._secrets)
        if self._link is not None:
            self._link.write(pack(message))

    def _obey(self, order: Down) -> None:
        dispatcher = self._dispatcher
        match order:
            case Job():
                self._start(order)
            case Prepare(step=step, slots=slots) if dispatcher is not None:
                dispatcher.set_slots(slots)
                self._spawn(self._prepare(dispatcher, step, slots))
            case Go() if dispatcher is not None:
                self._spawn(dispatcher.run_step(order))
            case Slots(slots=slots) if dispatcher is not None:
                dispatcher.set_slots(slots)
            case Drain() if dispatcher is not None:
                dispatcher.drain()
            case Cancel() if dispatcher is not None:
                dispatcher.cancel()
            case StopEndpoint(endpoint=endpoint, reason=reason) if dispatcher is not None:
                dispatcher.stop_endpoint(endpoint, reason)
            case Lease() if dispatcher is not None:
                dispatcher.renew_lease()
            case Bye():
                self.over.set()

    def _start(self, job: Job) -> None:
        for transport in chain.from_iterable(self._transports):  # of a run before this one
            self._spawn(transport.close())
        clock = Clock(job.origin_ns, job.elapsed_ns)
        make: Callable[[Target], Transport] = PlainTransport if self._why_reduced else StampedTransport
        try:
            connect_s = job.timeouts.connect_ns / 1e9
            all_targets = [targets(endpoint, connect_s, self._environ) for endpoint in job.endpoints]
            self._transports = [[make(one) for one in of_endpoint] for of_endpoint in all_targets]
        except UserError as fault:
            self._report(Lost(str(fault)))
            return
        self._secrets = secrets_of(job.endpoints, self._environ)
        self._dispatcher = Dispatcher(job, clock, self._transports, self._report)

    async def _prepare(self, dispatcher: Dispatcher, step: int, slots: list[int]) -> None:
        self._report(Prepared(step, await dispatcher.open(slots)))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        """The edge of every piece of work: a bug of ours ends the engine, and the run says so."""
        self._work.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            traceback.print_exception(bug)
            self._report(Lost(f"the engine failed: {type(bug).__name__}: {bug}"))
            self.over.set()

    async def close(self) -> None:
        """Close connections and the link."""
        for task in self._work:
            task.cancel()
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
    _raise_file_limit()
    link = socket.socket(fileno=arguments.fd)
    link.setblocking(False)
    uvloop.run(serve(link))


if __name__ == "__main__":
    main()
