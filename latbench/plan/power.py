"""How many requests tell two runs apart: said before a run, and held against simulation in `benchmarks/coverage.py`.

Assumed: latencies are lognormal with log-sigma 0.5 (the 95th percentile is 2.3 times the median), all `ok`, and
independent: where requests wait for one another, n is to be multiplied by their autocorrelation time.
Found means that the whole 95 % interval of the ratio lies above the margin: the verdict REGRESSED.
"""

import math
from statistics import NormalDist

import msgspec

from latbench.analysis.intervals import ranks, smallest_n

SIGMA = 0.5
RATIO = 1.2
MARGIN = 1.05
POWER = 0.95

_SPARE = 1.25
"""A quarter more than the formula says: it takes the width of an interval for known, which a run has to estimate."""
_NORMAL = NormalDist()


class Power(msgspec.Struct, frozen=True):
    """What is found, with what probability, by how many requests in each of two runs, for some percentiles."""

    ratio: float
    margin: float
    power: float
    log_sigma: float
    requests: dict[str, int]


def power() -> Power:
    """What `latbench plan` says of comparing two runs."""
    return Power(RATIO, MARGIN, POWER, SIGMA, {"p50": needed(500), "p95": needed(950)})


def needed(k_per_mille: int) -> int:
    """The least n of each of two runs for which a true ratio `RATIO` of the percentile is found with `POWER`."""
    above = smallest_n(k_per_mille)
    while not _found(above, k_per_mille):
        above *= 2
    below = above // 2
    while above - below > 1:
        middle = (above + below) // 2
        below, above = (below, middle) if _found(middle, k_per_mille) else (middle, above)
    return math.ceil(above * _SPARE)


def _found(n: int, k_per_mille: int) -> bool:
    """Whether the lower end of the ratio's interval (MOVER) stays above the margin with `POWER`."""
    share = k_per_mille / 1000
    centre = _NORMAL.inv_cdf(share)
    low, high = (_NORMAL.inv_cdf(min(rank, n) / (n + 1)) for rank in ranks(n, n, k_per_mille, 0.95))
    half = math.hypot(centre - low, high - centre)
    error = math.sqrt(2 * share * (1 - share) / n) / _NORMAL.pdf(centre)
    return SIGMA * (half + _NORMAL.inv_cdf(POWER) * error) <= math.log(RATIO / MARGIN)
