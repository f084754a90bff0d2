"""One real engine for the tests of a module, one after the other."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from llama_kit import Llama, find_python, serving


@pytest.fixture(scope="session")
def engine_python() -> Path:
    return find_python()


@pytest.fixture(scope="module")
def llama(engine_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Llama]:
    with serving(engine_python, tmp_path_factory.mktemp("llama")) as server:
        yield server
