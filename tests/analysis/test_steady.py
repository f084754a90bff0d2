"""What is made of MSER-5, which has its own tests in test_intervals.py."""

import numpy as np

from latbench.analysis.intervals import mser5
from latbench.analysis.steady import LEAST, unsteady


def ramp(seed: int, n: int = 1000, over: int = 100, times: float = 3.0) -> np.ndarray:
    """Lognormal values whose first `over` fall from `times` as much to the level of the rest."""
    values = np.random.default_rng(seed).lognormal(0.0, 0.3, n)
    values[:over] *= np.linspace(times, 1.0, over)
    return values


def test_a_ramp_is_cut_where_it_ends() -> None:
    cuts = sorted(mser5(ramp(seed))[0] for seed in range(200))
    assert 80 <= cuts[100] <= 110
    assert cuts[10] >= 60


def test_what_the_warm_up_has_covered_is_no_fault() -> None:
    assert unsteady(ramp(1), 120) is None
    left = unsteady(ramp(1), 20)
    assert left is not None
    assert 40 <= left.count <= 90
    assert left.median > 1.2 * left.rest
    assert 0 < left.change < 0.1


def test_a_rising_line_is_never_steady() -> None:
    left = unsteady(np.arange(100.0, 300.0), 0)
    assert left is not None
    assert left.count == 100
    assert left.change > 0.1


def test_noise_raises_no_alarm() -> None:
    """Alarms in runs that were steady from the start: MSER alone would cut something in most of them."""
    rng = np.random.default_rng(8)
    runs = [rng.lognormal(0.0, 0.4, 600) for _ in range(300)]
    assert sum(mser5(values)[0] > 0 for values in runs) > 60
    assert sum(unsteady(values, 0) is not None for values in runs) <= 3


def test_too_few_to_tell() -> None:
    values = np.concatenate((np.full(10, 100.0), np.full(LEAST - 11, 1.0)))
    assert unsteady(values, 0) is None
    assert unsteady(np.append(values, 1.0), 0) is not None


def test_zeros_are_steady() -> None:
    assert unsteady(np.zeros(300), 0) is None
