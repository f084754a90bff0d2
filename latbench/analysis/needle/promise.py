"""What a needle run will be able to show, said before anything is sent: from the numbers of its trials alone."""

from dataclasses import dataclass

from latbench.analysis.needle.context import THRESHOLD
from latbench.analysis.needle.power import EDGES, detectable_dip, powered
from latbench.analysis.needle.shares import lower_bound
from latbench.analysis.stats import wilson


@dataclass(frozen=True, slots=True)
class Promise:
    """Of one kind at one length. `half_width` is that of the interval if `EDGES` of the trials are right.

    `detectable` is the smallest dip that would usually be found, None if there is none. `may_be_wrong` says how many
    trials may be wrong for the length to be certified all the same; None if not even no wrong one certifies it.
    """

    kind: str
    length: int
    trials: int
    half_width: float
    detectable: float | None
    may_be_wrong: int | None

    @property
    def powered(self) -> bool:
        """Whether no effect found will say that there is no large one."""
        return powered(self.detectable)


def promise(kind: str, length: int, blocks: int, depths: tuple[float, ...]) -> Promise:
    """What so many blocks can show; without `depths` a block is one trial at a depth of its own."""
    trials = blocks * max(1, len(depths))
    ends = wilson(round(trials * EDGES), trials) or (0.0, 1.0)
    blocked = len(depths) > 1
    wrong = [count for count in range(trials) if lower_bound(trials - count, trials) >= THRESHOLD]
    return Promise(
        kind=kind,
        length=length,
        trials=trials,
        half_width=(ends[1] - ends[0]) / 2,
        detectable=detectable_dip(blocks, blocked=True, strata=depths)
        if blocked
        else detectable_dip(trials, blocked=False)
        if not depths
        else None,
        may_be_wrong=max(wrong, default=None),
    )
