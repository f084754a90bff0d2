"""What a person watches: on a terminal only, and gone when the report is printed."""

import os
import pty
import select
import time

import pytest
from harness import LATBENCH, Cli, Served

pytestmark = pytest.mark.timeout(90)


def on_a_terminal(cli: Cli, *args: str) -> str:
    """Everything that `latbench args` writes to a terminal."""
    cli.prompts()
    child, terminal = pty.fork()
    if child == 0:  # pragma: no cover
        os.chdir(cli.cwd)
        os.execve(LATBENCH, [str(LATBENCH), *args], {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"})
    said = bytearray()
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if select.select([terminal], [], [], 1.0)[0]:
            try:
                said += os.read(terminal, 65536)
            except OSError:  # the other side has been closed
                break
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, said
    return said.decode()


def test_a_block_with_step_rates_and_outcomes_that_is_redrawn(cli: Cli, endpoint: Served) -> None:
    flags = ["--url", endpoint.url, "--model", "m", "--prompts", "own.jsonl", "--max-tokens", "40"]
    said = on_a_terminal(cli, "run", *flags, "--requests", "300", "--concurrency", "4")
    assert "step 1/1  closed, concurrency 4, 300 requests" in said
    assert "in flight 4" in said
    assert "TTFT p50" in said
    assert "\x1b[2K" in said, "the block is drawn over"
    assert said.index("step 1/1") < said.index("verdict: "), "the report comes last"


def test_none_where_it_is_not_wanted(cli: Cli, endpoint: Served) -> None:
    flags = ["--url", endpoint.url, "--model", "m", "--prompts", "own.jsonl", "--requests", "20"]
    assert "in flight" not in on_a_terminal(cli, "run", *flags, "--quiet")
