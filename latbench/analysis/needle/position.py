"""Does it matter where the needle is? Tests of one kind at one length.

Where each block was sent at every depth stratum, its difficulty cancels: the outcomes of a block are dealt anew among
its strata, and all deals are equally likely if depth does not matter. Dip and trend are contrasts, sums of outcomes
with a weight for each stratum: (2, -1, -2, -1, 2) and (-2, -1, 0, 1, 2) for five. Their distribution over all deals is
computed exactly. Heterogeneity, any difference whatever, is Cochran's Q with a seeded permutation.

Where depth was drawn for each trial, dip and trend are score tests of a logistic model: of the quadratic term beside a
linear one, and of the linear one. Heterogeneity then is the chi-square of fifths of the file, permuted.

A shape is stated only after Holm's correction over all kinds and lengths. A dip moreover has both ends above the
middle: the quadratic contrast alone is also large where accuracy falls from one end to the other, only faster and
faster, which is a trend.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import special, stats

from latbench.analysis.needle.trials import Trials

PERMUTATIONS = 9_999
BINS = 5
"""What a file is cut into where there are no strata."""
_MOST_WEIGHT = 20
_LEAST_VARIANCE = 1e-9
_STEPS = 50


@dataclass(frozen=True, slots=True)
class Position:
    """What the trials of one kind and length say about depth, before any correction.

    `depths` are the strata (or the middles of fifths), `accuracy` is that of each, NaN where there is none. `p_dip` is
    one-sided, `p_trend` two-sided; None where there are too few depths or no trial differs. `dip` is how many points
    the middle is below the ends, as a share; `trend` the difference between the last and the first depth on a straight
    line. `units` counts blocks, or trials where there are none.
    """

    blocked: bool
    units: int
    depths: np.ndarray
    accuracy: np.ndarray
    p_dip: float | None
    p_trend: float | None
    p_any: float | None
    dip: float | None
    trend: float | None


def position(trials: Trials, seed: int) -> Position:
    """The tests of trials of one kind and length; those without an answer are left out."""
    heard = trials.of(trials.answered)
    if is_blocked(trials):
        return _blocked(heard, np.unique(trials.stratum), seed)
    return _unblocked(heard, seed)


def is_blocked(trials: Trials) -> bool:
    """Whether each block was to be sent at several strata."""
    return bool(len(trials)) and not np.isnan(trials.stratum).any() and len(np.unique(trials.block)) < len(trials)


def depth_edges(depths: np.ndarray) -> np.ndarray:
    """The bounds of the parts of a file that strata stand for: half-way between them, and the ends of the file."""
    return np.concatenate(([0.0], (depths[1:] + depths[:-1]) / 2, [1.0]))


def depth_bins(trials: Trials) -> tuple[np.ndarray, np.ndarray]:
    """The depths that trials are shown at, and which of them each one belongs to, by its actual depth."""
    strata = np.unique(trials.stratum[~np.isnan(trials.stratum)])
    depths = strata if len(strata) else (np.arange(BINS) + 0.5) / BINS
    return depths, np.searchsorted(depth_edges(depths)[1:-1], trials.depth, side="right")


# --- blocks ---------------------------------------------------------------------------------------------------------


def weights(depths: np.ndarray, degree: int) -> np.ndarray | None:
    """The contrast of a degree (1 trend, 2 dip) as whole numbers; None for too few depths.

    Exact for equal distances; others are rounded, which makes another contrast and no wrong test of it.
    """
    if len(depths) <= degree:
        return None
    spread = (depths - depths.mean()) / (depths[-1] - depths[0])
    powers = np.vander(spread, degree + 1, increasing=True)
    fit, *_ = np.linalg.lstsq(powers[:, :degree], powers[:, degree], rcond=None)
    found = powers[:, degree] - powers[:, :degree] @ fit
    small = np.abs(found[np.abs(found) > 1e-9]).min()
    whole = np.round(found / small)
    if np.abs(found / small - whole).max() > 1e-6 or np.abs(whole).max() > _MOST_WEIGHT:
        whole = np.round(found / np.abs(found).max() * _MOST_WEIGHT)
    rounded: np.ndarray = whole.astype(np.int64)
    return rounded


def _table(trials: Trials, strata: np.ndarray) -> np.ndarray:
    """Outcomes as blocks by strata: 1, 0, and -1 where there is none."""
    _, block = np.unique(trials.block, return_inverse=True)
    table = np.full((int(block.max()) + 1 if len(block) else 0, len(strata)), -1, dtype=np.int8)
    table[block, np.searchsorted(strata, trials.stratum)] = trials.correct
    return table


def _kinds(table: np.ndarray) -> Counter[tuple[tuple[int, ...], int]]:
    """How many blocks have which strata and so many correct in them; blocks that no deal changes left out."""
    found: Counter[tuple[tuple[int, ...], int]] = Counter()
    for row in table:
        present = tuple(np.flatnonzero(row >= 0).tolist())
        correct = int((row > 0).sum())
        if 0 < correct < len(present):
            found[present, correct] += 1
    return found


def exact_p(table: np.ndarray, contrast: np.ndarray, *, two_sided: bool) -> float | None:
    """The p-value of a contrast over all deals within blocks; None where no deal changes anything.

    `table` has 1, 0, or -1 (missing) for each block and stratum. One-sided means large.
    """
    kinds = _kinds(table)
    if not kinds:
        return None
    distribution, offset = np.ones(1), 0
    for (present, correct), blocks in kinds.items():
        sums = [int(contrast[list(chosen)].sum()) for chosen in combinations(present, correct)]
        one = np.bincount(np.array(sums) - min(sums)) / len(sums)
        distribution = np.convolve(distribution, _repeated(one, blocks))
        offset += min(sums) * blocks
    varied = [row for row in table if 0 < (row > 0).sum() < (row >= 0).sum()]
    observed = int(sum(int(contrast[row > 0].sum()) for row in varied))
    at = np.arange(len(distribution)) + offset
    if two_sided:
        mean = float(distribution @ at)
        extreme = np.abs(at - mean) >= abs(observed - mean) - 1e-9
    else:
        extreme = at >= observed
    return float(min(1.0, distribution[extreme].sum()))


def _repeated(distribution: np.ndarray, times: int) -> np.ndarray:
    """The distribution of a sum of so many independent ones."""
    found = np.ones(1)
    while times:
        if times & 1:
            found = np.convolve(found, distribution)
        distribution, times = np.convolve(distribution, distribution), times >> 1
    return found


def heterogeneity_p(table: np.ndarray, seed: int, permutations: int = PERMUTATIONS) -> float | None:
    """The p-value of Cochran's Q, by permutation; None where no deal changes anything."""
    kinds = _kinds(table)
    if not kinds:
        return None
    rng, strata = np.random.default_rng(seed), table.shape[1]
    totals = np.zeros((permutations, strata))
    expected, variance = np.zeros(strata), np.zeros(strata)
    for (present, correct), blocks in kinds.items():
        chosen = np.zeros((special.comb(len(present), correct, exact=True), strata))
        for row, strata_chosen in enumerate(combinations(present, correct)):
            chosen[row, list(strata_chosen)] = 1
        totals += rng.multinomial(blocks, np.full(len(chosen), 1 / len(chosen)), size=permutations) @ chosen
        rate = correct / len(present)
        expected[list(present)] += blocks * rate
        variance[list(present)] += blocks * rate * (1 - rate)
    varied = np.array([0 < (row > 0).sum() < (row >= 0).sum() for row in table])
    observed = (table[varied] > 0).sum(axis=0)
    used = variance > 0

    def statistic(found: np.ndarray) -> np.ndarray:
        away: np.ndarray = ((found - expected)[..., used] ** 2 / variance[used]).sum(axis=-1)
        return away

    beyond = int(np.count_nonzero(statistic(totals) >= statistic(observed) - 1e-9))
    return (1 + beyond) / (1 + permutations)


