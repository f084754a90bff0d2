"""How the process starts and ends."""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
from sim_process import QUICK, Sim

from latbench.sim.options import Options, arguments, command

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_even_within_an_answer(start: Callable[..., Sim], number: signal.Signals) -> None:
    sim = start(itl_ns=10**9)
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true,"max_tokens":1000}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: sim\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", sim.port), timeout=30) as connection:
        connection.sendall(head.encode() + body)
        sim.wait_for(active=1)
        sim.process.send_signal(number)
        assert sim.process.wait(timeout=30) == 0
    assert sim.process.stdout is not None
    assert sim.process.stdout.read() == ""  # the one line is all it says


def test_it_ends_with_its_parent() -> None:
    """The parent is killed: nothing of it can clean up."""
    code = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen({command(replace(QUICK, with_parent=True))!r}, stdout=subprocess.PIPE, text=True)\n"
        "print(child.pid, child.stdout.readline(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        number, text = parent.stdout.readline().split(maxsplit=1)
        assert text.startswith("latbench sim: http://")
        descriptor = os.pidfd_open(int(number))
        try:
            parent.kill()
            assert select.select([descriptor], [], [], 30)[0], "it outlived its parent"
        finally:
            os.close(descriptor)


def test_it_does_not_start_for_a_reader_that_is_gone() -> None:
    """As when the parent died before the kernel knew that it matters."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        found = subprocess.run(command(QUICK), stdout=writer, stderr=subprocess.PIPE, timeout=30, check=False)
    finally:
        os.close(writer)
    assert (found.returncode, found.stderr) == (0, b"")


def _failed(options: Options) -> str:
    found = subprocess.run(command(options), capture_output=True, text=True, timeout=30, check=False)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.count("\n") == 1
    return found.stderr


def test_a_port_that_is_taken_is_said_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = _failed(replace(QUICK, port=port))
    assert said.startswith(f"latbench sim: cannot listen on 127.0.0.1 port {port}: ")
    assert "--port 0 takes a free one" in said


def test_a_key_that_is_not_set_is_said_in_one_line() -> None:
    said = _failed(replace(QUICK, api_key_env="LATBENCH_NO_SUCH_KEY"))
    assert "LATBENCH_NO_SUCH_KEY is not set; export it first" in said


def test_the_verb_becomes_the_server() -> None:
    line = [sys.executable, "-c", "from latbench.cli.sim import sim; sim()", *arguments(QUICK)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().rsplit(":", 1)[1].split("/")[0])
            assert Sim(process, port).call("GET", "/health")[2] == b'{"status":"ok"}'
        finally:
            process.terminate()
        assert process.wait(timeout=30) == 0
