"""TTFT against depth: the negative control. Reading a prompt costs the same wherever the needle is.

If TTFT depends on depth all the same, something of the prompt was read before (a prefix cache: TTFT falls with depth),
or the order of sending was not random. It is no finding about the model. The test deals the log TTFT of a block anew
among its depths. Where depth was drawn for each trial, those of one kind and length that were due one after the other
take the place of a block: under load the queue decides on TTFT, and neighbours wait alike. Its level is 1 %, because
every run is held to it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from latbench.analysis.needle.position import is_blocked
from latbench.analysis.needle.trials import Trials

LEVEL = 0.01
PERMUTATIONS = 1_999
NEIGHBOURS = 10
"""So many trials that follow one another are dealt among one another where there are no blocks."""
_AT_ONCE = 250  # deals in memory: a group may be thousands of trials


@dataclass(frozen=True, slots=True)
class DepthTiming:
    """How TTFT goes with depth.

    `change` is the relative change from the beginning of the file to its end, by a straight line through the logs: -0.3
    is 30 % faster at the end. None where no block has two different depths.
    """

    n: int
    change: float | None
    p: float | None

    @property
    def tripped(self) -> bool:
        """Whether caching or the order of sending has to be looked at."""
        return self.p is not None and self.p <= LEVEL

    @property
    def cached_prefix(self) -> bool:
        """Whether it looks as if a cached prefix grew with depth."""
        return self.tripped and self.change is not None and self.change < 0


def ttft_against_depth(trials: Trials, seed: int, permutations: int = PERMUTATIONS) -> DepthTiming:
    """The control over all ordinary trials, whatever their answer was."""
    timed = trials.of(trials.ttft_counts & (trials.ttft_ms > 0) & np.isfinite(trials.ttft_ms))
    rng = np.random.default_rng(seed)
    dealt, observed, spread, n = np.zeros(permutations), 0.0, 0.0, 0
    for depth, logs in _groups(timed):
        away = depth - depth.mean()
        spread += float(away @ away)
        observed += float(away @ logs)
        for some in np.array_split(dealt, -(-permutations // _AT_ONCE)):
            some += rng.permuted(np.broadcast_to(logs, (len(some), len(logs))), axis=1) @ away
        n += len(depth)
    if spread <= 0:
        return DepthTiming(n, None, None)
    beyond = int(np.count_nonzero(np.abs(dealt) >= abs(observed) - 1e-9))
    return DepthTiming(n, float(np.expm1(observed / spread)), (1 + beyond) / (1 + permutations))


def _groups(trials: Trials) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Depths and log TTFT (about its mean) of what may be dealt among one another."""
    for _, _, alike in trials.by_length():
        if is_blocked(alike):
            _, group = np.unique(alike.block, return_inverse=True)
        else:
            group = np.arange(len(alike)) // NEIGHBOURS
        order = np.argsort(group, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
            if len(rows) > 1:
                logs = np.log(alike.ttft_ms[rows])
                yield alike.depth[rows], logs - logs.mean()
