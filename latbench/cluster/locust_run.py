"""Locust set up around one run and taken down again: local runner or master, workers, signals, a watching greenlet."""

import logging
import signal
import socket
import subprocess
from collections.abc import Callable
from types import TracebackType
from typing import Self

import gevent
from locust.env import Environment
from locust.exception import RPCError

from latbench.cluster.children import EngineProcess, end, start_worker
from latbench.cluster.locust_master import JOIN_S, Coordinator
from latbench.cluster.locust_worker import Bridge, SlotUser
from latbench.model.courtesy import come_after_engines
from latbench.model.errors import UserError

JOIN_FROM_ELSEWHERE_S = 600.0
_WATCH_EVERY_S = 0.25
_QUIET = ("locust", "gevent", "zmq")


class LocustRun:
    """A context: entering sets Locust up, leaving ends everything that was started."""

    def __init__(
        self,
        engine: EngineProcess | None,
        workers: int,
        join: int,
        listen: tuple[str, int] | None,
        secret: bytes | None = None,
        *,
        abort_on_loss: bool = False,
    ) -> None:
        """With an `engine`, one local worker in this process; else `workers` processes here and `join` elsewhere."""
        self._secret = secret
        self._abort_on_loss = abort_on_loss
        self._engine = engine
        self._workers = workers
        self._join = join
        self._listen = listen
        self._environment = Environment(user_classes=[SlotUser])
        self._bridge: Bridge | None = None
        self._coordinator: Coordinator | None = None
        self._started: list[subprocess.Popen[bytes]] = []
        self._watching: gevent.Greenlet[..., None] | None = None
        self._handlers: list[gevent.signal_handler] = []

    def __enter__(self) -> Self:
        for name in _QUIET:
            logging.getLogger(name).setLevel(logging.ERROR)
        if self._engine is not None:
            self._environment.create_local_runner()
        else:
            self._listen = self._listen or ("127.0.0.1", _free_port())
            try:
                self._environment.create_master_runner(*self._listen)
            except RPCError as error:
                host, port = self._listen
                raise UserError(
                    f"--listen {host}:{port}: cannot listen there; name a free address ({error})"
                ) from error
        return self

    def coordinator(self) -> Coordinator:
        """The coordinator, with the workers on their way to it."""
        coordinator = self._coordinator = Coordinator(
            self._environment,
            self._workers + self._join,
            JOIN_FROM_ELSEWHERE_S if self._join else JOIN_S,
            self._secret,
            abort_on_loss=self._abort_on_loss,
        )
        if self._engine is not None:
            self._bridge = Bridge(self._environment, self._engine, self._secret)
        elif self._listen is not None:
            self._started = [start_worker(*self._listen) for _ in range(self._workers)]
            come_after_engines()
        return coordinator

    def on_interrupt(self, interrupt: Callable[[], None]) -> None:
        """Call `interrupt` at Ctrl-C and SIGTERM, each time."""
        self._handlers = [gevent.signal_handler(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)]

    def watch(self, look: Callable[[], None]) -> None:
        """Call `look` a few times a second, until the run is over."""

        def watching() -> None:
            while True:
                gevent.sleep(_WATCH_EVERY_S)
                for worker in self._started:
                    if (code := worker.poll()) is not None and self._coordinator is not None:
                        self._coordinator.lose_process(worker.pid, code)
                look()

        self._watching = gevent.spawn(watching)

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watching is not None:
            self._watching.kill()
        if self._environment.runner is not None:
            self._environment.runner.quit()
        if self._bridge is not None:
            self._bridge.close()
        for worker in self._started:
            end(worker, 2.0)
        for handler in self._handlers:
            handler.cancel()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(
                number, signal.SIG_IGN
            )  # all is written: what is left takes a moment, and leaves nobody behind


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
