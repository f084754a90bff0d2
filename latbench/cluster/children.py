"""Processes that a run starts: engines, local workers, the simulated endpoint. Each dies with its starter.

Imports neither Locust nor gevent, so that children can start before that second of imports.
"""

import os
import select
import socket
import subprocess
import sys
from dataclasses import dataclass

from latbench.model.errors import UserError


@dataclass(slots=True)
class EngineProcess:
    """An engine and our end of the socketpair to it."""

    process: "subprocess.Popen[bytes]"
    link: socket.socket

    def end(self, patience_s: float) -> None:
        """Close the link, which ends the engine; kill it if it has not ended after `patience_s`."""
        self.link.close()
        end(self.process, patience_s)


def start_engine() -> EngineProcess:
    """Start an engine with exec. Its standard error is ours."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", "latbench.engine.process", "--fd", str(theirs.fileno())]
        process = subprocess.Popen(
            [*command, "--parent", str(os.getpid())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            process_group=0,  # not met by what a terminal sends; a session of its own would rank by itself
        )
    return EngineProcess(process, ours)


def start_worker(host: str, port: int) -> "subprocess.Popen[bytes]":
    """Start a local worker that joins the master at `host`:`port`."""
    command = [sys.executable, "-m", "latbench", "worker", "--master", f"{host}:{port}", "--parent", str(os.getpid())]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, process_group=0)


def start_announced(command: list[str], prefix: str, patience_s: float) -> "tuple[subprocess.Popen[bytes], str]":
    """Start a server that says where it listens: the process, and what follows `prefix` on its first line.

    Raises UserError where it does not say so in time.
    """
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], patience_s)
    line = process.stdout.readline().decode(errors="replace").strip() if ready else ""
    if not line.startswith(prefix):
        end(process, 0.0)
        raise UserError(f"{' '.join(command[1:3])}: did not start within {patience_s:.0f} s")
    return process, line.removeprefix(prefix)


def end(process: "subprocess.Popen[bytes]", patience_s: float) -> None:
    """Wait for a child to end by itself, then terminate it, then kill it; each takes `patience_s`."""
    for ask in (None, process.terminate, process.kill):
        if ask is not None:
            ask()
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue
        return
