"""The process of the simulated endpoint: `python -m latbench.sim.server`.

It prints one line when it listens, and logs nothing about requests: `/sim/stats` has the truth.
"""

import asyncio
import ctypes
import gc
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import click
import uvloop
from aiohttp import web

from latbench.model.errors import UserError
from latbench.sim import faults
from latbench.sim.alarm import Alarm
from latbench.sim.endpoint import Simulator
from latbench.sim.options import HELP, PARAMETERS, Options
from latbench.sim.trials import AnswerBook

_KEEP_ALIVE_S = 300.0
_BACKLOG = 4096
_SET_PARENT_DEATH_SIGNAL = 1


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise UserError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; "
            "choose another --host or --port (--port 0 takes a free one)"
        ) from None
    # Inherited by every connection: with Nagle's algorithm a token would wait for the client's ACK of the one before.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _die_with_parent() -> None:
    """Has the kernel kill this process when its parent ends, however it ends."""
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it ended in between: the signal will not come any more
        raise SystemExit(0)


def _api_key(options: Options) -> str | None:
    if options.api_key_env is None:
        return None
    key = os.environ.get(options.api_key_env)
    if not key:
        raise UserError(f"--api-key-env: the environment variable {options.api_key_env} is not set; export it first")
    return key


def _check_faults(options: Options) -> None:
    try:
        faults.shares(options)
    except ValueError as error:
        raise UserError(f"--p-*: {error}") from None


def _answers(options: Options) -> AnswerBook | None:
    if options.needle is None:
        return None
    try:
        return AnswerBook(Path(options.needle))
    except OSError as error:
        raise UserError(f"--needle: cannot read {options.needle}: {error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"--needle: {error}") from None


async def _run(options: Options) -> None:
    """Serves until SIGTERM or SIGINT. Open answers are cut then: there is nothing to save."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    api_key = _api_key(options)
    _check_faults(options)
    answers = _answers(options)
    listener = _listener(options.host, options.port)
    simulator = Simulator(options, api_key, Alarm(loop), answers)
    runner = web.AppRunner(
        simulator.application(), access_log=None, handler_cancellation=True, keepalive_timeout=_KEEP_ALIVE_S
    )
    await runner.setup()
    await web.SockSite(runner, listener).start()
    gc.freeze()  # what lives as long as the process need not be looked at again: shorter pauses
    host = f"[{options.host}]" if ":" in options.host else options.host
    try:
        os.write(1, f"latbench sim: http://{host}:{listener.getsockname()[1]}/v1\n".encode())
    except BrokenPipeError:  # whoever started us is gone before it knew us
        return
    await stop.wait()


def serve(**values: Any) -> None:  # noqa: ANN401  click hands over what PARAMETERS declares
    """Runs the endpoint with the options of the command line."""
    options = Options(**values)
    if options.with_parent:
        _die_with_parent()
    try:
        uvloop.run(_run(options))
    except UserError as error:
        click.echo(f"latbench sim: {error}", err=True)
        sys.exit(error.exit_code)


main = click.Command("latbench.sim.server", params=list(PARAMETERS), callback=serve, help=HELP)

if __name__ == "__main__":
    main()
