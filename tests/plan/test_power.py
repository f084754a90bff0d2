"""The n that `plan` names, and the simulation that it and the intervals are held against."""

import importlib.util
import sys
from pathlib import Path
from statistics import NormalDist
from types import ModuleType

import pytest

from latbench.analysis.intervals import ranks
from latbench.plan.power import POWER, RATIO, SIGMA, needed, power

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def coverage() -> ModuleType:
    """benchmarks/coverage.py, which is no package."""
    spec = importlib.util.spec_from_file_location("coverage_of_intervals", ROOT / "benchmarks" / "coverage.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_n_that_plan_names() -> None:
    found = power()
    assert (found.ratio, found.power) == (RATIO, POWER)
    assert found.requests == {"p50": 763, "p95": 2213}
    assert needed(990) > needed(950)


@pytest.mark.parametrize(("k", "n", "per_cent"), [(500, 1000, 3.9), (950, 1000, 6.5), (990, 10_000, 3.7)])
def test_the_half_width_of_an_interval_is_that_of_the_reference(k: int, n: int, per_cent: float) -> None:
    """Log-sigma 0.5; the exact limits are a little wider than the formula says, more so in the tail."""
    normal = NormalDist()
    low, high = (normal.inv_cdf(rank / (n + 1)) for rank in ranks(n, n, k, 0.95))
    assert 100 * SIGMA * (high - low) / 2 == pytest.approx(per_cent, rel=0.12)


def test_intervals_hold_the_truth_as_often_as_they_say(coverage: ModuleType) -> None:
    """300 runs of each kind: the limits are three standard errors wider than those of 2,000."""
    for row in coverage.coverage_rows(300, 3000):
        assert 0.91 <= row.share <= 0.995, row


def test_two_identical_runs_are_seldom_called_different(coverage: ModuleType) -> None:
    for row in coverage.alike_rows(100, 3000):
        assert row.share <= 0.1, row


def test_a_ratio_is_found_at_the_n_that_plan_names(coverage: ModuleType) -> None:
    for row in coverage.power_rows(150):
        assert row.share >= 0.93, row


@pytest.mark.long
def test_the_figures_of_the_whole_simulation_are_within_their_limits(coverage: ModuleType) -> None:
    text, holds = coverage.page()
    assert holds, text
    assert "2,000 runs of 3,000 requests" in coverage.RESULTS.read_text(encoding="utf-8")
