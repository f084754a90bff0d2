"""The scene of a fault: oracles with logs, and a folder for spools that nobody else uses."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from faults_kit import Journal, Scene, Stage
from harness import Cli, Served

ORACLE = ("--ttft-ms", "25", "--itl-ms", "3")


@pytest.fixture
def stage(cli: Cli, start_oracle: Callable[..., Served], tmp_path: Path) -> Stage:
    """Sets a scene with so many oracles."""

    numbers = count()

    def make(oracles: int = 1, options: tuple[str, ...] = ORACLE) -> Scene:
        journals = []
        for _ in range(oracles):
            path = tmp_path / f"oracle-{next(numbers)}.csv"
            journals.append(Journal(start_oracle(*options, "--csv", str(path)), path))
        return Scene(cli, journals, tmp_path / "spools")

    return make
