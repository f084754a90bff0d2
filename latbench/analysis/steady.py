"""Whether a series has become steady, and where: MSER-5. Pure.

MSER-5 (White, Cobb and Spratt 2000) takes means of 5 values and looks for the truncation after which the standard error
of what is left is smallest: Z(d) = sum over i > d of (b_i - mean of these)² / (k - d)², d at most k / 2. It is good at
finding an end and bad at saying that there was nothing to cut, since noise has a smallest value, too. Therefore what it
cuts counts only if the cut part is another population (Mann-Whitney, p < 0.001) with another median, by more than 10 %.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats as scipy_stats

BATCH = 5
LEAST = 100
"""Values; in fewer nothing is looked for."""

ANOTHER_P = 0.001  # small, because the cut was chosen: the worst of many
ANOTHER_MEDIAN = 0.1


@dataclass(frozen=True, slots=True)
class Unsteady:
    """Measured values that are not yet of the steady state: how many, and the medians of them, of the rest, of all."""

    count: int
    median: float
    rest: float
    whole: float

    @property
    def change(self) -> float:
        """How far the median of all is from that of the rest, as a share of it."""
        return abs(self.whole / self.rest - 1) if self.rest else 0.0


def mser5(values: np.ndarray) -> int:
    """How many values to cut from the start. Half of them, which is the most, means that no steady state was found."""
    count = len(values) // BATCH
    if count < 2:
        return 0
    batches = values[: count * BATCH].reshape(count, BATCH).mean(axis=1)
    left = np.arange(count, 0, -1)
    ahead = np.cumsum(batches[::-1])[::-1]
    squares = np.cumsum((batches**2)[::-1])[::-1]
    # Never below zero: the difference of two sums that are all but equal.
    z = np.maximum(squares - ahead**2 / left, 0.0) / left**2
    return int(np.argmin(z[: count // 2 + 1])) * BATCH


def unsteady(values: np.ndarray, warmup: int) -> Unsteady | None:
    """What of a series in the order of due times is left of the start after its first `warmup` values.

    None where it had become steady by then, or where there are too few values to tell.
    """
    measured = values[warmup:]
    count = min(mser5(values - values.mean()) - warmup, len(measured) // 2) if len(measured) >= LEAST else 0
    if count < BATCH:
        return None
    early, rest = measured[:count], measured[count:]
    medians = [float(np.median(part)) for part in (early, rest, measured)]
    if not medians[1] or abs(medians[0] / medians[1] - 1) <= ANOTHER_MEDIAN:
        return None
    if scipy_stats.mannwhitneyu(early, rest).pvalue >= ANOTHER_P:
        return None
    return Unsteady(count, *medians)
