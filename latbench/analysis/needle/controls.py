"""What spoils a claim: answers where there is nothing, questions too hard at any length, answers known beforehand.

Each control holds its figures, and says whether it has tripped. None changes an accuracy; the report prints them
beside it.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from latbench.analysis.needle.shares import Share, lower_bound, share
from latbench.analysis.needle.trials import ABSENT, BASE, CLOSED_BOOK, ORDINARY, Trials
from latbench.model.needle import TrialOutcome

FALSE_PRESENT = 0.10
BASE_ACCURACY = 0.80
LEVEL = 0.05
DEGENERATE = 0.95
"""A share of one outcome from which on the answers are no answers to the questions."""
LEAST_DEGENERATE = 5


@dataclass(frozen=True, slots=True)
class Absent:
    """Trials without a target. `present` of `answered` named something; `lower` is what that proves at least."""

    answered: int
    present: int
    lower: float

    @property
    def answers_regardless(self) -> bool:
        """Whether accuracy is of a reader who names something in any case."""
        return self.lower > FALSE_PRESENT


@dataclass(frozen=True, slots=True)
class Base:
    """Needle and decoys alone, of one kind: what the model can do where there is nothing to search."""

    kind: str
    share: Share

    @property
    def too_hard(self) -> bool:
        """Whether the kind measures ability more than retrieval; then nothing is said of effective context."""
        return self.share.accuracy is not None and self.share.accuracy < BASE_ACCURACY


@dataclass(frozen=True, slots=True)
class ClosedBook:
    """Questions without the code. `p` is that of so many right answers by chance."""

    answered: int
    right: int
    chance: float
    p: float | None

    @property
    def known(self) -> bool:
        """Whether answers were known, or leak."""
        return self.p is not None and self.p <= LEVEL


def absent(trials: Trials) -> Absent | None:
    """What is answered where there is nothing to be found; None without such trials."""
    found = trials.controls(ABSENT)
    answered = int(np.count_nonzero(found.answered))
    present = int(np.count_nonzero(found.outcome == TrialOutcome.FALSE_PRESENT))
    return Absent(answered, present, lower_bound(present, answered)) if len(found) else None


def bases(trials: Trials) -> list[Base]:
    """The short-context base of each kind that has one."""
    found = trials.controls(BASE)
    return [Base(kind, share(found.of(found.kind == kind))) for kind in sorted(set(found.kind.tolist()))]


def closed_book(trials: Trials) -> ClosedBook | None:
    """Answers to questions without the code; None without such trials."""
    found = trials.controls(CLOSED_BOOK)
    if not len(found):
        return None
    answered, right = int(np.count_nonzero(found.answered)), int(np.count_nonzero(found.answered & found.right))
    chance = float(found.chance.mean())
    return ClosedBook(answered, right, chance, float(stats.binom.sf(right - 1, answered, chance)) if answered else None)


def degenerate(trials: Trials) -> str | None:
    """The one outcome that nearly all answers have, if that shows that the questions were not answered at all.

    `false_absent`: always absent. `format_error`, `refused` and the like: nothing that could be scored.
    """
    ordinary = trials.controls(ORDINARY)
    heard = ordinary.outcome[ordinary.answered]
    if len(heard) < LEAST_DEGENERATE:
        return None
    outcomes, counts = np.unique(heard, return_counts=True)
    most = int(counts.argmax())
    outcome = str(outcomes[most])
    answers = {TrialOutcome.CORRECT, TrialOutcome.NEAR_MISS, TrialOutcome.WRONG_DECOY, TrialOutcome.WRONG_OTHER}
    return outcome if counts[most] >= DEGENERATE * len(heard) and outcome not in answers else None
