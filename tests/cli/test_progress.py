"""What a person watches: on a terminal only, and gone when the report is printed."""

import os
import pty
import select
import time

import pytest
from harness import LATBENCH, Cli, Served

from latbench.cli.progress import lines
from latbench.metrics.recorder import Recorder
from latbench.model.load import Burst, Closed, Poisson, Sessions, Step, ToolLoop

pytestmark = pytest.mark.timeout(90)
SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (Step(Closed(16), 400, 60 * SECOND), "closed 16, 400 requests or 60 s"),
        (Step(Poisson(4.0), None, 90 * SECOND, 10 * SECOND), "poisson 4/s, 100 s"),
        (Step(Burst(50, 30 * SECOND), 150), "burst 50 every 30s, 150 requests"),
        (Step(Sessions(1.0, 4), 9), "sessions 1/s of 4 turns, 9 sessions"),
        (Step(ToolLoop(1.0), 9), "tool_loop 1/s parallel, 9 tool loops"),
        (Step(Closed(2), None, 60 * SECOND, slice_ns=20 * SECOND), "closed 2, 60 s each, in turns of 20 s"),
    ],
)
def test_the_first_line_says_how_hard_and_until_when(step: Step, words: str) -> None:
    view = Recorder().snapshot(7 * SECOND, step=1, in_flight=3)
    assert lines(view, [Step(Closed(1), 1), step])[0] == f"step 2/2  {words}   7 s   in flight 3"


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


@pytest.mark.long
def test_a_block_with_step_rates_and_outcomes_that_is_redrawn(cli: Cli, endpoint: Served) -> None:
    flags = ["--url", endpoint.url, "--model", "m", "--prompts", "own.jsonl", "--max-tokens", "40"]
    said = on_a_terminal(cli, "run", *flags, "--requests", "300", "--concurrency", "4")
    assert "step 1/1  closed 4, 300 requests" in said
    assert "in flight 4" in said
    assert "TTFT p50" in said
    assert "\x1b[2K" in said, "the block is drawn over"
    assert said.index("step 1/1") < said.index("verdict: "), "the report comes last"


@pytest.mark.long
def test_none_where_it_is_not_wanted(cli: Cli, endpoint: Served) -> None:
    flags = ["--url", endpoint.url, "--model", "m", "--prompts", "own.jsonl", "--requests", "20"]
    assert "in flight" not in on_a_terminal(cli, "run", *flags, "--quiet")
