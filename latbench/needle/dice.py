"""Seeded draws that are the same on every machine and in every version of Python.

Seeds are derived by name with BLAKE2b, never by `hash`. Of `random.Random` only `random()` is used: it is the one
method whose sequence Python promises to keep.
"""

from collections.abc import Sequence
from hashlib import blake2b
from random import Random
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """Draws of one purpose. The same path of seeds gives the same draws, whatever else was drawn before."""

    __slots__ = ("random",)

    def __init__(self, *path: int | str) -> None:
        """`path` names the purpose: the seed, the block, what is drawn."""
        text = "\x1f".join(str(part) for part in path)
        seed = int.from_bytes(blake2b(text.encode(), digest_size=16, person=b"latbench-needle").digest(), "big")
        self.random = Random(seed).random

    def below(self, bound: int) -> int:
        """An integer from 0 to `bound` - 1."""
        return int(self.random() * bound)

    def between(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both included."""
        return low + int(self.random() * (high - low + 1))

    def chance(self, share: float) -> bool:
        """True in `share` of the cases."""
        return self.random() < share

    def pick(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[int(self.random() * len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in another order."""
        result = list(items)
        for last in range(len(result) - 1, 0, -1):
            other = int(self.random() * (last + 1))
            result[last], result[other] = result[other], result[last]
        return result

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """`count` different ones of the items, in the order drawn."""
        return self.shuffled(items)[:count]