def _blocked(trials: Trials, strata: np.ndarray, seed: int) -> Position:
    table = _table(trials, strata)
    heard = (table >= 0).sum(axis=0)
    accuracy = np.divide((table > 0).sum(axis=0), heard, out=np.full(len(strata), np.nan), where=heard > 0)
    dip, trend = weights(strata, 2), weights(strata, 1)
    return Position(
        blocked=True,
        units=len(table),
        depths=strata,
        accuracy=accuracy,
        p_dip=None if dip is None else exact_p(table, dip, two_sided=False),
        p_trend=None if trend is None else exact_p(table, trend, two_sided=True),
        p_any=heterogeneity_p(table, seed),
        dip=dip_of(strata, accuracy),
        trend=trend_of(strata, accuracy),
    )


# --- depth drawn for each trial -------------------------------------------------------------------------------------


def _unblocked(trials: Trials, seed: int) -> Position:
    depths = (np.arange(BINS) + 0.5) / BINS
    part = np.minimum((trials.depth * BINS).astype(np.int64), BINS - 1)
    heard = np.bincount(part, minlength=BINS)
    correct = np.bincount(part, trials.correct, minlength=BINS)
    accuracy = np.divide(correct, heard, out=np.full(BINS, np.nan), where=heard > 0)
    right, depth = trials.correct.astype(np.float64), trials.depth
    z_dip, z_trend = score_z(right, depth, 2), score_z(right, depth, 1)
    return Position(
        blocked=False,
        units=len(trials),
        depths=depths,
        accuracy=accuracy,
        p_dip=None if z_dip is None else float(stats.norm.sf(z_dip)),
        p_trend=None if z_trend is None else float(2 * stats.norm.sf(abs(z_trend))),
        p_any=_chi_square_p(right, part, seed),
        dip=dip_of(depths, accuracy),
        trend=trend_of(depths, accuracy),
    )


