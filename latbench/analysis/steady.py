"""Whether a series has become steady, and where: MSER-5. Pure.

MSER-5 (`analysis/intervals.py`) is good at finding an end and bad at saying that there was nothing to cut, since noise
has a smallest standard error, too. Therefore what it cuts counts only if the cut part is another population
(Mann-Whitney, p < 0.001) with another median, by more than 10 %.
"""

from dataclasses import dataclass

import numpy as np

from latbench.analysis.intervals import mser5

LEAST = 100
"""Values; in fewer nothing is looked for."""

_FEWEST = 5

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


def unsteady(values: np.ndarray, warmup: int) -> Unsteady | None:
    """What of a series in the order of due times is left of the start after its first `warmup` values.

    None where it had become steady by then, or where there are too few values to tell.
    """
    measured = values[warmup:]
    if len(measured) < LEAST:
        return None
    cut, _ = mser5(values)
    count = min(cut - warmup, len(measured) // 2)
    if count < _FEWEST:
        return None
    early, rest = measured[:count], measured[count:]
    medians = [float(np.median(part)) for part in (early, rest, measured)]
    if not medians[1] or abs(medians[0] / medians[1] - 1) <= ANOTHER_MEDIAN:
        return None
    # Imported here because it takes half a second, which nobody who starts a run should wait for.
    from scipy.stats import mannwhitneyu

    if mannwhitneyu(early, rest).pvalue >= ANOTHER_P:
        return None
    return Unsteady(count, *medians)
