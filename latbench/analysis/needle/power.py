"""What a sample could have found: the power of the test for a dip, before Holm, and the smallest dip it would not miss.

A dip of 20 points means that accuracy falls in a straight line from the ends of the file (from the outer strata where
there are strata) to 20 points less in the middle. The figures are normal approximations of the two tests in
`position.py`; `tests/analysis/test_needle_power.py` holds them against simulation.
"""

import math

import numpy as np
from scipy import stats

from latbench.analysis.needle.position import valley, weights

ALPHA = 0.05
POWER = 0.8
EDGES = 0.9
"""The accuracy at the ends that is assumed before there is a measured one."""
POWERED = 0.20
"""A sample that would miss a dip of this size too often is not powered for position."""
STRATA = (0.1, 0.3, 0.5, 0.7, 0.9)
_Z = float(stats.norm.isf(ALPHA))
_ALONG = (np.arange(200) + 0.5) / 200  # the whole file, finely


def power_of_blocks(blocks: int, dip: float, edges: float = EDGES, strata: tuple[float, ...] = STRATA) -> float:
    """The power of so many blocks for a dip, at one length. 0 where the strata are too few to have a middle."""
    depths = np.asarray(strata)
    contrast = weights(depths, 2)
    if contrast is None or not blocks:
        return 0.0
    accuracy = np.clip(edges - dip * valley(depths), 0, 1)
    # If no deal mattered, a block's outcomes would vary about its own mean, with k/(k-1) of the variance of one.
    mean = accuracy.mean()
    spread = np.mean((accuracy - mean) ** 2) + np.mean(accuracy * (1 - accuracy)) * (1 - 1 / len(depths))
    under_null = float(contrast @ contrast) * spread * len(depths) / (len(depths) - 1)
    under_dip = float((contrast**2) @ (accuracy * (1 - accuracy)))
    return _power(blocks * float(contrast @ accuracy), blocks * under_null, blocks * under_dip)


def power_of_drawn(trials: int, dip: float, edges: float = EDGES) -> float:
    """The power of so many trials whose depth was drawn over the whole file."""
    accuracy = np.clip(edges - dip * valley(np.concatenate(([0.0], _ALONG, [1.0])))[1:-1], 0, 1)
    powers = np.stack([np.ones_like(_ALONG), 2 * _ALONG - 1], axis=1)
    square = (2 * _ALONG - 1) ** 2
    fit, *_ = np.linalg.lstsq(powers, square, rcond=None)
    tested = square - powers @ fit
    mean = float(accuracy.mean())
    under_null = float(np.mean(tested**2)) * mean * (1 - mean)
    under_dip = float(np.mean(tested**2 * accuracy * (1 - accuracy)))
    return _power(trials * float(np.mean(tested * accuracy)), trials * under_null, trials * under_dip)


def _power(effect: float, under_null: float, under_dip: float) -> float:
    if effect <= 0:
        return ALPHA
    if under_dip <= 0:
        return 1.0 if effect > _Z * math.sqrt(under_null) else 0.0
    return float(stats.norm.sf((_Z * math.sqrt(under_null) - effect) / math.sqrt(under_dip)))


def detectable_dip(
    units: int,
    edges: float = EDGES,
    *,
    blocked: bool = True,
    strata: tuple[float, ...] = STRATA,
    power: float = POWER,
) -> float | None:
    """The smallest dip that is found with this power, as a share; None if not even the largest possible one is."""

    def reached(dip: float) -> bool:
        found = power_of_blocks(units, dip, edges, strata) if blocked else power_of_drawn(units, dip, edges)
        return found >= power

    if not reached(edges):
        return None
    low, high = 0.0, edges
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def powered(detectable: float | None) -> bool:
    """Whether a sample says anything about position where it finds no effect."""
    return detectable is not None and detectable <= POWERED
