"""How much context can be relied on: three figures for each kind, and the ends of a file that are read reliably.

- *Point*: the longest length such that it and all shorter ones have an accuracy of at least the threshold.
- *Certified*: the same of the one-sided 95 % limit. Lengths are tested upwards, and the first that fails ends the walk:
  a sequence fixed beforehand, so that nothing has to be corrected for the number of lengths. What is missing from an
  incomplete length counts as wrong.
- *Relative*: the same of the accuracy divided by the model's own in short context, by the lower end of a bootstrap of
  whole blocks. A bootstrap of nothing but right answers has no spread, so at least as many trials are asked for as
  would prove the threshold, were all of them right.

Nothing is interpolated between lengths, and nothing said of lengths that were not tested. A length that the endpoint
refused for its size ends every walk.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from latbench.analysis.needle.position import depth_bins, depth_edges
from latbench.analysis.needle.shares import (
    CONFIDENCE,
    RESAMPLES,
    Share,
    block_weights,
    least_all_correct,
    lower_bound,
    share,
)
from latbench.analysis.needle.trials import Trials
from latbench.model.needle import TrialOutcome

THRESHOLD = 0.85


@dataclass(frozen=True, slots=True)
class Walk:
    """How far a rule holds. `tokens` is None where it fails at the shortest length already, or nothing was tested.

    `open_ended` says that the longest tested length passed too, so that there may be more. `later` are lengths that
    pass again beyond the first that failed.
    """

    tokens: int | None
    open_ended: bool
    later: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EffectiveContext:
    """The figures of one kind. `relative` is None without a base of its own.

    `worst_stratum` is the certified length for a needle anywhere in the file: up to it each stratum is certified.
    `refused` is the shortest length that the endpoint took no prompt of.
    """

    kind: str
    threshold: float
    lengths: tuple[int, ...]
    point: Walk
    certified: Walk
    worst_stratum: Walk
    relative: Walk | None
    refused: int | None


@dataclass(frozen=True, slots=True)
class Ends:
    """How many tokens from either end of a file needles are certain to be found in, at one length.

    Strata are walked inwards from each end while their one-sided 95 % limit is at the threshold or above. 0 where the
    outermost one fails; both are the whole file where none does.
    """

    kind: str
    length: int
    head_tokens: int
    tail_tokens: int


def walk(lengths: Sequence[int], passes: Callable[[int], bool]) -> Walk:
    """Lengths upwards, by their place in the sequence, until the first that does not pass."""
    passed = [passes(at) for at in range(len(lengths))]
    first = passed.index(False) if False in passed else len(passed)
    later = tuple(length for length, good in zip(lengths[first:], passed[first:], strict=True) if good)
    return Walk(lengths[first - 1] if first else None, bool(lengths) and first == len(lengths), later)


def effective_context(
    kind: str, trials: Trials, base: Trials | None, seed: int, threshold: float = THRESHOLD
) -> EffectiveContext:
    """The figures of one kind, from its ordinary trials and those of its base."""
    lengths = [int(length) for length in np.unique(trials.length)]
    parts = [trials.of(trials.length == length) for length in lengths]
    shares = [share(part) for part in parts]
    refused = [_is_refused(part) for part in parts]
    ratios = None if base is None or not len(base) else [_ratio_bound(part, base, seed) for part in parts]
    least = least_all_correct(threshold)

    def holds(at: int, value: float | None) -> bool:
        return not refused[at] and value is not None and value >= threshold

    return EffectiveContext(
        kind=kind,
        threshold=threshold,
        lengths=tuple(lengths),
        point=walk(lengths, lambda at: holds(at, shares[at].accuracy)),
        certified=walk(lengths, lambda at: holds(at, certified_lower(shares[at]))),
        worst_stratum=walk(lengths, lambda at: not refused[at] and _everywhere(parts[at], threshold)),
        relative=None
        if ratios is None
        else walk(lengths, lambda at: shares[at].answered >= least and holds(at, ratios[at])),
        refused=next((length for length, no in zip(lengths, refused, strict=True) if no), None),
    )


def certified_lower(found: Share) -> float:
    """The limit that certification rests on: of the answers, or of all trials where too many have none."""
    return lower_bound(found.correct, found.planned if found.incomplete else found.answered)


def _is_refused(trials: Trials) -> bool:
    """Whether the endpoint took no prompt of this length."""
    overflow = trials.outcome == TrialOutcome.CONTEXT_OVERFLOW
    return bool(overflow.any()) and not bool(trials.answered.any())


def _strata(trials: Trials) -> tuple[np.ndarray, list[Share]]:
    depths, part = depth_bins(trials)
    return depths, [share(trials.of(part == at)) for at in range(len(depths))]


def _everywhere(trials: Trials, threshold: float) -> bool:
    """Whether the limit of each stratum is at the threshold.

    All of them have to pass, so each may be tested at the full level: the claim is wrong only if the worst one is, and
    that one passes wrongly no more often than any single test. Holm's correction would ask for more than the claim.
    """
    _, strata = _strata(trials)
    return all(certified_lower(found) >= threshold for found in strata)


def _ratio_bound(trials: Trials, base: Trials, seed: int) -> float | None:
    """The one-sided 95 % limit of an accuracy as a share of the base's; None where there is no answer."""
    if not trials.answered.any() or not base.correct.any():
        return None
    names, number = np.unique(np.concatenate((trials.block, base.block)), return_inverse=True)
    of_long, of_base = number[: len(trials)], number[len(trials) :]
    weights = block_weights(len(names), seed, RESAMPLES)

    def drawn(part: Trials, numbers: np.ndarray) -> np.ndarray:
        correct = weights @ np.bincount(numbers, part.correct, minlength=len(names))
        answered = weights @ np.bincount(numbers, part.answered, minlength=len(names))
        found: np.ndarray = np.divide(correct, answered, out=np.full(len(weights), np.nan), where=answered > 0)
        return found

    long, short = drawn(trials, of_long), drawn(base, of_base)
    usable = np.isfinite(long) & (short > 0)
    return float(np.quantile(long[usable] / short[usable], 1 - CONFIDENCE)) if usable.any() else None


def reliable_ends(kind: str, length: int, trials: Trials, threshold: float = THRESHOLD) -> Ends:
    """The reliable head and tail of one kind and length."""
    depths, strata = _strata(trials)
    edges = depth_edges(depths)
    good = [certified_lower(found) >= threshold for found in strata]
    heads = good.index(False) if False in good else len(good)
    tails = good[::-1].index(False) if False in good else len(good)
    return Ends(kind, length, round(length * edges[heads]), round(length * (1 - edges[len(good) - tails])))
