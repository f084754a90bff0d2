"""The power statement against the design's table and against simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from needle_models import STRATA
from scipy import stats

from latbench.analysis.needle.position import exact_p, score_z, valley
from latbench.analysis.needle.power import detectable_dip, power_of_blocks, power_of_drawn, powered

DIP = np.array([2, -1, -2, -1, 2])


@pytest.mark.parametrize(
    ("blocks", "edges", "dip", "low", "high"),
    [
        (20, 0.9, 0.10, 0.23, 0.23),
        (20, 0.9, 0.15, 0.37, 0.45),
        (20, 0.9, 0.20, 0.51, 0.65),
        (30, 0.9, 0.10, 0.32, 0.37),
        (30, 0.9, 0.20, 0.70, 0.78),
        (50, 0.9, 0.10, 0.49, 0.54),
        (50, 0.9, 0.15, 0.72, 0.79),
        (50, 0.9, 0.20, 0.89, 0.93),
        (50, 0.95, 0.10, 0.57, 0.63),
        (100, 0.9, 0.10, 0.70, 0.79),
        (100, 0.9, 0.20, 0.99, 1.0),
        (100, 0.95, 0.15, 0.98, 1.0),
    ],
)
def test_power_is_that_of_the_designs_table(blocks: int, edges: float, dip: float, low: float, high: float):
    assert low - 0.05 <= power_of_blocks(blocks, dip, edges) <= high + 0.05


def test_the_case_of_fifty_requests():
    assert power_of_drawn(50, 0.2) == pytest.approx(0.25, abs=0.02)
    assert power_of_drawn(50, 0.3) == pytest.approx(0.38, abs=0.02)
    assert not powered(detectable_dip(50, blocked=False))
    assert not powered(detectable_dip(100, blocked=False))


def test_detectable_dips_are_those_of_the_design():
    for blocks, points in ((20, 0.25), (50, 0.17), (100, 0.12)):
        assert detectable_dip(blocks) == pytest.approx(points, abs=0.03)
    assert powered(detectable_dip(50))
    assert not powered(detectable_dip(20))


def test_samples_that_can_find_nothing():
    assert detectable_dip(0) is None
    assert detectable_dip(1) is None
    assert detectable_dip(50, edges=0.1) is None
    assert detectable_dip(50, strata=(0.2, 0.8)) is None
    assert not powered(None)
    assert power_of_blocks(50, 0.0) == 0.05
    certain = (0.1, 0.5, 0.9)  # edges of 1 and a middle of 0: nothing is left to chance
    assert (power_of_blocks(1, 1.0, 1.0, certain), power_of_blocks(9, 1.0, 1.0, certain)) == (0.0, 1.0)


@given(st.integers(5, 200), st.floats(0.3, 0.95), st.booleans())
def test_more_blocks_find_smaller_dips(units: int, edges: float, blocked: bool):
    few, more = detectable_dip(units, edges, blocked=blocked), detectable_dip(4 * units, edges, blocked=blocked)
    assert few is None or (more is not None and more <= few + 1e-3)
    if few is not None:
        reached = power_of_blocks if blocked else power_of_drawn
        assert reached(units, few, edges) >= 0.8


@pytest.mark.long
@pytest.mark.parametrize(("blocks", "dip"), [(20, 0.2), (50, 0.1), (50, 0.17), (100, 0.1)])
def test_power_of_blocks_by_simulation(blocks: int, dip: float):
    rng, accuracy, runs = np.random.default_rng(3), 0.9 - dip * valley(np.array(STRATA)), 1_500
    found = 0
    for _ in range(runs):
        p = exact_p((rng.random((blocks, 5)) < accuracy).astype(np.int8), DIP, two_sided=False)
        found += p is not None and p <= 0.05
    assert found / runs == pytest.approx(power_of_blocks(blocks, dip), abs=0.05)


@pytest.mark.long
@pytest.mark.parametrize(("trials", "dip"), [(50, 0.2), (50, 0.3), (200, 0.2)])
def test_power_of_drawn_depths_by_simulation(trials: int, dip: float):
    rng, runs, found = np.random.default_rng(3), 1_500, 0
    for _ in range(runs):
        depth = rng.random(trials)
        right = (rng.random(trials) < 0.9 - dip * (1 - np.abs(2 * depth - 1))).astype(np.float64)
        z = score_z(right, depth, 2)
        found += z is not None and z > stats.norm.isf(0.05)
    assert found / runs == pytest.approx(power_of_drawn(trials, dip), abs=0.05)
