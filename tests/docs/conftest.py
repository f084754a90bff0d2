"""A quick simulated endpoint for the commands that the documents show."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import pytest

ANNOUNCED = "latbench sim: "
QUICK = ("--ttft=5ms", "--itl=1ms", "--prefill-rate=100000000", "--slots=64", "--with-parent")


@contextmanager
def simulated(*options: str, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """The base URL of a quick simulated endpoint. Its process ends with the block, or with this one."""
    command = [sys.executable, "-m", "latbench", "sim", *QUICK, *options]
    env = {**os.environ, **(env or {})}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=env)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line.startswith(ANNOUNCED), line
        yield line.removeprefix(ANNOUNCED)
    finally:
        process.terminate()
        process.communicate(timeout=10)


@pytest.fixture(scope="module")
def sim_url() -> Iterator[str]:
    """The base URL of one for all commands of a module."""
    with simulated() as url:
        yield url


@pytest.fixture(scope="session")
def simulate() -> Callable[..., AbstractContextManager[str]]:
    """`simulated`, for a test that wants options of its own."""
    return simulated


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """What a reader's shell has: the commands of the environment first on the path, nothing of ours set."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LATBENCH_", "LOCUST_"))}
    return kept | {"PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{kept['PATH']}"}
