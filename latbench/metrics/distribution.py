"""Counts of a value below declared bounds: what a dashboard's histogram is made of.

Whole numbers go in (nanoseconds, tokens) and are held against the bounds as they are, so that the share of requests
within a bound is exact. Beside the bounds, values are counted in exponential buckets, eight to a doubling, for native
histograms. Counts and sums are whole numbers: any order and grouping of merges gives the same distribution. It is half
a kilobyte where the histogram of `histogram.py`, which percentiles of results come from, is 188.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

SCHEMA = 3
"""Exponential buckets: number i ends at 2**(i / 2**SCHEMA) of the unit."""


@dataclass(frozen=True)
class Bounds:
    """Rising upper bounds, in a unit that is `scale` times what is recorded: 1e9 for seconds out of nanoseconds."""

    upper: tuple[float, ...]
    scale: int = 1

    @cached_property
    def recorded(self) -> np.ndarray:
        """The bounds in what is recorded."""
        return np.asarray([round(bound * self.scale) for bound in self.upper], dtype=np.int64)


class Distribution:
    """One distribution. `counts[i]` are the values above bound i - 1 and up to bound i; the last has no bound."""

    __slots__ = ("bounds", "counts", "exponential", "n", "sum", "zeros")

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.counts: np.ndarray = np.zeros(len(bounds.upper) + 1, dtype=np.int64)
        self.exponential: Counter[int] = Counter()
        self.zeros = 0
        self.n = 0
        self.sum = 0

    def record(self, values: Iterable[int]) -> None:
        """Count whole numbers. What is below 0, a clock's mistake, counts as 0."""
        given = np.maximum(np.asarray(values, dtype=np.int64), 0)
        if not len(given):
            return
        self.counts += np.bincount(
            np.searchsorted(self.bounds.recorded, given, side="left"), minlength=len(self.counts)
        )
        self.n += len(given)
        self.sum += int(given.sum())
        some = given[given > 0]
        self.zeros += len(given) - len(some)
        places = np.ceil(np.log2(some / self.bounds.scale) * 2**SCHEMA).astype(np.int64)
        for place, count in zip(*np.unique(places, return_counts=True), strict=True):
            self.exponential[int(place)] += int(count)

    def merge(self, other: "Distribution") -> None:
        """Add the other's counts to these. Raises ValueError for other bounds: those do not add up."""
        if other.bounds != self.bounds:
            raise ValueError("distributions with different bounds do not add up")
        self.counts += other.counts
        self.exponential.update(other.exponential)
        self.zeros += other.zeros
        self.n += other.n
        self.sum += other.sum

    def copy(self) -> "Distribution":
        """One of its own."""
        made = Distribution(self.bounds)
        made.merge(self)
        return made

    @property
    def total(self) -> float:
        """The sum of all values, in the unit of the bounds."""
        return self.sum / self.bounds.scale

    def cumulative(self) -> list[tuple[float, int]]:
        """Each bound with how many values are at most that."""
        return list(zip(self.bounds.upper, np.cumsum(self.counts)[:-1].tolist(), strict=True))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Distribution) and self._state() == other._state()

    __hash__ = None  # type: ignore[assignment]  # it changes

    def _state(self) -> tuple[object, ...]:
        return (self.bounds, self.counts.tolist(), self.exponential, self.zeros, self.n, self.sum)
