"""Shares of trials: accuracy beside success, what is missing, their intervals, and the bounds that claims rest on.

Wilson's interval is for looking at; "at least" is claimed on the exact one-sided limit of Clopper and Pearson. Trials
of one block have haystack and needle in common, so shares over several lengths or kinds come with a bootstrap of whole
blocks. A share with more than 5 % of its trials missing is *incomplete*: the bounds say what it would be if all of the
missing had been wrong, or right.
"""

import math
from dataclasses import dataclass

import numpy as np

from latbench.analysis.intervals import clopper_pearson
from latbench.analysis.needle.trials import Trials
from latbench.analysis.stats import wilson

MISSING = 0.05
"""The share of trials without an answer beyond which a share is incomplete."""
CONFIDENCE = 0.95
RESAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class Share:
    """Trials of one kind. `accuracy` is `correct / answered`, with Wilson's 95 % interval; None of nothing.

    `success` is `correct / sent`. `worst` and `best` are the accuracy with all missing trials wrong, and right.
    `lower` is the one-sided 95 % limit of the accuracy. `chance` is what guessing would reach.
    """

    planned: int
    sent: int
    answered: int
    correct: int
    accuracy: float | None
    ci95: tuple[float, float] | None
    lower: float
    success: float | None
    worst: float
    best: float
    chance: float

    @property
    def missing(self) -> int:
        return self.planned - self.answered

    @property
    def incomplete(self) -> bool:
        """Whether so much is missing that nothing is claimed."""
        return self.missing > MISSING * self.planned

    @property
    def at_chance(self) -> bool:
        """Whether guessing explains what was found."""
        return self.ci95 is None or self.ci95[0] <= self.chance


def share(trials: Trials) -> Share:
    """What became of some trials, as shares."""
    planned, sent = len(trials), int(np.count_nonzero(trials.sent))
    answered = int(np.count_nonzero(trials.answered))
    correct = int(np.count_nonzero(trials.correct))
    return Share(
        planned=planned,
        sent=sent,
        answered=answered,
        correct=correct,
        accuracy=correct / answered if answered else None,
        ci95=wilson(correct, answered),
        lower=lower_bound(correct, answered),
        success=correct / sent if sent else None,
        worst=correct / planned if planned else 0.0,
        best=(correct + planned - answered) / planned if planned else 1.0,
        chance=float(trials.chance.mean()) if planned else 0.0,
    )


def lower_bound(count: int, of: int, confidence: float = CONFIDENCE) -> float:
    """The share that `count` of `of` proves at least: the exact one-sided limit. 0 of nothing."""
    ends = clopper_pearson(count, of, 2 * confidence - 1)
    return 0.0 if ends is None else ends[0]


def upper_bound(count: int, of: int, confidence: float = CONFIDENCE) -> float:
    """The share that `count` of `of` leaves possible at most. 1 of nothing."""
    return 1.0 - lower_bound(of - count, of, confidence)


def least_all_correct(threshold: float, confidence: float = CONFIDENCE) -> int:
    """How many trials, all of them correct, prove a share of at least `threshold`: 19 for 85 %, 59 for 95 %."""
    return math.ceil(math.log(1 - confidence) / math.log(threshold))


def blocks_interval(trials: Trials, seed: int, resamples: int = RESAMPLES) -> tuple[float, float] | None:
    """The 95 % interval of the accuracy over several kinds or lengths, by drawing whole blocks; None of no answer."""
    _, number = np.unique(trials.block, return_inverse=True)
    if not np.any(trials.answered):
        return None
    correct = np.bincount(number, trials.correct)
    answered = np.bincount(number, trials.answered)
    weights = block_weights(len(correct), seed, resamples)
    drawn = weights @ answered
    shares = (weights @ correct)[drawn > 0] / drawn[drawn > 0]
    low, high = np.quantile(shares, (0.025, 0.975))
    return float(low), float(high)


def block_weights(blocks: int, seed: int, resamples: int = RESAMPLES) -> np.ndarray:
    """How often each block is drawn in each of the resamples."""
    drawn: np.ndarray = np.random.default_rng(seed).multinomial(blocks, np.full(blocks, 1 / blocks), size=resamples)
    return drawn