def score_z(right: np.ndarray, depth: np.ndarray, degree: int) -> float | None:
    """The standardised score of the power `degree` of depth in a logistic model that has the lower powers already.

    None where the outcomes or the depths do not vary; 0 where the lower powers explain everything.
    """
    if len(right) <= degree + 1 or len(np.unique(right)) < 2 or len(np.unique(depth)) <= degree:
        return None
    powers = np.vander(2 * depth - 1, degree + 1, increasing=True)
    known, tested = powers[:, :degree], powers[:, degree]
    fitted = _logistic(known, right)
    spread = fitted * (1 - fitted)
    information = known.T @ (known * spread[:, None])
    shared = known.T @ (tested * spread)
    variance = float(tested @ (tested * spread) - shared @ np.linalg.pinv(information) @ shared)
    return float(tested @ (right - fitted)) / float(np.sqrt(variance)) if variance > _LEAST_VARIANCE else 0.0


def _logistic(known: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Fitted probabilities of a logistic model by Newton's method; all 0 and 1, nearly, where it separates."""
    effects = np.zeros(known.shape[1])
    for _ in range(_STEPS):
        fitted = special.expit(known @ effects)
        information = known.T @ (known * (fitted * (1 - fitted))[:, None])
        step = np.linalg.lstsq(information, known.T @ (right - fitted), rcond=None)[0]
        effects = np.clip(effects + np.clip(step, -5, 5), -50, 50)
        if np.abs(step).max() < 1e-10:
            break
    fitted = special.expit(known @ effects)
    return np.asarray(fitted)


def _chi_square_p(right: np.ndarray, part: np.ndarray, seed: int) -> float | None:
    """Whether the parts of a file differ, by dealing the outcomes anew among all trials."""
    heard = np.bincount(part, minlength=BINS)
    correct = int(right.sum())
    if not 0 < correct < len(right):
        return None
    rng, used = np.random.default_rng(seed), heard > 0
    dealt = rng.multivariate_hypergeometric(heard[used], correct, size=PERMUTATIONS)
    observed = np.bincount(part, right, minlength=BINS)[used]
    expected = heard[used] * correct / len(right)

    def statistic(found: np.ndarray) -> np.ndarray:
        away: np.ndarray = ((found - expected) ** 2 / heard[used]).sum(axis=-1)
        return away

    beyond = int(np.count_nonzero(statistic(dealt) >= statistic(observed) - 1e-9))
    return (1 + beyond) / (1 + PERMUTATIONS)


# --- estimates, and what is stated of them --------------------------------------------------------------------------


def valley(depths: np.ndarray) -> np.ndarray:
    """A dip as it is spoken of: straight from nothing at the outer depths to its full size half-way between them."""
    along = (depths - depths[0]) / (depths[-1] - depths[0])
    found: np.ndarray = 1 - np.abs(2 * along - 1)
    return found


def dip_of(depths: np.ndarray, accuracy: np.ndarray) -> float | None:
    """By how much the middle is below the ends (below 0: above them), by least squares."""
    contrast = weights(depths, 2)
    if contrast is None or np.isnan(accuracy).any():
        return None
    return float(contrast @ accuracy / -(contrast @ valley(depths)))


def trend_of(depths: np.ndarray, accuracy: np.ndarray) -> float | None:
    """The difference between the last depth and the first, on the straight line through the accuracies."""
    if len(depths) < 2 or np.isnan(accuracy).any():
        return None
    return float(np.polyfit(depths, accuracy, 1)[0] * (depths[-1] - depths[0]))


def ends_above_middle(found: Position) -> bool:
    """Whether both outer depths are above the average of those between them."""
    if len(found.depths) < 3 or np.isnan(found.accuracy).any():
        return False
    return bool(min(found.accuracy[0], found.accuracy[-1]) > found.accuracy[1:-1].mean())
