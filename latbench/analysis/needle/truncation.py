"""Was the prompt read as it was sent? A server that cuts it silently looks like a model that is blind.

Two witnesses: the endpoint's own count of input tokens, where that falls short of what was sent, and the canaries,
constants at 1 % and 99 % of the file: one that is never found while the other is. What was cut is told by where the
answers are wrong. Where there is such a verdict nothing is said about position.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from latbench.analysis.needle.trials import CANARY, ORDINARY, Trials
from latbench.model.needle import TrialOutcome

LEVEL = 0.01
LEAST_SHARE = 0.05
"""Fewer short counts than this among all are reported, and are no verdict."""
HEAD, TAIL, UNKNOWN = "head", "tail", "unknown"


@dataclass(frozen=True, slots=True)
class Truncation:
    """What the witnesses say of one length.

    `short` of `counted` trials were graded as cut, for their count of input tokens; `read_share` is the median of what
    was counted among those. `cut` says which end is missing, None where there is no verdict. `canaries` has, for the
    first and the last percent, how many were found of how many; empty without canaries.
    """

    length: int
    counted: int
    short: int
    read_share: float | None
    cut: str | None
    canaries: tuple[tuple[int, int], ...] = ()


def truncation(trials: Trials) -> list[Truncation]:
    """The verdict for each length, over all kinds, ordinary trials and canaries."""
    lengths = sorted(set(trials.length.tolist()))
    return [_of_length(int(length), trials.of(trials.length == length)) for length in lengths]


def cut_lengths(found: list[Truncation]) -> frozenset[int]:
    """The lengths at which prompts were not read whole."""
    return frozenset(one.length for one in found if one.cut is not None)


def _of_length(length: int, trials: Trials) -> Truncation:
    ratio = trials.input_tokens / trials.expected_input_tokens
    counted = np.isfinite(ratio)
    short = counted & (trials.outcome == TrialOutcome.TRUNCATED_PROMPT)
    number = int(np.count_nonzero(short))
    cut = None
    if number > 1 and number > LEAST_SHARE * np.count_nonzero(counted):
        cut = _missing_end(trials.of(short & (trials.control == ORDINARY)))
    canaries = _canaries(trials.controls(CANARY))
    if canaries and cut in (None, UNKNOWN):
        cut = _by_canaries(canaries) or cut
    read_share = float(np.median(ratio[short])) if number else None
    return Truncation(length, int(np.count_nonzero(counted)), number, read_share, cut, canaries)


def _missing_end(trials: Trials) -> str:
    """Which half of the file has the wrong answers."""
    deep = trials.depth >= 0.5
    halves = [(int(np.count_nonzero(trials.right & half)), int(np.count_nonzero(half))) for half in (~deep, deep)]
    return _worse_end(*halves) or UNKNOWN


def _canaries(trials: Trials) -> tuple[tuple[int, int], ...]:
    if not len(trials):
        return ()
    ends = (trials.depth < 0.5, trials.depth >= 0.5)
    heard = trials.answered | np.isfinite(trials.input_tokens)
    return tuple((int(np.count_nonzero(trials.right & end)), int(np.count_nonzero(heard & end))) for end in ends)


def _by_canaries(canaries: tuple[tuple[int, int], ...]) -> str | None:
    """The end whose canary is never found while more than half of the others are."""
    (head, heads), (tail, tails) = canaries
    if not heads or not tails or _worse_end(*canaries) is None:
        return None
    if head == 0 and 2 * tail > tails:
        return HEAD
    return TAIL if tail == 0 and 2 * head > heads else None


def _worse_end(head: tuple[int, int], tail: tuple[int, int]) -> str | None:
    """The end with significantly fewer right answers, of (right, of); None where neither has."""
    table = [[head[0], head[1] - head[0]], [tail[0], tail[1] - tail[0]]]
    if not head[1] or not tail[1]:
        return None
    if stats.fisher_exact(table, alternative="less").pvalue <= LEVEL:
        return HEAD
    return TAIL if stats.fisher_exact(table, alternative="greater").pvalue <= LEVEL else None
