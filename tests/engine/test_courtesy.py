"""Who goes first on a core that is shared: an engine before the process that has started it."""

import os
import subprocess
import sys

import pytest

from latbench.cluster.children import start_engine

RANKED = """
import os, subprocess, sys
from latbench.model.courtesy import come_after_engines, let_engines_go

def rank():
    return os.getpriority(os.PRIO_PROCESS, 0)

if len(sys.argv) > 1:
    os.setpriority(os.PRIO_PROCESS, 0, int(sys.argv[1]))
found = [rank()]
for _ in range(2):
    come_after_engines()
    let_engines_go()
    found.append(rank())
child = "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"
print(*found, subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True).stdout)
"""
STARTED = """
import os
from latbench.cluster.children import start_engine
from latbench.model.courtesy import come_after_engines

before = os.getpriority(os.PRIO_PROCESS, 0)
engine = start_engine()
come_after_engines()
print(before, os.getpriority(os.PRIO_PROCESS, engine.process.pid), os.getpriority(os.PRIO_PROCESS, 0))
engine.end(20)
"""
RANK = 10


def said(program: str, *arguments: str) -> list[int]:
    """What numbers a program prints. It is another process: no rank can be taken back without a privilege."""
    command = [sys.executable, "-c", program, *arguments]
    return [int(word) for word in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()]


def test_a_process_comes_after_engines_however_often_it_says_so() -> None:
    before, *after = said(RANKED)
    assert after == [max(RANK, before)] * 3, "what it starts from now on comes with it"


@pytest.mark.parametrize("rank", [11, 19])
def test_a_process_that_comes_last_already_stays_there(rank: int) -> None:
    own = max(rank, os.getpriority(os.PRIO_PROCESS, 0))
    assert said(RANKED, str(own)) == [own] * 4


def test_an_engine_that_was_started_before_keeps_its_rank() -> None:
    before, engine, starter = said(STARTED)
    assert (engine, starter) == (before, max(RANK, before))


def test_an_engine_ranks_among_those_of_its_starter_and_is_not_met_by_what_a_terminal_sends() -> None:
    engine = start_engine()
    try:
        number = engine.process.pid
        assert os.getsid(number) == os.getsid(0), "ranks count within a session"
        assert os.getpgid(number) == number
        assert os.getpgid(number) != os.getpgid(0)
    finally:
        engine.end(20)
    assert engine.process.returncode is not None
