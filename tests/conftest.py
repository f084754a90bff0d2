"""What tests of the installed command share; `harness` is importable because this file stands beside it."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from harness import FAST, Cli, Scripted, Served, build_oracle, oracle, scripted, simulated, why_no_oracle
from hypothesis import settings

# `make cover` asks for more examples than somebody who waits for `make test`; a busy machine is no failing example.
EXAMPLES = int(os.environ.get("LATBENCH_TEST_EXAMPLES", "15"))
settings.register_profile("busy", deadline=None, max_examples=EXAMPLES)
settings.load_profile("busy")


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """The installed command in an empty folder."""
    cwd, scratch = tmp_path / "work", tmp_path / "said"
    cwd.mkdir()
    scratch.mkdir()
    made = Cli(cwd, scratch)
    try:
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def shared_endpoint() -> Iterator[Served]:
    with simulated() as served:
        yield served


@pytest.fixture
def endpoint(shared_endpoint: Served) -> Served:
    """A quick simulated endpoint, with nothing counted yet."""
    shared_endpoint.get("/sim/reset", "POST")
    return shared_endpoint


@pytest.fixture
def start_sim() -> Iterator[Callable[..., Served]]:
    """Starts simulated endpoints with options of one's own."""
    with ExitStack() as stack:
        yield lambda options=FAST, **more: stack.enter_context(simulated(options, **more))


@pytest.fixture(scope="session")
def oracle_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The independent endpoint of ../shared, built for this session."""
    if why := why_no_oracle():
        pytest.skip(why)
    return build_oracle(tmp_path_factory.mktemp("oracle"))


@pytest.fixture
def start_oracle(oracle_program: Path) -> Iterator[Callable[..., Served]]:
    """Starts oracles with options of one's own."""
    with ExitStack() as stack:
        yield lambda *options: stack.enter_context(oracle(oracle_program, *options))


@pytest.fixture
def start_scripted() -> Iterator[Callable[..., Scripted]]:
    """Starts servers that answer every request alike."""
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(scripted(*args, **kwargs))
