"""Endpoints to talk to: one for a whole module, or one of one's own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from sim_process import QUICK, Sim, running


@pytest.fixture(scope="module")
def shared_sim() -> Iterator[Sim]:
    with running(QUICK) as sim:
        yield sim


@pytest.fixture
def sim(shared_sim: Sim) -> Sim:
    """The module's quick endpoint, with nothing counted yet."""
    shared_sim.reset()
    return shared_sim


@pytest.fixture
def start() -> Iterator[Callable[..., Sim]]:
    """Starts an endpoint with some options changed."""
    with ExitStack() as stack:
        yield lambda **changes: stack.enter_context(running(replace(QUICK, **changes)))
