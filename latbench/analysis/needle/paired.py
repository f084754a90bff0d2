"""One model against another on the same trials: who found what the other did not.

Every endpoint of a run is sent the same prompts, so trials are pairs; only those that differ say anything: McNemar's
exact test. Trials of one block share its code and its question, so it is blocks that are counted: in which of them one
model was right more often. Over several kinds and models it is corrected after Holm. Overlapping intervals are no test.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

from latbench.analysis.intervals import holm_of_known
from latbench.analysis.needle.trials import ORDINARY, Trials

LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Paired:
    """Two models at one kind of trial, over all lengths.

    Of `pairs` trials that both answered, `only_first` and `only_second` were right of one of them alone. In `blocks`
    the first or the second was right more often. `p` is after Holm, None where no block tells them apart.
    """

    first: str
    second: str
    kind: str
    pairs: int
    only_first: int
    only_second: int
    blocks: tuple[int, int]
    p: float | None

    @property
    def better(self) -> str | None:
        """The model of which it is shown that it finds more."""
        if self.p is None or self.p >= LEVEL:
            return None
        return self.first if self.blocks[0] > self.blocks[1] else self.second


def paired_block(trials: Mapping[str, Trials]) -> list[dict[str, Any]]:
    """The trials of one step by endpoint, each endpoint against each, as plain data."""
    return [asdict(one) | {"blocks": [*one.blocks], "better": one.better} for one in paired(trials)]


def paired(trials: Mapping[str, Trials]) -> list[Paired]:
    """Each endpoint against each, kind by kind, in the order in which they are given."""
    found = [one for names in combinations(trials, 2) for one in _of_two(*names, *(trials[name] for name in names))]
    return [replace(one, p=p) for one, p in zip(found, holm_of_known([one.p for one in found]), strict=True)]


def _of_two(first: str, second: str, a: Trials, b: Trials) -> list[Paired]:
    found = []
    sides = _answers(a), _answers(b)
    for kind in sorted({kind for kind, *_ in sides[0]} & {kind for kind, *_ in sides[1]}):
        both = [key for key in sides[0] if key[0] == kind and key in sides[1]]
        better = np.array([sides[0][key] - sides[1][key] for key in both], dtype=np.int64)
        _, block = np.unique([f"{length} {name}" for _, length, name, _ in both], return_inverse=True)
        by_block = np.sign(np.bincount(block, better)) if both else better
        blocks = int((by_block > 0).sum()), int((by_block < 0).sum())
        p = float(stats.binomtest(blocks[0], sum(blocks)).pvalue) if any(blocks) else None
        only = int((better > 0).sum()), int((better < 0).sum())
        found.append(Paired(first, second, kind, len(both), *only, blocks, p))
    return found


def _answers(trials: Trials) -> dict[tuple[str, int, str, str], int]:
    """Whether each ordinary trial that was answered was right, by kind, length, block and name."""
    heard = trials.of((trials.control == ORDINARY) & trials.answered)
    keys = zip(*(column.tolist() for column in (heard.kind, heard.length, heard.block, heard.trial)), strict=True)
    return dict(zip(keys, heard.correct.astype(int).tolist(), strict=True))
