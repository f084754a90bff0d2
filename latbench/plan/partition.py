"""Who sends what, and whether anything is missing from what was sent.

The arrivals of an open loop belong to 64 virtual shards, arrival number i to shard i % 64. The master deals shards, or
the slots of a closed loop, to workers, and deals those of a lost worker again. A lane is the sequence numbers that one
sender begins one after the other. That of a shard goes on where the lost worker left it, by the time of day. That of a
slot, whose turns have no times of their own, goes on as a new generation of sequence numbers.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction

import numpy as np

from latbench.model.load import Closed, Step

SHARDS = 64
GENERATION = 1 << 32
"""Slot k of N in generation g sends the sequence numbers g * GENERATION + k + j * N, j = 0, 1, …"""
ELASTIC_SLOTS = 1 << 16
"""Slots of a step without an end of its own: the most users that Locust can spawn, and the stride of the lanes."""


def shards_of(workers: Sequence[str]) -> dict[str, list[int]]:
    """All shards, dealt to the workers in turn. A worker beyond the number of shards gets none."""
    return {worker: list(range(place, SHARDS, len(workers))) for place, worker in enumerate(workers)}


def redeal(owners: Mapping[int, str], lost: str, live: Sequence[str]) -> dict[int, str]:
    """The owners of shards (or slots) without `lost`: each of its own goes to the live worker that has fewest.

    Nothing else moves; of workers with as many, the first in `live` gets it. ValueError if nobody is left to take them.
    """
    held = Counter(owners.values())
    dealt = dict(owners)
    for shard in sorted(shard for shard, owner in owners.items() if owner == lost):
        dealt[shard] = min(live, key=held.__getitem__)
        held[dealt[shard]] += 1
    return dealt


def mine(count: int, shards: Collection[int]) -> np.ndarray:
    """Which of `count` arrivals belong to these shards: their numbers, rising."""
    held = np.zeros(SHARDS, dtype=bool)
    held[list(shards)] = True
    return np.flatnonzero(np.resize(held, count))


def caps(cap: int, owners: Mapping[int, str]) -> dict[str, int]:
    """A cap on what is in flight, split in proportion to the shards of each worker; the parts sum to `cap`.

    What does not divide goes to the largest remainders. With a cap below the number of workers some get 0.
    """
    held = Counter(owners[shard] for shard in sorted(owners))
    exact = {worker: Fraction(cap * shards, len(owners)) for worker, shards in held.items()}
    parts = {worker: int(part) for worker, part in exact.items()}
    by_remainder = sorted(exact, key=lambda worker: parts[worker] - exact[worker])
    for worker in by_remainder[: cap - sum(parts.values())]:
        parts[worker] += 1
    return parts


def gaps(load: Step, seqs: Collection[int] | np.ndarray) -> int:
    """How many sequence numbers were passed over, if these are all that one endpoint was sent in one step.

    Each lane begins its numbers in order, so those that were begun are a prefix of it: a number that is missing below
    one that is there was lost on the way to the store. So is a turn of a conversation below a later one, and the first
    turn of a conversation below a later conversation. What is missing at the end of a lane cannot be told from what was
    never begun.
    """
    numbers = np.unique(np.fromiter(seqs, dtype=np.int64, count=len(seqs)))
    if isinstance(load.shape, Closed):
        stride = ELASTIC_SLOTS if load.elastic else load.shape.concurrency
        generation, within = np.divmod(numbers, GENERATION)
        return _passed_over(generation * GENERATION + within % stride, within // stride)
    if load.most_turns is not None:
        conversations, turns = np.divmod(numbers, load.most_turns)
        arrived = np.unique(conversations)
        return _passed_over(conversations, turns) + _passed_over(arrived % SHARDS, arrived // SHARDS)
    return _passed_over(numbers % SHARDS, numbers // SHARDS)


def _passed_over(lanes: np.ndarray, places: np.ndarray) -> int:
    """How many places below the highest of each lane are empty. No place may occur twice in a lane."""
    _, lane, filled = np.unique(lanes, return_inverse=True, return_counts=True)
    highest = np.zeros(len(filled), dtype=np.int64)
    np.maximum.at(highest, lane, places)
    return int((highest + 1 - filled).sum())
