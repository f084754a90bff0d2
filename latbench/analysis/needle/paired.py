"""One model against another on the same trials: who found what the other did not.

The same seed gives both the same prompts, so trials are pairs, and only those that differ say anything: McNemar's exact
test. Over several kinds it is corrected after Holm. Overlapping intervals are no test.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from scipy import stats

from latbench.analysis.intervals import holm_of_known


@dataclass(frozen=True, slots=True)
class Paired:
    """Of `pairs` trials that both answered, `only_first` and `only_second` were found by one alone. `p` is Holm's."""

    kind: str
    pairs: int
    only_first: int
    only_second: int
    p: float | None


def paired(first: Mapping[str, Mapping[str, bool]], second: Mapping[str, Mapping[str, bool]]) -> list[Paired]:
    """The comparison of each kind. Both say, by kind and trial, whether a trial that was answered was correct."""
    found, p_values = [], []
    for kind in sorted(set(first) & set(second)):
        both = [(first[kind][trial], second[kind][trial]) for trial in first[kind] if trial in second[kind]]
        only_first = sum(one and not other for one, other in both)
        only_second = sum(other and not one for one, other in both)
        differ = only_first + only_second
        p_values.append(float(stats.binomtest(only_first, differ).pvalue) if differ else None)
        found.append((kind, len(both), only_first, only_second))
    return [Paired(*one, p) for one, p in zip(found, holm_of_known(p_values), strict=True)]
